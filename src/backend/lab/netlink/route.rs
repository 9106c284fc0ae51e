//! Links, addresses, routes and neighbours, by rtnetlink(7).

use super::error::Error;
use super::message::{Attributes, Message, host32};
use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_F_NODAD, IFA_FLAGS, IFA_LOCAL, IFF_UP, IFLA_ADDRESS,
    IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_NET_NS_FD, NDA_DST,
    NDA_LLADDR, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NUD_PERMANENT, RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTM_DELLINK,
    RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTM_SETLINK, RTN_BLACKHOLE,
    RTN_UNICAST, RTNH_F_ONLINK, RTPROT_BOOT, VETH_INFO_PEER,
};
use nix::sys::socket::SockProtocol;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An Ethernet address.
pub(in super::super) type Mac = [u8; 6];

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

/// A socket for the network configuration of one namespace.
#[derive(Debug)]
pub(in super::super) struct Rtnetlink {
    socket: Socket,
}

/// The far end of a veth.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Peer<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) mac: Mac,
    /// The namespace that it is made in.
    pub(in super::super) netns: BorrowedFd<'a>,
}

/// Where an address or a route is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Scope {
    Global,
    /// On its link: such an address is never chosen as a source.
    Link,
}

impl Scope {
    fn number(self) -> u8 {
        match self {
            Self::Global => RT_SCOPE_UNIVERSE,
            Self::Link => RT_SCOPE_LINK,
        }
    }
}

/// A route of the main table.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Route {
    destination: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    link: Option<u32>,
    kind: u8,
    scope: Scope,
    flags: u32,
}

impl Route {
    fn new(destination: IpAddr, prefix: u8) -> Self {
        Self {
            destination,
            prefix,
            gateway: None,
            source: None,
            link: None,
            kind: RTN_UNICAST,
            scope: Scope::Global,
            flags: 0,
        }
    }

    /// Packets to a range go to a gateway.
    pub(in super::super) fn via(destination: IpAddr, prefix: u8, gateway: IpAddr) -> Self {
        Self {
            gateway: Some(gateway),
            ..Self::new(destination, prefix)
        }
    }

    /// Packets to one address, which is on a link, leave with a source address.
    pub(in super::super) fn direct(destination: IpAddr, link: u32, source: Option<IpAddr>) -> Self {
        Self {
            source,
            link: Some(link),
            scope: Scope::Link,
            ..Self::new(destination, host_prefix(destination))
        }
    }

    /// Packets to a range disappear.
    pub(in super::super) fn blackhole(destination: IpAddr, prefix: u8) -> Self {
        Self {
            kind: RTN_BLACKHOLE,
            ..Self::new(destination, prefix)
        }
    }

    /// The gateway is on this link, whatever the addresses of the link say.
    ///
    /// For IPv6 no flag is needed: the gateway is link-local, or has a host route.
    pub(in super::super) fn on_link(mut self, link: u32) -> Self {
        self.link = Some(link);
        if self.destination.is_ipv4() {
            self.flags |= RTNH_F_ONLINK;
        }
        self
    }

