//! What no folder shows: a small world, and one thing that goes wrong in it, each with the verdict
//! that follows.

use crate::runner::{Evaluation, Hand, How, Ran, Wanted, When, run};
use crate::scene::Scene;
use crate::{Done, Job};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;
use watertight::backend::lab::{self, CONTROL_PORT, Leak, Listener};
use watertight::event::{CheckResult, ExitCode};
use watertight::inventory::Pod;
use watertight::plan::Source;
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;
use watertight_probe::responder::control::Behaviour;

const DENIED: &str = "s/Pod/source -> s/Pod/target:80 denied";
const ALLOWED: &str = "s/Pod/other -> s/Pod/target:80 allowed";

/// Further things that a result must say.
type Says = fn(&CheckResult) -> Result<(), String>;

/// A scene: its lines, how it is broken, and what each line must come back as.
pub(crate) struct Play {
    name: &'static str,
    how: How,
    lines: Vec<(&'static str, &'static str, Wanted)>,
    code: Option<ExitCode>,
    says: Says,
}

impl Play {
    pub(crate) fn new(
        name: &'static str,
        how: How,
        lines: &[(&'static str, &'static str, Wanted)],
    ) -> Self {
        Self {
            name,
            how,
            lines: lines.to_vec(),
            code: None,
            says: |_| Ok(()),
        }
    }

    pub(crate) fn job(
        self,
        act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
    ) -> Job {
        Job::new(format!("scene / {}", self.name), async move || {
            let case = self.case();
            Done::of(run(&case, self.how, act).await, |ran| self.failures(ran))
        })
    }

    /// `source` and `other` on one node, `far` and `target` on the other; all but `source` are
    /// admitted to `target`, no source to `closed`, and `locked` may send nothing.
    fn case(&self) -> Evaluation {
        let mut scene = Scene::default();
        scene.namespace("s", "team: s");
        for (pod, node) in [
            ("source", "node-1"),
            ("other", "node-1"),
            ("locked", "node-1"),
            ("far", "node-2"),
        ] {
            scene.app(pod, "80", node);
        }

        for pod in ["target", "closed"] {
            scene.app(pod, "80 81 82 83", "node-2");
        }
        let status = "phase: Running, conditions: [{type: Ready, status: \"False\"}]";
        scene.pod("s/unready", "app: unready", "80", &on("node-2"), status);
        let admitted = "{podSelector: {matchExpressions: [{key: app, operator: In, values: [other, far, locked]}]}}";
        scene.policy(
            "s/target",
            &format!(
                "{}, policyTypes: [Ingress], ingress: [{{from: [{admitted}]}}]",
                selects("target")
            ),
        );
        scene.policy(
            "s/closed",
            &format!("{}, policyTypes: [Ingress]", selects("closed")),
        );
        scene.policy(
            "s/locked",
            &format!("{}, policyTypes: [Egress]", selects("locked")),
        );
        if self.lines.iter().any(|(line, ..)| line.contains("site")) {
            scene.endpoint("site", "namespace: s, workload: Pod/target");
        }

        for (line, settings, _) in &self.lines {
            scene.line(line, settings);
        }
        scene.case(&format!("scene-{}", self.name.replace(' ', "-")))
    }

    fn failures(&self, ran: &Ran) -> Vec<String> {
        let of = |index: usize| {
            let line = &ran.results[index].check.text;
            self.lines.iter().find(|(text, _, _)| text == line)
        };
        let mut failures = ran.differing(|index| of(index).map(|(_, _, wanted)| wanted.clone()));
        let unknown = (0..ran.results.len()).filter(|index| of(*index).is_none());
        failures
            .extend(unknown.map(|index| format!("no line for {}", ran.results[index].check.name)));
        if ran.results.len() < self.lines.len() {
            failures.push(format!(
                "{} results for {} lines",
                ran.results.len(),
                self.lines.len()
            ));
        }
        failures.extend(
            ran.results
                .iter()
                .filter_map(|result| (self.says)(result).err()),
        );
        if let Some(code) = self.code.filter(|code| *code != ran.code) {
            failures.push(format!("wanted {code:?} as exit code, got {:?}", ran.code));
        }
        failures
    }
}

