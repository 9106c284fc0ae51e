//! Pairs of lines that cannot stand together, as far as the text alone shows it.
//!
//! # Limitations
//! Without an inventory nothing is known about pods: two endpoints that select the same pod, or a
//! port's name that stands for a number, are found by the planner. So is whatever lies beyond the
//! budget of this search.

use super::lines::{PlacedLine, shown};
use super::names::{Names, has_pods};
use super::ports::NamedPorts;
use super::{
    Endpoint, EndpointId, Expected, PortItem, PortRef, Settings, Subject, TargetItem, TargetWhat,
    Url,
};
use crate::model::Transport;
use crate::source::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many pairs of entries are compared, and how many are kept: well under a second and some tens
/// of megabytes.
const MAX_COMPARISONS: usize = 3_000_000;
const MAX_ENTRIES: usize = 300_000;

/// Lines with the same subjects that are compared with each other.
const MAX_COMPARED: usize = 16;

/// Reports contradictions, lines whose checks would have one name, and repeated lines.
pub(super) fn report(
    lines: &[PlacedLine],
    names: &Names,
    named_ports: &NamedPorts,
    defaults: &Settings,
    diagnostics: &mut Diagnostics,
) {
    let repeated = repeated_lines(lines, diagnostics);
    let mut search = Search::new(lines, names, named_ports, defaults);
    for (number, _) in lines
        .iter()
        .enumerate()
        .filter(|(number, _)| !repeated.contains(number))
    {
        if !search.line(number) {
            break;
        }
    }
    diagnostics.extend(search.found.into_values());
}

/// What a line says, in whatever order it says it.
type Said<'a> = (Vec<&'a Subject>, Vec<&'a TargetItem>, Expected);

/// Warns of lines that say the same as an earlier one.
fn repeated_lines(lines: &[PlacedLine], diagnostics: &mut Diagnostics) -> BTreeSet<usize> {
    let mut same_node_controls: HashMap<Said<'_>, Vec<usize>> = HashMap::new();
    let mut repeated = BTreeSet::new();
    for (number, PlacedLine { line, span }) in lines.iter().enumerate() {
        let mut key = (
            line.sources.iter().collect::<Vec<_>>(),
            line.targets.iter().collect::<Vec<_>>(),
            line.expected,
        );
        key.0.sort();
        key.1.sort();
        let earlier = same_node_controls.entry(key).or_default();
        let same = earlier.iter().find(|first| {
            lines[**first].line.settings == line.settings && lines[**first].line.id == line.id
        });
        if let Some(first) = same {
            diagnostics.push(
                Diagnostic::warning(*span, "this line repeats another")
                    .with_secondary(lines[*first].span, "first here")
                    .with_help("remove one of them"),
            );
            repeated.insert(number);
        } else if earlier.len() < MAX_COMPARED {
            earlier.push(number);
        }
    }
    repeated
}

/// What of a target is tested, as far as it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tested<'a> {
    /// Ports that only an inventory knows.
    Known(Option<Transport>),
    Port(&'a PortItem),
    Range(u16, u16, Transport),
    Url(&'a Url),
}

impl Tested<'_> {
    /// Whether some packet would be sent for both.
    fn overlaps(self, other: Self) -> bool {
        let in_range = |item: &PortItem, from: u16, to: u16, transport: Transport| {
            item.transport == transport
                && matches!(item.port, PortRef::Number(number) if (from..=to).contains(&number))
        };
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a == b,
            (Self::Port(a), Self::Port(b)) => a == b,
            (Self::Port(item), Self::Range(from, to, transport))
            | (Self::Range(from, to, transport), Self::Port(item)) => {
                in_range(item, from, to, transport)
            }
            (Self::Range(from, to, a), Self::Range(other_from, other_to, b)) => {
                a == b && from <= other_to && other_from <= to
            }
            (Self::Url(a), Self::Url(b)) => {
                (a.scheme, &a.method, &a.port, &a.path) == (b.scheme, &b.method, &b.port, &b.path)
            }
            (Self::Known(_) | Self::Port(_) | Self::Range(..) | Self::Url(_), _) => false,
        }
    }

    fn show(self, target: &str) -> String {
        match self {
            Self::Known(None) => target.to_owned(),
            Self::Known(Some(transport)) => format!("{target}:*/{transport}"),
            Self::Port(item) => {
                let port = match &item.port {
                    PortRef::Number(number) => number.to_string(),
                    PortRef::Name(name) => name.clone(),
                };
                let transport = if item.transport == Transport::Tcp {
                    String::new()
                } else {
                    format!("/{}", item.transport)
                };
                format!("{target}:{port}{transport}")
            }
            Self::Range(from, to, _) => format!("{target}:{from}-{to}"),
            Self::Url(url) => url.text.clone(),
        }
    }
}

