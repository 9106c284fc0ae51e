//! A small world with one target, and a whole run against it.
//!
//! `good` and `careless` may reach the target, `bad` may not; a suite that denies the target to
//! `careless` is violated. `steady` answers every source, so that every source has a source
//! control; it is never the target.

use crate::recorder::{Progress, Recorder};
use crate::reports::{self, Written};
use crate::worlds;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use watertight::backend::Backend;
use watertight::backend::lab::{self, Deny, Lab, Listener, Sabotage, World};
use watertight::engine::{self, RunnerClock};
use watertight::event::{CheckResult, Outcome, RunEvent};
use watertight::model::Family;
use watertight::plan::{Plan, ProbeId, Schedule, Source};
use watertight::wire::Sample;

/// The longest run, with the creation and teardown of its lab.
const LONGEST: Duration = Duration::from_secs(60);

/// How often a run is repeated, at most, when a busy machine spoils it.
const TRIES: usize = 5;

/// The ports of the target.
pub(crate) const PORTS: [u16; 8] = [8001, 8002, 8003, 8004, 8005, 8006, 8007, 8443];

/// The verdict that one check must have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want {
    /// Proven.
    Proven,
    /// Violated, with each of these words in its description.
    Violated(&'static [&'static str]),
    /// Unproven, for one of these reasons.
    Unproven(&'static [&'static str]),
    /// Anything but proven.
    NotProven,
    /// Violated with the word, or unproven: which of them depends on when an attempt reaches the
    /// target.
    ViolatedOrUnproven(&'static str),
}

/// A line of the suite, and its wanted verdict.
pub(crate) struct Line {
    pub(crate) text: &'static str,
    /// Settings in the form `key: value, key: value`.
    pub(crate) settings: &'static str,
    pub(crate) want: Want,
}

/// A line without settings.
pub(crate) fn line(text: &'static str, want: Want) -> Line {
    Line {
        text,
        settings: "",
        want,
    }
}

/// Work beside the run, on its stage: it returns when it is done, or never.
pub(crate) type Beside = fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>;

/// Names a function as [`Beside`].
macro_rules! beside {
    ($name:expr) => {
        |stage| Box::pin($name(stage))
    };
}
pub(crate) use beside;

/// The lab of a case, as its functions use it.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) sabotage: Sabotage,
    addresses: BTreeMap<(String, Family), IpAddr>,
    progress: watch::Receiver<Progress>,
}

impl Stage {
    /// A listener by its pod's name.
    pub(crate) fn pod(name: &str) -> Listener {
        Listener::Pod {
            namespace: "h".into(),
            name: name.into(),
        }
    }

    pub(crate) fn source(name: &str) -> Source {
        Source::Pod {
            namespace: "h".into(),
            name: name.into(),
            node: String::new(),
        }
    }

    pub(crate) fn address(&self, pod: &str, family: Family) -> IpAddr {
        self.addresses[&(pod.to_owned(), family)]
    }

    /// Waits for the first attempt of the run.
    pub(crate) async fn first_sample(&mut self) {
        self.progress
            .wait_for(|progress| progress.sampled)
            .await
            .expect("the run is on");
    }
}

/// A run, with its wanted verdicts.
pub(crate) struct Evaluation {
    pub(crate) name: &'static str,
    pub(crate) lines: Vec<Line>,
    /// Keys of `spec.settings`, as `key: value, key: value`.
    pub(crate) settings: &'static str,
    /// Whether `bad` is kept from the target by a policy.
    pub(crate) enforced: bool,
    /// Before the first probe.
    pub(crate) before: Beside,
    /// While probes run.
    pub(crate) during: Beside,
    /// Further assertions.
    pub(crate) also: fn(&Ran),
}

impl Evaluation {
    pub(crate) fn new(name: &'static str, before: Beside, lines: Vec<Line>) -> Self {
        Self {
            name,
            lines,
            settings: "",
            enforced: true,
            before,
            during: beside!(nothing),
            also: |_| {},
        }
    }
}

pub(crate) fn nothing(_: Stage) -> std::future::Ready<()> {
    std::future::ready(())
}

