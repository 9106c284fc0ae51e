//! Links, addresses and routes: every namespace hangs on another by one veth, with host routes
//! only.
//!
//! ```text
//!   runner ─┐
//!           ├─ router (outside hosts' addresses) ─┬─ node-1 ─┬─ pod
//!                                                 │          └─ pod
//!                                                 └─ node-2 ─── pod
//! ```
//!
//! Every pod's default route goes to one address, [`GATEWAY_V4`] or [`GATEWAY_V6`], which the near
//! end of each link answers for. So a pod may have any address, also one that a manifest states,
//! and nothing needs a bridge.

use super::addresses::{self, FAR_MAC, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, ROUTER_V4};
use super::error::Error;
use super::netns::{Netns, on_own_thread, refused};
use super::obstacle::Operation;
use super::table_builder::Draft;
use super::world::World;
use nix::errno::Errno;
use nlink::netlink::link::VethLink;
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::nftables::types::{BaseChain, FilterHook, Priority};
use nlink::netlink::types::addr::Scope;
use nlink::netlink::types::route::{RouteScope, RouteType};
use nlink::netlink::{Connection, Route};
use nlink::{Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Sysctls of every namespace, before it has a link. Most are inherited from the machine otherwise.
const COMMON: [(&str, &str); 5] = [
    // Duplicate address detection would keep an address unusable for a second.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // A deny by ICMP, or a closed UDP port, must look the same each time (FACTS T3).
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

/// How long connections of each kind are remembered, seconds: longer than any attempt waits.
const TRACKED_S: [(&str, &str); 5] = [
    ("tcp_timeout_syn_sent", "10"),
    ("tcp_timeout_syn_recv", "10"),
    ("tcp_timeout_fin_wait", "10"),
    ("tcp_timeout_last_ack", "10"),
    ("tcp_timeout_time_wait", "5"),
];

/// The loopback link is the first of every namespace (`LOOPBACK_IFINDEX`,
/// `include/net/net_namespace.h`).
const LOOPBACK: u32 = 1;

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

/// Makes and wires everything.
///
/// # Errors
/// The obstacle, or the step that failed; what was made until then is gone with it.
pub(super) fn wire(world: &World) -> Result<Wired, Error> {
    on_own_thread(|| in_runtime(build(world)))
}

/// Wires one more namespace to a node: a pod that takes another's place.
///
/// # Errors
/// As for [`wire`].
pub(super) fn wire_pod(
    node: &Netns,
    node_addresses: &[IpAddr],
    number: usize,
    whose: &str,
    own: &[IpAddr],
) -> Result<Netns, Error> {
    node.run(|| {
        in_runtime(async {
            let near = connect()?;
            pod(&near, node_addresses, number, whose, own).await
        })
    })
}

async fn build(world: &World) -> Result<Wired, Error> {
    let inventory = &world.inventory;
    let router = Netns::make("the router", &[&COMMON[..], &ROUTING[..]].concat())?;
    let router_near = connect()?;
    let mut on_router: Vec<IpAddr> = addresses::ROUTER
        .into_iter()
        .chain(addresses::OUTSIDE_DNS)
        .collect();
    on_router.extend(world.hosts.iter().flat_map(|host| &host.addresses));
    loopback(&router_near, "the router", &on_router).await?;

    take_second_index(&router_near).await?;

    let mut nodes = Vec::with_capacity(inventory.nodes.len());
    for (n, node) in inventory.nodes.iter().enumerate() {
        let netns = Netns::make(&node.name, &[&COMMON[..], &ROUTING[..]].concat())?;
        let near = connect()?;
        loopback(&near, &node.name, &[]).await?;
        answer_as_gateway(&near, &node.name).await?;
        let link = Link {
            name: format!("node{n}"),
            whose: &node.name,
            own: &node.addresses,
            from: &addresses::ROUTER,
            gateway: ROUTER_V4,
        };
        let index = attach(&router_near, &netns, &near, &link).await?;
        ranges(&router_near, &near, &node.name, n, index).await?;
        nodes.push((netns, near));
    }
    let runner = Netns::make("the runner", &COMMON)?;
    let far = connect()?;
    loopback(&far, "the runner", &[]).await?;
    let link = Link {
        name: "runner".to_owned(),
        whose: "the runner",
        own: &addresses::RUNNER,
        from: &addresses::ROUTER,
        gateway: ROUTER_V4,
    };
    attach(&router_near, &runner, &far, &link).await?;

    let mut pods = Vec::with_capacity(inventory.pods.len());
    for (number, declared) in inventory.pods.iter().enumerate() {
        let n = world
            .node_index(&declared.node)
            .ok_or_else(|| Error::Unknown(format!("node {}", declared.node)))?;
        if declared.host_network {
            pods.push(nodes[n].0.clone());
            continue;
        }
        let name = declared.full_name();
        let netns = pod(
            &nodes[n].1,
            &inventory.nodes[n].addresses,
            number,
            &name,
            &declared.addresses,
        )
        .await?;
        for address in declared
            .addresses
            .iter()
            .filter(|address| !in_range(**address, n))
        {
            let via = inventory.nodes[n]
                .addresses
                .iter()
                .copied()
                .find(|node| node.is_ipv4() == address.is_ipv4());
            route_via(&router_near, &name, *address, via).await?;
        }
        pods.push(netns);
    }
    let mut reference_pods = Vec::with_capacity(nodes.len());
    for (n, (_, near)) in nodes.iter().enumerate() {
        let name = format!("the witness on {}", inventory.nodes[n].name);
        let number = inventory.pods.len() + n;
        reference_pods.push(
            pod(
                near,
                &inventory.nodes[n].addresses,
                number,
                &name,
                &addresses::reference_pod(n),
            )
            .await?,
        );
    }
    Ok(Wired {
        router,
        runner,
        nodes: nodes.into_iter().map(|(netns, _)| netns).collect(),
        pods,
        reference_pods,
    })
}

/// Makes a pod's namespace, which becomes the calling thread's, and hangs it on its node.
async fn pod(
    node: &Connection<Route>,
    node_addresses: &[IpAddr],
    number: usize,
    whose: &str,
    own: &[IpAddr],
) -> Result<Netns, Error> {
    let netns = Netns::make(whose, &COMMON)?;
    let far = connect()?;
    loopback(&far, whose, &[]).await?;
    let link = Link {
        name: format!("pod{number}"),
        whose,
        own,
        from: node_addresses,
        gateway: GATEWAY_V4,
    };
    attach(node, &netns, &far, &link).await?;
    Ok(netns)
}

/// A veth from a namespace that routes to one that hangs on it.
struct Link<'a> {
    /// The near end's name; the far end's is always `eth0`.
    name: String,
    whose: &'a str,
    /// The far end's addresses.
    own: &'a [IpAddr],
    /// The addresses that the near side itself sends from.
    from: &'a [IpAddr],
    /// What the far end's default route goes to.
    gateway: Ipv4Addr,
}

/// Gives the near end's index. The calling thread is in the far namespace.
async fn attach(
    near: &Connection<Route>,
    netns: &Netns,
    far: &Connection<Route>,
    link: &Link<'_>,
) -> Result<u32, Error> {
    let failed = |what| {
        move |source| Error::Wire {
            whose: link.whose.to_owned(),
            what,
            source,
        }
    };
    near.add_link(
        VethLink::new(&link.name, "eth0")
            .address(GATEWAY_MAC)
            .peer_address(FAR_MAC)
            .peer_netns_fd(netns),
    )
    .await
    .map_err(|source| match source.errno().map(Errno::from_raw) {
        Some(errno @ (Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENODEV)) => {
            refused(Operation::Veth, errno)
        }
        _ => failed("link")(source),
    })?;
    let near_index = index(near, &link.name)
        .await
        .map_err(failed("find the link"))?;
    let far_index = index(far, "eth0").await.map_err(failed("find the link"))?;
    far.set_link_up_by_index(far_index)
        .await
        .map_err(failed("link up"))?;
    near.set_link_up_by_index(near_index)
        .await
        .map_err(failed("link up"))?;
    for address in link.own {
        let source = link
            .from
            .iter()
            .copied()
            .find(|from| from.is_ipv4() == address.is_ipv4());
        match *address {
            IpAddr::V4(v4) => {
                far.add_address(Ipv4Address::with_index(far_index, v4, 32))
                    .await
                    .map_err(failed("address"))?;
                let default = Ipv4Route::default_route()
                    .gateway(link.gateway)
                    .dev_index(far_index)
                    .onlink();
                far.add_route(default)
                    .await
                    .map_err(failed("default route"))?;
                let mut route = Ipv4Route::from_addr(v4, 32)
                    .dev_index(near_index)
                    .scope(RouteScope::Link);
                if let Some(IpAddr::V4(source)) = source {
                    route = route.prefsrc(source);
                }
                near.add_route(route).await.map_err(failed("route"))?;
                known(far, far_index, IpAddr::V4(link.gateway), GATEWAY_MAC)
                    .await
                    .map_err(failed("gateway"))?;
            }
            IpAddr::V6(v6) => {
                far.add_address(Ipv6Address::with_index(far_index, v6, 128).nodad())
                    .await
                    .map_err(failed("address"))?;
                let default = Ipv6Route::default_route()
                    .gateway(GATEWAY_V6)
                    .dev_index(far_index);
                far.add_route(default)
                    .await
                    .map_err(failed("default route"))?;
                let mut route = Ipv6Route::from_addr(v6, 128).dev_index(near_index);
                if let Some(IpAddr::V6(source)) = source {
                    route = route.prefsrc(source);
                }
                near.add_route(route).await.map_err(failed("route"))?;
                known(far, far_index, IpAddr::V6(GATEWAY_V6), GATEWAY_MAC)
                    .await
                    .map_err(failed("gateway"))?;
            }
        }
        known(near, near_index, *address, FAR_MAC)
            .await
            .map_err(failed("neighbour"))?;
    }
    Ok(near_index)
}

/// Tells a namespace for good who its neighbour on a link is.
///
/// Neighbours that it had to ask for would share one table of 1,024 with every other namespace of
/// the machine (`gc_thresh3`, `net/core/neighbour.c`), and a world of some hundred pods would lose
/// packets to it; permanent ones do not count.
async fn known(
    conn: &Connection<Route>,
    link: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> nlink::Result<()> {
    conn.replace_neighbor(Neighbor::with_index(link, address).lladdr(mac).permanent())
        .await
}

/// Lets nodes forget connections soon that nothing came of, and those that are over: with the
/// kernel's two minutes for each, a run of many denied flows would fill the table of connections,
/// and packets of allowed ones would be lost.
///
/// # Errors
/// What cannot be set. Where the kernel tracks no connections there is nothing to set.
pub(super) fn track_briefly(nodes: &[Netns]) -> Result<(), Error> {
    for node in nodes {
        node.run(|| {
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
        })?;
    }
    Ok(())
}

async fn index(conn: &Connection<Route>, name: &str) -> nlink::Result<u32> {
    let found = conn.get_link_by_name(name).await?;
    found
        .map(|message| message.ifindex())
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound).into())
}

