//! The complete map: every ordered pair of workloads, and the address space outside in maximal
//! blocks.

use super::classes::Entity;
use super::flow::Predictor;
use super::ports::{PortSet, SetId};
use crate::model::{Family, ObjectRef, WorkloadRef};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Who may send what to whom, as far as policies say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionMap {
    /// Workloads and what stands for their pods, in order of namespace and name.
    pub members: Vec<Member>,
    /// Every pair between which anything is allowed, in the order of the members; outside addresses
    /// come last.
    pub links: Vec<Link>,
}

/// A workload, or those of its pods that policies treat alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Member {
    /// The outermost workload, or the pod itself.
    pub workload: ObjectRef,
    /// Its pods that are meant, where policies do not treat all of them alike.
    pub pods: Vec<String>,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.workload)?;
        if self.pods.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.pods.join(", "))
        }
    }
}

/// An end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A member.
    Member(Member),
    /// Addresses outside the cluster, first and last.
    Outside(IpAddr, IpAddr),
}

impl std::fmt::Display for Who {
    /// A block is written as one, any other range as `FIRST-LAST`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => write!(f, "{member}"),
            Self::Outside(first, last) => f.write_str(&range(*first, *last)),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is allowed from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Who sends.
    pub from: Who,
    /// To whom.
    pub to: Who,
    /// The family, where policies do not treat both alike.
    pub family: Option<Family>,
    /// The destination ports.
    pub ports: PortSet,
}

