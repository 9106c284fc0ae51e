//! Decoder of `spec.endpoints` and `spec.groups`.

use super::forms::{parse_address, parse_port, parse_workload};
use super::grammar::Fragment;
use super::item::parse_source;
use super::names::Names;
use super::position::ScalarText;
use super::shape::{one_or_more, text};
use super::{Endpoint, EndpointId, Locator, PortItem, SourceMode};
use crate::model::{EndpointName, HostName, ObjectRef};
use crate::source::{Diagnostic, Diagnostics, Entry, Node, Sources, Span};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// The most groups of a cycle that a message names.
const MAX_SHOWN_CYCLE: usize = 8;

/// The decoder of endpoints and groups.
pub(super) struct DefinitionDecoder<'a> {
    pub(super) sources: &'a Sources,
    pub(super) diagnostics: &'a mut Diagnostics,
    /// Receives the definitions.
    pub(super) names: &'a mut Names,
}

impl DefinitionDecoder<'_> {
    /// Defines all endpoints, in the order of the file.
    pub(super) fn endpoints(&mut self, node: &Node) {
        for Entry { key, value } in node.as_mapping().unwrap_or_default() {
            // `shape` reported an invalid name, and no line can use it.
            if EndpointName::parse(&key.text).is_err() {
                continue;
            }
            let endpoint = self.endpoint(&key.text, key.span, value);
            if let Err(error) = self.names.define_endpoint(&key.text, key.span, endpoint) {
                self.diagnostics.push(error);
            }
        }
    }

    /// Decodes an endpoint; `None` if it has an error.
    fn endpoint(&mut self, name: &str, span: Span, node: &Node) -> Option<Endpoint> {
        node.as_mapping()?;
        if let Some((message, help)) = locator_error(name, node) {
            self.diagnostics
                .push(Diagnostic::error(span, message).with_help(help));
            return None;
        }

        let ports = match node.get("ports") {
            Some(ports) => Some(self.ports(ports)?),
            None => None,
        };
        let locator = locator(node)?;
        let addresses = match locator {
            Locator::Host(_) => self.addresses(node)?,
            Locator::Address(_)
            | Locator::Workload { .. }
            | Locator::Pods { .. }
            | Locator::Service { .. }
            | Locator::Runner
            | Locator::Nodes => Vec::new(),
        };
        let service = match locator {
            Locator::Service { .. } => None,
            _ => node.get("service").and_then(text).map(str::to_owned),
        };
        let source_mode = node
            .get("source")
            .and_then(text)
            .and_then(SourceMode::parse);

        Some(Endpoint {
            label: name.to_owned(),
            locator,
            addresses,
            service,
            ports,
            source_mode,
            place: self.sources.place(span),
            used: false,
        })
    }

    fn ports(&mut self, node: &Node) -> Option<Vec<PortItem>> {
        let mut ports: Vec<PortItem> = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        for item in node.as_sequence()? {
            let port = parse_port(text(item)?).ok()?;
            if let Some(first) = ports.iter().position(|earlier| *earlier == port) {
                self.diagnostics.push(
                    Diagnostic::error(item.site(), "the port is listed twice")
                        .with_secondary(spans[first], "first here")
                        .with_help("remove one of them"),
                );
                continue;
            }
            ports.push(port);
            spans.push(item.site());
        }
        Some(ports)
    }

    /// The addresses of `ip:` beside `host:`; none without it.
    fn addresses(&mut self, node: &Node) -> Option<Vec<IpAddr>> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for item in node.get("ip").map(one_or_more).unwrap_or_default() {
            let address = parse_address(text(item)?).ok()?;
            if addresses.contains(&address) {
                self.diagnostics.push(
                    Diagnostic::error(item.site(), "the address is listed twice")
                        .with_help("remove one of them"),
                );
                return None;
            }
            addresses.push(address);
        }
        Some(addresses)
    }

    /// Defines all groups. A group may name other groups, including those defined after it.
    pub(super) fn groups(&mut self, node: &Node) {
        let entries: Vec<&Entry> = node
            .as_mapping()
            .unwrap_or_default()
            .iter()
            .filter(|entry| EndpointName::parse(&entry.key.text).is_ok())
            .collect();
        let mut unresolved: HashMap<&str, &Entry> = HashMap::new();
        for entry in &entries {
            match self.names.check_free(&entry.key.text, entry.key.span) {
                Ok(()) => {
                    unresolved.insert(&entry.key.text, entry);
                }
                Err(error) => self.diagnostics.push(error),
            }
        }

        // Depth first without recursion, because a chain of groups may be as long as the file. A
        // group stays on the stack until the groups that it names are defined.
        let mut stack: Vec<PendingGroup<'_>> = Vec::new();
        let mut on_stack: HashSet<&str> = HashSet::new();
        for entry in &entries {
            if unresolved.contains_key(entry.key.text.as_str()) {
                stack.push(PendingGroup { entry, next: 0 });
                on_stack.insert(&entry.key.text);
            }
            while let Some(current) = stack.last_mut() {
                match current.advance(&unresolved, &on_stack) {
                    NextGroup::Unresolved(inner) => {
                        on_stack.insert(&inner.key.text);
                        stack.push(PendingGroup {
                            entry: inner,
                            next: 0,
                        });
                    }
                    NextGroup::Cycle(item) => {
                        self.report_cycle(&stack, item);
                        for PendingGroup {
                            entry: Entry { key, .. },
                            ..
                        } in stack.drain(..)
                        {
                            unresolved.remove(key.text.as_str());
                            self.names.define_group(&key.text, key.span, None);
                        }
                        on_stack.clear();
                    }
                    NextGroup::None => {
                        let Entry { key, value } = current.entry;
                        let members = self.members(value);
                        self.names.define_group(&key.text, key.span, members);
                        unresolved.remove(key.text.as_str());
                        on_stack.remove(key.text.as_str());
                        stack.pop();
                    }
                }
            }
        }
    }

    fn report_cycle(&mut self, stack: &[PendingGroup<'_>], item: &Node) {
        let name = text(item).unwrap_or_default();
        let from = stack
            .iter()
            .position(|group| group.entry.key.text == name)
            .unwrap_or_default();
        let mut path: Vec<&str> = stack[from..]
            .iter()
            .map(|group| group.entry.key.text.as_str())
            .collect();
        if path.len() > MAX_SHOWN_CYCLE {
            path.truncate(MAX_SHOWN_CYCLE);
            path.push("...");
        }
        path.push(name);

        let diagnostic = Diagnostic::error(
            item.site(),
            format!("the group {name} contains itself: {}", path.join(" -> ")),
        )
        .with_help("remove one of these names");
        self.diagnostics.push(match stack.get(from) {
            Some(group) => diagnostic.with_secondary(group.entry.key.span, "the group"),
            None => diagnostic,
        });
    }

    /// The endpoints of a group and of the groups in it, each once; `None` if a name has an error.
    fn members(&mut self, node: &Node) -> Option<Vec<EndpointId>> {
        let mut group: Vec<EndpointId> = Vec::new();
        let mut seen: HashSet<EndpointId> = HashSet::new();
        let mut complete = true;
        for item in node.as_sequence()? {
            match self.member(item) {
                Some(members) => group.extend(members.into_iter().filter(|id| seen.insert(*id))),
                None => complete = false,
            }
        }
        complete.then_some(group)
    }

    fn member(&mut self, item: &Node) -> Option<Vec<EndpointId>> {
        let name = text(item)?;
        let at = ScalarText::new(self.sources, item, name);
        let parsed = match parse_source(Fragment {
            text: name,
            start: 0,
        }) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.diagnostics.push(at.diagnostic(error));
                return None;
            }
        };

        let span = at.span(&parsed.range);
        match self
            .names
            .resolve(&parsed.endpoint, span, &self.sources.place(span))
        {
            Ok(Some(subject)) if !subject.members().is_empty() => Some(subject.members().to_vec()),
            Ok(Some(_)) => {
                self.diagnostics.push(
                    Diagnostic::error(span, "a group cannot contain *")
                        .with_help("write * in the line itself"),
                );
                None
            }
            Ok(None) => None,
            Err(error) => {
                self.diagnostics.push(error);
                None
            }
        }
    }
}

