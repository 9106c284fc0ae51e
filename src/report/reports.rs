//! All reports of a run, driven together.

use super::{Format, Keeps, Report, ReportSpec};
use crate::event::{CheckResult, ExitCode, Outcome, PolicyState, RunEvent, RunInfo, Summary};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// All reports of a run. One that fails never stops the others.
#[derive(Default)]
pub struct Reports {
    entries: Vec<NamedReport>,
    errors: Vec<WriteError>,
    /// Whether the run has finished or stopped.
    has_ended: bool,
}

struct NamedReport {
    name: String,
    has_failed: bool,
    report: Box<dyn Report + Send>,
}

impl NamedReport {
    fn new(name: String, report: Box<dyn Report + Send>) -> Self {
        Self {
            name,
            has_failed: false,
            report,
        }
    }
}

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write the report {name}")]
pub struct WriteError {
    name: String,
    source: io::Error,
}

impl WriteError {
    /// The name of the report: `FORMAT=PATH`, or the name it was added with.
    pub fn report(&self) -> &str {
        &self.name
    }
}

/// A report could not be opened, so the run should not begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file cannot be written.
    #[error("open {spec}")]
    File { spec: ReportSpec, source: io::Error },
    /// Two reports would overwrite each other.
    #[error("write two reports to one file: {0} and {1}")]
    SameFile(ReportSpec, ReportSpec),
}

impl Reports {
    /// Opens all report files, before a run begins.
    ///
    /// From then on a file that is written as a whole says that the run has not begun, so that the
    /// file of an earlier run cannot be taken for this one's.
    ///
    /// # Errors
    /// Every file that cannot be opened, not only the first.
    pub fn open(specs: &[ReportSpec]) -> Result<Self, Vec<OpenError>> {
        let conflicts = conflicting(specs);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }

        let mut reports = Self::default();
        let mut errors = Vec::new();
        for spec in specs {
            match spec.format().open(spec.path()) {
                Ok(report) => reports
                    .entries
                    .push(NamedReport::new(spec.to_string(), report)),
                Err(source) => errors.push(OpenError::File {
                    spec: spec.clone(),
                    source,
                }),
            }
        }

        if errors.is_empty() {
            Ok(reports)
        } else {
            Err(errors)
        }
    }

    /// Adds a report under the name that its [`WriteError`] will have.
    pub fn add(&mut self, name: impl Into<String>, report: impl Report + Send + 'static) {
        self.entries
            .push(NamedReport::new(name.into(), Box::new(report)));
    }

    /// Adds the report of `-o FORMAT`: a stream as events happen, a document once, at the end.
    pub fn add_output(&mut self, format: Format, writer: impl Write + Send + 'static) {
        let report = format.write_to(Box::new(writer));
        self.entries
            .push(NamedReport::new(format!("-o {format}"), report));
    }

    /// Passes an event to all reports. Failures are kept in [`Self::errors`].
    pub fn event(&mut self, event: &RunEvent) {
        self.has_ended |= matches!(event, RunEvent::Finished { .. });
        self.for_each(|report| report.event(event));
    }

    /// Passes the final results to all reports, holding no more of them than some report needs.
    pub fn finished(
        &mut self,
        run: RunInfo,
        policies_after: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        self.has_ended = true;
        let keeps = self
            .entries
            .iter()
            .map(|named| named.report.keeps())
            .max()
            .unwrap_or(Keeps::Nothing);

        let mut kept = Vec::new();
        let mut summary = Summary::default();
        for mut result in results {
            summary.add(&result);
            self.for_each(|report| match report.keeps() {
                Keeps::Nothing => report.result(&run, &result),
                Keeps::Findings | Keeps::Everything => Ok(()),
            });
            match (keeps, result.verdict) {
                (Keeps::Nothing, _) => continue,
                (Keeps::Findings, Outcome::Proven) => result.flows = Vec::new(),
                (Keeps::Findings, Outcome::Violated | Outcome::Unproven)
                | (Keeps::Everything, _) => {}
            }
            kept.push(result);
        }

        let summary = summary.close(run.complete);
        let without_results = RunEvent::Finished {
            run: run.clone(),
            results: Vec::new(),
            summary,
            policies_after: policies_after.clone(),
        };
        let with_results = RunEvent::Finished {
            run,
            results: kept,
            summary,
            policies_after,
        };
        self.for_each(|report| match report.keeps() {
            Keeps::Nothing => report.event(&without_results),
            Keeps::Findings | Keeps::Everything => report.event(&with_results),
        });
        summary
    }

    /// Ends all reports of a run that ended without [`RunEvent::Finished`]; does nothing after it.
    pub fn stopped(&mut self, why: &str, code: ExitCode) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        self.for_each(|report| report.stopped(why, code));
    }

    /// Closes all reports. To be called once, before [`Self::errors`] are read.
    pub fn close(&mut self) {
        self.for_each(|report| report.close());
    }

    fn for_each(&mut self, mut write: impl FnMut(&mut dyn Report) -> io::Result<()>) {
        for named in &mut self.entries {
            let Err(source) = write(named.report.as_mut()) else {
                continue;
            };
            if named.has_failed {
                continue;
            }
            named.has_failed = true;
            self.errors.push(WriteError {
                name: named.name.clone(),
                source,
            });
        }
    }

    /// Failures to write: the first of each report.
    pub fn errors(&self) -> &[WriteError] {
        &self.errors
    }

    /// The exit code of a run that would end with `code`: a report that could not be written is a
    /// defect.
    pub fn exit_code(&self, code: ExitCode) -> ExitCode {
        if self.errors.is_empty() {
            code
        } else {
            ExitCode::Defect
        }
    }
}

/// Pairs of specifications that name the same file.
fn conflicting(specs: &[ReportSpec]) -> Vec<OpenError> {
    let mut by_file: HashMap<PathBuf, &ReportSpec> = HashMap::new();
    let mut errors = Vec::new();
    for spec in specs {
        if let Some(other) = by_file.insert(resolved_path(spec), spec) {
            errors.push(OpenError::SameFile(other.clone(), spec.clone()));
        }
    }
    errors
}

/// The canonical path of a specification's file, as far as it is known before the file exists.
fn resolved_path(spec: &ReportSpec) -> PathBuf {
    let path = spec.path();
    if let Ok(canonical) = path.canonicalize() {
        return canonical;
    }

    let folder = path.parent().unwrap_or(path).join(".").canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        (Ok(folder), None) => folder,
        (Err(_), _) => path.to_owned(),
    }
}
