//! A Service whose pods are on two nodes, which no policy lets anybody reach: when its deny is
//! proven.

use super::timelines::{crooked, fold, straight};
use proptest::prelude::*;
use watertight::backend::lab::{Layout, World};
use watertight::inventory::read_manifests;
use watertight::plan::{
    BackendProperties, ControlEndpoints, FlowId, NodeEndpoint, Plan, ReferencePodAddress,
    Selection, Source, TargetKind, resolve,
};
use watertight::source::Sources;
use watertight::suite;
use watertight::verdict::{FlowVerdict, Reason, judge};

/// a and b1 on node-1, b2 on node-2; Service s leads to b1 and b2. The target's port has a name of
/// its own on each pod.
const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b1, namespace: n, labels: {app: b}}, spec: {nodeName: node-1, containers: [{name: c, image: c, ports: [{name: web, containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b2, namespace: n, labels: {app: b}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{name: web, containerPort: 8081}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}, spec: {clusterIP: 10.96.0.7, selector: {app: b}, ports: [{port: 80, targetPort: web}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 53}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{port: 53}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: all, namespace: n}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}}
";

/// As a cluster has it: witnesses are pods like others.
fn plan(manifests: &str) -> Plan {
    let mut sources = Sources::new();
    let file = sources.add("m.yaml", manifests);
    let (manifests, problems) = read_manifests(&[file], &sources);
    assert!(problems.is_empty(), "{}", problems.render_compact(&sources));
    let text = "{apiVersion: watertight.dev/v1, kind: Suite, metadata: {name: t}, spec: {endpoints: {s: {namespace: n, service: s}}, expect: [\"n/Pod/a -> s:80 denied\"]}}";
    let file = sources.add("s.yaml", text);
    let (suites, problems) = suite::read(&[file], &sources);
    assert!(
        !problems.has_errors(),
        "{}",
        problems.render_compact(&sources)
    );
    let world = World::place(&manifests, &[], Layout::default()).expect("a world");
    let reference_pod = |node: &str, address: &str| ReferencePodAddress {
        node: node.into(),
        addresses: vec![address.parse().expect("an address")],
        port: 65_533,
    };
    let control_endpoints = ControlEndpoints {
        on_pods: Some(65_533),
        on_nodes: Some(NodeEndpoint::Handshake(10_250)),
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

/// What the network does to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// The denied one: the source's to the Service or to a pod of it.
    Denied,
    /// From the node of this number through the Service.
    Through(u8),
    /// From its own node to the pod of this number.
    Backend(u8),
    /// A stranger's, which the policy stops.
    Stopped,
    /// Everything else: it opens.
    Open,
}

fn what(plan: &Plan, id: FlowId) -> Is {
    let flow = plan.flow(id);
    if plan.checks()[0].flows.contains(&id) {
        return Is::Denied;
    }
    let node = match plan.source(flow.probe) {
        Source::Node { name } => name.strip_prefix("node-").and_then(|n| n.parse().ok()),
        Source::Pod { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    };
    match (&*flow.target_kind, node) {
        (TargetKind::Service { service, .. }, Some(node)) if service.name == "s" => {
            Is::Through(node)
        }
        (TargetKind::Service { service, .. }, None) if service.name == "s" => Is::Stopped,
        (TargetKind::Pod { name, .. }, Some(node))
            if *name == format!("b{node}") && flow.to.port > 80 && flow.to.port < 9_000 =>
        {
            Is::Backend(node)
        }
        (TargetKind::Pod { name, .. }, _) if name.starts_with('b') => Is::Stopped,
        _ => Is::Open,
    }
}

/// Somebody gets through the Service at any time: the nodes by turns, as chance may have it.
fn by_turns(node: u8, at: i64) -> bool {
    (at / 500_000 + i64::from(node)) % 2 == 0
}

const UNTIL: i64 = 20_000_000;

/// What is said of the flow to the Service: its pods have flows of their own, which would hide it.
fn run(opens: impl Fn(Is, i64) -> bool) -> FlowVerdict {
    let plan = plan(MANIFESTS);
    let fold = fold(&plan, &[straight(true)], UNTIL, |flow, at| {
        opens(what(&plan, flow), at)
    });
    let judgement = judge(&plan, &plan.checks()[0], &fold.evidence);
    let mut of_service = judgement
        .flows
        .into_iter()
        .filter(|flow| plan.flow(flow.flow).to.port == 80);
    of_service.next().expect("a flow to the Service").verdict
}

/// As it should be.
fn sound(is: Is, at: i64) -> bool {
    match is {
        Is::Denied | Is::Stopped => false,
        Is::Through(node) => by_turns(node, at),
        Is::Backend(_) | Is::Open => true,
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
fn nodes_that_get_through_now_and_then_and_pods_that_always_answer_prove_it() {
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
fn service_that_leads_nowhere_is_not_denied() {
    let verdict = run(|is, at| !matches!(is, Is::Through(_)) && sound(is, at));
    assert_eq!(
        reason(&verdict),
        Some(Reason::NoControlAnswered),
        "{verdict:?}"
    );
}

#[test]
fn service_with_a_dead_pod_is_not_denied() {
    for dead in [1, 2] {
        let verdict = run(|is, at| is != Is::Backend(dead) && sound(is, at));
        assert!(reason(&verdict).is_some(), "b{dead}: {verdict:?}");
        let verdict = run(|is, at| !(is == Is::Backend(dead) && at > 10_000_000) && sound(is, at));
        assert!(
            reason(&verdict).is_some(),
            "b{dead} after 10 s: {verdict:?}"
        );
        let fails_once = |at: i64| (10_000_000..10_600_000).contains(&at);
        let verdict = run(|is, at| !(is == Is::Backend(dead) && fails_once(at)) && sound(is, at));
        assert!(
            reason(&verdict).is_some(),
            "b{dead} once in the middle: {verdict:?}"
        );
    }
}

#[test]
fn service_that_nobody_gets_through_to_for_longer_than_two_seconds_is_not_denied() {
    let gone = |at: i64| (10_000_000..12_600_000).contains(&at);
    let verdict = run(|is, at| !(matches!(is, Is::Through(_)) && gone(at)) && sound(is, at));
    assert!(reason(&verdict).is_some(), "{verdict:?}");
}

#[test]
fn service_that_the_source_s_own_node_does_not_know_is_not_denied() {
    let verdict = run(|is, at| is == Is::Through(2) || (is != Is::Through(1) && sound(is, at)));
    assert_eq!(
        reason(&verdict),
        Some(Reason::NoControlAnswered),
        "{verdict:?}"
    );
}

#[test]
fn service_that_opens_once_is_violated() {
    let verdict = run(|is, at| (is == Is::Denied && at > 15_000_000) || sound(is, at));
    assert!(matches!(verdict, FlowVerdict::Violated(_)), "{verdict:?}");
}

#[test]
fn service_without_pods_or_with_a_pod_that_cannot_be_dialled_has_no_such_control() {
    assert_eq!(plan(MANIFESTS).composites().len(), 1);
    let unlabelled = plan(&MANIFESTS.replace(
        "selector: {app: b}, ports",
        "selector: {app: nobody}, ports",
    ));
    assert!(unlabelled.composites().is_empty());
    let without_the_port =
        plan(&MANIFESTS.replace("name: web, containerPort: 8081", "containerPort: 8081"));
    assert!(
        without_the_port.composites().is_empty(),
        "the Service does not lead to b2, and nobody knows why"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The Service leads somewhere for some time only, and each pod lives for some time only: what
    /// is proven to be denied was tried at least six times while all of that held, whatever the
    /// clocks are.
    #[test]
    fn no_clock_makes_a_service_that_leads_nowhere_a_denied_one(
        clocks in prop::collection::vec(crooked(), 1..5),
        (leads, first, second) in (life(), life(), life()),
    ) {
        let plan = plan(MANIFESTS);
        let check = &plan.checks()[0];
        let fold = fold(&plan, &clocks, UNTIL, |flow, at| match what(&plan, flow) {
            Is::Denied | Is::Stopped => false,
            Is::Through(node) => leads.0 <= at && at < leads.1 && by_turns(node, at),
            Is::Backend(1) => first.0 <= at && at < first.1,
            Is::Backend(_) => second.0 <= at && at < second.1,
            Is::Open => true,
        });
        let from = leads.0.max(first.0).max(second.0);
        let to = leads.1.min(first.1).min(second.1);
        for flow in &judge(&plan, check, &fold.evidence).flows {
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
