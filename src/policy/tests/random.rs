//! Random inventories: predictor and explainer, which share only the reading of policies, must give
//! the same answer for every flow.

use super::{cluster, with_cluster};
use crate::inventory::Inventory;
use crate::model::{Family, Port, Transport};
use crate::policy::{
    Comparison, Differences, Direction, EndpointRef, Explainer, Explanation, MatchedPolicy,
    PolicyName, PolicyStep, Predictor, Selects, Side,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn pod_selector() -> impl Strategy<Value = Value> {
    let app = prop_oneof![Just("web"), Just("api"), Just("db")];
    prop_oneof![
        Just(json!({})),
        app.clone().prop_map(|app| json!({ "matchLabels": { "app": app } })),
        (app, prop_oneof![Just("In"), Just("NotIn")]).prop_map(
            |(app, operator)| json!({ "matchExpressions": [{ "key": "app", "operator": operator, "values": [app] }] })
        ),
        prop_oneof![Just("Exists"), Just("DoesNotExist")]
            .prop_map(|operator| json!({ "matchExpressions": [{ "key": "tier", "operator": operator }] })),
    ]
}

fn namespace_selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        prop_oneof![Just("a"), Just("b")]
            .prop_map(|team| json!({ "matchLabels": { "team": team } })),
        Just(json!({ "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }] })),
    ]
}

fn block() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "cidr": "0.0.0.0/0" })),
        Just(json!({ "cidr": "0.0.0.0/0", "except": ["10.0.0.0/30"] })),
        Just(json!({ "cidr": "10.0.0.0/29" })),
        Just(json!({ "cidr": "fd00::/16" })),
        Just(json!({ "cidr": "203.0.113.0/24", "except": ["203.0.113.64/26"] })),
        Just(json!({ "cidr": "192.0.2.1/32" })),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        pod_selector().prop_map(|pods| json!({ "podSelector": pods })),
        namespace_selector().prop_map(|namespaces| json!({ "namespaceSelector": namespaces })),
        (namespace_selector(), pod_selector()).prop_map(
            |(namespaces, pods)| json!({ "namespaceSelector": namespaces, "podSelector": pods })
        ),
        block().prop_map(|block| json!({ "ipBlock": block })),
    ]
}

fn ports() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({ "port": "http" })),
        Just(json!({ "protocol": "UDP", "port": "dns" })),
        Just(json!({ "port": 80 })),
        Just(json!({ "port": 79, "endPort": 81 })),
        Just(json!({ "port": 80, "endPort": 8081 })),
        Just(json!({ "protocol": "UDP" })),
    ]
}

