//! The part of netlink that the lab needs: links, addresses, routes and neighbours by rtnetlink,
//! packet filters by nftables.
//!
//! ```text
//! message ─▶ bytes of one message: header, fixed part, attributes
//! socket ──▶ requests, dumps and batches, with the kernel's answers
//! route ───▶ rtnetlink(7)
//! conntrack  the table of connections
//! nftables ▶ tables, chains, sets, counters; rule: the expressions of a rule
//! uapi ────▶ the kernel's numbers, under the kernel's names
//! ```
//!
//! Calls block: the kernel answers each request before `send` returns. A socket belongs to the
//! network namespace of the thread that opened it.
//!
//! # Limitations
//!
//! - Replies are read for what the lab asks: the index of a link, and counters of packets.
//! - nftables tables are of the family `inet`.

mod conntrack;
mod error;
mod message;
mod nftables;
mod route;
mod rule;
mod socket;
mod uapi;

pub(super) use conntrack::forget_connections;
pub use error::Error;
pub(super) use message::Message;
pub(super) use nftables::{
    BaseChain, Element, Hook, KeyPart, KeyType, Nftables, Set, SetKind, Table,
};
pub(super) use route::{Peer, Route, Rtnetlink, Scope, octets};
pub(super) use rule::{Comparison, Load, NumberKind, Reject, Rule, Verdict};
