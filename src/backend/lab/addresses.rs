//! Who has which address: fixed ranges, counted up, nothing twice.

use super::world::PlaceError;
use crate::model::Family;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most nodes: their pod ranges end at 10.255.255.255.
pub(super) const MAX_NODES: usize = 190;

/// What every pod's default route points to. Every node answers for it, as Calico has it, so that a
/// pod's address needs no subnet.
pub(super) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The hardware address of the near end of every link, and the link-local address that follows from
/// it.
pub(super) const GATEWAY_MAC: [u8; 6] = [0xee; 6];
/// The hardware address of the far end of every link.
pub(super) const FAR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// See [`GATEWAY_MAC`] (RFC 4291 appendix A).
pub(super) const GATEWAY_V6: Ipv6Addr =
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Where watertight itself is, as an outside host: in TEST-NET-1 (RFC 5737).
pub(super) const RUNNER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2)),
];
/// What the default routes of nodes and of the runner point to.
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
/// The Service of cluster DNS, where kubeadm puts it too.
pub(super) const CLUSTER_DNS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa)),
];

/// The addresses of node number `n`, counted from 0: 172.30.0.11 and `fd00:30::11` for the first.
pub(super) fn node(n: usize) -> [IpAddr; 2] {
    let last = 11 + n;
    // Written so that both families show the same digits: fd00:30::11 is hexadecimal 0x11.
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

fn base_v4(n: usize) -> u32 {
    u32::from(Ipv4Addr::new(10, 244, 0, 0)) + ((n as u32 + 1) << 12)
}

fn base_v6(n: usize) -> u128 {
    u128::from(Ipv6Addr::new(0xfd00, 0x10, 0x244, n as u16 + 1, 0, 0, 0, 0))
}

/// The addresses of the reference pod on node number `n`: the last host addresses of the node's pod
/// ranges, which no pod is given.
pub(super) fn reference_pod(n: usize) -> [IpAddr; 2] {
    let v4 = base_v4(n) + REFERENCE_POD_HOST;
    [
        IpAddr::V4(Ipv4Addr::from(v4)),
        IpAddr::V6(Ipv6Addr::from(base_v6(n) + u128::from(REFERENCE_POD_HOST))),
    ]
}

/// The reference pod's host number; one more would be a /20's broadcast address.
const REFERENCE_POD_HOST: u32 = (1 << 12) - 2;

/// Gives out addresses; what was claimed is never given out.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    taken: BTreeSet<IpAddr>,
    /// Next number within each node's ranges, within the Service ranges, within the outside ranges.
    pods: Vec<u32>,
    services: u32,
    hosts: u32,
}

impl Addresses {
    /// The lab's own addresses are taken from the start.
    pub(super) fn new(nodes: usize) -> Self {
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
            taken,
            pods: vec![0; nodes],
            services: 0,
            hosts: 0,
        }
    }

    /// Takes a given address; `false` if it is taken already.
    pub(super) fn claim(&mut self, address: IpAddr) -> bool {
        self.taken.insert(address)
    }

    /// A pod's addresses on node number `n`, one of each family.
    pub(super) fn pod(&mut self, n: usize) -> Result<[IpAddr; 2], PlaceError> {
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
                return Ok([v4, v6]);
            }
        }
    }

    /// A Service's cluster address in one family.
    pub(super) fn service(&mut self, family: Family) -> Result<IpAddr, PlaceError> {
        loop {
            self.services += 1;
            // The first 255 stay free for addresses that manifests write down, as Kubernetes keeps
            // its lower band for them (KEP-3070).
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

    /// An outside host's addresses, one of each family, in TEST-NET-3 and `2001:db8:113::/64`.
    pub(super) fn host(&mut self) -> Result<[IpAddr; 2], PlaceError> {
        loop {
            self.hosts += 1;
            let Ok(last) = u8::try_from(self.hosts) else {
                return Err(PlaceError::TooManyHosts);
            };
            let v4 = IpAddr::V4(Ipv4Addr::new(203, 0, 113, last));
            let v6 = IpAddr::V6(Ipv6Addr::new(
                0x2001,
                0xdb8,
                0x113,
                0,
                0,
                0,
                0,
                u16::from(last),
            ));
            if !self.taken.contains(&v4) && !self.taken.contains(&v6) {
                self.taken.extend([v4, v6]);
                return Ok([v4, v6]);
            }
        }
    }
}

/// Whether an address is in a range of the cluster's: its pods', Services' or nodes'.
pub(super) fn in_cluster(address: IpAddr) -> bool {
    let within = |base: Ipv4Addr, prefix: u32, v4: Ipv4Addr| {
        (u32::from(v4) ^ u32::from(base)) >> (32 - prefix) == 0
    };
    match address {
        IpAddr::V4(v4) => {
            within(Ipv4Addr::new(10, 96, 0, 0), 16, v4)
                || within(Ipv4Addr::new(172, 30, 0, 0), 24, v4)
                || within(Ipv4Addr::new(10, 240, 0, 0), 12, v4) && v4.octets()[1] >= 244
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            segments[0] == 0xfd00 && (segments[1] == 0x10 || segments[1] == 0x30)
        }
    }
}

/// Whether an outside host can have an address: what routers carry, and what the lab does not use
/// itself.
pub fn usable_outside(address: IpAddr) -> bool {
    if RUNNER
        .into_iter()
        .chain(ROUTER)
        .chain(OUTSIDE_DNS)
        .any(|own| own == address)
        || address == IpAddr::V4(GATEWAY_V4)
        || in_cluster(address)
    {
        return false;
    }
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            !(v6.to_ipv4_mapped().is_some()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.is_unicast_link_local())
        }
    }
}
