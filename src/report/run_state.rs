//! What a run has come to so far: for documents that are rendered from it as a whole.

use super::document_file::Document;
use super::wording::{self, TOOL};
use crate::event::{CheckRef, CheckResult, ExitCode, Outcome, RunEvent, RunInfo};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// What is known of a run.
pub(super) struct RunState {
    /// The run, once it began.
    pub(super) run: Option<RunInfo>,
    /// Why it is no basis for a judgement of the whole; `None` only of a run that came to its end
    /// with all its evidence.
    pub(super) incomplete: Option<String>,
    /// How the process ends; `None` while it runs.
    pub(super) code: Option<u8>,
    checks: Vec<CheckRef>,
    settled: HashMap<String, CheckResult>,
    finished: Option<Vec<CheckResult>>,
}

impl RunState {
    /// One result for each check, in order; of a check that is not settled, that it is not
    /// finished.
    pub(super) fn results(&self) -> Vec<Cow<'_, CheckResult>> {
        if let Some(results) = &self.finished {
            return wording::in_order(&self.checks, results);
        }
        let of = |check: &CheckRef| {
            let settled = self.settled.get(&check.id).map(Cow::Borrowed);
            settled.unwrap_or_else(|| Cow::Owned(wording::unfinished(check)))
        };
        self.checks.iter().map(of).collect()
    }

    /// How many results have this outcome.
    pub(super) fn count(results: &[Cow<'_, CheckResult>], outcome: Outcome) -> usize {
        results
            .iter()
            .filter(|result| result.verdict == outcome)
            .count()
    }

    /// The key of a check everywhere.
    pub(super) fn key(result: &CheckResult) -> String {
        format!("{} / {}", result.check.suite, result.check.name)
    }

    /// The key of what no check says: that the run as a whole is not what it should be.
    pub(super) fn run_key() -> String {
        format!("{TOOL} / run")
    }
}

/// A document that is a function of what is known.
pub(super) struct Rendered {
    state: RunState,
    render: fn(&RunState) -> String,
}

impl Rendered {
    pub(super) fn by(render: fn(&RunState) -> String) -> Self {
        let state = RunState {
            run: None,
            incomplete: Some("the run has not begun".into()),
            code: None,
            checks: Vec::new(),
            settled: HashMap::new(),
            finished: None,
        };
        Self { state, render }
    }
}

impl Document for Rendered {
    fn fold(&mut self, event: &RunEvent, _: Duration) {
        let state = &mut self.state;
        match event {
            RunEvent::Started { run, checks, .. } => {
                state.run = Some(run.clone());
                state.incomplete = Some("the run has not finished".into());
                state.checks.clone_from(checks);
            }
            RunEvent::Settled { result } => {
                state
                    .settled
                    .insert(result.check.id.clone(), (**result).clone());
            }
            RunEvent::Finished {
                run,
                results,
                summary,
                ..
            } => {
                state.run = Some(run.clone());
                state.incomplete = match (run.complete && summary.complete, results.is_empty()) {
                    (true, false) => None,
                    (true, true) => Some("nothing was selected: there was nothing to check".into()),
                    (false, _) => Some(
                        run.incomplete_because
                            .clone()
                            .unwrap_or_else(|| "the run is not complete".into()),
                    ),
                };
                state.code = Some(summary.exit_code);
                state.settled.clear();
                state.finished = Some(results.clone());
            }
            RunEvent::Note { .. } | RunEvent::Progress { .. } | RunEvent::CleanedUp { .. } => {}
        }
    }

    fn stop(&mut self, why: &str, code: ExitCode) {
        self.state.incomplete = Some(why.to_owned());
        self.state.code = Some(code.number());
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        Ok((self.render)(&self.state).into_bytes())
    }
}
