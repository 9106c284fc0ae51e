//! Answers → statements, each of as many pairs as read well together, grouped by the policies that
//! isolate the target.

use super::endpoints::short_name;
use super::reasons::Reasons;
use super::table::{Answer, Table, Who};
use crate::policy::Direction;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet};

/// For at most so many pairs and ports is it looked up which rule decides: it takes a walk through
/// all policies for each.
const EXPLAINED: usize = 20_000;

/// What is said of some sources, targets and ports.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) expected: Expected,
    pub(super) sources: Sources,
    pub(super) targets: BTreeSet<Who>,
    /// Ports of the one target, by their place among its known ones; nothing for all.
    pub(super) ports: Option<Vec<usize>>,
    pub(super) reasons: Reasons,
}

/// The sources of a statement. A target is never among its own, unless it is the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sources {
    /// Everyone with pods.
    Everyone,
    /// All of some namespaces, and others by name.
    Some {
        /// Namespaces of which everyone is meant.
        namespaces: BTreeSet<String>,
        /// The others.
        named: BTreeSet<Who>,
    },
}

/// Statements about targets that the same policies isolate.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// The policies, in words.
    pub(super) policies: Vec<String>,
    /// Whether the targets are outside, where no policy isolates anybody.
    pub(super) outside: bool,
    pub(super) targets: BTreeSet<Who>,
    pub(super) statements: Vec<Statement>,
    /// Pairs and ports of which policies say more than one thing.
    pub(super) several: Vec<(Who, Who, usize)>,
}

/// Why a deny has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deny {
    /// One side alone stops what a rule of the other admits.
    OneSide,
    /// Something else of the target is allowed to the source; or the two are neighbours in a
    /// namespace, replicas of one workload, or one of them is outside.
    Near,
    /// Nothing brings the two together.
    Far,
}

/// All sections, in the order of their first targets; outside comes last.
pub(super) fn sections(table: &mut Table<'_>) -> Vec<Section> {
    // A pair with several answers has no line, and everything else would mean it: then every deny
    // is written.
    let whole = (0..table.length()).all(|target| several(table, target).is_empty());
    let mut sections: Vec<Section> = Vec::new();
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
        let known = sections
            .iter()
            .position(|section| section.policies == policies && section.outside == outside);
        let at = known.unwrap_or_else(|| {
            sections.push(Section {
                policies,
                outside,
                targets: BTreeSet::new(),
                statements: Vec::new(),
                several: Vec::new(),
            });
            sections.len() - 1
        });
        sections[at].targets.insert(target);
        sections[at].several.extend(several(table, target));
        for mut statement in statements(table, target, whole) {
            statement.reasons = reasons(table, &statement, target, &mut explained);
            add(&mut sections[at].statements, statement);
        }
    }
    sections
}

/// Sources and ports of a target, between different endpoints, to which policies give more than one
/// answer, or none.
fn several(table: &Table<'_>, target: Who) -> Vec<(Who, Who, usize)> {
    let sources =
        (0..table.length()).filter(|source| *source != target && table.is_sender(*source));
    let mut several = Vec::new();
    for source in sources {
        let unlike = table.answers(source, target).iter().enumerate();
        let unlike =
            unlike.filter(|(_, answer)| matches!(answer, Answer::Several | Answer::NoFlow));
        several.extend(unlike.map(|(port, _)| (source, target, port)));
    }
    several
}

