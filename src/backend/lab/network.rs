//! The network of a world: every namespace is attached to another by one veth, with host routes
//! only.
//!
//! ```text
//!   runner ─┐
//!           ├─ router (outside hosts' addresses) ─┬─ node-1 ─┬─ pod
//!                                                 │          └─ pod
//!                                                 └─ node-2 ─── pod
//! ```
//!
//! Every pod's default route goes to one address, [`GATEWAY_V4`] or
//! [`GATEWAY_V6`](addresses::GATEWAY_V6), which the near end of each link answers for. So a pod may
//! have any address, also one that a manifest states, and nothing needs a bridge.

use super::addresses::{self, GATEWAY_V4, ROUTER_V4};
use super::error::Error;
use super::link::{Link, answer_as_gateway, attach, connect, failed, loopback, take_second_index};
use super::netlink::{self, BaseChain, Hook, Load, Route, Rtnetlink, Rule};
use super::netns::{Netns, on_own_thread};
use super::table_builder::TableBuilder;
use super::world::World;
use crate::inventory::{self, Pod};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Sysctls of every namespace, before it has a link. Most are inherited from the machine otherwise.
const COMMON: [(&str, &str); 5] = [
    // Duplicate address detection would keep an address unusable for a second.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // A deny by ICMP, or a closed UDP port, must look the same each time: Linux sends a limited
    // number of ICMP errors a second otherwise.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Those of a namespace that forwards.
const ROUTING: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // Host routes have no subnet that a source could be checked against.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // The gateway's address is on the loopback link and must be answered for on every other.
    ("ipv4/conf/all/arp_ignore", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
];

/// How long connections of each kind are tracked, seconds: longer than any attempt waits.
const TRACKED_S: [(&str, &str); 5] = [
    ("tcp_timeout_syn_sent", "10"),
    ("tcp_timeout_syn_recv", "10"),
    ("tcp_timeout_fin_wait", "10"),
    ("tcp_timeout_last_ack", "10"),
    ("tcp_timeout_time_wait", "5"),
];

const ROUTER: &str = "the router";
const RUNNER: &str = "the runner";

/// The namespaces of a world that is wired.
#[derive(Debug)]
pub(super) struct Wired {
    /// The router, with the outside hosts' addresses.
    pub(super) router: Netns,
    /// Where watertight itself is.
    pub(super) runner: Netns,
    /// By number.
    pub(super) nodes: Vec<Netns>,
    /// In the order of the inventory's pods.
    pub(super) pods: Vec<Netns>,
    /// By the number of their node: wired like a pod, stopped by no policy.
    pub(super) reference_pods: Vec<Netns>,
}

/// A node that pods are attached to.
struct Node<'a> {
    netns: Netns,
    rtnetlink: Rtnetlink,
    addresses: &'a [IpAddr],
}

/// Makes and wires everything.
///
/// # Errors
/// The obstacle, or the step that failed; what was made until then is gone with it.
pub(super) fn wire(world: &World) -> Result<Wired, Error> {
    on_own_thread(|| build(world))
}

/// Wires one more namespace to a node: a pod that takes another's location. `number` is the pod's,
/// `owner` its name.
///
/// # Errors
/// As for [`wire`].
pub(super) fn wire_pod(
    node: &Netns,
    node_addresses: &[IpAddr],
    number: usize,
    owner: &str,
    addresses: &[IpAddr],
) -> Result<Netns, Error> {
    node.run(|| {
        let mut near = connect()?;
        pod(&mut near, node_addresses, number, owner, addresses)
    })
}

/// Removes a pod's link, and its routes with it.
///
/// # Errors
/// What the kernel refused.
pub(super) fn unwire_pod(node: &Netns, number: usize, owner: &str) -> Result<(), Error> {
    node.run(|| {
        connect()?
            .delete_link(&pod_link(number))
            .map_err(failed(owner, "remove the link"))
    })
}

fn build(world: &World) -> Result<Wired, Error> {
    let inventory = &world.inventory;
    let (router, mut router_near) = make_router(world)?;

    let node_addresses: Vec<Vec<IpAddr>> = inventory
        .nodes
        .iter()
        .enumerate()
        .map(|(n, node)| routed_addresses(n, node))
        .collect();
    let mut nodes = Vec::with_capacity(inventory.nodes.len());
    for (n, (node, addresses)) in inventory.nodes.iter().zip(&node_addresses).enumerate() {
        nodes.push(make_node(&mut router_near, n, &node.name, addresses)?);
    }
    let runner = make_runner(&mut router_near)?;

    let mut pods = Vec::with_capacity(inventory.pods.len());
    for (number, pod) in inventory.pods.iter().enumerate() {
        let n = world
            .node_index(&pod.node)
            .ok_or_else(|| Error::Unknown(format!("node {}", pod.node)))?;
        pods.push(make_pod(&mut router_near, &mut nodes[n], n, number, pod)?);
    }

    let mut reference_pods = Vec::with_capacity(nodes.len());
    for (n, node) in nodes.iter_mut().enumerate() {
        let owner = format!("the reference pod on {}", inventory.nodes[n].name);
        let number = inventory.pods.len() + n;
        let addresses = addresses::reference_pod(n);
        reference_pods.push(pod(
            &mut node.rtnetlink,
            node.addresses,
            number,
            &owner,
            &addresses,
        )?);
    }

    Ok(Wired {
        router,
        runner,
        nodes: nodes.into_iter().map(|node| node.netns).collect(),
        pods,
        reference_pods,
    })
}

