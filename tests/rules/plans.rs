//! Plans of small worlds.

use crate::worlds;
use std::collections::BTreeSet;
use std::time::Duration;
use watertight::backend::lab::{KUBELET_PORT, Outside, World};
use watertight::inventory::Inventory;
use watertight::plan::{
    BackendKind, ControlEndpoints, FlowId, NodeEndpoint, Path, PathEnd, Plan, ProbeId, Provability,
    Renewal, Selection, Source, TargetKind, Waits, invalidate_identities, probe_plans, resolve,
};
use watertight::suite::{Expected, SourceMode, Suite};
use watertight::wire::{Request, Transport};

/// a on node-1; b and c on node-2, behind Service s; b admits a by its labels, c admits every
/// source, d is not isolated.
const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: n, labels: {app: b, of: s}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: n, labels: {app: c, of: s}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: d, namespace: n, labels: {app: d}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}, spec: {selector: {of: s}, ports: [{port: 80}], internalTrafficPolicy: TRAFFIC}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: b, namespace: n}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: c, namespace: n}, spec: {podSelector: {matchLabels: {app: c}}, policyTypes: [Ingress], ingress: [{}]}}
";

/// The world, in which Service `s` has this internal traffic policy.
fn world(traffic: &str) -> World {
    let outside = ["pay.example", "bad.example"].map(|name| Outside {
        name: Some(name.to_owned()),
        address: None,
        ports: vec![(443, Transport::Tcp)],
    });
    worlds::world(MANIFESTS.replace("TRAFFIC", traffic), &outside)
}

fn suites(lines: &[&str]) -> Vec<Suite> {
    suites_with("", lines)
}

fn suites_with(settings: &str, lines: &[&str]) -> Vec<Suite> {
    let lines: String = lines.iter().map(|line| format!("    - {line}\n")).collect();
    let endpoints = "  endpoints:\n    s: {namespace: n, service: s}\n    pay: {host: pay.example}\n    bad: {host: bad.example}\n";
    let text = format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: t}}\nspec:\n  settings: {{{settings}}}\n{endpoints}  expect:\n{lines}"
    );
    worlds::suites(text)
}

fn in_lab(lines: &[&str]) -> Plan {
    worlds::lab_plan(&world("Cluster"), &suites(lines))
}

fn in_cluster(inventory: &Inventory, lines: &[&str]) -> Plan {
    let control_endpoints = ControlEndpoints {
        on_pods: None,
        on_nodes: Some(NodeEndpoint::Handshake(KUBELET_PORT)),
        from_nodes: false,
        reference_pods: vec![],
        reference_pods_pass: false,
    };
    resolve(
        &suites(lines),
        inventory,
        BackendKind::Cluster,
        &control_endpoints,
        &Selection::default(),
    )
    .expect("a plan")
}

/// Method, header values, and server name with ALPN of the first flow's request of a check.
type Asked = (String, Vec<String>, Option<(Option<String>, Vec<String>)>);

fn asked(plan: &Plan, check: usize) -> Asked {
    let Request::Http(http) = &plan.flow(plan.checks[check].flows[0]).to.request else {
        panic!("no HTTP")
    };
    let tls = http
        .tls
        .as_ref()
        .map(|tls| (tls.server_name.clone(), tls.alpn.clone()));
    let headers = http.headers.iter().map(|(_, value)| value.clone());
    (http.method.clone(), headers.collect(), tls)
}

#[test]
fn request_settings_of_a_suite_apply_where_a_line_sets_none() {
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

    assert_eq!(asked(&plan, 0), ("HEAD".into(), vec!["suite".into()], None));
    assert_eq!(asked(&plan, 1), ("POST".into(), vec!["suite".into()], None));
    assert_eq!(
        asked(&plan, 2),
        ("OPTIONS".into(), vec!["line".into()], None)
    );
    let tls = (
        Some("other.example".to_owned()),
        vec!["http/1.1".to_owned()],
    );

    assert_eq!(
        asked(&plan, 3),
        ("HEAD".into(), vec!["suite".into()], Some(tls))
    );
}

