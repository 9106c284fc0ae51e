//! What a workload could reach beyond what its suite speaks of.

use super::run::{Said, calm_suite};
use super::world::{apply, kubectl, put};

/// Everything that the web tier is to reach.
const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: sweep }
spec:
  endpoints:
    web: { namespace: wt-test-shop, workload: Deployment/web }
    api: { namespace: wt-test-shop, workload: Deployment/api, service: api }
    dns: { namespace: kube-system, workload: Deployment/coredns, service: kube-dns }
  expect:
    - web -> api allowed
    - web -> dns:53, dns:53/udp allowed
";

/// A pod always reaches its own node's kubelet (Kubernetes, "Network Policies": what a node and its
/// pods say to each other is not stopped).
const OWN_KUBELET: &str = "wt-test-shop/Deployment/web -> nodes:10250 denied [sweep]";

fn open(said: &Said) -> Vec<&str> {
    said.verdicts
        .iter()
        .filter(|(_, (verdict, _))| verdict == "violated")
        .map(|(check, _)| check.as_str())
        .collect()
}

/// Arguments of a sweep from the web tier.
const SWEEP: [&str; 2] = ["--sweep", "wt-test-shop/Deployment/web"];

/// Only the kubelet is open while policies hold; without those of the two ends the database is, and
/// the API server.
pub(super) fn finds_what_is_open() {
    put();
    let said = calm_suite(SUITE, &SWEEP);
    assert_eq!(
        (open(&said), said.code),
        (vec![OWN_KUBELET], 3),
        "{}",
        said.text
    );

    kubectl(&["-n", "wt-test-data", "delete", "networkpolicy", "postgres"]);
    apply(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: wider, namespace: wt-test-shop }\n\
         spec: { podSelector: { matchLabels: { app: web } }, policyTypes: [Egress], egress: [{}] }\n",
    );
    let said = calm_suite(SUITE, &SWEEP);
    kubectl(&["-n", "wt-test-shop", "delete", "networkpolicy", "wider"]);

    for target in [
        "wt-test-data/StatefulSet/postgres:5432",
        "default/Service/kubernetes:443",
    ] {
        let check = format!("wt-test-shop/Deployment/web -> {target} denied [sweep]");
        assert!(
            open(&said).contains(&check.as_str()),
            "{check}\n{}",
            said.text
        );
    }
}