/// What is said of one target.
fn statements(table: &mut Table<'_>, target: Who, whole: bool) -> Vec<Statement> {
    let mut groups: BTreeMap<(Expected, Vec<usize>, Option<Deny>), Vec<Who>> = BTreeMap::new();
    let mut statements = Vec::new();
    for source in 0..table.length() {
        let answers = table.answers(source, target).to_vec();
        let at = |expected: Expected| {
            let those = answers
                .iter()
                .enumerate()
                .filter(|(_, answer)| **answer == Answer::One(expected));
            those.map(|(port, _)| port).collect::<Vec<usize>>()
        };
        let (allowed, denied) = (at(Expected::Allowed), at(Expected::Denied));
        let by_itself = source == target || table.is_runner(source);
        // Replicas, and the runner, have lines only where policies speak of them: whether packets
        // from outside get to what no policy isolates is nobody's policy.
        if (source == target && table.is_single(target))
            || (by_itself && !isolates(table, source, target))
        {
            continue;
        }
        if !allowed.is_empty() {
            let sources = vec![source];
            if by_itself {
                statements.push(statement(
                    table,
                    Expected::Allowed,
                    sources,
                    target,
                    &allowed,
                ));
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
            statements.push(statement(
                table,
                Expected::Denied,
                vec![source],
                target,
                &denied,
            ));
            continue;
        }
        let near = !allowed.is_empty()
            || table.is_outside(target)
            || table.actor(source).namespace == table.actor(target).namespace;
        for (deny, ports) in sorted(table, source, target, &denied, near) {
            if deny != Deny::Far || !whole {
                groups
                    .entry((Expected::Denied, ports, Some(deny)))
                    .or_default()
                    .push(source);
            }
        }
    }
    let mut grouped: Vec<Statement> = groups
        .into_iter()
        .map(|((expected, ports, _), sources)| statement(table, expected, sources, target, &ports))
        .collect();
    grouped.extend(statements);
    grouped
}

/// Denied ports by why they are worth a line.
fn sorted(
    table: &mut Table<'_>,
    source: Who,
    target: Who,
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
            one_side.push(*port)
        } else {
            others.push(*port)
        }
    }
    let deny = if near { Deny::Near } else { Deny::Far };
    [(Deny::OneSide, one_side), (deny, others)]
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .collect()
}

/// Whether either side is restricted at all.
fn isolates(table: &mut Table<'_>, source: Who, target: Who) -> bool {
    table
        .sides(source, target, 0)
        .is_some_and(|(sides, _)| !sides.ingress.is_all() || !sides.egress.is_all())
}

fn statement(
    table: &Table<'_>,
    expected: Expected,
    sources: Vec<Who>,
    target: Who,
    ports: &[usize],
) -> Statement {
    let all = ports.len() == table.ports[target].len();
    Statement {
        expected,
        sources: Sources::of(table, &sources.into_iter().collect(), target),
        targets: BTreeSet::from([target]),
        ports: (!all).then(|| ports.to_vec()),
        reasons: Reasons::default(),
    }
}

impl Sources {
    fn of(table: &Table<'_>, named: &BTreeSet<Who>, target: Who) -> Self {
        let others = |who: &Who| *who != target && table.is_sender(*who);
        let everyone: BTreeSet<Who> = (0..table.length()).filter(others).collect();
        if everyone.len() > 2 && *named == everyone {
            return Self::Everyone;
        }
        let mut by_namespace: BTreeMap<&str, BTreeSet<Who>> = BTreeMap::new();
        for who in everyone {
            if let Some(namespace) = &table.actor(who).namespace {
                by_namespace.entry(namespace).or_default().insert(who);
            }
        }
        let (mut left, mut namespaces) = (named.clone(), BTreeSet::new());
        for (namespace, members) in by_namespace {
            if members.len() > 1 && members.is_subset(named) {
                namespaces.insert(namespace.to_owned());
                left.retain(|who| !members.contains(who));
            }
        }
        Self::Some {
            namespaces,
            named: left,
        }
    }

    /// Everyone that is meant, for one target.
    pub(super) fn members(&self, table: &Table<'_>, target: Who) -> BTreeSet<Who> {
        let senders = (0..table.length()).filter(|who| *who != target && table.is_sender(*who));
        match self {
            Self::Everyone => senders.collect(),
            Self::Some { namespaces, named } => {
                let within = |who: &Who| {
                    table
                        .actor(*who)
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

    fn names(&self, who: Who) -> bool {
        match self {
            Self::Everyone => false,
            Self::Some { named, .. } => named.contains(&who),
        }
    }
}

/// Whose word it is, as long as there have not been too many to ask.
fn reasons(
    table: &Table<'_>,
    statement: &Statement,
    target: Who,
    explained: &mut usize,
) -> Reasons {
    let mut reasons = Reasons::default();
    let all: Vec<usize> = (0..table.ports[target].len()).collect();
    let ports = statement.ports.as_ref().unwrap_or(&all);
    for source in statement.sources.members(table, target) {
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

/// Joins a statement with one that says the same of another target. By name, an endpoint may stand
/// on both sides only if its own replicas are meant.
fn add(statements: &mut Vec<Statement>, new: Statement) {
    let alike = |known: &&mut Statement| {
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
    match statements.iter_mut().find(alike) {
        Some(known) => {
            known.targets.extend(new.targets);
            known.reasons.join(new.reasons);
        }
        None => statements.push(new),
    }
}

/// Idle rules in words.
pub(super) fn idle(rule: &crate::policy::IdleRule) -> String {
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