    /// `struct rtmsg`, then attributes.
    fn message(&self) -> Message {
        let fixed = [
            address_family(self.destination),
            self.prefix,
            0, // the prefix of the source
            0, // the type of service
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            self.scope.number(),
            self.kind,
        ];
        let fixed = [&fixed[..], &self.flags.to_ne_bytes()].concat();

        let mut attributes = Attributes::new();
        if self.prefix > 0 {
            attributes = attributes.bytes(RTA_DST, &octets(self.destination));
        }
        if let Some(gateway) = self.gateway {
            attributes = attributes.bytes(RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = self.source {
            attributes = attributes.bytes(RTA_PREFSRC, &octets(source));
        }
        if let Some(link) = self.link {
            attributes = attributes.host32(RTA_OIF, link);
        }
        Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &fixed, &attributes)
    }
}

impl Rtnetlink {
    /// Opens a socket in the calling thread's namespace; it stays there.
    ///
    /// # Errors
    /// The errno of the socket API.
    pub(in super::super) fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkRoute)?,
        })
    }

    /// Adds a veth whose far end is in another namespace.
    ///
    /// # Errors
    /// The kernel's refusal: `EOPNOTSUPP` without the veth module.
    pub(in super::super) fn add_veth(
        &mut self,
        name: &str,
        mac: Mac,
        peer: &Peer<'_>,
    ) -> Result<(), Error> {
        self.socket.request(&new_veth(name, mac, peer))
    }

    /// Adds a veth with both ends in this namespace.
    ///
    /// # Errors
    /// As for [`Rtnetlink::add_veth`].
    pub(in super::super) fn add_local_veth(&mut self, names: [&str; 2]) -> Result<(), Error> {
        let [near, far] = names;
        let near = Attributes::new().text(IFLA_IFNAME, near);
        let far = Attributes::new().text(IFLA_IFNAME, far);
        self.socket.request(&new_link(near, &far))
    }

    /// The index of a link.
    ///
    /// # Errors
    /// The kernel's refusal: `ENODEV` for a link that does not exist.
    pub(in super::super) fn link_index(&mut self, name: &str) -> Result<u32, Error> {
        let attributes = Attributes::new().text(IFLA_IFNAME, name);
        let message = Message::new(RTM_GETLINK, 0, &[0; LINK_HEADER], &attributes);
        let link = self.socket.get(&message)?;
        link.get(4..).and_then(host32).ok_or(Error::Malformed)
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(in super::super) fn set_up(&mut self, link: u32) -> Result<(), Error> {
        let fixed = link_header(link, IFF_UP);
        self.socket
            .request(&Message::new(RTM_SETLINK, 0, &fixed, &Attributes::new()))
    }

    /// Removes a link, its other end and their routes.
    ///
    /// # Errors
    /// The kernel's refusal: `ENODEV` for a link that does not exist.
    pub(in super::super) fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let attributes = Attributes::new().text(IFLA_IFNAME, name);
        self.socket.request(&Message::new(
            RTM_DELLINK,
            0,
            &[0; LINK_HEADER],
            &attributes,
        ))
    }

    /// Gives a link one address, without a subnet and usable at once.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(in super::super) fn add_address(
        &mut self,
        link: u32,
        address: IpAddr,
        scope: Scope,
    ) -> Result<(), Error> {
        self.socket.request(&new_address(link, address, scope))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// The kernel's refusal: `ENETUNREACH` for a gateway that is not on a link.
    pub(in super::super) fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        self.socket.request(&route.message())
    }

    /// Sets a neighbour's Ethernet address for good.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(in super::super) fn set_neighbour(
        &mut self,
        link: u32,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), Error> {
        self.socket
            .request(&permanent_neighbour(link, address, mac))
    }
}

/// `struct ifinfomsg`: family, type, index, flags and which of the flags change.
fn link_header(link: u32, flags: u32) -> Vec<u8> {
    [0, link, flags, flags]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

fn new_veth(name: &str, mac: Mac, peer: &Peer<'_>) -> Message {
    let near = Attributes::new()
        .text(IFLA_IFNAME, name)
        .bytes(IFLA_ADDRESS, &mac);
    let far = Attributes::new()
        .text(IFLA_IFNAME, peer.name)
        .bytes(IFLA_ADDRESS, &peer.mac)
        .host32(IFLA_NET_NS_FD, peer.netns.as_raw_fd().cast_unsigned());
    new_link(near, &far)
}

/// A veth by the attributes of both ends.
fn new_link(near: Attributes, far: &Attributes) -> Message {
    let peer = [&[0; LINK_HEADER], far.as_bytes()].concat();
    let data = Attributes::new().nested_bytes(VETH_INFO_PEER, &peer);
    let info = Attributes::new()
        .text(IFLA_INFO_KIND, "veth")
        .nest(IFLA_INFO_DATA, &data);
    let attributes = near.nest(IFLA_LINKINFO, &info);
    Message::new(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &[0; LINK_HEADER],
        &attributes,
    )
}

/// `struct ifaddrmsg`, then attributes.
fn new_address(link: u32, address: IpAddr, scope: Scope) -> Message {
    let fixed = [
        address_family(address),
        host_prefix(address),
        0, // flags, of which the attribute has more
        scope.number(),
    ];
    let fixed = [fixed, link.to_ne_bytes()].concat();

    let mut attributes = Attributes::new()
        .bytes(IFA_LOCAL, &octets(address))
        .bytes(IFA_ADDRESS, &octets(address));
    if address.is_ipv6() {
        attributes = attributes.host32(IFA_FLAGS, IFA_F_NODAD);
    }
    Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &fixed, &attributes)
}

