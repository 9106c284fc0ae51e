//! Answers → lines, grouped by the policies that isolate the target.

use super::endpoints::short_name;
use super::reasons::Reasons;
use super::table::{Answer, EndpointIndex, Table};
use crate::policy::Direction;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};

/// The deciding rules are looked up for at most so many pairs and ports: each takes a search
/// through all policies.
const EXPLAINED: usize = 20_000;

/// An expectation for some sources, targets and ports.
#[derive(Debug, Clone)]
pub(super) struct DraftLine {
    pub(super) expected: Expected,
    pub(super) sources: Sources,
    pub(super) targets: BTreeSet<EndpointIndex>,
    /// Ports of the one target, as indexes into its known ports; `None` for all.
    pub(super) ports: Option<Vec<usize>>,
    pub(super) reasons: Reasons,
}

/// The sources of a line. A target is not a source of its line, unless it is the only target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sources {
    /// Every endpoint with pods.
    All,
    /// All of some namespaces, and others by name.
    Some {
        /// Namespaces of which every endpoint is a source.
        namespaces: BTreeSet<String>,
        /// The other sources.
        named: BTreeSet<EndpointIndex>,
    },
}

/// Lines about targets that the same policies isolate.
#[derive(Debug, Clone)]
pub(super) struct LineGroup {
    /// The policies as text.
    pub(super) policies: Vec<String>,
    /// Whether the targets are outside, where no policy isolates them.
    pub(super) outside: bool,
    pub(super) targets: BTreeSet<EndpointIndex>,
    pub(super) lines: Vec<DraftLine>,
    /// Pairs and ports to which policies give more than one answer, or none.
    pub(super) ambiguous: Vec<(EndpointIndex, EndpointIndex, usize)>,
}

/// Why a deny has a separate line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deny {
    /// One side alone denies what a rule of the other side admits.
    OneSide,
    /// Something else of the target is allowed to the source; or the two are neighbours in a
    /// namespace, replicas of one workload, or one of them is outside.
    Near,
    /// Source and target are unrelated.
    Far,
}

/// All groups, in the order of their first targets; outside comes last.
pub(super) fn line_groups(table: &mut Table<'_>) -> Vec<LineGroup> {
    // A pair with several answers has no line, and `everythingElse` would include it: then it is
    // left out, and every deny is written.
    let has_everything_else = (0..table.length()).all(|target| ambiguous(table, target).is_empty());
    let mut groups: Vec<LineGroup> = Vec::new();
    let mut explained = 0;
    for target in 0..table.length() {
        if table.ports[target].is_empty() {
            continue;
        }
        let policies: Vec<String> = table.pod(target).map_or_else(Vec::new, |pod| {
            table
                .predictions
                .selecting(pod, Direction::Ingress)
                .iter()
                .map(ToString::to_string)
                .collect()
        });
        let outside = table.is_outside(target);
        let known = groups
            .iter()
            .position(|group| group.policies == policies && group.outside == outside);
        let at = known.unwrap_or_else(|| {
            groups.push(LineGroup {
                policies,
                outside,
                targets: BTreeSet::new(),
                lines: Vec::new(),
                ambiguous: Vec::new(),
            });
            groups.len() - 1
        });
        groups[at].targets.insert(target);
        groups[at].ambiguous.extend(ambiguous(table, target));
        for mut line in lines(table, target, has_everything_else) {
            line.reasons = reasons(table, &line, target, &mut explained);
            add(&mut groups[at].lines, line);
        }
    }
    groups
}

/// Sources and ports of a target to which policies give more than one answer, or none: of every pair
/// that `everythingElse` would include.
fn ambiguous(
    table: &Table<'_>,
    target: EndpointIndex,
) -> Vec<(EndpointIndex, EndpointIndex, usize)> {
    let is_pair = |source: &usize| *source != target || !table.is_single(target);
    let sources = (0..table.length()).filter(|source| is_pair(source) && table.is_sender(*source));
    let mut ambiguous = Vec::new();
    for source in sources {
        for (port, answer) in table.answers(source, target).iter().enumerate() {
            match answer {
                Answer::Several | Answer::NoFlow => ambiguous.push((source, target, port)),
                Answer::One(_) => {}
            }
        }
    }
    ambiguous
}

