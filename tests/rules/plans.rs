//! Plans of small worlds.

use crate::worlds;
use std::collections::BTreeSet;
use std::time::Duration;
use watertight::backend::lab::{Outside, World};
use watertight::inventory::Inventory;
use watertight::plan::{
    AnswerRule, BackendKind, BackendProperties, ControlEndpoints, FlowId, NodeEndpoint, Path,
    PathEnd, Plan, PlanError, ProbeId, Provability, Replanned, Schedule, Selection, Source,
    TargetKind, Waits, probe_plans, resolve,
};
use watertight::suite::{Expected, SourceMode, Suite};
use watertight::wire::{Request, Transport};

/// a on node-1; b and c on node-2, behind Service s; b admits a by its labels, c admits every source,
/// d is not isolated.
const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n', labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: 'n', labels: {app: b, of: s}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: 'n', labels: {app: c, of: s}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: d, namespace: 'n', labels: {app: d}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: 'n'}, spec: {selector: {of: s}, ports: [{port: 80}], internalTrafficPolicy: TRAFFIC}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: b, namespace: 'n'}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: c, namespace: 'n'}, spec: {podSelector: {matchLabels: {app: c}}, policyTypes: [Ingress], ingress: [{}]}}
";

fn world(traffic: &str) -> World {
    worlds::world(
        MANIFESTS.replace("TRAFFIC", traffic),
        &[host("pay.example"), host("bad.example")],
    )
}

fn host(name: &str) -> Outside {
    Outside {
        name: Some(name.to_owned()),
        addresses: Vec::new(),
        ports: vec![(443, Transport::Tcp)],
    }
}

fn suites(lines: &[&str]) -> Vec<Suite> {
    suites_with("", lines)
}

fn suites_with(settings: &str, lines: &[&str]) -> Vec<Suite> {
    let lines: String = lines.iter().map(|line| format!("    - {line}\n")).collect();
    let endpoints = "  endpoints:\n    s: {namespace: 'n', service: s}\n    pay: {host: pay.example}\n    bad: {host: bad.example}\n";
    worlds::suites(format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: t}}\nspec:\n  settings: {{{settings}}}\n{endpoints}  expect:\n{lines}"
    ))
}

#[test]
fn source_of_an_allowed_line_is_asked_once_more_by_the_rule_of_a_denied_one() {
    let plan = in_lab(&[
        "{check: 'n/Pod/d -> http://s/x allowed', status: 204}",
        "{check: 'n/Pod/a -> http://s/x denied', refusal: {status: 403}}",
    ]);
    let [allowed, denied] = [0, 1].map(|check: usize| plan.checks()[check].flows[0]);
    let [allowed_rule, denied_rule] = [allowed, denied].map(|flow| plan.flow(flow).to.answer_rule);
    assert_eq!(
        (allowed_rule, denied_rule),
        (AnswerRule::MatchOpens, AnswerRule::MatchRefuses)
    );
    let controls = &plan.target_controls()[&plan.flow(denied).to];
    let asked = controls.iter().any(|control| {
        let control = plan.flow(*control);
        plan.source(control.probe) == plan.source(plan.flow(allowed).probe)
            && control.to == plan.flow(denied).to
    });
    assert!(asked, "{controls:?}");
    assert!(!controls.contains(&allowed));
}

#[test]
fn literal_credentials_are_refused_in_a_cluster() {
    let lines = ["{check: 'n/Pod/a -> http://s/x allowed', headers: {Authorization: 'Bearer x'}}"];
    let error = resolve(
        &suites(&lines),
        world("Cluster").inventory(),
        &BackendProperties::cluster(ControlEndpoints {
            on_pods: None,
            on_nodes: None,
            from_nodes: false,
            reference_pods: vec![],
            reference_pods_pass: false,
        }),
        &Selection::default(),
    )
    .expect_err("a credential in the clear");
    let PlanError::Invalid(diagnostics) = error else {
        panic!("{error}")
    };
    let [diagnostic] = diagnostics.as_slice() else {
        panic!("{diagnostics:?}")
    };
    assert!(
        diagnostic
            .message
            .contains("Authorization: { fromEnv: NAME }"),
        "{}",
        diagnostic.message
    );
    // In the lab nothing stands in a specification.
    in_lab(&lines);
}