/// One thing that a line says about a pair of endpoints.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    line: usize,
    tested: Tested<'a>,
    /// Whether `*` brought the pair about.
    by_star: bool,
}

struct Search<'a> {
    lines: &'a [PlacedLine],
    names: &'a Names,
    defaults: &'a Settings,
    /// For each endpoint the first that is found in the same way, as a source and as a target.
    same_source: Vec<EndpointId>,
    same_target: Vec<EndpointId>,
    /// Ports that lines name on hosts and addresses: their known ports.
    named_ports: &'a NamedPorts,
    /// What `*` holds as a source and as a target.
    star: (Vec<EndpointId>, Vec<EndpointId>),
    entries: HashMap<(EndpointId, EndpointId), Vec<Entry<'a>>>,
    kept: usize,
    compared: usize,
    /// By line and by what is wrong with it: one contradiction a line is enough to lead to all.
    found: BTreeMap<(usize, bool), Diagnostic>,
}

impl<'a> Search<'a> {
    fn new(
        lines: &'a [PlacedLine],
        names: &'a Names,
        named_ports: &'a NamedPorts,
        defaults: &'a Settings,
    ) -> Self {
        let first_equal = |key: &dyn Fn(&Endpoint) -> String| {
            let mut seen: HashMap<String, EndpointId> = HashMap::new();
            let endpoints = names.endpoints().iter().enumerate();
            endpoints
                .map(|(index, endpoint)| *seen.entry(key(endpoint)).or_insert(EndpointId(index)))
                .collect()
        };
        let all = || {
            names
                .endpoints()
                .iter()
                .enumerate()
                .map(|(index, endpoint)| (EndpointId(index), endpoint))
        };
        let senders = all()
            .filter(|(_, endpoint)| has_pods(&endpoint.locator))
            .map(|(id, _)| id)
            .collect();
        // Pods are taken to have known ports.
        let has_ports = |id: EndpointId, endpoint: &Endpoint| {
            endpoint.ports.is_some() || has_pods(&endpoint.locator) || named_ports.contains_key(&id)
        };
        let receivers = all()
            .filter(|(id, endpoint)| has_ports(*id, endpoint))
            .map(|(id, _)| id)
            .collect();
        Self {
            lines,
            names,
            defaults,
            same_source: first_equal(&|endpoint| format!("{:?}", endpoint.locator)),
            same_target: first_equal(&|endpoint| {
                format!(
                    "{:?} {:?} {:?}",
                    endpoint.locator, endpoint.service, endpoint.ports
                )
            }),
            star: (senders, receivers),
            named_ports,
            entries: HashMap::new(),
            kept: 0,
            compared: 0,
            found: BTreeMap::new(),
        }
    }

    /// Compares a line with those before it; false when the budget is spent.
    fn line(&mut self, number: usize) -> bool {
        let line = &self.lines[number].line;
        for source in &line.sources {
            for target in &line.targets {
                let broad = |subject: &Subject| !matches!(subject, Subject::Endpoint(_));
                let by_star =
                    matches!(source, Subject::All) || matches!(target.subject, Subject::All);
                let never_itself = broad(source) || broad(&target.subject);
                let receivers = endpoints(&target.subject, &self.star.1);
                if receivers.is_empty() {
                    continue;
                }
                for sender in endpoints(source, &self.star.0) {
                    for receiver in receivers
                        .iter()
                        .copied()
                        .filter(|receiver| !(never_itself && *receiver == sender))
                    {
                        let pair = (self.same_source[sender.0], self.same_target[receiver.0]);
                        for tested in self.tested(receiver, &target.what) {
                            if !self.entry(
                                pair,
                                (sender, receiver),
                                Entry {
                                    line: number,
                                    tested,
                                    by_star,
                                },
                            ) {
                                return false;
                            }
                        }
                    }
                }
            }
        }
        true
    }