/// The lines about one target.
fn lines(
    table: &mut Table<'_>,
    target: EndpointIndex,
    has_everything_else: bool,
) -> Vec<DraftLine> {
    let mut groups: BTreeMap<(Expected, Vec<usize>, Option<Deny>), Vec<EndpointIndex>> =
        BTreeMap::new();
    let mut lines = Vec::new();
    for source in 0..table.length() {
        let answers = table.answers(source, target).to_vec();
        let allowed = ports_with(&answers, Expected::Allowed);
        let denied = ports_with(&answers, Expected::Denied);
        let by_itself = source == target || table.is_runner(source);
        // The runner has lines only where policies speak of them: no policy decides whether packets
        // from outside get to a pod that no policy isolates.
        if (source == target && table.is_single(target))
            || (table.is_runner(source) && !isolates(table, source, target))
        {
            continue;
        }
        if !allowed.is_empty() {
            let sources = vec![source];
            if by_itself {
                lines.push(line(table, Expected::Allowed, sources, target, &allowed));
            } else {
                groups
                    .entry((Expected::Allowed, allowed.clone(), None))
                    .or_default()
                    .extend(sources);
            }
        }
        if denied.is_empty() {
            continue;
        }
        if by_itself {
            lines.push(line(table, Expected::Denied, vec![source], target, &denied));
            continue;
        }
        let near = !allowed.is_empty()
            || table.is_outside(target)
            || table.endpoint(source).namespace == table.endpoint(target).namespace;
        for (deny, ports) in sorted(table, source, target, &denied, near) {
            if deny != Deny::Far || !has_everything_else {
                groups
                    .entry((Expected::Denied, ports, Some(deny)))
                    .or_default()
                    .push(source);
            }
        }
    }
    let mut grouped: Vec<DraftLine> = groups
        .into_iter()
        .map(|((expected, ports, _), sources)| line(table, expected, sources, target, &ports))
        .collect();
    grouped.extend(lines);
    grouped
}

/// The ports with one answer.
fn ports_with(answers: &[Answer], expected: Expected) -> Vec<usize> {
    answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| **answer == Answer::One(expected))
        .map(|(port, _)| port)
        .collect()
}

/// Denied ports by why they are worth a line.
fn sorted(
    table: &mut Table<'_>,
    source: EndpointIndex,
    target: EndpointIndex,
    denied: &[usize],
    near: bool,
) -> Vec<(Deny, Vec<usize>)> {
    let (mut one_side, mut others) = (Vec::new(), Vec::new());
    for port in denied {
        let is_one_side = table
            .sides(source, target, *port)
            .is_some_and(|(sides, at)| {
                let admits = |set: &crate::policy::PortSet| !set.is_all() && set.contains(at);
                admits(&sides.egress) != admits(&sides.ingress)
                    && (sides.egress.contains(at) != sides.ingress.contains(at))
            });
        if is_one_side {
            one_side.push(*port);
        } else {
            others.push(*port);
        }
    }
    let deny = if near { Deny::Near } else { Deny::Far };
    [(Deny::OneSide, one_side), (deny, others)]
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .collect()
}

/// Whether policies restrict either side.
fn isolates(table: &mut Table<'_>, source: EndpointIndex, target: EndpointIndex) -> bool {
    table
        .sides(source, target, 0)
        .is_some_and(|(sides, _)| !sides.ingress.is_all() || !sides.egress.is_all())
}