fn in_lab(lines: &[&str]) -> Plan {
    worlds::lab_plan(&world("Cluster"), &suites(lines))
}

fn in_cluster(inventory: &Inventory, lines: &[&str]) -> Plan {
    let control_endpoints = ControlEndpoints {
        on_pods: None,
        on_nodes: Some(NodeEndpoint::Handshake(10_250)),
        from_nodes: false,
        reference_pods: vec![],
        reference_pods_pass: false,
    };
    resolve(
        &suites(lines),
        inventory,
        &BackendProperties::cluster(control_endpoints),
        &Selection::default(),
    )
    .expect("a plan")
}

#[test]
fn suite_settings_apply_to_requests_of_lines_without_their_own() {
    let world = world("Cluster");
    let settings =
        "method: HEAD, headers: {X-Test: suite}, serverName: other.example, alpn: [http/1.1]";
    let lines = [
        "n/Pod/a -> http://s/ allowed",
        "n/Pod/a -> POST http://s/x allowed",
        "{check: n/Pod/a -> http://s/y allowed, method: OPTIONS, headers: {X-Test: line}}",
        "n/Pod/a -> https://pay/ allowed",
    ];
    let suites = suites_with(settings, &lines);
    let plan = worlds::lab_plan(&world, &suites);
    let asked = |check: usize| {
        let Request::Http(http) = &plan.flow(plan.checks()[check].flows[0]).to.request else {
            panic!("no HTTP")
        };
        let tls = http
            .tls
            .as_ref()
            .map(|tls| (tls.server_name.clone(), tls.alpn.clone()));
        (
            http.method.clone(),
            http.headers
                .iter()
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>(),
            tls,
        )
    };
    assert_eq!(asked(0), ("HEAD".into(), vec!["suite".into()], None));
    assert_eq!(asked(1), ("POST".into(), vec!["suite".into()], None));
    assert_eq!(asked(2), ("OPTIONS".into(), vec!["line".into()], None));
    let tls = (
        Some("other.example".to_owned()),
        vec!["http/1.1".to_owned()],
    );
    assert_eq!(asked(3), ("HEAD".into(), vec!["suite".into()], Some(tls)));
}

/// From within or beside the pods of Service `s`, and beside `a`.
fn from_within() -> Plan {
    from_within_to(&["s -> n/Pod/d:80 allowed", "n/Pod/a -> n/Pod/d:80 allowed"])
}

/// Lines whose source `s` is tested from within its pods.
fn from_within_to(lines: &[&str]) -> Plan {
    let world = world("Cluster");
    let mut suites = suites(lines);
    for endpoint in suites[0]
        .endpoints
        .iter_mut()
        .filter(|endpoint| endpoint.label == "s")
    {
        endpoint.source_mode = Some(SourceMode::Ephemeral);
    }
    resolve(
        &suites,
        world.inventory(),
        &BackendProperties {
            kind: BackendKind::Cluster,
            ..world.properties()
        },
        &Selection::default(),
    )
    .expect("a plan")
}

fn pods_of(plan: &Plan, probes: &BTreeSet<ProbeId>) -> BTreeSet<String> {
    let of = |probe: &ProbeId| match plan.source(*probe) {
        Source::Pod { name, .. } => name.clone(),
        other => panic!("{other} is no pod"),
    };
    probes.iter().map(of).collect()
}

/// A pod that is sent from within is no new pod whose labels have to become known, and cannot be
/// given a second probe that waits for longer.
#[test]
fn probe_within_a_pod_is_no_clone() {
    let plan = from_within();
    assert_eq!(
        pods_of(&plan, plan.ephemeral_probes()),
        BTreeSet::from(["b".to_owned(), "c".to_owned()])
    );
    assert!(
        pods_of(&plan, plan.created_probes()).is_disjoint(&pods_of(&plan, plan.ephemeral_probes()))
    );
    assert!(pods_of(&plan, plan.created_probes()).contains("a"));
    for flow in plan.flows() {
        let waits = if plan.ephemeral_probes().contains(&flow.probe) {
            Duration::from_secs(6)
        } else {
            Duration::ZERO
        };
        assert_eq!(flow.waits.connect, waits, "{flow:?}");
    }
    let schedule = Schedule {
        run: "r".into(),
        seed: 1,
        trust: vec![],
        heartbeat: Duration::from_secs(1),
    };
    let wire_plans = probe_plans(&plan, &schedule, 0..plan.probes().len());
    for (probe, wire_plan) in wire_plans.iter().enumerate() {
        assert_eq!(
            wire_plan.idle_timeout.is_some(),
            plan.ephemeral_probes().contains(&ProbeId(probe as u32))
        );
    }
}