impl Predictor<'_> {
    /// Whether nothing is allowed, and what is, between every ordered pair of groups and for every
    /// family: the numbers of the sets, group by group. This is what takes the time.
    fn matrix(&mut self, family: Family) -> Vec<Vec<SetId>> {
        let groups = self.rows.universe.groups.len();
        let ingress: Vec<_> = (0..groups)
            .map(|to| self.rows.row(family, super::Direction::Ingress, to))
            .collect();
        let mut matrix = Vec::with_capacity(groups);
        for from in 0..groups {
            let egress = self.rows.row(family, super::Direction::Egress, from);
            let sets = &mut self.rows.sets;
            let pairs = egress.iter().zip(&ingress);
            matrix.push(
                pairs
                    .map(|(egress, ingress)| sets.intersection(*egress, ingress[from]))
                    .collect(),
            );
        }
        matrix
    }

    /// How many groups of equal pods there are.
    pub fn identities(&self) -> usize {
        self.rows.universe.groups.len()
    }

    /// How many ordered pairs of identities have anything allowed between them: the whole map is
    /// calculated for it.
    pub fn count_open_pairs(&mut self) -> usize {
        let families = self.rows.families();
        let open = |matrix: Vec<Vec<SetId>>| {
            matrix
                .iter()
                .flatten()
                .filter(|set| **set != SetId::NONE)
                .count()
        };
        families
            .iter()
            .map(|family| open(self.matrix(*family)))
            .max()
            .unwrap_or_default()
    }

    /// The complete map.
    pub fn map(&mut self) -> ConnectionMap {
        let members = self.standings();
        let families = self.rows.families();
        let mut links = Vec::new();
        let matrices: Vec<Vec<Vec<SetId>>> =
            families.iter().map(|family| self.matrix(*family)).collect();
        for (from, from_groups) in &members {
            for (to, to_groups) in &members {
                let (a, b) = (from_groups.entity, to_groups.entity);
                // One pod alone has nobody but itself there.
                if from == to && from_groups.pods < 2 {
                    continue;
                }
                let sets: Vec<SetId> = matrices.iter().map(|matrix| matrix[a][b]).collect();
                self.link(
                    &Who::Member(from.clone()),
                    &Who::Member(to.clone()),
                    &sets,
                    &mut links,
                );
            }
        }
        for (member, of) in &members {
            self.outside(member, of.entity, super::Direction::Egress, &mut links);
        }
        for (member, of) in &members {
            self.outside(member, of.entity, super::Direction::Ingress, &mut links);
        }
        ConnectionMap {
            members: members.into_iter().map(|(member, _)| member).collect(),
            links,
        }
    }

    fn link(&self, from: &Who, to: &Who, sets: &[SetId], links: &mut Vec<Link>) {
        let all_alike = sets.iter().all(|set| *set == sets[0]);
        for (number, set) in sets.iter().enumerate() {
            if *set == SetId::NONE || (all_alike && number > 0) {
                continue;
            }
            let family = if all_alike {
                None
            } else {
                Some(Family::ALL[number])
            };
            links.push(Link {
                from: from.clone(),
                to: to.clone(),
                family,
                ports: self.rows.sets.get(*set).clone(),
            });
        }
    }

    /// Outside addresses, neighbours with the same ports joined.
    fn outside(
        &mut self,
        member: &Member,
        group: Entity,
        direction: super::Direction,
        links: &mut Vec<Link>,
    ) {
        for family in Family::ALL {
            let row = self.rows.row(family, direction, group);
            let mut blocks: Vec<(IpAddr, IpAddr, SetId)> = Vec::new();
            for (first, last, class) in self.rows.universe.outside_ranges(family) {
                match blocks.last_mut() {
                    Some((_, end, set)) if *set == row[class] => *end = last,
                    _ => blocks.push((first, last, row[class])),
                }
            }
            for (first, last, set) in blocks.into_iter().filter(|(_, _, set)| *set != SetId::NONE) {
                let (member, outside) = (Who::Member(member.clone()), Who::Outside(first, last));
                let (from, to) = match direction {
                    super::Direction::Egress => (member, outside),
                    super::Direction::Ingress => (outside, member),
                };
                links.push(Link {
                    from,
                    to,
                    family: None,
                    ports: self.rows.sets.get(set).clone(),
                });
            }
        }
    }

    /// Workloads by groups: one member for each, named by the workload where all of its pods are in
    /// one group.
    pub(super) fn standings(&self) -> Vec<(Member, Standing)> {
        let universe = &self.rows.universe;
        let mut by_workload: BTreeMap<ObjectRef, BTreeMap<Entity, Vec<String>>> = BTreeMap::new();
        for (number, pod) in universe
            .inventory
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| !pod.host_network)
        {
            let groups = by_workload.entry(workload_of(pod)).or_default();
            groups
                .entry(universe.of_pod[number])
                .or_default()
                .push(pod.name.clone());
        }
        let mut members = Vec::new();
        for (workload, groups) in by_workload {
            let whole = groups.len() == 1;
            for (entity, mut pods) in groups {
                pods.sort();
                let standing = Standing {
                    entity,
                    pods: pods.len(),
                };
                let pods = if whole { Vec::new() } else { pods };
                members.push((
                    Member {
                        workload: workload.clone(),
                        pods,
                    },
                    standing,
                ));
            }
        }
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        members
    }
}

/// What a member is in the universe.
pub(super) struct Standing {
    entity: Entity,
    pods: usize,
}

/// The outermost workload of a pod, or the pod itself.
pub(super) fn workload_of(pod: &crate::inventory::Pod) -> ObjectRef {
    let WorkloadRef { kind, name } = pod.outermost_workload();
    ObjectRef {
        namespace: pod.namespace.clone(),
        kind: kind.as_str().to_owned(),
        name,
    }
}

impl ConnectionMap {
    /// What became allowed from this map to a later one, and what is allowed no more; each link
    /// with the ports that differ.
    pub fn changes(&self, later: &Self) -> (Vec<Link>, Vec<Link>) {
        (later.beyond(self), self.beyond(later))
    }

    /// What this map allows and the other does not. Ranges of outside addresses are cut where the
    /// other's end.
    fn beyond(&self, other: &Self) -> Vec<Link> {
        let mut known: HashMap<(String, String), Vec<&Link>> = HashMap::new();
        for link in &other.links {
            known.entry(link.inside_ends()).or_default().push(link);
        }
        let mut beyond = Vec::new();
        for link in &self.links {
            let others = known
                .get(&link.inside_ends())
                .map(Vec::as_slice)
                .unwrap_or_default();
            beyond.extend(link.without(others));
        }
        beyond
    }
}

