//! The state of a run, from which most formats are rendered.

use super::document_file::DocumentFormat;
use super::wording::{self, TOOL};
use crate::event::{
    CheckRef, CheckResult, Coverage, EnvironmentInfo, ExitCode, Outcome, PolicyState, RunEvent,
    RunInfo, SuiteRef, Summary,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// What the events so far say of a run.
pub(super) struct RunState {
    /// The run, once it has started.
    pub(super) run: Option<RunInfo>,
    /// Where the run takes place, and the policies at its start.
    pub(super) environment: Option<EnvironmentInfo>,
    /// The policies at the end of the run.
    pub(super) policies_after: Option<Vec<PolicyState>>,
    pub(super) suites: Vec<SuiteRef>,
    pub(super) coverage: Option<Box<Coverage>>,
    /// What the run could not remove; `None` until it has tried.
    pub(super) leftovers: Option<Vec<String>>,
    /// Whether the run finished and every planned check was judged with all its evidence.
    pub(super) is_complete: bool,
    /// Why the results are no basis for an overall verdict: the run is not complete, or nothing
    /// was selected.
    pub(super) incomplete: Option<String>,
    /// The exit code; `None` while the run goes on.
    pub(super) exit_code: Option<u8>,
    checks: Vec<CheckRef>,
    /// Results of settled checks, by the check's id; empty once the run has finished.
    settled: HashMap<String, CheckResult>,
    finished: Option<Vec<CheckResult>>,
}

impl RunState {
    /// The state before a run has started.
    pub(super) fn new() -> Self {
        Self {
            run: None,
            environment: None,
            policies_after: None,
            suites: Vec::new(),
            coverage: None,
            leftovers: None,
            is_complete: false,
            incomplete: Some("the run has not begun".into()),
            exit_code: None,
            checks: Vec::new(),
            settled: HashMap::new(),
            finished: None,
        }
    }

    /// One result for each check, in order; a check that is not settled is not finished.
    pub(super) fn results(&self) -> Vec<Cow<'_, CheckResult>> {
        if let Some(results) = &self.finished {
            return wording::in_order(&self.checks, results);
        }
        self.checks
            .iter()
            .map(|check| self.settled_result(check))
            .collect()
    }

    fn settled_result(&self, check: &CheckRef) -> Cow<'_, CheckResult> {
        match self.settled.get(&check.id) {
            Some(result) => Cow::Borrowed(result),
            None => Cow::Owned(wording::unfinished(check)),
        }
    }

    /// How many results have this outcome.
    pub(super) fn count(results: &[Cow<'_, CheckResult>], outcome: Outcome) -> usize {
        results
            .iter()
            .filter(|result| result.verdict == outcome)
            .count()
    }

    /// The name of a check, unique among all suites.
    pub(super) fn check_name(result: &CheckResult) -> String {
        format!("{} / {}", result.check.suite, result.check.name)
    }

    /// The name of the test that fails where the run as a whole is not complete.
    pub(super) fn run_name() -> String {
        format!("{TOOL} / run")
    }

    fn finish(&mut self, run: &RunInfo, results: &[CheckResult], summary: Summary) {
        self.run = Some(run.clone());
        self.is_complete = run.complete && summary.complete;
        self.incomplete = if !self.is_complete {
            let why = run.incomplete_because.clone();
            Some(why.unwrap_or_else(|| "the run is not complete".into()))
        } else if results.is_empty() {
            Some("nothing was selected: there was nothing to check".into())
        } else {
            None
        };
        self.exit_code = Some(summary.exit_code);

        self.settled.clear();
        self.finished = Some(results.to_vec());
    }
}

/// A document that is a function of the run's state.
pub(super) struct RenderedDocument {
    state: RunState,
    render: fn(&RunState) -> String,
}

impl RenderedDocument {
    /// A document of a run that has not begun.
    pub(super) fn new(render: fn(&RunState) -> String) -> Self {
        Self {
            state: RunState::new(),
            render,
        }
    }

    /// [`Self::new`], as the formats hold it.
    pub(super) fn boxed(render: fn(&RunState) -> String) -> Box<dyn DocumentFormat + Send> {
        Box::new(Self::new(render))
    }
}

impl DocumentFormat for RenderedDocument {
    fn apply(&mut self, event: &RunEvent, _: Duration) {
        let state = &mut self.state;
        match event {
            RunEvent::Started {
                run,
                environment,
                suites,
                checks,
                coverage,
            } => {
                state.run = Some(run.clone());
                state.environment.clone_from(environment);
                state.suites.clone_from(suites);
                state.checks.clone_from(checks);
                state.coverage.clone_from(coverage);
                state.incomplete = Some("the run has not finished".into());
            }
            RunEvent::Settled { result } => {
                let id = result.check.id.clone();
                state.settled.insert(id, (**result).clone());
            }
            RunEvent::Finished {
                run,
                results,
                summary,
                policies_after,
            } => {
                state.policies_after.clone_from(policies_after);
                state.finish(run, results, *summary);
            }
            RunEvent::CleanedUp { leftovers } => state.leftovers = Some(leftovers.clone()),
            RunEvent::Note { .. } | RunEvent::Progress { .. } => {}
        }
    }

    fn stop(&mut self, why: &str, code: ExitCode) {
        self.state.incomplete = Some(why.to_owned());
        self.state.exit_code = Some(code.number());
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        Ok((self.render)(&self.state).into_bytes())
    }
}
