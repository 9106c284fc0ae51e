//! Plans of suites for commands that predict and explain: nothing is sent.

use super::options::{ClusterOptions, SuiteInput};
use super::planning::plan_unsent;
use super::terminal::Terminal;
use super::{cluster, lab, load};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{Plan, Selection};
use crate::source::Sources;

/// Plans suites in the world that the lab would make of manifests.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn plan_in_manifests(
    input: SuiteInput<'_>,
    manifests: &[String],
    strict: bool,
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    let mut sources = Sources::new();
    let (suites, manifests) =
        load::suites_and_manifests(input, manifests, strict, &mut sources, terminal)?;
    let selection = Selection::default();
    let planned = lab::place_and_plan(&suites, &manifests, &selection, &sources, terminal)?;

    let inventory = planned.world.inventory();
    load::note_policy_caveats(inventory, terminal);
    Ok((planned.plan, inventory.clone()))
}

/// Plans suites in the cluster as it would be after `kubectl apply` of manifests; without any, as
/// it is.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn plan_in_cluster(
    input: SuiteInput<'_>,
    cluster: &ClusterOptions,
    manifests: &[String],
    strict: bool,
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    let mut sources = Sources::new();
    let (suites, manifests) =
        load::suites_and_manifests(input, manifests, strict, &mut sources, terminal)?;
    let current = cluster::inventory(cluster, &suites, terminal)?;
    let inventory = current.with_applied(&manifests);

    load::note_policy_caveats(&inventory, terminal);
    let plan = plan_unsent(&inventory, &suites, &sources, terminal)?;
    Ok((plan, inventory))
}
