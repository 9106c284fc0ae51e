//! Where events and raw lines go: reports, the console, the evidence.

use super::RunOptions;
use super::evidence::EvidenceFile;
use super::terminal::Terminal;
use crate::backend::{Arrival, Change, EnforcerCounts};
use crate::engine::Observer;
use crate::event::{CheckResult, ExitCode, PolicyState, RunEvent, RunInfo, Summary};
use crate::plan::Plan;
use crate::report::{Annotations, Console, Detail, Output, Progress, Reports, StepSummary};
use std::path::Path;

/// Where events and raw lines go.
pub(crate) struct Sinks {
    pub(super) reports: Reports,
    evidence: Option<EvidenceFile>,
    /// Whether a run came to its own end.
    pub(super) complete: bool,
}

impl Sinks {
    /// Reports alone.
    pub(crate) fn of(reports: Reports) -> Self {
        Self {
            reports,
            evidence: None,
            complete: false,
        }
    }

    /// All files, opened before hours of work and not after; what people see is added by
    /// [`Sinks::show`].
    pub(super) fn open(options: &RunOptions, terminal: &Terminal) -> Result<Self, ExitCode> {
        let (specs, evidence) = options.specs().map_err(|error| {
            terminal.error(&error);
            ExitCode::Usage
        })?;
        let mut reports = Reports::open(&specs).map_err(|errors| {
            for error in errors {
                terminal.error(&describe(&error));
            }
            ExitCode::Usage
        })?;
        match options.output {
            Output::Text => {}
            Output::Data(format) => reports.add_output(format, std::io::stdout()),
        }
        let evidence = match evidence {
            None => None,
            Some(path) => Some(EvidenceFile::create(Path::new(&path)).map_err(|error| {
                terminal.error(&format!("failed to open evidence={path}: {error}"));
                ExitCode::Usage
            })?),
        };
        Ok(Self {
            reports,
            evidence,
            complete: false,
        })
    }

    /// Adds the console.
    pub(super) fn show(&mut self, options: &RunOptions, terminal: &Terminal) {
        let results = match options.output {
            Output::Text => terminal.stdout(),
            Output::Data(_) => terminal.stderr(),
        };
        let detail = if options.select.verbose {
            Detail::Verbose
        } else {
            Detail::Brief
        };
        self.reports.add(
            "console",
            Console::new(
                results,
                terminal.stderr(),
                detail,
                Progress::by_convention(),
            ),
        );
        if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
            self.show_on_github(terminal);
        }
    }

    /// Findings beside the lines of the suite, and a summary of the step, as GitHub's runners take
    /// them.
    fn show_on_github(&mut self, terminal: &Terminal) {
        self.reports
            .add("GitHub annotations", Annotations::new(std::io::stderr()));
        let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY") else {
            return;
        };
        match StepSummary::open(Path::new(&path)) {
            Ok(summary) => self.reports.add("GitHub step summary", summary),
            Err(error) => terminal.note(&format!("there is no step summary: {error}")),
        }
    }

    /// The run ended early, or never began.
    pub(super) fn stopped(&mut self, why: &str, code: ExitCode) -> ExitCode {
        self.reports.stopped(why, code);
        code
    }

    /// The raw lines are complete.
    pub(super) fn flush(&mut self) {
        if let Some(evidence) = &mut self.evidence {
            evidence.flush();
        }
    }

    /// Nothing more comes: the exit code, in view of what could not be written.
    pub(super) fn finish(&mut self, code: ExitCode, terminal: &Terminal) -> ExitCode {
        self.reports.close();
        for error in self.reports.errors() {
            terminal.error(&describe(error));
        }
        if let Some(error) = self.evidence.as_ref().and_then(EvidenceFile::error) {
            terminal.error(&format!("failed to write the evidence: {error}"));
            return ExitCode::Defect;
        }
        self.reports.exit_code(code)
    }
}

impl Observer for Sinks {
    fn event(&mut self, event: RunEvent) {
        self.reports.event(&event);
    }

    fn finished(
        &mut self,
        run: RunInfo,
        policies: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        self.complete = run.complete;
        self.reports.finished(run, policies, results)
    }

    fn planned(&mut self, plan: &Plan, run: &RunInfo) {
        if let Some(evidence) = &mut self.evidence {
            evidence.planned(plan, run);
        }
    }

    fn arrival(&mut self, arrival: &Arrival) {
        if let Some(evidence) = &mut self.evidence {
            evidence.arrival(arrival);
        }
    }

    fn change(&mut self, change: &Change) {
        if let Some(evidence) = &mut self.evidence {
            evidence.change(change);
        }
    }

    fn counters(&mut self, counters: &EnforcerCounts) {
        if let Some(evidence) = &mut self.evidence {
            evidence.counters(counters);
        }
    }
}

/// An error with all its causes, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = format!("failed to {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
