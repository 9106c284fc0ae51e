//! Sets of ports as sorted ranges for each transport, and an arena that stores equal sets once.

use crate::model::{Port, Transport};
use std::collections::HashMap;
use std::rc::Rc;

/// The first and the last port of a range, both included.
type Range = (u16, u16);

/// Every port that a flow can have; port 0 is reserved (RFC 6335 section 6).
const WHOLE: Range = (1, u16::MAX);

/// Destination ports by transport. Ranges are sorted, disjoint and not adjacent, so that equal sets
/// have equal ranges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct PortSet {
    tcp: Vec<Range>,
    udp: Vec<Range>,
    sctp: Vec<Range>,
}

impl PortSet {
    /// No port.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every port of every transport.
    pub fn all() -> Self {
        Self {
            tcp: vec![WHOLE],
            udp: vec![WHOLE],
            sctp: vec![WHOLE],
        }
    }

    /// The ports from `first` to `last`, both included; none if `last` is smaller.
    pub fn range(transport: Transport, first: u16, last: u16) -> Self {
        let mut set = Self::none();
        if first.max(1) <= last {
            *set.ranges_mut(transport) = vec![(first.max(1), last)];
        }
        set
    }

    /// The ranges of a transport: first and last port, both included.
    pub fn ranges(&self, transport: Transport) -> &[(u16, u16)] {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            Transport::Sctp => &self.sctp,
        }
    }

    fn ranges_mut(&mut self, transport: Transport) -> &mut Vec<Range> {
        match transport {
            Transport::Tcp => &mut self.tcp,
            Transport::Udp => &mut self.udp,
            Transport::Sctp => &mut self.sctp,
        }
    }

    /// Whether it contains no port.
    pub fn is_empty(&self) -> bool {
        TRANSPORTS
            .iter()
            .all(|transport| self.ranges(*transport).is_empty())
    }

    /// Whether it is [`PortSet::all`].
    pub fn is_all(&self) -> bool {
        TRANSPORTS
            .iter()
            .all(|transport| self.ranges(*transport) == [WHOLE])
    }

    /// Whether a port is in the set.
    pub fn contains(&self, port: Port) -> bool {
        let ranges = self.ranges(port.transport());
        let after = ranges.partition_point(|(first, _)| *first <= port.number());
        after > 0 && port.number() <= ranges[after - 1].1
    }

    /// The ports of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, union_of)
    }

    /// The ports that both sets contain.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, intersection_of)
    }

    /// The ports of this set that the other does not contain.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, difference_of)
    }

    /// Applies an operation to the ranges of each transport.
    fn combine(&self, other: &Self, operation: fn(&[Range], &[Range]) -> Vec<Range>) -> Self {
        Self {
            tcp: operation(&self.tcp, &other.tcp),
            udp: operation(&self.udp, &other.udp),
            sctp: operation(&self.sctp, &other.sctp),
        }
    }
}

fn union_of(a: &[Range], b: &[Range]) -> Vec<Range> {
    let mut all: Vec<Range> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match merged.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn intersection_of(a: &[Range], b: &[Range]) -> Vec<Range> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut common = Vec::new();
    while let (Some(&&(first_a, last_a)), Some(&&(first_b, last_b))) = (a.peek(), b.peek()) {
        let (first, last) = (first_a.max(first_b), last_a.min(last_b));
        if first <= last {
            common.push((first, last));
        }
        if last_a < last_b {
            a.next()
        } else {
            b.next()
        };
    }
    common
}

fn difference_of(a: &[Range], b: &[Range]) -> Vec<Range> {
    let mut remaining = Vec::new();
    for (first, last) in a {
        // The first port that is not handled yet; a u32, since the port after 65,535 is no u16.
        let mut next = u32::from(*first);
        for (from, to) in b.iter().filter(|(from, to)| to >= first && from <= last) {
            if next < u32::from(*from) {
                remaining.push((next as u16, from - 1));
            }
            next = u32::from(*to) + 1;
        }
        if next <= u32::from(*last) {
            remaining.push((next as u16, *last));
        }
    }
    remaining
}

/// Transports in the order of the output.
pub(super) const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

