//! A Service with pods on two nodes that no policy admits a source to: when its deny is proven.

use super::timelines::{collect, right_clock, skewed_clock};
use crate::worlds;
use proptest::prelude::*;
use watertight::backend::lab::{CONTROL_PORT, KUBELET_PORT};
use watertight::plan::{
    BackendProperties, ControlEndpoints, FlowId, NodeEndpoint, Plan, ReferencePodAddress,
    Selection, Source, TargetKind, resolve,
};
use watertight::verdict::{FlowVerdict, Reason, judge};

/// a and b1 on node-1, b2 on node-2; Service s leads to b1 and b2. The target's port has a name of
/// its own on each pod.
const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n', labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b1, namespace: 'n', labels: {app: b}}, spec: {nodeName: node-1, containers: [{name: c, image: c, ports: [{name: web, containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b2, namespace: 'n', labels: {app: b}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{name: web, containerPort: 8081}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: 'n'}, spec: {clusterIP: 10.96.0.7, selector: {app: b}, ports: [{port: 80, targetPort: web}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 53}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{port: 53}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: all, namespace: 'n'}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}}
";

/// The plan of the denied Service as a cluster has it: reference pods are ordinary pods.
fn plan(manifests: &str) -> Plan {
    let text = "{apiVersion: watertight.dev/v1, kind: Suite, metadata: {name: t}, spec: {endpoints: {s: {namespace: 'n', service: s}}, expect: [\"n/Pod/a -> s:80 denied\"]}}";
    let suites = worlds::suites(text);
    let world = worlds::world(manifests, &[]);
    let control_endpoints = ControlEndpoints {
        on_pods: Some(CONTROL_PORT),
        on_nodes: Some(NodeEndpoint::Handshake(KUBELET_PORT)),
        from_nodes: true,
        reference_pods: vec![
            reference_pod("node-1", "198.18.0.1"),
            reference_pod("node-2", "198.18.0.2"),
        ],
        reference_pods_pass: false,
    };
    resolve(
        &suites,
        world.inventory(),
        &BackendProperties::cluster(control_endpoints),
        &Selection::default(),
    )
    .expect("a plan")
}

/// The address of the reference pod on a node.
fn reference_pod(node: &str, address: &str) -> ReferencePodAddress {
    ReferencePodAddress {
        node: node.into(),
        addresses: vec![address.parse().expect("an address")],
        port: CONTROL_PORT,
    }
}

/// The part that a flow has in the check of the Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The denied flow: from the source to the Service or to one of its pods.
    Denied,
    /// From the node of this number through the Service.
    Through(u8),
    /// From its own node to the pod of this number.
    Backend(u8),
    /// A flow of another pod, which the policy stops.
    Stopped,
    /// Every other flow: it opens.
    Open,
}

