//! Coverage: which policies, rules, pairs, pods and nodes checks touch.

use crate::worlds;
use watertight::app::{outside_hosts, plan_in};
use watertight::inventory::load_manifests;
use watertight::plan::{Coverage, Selection};
use watertight::source::Sources;

/// The coverage of lines over the endpoints of the shop.
fn coverage_of(lines: &str) -> Coverage {
    let text = format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: some }}\nspec:\n  endpoints:\n    \
         web: {{ namespace: shop, workload: Deployment/web }}\n    \
         api: {{ namespace: shop, workload: Deployment/api }}\n    \
         postgres: {{ namespace: data, workload: StatefulSet/postgres }}\n    \
         metadata: {{ ip: 169.254.169.254, ports: [80] }}\n{lines}"
    );
    let suites = worlds::suites(text);

    let folder = ["suites/shop/manifests".to_owned()];
    let (manifests, diagnostics) = load_manifests(&folder, &mut Sources::new());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");

    let world = worlds::place(&manifests, &outside_hosts(&suites));
    let plan = plan_in(&world, &suites, &Selection::default()).expect("a plan");
    plan.coverage().cloned().expect("valid policies")
}

/// Whether a rule with this text is touched by no check.
fn is_untouched(coverage: &Coverage, rule: &str) -> bool {
    coverage.rules.left.iter().any(|text| text.contains(rule))
}

#[test]
fn one_line_touches_only_its_pair_rules_and_pods() {
    let coverage = coverage_of("  expect:\n    - web -> api:8080 allowed\n");
    // Three sources of two pods each, and four targets.
    assert_eq!((coverage.pairs.all, coverage.pairs.touched), (12, 1));
    assert!(
        coverage.pairs.left.contains(&"web -> postgres".to_owned()),
        "{:?}",
        coverage.pairs.left
    );
    assert!(
        coverage
            .pairs
            .left
            .contains(&"postgres -> metadata".to_owned()),
        "{:?}",
        coverage.pairs.left
    );
    assert!(
        !coverage.pairs.left.contains(&"web -> api".to_owned()),
        "{:?}",
        coverage.pairs.left
    );
    assert!(
        !is_untouched(&coverage, "rule 1 of NetworkPolicy shop/web")
            && !is_untouched(
                &coverage,
                "rule 1 of NetworkPolicy shop/api (suites/shop/manifests/policies-shop.yaml:34) for Ingress"
            ),
        "{:?}",
        coverage.rules
    );
    assert!(
        is_untouched(&coverage, "rule 2 of NetworkPolicy shop/web")
            && is_untouched(&coverage, "rule 1 of NetworkPolicy data/postgres"),
        "{:?}",
        coverage.rules
    );
    assert!(
        coverage
            .policies
            .left
            .iter()
            .any(|policy| policy.contains("data/postgres")),
        "{:?}",
        coverage.policies
    );
    assert!(
        coverage.pods.left.contains(&"data/postgres-0".to_owned()),
        "{:?}",
        coverage.pods
    );
    assert!(
        !coverage.pods.left.contains(&"shop/api-0".to_owned()),
        "{:?}",
        coverage.pods
    );
}

#[test]
fn policy_counts_once_and_the_labs_own_dns_not_at_all() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: { name: a, namespace: 'n', labels: { app: a } }
spec: { containers: [{ name: c, image: i, ports: [{ containerPort: 80 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: b, namespace: 'n', labels: { app: b } }
spec: { containers: [{ name: c, image: i, ports: [{ containerPort: 80 }] }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: both, namespace: 'n' }
spec: { podSelector: { matchLabels: { app: a } }, policyTypes: [Ingress, Egress] }
";
    let covered = |line: &str| {
        let suites = worlds::suites(format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: s }}\nspec:\n  endpoints:\n    \
             a: {{ namespace: n, workload: Pod/a }}\n    b: {{ namespace: n, workload: Pod/b }}\n  expect: [\"{line}\"]\n"
        ));
        let world = worlds::world(text, &[]);
        let plan = worlds::lab_plan(&world, &suites);
        plan.coverage().cloned().expect("valid policies")
    };

    let one_way = covered("b -> a:80 denied");
    assert_eq!((one_way.policies.all, one_way.policies.touched), (1, 0));
    let left = &one_way.policies.left;
    assert!(
        left[0].starts_with("NetworkPolicy n/both") && left[0].ends_with("for Egress"),
        "{left:?}"
    );
    assert_eq!(one_way.pods.all, 2, "{:?}", one_way.pods);

    let both_ways = covered("a, b -> a:80, b:80 denied");
    assert_eq!((both_ways.policies.all, both_ways.policies.touched), (1, 1));
}

#[test]
fn everything_else_touches_every_pair_that_has_a_port() {
    let coverage = coverage_of(
        "  expect:\n    - web -> api:8080 allowed\n    - api -> postgres:5432 allowed\n  everythingElse: denied\n",
    );

    assert_eq!(
        (
            coverage.pairs.all,
            coverage.pairs.touched,
            coverage.pairs.left.len()
        ),
        (12, 12, 0),
        "{:?}",
        coverage.pairs
    );
    assert!(
        coverage.rules.touched > 2 && coverage.rules.touched < coverage.rules.all,
        "{:?}",
        coverage.rules
    );

    for of in [
        &coverage.policies,
        &coverage.rules,
        &coverage.pods,
        &coverage.nodes,
    ] {
        assert_eq!(of.all, of.touched + of.left.len(), "{of:?}");
    }
}
