//! Contradictions and repetitions between the lines of a suite, as far as its text shows them.
//!
//! # Limitations
//! The search has no inventory. The planner therefore finds conflicts between two endpoints that
//! select the same pod, or between a port's name and its number, and those beyond the limits of
//! this search.

use super::lines::{PlacedLine, expectation_label};
use super::names::{Names, has_pods};
use super::ports::NamedPorts;
use super::{
    Endpoint, EndpointId, Expected, PortItem, PortRef, Settings, Subject, TargetItem, TargetWhat,
    Url,
};
use crate::model::Transport;
use crate::source::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most pairs of entries that are compared: well under a second.
const MAX_COMPARISONS: usize = 3_000_000;

/// The most entries that are kept: some tens of megabytes.
const MAX_ENTRIES: usize = 300_000;

/// The most lines with the same subjects that a line is compared with.
const MAX_EQUAL_LINES: usize = 16;

/// Reports contradictions, repeated lines, and lines whose checks would have the same name.
pub(super) fn report(
    lines: &[PlacedLine],
    names: &Names,
    named_ports: &NamedPorts,
    defaults: &Settings,
    diagnostics: &mut Diagnostics,
) {
    let repeated = repeated_lines(lines, diagnostics);

    let mut finder = ConflictFinder::new(lines, names, named_ports, defaults);
    for (number, _) in lines
        .iter()
        .enumerate()
        .filter(|(number, _)| !repeated.contains(number))
    {
        if !finder.add_line(number) {
            break;
        }
    }
    diagnostics.extend(finder.conflicts.into_values());
}

/// The sorted sources and targets of a line, and its expectation.
type LineKey<'a> = (Vec<&'a Subject>, Vec<&'a TargetItem>, Expected);

/// Warns of lines that repeat an earlier one, and returns their indexes.
fn repeated_lines(lines: &[PlacedLine], diagnostics: &mut Diagnostics) -> BTreeSet<usize> {
    let mut lines_by_key: HashMap<LineKey<'_>, Vec<usize>> = HashMap::new();
    let mut repeated = BTreeSet::new();
    for (number, PlacedLine { line, span }) in lines.iter().enumerate() {
        let mut sources: Vec<&Subject> = line.sources.iter().collect();
        let mut targets: Vec<&TargetItem> = line.targets.iter().collect();
        sources.sort();
        targets.sort();

        let earlier = lines_by_key
            .entry((sources, targets, line.expected))
            .or_default();
        let repetition_of = earlier.iter().find(|first| {
            lines[**first].line.settings == line.settings && lines[**first].line.id == line.id
        });
        if let Some(first) = repetition_of {
            diagnostics.push(
                Diagnostic::warning(*span, "this line repeats another")
                    .with_secondary(lines[*first].span, "first here")
                    .with_help("remove one of them"),
            );
            repeated.insert(number);
        } else if earlier.len() < MAX_EQUAL_LINES {
            earlier.push(number);
        }
    }
    repeated
}

