//! Plans: how one is made in the lab's world and in a cluster, and how it is made again when pods
//! or Services change.

use super::terminal::Terminal;
use crate::backend::kube;
use crate::backend::lab::World;
use crate::engine::Replan;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::model::Secrets;
use crate::plan::{self, BackendProperties, Plan, PlanDiagnostic, PlanError, Selection};
use crate::source::{Diagnostic, Diagnostics, Sources};
use crate::suite::Suite;

/// What the requests of suites take from the environment.
pub(super) fn secrets_of(suites: &[Suite]) -> Secrets {
    let mut secrets = Secrets::default();
    for suite in suites {
        secrets.extend(suite.secrets());
    }
    secrets
}

/// The plan of suites in a lab's world.
///
/// # Errors
/// [`PlanError`].
pub fn plan_in(world: &World, suites: &[Suite], selection: &Selection) -> Result<Plan, PlanError> {
    plan::resolve(suites, world.inventory(), &world.properties(), selection)
}

/// How the plan of suites is made again when the pods or Services of that world have changed.
pub fn replan_in(world: &World, suites: &[Suite], selection: &Selection) -> Replan {
    let properties = world.properties();
    let (suites, selection) = (suites.to_vec(), selection.clone());
    Replan::by(move |inventory| plan::resolve(&suites, inventory, &properties, &selection))
}

/// The plan of suites in a cluster.
///
/// # Errors
/// [`PlanError`].
pub(super) fn plan_in_cluster(
    inventory: &Inventory,
    suites: &[Suite],
    selection: &Selection,
) -> Result<Plan, PlanError> {
    plan::resolve(suites, inventory, &kube::properties(inventory), selection)
}

/// How the plan of suites is made again when the cluster has changed. Outside hosts keep the
/// addresses that they have in `inventory`.
pub(super) fn replan_in_cluster(
    inventory: &Inventory,
    suites: &[Suite],
    selection: &Selection,
) -> Replan {
    let hosts = inventory.hosts.clone();
    let (suites, selection) = (suites.to_vec(), selection.clone());
    Replan::by(move |inventory| {
        let inventory = Inventory {
            hosts: hosts.clone(),
            ..inventory.clone()
        };
        plan_in_cluster(&inventory, &suites, &selection)
    })
}

/// The plan of suites for a command that sends nothing. Checks that could never be proven are
/// planned like the others.
///
/// # Errors
/// The cause has been shown.
pub(super) fn plan_unsent(
    inventory: &Inventory,
    suites: &[Suite],
    selection: &Selection,
    sources: &Sources,
    terminal: &Terminal,
) -> Result<Plan, ExitCode> {
    let plan = plan::resolve(suites, inventory, &BackendProperties::none(), selection);
    plan.map_err(|error| show_plan_error(&error, sources, terminal))
}

/// Shows why there is no plan, and gives the exit code.
pub(super) fn show_plan_error(
    error: &PlanError,
    sources: &Sources,
    terminal: &Terminal,
) -> ExitCode {
    match error {
        PlanError::Invalid(mistakes) => {
            terminal.diagnostics(&diagnostics_of(mistakes, sources), sources);
            ExitCode::Usage
        }
        PlanError::NoWorkload(_) => {
            terminal.error(&error.to_string());
            ExitCode::Usage
        }
        PlanError::NothingSelected
        | PlanError::SuiteWithoutChecks(_)
        | PlanError::AllUnprovable(..) => {
            terminal.error(&error.to_string());
            ExitCode::Impossible
        }
    }
}

/// The planner's diagnostics, which name lines, as diagnostics with spans.
fn diagnostics_of(mistakes: &[PlanDiagnostic], sources: &Sources) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for mistake in mistakes {
        let Some(span) = sources.rest_of_line(&mistake.place) else {
            continue;
        };
        let mut diagnostic = Diagnostic::error(span, mistake.message.clone());

        let other = mistake.other.as_ref();
        if let Some(other) = other.and_then(|place| sources.rest_of_line(place)) {
            diagnostic = diagnostic.with_secondary(other, "the other line");
        }
        diagnostics.push(diagnostic);
    }
    diagnostics
}
