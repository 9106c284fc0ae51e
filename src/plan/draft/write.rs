//! Sections → YAML, with what is guessed and what is left out.

use super::super::endpoints::ResolvedPort;
use super::endpoints::Cast;
use super::lines::{Section, Sources, Statement, idle};
use super::names::Names;
use super::table::{Answer, Table, Who};
use crate::model::Transport;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// At most so many names stand on either side of a line.
const ABREAST: usize = 8;

/// At most so many things of one kind are listed in a comment.
const LISTED: usize = 20;

/// The whole file.
pub(super) fn suite(name: &str, cast: &Cast, table: &Table<'_>, sections: &[Section]) -> String {
    let mut groups = Groups::of(cast, table, sections);
    let mut lines = String::new();
    for section in sections
        .iter()
        .filter(|section| !section.statements.is_empty())
    {
        lines.push_str(&head(section, table));
        for statement in &section.statements {
            lines.push_str(&said(statement, table, &mut groups));
        }
    }
    let several: Vec<String> = sections
        .iter()
        .flat_map(|section| &section.several)
        .map(|of| pair(*of, table))
        .collect();
    let mut out = String::new();
    comment(
        &mut out,
        "",
        "Drafted by watertight from what the policies say: what it expects is what they do, not what was meant.",
    );
    comment(
        &mut out,
        "",
        "Correct it; what neither a policy nor an object says is marked \"guessed\".",
    );
    let _ = writeln!(
        out,
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: {name} }}\nspec:\n  endpoints:"
    );
    for actor in &cast.actors {
        let Some(definition) = &actor.definition else {
            continue;
        };
        let guess = actor.guessed.as_ref().map_or(String::new(), |why| {
            format!("   # guessed: {}", one_line(why))
        });
        let _ = writeln!(out, "    {}: {definition}{guess}", actor.endpoint.label);
    }
    if !groups.used.is_empty() {
        out.push_str("  groups:\n");
        for (namespace, group) in &groups.used {
            let members = groups.members.get(namespace).into_iter().flatten();
            let labels: Vec<&str> = members
                .map(|who| table.actor(*who).endpoint.label.as_str())
                .collect();
            let _ = writeln!(out, "    {group}: [{}]", labels.join(", "));
        }
    }
    if !lines.is_empty() {
        out.push_str("  expect:\n");
        out.push_str(&lines);
    }
    if several.is_empty() {
        out.push_str("\n  everythingElse: denied\n");
    } else {
        out.push('\n');
        comment(
            &mut out,
            "  ",
            "everythingElse is not said, and each deny has a line: these have no line, since policies say more than one thing of them (of one address family and the other, or of the pods behind a Service), or since no packet can go there:",
        );
        listed(&mut out, &several);
    }
    left_out(&mut out, cast, table);
    out
}

