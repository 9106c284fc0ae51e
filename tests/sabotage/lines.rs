//! Suites that speak of more than they seem to: of what does not exist, of ports that nothing
//! declares, of pods that policies tell apart. Each passed once without having been tested.

use crate::runner::{Evaluation, Hand, How, Ran, Wanted, run};
use crate::scene::Scene;
use crate::scenes::unproven;
use crate::{Done, Job};
use std::net::TcpListener;
use watertight::backend::lab;
use watertight::event::ExitCode;
use watertight::plan::Source;
use watertight::verdict::Reason;

/// A suite in a world, and what each of its checks must come back as.
struct Story {
    name: &'static str,
    /// Adds the pods and policies.
    world: fn(&mut Scene),
    /// `spec` of the suite, without settings.
    spec: &'static str,
    /// Every check by name.
    wanted: Vec<(&'static str, Wanted)>,
    code: ExitCode,
}

impl Story {
    fn job(self) -> Job {
        self.job_with(async |_| Ok(()))
    }

    fn job_with(self, act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static) -> Job {
        Job::new(format!("lines / {}", self.name), async move || {
            Done::of(run(&self.case(), How::BEFORE, act).await, |ran| {
                self.failures(ran)
            })
        })
    }

    fn case(&self) -> Evaluation {
        let mut scene = Scene::default();
        (self.world)(&mut scene);
        let suite = format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: lines }}\nspec:\n  \
             settings: {{ hold: 2s, timeout: 4s }}\n{}",
            self.spec
        );
        scene.case_of(&format!("lines-{}", self.name.replace(' ', "-")), &suite)
    }

    fn failures(&self, ran: &Ran) -> Vec<String> {
        let name = |index: usize| ran.results[index].check.name.clone();
        let wanted = |index: usize| self.wanted.iter().find(|(text, _)| *text == name(index));
        let mut failures = ran.differing(|index| wanted(index).map(|(_, wanted)| wanted.clone()));

        let unknown = (0..ran.results.len()).filter(|index| wanted(*index).is_none());
        failures.extend(unknown.map(|index| format!("nothing is wanted of {}", name(index))));
        let missing = self
            .wanted
            .iter()
            .filter(|(text, _)| !ran.results.iter().any(|result| result.check.name == *text));
        failures.extend(missing.map(|(text, _)| format!("there is no check {text}")));

        if ran.code != self.code {
            failures.push(format!(
                "wanted {:?} as exit code, got {:?}",
                self.code, ran.code
            ));
        }
        failures
    }
}

fn service(scene: &mut Scene, name: &str, app: &str) {
    scene.object(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: s}}, spec: {{selector: {{app: {app}}}, ports: [{{port: 80}}]}}}}"
    ));
}

/// `web` and `db`; only `web` is kept from the database and from everything else.
fn web_and_db(scene: &mut Scene) {
    scene.namespace("s", "team: s");
    scene.app("web", "80", "node-1");
    scene.app("db", "80", "node-2");
    scene.policy(
        "s/web",
        "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress]",
    );
}

/// `api` admits `web` by a rule without ports; `web` admits no one.
fn rule_without_ports(scene: &mut Scene) {
    rule_with(scene, "");
}

/// The same, with the rule's port written.
fn rule_with_port(scene: &mut Scene) {
    rule_with(scene, ", ports: [{port: 80}]");
}

fn rule_with(scene: &mut Scene, ports: &str) {
    scene.namespace("s", "team: s");
    scene.app("web", "80", "node-1");
    scene.app("api", "80", "node-2");
    scene.policy("s/closed", "podSelector: {}, policyTypes: [Ingress]");
    scene.policy(
        "s/api",
        &format!(
            "podSelector: {{matchLabels: {{app: api}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: web}}}}}}]{ports}}}]"
        ),
    );
}

/// A database of two generations, of which the newer one does not name its port.
fn two_generations(scene: &mut Scene, isolated: &str) {
    scene.namespace("s", "team: s");
    scene.app("web", "80", "node-1");
    for (name, ports, node) in [
        ("db-old", "pg=5432", "node-1"),
        ("db-new", "5432", "node-2"),
    ] {
        let labels = format!("app: db, gen: {name}");
        scene.pod(
            &format!("s/{name}"),
            &labels,
            ports,
            &format!(", nodeName: {node}"),
            "",
        );
    }
    scene.policy(
        "s/db",
        &format!("podSelector: {{matchLabels: {{{isolated}}}}}, policyTypes: [Ingress]"),
    );
}

