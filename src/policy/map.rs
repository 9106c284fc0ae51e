//! The map: the ports that policies allow between workloads, and between workloads and addresses
//! outside the cluster, in ranges as large as possible. Link by link, so that memory follows the
//! classes of pods and not the pairs.

use super::classes::ClassIndex;
use super::flow::Predictor;
use super::grid::Grid;
use super::ports::PortSet;
use super::reachability::{Answer, Rows};
use super::rules::Direction;
use crate::inventory::Pod;
use crate::model::{Family, ObjectRef, WorkloadRef};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// So many workloads of one kind, namespace and class are one end of a grouped map.
const GROUPED_FROM: usize = 10;

/// The outside rows of so many workloads are kept at a time.
const OUTSIDE_CHUNK: usize = 256;

/// A workload, or those of its pods that policies treat in the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkloadPods {
    /// The outermost workload, or the pod itself.
    pub workload: ObjectRef,
    /// The names of the pods; empty where policies treat all pods of the workload in the same way.
    pub pods: Vec<String>,
    /// In a grouped map, further workloads of its kind and namespace that policies treat in the same
    /// way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<String>,
}

impl std::fmt::Display for WorkloadPods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.workload)?;
        if !self.pods.is_empty() {
            write!(f, " ({})", self.pods.join(", "))?;
        }
        if !self.equal.is_empty() {
            write!(f, " (and {} equal to it)", self.equal.len())?;
        }
        Ok(())
    }
}

/// An end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkEnd {
    Workload(Rc<WorkloadPods>),
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

/// The allowed ports from one end to another; ports, unknown ports or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub from: LinkEnd,
    pub to: LinkEnd,
    /// The family, where the ports differ by family.
    pub family: Option<Family>,
    /// The destination ports that are allowed.
    #[serde(serialize_with = "serialize_ports")]
    pub ports: Rc<PortSet>,
    /// The destination ports that are allowed or not, depending on addresses of pods or nodes that are
    /// not known.
    #[serde(serialize_with = "serialize_ports", skip_serializing_if = "is_nothing")]
    pub unknown: Rc<PortSet>,
}

fn serialize_ports<S: Serializer>(ports: &Rc<PortSet>, serializer: S) -> Result<S::Ok, S::Error> {
    PortSet::serialize(ports, serializer)
}

fn is_nothing(ports: &Rc<PortSet>) -> bool {
    ports.is_empty()
}

impl std::fmt::Display for Link {
    /// `FROM -> TO: PORTS`, with the family and the unknown ports, where there are any.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        if let Some(family) = self.family {
            write!(f, " over {family}")?;
        }
        match (self.ports.is_empty(), self.unknown.is_empty()) {
            (_, true) => write!(f, ": {}", self.ports),
            (true, false) => write!(f, ": unknown for {}", self.unknown),
            (false, false) => write!(f, ": {}; unknown for {}", self.ports, self.unknown),
        }
    }
}

/// The workloads of a map, in order of namespace and name: what `from`, `to` and [`Links`] refer to.
#[derive(Debug, Clone)]
pub struct MapEnds(Vec<MapEnd>);

/// A workload with its class.
#[derive(Debug, Clone)]
pub(super) struct MapEnd {
    pub(super) workload: Rc<WorkloadPods>,
    pub(super) class: ClassIndex,
    /// The number of its pods in this class.
    pub(super) pod_count: usize,
    /// An index of one of these pods in the inventory.
    any_pod: usize,
}