impl std::fmt::Display for PortSet {
    /// `80, 8000-8010, 53/udp`, `every tcp port`, `everything`, `nothing`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() {
            return f.write_str("everything");
        }
        if self.is_empty() {
            return f.write_str("nothing");
        }

        let mut separator = "";
        for transport in TRANSPORTS {
            for range in self.ranges(transport) {
                f.write_str(separator)?;
                write_range(f, transport, *range)?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

fn write_range(
    f: &mut std::fmt::Formatter<'_>,
    transport: Transport,
    (first, last): Range,
) -> std::fmt::Result {
    if (first, last) == WHOLE {
        return write!(f, "every {transport} port");
    }
    write!(f, "{first}")?;
    if first != last {
        write!(f, "-{last}")?;
    }
    if transport != Transport::Tcp {
        write!(f, "/{transport}")?;
    }
    Ok(())
}

/// The number of a set in an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(1);

    /// Its place in the arena.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An arena of sets: equal sets have one number, and results of operations are cached.
#[derive(Debug)]
pub(super) struct PortSets {
    sets: Vec<Rc<PortSet>>,
    ids: HashMap<Rc<PortSet>, SetId>,
    unions: HashMap<(SetId, SetId), SetId>,
    intersections: HashMap<(SetId, SetId), SetId>,
    differences: HashMap<(SetId, SetId), SetId>,
}

impl PortSets {
    pub(super) fn new() -> Self {
        let mut arena = Self {
            sets: Vec::new(),
            ids: HashMap::new(),
            unions: HashMap::new(),
            intersections: HashMap::new(),
            differences: HashMap::new(),
        };
        // In the order of `SetId::NONE` and `SetId::ALL`.
        arena.intern(PortSet::none());
        arena.intern(PortSet::all());
        arena
    }

    pub(super) fn get(&self, id: SetId) -> &PortSet {
        &self.sets[id.0 as usize]
    }

    /// A set that may outlive the arena.
    pub(super) fn shared(&self, id: SetId) -> Rc<PortSet> {
        Rc::clone(&self.sets[id.0 as usize])
    }

    pub(super) fn intern(&mut self, set: PortSet) -> SetId {
        if let Some(id) = self.ids.get(&set) {
            return *id;
        }
        let id = SetId(self.sets.len() as u32);
        let set = Rc::new(set);
        self.sets.push(Rc::clone(&set));
        self.ids.insert(set, id);
        id
    }

    pub(super) fn union(&mut self, a: SetId, b: SetId) -> SetId {
        match (a, b) {
            _ if a == b => a,
            (SetId::NONE, other) | (other, SetId::NONE) => other,
            (SetId::ALL, _) | (_, SetId::ALL) => SetId::ALL,
            _ => {
                let key = (a.min(b), a.max(b));
                if let Some(known) = self.unions.get(&key) {
                    return *known;
                }
                let id = self.intern(self.get(a).union(self.get(b)));
                self.unions.insert(key, id);
                id
            }
        }
    }

    pub(super) fn intersection(&mut self, a: SetId, b: SetId) -> SetId {
        match (a, b) {
            _ if a == b => a,
            (SetId::ALL, other) | (other, SetId::ALL) => other,
            (SetId::NONE, _) | (_, SetId::NONE) => SetId::NONE,
            _ => {
                let key = (a.min(b), a.max(b));
                if let Some(known) = self.intersections.get(&key) {
                    return *known;
                }
                let id = self.intern(self.get(a).intersection(self.get(b)));
                self.intersections.insert(key, id);
                id
            }
        }
    }

    pub(super) fn minus(&mut self, a: SetId, b: SetId) -> SetId {
        match (a, b) {
            (_, SetId::NONE) => a,
            (SetId::NONE, _) | (_, SetId::ALL) => SetId::NONE,
            _ if a == b => SetId::NONE,
            _ => {
                if let Some(known) = self.differences.get(&(a, b)) {
                    return *known;
                }
                let id = self.intern(self.get(a).minus(self.get(b)));
                self.differences.insert((a, b), id);
                id
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(ranges: &[(u16, u16)]) -> PortSet {
        ranges.iter().fold(PortSet::none(), |set, (a, b)| {
            set.union(&PortSet::range(Transport::Tcp, *a, *b))
        })
    }

    #[test]
    fn adjacent_ranges_are_joined() {
        assert_eq!(
            tcp(&[(80, 81), (82, 90), (1, 1)]).ranges(Transport::Tcp),
            [(1, 1), (80, 90)]
        );
        assert_eq!(
            tcp(&[(1, 65_534), (65_535, 65_535)]).ranges(Transport::Tcp),
            [WHOLE]
        );
        assert_eq!(tcp(&[(0, 0)]), PortSet::none());
    }

    #[test]
    fn sets_are_written_as_ports_in_suites() {
        let udp = PortSet::range(Transport::Udp, 53, 53);
        assert_eq!(
            tcp(&[(80, 80), (8000, 8010)]).union(&udp).to_string(),
            "80, 8000-8010, 53/udp"
        );
        assert_eq!(tcp(&[WHOLE]).to_string(), "every tcp port");
        assert_eq!(
            (PortSet::all().to_string(), PortSet::none().to_string()),
            ("everything".into(), "nothing".into())
        );
    }

    fn any_set() -> impl Strategy<Value = PortSet> {
        let edge = prop_oneof![1_u16..12, 65_525_u16..=65_535];
        let range = (
            prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
            edge.clone(),
            edge,
        );
        proptest::collection::vec(range, 0..6).prop_map(|ranges| {
            ranges
                .iter()
                .fold(PortSet::none(), |set, (transport, a, b)| {
                    set.union(&PortSet::range(*transport, *a.min(b), *a.max(b)))
                })
        })
    }

    proptest! {
        #[test]
        fn operations_agree_with_membership_of_each_port(a in any_set(), b in any_set()) {
            for number in (1..14).chain(65_520..=65_535) {
                for transport in TRANSPORTS {
                    let port = Port::new(number, transport).expect("a port");
                    let (in_a, in_b) = (a.contains(port), b.contains(port));
                    prop_assert_eq!(a.union(&b).contains(port), in_a || in_b);
                    prop_assert_eq!(a.intersection(&b).contains(port), in_a && in_b);
                    prop_assert_eq!(a.minus(&b).contains(port), in_a && !in_b);
                }
            }
            // Equal sets have equal ranges.
            prop_assert_eq!(a.minus(&b).union(&a.intersection(&b)), a);
        }
    }
}
