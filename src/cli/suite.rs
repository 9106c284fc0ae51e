//! `watertight suite --from MANIFESTS...|cluster`: drafts a suite from what policies say.

use super::cluster::{self, ClusterArgs};
use super::load;
use super::predict::written;
use super::terminal::Terminal;
use crate::backend::lab::{self, Layout, World};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::model::EndpointName;
use crate::plan::{BackendKind, draft};
use crate::source::Sources;
use crate::suite;
use clap::Args;
use std::net::IpAddr;

/// The word for the cluster of the kubeconfig, where manifests could stand.
const CLUSTER: &str = "cluster";

#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
    /// Manifests (files, folders, or - for standard input), or the word cluster for that of the
    /// kubeconfig
    #[arg(long, value_name = "MANIFESTS|cluster", num_args = 1.., required = true)]
    from: Vec<String>,
    /// What the suite is called
    #[arg(long, value_name = "NAME", default_value = "drafted", value_parser = parse_name)]
    name: String,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Of the names that a suite may have, those that need no quotes.
fn parse_name(text: &str) -> Result<String, String> {
    EndpointName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| error.to_string())
}

pub(super) fn suite(args: &SuiteArgs, terminal: &Terminal) -> ExitCode {
    let drafted = match args.from.as_slice() {
        [only] if only == CLUSTER => from_cluster(args, terminal),
        manifests => from_manifests(args, manifests, terminal),
    };
    drafted
        .and_then(|text| accepted(text, terminal))
        .and_then(|text| written(&text, terminal))
        .unwrap_or_else(|code| code)
}

/// In the world that the lab would make of them.
fn from_manifests(
    args: &SuiteArgs,
    manifests: &[String],
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    let manifests = load::manifests(manifests, args.strict, &mut Sources::new(), terminal)?;
    let world = World::place(&manifests, &[], Layout::default()).map_err(|error| {
        terminal.error(&format!("cannot make the lab: failed to {error}"));
        ExitCode::Usage
    })?;
    text(
        args,
        world.inventory(),
        BackendKind::Lab,
        lab::usable_outside,
        terminal,
    )
}

fn from_cluster(args: &SuiteArgs, terminal: &Terminal) -> Result<String, ExitCode> {
    let inventory = cluster::inventory(&args.cluster, &[], terminal)?;
    text(args, &inventory, BackendKind::Cluster, |_| true, terminal)
}

fn text(
    args: &SuiteArgs,
    inventory: &Inventory,
    environment: BackendKind,
    can_be_outside: fn(IpAddr) -> bool,
    terminal: &Terminal,
) -> Result<String, ExitCode> {
    load::note_oddities(inventory, terminal);
    draft(inventory, environment, &args.name, can_be_outside).map_err(|error| {
        terminal.error(&format!("failed to {error}"));
        ExitCode::Usage
    })
}

/// A draft that `validate` refuses is a defect, and nobody's work to correct.
fn accepted(text: String, terminal: &Terminal) -> Result<String, ExitCode> {
    let mut sources = Sources::new();
    let file = sources.add("the draft", text.as_str());
    let (_, diagnostics) = suite::read(&[file], &sources);
    if diagnostics.has_errors() {
        terminal.diagnostics(&diagnostics, &sources);
        terminal.error("the drafted suite is not valid: a defect in watertight");
        return Err(ExitCode::Defect);
    }
    Ok(text)
}
