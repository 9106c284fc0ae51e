//! A small world under policies of the whole cluster, with an admitted counterpart for each source
//! that is not admitted.

use crate::features::Direction::{self, Egress, Ingress};
use crate::features::Feature;
use crate::runner::Evaluation;
use crate::scene::Scene;
use watertight::event::Expected::{Allowed, Denied};

/// Tiers, actions, priorities, peers and ports.
pub(crate) fn all() -> Vec<Evaluation> {
    vec![tiers(), peers()]
}

const EVERY_POD: &str = "{namespaces: {}}";

/// Rules in their order: action and peer.
type Rules<'a> = Vec<(&'a str, &'a str)>;

/// Pods by a label, in whatever namespace.
fn colour(colour: &str) -> String {
    format!(
        "{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{colour: {colour}}}}}}}}}"
    )
}

/// A rule about each direction.
fn rules(each: &[(&str, &str)], more: &str) -> String {
    let of = |key: &str| -> String {
        each.iter()
            .map(|(action, peer)| format!("{{action: {action}, {key}: [{peer}]{more}}}, "))
            .collect()
    };
    format!("ingress: [{}], egress: [{}]", of("from"), of("to"))
}

impl Scene {
    /// A pod that a policy is about, by its name.
    fn subject(&mut self, name: &str) {
        self.pod(
            &format!("home/{name}"),
            &format!("subject: {name}"),
            "80",
            "",
            "",
        );
    }

    /// Adds a policy of the whole cluster about the pods of a subject.
    fn cluster(&mut self, kind: &str, name: &str, subject: &str, spec: &str) {
        let version = if kind == "ClusterNetworkPolicy" {
            "v1alpha2"
        } else {
            "v1alpha1"
        };
        self.object(&format!(
            "{{apiVersion: policy.networking.k8s.io/{version}, kind: {kind}, metadata: {{name: {name}}}, spec: {{\
             subject: {{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{subject: {subject}}}}}}}}}, {spec}}}}}"
        ));
    }

    /// Red pods reach the subject and are reached; blue ones are not.
    fn red_not_blue(&mut self, feature: Feature, directions: &[Direction]) {
        let subject = feature.code();
        for direction in directions {
            for (pod, expected) in [
                ("home/Pod/red", Allowed),
                ("away/Pod/red", Allowed),
                ("away/Pod/blue", Denied),
            ] {
                let line = match direction {
                    Ingress => format!("{pod} -> home/Pod/{subject}:80"),
                    Egress => format!("home/Pod/{subject} -> {pod}:80"),
                };
                self.shows(feature, *direction, &line, expected);
            }
        }
    }
}

/// Red pods in both namespaces, and a blue one.
fn cast() -> Scene {
    let mut scene = Scene::default();
    scene.namespace("home", "tier: home");
    scene.namespace("away", "tier: away");

    for (pod, colour) in [
        ("home/red", "red"),
        ("away/red", "red"),
        ("away/blue", "blue"),
    ] {
        scene.pod(pod, &format!("colour: {colour}"), "web=80", "", "");
    }
    scene
}

