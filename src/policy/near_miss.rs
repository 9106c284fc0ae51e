//! What a selector, a peer or a rule lacks to match an end of a flow, as text and as edits need it.

use super::addresses::{KnownAddress, Membership};
use super::flow_end::FlowEnd;
use super::rules::{Block, Direction, Namespaces, Peer, Ports, Rule, Scope};
use super::selector::{Operator, Requirement};
use crate::inventory::{Labels, Pod};
use crate::model::Port;

/// A requirement of a selector that a pod does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MissingRequirement {
    /// A label of the pod.
    PodLabel {
        requirement: Requirement,
        /// The value that the pod has.
        has: Option<String>,
    },
    /// A label of its namespace.
    NamespaceLabel {
        namespace: String,
        requirement: Requirement,
        /// The value that the namespace has.
        has: Option<String>,
    },
    /// The pod's namespace. A podSelector without a namespaceSelector selects pods of the policy's
    /// own namespace only.
    OtherNamespace { namespace: String, own: String },
}

impl MissingRequirement {
    /// Why the selector does not match.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::PodLabel { requirement, has } => {
                label_reason("the pod", requirement, has.as_deref())
            }
            Self::NamespaceLabel {
                namespace,
                requirement,
                has,
            } => label_reason(
                &format!("namespace {namespace}"),
                requirement,
                has.as_deref(),
            ),
            Self::OtherNamespace { namespace, own } => format!(
                "the pod is in namespace {namespace}, and a podSelector without a namespaceSelector \
                 selects only pods of the policy's namespace, {own}"
            ),
        }
    }

    /// The change to the pod, its namespace or the peer after which the selector matches.
    pub(super) fn remedy(&self, pod: &str) -> String {
        match self {
            Self::PodLabel { requirement, has } => {
                label_remedy(&format!("pod {pod}"), requirement, has.as_deref())
            }
            Self::NamespaceLabel {
                namespace,
                requirement,
                has,
            } => label_remedy(
                &format!("namespace {namespace}"),
                requirement,
                has.as_deref(),
            ),
            Self::OtherNamespace { namespace, .. } => format!(
                "add a namespaceSelector for {namespace} beside the podSelector \
                 (matchLabels: kubernetes.io/metadata.name: {namespace})"
            ),
        }
    }

    /// Whether the author of the policy or the pod probably mistyped or forgot a label: it is
    /// absent, or its value is almost the required one. A different value usually means a
    /// different pod.
    pub(super) fn is_likely_typo(&self) -> bool {
        match self {
            Self::PodLabel { requirement, has }
            | Self::NamespaceLabel {
                requirement, has, ..
            } => match (&requirement.operator, has) {
                (Operator::In(_) | Operator::Exists, None) => true,
                (Operator::In(values), Some(has)) => {
                    values.iter().any(|value| is_similar(value, has))
                }
                (Operator::Exists | Operator::NotIn(_) | Operator::DoesNotExist, _) => false,
            },
            Self::OtherNamespace { .. } => false,
        }
    }

    /// The change after which a policy selects a pod, without a claim about which of the two is
    /// wrong.
    pub(super) fn reconcile(&self, policy: &str, pod: &str) -> String {
        match self {
            Self::PodLabel {
                requirement,
                has: Some(value),
            } if matches!(requirement.operator, Operator::In(_)) => {
                let key = &requirement.key;
                format!(
                    "{policy} selects {requirement} and pod {pod} has {key}={value}: \
                     make the two the same"
                )
            }
            Self::PodLabel { .. } | Self::NamespaceLabel { .. } | Self::OtherNamespace { .. } => {
                format!("{}, so that {policy} selects it", self.remedy(pod))
            }
        }
    }
}

/// Whether two values are probably two spellings of one: `postgres` and `postgresql`, but not `a`
/// and `b`.
pub(super) fn is_similar(one: &str, other: &str) -> bool {
    const MIN_SIMILARITY: f64 = 0.75;
    strsim::normalized_damerau_levenshtein(&one.to_ascii_lowercase(), &other.to_ascii_lowercase())
        >= MIN_SIMILARITY
}