impl MapEnds {
    /// The workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadPods> {
        self.0.iter().map(|end| &*end.workload)
    }

    /// Whether no pod can be selected by a policy.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Groups workloads of one kind, namespace and class, where there are many.
    #[must_use]
    pub fn grouped(self) -> Self {
        let mut by_kind: BTreeMap<(String, String, ClassIndex), Vec<MapEnd>> = BTreeMap::new();
        for end in self.0 {
            let ObjectRef {
                namespace, kind, ..
            } = end.workload.workload.clone();
            let of_kind = by_kind.entry((namespace, kind, end.class)).or_default();
            of_kind.push(end);
        }

        let mut ends = Vec::new();
        for of_kind in by_kind.into_values() {
            if of_kind.len() < GROUPED_FROM {
                ends.extend(of_kind);
            } else {
                ends.extend(group(&of_kind));
            }
        }
        ends.sort_by(|a, b| a.workload.cmp(&b.workload));
        Self(ends)
    }

    pub(super) fn ends(&self) -> std::slice::Iter<'_, MapEnd> {
        self.0.iter()
    }
}

/// Workloads of one class as one end, under the name of the first.
fn group(ends: &[MapEnd]) -> Option<MapEnd> {
    let (first, others) = ends.split_first()?;
    let mut workload = WorkloadPods::clone(&first.workload);
    workload.equal = others.iter().map(|end| end.workload.to_string()).collect();
    Some(MapEnd {
        workload: Rc::new(workload),
        pod_count: ends.iter().map(|end| end.pod_count).sum(),
        ..first.clone()
    })
}

/// The links of a map, in the order of the workloads; outside addresses come last. Each row of links
/// is calculated when it is asked for.
pub struct Links<'p, 'a> {
    predictor: &'p mut Predictor<'a>,
    from: MapEnds,
    to: MapEnds,
    grid: Grid,
    /// The next row of the grid.
    row: usize,
    /// The workloads whose outside links are still to come, with the direction.
    outside: std::vec::IntoIter<(Direction, MapEnd)>,
    outside_rows: Rows,
    pending: std::vec::IntoIter<Link>,
}

impl<'a> Predictor<'a> {
    /// The workloads of the map: one entry for each class of a workload's pods.
    pub fn map_ends(&self) -> MapEnds {
        let classes = &self.reachability.classes;
        let mut by_workload: BTreeMap<ObjectRef, BTreeMap<ClassIndex, Vec<usize>>> =
            BTreeMap::new();
        for (index, pod) in classes.inventory.pods.iter().enumerate() {
            if !pod.host_network {
                let by_class = by_workload.entry(workload_of(pod)).or_default();
                by_class
                    .entry(classes.of_pod[index])
                    .or_default()
                    .push(index);
            }
        }

        let mut ends = Vec::new();
        for (workload, by_class) in by_workload {
            let is_whole = by_class.len() == 1;
            for (class, pods) in by_class {
                ends.push(MapEnd {
                    class,
                    pod_count: pods.len(),
                    any_pod: pods[0],
                    workload: Rc::new(WorkloadPods {
                        workload: workload.clone(),
                        pods: if is_whole {
                            Vec::new()
                        } else {
                            self.names_of(&pods)
                        },
                        equal: Vec::new(),
                    }),
                });
            }
        }
        MapEnds(ends)
    }

    /// The sorted names of pods.
    fn names_of(&self, pods: &[usize]) -> Vec<String> {
        let all = &self.reachability.classes.inventory.pods;
        let mut names: Vec<String> = pods.iter().map(|pod| all[*pod].name.clone()).collect();
        names.sort();
        names
    }

    /// The ends of a map that have a name: `NAMESPACE/KIND/NAME` of a workload, of a workload that
    /// it owns, or of a pod.
    pub fn ends_named(&self, ends: &MapEnds, name: &str) -> MapEnds {
        let classes = &self.reachability.classes;
        let mut named: Vec<(ObjectRef, ClassIndex)> = Vec::new();
        for (index, pod) in classes.inventory.pods.iter().enumerate() {
            if !pod.host_network && has_name(pod, name) {
                named.push((workload_of(pod), classes.of_pod[index]));
            }
        }
        named.sort();
        named.dedup();

        let is_named = |end: &&MapEnd| {
            let key = (end.workload.workload.clone(), end.class);
            named.binary_search(&key).is_ok()
        };
        MapEnds(ends.ends().filter(is_named).cloned().collect())
    }

