//! How long a large lab takes: `cargo test --release --test lab_packets measure`.

use crate::support::{Check, say};
use crate::worlds;
use std::fmt::Write;
use std::time::Instant;
use watertight::backend::Backend;
use watertight::backend::lab::{Deny, Lab, Options};

pub(crate) const CHECK: Check = Check {
    name: "measure",
    run: || Box::pin(measure()),
};

/// Each pod has a policy of its own, with two rules in each direction.
async fn measure() {
    for pods in [10, 100, 300, 1000] {
        let mut text = String::new();
        for n in 0..pods {
            let next = (n + 1) % pods;
            writeln!(text, "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{n}, namespace: many, labels: {{app: p{n}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: 8080}}]}}]}}}}").expect("text");
            writeln!(text, "---\n{{apiVersion: v1, kind: Service, metadata: {{name: p{n}, namespace: many}}, spec: {{selector: {{app: p{n}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}").expect("text");
            writeln!(text, "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{n}, namespace: many}}, spec: {{podSelector: {{matchLabels: {{app: p{n}}}}}, policyTypes: [Ingress, Egress], ingress: [{{from: [{{podSelector: {{matchLabels: {{app: p{next}}}}}}}], ports: [{{port: 8080}}]}}, {{from: [{{ipBlock: {{cidr: 203.0.113.0/24}}}}]}}], egress: [{{to: [{{podSelector: {{matchLabels: {{app: p{next}}}}}}}]}}, {{ports: [{{port: 53, protocol: UDP}}]}}]}}}}").expect("text");
        }
        let world = worlds::world(text, &[]);

        let started = Instant::now();
        let mut lab = Lab::up(world, Options { deny: Deny::Drop })
            .await
            .expect("lab");
        let up = started.elapsed();
        let policies = lab.inventory().await.expect("inventory").policies;
        let started = Instant::now();
        lab.sabotage().set_policies(policies).await.expect("swap");
        let swap = started.elapsed();
        let started = Instant::now();
        assert!(lab.teardown().await.is_empty());
        say(&format!(
            "{pods} pods: up in {up:?}, swap {swap:?}, down {:?}",
            started.elapsed()
        ));
    }
}
