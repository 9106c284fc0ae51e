//! Suites and an inventory → a [`Plan`].

use super::addresses::Addressing;
use super::builder::Builder;
use super::checks::{Expansion, SuiteExpander};
use super::controls;
use super::coverage::coverage;
use super::credentials;
use super::notes::source_modes;
use super::predict::{self, Predictions};
use super::{BackendKind, BackendProperties, Check, Plan, Provability, SuiteRef};
use super::{outside, sweep};
use crate::inventory::Inventory;
use crate::model::ObjectRef;
use crate::source::Place;
use crate::suite::Suite;

/// A mistake in a suite that can be found only once its names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDiagnostic {
    pub message: String,
    pub place: Place,
    /// Another place that it contradicts.
    pub other: Option<Place>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The suites must be changed: all diagnostics at once.
    #[error("{} mistakes are found once names are resolved", .0.len())]
    Invalid(Vec<PlanDiagnostic>),
    /// The selection leaves no check.
    #[error("no check is selected")]
    NothingSelected,
    /// Suites make no check at all, whatever is selected: their names and files.
    #[error("nothing to test in suite {}: no line and no pair of endpoints makes a check", .0.join(", "))]
    SuiteWithoutChecks(Vec<String>),
    /// A workload to sweep from does not exist.
    #[error("nothing can be swept: {0}")]
    NoWorkload(String),
    /// No check can be proven: how many there are, and why the first cannot.
    #[error("none of the {0} checks can be proven; the first: {1}")]
    AllUnprovable(usize, String),
}

/// Which checks are planned.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Keep checks whose `SUITE / NAME` matches.
    pub only: Option<regex::Regex>,
    /// Keep checks with one of these tags.
    pub tags: Vec<String>,
    /// Leave out checks with one of these tags.
    pub skip_tags: Vec<String>,
    /// Try also everything that these workloads could reach and that no line names.
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
/// [`PlanError`]. A check that cannot be proven, or that matches nothing, is no error: it is in the
/// plan and says so.
pub fn resolve(
    suites: &[Suite],
    inventory: &Inventory,
    backend: &BackendProperties,
    selection: &Selection,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::default();
    let mut found = Expanded::default();
    let mut addressing = Addressing::of(inventory);
    if backend.kind == BackendKind::Cluster {
        addressing.send_from_within(suites);
    }
    let mut predictions = Predictions::new(inventory);
    for (index, suite) in suites.iter().enumerate() {
        builder.suites.push(SuiteRef {
            name: suite.name.clone(),
            file: suite.file.clone(),
            sha256: suite.sha256.clone(),
        });
        builder.notes.extend(source_modes(suite));
        builder.ephemeral.extend(addressing.sent_from_within(suite));
        match backend.kind {
            BackendKind::Cluster => found.diagnostics.extend(credentials::in_the_clear(suite)),
            BackendKind::Lab => {}
        }
        let expander = SuiteExpander::new(
            index,
            suite,
            backend,
            selection,
            &addressing,
            predictions.as_mut().ok(),
            &mut builder,
        );
        found.add(suite, expander.run());
    }
    found.check()?;
    if builder.checks.is_empty() {
        return Err(PlanError::NothingSelected);
    }
    // What is swept may still be found open.
    if builder.swept.is_empty()
        && let Some(error) = all_unprovable(&builder.checks)
    {
        return Err(error);
    }

    for workload in &selection.sweep {
        let explainer = predictions.as_ref().ok().map(Predictions::explainer);
        sweep::add(&mut builder, &addressing, backend.kind, workload, explainer)?;
    }
    let notes = outside::notes(&builder, backend.kind, inventory);
    builder.notes.extend(notes);

    controls::add(
        &mut builder,
        suites,
        &addressing,
        &backend.control_endpoints,
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

    let mut plan = builder.finish(backend, inventory);
    plan.parts.source_kinds = plan
        .parts
        .probes
        .iter()
        .filter_map(|source| Some((source.clone(), addressing.kind_of_source(source)?)))
        .collect();
    plan.parts.coverage = predictions
        .ok()
        .map(|predictions| coverage(&plan, suites, inventory, &predictions));
    Ok(plan)
}

/// Gives every check of suites with its prediction to `each`, in order, and keeps none: what a plan
/// would have of them, without controls.
///
/// # Errors
/// [`PlanError`], as [`resolve`] without a selection.
pub fn survey(
    suites: &[Suite],
    inventory: &Inventory,
    backend: &BackendProperties,
    each: &mut dyn FnMut(&Check),
) -> Result<(), PlanError> {
    let selection = Selection::default();
    let addressing = Addressing::of(inventory);
    let mut predictions = Predictions::new(inventory);
    let mut builder = Builder::default();
    let mut found = Expanded::default();
    let mut unprovable = AllUnprovable::default();
    for (index, suite) in suites.iter().enumerate() {
        let mut take = |check: &Check| {
            unprovable.add(check);
            each(check);
        };
        let expander = SuiteExpander::new(
            index,
            suite,
            backend,
            &selection,
            &addressing,
            predictions.as_mut().ok(),
            &mut builder,
        );
        found.add(suite, expander.survey(&mut take));
    }
    found.check()?;
    // What is swept may still be found open.
    match unprovable.error().filter(|_| builder.swept.is_empty()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// What is wrong with suites, once their lines are expanded.
#[derive(Default)]
struct Expanded {
    diagnostics: Vec<PlanDiagnostic>,
    /// The suites without a check.
    without_checks: Vec<String>,
}

impl Expanded {
    fn add(&mut self, suite: &Suite, expansion: Expansion) {
        self.diagnostics.extend(expansion.diagnostics);
        if !expansion.has_checks {
            self.without_checks
                .push(format!("{} ({})", suite.name, suite.file));
        }
    }

    /// The error of all suites together, if there is one.
    fn check(self) -> Result<(), PlanError> {
        if !self.diagnostics.is_empty() {
            return Err(PlanError::Invalid(self.diagnostics));
        }
        if !self.without_checks.is_empty() {
            return Err(PlanError::SuiteWithoutChecks(self.without_checks));
        }
        Ok(())
    }
}

/// Whether no check can be proven.
#[derive(Default)]
struct AllUnprovable {
    count: usize,
    /// Why the first cannot.
    first: Option<String>,
    /// Whether some check may be proven.
    is_refuted: bool,
}

impl AllUnprovable {
    fn add(&mut self, check: &Check) {
        self.count += 1;
        match &check.provability {
            Provability::Unprovable(why) => {
                self.first.get_or_insert_with(|| why.clone());
            }
            Provability::Provable
            | Provability::MatchesNothing(_)
            | Provability::AddressUnknown(_)
            | Provability::NothingReady(_)
            | Provability::Incomplete(_)
            | Provability::PoliciesAdmitMore(_) => self.is_refuted = true,
        }
    }

    fn error(self) -> Option<PlanError> {
        let first = self.first.filter(|_| !self.is_refuted)?;
        Some(PlanError::AllUnprovable(self.count, first))
    }
}

/// The error that no check can be proven, if that is so.
fn all_unprovable(checks: &[Check]) -> Option<PlanError> {
    let mut all = AllUnprovable::default();
    for check in checks {
        all.add(check);
    }
    all.error()
}
