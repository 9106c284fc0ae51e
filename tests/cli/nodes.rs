//! Nodes that manifests declare: their addresses and labels count.

use crate::support::*;

const NODES: &str = "\
apiVersion: v1
kind: Node
metadata: { name: cp-1, labels: { node-role.kubernetes.io/control-plane: \"\" } }
status: { addresses: [{ type: Hostname, address: cp-1 }, { type: InternalIP, address: 192.0.2.11 }] }
---
apiVersion: v1
kind: Node
metadata: { name: worker-1 }
status: { addresses: [{ type: InternalIP, address: 192.0.2.22 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: p, namespace: mine, labels: { app: p } }
spec: { nodeName: worker-1, containers: [{ name: c, image: i }] }
---
";

/// What `predict --suite` answers to each line, with this policy.
fn answers(policy: &str, lines: &[&str]) -> Vec<String> {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", format!("{NODES}{policy}"));
    let lines: String = lines
        .iter()
        .map(|line| format!("    - p -> {line} allowed\n"))
        .collect();
    let suite = files.with(
        "suite.yaml",
        format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: nodes }}\nspec:\n  endpoints:\n    p: {{ namespace: mine, workload: Pod/p }}\n  expect:\n{lines}"
        ),
    );
    let arguments = [
        "predict",
        "--suite",
        suite.as_str(),
        manifests.as_str(),
        "-o",
        "csv",
    ];
    let ran = ran(&mut watertight(arguments));
    ran.out.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_block_matches_the_addresses_of_declared_nodes() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: firewall, namespace: mine }\nspec:\n  podSelector: {}\n  policyTypes: [Egress]\n  \
                  egress: [{ to: [{ ipBlock: { cidr: 0.0.0.0/0, except: [192.0.2.11/32, 192.0.2.22/32] } }] }]\n";
    let found = answers(
        policy,
        &["192.0.2.11:443", "192.0.2.22:443", "192.0.2.33:443"],
    );
    let allowed: Vec<bool> = found
        .iter()
        .map(|line| line.contains("allowed,") && !line.contains("denied"))
        .collect();
    assert_eq!(allowed, [false, false, true], "{found:#?}");
}

#[test]
fn a_cluster_policy_selects_declared_nodes_by_their_labels() {
    let policy = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: no-control-plane }\nspec:\n  tier: Admin\n  priority: 1\n  \
                  subject: { namespaces: {} }\n  egress:\n  - action: Deny\n    to: [{ nodes: { matchExpressions: [{ key: node-role.kubernetes.io/control-plane, operator: Exists }] } }]\n";
    let found = answers(policy, &["192.0.2.11:443", "192.0.2.22:443"]);
    let denied: Vec<bool> = found.iter().map(|line| line.contains("denied")).collect();
    assert_eq!(denied, [true, false], "{found:#?}");
}
