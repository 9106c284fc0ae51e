//! Plans of suites for commands that predict and explain: nothing is sent.

use super::hosts::given_addresses;
use super::options::{ClusterOptions, SuiteInput, WorldOptions};
use super::planning::plan_unsent;
use super::terminal::Terminal;
use super::{cluster, lab, load};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{Plan, Selection};
use crate::source::Sources;

/// Plans the selected checks of suites in the world that the lab would make of manifests.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn plan_in_manifests(
    input: SuiteInput<'_>,
    world: &WorldOptions,
    (selection, strict): (&Selection, bool),
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    let mut sources = Sources::new();
    let (suites, manifests) = load::suites_and_world(input, world, strict, &mut sources, terminal)?;
    let families = lab::families(&suites, world.families, terminal)?;
    let planned =
        lab::place_and_plan(&suites, &manifests, families, selection, &sources, terminal)?;

    let inventory = planned.world.inventory();
    load::note_policy_caveats(inventory, terminal);
    Ok((planned.plan, inventory.clone()))
}

/// Plans the selected checks of suites in the cluster as it would be after `kubectl apply` of the
/// manifests of `world`; without any, as it is. Hosts outside whose addresses are given have those.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn plan_in_cluster(
    input: SuiteInput<'_>,
    cluster: &ClusterOptions,
    world: &WorldOptions,
    (selection, strict): (&Selection, bool),
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    let mut sources = Sources::new();
    let (suites, manifests) = load::suites_and_world(input, world, strict, &mut sources, terminal)?;
    let current = cluster::inventory(cluster, &suites, terminal)?;
    let mut inventory = current.with_applied(&manifests);
    inventory.hosts.extend(given_addresses(&suites));

    load::note_policy_caveats(&inventory, terminal);
    let plan = plan_unsent(&inventory, &suites, selection, &sources, terminal)?;
    Ok((plan, inventory))
}