/// Where clones are not enforced what they see is no evidence; what is sent from within still is.
#[test]
fn withdrawn_clones_leave_checks_from_within_pods() {
    let mut plan = from_within();
    plan.withdraw_checks_from_clones("not enforced here");
    let provability: Vec<bool> = plan
        .checks()
        .iter()
        .map(|check| check.provability == Provability::Provable)
        .collect();
    assert_eq!(provability, [true, false]);
}

/// A new pod in the place of one that was sent from within is sent from within again.
#[test]
fn replanned_plan_keeps_probes_within_pods() {
    let (mut plan, mut fresh) = (from_within(), from_within().into_parts());
    fresh.pod_uids.insert("n/b".into(), "another".into());
    let fresh = Plan::from_parts(fresh);
    let before = plan.ephemeral_probes().len();
    plan.merge_replanned(&fresh);
    assert_eq!(
        plan.ephemeral_probes().len(),
        before + 1,
        "the new b has a probe of its own"
    );
    assert_eq!(
        pods_of(&plan, plan.ephemeral_probes()),
        BTreeSet::from(["b".to_owned(), "c".to_owned()])
    );
}

fn server_names(plan: &Plan, check: usize) -> BTreeSet<Option<String>> {
    let flows = plan.checks()[check]
        .flows
        .iter()
        .map(|flow| plan.flow(*flow))
        .filter(|flow| flow.to.name.is_none());
    flows
        .filter_map(|flow| match &flow.to.request {
            Request::Tls(tls) => Some(tls.server_name.clone()),
            Request::Http(http) => http.tls.as_ref().map(|tls| tls.server_name.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn denied_host_on_443_is_tried_without_a_name_with_its_own_and_with_each_allowed_one() {
    let plan = in_lab(&[
        "n/Pod/a -> bad:443 denied",
        "n/Pod/a -> https://bad/x denied",
        "n/Pod/d -> pay:443 allowed",
    ]);
    let name = |name: &str| Some(name.to_owned());
    for check in 0..2 {
        assert_eq!(
            server_names(&plan, check),
            BTreeSet::from([None, name("bad.example"), name("pay.example")])
        );
    }
    assert_eq!(
        server_names(&plan, 2),
        BTreeSet::from([name("pay.example")]),
        "what is allowed is asked for by its name"
    );
    // Each of them has a target control.
    for flow in &plan.checks()[0].flows {
        let target_controls = &plan.target_controls()[&plan.flow(*flow).to];
        assert!(
            target_controls
                .iter()
                .any(|control| plan.flow(*control).probe != plan.flow(*flow).probe)
        );
    }
}

#[test]
fn everything_else_does_not_deny_an_allowed_name_by_address() {
    let mut suites = suites(&["n/Pod/a -> pay:443 allowed"]);
    suites[0].everything_else = Some(suites[0].lines[0].place.clone());
    let world = world("Cluster");
    let plan = worlds::lab_plan(&world, &suites);
    let denied = plan
        .checks()
        .iter()
        .filter(|check| check.expected == Expected::Denied);
    let denied: Vec<&str> = denied
        .map(|check| check.name.as_str())
        .filter(|name| name.contains("pay:443"))
        .collect();
    assert_eq!(
        denied,
        ["s -> pay:443 denied"],
        "what the line does not speak of"
    );
}

#[test]
fn service_that_keeps_to_its_node_is_not_dialled_from_another() {
    let services = |traffic: &str| {
        let world = world(traffic);
        let lines = suites(&["n/Pod/a -> s:80 denied", "n/Pod/d -> s:80 denied"]);
        let plan = resolve(
            &lines,
            world.inventory(),
            &world.properties(),
            &Selection::default(),
        );
        let plan = plan.expect("a plan");
        let is_service =
            |flow: &&FlowId| matches!(*plan.flow(**flow).target_kind, TargetKind::Service { .. });
        [0, 1].map(|check| plan.checks()[check].flows.iter().filter(is_service).count())
    };
    assert_eq!(services("Cluster"), [2, 2]);
    assert_eq!(services("Local"), [0, 2], "a is on the other node");
}

#[test]
fn every_denied_flow_in_the_lab_has_something_that_can_cross_to_each_of_its_ends() {
    let plan = in_lab(&[
        "n/Pod/a -> s:80 denied",
        "runner -> n/Pod/b:80 denied",
        "nodes -> n/Pod/b:80 denied",
    ]);
    for check in plan.checks() {
        for flow in check.flows.iter().map(|flow| plan.flow(*flow)) {
            let from = plan.source(flow.probe).node().map(str::to_owned);
            for to in flow.target_kind.path_ends(flow) {
                let path = Path {
                    from: from.clone(),
                    to,
                    family: flow.family(),
                };
                assert!(
                    plan.path_controls().contains_key(&path),
                    "{}: {path:?}",
                    check.name
                );
            }
        }
    }
}

#[test]
fn only_an_answer_that_labels_admit_shows_the_identity_of_a_clone() {
    let world = world("Cluster");
    let lines = [
        "n/Pod/a -> n/Pod/b:80 allowed",
        "n/Pod/a -> n/Pod/d:80 denied",
        "n/Pod/a -> bad:443 denied",
    ];
    let plan = in_cluster(world.inventory(), &lines);
    let a = plan.flow(plan.checks()[0].flows[0]).probe;
    assert!(plan.created_probes().contains(&a));
    let identity_flows = &plan.policy_delay_flows()[&(a, "node-2".to_owned())];
    assert!(
        plan.checks()[0]
            .flows
            .iter()
            .all(|flow| identity_flows.contains(flow)),
        "{identity_flows:?}"
    );
    // A path control to the node's pods shows the identity too, where labels admit it.
    let to_b = |flow: &FlowId| matches!(&*plan.flow(*flow).target_kind, TargetKind::Pod { name, .. } if name == "b");
    assert!(identity_flows.iter().all(to_b), "{identity_flows:?}");
    let hold = |check: usize| plan.checks()[check].settings.hold.as_secs();
    assert_eq!(
        (hold(1), hold(2)),
        (3, 15),
        "nothing arms a clone towards the outside"
    );
    // c admits every source, so its answers say nothing of labels.
    let plan = in_cluster(
        world.inventory(),
        &[
            "n/Pod/d -> n/Pod/c:80 allowed",
            "n/Pod/d -> n/Pod/b:80 denied",
        ],
    );
    let d = plan.flow(plan.checks()[0].flows[0]).probe;
    assert!(
        !plan
            .policy_delay_flows()
            .keys()
            .any(|(probe, _)| *probe == d),
        "{:?}",
        plan.policy_delay_flows()
    );
    assert_eq!(plan.checks()[1].settings.hold.as_secs(), 15);
}

#[test]
fn cluster_without_node_sources_plans_none_and_sends_a_kubelet_only_a_handshake() {
    let world = world("Cluster");
    let plan = in_cluster(
        world.inventory(),
        &[
            "n/Pod/a -> n/Pod/b:80 denied",
            "n/Pod/a -> nodes:10250 denied",
        ],
    );
    assert!(
        !plan
            .probes()
            .iter()
            .any(|source| matches!(source, Source::Node { .. } | Source::ReferencePod { .. }))
    );
    for flow in plan.flows().iter().filter(|flow| flow.to.port == 10_250) {
        assert!(
            matches!(flow.to.request, Request::Connect { .. }),
            "{flow:?}"
        );
    }
    // d is not isolated: what reaches it has crossed to the pods of node-2.
    let to_pods = plan
        .path_controls()
        .keys()
        .any(|path| path.to == PathEnd::Pods("node-2".into()));
    assert!(to_pods, "{:?}", plan.path_controls());
}

fn replaced(inventory: &Inventory, pod: &str, uid: &str, new_address: bool) -> Inventory {
    let mut inventory = inventory.clone();
    let spare = inventory
        .pods
        .iter()
        .find(|pod| pod.name == "d")
        .map(|pod| pod.addresses.clone())
        .expect("d");
    for found in inventory.pods.iter_mut().filter(|found| found.name == pod) {
        uid.clone_into(&mut found.uid);
        if new_address {
            found.addresses.clone_from(&spare);
        }
    }
    inventory.pods.retain(|found| found.name != "d");
    inventory
}

#[test]
fn replanned_plan_keeps_unchanged_flows_and_adds_new_ones() {
    let world = world("Cluster");
    let lines = [
        "n/Pod/a -> n/Pod/b:80 denied",
        "n/Pod/a -> n/Pod/c:80 allowed",
    ];
    let again = |inventory: &Inventory| {
        resolve(
            &suites(&lines),
            inventory,
            &world.properties(),
            &Selection::default(),
        )
        .expect("a plan")
    };
    let first = again(world.inventory());

    let mut same = first.clone();
    let renewal = same.merge_replanned(&again(world.inventory()));
    assert_eq!(
        (
            same.probes(),
            same.flows(),
            same.path_controls(),
            &same.source_controls()
        ),
        (
            first.probes(),
            first.flows(),
            first.path_controls(),
            &first.source_controls()
        )
    );
    assert_eq!(renewal, Replanned::default());

    // Another pod at the same address: the same flows, and sampling restarts.
    let mut moved = first.clone();
    let renewal = moved.merge_replanned(&again(&replaced(world.inventory(), "b", "other", false)));
    assert_eq!(
        (moved.probes().len(), moved.flows().len()),
        (first.probes().len(), first.flows().len())
    );
    assert!(
        first.checks()[0]
            .flows
            .iter()
            .all(|flow| renewal.replaced.contains(flow))
            && renewal.retired.is_empty()
    );

    // Another address: new flows from new probes, which show again that their source can send.
    let mut elsewhere = first.clone();
    let renewal =
        elsewhere.merge_replanned(&again(&replaced(world.inventory(), "b", "other", true)));
    assert_eq!(
        renewal.retired,
        first.checks()[0].flows.iter().copied().collect()
    );
    assert_eq!(elsewhere.checks()[0].retired, first.checks()[0].flows);
    for flow in &elsewhere.checks()[0].flows {
        let of = elsewhere.flow(*flow);
        assert!(of.probe.0 as usize >= first.probes().len());
        let able = &elsewhere.source_controls()[&(of.probe, of.family(), of.to.transport)];
        let own = able.allowed.iter().chain(&able.tried);
        assert!(
            own.clone().count() > 0
                && own
                    .clone()
                    .all(|flow| elsewhere.flow(*flow).probe == of.probe),
            "{able:?}"
        );
        assert!(elsewhere.target_controls().contains_key(&of.to));
    }
    assert_eq!(
        elsewhere.checks()[1].flows,
        first.checks()[1].flows,
        "what still stands goes on"
    );

    // Another source of the same name: nothing of it goes on.
    let mut source = first.clone();
    source.merge_replanned(&again(&replaced(world.inventory(), "a", "other", false)));
    assert!(
        source.checks()[1]
            .flows
            .iter()
            .all(|flow| source.flow(*flow).probe.0 as usize >= first.probes().len())
    );
    assert_eq!(source.checks()[1].retired, first.checks()[1].flows);
}

#[test]
fn flow_that_needs_more_time_gets_a_separate_probe() {
    let mut plan = in_lab(&[
        "n/Pod/a -> n/Pod/b:80 denied",
        "n/Pod/a -> n/Pod/c:80 allowed",
    ]);
    let (probes, old) = (plan.probes().len(), plan.checks()[0].flows.clone());
    let waits = Waits {
        request: Duration::from_secs(20),
        ..Waits::default()
    };
    let new: Vec<FlowId> = old
        .iter()
        .map(|flow| plan.retry_with_longer_waits(*flow, waits, probes))
        .collect();
    assert_eq!(
        (
            plan.checks()[0].flows.clone(),
            plan.checks()[0].retired.clone()
        ),
        (new.clone(), old)
    );
    assert_eq!(
        plan.probes().len(),
        probes + 1,
        "one probe for both families"
    );
    for flow in new {
        let of = plan.flow(flow);
        assert_eq!(of.waits, waits);
        let able = &plan.source_controls()[&(of.probe, of.family(), of.to.transport)];
        assert!(
            able.allowed
                .iter()
                .all(|flow| plan.flow(*flow).probe == of.probe)
                && !able.allowed.is_empty()
        );
    }
}

#[test]
fn pods_on_windows_are_named_and_nothing_is_sent_from_there() {
    let mut inventory = world("Cluster").inventory().clone();
    let windows = inventory
        .nodes
        .iter_mut()
        .find(|node| node.name == "node-2")
        .expect("node-2");
    windows
        .labels
        .insert("kubernetes.io/os".into(), "windows".into());
    let plan = in_cluster(
        &inventory,
        &[
            "n/Pod/d -> n/Pod/a:1 denied",
            "n/Pod/a -> n/Pod/b:80 denied",
            "n/Pod/a -> pay:443 denied",
        ],
    );
    for check in &plan.checks()[..2] {
        let Provability::Unprovable(why) = &check.provability else {
            panic!("{}: {:?}", check.name, check.provability)
        };
        assert!(why.contains("node-2") && why.contains("Windows"), "{why}");
    }
    assert_eq!(plan.checks()[2].provability, Provability::Provable);
    assert!(
        plan.probes()
            .iter()
            .all(|source| source.node() != Some("node-2")),
        "{:?}",
        plan.probes()
    );
}

/// Ten workloads of which the last alone is admitted to the target: more than are tried blindly.
#[test]
fn source_that_policies_admit_is_tried_as_a_control() {
    let mut text = String::new();
    for number in 0..10 {
        text.push_str(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: w{number}, namespace: 'n', labels: {{app: w{number}}}}}, spec: {{containers: [{{name: c, image: c}}]}}}}\n"
        ));
    }
    text.push_str("---\n{apiVersion: v1, kind: Pod, metadata: {name: t, namespace: 'n', labels: {app: t}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}\n");
    let policy = |rule: &str| {
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: t, namespace: 'n'}}, spec: {{podSelector: {{matchLabels: {{app: t}}}}, policyTypes: [Ingress], ingress: [{rule}]}}}}\n"
        )
    };
    let controls_for = |rule: &str| {
        let world = worlds::world(format!("{text}{}", policy(rule)), &[]);
        let suites = worlds::suites(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: t}\nspec: {expect: [n/Pod/w0 -> n/Pod/t:80 denied]}\n",
        );

        // Neither nodes nor reference pods: only pods can be controls.
        let none = ControlEndpoints {
            on_pods: None,
            on_nodes: None,
            from_nodes: false,
            reference_pods: Vec::new(),
            reference_pods_pass: false,
        };
        let plan = resolve(
            &suites,
            world.inventory(),
            &BackendProperties::cluster(none),
            &Selection::default(),
        )
        .expect("a plan");
        let denied = plan.checks()[0].flows[0];
        let target_controls = &plan.target_controls()[&*plan.flow(denied).to];
        let name = |flow: &FlowId| match plan.source(plan.flow(*flow).probe) {
            Source::Pod { name, .. } => name.clone(),
            other => other.to_string(),
        };
        target_controls
            .iter()
            .map(name)
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(
        controls_for("{from: [{podSelector: {matchLabels: {app: w9}}}]}"),
        BTreeSet::from(["w9".to_owned()])
    );
    // Where no source is admitted, a few are tried nevertheless: enforcement may differ from the
    // prediction.
    assert!(controls_for("").len() > 2);
}