/// `struct ndmsg`, then attributes.
fn permanent_neighbour(link: u32, address: IpAddr, mac: Mac) -> Message {
    let family = [address_family(address), 0, 0, 0];
    let [low, high] = NUD_PERMANENT.to_ne_bytes();
    let fixed = [family, link.to_ne_bytes(), [low, high, 0, 0]].concat();

    let attributes = Attributes::new()
        .bytes(NDA_DST, &octets(address))
        .bytes(NDA_LLADDR, &mac);
    Message::new(
        RTM_NEWNEIGH,
        NLM_F_CREATE | NLM_F_REPLACE,
        &fixed,
        &attributes,
    )
}

fn address_family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// The prefix length of one address.
fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address in network byte order.
pub(in super::super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Expected bytes are recorded from messages that the kernel accepted.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::super::message::{body, hex};
    use super::*;
    use std::os::fd::AsFd;

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn veth_names_both_ends_and_the_far_namespace() {
        let netns = std::fs::File::open("/dev/null").unwrap();
        let peer = Peer {
            name: "eth0",
            mac: [2, 0, 0, 0, 0, 1],
            netns: netns.as_fd(),
        };
        let expected = hex("00000000000000000000000000000000
            0a000300 6e6f646530000000 0a000100 eeeeeeeeeeee0000
            48001280 09000100 7665746800000000
            38000280 34000180 00000000000000000000000000000000
            09000300 6574683000000000 0a000100 0200000000010000 08001c00");
        let message = new_veth("node0", [0xee; 6], &peer);
        let (written, descriptor) = body(&message).split_at(expected.len());
        assert_eq!(written, expected);
        assert_eq!(descriptor, netns.as_raw_fd().to_ne_bytes());
    }

    #[test]
    fn address_is_written_in_both_families() {
        assert_eq!(
            body(&new_address(1, ip("192.0.2.1"), Scope::Global)),
            hex("02200000 01000000 08000200c0000201 08000100c0000201")
        );
        assert_eq!(
            body(&new_address(1, ip("169.254.1.1"), Scope::Link)),
            hex("022000fd 01000000 08000200a9fe0101 08000100a9fe0101")
        );
        assert_eq!(
            body(&new_address(2, ip("fd00:30::11"), Scope::Global)),
            hex("0a800000 02000000 14000200fd000030000000000000000000000011
                14000100fd000030000000000000000000000011 0800080002000000")
        );
    }

    #[test]
    fn routes_are_written_in_both_families() {
        let default = Route::via(ip("0.0.0.0"), 0, ip("192.0.2.1")).on_link(2);
        assert_eq!(
            body(&default.message()),
            hex("02000000 fe030001 04000000 08000500c0000201 0800040002000000")
        );
        let default = Route::via(ip("::"), 0, ip("fe80::ecee:eeff:feee:eeee")).on_link(2);
        assert_eq!(
            body(&default.message()),
            hex(
                "0a000000 fe030001 00000000 14000500fe80000000000000eceeeefffeeeeeee
                0800040002000000"
            )
        );
        let direct = Route::direct(ip("172.30.0.11"), 4, Some(ip("192.0.2.1")));
        assert_eq!(
            body(&direct.message()),
            hex("02200000 fe03fd01 00000000 08000100ac1e000b 08000700c0000201 0800040004000000")
        );
        let range = Route::via(ip("10.244.16.0"), 20, ip("172.30.0.11")).on_link(4);
        assert_eq!(
            body(&range.message()),
            hex("02140000 fe030001 04000000 080001000af41000 08000500ac1e000b 0800040004000000")
        );
        let nowhere = Route::blackhole(ip("fd00:10:244:1::"), 64);
        assert_eq!(
            body(&nowhere.message()),
            hex("0a400000 fe030006 00000000 14000100fd000010024400010000000000000000")
        );
    }

    #[test]
    fn neighbour_is_permanent() {
        assert_eq!(
            body(&permanent_neighbour(
                4,
                ip("172.30.0.11"),
                [2, 0, 0, 0, 0, 1]
            )),
            hex("02000000 04000000 80000000 08000100ac1e000b 0a00020002000000 00010000")
        );
    }

    #[test]
    fn link_is_brought_up_by_its_flag_alone() {
        let expected = hex("00000000 02000000 01000000 01000000");
        assert_eq!(link_header(2, IFF_UP), expected);
    }
}
