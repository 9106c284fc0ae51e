//! An inventory → the text of a suite that says what its policies say, for a person to correct.
//!
//! ```text
//! Inventory ── endpoints ──▶ DraftEndpoints ── table ──▶ an answer for each pair and port ── lines ──▶ line groups ── write ──▶ text
//! ```
//!
//! Answers come from the same flows that a plan of the drafted suite would have, so that the
//! policies contradict none of its lines. What no policy and no object says is marked `guessed`. The
//! metadata address and an address elsewhere are comments with their lines: no policy has to speak of
//! them.
//!
//! Endpoints of one namespace that policies treat in the same way are one group. Of many endpoints
//! that are not, `everythingElse` stands for the denies, and reasons stand behind their lines.
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
//! - The cost grows with sources × targets × ports, where equal endpoints count as one.

mod endpoints;
mod lines;
mod names;
mod reasons;
mod table;
mod write;

use super::BackendKind;
use crate::inventory::{Inventory, Pod};
use crate::model::Families;
use crate::policy::InvalidPolicy;
use kube_core::{Selector, SelectorExt};
use std::collections::BTreeSet;
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
    /// The selection, as the command line has it, selects no pod.
    #[error("find a workload: {0} selects no pod")]
    NothingSelected(String),
    /// No endpoint has a known port.
    #[error(
        "find a pair to test: no pod declares a port, no Service has one, and no policy names an address outside"
    )]
    NoPair,
}

/// The workloads that a draft is about: those with any pod in one of the namespaces, with labels
/// that the selector matches.
#[derive(Debug, Clone, Default)]
pub struct DraftSelection {
    /// None for all.
    pub namespaces: BTreeSet<String>,
    /// Without requirements it matches every pod.
    pub labels: Selector,
}

impl DraftSelection {
    fn is_everything(&self) -> bool {
        self.namespaces.is_empty() && self.labels.selects_all()
    }

    fn contains(&self, pod: &Pod) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(&pod.namespace))
            && self.labels.matches(&pod.labels)
    }
}

impl std::fmt::Display for DraftSelection {
    /// As the command line has it: `-n shop -l app=web`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespaces: Vec<&str> = self.namespaces.iter().map(String::as_str).collect();
        let mut parts = Vec::new();
        if !namespaces.is_empty() {
            parts.push(format!("-n {}", namespaces.join(",")));
        }
        if !self.labels.selects_all() {
            parts.push(format!("-l {}", self.labels));
        }
        f.write_str(&parts.join(" "))
    }
}

/// What a drafted suite is called, what it is about, and what it sets.
#[derive(Debug, Clone, Default)]
pub struct DraftOptions {
    pub name: String,
    pub selection: DraftSelection,
    /// The address families that the suite gives the lab; `None` for what the manifests show.
    pub lab_families: Option<Families>,
}

/// Drafts a suite. `can_be_outside` says which addresses a host outside the cluster
/// can have;
/// `progress` is given the number of targets that are done, and of all.
///
/// The same inventory gives the same text.
///
/// # Errors
/// [`DraftError`].
pub fn draft(
    inventory: &Inventory,
    backend: BackendKind,
    options: &DraftOptions,
    can_be_outside: impl Fn(IpAddr) -> bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<String, DraftError> {
    let draft_endpoints =
        endpoints::draft_endpoints(inventory, &options.selection, &can_be_outside)?;
    let mut table = table::Table::fill(&draft_endpoints, inventory, backend, progress)?;
    let groups = lines::line_groups(&mut table);
    if groups.iter().all(|group| group.optional) {
        return Err(DraftError::NoPair);
    }
    Ok(write::suite(options, &draft_endpoints, &table, &groups))
}
