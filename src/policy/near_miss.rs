//! What a selector, a peer or a rule lacks to match: in words, and how much it is.

use super::classes::namespace_labels;
use super::rules::{Direction, Namespaces, Peer, Ports, Rule, Scope};
use super::selector::{Must, Requirement};
use crate::inventory::{ContainerPort, Inventory, Labels, Node, Pod};
use crate::model::{Family, Port};
use std::net::IpAddr;

/// One end of a flow, with all that a rule may ask of it.
#[derive(Debug)]
pub(super) struct Party<'a> {
    /// The pod, if it has an identity of its own.
    pub(super) pod: Option<&'a Pod>,
    /// Labels of the pod's namespace.
    pub(super) namespace: Labels,
    /// The node, if it is one: a pod that shares its network is.
    pub(super) node: Option<&'a Node>,
    /// Its address in the family of the flow, where it is known.
    pub(super) address: Option<IpAddr>,
    /// As people refer to it.
    pub(super) name: String,
}

impl<'a> Party<'a> {
    pub(super) fn pod(inventory: &'a Inventory, pod: &'a Pod, family: Option<Family>) -> Self {
        let node = if pod.host_network {
            inventory.nodes.iter().find(|node| node.name == pod.node)
        } else {
            None
        };
        // A pod that shares its node's network has all of the node's addresses.
        let addresses = node.map_or(&pod.addresses, |node| &node.addresses);
        let fits = |address: &IpAddr| family.is_none_or(|family| Family::of(*address) == family);
        let address = addresses.iter().copied().find(fits);
        Self {
            pod: (!pod.host_network).then_some(pod),
            namespace: namespace_labels(inventory, &pod.namespace),
            node,
            address,
            name: pod.full_name(),
        }
    }

    /// The destination's declared ports, for names.
    pub(super) fn ports(&self) -> &'a [ContainerPort] {
        self.pod.map(|pod| pod.ports.as_slice()).unwrap_or_default()
    }
}

/// Something that is not as a selector wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MissingRequirement {
    /// A label of the pod.
    PodLabel {
        requirement: Requirement,
        has: Option<String>,
    },
    /// A label of its namespace.
    NamespaceLabel {
        namespace: String,
        requirement: Requirement,
        has: Option<String>,
    },
    /// A selector without namespaceSelector looks into the policy's own namespace only.
    OtherNamespace { namespace: String, own: String },
}

impl MissingRequirement {
    /// What stands in the way.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::PodLabel { requirement, has } => unlike("the pod", requirement, has.as_deref()),
            Self::NamespaceLabel {
                namespace,
                requirement,
                has,
            } => unlike(
                &format!("namespace {namespace}"),
                requirement,
                has.as_deref(),
            ),
            Self::OtherNamespace { namespace, own } => format!(
                "it is in namespace {namespace}, and a podSelector without namespaceSelector means the policy's own namespace, {own}"
            ),
        }
    }

    /// What would make it right, from the side of the pod.
    pub(super) fn remedy(&self, pod: &str) -> String {
        match self {
            Self::PodLabel { requirement, has } => {
                relabel(&format!("pod {pod}"), requirement, has.as_deref())
            }
            Self::NamespaceLabel {
                namespace,
                requirement,
                has,
            } => relabel(
                &format!("namespace {namespace}"),
                requirement,
                has.as_deref(),
            ),
            Self::OtherNamespace { namespace, .. } => format!(
                "add a namespaceSelector for {namespace} beside the podSelector (matchLabels: kubernetes.io/metadata.name: {namespace})"
            ),
        }
    }
}

impl MissingRequirement {
    /// Whether this may be a slip of whoever wrote a policy or a pod: a label that is not there, or
    /// one that is nearly the value that is wanted. Another value is mostly another pod.
    pub(super) fn may_be_a_slip(&self) -> bool {
        match self {
            Self::PodLabel { requirement, has }
            | Self::NamespaceLabel {
                requirement, has, ..
            } => match (&requirement.must, has) {
                (Must::In(_) | Must::Exist, None) => true,
                (Must::In(values), Some(has)) => {
                    values.iter().any(|wanted| nearly_spelt(wanted, has))
                }
                (Must::Exist | Must::NotIn(_) | Must::NotExist, _) => false,
            },
            Self::OtherNamespace { .. } => false,
        }
    }

