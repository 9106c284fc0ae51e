//! Address allocation: fixed ranges, counted up, no address given out twice.

use super::world::PlaceError;
use crate::inventory::Cidr;
use crate::model::{Families, Family, RefusedAddress};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest number of nodes: the pod range of the last one ends at 10.255.255.255.
pub(super) const MAX_NODES: usize = 190;

/// The gateway of every pod's default route. Every node answers for it, as with Calico, so that a
/// pod's address needs no subnet.
pub(super) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The MAC address of the node's end of every link; [`GATEWAY_V6`] is derived from it.
pub(super) const GATEWAY_MAC: [u8; 6] = [0xee; 6];
/// The MAC address of the pod's end of every link.
pub(super) const FAR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// The link-local address of [`GATEWAY_MAC`] (RFC 4291 appendix A).
pub(super) const GATEWAY_V6: Ipv6Addr =
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// The addresses of the runner, an outside host: in TEST-NET-1 (RFC 5737).
pub(super) const RUNNER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2)),
];
/// The gateway of the default routes of nodes and of the runner.
pub(super) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router between the nodes, the runner and the outside.
pub(super) const ROUTER: [IpAddr; 2] = [
    IpAddr::V4(ROUTER_V4),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
];
/// The name server of nodes and of the runner, outside the cluster.
pub(super) const OUTSIDE_DNS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x53)),
];
/// The cluster addresses of the DNS Service, the same as kubeadm's.
pub(super) const CLUSTER_DNS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa)),
];

/// The addresses of node number `n`, counted from 0: 172.30.0.11 and `fd00:30::11` for the first.
pub(super) fn node(n: usize) -> [IpAddr; 2] {
    let last = 11 + n;
    // Both families show the same digits: the last group of fd00:30::11 is hexadecimal 0x11.
    let digits = u16::from_str_radix(&last.to_string(), 16).unwrap_or(u16::MAX);
    [
        IpAddr::V4(Ipv4Addr::new(172, 30, 0, last as u8)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, digits)),
    ]
}

/// The pod ranges of node number `n`, counted from 0, with their prefix lengths: 10.244.16.0/20 and
/// `fd00:10:244:1::/64` for the first.
pub(super) fn pod_ranges(n: usize) -> ((Ipv4Addr, u8), (Ipv6Addr, u8)) {
    let (v4, v6) = (base_v4(n), base_v6(n));
    ((Ipv4Addr::from(v4), 20), (Ipv6Addr::from(v6), 64))
}

/// The first IPv4 address of a node's pod range.
fn base_v4(n: usize) -> u32 {
    u32::from(Ipv4Addr::new(10, 244, 0, 0)) + ((n as u32 + 1) << 12)
}

/// The first IPv6 address of a node's pod range.
fn base_v6(n: usize) -> u128 {
    u128::from(Ipv6Addr::new(0xfd00, 0x10, 0x244, n as u16 + 1, 0, 0, 0, 0))
}

/// The addresses of the reference pod on node number `n`: the last host addresses of the node's pod
/// ranges, which no pod gets.
pub(super) fn reference_pod(n: usize) -> [IpAddr; 2] {
    let v4 = base_v4(n) + REFERENCE_POD_HOST;
    [
        IpAddr::V4(Ipv4Addr::from(v4)),
        IpAddr::V6(Ipv6Addr::from(base_v6(n) + u128::from(REFERENCE_POD_HOST))),
    ]
}

/// The reference pod's host number; one more would be a /20's broadcast address.
const REFERENCE_POD_HOST: u32 = (1 << 12) - 2;

/// Allocates addresses; a claimed address is never allocated.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The families in which addresses are allocated.
    pub(super) families: Families,
    taken: BTreeSet<IpAddr>,
    /// The last number allocated in each node's pod ranges.
    pods: Vec<u32>,
    /// The last number allocated in the Service ranges.
    services: u32,
    /// The address blocks that policies name, without those that contain every address of a
    /// family: no invented address is in one.
    named_blocks: Vec<Cidr>,
}

impl Addresses {
    /// An allocator for a number of nodes. The fixed addresses of the lab are taken from the start.
    pub(super) fn new(nodes: usize, families: Families) -> Self {
        let mut taken = BTreeSet::from([IpAddr::V4(GATEWAY_V4)]);
        taken.extend(
            RUNNER
                .into_iter()
                .chain(ROUTER)
                .chain(OUTSIDE_DNS)
                .chain(CLUSTER_DNS),
        );
        taken.extend((0..nodes).flat_map(node));
        Self {
            families,
            taken,
            pods: vec![0; nodes],
            services: 0,
            named_blocks: Vec::new(),
        }
    }

