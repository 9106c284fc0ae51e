//! Services as rules of a node, as kube-proxy makes them.
//!
//! A map leads from address, transport and port to a chain for the Service's port; that chain
//! chooses one of its pods at random, and the pod's chain rewrites the address. Only the first
//! packet of a connection comes here; connection tracking does the rest. Policies see the packet
//! with the pod's address, as with most network plugins.

use super::netlink::{
    BaseChain, Element, Hook, KeyPart, KeyType, Load, NumberKind, Reject, Rule, Set, SetKind,
    Verdict, octets,
};
use super::services::VirtualPort;
use super::table_builder::Draft;
use crate::model::Family;
use crate::wire::Transport;
use std::net::{IpAddr, SocketAddr};

/// Marks packets whose source becomes the node: to a node port, and from a pod to itself.
const MASQUERADE: u32 = 0x4000;

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// Addresses and ports of Services.
#[derive(Default)]
struct ServiceAddresses {
    /// Those with pods, with the chain that chooses one.
    served: Vec<(SocketAddr, Transport, String)>,
    /// Those without.
    unserved: Vec<(SocketAddr, Transport)>,
}

/// The table of one node.
pub(super) fn table(name: String, ports: &[VirtualPort], node: &[IpAddr]) -> Draft {
    let mut draft = Draft::new(name);
    draft.chain("services");

    let addresses = port_chains(&mut draft, ports);
    for family in Family::ALL {
        maps(&mut draft, family, &addresses);
    }

    draft.base_chain("arriving", BaseChain::ARRIVING);
    draft.base_chain("leaving", BaseChain::BEGINNING);
    draft.rule("arriving", &Rule::new().jump("services"));
    draft.rule("leaving", &Rule::new().jump("services"));

    draft.base_chain("source", BaseChain::LEAVING);
    for address in node {
        let masquerade = Rule::new()
            .equal(Load::Mark, &MASQUERADE.to_ne_bytes())
            .family(Family::of(*address))
            .translate_source(*address);
        draft.rule("source", &masquerade);
    }

    reject_unserved(&mut draft);
    draft
}

/// Adds the chains of every port that has pods; gives what leads to which of them.
fn port_chains(draft: &mut Draft, ports: &[VirtualPort]) -> ServiceAddresses {
    let mut addresses = ServiceAddresses::default();
    for (number, port) in ports.iter().enumerate() {
        if port.backends.is_empty() {
            let all = port.cluster.iter().chain(&port.node);
            addresses
                .unserved
                .extend(all.map(|address| (*address, port.transport)));
            continue;
        }

        let choice = backend_chains(draft, number, port);
        let cluster = port.cluster.iter();
        addresses
            .served
            .extend(cluster.map(|address| (*address, port.transport, choice.clone())));

        if !port.node.is_empty() {
            let from_outside = format!("node-port-{number}");
            draft.chain(&from_outside);
            draft.rule(
                &from_outside,
                &Rule::new().set_mark(MASQUERADE).goto(&choice),
            );
            let node = port.node.iter();
            addresses
                .served
                .extend(node.map(|address| (*address, port.transport, from_outside.clone())));
        }
    }
    addresses
}

/// Adds the map and the set of a family, and the rules that follow the map.
fn maps(draft: &mut Draft, family: Family, addresses: &ServiceAddresses) {
    let key_types = [KeyType::Address(family), KeyType::Protocol, KeyType::Port];
    let (map, unserved) = names(family);

    let elements: Vec<_> = addresses
        .served
        .iter()
        .filter(|(address, ..)| Family::of(address.ip()) == family)
        .map(|(address, transport, chain)| {
            element(*address, *transport).with_verdict(Verdict::Goto(chain.clone()))
        })
        .collect();
    draft.set(
        &Set {
            name: map,
            key: &key_types,
            kind: SetKind::Verdicts,
        },
        &elements,
    );

    let elements: Vec<_> = addresses
        .unserved
        .iter()
        .filter(|(address, _)| Family::of(address.ip()) == family)
        .map(|(address, transport)| element(*address, *transport))
        .collect();
    draft.set(
        &Set {
            name: unserved,
            key: &key_types,
            kind: SetKind::Plain,
        },
        &elements,
    );

    for transport in TRANSPORTS {
        let follow = of_transport(family, transport).verdict_of(&fields(family), map);
        draft.rule("services", &follow);
    }
}

/// Adds the chains that reject packets to Services without pods, before the policies' chains: so
/// does kube-proxy.
fn reject_unserved(draft: &mut Draft) {
    for (name, hook) in [
        ("none-through", Hook::Forward),
        ("none-from", Hook::Output),
        ("none-to", Hook::Input),
    ] {
        draft.base_chain(name, BaseChain::filter(hook, -20));
        for family in Family::ALL {
            let (_, unserved) = names(family);
            for transport in TRANSPORTS {
                let reject = of_transport(family, transport)
                    .in_set(&fields(family), unserved)
                    .reject(Reject::PortUnreachable);
                draft.rule(name, &reject);
            }
        }
    }
}

/// Adds a chain for each pod of a port, and one that chooses among them: the first with 1 in n,
/// else the second with 1 in n-1, and so on. Gives the name of the latter.
fn backend_chains(draft: &mut Draft, number: usize, port: &VirtualPort) -> String {
    let choice = format!("port-{number}");
    draft.chain(&choice);
    for (n, backend) in port.backends.iter().enumerate() {
        let chain = format!("port-{number}-{n}");
        draft.chain(&chain);

        let family = Family::of(backend.ip());
        let from_itself = Rule::new()
            .family(family)
            .equal(Load::Source(family), &octets(backend.ip()))
            .set_mark(MASQUERADE);
        draft.rule(&chain, &from_itself);
        draft.rule(&chain, &Rule::new().translate_destination(*backend));

        let remaining = (port.backends.len() - n) as u32;
        let chosen = if remaining > 1 {
            one_in(Rule::new(), remaining, NumberKind::Random, 0)
        } else {
            Rule::new()
        };
        draft.rule(&choice, &chosen.goto(&chain));
    }
    choice
}

/// Matches one packet in `modulus`: of those counted up, number `which` of each round.
pub(super) fn one_in(rule: Rule, modulus: u32, kind: NumberKind, which: u32) -> Rule {
    rule.equal(Load::Number { kind, modulus }, &which.to_ne_bytes())
}

/// Names of a family's map of addresses with pods, and of its set of those without.
fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("ports4", "none4"),
        Family::V6 => ("ports6", "none6"),
    }
}

fn of_transport(family: Family, transport: Transport) -> Rule {
    Rule::new().family(family).protocol(protocol(transport))
}

/// What the keys of [`element`] are compared with.
fn fields(family: Family) -> [Load; 3] {
    [
        Load::Destination(family),
        Load::Protocol,
        Load::DestinationPort,
    ]
}

fn element(address: SocketAddr, transport: Transport) -> Element {
    Element::new(&[
        KeyPart::Address(address.ip()),
        KeyPart::Protocol(protocol(transport)),
        KeyPart::Port(address.port()),
    ])
}

/// IANA's protocol number.
pub(super) fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}
