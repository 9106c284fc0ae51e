//! Services that nobody may reach, with pods on both nodes: proven where they are alive, and only there.

use super::run::suite;
use super::world::{IMAGE, apply, kubectl};

/// The namespace.
pub(crate) const NAMESPACE: &str = "wt-test-closed";

/// Sources of every line: `client`. `right` is alive; `wrong` leads to a port that nobody listens on, `nobody` to no pod,
/// and of `half`'s pods one does not listen.
const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: closed }
spec:
  endpoints:
    client: { namespace: wt-test-closed, pods: { app: client } }
    right: { namespace: wt-test-closed, service: right }
    wrong: { namespace: wt-test-closed, service: wrong }
    nobody: { namespace: wt-test-closed, service: nobody }
    half: { namespace: wt-test-closed, service: half }
  expect:
    - client -> right:80 denied
    - client -> wrong:80 denied
    - client -> nobody:80 denied
    - client -> half:80 denied
";

fn pod(name: &str, labels: &str, node: u8, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {NAMESPACE}, labels: {{ {labels} }} }}
spec:
  nodeName: node-{node}
  terminationGracePeriodSeconds: 0
  containers: [{{ name: c, image: {IMAGE}, imagePullPolicy: Never, args: [netexec, --http-port={port}, --udp-port=-1] }}]
---
"
    )
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

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: wt-test-closed }
spec: { podSelector: { matchLabels: { app: server } }, policyTypes: [Ingress] }
";

/// The case: one run with the policy, one without.
pub(crate) fn services() {
    apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {NAMESPACE} }}\n"));
    let world = [
        pod("client-1", "app: client", 1, 8080),
        pod("one", "app: server, in: both", 1, 8080),
        pod("two", "app: server, in: both", 2, 8080),
        pod("half-one", "app: server, in: half", 1, 8080),
        pod("half-two", "app: server, in: half", 2, 8181),
        service("right", "in: both", 8080),
        service("wrong", "in: both", 9999),
        service("nobody", "in: none", 8080),
        service("half", "in: half", 8080),
        POLICY.to_owned(),
    ];
    apply(&world.concat());
    kubectl(&["-n", NAMESPACE, "wait", "pods", "--all", "--for=condition=Ready", "--timeout=60s"]);
    let said = suite(SUITE, &["--patience", "25s"]);
    let of = |name: &str| said.of(&format!("client -> {name}:80 denied")).0.to_owned();
    let all = ["right", "wrong", "nobody", "half"].map(of);
    assert_eq!(all, ["proven", "unproven", "unproven", "unproven"], "{}", said.text);
    assert_eq!(said.code, 4, "{}", said.text);
    kubectl(&["-n", NAMESPACE, "delete", "networkpolicy", "closed"]);
    let said = suite(SUITE, &["--only", "right|half", "--patience", "12s"]);
    for name in ["right", "half"] {
        assert_eq!(said.of(&format!("client -> {name}:80 denied")).0, "violated", "{}", said.text);
    }
    assert_eq!(said.code, 3, "{}", said.text);
}