fn line(
    table: &Table<'_>,
    expected: Expected,
    sources: Vec<EndpointIndex>,
    target: EndpointIndex,
    ports: &[usize],
) -> DraftLine {
    let all = ports.len() == table.ports[target].len();
    DraftLine {
        expected,
        sources: Sources::of(table, &sources.into_iter().collect(), target),
        targets: BTreeSet::from([target]),
        ports: (!all).then(|| ports.to_vec()),
        reasons: Reasons::default(),
    }
}

impl Sources {
    fn of(table: &Table<'_>, named: &BTreeSet<EndpointIndex>, target: EndpointIndex) -> Self {
        let others = |index: &EndpointIndex| *index != target && table.is_sender(*index);
        let senders: BTreeSet<EndpointIndex> = (0..table.length()).filter(others).collect();
        if senders.len() > 2 && *named == senders {
            return Self::All;
        }
        let mut by_namespace: BTreeMap<&str, BTreeSet<EndpointIndex>> = BTreeMap::new();
        for index in senders {
            if let Some(namespace) = &table.endpoint(index).namespace {
                by_namespace.entry(namespace).or_default().insert(index);
            }
        }
        let (mut left, mut namespaces) = (named.clone(), BTreeSet::new());
        for (namespace, members) in by_namespace {
            if members.len() > 1 && members.is_subset(named) {
                namespaces.insert(namespace.to_owned());
                left.retain(|index| !members.contains(index));
            }
        }
        Self::Some {
            namespaces,
            named: left,
        }
    }

    /// Every source, for one target.
    pub(super) fn members(
        &self,
        table: &Table<'_>,
        target: EndpointIndex,
    ) -> BTreeSet<EndpointIndex> {
        let senders =
            (0..table.length()).filter(|index| *index != target && table.is_sender(*index));
        match self {
            Self::All => senders.collect(),
            Self::Some { namespaces, named } => {
                let within = |index: &EndpointIndex| {
                    table
                        .endpoint(*index)
                        .namespace
                        .as_ref()
                        .is_some_and(|of| namespaces.contains(of))
                };
                senders
                    .filter(within)
                    .chain(named.iter().copied())
                    .collect()
            }
        }
    }

    fn names(&self, index: EndpointIndex) -> bool {
        match self {
            Self::All => false,
            Self::Some { named, .. } => named.contains(&index),
        }
    }
}

/// The rules and policies that decide a line, unless too many were looked up already.
fn reasons(
    table: &Table<'_>,
    line: &DraftLine,
    target: EndpointIndex,
    explained: &mut usize,
) -> Reasons {
    let mut reasons = Reasons::default();
    let all: Vec<usize> = (0..table.ports[target].len()).collect();
    let ports = line.ports.as_ref().unwrap_or(&all);
    for source in line.sources.members(table, target) {
        for port in ports {
            *explained += 1;
            if *explained > EXPLAINED {
                return Reasons::default();
            }
            if let Some(why) = table.explain(source, target, *port) {
                reasons.add(&why);
            }
        }
    }
    reasons
}

/// Adds a line, or joins it with one that expects the same of another target. By name, an endpoint
/// may be on both sides only if the line is about its own replicas.
fn add(lines: &mut Vec<DraftLine>, new: DraftLine) {
    let joins = |known: &&mut DraftLine| {
        known.expected == new.expected
            && known.ports.is_none()
            && new.ports.is_none()
            && known.sources == new.sources
            && !new
                .targets
                .iter()
                .chain(&known.targets)
                .any(|target| known.sources.names(*target))
    };
    match lines.iter_mut().find(joins) {
        Some(known) => {
            known.targets.extend(new.targets);
            known.reasons.join(new.reasons);
        }
        None => lines.push(new),
    }
}

/// A rule that selects no existing pod, as text.
pub(super) fn idle_rule_text(rule: &crate::policy::IdleRule) -> String {
    let way = match rule.direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    };
    format!(
        "{way} rule {} of {}: {}",
        rule.rule,
        short_name(&rule.policy),
        rule.peers
    )
}
