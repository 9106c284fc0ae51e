//! Whether an address block contains a pod or a node: one answer for maps, for single flows and for
//! explanations.
//!
//! # Where an address is not known
//! Manifests seldom have the addresses of pods. A block with every address of a family contains
//! them all the same, and one without any private address contains none. Of every other block the
//! answer depends on the address, and is given as such. The addresses that the lab invents stand
//! for those that its pods would have in a cluster: packets in the lab follow them, and what depends
//! on them is not known of the cluster.
//!
//! # Limitations
//! Unknown IPv4 addresses of pods and nodes are taken to be private (RFC 1918); unknown IPv6
//! addresses may be any.

use super::rules::{Block, of_family};
use crate::inventory::{Cidr, Inventory};
use crate::model::{Families, Family};
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};

/// What is known of the addresses of pods and nodes of an inventory.
#[derive(Debug, Clone)]
pub(super) struct AddressBook<'a> {
    inventory: &'a Inventory,
    /// The families in which an end has an address where none of its addresses is known.
    families: OnceCell<Families>,
}

/// The address of one end in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownAddress {
    At(IpAddr),
    /// The lab invented it.
    Invented(IpAddr),
    /// There is one, of this family, and nothing says which.
    Somewhere(Family),
    /// The end has no address of the family.
    Absent,
}

/// Whether a block contains an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    /// Whether it does. Where that depends on an unknown address, the address that the lab invented
    /// decides, or else it does not.
    pub(super) holds: bool,
    /// Whether that depends on an address that is not known.
    pub(super) depends: bool,
}

impl<'a> AddressBook<'a> {
    pub(super) fn of(inventory: &'a Inventory) -> Self {
        Self {
            inventory,
            families: OnceCell::new(),
        }
    }

    /// The families that the inventory shows.
    fn shown_families(&self) -> Families {
        *self.families.get_or_init(|| shown_families(self.inventory))
    }

    /// The address of an end in a family, of all its addresses that are given.
    pub(super) fn address(&self, addresses: &[IpAddr], family: Family) -> KnownAddress {
        match of_family(addresses, family) {
            Some(address) if self.inventory.invented_addresses.contains(&address) => {
                KnownAddress::Invented(address)
            }
            Some(address) => KnownAddress::At(address),
            None if addresses.is_empty() && self.shown_families().contains(family) => {
                KnownAddress::Somewhere(family)
            }
            None => KnownAddress::Absent,
        }
    }

    /// The families in which an end has an address.
    pub(super) fn families(&self, addresses: &[IpAddr]) -> Vec<Family> {
        let all = Family::ALL.into_iter();
        all.filter(|family| self.address(addresses, *family) != KnownAddress::Absent)
            .collect()
    }

    /// Whether the inventory has both families.
    pub(super) fn is_dual_stack(&self) -> bool {
        self.shown_families() == Families::Both
    }

    /// Whether a block contains an end.
    pub(super) fn is_in(&self, block: &Block, addresses: &[IpAddr]) -> Membership {
        self.address(addresses, block.cidr.family()).is_in(block)
    }
}

impl KnownAddress {
    pub(super) fn is_in(self, block: &Block) -> Membership {
        match self {
            Self::At(address) => Membership::certain(block.contains(address)),
            Self::Absent => Membership::certain(false),
            Self::Invented(address) => match contains_unknown(block) {
                Some(holds) if Family::of(address) == block.cidr.family() => {
                    Membership::certain(holds)
                }
                Some(_) => Membership::certain(false),
                None => Membership {
                    holds: block.contains(address),
                    depends: Family::of(address) == block.cidr.family(),
                },
            },
            Self::Somewhere(family) if family != block.cidr.family() => Membership::certain(false),
            Self::Somewhere(_) => match contains_unknown(block) {
                Some(holds) => Membership::certain(holds),
                None => Membership {
                    holds: false,
                    depends: true,
                },
            },
        }
    }

    /// The address, where there is one to show.
    pub(super) fn shown(self) -> Option<IpAddr> {
        match self {
            Self::At(address) | Self::Invented(address) => Some(address),
            Self::Somewhere(_) | Self::Absent => None,
        }
    }
}

