//! Drafted suites: whatever the world, they are valid, and the policies contradict none of their
//! lines.

use crate::{generate, worlds};
use proptest::prelude::*;
use watertight::app::{outside_hosts, plan_in};
use watertight::backend::lab::{Layout, World, usable_outside};
use watertight::inventory::{Manifests, load_manifests};
use watertight::plan::{
    BackendKind, Check, DraftError, DraftOptions, Plan, Provability, Selection, draft, survey,
};
use watertight::source::Sources;
use watertight::suite::{self, Expected, Suite};

/// The draft, read again and planned in the world of the same manifests.
fn planned(manifests: &Manifests) -> Result<(String, Plan), DraftError> {
    let world = worlds::place(manifests, &[]);
    let text = draft(
        world.inventory(),
        BackendKind::Lab,
        &options(),
        usable_outside,
        &mut |_, _| {},
    )?;
    let again = draft(
        world.inventory(),
        BackendKind::Lab,
        &options(),
        usable_outside,
        &mut |_, _| {},
    )?;

    assert_eq!(text, again, "the same world has the same draft");
    let suites = read(&text);
    let world = worlds::place(manifests, &outside_hosts(&suites));
    let plan = plan_in(&world, &suites, &Selection::default())
        .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    assert_surveyed(&world, &suites, &plan);
    Ok((text, plan))
}

/// Asserts that a survey gives the checks of a plan, with the same predictions.
fn assert_surveyed(world: &World, suites: &[Suite], plan: &Plan) {
    let mut planned = plan.checks().iter();
    let mut each = |check: &Check| {
        let other = planned.next().expect("a check of the plan");
        assert_eq!(check.name, other.name);
        assert_eq!(check.prediction, other.prediction, "{}", check.name);
        // A plan adds what it sweeps to the text.
        let kind = |check: &Check| std::mem::discriminant(&check.provability);
        assert_eq!(kind(check), kind(other), "{}", check.name);
    };
    let surveyed = survey(suites, world.inventory(), &world.properties(), &mut each);
    assert_eq!(surveyed, Ok(()));
    assert_eq!(planned.next().map(|check| &check.name), None);
}

/// What is swept makes a suite provable, and its flows are none of a later suite's.
#[test]
fn suite_that_only_sweeps_is_surveyed_beside_others() {
    let deployment = |name: &str, replicas: u8, port: u16| {
        format!(
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: shop}}, spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: {port}}}]}}]}}}}}}}}\n"
        )
    };
    let text = deployment("a", 1, 80) + &deployment("b", 3, 8_080) + &deployment("c", 1, 80);
    let closed = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: c, namespace: shop}, spec: {podSelector: {matchLabels: {app: c}}, policyTypes: [Ingress]}}\n";
    let manifests = worlds::manifests(text + closed);
    let world = World::place(&manifests, &[], Layout::default()).expect("a world");
    let suite = |name: &str, lines: &str| {
        worlds::suites(format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: {name}}}\nspec:\n  endpoints:\n    a: {{namespace: shop, workload: Deployment/a}}\n    b: {{namespace: shop, workload: Deployment/b}}\n    c: {{namespace: shop, workload: Deployment/c}}\n  expect: [{lines}]\n"
        ))
    };
    let swept = suite("swept", "'a -> b:9000-9001 denied'");
    let others = suite("others", "'c -> a:80 allowed', 'a -> c:80 denied'");
    for suites in [swept.clone(), [swept, others].concat()] {
        let plan = plan_in(&world, &suites, &Selection::default()).expect("a plan");
        assert_eq!(plan.swept().len(), 2);
        assert_surveyed(&world, &suites, &plan);
    }
}

fn options() -> DraftOptions {
    DraftOptions {
        name: "drafted".to_owned(),
        ..DraftOptions::default()
    }
}

fn read(text: &str) -> Vec<Suite> {
    let mut sources = Sources::new();
    let file = sources.add("drafted.yaml", text);
    let (suites, diagnostics) = suite::read(&[file], &sources);
    assert!(diagnostics.is_empty(), "{diagnostics:?}\n{text}");
    suites
}

/// Whether a check stands for ports that nothing declares: none of them can be drafted as a line.
fn is_of_unknown_ports(check: &Check) -> bool {
    match check.provability {
        Provability::PoliciesAdmitMore(_) => true,
        Provability::Unprovable(_) => check.target.ends_with(":*"),
        Provability::Provable
        | Provability::MatchesNothing(_)
        | Provability::AddressUnknown(_)
        | Provability::NothingReady(_)
        | Provability::Incomplete(_) => false,
    }
}

