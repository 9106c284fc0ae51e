//! Objects of others that carry the annotation of runs: they are tested, watched and left alone.

use super::run::{calm_suite, clean};
use super::world::{IMAGE, apply, kubectl, put_namespace};

/// The namespace.
pub(crate) const NAMESPACE: &str = "wt-test-ours";

/// The annotation, as an entry that follows others.
const ANNOTATION: &str = ", annotations: { watertight.dev/run: 0123456789abcdef }";

const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: ours }
spec:
  endpoints:
    web: { namespace: wt-test-ours, pods: { app: web } }
    client: { namespace: wt-test-ours, workload: Deployment/client }
    api: { namespace: wt-test-ours, workload: Deployment/api }
  expect:
    - client -> web:8080 denied
    - api -> web:8080 allowed
";

fn deployment(name: &str, app: &str, annotation: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  selector: {{ matchLabels: {{ app: {app}, part: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {app}, part: {name} }}{annotation} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {{ name: c, image: {IMAGE}, imagePullPolicy: Never, args: [netexec, --http-port=8080, --udp-port=-1], ports: [{{ containerPort: 8080 }}] }}
---
"
    )
}

/// `web` admits only `api`; `exposed` has its label too, and admits every source. Pods, policy and
/// Service of `exposed` carry the annotation.
fn world() -> String {
    let deployments = [
        deployment("web", "web", ""),
        deployment("exposed", "web", ANNOTATION),
        deployment("client", "client", ""),
        deployment("api", "api", ""),
    ];
    let others = format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: web, namespace: {NAMESPACE} }}
spec: {{ podSelector: {{ matchLabels: {{ app: web }} }}, ingress: [{{ from: [{{ podSelector: {{ matchLabels: {{ app: api }} }} }}] }}] }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: exposed, namespace: {NAMESPACE}{ANNOTATION} }}
spec: {{ podSelector: {{ matchLabels: {{ part: exposed }} }}, ingress: [{{}}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: exposed, namespace: {NAMESPACE}{ANNOTATION} }}
spec: {{ selector: {{ part: exposed }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"
    );
    deployments.concat() + &others
}

/// Kind, name and uid of everything in the namespace that carries the annotation.
fn annotated() -> Vec<String> {
    let columns = "custom-columns=K:.kind,N:.metadata.name,U:.metadata.uid,A:.metadata.annotations,D:.metadata.deletionTimestamp";
    let kinds = "pods,services,networkpolicies,jobs";
    let all = kubectl(&["-n", NAMESPACE, "get", kinds, "--no-headers", "-o", columns]);
    all.lines()
        .filter(|line| line.contains("watertight.dev/run:0123456789abcdef"))
        .map(str::to_owned)
        .collect()
}

/// A pod that every source reaches is a leak, also where it carries the annotation; `clean` leaves it,
/// its policy and its Service.
pub(super) fn tested_and_left_alone() {
    put_namespace(NAMESPACE);
    apply(&world());
    for name in ["web", "exposed", "client", "api"] {
        let deployment = format!("deployment/{name}");
        kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            &deployment,
            "--timeout=120s",
        ]);
    }
    let before = annotated();
    assert_eq!(before.len(), 3, "{before:?}");

    let said = calm_suite(SUITE, &[]);
    assert_eq!(
        (said.of("client -> web:8080 denied").0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
    for object in ["Pod/exposed-", "NetworkPolicy/exposed", "Service/exposed"] {
        let name = format!("{NAMESPACE}/{object}");
        assert!(
            said.text.replace(['\n', ' '], "").contains(&name),
            "{name}\n{}",
            said.text
        );
    }

    let (code, said) = clean(&["--all-runs"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("left alone: ") && said.contains("Pod/exposed-"),
        "{said}"
    );
    assert_eq!(annotated(), before, "{said}");
    kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]);
}