    /// Keeps invented addresses out of the blocks that policies name. A block that contains every
    /// address of a family tells no addresses apart.
    pub(super) fn avoid(&mut self, blocks: impl IntoIterator<Item = Cidr>) {
        self.named_blocks
            .extend(blocks.into_iter().filter(|block| block.length() > 0));
    }

    /// Reserves an address; `false` if it is taken already.
    pub(super) fn claim(&mut self, address: IpAddr) -> bool {
        self.taken.insert(address)
    }

    /// Allocates a pod's addresses on node number `n`, one of each family.
    pub(super) fn pod(&mut self, n: usize) -> Result<Vec<IpAddr>, PlaceError> {
        loop {
            self.pods[n] += 1;
            let host = self.pods[n];
            if host >= REFERENCE_POD_HOST {
                return Err(PlaceError::TooManyPods);
            }

            let v4 = IpAddr::V4(Ipv4Addr::from(base_v4(n) + host));
            let v6 = IpAddr::V6(Ipv6Addr::from(base_v6(n) + u128::from(host)));
            if !self.taken.contains(&v4) && !self.taken.contains(&v6) {
                self.taken.extend([v4, v6]);
                return Ok(self.families.keep([v4, v6]));
            }
        }
    }

    /// Allocates a Service's cluster address in one family.
    pub(super) fn service(&mut self, family: Family) -> Result<IpAddr, PlaceError> {
        loop {
            self.services += 1;
            // The first 255 stay free for addresses that manifests state, like the lower band of
            // Kubernetes (KEP-3070).
            let number = 0xff + self.services;
            if number >= 0xffff {
                return Err(PlaceError::TooManyServices);
            }
            let address = match family {
                Family::V4 => IpAddr::V4(Ipv4Addr::from(
                    u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number,
                )),
                Family::V6 => {
                    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number as u16))
                }
            };
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
    }

    /// Invents an outside host's addresses, one of each family of the cluster, in the ranges that
    /// are set aside for documentation; fewer where policies name all of a family's.
    pub(super) fn host(&mut self) -> Vec<IpAddr> {
        let v4 = [[203, 0, 113], [198, 51, 100]]
            .into_iter()
            .flat_map(|[a, b, c]| (1..=254).map(move |d| Ipv4Addr::new(a, b, c, d)));
        let v6 = [0x113, 0x5].into_iter().flat_map(|net| {
            (1..=508).map(move |n| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, n))
        });

        let v4 = self.claim_first(v4.map(IpAddr::V4));
        let v6 = self.claim_first(v6.map(IpAddr::V6));
        self.families.keep(v4.into_iter().chain(v6))
    }

    /// Claims the first address that is free and in no block that policies name.
    fn claim_first(&mut self, mut candidates: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        let address = candidates.find(|address| {
            !self.taken.contains(address)
                && !self
                    .named_blocks
                    .iter()
                    .any(|block| block.contains(*address))
        })?;
        self.taken.insert(address);
        Some(address)
    }
}

/// Whether an address is in a pod, Service or node range of the cluster.
pub(super) fn in_cluster(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            is_within(v4, Ipv4Addr::new(10, 96, 0, 0), 16)
                || is_within(v4, Ipv4Addr::new(172, 30, 0, 0), 24)
                || is_within(v4, Ipv4Addr::new(10, 240, 0, 0), 12) && v4.octets()[1] >= 244
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            segments[0] == 0xfd00 && (segments[1] == 0x10 || segments[1] == 0x30)
        }
    }
}

/// Whether an address is in the block of a base address and a prefix length of 1 to 32.
fn is_within(address: Ipv4Addr, base: Ipv4Addr, prefix: u32) -> bool {
    (u32::from(address) ^ u32::from(base)) >> (32 - prefix) == 0
}

/// Whether an outside host can have an address: it is routable, and not one of the lab or of the
/// cluster.
pub fn usable_outside(address: IpAddr) -> bool {
    let is_reserved = RUNNER.contains(&address)
        || ROUTER.contains(&address)
        || OUTSIDE_DNS.contains(&address)
        || address == IpAddr::V4(GATEWAY_V4);
    if is_reserved || in_cluster(address) {
        return false;
    }

    RefusedAddress::of(address).is_none()
}