/// Asserts that every check of known ports has the expected prediction and can be proven.
#[track_caller]
fn assert_predicted(text: &str, plan: &Plan) {
    for check in plan
        .checks()
        .iter()
        .filter(|check| !is_of_unknown_ports(check))
    {
        assert_eq!(
            check.provability,
            Provability::Provable,
            "{}\n{text}",
            check.name
        );
        if check.prediction_unknown.is_some() {
            // The draft says what happens in the lab; elsewhere it depends on the pods' addresses.
            continue;
        }
        let answer = check
            .prediction
            .as_ref()
            .and_then(|prediction| prediction.answer);
        assert_eq!(
            answer,
            Some(check.expected),
            "{}\n{:?}\n{text}",
            check.name,
            check.contradiction()
        );
    }
}

fn count(plan: &Plan, expected: Expected) -> usize {
    plan.checks()
        .iter()
        .filter(|check| check.expected == expected)
        .count()
}

#[test]
fn drafts_of_all_examples_agree_with_their_policies() {
    let mut folders = 0;
    for entry in std::fs::read_dir("suites").expect("the examples") {
        let folder = entry.expect("an entry").path().join("manifests");
        if !folder.is_dir() {
            continue;
        }
        folders += 1;
        let name = folder.to_string_lossy().into_owned();
        let (manifests, diagnostics) = load_manifests(&[name], &mut Sources::new());
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let (text, plan) = planned(&manifests).expect("a draft");
        assert_predicted(&text, &plan);
        // A draft that only allows, or only denies, would say nothing of these.
        assert!(
            count(&plan, Expected::Allowed) > 3 && count(&plan, Expected::Denied) > 10,
            "{text}"
        );
        assert!(text.contains("everythingElse: denied"), "{text}");
    }

    assert!(folders >= 3, "{folders} examples with manifests");
}

/// The shop, with policies of its data from this file or folder.
fn shop_with(policies: &str) -> Manifests {
    let files =
        ["shop", "data", "policies-shop"].map(|name| format!("suites/shop/manifests/{name}.yaml"));
    let files: Vec<String> = files.into_iter().chain([policies.to_owned()]).collect();
    let (manifests, diagnostics) = load_manifests(&files, &mut Sources::new());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    manifests
}

#[test]
fn draft_after_a_policy_mistake_contradicts_the_draft_before() {
    let (whole, _) =
        planned(&shop_with("suites/shop/manifests/policies-data.yaml")).expect("a draft");
    assert!(whole.contains("- web -> postgres denied"), "{whole}");
    assert!(
        whole.contains("alone: egress rule 2 of NetworkPolicy shop/web would let it through"),
        "{whole}"
    );
    let broken = shop_with("suites/shop/mistake");
    let (text, plan) = planned(&broken).expect("a draft");
    assert_predicted(&text, &plan);
    assert!(text.contains("- \"* -> postgres allowed\""), "{text}");
    // What was drafted before is contradicted now: a draft that expected anything at all would be
    // noticed.
    let suites = read(&whole);
    let world = worlds::place(&broken, &outside_hosts(&suites));
    let plan = plan_in(&world, &suites, &Selection::default()).expect("a plan");
    let contradicted: Vec<&str> = plan
        .checks()
        .iter()
        .filter(|check| check.contradiction().is_some())
        .map(|check| check.name.as_str())
        .collect();

    assert!(
        contradicted.contains(&"web -> postgres:5432 denied"),
        "{contradicted:?}"
    );
}

#[test]
fn draft_of_a_world_without_pods_is_an_error() {
    let world = worlds::place(&Manifests::default(), &[]);
    let mut inventory = world.inventory().clone();
    inventory.pods.clear();
    let error = draft(
        &inventory,
        BackendKind::Lab,
        &options(),
        usable_outside,
        &mut |_, _| {},
    )
    .expect_err("there is no pod");
    assert_eq!(error, DraftError::NoWorkload);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn drafts_of_generated_worlds_agree_with_their_policies(sketch in generate::world()) {
        let manifests = worlds::manifests(sketch.manifests());
        let (text, plan) = planned(&manifests).expect("a draft");
        assert_predicted(&text, &plan);
    }
}