/// A pod that dials its own Service may be answered by itself, so what opens there proves neither
/// an allow nor a deny, and is no control of others.
#[test]
fn probe_within_a_pod_is_not_sent_through_its_own_service() {
    let plan = from_within_to(&[
        "s -> s:80 allowed",
        "s -> n/Pod/d:80 allowed",
        "n/Pod/a -> s:80 denied",
    ]);
    let Provability::Unprovable(why) = &plan.checks()[0].provability else {
        panic!("{:?}", plan.checks()[0].provability);
    };
    assert!(why.contains("may send its packets back to it"), "{why}");
    assert_eq!(plan.checks()[2].provability, Provability::Provable);

    let is_hairpin = |flow: &FlowId| {
        let flow = plan.flow(*flow);
        matches!(&*flow.target_kind, TargetKind::Service { service, .. } if service.name == "s")
            && plan.ephemeral_probes().contains(&flow.probe)
    };
    let checked = plan.checks().iter().flat_map(|check| &check.flows);
    let controls = plan.target_controls().values().flatten();
    let paths = plan.path_controls().values().flatten();
    assert_eq!(
        checked
            .chain(controls)
            .chain(paths)
            .find(|flow| is_hairpin(flow)),
        None
    );
}

#[test]
fn established_line_keeps_a_connection_that_other_sources_keep_too() {
    let plan = in_lab(&["{ check: 'n/Pod/d -> n/Pod/c:80 denied', established: true }"]);
    let check = &plan.checks()[0];
    let (kept, others): (Vec<FlowId>, Vec<FlowId>) = check
        .flows
        .iter()
        .partition(|flow| plan.flow(**flow).to.request.is_kept_open());
    assert!(
        !kept.is_empty() && kept.len() == others.len(),
        "{check:#?} {:#?}",
        plan.flows()
    );

    for flow in kept {
        let flow = plan.flow(flow);
        let controls = &plan.target_controls()[&*flow.to];
        let is_other = |control: &FlowId| plan.flow(*control).probe != flow.probe;
        assert!(controls.iter().any(is_other), "{controls:?}");
    }
    let on_paths = plan.path_controls().values().flatten();
    for flow in on_paths {
        assert!(!plan.flow(*flow).to.request.is_kept_open(), "{flow:?}");
    }
}