/// Uses up the index that the first link of a namespace gets after the loopback's.
///
/// The kernel makes a new link usable at once when its index differs from its peer's, and with up
/// to a second of delay otherwise (`linkwatch_urgent_event`, `net/core/link_watch.c`). Far ends are
/// second in their namespace, so no near end may be.
async fn take_second_index(conn: &Connection<Route>) -> Result<(), Error> {
    let unused = VethLink::new("unused", "unused-peer");
    conn.add_link(unused).await.map_err(|source| Error::Wire {
        whose: "the router".to_owned(),
        what: "link",
        source,
    })
}

/// Lets a node answer for its pods' gateway on every link.
async fn answer_as_gateway(node: &Connection<Route>, whose: &str) -> Result<(), Error> {
    // In link scope, so that nothing is ever sent from it.
    let address = Ipv4Address::with_index(LOOPBACK, GATEWAY_V4, 32).scope(Scope::Link);
    node.add_address(address)
        .await
        .map_err(|source| Error::Wire {
            whose: whose.to_owned(),
            what: "gateway",
            source,
        })
}

/// Brings the loopback link up, with further addresses.
async fn loopback(conn: &Connection<Route>, whose: &str, own: &[IpAddr]) -> Result<(), Error> {
    let failed = |what| {
        move |source| Error::Wire {
            whose: whose.to_owned(),
            what,
            source,
        }
    };
    conn.set_link_up_by_index(LOOPBACK)
        .await
        .map_err(failed("loopback up"))?;
    for address in own {
        match *address {
            IpAddr::V4(v4) => {
                conn.add_address(Ipv4Address::with_index(LOOPBACK, v4, 32))
                    .await
            }
            IpAddr::V6(v6) => {
                conn.add_address(Ipv6Address::with_index(LOOPBACK, v6, 128).nodad())
                    .await
            }
        }
        .map_err(failed("address"))?;
    }
    Ok(())
}