impl Membership {
    fn certain(holds: bool) -> Self {
        Self {
            holds,
            depends: false,
        }
    }
}

/// The families that an inventory shows: by addresses of nodes, pods and Services, and by the
/// `ipFamilies` of Services.
fn shown_families(inventory: &Inventory) -> Families {
    let of_nodes = inventory.nodes.iter().flat_map(|node| &node.addresses);
    let of_pods = inventory.pods.iter().flat_map(|pod| &pod.addresses);
    let services = inventory.services.iter();
    let of_services = services.clone().flat_map(|service| &service.addresses);
    let stated = services.flat_map(|service| &service.families);
    Families::shown_by(of_nodes.chain(of_pods).chain(of_services), stated)
}

/// The private IPv4 ranges (RFC 1918): the first address and the prefix length of each.
const PRIVATE: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Whether a block contains some of the addresses that an unknown one may be.
pub(super) fn depends_on_address(block: &Block) -> bool {
    contains_unknown(block).is_none()
}

/// Whether a block contains every address that an unknown one may be; `None` where it contains
/// some.
fn contains_unknown(block: &Block) -> Option<bool> {
    if block.cidr.family() == Family::V6 {
        let is_whole = block.cidr.length() == 0 && block.except.is_empty();
        return is_whole.then_some(true);
    }
    let mut answers = PRIVATE.iter().map(|(first, length)| {
        let last = Ipv4Addr::from_bits(first.to_bits() | (u32::MAX >> length));
        contains_range(block, ((*first).into(), last.into()))
    });
    let first = answers.next()??;
    answers.all(|answer| answer == Some(first)).then_some(first)
}

/// Whether a block contains a range of addresses; `None` where it contains some of them.
fn contains_range(block: &Block, (first, last): (IpAddr, IpAddr)) -> Option<bool> {
    let covers = |cidr: &Cidr| cidr.contains(first) && cidr.contains(last);
    let touches = |cidr: &Cidr| cidr.first() <= last && first <= cidr.last();

    if !touches(&block.cidr) || block.except.iter().any(covers) {
        Some(false)
    } else if covers(&block.cidr) && !block.except.iter().any(touches) {
        Some(true)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> Block {
        let parse = |text: &&str| Cidr::parse(text).expect("a block");
        Block {
            cidr: parse(&cidr),
            except: except.iter().map(parse).collect(),
        }
    }

    #[test]
    fn unknown_addresses_are_private_ones() {
        for (cidr, except, expected) in [
            ("0.0.0.0/0", &[][..], Some(true)),
            (
                "0.0.0.0/0",
                &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
                Some(false),
            ),
            ("0.0.0.0/0", &["169.254.169.254/32"], Some(true)),
            ("0.0.0.0/0", &["10.0.0.0/8"], None),
            ("10.0.0.0/8", &[], None),
            ("203.0.113.0/24", &[], Some(false)),
            ("::/0", &[], Some(true)),
            ("2001:db8::/32", &[], None),
            ("::/0", &["fc00::/7"], None),
        ] {
            let block = block(cidr, except);
            assert_eq!(contains_unknown(&block), expected, "{block}");
        }
    }

    #[test]
    fn membership_of_an_invented_address_depends_where_an_unknown_one_would() {
        let invented = KnownAddress::Invented([10, 244, 16, 1].into());
        let in_ten = invented.is_in(&block("10.0.0.0/8", &[]));
        assert!(in_ten.holds && in_ten.depends);
        let in_all = invented.is_in(&block("0.0.0.0/0", &[]));
        assert!(in_all.holds && !in_all.depends);
        let in_other_family = invented.is_in(&block("fd00::/8", &[]));
        assert!(!in_other_family.holds && !in_other_family.depends);
    }

    #[test]
    fn end_with_an_address_of_one_family_has_none_of_the_other() {
        let inventory = Inventory::default();
        let book = AddressBook::of(&inventory);
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(book.address(&[v6], Family::V4), KnownAddress::Absent);
        assert_eq!(book.families(&[v6]), [Family::V6]);
        assert_eq!(
            book.families(&[]),
            [Family::V4],
            "no address shows a family"
        );
    }
}