fn tiers() -> Evaluation {
    let mut scene = cast();
    let (red, blue) = (colour("red"), colour("blue"));
    let both = "policyTypes: [Ingress, Egress]";
    let policy = |scene: &mut Scene, name: &str, spec: &str| {
        scene.policy(
            &format!("home/{name}"),
            &format!("podSelector: {{matchLabels: {{subject: {name}}}}}, {both}, {spec}"),
        );
    };
    let closed = "ingress: [], egress: []";
    let open = "ingress: [{}], egress: [{}]";
    let cases: [(Feature, Option<&str>, Rules<'_>, Rules<'_>); 6] = [
        (
            Feature::AdminAccept,
            Some(closed),
            vec![("Accept", &red)],
            vec![],
        ),
        (
            Feature::AdminDeny,
            Some(open),
            vec![("Deny", &blue)],
            vec![],
        ),
        (
            Feature::AdminPass,
            Some(open),
            vec![("Pass", &red), ("Deny", EVERY_POD)],
            vec![],
        ),
        (
            Feature::RulesInOrder,
            None,
            vec![("Accept", &red), ("Deny", EVERY_POD), ("Accept", &blue)],
            vec![],
        ),
        (
            Feature::BaselineDeny,
            None,
            vec![],
            vec![("Accept", &red), ("Deny", EVERY_POD)],
        ),
        (
            Feature::BaselineUnasked,
            Some(open),
            vec![],
            vec![("Deny", EVERY_POD)],
        ),
    ];

    for (feature, own, admin, baseline) in cases {
        let name = feature.code();
        scene.subject(name);
        if let Some(spec) = own {
            policy(&mut scene, name, spec);
        }
        for (tier, each) in [("Admin", admin), ("Baseline", baseline)] {
            if !each.is_empty() {
                let spec = format!("tier: {tier}, priority: 10, {}", rules(&each, ""));
                scene.cluster(
                    "ClusterNetworkPolicy",
                    &format!("{name}-{}", tier.to_lowercase()),
                    name,
                    &spec,
                );
            }
        }
        if feature == Feature::BaselineUnasked {
            scene.shows(
                feature,
                Ingress,
                &format!("away/Pod/blue -> home/Pod/{name}:80"),
                Allowed,
            );
            scene.shows(
                feature,
                Egress,
                &format!("home/Pod/{name} -> away/Pod/blue:80"),
                Allowed,
            );
        } else {
            scene.red_not_blue(feature, &[Ingress, Egress]);
        }
    }
    let name = Feature::Priority.code();
    scene.subject(name);

    for (policy, priority, each) in [
        ("late", 20, ("Deny", EVERY_POD)),
        ("soon", 3, ("Accept", red.as_str())),
    ] {
        let spec = format!("tier: Admin, priority: {priority}, {}", rules(&[each], ""));
        scene.cluster(
            "ClusterNetworkPolicy",
            &format!("{name}-{policy}"),
            name,
            &spec,
        );
    }
    scene.red_not_blue(Feature::Priority, &[Ingress, Egress]);
    let name = Feature::AdminNetworkPolicy.code();
    scene.subject(name);
    let spec = format!(
        "priority: 5, {}",
        rules(&[("Pass", &red), ("Deny", EVERY_POD)], "")
    );
    scene.cluster("AdminNetworkPolicy", name, name, &spec);
    scene.red_not_blue(Feature::AdminNetworkPolicy, &[Ingress, Egress]);
    let name = Feature::BaselineAdminNetworkPolicy.code();
    scene.subject(name);
    scene.cluster(
        "BaselineAdminNetworkPolicy",
        "default",
        name,
        &rules(&[("Allow", &red), ("Deny", EVERY_POD)], ""),
    );
    scene.red_not_blue(Feature::BaselineAdminNetworkPolicy, &[Ingress, Egress]);
    // A later version's way to name peers: the whole direction is denied.
    let name = Feature::FailsClosed.code();
    scene.subject(name);
    scene.cluster(
        "ClusterNetworkPolicy",
        name,
        name,
        &format!(
            "tier: Admin, priority: 1, {}",
            rules(&[("Pass", "{gateways: {}}")], "")
        ),
    );
    scene.shows(
        Feature::FailsClosed,
        Ingress,
        &format!("home/Pod/red -> home/Pod/{name}:80"),
        Denied,
    );
    scene.shows(
        Feature::FailsClosed,
        Egress,
        &format!("home/Pod/{name} -> home/Pod/red:80"),
        Denied,
    );
    scene.case("cluster-tiers")
}

