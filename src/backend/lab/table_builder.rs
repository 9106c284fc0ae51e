//! Loading nftables tables of any size, and switching from one table to the next at once.
//!
//! One transaction is one datagram, and a datagram must fit the socket's send buffer, which a user
//! namespace cannot raise above the machine's `net.core.wmem_max`. So a table is loaded in several
//! transactions while it is dormant, which means that its chains see no packet; one last small
//! transaction activates it and makes the table that it replaces dormant. No packet meets half a
//! rule set, and none meets no rule set.

use super::error::Error;
use super::netlink::{self, BaseChain, Element, Message, Nftables, Rule, Set, Table};
use super::netns::{Netns, refused};
use super::obstacle::Operation;
use nix::errno::Errno;

/// Bytes of one transaction's messages, well under the default of `net.core.wmem_max`, 212,992.
const TRANSACTION: usize = 120_000;

/// At most this many elements in one message: their attribute is limited to 65,535 bytes, and an
/// element has at most 100.
const ELEMENTS: usize = 400;

/// A table as the messages that make it, in the order in which the kernel gets them.
pub(super) struct Draft {
    table: Table,
    messages: Vec<Message>,
    /// Sets so far, which a transaction tells apart by number.
    sets: u32,
}

impl Draft {
    /// An empty table of the family `inet`, which is dormant when it is loaded.
    pub(super) fn new(name: impl Into<String>) -> Self {
        let table = Table::new(name);
        Self {
            messages: vec![table.destroy(), table.create_dormant()],
            table,
            sets: 0,
        }
    }

    /// Adds a chain that others jump to.
    pub(super) fn chain(&mut self, name: &str) {
        self.messages.push(self.table.new_chain(name, None));
    }

    /// Adds a chain on a hook.
    pub(super) fn base_chain(&mut self, name: &str, base: BaseChain) {
        self.messages.push(self.table.new_chain(name, Some(base)));
    }

    /// Adds a rule to a chain.
    pub(super) fn rule(&mut self, chain: &str, rule: &Rule) {
        self.messages.push(self.table.new_rule(chain, rule));
    }

    /// Adds a counter with a comment that says what it counts.
    pub(super) fn counter(&mut self, name: &str, comment: &str) {
        self.messages.push(self.table.new_counter(name, comment));
    }

    /// Adds a set, or a map, with its elements.
    pub(super) fn set(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.sets += 1;
        self.messages.push(self.table.new_set(set, self.sets));
        self.messages
            .extend(element_messages(&self.table, set.name, elements));
    }
}

/// The messages that add elements to a set of a table.
pub(super) fn element_messages<'a>(
    table: &'a Table,
    set: &'a str,
    elements: &'a [Element],
) -> impl Iterator<Item = Message> {
    elements
        .chunks(ELEMENTS)
        .map(move |elements| table.new_elements(set, elements))
}

/// Carries messages out in as many transactions as their bytes need.
///
/// # Errors
/// The kernel's first refusal; the transactions before it are carried out.
pub(super) fn commit_in_parts(
    nftables: &mut Nftables,
    messages: &[Message],
) -> Result<(), netlink::Error> {
    let mut rest = messages;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(fitting(rest));
        nftables.commit(part)?;
        rest = after;
    }
    Ok(())
}

/// How many of the first messages fit one transaction; at least one.
fn fitting(messages: &[Message]) -> usize {
    let mut bytes = 0;
    let fit = messages.iter().take_while(|message| {
        bytes += message.length();
        bytes <= TRANSACTION
    });
    fit.count().max(1)
}

/// Where a table is loaded.
pub(super) struct Place<'a> {
    /// The namespace.
    pub(super) netns: &'a Netns,
    /// The name of the node, for messages.
    pub(super) node: &'a str,
    /// Which rules, for messages.
    pub(super) what: &'static str,
}

/// Loads a table and lets it take over from another. `settle` reads what the other one has counted,
/// after its last packet and before it is removed.
///
/// # Errors
/// What the kernel refused. The other table is then still in force.
pub(super) fn switch<T: Send>(
    place: &Place<'_>,
    draft: &Draft,
    replaces: Option<&str>,
    settle: impl FnOnce(&mut Nftables, &str) -> Result<T, netlink::Error> + Send,
) -> Result<Option<T>, Error> {
    with_nftables(place, |nftables| {
        commit_in_parts(nftables, &draft.messages)?;

        let activate = draft.table.set_dormant(false);
        let Some(old) = replaces.map(Table::new) else {
            nftables.commit(&[activate])?;
            return Ok(None);
        };
        nftables.commit(&[activate, old.set_dormant(true)])?;

        let counted = settle(nftables, old.name())?;
        nftables.commit(&[old.delete()])?;
        Ok(Some(counted))
    })
}

/// Talks to the nftables of a namespace.
///
/// # Errors
/// What the kernel refused.
pub(super) fn with_nftables<T: Send>(
    place: &Place<'_>,
    work: impl FnOnce(&mut Nftables) -> Result<T, netlink::Error> + Send,
) -> Result<T, Error> {
    place.netns.run(|| {
        let mut nftables = Nftables::open().map_err(|source| failed(place, source))?;
        work(&mut nftables).map_err(|source| failed(place, source))
    })
}

fn failed(place: &Place<'_>, source: netlink::Error) -> Error {
    match source.errno() {
        // ENOENT is an expression whose module is missing: what the rules name, they bring along.
        Some(
            errno @ (Errno::EPROTONOSUPPORT
            | Errno::EOPNOTSUPP
            | Errno::ENOENT
            | Errno::EPERM
            | Errno::EMFILE),
        ) => refused(Operation::Nftables, errno),
        _ => Error::Rules {
            what: place.what,
            node: place.node.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::lab::netlink::{KeyPart, KeyType, SetKind};
    use crate::model::Family;
    use std::net::{IpAddr, Ipv6Addr};

    #[test]
    fn transactions_of_a_large_table_fit_the_send_buffer() {
        let elements: Vec<_> = (0..10_000_u128)
            .map(|n| {
                let address = KeyPart::Address(IpAddr::V6(Ipv6Addr::from(n)));
                Element::new(&[address, address, KeyPart::Protocol(6), KeyPart::Port(80)])
            })
            .collect();
        let address = KeyType::Address(Family::V6);
        let mut draft = Draft::new("large");
        draft.set(
            &Set {
                name: "flows",
                key: &[address, address, KeyType::Protocol, KeyType::Port],
                kind: SetKind::Counted,
            },
            &elements,
        );
        assert_eq!(draft.messages.len(), 3 + 10_000 / ELEMENTS);

        let mut rest = &draft.messages[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest));
            let bytes: usize = part.iter().map(Message::length).sum();
            assert!(bytes <= TRANSACTION, "{bytes}");
            assert!(part.len() > 1 || after.is_empty());
            rest = after;
        }
    }
}