/// Why the labels of an object do not meet a requirement.
fn label_reason(object: &str, requirement: &Requirement, has: Option<&str>) -> String {
    let key = &requirement.key;
    match (&requirement.operator, has) {
        (Operator::In(_), Some(value)) => format!("{object} has {key}={value}, not {requirement}"),
        (Operator::In(_) | Operator::Exists, _) => {
            format!("{object} has no label {key} (required: {requirement})")
        }
        (Operator::NotIn(_), value) => format!(
            "{object} has {key}={}, which is excluded",
            value.unwrap_or_default()
        ),
        (Operator::DoesNotExist, _) => format!("{object} has the label {key}, which is excluded"),
    }
}

/// The change to the labels of an object after which they meet a requirement.
fn label_remedy(object: &str, requirement: &Requirement, has: Option<&str>) -> String {
    let key = &requirement.key;
    match (&requirement.operator, has) {
        (Operator::In(values), None) => {
            let value = values.first().map_or("", String::as_str);
            format!("add the label {key}={value} to {object}")
        }
        (Operator::In(values), Some(old)) => {
            let value = values.first().map_or("", String::as_str);
            format!("change the label {key}={old} of {object} to {value}")
        }
        (Operator::Exists, _) => format!("add a label {key} to {object}"),
        (Operator::NotIn(_) | Operator::DoesNotExist, _) => {
            format!("remove the label {key} from {object}")
        }
    }
}

/// The requirements of a scope that a pod does not meet; none if the scope selects it.
pub(super) fn missing_requirements(
    scope: &Scope,
    pod: &Pod,
    namespace_labels: &Labels,
) -> Vec<MissingRequirement> {
    let mut missing = missing_from_namespace(&scope.namespaces, pod, namespace_labels);

    let unmet = scope.pods.unmet(&pod.labels);
    missing.extend(unmet.map(|requirement| MissingRequirement::PodLabel {
        requirement: requirement.clone(),
        has: pod.labels.get(&requirement.key).cloned(),
    }));
    missing
}

fn missing_from_namespace(
    namespaces: &Namespaces,
    pod: &Pod,
    labels: &Labels,
) -> Vec<MissingRequirement> {
    match namespaces {
        Namespaces::Own(own) if *own != pod.namespace => {
            vec![MissingRequirement::OtherNamespace {
                namespace: pod.namespace.clone(),
                own: own.clone(),
            }]
        }
        Namespaces::Own(_) => Vec::new(),
        Namespaces::Matching(selector) => selector
            .unmet(labels)
            .map(|requirement| MissingRequirement::NamespaceLabel {
                namespace: pod.namespace.clone(),
                requirement: requirement.clone(),
                has: labels.get(&requirement.key).cloned(),
            })
            .collect(),
    }
}

/// One peer of a rule, compared with the other end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerMatch {
    /// The peer as text.
    pub(super) description: String,
    /// Why it does not match; empty if it does.
    pub(super) reasons: Vec<String>,
    /// The unmet requirements, where labels or the namespace do not match.
    pub(super) missing: Vec<MissingRequirement>,
    /// Whether the peer selects pods by labels, so that port names apply to it.
    pub(super) by_labels: bool,
}