    /// What would make a policy select a pod, without saying which of the two is wrong.
    pub(super) fn reconcile(&self, policy: &str, pod: &str) -> String {
        match self {
            Self::PodLabel {
                requirement,
                has: Some(value),
            } if matches!(requirement.must, Must::In(_)) => {
                let key = &requirement.key;
                format!(
                    "{policy} selects {requirement} and pod {pod} has {key}={value}: make the two the same"
                )
            }
            Self::PodLabel { .. } | Self::NamespaceLabel { .. } | Self::OtherNamespace { .. } => {
                format!("{}, so that {policy} selects it", self.remedy(pod))
            }
        }
    }
}

/// Whether two values are one, spelt in two ways: `postgres` and `postgresql`, but not `a` and `b`.
fn nearly_spelt(one: &str, other: &str) -> bool {
    const ALIKE: f64 = 0.75;
    strsim::normalized_damerau_levenshtein(&one.to_ascii_lowercase(), &other.to_ascii_lowercase())
        >= ALIKE
}

fn unlike(whose: &str, requirement: &Requirement, has: Option<&str>) -> String {
    let key = &requirement.key;
    match (&requirement.must, has) {
        (Must::In(_), Some(value)) => format!("{whose} has {key}={value}, not {requirement}"),
        (Must::In(_) | Must::Exist, _) => {
            format!("{whose} has no label {key} ({requirement} is wanted)")
        }
        (Must::NotIn(_), value) => format!(
            "{whose} has {key}={}, which is excluded",
            value.unwrap_or_default()
        ),
        (Must::NotExist, _) => format!("{whose} has the label {key}, which is excluded"),
    }
}

fn relabel(whose: &str, requirement: &Requirement, has: Option<&str>) -> String {
    let key = &requirement.key;
    match (&requirement.must, has) {
        (Must::In(values), None) => {
            format!(
                "give {whose} the label {key}={}",
                values.first().map_or("", |value| value)
            )
        }
        (Must::In(values), Some(old)) => {
            format!(
                "change the label {key}={old} of {whose} to {}",
                values.first().map_or("", |value| value)
            )
        }
        (Must::Exist, _) => format!("give {whose} a label {key}"),
        (Must::NotIn(_) | Must::NotExist, _) => format!("take the label {key} from {whose}"),
    }
}

/// What a pod lacks to be selected by a scope.
pub(super) fn missing_requirement(
    scope: &Scope,
    pod: &Pod,
    namespace: &Labels,
) -> Vec<MissingRequirement> {
    let mut missing_requirement: Vec<MissingRequirement> = match &scope.namespaces {
        Namespaces::Own(own) if *own != pod.namespace => {
            vec![MissingRequirement::OtherNamespace {
                namespace: pod.namespace.clone(),
                own: own.clone(),
            }]
        }
        Namespaces::Own(_) => Vec::new(),
        Namespaces::Matching(selector) => selector
            .missing_requirement(namespace)
            .map(|requirement| MissingRequirement::NamespaceLabel {
                namespace: pod.namespace.clone(),
                requirement: requirement.clone(),
                has: namespace.get(&requirement.key).cloned(),
            })
            .collect(),
    };
    missing_requirement.extend(
        scope
            .pods
            .missing_requirement(&pod.labels)
            .map(|requirement| MissingRequirement::PodLabel {
                requirement: requirement.clone(),
                has: pod.labels.get(&requirement.key).cloned(),
            }),
    );
    missing_requirement
}

/// How one peer of a rule stands to the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerStanding {
    /// What the peer is, in words.
    pub(super) what: String,
    /// Why it does not match; empty if it does.
    pub(super) reasons: Vec<String>,
    /// What stands in the way, where that is labels or a namespace.
    pub(super) missing_requirement: Vec<MissingRequirement>,
    /// Whether it means pods by their labels, so that names of their ports count.
    pub(super) by_labels: bool,
}

