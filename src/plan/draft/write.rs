//! Lines → the text of a suite, with what is guessed and what is left out.

use super::DraftOptions;
use super::endpoints::{DraftEndpoint, DraftEndpoints};
use super::lines::{AtPort, DraftLine, LineGroup, Sources, idle_rule_text, is_large};
use super::names::Names;
use super::table::{Answer, EndpointIndex, Pair, Table};
use crate::model::Transport;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The most names on either side of a line, and of a line of a large draft.
const NAMES_PER_SIDE: usize = 8;
const NAMES_PER_SIDE_OF_LARGE: usize = 40;

/// At most so many things of one kind are listed in a comment.
const LISTED: usize = 20;

/// The whole file.
pub(super) fn suite(
    options: &DraftOptions,
    draft_endpoints: &DraftEndpoints,
    table: &Table<'_>,
    line_groups: &[LineGroup],
) -> String {
    let mut groups = Groups::of(draft_endpoints, table, line_groups);
    let lines = lines_of(line_groups, false, table, &mut groups);
    let optional = lines_of(line_groups, true, table, &mut groups);
    let ambiguous: Vec<String> = line_groups
        .iter()
        .flat_map(|line_group| &line_group.ambiguous)
        .map(|of| pair(*of, table))
        .collect();
    let mut out = String::new();
    comment(
        &mut out,
        "",
        "Drafted by watertight from what the policies say: what it expects is what they do, not what was intended.",
    );
    comment(
        &mut out,
        "",
        "Correct it; what neither a policy nor an object determines is marked \"guessed\".",
    );
    let _ = writeln!(
        out,
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: {} }}\nspec:",
        options.name
    );
    if let Some(families) = options.lab_families {
        let families = families.names().replace(',', ", ");
        let _ = writeln!(out, "  settings: {{ labFamilies: [{families}] }}");
    }
    out.push_str("  endpoints:\n");
    for draft_endpoint in &draft_endpoints.endpoints {
        out.push_str(&endpoint_line(draft_endpoint));
    }
    out.push_str(&groups.definitions(table));
    if !lines.is_empty() {
        out.push_str("  expect:\n");
        out.push_str(&lines);
    }
    if !optional.is_empty() {
        if lines.is_empty() {
            out.push_str("  # expect:\n");
        }
        out.push_str(&optional);
    }
    if ambiguous.is_empty() {
        out.push_str("\n  everythingElse: denied\n");
    } else {
        out.push('\n');
        comment(
            &mut out,
            "  ",
            "everythingElse is left out, and each deny has a line: these pairs have none, since policies give more than one answer for them (for the two address families, or for the pods behind a Service), or since no packet can go there:",
        );
        listed(&mut out, &ambiguous);
    }
    left_out(&mut out, draft_endpoints, table);
    out
}

/// The lines of all groups, or those that are written as comments.
fn lines_of(
    line_groups: &[LineGroup],
    optional: bool,
    table: &Table<'_>,
    groups: &mut Groups,
) -> String {
    let mut out = String::new();
    let wanted = line_groups
        .iter()
        .filter(|group| group.optional == optional && !group.lines.is_empty());
    for line_group in wanted {
        // The lines of a large draft are not grouped by the policies of their targets.
        if optional || line_group.outside || !is_large(table) {
            out.push_str(&head(line_group, table));
        }
        for line in &line_group.lines {
            out.push_str(&line_text(line, optional, table, groups));
        }
    }
    out
}

/// The definition of an endpoint; nothing for one that is built in.
fn endpoint_line(draft_endpoint: &DraftEndpoint) -> String {
    let Some(definition) = &draft_endpoint.definition else {
        return String::new();
    };
    let hidden = if draft_endpoint.optional { "# " } else { "" };
    let guess = draft_endpoint
        .guessed
        .as_ref()
        .map_or(String::new(), |why| {
            format!("   # guessed: {}", one_line(why))
        });
    let label = &draft_endpoint.endpoint.label;
    format!("    {hidden}{label}: {definition}{guess}\n")
}