/// The ports or the URL of a target, as far as they can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TestedPorts<'a> {
    /// Known ports that only an inventory gives.
    Unlisted(Option<Transport>),
    Port(&'a PortItem),
    Range(u16, u16, Transport),
    Url(&'a Url),
}

impl TestedPorts<'_> {
    /// Whether both contain the same port or the same request.
    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Unlisted(a), Self::Unlisted(b)) => a == b,
            (Self::Port(a), Self::Port(b)) => a == b,
            (Self::Port(item), Self::Range(from, to, transport))
            | (Self::Range(from, to, transport), Self::Port(item)) => {
                item.transport == transport
                    && matches!(item.port, PortRef::Number(number) if (from..=to).contains(&number))
            }
            (Self::Range(from, to, a), Self::Range(other_from, other_to, b)) => {
                a == b && from <= other_to && other_from <= to
            }
            (Self::Url(a), Self::Url(b)) => {
                (a.scheme, &a.method, &a.port, &a.path) == (b.scheme, &b.method, &b.port, &b.path)
            }
            (Self::Unlisted(_) | Self::Port(_) | Self::Range(..) | Self::Url(_), _) => false,
        }
    }

    /// The target with these ports, as a suite writes it.
    fn display(self, target: &str) -> String {
        match self {
            Self::Unlisted(None) => target.to_owned(),
            Self::Unlisted(Some(transport)) => format!("{target}:*/{transport}"),
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ConflictKind {
    SameName,
    Contradiction,
}

/// An expectation of a line about a pair of endpoints.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    line: usize,
    tested: TestedPorts<'a>,
    /// Whether the line names the source or the target by `*`.
    from_wildcard: bool,
}

/// The search for conflicts, which adds one line after the other.
struct ConflictFinder<'a> {
    lines: &'a [PlacedLine],
    names: &'a Names,
    defaults: &'a Settings,
    /// For each endpoint the first one with an equal locator, so that both count as one source.
    same_source: Vec<EndpointId>,
    /// For each endpoint the first one that is equal as a target.
    same_target: Vec<EndpointId>,
    /// The known ports of hosts and addresses: those that lines name.
    named_ports: &'a NamedPorts,
    /// The endpoints that `*` stands for as a source.
    all_sources: Vec<EndpointId>,
    /// The endpoints that `*` stands for as a target.
    all_targets: Vec<EndpointId>,
    /// Entries by pair, with the pair reduced by `same_source` and `same_target`.
    entries: HashMap<(EndpointId, EndpointId), Vec<Entry<'a>>>,
    entry_count: usize,
    comparisons: usize,
    /// At most one conflict of each kind for a line.
    conflicts: BTreeMap<(usize, ConflictKind), Diagnostic>,
}

impl<'a> ConflictFinder<'a> {
    fn new(
        lines: &'a [PlacedLine],
        names: &'a Names,
        named_ports: &'a NamedPorts,
        defaults: &'a Settings,
    ) -> Self {
        let endpoints = names.endpoints();
        let ids = (0..endpoints.len()).map(EndpointId);
        let all_sources = ids
            .clone()
            .filter(|id| has_pods(&names.endpoint(*id).locator))
            .collect();
        // Pods are assumed to have known ports.
        let all_targets = ids
            .filter(|id| {
                let endpoint = names.endpoint(*id);
                endpoint.ports.is_some()
                    || has_pods(&endpoint.locator)
                    || named_ports.contains_key(id)
            })
            .collect();

        Self {
            lines,
            names,
            defaults,
            same_source: first_equal(endpoints, |endpoint| format!("{:?}", endpoint.locator)),
            same_target: first_equal(endpoints, |endpoint| {
                format!(
                    "{:?} {:?} {:?}",
                    endpoint.locator, endpoint.service, endpoint.ports
                )
            }),
            all_sources,
            all_targets,
            named_ports,
            entries: HashMap::new(),
            entry_count: 0,
            comparisons: 0,
            conflicts: BTreeMap::new(),
        }
    }

    /// Compares a line with those before it; false past the limits.
    fn add_line(&mut self, number: usize) -> bool {
        let line = &self.lines[number].line;
        for source in &line.sources {
            for target in &line.targets {
                if !self.add_expectation(number, source, target) {
                    return false;
                }
            }
        }
        true
    }