impl PeerStanding {
    pub(super) fn holds(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// How every peer of a rule stands to the other end; nothing for a rule without peers, which
/// matches anyone.
pub(super) fn peers(rule: &Rule, party: &Party<'_>) -> Vec<PeerStanding> {
    rule.peers
        .iter()
        .flatten()
        .map(|peer| peer_standing(peer, party))
        .collect()
}

fn peer_standing(peer: &Peer, party: &Party<'_>) -> PeerStanding {
    let what = describe(peer);
    let by_labels = matches!(peer, Peer::Pods(_));
    let no = |reason: String| PeerStanding {
        what: what.clone(),
        reasons: vec![reason],
        missing_requirement: Vec::new(),
        by_labels,
    };
    let yes = || PeerStanding {
        what: what.clone(),
        reasons: Vec::new(),
        missing_requirement: Vec::new(),
        by_labels,
    };
    match peer {
        Peer::Pods(scope) => match party.pod {
            Some(pod) => {
                let missing_requirement = missing_requirement(scope, pod, &party.namespace);
                PeerStanding {
                    what,
                    reasons: missing_requirement
                        .iter()
                        .map(MissingRequirement::reason)
                        .collect(),
                    missing_requirement,
                    by_labels,
                }
            }
            None if party.node.is_some() => no(format!(
                "{} has its node's identity, which no selector selects",
                party.name
            )),
            None => no(format!("{} is no pod", party.name)),
        },
        Peer::Block(block) => match party.address {
            Some(address) if block.contains(address) => yes(),
            Some(address) if block.cidr.contains(address) => no(format!("{address} is excepted")),
            Some(address) => no(format!("{address} is not in it")),
            None => no(format!(
                "the address of {} is not known, and ipBlock is meant for addresses outside",
                party.name
            )),
        },
        Peer::Nodes(selector) => match party.node {
            Some(node) if selector.matches(&node.labels) => yes(),
            Some(node) => no(format!("node {} does not carry these labels", node.name)),
            None => no(format!("{} is no node", party.name)),
        },
        Peer::Names(_) => {
            no("what domain names resolve to is not known here: they match nobody".to_owned())
        }
    }
}

/// A peer in words.
pub(super) fn describe(peer: &Peer) -> String {
    match peer {
        Peer::Pods(scope) => describe_scope(scope),
        Peer::Block(block) => block.to_string(),
        Peer::Nodes(selector) if selector.requirements.is_empty() => "every node".to_owned(),
        Peer::Nodes(selector) => format!("nodes with {selector}"),
        Peer::Names(names) => format!("domain names {}", names.join(", ")),
    }
}

/// A scope in words.
pub(super) fn describe_scope(scope: &Scope) -> String {
    let pods = if scope.pods.requirements.is_empty() {
        "every pod".to_owned()
    } else {
        format!("pods with {}", scope.pods)
    };
    match &scope.namespaces {
        Namespaces::Own(own) => format!("{pods} in namespace {own}"),
        Namespaces::Matching(selector) if selector.requirements.is_empty() => {
            format!("{pods} in any namespace")
        }
        Namespaces::Matching(selector) => format!("{pods} in namespaces with {selector}"),
    }
}

/// Whether names of ports count in a rule about this flow: at the subject always, at a peer only if
/// it is meant as a pod. "A named port on a pod" (NetworkPolicyPort.port) is nothing that an
/// address block has.
pub(super) fn names_count(rule: &Rule, direction: Direction, standings: &[PeerStanding]) -> bool {
    let mut holding = standings
        .iter()
        .filter(|standing| standing.holds())
        .peekable();
    direction == Direction::Ingress
        || rule.peers.is_none()
        || holding.peek().is_none()
        || holding.any(|standing| standing.by_labels)
}

/// How a rule's ports stand to a port of a destination: whether it is among them, and in words.
pub(super) fn ports(
    rule: &Rule,
    port: Port,
    destination: &Party<'_>,
    names_count: bool,
) -> (bool, String) {
    let Some(ports) = &rule.ports else {
        return (true, "every port".to_owned());
    };
    let words: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let words = if words.is_empty() {
        "no port".to_owned()
    } else {
        words.join(", ")
    };
    if rule.matches_port(port, destination.ports(), names_count) {
        return (true, words);
    }
    let unresolved = ports.iter().find_map(|ports| match ports {
        Ports::Named(_, name) if ports.on(destination.ports()).is_empty() => Some(name),
        Ports::Named(..) | Ports::Range(..) => None,
    });
    let named = ports.iter().any(|ports| matches!(ports, Ports::Named(..)));
    let why = match (unresolved, destination.pod) {
        _ if named && !names_count => {
            format!("{words}: a name means nothing where the peer is an address block")
        }
        (Some(name), Some(_)) => format!(
            "{words}: {} declares no port named {name:?}",
            destination.name
        ),
        (Some(_), None) => format!(
            "{words}: a name means nothing on {}, which is no pod",
            destination.name
        ),
        (None, _) => format!("{words}, not {port}"),
    };
    (false, why)
}