/// The comment above the lines of a group.
fn head(line_group: &LineGroup, table: &Table<'_>) -> String {
    let labels: Vec<&str> = line_group
        .targets
        .iter()
        .flat_map(|index| table.labels(*index))
        .collect();
    let shown = labels
        .iter()
        .take(LISTED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let more = labels.len().saturating_sub(LISTED);
    let whom = if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    };
    let text = match line_group.policies.as_slice() {
        _ if line_group.optional => format!(
            "What the policies say of {whom}, wanted or not: uncomment the endpoints and the lines that the suite should have."
        ),
        _ if line_group.outside => {
            format!("Outside ({whom}): decided by the egress of each source.")
        }
        [] => format!(
            "No policy isolates {whom} for ingress: the egress of each source decides alone."
        ),
        [one] => format!("{one} isolates {whom}."),
        several => format!("{} isolate {whom}.", several.join(" and ")),
    };
    let mut out = String::from("\n");
    comment(&mut out, "    ", &text);
    out
}

/// A drafted line, as many lines of text as its names need.
fn line_text(line: &DraftLine, optional: bool, table: &Table<'_>, groups: &mut Groups) -> String {
    let why = match line.expected {
        Expected::Allowed => line.reasons.of_allowed(),
        Expected::Denied => line.reasons.of_denied(),
    };
    let from_outside = |index: &EndpointIndex| table.is_runner(*index);
    let guess = match &line.sources {
        Sources::Some { named, .. } if named.iter().any(from_outside) => table
            .runner()
            .map(|address| format!("guessed: watertight runs at {address}")),
        _ => None,
    };
    let notes: Vec<String> = why.into_iter().chain(guess).collect();
    let notes = notes.join("; ");

    let is_large = is_large(table);
    let mut out = String::new();
    if !notes.is_empty() && !is_large {
        comment(&mut out, "    ", &notes);
    }
    let behind = if notes.is_empty() || !is_large {
        String::new()
    } else {
        format!("   # {}", one_line(&notes))
    };
    let hidden = if optional { "# " } else { "" };
    for (from, to) in sides(line, table, groups) {
        let text = format!("{from} -> {to} {}", line.expected);
        let quote = if text.starts_with('*') { "\"" } else { "" };
        let _ = writeln!(out, "    {hidden}- {quote}{text}{quote}{behind}");
    }
    out
}

/// The sources and the targets of a line, as often as the width of a line of text asks for.
fn sides(line: &DraftLine, table: &Table<'_>, groups: &mut Groups) -> Vec<(String, String)> {
    let most = if is_large(table) {
        NAMES_PER_SIDE_OF_LARGE
    } else {
        NAMES_PER_SIDE
    };
    if line.pair == Pair::Itself {
        return each_with_itself(line, most, table);
    }
    let sources = match &line.sources {
        Sources::All => vec!["*".to_owned()],
        Sources::Some { namespaces, named } => groups.items(namespaces, named, table),
    };
    let targets = match &line.ports {
        None => {
            let (namespaces, named) = groups.whole(&line.targets, &line.sources);
            groups.items(&namespaces, &named, table)
        }
        Some(ports) => {
            let names = groups.items(&BTreeSet::new(), &line.targets, table);
            let targets = line.targets.iter().zip(names);
            targets
                .flat_map(|(index, name)| at_ports(&name, *index, ports, table))
                .collect()
        }
    };
    let pairs = sources
        .chunks(most)
        .flat_map(|from| targets.chunks(most).map(move |to| (from, to)));
    pairs
        .map(|(from, to)| (from.join(", "), to.join(", ")))
        .collect()
}

/// Each endpoint and itself. Where the same is expected between those that are equal, one line of
/// text is about several: by its name, each is paired with itself too.
fn each_with_itself(line: &DraftLine, most: usize, table: &Table<'_>) -> Vec<(String, String)> {
    let mut sides = Vec::new();
    for index in &line.targets {
        let labels: Vec<&str> = table.labels(*index).collect();
        let together = if expects_of_equals(line, *index, table) {
            most
        } else {
            1
        };
        for labels in labels.chunks(together) {
            let targets: Vec<String> = match &line.ports {
                None => labels.iter().map(|label| (*label).to_owned()).collect(),
                Some(ports) => labels
                    .iter()
                    .flat_map(|label| at_ports(label, *index, ports, table))
                    .collect(),
            };
            sides.push((labels.join(", "), targets.join(", ")));
        }
    }
    sides
}

