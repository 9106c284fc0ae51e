//! Suites and an inventory → a [`Plan`].

use super::addresses::Addressing;
use super::builder::Builder;
use super::check_settings::BackendKind;
use super::checks::SuiteExpander;
use super::controls::{self, ControlEndpoints};
use super::coverage::coverage;
use super::notes::source_modes;
use super::predict::{self, Predictions};
use super::sweep;
use super::{Plan, Provability, SuiteRef};
use crate::inventory::Inventory;
use crate::model::ObjectRef;
use crate::source::Place;
use crate::suite::Suite;

/// Something in a suite that shows to be wrong only once names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDiagnostic {
    /// What.
    pub message: String,
    /// Where.
    pub place: Place,
    /// Another place that it contradicts.
    pub other: Option<Place>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The suites must be changed: all mistakes at once.
    #[error("{} mistakes show once names are resolved", .0.len())]
    Mistakes(Vec<PlanDiagnostic>),
    /// Nothing is left to check.
    #[error("no check is selected")]
    NothingSelected,
    /// A workload to sweep from does not exist.
    #[error("nothing can be swept: {0}")]
    NoWorkload(String),
    /// Not one check can be proven.
    #[error("none of the {0} checks can be proven; the first: {1}")]
    AllUnprovable(usize, String),
}

/// Which checks are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Keep checks whose `SUITE / NAME` matches.
    pub only: Option<regex::Regex>,
    /// Keep checks with one of these tags.
    pub tags: Vec<String>,
    /// Leave out checks with one of these tags.
    pub skip_tags: Vec<String>,
    /// Try also everything that these workloads could reach and that no line speaks of.
    pub sweep: Vec<ObjectRef>,
}

impl Selection {
    pub(super) fn wants(&self, suite: &str, name: &str, tags: &[String]) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.is_match(&format!("{suite} / {name}")))
            && (self.tags.is_empty() || tags.iter().any(|tag| self.tags.contains(tag)))
            && !tags.iter().any(|tag| self.skip_tags.contains(tag))
    }
}

/// Makes the plan.
///
/// # Errors
/// [`PlanError`]. A check that can never be proven, or that matches nothing, is no error: it is in
/// the plan and says so.
pub fn resolve(
    suites: &[Suite],
    inventory: &Inventory,
    environment: BackendKind,
    control_endpoints: &ControlEndpoints,
    selection: &Selection,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::default();
    let mut mistakes = Vec::new();
    let ends = Addressing::of(inventory);
    for (index, suite) in suites.iter().enumerate() {
        builder.suites.push(SuiteRef {
            name: suite.name.clone(),
            file: suite.file.clone(),
            sha256: suite.sha256.clone(),
        });
        builder.notes.extend(source_modes(suite));
        builder.inside.extend(ends.sent_from_within(suite));
        mistakes.extend(
            SuiteExpander::new(index, suite, environment, selection, &ends, &mut builder).run(),
        );
    }
    if !mistakes.is_empty() {
        return Err(PlanError::Mistakes(mistakes));
    }
    if builder.checks.is_empty() {
        return Err(PlanError::NothingSelected);
    }
    let hopeless = builder
        .checks
        .iter()
        .find_map(|check| match &check.provability {
            Provability::Unprovable(why) => Some(why.clone()),
            Provability::Provable | Provability::MatchesNothing(_) => None,
        });
    if let Some(why) = hopeless
        && builder
            .checks
            .iter()
            .all(|check| matches!(check.provability, Provability::Unprovable(_)))
    {
        return Err(PlanError::AllUnprovable(builder.checks.len(), why));
    }
    for workload in &selection.sweep {
        sweep::add(&mut builder, &ends, environment, workload)?;
    }
    let mut predictions = Predictions::new(inventory);
    controls::add(
        &mut builder,
        suites,
        &ends,
        control_endpoints,
        predictions.as_mut().ok(),
    );
    match &mut predictions {
        Ok(predictions) => {
            builder.notes.extend(predictions.caveats());
            predict::add(&mut builder, predictions);
        }
        Err(error) => builder
            .notes
            .push(format!("nothing is predicted: failed to {error}")),
    }
    let mut plan = builder.finish(environment, inventory);
    plan.coverage = predictions
        .ok()
        .map(|predictions| coverage(&plan, suites, inventory, &predictions));
    Ok(plan)
}
