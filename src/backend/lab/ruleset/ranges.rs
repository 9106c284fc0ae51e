//! Sets of addresses of one family as ranges that neither overlap nor touch: what an interval set
//! takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges with both ends within them; sorted, with at least one address between any two.
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
                // No next address: the range goes to the end of the family and holds all that
                // follows.
                Some((_, end)) if next(*end).is_none_or(|next| first <= next) => {
                    *end = last.max(*end)
                }
                _ => union.push((first, last)),
            }
        }
        Self(union)
    }

    /// What is left of one range without others.
    pub(super) fn without(
        (first, last): (IpAddr, IpAddr),
        holes: impl IntoIterator<Item = (IpAddr, IpAddr)>,
    ) -> Self {
        let mut left = Vec::new();
        let mut from = Some(first);
        for (hole_first, hole_last) in Self::union(holes).0 {
            let Some(start) = from else { break };
            if hole_last < start || hole_first > last {
                continue;
            }
            if hole_first > start
                && let Some(before) = previous(hole_first)
            {
                left.push((start, before));
            }
            from = next(hole_last);
        }
        if let Some(start) = from.filter(|start| *start <= last) {
            left.push((start, last));
        }
        Self(left)
    }

    /// Whether there is no address.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every address of the family is in it.
    pub(super) fn is_everything(&self) -> bool {
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
    fn everything_is_known() {
        let all = |first: &str, last: &str| {
            Ranges::union([(first.parse().expect("ip"), last.parse().expect("ip"))])
        };
        assert!(all("0.0.0.0", "255.255.255.255").is_everything());
        assert!(all("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").is_everything());
        assert!(!all("0.0.0.1", "255.255.255.255").is_everything());
        assert!(!Ranges::default().is_everything());
    }

    proptest! {
        #[test]
        fn unions_hold_the_same_addresses_apart(pairs in prop::collection::vec((any::<u8>(), any::<u8>()), 0..8)) {
            let pairs: Vec<(u8, u8)> = pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let union = Ranges::union(pairs.iter().map(|(first, last)| (at(*first), at(*last))));
            let expected: Vec<u8> = (0..=u8::MAX).filter(|n| pairs.iter().any(|(first, last)| (first..=last).contains(&n))).collect();
            prop_assert_eq!(members(&union), expected);
            for two in union.as_slice().windows(2) {
                prop_assert!(next(two[0].1).is_some_and(|next| next < two[1].0));
            }
        }

        #[test]
        fn holes_are_left_out(a in any::<u8>(), b in any::<u8>(), holes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..6)) {
            let (first, last) = (a.min(b), a.max(b));
            let holes: Vec<(u8, u8)> = holes.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let left = Ranges::without((at(first), at(last)), holes.iter().map(|(first, last)| (at(*first), at(*last))));
            let expected: Vec<u8> =
                (first..=last).filter(|n| !holes.iter().any(|(first, last)| (first..=last).contains(&n))).collect();
            prop_assert_eq!(members(&left), expected);
        }
    }
}