impl Link {
    /// The ends that are members; empty for an outside one.
    fn inside_ends(&self) -> (String, String) {
        let inside = |who: &Who| match who {
            Who::Member(member) => member.to_string(),
            Who::Outside(..) => String::new(),
        };
        (inside(&self.from), inside(&self.to))
    }

    fn outside_end(&self) -> Option<(IpAddr, IpAddr)> {
        match (&self.from, &self.to) {
            (Who::Outside(first, last), _) | (_, Who::Outside(first, last)) => {
                Some((*first, *last))
            }
            (Who::Member(_), Who::Member(_)) => None,
        }
    }

    fn with(
        &self,
        outside: Option<(IpAddr, IpAddr)>,
        family: Option<Family>,
        ports: PortSet,
    ) -> Self {
        let end = |who: &Who| match (who, outside) {
            (Who::Outside(..), Some((first, last))) => Who::Outside(first, last),
            _ => who.clone(),
        };
        Self {
            from: end(&self.from),
            to: end(&self.to),
            family,
            ports,
        }
    }

    /// What is left of it without links of the same inside ends.
    fn without(&self, others: &[&Self]) -> Vec<Self> {
        match self.outside_end() {
            None => {
                let families: &[Option<Family>] = match self.family {
                    None if others.iter().any(|other| other.family.is_some()) => {
                        &[Some(Family::V4), Some(Family::V6)]
                    }
                    None => &[None],
                    Some(Family::V4) => &[Some(Family::V4)],
                    Some(Family::V6) => &[Some(Family::V6)],
                };
                let left = |family: &Option<Family>| {
                    let same = others
                        .iter()
                        .filter(|other| other.family.is_none() || other.family == *family);
                    let ports =
                        same.fold(self.ports.clone(), |ports, other| ports.minus(&other.ports));
                    (!ports.is_empty()).then(|| self.with(None, *family, ports))
                };
                families.iter().filter_map(left).collect()
            }
            Some((first, last)) => {
                let mut left: Vec<Self> = Vec::new();
                let mut next = Some(first);
                let mut others: Vec<((IpAddr, IpAddr), &PortSet)> = others
                    .iter()
                    .filter_map(|other| Some((other.outside_end()?, &other.ports)))
                    .collect();
                others.retain(|((a, b), _)| {
                    Family::of(*a) == Family::of(first) && *b >= first && *a <= last
                });
                others.sort();
                for ((from, to), ports) in others {
                    if let Some(start) = next.filter(|start| *start < from) {
                        left.push(self.with(
                            Some((start, super::classes::before(from))),
                            None,
                            self.ports.clone(),
                        ));
                    }
                    let ports = self.ports.minus(ports);
                    if !ports.is_empty() {
                        left.push(self.with(Some((from.max(first), to.min(last))), None, ports));
                    }
                    next = super::classes::after(to);
                }
                if let Some(start) = next.filter(|start| *start <= last) {
                    left.push(self.with(Some((start, last)), None, self.ports.clone()));
                }
                left
            }
        }
    }
}

/// A block as `ADDRESS/LENGTH`, any other range as `FIRST-LAST`.
fn range(first: IpAddr, last: IpAddr) -> String {
    let (a, b, bits) = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return format!("{first}-{last}"),
    };
    let open = (a ^ b).checked_add(1).map_or(128, u128::trailing_zeros);
    let mask = 1_u128.checked_shl(open).map_or(u128::MAX, |bit| bit - 1);
    let is_block = a & mask == 0 && a | mask == b;
    match is_block {
        true if open == 0 => first.to_string(),
        true => format!("{first}/{}", bits - open),
        false => format!("{first}-{last}"),
    }
}