/// Routes a node's pod ranges to it; on the node itself, addresses of them that no pod has lead
/// nowhere instead of back and forth.
async fn ranges(
    router: &Connection<Route>,
    node: &Connection<Route>,
    whose: &str,
    n: usize,
    link: u32,
) -> Result<(), Error> {
    let failed = |what| {
        move |source| Error::Wire {
            whose: whose.to_owned(),
            what,
            source,
        }
    };
    let ((v4, v4_prefix), (v6, v6_prefix)) = addresses::pod_ranges(n);
    for address in addresses::node(n) {
        match address {
            IpAddr::V4(via) => {
                let route = Ipv4Route::from_addr(v4, v4_prefix)
                    .gateway(via)
                    .dev_index(link)
                    .onlink();
                router.add_route(route).await.map_err(failed("pod range"))?;
                let nowhere = Ipv4Route::from_addr(v4, v4_prefix).route_type(RouteType::Blackhole);
                node.add_route(nowhere).await.map_err(failed("pod range"))?;
            }
            IpAddr::V6(via) => {
                let route = Ipv6Route::from_addr(v6, v6_prefix)
                    .gateway(via)
                    .dev_index(link);
                router.add_route(route).await.map_err(failed("pod range"))?;
                let nowhere = Ipv6Route::from_addr(v6, v6_prefix).route_type(RouteType::Blackhole);
                node.add_route(nowhere).await.map_err(failed("pod range"))?;
            }
        }
    }
    Ok(())
}

