//! Drafts of suites, from what policies say.

use super::options::ClusterOptions;
use super::terminal::Terminal;
use super::{cluster, lab, load};
use crate::backend::lab::usable_outside;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{BackendKind, draft};
use crate::source::Sources;
use crate::suite;
use std::net::IpAddr;

/// Drafts a suite called `name` in the world that the lab would make of manifests.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn from_manifests(
    manifests: &[String],
    name: &str,
    strict: bool,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    let manifests = load::manifests(manifests, strict, &mut Sources::new(), terminal)?;
    let world = lab::place(&manifests, &[], None, terminal)?;
    draft_suite(
        world.inventory(),
        BackendKind::Lab,
        name,
        usable_outside,
        terminal,
    )
}

/// Drafts a suite called `name` for a cluster.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn from_cluster(
    cluster: &ClusterOptions,
    name: &str,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    let inventory = cluster::inventory(cluster, &[], terminal)?;
    draft_suite(&inventory, BackendKind::Cluster, name, |_| true, terminal)
}

fn draft_suite(
    inventory: &Inventory,
    backend: BackendKind,
    name: &str,
    can_be_outside: fn(IpAddr) -> bool,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    load::note_policy_caveats(inventory, terminal);
    let text = draft(inventory, backend, name, can_be_outside).map_err(|error| {
        terminal.error(&format!("failed to {error}"));
        ExitCode::Usage
    })?;
    validate(&text, terminal)?;
    Ok(text)
}

/// Fails for a draft that `watertight validate` would refuse: it is a defect, and not for the user
/// to correct.
fn validate(text: &str, terminal: &Terminal) -> Result<(), ExitCode> {
    let mut sources = Sources::new();
    let file = sources.add("the draft", text);
    let (_, diagnostics) = suite::read(&[file], &sources);
    if diagnostics.has_errors() {
        terminal.diagnostics(&diagnostics, &sources);
        terminal.error("the drafted suite is not valid: a defect in watertight");
        return Err(ExitCode::Defect);
    }
    Ok(())
}