/// The addresses by which a node's pods are routed: both families, also where the cluster has one.
pub(super) fn routed_addresses(n: usize, node: &inventory::Node) -> Vec<IpAddr> {
    let mut addresses = node.addresses.clone();
    let missing = addresses::node(n).into_iter().filter(|address| {
        let mut known = node.addresses.iter();
        known.all(|known| known.is_ipv4() != address.is_ipv4())
    });
    addresses.extend(missing);
    addresses
}

/// Makes the router's namespace, with the addresses of outside hosts and of their DNS.
fn make_router(world: &World) -> Result<(Netns, Rtnetlink), Error> {
    let netns = Netns::make(ROUTER, &[&COMMON[..], &ROUTING[..]].concat())?;
    let mut rtnetlink = connect()?;

    let mut addresses: Vec<IpAddr> = addresses::ROUTER.to_vec();
    addresses.extend(addresses::OUTSIDE_DNS);
    addresses.extend(world.hosts.iter().flat_map(|host| &host.addresses));
    loopback(&mut rtnetlink, ROUTER, &addresses)?;

    take_second_index(&mut rtnetlink, ROUTER)?;
    Ok((netns, rtnetlink))
}

/// Makes the namespace of node number `n` and attaches it to the router.
fn make_node<'a>(
    router: &mut Rtnetlink,
    n: usize,
    name: &str,
    addresses: &'a [IpAddr],
) -> Result<Node<'a>, Error> {
    let netns = Netns::make(name, &[&COMMON[..], &ROUTING[..]].concat())?;
    let mut rtnetlink = connect()?;
    loopback(&mut rtnetlink, name, &[])?;
    answer_as_gateway(&mut rtnetlink, name)?;

    let link = Link {
        name: node_link(n),
        owner: name,
        addresses,
        near_addresses: &addresses::ROUTER,
        gateway: ROUTER_V4,
    };
    let index = attach(router, &netns, &mut rtnetlink, &link)?;
    route_pod_ranges(router, &mut rtnetlink, name, (n, addresses), index)?;

    Ok(Node {
        netns,
        rtnetlink,
        addresses,
    })
}

fn make_runner(router: &mut Rtnetlink) -> Result<Netns, Error> {
    let netns = Netns::make(RUNNER, &COMMON)?;
    let mut rtnetlink = connect()?;
    loopback(&mut rtnetlink, RUNNER, &[])?;

    let link = Link {
        name: "runner".to_owned(),
        owner: RUNNER,
        addresses: &addresses::RUNNER,
        near_addresses: &addresses::ROUTER,
        gateway: ROUTER_V4,
    };
    attach(router, &netns, &mut rtnetlink, &link)?;
    Ok(netns)
}

/// Makes the namespace of a pod on node number `n`, or gives the node's where the pod uses it.
fn make_pod(
    router: &mut Rtnetlink,
    node: &mut Node<'_>,
    n: usize,
    number: usize,
    declared: &Pod,
) -> Result<Netns, Error> {
    if declared.host_network {
        return Ok(node.netns.clone());
    }
    let name = declared.full_name();
    let netns = pod(
        &mut node.rtnetlink,
        node.addresses,
        number,
        &name,
        &declared.addresses,
    )?;

    let outside = declared
        .addresses
        .iter()
        .filter(|address| !in_pod_range(**address, n));
    for address in outside {
        route_to_node(router, &name, *address, node.addresses)?;
    }
    Ok(netns)
}

/// Makes a pod's namespace, which becomes the calling thread's, and attaches it to its node.
fn pod(
    node: &mut Rtnetlink,
    node_addresses: &[IpAddr],
    number: usize,
    owner: &str,
    addresses: &[IpAddr],
) -> Result<Netns, Error> {
    let netns = Netns::make(owner, &COMMON)?;
    let mut far = connect()?;
    loopback(&mut far, owner, &[])?;

    let link = Link {
        name: pod_link(number),
        owner,
        addresses,
        near_addresses: node_addresses,
        gateway: GATEWAY_V4,
    };
    attach(node, &netns, &mut far, &link)?;
    Ok(netns)
}