/// The key of a pod's spec that puts it on a node.
fn on(node: &str) -> String {
    format!(", nodeName: {node}")
}

/// The key of a policy's spec that selects an app's pods.
fn selects(app: &str) -> String {
    format!("podSelector: {{matchLabels: {{app: {app}}}}}")
}

pub(crate) fn unproven(reason: Reason) -> Wanted {
    Wanted::Unproven(vec![reason])
}

pub(crate) fn listener(name: &str) -> Listener {
    Listener::Pod {
        namespace: "s".into(),
        name: name.into(),
    }
}

pub(crate) fn source(name: &str) -> Source {
    Source::Pod {
        namespace: "s".into(),
        name: name.into(),
        node: String::new(),
    }
}

/// Lets everything through from `source` to a port of `target`.
async fn open(hand: &Hand, port: u16) -> Result<(), lab::Error> {
    let pods = hand.sabotage.inventory().await?.pods;
    let pairs = addresses(&pods, "source")
        .into_iter()
        .zip(addresses(&pods, "target"));
    let leaks = pairs.map(|(from, to)| Leak {
        from,
        to,
        port,
        transport: Tcp,
        one_in: 1,
    });
    hand.sabotage.leak(leaks.collect()).await
}

/// The addresses of a pod, by its name; none without such a pod.
pub(crate) fn addresses(pods: &[Pod], name: &str) -> Vec<IpAddr> {
    let pod = pods.iter().find(|pod| pod.name == name);
    pod.map_or_else(Vec::new, |pod| pod.addresses.clone())
}

/// Lets `target` answer HTTP itself, after some time, and never to `other`: like an enforcer that
/// reads requests.
async fn answer_selectively(hand: &Hand, after: Duration) -> Result<(), lab::Error> {
    hand.sabotage
        .stop_listener(listener("target"), Some((Tcp, 80)))
        .await?;
    let pods = hand.sabotage.inventory().await?.pods;
    let refused: Vec<_> = pods
        .iter()
        .filter(|pod| pod.name == "other")
        .flat_map(|pod| pod.addresses.clone())
        .collect();
    let serve = move |mut stream: TcpStream, peer: IpAddr| {
        if refused.contains(&peer.to_canonical()) {
            std::thread::sleep(Duration::from_secs(90));
        }
        std::thread::sleep(after);
        // A client that has closed the connection by now needs no answer.
        let _ = stream
            .read(&mut [0; 4_096])
            .and_then(|_| stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"));
    };
    let listen = move || {
        let listener = TcpListener::bind("[::]:80").expect("the port is free");
        std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, peer.ip()));
            }
        });
    };
    hand.sabotage.within(source("target"), listen).await
}

/// All scenes.
pub(crate) fn all() -> Vec<Job> {
    let mut jobs = unbroken();
    jobs.extend(unproven_ones());
    jobs.extend(changes());
    jobs.extend(in_time());
    jobs
}