    fn tested(&self, receiver: EndpointId, what: &'a TargetWhat) -> Vec<Tested<'a>> {
        let names = self.names;
        match what {
            TargetWhat::Port(item) => vec![Tested::Port(item)],
            TargetWhat::Range {
                from,
                to,
                transport,
            } => vec![Tested::Range(*from, *to, *transport)],
            TargetWhat::Url(url) => vec![Tested::Url(url)],
            TargetWhat::KnownPorts(transport) => {
                let wanted = |item: &&'a PortItem| {
                    transport.is_none_or(|transport| item.transport == transport)
                };
                match (
                    &names.endpoint(receiver).ports,
                    self.named_ports.get(&receiver),
                ) {
                    (Some(ports), _) => ports.iter().filter(wanted).map(Tested::Port).collect(),
                    (None, Some(ports)) => ports.iter().filter(wanted).map(Tested::Port).collect(),
                    (None, None) => vec![Tested::Known(*transport)],
                }
            }
        }
    }

    fn entry(
        &mut self,
        pair: (EndpointId, EndpointId),
        written: (EndpointId, EndpointId),
        new: Entry<'a>,
    ) -> bool {
        let earlier = self.entries.entry(pair).or_default();
        self.compared += earlier.len();
        self.kept += 1;
        if self.compared > MAX_COMPARISONS || self.kept > MAX_ENTRIES {
            return false;
        }
        let hits: Vec<Entry<'a>> = earlier
            .iter()
            .copied()
            .filter(|old| old.line != new.line && old.tested.overlaps(new.tested))
            .collect();
        earlier.push(new);
        for old in hits {
            self.compare(old, new, written);
        }
        true
    }

    fn compare(
        &mut self,
        old: Entry<'a>,
        new: Entry<'a>,
        (sender, receiver): (EndpointId, EndpointId),
    ) {
        let (first, second) = (&self.lines[old.line], &self.lines[new.line]);
        let label = |id: EndpointId| self.names.endpoint(id).label.as_str();
        let flow = format!("{} -> {}", label(sender), new.tested.show(label(receiver)));
        if first.line.expected != second.line.expected {
            if same_request(&first.line.settings, &second.line.settings, self.defaults) {
                let help = "change one of them: no line overrides another, only everythingElse gives way to lines";
                self.found.entry((new.line, true)).or_insert_with(|| {
                    Diagnostic::error(second.span, format!("{flow} is both allowed and denied"))
                        .with_label(shown(&second.line))
                        .with_secondary(first.span, shown(&first.line))
                        .with_help(help)
                });
            }
            return;
        }
        // Whether `*` holds an endpoint is only known with an inventory (host-network pods are not
        // in it).
        let one_name = old.tested == new.tested
            && first.line.id == second.line.id
            && !(old.by_star || new.by_star);
        if one_name && first.line.settings != second.line.settings {
            self.found.entry((new.line, false)).or_insert_with(|| {
                Diagnostic::error(
                    second.span,
                    format!(
                        "two lines make the check \"{flow} {}\" with different settings",
                        second.line.expected
                    ),
                )
                .with_secondary(first.span, "first here")
                .with_help("give one of them an id: it becomes part of the check's name")
            });
        }
    }
}

/// The endpoints of a subject, `star` for `*`.
fn endpoints(subject: &Subject, star: &[EndpointId]) -> Vec<EndpointId> {
    match subject {
        Subject::Endpoint(_) | Subject::Group(_) => subject.members().to_vec(),
        Subject::All => star.to_vec(),
    }
}

/// Whether two lines send the same: other headers may rightly get another answer.
fn same_request(a: &Settings, b: &Settings, defaults: &Settings) -> bool {
    let (a, b) = (a.over(defaults), b.over(defaults));
    (a.headers, a.alpn, a.body, a.server_name, a.record, a.send)
        == (b.headers, b.alpn, b.body, b.server_name, b.record, b.send)
}