/// Workloads in namespaces of ten, one in three of each tier, with a Service and two pods each.
fn workloads(number: usize) -> String {
    let tiers = ["web", "api", "db"];
    (0..number)
        .map(|n| {
            let (namespace, tier) = (n / 10, tiers[n % 3]);
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: w{n}, namespace: ns{namespace}}}, spec: {{replicas: 2, \
                 selector: {{matchLabels: {{app: w{n}}}}}, template: {{metadata: {{labels: {{app: w{n}, tier: {tier}}}}}, \
                 spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}}}}}}}\n---\n\
                 {{apiVersion: v1, kind: Service, metadata: {{name: w{n}, namespace: ns{namespace}}}, \
                 spec: {{selector: {{app: w{n}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n"
            )
        })
        .collect()
}

/// A policy of each namespace: pods of a tier are reached by those of the tier before it alone.
fn policies_by_tier(namespaces: usize) -> String {
    let rule = |namespace: usize, from: &str, to: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {to}, namespace: ns{namespace}}}, \
             spec: {{podSelector: {{matchLabels: {{tier: {to}}}}}, policyTypes: [Ingress], \
             ingress: [{{from: [{{podSelector: {{matchLabels: {{tier: {from}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n---\n"
        )
    };
    (0..namespaces)
        .map(|namespace| rule(namespace, "web", "api") + &rule(namespace, "api", "db"))
        .collect()
}

/// A policy of each workload, which only the next one reaches.
fn policies_by_workload(number: usize) -> String {
    (0..number)
        .map(|n| {
            let (namespace, next) = (n / 10, n / 10 * 10 + (n + 1) % 10);
            format!(
                "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: w{n}, namespace: ns{namespace}}}, \
                 spec: {{podSelector: {{matchLabels: {{app: w{n}}}}}, policyTypes: [Ingress], \
                 ingress: [{{from: [{{podSelector: {{matchLabels: {{app: w{next}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n---\n"
            )
        })
        .collect()
}

#[test]
fn workloads_that_are_equal_to_policies_are_one_group() {
    let text = workloads(20) + &policies_by_tier(2);
    let (text, plan) = planned(&worlds::manifests(text)).expect("a draft");
    assert_predicted(&text, &plan);
    for group in ["like-w0: [w0, w3, w6, w9]", "like-w11: [w11, w14, w17]"] {
        assert!(text.contains(group), "{group} is not in:\n{text}");
    }
    assert!(text.contains("- like-w0 -> like-w1 allowed"), "{text}");
    assert!(
        text.contains("- w0, w3, w6, w9 -> w0, w3, w6, w9 allowed"),
        "{text}"
    );

    // Members of one group are a pair too, and each is one with itself.
    let expected = |name: &str| {
        let mut checks = plan.checks().iter();
        checks
            .find(|check| check.name.starts_with(name))
            .map(|check| check.expected)
    };
    assert_eq!(expected("w0 -> w3:"), Some(Expected::Allowed), "{text}");
    assert_eq!(expected("w0 -> w0:"), Some(Expected::Allowed), "{text}");
    assert_eq!(expected("w1 -> w4:"), Some(Expected::Denied), "{text}");
    assert_eq!(expected("w1 -> w1:"), Some(Expected::Denied), "{text}");
}

#[test]
fn draft_of_many_different_workloads_has_two_lines_of_each() {
    const WORKLOADS: usize = 70;

    let no_egress = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: no-egress, namespace: ns6}, \
                     spec: {podSelector: {matchLabels: {app: w69}}, policyTypes: [Egress]}}\n";
    let text = workloads(WORKLOADS) + &policies_by_workload(WORKLOADS) + no_egress;
    let (text, plan) = planned(&worlds::manifests(text)).expect("a draft");
    assert_predicted(&text, &plan);
    // Each is reached by one other and asks cluster DNS at two ports, which also asks itself; one
    // sends nothing.
    assert_eq!(count(&plan, Expected::Allowed), WORKLOADS * 3 - 1, "{text}");
    assert!(
        text.contains("# - w69 -> metadata, elsewhere denied"),
        "{text}"
    );
    let lines = text.lines().count();
    assert!(lines < 2 * WORKLOADS + 40, "{lines} lines:\n{text}");
    assert!(
        text.contains("- w1 -> w0 allowed   # by ingress rule 1 of NetworkPolicy ns0/w0"),
        "{text}"
    );
}