/// Lines that show a tier, or that nothing can prove, in a world that is whole.
fn unbroken() -> Vec<Job> {
    let proven = Play {
        says: |result| {
            let wanted = [
                ("[d1]", "D1"),
                ("[same-node]", "D2+same-node"),
                ("[hangs-up]", "A0"),
                ("kube-dns", "A1"),
                ("http", ""),
            ];
            let tier = wanted
                .iter()
                .find(|(name, _)| result.check.name.contains(name))
                .map_or("", |(_, tier)| tier);
            match &result.tier {
                Some(got) if got.starts_with(tier) => Ok(()),
                got => Err(format!("{}: wanted {tier}, got {got:?}", result.check.name)),
            }
        },
        ..Play::new(
            "every tier",
            How::BEFORE,
            &[
                (DENIED, "", Wanted::Proven),
                (ALLOWED, "", Wanted::Proven),
                (
                    "s/Pod/source -> s/Pod/target:82 denied",
                    "id: d1, tier: D1",
                    Wanted::Proven,
                ),
                (
                    "s/Pod/source -> s/Pod/target:83 denied",
                    "id: same-node, tier: D2+same-node",
                    Wanted::Proven,
                ),
                ("s/Pod/other -> s/Pod/target:83 allowed", "", Wanted::Proven),
                (
                    "s/Pod/other -> s/Pod/target:81 allowed",
                    "id: hangs-up, tier: A0",
                    Wanted::Proven,
                ),
                (
                    "s/Pod/source -> kube-system/Service/kube-dns:53/udp allowed",
                    "",
                    Wanted::Proven,
                ),
                ("s/Pod/other -> http://site:80/ allowed", "", Wanted::Proven),
                ("s/Pod/source -> http://site:80/ denied", "", Wanted::Proven),
                // Sent once.
                (
                    "s/Pod/other -> POST http://site:80/ allowed",
                    "",
                    Wanted::Proven,
                ),
                (
                    "s/Pod/source -> POST http://site:80/ denied",
                    "",
                    Wanted::Proven,
                ),
                (
                    "s/Pod/source -> s/Pod/closed:80 denied",
                    "id: counter, tier: D2+counter",
                    Wanted::Proven,
                ),
                // No handshake takes less than ten microseconds: it is tried again with more time.
                (
                    "s/Pod/source -> s/Pod/closed:81 denied",
                    "id: short, attemptTimeout: 1ms",
                    Wanted::Proven,
                ),
            ],
        )
    };
    let unprovable = Play {
        code: Some(ExitCode::Unproven),
        ..Play::new(
            "lines that cannot be proven",
            How::BEFORE,
            &[
                (DENIED, "", Wanted::Proven),
                (ALLOWED, "", Wanted::Proven),
                (
                    "s/Pod/other -> s/Pod/target:82 allowed",
                    "id: identity, tier: A3",
                    unproven(Reason::Unprovable),
                ),
                (
                    "s/Deployment/none -> s/Pod/target:80 denied",
                    "",
                    unproven(Reason::MatchesNothing),
                ),
                (
                    "s/Pod/source -> s/Deployment/none:80 denied",
                    "",
                    unproven(Reason::MatchesNothing),
                ),
                (
                    "s/Pod/source -> s/Pod/unready:80 denied",
                    "",
                    unproven(Reason::NotAttempted),
                ),
                (
                    "s/Pod/source -> s/Pod/closed:80 denied",
                    "id: many, attempts: 60",
                    unproven(Reason::TooFewAttempts),
                ),
                (
                    "s/Pod/source -> s/Pod/closed:81 denied",
                    "id: same-node, tier: D2+same-node",
                    unproven(Reason::TierNotMet),
                ),
                (
                    "s/Pod/source -> s/Pod/closed:82 denied",
                    "id: kind, mechanism: reset",
                    unproven(Reason::TierNotMet),
                ),
            ],
        )
    };
    vec![
        proven.job(async |hand| {
            hand.sabotage
                .behave(listener("target"), (Tcp, 81), Behaviour::HangUp)
                .await
        }),
        unprovable.job(async |_| Ok(())),
    ]
}