impl PeerMatch {
    pub(super) fn matches(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Compares one peer of a rule with an end of a flow.
    fn of(peer: &Peer, end: &FlowEnd<'_>) -> Self {
        let missing = match (peer, end.pod) {
            (Peer::Pods(scope), Some(pod)) => {
                missing_requirements(scope, pod, &end.namespace_labels)
            }
            (Peer::Pods(_) | Peer::Block(_) | Peer::Nodes(_) | Peer::Names(_), _) => Vec::new(),
        };
        let reasons = if missing.is_empty() {
            mismatch(peer, end).into_iter().collect()
        } else {
            missing.iter().map(MissingRequirement::reason).collect()
        };

        Self {
            description: describe(peer),
            reasons,
            missing,
            by_labels: matches!(peer, Peer::Pods(_)),
        }
    }
}

/// Every peer of a rule, compared with the other end of a flow; empty for a rule without peers,
/// which matches every peer.
pub(super) fn match_peers(rule: &Rule, end: &FlowEnd<'_>) -> Vec<PeerMatch> {
    let peers = rule.peers.iter().flatten();
    peers.map(|peer| PeerMatch::of(peer, end)).collect()
}

/// Why a peer does not match an end, for reasons other than labels and namespaces of pods.
fn mismatch(peer: &Peer, end: &FlowEnd<'_>) -> Option<String> {
    let name = &end.name;
    match peer {
        Peer::Pods(_) if end.pod.is_some() => None,
        Peer::Pods(_) if end.node.is_some() => Some(format!(
            "{name} has the identity of a node, and selectors match only pods"
        )),
        Peer::Pods(_) => Some(format!("{name} is not a pod")),
        Peer::Block(block) => {
            let membership = end.known.is_in(block);
            (!membership.holds).then(|| why_outside(block, membership, end))
        }
        Peer::Nodes(selector) => match end.node {
            Some(node) if selector.matches(&node.labels) => None,
            Some(node) => Some(format!("node {} does not have these labels", node.name)),
            None => Some(format!("{name} is not a node")),
        },
        Peer::Names(_) => {
            Some("the addresses of domain names are unknown, so they match nothing".to_owned())
        }
    }
}

/// Why a block does not contain an end.
fn why_outside(block: &Block, membership: Membership, end: &FlowEnd<'_>) -> String {
    let name = &end.name;
    match (end.known, end.address) {
        (_, Some(address)) if block.cidr.contains(address) => {
            format!("{address} is in an except block")
        }
        (_, Some(address)) => format!("{address} is not in the block"),
        (KnownAddress::Absent, None) => {
            format!("{name} has no {} address", block.cidr.family())
        }
        (_, None) if membership.depends => {
            format!("whether the block contains {name} is unknown: its address is not given")
        }
        (_, None) => format!("the block has no private address, and {name} has no other"),
    }
}

/// A peer as text.
pub(super) fn describe(peer: &Peer) -> String {
    match peer {
        Peer::Pods(scope) => describe_scope(scope),
        Peer::Block(block) => block.to_string(),
        Peer::Nodes(selector) if selector.requirements.is_empty() => "every node".to_owned(),
        Peer::Nodes(selector) => format!("nodes with {selector}"),
        Peer::Names(names) => format!("domain names {}", names.join(", ")),
    }
}

fn describe_scope(scope: &Scope) -> String {
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

/// Whether port names apply in a rule to a flow: on ingress always, on egress only if the peer
/// selects pods. "A named port on a pod" (NetworkPolicyPort.port) does not exist in an address
/// block.
pub(super) fn port_names_apply(rule: &Rule, direction: Direction, peers: &[PeerMatch]) -> bool {
    let mut matching = peers.iter().filter(|peer| peer.matches()).peekable();
    direction == Direction::Ingress
        || rule.peers.is_none()
        || matching.peek().is_none()
        || matching.any(|peer| peer.by_labels)
}

/// Whether a rule's ports contain a port of a destination, and why as text.
pub(super) fn match_port(
    rule: &Rule,
    port: Port,
    destination: &FlowEnd<'_>,
    port_names_apply: bool,
) -> (bool, String) {
    let Some(ports) = &rule.ports else {
        return (true, "every port".to_owned());
    };
    let texts: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let text = if texts.is_empty() {
        "no port".to_owned()
    } else {
        texts.join(", ")
    };
    let declared = destination.declared_ports();
    if rule.matches_port(port, declared, port_names_apply) {
        return (true, text);
    }

    let undeclared = ports.iter().find_map(|ports| match ports {
        Ports::Named(_, name) if ports.on(declared).is_empty() => Some(name),
        Ports::Named(..) | Ports::Range(..) => None,
    });
    let has_names = ports.iter().any(|ports| matches!(ports, Ports::Named(..)));
    let name = &destination.name;
    let reason = match (undeclared, destination.pod) {
        _ if has_names && !port_names_apply => {
            format!("{text}: port names do not apply to address blocks")
        }
        (Some(port_name), Some(_)) => {
            format!("{text}: {name} declares no port named {port_name:?}")
        }
        (Some(_), None) => {
            format!("{text}: port names do not apply to {name}, which is not a pod")
        }
        (None, _) => format!("{text}, not {port}"),
    };
    (false, reason)
}
