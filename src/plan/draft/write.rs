//! Lines → the text of a suite, with what is guessed and what is left out.

use super::super::endpoints::ResolvedPort;
use super::endpoints::DraftEndpoints;
use super::lines::{DraftLine, LineGroup, Sources, idle_rule_text};
use super::names::Names;
use super::table::{Answer, EndpointIndex, Table};
use crate::model::Transport;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The most names on either side of a line.
const NAMES_PER_SIDE: usize = 8;

/// At most so many things of one kind are listed in a comment.
const LISTED: usize = 20;

/// The whole file.
pub(super) fn suite(
    name: &str,
    draft_endpoints: &DraftEndpoints,
    table: &Table<'_>,
    line_groups: &[LineGroup],
) -> String {
    let mut groups = Groups::of(draft_endpoints, table, line_groups);
    let mut lines = String::new();
    for line_group in line_groups
        .iter()
        .filter(|line_group| !line_group.lines.is_empty())
    {
        lines.push_str(&head(line_group, table));
        for line in &line_group.lines {
            lines.push_str(&line_text(line, table, &mut groups));
        }
    }
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
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: {name} }}\nspec:\n  endpoints:"
    );
    for draft_endpoint in &draft_endpoints.endpoints {
        let Some(definition) = &draft_endpoint.definition else {
            continue;
        };
        let guess = draft_endpoint
            .guessed
            .as_ref()
            .map_or(String::new(), |why| {
                format!("   # guessed: {}", one_line(why))
            });
        let _ = writeln!(
            out,
            "    {}: {definition}{guess}",
            draft_endpoint.endpoint.label
        );
    }
    if !groups.used.is_empty() {
        out.push_str("  groups:\n");
        for (namespace, group) in &groups.used {
            let members = groups.members.get(namespace).into_iter().flatten();
            let labels: Vec<&str> = members
                .map(|index| table.endpoint(*index).endpoint.label.as_str())
                .collect();
            let _ = writeln!(out, "    {group}: [{}]", labels.join(", "));
        }
    }
    if !lines.is_empty() {
        out.push_str("  expect:\n");
        out.push_str(&lines);
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

/// The comment above the lines of a group.
fn head(line_group: &LineGroup, table: &Table<'_>) -> String {
    let labels: Vec<&str> = line_group
        .targets
        .iter()
        .map(|index| table.endpoint(*index).endpoint.label.as_str())
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
fn line_text(line: &DraftLine, table: &Table<'_>, groups: &mut Groups) -> String {
    let sources = match &line.sources {
        Sources::All => vec!["*".to_owned()],
        Sources::Some { namespaces, named } => groups.items(namespaces, named, table),
    };
    let targets = match &line.ports {
        None => {
            let (namespaces, named) = groups.whole(&line.targets, &line.sources);
            groups.items(&namespaces, &named, table)
        }
        Some(ports) => line
            .targets
            .iter()
            .flat_map(|index| at_ports(*index, ports, table))
            .collect(),
    };
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
    let mut out = String::new();
    if !notes.is_empty() {
        comment(&mut out, "    ", &notes.join("; "));
    }
    for from in sources.chunks(NAMES_PER_SIDE) {
        for to in targets.chunks(NAMES_PER_SIDE) {
            let text = format!("{} -> {} {}", from.join(", "), to.join(", "), line.expected);
            let quote = if text.starts_with('*') { "\"" } else { "" };
            let _ = writeln!(out, "    - {quote}{text}{quote}");
        }
    }
    out
}

fn at_ports(index: EndpointIndex, ports: &[usize], table: &Table<'_>) -> Vec<String> {
    let label = &table.endpoint(index).endpoint.label;
    ports
        .iter()
        .map(|port| format!("{label}:{}", table.ports[index][*port].label))
        .collect()
}

fn pair(
    (source, target, port): (EndpointIndex, EndpointIndex, usize),
    table: &Table<'_>,
) -> String {
    let at: &ResolvedPort = &table.ports[target][port];
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
        .filter(|index| table.is_sender(*index) && table.ports[*index].is_empty());
    let portless: Vec<String> = portless
        .map(|index| table.endpoint(index).endpoint.label.clone())
        .collect();
    let idle: Vec<String> = draft_endpoints.idle.iter().map(idle_rule_text).collect();
    let nameless: Vec<String> = draft_endpoints
        .dns
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
    let asked = table.ports[dns]
        .iter()
        .position(|port| port.transport == Transport::Udp);
    let may_not = |index: &EndpointIndex| {
        let answer = asked.and_then(|port| table.answers(*index, dns).get(port));
        answer == Some(&Answer::One(Expected::Denied))
    };
    let senders = (0..table.length()).filter(|index| *index != dns && table.is_sender(*index));
    senders
        .filter(may_not)
        .map(|index| table.endpoint(index).endpoint.label.clone())
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

/// Groups of all endpoints of a namespace, named where they are used.
struct Groups {
    members: BTreeMap<String, BTreeSet<EndpointIndex>>,
    /// By namespace.
    used: BTreeMap<String, String>,
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
        let mut groups = Self {
            members,
            used: BTreeMap::new(),
        };
        let mut names = Names::default();
        for draft_endpoint in &draft_endpoints.endpoints {
            names.give(std::slice::from_ref(&draft_endpoint.endpoint.label));
        }
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for line in line_groups.iter().flat_map(|line_group| &line_group.lines) {
            if let Sources::Some { namespaces, .. } = &line.sources {
                wanted.extend(namespaces.iter().cloned());
            }
            if line.ports.is_none() {
                wanted.extend(groups.whole(&line.targets, &line.sources).0);
            }
        }
        for namespace in wanted {
            let name = names.give(&[format!("in-{namespace}")]);
            groups.used.insert(namespace, name);
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
        let groups = namespaces
            .iter()
            .filter_map(|namespace| self.used.get(namespace).cloned());
        groups
            .chain(
                named
                    .iter()
                    .map(|index| table.endpoint(*index).endpoint.label.clone()),
            )
            .collect()
    }
}