/// A plan with probes inside the pods of Service `s` and a clone of `a`.
fn plan_with_ephemeral_sources() -> Plan {
    let world = world("Cluster");
    let mut suites = suites(&["s -> n/Pod/d:80 allowed", "n/Pod/a -> n/Pod/d:80 allowed"]);
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
        BackendKind::Cluster,
        &world.control_endpoints(),
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

/// An ephemeral container is in no new pod, so no policy delay applies; and it cannot get a second
/// probe with a longer timeout.
#[test]
fn probe_inside_a_pod_is_no_clone_and_has_more_time() {
    let plan = plan_with_ephemeral_sources();
    assert_eq!(
        pods_of(&plan, &plan.inside),
        BTreeSet::from(["b".to_owned(), "c".to_owned()])
    );
    assert!(pods_of(&plan, &plan.created).is_disjoint(&pods_of(&plan, &plan.inside)));
    assert!(pods_of(&plan, &plan.created).contains("a"));

    for flow in &plan.flows {
        let waits = if plan.inside.contains(&flow.probe) {
            Duration::from_secs(6)
        } else {
            Duration::ZERO
        };
        assert_eq!(flow.waits.connect, waits, "{flow:?}");
    }
    let schedule = worlds::schedule(Duration::from_secs(1));
    let probe_plans = probe_plans(&plan, &schedule, 0..plan.probes.len());

    for (probe, probe_plan) in probe_plans.iter().enumerate() {
        assert_eq!(
            probe_plan.idle_timeout.is_some(),
            plan.inside.contains(&ProbeId(probe as u32))
        );
    }
}

/// Attempts of clones are no evidence where policies do not apply to clones; those of ephemeral
/// containers still are.
#[test]
fn invalidated_identities_leave_only_probes_inside_pods_provable() {
    let mut plan = plan_with_ephemeral_sources();
    invalidate_identities(&mut plan, "not enforced here");
    let provability: Vec<bool> = plan
        .checks
        .iter()
        .map(|check| check.provability == Provability::Provable)
        .collect();
    assert_eq!(provability, [true, false]);
}

/// A new pod that replaces one with an ephemeral source gets an ephemeral source again.
#[test]
fn renewed_plan_keeps_probes_inside_pods() {
    let (mut plan, mut fresh) = (plan_with_ephemeral_sources(), plan_with_ephemeral_sources());
    fresh.pod_uids.insert("n/b".into(), "another".into());
    let before = plan.inside.len();
    plan.renew(&fresh);

    assert_eq!(
        plan.inside.len(),
        before + 1,
        "the new b has a probe of its own"
    );
    assert_eq!(
        pods_of(&plan, &plan.inside),
        BTreeSet::from(["b".to_owned(), "c".to_owned()])
    );
}

fn server_names(plan: &Plan, check: usize) -> BTreeSet<Option<String>> {
    let flows = plan.checks[check]
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
fn denied_host_on_443_is_tried_without_a_name_and_with_its_own_and_each_allowed_name() {
    let plan = in_lab(&[
        "n/Pod/a -> bad:443 denied",
        "n/Pod/a -> https://bad/x denied",
        "n/Pod/d -> pay:443 allowed",
    ]);

    for check in 0..2 {
        assert_eq!(
            server_names(&plan, check),
            BTreeSet::from([
                None,
                Some("bad.example".to_owned()),
                Some("pay.example".to_owned())
            ])
        );
    }

    assert_eq!(
        server_names(&plan, 2),
        BTreeSet::from([Some("pay.example".to_owned())]),
        "what is allowed is asked for by its name"
    );

    // Each of them has a target control from another probe.
    for flow in &plan.checks[0].flows {
        let target_controls = &plan.target_controls[&plan.flow(*flow).to];
        assert!(
            target_controls
                .iter()
                .any(|control| plan.flow(*control).probe != plan.flow(*flow).probe)
        );
    }
}

#[test]
fn everything_else_denies_no_host_that_a_line_allows_by_name() {
    let mut suites = suites(&["n/Pod/a -> pay:443 allowed"]);
    suites[0].everything_else = Some(suites[0].lines[0].place.clone());
    let world = world("Cluster");
    let plan = worlds::lab_plan(&world, &suites);
    let denied = plan
        .checks
        .iter()
        .filter(|check| check.expected == Expected::Denied);
    let denied: Vec<&str> = denied
        .map(|check| check.name.as_str())
        .filter(|name| name.contains("pay"))
        .collect();

    assert_eq!(
        denied,
        ["s -> pay:443 denied"],
        "the line does not allow it"
    );
}

/// The number of flows to Service `s` that each of two checks has, under an internal traffic
/// policy: from `a` on the other node, and from `d` on the node of the Service's pods.
fn service_flows_under(traffic: &str) -> [usize; 2] {
    let world = world(traffic);
    let lines = suites(&["n/Pod/a -> s:80 denied", "n/Pod/d -> s:80 denied"]);
    let plan = worlds::lab_plan(&world, &lines);
    let is_service =
        |flow: &&FlowId| matches!(*plan.flow(**flow).target_kind, TargetKind::Service { .. });
    [0, 1].map(|check| plan.checks[check].flows.iter().filter(is_service).count())
}

#[test]
fn service_with_local_traffic_policy_is_not_tried_from_another_node() {
    assert_eq!(service_flows_under("Cluster"), [2, 2]);
    assert_eq!(
        service_flows_under("Local"),
        [0, 2],
        "a is on the other node"
    );
}

#[test]
fn every_denied_flow_in_the_lab_has_a_path_control_to_each_of_its_ends() {
    let plan = in_lab(&[
        "n/Pod/a -> s:80 denied",
        "runner -> n/Pod/b:80 denied",
        "nodes -> n/Pod/b:80 denied",
    ]);

    for check in &plan.checks {
        for flow in check.flows.iter().map(|flow| plan.flow(*flow)) {
            let from = plan.source(flow.probe).node().map(str::to_owned);
            for to in flow.target_kind.ends(flow) {
                let path = Path {
                    from: from.clone(),
                    to,
                    family: flow.family(),
                };
                assert!(
                    plan.path_controls.contains_key(&path),
                    "{}: {path:?}",
                    check.name
                );
            }
        }
    }
}

#[test]
fn only_an_answer_that_labels_admit_shows_the_policy_delay_of_a_clone() {
    let world = world("Cluster");
    let lines = [
        "n/Pod/a -> n/Pod/b:80 allowed",
        "n/Pod/a -> n/Pod/d:80 denied",
        "n/Pod/a -> bad:443 denied",
    ];
    let plan = in_cluster(world.inventory(), &lines);
    let a = plan.flow(plan.checks[0].flows[0]).probe;

    assert!(plan.created.contains(&a));
    let delay_flows = &plan.policy_delay_flows[&(a, "node-2".to_owned())];
    assert!(
        plan.checks[0]
            .flows
            .iter()
            .all(|flow| delay_flows.contains(flow)),
        "{delay_flows:?}"
    );
    // A path control to the node's pods without a reference pod shows the policy delay too, where
    // labels admit it.
    let to_b = |flow: &FlowId| matches!(&*plan.flow(*flow).target_kind, TargetKind::Pod { name, .. } if name == "b");

    assert!(delay_flows.iter().all(to_b), "{delay_flows:?}");
    let hold = |check: usize| plan.checks[check].settings.hold.as_secs();
    assert_eq!(
        (hold(1), hold(2)),
        (3, 15),
        "no flow to the outside shows the policy delay"
    );
    // c admits every source, so its answers do not show that labels are known.
    let plan = in_cluster(
        world.inventory(),
        &[
            "n/Pod/d -> n/Pod/c:80 allowed",
            "n/Pod/d -> n/Pod/b:80 denied",
        ],
    );
    let d = plan.flow(plan.checks[0].flows[0]).probe;

    assert!(
        !plan.policy_delay_flows.keys().any(|(probe, _)| *probe == d),
        "{:?}",
        plan.policy_delay_flows
    );
    assert_eq!(plan.checks[1].settings.hold.as_secs(), 15);
}

#[test]
fn cluster_without_node_sources_plans_none_and_only_handshakes_with_a_kubelet() {
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
            .probes
            .iter()
            .any(|source| matches!(source, Source::Node { .. } | Source::ReferencePod { .. }))
    );

    for flow in plan
        .flows
        .iter()
        .filter(|flow| flow.to.port == KUBELET_PORT)
    {
        assert!(
            matches!(flow.to.request, Request::Connect { .. }),
            "{flow:?}"
        );
    }
    // d is not isolated: a flow that reaches it is a path control to the pods of node-2.
    let to_pods = plan
        .path_controls
        .keys()
        .any(|path| path.to == PathEnd::Pods("node-2".into()));

    assert!(to_pods, "{:?}", plan.path_controls);
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

/// The plan of a deny to `b` and an allow to `c`, with the lab's controls, for an inventory.
fn plan_for(world: &World, inventory: &Inventory) -> Plan {
    let lines = [
        "n/Pod/a -> n/Pod/b:80 denied",
        "n/Pod/a -> n/Pod/c:80 allowed",
    ];
    resolve(
        &suites(&lines),
        inventory,
        BackendKind::Lab,
        &world.control_endpoints(),
        &Selection::default(),
    )
    .expect("a plan")
}

#[test]
fn renewed_plan_keeps_unchanged_flows_and_adds_new_ones() {
    let world = world("Cluster");
    let first = plan_for(&world, world.inventory());

    let mut same = first.clone();
    let renewal = same.renew(&plan_for(&world, world.inventory()));
    assert_eq!(
        (
            &same.probes,
            &same.flows,
            &same.path_controls,
            &same.source_controls
        ),
        (
            &first.probes,
            &first.flows,
            &first.path_controls,
            &first.source_controls
        )
    );
    assert_eq!(renewal, Renewal::default());

    // Another pod at the same address: the same flows, and their sampling restarts.
    let mut moved = first.clone();
    let renewal = moved.renew(&plan_for(
        &world,
        &replaced(world.inventory(), "b", "other", false),
    ));

    assert_eq!(
        (moved.probes.len(), moved.flows.len()),
        (first.probes.len(), first.flows.len())
    );
    assert!(
        first.checks[0]
            .flows
            .iter()
            .all(|flow| renewal.replaced.contains(flow))
            && renewal.retired.is_empty()
    );

    // Another address: new flows from new probes, which show again that their source can send.
    let mut elsewhere = first.clone();
    let renewal = elsewhere.renew(&plan_for(
        &world,
        &replaced(world.inventory(), "b", "other", true),
    ));

    assert_eq!(
        renewal.retired,
        first.checks[0].flows.iter().copied().collect()
    );
    assert_eq!(elsewhere.checks[0].retired, first.checks[0].flows);

    for flow in &elsewhere.checks[0].flows {
        let of = elsewhere.flow(*flow);
        assert!(of.probe.0 as usize >= first.probes.len());
        let controls = &elsewhere.source_controls[&(of.probe, of.family(), of.to.transport)];
        let own = controls.allowed.iter().chain(&controls.tried);
        assert!(
            own.clone().count() > 0
                && own
                    .clone()
                    .all(|flow| elsewhere.flow(*flow).probe == of.probe),
            "{controls:?}"
        );
        assert!(elsewhere.target_controls.contains_key(&of.to));
    }

    assert_eq!(
        elsewhere.checks[1].flows, first.checks[1].flows,
        "unchanged flows continue"
    );

    // Another source of the same name: all its flows are new.
    let mut source = first.clone();
    source.renew(&plan_for(
        &world,
        &replaced(world.inventory(), "a", "other", false),
    ));

    assert!(
        source.checks[1]
            .flows
            .iter()
            .all(|flow| source.flow(*flow).probe.0 as usize >= first.probes.len())
    );
    assert_eq!(source.checks[1].retired, first.checks[1].flows);
}

#[test]
fn flow_with_a_longer_timeout_is_tried_by_a_separate_probe() {
    let mut plan = in_lab(&[
        "n/Pod/a -> n/Pod/b:80 denied",
        "n/Pod/a -> n/Pod/c:80 allowed",
    ]);
    let (probes, old) = (plan.probes.len(), plan.checks[0].flows.clone());
    let waits = Waits {
        request: Duration::from_secs(20),
        ..Waits::default()
    };
    let new: Vec<FlowId> = old
        .iter()
        .map(|flow| plan.lengthen(*flow, waits, probes))
        .collect();

    assert_eq!(
        (plan.checks[0].flows.clone(), plan.checks[0].retired.clone()),
        (new.clone(), old)
    );
    assert_eq!(plan.probes.len(), probes + 1, "one probe for both families");

    for flow in new {
        let of = plan.flow(flow);
        assert_eq!(of.waits, waits);
        let controls = &plan.source_controls[&(of.probe, of.family(), of.to.transport)];
        assert!(
            controls
                .allowed
                .iter()
                .all(|flow| plan.flow(*flow).probe == of.probe)
                && !controls.allowed.is_empty()
        );
    }
}

#[test]
fn checks_of_pods_on_windows_are_unprovable_and_have_no_probe() {
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

    for check in &plan.checks[..2] {
        let Provability::Unprovable(why) = &check.provability else {
            panic!("{}: {:?}", check.name, check.provability)
        };
        assert!(why.contains("node-2") && why.contains("Windows"), "{why}");
    }

    assert_eq!(plan.checks[2].provability, Provability::Provable);
    assert!(
        plan.probes
            .iter()
            .all(|source| source.node() != Some("node-2")),
        "{:?}",
        plan.probes
    );
}

/// Sources of the target controls of a deny between the first of ten workloads and pod `t`, whose
/// policy has this ingress rule: more workloads than are tried without a prediction.
fn target_controls_under(rule: &str) -> BTreeSet<String> {
    let mut text = String::new();
    for number in 0..10 {
        text.push_str(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: w{number}, namespace: n, labels: {{app: w{number}}}}}, spec: {{containers: [{{name: c, image: c}}]}}}}\n"
        ));
    }
    text.push_str("---\n{apiVersion: v1, kind: Pod, metadata: {name: t, namespace: n, labels: {app: t}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}\n");
    text.push_str(&format!(
        "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: t, namespace: n}}, spec: {{podSelector: {{matchLabels: {{app: t}}}}, policyTypes: [Ingress], ingress: [{rule}]}}}}\n"
    ));

    // Neither nodes nor reference pods: only workloads' pods can be controls.
    let none = ControlEndpoints {
        on_pods: None,
        on_nodes: None,
        from_nodes: false,
        reference_pods: Vec::new(),
        reference_pods_pass: false,
    };
    let plan = resolve(
        &suites(&["n/Pod/w0 -> n/Pod/t:80 denied"]),
        worlds::world(text, &[]).inventory(),
        BackendKind::Cluster,
        &none,
        &Selection::default(),
    )
    .expect("a plan");

    let denied = plan.checks[0].flows[0];
    let target_controls = &plan.target_controls[&*plan.flow(denied).to];
    target_controls
        .iter()
        .map(|flow| match plan.source(plan.flow(*flow).probe) {
            Source::Pod { name, .. } => name.clone(),
            other => other.to_string(),
        })
        .collect()
}

#[test]
fn source_that_policies_admit_is_planned_as_a_target_control() {
    assert_eq!(
        target_controls_under("{from: [{podSelector: {matchLabels: {app: w9}}}]}"),
        BTreeSet::from(["w9".to_owned()])
    );
    // Where no source is admitted, a few are tried all the same: enforcement may differ from the
    // prediction.
    assert!(target_controls_under("").len() > 2);
}
