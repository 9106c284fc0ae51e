//! Runners that are killed: their reports say nothing wrong, and what they made is gone after its
//! deadline.

use super::cases::{made, ours};
use super::run::started_with;
use super::world::{apply, pod, put_namespace, until_gone, wait_for_pods};
use serde_json::Value;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A namespace of their own, for probes of nodes too: nothing else is disturbed by what is left
/// there.
pub(crate) const NAMESPACE: &str = "wt-test-killed";

/// When each runner is killed: while it connects, creates, samples, and is about to stop.
const MOMENTS_MS: [u64; 4] = [900, 3_100, 6_500, 10_700];

/// How long objects of these runs may remain: with so short a timeout their deadline is about five
/// minutes, and the cluster's garbage collection is not immediate.
const DEADLINE: Duration = Duration::from_secs(360);

const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: killed }
spec:
  endpoints:
    client: { namespace: wt-test-killed, workload: Pod/client }
    closed: { namespace: wt-test-killed, workload: Pod/closed, ports: [8080] }
    open: { namespace: wt-test-killed, workload: Pod/open, ports: [8080] }
  settings: { hold: 2s, timeout: 6s }
  expect:
    - client -> closed denied
";

/// What is said of `open` contradicts itself, so it is in two suites.
fn suites() -> [String; 2] {
    let right = format!("{SUITE}    - client -> open allowed\n");
    let wrong = format!("{SUITE}    - {{ check: client -> open denied, id: wrong }}\n");
    [right, wrong]
}

fn world() -> String {
    let pods = [("client", 1), ("closed", 2), ("open", 2)]
        .map(|(name, node)| pod(NAMESPACE, name, &format!("app: {name}"), node, 8080));
    let policy = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: wt-test-killed }
spec: { podSelector: { matchLabels: { app: closed } }, policyTypes: [Ingress] }
";
    pods.concat() + policy
}

/// What these runs have made and is still there.
fn left() -> Vec<String> {
    made()
        .into_iter()
        .filter(|line| line.starts_with(NAMESPACE))
        .collect()
}

/// When the last runner was killed.
static KILLED: OnceLock<Instant> = OnceLock::new();

/// Kills runners at different moments, and reads what each said until then.
fn kill() -> Instant {
    put_namespace(NAMESPACE);
    apply(&world());
    wait_for_pods(NAMESPACE, &["--all"]);

    for (nth, moment) in MOMENTS_MS.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let suite = &suites()[nth % 2];
        let report = folder.path().join("report.json");
        let argument = format!("json={}", report.display());
        let mut child = started_with(
            folder.path(),
            suite,
            &["-n", NAMESPACE, "--report", &argument],
        );
        sleep(Duration::from_millis(moment));
        // One that has ended is no less killed.
        let _ended = child.kill();
        child.wait().unwrap();
        let report: Value =
            serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
        for check in report["checks"].as_array().unwrap() {
            let (name, verdict) = (
                check["name"].as_str().unwrap(),
                check["verdict"].as_str().unwrap(),
            );
            let wrong = if name.ends_with("[wrong]") {
                "proven"
            } else {
                "violated"
            };
            assert_ne!(verdict, wrong, "killed after {moment} ms: {name}");
        }
    }

    assert!(!left().is_empty(), "the killed runs have made something");
    let elsewhere = ours();
    assert!(
        elsewhere.is_empty(),
        "made in namespaces that the suite sends nothing from: {elsewhere:#?}"
    );
    Instant::now()
}

pub(crate) fn tells_nothing_wrong() {
    KILLED.get_or_init(kill);
}

/// To be run last: what is in between takes most of the time that this waits.
pub(crate) fn is_gone_after_the_deadline() {
    let killed = *KILLED.get_or_init(kill);
    let most = (killed + DEADLINE).saturating_duration_since(Instant::now());
    until_gone(
        "what the killed runs made",
        most.max(Duration::from_secs(5)),
        left,
    );
}