/// Whether policies answer what a line expects between equal endpoints, too.
fn expects_of_equals(line: &DraftLine, index: EndpointIndex, table: &Table<'_>) -> bool {
    let answers = table.answers(index, index, Pair::Different);
    let is_expected = |port: &usize| answers[*port] == Answer::One(line.expected);
    table.is_several(index)
        && match &line.ports {
            None => (0..answers.len()).all(|port| is_expected(&port)),
            Some(ports) => ports.iter().all(is_expected),
        }
}

fn at_ports(name: &str, index: EndpointIndex, ports: &[usize], table: &Table<'_>) -> Vec<String> {
    ports
        .iter()
        .map(|port| format!("{name}:{}", table.ports(index)[*port].label))
        .collect()
}

fn pair((source, target, port): AtPort, table: &Table<'_>) -> String {
    let at = &table.ports(target)[port];
    format!(
        "{} -> {}:{}",
        table.endpoint(source).endpoint.label,
        table.endpoint(target).endpoint.label,
        at.label
    )
}

/// What a reader may miss in the file, and why it is not there.
fn left_out(out: &mut String, draft_endpoints: &DraftEndpoints, table: &Table<'_>) {
    let portless = (0..table.length())
        .filter(|index| table.is_sender(*index) && table.ports(*index).is_empty());
    let portless: Vec<String> = portless
        .flat_map(|index| table.labels(index))
        .map(str::to_owned)
        .collect();
    let idle: Vec<String> = draft_endpoints.idle.iter().map(idle_rule_text).collect();
    let nameless: Vec<String> = table
        .dns()
        .map(|dns| without_names(dns, table))
        .unwrap_or_default();
    let lists = [
        (
            "Endpoints that may not ask cluster DNS, so that they reach nothing by name:",
            &nameless,
        ),
        (
            "Rules that select no existing pod, so that nothing tests them:",
            &idle,
        ),
        (
            "Endpoints without a known port, so that nothing tests what reaches them:",
            &portless,
        ),
        (
            "Address blocks for which no address outside was found:",
            &draft_endpoints.blocks,
        ),
        (
            "Address blocks of a family that no pod has an address of, so that nothing can be sent there:",
            &draft_endpoints.unreachable_blocks,
        ),
        (
            "Workloads that share their node's network, and with it the node's identity:",
            &draft_endpoints.host_network,
        ),
        (
            "Workloads without a running pod:",
            &draft_endpoints.unplaced,
        ),
    ];
    for (title, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        out.push('\n');
        comment(out, "  ", title);
        listed(out, list);
    }
}

/// Senders that may not ask cluster DNS over UDP, as nearly every resolver does (RFC 1035 section
/// 4.2).
fn without_names(dns: EndpointIndex, table: &Table<'_>) -> Vec<String> {
    let asked = table
        .ports(dns)
        .iter()
        .position(|port| port.transport == Transport::Udp);
    let may_not = |index: &EndpointIndex| {
        let answer = asked.and_then(|port| table.answers(*index, dns, Pair::Different).get(port));
        answer == Some(&Answer::One(Expected::Denied))
    };
    let senders = (0..table.length()).filter(|index| *index != dns && table.is_sender(*index));
    senders
        .filter(may_not)
        .flat_map(|index| table.labels(index))
        .map(str::to_owned)
        .collect()
}

fn listed(out: &mut String, list: &[String]) {
    for item in list.iter().take(LISTED) {
        let _ = writeln!(out, "  #   {}", one_line(item));
    }
    if list.len() > LISTED {
        let _ = writeln!(out, "  #   and {} more", list.len() - LISTED);
    }
}