fn peers() -> Evaluation {
    let mut scene = cast();
    let deny = |scene: &mut Scene, name: &str, rules: &str| {
        scene.cluster(
            "ClusterNetworkPolicy",
            name,
            name,
            &format!("tier: Admin, priority: 7, {rules}"),
        );
    };
    // Blocks that overlap: the first rule decides.
    let name = Feature::Networks.code();
    scene.subject(name);
    let blocks = "egress: [{action: Accept, to: [{networks: [198.51.100.0/26, \"2001:db8:51::/120\"]}]}, \
                  {action: Deny, to: [{networks: [198.51.100.0/24, \"2001:db8:51::/64\"]}]}]";
    deny(&mut scene, name, blocks);

    for (host, expected) in [
        ("198.51.100.10", Allowed),
        ("198.51.100.200", Denied),
        ("[2001:db8:51::10]", Allowed),
        ("[2001:db8:51::8010]", Denied),
    ] {
        scene.shows(
            Feature::Networks,
            Egress,
            &format!("home/Pod/{name} -> {host}:8080"),
            expected,
        );
    }
    // Nodes, in the person of pods that share their network.
    let name = Feature::Nodes.code();
    scene.subject(name);

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
    deny(
        &mut scene,
        name,
        "egress: [{action: Deny, to: [{nodes: {matchLabels: {kubernetes.io/hostname: node-2}}}]}]",
    );

    for (node, expected) in [("node-1", Allowed), ("node-2", Denied)] {
        scene.shows(
            Feature::Nodes,
            Egress,
            &format!("home/Pod/{name} -> home/Pod/agent-{node}:9100"),
            expected,
        );
    }
    // Whole namespaces.
    let name = Feature::Namespaces.code();
    scene.subject(name);
    deny(
        &mut scene,
        name,
        &rules(&[("Deny", "{namespaces: {matchLabels: {tier: away}}}")], ""),
    );

    for (pod, expected) in [("home/Pod/red", Allowed), ("away/Pod/red", Denied)] {
        scene.shows(
            Feature::Namespaces,
            Ingress,
            &format!("{pod} -> home/Pod/{name}:80"),
            expected,
        );
        scene.shows(
            Feature::Namespaces,
            Egress,
            &format!("home/Pod/{name} -> {pod}:80"),
            expected,
        );
    }
    ports(&mut scene);
    scene.case("cluster-peers")
}

/// A subject with ports of its own, and one that others have: what is denied is the second of each
/// pair.
fn ports(scene: &mut Scene) {
    for (feature, denied) in [
        (
            Feature::PortNumbers,
            "{tcp: {destinationPort: {number: 81}}}",
        ),
        (
            Feature::PortRange,
            "{tcp: {destinationPort: {range: {start: 81, end: 89}}}}",
        ),
        (Feature::PortOfName, "{destinationNamedPort: metrics}"),
    ] {
        let name = feature.code();
        for pod in [name.to_owned(), format!("{name}-other")] {
            let number = if pod == name || feature != Feature::PortOfName {
                81
            } else {
                82
            };
            let labels = if pod == name {
                format!("subject: {name}")
            } else {
                "colour: green".to_owned()
            };
            scene.pod(
                &format!("home/{pod}"),
                &labels,
                &format!("80 metrics={number}"),
                "",
                "",
            );
        }
        let spec = rules(&[("Deny", EVERY_POD)], &format!(", protocols: [{denied}]"));
        scene.cluster(
            "ClusterNetworkPolicy",
            name,
            name,
            &format!("tier: Admin, priority: 7, {spec}"),
        );
        let number = if feature == Feature::PortOfName {
            82
        } else {
            81
        };
        scene.shows(
            feature,
            Ingress,
            &format!("away/Pod/red -> home/Pod/{name}:80"),
            Allowed,
        );
        scene.shows(
            feature,
            Ingress,
            &format!("away/Pod/red -> home/Pod/{name}:81"),
            Denied,
        );
        scene.shows(
            feature,
            Egress,
            &format!("home/Pod/{name} -> home/Pod/{name}-other:80"),
            Allowed,
        );
        scene.shows(
            feature,
            Egress,
            &format!("home/Pod/{name} -> home/Pod/{name}-other:{number}"),
            Denied,
        );
    }
}