fn role(plan: &Plan, id: FlowId) -> Role {
    let flow = plan.flow(id);
    if plan.checks()[0].flows.contains(&id) {
        return Role::Denied;
    }
    let node = match plan.source(flow.probe) {
        Source::Node { name } => name.strip_prefix("node-").and_then(|n| n.parse().ok()),
        Source::Pod { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    };

    match (&*flow.target_kind, node) {
        (TargetKind::Service { service, .. }, Some(node)) if service.name == "s" => {
            Role::Through(node)
        }
        (TargetKind::Service { service, .. }, None) if service.name == "s" => Role::Stopped,
        (TargetKind::Pod { name, .. }, Some(node))
            if *name == format!("b{node}") && flow.to.port > 80 && flow.to.port < 9_000 =>
        {
            Role::Backend(node)
        }
        (TargetKind::Pod { name, .. }, _) if name.starts_with('b') => Role::Stopped,
        _ => Role::Open,
    }
}

/// Whether a node gets through the Service: the nodes by turns, so that one of them always does.
fn by_turns(node: u8, at: i64) -> bool {
    (at / 500_000 + i64::from(node)) % 2 == 0
}

const UNTIL: i64 = 20_000_000;

/// The verdict of the flow to the Service itself, without the flows to its pods.
fn run(opens: impl Fn(Role, i64) -> bool) -> FlowVerdict {
    let plan = plan(MANIFESTS);
    let collector = collect(&plan, &[right_clock(true)], UNTIL, |flow, at| {
        opens(role(&plan, flow), at)
    });
    let judgement = judge(&plan, &plan.checks()[0], &collector.evidence);
    let mut of_service = judgement
        .flows
        .into_iter()
        .filter(|flow| plan.flow(flow.flow).to.port == 80);
    of_service.next().expect("a flow to the Service").verdict
}

/// Whether a flow opens in a network where the Service works and its policy is enforced.
fn sound(role: Role, at: i64) -> bool {
    match role {
        Role::Denied | Role::Stopped => false,
        Role::Through(node) => by_turns(node, at),
        Role::Backend(_) | Role::Open => true,
    }
}

fn reason(verdict: &FlowVerdict) -> Option<Reason> {
    match verdict {
        FlowVerdict::Unproven(unproven) => Some(unproven.reason),
        FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Violated(_)
        | FlowVerdict::LeftOut(_) => None,
    }
}

#[test]
fn service_whose_nodes_and_pods_answer_is_proven_denied() {
    let FlowVerdict::Denied(proof) = run(sound) else {
        panic!("{:?}", run(sound))
    };
    assert_eq!(
        proof.control().with().len(),
        3,
        "the other node through the Service, and two nodes to their pods"
    );
}

#[test]
fn service_that_no_node_gets_through_is_unproven() {
    let verdict = run(|role, at| !matches!(role, Role::Through(_)) && sound(role, at));
    assert_eq!(
        reason(&verdict),
        Some(Reason::NoControlAnswered),
        "{verdict:?}"
    );
}

#[test]
fn service_with_a_dead_pod_is_unproven() {
    for dead in [1, 2] {
        let verdict = run(|role, at| role != Role::Backend(dead) && sound(role, at));
        assert!(reason(&verdict).is_some(), "b{dead}: {verdict:?}");
        let verdict =
            run(|role, at| !(role == Role::Backend(dead) && at > 10_000_000) && sound(role, at));
        assert!(
            reason(&verdict).is_some(),
            "b{dead} after 10 s: {verdict:?}"
        );

        let outage = 10_000_000..10_600_000;
        let verdict = run(|role, at| {
            !(role == Role::Backend(dead) && outage.contains(&at)) && sound(role, at)
        });
        assert!(
            reason(&verdict).is_some(),
            "b{dead} once in the middle: {verdict:?}"
        );
    }
}

#[test]
fn service_that_no_control_reaches_for_over_two_seconds_is_unproven() {
    let outage = 10_000_000..12_600_000;
    let verdict = run(|role, at| {
        !(matches!(role, Role::Through(_)) && outage.contains(&at)) && sound(role, at)
    });
    assert!(reason(&verdict).is_some(), "{verdict:?}");
}

#[test]
fn service_without_a_path_from_the_sources_node_is_unproven() {
    let verdict =
        run(|role, at| role == Role::Through(2) || (role != Role::Through(1) && sound(role, at)));
    assert_eq!(
        reason(&verdict),
        Some(Reason::NoControlAnswered),
        "{verdict:?}"
    );
}

#[test]
fn service_that_opens_once_is_violated() {
    let verdict = run(|role, at| (role == Role::Denied && at > 15_000_000) || sound(role, at));
    assert!(matches!(verdict, FlowVerdict::Violated(_)), "{verdict:?}");
}

#[test]
fn service_without_pods_or_with_a_pod_without_the_port_has_no_composite_control() {
    assert_eq!(plan(MANIFESTS).composites().len(), 1);
    let unlabelled =
        plan(&MANIFESTS.replace("selector: {app: b}, ports", "selector: {app: none}, ports"));
    assert!(unlabelled.composites().is_empty());
    let without_the_port =
        plan(&MANIFESTS.replace("name: web, containerPort: 8081", "containerPort: 8081"));
    assert!(
        without_the_port.composites().is_empty(),
        "the Service does not lead to b2, and the reason is unknown"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The Service works only for some time, and each pod runs only for some time: a proven deny
    /// was tried as often as its proof claims while all of that held, whatever the clocks are.
    #[test]
    fn denied_service_with_skewed_clocks_was_attempted_as_often_as_its_proof_claims(
        clocks in prop::collection::vec(skewed_clock(), 1..5),
        (leads, first, second) in (life(), life(), life()),
    ) {
        let plan = plan(MANIFESTS);
        let check = &plan.checks()[0];
        let collector = collect(&plan, &clocks, UNTIL, |flow, at| match role(&plan, flow) {
            Role::Denied | Role::Stopped => false,
            Role::Through(node) => leads.0 <= at && at < leads.1 && by_turns(node, at),
            Role::Backend(1) => first.0 <= at && at < first.1,
            Role::Backend(_) => second.0 <= at && at < second.1,
            Role::Open => true,
        });
        let from = leads.0.max(first.0).max(second.0);
        let to = leads.1.min(first.1).min(second.1);

        for flow in &judge(&plan, check, &collector.evidence).flows {
            if let FlowVerdict::Denied(proof) = &flow.verdict {
                let of = plan.flow(flow.flow).probe.0 as usize;
                let tried = clocks[of % clocks.len()].starts(UNTIL).filter(|at| (from..to).contains(at)).count();
                prop_assert!(
                    matches!(&*plan.flow(flow.flow).target_kind, TargetKind::Pod { .. }) || tried >= proof.window().attempts as usize,
                    "{tried} attempts while it was there, {} claimed", proof.window().attempts
                );
            }
        }
    }
}

fn life() -> impl Strategy<Value = (i64, i64)> {
    (0_i64..4_000_000, 16_000_000_i64..30_000_000).prop_map(|(from, length)| (from, from + length))
}