    /// The links from some workloads to others, and those to and from outside addresses where
    /// `with_outside` says so for the direction.
    pub fn links(
        &mut self,
        from: MapEnds,
        to: MapEnds,
        with_outside: impl Fn(Direction) -> bool,
    ) -> Links<'_, 'a> {
        let classes = &self.reachability.classes;
        let outside_classes = Family::ALL
            .into_iter()
            .flat_map(|family| classes.outside_classes(family))
            .collect();
        let grid = Grid::new(
            from.ends().map(|end| Some(end.class)).collect(),
            to.ends().map(|end| Some(end.class)).collect(),
        );

        let mut outside = Vec::new();
        for direction in Direction::ALL.into_iter().filter(|one| with_outside(*one)) {
            let ends = match direction {
                Direction::Egress => &from,
                Direction::Ingress => &to,
            };
            outside.extend(ends.ends().map(|end| (direction, end.clone())));
        }
        Links {
            predictor: self,
            grid,
            row: 0,
            outside: outside.into_iter(),
            outside_rows: Rows::of(outside_classes),
            pending: Vec::new().into_iter(),
            from,
            to,
        }
    }

    /// Every link of the map.
    pub fn all_links(&mut self) -> Links<'_, 'a> {
        let ends = self.map_ends();
        self.links(ends.clone(), ends, |_| true)
    }

    /// The number of pod classes.
    pub fn identities(&self) -> usize {
        self.reachability.classes.pods.len()
    }

    /// The number of ordered pairs of pod classes with any allowed port, in the family with more of
    /// them. Calculates the whole map.
    pub fn count_open_pairs(&mut self) -> usize {
        let all: Vec<Option<ClassIndex>> = (0..self.identities()).map(Some).collect();
        let mut grid = Grid::new(all.clone(), all);
        let mut open = [0_usize; 2];
        while let Some(row) = grid.next_row(&mut self.reachability) {
            for answers in row {
                for (count, answer) in open.iter_mut().zip(answers) {
                    *count += usize::from(answer != Answer::NOTHING);
                }
            }
        }
        open.into_iter().max().unwrap_or_default()
    }

    /// The families in which packets can go from one class of pods to another.
    pub(super) fn common_families(&self, from: ClassIndex, to: ClassIndex) -> Vec<Family> {
        let pods = &self.reachability.classes.pods;
        Family::ALL
            .into_iter()
            .filter(|family| {
                [from, to]
                    .iter()
                    .all(|end| pods[*end].families.contains(family))
            })
            .collect()
    }

    /// Answers by family, of the families that a pair has: one without a family where they agree
    /// and are all that the inventory has.
    pub(super) fn by_family<A: Copy + PartialEq>(
        &self,
        families: &[Family],
        answers: [A; 2],
    ) -> Vec<(Option<Family>, A)> {
        let of_pair: Vec<(Option<Family>, A)> = families
            .iter()
            .map(|family| (Some(*family), answers[*family as usize]))
            .collect();
        let is_complete = families.len() == 2 || !self.reachability.classes.is_dual_stack;
        match of_pair.as_slice() {
            [(_, first), others @ ..]
                if is_complete && others.iter().all(|(_, other)| other == first) =>
            {
                vec![(None, *first)]
            }
            _ => of_pair,
        }
    }

    /// Ranges of outside addresses of a family with the ports between them and a class of pods;
    /// adjacent ranges with the same ports are joined. None where the pods have no address of the
    /// family, and it is known.
    pub(super) fn outside_ranges(
        &mut self,
        rows: &mut Rows,
        (direction, family): (Direction, Family),
        class: ClassIndex,
    ) -> Vec<(IpAddr, IpAddr, Answer)> {
        let mut by_view = Vec::new();
        for view in self.reachability.views() {
            let scope = (*view, family);
            by_view.push(self.reachability.row(rows, scope, direction, class));
        }

        let mut ranges: Vec<(IpAddr, IpAddr, Answer)> = Vec::new();
        for (first, last, outside) in self.reachability.classes.outside_ranges(family) {
            let Some(column) = rows.column(outside) else {
                continue;
            };
            let sets: Vec<_> = by_view.iter().map(|row| row[column]).collect();
            let answer = self.reachability.answer(&sets);
            match ranges.last_mut() {
                Some((_, end, known)) if *known == answer => *end = last,
                _ => ranges.push((first, last, answer)),
            }
        }
        ranges
    }
}

