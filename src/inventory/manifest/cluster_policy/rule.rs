//! Reads the rules of cluster-wide policies.

use super::schema::{
    NumberOrRange, PEER, PORT_V1ALPHA1, PROTOCOL, Peer, PortRange, PortV1Alpha1, Protocol, RULE,
    Rule, unknown_fields,
};
use super::{
    Direction, MAX_ITEMS, check_length, max_items, raw_item, read_namespaced_pods, read_namespaces,
};
use crate::inventory::manifest::policy::{check_port_number, one_of};
use crate::inventory::manifest::problem::{FieldPath, Problems};
use crate::inventory::manifest::selector::check_selector;
use crate::inventory::manifest::syntax;
use crate::inventory::{Action, Cidr, ClusterPeer, ClusterPolicyKind, ClusterPort, ClusterRule};
use crate::model::Transport;
use serde_json::Value;

/// The reader of one rule.
pub(super) struct RuleReader<'a> {
    pub(super) kind: ClusterPolicyKind,
    pub(super) direction: Direction,
    pub(super) path: FieldPath,
    pub(super) problems: &'a mut Problems,
}

impl RuleReader<'_> {
    /// Reads the rule; `raw` is the same rule as it is written.
    pub(super) fn read(mut self, rule: &Rule, raw: &Value, origin: String) -> ClusterRule {
        let mut unknown = unknown_fields(raw, &RULE, "");
        let (field, peers, other_field, other_peers) = match self.direction {
            Direction::Ingress => ("from", &rule.from, "to", &rule.to),
            Direction::Egress => ("to", &rule.to, "from", &rule.from),
        };
        if other_peers.is_some() {
            unknown.push(other_field.to_owned());
        }

        let path = self.path.key(field);
        let peers = peers.as_deref().unwrap_or_default();
        if peers.is_empty() {
            self.problems.error(
                path.clone(),
                format!("a rule needs at least one item in {field}"),
            );
        }
        let max = max_items(self.kind);
        check_length(peers.len(), max, "peers", &path, self.problems);

        let action = self.action(rule.action.as_deref());
        let mut read_peers = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let raw = raw_item(raw.get(field), index);
            unknown.extend(unknown_fields(raw, &PEER, &format!("{field}[{index}].")));
            match self.peer(peer, action, &path.index(index)) {
                Some(peer) => read_peers.push(peer),
                // The API server drops unknown fields: what is left of a peer of a newer version
                // is empty.
                None if raw.as_object().is_some_and(serde_json::Map::is_empty) => {
                    unknown.push(format!(
                        "{field}[{index}], which has no field that this version knows"
                    ));
                }
                None => {}
            }
        }

        let ports = self.ports(rule, raw, &mut unknown);
        ClusterRule {
            name: rule.name.clone(),
            action,
            peers: read_peers,
            ports,
            unknown,
            origin,
        }
    }

    /// The action; Deny after a problem.
    fn action(&mut self, action: Option<&str>) -> Action {
        let action = action.unwrap_or_default();
        let actions: &[(&str, Action)] = match self.kind {
            ClusterPolicyKind::ClusterNetworkPolicy => &[
                ("Accept", Action::Accept),
                ("Deny", Action::Deny),
                ("Pass", Action::Pass),
            ],
            ClusterPolicyKind::AdminNetworkPolicy => &[
                ("Allow", Action::Accept),
                ("Deny", Action::Deny),
                ("Pass", Action::Pass),
            ],
            ClusterPolicyKind::BaselineAdminNetworkPolicy => {
                &[("Allow", Action::Accept), ("Deny", Action::Deny)]
            }
        };
        if let Some((_, action)) = actions.iter().find(|(word, _)| *word == action) {
            return *action;
        }

        let words: Vec<&str> = actions.iter().map(|(word, _)| *word).collect();
        let path = self.path.key("action");
        one_of(action, "action", &words, path, self.problems);
        Action::Deny
    }

    fn peer(&mut self, peer: &Peer, action: Action, path: &FieldPath) -> Option<ClusterPeer> {
        let fields = [
            peer.namespaces.is_some(),
            peer.pods.is_some(),
            peer.nodes.is_some(),
            peer.networks.is_some(),
            peer.domain_names.is_some(),
        ];
        if fields.into_iter().filter(|is_set| *is_set).count() > 1 {
            self.problems
                .error(path.clone(), "a peer takes one field only")
                .help("write one item for each field");
            return None;
        }

        let is_egress_only =
            peer.nodes.is_some() || peer.networks.is_some() || peer.domain_names.is_some();
        if is_egress_only && self.direction == Direction::Ingress {
            self.problems.error(
                path.clone(),
                "nodes, networks and domainNames are peers of egress rules only",
            );
            return None;
        }

        if let Some(namespaces) = &peer.namespaces {
            let path = path.key("namespaces");
            let pods = read_namespaces(namespaces, &path, self.problems);
            Some(ClusterPeer::Pods(pods))
        } else if let Some(pods) = &peer.pods {
            read_namespaced_pods(self.kind, pods, &path.key("pods"), self.problems)
                .map(ClusterPeer::Pods)
        } else if let Some(nodes) = &peer.nodes {
            check_selector(nodes, &path.key("nodes"), self.problems);
            Some(ClusterPeer::Nodes(nodes.clone()))
        } else if let Some(networks) = &peer.networks {
            let blocks = self.networks(networks, &path.key("networks"));
            Some(ClusterPeer::Networks(blocks))
        } else {
            let names = peer.domain_names.as_ref()?;
            if action != Action::Accept {
                self.problems.error(
                    path.key("domainNames"),
                    "domain names can only be accepted, not denied or passed",
                );
            }
            Some(ClusterPeer::DomainNames(names.clone()))
        }
    }

    fn networks(&mut self, networks: &[String], path: &FieldPath) -> Vec<Cidr> {
        check_length(networks.len(), MAX_ITEMS, "networks", path, self.problems);
        let mut blocks = Vec::new();
        for (index, text) in networks.iter().enumerate() {
            match Cidr::parse(text) {
                Ok(block) => blocks.push(block),
                Err(error) => {
                    self.problems.error(path.index(index), error.to_string());
                }
            }
        }
        blocks
    }

    /// The destination ports, by the field that the rule's version has for them; `None` matches
    /// every port.
    fn ports(
        &mut self,
        rule: &Rule,
        raw: &Value,
        unknown: &mut Vec<String>,
    ) -> Option<Vec<ClusterPort>> {
        match self.kind {
            ClusterPolicyKind::ClusterNetworkPolicy => {
                if rule.ports.is_some() {
                    unknown.push("ports".to_owned());
                }
                let protocols = rule.protocols.as_deref()?;
                Some(self.protocols(protocols, raw.get("protocols"), unknown))
            }
            ClusterPolicyKind::AdminNetworkPolicy
            | ClusterPolicyKind::BaselineAdminNetworkPolicy => {
                if rule.protocols.is_some() {
                    unknown.push("protocols".to_owned());
                }
                let ports = rule.ports.as_deref()?;
                self.ports_v1alpha1(ports, raw.get("ports"), unknown)
            }
        }
    }

    fn protocols(
        &mut self,
        protocols: &[Protocol],
        raw: Option<&Value>,
        unknown: &mut Vec<String>,
    ) -> Vec<ClusterPort> {
        let path = self.path.key("protocols");
        if protocols.is_empty() {
            self.problems
                .error(path.clone(), "protocols needs at least one item")
                .help("leave it out to match everything");
        }
        check_length(protocols.len(), MAX_ITEMS, "ports", &path, self.problems);

        let mut ports = Vec::new();
        for (index, item) in protocols.iter().enumerate() {
            let raw = raw_item(raw, index);
            let prefix = format!("protocols[{index}].");
            unknown.extend(unknown_fields(raw, &PROTOCOL, &prefix));
            ports.extend(self.protocol(item, raw, &path.index(index)));
        }
        ports
    }

    /// "If Ports is not set then the rule does not filter traffic via port" (v1alpha1); an empty
    /// list counts as not set.
    fn ports_v1alpha1(
        &mut self,
        items: &[PortV1Alpha1],
        raw: Option<&Value>,
        unknown: &mut Vec<String>,
    ) -> Option<Vec<ClusterPort>> {
        let path = self.path.key("ports");
        let max = max_items(self.kind);
        check_length(items.len(), max, "ports", &path, self.problems);

        let mut ports = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let raw = raw_item(raw, index);
            let prefix = format!("ports[{index}].");
            unknown.extend(unknown_fields(raw, &PORT_V1ALPHA1, &prefix));
            ports.extend(self.port_v1alpha1(item, raw, &path.index(index)));
        }
        (!items.is_empty()).then_some(ports)
    }

    fn protocol(&mut self, item: &Protocol, raw: &Value, path: &FieldPath) -> Option<ClusterPort> {
        let by_transport = [
            (Transport::Tcp, &item.tcp),
            (Transport::Udp, &item.udp),
            (Transport::Sctp, &item.sctp),
        ];
        let named = &item.destination_named_port;
        let fields = by_transport.iter().filter(|(_, port)| port.is_some());
        if fields.count() + usize::from(named.is_some()) > 1 {
            self.problems.error(
                path.clone(),
                "one of tcp, udp, sctp and destinationNamedPort, not several",
            );
            return None;
        }

        if let Some(name) = named {
            return self.named_port(name, &path.key("destinationNamedPort"));
        }
        let set = by_transport
            .into_iter()
            .find_map(|(transport, port)| Some((transport, port.as_ref()?)));
        let Some((transport, port)) = set else {
            self.check_not_empty(raw, path);
            return None;
        };
        let path = path.key(transport.as_str());
        let Some(port) = &port.destination_port else {
            self.problems
                .error(path, format!("{transport} needs a destinationPort"));
            return None;
        };
        self.destination_port(transport, port, &path.key("destinationPort"))
    }

    fn destination_port(
        &mut self,
        transport: Transport,
        port: &NumberOrRange,
        path: &FieldPath,
    ) -> Option<ClusterPort> {
        match (port.number, &port.range) {
            (Some(number), None) => {
                let port = check_port_number(number, &path.key("number"), self.problems)?;
                Some(ClusterPort::Range(transport, port, port))
            }
            (None, Some(range)) => self.range(transport, range, &path.key("range")),
            (Some(_), Some(_)) | (None, None) => {
                self.problems
                    .error(path.clone(), "a destinationPort is a number or a range");
                None
            }
        }
    }

    fn port_v1alpha1(
        &mut self,
        item: &PortV1Alpha1,
        raw: &Value,
        path: &FieldPath,
    ) -> Option<ClusterPort> {
        match (&item.port_number, &item.named_port, &item.port_range) {
            (Some(one), None, None) => {
                let path = path.key("portNumber");
                let transport = self.transport(one.protocol.as_deref(), &path);
                let port =
                    check_port_number(one.port.unwrap_or(0), &path.key("port"), self.problems)?;
                Some(ClusterPort::Range(transport?, port, port))
            }
            (None, Some(name), None) => self.named_port(name, &path.key("namedPort")),
            (None, None, Some(range)) => {
                let path = path.key("portRange");
                let transport = self.transport(range.protocol.as_deref(), &path)?;
                self.range(transport, range, &path)
            }
            (None, None, None) => {
                self.check_not_empty(raw, path);
                None
            }
            _ => {
                self.problems.error(
                    path.clone(),
                    "one of portNumber, namedPort and portRange, not several",
                );
                None
            }
        }
    }

    /// Adds a problem for an item without a field. One with unknown fields only has none: they are
    /// kept by name.
    fn check_not_empty(&mut self, raw: &Value, path: &FieldPath) {
        if raw.as_object().is_none_or(serde_json::Map::is_empty) {
            self.problems
                .error(path.clone(), "this item matches nothing: it has no field");
        }
    }

    fn transport(&mut self, protocol: Option<&str>, path: &FieldPath) -> Option<Transport> {
        match protocol {
            None | Some("TCP") => Some(Transport::Tcp),
            Some("UDP") => Some(Transport::Udp),
            Some("SCTP") => Some(Transport::Sctp),
            Some(unknown) => {
                let protocols = ["TCP", "UDP", "SCTP"];
                let path = path.key("protocol");
                one_of(unknown, "protocol", &protocols, path, self.problems);
                None
            }
        }
    }

    fn range(
        &mut self,
        transport: Transport,
        range: &PortRange,
        path: &FieldPath,
    ) -> Option<ClusterPort> {
        let start = check_port_number(range.start.unwrap_or(0), &path.key("start"), self.problems);
        let end = check_port_number(range.end.unwrap_or(0), &path.key("end"), self.problems);
        let (start, end) = (start?, end?);
        if start >= end {
            self.problems.error(
                path.clone(),
                format!("a range's start must be below its end; this is {start} to {end}"),
            );
            return None;
        }
        Some(ClusterPort::Range(transport, start, end))
    }

    fn named_port(&mut self, name: &str, path: &FieldPath) -> Option<ClusterPort> {
        let spelling = syntax::port_name(name);
        let port = spelling
            .is_ok()
            .then(|| ClusterPort::Named(name.to_owned()));
        self.problems.check(path, "port name", name, spelling);
        port
    }
}