#[test]
fn established_line_where_a_firewall_may_answer_is_unprovable() {
    let plan = in_lab(&[
        "{ check: 'n/Pod/a -> bad:443 denied', established: true }",
        "n/Pod/a -> n/Pod/b:80 allowed",
    ]);
    assert!(
        matches!(plan.checks()[0].provability, Provability::Unprovable(_)),
        "{:?}",
        plan.checks()[0].provability
    );
}

/// No pod of `kube-system` becomes a source, though the policies admit it to everything and nothing
/// else can show the path.
#[test]
fn controls_make_no_probes_in_namespaces_without_a_source() {
    let pod = |namespace: &str, name: &str, node: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: '{namespace}', labels: {{app: {name}}}}}, spec: {{nodeName: {node}, containers: [{{name: c, image: c, ports: [{{containerPort: 80}}]}}]}}}}\n"
        )
    };
    let closed = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: all, namespace: 'n'}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}\n";
    let text = [
        pod("n", "a", "node-1"),
        pod("kube-system", "agent", "node-1"),
        pod("m", "t", "node-2"),
        closed.to_owned(),
    ]
    .concat();
    let plan = in_cluster(
        worlds::world(text, &[]).inventory(),
        &["n/Pod/a -> m/Pod/t:80 denied"],
    );

    let foreign = plan
        .probes()
        .iter()
        .find(|source| matches!(source, Source::Pod { namespace, .. } if namespace != "n"));
    assert_eq!(foreign, None);
    let denied = plan.checks()[0].flows[0];
    let weaker = plan.weaker_controls(denied).expect("weaker controls");
    let (_, reason) = weaker.target.as_ref().expect("a weaker target control");
    assert_eq!(
        reason,
        "the policies admit no other pod of n to m/t on node-2"
    );
}

