//! Tables of nftables with their chains, rules, sets and counters (`linux/netfilter/nf_tables.h`).

use super::error::Error;
use super::message::{Attributes, Message, attribute, attributes, text};
use super::route::octets;
use super::rule::{Rule, Verdict, value};
use super::socket::Socket;
use super::uapi::{
    NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC, NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFT_DATA_VERDICT, NFT_MSG_DELTABLE,
    NFT_MSG_DESTROYTABLE, NFT_MSG_GETOBJ, NFT_MSG_GETSETELEM, NFT_MSG_NEWCHAIN, NFT_MSG_NEWOBJ,
    NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_OBJECT_COUNTER,
    NFT_SET_ELEM_INTERVAL_END, NFT_SET_INTERVAL, NFT_SET_MAP, NFT_TABLE_F_DORMANT, NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS,
    NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY,
    NFTA_LIST_ELEM, NFTA_OBJ_DATA, NFTA_OBJ_NAME, NFTA_OBJ_TABLE, NFTA_OBJ_TYPE, NFTA_OBJ_USERDATA,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_SET_DATA_TYPE,
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_EXPR,
    NFTA_SET_FLAGS, NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME,
    NFTA_SET_TABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL,
    nftables,
};
use crate::model::Family;
use nix::sys::socket::SockProtocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;

/// The longest comment that libnftnl reads, bytes (`NFTNL_UDATA_COMMENT_MAXLEN` less the zero).
const COMMENT: usize = 127;

/// A socket for the packet filter of one namespace.
#[derive(Debug)]
pub(in super::super) struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens a socket in the calling thread's namespace; it stays there.
    ///
    /// # Errors
    /// The errno of the socket API: `EPROTONOSUPPORT` for a kernel without nftables.
    pub(in super::super) fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
        })
    }

    /// Carries messages out in one transaction: all of them or none.
    ///
    /// # Errors
    /// The kernel's first refusal: `ENOENT` for an object that does not exist, and for an
    /// expression whose module is missing; `EMSGSIZE` for more bytes than the socket's send
    /// buffer has.
    pub(in super::super) fn commit(&mut self, messages: &[Message]) -> Result<(), Error> {
        self.socket.batch(
            &batch_limit(NFNL_MSG_BATCH_BEGIN),
            messages,
            &batch_limit(NFNL_MSG_BATCH_END),
        )
    }

    /// Keys of a set whose elements count packets, with their counts.
    ///
    /// # Errors
    /// The kernel's refusal: `ENOENT` for a set that does not exist.
    pub(in super::super) fn element_counts(
        &mut self,
        table: &str,
        set: &str,
    ) -> Result<Vec<(Vec<u8>, u64)>, Error> {
        let wanted = Attributes::new()
            .text(NFTA_SET_ELEM_LIST_TABLE, table)
            .text(NFTA_SET_ELEM_LIST_SET, set);
        let replies = self.socket.dump(&message(NFT_MSG_GETSETELEM, 0, &wanted))?;

        Ok(replies
            .iter()
            .flat_map(|reply| counted_elements(reply))
            .collect())
    }

    /// Packets that each named counter of a table has counted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(in super::super) fn counters(
        &mut self,
        table: &str,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let wanted = Attributes::new().text(NFTA_OBJ_TABLE, table);
        let replies = self.socket.dump(&message(NFT_MSG_GETOBJ, 0, &wanted))?;

        Ok(replies.iter().filter_map(|reply| counter(reply)).collect())
    }
}

/// A hook at which packets enter a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Hook {
    Input,
    Forward,
    Output,
}

/// The type, hook and priority of a chain that packets enter by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct BaseChain {
    kind: &'static str,
    hook: u32,
    priority: i32,
}

impl BaseChain {
    /// Filters packets; chains with lower priorities come first.
    pub(in super::super) fn filter(hook: Hook, priority: i32) -> Self {
        let hook = match hook {
            Hook::Input => NF_INET_LOCAL_IN,
            Hook::Forward => NF_INET_FORWARD,
            Hook::Output => NF_INET_LOCAL_OUT,
        };
        Self {
            kind: "filter",
            hook,
            priority,
        }
    }

    /// Translates destinations of connections that arrive.
    pub(in super::super) const ARRIVING: Self = Self {
        kind: "nat",
        hook: NF_INET_PRE_ROUTING,
        priority: NF_IP_PRI_NAT_DST,
    };

    /// Translates destinations of connections that begin here.
    pub(in super::super) const BEGINNING: Self = Self {
        kind: "nat",
        hook: NF_INET_LOCAL_OUT,
        priority: NF_IP_PRI_NAT_DST,
    };

    /// Translates sources of connections that leave.
    pub(in super::super) const LEAVING: Self = Self {
        kind: "nat",
        hook: NF_INET_POST_ROUTING,
        priority: NF_IP_PRI_NAT_SRC,
    };
}

/// A part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum KeyType {
    Address(Family),
    Protocol,
    Port,
}

