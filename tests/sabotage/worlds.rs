//! Small worlds, generated: one for each group of features, with an admitted counterpart
//! for each source that is not admitted.

use crate::features::Direction::{self, Egress, Ingress};
use crate::features::Feature;
use crate::runner::Evaluation;
use crate::scene::Scene;
use watertight::event::Expected::{self, Allowed, Denied};

/// All generated worlds.
pub(crate) fn all() -> Vec<Evaluation> {
    let own = [
        peers(Ingress),
        peers(Egress),
        ports(Ingress),
        ports(Egress),
        isolation(),
        blocks(),
        workloads(),
    ];
    own.into_iter().chain(crate::cluster::all()).collect()
}

fn rules(direction: Direction, rules: &str) -> String {
    match direction {
        Ingress => format!("policyTypes: [Ingress], ingress: [{rules}]"),
        Egress => format!("policyTypes: [Egress], egress: [{rules}]"),
    }
}

/// The key of a rule's peers.
fn side(direction: Direction) -> &'static str {
    match direction {
        Ingress => "from",
        Egress => "to",
    }
}

fn selecting(subject: &str) -> String {
    format!("podSelector: {{matchLabels: {{subject: {subject}}}}}")
}

/// The line between a policy's subject and another, in the direction that the policy decides.
fn between(direction: Direction, subject: &str, other: &str, port: &str) -> String {
    match direction {
        Ingress => format!("{other} -> {subject}:{port}"),
        Egress => format!("{subject} -> {other}:{port}"),
    }
}

/// Who is meant by `from` and `to`: a cast of pods in three namespaces, and a subject for each way
/// to say it.
fn peers(direction: Direction) -> Evaluation {
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home, zone: a");
    scene.namespace("near", "tier: near, zone: b, colour: blue");
    scene.namespace("far", "tier: far");

    for (pod, labels) in [
        ("home/red", "app: red, size: big"),
        ("home/blue", "app: blue"),
        ("near/red", "app: red"),
        ("near/blue", "app: blue"),
        ("far/red", "app: red"),
        ("far/plain", ""),
    ] {
        scene.pod(pod, labels, "80", "", "");
    }
    let near = "namespaceSelector: {matchLabels: {tier: near}}";
    let red = "podSelector: {matchLabels: {app: red}}";
    let all = "namespaceSelector: {}";
    let outside = match direction {
        Ingress => "runner",
        Egress => "198.51.100.77",
    };
    let cases: [(Feature, String, &[&str], &[&str]); 17] = [
        (
            Feature::PodSelector,
            format!("{{{red}}}"),
            &["home/red"],
            &["home/blue", "near/red"],
        ),
        (
            Feature::NamespaceSelector,
            format!("{{{near}}}"),
            &["near/red", "near/blue"],
            &["home/red"],
        ),
        (
            Feature::BothInOneItem,
            format!("{{{near}, {red}}}"),
            &["near/red"],
            &["near/blue", "home/red"],
        ),
        (
            Feature::TwoItems,
            format!("{{{near}}}, {{{red}}}"),
            &["near/blue", "home/red"],
            &["home/blue", "far/red"],
        ),
        (
            Feature::EveryNamespace,
            format!("{{{all}}}"),
            &["home/blue", "far/plain"],
            &[outside],
        ),
        (
            Feature::EveryNamespace,
            format!("{{{all}, {red}}}"),
            &["home/red", "far/red"],
            &["near/blue"],
        ),
        (
            Feature::EmptyPodSelector,
            "{podSelector: {}}".into(),
            &["home/red", "home/blue"],
            &["near/red"],
        ),
        (
            Feature::EmptyPodSelector,
            format!("{{{near}, podSelector: {{}}}}"),
            &["near/blue"],
            &["home/blue"],
        ),
        (
            Feature::PodIn,
            format!(
                "{{{}}}",
                pods_with("key: app, operator: In, values: [red, green]")
            ),
            &["home/red"],
            &["home/blue"],
        ),
        (
            Feature::PodNotIn,
            format!(
                "{{{all}, {}}}",
                pods_with("key: app, operator: NotIn, values: [red]")
            ),
            &["home/blue", "far/plain"],
            &["far/red"],
        ),
        (
            Feature::PodExists,
            format!("{{{}}}", pods_with("key: size, operator: Exists")),
            &["home/red"],
            &["home/blue"],
        ),
        (
            Feature::PodDoesNotExist,
            format!(
                "{{{all}, {}}}",
                pods_with("key: app, operator: DoesNotExist")
            ),
            &["far/plain"],
            &["home/blue", "far/red"],
        ),
        (
            Feature::NamespaceIn,
            format!(
                "{{{}}}",
                namespaces_with("key: zone, operator: In, values: [b, c]")
            ),
            &["near/red"],
            &["home/red"],
        ),
        (
            Feature::NamespaceNotIn,
            format!(
                "{{{}}}",
                namespaces_with("key: zone, operator: NotIn, values: [b]")
            ),
            &["home/red", "far/plain"],
            &["near/red"],
        ),
        (
            Feature::NamespaceExists,
            format!("{{{}}}", namespaces_with("key: colour, operator: Exists")),
            &["near/red"],
            &["far/red"],
        ),
        (
            Feature::NamespaceDoesNotExist,
            format!(
                "{{{}}}",
                namespaces_with("key: zone, operator: DoesNotExist")
            ),
            &["far/red"],
            &["home/red", "near/red"],
        ),
        (
            Feature::NamespaceName,
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: far}}}".into(),
            &["far/plain"],
            &["near/blue"],
        ),
    ];

    for (number, (feature, peers, admitted, stopped)) in cases.iter().enumerate() {
        let subject = format!("{}-{number}", feature.code());
        scene.pod(
            &format!("home/{subject}"),
            &format!("subject: {subject}"),
            "80",
            "",
            "",
        );
        let rule = format!("{{{}: [{peers}], ports: [{{port: 80}}]}}", side(direction));
        scene.policy(
            &format!("home/{subject}"),
            &format!("{}, {}", selecting(&subject), rules(direction, &rule)),
        );
        for (others, expected) in [(admitted, Allowed), (stopped, Denied)] {
            for other in *others {
                let line = between(
                    direction,
                    &format!("home/Pod/{subject}"),
                    &endpoint(other),
                    "80",
                );
                scene.shows(*feature, direction, &line, expected);
            }
        }
    }
    scene.case(&format!("peers-{}", direction.tag()))
}