#[test]
fn segments_of_denied_flows_are_kept_small_and_large_requests_have_as_large_a_control() {
    let plan = in_lab(&[
        &format!(
            "{{check: 'n/Pod/a -> n/Pod/d:80 denied', send: '{}'}}",
            "x".repeat(600)
        ),
        "n/Pod/a -> n/Pod/b:80 allowed",
    ]);
    let [denied, allowed] = [0, 1].map(|check: usize| plan.checks()[check].flows[0]);
    let schedule = Schedule {
        run: "r".into(),
        seed: 0,
        trust: Vec::new(),
        heartbeat: Duration::from_millis(500),
    };
    let wire_flows: Vec<_> = probe_plans(&plan, &schedule, 0..plan.probes().len())
        .into_iter()
        .flat_map(|probe| probe.flows)
        .collect();
    let is_small = |id: FlowId| {
        let flow = wire_flows.iter().find(|flow| flow.id == id.0);
        flow.expect("a flow of a probe").small_segments
    };
    assert_eq!((is_small(denied), is_small(allowed)), (true, false));

    let path = Path {
        from: Some("node-1".into()),
        to: PathEnd::Pods("node-2".into()),
        family: plan.flow(denied).family(),
    };
    let as_large = plan.path_controls()[&path].iter().find(|control| {
        let control = plan.flow(**control);
        let is_free = matches!(plan.source(control.probe), Source::ReferencePod { .. });
        is_free && control.to.request.size() >= 600
    });
    assert!(as_large.is_some(), "{:#?}", plan.path_controls());
}
