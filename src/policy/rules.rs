//! Policies of every kind as one type: a direction, a subject, rules.

use super::InvalidPolicy;
use super::classes::namespace_labels;
use super::ports::PortSet;
use super::selector::Selector;
use crate::inventory::{
    Action, Cidr, ClusterPeer, ClusterPolicy, ClusterPort, ClusterRule, ContainerPort, Inventory,
    Labels, NetworkPolicy, PodScope, Policy, PolicyTier,
};
use crate::model::{Family, PolicyRef, Port, Transport};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The direction of traffic that a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Connections from its subject.
    Egress,
    /// Connections to its subject.
    Ingress,
}

impl Direction {
    /// Both, in the order in which a packet passes them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The direction as `policyTypes` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "Egress",
            Self::Ingress => "Ingress",
        }
    }
}

/// The rules of all policies.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// In the order in which they are asked: Admin by priority, NetworkPolicies by namespace and
    /// name, Baseline by priority; of one policy egress first.
    pub(super) policies: Vec<Arc<DirectionalPolicy>>,
}

/// One policy in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectionalPolicy {
    pub(super) name: PolicyName,
    pub(super) tier: PolicyTier,
    /// Within its tier, the lowest is asked first; 0 for NetworkPolicies.
    pub(super) priority: u16,
    pub(super) direction: Direction,
    /// Whether it is in force. A NetworkPolicy may have rules for a direction that its
    /// `policyTypes` leave out.
    pub(super) in_force: bool,
    /// Whether the policy states the direction; otherwise it follows from the rules.
    pub(super) stated: bool,
    pub(super) subject: Scope,
    pub(super) rules: Vec<Rule>,
}

impl DirectionalPolicy {
    /// The key of the order in which policies are asked; the lowest first.
    fn precedence(&self) -> impl Ord + use<'_> {
        let PolicyRef {
            kind,
            namespace,
            name,
        } = &self.name.reference;
        (self.tier, self.priority, namespace, name, kind)
    }
}

/// The name of a policy, with the place where it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct PolicyName {
    #[serde(flatten)]
    pub reference: PolicyRef,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reference.fmt(f)?;
        if self.origin.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.origin)
        }
    }
}

/// A rule of any kind of policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) origin: String,
    pub(super) action: Action,
    /// The other end of the connection: any of these; `None` is any peer.
    pub(super) peers: Option<Vec<Peer>>,
    /// Destination ports: any of these; `None` is every port and protocol.
    pub(super) ports: Option<Vec<Ports>>,
    /// Names of the fields that this version does not know; with one, the rule fails closed.
    pub(super) unknown: Vec<String>,
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    Pods(Scope),
    Block(Block),
    Nodes(Selector),
    /// DNS names. What they resolve to is not known here, so they match no address.
    Names(Vec<String>),
}

/// Pods of some namespaces; never those that share their node's network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) namespaces: Namespaces,
    pub(super) pods: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Namespaces {
    /// The namespace of the NetworkPolicy.
    Own(String),
    Matching(Selector),
}

impl Namespaces {
    pub(super) fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        match self {
            Self::Own(own) => own == namespace,
            Self::Matching(selector) => selector.matches(labels),
        }
    }
}

/// An address block without its exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Block {
    pub(super) cidr: Cidr,
    pub(super) except: Vec<Cidr>,
}

impl Block {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|except| except.contains(address))
    }
}

impl From<Cidr> for Block {
    fn from(cidr: Cidr) -> Self {
        Self {
            cidr,
            except: Vec::new(),
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cidr)?;
        let except: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        if except.is_empty() {
            Ok(())
        } else {
            write!(f, " except {}", except.join(", "))
        }
    }
}

/// Destination ports of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ports {
    /// The first and the last port of a range, both included.
    Range(Transport, u16, u16),
    /// The name of a container's port on the destination pod, of one transport or of any (`None`).
    Named(Option<Transport>, String),
}

