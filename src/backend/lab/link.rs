//! One veth with the addresses, routes and neighbours that it needs, and the loopback link.

use super::addresses::{FAR_MAC, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6};
use super::error::Error;
use super::netlink::{self, Peer, Route, Rtnetlink, Scope};
use super::netns::{Netns, refused};
use super::obstacle::Operation;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

/// The loopback link is the first of every namespace (`LOOPBACK_IFINDEX`,
/// `include/net/net_namespace.h`).
const LOOPBACK: u32 = 1;

/// The far end's name of every link.
const FAR_END: &str = "eth0";

/// A veth from a namespace that routes to one that is attached to it.
pub(super) struct Link<'a> {
    /// The near end's name.
    pub(super) name: String,
    /// The name of the node or pod at the far end, for messages.
    pub(super) owner: &'a str,
    /// The far end's addresses.
    pub(super) addresses: &'a [IpAddr],
    /// The addresses that the near side itself sends from.
    pub(super) near_addresses: &'a [IpAddr],
    /// The far end's default gateway.
    pub(super) gateway: Ipv4Addr,
}

/// Opens a socket in the calling thread's namespace; it stays there.
///
/// # Errors
/// The obstacle, or what the kernel refused.
pub(super) fn connect() -> Result<Rtnetlink, Error> {
    Rtnetlink::open().map_err(|source| match source.errno() {
        Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => refused(Operation::Open, errno),
        _ => failed("the lab", "netlink socket")(source),
    })
}

/// The error of a step in wiring a node or pod.
pub(super) fn failed(owner: &str, what: &'static str) -> impl Fn(netlink::Error) -> Error {
    move |source| Error::Wire {
        owner: owner.to_owned(),
        what,
        source,
    }
}

/// Adds a link with both ends configured; gives the near end's index.
///
/// # Errors
/// The obstacle, or the step that failed.
pub(super) fn attach(
    near: &mut Rtnetlink,
    netns: &Netns,
    far: &mut Rtnetlink,
    link: &Link<'_>,
) -> Result<u32, Error> {
    let (near_index, far_index) = add_veth(near, netns, far, link)?;
    far.set_up(far_index)
        .map_err(failed(link.owner, "link up"))?;
    near.set_up(near_index)
        .map_err(failed(link.owner, "link up"))?;

    for address in link.addresses {
        configure_far_end(far, far_index, *address, link)?;
        configure_near_end(near, near_index, *address, link)?;
    }
    Ok(near_index)
}

/// Gives the indexes of both ends.
fn add_veth(
    near: &mut Rtnetlink,
    netns: &Netns,
    far: &mut Rtnetlink,
    link: &Link<'_>,
) -> Result<(u32, u32), Error> {
    let peer = Peer {
        name: FAR_END,
        mac: FAR_MAC,
        netns: netns.as_fd(),
    };
    near.add_veth(&link.name, GATEWAY_MAC, &peer)
        .map_err(|source| match source.errno() {
            Some(errno @ (Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENODEV)) => {
                refused(Operation::Veth, errno)
            }
            _ => failed(link.owner, "link")(source),
        })?;

    let near_index = near.link_index(&link.name);
    let far_index = far.link_index(FAR_END);
    Ok((
        near_index.map_err(failed(link.owner, "find the link"))?,
        far_index.map_err(failed(link.owner, "find the link"))?,
    ))
}

/// Gives the far end an address, and its namespace a default route.
fn configure_far_end(
    far: &mut Rtnetlink,
    index: u32,
    address: IpAddr,
    link: &Link<'_>,
) -> Result<(), Error> {
    far.add_address(index, address, Scope::Global)
        .map_err(failed(link.owner, "address"))?;

    let (anywhere, gateway) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), link.gateway.into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), GATEWAY_V6.into()),
    };
    far.add_route(&Route::via(anywhere, 0, gateway).on_link(index))
        .map_err(failed(link.owner, "default route"))?;
    far.set_neighbour(index, gateway, GATEWAY_MAC)
        .map_err(failed(link.owner, "gateway"))
}

/// Routes an address of the far end to it.
///
/// Neighbours are set for good. Those that the kernel asks for share one table of 1,024 with every
/// other namespace of the machine (`gc_thresh3`, `net/core/neighbour.c`), and a world of some
/// hundred pods would lose packets to it; permanent ones do not count.
fn configure_near_end(
    near: &mut Rtnetlink,
    index: u32,
    address: IpAddr,
    link: &Link<'_>,
) -> Result<(), Error> {
    let source = link
        .near_addresses
        .iter()
        .copied()
        .find(|source| source.is_ipv4() == address.is_ipv4());
    near.add_route(&Route::direct(address, index, source))
        .map_err(failed(link.owner, "route"))?;
    near.set_neighbour(index, address, FAR_MAC)
        .map_err(failed(link.owner, "neighbour"))
}

/// Brings the loopback link up, with further addresses.
///
/// # Errors
/// The step that failed.
pub(super) fn loopback(
    rtnetlink: &mut Rtnetlink,
    owner: &str,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    rtnetlink
        .set_up(LOOPBACK)
        .map_err(failed(owner, "loopback up"))?;
    for address in addresses {
        rtnetlink
            .add_address(LOOPBACK, *address, Scope::Global)
            .map_err(failed(owner, "address"))?;
    }
    Ok(())
}

/// Lets a node answer for its pods' gateway on every link.
///
/// # Errors
/// What the kernel refused.
pub(super) fn answer_as_gateway(node: &mut Rtnetlink, owner: &str) -> Result<(), Error> {
    // In link scope, so that nothing is ever sent from it.
    node.add_address(LOOPBACK, GATEWAY_V4.into(), Scope::Link)
        .map_err(failed(owner, "gateway"))
}

/// Uses up the index that the first link of a namespace gets after the loopback's.
///
/// The kernel makes a new link usable at once when its index differs from its peer's, and with up
/// to a second of delay otherwise (`linkwatch_urgent_event`, `net/core/link_watch.c`). Far ends are
/// second in their namespace, so no near end may be.
///
/// # Errors
/// What the kernel refused.
pub(super) fn take_second_index(rtnetlink: &mut Rtnetlink, owner: &str) -> Result<(), Error> {
    rtnetlink
        .add_local_veth(["unused", "unused-peer"])
        .map_err(failed(owner, "link"))
}
