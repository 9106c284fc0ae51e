//! Policies of every kind, read into one shape: directions, subjects, rules.

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

/// Which way a policy looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// What its subjects send.
    Egress,
    /// What comes to its subjects.
    Ingress,
}

impl Direction {
    /// In the order in which a packet meets them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// As `policyTypes` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "Egress",
            Self::Ingress => "Ingress",
        }
    }
}

/// All that applies to pods, in one direction each.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Halves of policies, in the order in which they are asked: Admin by priority, NetworkPolicies
    /// by namespace and name, Baseline by priority; within one policy egress first.
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
    /// Whether it is in force in this direction. A NetworkPolicy may have rules for a direction
    /// that its `policyTypes` leave out.
    pub(super) in_force: bool,
    /// Whether that is written, and does not follow from the rules.
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

/// A policy, with the place where it is written.
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

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) origin: String,
    pub(super) action: Action,
    /// The other end: any of these; `None` is anyone.
    pub(super) peers: Option<Vec<Peer>>,
    /// Destination ports: any of these; `None` is everything.
    pub(super) ports: Option<Vec<Ports>>,
    /// Fields that this version does not know: the rule fails closed.
    pub(super) unknown: Vec<String>,
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    Pods(Scope),
    Block(Block),
    Nodes(Selector),
    /// Nothing here knows what they resolve to: they match nobody.
    Names(Vec<String>),
}

/// Pods of some namespaces. Pods that share their node's network are in none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) namespaces: Namespaces,
    pub(super) pods: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Namespaces {
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

/// A block less its exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Block {
    pub(super) cidr: Cidr,
    pub(super) except: Vec<Cidr>,
}

impl Block {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|hole| hole.contains(address))
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cidr)?;
        let holes: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        if holes.is_empty() {
            Ok(())
        } else {
            write!(f, " except {}", holes.join(", "))
        }
    }
}

/// Destination ports of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ports {
    /// A range of a transport; a transport without a port is all of its ports.
    Range(Transport, u16, u16),
    /// What the destination pod calls so: in one transport, or in any.
    Named(Option<Transport>, String),
}

