//! Answers → lines, grouped by the policies that isolate the target.

use super::endpoints::short_name;
use super::reasons::Reasons;
use super::table::{Answer, EndpointIndex, Pair, Table};
use crate::policy::Direction;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};

/// The deciding rules are looked up for at most so many pairs and ports: each takes a search
/// through all policies.
const EXPLAINED: usize = 20_000;

/// Of one line, the deciding rules are looked up for at most so many pairs and ports: no comment
/// has room for more.
const EXPLAINED_OF_LINE: usize = 200;

/// An expectation for some sources, targets and ports.
#[derive(Debug, Clone)]
pub(super) struct DraftLine {
    pub(super) expected: Expected,
    pub(super) sources: Sources,
    pub(super) targets: BTreeSet<EndpointIndex>,
    /// Ports of the one target, as indexes into its known ports; `None` for all.
    pub(super) ports: Option<Vec<usize>>,
    /// Whether sources and targets are the replicas of one endpoint, or of each of several that are
    /// equal.
    pub(super) pair: Pair,
    pub(super) reasons: Reasons,
}

/// The sources of a line. A target is not a source of its line, unless the line is about its own
/// replicas.
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
    /// Whether its lines are written as comments.
    pub(super) optional: bool,
    pub(super) targets: BTreeSet<EndpointIndex>,
    pub(super) lines: Vec<DraftLine>,
    /// Pairs and ports to which policies give more than one answer, or none.
    pub(super) ambiguous: Vec<AtPort>,
}

/// A source, a target and a port of it.
pub(super) type AtPort = (EndpointIndex, EndpointIndex, usize);

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
    let has_everything_else = (0..table.length())
        .filter(|target| !table.endpoint(*target).optional)
        .all(|target| ambiguous(table, target).is_empty());
    let mut groups: Vec<LineGroup> = Vec::new();
    let mut explained = 0;
    for target in 0..table.length() {
        if table.ports(target).is_empty() {
            continue;
        }
        // In a large draft nearly every target has policies of its own, which its lines name.
        let grouped_by = table.pod(target).filter(|_| !is_large(table));
        let policies: Vec<String> = grouped_by.map_or_else(Vec::new, |pod| {
            table
                .predictions
                .selecting(pod, Direction::Ingress)
                .iter()
                .map(ToString::to_string)
                .collect()
        });
        let outside = table.is_outside(target);
        let optional = table.endpoint(target).optional;
        let known = groups.iter().position(|group| {
            group.policies == policies && group.outside == outside && group.optional == optional
        });
        let at = known.unwrap_or_else(|| {
            groups.push(LineGroup {
                policies,
                outside,
                optional,
                targets: BTreeSet::new(),
                lines: Vec::new(),
                ambiguous: Vec::new(),
            });
            groups.len() - 1
        });
        groups[at].targets.insert(target);
        if !optional {
            groups[at].ambiguous.extend(ambiguous(table, target));
        }
        for mut line in lines(table, target, has_everything_else) {
            line.reasons = reasons(table, &line, target, &mut explained);
            add(&mut groups[at].lines, line);
        }
    }
    groups
}

