//! What differs between two maps: the connections that one allows and the other does not.
//!
//! Pods of the same workload and name are the same pod in both. A workload is cut where either map
//! distinguishes its pods, so that a change of one replica is not a change of all.

use super::classes::{ClassIndex, after};
use super::flow::Predictor;
use super::grid::Grid;
use super::map::{Link, LinkEnd, MapEnd, WorkloadPods, has_name, workload_of};
use super::ports::SetId;
use super::reachability::{Answer, Rows};
use super::rules::Direction;
use crate::model::{Family, ObjectRef};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

/// The outside rows of so many workloads are kept at a time.
const OUTSIDE_CHUNK: usize = 256;

/// The connections that differ, in the order of the map.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Those that only the later map allows, with the ports that differ.
    pub opened: Vec<Link>,
    /// Those that only the earlier map allows.
    pub closed: Vec<Link>,
    /// The number of pairs of which both answers depend on addresses that are not known, so that it
    /// is unknown whether they differ.
    pub undecided: usize,
}

/// Two maps that are compared.
pub struct Comparison<'p, 'b, 'a> {
    before: &'p mut Predictor<'b>,
    after: &'p mut Predictor<'a>,
    parts: Vec<Part>,
    /// The numbers of the earlier map's sets among those of the later one.
    translated: Vec<Option<SetId>>,
    differences: Differences,
}

/// Pods of a workload that each of the maps treats in the same way.
#[derive(Debug, Clone)]
struct Part {
    workload: Rc<WorkloadPods>,
    /// `None` where the earlier map does not have them.
    before: Option<MapEnd>,
    /// `None` where the later map does not have them.
    after: Option<MapEnd>,
    pod_count: usize,
}

/// How the answers for one pair differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Difference {
    opened: Answer,
    closed: Answer,
    is_undecided: bool,
}

impl Difference {
    const NONE: Self = Self {
        opened: Answer::NOTHING,
        closed: Answer::NOTHING,
        is_undecided: false,
    };
}

impl<'p, 'b, 'a> Comparison<'p, 'b, 'a> {
    /// Compares an earlier map with a later one.
    pub fn new(before: &'p mut Predictor<'b>, after: &'p mut Predictor<'a>) -> Self {
        Self {
            parts: parts(before, after),
            before,
            after,
            translated: Vec::new(),
            differences: Differences::default(),
        }
    }