impl Ports {
    /// What a name stands for on a pod with these ports.
    pub(super) fn on(&self, declared: &[ContainerPort]) -> PortSet {
        match self {
            Self::Range(transport, first, last) => PortSet::range(*transport, *first, *last),
            Self::Named(transport, name) => {
                let mut set = PortSet::none();
                for port in declared {
                    let of = port.port.transport();
                    if port.name.as_deref() == Some(name)
                        && transport.is_none_or(|wanted| wanted == of)
                    {
                        set =
                            set.union(&PortSet::range(of, port.port.number(), port.port.number()));
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
    /// Reads all policies.
    ///
    /// # Errors
    /// [`InvalidPolicy::In`]: the first policy that no API server would take.
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

        // Of two policies of one priority either may be asked first ("there is no way for the user
        // to reliably determine which", ClusterNetworkPolicySpec.priority); here it is the one
        // whose name comes first.
        policies.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        Ok(Self { policies })
    }

    /// Of each half, whether it selects no pod: mostly a label that is spelt in two ways.
    pub(super) fn selects_no_pod(&self, inventory: &Inventory) -> Vec<bool> {
        let mut pods: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
        for pod in inventory.pods.iter().filter(|pod| !pod.host_network) {
            pods.entry(&pod.namespace).or_default().push(&pod.labels);
        }
        let labels: BTreeMap<&str, Labels> = pods
            .keys()
            .map(|name| (*name, namespace_labels(inventory, name)))
            .collect();
        let anybody = |policy: &DirectionalPolicy| {
            let any_of = |pods: &[&Labels]| pods.iter().any(|pod| policy.subject.pods.matches(pod));
            match &policy.subject.namespaces {
                Namespaces::Own(own) => pods.get(own.as_str()).is_some_and(|pods| any_of(pods)),
                Namespaces::Matching(selector) => pods
                    .iter()
                    .any(|(name, pods)| selector.matches(&labels[name]) && any_of(pods)),
            }
        };
        self.policies.iter().map(|policy| !anybody(policy)).collect()
    }
}

/// A NetworkPolicy in a direction; `None` where it neither isolates nor has rules.
fn network_policy(
    policy: &NetworkPolicy,
    name: PolicyName,
    direction: Direction,
) -> Result<Option<DirectionalPolicy>, InvalidPolicy> {
    type Written<'a> = (
        Option<&'a [NetworkPolicyPeer]>,
        Option<&'a [NetworkPolicyPort]>,
    );
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
    let (written, places): (Vec<Written<'_>>, _) = match direction {
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
    if !in_force && written.is_empty() {
        return Ok(None);
    }
    let mut rules = Vec::new();
    for (number, (peers, ports)) in written.into_iter().enumerate() {
        let peers = peers.filter(|peers| !peers.is_empty());
        let ports = ports.filter(|ports| !ports.is_empty());
        rules.push(Rule {
            name: None,
            origin: places.get(number).cloned().unwrap_or_default(),
            action: Action::Accept,
            // "If this field is empty or missing, this rule matches all sources"
            // (NetworkPolicyIngressRule.from), and likewise for `to` and `ports`; unlike a list of
            // rules, which admits nothing when it is empty.
            peers: peers
                .map(|peers| {
                    peers
                        .iter()
                        .map(|peer| network_peer(peer, &policy.namespace))
                        .collect()
                })
                .transpose()?,
            ports: ports
                .map(|ports| ports.iter().map(network_port).collect())
                .transpose()?,
            unknown: Vec::new(),
        });
    }
    // An absent podSelector means an empty one, which selects all pods of the namespace
    // (NetworkPolicySpec.podSelector).
    let pods = optional(spec.pod_selector.as_ref())?;
    let subject = Scope {
        namespaces: Namespaces::Own(policy.namespace.clone()),
        pods,
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

fn optional(selector: Option<&LabelSelector>) -> Result<Selector, InvalidPolicy> {
    selector
        .map(Selector::parse)
        .transpose()
        .map(Option::unwrap_or_default)
}

/// `NetworkPolicyPeer`: "podSelector ... selects the pods matching in the policy's own namespace"
/// unless a namespaceSelector stands beside it; both together are AND; an empty namespaceSelector
/// selects all namespaces; an ipBlock stands alone.
fn network_peer(peer: &NetworkPolicyPeer, own: &str) -> Result<Peer, InvalidPolicy> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => Ok(Peer::Block(ip_block(block)?)),
        (Some(_), ..) => Err(InvalidPolicy::Peer("has an ipBlock and a selector")),
        (None, None, None) => Err(InvalidPolicy::Peer("has no field")),
        (None, namespaces, pods) => Ok(Peer::Pods(Scope {
            namespaces: match namespaces {
                None => Namespaces::Own(own.to_owned()),
                Some(selector) => Namespaces::Matching(Selector::parse(selector)?),
            },
            pods: optional(pods.as_ref())?,
        })),
    }
}

fn ip_block(block: &IPBlock) -> Result<Block, InvalidPolicy> {
    let parse = |text: &str| Cidr::parse(text).map_err(InvalidPolicy::Block);
    let cidr = parse(&block.cidr)?;
    let mut except = block
        .except
        .iter()
        .flatten()
        .map(|text| parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    if except.iter().any(|hole| hole.family() != cidr.family()) {
        return Err(InvalidPolicy::Peer(
            "has an ipBlock whose exception is of another family",
        ));
    }
    except.sort();
    except.dedup();
    Ok(Block { cidr, except })
}

/// `NetworkPolicyPort`: "if this field is not provided, this matches all port names and numbers" of
/// the protocol, which "defaults to TCP"; endPort "must be equal or greater than port" and needs a
/// number.
fn network_port(port: &NetworkPolicyPort) -> Result<Ports, InvalidPolicy> {
    let transport = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Transport::Tcp,
        Some("UDP") => Transport::Udp,
        Some("SCTP") => Transport::Sctp,
        Some(other) => return Err(InvalidPolicy::Protocol(other.to_owned())),
    };
    let number = |number: i32| {
        u16::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or(InvalidPolicy::Port(i64::from(number)))
    };
    match (&port.port, port.end_port) {
        (None, None) => Ok(Ports::Range(transport, 1, u16::MAX)),
        (Some(IntOrString::Int(only)), None) => {
            Ok(Ports::Range(transport, number(*only)?, number(*only)?))
        }
        (Some(IntOrString::Int(first)), Some(last)) if *first <= last => {
            Ok(Ports::Range(transport, number(*first)?, number(last)?))
        }
        (Some(IntOrString::String(name)), None) => Ok(Ports::Named(Some(transport), name.clone())),
        (_, Some(last)) => Err(InvalidPolicy::EndPort(last)),
    }
}

/// A policy of the whole cluster in a direction; "CNPs with no ingress rules do not affect ingress
/// traffic" (ClusterNetworkPolicySpec.ingress): nothing is isolated by selecting it.
fn cluster_policy(
    policy: &ClusterPolicy,
    name: PolicyName,
    direction: Direction,
) -> Result<Option<DirectionalPolicy>, InvalidPolicy> {
    let written = match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    };
    if written.is_empty() {
        return Ok(None);
    }
    let rules = written.iter().map(cluster_rule).collect::<Result<_, _>>()?;
    Ok(Some(DirectionalPolicy {
        name,
        tier: policy.tier,
        priority: policy.priority,
        direction,
        in_force: true,
        stated: true,
        subject: pods_of(&policy.subject)?,
        rules,
    }))
}

fn cluster_rule(rule: &ClusterRule) -> Result<Rule, InvalidPolicy> {
    let mut peers = Vec::new();
    for peer in &rule.peers {
        match peer {
            ClusterPeer::Pods(pods) => peers.push(Peer::Pods(pods_of(pods)?)),
            ClusterPeer::Nodes(nodes) => peers.push(Peer::Nodes(Selector::parse(nodes)?)),
            ClusterPeer::Networks(blocks) => {
                peers.extend(blocks.iter().map(|cidr| {
                    Peer::Block(Block {
                        cidr: *cidr,
                        except: Vec::new(),
                    })
                }));
            }
            ClusterPeer::DomainNames(names) => peers.push(Peer::Names(names.clone())),
        }
    }
    let ports = rule.ports.as_ref().map(|ports| {
        let read = |port: &ClusterPort| match port {
            ClusterPort::Range(transport, first, last) => Ports::Range(*transport, *first, *last),
            ClusterPort::Named(name) => Ports::Named(None, name.clone()),
        };
        ports.iter().map(read).collect()
    });
    Ok(Rule {
        name: rule.name.clone(),
        origin: rule.origin.clone(),
        action: rule.action,
        peers: Some(peers),
        ports,
        unknown: rule.unknown.clone(),
    })
}

fn pods_of(pods: &PodScope) -> Result<Scope, InvalidPolicy> {
    Ok(Scope {
        namespaces: Namespaces::Matching(Selector::parse(&pods.namespaces)?),
        pods: Selector::parse(&pods.pods)?,
    })
}

impl Rule {
    /// What becomes of a rule with fields that nobody here knows: "For Accept rules, fail closed
    /// means: treat the rule as matching no traffic. For Deny and Pass rules: treat the rule as a
    /// Deny all rule" (`ClusterNetworkPolicyIngressPeer`). `None`: it matches nothing.
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

    /// Whether it speaks of a port of a destination that declares these. Names count only where the
    /// destination is meant as a pod, since blocks and nodes have none.
    pub(super) fn covers_port(
        &self,
        port: Port,
        declared: &[ContainerPort],
        names_count: bool,
    ) -> bool {
        let counts = |ports: &&Ports| names_count || matches!(ports, Ports::Range(..));
        let ports = self.ports.as_ref();
        ports.is_none_or(|ports| {
            ports
                .iter()
                .filter(counts)
                .any(|ports| ports.on(declared).contains(port))
        })
    }
}

/// The address of a family among some.
pub(super) fn of_family(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
}