    /// Adds the entries of one source and one target of a line; false past the limits.
    fn add_expectation(&mut self, number: usize, source: &Subject, target: &'a TargetItem) -> bool {
        let from_wildcard =
            matches!(source, Subject::All) || matches!(target.subject, Subject::All);
        let excludes_itself = !matches!(
            (source, &target.subject),
            (Subject::Endpoint(_), Subject::Endpoint(_))
        );
        let receivers = endpoints(&target.subject, &self.all_targets);
        if receivers.is_empty() {
            return true;
        }

        for sender in endpoints(source, &self.all_sources) {
            for receiver in receivers.iter().copied() {
                if excludes_itself && receiver == sender {
                    continue;
                }
                let pair = (self.same_source[sender.0], self.same_target[receiver.0]);
                for tested in self.tested(receiver, &target.what) {
                    let entry = Entry {
                        line: number,
                        tested,
                        from_wildcard,
                    };
                    if !self.add_entry(pair, (sender, receiver), entry) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The parts of a target's ports that are compared one by one.
    fn tested(&self, receiver: EndpointId, what: &'a TargetWhat) -> Vec<TestedPorts<'a>> {
        let names = self.names;
        match what {
            TargetWhat::Port(item) => vec![TestedPorts::Port(item)],
            TargetWhat::Range {
                from,
                to,
                transport,
            } => vec![TestedPorts::Range(*from, *to, *transport)],
            TargetWhat::Url(url) => vec![TestedPorts::Url(url)],
            TargetWhat::KnownPorts(transport) => {
                let ports: Vec<&PortItem> = match (
                    &names.endpoint(receiver).ports,
                    self.named_ports.get(&receiver),
                ) {
                    (Some(ports), _) => ports.iter().collect(),
                    (None, Some(ports)) => ports.iter().collect(),
                    (None, None) => return vec![TestedPorts::Unlisted(*transport)],
                };
                ports
                    .into_iter()
                    .filter(|item| transport.is_none_or(|transport| item.transport == transport))
                    .map(TestedPorts::Port)
                    .collect()
            }
        }
    }

    /// Adds an entry and compares it with those of the same pair; false past the limits.
    fn add_entry(
        &mut self,
        pair: (EndpointId, EndpointId),
        written: (EndpointId, EndpointId),
        new: Entry<'a>,
    ) -> bool {
        let earlier = self.entries.entry(pair).or_default();
        self.comparisons += earlier.len();
        self.entry_count += 1;
        if self.comparisons > MAX_COMPARISONS || self.entry_count > MAX_ENTRIES {
            return false;
        }

        let overlapping: Vec<Entry<'a>> = earlier
            .iter()
            .copied()
            .filter(|old| old.line != new.line && old.tested.overlaps(new.tested))
            .collect();
        earlier.push(new);
        for old in overlapping {
            self.compare(old, new, written);
        }
        true
    }

    /// Records a conflict between two overlapping entries, if there is one.
    fn compare(
        &mut self,
        old: Entry<'a>,
        new: Entry<'a>,
        (sender, receiver): (EndpointId, EndpointId),
    ) {
        let (first, second) = (&self.lines[old.line], &self.lines[new.line]);
        let source = &self.names.endpoint(sender).label;
        let target = &self.names.endpoint(receiver).label;
        let flow = format!("{source} -> {}", new.tested.display(target));

        if first.line.expected != second.line.expected {
            if same_request(&first.line.settings, &second.line.settings, self.defaults) {
                let help = "change one of them: no line overrides another, lines only take precedence over everythingElse";
                self.conflicts
                    .entry((new.line, ConflictKind::Contradiction))
                    .or_insert_with(|| {
                        Diagnostic::error(second.span, format!("{flow} is both allowed and denied"))
                            .with_label(expectation_label(&second.line))
                            .with_secondary(first.span, expectation_label(&first.line))
                            .with_help(help)
                    });
            }
            return;
        }

        // Only an inventory shows whether `*` includes an endpoint, because it excludes
        // host-network pods.
        let same_name = old.tested == new.tested
            && first.line.id == second.line.id
            && !(old.from_wildcard || new.from_wildcard);
        if same_name && first.line.settings != second.line.settings {
            self.conflicts
                .entry((new.line, ConflictKind::SameName))
                .or_insert_with(|| {
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

/// For each endpoint the first one with the same key.
fn first_equal(endpoints: &[Endpoint], key: impl Fn(&Endpoint) -> String) -> Vec<EndpointId> {
    let mut first_by_key: HashMap<String, EndpointId> = HashMap::new();
    endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            *first_by_key
                .entry(key(endpoint))
                .or_insert(EndpointId(index))
        })
        .collect()
}

/// The endpoints of a subject; `all` for `*`.
fn endpoints(subject: &Subject, all: &[EndpointId]) -> Vec<EndpointId> {
    match subject {
        Subject::Endpoint(_) | Subject::Group(_) => subject.members().to_vec(),
        Subject::All => all.to_vec(),
    }
}

/// Whether two lines send the same request. A request with other headers may get another answer, so
/// its expectation is no contradiction.
fn same_request(a: &Settings, b: &Settings, defaults: &Settings) -> bool {
    let (a, b) = (a.over(defaults), b.over(defaults));
    (a.headers, a.alpn, a.body, a.server_name, a.record, a.send)
        == (b.headers, b.alpn, b.body, b.server_name, b.record, b.send)
}
