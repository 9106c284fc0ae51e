//! Pods and Services that no source may reach, on both nodes: their denies are proven only where
//! the targets answer.

use super::run::{Said, calm_suite, suite};
use super::world::{apply, kubectl, put_namespace, until, wait_for_pods};
use std::time::Duration;

/// The namespace.
pub(crate) const NAMESPACE: &str = "wt-test-closed";

/// `right` answers; `wrong` leads to a port without a listener, `empty` to no pod; one of `half`'s
/// pods does not listen, and `crash`'s pod does not stay up. `node` is the client's node.
const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: closed }
spec:
  endpoints:
    client: { namespace: wt-test-closed, pods: { app: client } }
    node: { namespace: wt-test-closed, pods: { app: client }, source: node }
    one: { namespace: wt-test-closed, workload: Pod/one, ports: [8080] }
    two: { namespace: wt-test-closed, workload: Pod/two, ports: [8080] }
    right: { namespace: wt-test-closed, service: right }
    wrong: { namespace: wt-test-closed, service: wrong }
    empty: { namespace: wt-test-closed, service: empty }
    half: { namespace: wt-test-closed, service: half }
    crash: { namespace: wt-test-closed, workload: Pod/crash, ports: [8080] }
  expect:
    - client -> right:80 denied
    - client -> wrong:80 denied
    - client -> empty:80 denied
    - client -> half:80 denied
    - client -> crash denied
    - node -> one allowed
    - node -> two denied
";

fn pod(name: &str, labels: &str, node: u8, port: u16) -> String {
    super::world::pod(NAMESPACE, name, labels, node, port)
}

fn service(name: &str, selector: &str, target: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec: {{ selector: {{ {selector} }}, ipFamilyPolicy: PreferDualStack, ports: [{{ port: 80, targetPort: {target} }}] }}
---
"
    )
}

/// A policy that admits no source to the servers.
const CLOSED: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: wt-test-closed }
spec: { podSelector: { matchLabels: { app: server } }, policyTypes: [Ingress] }
";

/// Applies the namespace's objects and waits until its pods are ready.
fn put() {
    put_namespace(NAMESPACE);
    let crash =
        pod("crash", "app: server, in: crash", 2, 8080).replace("[netexec,", "[no-such-command,");
    let world = [
        pod("client-1", "app: client", 1, 8080),
        pod("one", "app: server, in: both", 1, 8080),
        pod("two", "app: server, in: both", 2, 8080),
        pod("half-one", "app: server, in: half", 1, 8080),
        pod("half-two", "app: server, in: half", 2, 8181),
        crash,
        service("right", "in: both", 8080),
        service("wrong", "in: both", 9999),
        service("empty", "in: none", 8080),
        service("half", "in: half", 8080),
        CLOSED.to_owned(),
    ];
    apply(&world.concat());
    wait_for_pods(NAMESPACE, &["-l", "in!=crash"]);
}

/// Verdicts of the client's denied checks to each of these targets.
fn of_client(said: &Said, targets: &[&str]) -> Vec<String> {
    targets
        .iter()
        .map(|target| said.of(&format!("client -> {target} denied")).0.to_owned())
        .collect()
}

/// How often the container of pod `crash` was started again, as kubectl prints it.
fn crashes() -> String {
    kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "pod",
        "crash",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ])
}

pub(crate) fn services() {
    put();
    until("it has crashed", Duration::from_secs(30), || {
        crashes().parse::<u32>().is_ok_and(|count| count > 0)
    });
    let said = calm_suite(SUITE, &["--timeout", "25s"]);
    let all = of_client(
        &said,
        &["right:80", "wrong:80", "empty:80", "half:80", "crash:8080"],
    );

    assert_eq!(
        all,
        ["proven", "unproven", "unproven", "unproven", "unproven"],
        "{}",
        said.text
    );
    // A node reaches its own pods by right, and no other's.
    assert_eq!(
        said.of("node -> one:8080 allowed").0,
        "proven",
        "{}",
        said.text
    );
    assert_eq!(
        said.of("node -> two:8080 denied").0,
        "proven",
        "{}",
        said.text
    );
    assert_eq!(said.code, 4, "{}", said.text);
}

pub(crate) fn without_the_policy() {
    put();
    kubectl(&["-n", NAMESPACE, "delete", "networkpolicy", "closed"]);
    let said = suite(SUITE, &["--only", "right|half|two", "--timeout", "8s"]);

    assert_eq!(
        of_client(&said, &["right:80", "half:80"]),
        ["violated", "violated"],
        "{}",
        said.text
    );
    assert_eq!(
        (said.of("node -> two:8080 denied").0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
}

/// One of two replicas has another label, so that the policy does not select it.
pub(crate) fn replica_with_another_label() {
    put();
    kubectl(&[
        "-n",
        NAMESPACE,
        "label",
        "pod",
        "two",
        "app=other",
        "--overwrite",
    ]);
    let said = suite(SUITE, &["--only", "right", "--timeout", "8s"]);
    kubectl(&[
        "-n",
        NAMESPACE,
        "label",
        "pod",
        "two",
        "app=server",
        "--overwrite",
    ]);

    assert_eq!(
        (of_client(&said, &["right:80"]), said.code),
        (vec!["violated".to_owned()], 3),
        "{}",
        said.text
    );
    assert!(said.text.contains("wt-test-closed/two"), "{}", said.text);
}
