//! Hosts outside: whose addresses are not given, and what policies tell apart among addresses.

use crate::worlds;
use std::net::IpAddr;
use watertight::app::outside_hosts;
use watertight::backend::lab::{Layout, World};
use watertight::plan::{
    BackendKind, BackendProperties, Check, Plan, Provability, Selection, resolve,
};
use watertight::suite::Suite;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n', labels: {app: a}}, \
     spec: {containers: [{name: c, image: c}]}}\n";

/// An endpoint of the suite whose addresses are not given.
const NO_ADDRESS: &str = "host: pay.example";

fn network_policy(egress: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: 'n'}}, \
         spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{egress}]}}}}\n"
    )
}

fn cluster_policy(tier: &str, egress: &str) -> String {
    format!(
        "---\n{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: p}}, \
         spec: {{tier: {tier}, priority: 1, subject: {{namespaces: {{}}}}, egress: [{egress}]}}}}\n"
    )
}

fn suites(pay: &str, line: &str) -> Vec<Suite> {
    worlds::suites(format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: t}}\nspec:\n  endpoints:\n    \
         a: {{ namespace: 'n', workload: Pod/a }}\n    pay: {{ {pay} }}\n  expect: [\"{line}\"]\n"
    ))
}

fn planned(policies: &str, pay: &str, line: &str) -> Plan {
    let suites = suites(pay, line);
    let manifests = worlds::manifests(format!("{POD}{policies}"));
    let world =
        World::place(&manifests, &outside_hosts(&suites), Layout::dual_stack()).expect("a world");
    resolve(
        &suites,
        world.inventory(),
        &world.properties(),
        &Selection::default(),
    )
    .expect("a plan")
}

fn is_unknown(check: &Check) -> bool {
    let is_unknown = matches!(check.provability, Provability::AddressUnknown(_));
    if is_unknown {
        assert!(check.flows.is_empty() && check.prediction.is_none());
    }
    is_unknown
}

#[test]
fn host_without_address_is_unknown_where_a_policy_of_the_source_tells_addresses_apart() {
    let network = |to: &str| network_policy(&format!("{{to: [{to}]}}"));
    let both = "{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}";
    let deny = |to: &str| format!("{{name: r, action: Deny, to: [{to}]}}");
    let cases = [
        (String::new(), false),
        (network_policy(""), false),
        (network_policy("{}"), false),
        (network("{namespaceSelector: {}}"), false),
        (network(both), false),
        (network("{ipBlock: {cidr: 203.0.113.10/32}}"), true),
        (
            network(
                "{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: '::/0'}}",
            ),
            true,
        ),
        (network("{ipBlock: {cidr: 0.0.0.0/0}}"), true),
        (
            cluster_policy("Admin", &deny("{networks: [198.51.100.0/24]}")),
            true,
        ),
        (
            cluster_policy("Baseline", &deny("{networks: ['2001:db8::/32']}")),
            true,
        ),
        (
            cluster_policy("Admin", &deny("{networks: [0.0.0.0/0, '::/0']}")),
            false,
        ),
        (cluster_policy("Baseline", &deny("{namespaces: {}}")), false),
    ];
    for (policies, expected) in cases {
        for verdict in ["allowed", "denied"] {
            let plan = planned(&policies, NO_ADDRESS, &format!("a -> pay:443 {verdict}"));
            assert_eq!(is_unknown(&plan.checks()[0]), expected, "{policies}");
        }
    }
}

#[test]
fn host_without_address_is_known_where_policies_of_others_alone_tell_addresses_apart() {
    let of_others = network_policy("{to: [{ipBlock: {cidr: 203.0.113.10/32}}]}")
        .replace("podSelector: {}", "podSelector: {matchLabels: {app: b}}");
    let plan = planned(&of_others, NO_ADDRESS, "a -> pay:443 allowed");
    assert!(!is_unknown(&plan.checks()[0]));
    let invented = plan.notes().iter().find(|note| note.contains("invented"));
    assert!(invented.is_some(), "{:?}", plan.notes());
}

