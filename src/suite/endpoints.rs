//! `spec.endpoints` and `spec.groups`.

use super::forms::{parse_port, parse_workload};
use super::grammar::Piece;
use super::item::parse_source;
use super::names::Names;
use super::position::Text;
use super::shape::text;
use super::{Endpoint, EndpointId, Locator, PortItem, SourceMode};
use crate::model::{EndpointName, HostName, ObjectRef};
use crate::source::{Diagnostic, Diagnostics, Entry, Node, Sources, Span};
use std::collections::{HashMap, HashSet};

/// How many groups of a cycle are named.
const SHOWN_CYCLE: usize = 8;

/// The decoder of endpoints and groups.
pub(super) struct Definitions<'a> {
    /// For places.
    pub(super) sources: &'a Sources,
    /// Where to report.
    pub(super) diagnostics: &'a mut Diagnostics,
    /// What is defined.
    pub(super) names: &'a mut Names,
}

impl Definitions<'_> {
    /// Defines all endpoints, in the order of the file.
    pub(super) fn endpoints(&mut self, node: &Node) {
        for Entry { key, value } in node.as_mapping().unwrap_or_default() {
            // A name of the wrong form was reported with the shape, and no line can use it.
            if EndpointName::parse(&key.text).is_err() {
                continue;
            }
            let endpoint = self.endpoint(&key.text, key.span, value);
            if let Err(clash) = self.names.define_endpoint(&key.text, key.span, endpoint) {
                self.diagnostics.push(clash);
            }
        }
    }

    /// An endpoint; `None` if it is wrong.
    fn endpoint(&mut self, name: &str, span: Span, node: &Node) -> Option<Endpoint> {
        node.as_mapping()?;
        let has = |key: &str| node.get(key).is_some();
        let ways: Vec<&str> = ["workload", "pods", "host", "ip"]
            .into_iter()
            .filter(|way| has(way))
            .collect();
        let error = match ways.as_slice() {
            [] if !has("service") => Some((
                format!("{name} has no way to be found"),
                "give it namespace and workload, pods or service; or host; or ip".to_owned(),
            )),
            [first, second, ..] => Some((
                format!("{name} has both {first} and {second}"),
                "an endpoint is found in one way: make two endpoints".to_owned(),
            )),
            [way @ ("host" | "ip")] if has("source") => Some((
                format!("{name} has both {way} and source"),
                format!(
                    "{way} names something outside the cluster, from where nothing is sent: remove source"
                ),
            )),
            [way @ ("host" | "ip")] if has("namespace") || has("service") => {
                let other = if has("namespace") {
                    "namespace"
                } else {
                    "service"
                };
                Some((
                    format!("{name} has both {way} and {other}"),
                    format!(
                        "{way} names something outside the cluster: remove {other}, or make two endpoints"
                    ),
                ))
            }
            [] | ["workload" | "pods"] if !has("namespace") => {
                let way = ways.first().copied().unwrap_or("service");
                Some((
                    format!("{name} has a {way} and no namespace"),
                    "add namespace: the suite does not depend on the current context".to_owned(),
                ))
            }
            _ => None,
        };
        if let Some((message, help)) = error {
            self.diagnostics
                .push(Diagnostic::error(span, message).with_help(help));
            return None;
        }
        let ports = match node.get("ports") {
            Some(ports) => Some(self.ports(ports)?),
            None => None,
        };
        let locator = locator(node)?;
        let service = match locator {
            Locator::Service { .. } => None,
            _ => node.get("service").and_then(text).map(str::to_owned),
        };
        let source_mode = node
            .get("source")
            .and_then(text)
            .and_then(SourceMode::named);
        let (label, place) = (name.to_owned(), self.sources.place(span));
        Some(Endpoint {
            label,
            locator,
            service,
            ports,
            source_mode,
            place,
            used: false,
        })
    }

    fn ports(&mut self, node: &Node) -> Option<Vec<PortItem>> {
        let mut ports: Vec<PortItem> = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        for item in node.as_sequence()? {
            let port = parse_port(text(item)?).ok()?;
            if let Some(first) = ports.iter().position(|known| *known == port) {
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

    /// Defines all groups; a group may name groups, also later ones.
    pub(super) fn groups(&mut self, node: &Node) {
        let entries: Vec<&Entry> = node
            .as_mapping()
            .unwrap_or_default()
            .iter()
            .filter(|entry| EndpointName::parse(&entry.key.text).is_ok())
            .collect();
        let mut open: HashMap<&str, &Entry> = HashMap::new();
        for entry in &entries {
            match self.names.check_free(&entry.key.text, entry.key.span) {
                Ok(()) => {
                    open.insert(&entry.key.text, entry);
                }
                Err(clash) => self.diagnostics.push(clash),
            }
        }
        // Depth first without recursion: a chain of groups may be as long as the file. A group
        // waits on the stack until the groups that it names are done.
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        let mut on_stack: HashSet<&str> = HashSet::new();
        for entry in &entries {
            if open.contains_key(entry.key.text.as_str()) {
                waiting.push(Waiting { entry, next: 0 });
                on_stack.insert(&entry.key.text);
            }
            while let Some(current) = waiting.last_mut() {
                match current.advance(&open, &on_stack) {
                    Nested::Open(inner) => {
                        on_stack.insert(&inner.key.text);
                        waiting.push(Waiting {
                            entry: inner,
                            next: 0,
                        });
                    }
                    Nested::Cycle(item) => {
                        self.cycle(&waiting, item);
                        for Waiting {
                            entry: Entry { key, .. },
                            ..
                        } in waiting.drain(..)
                        {
                            open.remove(key.text.as_str());
                            self.names.define_group(&key.text, key.span, None);
                        }
                        on_stack.clear();
                    }
                    Nested::Done => {
                        let Entry { key, value } = current.entry;
                        let members = self.members(value);
                        self.names.define_group(&key.text, key.span, members);
                        open.remove(key.text.as_str());
                        on_stack.remove(key.text.as_str());
                        waiting.pop();
                    }
                }
            }
        }
    }

    fn cycle(&mut self, waiting: &[Waiting<'_>], item: &Node) {
        let name = text(item).unwrap_or_default();
        let from = waiting
            .iter()
            .position(|group| group.entry.key.text == name)
            .unwrap_or_default();
        let mut path: Vec<&str> = waiting[from..]
            .iter()
            .map(|group| group.entry.key.text.as_str())
            .collect();
        if path.len() > SHOWN_CYCLE {
            path.truncate(SHOWN_CYCLE);
            path.push("...");
        }
        path.push(name);
        let diagnostic = Diagnostic::error(
            item.site(),
            format!("the group {name} contains itself: {}", path.join(" -> ")),
        )
        .with_help("remove one of these names");
        self.diagnostics.push(match waiting.get(from) {
            Some(group) => diagnostic.with_secondary(group.entry.key.span, "the group"),
            None => diagnostic,
        });
    }

    /// The endpoints of a group, groups in it flattened, each once; `None` if a name is wrong.
    fn members(&mut self, node: &Node) -> Option<Vec<EndpointId>> {
        let mut found: Vec<EndpointId> = Vec::new();
        let mut seen: HashSet<EndpointId> = HashSet::new();
        let mut whole = true;
        for item in node.as_sequence()? {
            match self.member(item) {
                Some(members) => found.extend(members.into_iter().filter(|id| seen.insert(*id))),
                None => whole = false,
            }
        }
        whole.then_some(found)
    }

    fn member(&mut self, item: &Node) -> Option<Vec<EndpointId>> {
        let name = text(item)?;
        let at = Text::new(self.sources, item, name);
        let parsed = match parse_source(Piece {
            text: name,
            start: 0,
        }) {
            Ok(parsed) => parsed,
            Err(fault) => {
                self.diagnostics.push(at.diagnostic(fault));
                return None;
            }
        };
        let span = at.span(&parsed.range);
        match self
            .names
            .look_up(&parsed.who, span, &self.sources.place(span))
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
            Err(unknown) => {
                self.diagnostics.push(unknown);
                None
            }
        }
    }
}

enum Nested<'a> {
    /// A group that must be done first.
    Open(&'a Entry),
    /// A group that waits for this one.
    Cycle(&'a Node),
    /// All groups that it names are done.
    Done,
}

/// A group on the stack, and the item of it that comes next.
struct Waiting<'a> {
    entry: &'a Entry,
    next: usize,
}

impl<'a> Waiting<'a> {
    /// Goes on to the next item that names a group which is not done.
    fn advance(&mut self, open: &HashMap<&str, &'a Entry>, on_stack: &HashSet<&str>) -> Nested<'a> {
        let items = self.entry.value.as_sequence().unwrap_or_default();
        while let Some(item) = items.get(self.next) {
            self.next += 1;
            let Some(name) = text(item) else { continue };
            match open.get(name) {
                Some(_) if on_stack.contains(name) => return Nested::Cycle(item),
                Some(inner) => return Nested::Open(inner),
                None => {}
            }
        }
        Nested::Done
    }
}

/// How an endpoint is found; `None` if a value has not its form, which was reported with the shape.
fn locator(node: &Node) -> Option<Locator> {
    let value = |key: &str| node.get(key).and_then(text);
    if let Some(host) = node.get("host") {
        return HostName::parse(text(host)?).ok().map(Locator::Host);
    }
    if let Some(ip) = node.get("ip") {
        return text(ip)?.parse().ok().map(Locator::Address);
    }
    let namespace = value("namespace")?.to_owned();
    if let Some(workload) = node.get("workload") {
        let workload = parse_workload(text(workload)?).ok()?;
        return Some(Locator::Workload {
            namespace,
            workload,
        });
    }
    if let Some(pods) = node.get("pods") {
        let label = |entry: &Entry| Some((entry.key.text.clone(), text(&entry.value)?.to_owned()));
        let labels = pods
            .as_mapping()?
            .iter()
            .map(label)
            .collect::<Option<_>>()?;
        return Some(Locator::Pods { namespace, labels });
    }
    let name = value("service")?.to_owned();
    Some(Locator::Service {
        service: ObjectRef {
            namespace,
            kind: "Service".to_owned(),
            name,
        },
    })
}