/// Routes one address that is outside its node's ranges, as a manifest may state it.
async fn route_via(
    router: &Connection<Route>,
    whose: &str,
    address: IpAddr,
    via: Option<IpAddr>,
) -> Result<(), Error> {
    let failed = |source| Error::Wire {
        whose: whose.to_owned(),
        what: "route",
        source,
    };
    match (address, via) {
        (IpAddr::V4(address), Some(IpAddr::V4(via))) => router
            .add_route(Ipv4Route::from_addr(address, 32).gateway(via))
            .await
            .map_err(failed),
        (IpAddr::V6(address), Some(IpAddr::V6(via))) => router
            .add_route(Ipv6Route::from_addr(address, 128).gateway(via))
            .await
            .map_err(failed),
        _ => Ok(()),
    }
}

fn in_range(address: IpAddr, n: usize) -> bool {
    let ((v4, v4_prefix), (v6, v6_prefix)) = addresses::pod_ranges(n);
    match address {
        IpAddr::V4(a) => (u32::from(a) ^ u32::from(v4)) >> (32 - u32::from(v4_prefix)) == 0,
        IpAddr::V6(a) => (u128::from(a) ^ u128::from(v6)) >> (128 - u32::from(v6_prefix)) == 0,
    }
}

/// Removes a pod's link, and its routes with it.
///
/// # Errors
/// What the kernel refused.
pub(super) fn unwire_pod(node: &Netns, number: usize, whose: &str) -> Result<(), Error> {
    node.run(|| {
        in_runtime(async {
            let near = connect()?;
            let failed = |source| Error::Wire {
                whose: whose.to_owned(),
                what: "remove the link",
                source,
            };
            near.del_link(format!("pod{number}").as_str())
                .await
                .map_err(failed)
        })
    })
}

/// Pairs of nodes, by number, the lower one first.
pub(super) type Cuts = BTreeSet<(usize, usize)>;

/// The router's table that stops what passes between two nodes.
///
/// # Errors
/// A name that the kernel does not take; it is none.
pub(super) fn cut_table(name: String, cuts: &Cuts) -> nlink::Result<Draft> {
    let mut draft = Draft::new(name);
    draft.base(
        "between-nodes",
        BaseChain::filter(FilterHook::Forward, Priority::Filter),
    )?;
    for (a, b) in cuts {
        for (from, to) in [(a, b), (b, a)] {
            let (from, to) = (format!("node{from}"), format!("node{to}"));
            draft.rule("between-nodes", |rule| {
                rule.match_iif(&from).match_oif(&to).drop()
            });
        }
    }
    Ok(draft)
}

/// A netlink socket in the calling thread's namespace; it stays there.
fn connect() -> Result<Connection<Route>, Error> {
    Connection::<Route>::new().map_err(|source| match source.errno().map(Errno::from_raw) {
        Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => refused(Operation::Open, errno),
        _ => Error::Wire {
            whose: "the lab".to_owned(),
            what: "netlink socket",
            source,
        },
    })
}

/// Runs a future on the calling thread, whose namespace must not change under it.
pub(super) fn in_runtime<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Thread)?;
    runtime.block_on(work)
}