impl KeyType {
    /// nft's number of the type, by which it shows keys (`enum datatypes` of nft's
    /// `include/datatype.h`).
    fn number(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    /// Bytes in a key, where parts are aligned to registers of four bytes.
    fn length(self) -> u32 {
        match self {
            Self::Address(Family::V6) => 16,
            Self::Address(Family::V4) | Self::Protocol | Self::Port => 4,
        }
    }
}

/// A value of a part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum KeyPart {
    Address(IpAddr),
    /// IANA's number.
    Protocol(u8),
    Port(u16),
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum SetKind {
    Plain,
    /// Elements are ranges that do not overlap.
    Ranges,
    /// Elements have verdicts.
    Verdicts,
    /// Elements count the packets that match them.
    Counted,
}

/// A set's definition.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Set<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) key: &'a [KeyType],
    pub(in super::super) kind: SetKind,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Element {
    key: Vec<u8>,
    /// The last key of a range.
    last: Option<Vec<u8>>,
    verdict: Option<Verdict>,
}

impl Element {
    pub(in super::super) fn new(key: &[KeyPart]) -> Self {
        let mut bytes = Vec::new();
        for part in key {
            match part {
                KeyPart::Address(address) => bytes.extend(octets(*address)),
                KeyPart::Protocol(number) => bytes.push(*number),
                KeyPart::Port(number) => bytes.extend(number.to_be_bytes()),
            }
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        Self {
            key: bytes,
            last: None,
            verdict: None,
        }
    }

    /// Addresses from the first to the last, both included.
    pub(in super::super) fn range(first: IpAddr, last: IpAddr) -> Self {
        Self {
            last: Some(octets(last)),
            ..Self::new(&[KeyPart::Address(first)])
        }
    }

    pub(in super::super) fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    #[cfg(test)]
    pub(in super::super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The element as the kernel has it: a range is its first key and, unless it ends with the
    /// highest key, the one after its last.
    fn list(&self) -> Attributes {
        let mut element = Attributes::new().nest(NFTA_SET_ELEM_KEY, &value(&self.key));
        if let Some(verdict) = &self.verdict {
            element = element.nest(NFTA_SET_ELEM_DATA, &verdict.data());
        }

        let mut list = Attributes::new().nest(NFTA_LIST_ELEM, &element);
        if let Some(end) = self.last.as_deref().and_then(successor) {
            let end = Attributes::new()
                .nest(NFTA_SET_ELEM_KEY, &value(&end))
                .network32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            list = list.nest(NFTA_LIST_ELEM, &end);
        }
        list
    }
}

/// The key after this one; `None` after the highest.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let at = key.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = key.to_vec();
    next[at] += 1;
    next[at + 1..].fill(0);
    Some(next)
}

/// The messages that make and change one table.
#[derive(Debug, Clone)]
pub(in super::super) struct Table {
    name: String,
}

impl Table {
    pub(in super::super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }

    /// Removes the table, if it exists. Linux 6.3 and later.
    pub(in super::super) fn destroy(&self) -> Message {
        let name = Attributes::new().text(NFTA_TABLE_NAME, &self.name);
        message(NFT_MSG_DESTROYTABLE, 0, &name)
    }

    /// Removes the table with all that is in it.
    pub(in super::super) fn delete(&self) -> Message {
        let name = Attributes::new().text(NFTA_TABLE_NAME, &self.name);
        message(NFT_MSG_DELTABLE, 0, &name)
    }

    /// Makes the table, dormant: its chains see no packet.
    pub(in super::super) fn create_dormant(&self) -> Message {
        let table = Attributes::new()
            .text(NFTA_TABLE_NAME, &self.name)
            .network32(NFTA_TABLE_FLAGS, NFT_TABLE_F_DORMANT);
        message(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, &table)
    }

    /// Lets the table's chains see packets, or no packet.
    pub(in super::super) fn set_dormant(&self, dormant: bool) -> Message {
        let flags = if dormant { NFT_TABLE_F_DORMANT } else { 0 };
        let table = Attributes::new()
            .text(NFTA_TABLE_NAME, &self.name)
            .network32(NFTA_TABLE_FLAGS, flags);
        message(NFT_MSG_NEWTABLE, 0, &table)
    }

    /// Adds a chain, on a hook or for others to jump to.
    pub(in super::super) fn new_chain(&self, name: &str, base: Option<BaseChain>) -> Message {
        let mut chain = Attributes::new()
            .text(NFTA_CHAIN_TABLE, &self.name)
            .text(NFTA_CHAIN_NAME, name);
        if let Some(base) = base {
            let hook = Attributes::new()
                .network32(NFTA_HOOK_HOOKNUM, base.hook)
                .network32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
            chain = chain
                .text(NFTA_CHAIN_TYPE, base.kind)
                .nest(NFTA_CHAIN_HOOK, &hook);
        }
        message(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, &chain)
    }

    /// Adds a rule at the end of a chain.
    pub(in super::super) fn new_rule(&self, chain: &str, rule: &Rule) -> Message {
        let mut attributes = Attributes::new()
            .text(NFTA_RULE_TABLE, &self.name)
            .text(NFTA_RULE_CHAIN, chain);
        if !rule.expressions().is_empty() {
            attributes = attributes.nest(NFTA_RULE_EXPRESSIONS, rule.expressions());
        }
        message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attributes)
    }

