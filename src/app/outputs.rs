//! Where a run's events and raw lines go: reports, console and raw evidence.

use super::evidence::EvidenceFile;
use super::options::RunOptions;
use super::run::Stopped;
use super::terminal::{Terminal, describe};
use crate::backend::{Arrival, Change, EnforcerCounts};
use crate::engine::Observer;
use crate::event::{CheckResult, ExitCode, PolicyState, RunEvent, RunInfo, Summary};
use crate::plan::Plan;
use crate::report::{Annotations, Console, Output, Progress, Reports, StepSummary};
use std::path::Path;

/// The reports of a run, its console and its raw evidence.
pub(crate) struct Outputs {
    reports: Reports,
    evidence: Option<EvidenceFile>,
    complete: bool,
}

impl Outputs {
    /// Outputs that consist of these reports alone.
    pub(crate) fn reports_only(reports: Reports) -> Self {
        Self {
            reports,
            evidence: None,
            complete: false,
        }
    }

    /// Opens all files, before hours of work and not after. The console is added by
    /// [`Outputs::show_console`].
    ///
    /// # Errors
    /// [`ExitCode::Usage`] where a file cannot be written, which has been shown.
    pub(crate) fn open(options: &RunOptions, terminal: &Terminal) -> Result<Self, ExitCode> {
        let mut reports = Reports::open(&options.reports).map_err(|errors| {
            for error in errors {
                terminal.error(&describe(&error));
            }
            ExitCode::Usage
        })?;
        match options.output {
            Output::Text => {}
            Output::Data(format) => reports.add_output(format, std::io::stdout()),
        }

        let evidence = match &options.evidence {
            None => None,
            Some(path) => Some(create_evidence(path, terminal)?),
        };
        Ok(Self {
            reports,
            evidence,
            complete: false,
        })
    }

    /// Adds the console; where GitHub's runner starts the run, its annotations and step summary
    /// too.
    pub(crate) fn show_console(&mut self, options: &RunOptions, terminal: &Terminal) {
        let results = match options.output {
            Output::Text => terminal.stdout(),
            Output::Data(_) => terminal.stderr(),
        };
        let progress = Progress::by_convention();
        let console = Console::new(results, terminal.stderr(), options.detail, progress);
        self.reports.add("console", console);

        if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
            self.show_on_github(terminal);
        }
    }

    /// Adds annotations beside the lines of the suite and a summary of the step, in the formats
    /// that GitHub's runners read.
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

    /// Whether the run came to its end without an interruption.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The exit code of a run. Where it stopped without verdicts, the reports say why.
    pub(crate) fn conclude(&mut self, result: Result<ExitCode, Stopped>) -> ExitCode {
        result.unwrap_or_else(|Stopped { why, code }| {
            self.reports.stopped(&why, code);
            code
        })
    }

    /// Writes what is buffered of the raw evidence, which is complete.
    pub(super) fn flush(&mut self) {
        if let Some(evidence) = &mut self.evidence {
            evidence.flush();
        }
    }

    /// Closes all files. Gives the exit code, [`ExitCode::Defect`] where a file could not be
    /// written.
    pub(crate) fn finish(&mut self, code: ExitCode, terminal: &Terminal) -> ExitCode {
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

fn create_evidence(path: &Path, terminal: &Terminal) -> Result<EvidenceFile, ExitCode> {
    EvidenceFile::create(path).map_err(|error| {
        terminal.error(&format!(
            "failed to open evidence={}: {error}",
            path.display()
        ));
        ExitCode::Usage
    })
}

impl Observer for Outputs {
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
