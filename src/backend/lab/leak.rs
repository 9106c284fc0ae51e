//! Leaks on purpose: every n-th new packet of a flow gets past the policies, so that tests can see
//! whether an intermittent leak is found.

use super::nat::{one_in, protocol};
use super::netlink::{BaseChain, Comparison, Hook, Load, NumberKind, Rule, octets};
use super::nft::NEW;
use super::table_builder::Draft;
use crate::model::Family;
use crate::wire::Transport;
use std::net::IpAddr;

/// A packet with more hops left than this is one that leaks. It is the header that carries the
/// choice from the source's node to the target's, where a packet's mark is gone; the machine's own
/// packets start with 64.
pub(super) const LEAK_HOPS: u8 = 200;

/// A flow that leaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The source's address.
    pub from: IpAddr,
    /// The target's own address, behind any Service.
    pub to: IpAddr,
    /// The target's own port.
    pub port: u16,
    pub transport: Transport,
    /// Of so many new packets, one gets through: the last of every so many, so that a plain count
    /// of attempts tells which. 1 lets all through.
    pub one_in: u32,
}

/// Adds the chains that mark packets to leak, before those of the policies.
pub(super) fn chains(draft: &mut Draft, leaks: &[Leak]) {
    if leaks.is_empty() {
        return;
    }
    for (name, hook) in [("leak", Hook::Forward), ("leak-to-node", Hook::Input)] {
        draft.base_chain(name, BaseChain::filter(hook, -30));
        for leak in leaks {
            draft.rule(name, &marking(leak));
        }
    }
}

/// The rule that marks packets of a leak by their hops.
fn marking(leak: &Leak) -> Rule {
    let family = Family::of(leak.from);
    let new_packets = Rule::new()
        .connection_state(NEW)
        .family(family)
        .equal(Load::Source(family), &octets(leak.from))
        .equal(Load::Destination(family), &octets(leak.to))
        .protocol(protocol(leak.transport))
        .equal(Load::DestinationPort, &leak.port.to_be_bytes());

    let chosen = match leak.one_in {
        0 | 1 => new_packets,
        n => one_in(new_packets, n, NumberKind::Incremental, n - 1),
    };
    chosen.set_hops(family, u8::MAX)
}

/// Matches packets of a family by the hops that they have left.
pub(super) fn hops_left(rule: Rule, family: Family, with: Comparison, hops: u8) -> Rule {
    rule.family(family)
        .compare(Load::HopsLeft(family), with, &[hops])
}