    /// Adds a named counter with a comment, of which the first 127 bytes are kept.
    pub(in super::super) fn new_counter(&self, name: &str, comment: &str) -> Message {
        let comment = cut(comment, COMMENT);
        // What libnftnl reads as a comment: type 0, a length, a string with its zero byte.
        let length = comment.len() as u8 + 1;
        let userdata = [&[0, length], comment.as_bytes(), &[0]].concat();

        let counter = Attributes::new()
            .text(NFTA_OBJ_TABLE, &self.name)
            .text(NFTA_OBJ_NAME, name)
            .network32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER)
            .nest(NFTA_OBJ_DATA, &Attributes::new())
            .bytes(NFTA_OBJ_USERDATA, &userdata);
        message(NFT_MSG_NEWOBJ, NLM_F_CREATE | NLM_F_EXCL, &counter)
    }

    /// Adds a set; `number` is a different one for each set of a transaction.
    pub(in super::super) fn new_set(&self, set: &Set<'_>, number: u32) -> Message {
        let flags = match set.kind {
            SetKind::Plain | SetKind::Counted => 0,
            SetKind::Ranges => NFT_SET_INTERVAL,
            SetKind::Verdicts => NFT_SET_MAP,
        };
        // Six bits a part (`concat_subtype_add` of nft's `include/datatype.h`).
        let key_type = set.key.iter().fold(0, |all, part| all << 6 | part.number());
        let key_length = set.key.iter().map(|part| part.length()).sum();

        let mut attributes = Attributes::new()
            .text(NFTA_SET_TABLE, &self.name)
            .text(NFTA_SET_NAME, set.name)
            .network32(NFTA_SET_KEY_TYPE, key_type)
            .network32(NFTA_SET_KEY_LEN, key_length)
            .network32(NFTA_SET_FLAGS, flags);
        match set.kind {
            SetKind::Verdicts => {
                attributes = attributes.network32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            }
            SetKind::Counted => attributes = attributes.nest(NFTA_SET_EXPR, &new_counter()),
            SetKind::Plain | SetKind::Ranges => {}
        }
        let attributes = attributes.network32(NFTA_SET_ID, number);
        message(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, &attributes)
    }

    /// Adds elements to a set; together they must be shorter than 65,535 bytes.
    pub(in super::super) fn new_elements(&self, set: &str, elements: &[Element]) -> Message {
        let mut list = Attributes::new();
        for element in elements {
            list.append(&element.list());
        }
        let attributes = Attributes::new()
            .text(NFTA_SET_ELEM_LIST_TABLE, &self.name)
            .text(NFTA_SET_ELEM_LIST_SET, set)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS, &list);
        message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, &attributes)
    }
}

/// The longest beginning of a text within so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=text.len().min(bytes))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// A counter as the expression of a set's elements.
fn new_counter() -> Attributes {
    let counts = Attributes::new()
        .bytes(NFTA_COUNTER_BYTES, &[0; 8])
        .bytes(NFTA_COUNTER_PACKETS, &[0; 8]);
    Attributes::new()
        .text(NFTA_EXPR_NAME, "counter")
        .nest(NFTA_EXPR_DATA, &counts)
}

/// A message of nftables for the family `inet`.
fn message(kind: u16, flags: u16, attributes: &Attributes) -> Message {
    let fixed = [NFPROTO_INET, 0, 0, 0];
    Message::new(nftables(kind), flags, &fixed, attributes)
}

/// The begin or the end of a batch, for nftables.
fn batch_limit(kind: u16) -> Message {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low], &Attributes::new())
}

/// Keys and counts of the elements in a reply.
fn counted_elements(reply: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let list = reply
        .get(FAMILY_HEADER..)
        .and_then(|reply| attribute(reply, NFTA_SET_ELEM_LIST_ELEMENTS));
    attributes(list.unwrap_or_default())
        .filter_map(|(_, element)| {
            let key = attribute(attribute(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
            let expression = attribute(element, NFTA_SET_ELEM_EXPR)?;
            let count = packets(attribute(expression, NFTA_EXPR_DATA)?)?;
            Some((key.to_vec(), count))
        })
        .collect()
}

/// The name and the count of the counter in a reply.
fn counter(reply: &[u8]) -> Option<(String, u64)> {
    let object = reply.get(FAMILY_HEADER..)?;
    if attribute(object, NFTA_OBJ_TYPE)? != NFT_OBJECT_COUNTER.to_be_bytes() {
        return None;
    }
    let name = text(attribute(object, NFTA_OBJ_NAME)?);
    Some((name, packets(attribute(object, NFTA_OBJ_DATA)?)?))
}

fn packets(counter: &[u8]) -> Option<u64> {
    let count = attribute(counter, NFTA_COUNTER_PACKETS)?;
    Some(u64::from_be_bytes(count.try_into().ok()?))
}