/// `home/red` as the pod that it is; what is outside as it stands.
fn endpoint(name: &str) -> String {
    name.split_once('/').map_or_else(
        || name.to_owned(),
        |(namespace, pod)| format!("{namespace}/Pod/{pod}"),
    )
}

/// Which ports are meant: a subject for each way to say it, and a peer.
fn ports(direction: Direction) -> Evaluation {
    const OPEN: &str = "80 81 82 90 80/udp 90/udp";
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home");
    scene.pod(
        "home/peer",
        "app: peer",
        &format!("web=8000 {OPEN}"),
        "",
        "",
    );
    scene.pod("home/peer-too", "app: peer", "web=8001 8000", "", "");
    scene.pod("home/unrelated", "app: unrelated", OPEN, "", "");
    let cases: [(Feature, &str, &[&str], &[&str]); 6] = [
        (Feature::PortIsTcp, "{port: 80}", &["80"], &["81", "80/udp"]),
        (
            Feature::PortUdp,
            "{protocol: UDP, port: 80}",
            &["80/udp"],
            &["80", "90/udp"],
        ),
        (
            Feature::PortOfAnyNumber,
            "{protocol: UDP}",
            &["80/udp", "90/udp"],
            &["80"],
        ),
        (
            Feature::EndPort,
            "{port: 80, endPort: 82}",
            &["80", "81", "82"],
            &["90"],
        ),
        (
            Feature::Sctp,
            "{protocol: SCTP, port: 80}, {port: 81}",
            &["81"],
            &["80", "80/udp"],
        ),
        (
            Feature::Sctp,
            "{protocol: SCTP}, {port: 82}",
            &["82"],
            &["90", "90/udp"],
        ),
    ];
    let peer = "{podSelector: {matchLabels: {app: peer}}}";
    let subject = |scene: &mut Scene, name: &str, rule: &str| {
        scene.pod(
            &format!("home/{name}"),
            &format!("subject: {name}"),
            OPEN,
            "",
            "",
        );
        scene.policy(
            &format!("home/{name}"),
            &format!("{}, {}", selecting(name), rules(direction, rule)),
        );
        format!("home/Pod/{name}")
    };

    for (number, (feature, ports, admitted, stopped)) in cases.iter().enumerate() {
        let rule = format!("{{{}: [{peer}], ports: [{ports}]}}", side(direction));
        let name = subject(&mut scene, &format!("{}-{number}", feature.code()), &rule);
        for (ports, expected) in [(admitted, Allowed), (stopped, Denied)] {
            for port in *ports {
                scene.shows(
                    *feature,
                    direction,
                    &between(direction, &name, "home/Pod/peer", port),
                    expected,
                );
            }
        }
    }

    // Every port of one peer.
    for (feature, ports) in [
        (Feature::EmptyPorts, ", ports: []"),
        (Feature::MissingPorts, ""),
    ] {
        let name = subject(
            &mut scene,
            feature.code(),
            &format!("{{{}: [{peer}]{ports}}}", side(direction)),
        );
        for port in ["80", "90", "90/udp"] {
            scene.shows(
                feature,
                direction,
                &between(direction, &name, "home/Pod/peer", port),
                Allowed,
            );
        }
        for port in ["80", "90/udp"] {
            scene.shows(
                feature,
                direction,
                &between(direction, &name, "home/Pod/unrelated", port),
                Denied,
            );
        }
    }

    // One port for every source.
    for (feature, peers) in [
        (Feature::EmptyPeers, format!("{}: [], ", side(direction))),
        (Feature::MissingPeers, String::new()),
    ] {
        let name = subject(
            &mut scene,
            feature.code(),
            &format!("{{{peers}ports: [{{port: 80}}]}}"),
        );
        for other in ["home/Pod/peer", "home/Pod/unrelated"] {
            scene.shows(
                feature,
                direction,
                &between(direction, &name, other, "80"),
                Allowed,
            );
            scene.shows(
                feature,
                direction,
                &between(direction, &name, other, "81"),
                Denied,
            );
        }
    }
    named_ports(&mut scene, direction);
    scene.case(&format!("ports-{}", direction.tag()))
}

