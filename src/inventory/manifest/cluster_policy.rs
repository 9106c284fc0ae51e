//! ClusterNetworkPolicy, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy`: read into one shape
//! and checked as their CRDs' schemas do (`apis/v1alpha2`, `apis/v1alpha1` of
//! sigs.k8s.io/network-policy-api v0.2.0).
//!
//! Unknown fields of a rule are kept by name: such a rule fails closed.

use super::decode::decode;
use super::object::Meta;
use super::policy::{check_number, one_of};
use super::problem::{At, Problem, Problems, nearest};
use super::selector::check_selector;
use super::syntax;
use crate::inventory::{
    Action, Cidr, ClusterPeer, ClusterPolicy, ClusterPolicyKind, ClusterPort, ClusterRule, Labels,
    PodScope, PolicyTier, spec_digest,
};
use crate::model::{PolicyKind, Transport};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

/// At most so many rules a direction, peers a rule, ports a rule, and blocks or names a peer.
const MAX_ITEMS: usize = 25;
/// At most so many rules a direction in v1alpha1.
const MAX_RULES_V1ALPHA1: usize = 100;
const MAX_PRIORITY: i64 = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    tier: Option<String>,
    priority: Option<i64>,
    subject: Option<Peer>,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

/// A rule of either direction and version.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    action: Option<String>,
    from: Option<Vec<Peer>>,
    to: Option<Vec<Peer>>,
    /// v1alpha2.
    protocols: Option<Vec<Protocol>>,
    /// v1alpha1.
    ports: Option<Vec<OldPort>>,
}