/// The name of a node's link on the router.
fn node_link(n: usize) -> String {
    format!("node{n}")
}

/// The name of a pod's link on its node.
fn pod_link(number: usize) -> String {
    format!("pod{number}")
}

/// Routes the pod ranges of a node, by its number and addresses, to it; on the node itself,
/// addresses of them that no pod has lead nowhere instead of back and forth.
fn route_pod_ranges(
    router: &mut Rtnetlink,
    node: &mut Rtnetlink,
    owner: &str,
    (n, node_addresses): (usize, &[IpAddr]),
    link: u32,
) -> Result<(), Error> {
    let ((v4, v4_prefix), (v6, v6_prefix)) = addresses::pod_ranges(n);
    for node_address in node_addresses.iter().copied() {
        let (range, prefix) = match node_address {
            IpAddr::V4(_) => (v4.into(), v4_prefix),
            IpAddr::V6(_) => (v6.into(), v6_prefix),
        };
        router
            .add_route(&Route::via(range, prefix, node_address).on_link(link))
            .map_err(failed(owner, "pod range"))?;
        node.add_route(&Route::blackhole(range, prefix))
            .map_err(failed(owner, "pod range"))?;
    }
    Ok(())
}

/// Routes one address that is outside its node's ranges, as a manifest may state it.
fn route_to_node(
    router: &mut Rtnetlink,
    owner: &str,
    address: IpAddr,
    node_addresses: &[IpAddr],
) -> Result<(), Error> {
    let gateway = node_addresses
        .iter()
        .find(|node| node.is_ipv4() == address.is_ipv4());
    let Some(gateway) = gateway else {
        return Ok(());
    };
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    router
        .add_route(&Route::via(address, prefix, *gateway))
        .map_err(failed(owner, "route"))
}

fn in_pod_range(address: IpAddr, n: usize) -> bool {
    let ((v4, v4_prefix), (v6, v6_prefix)) = addresses::pod_ranges(n);
    match address {
        IpAddr::V4(a) => (u32::from(a) ^ u32::from(v4)) >> (32 - u32::from(v4_prefix)) == 0,
        IpAddr::V6(a) => (u128::from(a) ^ u128::from(v6)) >> (128 - u32::from(v6_prefix)) == 0,
    }
}

/// Makes a namespace drop whatever it would send to a range of addresses.
///
/// # Errors
/// What the kernel refused.
pub(super) fn lose_route(netns: &Netns, owner: &str, to: IpAddr, prefix: u8) -> Result<(), Error> {
    netns.run(|| {
        connect()?
            .add_route(&Route::blackhole(to, prefix))
            .map_err(failed(owner, "lose a route"))
    })
}

/// Makes a node forward nothing.
///
/// # Errors
/// A setting that the kernel refused.
pub(super) fn stop_forwarding(node: &Netns) -> Result<(), Error> {
    node.run(|| {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{key}");
            std::fs::write(&path, "0").map_err(|source| Error::Sysctl { path, source })?;
        }
        Ok(())
    })
}

/// Shortens how long nodes track connections that failed or ended: with the kernel's two minutes
/// for each, a run of many denied flows would fill the table of connections, and packets of allowed
/// ones would be lost.
///
/// # Errors
/// What cannot be set. Where the kernel tracks no connections there is nothing to set.
pub(super) fn track_briefly(nodes: &[Netns]) -> Result<(), Error> {
    nodes
        .iter()
        .try_for_each(|node| node.run(set_tracking_timeouts))
}

fn set_tracking_timeouts() -> Result<(), Error> {
    for (key, seconds) in TRACKED_S {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{key}");
        match std::fs::write(&path, seconds) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Sysctl { path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes the calling thread's namespace forget all connections.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn forget_connections() -> Result<(), Error> {
    netlink::forget_connections().map_err(failed("a node", "connections"))
}

/// Pairs of nodes, by number, the lower one first.
pub(super) type Cuts = BTreeSet<(usize, usize)>;

/// The router's table that stops what passes between two nodes.
pub(super) fn cut_table(name: String, cuts: &Cuts) -> TableBuilder {
    let mut table = TableBuilder::new(name);
    table.base_chain("between-nodes", BaseChain::filter(Hook::Forward, 0));
    for (a, b) in cuts {
        for (from, to) in [(a, b), (b, a)] {
            let rule = Rule::new()
                .equal(Load::InputName, &link_name(&node_link(*from)))
                .equal(Load::OutputName, &link_name(&node_link(*to)))
                .drop();
            table.rule("between-nodes", &rule);
        }
    }
    table
}

/// A link's name as rules load it: 16 bytes (`IFNAMSIZ`), padded with zeros.
fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