/// The results of a run.
pub(crate) struct Ran {
    pub(crate) results: Vec<CheckResult>,
    pub(crate) written: Written,
    attempts: Vec<(ProbeId, Sample)>,
    /// Attempts that are no evidence, since the machine was too busy.
    starved: usize,
    plan: Plan,
}

impl Ran {
    pub(crate) fn result(&self, name: &str) -> &CheckResult {
        self.results
            .iter()
            .find(|result| result.check.name == name)
            .unwrap_or_else(|| panic!("no check {name}"))
    }

    /// Attempts of a pod's probe on a port of the target.
    pub(crate) fn attempts(&self, pod: &str, port: u16) -> Vec<&Sample> {
        self.attempts
            .iter()
            .filter(|(probe, _)| {
                matches!(self.plan.source(*probe), Source::Pod { name, .. } if name == pod)
            })
            .map(|(_, sample)| sample)
            .filter(|sample| self.plan.flows()[sample.flow as usize].to.port == port)
            .collect()
    }
}

/// Runs a case and asserts its verdicts.
pub(crate) async fn run(case: &Evaluation) {
    for attempt in 1.. {
        let started = Instant::now();
        let ran = once(case).await;
        let duration = started.elapsed();
        assert!(duration < LONGEST, "the run took {duration:?}");

        let wrong = wrong(case, &ran);
        if !wrong.is_empty() && ran.starved > 0 && attempt < TRIES {
            continue;
        }
        assert!(
            wrong.is_empty(),
            "{}\n  ({} attempts starved)",
            wrong.join("\n  "),
            ran.starved
        );
        (case.also)(&ran);
        return;
    }
}

/// Checks whose verdict is not the wanted one.
fn wrong(case: &Evaluation, ran: &Ran) -> Vec<String> {
    let mut wrong = Vec::new();
    let steady = ["good", "bad", "careless"]
        .map(|from| (format!("{from} -> steady:8080 allowed"), Want::Proven));
    let lines = case
        .lines
        .iter()
        .map(|line| (line.text.to_owned(), line.want));
    let mut wanted: BTreeMap<String, Want> = lines.chain(steady).collect();

    for result in &ran.results {
        match wanted.remove(&result.check.name) {
            None => wrong.push(format!("not asked for: {}", result.check.name)),
            Some(want) => wrong.extend(differs(result, want)),
        }
    }
    wrong.extend(
        wanted
            .keys()
            .map(|name| format!("without a result: {name}")),
    );
    wrong
}

fn differs(result: &CheckResult, want: Want) -> Option<String> {
    let said = format!("{} {:?}", result.seen, result.contrast);
    let code = result
        .reason
        .as_ref()
        .map_or("", |reason| reason.code.code());
    let fits = match want {
        Want::Proven => result.verdict == Outcome::Proven,
        Want::Violated(words) => {
            result.verdict == Outcome::Violated && words.iter().all(|word| said.contains(word))
        }
        Want::Unproven(codes) => result.verdict == Outcome::Unproven && codes.contains(&code),
        Want::NotProven => result.verdict != Outcome::Proven,
        Want::ViolatedOrUnproven(word) => match result.verdict {
            Outcome::Proven => false,
            Outcome::Violated => said.contains(word),
            Outcome::Unproven => true,
        },
    };
    if fits {
        return None;
    }

    let flows: Vec<_> = result
        .flows
        .iter()
        .map(|flow| format!("{} -> {}: {}", flow.source, flow.address, flow.text))
        .collect();
    Some(format!(
        "{}: {} ({said}; {:?}), but {want:?} was wanted\n    {}",
        result.check.name,
        result.verdict,
        result.reason,
        flows.join("\n    ")
    ))
}

