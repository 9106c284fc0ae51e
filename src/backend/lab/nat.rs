//! Services as rules of a node: what kube-proxy does, in its way.
//!
//! A map leads from address, transport and port to a chain for the Service's port; that chain
//! chooses one of its pods at random, and the pod's chain rewrites the address. Only the first
//! packet of a connection comes here; connection tracking does the rest. Policies see the packet
//! after this, as with most plugins (FACTS T11, Service addresses).

use super::nft::{element, equal, family_is};
use super::services::VirtualPort;
use super::table_builder::Draft;
use crate::model::Family;
use crate::wire::Transport;
use nlink::netlink::nftables::Rule;
use nlink::netlink::nftables::expr::{Expr, NumgenKind};
use nlink::netlink::nftables::types::{
    BaseChain, ChainName, FilterHook, IcmpxCode, NatHook, NatStatement, PacketField, Priority,
    Register, SetElement, SetKeyType, Verdict,
};
use std::net::{IpAddr, SocketAddr};

/// Marks packets whose source becomes the node: to a node port, and from a pod to itself.
const MASQUERADE: u32 = 0x4000;

/// The table of one node.
///
/// # Errors
/// A name that the kernel does not take; none of these is one.
pub(super) fn table(name: String, ports: &[VirtualPort], node: &[IpAddr]) -> nlink::Result<Draft> {
    let mut draft = Draft::new(name);
    draft.chain("services")?;
    let mut led: Vec<(SocketAddr, Transport, ChainName)> = Vec::new();
    let mut dead: Vec<(SocketAddr, Transport)> = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        if port.backends.is_empty() {
            dead.extend(
                port.cluster
                    .iter()
                    .chain(&port.node)
                    .map(|at| (*at, port.transport)),
            );
            continue;
        }
        let choose = choice(&mut draft, number, port)?;
        led.extend(
            port.cluster
                .iter()
                .map(|at| (*at, port.transport, choose.clone())),
        );
        if !port.node.is_empty() {
            let name = format!("node-port-{number}");
            draft.chain(&name)?;
            draft.rule(&name, |rule| rule.set_mark(MASQUERADE).goto(choose.clone()));
            let from_outside = ChainName::new(name)?;
            led.extend(
                port.node
                    .iter()
                    .map(|at| (*at, port.transport, from_outside.clone())),
            );
        }
    }
    for v4 in [true, false] {
        let (map, refused) = if v4 {
            ("ports4", "none4")
        } else {
            ("ports6", "none6")
        };
        let elements = led.iter().filter(|(at, ..)| at.is_ipv4() == v4);
        let elements = elements
            .map(|(at, transport, chain)| {
                key(*at, *transport).verdict(Verdict::GotoTo(chain.clone()))
            })
            .collect();
        let key_type = SetKeyType::Concat(
            fields(v4, Transport::Tcp)
                .iter()
                .map(|field| field.key_type())
                .collect(),
        );
        draft.set(
            &draft.new_set(map).key_type(key_type.clone()).vmap(),
            elements,
        );
        let elements = dead
            .iter()
            .filter(|(at, _)| at.is_ipv4() == v4)
            .map(|(at, transport)| key(*at, *transport))
            .collect();
        draft.set(&draft.new_set(refused).key_type(key_type), elements);
        for transport in [Transport::Tcp, Transport::Udp] {
            draft.rule("services", |rule| {
                rule.vmap_concat(&fields(v4, transport), map)
            });
        }
    }
    let services = ChainName::new("services")?;
    draft.base(
        "arriving",
        BaseChain::nat(NatHook::Prerouting, Priority::DstNat),
    )?;
    draft.base("leaving", BaseChain::nat(NatHook::Output, Priority::DstNat))?;
    draft.rule("arriving", |rule| rule.jump(services.clone()));
    draft.rule("leaving", |rule| rule.jump(services));
    draft.base(
        "source",
        BaseChain::nat(NatHook::Postrouting, Priority::SrcNat),
    )?;
    for address in node {
        draft.rule("source", |rule| {
            family_is(rule.match_mark(MASQUERADE), Family::of(*address))
                .nat(NatStatement::snat(*address))
        });
    }
    // Nobody behind a Service: kube-proxy answers that nobody listens, before any policy is asked.
    for (name, hook) in [
        ("none-through", FilterHook::Forward),
        ("none-from", FilterHook::Output),
        ("none-to", FilterHook::Input),
    ] {
        draft.base(name, BaseChain::filter(hook, Priority::Custom(-20)))?;
        for (v4, set) in [(true, "none4"), (false, "none6")] {
            for transport in [Transport::Tcp, Transport::Udp] {
                draft.rule(name, |rule| {
                    rule.match_concat_in_set(&fields(v4, transport), set)
                        .reject_icmpx(IcmpxCode::PortUnreachable)
                });
            }
        }
    }
    Ok(draft)
}

/// A chain that chooses a backend: the first with 1 in n, else the second with 1 in n-1, and so on.
fn choice(draft: &mut Draft, number: usize, port: &VirtualPort) -> nlink::Result<ChainName> {
    let name = format!("port-{number}");
    draft.chain(&name)?;
    for (n, backend) in port.backends.iter().enumerate() {
        let to = format!("port-{number}-{n}");
        draft.chain(&to)?;
        draft.rule(&to, |rule| {
            rule.match_saddr(backend.ip(), full(backend.ip()))
                .set_mark(MASQUERADE)
        });
        draft.rule(&to, |rule| {
            rule.nat(NatStatement::dnat(backend.ip()).port(backend.port()))
        });
        let to = ChainName::new(to)?;
        let modulus = (port.backends.len() - n) as u32;
        draft.rule(&name, |rule| {
            let rule = if modulus > 1 {
                one_in(rule, modulus, NumgenKind::Random, 0)
            } else {
                rule
            };
            rule.goto(to)
        });
    }
    ChainName::new(name)
}

/// Matches one packet in `modulus`: of those counted up, number `which` of each round.
pub(super) fn one_in(rule: Rule, modulus: u32, kind: NumgenKind, which: u32) -> Rule {
    let number = Expr::Numgen {
        dreg: Register::R0,
        kind,
        modulus,
        offset: 0,
    };
    // A generated number is in host order, unlike what is read from packets.
    equal(rule, number, which.to_ne_bytes().to_vec())
}

fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn fields(v4: bool, transport: Transport) -> [PacketField; 3] {
    let address = if v4 {
        PacketField::Ip4Daddr
    } else {
        PacketField::Ip6Daddr
    };
    let port = match transport {
        Transport::Tcp => PacketField::TcpDport,
        Transport::Udp => PacketField::UdpDport,
    };
    [address, PacketField::L4Proto, port]
}

fn key(at: SocketAddr, transport: Transport) -> SetElement {
    SetElement::concat([
        element(at.ip()),
        SetElement::inet_proto(protocol(transport)),
        SetElement::port(at.port()),
    ])
}

/// IANA's protocol number.
pub(super) fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}