/// What stands above the statements of a section.
fn head(section: &Section, table: &Table<'_>) -> String {
    let labels: Vec<&str> = section
        .targets
        .iter()
        .map(|who| table.actor(*who).endpoint.label.as_str())
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
    let text = match section.policies.as_slice() {
        _ if section.outside => format!("Outside ({whom}): what the egress of each source says."),
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

/// A statement in as many lines as its names need.
fn said(statement: &Statement, table: &Table<'_>, groups: &mut Groups) -> String {
    let sources = match &statement.sources {
        Sources::Everyone => vec!["*".to_owned()],
        Sources::Some { namespaces, named } => groups.items(namespaces, named, table),
    };
    let targets = match &statement.ports {
        None => {
            let (namespaces, named) = groups.whole(&statement.targets, &statement.sources);
            groups.items(&namespaces, &named, table)
        }
        Some(ports) => statement
            .targets
            .iter()
            .flat_map(|who| at_ports(*who, ports, table))
            .collect(),
    };
    let why = match statement.expected {
        Expected::Allowed => statement.reasons.of_allowed(),
        Expected::Denied => statement.reasons.of_denied(),
    };
    let from_outside = |who: &Who| table.is_runner(*who);
    let guess = match &statement.sources {
        Sources::Some { named, .. } if named.iter().any(from_outside) => table
            .runner()
            .map(|address| format!("guessed: watertight runs at {address}")),
        _ => None,
    };
    let said: Vec<String> = why.into_iter().chain(guess).collect();
    let mut out = String::new();
    if !said.is_empty() {
        comment(&mut out, "    ", &said.join("; "));
    }
    for from in sources.chunks(ABREAST) {
        for to in targets.chunks(ABREAST) {
            let line = format!(
                "{} -> {} {}",
                from.join(", "),
                to.join(", "),
                statement.expected
            );
            let quote = if line.starts_with('*') { "\"" } else { "" };
            let _ = writeln!(out, "    - {quote}{line}{quote}");
        }
    }
    out
}

fn at_ports(who: Who, ports: &[usize], table: &Table<'_>) -> Vec<String> {
    let label = &table.actor(who).endpoint.label;
    ports
        .iter()
        .map(|port| format!("{label}:{}", table.ports[who][*port].label))
        .collect()
}

fn pair((source, target, port): (Who, Who, usize), table: &Table<'_>) -> String {
    let at: &ResolvedPort = &table.ports[target][port];
    format!(
        "{} -> {}:{}",
        table.actor(source).endpoint.label,
        table.actor(target).endpoint.label,
        at.label
    )
}

/// What somebody may look for in the file, and why it is not there.
fn left_out(out: &mut String, cast: &Cast, table: &Table<'_>) {
    let portless =
        (0..table.length()).filter(|who| table.is_sender(*who) && table.ports[*who].is_empty());
    let portless: Vec<String> = portless
        .map(|who| table.actor(who).endpoint.label.clone())
        .collect();
    let idle: Vec<String> = cast.idle.iter().map(idle).collect();
    let nameless: Vec<String> = cast
        .dns
        .map(|dns| without_names(dns, table))
        .unwrap_or_default();
    let lists = [
        (
            "Endpoints that may not ask cluster DNS, so that they reach nobody by name:",
            &nameless,
        ),
        (
            "Rules that mean no pod that there is, so that nothing tests them:",
            &idle,
        ),
        (
            "Endpoints of which no port is known, so that nothing tests who reaches them:",
            &portless,
        ),
        (
            "Address blocks for which no address outside was found:",
            &cast.blocks,
        ),
        (
            "Workloads that share their node's network, and with it the node's identity:",
            &cast.host_network,
        ),
        ("Workloads without a pod that runs:", &cast.unplaced),
    ];
    for (title, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        out.push('\n');
        comment(out, "  ", title);
        listed(out, list);
    }
}

/// Senders that may not ask cluster DNS over UDP, as nearly every resolver does (RFC 1035 section
/// 4.2).
fn without_names(dns: Who, table: &Table<'_>) -> Vec<String> {
    let asked = table.ports[dns]
        .iter()
        .position(|port| port.transport == Transport::Udp);
    let may_not = |who: &Who| {
        let answer = asked.and_then(|port| table.answers(*who, dns).get(port));
        answer == Some(&Answer::One(Expected::Denied))
    };
    let senders = (0..table.length()).filter(|who| *who != dns && table.is_sender(*who));
    senders
        .filter(may_not)
        .map(|who| table.actor(who).endpoint.label.clone())
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

/// Groups of everyone in a namespace, named where they are used.
struct Groups {
    members: BTreeMap<String, BTreeSet<Who>>,
    /// By namespace.
    used: BTreeMap<String, String>,
}

impl Groups {
    fn of(cast: &Cast, table: &Table<'_>, sections: &[Section]) -> Self {
        let mut members: BTreeMap<String, BTreeSet<Who>> = BTreeMap::new();
        for who in 0..table.length() {
            if let Some(namespace) = &table.actor(who).namespace {
                members.entry(namespace.clone()).or_default().insert(who);
            }
        }
        members.retain(|_, of| of.len() > 1);
        let mut groups = Self {
            members,
            used: BTreeMap::new(),
        };
        let mut names = Names::default();
        for actor in &cast.actors {
            names.give(std::slice::from_ref(&actor.endpoint.label));
        }
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for statement in sections.iter().flat_map(|section| &section.statements) {
            if let Sources::Some { namespaces, .. } = &statement.sources {
                wanted.extend(namespaces.iter().cloned());
            }
            if statement.ports.is_none() {
                wanted.extend(groups.whole(&statement.targets, &statement.sources).0);
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
        targets: &BTreeSet<Who>,
        sources: &Sources,
    ) -> (BTreeSet<String>, BTreeSet<Who>) {
        let by_itself =
            |who: &Who| matches!(sources, Sources::Some { named, .. } if named.contains(who));
        let (mut namespaces, mut left) = (BTreeSet::new(), targets.clone());
        for (namespace, members) in &self.members {
            if members.is_subset(targets) && !members.iter().any(by_itself) {
                namespaces.insert(namespace.clone());
                left.retain(|who| !members.contains(who));
            }
        }
        (namespaces, left)
    }

    /// Groups by name, then endpoints.
    fn items(
        &mut self,
        namespaces: &BTreeSet<String>,
        named: &BTreeSet<Who>,
        table: &Table<'_>,
    ) -> Vec<String> {
        let groups = namespaces
            .iter()
            .filter_map(|namespace| self.used.get(namespace).cloned());
        groups
            .chain(
                named
                    .iter()
                    .map(|who| table.actor(*who).endpoint.label.clone()),
            )
            .collect()
    }
}