/// One name, another number on each pod: the target's own counts.
fn named_ports(scene: &mut Scene, direction: Direction) {
    let mut shows =
        |line: &str, expected| scene.shows(Feature::NamedPort, direction, line, expected);
    match direction {
        Ingress => {
            for (pod, own, other) in [("named-one", 8000, 8001), ("named-two", 8001, 8000)] {
                shows(&format!("home/Pod/peer -> home/Pod/{pod}:{own}"), Allowed);
                shows(&format!("home/Pod/peer -> home/Pod/{pod}:{other}"), Denied);
            }
            scene.pod("home/named-one", "subject: named", "web=8000 8001", "", "");
            scene.pod("home/named-two", "subject: named", "web=8001 8000", "", "");
        }
        Egress => {
            shows("home/Pod/named -> home/Pod/peer:8000", Allowed);
            shows("home/Pod/named -> home/Pod/peer-too:8001", Allowed);
            shows("home/Pod/named -> home/Pod/peer-too:8000", Denied);
            scene.pod("home/named", "subject: named", "", "", "");
        }
    }
    scene.policy(
        "home/named",
        &format!(
            "{}, {}",
            selecting("named"),
            rules(direction, "{ports: [{port: web}]}")
        ),
    );
}

/// Who is isolated at all, and in which direction.
fn isolation() -> Evaluation {
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home");
    for pod in ["peer", "unrelated", "friend"] {
        scene.pod(&format!("home/{pod}"), &format!("app: {pod}"), "80", "", "");
    }
    let peer = "{podSelector: {matchLabels: {app: peer}}}";
    let (from, to) = (
        format!("ingress: [{{from: [{peer}]}}]"),
        format!("egress: [{{to: [{peer}]}}]"),
    );
    let both = "policyTypes: [Ingress, Egress]";
    // What a spec says, and from or to whom it admits: (from peer, from unrelated, to peer, to
    // unrelated).
    let (yes, no) = (Allowed, Denied);
    let cases: [(Feature, String, [Expected; 4]); 9] = [
        (Feature::TypesAbsent, from.clone(), [yes, no, yes, yes]),
        (
            Feature::TypesAbsentWithEgress,
            to.clone(),
            [no, no, yes, no],
        ),
        (
            Feature::TypesAbsentEmptyEgress,
            format!("{from}, egress: []"),
            [yes, no, yes, yes],
        ),
        (
            Feature::TypesIngress,
            format!("policyTypes: [Ingress], {from}, {to}"),
            [yes, no, yes, yes],
        ),
        (
            Feature::TypesEgress,
            format!("policyTypes: [Egress], {from}, {to}"),
            [yes, yes, yes, no],
        ),
        (
            Feature::EmptyRules,
            format!("{both}, ingress: [], egress: []"),
            [no, no, no, no],
        ),
        (Feature::MissingRules, both.into(), [no, no, no, no]),
        (
            Feature::OpenRule,
            format!("{both}, ingress: [{{}}], egress: [{{}}]"),
            [yes, yes, yes, yes],
        ),
        (
            Feature::Replies,
            "policyTypes: [Egress], egress: []".into(),
            [yes, yes, no, no],
        ),
    ];

    for (feature, spec, expected) in &cases {
        let name = feature.code();
        scene.pod(
            &format!("home/{name}"),
            &format!("subject: {name}"),
            "80",
            "",
            "",
        );
        scene.policy(
            &format!("home/{name}"),
            &format!("{}, {spec}", selecting(name)),
        );
        let ways = [
            (Ingress, "peer"),
            (Ingress, "unrelated"),
            (Egress, "peer"),
            (Egress, "unrelated"),
        ];
        for ((direction, other), expected) in ways.into_iter().zip(expected) {
            let line = between(
                direction,
                &format!("home/Pod/{name}"),
                &format!("home/Pod/{other}"),
                "80",
            );
            scene.shows(*feature, direction, &line, *expected);
        }
    }
    union(&mut scene);
    selects_all(&mut scene);
    nodes_and_readiness(&mut scene);
    scene.case("isolation")
}

