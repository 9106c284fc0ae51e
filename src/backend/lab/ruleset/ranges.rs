//! Sets of addresses of one family as ranges that neither overlap nor touch, as an interval set
//! requires.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Inclusive ranges; sorted, with at least one address between any two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Ranges(Vec<(IpAddr, IpAddr)>);

impl Ranges {
    /// The union of ranges, all of one family.
    pub(super) fn union(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut union: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match union.last_mut() {
                // Without a next address the range ends at the end of the family and includes all
                // that follow.
                Some((_, end)) if next(*end).is_none_or(|next| first <= next) => {
                    *end = last.max(*end);
                }
                _ => union.push((first, last)),
            }
        }
        Self(union)
    }

    /// One range without the addresses of others.
    pub(super) fn difference(
        (first, last): (IpAddr, IpAddr),
        excluded: impl IntoIterator<Item = (IpAddr, IpAddr)>,
    ) -> Self {
        let mut remaining = Vec::new();
        let mut next_start = Some(first);
        for (excluded_first, excluded_last) in Self::union(excluded).0 {
            let Some(start) = next_start else { break };
            if excluded_last < start || excluded_first > last {
                continue;
            }
            if excluded_first > start
                && let Some(before) = previous(excluded_first)
            {
                remaining.push((start, before));
            }
            next_start = next(excluded_last);
        }
        if let Some(start) = next_start.filter(|start| *start <= last) {
            remaining.push((start, last));
        }
        Self(remaining)
    }

    /// Whether the set is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set contains every address of the family.
    pub(super) fn is_whole_family(&self) -> bool {
        matches!(self.0.as_slice(), [(first, last)] if previous(*first).is_none() && next(*last).is_none())
    }

    /// The ranges.
    pub(super) fn as_slice(&self) -> &[(IpAddr, IpAddr)] {
        &self.0
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(last: u8) -> IpAddr {
        Ipv4Addr::new(255, 255, 255, last).into()
    }

    fn members(ranges: &Ranges) -> Vec<u8> {
        let inside = |n: &u8| {
            ranges
                .as_slice()
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&at(*n)))
        };
        (0..=u8::MAX).filter(inside).collect()
    }

    #[test]
    fn the_whole_family_is_recognised() {
        let all = |first: &str, last: &str| {
            Ranges::union([(first.parse().expect("ip"), last.parse().expect("ip"))])
        };
        assert!(all("0.0.0.0", "255.255.255.255").is_whole_family());
        assert!(all("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").is_whole_family());
        assert!(!all("0.0.0.1", "255.255.255.255").is_whole_family());
        assert!(!Ranges::default().is_whole_family());
    }

    proptest! {
        #[test]
        fn a_union_has_the_same_addresses_in_separate_ranges(pairs in prop::collection::vec((any::<u8>(), any::<u8>()), 0..8)) {
            let pairs: Vec<(u8, u8)> = pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let union = Ranges::union(pairs.iter().map(|(first, last)| (at(*first), at(*last))));
            let expected: Vec<u8> = (0..=u8::MAX).filter(|n| pairs.iter().any(|(first, last)| (first..=last).contains(&n))).collect();
            prop_assert_eq!(members(&union), expected);
            for two in union.as_slice().windows(2) {
                prop_assert!(next(two[0].1).is_some_and(|next| next < two[1].0));
            }
        }

        #[test]
        fn a_difference_has_no_excluded_address(a in any::<u8>(), b in any::<u8>(), holes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..6)) {
            let (first, last) = (a.min(b), a.max(b));
            let holes: Vec<(u8, u8)> = holes.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let left = Ranges::difference((at(first), at(last)), holes.iter().map(|(first, last)| (at(*first), at(*last))));
            let expected: Vec<u8> =
                (first..=last).filter(|n| !holes.iter().any(|(first, last)| (first..=last).contains(&n))).collect();
            prop_assert_eq!(members(&left), expected);
        }
    }
}
