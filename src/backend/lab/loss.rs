//! Losses on purpose: packets that a node drops and no policy does.

use super::nat::one_in;
use super::netlink::{BaseChain, Comparison, Hook, Load, NumberKind, Rule};
use super::nft::NEW;
use super::table_builder::TableBuilder;
use crate::model::Family;

/// Which packets a node loses of those that it forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Those of more octets than this, those of IPv6 without their first header: a path whose MTU
    /// no router reports.
    LargerThan(u16),
    /// Those that open a connection: a full table of connections.
    NewConnections,
    /// One in so many, at random.
    OneIn(u32),
}

/// A table that loses packets which a node forwards.
pub(super) fn table(name: String, loss: Loss) -> TableBuilder {
    let rules = match loss {
        Loss::LargerThan(octets) => [Family::V4, Family::V6]
            .map(|family| {
                Rule::new().family(family).compare(
                    Load::Length(family),
                    Comparison::Above,
                    &octets.to_be_bytes(),
                )
            })
            .to_vec(),
        Loss::NewConnections => vec![Rule::new().connection_state(NEW)],
        Loss::OneIn(n) => vec![one_in(Rule::new(), n, NumberKind::Random, 0)],
    };

    let mut table = TableBuilder::new(name);
    table.base_chain("loss", BaseChain::filter(Hook::Forward, -50));
    for rule in rules {
        table.rule("loss", &rule.drop());
    }
    table
}