/// A StatefulSet of four whose database admits one of them by the name of its pod.
fn stateful_set(scene: &mut Scene, admitted: &str) {
    scene.namespace("s", "team: s");
    scene.object(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, namespace: s}, spec: {serviceName: web, replicas: 4, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}}}",
    );
    scene.app("db", "5432", "node-2");
    scene.policy(
        "s/db",
        &format!(
            "podSelector: {{matchLabels: {{app: db}}}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{matchLabels: {{statefulset.kubernetes.io/pod-name: {admitted}}}}}}}]}}]"
        ),
    );
}

/// Two replicas of `web`, both isolated, or neither.
fn replicas(scene: &mut Scene, node: &str, isolated: bool) {
    scene.namespace("s", "team: s");
    for name in ["web-0", "web-1"] {
        let node = if name == "web-0" { "node-1" } else { node };
        scene.pod(
            &format!("s/{name}"),
            "app: web",
            "80",
            &format!(", nodeName: {node}"),
            "",
        );
    }
    service(scene, "web", "web");
    if isolated {
        scene.policy("s/web", "podSelector: {}, policyTypes: [Ingress]");
    }
}

/// Answers on a port of a pod that no manifest declares.
async fn listen(hand: &Hand, name: &str, node: &str, port: u16) -> Result<(), lab::Error> {
    let source = Source::Pod {
        namespace: "s".into(),
        name: name.into(),
        node: node.into(),
    };
    let listen = move || {
        let listener = TcpListener::bind(("::", port)).expect("the port is free");
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                drop(stream);
            }
        });
    };
    hand.sabotage.within(source, listen).await
}

/// All stories.
pub(crate) fn all() -> Vec<Job> {
    let mut jobs = what_does_not_exist();
    jobs.extend(closed_worlds());
    jobs.extend(every_pod());
    jobs
}

/// Endpoints and Services that match nothing, below `*`, `everythingElse` and lines.
fn what_does_not_exist() -> Vec<Job> {
    let nothing = || unproven(Reason::MatchesNothing);
    vec![
        Story {
            name: "a misspelt workload below a wildcard",
            world: web_and_db,
            spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    db: { namespace: s, workload: Pod/dbb }
    metadata: { ip: 169.254.169.254, ports: [80] }
  expect:
    - '* -> metadata denied'
",
            wanted: vec![
                ("web -> metadata:80 denied", Wanted::Proven),
                ("db -> metadata:80 denied", nothing()),
            ],
            code: ExitCode::Unproven,
        }
        .job(),
        Story {
            name: "a misspelt workload below everythingElse",
            world: web_and_db,
            spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    db: { namespace: s, workload: Pod/db }
    gone: { namespace: s, pods: { app: gone }, ports: [http] }
  expect:
    - db -> web:80 denied
  everythingElse: denied
",
            wanted: vec![
                ("db -> web:80 denied", Wanted::Proven),
                ("web -> db:80 denied", Wanted::Proven),
                ("web -> gone:http denied", nothing()),
                ("db -> gone:http denied", nothing()),
                ("gone -> web:80 denied", nothing()),
                ("gone -> db:80 denied", nothing()),
            ],
            code: ExitCode::Unproven,
        }
        .job(),
        Story {
            name: "a service that does not exist",
            world: web_and_db,
            spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    db: { namespace: s, workload: Pod/db, service: dbb }
  expect:
    - web -> db:80 denied
",
            wanted: vec![("web -> db:80 denied", nothing())],
            code: ExitCode::Unproven,
        }
        .job(),
        Story {
            name: "an endpoint without a known port below everythingElse",
            world: |scene| {
                web_and_db(scene);
                scene.app("worker", "", "node-1");
            },
            spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    worker: { namespace: s, workload: Pod/worker }
  expect:
    - worker -> web:80 denied
  everythingElse: denied
",
            wanted: vec![
                ("worker -> web:80 denied", Wanted::Proven),
                ("web -> worker:* denied", unproven(Reason::Unprovable)),
            ],
            code: ExitCode::Unproven,
        }
        .job(),
    ]
}