/// A comment, broken where it would be too wide.
fn comment(out: &mut String, indent: &str, text: &str) {
    const WIDTH: usize = 120;
    let mut line = format!("{indent}#");
    for word in one_line(text).split(' ') {
        if line.len() > indent.len() + 1 && line.chars().count() + 1 + word.chars().count() > WIDTH
        {
            let _ = writeln!(out, "{line}");
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// File names may hold anything, and a comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Groups of all endpoints of a namespace, and of those that are equal to policies.
struct Groups {
    /// By namespace.
    members: BTreeMap<String, BTreeSet<EndpointIndex>>,
    /// The names of the namespaces' groups that are used.
    namespaces: BTreeMap<String, String>,
    /// The name of each index: of an endpoint, or of the group of those that are equal.
    names: Vec<String>,
    /// The groups of equal endpoints that are used.
    equal: BTreeSet<EndpointIndex>,
}

impl Groups {
    fn of(draft_endpoints: &DraftEndpoints, table: &Table<'_>, line_groups: &[LineGroup]) -> Self {
        let mut members: BTreeMap<String, BTreeSet<EndpointIndex>> = BTreeMap::new();
        for index in 0..table.length() {
            if let Some(namespace) = &table.endpoint(index).namespace {
                members.entry(namespace.clone()).or_default().insert(index);
            }
        }
        members.retain(|_, of| of.len() > 1);

        let mut names = Names::default();
        for draft_endpoint in &draft_endpoints.endpoints {
            names.give(std::slice::from_ref(&draft_endpoint.endpoint.label));
        }
        let names_of_indexes = (0..table.length())
            .map(|index| {
                let label = &table.endpoint(index).endpoint.label;
                if table.is_several(index) {
                    names.give(&[format!("like-{label}")])
                } else {
                    label.clone()
                }
            })
            .collect();
        let mut groups = Self {
            members,
            namespaces: BTreeMap::new(),
            names: names_of_indexes,
            equal: BTreeSet::new(),
        };

        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for line in line_groups.iter().flat_map(|line_group| &line_group.lines) {
            if let Sources::Some { namespaces, .. } = &line.sources {
                wanted.extend(namespaces.iter().cloned());
            }
            if line.ports.is_none() && line.pair == Pair::Different {
                wanted.extend(groups.whole(&line.targets, &line.sources).0);
            }
        }
        for namespace in wanted {
            let name = names.give(&[format!("in-{namespace}")]);
            let members = groups.members.get(&namespace).into_iter().flatten();
            let several = members.copied().filter(|index| table.is_several(*index));
            groups.equal.extend(several);
            groups.namespaces.insert(namespace, name);
        }
        groups
    }

    /// Targets of whole namespaces, and the others. A group never pairs an endpoint with itself,
    /// and a name may.
    fn whole(
        &self,
        targets: &BTreeSet<EndpointIndex>,
        sources: &Sources,
    ) -> (BTreeSet<String>, BTreeSet<EndpointIndex>) {
        let by_itself = |index: &EndpointIndex| matches!(sources, Sources::Some { named, .. } if named.contains(index));
        let (mut namespaces, mut left) = (BTreeSet::new(), targets.clone());
        for (namespace, members) in &self.members {
            if members.is_subset(targets) && !members.iter().any(by_itself) {
                namespaces.insert(namespace.clone());
                left.retain(|index| !members.contains(index));
            }
        }
        (namespaces, left)
    }

    /// Groups by name, then endpoints.
    fn items(
        &mut self,
        namespaces: &BTreeSet<String>,
        named: &BTreeSet<EndpointIndex>,
        table: &Table<'_>,
    ) -> Vec<String> {
        self.equal
            .extend(named.iter().filter(|index| table.is_several(**index)));
        let groups = namespaces
            .iter()
            .filter_map(|namespace| self.namespaces.get(namespace).cloned());
        groups
            .chain(named.iter().map(|index| self.names[*index].clone()))
            .collect()
    }

    /// `groups:` of the suite; nothing where none is used.
    fn definitions(&self, table: &Table<'_>) -> String {
        let mut out = String::new();
        if !self.namespaces.is_empty() || !self.equal.is_empty() {
            out.push_str("  groups:\n");
        }
        for (namespace, group) in &self.namespaces {
            let members = self.members.get(namespace).into_iter().flatten();
            let names: Vec<&str> = members.map(|index| self.names[*index].as_str()).collect();
            let _ = writeln!(out, "    {group}: [{}]", names.join(", "));
        }
        for index in &self.equal {
            let labels: Vec<&str> = table.labels(*index).collect();
            let name = &self.names[*index];
            let why = "policies treat them in the same way";
            let _ = writeln!(out, "    {name}: [{}]   # {why}", labels.join(", "));
        }
        out
    }
}