#[test]
fn host_with_given_addresses_is_dialled_at_these_alone() {
    let admits = network_policy("{to: [{ipBlock: {cidr: 198.51.100.7/32}}], ports: [{port: 443}]}");
    let pay = "host: pay.example, ip: [198.51.100.7]";
    let plan = planned(&admits, pay, "a -> pay:443 denied");

    let check = &plan.checks()[0];
    assert!(!is_unknown(check));
    let given: IpAddr = "198.51.100.7".parse().unwrap();
    assert!(
        check
            .flows
            .iter()
            .all(|flow| plan.flow(*flow).to.address == given)
    );
    assert!(check.contradiction().is_some(), "the policy admits it");
}

#[test]
fn denied_address_that_is_set_aside_is_noted_in_a_cluster_alone() {
    let suites = suites("ip: 203.0.113.66", "a -> pay:443 denied");
    let world = World::place(
        &worlds::manifests(POD),
        &outside_hosts(&suites),
        Layout::dual_stack(),
    )
    .unwrap();
    let is_noted = |kind: BackendKind| {
        let properties = BackendProperties {
            kind,
            ..world.properties()
        };
        let plan = resolve(
            &suites,
            world.inventory(),
            &properties,
            &Selection::default(),
        )
        .unwrap();
        assert_eq!(plan.checks()[0].provability, Provability::Provable);
        plan.notes().iter().any(|note| note.contains("RFC 5737"))
    };
    assert!(is_noted(BackendKind::Cluster) && !is_noted(BackendKind::Lab));
}

#[test]
fn name_that_resolves_to_a_refused_address_is_not_dialled() {
    let suites = suites(NO_ADDRESS, "a -> pay:443, 198.51.100.9:443 denied");
    let manifests = worlds::manifests(POD);
    let world = World::place(&manifests, &outside_hosts(&suites), Layout::dual_stack()).unwrap();
    let mut inventory = world.inventory().clone();
    inventory.invented_hosts.clear();
    inventory
        .hosts
        .insert("pay.example".to_owned(), vec!["0.0.0.0".parse().unwrap()]);

    let plan = resolve(
        &suites,
        &inventory,
        &world.properties(),
        &Selection::default(),
    )
    .unwrap();
    let check = &plan.checks()[0];
    assert!(check.flows.is_empty());
    let Provability::Unprovable(why) = &check.provability else {
        panic!("{:?}", check.provability);
    };
    assert!(why.contains("pay resolves to 0.0.0.0"), "{why}");
}

#[test]
fn advice_names_no_invented_address() {
    let plan = planned(&network_policy(""), NO_ADDRESS, "a -> pay:443 allowed");
    let check = &plan.checks()[0];
    let address = plan.flow(check.flows[0]).to.address.to_string();
    let why = check.contradiction().expect("the policies deny it");
    assert!(!why.contains(&address), "{why}");
}

#[test]
fn host_that_a_policy_admits_by_name_cannot_be_proven() {
    let accept = "{name: r, action: Accept, to: [{domainNames: ['*.example']}]}, \
                  {name: d, action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}";
    let policies = cluster_policy("Admin", accept);
    let pay = "host: pay.example, ip: 198.51.100.7";
    let plan = planned(&policies, pay, "a -> pay:443, 198.51.100.9:443 denied");

    let is_provable: Vec<bool> = plan
        .checks()
        .iter()
        .map(|check| check.provability == Provability::Provable)
        .collect();
    assert_eq!(is_provable, [false, true]);
}

#[test]
fn denied_host_with_more_addresses_than_are_dialled_cannot_be_proven() {
    let list = |count: usize| {
        let addresses: Vec<String> = (1..=count).map(|n| format!("198.51.100.{n}")).collect();
        format!("host: pay.example, ip: [{}]", addresses.join(", "))
    };
    let provability = |count: usize| {
        let line = "a -> pay:443, 203.0.113.1:443 denied";
        let plan = planned(&network_policy(""), &list(count), line);
        plan.checks()[0].provability.clone()
    };
    assert_eq!(provability(32), Provability::Provable);
    let Provability::Unprovable(why) = provability(40) else {
        panic!("provable");
    };
    assert!(why.contains("40 addresses, of which 32 are tried"), "{why}");
}
