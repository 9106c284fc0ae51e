//! Drafts of suites, from what policies say.

use super::options::ClusterOptions;
use super::terminal::{Progress, Terminal};
use super::{cluster, lab, load};
use crate::backend::lab::usable_outside;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{BackendKind, DraftOptions, draft};
use crate::source::Sources;
use crate::suite;
use std::net::IpAddr;

/// Drafts a suite in the world that the lab would make of manifests.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn from_manifests(
    manifests: &[String],
    options: &DraftOptions,
    strict: bool,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    let manifests = load::manifests(manifests, strict, &mut Sources::new(), terminal)?;
    let world = lab::place(&manifests, &[], options.lab_families, terminal)?;
    draft_suite(
        world.inventory(),
        BackendKind::Lab,
        options,
        usable_outside,
        terminal,
    )
}

/// Drafts a suite for a cluster.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn from_cluster(
    cluster: &ClusterOptions,
    options: &DraftOptions,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    let inventory = cluster::inventory(cluster, &[], terminal)?;
    let anywhere = |_| true;
    draft_suite(
        &inventory,
        BackendKind::Cluster,
        options,
        anywhere,
        terminal,
    )
}

fn draft_suite(
    inventory: &Inventory,
    backend: BackendKind,
    options: &DraftOptions,
    can_be_outside: fn(IpAddr) -> bool,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    load::note_policy_caveats(inventory, terminal);
    let mut progress = Progress::start(terminal);
    let mut progress = |done: usize, all: usize| {
        progress.show(|| format!("drafting: {done} of {all} targets"));
    };
    let text =
        draft(inventory, backend, options, can_be_outside, &mut progress).map_err(|error| {
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
