//! The complete map: the ports that policies allow between every ordered pair of workloads, and
//! between workloads and addresses outside the cluster, in ranges as large as possible.

use super::classes::{ClassIndex, after, before};
use super::flow::Predictor;
use super::ports::{PortSet, SetId};
use super::rules::Direction;
use crate::inventory::Pod;
use crate::model::{Family, ObjectRef, WorkloadRef};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// The connections that policies allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionMap {
    /// In order of namespace and name.
    pub workloads: Vec<WorkloadPods>,
    /// Every pair with any allowed port, in the order of the workloads; outside addresses come
    /// last.
    pub links: Vec<Link>,
}

/// A workload, or those of its pods that policies treat in the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkloadPods {
    /// The outermost workload, or the pod itself.
    pub workload: ObjectRef,
    /// The names of the pods; empty where policies treat all pods of the workload in the same way.
    pub pods: Vec<String>,
}

impl std::fmt::Display for WorkloadPods {
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
pub enum LinkEnd {
    Workload(WorkloadPods),
    /// The first and the last address of a range outside the cluster.
    Outside(IpAddr, IpAddr),
}

impl std::fmt::Display for LinkEnd {
    /// A range that is a block is written as `ADDRESS/LENGTH`, any other as `FIRST-LAST`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload(workload) => write!(f, "{workload}"),
            Self::Outside(first, last) => f.write_str(&format_range(*first, *last)),
        }
    }
}

impl Serialize for LinkEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The allowed ports from one end to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub from: LinkEnd,
    pub to: LinkEnd,
    /// The family, where the ports differ by family.
    pub family: Option<Family>,
    /// The destination ports.
    pub ports: PortSet,
}

/// A workload with its class.
pub(super) struct ClassifiedWorkload {
    pub(super) workload: WorkloadPods,
    class: ClassIndex,
    /// The number of its pods in this class.
    pod_count: usize,
}