/// Two policies for one pod: either admits.
fn union(scene: &mut Scene) {
    scene.pod("home/union", "subject: union", "80", "", "");
    for app in ["peer", "friend"] {
        let one = format!("{{podSelector: {{matchLabels: {{app: {app}}}}}}}");
        let spec = format!(
            "policyTypes: [Ingress, Egress], ingress: [{{from: [{one}]}}], egress: [{{to: [{one}]}}]"
        );
        scene.policy(
            &format!("home/union-{app}"),
            &format!("{}, {spec}", selecting("union")),
        );
    }

    for direction in [Ingress, Egress] {
        for (other, expected) in [
            ("peer", Allowed),
            ("friend", Allowed),
            ("unrelated", Denied),
        ] {
            let line = between(
                direction,
                "home/Pod/union",
                &format!("home/Pod/{other}"),
                "80",
            );
            scene.shows(Feature::Union, direction, &line, expected);
        }
    }
}

/// One policy for every pod of a namespace.
fn selects_all(scene: &mut Scene) {
    scene.namespace("every", "tier: every");
    let peer =
        "{namespaceSelector: {matchLabels: {tier: home}}, podSelector: {matchLabels: {app: peer}}}";
    scene.policy(
        "every/all",
        &format!("podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{{from: [{peer}]}}], egress: [{{to: [{peer}]}}]"),
    );

    for pod in ["one", "two"] {
        scene.pod(&format!("every/{pod}"), "", "80", "", "");
        for direction in [Ingress, Egress] {
            for (other, expected) in [("peer", Allowed), ("unrelated", Denied)] {
                let line = between(
                    direction,
                    &format!("every/Pod/{pod}"),
                    &format!("home/Pod/{other}"),
                    "80",
                );
                scene.shows(Feature::SelectsAll, direction, &line, expected);
            }
        }
    }
}