/// `everythingElse: denied` beside requests, ports that only policies know, and pods of one
/// endpoint.
fn closed_worlds() -> Vec<Job> {
    const WEB_TO_API: &str = "  endpoints:
    web: { namespace: s, workload: Pod/web }
    api: { namespace: s, workload: Pod/api }
  expect:
    - web -> api:80 allowed
  everythingElse: denied
";
    let listening = Story {
        name: "a port that only a rule admits and that answers",
        world: rule_without_ports,
        spec: WEB_TO_API,
        wanted: vec![
            ("web -> api:80 allowed", Wanted::Proven),
            ("web -> api:other ports denied", Wanted::Violated),
            ("api -> web:80 denied", Wanted::Proven),
        ],
        code: ExitCode::Violated,
    };
    let range = Story {
        name: "a range without a known port of which one answers",
        world: rule_without_ports,
        spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    api: { namespace: s, workload: Pod/api }
  expect:
    - web -> api:80 allowed
    - web -> api:9220-9240 denied
",
        wanted: vec![
            ("web -> api:80 allowed", Wanted::Proven),
            ("web -> api:9220-9240 denied", unproven(Reason::Unprovable)),
            ("web -> api:9229 denied", Wanted::Violated),
        ],
        code: ExitCode::Violated,
    };
    vec![
        listening.job_with(async |hand| listen(&hand, "api", "node-2", 9229).await),
        range.job_with(async |hand| listen(&hand, "api", "node-2", 9229).await),
        Story {
            name: "a port that only a rule admits",
            world: rule_without_ports,
            spec: WEB_TO_API,
            wanted: vec![
                ("web -> api:80 allowed", Wanted::Proven),
                (
                    "web -> api:other ports denied",
                    unproven(Reason::PoliciesAdmitMore),
                ),
                ("api -> web:80 denied", Wanted::Proven),
            ],
            code: ExitCode::Unproven,
        }
        .job(),
        Story {
            name: "requests beside everythingElse",
            world: rule_with_port,
            spec: "  endpoints:
    web: { namespace: s, workload: Pod/web }
    api: { namespace: s, workload: Pod/api }
  expect:
    - web -> http://api:80/ allowed
    - { check: 'web -> api:80 allowed', send: hello, id: payload }
  everythingElse: denied
",
            wanted: vec![
                ("web -> http://api:80/ allowed", Wanted::Proven),
                ("web -> api:80 allowed [payload]", Wanted::Proven),
                ("api -> web:80 denied", Wanted::Proven),
            ],
            code: ExitCode::Proven,
        }
        .job(),
        Story {
            name: "replicas that reach each other below everythingElse",
            world: |scene| replicas(scene, "node-1", false),
            spec: "  endpoints:
    web: { namespace: s, pods: { app: web }, service: web }
  everythingElse: denied
",
            wanted: vec![
                ("web -> web:80 denied", Wanted::Violated),
                (
                    "web -> web:other ports denied",
                    unproven(Reason::PoliciesAdmitMore),
                ),
            ],
            code: ExitCode::Violated,
        }
        .job(),
        Story {
            name: "replicas that do not reach each other",
            world: |scene| replicas(scene, "node-2", true),
            spec: "  endpoints:
    web: { namespace: s, pods: { app: web }, service: web }
  everythingElse: denied
",
            wanted: vec![("web -> web:80 denied", Wanted::Proven)],
            code: ExitCode::Proven,
        }
        .job(),
    ]
}

/// A suite of one line: from a StatefulSet to the number of a port.
const WEB_TO_DB: &str = "  endpoints:
    web: { namespace: s, workload: StatefulSet/web }
    db: { namespace: s, workload: Pod/db }
  expect:
    - web -> db:5432 denied
";

/// A suite of one line: to the name of a port.
const BY_NAME: &str = "  endpoints:
    web: { namespace: s, workload: Pod/web }
    db: { namespace: s, pods: { app: db } }
  expect:
    - web -> db:pg denied
";

/// A run of a suite of one line.
fn story(
    name: &'static str,
    world: fn(&mut Scene),
    spec: &'static str,
    wanted: Wanted,
    code: ExitCode,
) -> Job {
    let check = if spec == BY_NAME {
        "web -> db:pg denied"
    } else {
        "web -> db:5432 denied"
    };
    let story = Story {
        name,
        world,
        spec,
        wanted: vec![(check, wanted)],
        code,
    };
    story.job()
}

/// Pods that lack what their siblings have, and pods that policies tell apart.
fn every_pod() -> Vec<Job> {
    vec![
        story(
            "an open pod that does not name its port",
            |scene| two_generations(scene, "gen: db-old"),
            BY_NAME,
            Wanted::Violated,
            ExitCode::Violated,
        ),
        story(
            "a closed pod that does not name its port",
            |scene| two_generations(scene, "app: db"),
            BY_NAME,
            unproven(Reason::IncompleteReach),
            ExitCode::Unproven,
        ),
        story(
            "a replica that a rule admits by its name",
            |scene| stateful_set(scene, "web-3"),
            WEB_TO_DB,
            Wanted::Violated,
            ExitCode::Violated,
        ),
        story(
            "a rule that names no existing replica",
            |scene| stateful_set(scene, "web-9"),
            WEB_TO_DB,
            Wanted::Proven,
            ExitCode::Proven,
        ),
    ]
}