impl Predictor<'_> {
    /// The allowed ports between every ordered pair of pod classes, as numbers of sets. This takes
    /// nearly all of the time of a map.
    fn matrix(&mut self, family: Family) -> Vec<Vec<SetId>> {
        let reachability = &mut self.reachability;
        let pod_classes = reachability.classes.pods.len();
        let ingress: Vec<_> = (0..pod_classes)
            .map(|to| reachability.row(family, Direction::Ingress, to))
            .collect();

        let mut matrix = Vec::with_capacity(pod_classes);
        for from in 0..pod_classes {
            let egress = reachability.row(family, Direction::Egress, from);
            let sets = &mut reachability.sets;
            let pairs = egress.iter().zip(&ingress);
            matrix.push(
                pairs
                    .map(|(egress, ingress)| sets.intersection(*egress, ingress[from]))
                    .collect(),
            );
        }
        matrix
    }

    /// The number of pod classes.
    pub fn identities(&self) -> usize {
        self.reachability.classes.pods.len()
    }

    /// The number of ordered pairs of pod classes with any allowed port, in the family with more of
    /// them. Calculates the whole map.
    pub fn count_open_pairs(&mut self) -> usize {
        let mut most = 0;
        for family in self.reachability.families() {
            let matrix = self.matrix(*family);
            let sets = matrix.iter().flatten();
            most = most.max(sets.filter(|set| **set != SetId::NONE).count());
        }
        most
    }

    /// The complete map.
    pub fn map(&mut self) -> ConnectionMap {
        let workloads = self.classified_workloads();
        let mut links = Vec::new();
        let matrices: Vec<Vec<Vec<SetId>>> = self
            .reachability
            .families()
            .iter()
            .map(|family| self.matrix(*family))
            .collect();

        for from in &workloads {
            for to in &workloads {
                // A single pod has no other pod of its workload to connect to.
                if from.workload == to.workload && from.pod_count < 2 {
                    continue;
                }
                let sets: Vec<SetId> = matrices
                    .iter()
                    .map(|matrix| matrix[from.class][to.class])
                    .collect();
                links.extend(self.links_of(&from.workload, &to.workload, &sets));
            }
        }
        for direction in Direction::ALL {
            for workload in &workloads {
                links.extend(self.outside_links(workload, direction));
            }
        }

        ConnectionMap {
            workloads: workloads
                .into_iter()
                .map(|classified| classified.workload)
                .collect(),
            links,
        }
    }

    /// The links between two workloads, whose `sets` are in the order of the families: one link
    /// where the families have the same ports.
    fn links_of(&self, from: &WorkloadPods, to: &WorkloadPods, sets: &[SetId]) -> Vec<Link> {
        let families_agree = sets.iter().all(|set| *set == sets[0]);
        let by_family: Vec<(Option<Family>, SetId)> = if families_agree {
            vec![(None, sets[0])]
        } else {
            Family::ALL
                .map(Some)
                .into_iter()
                .zip(sets.iter().copied())
                .collect()
        };

        by_family
            .into_iter()
            .filter(|(_, set)| *set != SetId::NONE)
            .map(|(family, set)| Link {
                from: LinkEnd::Workload(from.clone()),
                to: LinkEnd::Workload(to.clone()),
                family,
                ports: self.reachability.sets.get(set).clone(),
            })
            .collect()
    }

    /// The links between a workload and outside addresses; adjacent ranges with the same ports are
    /// joined.
    fn outside_links(&mut self, workload: &ClassifiedWorkload, direction: Direction) -> Vec<Link> {
        let mut links = Vec::new();
        for family in Family::ALL {
            let row = self.reachability.row(family, direction, workload.class);
            let mut ranges: Vec<(IpAddr, IpAddr, SetId)> = Vec::new();
            for (first, last, class) in self.reachability.classes.outside_ranges(family) {
                match ranges.last_mut() {
                    Some((_, end, set)) if *set == row[class] => *end = last,
                    _ => ranges.push((first, last, row[class])),
                }
            }

            for (first, last, set) in ranges {
                if set == SetId::NONE {
                    continue;
                }
                let inside = LinkEnd::Workload(workload.workload.clone());
                let outside = LinkEnd::Outside(first, last);
                let (from, to) = match direction {
                    Direction::Egress => (inside, outside),
                    Direction::Ingress => (outside, inside),
                };
                links.push(Link {
                    from,
                    to,
                    family: None,
                    ports: self.reachability.sets.get(set).clone(),
                });
            }
        }
        links
    }

    /// Workloads with their classes: one entry for each class of a workload's pods, in order of
    /// namespace and name.
    pub(super) fn classified_workloads(&self) -> Vec<ClassifiedWorkload> {
        let classes = &self.reachability.classes;
        let mut by_workload: BTreeMap<ObjectRef, BTreeMap<ClassIndex, Vec<String>>> =
            BTreeMap::new();
        for (index, pod) in classes.inventory.pods.iter().enumerate() {
            if !pod.host_network {
                let by_class = by_workload.entry(workload_of(pod)).or_default();
                let names = by_class.entry(classes.of_pod[index]).or_default();
                names.push(pod.name.clone());
            }
        }

        let mut workloads = Vec::new();
        for (workload, by_class) in by_workload {
            let is_whole = by_class.len() == 1;
            for (class, mut names) in by_class {
                names.sort();
                workloads.push(ClassifiedWorkload {
                    class,
                    pod_count: names.len(),
                    workload: WorkloadPods {
                        workload: workload.clone(),
                        pods: if is_whole { Vec::new() } else { names },
                    },
                });
            }
        }
        workloads.sort_by(|a, b| a.workload.cmp(&b.workload));
        workloads
    }
}

/// The outermost workload of a pod, or the pod itself.
pub(super) fn workload_of(pod: &Pod) -> ObjectRef {
    let WorkloadRef { kind, name } = pod.outermost_workload();
    ObjectRef {
        namespace: pod.namespace.clone(),
        kind: kind.as_str().to_owned(),
        name,
    }
}

impl ConnectionMap {
    /// The links that a later map allows in addition to this one, and those that it allows no more;
    /// each with the ports that differ.
    pub fn changes(&self, later: &Self) -> (Vec<Link>, Vec<Link>) {
        (later.difference(self), self.difference(later))
    }

    /// The links of this map that another one does not allow. Ranges of outside addresses are cut
    /// where the other's ranges end.
    fn difference(&self, other: &Self) -> Vec<Link> {
        let mut by_workloads: HashMap<(String, String), Vec<&Link>> = HashMap::new();
        for link in &other.links {
            by_workloads
                .entry(link.workload_ends())
                .or_default()
                .push(link);
        }

        let mut difference = Vec::new();
        for link in &self.links {
            let others = by_workloads
                .get(&link.workload_ends())
                .map(Vec::as_slice)
                .unwrap_or_default();
            difference.extend(match link.outside_range() {
                None => link.without(others),
                Some(range) => link.without_outside(range, others),
            });
        }
        difference
    }
}

