//! What is said beside an answer: policies that are not read, and what matches no pod.

use crate::support::*;

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: a, namespace: shop, labels: { app: a } }
spec: { containers: [{ name: c, image: i, ports: [{ name: http, containerPort: 80 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: b, namespace: shop, labels: { app: b } }
spec: { containers: [{ name: c, image: i, ports: [{ name: http, containerPort: 80 }] }] }
";

const SUITE: &str = "\
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: s }
spec:
  endpoints:
    a: { namespace: shop, workload: Pod/a }
    b: { namespace: shop, workload: Pod/b }
  expect:
    - a -> b:80 allowed
";

/// What each command that predicts or plans says of these manifests on both streams.
fn said(manifests: &str) -> Vec<(&'static str, Ran)> {
    let files = Files::new();
    let manifests = files.with("m.yaml", manifests);
    let suite = files.with("s.yaml", SUITE);
    let (manifests, suite) = (manifests.as_str(), suite.as_str());
    let commands = [
        ("predict", vec!["predict", manifests]),
        (
            "predict --suite",
            vec!["predict", manifests, "--suite", suite],
        ),
        ("validate", vec!["validate", suite, "--with", manifests]),
        ("plan", vec!["plan", suite, "--lab", manifests]),
        (
            "explain",
            vec!["explain", "shop/Pod/a -> shop/Pod/b:80", "--lab", manifests],
        ),
    ];
    let run = |(name, arguments)| (name, ran(&mut watertight(arguments)));
    commands.into_iter().map(run).collect()
}

#[test]
fn policies_that_are_not_read_are_a_warning_of_their_own() {
    let manifests = format!(
        "{PODS}---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{ name: closed, namespace: shop }}\nspec: {{}}\n---\n\
         apiVersion: networking.k8s.aws/v1alpha1\nkind: ClusterNetworkPolicy\nmetadata: {{ name: deny-b }}\nspec: {{}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings }}\n"
    );
    for (command, ran) in said(&manifests) {
        ran.ends(0);
        let all = format!("{}{}", ran.out, ran.err);
        let of_kinds = "policies of kinds that are not read can deny what is shown as allowed: ";
        assert!(all.contains(of_kinds), "{command}: {all}");
        assert!(
            all.contains("CiliumNetworkPolicy (cilium.io) shop/closed ("),
            "{command}: {all}"
        );
        assert!(
            all.contains("ClusterNetworkPolicy (networking.k8s.aws) deny-b ("),
            "{command}: {all}"
        );
        assert!(all.contains("left out: 1 ConfigMap\n"), "{command}: {all}");
    }
}

#[test]
fn what_matches_no_pod_is_named_by_every_command() {
    let manifests = format!(
        "{PODS}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p, namespace: shopp }}\nspec: {{ podSelector: {{}} }}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: q, namespace: shop }}\nspec:\n  podSelector: {{ matchLabels: {{ app: b }} }}\n  \
         ingress:\n  - from: [{{ podSelector: {{ matchLabels: {{ app: a }} }} }}, {{ podSelector: {{ matchLabels: {{ app: x }} }} }}]\n  - ports: [{{ port: htttp }}]\n"
    );
    for (command, ran) in said(&manifests) {
        let all = format!("{}{}", ran.out, ran.err);
        for expected in [
            "selects no pod: namespace shopp has no pods; did you mean shop?",
            "matches no pod by pods with app=x in namespace shop: it wants app=x, pods in namespace shop carry app=a, app=b",
            "did you mean http?",
        ] {
            assert_eq!(all.matches(expected).count(), 1, "{command}: {all}");
        }
    }
}

#[test]
fn manifests_without_a_pod_or_a_policy_are_said_and_nothing_is_not_predicted() {
    for (command, ran) in said(PODS) {
        ran.ends(0);
        assert!(
            ran.err.contains("no policy that is read"),
            "{command}: {}",
            ran.err
        );
    }
    let files = Files::new();
    let policy = files.with(
        "p.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p }\nspec: { podSelector: {} }\n",
    );
    let empty = files.with("e.yaml", "# nothing\n");
    for manifests in [policy, empty] {
        ran(&mut watertight(["predict", manifests.as_str()]))
            .ends(2)
            .complains("the manifests hold no pod")
            .complains("nothing to predict");
    }
}

#[test]
fn every_report_says_that_policies_are_not_read() {
    let files = Files::new();
    let manifests = files.with(
        "m.yaml",
        format!("{PODS}---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{ name: closed, namespace: shop }}\nspec: {{}}\n"),
    );
    let suite = files.with("s.yaml", SUITE);
    let reports: Vec<String> = ["json", "junit", "tap", "ctrf"]
        .iter()
        .map(|format| format!("{format}={}", files.name(format)))
        .collect();
    let mut arguments = vec!["run", suite.as_str(), "--lab", manifests.as_str()];
    for report in &reports {
        arguments.extend(["--report", report.as_str()]);
    }
    ran(&mut watertight(arguments)).ends(0);
    for format in ["json", "junit", "tap", "ctrf"] {
        let text = std::fs::read_to_string(files.path(format)).unwrap();
        assert!(
            text.contains("not read can deny what is shown as allowed"),
            "{format}: {text}"
        );
    }
}