/// What nodes reach, what runs in their network, and what is not ready.
fn nodes_and_readiness(scene: &mut Scene) {
    for node in ["node-1", "node-2"] {
        let spec = format!(", hostNetwork: true, nodeName: {node}");
        scene.pod(
            &format!("home/agent-{node}"),
            "app: agent",
            "9100",
            &spec,
            "",
        );
    }
    scene.pod("home/agent", "app: agent", "80", "", "");

    for (name, rules) in [
        ("own-node", String::new()),
        (
            "host-network",
            "{from: [{podSelector: {matchLabels: {app: agent}}}]}".to_owned(),
        ),
    ] {
        scene.pod(
            &format!("home/{name}"),
            &format!("subject: {name}"),
            "80",
            ", nodeName: node-1",
            "",
        );
        scene.policy(
            &format!("home/{name}"),
            &format!(
                "{}, policyTypes: [Ingress], ingress: [{rules}]",
                selecting(name)
            ),
        );
    }
    scene.shows(
        Feature::OwnNode,
        Ingress,
        "home/Pod/agent-node-1 -> home/Pod/own-node:80",
        Allowed,
    );
    scene.shows(
        Feature::OwnNode,
        Ingress,
        "home/Pod/agent-node-2 -> home/Pod/own-node:80",
        Denied,
    );
    scene.shows(
        Feature::HostNetwork,
        Ingress,
        "home/Pod/agent -> home/Pod/host-network:80",
        Allowed,
    );
    scene.shows(
        Feature::HostNetwork,
        Ingress,
        "home/Pod/agent-node-2 -> home/Pod/host-network:80",
        Denied,
    );
    let status = "phase: Running, conditions: [{type: Ready, status: \"False\"}]";
    scene.pod("home/not-ready", "subject: not-ready", "80", "", status);
    let peer = "{podSelector: {matchLabels: {app: peer}}}";
    let spec = format!("policyTypes: [Egress], egress: [{{to: [{peer}]}}]");
    scene.policy(
        "home/not-ready",
        &format!("{}, {spec}", selecting("not-ready")),
    );
    scene.shows(
        Feature::NotReady,
        Egress,
        "home/Pod/not-ready -> home/Pod/peer:80",
        Allowed,
    );
    scene.shows(
        Feature::NotReady,
        Egress,
        "home/Pod/not-ready -> home/Pod/unrelated:80",
        Denied,
    );
}