impl LinkEnd {
    /// The workload as text; empty for outside addresses.
    fn workload(&self) -> String {
        match self {
            Self::Workload(workload) => workload.to_string(),
            Self::Outside(..) => String::new(),
        }
    }

    /// The end with another range, if it is outside.
    fn with_range(&self, (first, last): (IpAddr, IpAddr)) -> Self {
        match self {
            Self::Workload(_) => self.clone(),
            Self::Outside(..) => Self::Outside(first, last),
        }
    }
}

impl Link {
    fn workload_ends(&self) -> (String, String) {
        (self.from.workload(), self.to.workload())
    }

    fn outside_range(&self) -> Option<(IpAddr, IpAddr)> {
        match (&self.from, &self.to) {
            (LinkEnd::Outside(first, last), _) | (_, LinkEnd::Outside(first, last)) => {
                Some((*first, *last))
            }
            (LinkEnd::Workload(_), LinkEnd::Workload(_)) => None,
        }
    }

    /// The link with another range of outside addresses.
    fn with_range(&self, range: (IpAddr, IpAddr), ports: PortSet) -> Self {
        Self {
            from: self.from.with_range(range),
            to: self.to.with_range(range),
            family: None,
            ports,
        }
    }

    /// The ports of a link between workloads that others between the same workloads do not have.
    fn without(&self, others: &[&Self]) -> Vec<Self> {
        let families: &[Option<Family>] = match self.family {
            None if others.iter().any(|other| other.family.is_some()) => {
                &[Some(Family::V4), Some(Family::V6)]
            }
            None => &[None],
            Some(Family::V4) => &[Some(Family::V4)],
            Some(Family::V6) => &[Some(Family::V6)],
        };

        let mut remaining = Vec::new();
        for family in families {
            let mut ports = self.ports.clone();
            for other in others {
                if other.family.is_none() || other.family == *family {
                    ports = ports.minus(&other.ports);
                }
            }
            if !ports.is_empty() {
                remaining.push(Self {
                    family: *family,
                    ports,
                    ..self.clone()
                });
            }
        }
        remaining
    }

    /// The addresses and ports of a link with an outside range that others of the same workload do
    /// not have.
    fn without_outside(&self, (first, last): (IpAddr, IpAddr), others: &[&Self]) -> Vec<Self> {
        let mut others: Vec<((IpAddr, IpAddr), &PortSet)> = others
            .iter()
            .filter_map(|other| Some((other.outside_range()?, &other.ports)))
            .collect();
        others.retain(|((from, to), _)| {
            Family::of(*from) == Family::of(first) && *to >= first && *from <= last
        });
        others.sort();

        let mut remaining: Vec<Self> = Vec::new();
        // The first address after all ranges so far; `None` after the last address of the family.
        let mut next = Some(first);
        for ((from, to), other_ports) in others {
            if let Some(start) = next.filter(|start| *start < from) {
                remaining.push(self.with_range((start, before(from)), self.ports.clone()));
            }
            let ports = self.ports.minus(other_ports);
            if !ports.is_empty() {
                remaining.push(self.with_range((from.max(first), to.min(last)), ports));
            }
            next = after(to);
        }
        if let Some(start) = next.filter(|start| *start <= last) {
            remaining.push(self.with_range((start, last), self.ports.clone()));
        }
        remaining
    }
}

/// A block as `ADDRESS/LENGTH`, any other range as `FIRST-LAST`.
fn format_range(first: IpAddr, last: IpAddr) -> String {
    let (a, b, bits) = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return format!("{first}-{last}"),
    };

    let host_bits = (a ^ b).checked_add(1).map_or(128, u128::trailing_zeros);
    let mask = 1_u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |bit| bit - 1);
    let is_block = a & mask == 0 && a | mask == b;
    if !is_block {
        format!("{first}-{last}")
    } else if host_bits == 0 {
        first.to_string()
    } else {
        format!("{first}/{}", bits - host_bits)
    }
}