/// The next group that a pending group depends on.
enum NextGroup<'a> {
    /// A group that must be defined first.
    Unresolved(&'a Entry),
    /// A group that is on the stack itself.
    Cycle(&'a Node),
    /// All groups that it names are defined.
    None,
}

/// A group on the stack, with the index of its next item.
struct PendingGroup<'a> {
    entry: &'a Entry,
    next: usize,
}

impl<'a> PendingGroup<'a> {
    /// Advances to the next item that names a group without a definition.
    fn advance(
        &mut self,
        unresolved: &HashMap<&str, &'a Entry>,
        on_stack: &HashSet<&str>,
    ) -> NextGroup<'a> {
        let items = self.entry.value.as_sequence().unwrap_or_default();
        while let Some(item) = items.get(self.next) {
            self.next += 1;
            let Some(name) = text(item) else { continue };
            match unresolved.get(name) {
                Some(_) if on_stack.contains(name) => return NextGroup::Cycle(item),
                Some(inner) => return NextGroup::Unresolved(inner),
                None => {}
            }
        }
        NextGroup::None
    }
}

/// The error, with its help, of keys that are missing or exclude each other.
fn locator_error(name: &str, node: &Node) -> Option<(String, String)> {
    let has_namespace = node.get("namespace").is_some();
    let has_service = node.get("service").is_some();
    let has_source = node.get("source").is_some();
    let keys: Vec<&str> = ["workload", "pods", "host", "ip"]
        .into_iter()
        .filter(|key| node.get(key).is_some())
        .collect();

    match keys.as_slice() {
        ["ip"] if node.get("ip").is_some_and(|ip| one_or_more(ip).len() > 1) => Some((
            format!("{name} has several addresses and no host"),
            "give it the name that they belong to: host; or define an endpoint for each address"
                .to_owned(),
        )),
        ["host", "ip"] if !(has_source || has_namespace || has_service) => None,
        [] if !has_service && !has_namespace => Some((
            format!("{name} does not say how to find it"),
            "give it namespace, for all of its pods, or also workload, pods or service; or host; \
             or ip"
                .to_owned(),
        )),
        [first, second, ..] if keys.as_slice() != ["host", "ip"] => Some((
            format!("{name} has both {first} and {second}"),
            "define two endpoints, or remove one of the keys".to_owned(),
        )),
        [key @ ("host" | "ip"), ..] if has_source => Some((
            format!("{name} has both {key} and source"),
            format!(
                "{key} names a target outside the cluster, which cannot be a source: remove source"
            ),
        )),
        [key @ ("host" | "ip"), ..] if has_namespace || has_service => {
            let other = if has_namespace {
                "namespace"
            } else {
                "service"
            };
            Some((
                format!("{name} has both {key} and {other}"),
                format!(
                    "{key} names a target outside the cluster: remove {other}, or define two endpoints"
                ),
            ))
        }
        [] | ["workload" | "pods"] if !has_namespace => {
            let key = keys.first().copied().unwrap_or("service");
            Some((
                format!("{name} has a {key} and no namespace"),
                "add namespace: the suite does not depend on the current context".to_owned(),
            ))
        }
        _ => None,
    }
}