/// Blocks of addresses: outside, of pods, of one family.
fn blocks() -> Evaluation {
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home");
    let subject = |scene: &mut Scene, name: &str, direction: Direction, peers: &[String]| {
        scene.pod(
            &format!("home/{name}"),
            &format!("subject: {name}"),
            "8080",
            "",
            "",
        );
        let rule = format!("{{{}: [{}]}}", side(direction), peers.join(", "));
        scene.policy(
            &format!("home/{name}"),
            &format!("{}, {}", selecting(name), rules(direction, &rule)),
        );
    };
    // Outside: TEST-NET-2 and a range of 2001:db8::/32; the runner sends from TEST-NET-1 and
    // 2001:db8:2::2.
    let outside = [
        block("198.51.100.0/24", "198.51.100.128/25"),
        block("2001:db8:51::/64", "2001:db8:51::8000/113"),
    ];
    subject(&mut scene, "out", Egress, &outside);

    for (host, expected) in [
        ("198.51.100.10", Allowed),
        ("[2001:db8:51::10]", Allowed),
        ("198.51.100.200", Denied),
        ("[2001:db8:51::8010]", Denied),
    ] {
        scene.shows(
            Feature::BlockOutside,
            Egress,
            &format!("home/Pod/out -> {host}:8080"),
            expected,
        );
    }
    subject(
        &mut scene,
        "in",
        Ingress,
        &[
            block("192.0.2.0/24", "192.0.2.128/25"),
            block("2001:db8:2::/64", "2001:db8:2::8000/113"),
        ],
    );
    subject(
        &mut scene,
        "in-not",
        Ingress,
        &[
            block("192.0.2.0/24", "192.0.2.0/25"),
            block("2001:db8:2::/64", "2001:db8:2::/113"),
        ],
    );
    scene.shows(
        Feature::BlockOutside,
        Ingress,
        "runner -> home/Pod/in:8080",
        Allowed,
    );
    scene.shows(
        Feature::BlockOutside,
        Ingress,
        "runner -> home/Pod/in-not:8080",
        Denied,
    );
    // Pods whose addresses are pinned.
    scene.pod("home/inside", "", "8080", "", &at("10.9.0.10", "fd09::10"));
    scene.pod(
        "home/excepted",
        "",
        "8080",
        "",
        &at("10.9.0.200", "fd09::110"),
    );
    scene.pod(
        "home/elsewhere",
        "",
        "8080",
        "",
        &at("10.9.1.10", "fd09:1::10"),
    );
    scene.pod(
        "home/only-v4",
        "",
        "8080",
        "",
        "podIPs: [{ip: \"10.9.2.10\"}]",
    );
    scene.pod(
        "home/only-v6",
        "",
        "8080",
        "",
        "podIPs: [{ip: \"fd09:2::10\"}]",
    );
    let pods = [
        block("10.9.0.0/24", "10.9.0.128/25"),
        block("fd09::/64", "fd09::100/120"),
    ];
    let whole = |cidr: &str| format!("{{ipBlock: {{cidr: \"{cidr}\"}}}}");

    for direction in [Ingress, Egress] {
        let named = |what: &str| format!("{what}-{}", direction.tag());
        subject(&mut scene, &named("pods"), direction, &pods);
        for (other, expected) in [
            ("inside", Allowed),
            ("excepted", Denied),
            ("elsewhere", Denied),
        ] {
            let line = between(
                direction,
                &format!("home/Pod/{}", named("pods")),
                &format!("home/Pod/{other}"),
                "8080",
            );
            scene.shows(Feature::BlockPods, direction, &line, expected);
        }
        for (name, cidr, admitted, stopped) in [
            ("all-v4", "0.0.0.0/0", "only-v4", "only-v6"),
            ("all-v6", "::/0", "only-v6", "only-v4"),
        ] {
            subject(&mut scene, &named(name), direction, &[whole(cidr)]);
            for (other, expected) in [(admitted, Allowed), (stopped, Denied)] {
                let line = between(
                    direction,
                    &format!("home/Pod/{}", named(name)),
                    &format!("home/Pod/{other}"),
                    "8080",
                );
                scene.shows(Feature::BlockOfOneFamily, direction, &line, expected);
            }
        }
    }
    scene.case("blocks")
}

/// Pods of every kind of workload at either end, and Services before them.
fn workloads() -> Evaluation {
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home");
    scene.pod("home/peer", "app: peer", "80", "", "");
    scene.pod("home/unrelated", "app: unrelated", "80", "", "");
    let kinds = [
        (
            Feature::Deployment,
            "apps/v1",
            "Deployment",
            "replicas: 3, ",
        ),
        (
            Feature::StatefulSet,
            "apps/v1",
            "StatefulSet",
            "replicas: 2, serviceName: headless, ",
        ),
        (Feature::DaemonSet, "apps/v1", "DaemonSet", ""),
        (Feature::Job, "batch/v1", "Job", "parallelism: 2, "),
    ];
    let peer = "{podSelector: {matchLabels: {app: peer}}}";

    for (feature, api, kind, more) in kinds {
        let name = feature.code();
        let selector = match feature {
            Feature::Job => String::new(),
            _ => format!("selector: {{matchLabels: {{subject: {name}}}}}, "),
        };
        let once = if feature == Feature::Job {
            ", restartPolicy: Never"
        } else {
            ""
        };
        let template = format!(
            "template: {{metadata: {{labels: {{subject: {name}}}}}, spec: {{containers: [{{name: main, image: main, \
             ports: [{{name: web, containerPort: 8080}}]}}]{once}}}}}"
        );
        scene.object(&format!(
            "{{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}, namespace: home}}, spec: {{{more}{selector}{template}}}}}"
        ));
        let spec = format!(
            "policyTypes: [Ingress, Egress], ingress: [{{from: [{peer}], ports: [{{port: 8080}}]}}], egress: [{{to: [{peer}]}}]"
        );
        scene.policy(
            &format!("home/{name}"),
            &format!("{}, {spec}", selecting(name)),
        );
        for (other, expected) in [("peer", Allowed), ("unrelated", Denied)] {
            scene.shows(
                feature,
                Ingress,
                &format!("home/Pod/{other} -> home/{kind}/{name}:8080"),
                expected,
            );
            scene.shows(
                feature,
                Egress,
                &format!("home/{kind}/{name} -> home/Pod/{other}:80"),
                expected,
            );
        }
    }
    services(&mut scene);
    scene.case("workloads")
}