/// Sources and ports of a target to which policies give more than one answer, or none: of every pair
/// that `everythingElse` would include.
fn ambiguous(table: &Table<'_>, target: EndpointIndex) -> Vec<AtPort> {
    let others = (0..table.length())
        .filter(|source| table.sends_to(*source, target))
        .map(|source| (source, Pair::Different));
    let itself =
        (table.is_sender(target) && !table.is_single(target)).then_some((target, Pair::Itself));
    let mut ambiguous = Vec::new();
    for (source, pair) in others.chain(itself) {
        for (port, answer) in table.answers(source, target, pair).iter().enumerate() {
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
    let mut lines = of_one_source(table, target, target, Pair::Itself);
    if has_everything_else && is_large(table) {
        lines.retain(|line| line.expected == Expected::Allowed);
    }
    for source in 0..table.length() {
        if table.is_runner(source) {
            // The runner has lines only where policies speak of them: no policy decides whether
            // packets from outside get to a pod that no policy isolates.
            if isolates(table, source, target) {
                lines.extend(of_one_source(table, source, target, Pair::Different));
            }
            continue;
        }
        if !table.sends_to(source, target) {
            continue;
        }
        let answers = table.answers(source, target, Pair::Different).to_vec();
        let allowed = ports_with(&answers, Expected::Allowed);
        let denied = ports_with(&answers, Expected::Denied);
        let near = !allowed.is_empty()
            || table.is_outside(target)
            || table.endpoint(source).namespace == table.endpoint(target).namespace;
        if !allowed.is_empty() {
            groups
                .entry((Expected::Allowed, allowed, None))
                .or_default()
                .push(source);
        }
        if denied.is_empty() {
            continue;
        }
        for (deny, ports) in sorted(table, source, target, &denied, near) {
            // `everythingElse` speaks of no target that is a comment.
            let is_written = match deny {
                _ if table.endpoint(target).optional => true,
                Deny::OneSide => true,
                Deny::Near => !has_everything_else || !is_large(table),
                Deny::Far => !has_everything_else,
            };
            if is_written {
                groups
                    .entry((Expected::Denied, ports, Some(deny)))
                    .or_default()
                    .push(source);
            }
        }
    }
    let mut grouped: Vec<DraftLine> = groups
        .into_iter()
        .map(|((expected, ports, _), sources)| {
            line(table, expected, sources, (target, Pair::Different), &ports)
        })
        .collect();
    grouped.extend(lines);
    grouped
}

/// Whether a draft is so large that `everythingElse` has to stand for denies between neighbours.
pub(super) fn is_large(table: &Table<'_>) -> bool {
    /// What a person still reads from beginning to end.
    const SMALL: usize = 60;

    table.length() > SMALL
}

/// The lines about one source and one target.
fn of_one_source(
    table: &Table<'_>,
    source: EndpointIndex,
    target: EndpointIndex,
    pair: Pair,
) -> Vec<DraftLine> {
    if pair == Pair::Itself && (table.is_single(target) || !table.is_sender(target)) {
        return Vec::new();
    }
    let answers = table.answers(source, target, pair);
    [Expected::Allowed, Expected::Denied]
        .into_iter()
        .filter_map(|expected| {
            let ports = ports_with(answers, expected);
            let sources = vec![source];
            (!ports.is_empty()).then(|| line(table, expected, sources, (target, pair), &ports))
        })
        .collect()
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
            .sides(source, target, *port, Pair::Different)
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
        .sides(source, target, 0, Pair::Different)
        .is_some_and(|(sides, _)| !sides.ingress.is_all() || !sides.egress.is_all())
}

fn line(
    table: &Table<'_>,
    expected: Expected,
    sources: Vec<EndpointIndex>,
    (target, pair): (EndpointIndex, Pair),
    ports: &[usize],
) -> DraftLine {
    let all = ports.len() == table.ports(target).len();
    let sources = sources.into_iter().collect();
    DraftLine {
        expected,
        sources: match pair {
            Pair::Different => Sources::of(table, &sources, target),
            Pair::Itself => Sources::Some {
                namespaces: BTreeSet::new(),
                named: sources,
            },
        },
        pair,
        targets: BTreeSet::from([target]),
        ports: (!all).then(|| ports.to_vec()),
        reasons: Reasons::default(),
    }
}

impl Sources {
    fn of(table: &Table<'_>, named: &BTreeSet<EndpointIndex>, target: EndpointIndex) -> Self {
        let sends = |index: &EndpointIndex| table.sends_to(*index, target);
        let senders = (0..table.length()).filter(sends).count();
        let named_senders = named.iter().filter(|index| sends(index)).count();
        if senders > 2 && named_senders == senders && named.len() == senders {
            return Self::All;
        }
        let (mut left, mut namespaces) = (named.clone(), BTreeSet::new());
        for (namespace, members) in table.senders() {
            let sending = || members.iter().filter(|member| sends(member));
            if sending().count() > 1 && sending().all(|member| named.contains(member)) {
                namespaces.insert((*namespace).to_owned());
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
        let senders = (0..table.length()).filter(|index| table.sends_to(*index, target));
        match self {
            Self::All => senders.collect(),
            Self::Some { namespaces, named } => {
                let of_namespaces = table
                    .senders()
                    .iter()
                    .filter(|(namespace, _)| namespaces.contains(**namespace))
                    .flat_map(|(_, members)| members.iter().copied());
                of_namespaces
                    .filter(|index| table.sends_to(*index, target))
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
    let all: Vec<usize> = (0..table.ports(target).len()).collect();
    let ports = line.ports.as_ref().unwrap_or(&all);
    let sources = line.sources.members(table, target);
    let pairs = sources
        .into_iter()
        .flat_map(|source| ports.iter().map(move |port| (source, *port)));
    for (number, (source, port)) in pairs.enumerate() {
        *explained += 1;
        if *explained > EXPLAINED || number >= EXPLAINED_OF_LINE {
            return Reasons::default();
        }
        if let Some(why) = table.explain(source, target, port, line.pair) {
            reasons.add(&why);
        }
    }
    reasons
}

/// Adds a line, or joins it with one that expects the same of another target. By name, an endpoint
/// may be on both sides only if the line is about its own replicas; the name of several never pairs
/// one of them with itself, but a line that has it on both sides speaks of all of them.
fn add(lines: &mut Vec<DraftLine>, new: DraftLine) {
    let joins = |known: &&mut DraftLine| {
        known.expected == new.expected
            && known.pair == Pair::Different
            && new.pair == Pair::Different
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
