//! An inventory → the text of a suite that says what its policies say, for a person to correct.
//!
//! ```text
//! Inventory ── endpoints ──▶ DraftEndpoints ── table ──▶ an answer for each pair and port ── lines ──▶ line groups ── write ──▶ text
//! ```
//!
//! Answers come from the same flows that a plan of the drafted suite would have, so that the
//! policies contradict none of its lines. What no policy and no object says is marked `guessed`.
//!
//! # Limitations
//! - A pair to which policies give more than one answer (the two address families, pods behind a
//!   Service) is named in a comment and has no line; then the suite has no `everythingElse`, and
//!   every deny has a separate line.
//! - Where policies admit ports that nothing declares, and where a workload has no known port, the
//!   drafted `everythingElse` has checks that are unproven, and says so when it is planned.
//! - An address block is represented by one address in it.
//! - Workloads that share their node's network have the node's identity, and are named in a
//!   comment.
//! - Of senders outside there is only the runner, and only where its address is known.
//! - The cost grows with sources × targets × ports.

mod endpoints;
mod lines;
mod names;
mod reasons;
mod table;
mod write;

use super::BackendKind;
use crate::inventory::Inventory;
use crate::policy::InvalidPolicy;
use std::net::IpAddr;

/// Why there is nothing to draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// A policy that no API server would have taken.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// No pod has an identity apart from its node's.
    #[error("find a workload: there are no pods but those that share their node's network")]
    NoWorkload,
    /// No endpoint has a known port.
    #[error(
        "find a pair to test: no pod declares a port, no Service has one, and no policy names an address outside"
    )]
    NoPair,
}

/// Drafts a suite of this name. `can_be_outside` says which addresses a host outside the cluster
/// can have.
///
/// The same inventory gives the same text.
///
/// # Errors
/// [`DraftError`].
pub fn draft(
    inventory: &Inventory,
    backend: BackendKind,
    name: &str,
    can_be_outside: impl Fn(IpAddr) -> bool,
) -> Result<String, DraftError> {
    let draft_endpoints = endpoints::draft_endpoints(inventory, &can_be_outside)?;
    let mut table = table::Table::fill(&draft_endpoints, inventory, backend)?;
    let groups = lines::line_groups(&mut table);
    if groups.is_empty() {
        return Err(DraftError::NoPair);
    }
    Ok(write::suite(name, &draft_endpoints, &table, &groups))
}