fn spec() -> impl Strategy<Value = (&'static str, Value)> {
    let namespace = prop_oneof![Just("shop"), Just("data"), Just("other")];
    let types = prop_oneof![
        Just(json!([])),
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    let rules = |key: &'static str| {
        let rule = (
            proptest::collection::vec(peer(), 0..3),
            proptest::collection::vec(ports(), 0..3),
        );
        proptest::collection::vec(
            rule.prop_map(move |(peers, ports)| json!({ key: peers, "ports": ports })),
            0..3,
        )
    };
    (namespace, pod_selector(), types, rules("from"), rules("to")).prop_map(
        |(namespace, pods, types, ingress, egress)| {
            (namespace, json!({ "podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress }))
        },
    )
}

/// A subject or peer of a cluster-wide policy that selects pods.
fn pod_scope() -> impl Strategy<Value = Value> {
    prop_oneof![
        namespace_selector().prop_map(|namespaces| json!({ "namespaces": namespaces })),
        (namespace_selector(), pod_selector()).prop_map(
            |(namespaces, pods)| json!({ "pods": { "namespaceSelector": namespaces, "podSelector": pods } })
        ),
    ]
}

fn cluster_spec() -> impl Strategy<Value = Value> {
    let outside = prop_oneof![
        pod_scope(),
        Just(json!({ "networks": ["10.0.0.0/29", "203.0.113.0/24"] })),
        Just(json!({ "networks": ["::/0"] })),
        Just(json!({ "nodes": {} })),
        Just(json!({ "satellites": {} })),
    ];
    let protocol = prop_oneof![
        Just(json!({ "tcp": { "destinationPort": { "number": 80 } } })),
        Just(json!({ "udp": { "destinationPort": { "range": { "start": 50, "end": 60 } } } })),
        Just(json!({ "destinationNamedPort": "http" })),
    ];
    let action = prop_oneof![Just("Accept"), Just("Deny"), Just("Pass")];
    let with_ports = move |mut rule: Value, protocols: &[Value]| {
        if !protocols.is_empty() {
            rule["protocols"] = json!(protocols);
        }
        rule
    };
    let protocols = proptest::collection::vec(protocol, 0..3);
    let ingress = (
        action.clone(),
        proptest::collection::vec(pod_scope(), 1..3),
        protocols.clone(),
    )
        .prop_map(move |(action, from, ports)| {
            with_ports(json!({ "action": action, "from": from }), &ports)
        });
    let egress = (action, proptest::collection::vec(outside, 1..3), protocols).prop_map(
        move |(action, to, ports)| with_ports(json!({ "action": action, "to": to }), &ports),
    );

    let tier = prop_oneof![Just("Admin"), Just("Baseline")];
    let lists = (
        proptest::collection::vec(ingress, 0..3),
        proptest::collection::vec(egress, 0..3),
    );
    (tier, 0..3, pod_scope(), lists).prop_map(|(tier, priority, subject, (ingress, egress))| {
        json!({ "tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress })
    })
}

fn any_world() -> impl Strategy<Value = Inventory> {
    (
        proptest::collection::vec(spec(), 0..5),
        proptest::collection::vec(cluster_spec(), 0..3),
    )
        .prop_map(|(policies, of_cluster)| {
            let cluster_policies = of_cluster
                .iter()
                .enumerate()
                .map(|(number, spec)| cluster(&format!("c{number}"), spec))
                .collect();
            with_cluster(&policies, cluster_policies)
        })
}

/// The policies that match a flow, with direction and the numbers of the matching rules, from 1.
type Matches = Vec<(PolicyName, Direction, Vec<usize>)>;

fn matches_by_name(explainer: &Explainer<'_>, matched: &[MatchedPolicy]) -> Matches {
    let policies: Vec<(&PolicyName, Direction)> = explainer
        .rules()
        .map(|(name, direction, _)| (name, direction))
        .collect();
    matched
        .iter()
        .map(|matched| {
            let (name, direction) = policies[matched.policy];
            let rules = matched.rules.iter().map(|rule| rule + 1).collect();
            (name.clone(), direction, rules)
        })
        .collect()
}

/// The same according to an explanation.
fn explained_matches(explanation: &Explanation) -> Matches {
    explanation.sides.iter().flat_map(side_matches).collect()
}

fn side_matches(side: &Side) -> Matches {
    side.policies
        .iter()
        .filter(|step| step.selects == Selects::Yes)
        .map(|step| (step.policy.clone(), side.direction, matching_rules(step)))
        .collect()
}

fn matching_rules(step: &PolicyStep) -> Vec<usize> {
    step.rules
        .iter()
        .filter(|rule| rule.peer.holds && rule.port.holds)
        .map(|rule| rule.number)
        .collect()
}

/// Whether an endpoint can be in a flow of a family.
fn has_family(endpoint: &EndpointRef<'_>, family: Family) -> bool {
    match endpoint {
        EndpointRef::Address(address) => Family::of(*address) == family,
        EndpointRef::Pod(_) | EndpointRef::ServicePod(_) | EndpointRef::Node(_) => true,
    }
}

/// Whether an endpoint is a pod with an identity, so that policies select it.
fn is_selectable_pod(inventory: &Inventory, endpoint: EndpointRef<'_>) -> bool {
    matches!(endpoint, EndpointRef::Pod(pod) if !inventory.pods[pod].host_network)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn predictor_and_explainer_agree_on_every_flow(inventory in any_world()) {
        let outside = ["203.0.113.1", "203.0.113.65", "198.51.100.1", "2001:db8::1"].map(|text| EndpointRef::Address(super::address(text)));
        let ends: Vec<EndpointRef<'_>> = (0..inventory.pods.len()).map(EndpointRef::Pod).chain([EndpointRef::Node("n1"), EndpointRef::Node("n2")]).chain(outside).collect();
        let mut predictor = Predictor::new(&inventory).expect("valid");
        let explainer = Explainer::new(&inventory).expect("valid");
        for from in &ends {
            for to in ends.iter().chain(&[EndpointRef::ServicePod(0), EndpointRef::ServicePod(5)]) {
                for family in Family::ALL {
                    if !has_family(from, family) || !has_family(to, family) || matches!((from, to), (EndpointRef::Address(_), EndpointRef::Address(_))) {
                        continue;
                    }
                    let set = predictor.allowed(*from, *to, family);
                    for (number, transport) in [(79, Transport::Tcp), (80, Transport::Tcp), (5432, Transport::Tcp), (8080, Transport::Tcp), (53, Transport::Udp), (9, Transport::Sctp)] {
                        let port = Port::new(number, transport).expect("a port");
                        let explanation = explainer.explain(*from, *to, port, Some(family));
                        prop_assert_eq!(explanation.allowed, set.contains(port), "{:?} -> {:?}:{} over {}: {:#?}", from, to, port, family, explanation);
                        prop_assert!(explanation.beyond_policies.is_some() || explanation.sides.len() == 2);
                        let matched = predictor.matched_policies(*from, *to, port, family);
                        prop_assert_eq!(matches_by_name(&explainer, &matched), explained_matches(&explanation), "{:?} -> {:?}:{} over {}: {:#?}", from, to, port, family, explanation);
                    }
                }
            }
        }
    }

    /// Each suggested change also gives the opposite answer in the predictor, which has no part in
    /// finding it; and between pods to which only NetworkPolicies apply, there is always a change.
    #[test]
    fn every_suggested_change_gives_the_opposite_answer(inventory in any_world(), port in prop_oneof![Just(80_u16), Just(8080), Just(5432)]) {
        let outside = ["203.0.113.1", "2001:db8::1"].map(|text| EndpointRef::Address(super::address(text)));
        let ends: Vec<EndpointRef<'_>> = (0..inventory.pods.len()).map(EndpointRef::Pod).chain([EndpointRef::Node("n1")]).chain(outside).collect();
        let explainer = Explainer::new(&inventory).expect("valid");
        let port = Port::new(port, Transport::Tcp).expect("a port");
        for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (*from, *to))) {
            let family = [from, to].iter().find_map(|end| match end {
                EndpointRef::Address(address) => Some(Family::of(*address)),
                EndpointRef::Pod(_) | EndpointRef::ServicePod(_) | EndpointRef::Node(_) => None,
            });
            let family = family.unwrap_or(Family::V4);
            if !has_family(&from, family) || !has_family(&to, family) {
                continue;
            }
            let explanation = explainer.advise(from, to, port, Some(family));
            if inventory.cluster_policies().next().is_none() && is_selectable_pod(&inventory, from) && is_selectable_pod(&inventory, to) && explanation.beyond_policies.is_none() {
                prop_assert!(!explanation.changes.is_empty(), "no change for {explanation:#?}");
            }
            for change in &explanation.changes {
                let (edited, rules) = explainer.apply(change);
                let allowed = Predictor::with(&edited, &rules).allowed(from, to, family).contains(port);
                prop_assert_eq!(allowed, !explanation.allowed, "{} does not change the answer of {:#?}", change.text, explanation);
            }
        }
    }

    #[test]
    fn maps_have_no_empty_links_and_no_changes_to_themselves(inventory in any_world()) {
        let mut predictor = Predictor::new(&inventory).expect("valid");
        for link in predictor.all_links() {
            prop_assert!(!link.ports.is_empty() && link.unknown.is_empty());
        }
        let mut again = Predictor::new(&inventory).expect("valid");
        let differences = Comparison::new(&mut predictor, &mut again).differences(None, None);
        prop_assert_eq!(differences, Differences::default());
        let open = predictor.count_open_pairs();
        prop_assert!(open <= predictor.identities() * predictor.identities());
    }
}