/// Whether a name is that of a pod or of a workload that owns it.
pub(super) fn has_name(pod: &Pod, name: &str) -> bool {
    let Some((namespace, rest)) = name.split_once('/') else {
        return false;
    };
    let Some((kind, name)) = rest.split_once('/') else {
        return false;
    };
    let is_pod = kind == "Pod" && name == pod.name;
    let mut owners = pod.workloads.iter();
    namespace == pod.namespace
        && (is_pod || owners.any(|owner| owner.kind.as_str() == kind && owner.name == name))
}

impl Iterator for Links<'_, '_> {
    type Item = Link;

    fn next(&mut self) -> Option<Link> {
        loop {
            if let Some(link) = self.pending.next() {
                return Some(link);
            }
            self.pending = self.next_links()?.into_iter();
        }
    }
}

impl Links<'_, '_> {
    /// The links of the next row, or those of the next workload with outside addresses.
    fn next_links(&mut self) -> Option<Vec<Link>> {
        let Some(answers) = self.grid.next_row(&mut self.predictor.reachability) else {
            let (direction, end) = self.outside.next()?;
            return Some(self.outside_links(direction, &end));
        };
        let from = &self.from.0[self.row];
        self.row += 1;

        let mut links = Vec::new();
        for (to, answers) in self.to.ends().zip(answers) {
            // Most pairs are closed, and a single pod has no other pod of its workload to connect
            // to.
            let is_closed = answers == [Answer::NOTHING; 2];
            if is_closed || (from.workload == to.workload && from.pod_count < 2) {
                continue;
            }
            let families = self.predictor.common_families(from.class, to.class);
            for (family, answer) in self.predictor.by_family(&families, answers) {
                let ends = (
                    LinkEnd::Workload(Rc::clone(&from.workload)),
                    LinkEnd::Workload(Rc::clone(&to.workload)),
                );
                links.extend(link(self.predictor, ends, family, answer));
            }
        }
        Some(links)
    }

    /// The links between a workload and outside addresses.
    fn outside_links(&mut self, direction: Direction, end: &MapEnd) -> Vec<Link> {
        self.outside_rows.keep_at_most(OUTSIDE_CHUNK);
        let mut links = Vec::new();
        for family in Family::ALL {
            if self.predictor.lacks_family(end, family) {
                continue;
            }
            let scope = (direction, family);
            let ranges = self
                .predictor
                .outside_ranges(&mut self.outside_rows, scope, end.class);
            for (first, last, answer) in ranges {
                let inside = LinkEnd::Workload(Rc::clone(&end.workload));
                let outside = LinkEnd::Outside(first, last);
                let ends = match direction {
                    Direction::Egress => (inside, outside),
                    Direction::Ingress => (outside, inside),
                };
                links.extend(link(self.predictor, ends, None, answer));
            }
        }
        links
    }
}

impl Predictor<'_> {
    /// Whether the pods of an end are known to have no address of a family.
    pub(super) fn lacks_family(&self, end: &MapEnd, family: Family) -> bool {
        let classes = &self.reachability.classes;
        let is_known = !classes.inventory.pods[end.any_pod].addresses.is_empty();
        is_known && !classes.pods[end.class].families.contains(&family)
    }
}

/// A link; `None` where nothing is allowed.
fn link(
    predictor: &Predictor<'_>,
    (from, to): (LinkEnd, LinkEnd),
    family: Option<Family>,
    answer: Answer,
) -> Option<Link> {
    let sets = &predictor.reachability.sets;
    (answer != Answer::NOTHING).then(|| Link {
        from,
        to,
        family,
        ports: sets.shared(answer.ports),
        unknown: sets.shared(answer.unknown),
    })
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
