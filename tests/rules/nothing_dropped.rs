//! Nothing that a suite names is left out of its plan in silence.

use crate::worlds;
use watertight::plan::{Check, Plan, PlanError, Provability, Selection, TargetKind, resolve};
use watertight::suite::Suite;

/// Two replicas of a web server, and a worker that listens nowhere; nothing is isolated but the
/// worker.
const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: 'n', labels: {app: web}}, spec: {nodeName: node-1, containers: [{name: c, image: c, ports: [{containerPort: 80, name: http}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: 'n', labels: {app: web}}, spec: {nodeName: node-1, containers: [{name: c, image: c, ports: [{containerPort: 80, name: http}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: worker, namespace: 'n', labels: {app: worker}}, spec: {nodeName: node-2, containers: [{name: c, image: c}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: worker, namespace: 'n'}, spec: {podSelector: {matchLabels: {app: worker}}, policyTypes: [Ingress, Egress]}}
";

/// A suite with this `spec`.
fn suite(name: &str, spec: &str) -> Suite {
    let text = format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    worlds::suites(text).remove(0)
}

fn plan_with(suites: &[Suite], selection: &Selection) -> Result<Plan, PlanError> {
    let world = worlds::world(WORLD, &[]);
    resolve(suites, world.inventory(), &world.properties(), selection)
}

fn plan_of(spec: &str) -> Plan {
    plan_with(&[suite("t", spec)], &Selection::default()).expect("a plan")
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.checks()
        .iter()
        .map(|check| check.name.as_str())
        .collect()
}

fn check<'p>(plan: &'p Plan, name: &str) -> &'p Check {
    let mut found = plan.checks().iter().filter(|check| check.name == name);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {:?}", names(plan)))
}

/// The pods that a check goes to.
fn targets(plan: &Plan, check: &Check) -> Vec<String> {
    let mut pods: Vec<String> = check
        .flows
        .iter()
        .filter_map(|flow| match &*plan.flow(*flow).target_kind {
            TargetKind::Pod { name, .. } => Some(name.clone()),
            TargetKind::Service { .. }
            | TargetKind::Node { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => None,
        })
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

#[test]
fn suite_without_a_check_is_refused_whatever_other_suites_say() {
    let whole = suite("whole", "{expect: [n/Pod/worker -> n/Pod/web-0:80 denied]}");
    let vacuous = suite(
        "vacuous",
        "{endpoints: {web: {namespace: 'n', workload: Pod/web-0}}, everythingElse: denied}",
    );
    let both = [whole.clone(), vacuous];
    match plan_with(&both, &Selection::default()) {
        Err(PlanError::SuiteWithoutChecks(suites)) => {
            assert_eq!(suites, ["vacuous (suite.yaml)"]);
        }
        other => panic!("{other:?}"),
    }

    // What is only deselected is not vacuous.
    let other = suite("other", "{expect: [n/Pod/worker -> n/Pod/web-1:80 denied]}");
    let only = Selection {
        only: Some(regex::Regex::new("^whole").expect("an expression")),
        ..Selection::default()
    };
    let selected = plan_with(&[whole, other], &only).expect("a plan");
    assert_eq!(selected.checks().len(), 1);
}

#[test]
fn line_that_pairs_nothing_is_noted() {
    let plan = plan_of(
        "{endpoints: {web: {namespace: 'n', pods: {app: web}}}, expect: ['* -> web denied', n/Pod/worker -> web denied, 'web, web -> n/Pod/worker:1 denied']}",
    );
    assert_eq!(plan.checks().len(), 2, "{:?}", names(&plan));

    let alone = plan_of(
        "{endpoints: {web: {namespace: 'n', pods: {app: web}}}, groups: {webs: [web]}, expect: [webs -> webs denied, runner -> web denied]}",
    );
    assert_eq!(names(&alone), ["runner -> web:80 denied"]);
    assert!(
        alone
            .notes()
            .iter()
            .any(|note| note.contains("makes no check: webs -> webs denied")),
        "{:?}",
        alone.notes()
    );
}

#[test]
fn wildcard_names_the_targets_without_a_known_port() {
    let plan = plan_of(
        "{endpoints: {web: {namespace: 'n', pods: {app: web}}, worker: {namespace: 'n', workload: Pod/worker}}, expect: ['web, worker -> * denied']}",
    );
    assert_eq!(names(&plan), ["worker -> web:80 denied"]);
    assert!(
        plan.notes()
            .iter()
            .any(|note| note.contains("* does not mean worker as a target")),
        "{:?}",
        plan.notes()
    );
}

#[test]
fn endpoint_with_two_pods_is_a_pair_with_itself_and_each_pod_a_target() {
    let plan =
        plan_of("{endpoints: {web: {namespace: 'n', pods: {app: web}}}, everythingElse: denied}");
    let within = check(&plan, "web -> web:80 denied");
    // Both are on one node, so that one source is chosen, which is one of the targets.
    assert_eq!(targets(&plan, within), ["web-0", "web-1"]);
    assert_eq!(within.scope.target_pods, 2);

    let more = check(&plan, "web -> web:other ports denied");
    let Provability::PoliciesAdmitMore(why) = &more.provability else {
        panic!("{:?}", more.provability)
    };
    assert!(why.contains("no policy isolates n/web-0"), "{why}");
    let coverage = plan.coverage().expect("valid policies");
    assert_eq!((coverage.pairs.all, coverage.pairs.touched), (1, 1));
}

#[test]
fn pod_without_a_family_in_common_makes_its_check_incomplete() {
    let world = worlds::world(WORLD, &[]);
    let mut inventory = world.inventory().clone();
    for pod in &mut inventory.pods {
        match pod.name.as_str() {
            "worker" => pod.addresses.retain(std::net::IpAddr::is_ipv4),
            "web-1" => pod.addresses.retain(std::net::IpAddr::is_ipv6),
            _ => {}
        }
    }
    let spec = "{endpoints: {web: {namespace: 'n', pods: {app: web}}}, expect: [n/Pod/worker -> web denied, runner -> web denied]}";
    let plan = resolve(
        &[suite("t", spec)],
        &inventory,
        &world.properties(),
        &Selection::default(),
    )
    .expect("a plan");

    let apart = check(&plan, "n/Pod/worker -> web:80 denied");
    let Provability::Incomplete(why) = &apart.provability else {
        panic!("{:?}", apart.provability)
    };
    assert!(why.contains("n/web-1"), "{why}");
    assert_eq!(apart.scope.target_pods, 2);
    assert_eq!(
        check(&plan, "runner -> web:80 denied").provability,
        Provability::Provable
    );
}

#[test]
fn range_without_a_known_port_is_swept_and_says_so() {
    let plan = plan_of("{expect: [n/Pod/worker -> n/Pod/web-0:9000-9009 denied]}");
    assert_eq!(
        names(&plan),
        ["n/Pod/worker -> n/Pod/web-0:9000-9009 denied"]
    );
    assert_eq!(plan.swept().len(), 10);
    let Provability::Unprovable(why) = &plan.checks()[0].provability else {
        panic!("{:?}", plan.checks()[0].provability)
    };
    assert!(why.contains("closed or denied"), "{why}");
}