/// Services: policies say the pods' port, lines the Service's.
fn services(scene: &mut Scene) {
    for (feature, target) in [
        (Feature::ClusterIp, "8080"),
        (Feature::NamedTargetPort, "web"),
    ] {
        let name = feature.code();
        scene.object(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: home}}, \
             spec: {{selector: {{subject: deployment}}, ports: [{{port: 80, targetPort: {target}}}]}}}}"
        ));
        scene.object(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}-other, namespace: home}}, \
             spec: {{selector: {{app: unrelated}}, ports: [{{port: 81, targetPort: 80}}]}}}}"
        ));
        // The egress of a client ends at the pods' port, not at the Service's.
        scene.pod(
            &format!("home/{name}-client"),
            &format!("app: peer, client: {name}"),
            "",
            "",
            "",
        );
        let deployment = "{podSelector: {matchLabels: {subject: deployment}}}";
        scene.policy(
            &format!("home/{name}-client"),
            &format!(
                "podSelector: {{matchLabels: {{client: {name}}}}}, policyTypes: [Egress], \
                 egress: [{{to: [{deployment}], ports: [{{port: 8080}}]}}]"
            ),
        );
        scene.shows(
            feature,
            Ingress,
            &format!("home/Pod/peer -> home/Service/{name}:80"),
            Allowed,
        );
        scene.shows(
            feature,
            Ingress,
            &format!("home/Pod/unrelated -> home/Service/{name}:80"),
            Denied,
        );
        scene.shows(
            feature,
            Egress,
            &format!("home/Pod/{name}-client -> home/Service/{name}:80"),
            Allowed,
        );
        scene.shows(
            feature,
            Egress,
            &format!("home/Pod/{name}-client -> home/Service/{name}-other:81"),
            Denied,
        );
    }
    scene.object(
        "{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: home}, \
         spec: {clusterIP: None, selector: {subject: stateful-set}, ports: [{port: 8080}]}}",
    );
    scene.object(
        "{apiVersion: v1, kind: Service, metadata: {name: headless-other, namespace: home}, \
         spec: {clusterIP: None, selector: {app: unrelated}, ports: [{port: 80}]}}",
    );
    scene.pod(
        "home/headless-client",
        "app: peer, client: headless",
        "",
        "",
        "",
    );
    scene.policy(
        "home/headless-client",
        "podSelector: {matchLabels: {client: headless}}, policyTypes: [Egress], \
         egress: [{to: [{podSelector: {matchLabels: {subject: stateful-set}}}]}]",
    );
    scene.shows(
        Feature::Headless,
        Ingress,
        "home/Pod/peer -> home/Service/headless:8080",
        Allowed,
    );
    scene.shows(
        Feature::Headless,
        Ingress,
        "home/Pod/unrelated -> home/Service/headless:8080",
        Denied,
    );
    scene.shows(
        Feature::Headless,
        Egress,
        "home/Pod/headless-client -> home/Service/headless:8080",
        Allowed,
    );
    scene.shows(
        Feature::Headless,
        Egress,
        "home/Pod/headless-client -> home/Service/headless-other:80",
        Denied,
    );
}

/// A peer's selector of pods with one match expression.
fn pods_with(expression: &str) -> String {
    format!("podSelector: {{matchExpressions: [{{{expression}}}]}}")
}

/// A peer's selector of namespaces with one match expression.
fn namespaces_with(expression: &str) -> String {
    format!("namespaceSelector: {{matchExpressions: [{{{expression}}}]}}")
}

/// A block of addresses with an exception.
fn block(cidr: &str, except: &str) -> String {
    format!("{{ipBlock: {{cidr: \"{cidr}\", except: [\"{except}\"]}}}}")
}

/// The status of a pod with pinned addresses.
fn at(v4: &str, v6: &str) -> String {
    format!("podIPs: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]")
}
