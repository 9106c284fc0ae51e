//! Leaks on purpose: every n-th new packet of a flow gets past the policies, so that tests can see
//! whether an intermittent leak is found.

use super::nft::{element, equal, family_is};
use super::table_builder::Draft;
use crate::model::Family;
use crate::wire::Transport;
use nlink::netlink::nftables::Rule;
use nlink::netlink::nftables::expr::{Expr, NumgenKind};
use nlink::netlink::nftables::types::{
    BaseChain, CmpOp, CtState, FilterHook, HeaderWrite, MetaKey, PayloadBase, Priority, Register,
};
use std::net::IpAddr;

/// A packet with more hops left than this is one that leaks. It is the header that carries the
/// choice from the source's node to the target's, where a packet's mark is gone; the machine's own
/// packets start with 64.
pub(super) const THROUGH: u8 = 200;

/// A flow that leaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The source's address.
    pub from: IpAddr,
    /// The target's own address, behind any Service.
    pub to: IpAddr,
    /// The target's own port.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
    /// Of so many new packets, one gets through: the last of every so many, so that a plain count
    /// of attempts tells which. 1 lets all through.
    pub one_in: u32,
}

/// Adds the chain that chooses.
///
/// # Errors
/// A name that the kernel does not take; it is none.
pub(super) fn chain(draft: &mut Draft, leaks: &[Leak]) -> nlink::Result<()> {
    if leaks.is_empty() {
        return Ok(());
    }
    for (name, hook) in [
        ("leak", FilterHook::Forward),
        ("leak-to-node", FilterHook::Input),
    ] {
        draft.base(name, BaseChain::filter(hook, Priority::Custom(-30)))?;
        for leak in leaks {
            draft.rule(name, |rule| choosing(rule, leak));
        }
    }
    Ok(())
}

fn choosing(rule: Rule, leak: &Leak) -> Rule {
    let family = Family::of(leak.from);
    let (source, destination, len) = match family {
        Family::V4 => (12, 16, 4),
        Family::V6 => (8, 24, 16),
    };
    let load = |base, offset, len| Expr::Payload {
        dreg: Register::R0,
        base,
        offset,
        len,
    };
    let rule = family_is(rule.match_ct_state(CtState::NEW), family);
    let rule = equal(
        rule,
        load(PayloadBase::Network, source, len),
        element(leak.from).key().to_vec(),
    );
    let rule = equal(
        rule,
        load(PayloadBase::Network, destination, len),
        element(leak.to).key().to_vec(),
    );
    let protocol = super::nat::protocol(leak.transport);
    let rule = equal(
        rule,
        Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::L4Proto,
        },
        vec![protocol],
    );
    let rule = equal(
        rule,
        load(PayloadBase::Transport, 2, 2),
        leak.port.to_be_bytes().to_vec(),
    );
    let rule = match leak.one_in {
        0 | 1 => rule,
        n => super::nat::one_in(rule, n, NumgenKind::Incremental, n - 1),
    };
    rule.set_header(match family {
        Family::V4 => HeaderWrite::IpTtl(u8::MAX),
        Family::V6 => HeaderWrite::Ip6HopLimit(u8::MAX),
    })
}

/// Matches packets by the hops that they have left.
pub(super) fn hops_left(rule: Rule, family: Family, op: CmpOp, hops: u8) -> Rule {
    let offset = match family {
        Family::V4 => 8,
        Family::V6 => 7,
    };
    family_is(rule, family)
        .expr(Expr::Payload {
            dreg: Register::R0,
            base: PayloadBase::Network,
            offset,
            len: 1,
        })
        .expr(Expr::Cmp {
            sreg: Register::R0,
            op,
            data: vec![hops],
        })
}