impl Ports {
    /// The ports on a pod with these declared ports.
    pub(super) fn on(&self, declared: &[ContainerPort]) -> PortSet {
        match self {
            Self::Range(transport, first, last) => PortSet::range(*transport, *first, *last),
            Self::Named(transport, name) => {
                let mut set = PortSet::none();
                for declared in declared {
                    let port = declared.port;
                    if declared.name.as_deref() == Some(name)
                        && transport.is_none_or(|transport| transport == port.transport())
                    {
                        let number = port.number();
                        set = set.union(&PortSet::range(port.transport(), number, number));
                    }
                }
                set
            }
        }
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range(transport, first, last) => {
                write!(f, "{}", PortSet::range(*transport, *first, *last))
            }
            Self::Named(None | Some(Transport::Tcp), name) => write!(f, "{name:?}"),
            Self::Named(Some(transport), name) => write!(f, "{name:?}/{transport}"),
        }
    }
}

impl Rules {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy::In`]: the first policy that no API server would accept.
    pub(super) fn of(inventory: &Inventory) -> Result<Self, InvalidPolicy> {
        let mut policies = Vec::new();
        for policy in &inventory.policies {
            let name = PolicyName {
                reference: policy.reference(),
                origin: policy.origin().to_owned(),
            };
            for direction in Direction::ALL {
                let policy = match policy {
                    Policy::Network(policy) => network_policy(policy, name.clone(), direction),
                    Policy::Cluster(policy) => cluster_policy(policy, name.clone(), direction),
                };
                let policy = policy.map_err(|error| error.within(name.clone()))?;
                policies.extend(policy.map(Arc::new));
            }
        }

        // The order of two policies with one priority is undefined ("there is no way for the user
        // to reliably determine which", ClusterNetworkPolicySpec.priority); here names decide.
        policies.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        Ok(Self { policies })
    }

    /// Whether each of the policies selects no pod, mostly because a label is misspelt.
    pub(super) fn selecting_no_pod(&self, inventory: &Inventory) -> Vec<bool> {
        let pods = PodLabels::of(inventory);
        self.policies
            .iter()
            .map(|policy| !pods.any_in(&policy.subject))
            .collect()
    }
}

/// The labels of pods and of their namespaces, without pods that share their node's network.
struct PodLabels<'a> {
    /// Of the pods, by namespace.
    pods: BTreeMap<&'a str, Vec<&'a Labels>>,
    /// Of the namespaces that have pods.
    namespaces: BTreeMap<&'a str, Labels>,
}

impl<'a> PodLabels<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let mut pods: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
        for pod in inventory.pods.iter().filter(|pod| !pod.host_network) {
            pods.entry(&pod.namespace).or_default().push(&pod.labels);
        }
        let namespaces = pods
            .keys()
            .map(|name| (*name, namespace_labels(inventory, name)))
            .collect();
        Self { pods, namespaces }
    }

    /// Whether a scope contains a pod.
    fn any_in(&self, scope: &Scope) -> bool {
        self.pods
            .iter()
            .filter(|(name, _)| scope.namespaces.selects(name, &self.namespaces[*name]))
            .flat_map(|(_, pods)| pods)
            .any(|pod| scope.pods.matches(pod))
    }
}

/// Peers and ports of a NetworkPolicy's rule of either direction.
type PeersAndPorts<'a> = (
    Option<&'a [NetworkPolicyPeer]>,
    Option<&'a [NetworkPolicyPort]>,
);

/// A NetworkPolicy in a direction; `None` where it neither isolates nor has rules.
fn network_policy(
    policy: &NetworkPolicy,
    name: PolicyName,
    direction: Direction,
) -> Result<Option<DirectionalPolicy>, InvalidPolicy> {
    let spec = &policy.spec;
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let stated = types.iter().any(|word| word == direction.as_str());
    let in_force = match direction {
        // "If this field is not specified, it will default based on the existence of ingress or
        // egress rules; policies that contain an egress section are assumed to affect egress, and
        // all policies (whether or not they contain an ingress section) are assumed to affect
        // ingress" (NetworkPolicySpec.policyTypes). The defaulter asks for at least one egress rule
        // (SetDefaults_NetworkPolicy, pkg/apis/networking/v1/defaults.go).
        Direction::Ingress => stated || types.is_empty(),
        Direction::Egress => {
            stated
                || (types.is_empty() && spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()))
        }
    };

    let (rules, origins): (Vec<PeersAndPorts<'_>>, _) = match direction {
        Direction::Ingress => (
            spec.ingress
                .iter()
                .flatten()
                .map(|rule| (rule.from.as_deref(), rule.ports.as_deref()))
                .collect(),
            &policy.rule_origins.ingress,
        ),
        Direction::Egress => (
            spec.egress
                .iter()
                .flatten()
                .map(|rule| (rule.to.as_deref(), rule.ports.as_deref()))
                .collect(),
            &policy.rule_origins.egress,
        ),
    };
    if !in_force && rules.is_empty() {
        return Ok(None);
    }
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(index, rule)| {
            let origin = origins.get(index).cloned().unwrap_or_default();
            network_rule(rule, origin, &policy.namespace)
        })
        .collect::<Result<_, _>>()?;

    // An absent podSelector means an empty one, which selects all pods of the namespace
    // (NetworkPolicySpec.podSelector).
    let subject = Scope {
        namespaces: Namespaces::Own(policy.namespace.clone()),
        pods: selector_or_all(spec.pod_selector.as_ref())?,
    };
    Ok(Some(DirectionalPolicy {
        name,
        tier: PolicyTier::NetworkPolicy,
        priority: 0,
        direction,
        in_force,
        stated,
        subject,
        rules,
    }))
}

/// "If this field is empty or missing, this rule matches all sources"
/// (NetworkPolicyIngressRule.from), and likewise for `to` and `ports`; unlike a list of rules,
/// which admits nothing when it is empty.
fn network_rule(
    (peers, ports): PeersAndPorts<'_>,
    origin: String,
    namespace: &str,
) -> Result<Rule, InvalidPolicy> {
    let peers = match peers {
        None | Some([]) => None,
        Some(peers) => Some(
            peers
                .iter()
                .map(|peer| network_peer(peer, namespace))
                .collect::<Result<_, _>>()?,
        ),
    };
    let ports = match ports {
        None | Some([]) => None,
        Some(ports) => Some(ports.iter().map(network_port).collect::<Result<_, _>>()?),
    };
    Ok(Rule {
        name: None,
        origin,
        action: Action::Accept,
        peers,
        ports,
        unknown: Vec::new(),
    })
}

/// A parsed selector; an absent one selects all.
fn selector_or_all(selector: Option<&LabelSelector>) -> Result<Selector, InvalidPolicy> {
    selector
        .map(Selector::parse)
        .transpose()
        .map(Option::unwrap_or_default)
}

/// Reads a `NetworkPolicyPeer`: "podSelector ... selects the pods matching in the policy's own
/// namespace" unless there is a namespaceSelector too; then both must match. An empty
/// namespaceSelector selects all namespaces. An ipBlock has no selector beside it.
fn network_peer(peer: &NetworkPolicyPeer, namespace: &str) -> Result<Peer, InvalidPolicy> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => Ok(Peer::Block(ip_block(block)?)),
        (Some(_), ..) => Err(InvalidPolicy::Peer("has an ipBlock and a selector")),
        (None, None, None) => Err(InvalidPolicy::Peer("has no field")),
        (None, namespaces, pods) => Ok(Peer::Pods(Scope {
            namespaces: match namespaces {
                None => Namespaces::Own(namespace.to_owned()),
                Some(selector) => Namespaces::Matching(Selector::parse(selector)?),
            },
            pods: selector_or_all(pods.as_ref())?,
        })),
    }
}

fn ip_block(block: &IPBlock) -> Result<Block, InvalidPolicy> {
    let cidr = Cidr::parse(&block.cidr).map_err(InvalidPolicy::Block)?;
    let mut except = block
        .except
        .iter()
        .flatten()
        .map(|text| Cidr::parse(text).map_err(InvalidPolicy::Block))
        .collect::<Result<Vec<_>, _>>()?;
    if except.iter().any(|inner| inner.family() != cidr.family()) {
        return Err(InvalidPolicy::Peer(
            "has an ipBlock whose exception is of another family",
        ));
    }
    except.sort();
    except.dedup();
    Ok(Block { cidr, except })
}

/// Reads a `NetworkPolicyPort`: "if this field is not provided, this matches all port names and
/// numbers" of the protocol, which "defaults to TCP"; endPort "must be equal or greater than port"
/// and needs a number.
fn network_port(port: &NetworkPolicyPort) -> Result<Ports, InvalidPolicy> {
    let transport = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Transport::Tcp,
        Some("UDP") => Transport::Udp,
        Some("SCTP") => Transport::Sctp,
        Some(other) => return Err(InvalidPolicy::Protocol(other.to_owned())),
    };
    match (&port.port, port.end_port) {
        (None, None) => Ok(Ports::Range(transport, 1, u16::MAX)),
        (Some(IntOrString::Int(port)), None) => {
            let port = port_number(*port)?;
            Ok(Ports::Range(transport, port, port))
        }
        (Some(IntOrString::Int(first)), Some(last)) if *first <= last => {
            let (first, last) = (port_number(*first)?, port_number(last)?);
            Ok(Ports::Range(transport, first, last))
        }
        (Some(IntOrString::String(name)), None) => Ok(Ports::Named(Some(transport), name.clone())),
        (_, Some(last)) => Err(InvalidPolicy::EndPort(last)),
    }
}

fn port_number(number: i32) -> Result<u16, InvalidPolicy> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or(InvalidPolicy::Port(i64::from(number)))
}

/// A cluster-wide policy in a direction; `None` without rules for it: "CNPs with no ingress rules
/// do not affect ingress traffic" (ClusterNetworkPolicySpec.ingress), so selecting a pod does not
/// isolate it.
fn cluster_policy(
    policy: &ClusterPolicy,
    name: PolicyName,
    direction: Direction,
) -> Result<Option<DirectionalPolicy>, InvalidPolicy> {
    let rules = match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    };
    if rules.is_empty() {
        return Ok(None);
    }
    let rules = rules.iter().map(cluster_rule).collect::<Result<_, _>>()?;
    Ok(Some(DirectionalPolicy {
        name,
        tier: policy.tier,
        priority: policy.priority,
        direction,
        in_force: true,
        stated: true,
        subject: scope(&policy.subject)?,
        rules,
    }))
}

fn cluster_rule(rule: &ClusterRule) -> Result<Rule, InvalidPolicy> {
    let mut peers = Vec::new();
    for peer in &rule.peers {
        match peer {
            ClusterPeer::Pods(pods) => peers.push(Peer::Pods(scope(pods)?)),
            ClusterPeer::Nodes(nodes) => peers.push(Peer::Nodes(Selector::parse(nodes)?)),
            ClusterPeer::Networks(blocks) => {
                peers.extend(blocks.iter().map(|cidr| Peer::Block(Block::from(*cidr))));
            }
            ClusterPeer::DomainNames(names) => peers.push(Peer::Names(names.clone())),
        }
    }
    let ports = rule.ports.as_deref();
    Ok(Rule {
        name: rule.name.clone(),
        origin: rule.origin.clone(),
        action: rule.action,
        peers: Some(peers),
        ports: ports.map(|ports| ports.iter().map(cluster_port).collect()),
        unknown: rule.unknown.clone(),
    })
}

fn cluster_port(port: &ClusterPort) -> Ports {
    match port {
        ClusterPort::Range(transport, first, last) => Ports::Range(*transport, *first, *last),
        ClusterPort::Named(name) => Ports::Named(None, name.clone()),
    }
}

fn scope(pods: &PodScope) -> Result<Scope, InvalidPolicy> {
    Ok(Scope {
        namespaces: Namespaces::Matching(Selector::parse(&pods.namespaces)?),
        pods: Selector::parse(&pods.pods)?,
    })
}

impl Rule {
    /// The effect of the rule, which differs from it if it has unknown fields: "For Accept rules,
    /// fail closed means: treat the rule as matching no traffic. For Deny and Pass rules: treat the
    /// rule as a Deny all rule" (`ClusterNetworkPolicyIngressPeer`). `None`: it matches nothing.
    pub(super) fn as_understood(&self) -> Option<std::borrow::Cow<'_, Self>> {
        use std::borrow::Cow;
        match (self.unknown.is_empty(), self.action) {
            (true, _) => Some(Cow::Borrowed(self)),
            (false, Action::Accept) => None,
            (false, Action::Deny | Action::Pass) => Some(Cow::Owned(Self {
                action: Action::Deny,
                peers: None,
                ports: None,
                ..self.clone()
            })),
        }
    }

    /// Whether it matches a port of a destination with these declared ports. Names of ports count
    /// only where the destination is matched as a pod, since blocks and nodes declare no ports.
    pub(super) fn matches_port(
        &self,
        port: Port,
        declared: &[ContainerPort],
        names_count: bool,
    ) -> bool {
        let Some(ports) = &self.ports else {
            return true;
        };
        ports
            .iter()
            .filter(|ports| names_count || matches!(ports, Ports::Range(..)))
            .any(|ports| ports.on(declared).contains(port))
    }
}

/// The first address of a family.
pub(super) fn of_family(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
}