    /// The workloads of both maps, for the suggestion of a name.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadPods> {
        self.parts.iter().map(|part| &*part.workload)
    }

    /// Whether either map has a workload or pod of this name.
    pub fn has(&self, name: &str) -> bool {
        !self.named(Some(name)).is_empty()
    }

    /// The differences from some workloads to others; `None` is all of them, and the addresses
    /// outside.
    pub fn differences(mut self, from: Option<&str>, to: Option<&str>) -> Differences {
        let (from_parts, to_parts) = (self.named(from), self.named(to));
        self.between_workloads(&from_parts, &to_parts);
        if to.is_none() {
            self.with_outside(Direction::Egress, &from_parts);
        }
        if from.is_none() {
            self.with_outside(Direction::Ingress, &to_parts);
        }
        self.differences
    }

    /// The parts with a name; without one, all.
    fn named(&self, name: Option<&str>) -> Vec<Part> {
        let Some(name) = name else {
            return self.parts.clone();
        };
        let mut named: BTreeSet<(usize, ObjectRef, ClassIndex)> = BTreeSet::new();
        for (world, predictor) in [&*self.before as &Predictor<'_>, &*self.after]
            .into_iter()
            .enumerate()
        {
            let classes = &predictor.reachability.classes;
            for (index, pod) in classes.inventory.pods.iter().enumerate() {
                if !pod.host_network && has_name(pod, name) {
                    named.insert((world, workload_of(pod), classes.of_pod[index]));
                }
            }
        }

        let is_named = |part: &&Part| {
            let ends = [&part.before, &part.after].into_iter().enumerate();
            ends.filter_map(|(world, end)| Some((world, end.as_ref()?)))
                .any(|(world, end)| {
                    named.contains(&(world, part.workload.workload.clone(), end.class))
                })
        };
        self.parts.iter().filter(is_named).cloned().collect()
    }

    fn between_workloads(&mut self, from: &[Part], to: &[Part]) {
        let mut before_grid = Grid::new(classes_before(from), classes_before(to));
        let mut after_grid = Grid::new(classes_after(from), classes_after(to));

        for source in from {
            let earlier = before_grid.next_row(&mut self.before.reachability);
            let later = after_grid.next_row(&mut self.after.reachability);
            let answers = earlier
                .into_iter()
                .flatten()
                .zip(later.into_iter().flatten());
            for (target, (earlier, later)) in to.iter().zip(answers) {
                let is_one_pod = source.workload == target.workload && source.pod_count < 2;
                if !is_one_pod {
                    self.compare_pair(source, target, earlier, later);
                }
            }
        }
    }

    fn compare_pair(
        &mut self,
        source: &Part,
        target: &Part,
        earlier: [Answer; 2],
        later: [Answer; 2],
    ) {
        let families_before =
            common_families(self.before, source.before.as_ref(), target.before.as_ref());
        let families_after =
            common_families(self.after, source.after.as_ref(), target.after.as_ref());
        let mut families = Vec::new();
        let mut differences = [Difference::NONE; 2];
        for family in Family::ALL {
            let (is_before, is_after) = (
                families_before.contains(&family),
                families_after.contains(&family),
            );
            if !is_before && !is_after {
                continue;
            }

            let index = family as usize;
            let earlier = if is_before {
                self.translate(earlier[index])
            } else {
                Answer::NOTHING
            };
            let later = if is_after {
                later[index]
            } else {
                Answer::NOTHING
            };
            families.push(family);
            differences[index] = self.compare(earlier, later);
        }

        for (family, difference) in self.after.by_family(&families, differences) {
            let ends = (
                LinkEnd::Workload(Rc::clone(&source.workload)),
                LinkEnd::Workload(Rc::clone(&target.workload)),
            );
            self.add(ends, family, difference);
        }
    }

    /// Compares what the pods of parts may send to addresses outside, or receive from them.
    fn with_outside(&mut self, direction: Direction, parts: &[Part]) {
        let mut rows_before = outside_rows(self.before);
        let mut rows_after = outside_rows(self.after);
        for part in parts {
            rows_before.keep_at_most(OUTSIDE_CHUNK);
            rows_after.keep_at_most(OUTSIDE_CHUNK);
            for family in Family::ALL {
                let scope = (direction, family);
                let earlier =
                    outside_ranges(self.before, &mut rows_before, scope, part.before.as_ref());
                let later = outside_ranges(self.after, &mut rows_after, scope, part.after.as_ref());
                self.compare_ranges(direction, part, &earlier, &later);
            }
        }
    }

    /// Compares two lists of ranges of all addresses of a family.
    fn compare_ranges(
        &mut self,
        direction: Direction,
        part: &Part,
        earlier: &[(IpAddr, IpAddr, Answer)],
        later: &[(IpAddr, IpAddr, Answer)],
    ) {
        let (mut earlier, mut later) = (earlier.iter().peekable(), later.iter().peekable());
        let mut start: Option<IpAddr> = None;
        let mut pieces: Vec<(IpAddr, IpAddr, Difference)> = Vec::new();
        while let (Some(one), Some(other)) = (earlier.peek(), later.peek()) {
            let (first, last) = (start.unwrap_or(one.0), one.1.min(other.1));
            let before = self.translate(one.2);
            let difference = self.compare(before, other.2);
            match pieces.last_mut() {
                Some((_, end, known)) if *known == difference => *end = last,
                _ => pieces.push((first, last, difference)),
            }

            start = after(last);
            earlier.next_if(|range| range.1 == last);
            later.next_if(|range| range.1 == last);
        }

        for (first, last, difference) in pieces {
            let inside = LinkEnd::Workload(Rc::clone(&part.workload));
            let outside = LinkEnd::Outside(first, last);
            let ends = match direction {
                Direction::Egress => (inside, outside),
                Direction::Ingress => (outside, inside),
            };
            self.add(ends, None, difference);
        }
    }

    /// An answer of the earlier map in the sets of the later one.
    fn translate(&mut self, answer: Answer) -> Answer {
        Answer {
            ports: self.translate_set(answer.ports),
            unknown: self.translate_set(answer.unknown),
        }
    }

    fn translate_set(&mut self, set: SetId) -> SetId {
        let index = set.index();
        if let Some(Some(known)) = self.translated.get(index) {
            return *known;
        }
        let ports = self.before.reachability.sets.get(set).clone();
        let translated = self.after.reachability.sets.intern(ports);
        if self.translated.len() <= index {
            self.translated.resize(index + 1, None);
        }
        self.translated[index] = Some(translated);
        translated
    }

    /// How two answers in the sets of the later map differ. What one of them leaves open may
    /// differ.
    fn compare(&mut self, before: Answer, after: Answer) -> Difference {
        if before == after && after.unknown == SetId::NONE {
            return Difference::NONE;
        }
        let is_undecided = {
            let sets = &mut self.after.reachability.sets;
            sets.intersection(before.unknown, after.unknown) != SetId::NONE
        };
        Difference {
            opened: self.gained(before, after),
            closed: self.gained(after, before),
            is_undecided,
        }
    }

    /// What a later answer allows and an earlier one does not.
    fn gained(&mut self, earlier: Answer, later: Answer) -> Answer {
        let sets = &mut self.after.reachability.sets;
        let possible = sets.union(earlier.ports, earlier.unknown);
        let from_unknown = sets.intersection(later.ports, earlier.unknown);
        let to_unknown = sets.minus(later.unknown, possible);
        Answer {
            ports: sets.minus(later.ports, possible),
            unknown: sets.union(from_unknown, to_unknown),
        }
    }

    fn add(
        &mut self,
        (from, to): (LinkEnd, LinkEnd),
        family: Option<Family>,
        difference: Difference,
    ) {
        let sets = &self.after.reachability.sets;
        let link = |answer: Answer| Link {
            from: from.clone(),
            to: to.clone(),
            family,
            ports: sets.shared(answer.ports),
            unknown: sets.shared(answer.unknown),
        };
        if difference.opened != Answer::NOTHING {
            self.differences.opened.push(link(difference.opened));
        }
        if difference.closed != Answer::NOTHING {
            self.differences.closed.push(link(difference.closed));
        }
        self.differences.undecided += usize::from(difference.is_undecided);
    }
}