async fn once(case: &Evaluation) -> Ran {
    let (world, plan) = world_and_plan(case);
    let addresses = world.inventory().pods.iter().flat_map(|pod| {
        Family::ALL
            .into_iter()
            .filter_map(|family| Some(((pod.name.clone(), family), pod.address(family)?)))
    });
    let addresses = addresses.collect();
    let mut lab = Lab::up(world, lab::Options { deny: Deny::Drop })
        .await
        .expect("a lab");
    let sinks = reports::Sinks::open();
    let (mut recorder, progress) = Recorder::new(|event: &RunEvent| sinks.event(event));
    let stage = Stage {
        sabotage: lab.sabotage(),
        addresses,
        progress,
    };
    (case.before)(stage.clone()).await;
    let options = engine::Options {
        about: engine::About::default(),
        replan: engine::Replan::default(),
        schedule: Schedule {
            seed: reports::SEED,
            trust: vec![lab.authority().to_owned()],
            ..worlds::schedule(Duration::from_millis(500))
        },
        backend: "lab",
        clock: clock_at(lab.started().elapsed()),
    };
    let interrupted = std::future::pending::<String>();
    let during = async {
        (case.during)(stage).await;
        std::future::pending::<()>().await;
    };
    let summary = tokio::select! {
        summary = engine::run(&plan, &mut lab, options, interrupted, &mut recorder) => summary.expect("a run"),
        () = during => unreachable!("it waits for ever"),
    };
    let Recorder {
        finished,
        attempts,
        starved,
        ..
    } = recorder;
    let (results, reported) = finished.expect("a finished run");

    assert_eq!(reported, summary, "the summary of the reports");

    let errors = lab.teardown().await;
    assert!(errors.is_empty(), "{errors:?}");
    let written = sinks.close(&results, summary);
    Ran {
        results,
        written,
        attempts,
        starved,
        plan,
    }
}

fn world_and_plan(case: &Evaluation) -> (World, Plan) {
    let world = worlds::world(manifests(case), &[]);
    let plan = worlds::lab_plan(&world, &worlds::suites(suite(case)));
    (world, plan)
}

fn suite(case: &Evaluation) -> String {
    let mut text = format!(
        "apiVersion: watertight.dev/v1
kind: Suite
metadata: {{ name: hostile }}
spec:
  endpoints:
    good: {{ namespace: h, pods: {{ app: good }} }}
    bad: {{ namespace: h, pods: {{ app: bad }} }}
    careless: {{ namespace: h, pods: {{ app: careless }} }}
    steady: {{ namespace: h, pods: {{ app: steady }} }}
    target: {{ namespace: h, pods: {{ app: target }} }}
    web: {{ namespace: h, workload: Deployment/web }}
  settings: {{ {} }}
  expect:
    - good, bad, careless -> steady:8080 allowed
",
        case.settings
    );

    for Line {
        text: line,
        settings,
        ..
    } in &case.lines
    {
        text.push_str(&format!("    - {{ check: \"{line}\", {settings} }}\n"));
    }
    text
}

fn manifests(case: &Evaluation) -> String {
    let ports: Vec<String> = PORTS
        .iter()
        .map(|port| format!("{{containerPort: {port}}}"))
        .collect();
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: h}\n".to_owned();

    for (pod, node, ports) in [
        ("good", 1, "{containerPort: 8080}"),
        ("bad", 2, "{containerPort: 8080}"),
        ("careless", 2, "{containerPort: 8080}"),
        ("steady", 1, "{containerPort: 8080}"),
        ("target", 1, &ports.join(", ")),
    ] {
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: h, labels: {{app: {pod}}}}}
spec: {{nodeName: node-{node}, containers: [{{name: c, image: c, ports: [{ports}]}}]}}
"
        ));
    }
    text.push_str(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: h}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 3000}]}]}
",
    );

    for target in ["target", "web"]
        .into_iter()
        .filter(|target| case.enforced || *target != "target")
    {
        text.push_str(&format!(
            "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {target}, namespace: h}}
spec:
  podSelector: {{matchLabels: {{app: {target}}}}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector: {{matchLabels: {{app: good}}}}
        - podSelector: {{matchLabels: {{app: careless}}}}
"
        ));
    }
    text
}

/// The runner's clocks as they were so long ago.
fn clock_at(ago: Duration) -> RunnerClock {
    use nix::time::{ClockId, clock_gettime};
    let then = |clock| {
        let time = clock_gettime(clock).expect("a clock");
        (time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000)
            .saturating_sub(ago.as_micros() as u64)
    };
    RunnerClock {
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .expect("a boot id")
            .trim()
            .to_owned(),
        boottime_us: then(ClockId::CLOCK_BOOTTIME),
        wall_us: then(ClockId::CLOCK_REALTIME),
    }
}