/// A subject, or a peer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Peer {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPod>,
    nodes: Option<LabelSelector>,
    networks: Option<Vec<String>>,
    domain_names: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NamespacedPod {
    namespace_selector: Option<LabelSelector>,
    pod_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Protocol {
    tcp: Option<ProtocolPort>,
    udp: Option<ProtocolPort>,
    sctp: Option<ProtocolPort>,
    destination_named_port: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProtocolPort {
    destination_port: Option<NumberOrRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NumberOrRange {
    number: Option<i32>,
    range: Option<OldRange>,
}

/// A port of v1alpha1.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OldPort {
    port_number: Option<OldNumber>,
    named_port: Option<String>,
    port_range: Option<OldRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OldNumber {
    protocol: Option<String>,
    port: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OldRange {
    protocol: Option<String>,
    start: Option<i32>,
    end: Option<i32>,
}

/// The fields of each object on the way to a rule's leaves; a field that is not here is unknown.
const RULE: [&str; 6] = ["name", "action", "from", "to", "protocols", "ports"];
const PEER: [&str; 5] = ["namespaces", "pods", "nodes", "networks", "domainNames"];
const PROTOCOL: [&str; 4] = ["tcp", "udp", "sctp", "destinationNamedPort"];
const OLD_PORT: [&str; 3] = ["portNumber", "namedPort", "portRange"];
const SPEC: [&str; 5] = ["tier", "priority", "subject", "ingress", "egress"];

/// Reads one object as a cluster's API gives it.
///
/// # Errors
/// What is wrong with it, each with its path.
pub fn read_cluster_policy(object: &Value) -> Result<ClusterPolicy, Vec<String>> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let kind = PolicyKind::parse(&text("/kind"))
        .and_then(ClusterPolicyKind::of)
        .unwrap_or(ClusterPolicyKind::ClusterNetworkPolicy);
    let mut problems = Problems::default();
    let meta = Meta {
        namespace: String::new(),
        name: text("/metadata/name"),
        labels: Labels::new(),
        owner: None,
        terminating: false,
    };
    let read = read(
        kind,
        &meta,
        object,
        &At::root(0),
        &|_| String::new(),
        &mut problems,
    );
    match (read, problems.into_vec()) {
        (Some(policy), faults) if faults.is_empty() => Ok(policy),
        (_, faults) => Err(faults
            .into_iter()
            .map(|fault: Problem| format!("{}: {}", fault.at, fault.message))
            .collect()),
    }
}

/// Reads a policy; `None` after a wrong type.
pub(super) fn read(
    kind: ClusterPolicyKind,
    meta: &Meta,
    object: &Value,
    at: &At,
    origin: &dyn Fn(&At) -> String,
    problems: &mut Problems,
) -> Option<ClusterPolicy> {
    let at_spec = at.key("spec");
    let raw = object.get("spec");
    let spec: Spec = decode(raw, &at_spec, problems)?;
    for key in raw
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(serde_json::Map::keys)
    {
        if !SPEC.contains(&key.as_str()) {
            let help = match nearest(key, SPEC) {
                Some(field) => format!("did you mean {field}?"),
                None => format!("the fields here are {}", SPEC.join(", ")),
            };
            problems
                .error(
                    at_spec.key(key.clone()),
                    format!("a {} has no field {key:?} here", PolicyKind::from(kind)),
                )
                .on_key()
                .help(help);
        }
    }
    let tier = match kind {
        ClusterPolicyKind::AdminNetworkPolicy => PolicyTier::Admin,
        ClusterPolicyKind::BaselineAdminNetworkPolicy => PolicyTier::Baseline,
        ClusterPolicyKind::ClusterNetworkPolicy => tier(spec.tier.as_deref(), &at_spec, problems),
    };
    let priority = match (kind, spec.priority) {
        (ClusterPolicyKind::BaselineAdminNetworkPolicy, _) => 0,
        (_, None) => {
            problems.error(
                at_spec.clone(),
                format!(
                    "a {} needs a priority from 0 to {MAX_PRIORITY}",
                    PolicyKind::from(kind)
                ),
            );
            0
        }
        (_, Some(number)) => {
            if !(0..=MAX_PRIORITY).contains(&number) {
                let message =
                    format!("{number} is not a priority: a number from 0 to {MAX_PRIORITY}");
                problems.error(at_spec.key("priority"), message);
            }
            number as u16
        }
    };
    let subject = subject(spec.subject.as_ref(), &at_spec, problems);
    let mut rules = |key: &'static str, rules: &Option<Vec<Rule>>| {
        let at = at_spec.key(key);
        let most = if kind == ClusterPolicyKind::ClusterNetworkPolicy {
            MAX_ITEMS
        } else {
            MAX_RULES_V1ALPHA1
        };
        let rules = rules.as_deref().unwrap_or_default();
        limit(rules.len(), most, "rules", &at, problems);
        let list = raw.and_then(|spec| spec.get(key)).and_then(Value::as_array);
        let raw_of = |number: usize| {
            list.and_then(|list| list.get(number))
                .unwrap_or(&Value::Null)
        };
        let mut read = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let at = at.index(number);
            let place = origin(&at);
            read.push(
                Reader {
                    kind,
                    egress: key == "egress",
                    at,
                    problems,
                }
                .rule(rule, raw_of(number), place),
            );
        }
        read
    };
    let ingress = rules("ingress", &spec.ingress);
    let egress = rules("egress", &spec.egress);
    let (name, origin, sha256) = (meta.name.clone(), origin(at), spec_digest(&raw));
    Some(ClusterPolicy {
        kind,
        name,
        tier,
        priority,
        subject,
        ingress,
        egress,
        origin,
        sha256,
    })
}

fn tier(tier: Option<&str>, at: &At, problems: &mut Problems) -> PolicyTier {
    match tier {
        Some("Admin") => PolicyTier::Admin,
        Some("Baseline") => PolicyTier::Baseline,
        Some(other) => {
            one_of(
                other,
                "tier",
                ["Admin", "Baseline"],
                at.key("tier"),
                problems,
            );
            PolicyTier::Admin
        }
        None => {
            problems.error(
                at.clone(),
                "a ClusterNetworkPolicy needs a tier: Admin or Baseline",
            );
            PolicyTier::Admin
        }
    }
}

fn limit(number: usize, most: usize, what: &str, at: &At, problems: &mut Problems) {
    if number > most {
        problems.error(
            at.clone(),
            format!("{number} {what}; the API takes {most} at the most"),
        );
    }
}

fn subject(subject: Option<&Peer>, at: &At, problems: &mut Problems) -> PodScope {
    let at = at.key("subject");
    let read = match subject {
        Some(Peer {
            namespaces: Some(namespaces),
            pods: None,
            ..
        }) => {
            check_selector(namespaces, &at.key("namespaces"), problems);
            Some(PodScope {
                namespaces: namespaces.clone(),
                pods: LabelSelector::default(),
            })
        }
        Some(Peer {
            namespaces: None,
            pods: Some(pods),
            ..
        }) => namespaced(pods, &at.key("pods"), problems),
        _ => {
            problems
                .error(at, "the subject needs one of namespaces and pods")
                .help("namespaces: {} means every pod");
            None
        }
    };
    read.unwrap_or_default()
}

fn namespaced(pods: &NamespacedPod, at: &At, problems: &mut Problems) -> Option<PodScope> {
    let (Some(namespaces), Some(selector)) = (&pods.namespace_selector, &pods.pod_selector) else {
        problems
            .error(
                at.clone(),
                "pods needs a namespaceSelector and a podSelector",
            )
            .help("{} selects all");
        return None;
    };
    check_selector(namespaces, &at.key("namespaceSelector"), problems);
    check_selector(selector, &at.key("podSelector"), problems);
    Some(PodScope {
        namespaces: namespaces.clone(),
        pods: selector.clone(),
    })
}

/// One rule on its way.
struct Reader<'a> {
    kind: ClusterPolicyKind,
    egress: bool,
    at: At,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn rule(mut self, rule: &Rule, raw: &Value, origin: String) -> ClusterRule {
        let mut unknown = unknown_of(raw, &RULE, "");
        let (key, other) = if self.egress {
            ("to", "from")
        } else {
            ("from", "to")
        };
        let peers = if self.egress { &rule.to } else { &rule.from };
        if (if self.egress { &rule.from } else { &rule.to }).is_some() {
            unknown.push(other.to_owned());
        }
        let at = self.at.key(key);
        let list = peers.as_deref().unwrap_or_default();
        if list.is_empty() {
            self.problems.error(
                at.clone(),
                format!("a rule needs at least one item in {key}"),
            );
        }
        limit(
            list.len(),
            if self.kind == ClusterPolicyKind::ClusterNetworkPolicy {
                MAX_ITEMS
            } else {
                MAX_RULES_V1ALPHA1
            },
            "peers",
            &at,
            self.problems,
        );
        let action = self.action(rule.action.as_deref());
        let mut read = Vec::new();
        for (number, peer) in list.iter().enumerate() {
            let raw = raw
                .get(key)
                .and_then(|list| list.get(number))
                .unwrap_or(&Value::Null);
            unknown.extend(unknown_of(raw, &PEER, &format!("{key}[{number}].")));
            match self.peer(peer, action, &at.index(number)) {
                Some(peer) => read.push(peer),
                // An empty peer is what is left of one that the schema did not know.
                None if raw.as_object().is_some_and(serde_json::Map::is_empty) => {
                    unknown.push(format!(
                        "{key}[{number}], which has no field that this version knows"
                    ));
                }
                None => {}
            }
        }
        let ports = self.ports(rule, raw, &mut unknown);
        ClusterRule {
            name: rule.name.clone(),
            action,
            peers: read,
            ports,
            unknown,
            origin,
        }
    }

    fn action(&mut self, action: Option<&str>) -> Action {
        let new = self.kind == ClusterPolicyKind::ClusterNetworkPolicy;
        match action {
            Some("Accept") if new => Action::Accept,
            Some("Allow") if !new => Action::Accept,
            Some("Deny") => Action::Deny,
            Some("Pass") if self.kind != ClusterPolicyKind::BaselineAdminNetworkPolicy => {
                Action::Pass
            }
            other => {
                let words = match self.kind {
                    ClusterPolicyKind::ClusterNetworkPolicy => ["Accept", "Deny", "Pass"],
                    ClusterPolicyKind::AdminNetworkPolicy => ["Allow", "Deny", "Pass"],
                    ClusterPolicyKind::BaselineAdminNetworkPolicy => ["Allow", "Deny", "Deny"],
                };
                one_of(
                    other.unwrap_or_default(),
                    "action",
                    words,
                    self.at.key("action"),
                    self.problems,
                );
                Action::Deny
            }
        }
    }

    fn peer(&mut self, peer: &Peer, action: Action, at: &At) -> Option<ClusterPeer> {
        let set = [
            peer.namespaces.is_some(),
            peer.pods.is_some(),
            peer.nodes.is_some(),
            peer.networks.is_some(),
            peer.domain_names.is_some(),
        ];
        if set.iter().filter(|set| **set).count() > 1 {
            self.problems
                .error(at.clone(), "a peer takes one field only")
                .help("write them as items of their own");
            return None;
        }
        let outside =
            peer.nodes.is_some() || peer.networks.is_some() || peer.domain_names.is_some();
        if outside && !self.egress {
            self.problems.error(
                at.clone(),
                "nodes, networks and domainNames are peers of egress rules only",
            );
            return None;
        }
        if let Some(namespaces) = &peer.namespaces {
            check_selector(namespaces, &at.key("namespaces"), self.problems);
            return Some(ClusterPeer::Pods(PodScope {
                namespaces: namespaces.clone(),
                pods: LabelSelector::default(),
            }));
        }
        if let Some(pods) = &peer.pods {
            return namespaced(pods, &at.key("pods"), self.problems).map(ClusterPeer::Pods);
        }
        if let Some(nodes) = &peer.nodes {
            check_selector(nodes, &at.key("nodes"), self.problems);
            return Some(ClusterPeer::Nodes(nodes.clone()));
        }
        if let Some(networks) = &peer.networks {
            let at = at.key("networks");
            limit(networks.len(), MAX_ITEMS, "networks", &at, self.problems);
            let mut blocks = Vec::new();
            for (number, text) in networks.iter().enumerate() {
                match Cidr::parse(text) {
                    Ok(block) => blocks.push(block),
                    Err(error) => drop(self.problems.error(at.index(number), error.to_string())),
                }
            }
            return Some(ClusterPeer::Networks(blocks));
        }
        let names = peer.domain_names.as_ref()?;
        if action != Action::Accept {
            self.problems.error(
                at.key("domainNames"),
                "domain names can only be accepted, not denied or passed",
            );
        }
        Some(ClusterPeer::DomainNames(names.clone()))
    }

    /// `None` matches everything; a rule whose `protocols` is there needs at least one item.
    fn ports(
        &mut self,
        rule: &Rule,
        raw: &Value,
        unknown: &mut Vec<String>,
    ) -> Option<Vec<ClusterPort>> {
        let new = self.kind == ClusterPolicyKind::ClusterNetworkPolicy;
        let (key, other, length) = if new {
            (
                "protocols",
                rule.ports.is_some().then_some("ports"),
                rule.protocols.as_ref().map(Vec::len),
            )
        } else {
            (
                "ports",
                rule.protocols.is_some().then_some("protocols"),
                rule.ports.as_ref().map(Vec::len),
            )
        };
        unknown.extend(other.map(str::to_owned));
        let at = self.at.key(key);
        let length = length?;
        if new && length == 0 {
            self.problems
                .error(at.clone(), "protocols needs at least one item")
                .help("leave it out to match everything");
        }
        limit(
            length,
            if new { MAX_ITEMS } else { MAX_RULES_V1ALPHA1 },
            "ports",
            &at,
            self.problems,
        );
        let mut read = Vec::new();
        for number in 0..length {
            let raw = raw
                .get(key)
                .and_then(|list| list.get(number))
                .unwrap_or(&Value::Null);
            unknown.extend(unknown_of(
                raw,
                if new { &PROTOCOL } else { &OLD_PORT },
                &format!("{key}[{number}]."),
            ));
            let at = at.index(number);
            if let Some(item) = rule
                .protocols
                .as_ref()
                .filter(|_| new)
                .and_then(|list| list.get(number))
            {
                read.extend(self.protocol(item, raw, &at));
            }
            if let Some(item) = rule
                .ports
                .as_ref()
                .filter(|_| !new)
                .and_then(|list| list.get(number))
            {
                read.extend(self.old_port(item, raw, &at));
            }
        }
        // v1alpha1: "If Ports is not set then the rule does not filter traffic via port"; an empty
        // list sets nothing.
        (new || length > 0).then_some(read)
    }

    fn protocol(&mut self, item: &Protocol, raw: &Value, at: &At) -> Option<ClusterPort> {
        let fields = [
            (Transport::Tcp, &item.tcp),
            (Transport::Udp, &item.udp),
            (Transport::Sctp, &item.sctp),
        ];
        let set = fields.iter().filter(|(_, field)| field.is_some()).count()
            + usize::from(item.destination_named_port.is_some());
        if set > 1 {
            self.problems.error(
                at.clone(),
                "one of tcp, udp, sctp and destinationNamedPort, not several",
            );
            return None;
        }
        if let Some(name) = &item.destination_named_port {
            return self.named(name, &at.key("destinationNamedPort"));
        }
        let Some((transport, port)) = fields
            .into_iter()
            .find_map(|(transport, port)| Some((transport, port.as_ref()?)))
        else {
            self.without_known_field(raw, at);
            return None;
        };
        let at = at.key(transport.as_str());
        let Some(port) = &port.destination_port else {
            self.problems
                .error(at, format!("{transport} needs a destinationPort"));
            return None;
        };
        let at = at.key("destinationPort");
        match (port.number, &port.range) {
            (Some(number), None) => check_number(number, &at.key("number"), self.problems)
                .map(|port| ClusterPort::Range(transport, port, port)),
            (None, Some(range)) => self.range(transport, range, &at.key("range")),
            _ => {
                self.problems
                    .error(at, "a destinationPort is a number or a range");
                None
            }
        }
    }

    fn old_port(&mut self, item: &OldPort, raw: &Value, at: &At) -> Option<ClusterPort> {
        match (&item.port_number, &item.named_port, &item.port_range) {
            (Some(one), None, None) => {
                let at = at.key("portNumber");
                let transport = self.transport(one.protocol.as_deref(), &at);
                let port = check_number(one.port.unwrap_or(0), &at.key("port"), self.problems)?;
                Some(ClusterPort::Range(transport?, port, port))
            }
            (None, Some(name), None) => self.named(name, &at.key("namedPort")),
            (None, None, Some(range)) => {
                let at = at.key("portRange");
                let transport = self.transport(range.protocol.as_deref(), &at)?;
                self.range(transport, range, &at)
            }
            (None, None, None) => {
                self.without_known_field(raw, at);
                None
            }
            _ => {
                self.problems.error(
                    at.clone(),
                    "one of portNumber, namedPort and portRange, not several",
                );
                None
            }
        }
    }

    /// An item with fields that are all unknown is named among those; one without any is a mistake.
    fn without_known_field(&mut self, raw: &Value, at: &At) {
        if raw.as_object().is_none_or(serde_json::Map::is_empty) {
            self.problems
                .error(at.clone(), "this item matches nothing: it has no field");
        }
    }

    fn transport(&mut self, protocol: Option<&str>, at: &At) -> Option<Transport> {
        match protocol {
            None | Some("TCP") => Some(Transport::Tcp),
            Some("UDP") => Some(Transport::Udp),
            Some("SCTP") => Some(Transport::Sctp),
            Some(other) => {
                one_of(
                    other,
                    "protocol",
                    ["TCP", "UDP", "SCTP"],
                    at.key("protocol"),
                    self.problems,
                );
                None
            }
        }
    }

    fn range(&mut self, transport: Transport, range: &OldRange, at: &At) -> Option<ClusterPort> {
        let start = check_number(range.start.unwrap_or(0), &at.key("start"), self.problems);
        let end = check_number(range.end.unwrap_or(0), &at.key("end"), self.problems);
        let (start, end) = (start?, end?);
        if start >= end {
            self.problems.error(
                at.clone(),
                format!("a range's start must be below its end; this is {start} to {end}"),
            );
            return None;
        }
        Some(ClusterPort::Range(transport, start, end))
    }

    fn named(&mut self, name: &str, at: &At) -> Option<ClusterPort> {
        let spelling = syntax::port_name(name);
        let good = spelling.is_ok();
        self.problems.check(at, "port name", name, spelling);
        good.then(|| ClusterPort::Named(name.to_owned()))
    }
}

/// The keys of an object that are not among the known ones.
fn unknown_of(raw: &Value, known: &[&str], prefix: &str) -> Vec<String> {
    let keys = raw.as_object().into_iter().flat_map(serde_json::Map::keys);
    keys.filter(|key| !known.contains(&key.as_str()))
        .map(|key| format!("{prefix}{key}"))
        .collect()
}