fn classes_before(parts: &[Part]) -> Vec<Option<ClassIndex>> {
    let ends = parts.iter().map(|part| part.before.as_ref());
    ends.map(|end| Some(end?.class)).collect()
}

fn classes_after(parts: &[Part]) -> Vec<Option<ClassIndex>> {
    let ends = parts.iter().map(|part| part.after.as_ref());
    ends.map(|end| Some(end?.class)).collect()
}

/// The families in which packets can go between two ends; none where one of them does not exist.
fn common_families(
    predictor: &Predictor<'_>,
    from: Option<&MapEnd>,
    to: Option<&MapEnd>,
) -> Vec<Family> {
    match (from, to) {
        (Some(from), Some(to)) => predictor.common_families(from.class, to.class),
        _ => Vec::new(),
    }
}

fn outside_rows(predictor: &Predictor<'_>) -> Rows {
    let classes = &predictor.reachability.classes;
    let of_families = Family::ALL.map(|family| classes.outside_classes(family));
    Rows::of(of_families.concat())
}

/// The answers for every address of a family; nothing for an end that does not exist or has no
/// address of it.
fn outside_ranges(
    predictor: &mut Predictor<'_>,
    rows: &mut Rows,
    scope: (Direction, Family),
    end: Option<&MapEnd>,
) -> Vec<(IpAddr, IpAddr, Answer)> {
    match end {
        Some(end) if !predictor.lacks_family(end, scope.1) => {
            predictor.outside_ranges(rows, scope, end.class)
        }
        _ => {
            let ranges = predictor.reachability.classes.outside_ranges(scope.1);
            let ends = ranges.first().zip(ranges.last());
            ends.map(|(first, last)| (first.0, last.1, Answer::NOTHING))
                .into_iter()
                .collect()
        }
    }
}

/// The end of each pod of a workload, by pod name.
type EndsByPod = BTreeMap<String, MapEnd>;