/// One thing broken, one reason.
fn unproven_ones() -> Vec<Job> {
    let interrupted = Play {
        code: Some(ExitCode::Impossible),
        ..Play::new(
            "interrupted",
            How {
                interrupt: Some(Duration::from_millis(1_500)),
                ..How::BEFORE
            },
            &[(DENIED, "", unproven(Reason::NotFinished))],
        )
    };
    let mute = Play::new(
        "a source that cannot send",
        How::BEFORE,
        &[
            (DENIED, "", unproven(Reason::SendFailed)),
            (ALLOWED, "", Wanted::Proven),
        ],
    );
    let locked = "s/Pod/locked -> s/Pod/target:80 denied";
    let dead = Play::new(
        "a source without a source control",
        How::BEFORE,
        &[
            (locked, "", unproven(Reason::SourceNotVerified)),
            (DENIED, "", Wanted::Proven),
        ],
    );
    let refused = Play::new(
        "everyone is refused",
        How::BEFORE,
        &[(
            "s/Pod/other -> http://site:80/ denied",
            "",
            unproven(Reason::AllControlsRefused),
        )],
    );
    vec![
        interrupted.job(async |_| Ok(())),
        mute.job(async |hand| {
            // What is left of its network has no address of this family.
            let off = || {
                std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("a sysctl");
            };
            hand.sabotage.within(source("source"), off).await
        }),
        dead.job(async |hand| {
            hand.sabotage
                .stop_listener(listener("locked"), Some((Tcp, CONTROL_PORT)))
                .await
        }),
        refused.job(async |hand| {
            let forbidden = Behaviour::Status(403, "RBAC: access denied".into(), "envoy".into());
            hand.sabotage
                .behave(listener("target"), (Tcp, 80), forbidden)
                .await
        }),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Objects of the API that change in the middle.
fn changes() -> Vec<Job> {
    const BYSTANDER: &str = "s/Pod/source -> s/Pod/closed:80 denied";
    let again = |result: &CheckResult| match result.flows.iter().map(|flow| flow.restarts).max() {
        _ if result.check.text == BYSTANDER => Ok(()),
        Some(1) => Ok(()),
        other => Err(format!(
            "{}: sampling restarted {other:?} times",
            result.check.name
        )),
    };
    let (usurper, other, team) = (
        labels(&[("app", "usurper")]),
        labels(&[("app", "other")]),
        labels(&[("team", "t")]),
    );
    let (target, source, open_target) = (
        labels(&[("app", "target")]),
        labels(&[("app", "source")]),
        labels(&[("app", "open"), ("was", "target")]),
    );
    vec![
        // The usurper is of the same workload, admits every source, and answers on the old address.
        Play::new(
            "a target replaced by another pod on its address",
            How::DURING,
            &[
                (DENIED, "", Wanted::Violated),
                (ALLOWED, "", Wanted::Proven),
                (BYSTANDER, "", Wanted::Proven),
            ],
        )
        .job(async move |hand| {
            hand.sabotage
                .replace_pod("s", "target", "usurper", usurper.clone())
                .await
        }),
        Play {
            says: again,
            ..Play::new(
                "a target rolled over",
                How::DURING,
                &[
                    (DENIED, "", Wanted::Proven),
                    (ALLOWED, "", Wanted::Proven),
                    (BYSTANDER, "", Wanted::Proven),
                ],
            )
        }
        .job(async move |hand| {
            hand.sabotage
                .replace_pod("s", "target", "target", target.clone())
                .await
        }),
        // No policy selects it by its new labels.
        Play::new(
            "a target rolled over into one that admits every source",
            How::DURING,
            &[
                (DENIED, "", Wanted::Violated),
                (ALLOWED, "", Wanted::Proven),
                (BYSTANDER, "", Wanted::Proven),
            ],
        )
        .job(async move |hand| {
            hand.sabotage
                .replace_pod("s", "target", "target", open_target.clone())
                .await
        }),
        Play::new(
            "a source rolled over",
            How::DURING,
            &[
                (DENIED, "", Wanted::Proven),
                (ALLOWED, "", Wanted::Proven),
                (BYSTANDER, "", Wanted::Proven),
            ],
        )
        .job(async move |hand| {
            hand.sabotage
                .replace_pod("s", "source", "source", source.clone())
                .await
        }),
        // The label admits it.
        Play::new(
            "a source relabelled",
            How::DURING,
            &[
                (DENIED, "", Wanted::Violated),
                (ALLOWED, "", Wanted::Proven),
            ],
        )
        .job(async move |hand| {
            hand.sabotage
                .relabel_pod("s", "source", other.clone())
                .await
        }),
        Play {
            says: again,
            ..Play::new(
                "a namespace relabelled",
                How::DURING,
                &[(DENIED, "", Wanted::Proven), (ALLOWED, "", Wanted::Proven)],
            )
        }
        .job(async move |hand| hand.sabotage.relabel_namespace("s", team.clone()).await),
        Play::new(
            "a namespace relabelled again and again",
            How::DURING,
            &[
                (DENIED, "", unproven(Reason::ChangedDuringRun)),
                (ALLOWED, "", unproven(Reason::ChangedDuringRun)),
            ],
        )
        .job(async |hand| {
            for team in ["a", "b", "c", "d"] {
                let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
                hand.sabotage.relabel_namespace("s", labels).await?;
                tokio::time::sleep(Duration::from_millis(1_200)).await;
            }
            Ok(())
        }),
    ]
}

/// What comes late, what comes and goes, what ends in the middle.
fn in_time() -> Vec<Job> {
    let late = Play {
        says: |result| match result.delay_ms {
            Some(delay)
                if result.check.name.contains("allowed") && !(2_500..6_000).contains(&delay) =>
            {
                Err(format!("{}: up after {delay} ms", result.check.name))
            }
            Some(_) if !result.seen.contains("the first after") => {
                Err(format!("its delay is not shown: {}", result.seen))
            }
            _ => Ok(()),
        },
        ..Play::new(
            "an allow that needs three seconds",
            How::BEFORE,
            &[(ALLOWED, "timeout: 8s", Wanted::Proven)],
        )
    };
    let flapping = Play {
        says: |result| {
            let flaps = result.check.name.contains("allowed");
            if flaps && !result.seen.contains("unstable") {
                Err(format!("it is not unstable: {}", result.seen))
            } else {
                Ok(())
            }
        },
        ..Play::new(
            "an allow that flaps",
            How::BEFORE,
            &[
                (
                    "s/Pod/source -> s/Pod/target:83 allowed",
                    "",
                    Wanted::Violated,
                ),
                // It keeps the run going.
                (DENIED, "attempts: 14, timeout: 12s", Wanted::Proven),
            ],
        )
    };
    let ending = Play::new(
        "a target that dies in the middle",
        How::DURING,
        &[(
            DENIED,
            "",
            Wanted::Unproven(vec![Reason::TooFewAttempts, Reason::NoControlAnswered]),
        )],
    );
    let cut = Play::new(
        "a path cut in the middle",
        How::DURING,
        &[(DENIED, "", Wanted::NotProven)],
    );
    let once = Play::new(
        "a denial that opens after it was judged",
        How {
            when: When::After(Duration::from_secs(5)),
            ..How::BEFORE
        },
        &[
            (DENIED, "", Wanted::Violated),
            (
                "s/Pod/source -> s/Pod/closed:80 denied",
                "attempts: 14, timeout: 12s",
                Wanted::Proven,
            ),
        ],
    );
    let denied = "s/Pod/other -> http://site:80/ denied";
    let slow = Play::new(
        "a control that needs a longer deadline",
        How::BEFORE,
        &[(denied, "tier: D1", Wanted::Proven)],
    );
    let slower = Play::new(
        "a control that no deadline is long enough for",
        How::BEFORE,
        &[(denied, "tier: D1", unproven(Reason::AttemptTimeoutTooShort))],
    );
    vec![
        slow.job(async |hand| answer_selectively(&hand, Duration::from_millis(1_200)).await),
        slower.job(async |hand| answer_selectively(&hand, Duration::from_millis(4_500)).await),
        late.job(async |hand| {
            let port = Some((Tcp, 80));
            hand.sabotage
                .stop_listener(listener("target"), port)
                .await?;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(3_500)).await;
                hand.sabotage
                    .start_listener(listener("target"), port)
                    .await
                    .expect("it listens again");
            });
            Ok(())
        }),
        flapping.job(async |hand| {
            open(&hand, 83).await?;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(3_500)).await;
                hand.sabotage.leak(Vec::new()).await.expect("it is closed");
                tokio::time::sleep(Duration::from_millis(3_500)).await;
                open(&hand, 83).await.expect("it is open again");
            });
            Ok(())
        }),
        cut.job(async |hand| hand.sabotage.cut("node-1", "node-2").await),
        ending.job(async |hand| {
            hand.sabotage
                .stop_listener(listener("target"), Some((Tcp, 80)))
                .await
        }),
        once.job(async |hand| open(&hand, 80).await),
    ]
}