/// The locator of an endpoint; `None` if a value has the wrong form, which `shape` reported.
fn locator(node: &Node) -> Option<Locator> {
    if let Some(host) = node.get("host") {
        return HostName::parse(text(host)?).ok().map(Locator::Host);
    }
    if let Some(ip) = node.get("ip") {
        let address = one_or_more(ip).first().copied()?;
        return parse_address(text(address)?).ok().map(Locator::Address);
    }

    let namespace = text(node.get("namespace")?)?.to_owned();
    if let Some(workload) = node.get("workload") {
        let workload = parse_workload(text(workload)?).ok()?;
        return Some(Locator::Workload {
            namespace,
            workload,
        });
    }
    if let Some(pods) = node.get("pods") {
        let labels = pods
            .as_mapping()?
            .iter()
            .map(|entry| Some((entry.key.text.clone(), text(&entry.value)?.to_owned())))
            .collect::<Option<_>>()?;
        return Some(Locator::Pods { namespace, labels });
    }

    let Some(service) = node.get("service") else {
        // A namespace alone is all of its pods.
        return Some(Locator::Pods {
            namespace,
            labels: BTreeMap::new(),
        });
    };
    let name = text(service)?.to_owned();
    Some(Locator::Service {
        service: ObjectRef {
            namespace,
            kind: "Service".to_owned(),
            name,
        },
    })
}