fn ends_by_workload(predictor: &Predictor<'_>) -> BTreeMap<ObjectRef, EndsByPod> {
    let classes = &predictor.reachability.classes;
    let ends = predictor.map_ends();
    let by_class: BTreeMap<(&ObjectRef, ClassIndex), &MapEnd> = ends
        .ends()
        .map(|end| ((&end.workload.workload, end.class), end))
        .collect();

    let mut by_workload: BTreeMap<ObjectRef, EndsByPod> = BTreeMap::new();
    for (index, pod) in classes.inventory.pods.iter().enumerate() {
        let workload = workload_of(pod);
        if let Some(end) = by_class.get(&(&workload, classes.of_pod[index])) {
            let end = MapEnd::clone(end);
            let of_workload = by_workload.entry(workload).or_default();
            of_workload.insert(pod.name.clone(), end);
        }
    }
    by_workload
}

/// The parts of all workloads, in order of namespace and name.
fn parts(before: &Predictor<'_>, after: &Predictor<'_>) -> Vec<Part> {
    let mut earlier = ends_by_workload(before);
    let mut later = ends_by_workload(after);
    let workloads: BTreeSet<ObjectRef> = earlier.keys().chain(later.keys()).cloned().collect();

    let mut parts = Vec::new();
    for workload in workloads {
        let earlier = earlier.remove(&workload).unwrap_or_default();
        let later = later.remove(&workload).unwrap_or_default();
        let of_workload = cut(&earlier, &later);
        let is_whole = of_workload.len() == 1;
        for (_, part) in of_workload {
            parts.push(Part {
                workload: Rc::new(WorkloadPods {
                    workload: workload.clone(),
                    pods: if is_whole {
                        Vec::new()
                    } else {
                        part.names.iter().cloned().collect()
                    },
                    equal: Vec::new(),
                }),
                pod_count: part.names.len(),
                before: part.before,
                after: part.after,
            });
        }
    }
    parts
}

/// The pods of one workload that have these classes in the two maps.
#[derive(Default)]
struct Cut {
    names: BTreeSet<String>,
    before: Option<MapEnd>,
    after: Option<MapEnd>,
}

/// The classes of a pod in the two maps.
type ClassPair = (Option<ClassIndex>, Option<ClassIndex>);

/// Cuts a workload by the classes of its pods in both maps. A pod that only one of them has counts
/// as one of the others of its class, so that a replica more or less is no change.
fn cut(earlier: &EndsByPod, later: &EndsByPod) -> BTreeMap<ClassPair, Cut> {
    let mut cuts: BTreeMap<ClassPair, Cut> = BTreeMap::new();
    for (name, before) in earlier {
        if let Some(after) = later.get(name) {
            add(&mut cuts, name, Some(before), Some(after));
        }
    }
    if cuts.is_empty()
        && let (Some(before), Some(after)) = (only_class(earlier), only_class(later))
    {
        for name in earlier.keys().chain(later.keys()) {
            add(&mut cuts, name, Some(before), Some(after));
        }
        return cuts;
    }

    for (name, before) in earlier
        .iter()
        .filter(|(name, _)| !later.contains_key(*name))
    {
        let like = cuts.keys().find(|(class, _)| *class == Some(before.class));
        let after = like.and_then(|key| cuts[key].after.clone());
        add(&mut cuts, name, Some(before), after.as_ref());
    }
    for (name, after) in later
        .iter()
        .filter(|(name, _)| !earlier.contains_key(*name))
    {
        let like = cuts.keys().find(|(_, class)| *class == Some(after.class));
        let before = like.and_then(|key| cuts[key].before.clone());
        add(&mut cuts, name, before.as_ref(), Some(after));
    }
    cuts
}

fn add(
    cuts: &mut BTreeMap<ClassPair, Cut>,
    name: &str,
    before: Option<&MapEnd>,
    after: Option<&MapEnd>,
) {
    let key = (before.map(|end| end.class), after.map(|end| end.class));
    let cut = cuts.entry(key).or_default();
    cut.names.insert(name.to_owned());
    cut.before = before.cloned();
    cut.after = after.cloned();
}

/// The end of all pods, where they have one in common.
fn only_class(ends: &EndsByPod) -> Option<&MapEnd> {
    let first = ends.values().next()?;
    ends.values()
        .all(|end| end.class == first.class)
        .then_some(first)
}
