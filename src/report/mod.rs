//! Events → console, JUnit, JSON, JSON lines, GitHub.
//!
//! A report sees [`RunEvent`]s and nothing else. They all say the same of the same run: what is
//! violated, what is unproven and what was not finished stay apart down to the XML, and no report
//! is green where the exit code is not 0.

mod console;
mod ctrf;
mod document_file;
mod github;
mod json;
mod json_lines;
mod junit;
mod markdown;
mod openmetrics;
mod run_state;
mod sink;
mod spec;
mod tap;
mod text;
mod wording;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod fixtures;

pub use console::{Capabilities, Console, Detail, Progress, Screen};
pub use github::{Annotations, StepSummary};
pub use json::json_schema;
pub use spec::{Format, Output, ReportSpec, SpecError};
pub use wording::explained;

use crate::event::{CheckResult, ExitCode, Outcome, PolicyState, RunEvent, RunInfo, Summary};
use document_file::Whole;
use json::Json;
use json_lines::Lines;
use junit::Junit;
use markdown::Markdown;
use run_state::Rendered;
use sink::Sink;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// Something that is written about a run.
pub trait Report {
    /// Takes an event, in the order in which they happen.
    ///
    /// # Errors
    /// The report could not be written.
    fn event(&mut self, event: &RunEvent) -> io::Result<()>;

    /// The run ended without [`RunEvent::Finished`], or never started: writes what is known, and
    /// why it is no more.
    ///
    /// # Errors
    /// The report could not be written.
    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()>;

    /// Nothing more comes: writes what was held back for the end.
    ///
    /// # Errors
    /// The report could not be written.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What it needs of the final results beside the sums.
    fn keeps(&self) -> Keeps {
        Keeps::Everything
    }

    /// One final result, for a report that keeps none: in the order of [`RunEvent::Finished`], and
    /// before it.
    ///
    /// # Errors
    /// The report could not be written.
    fn result(&mut self, _run: &RunInfo, _result: &CheckResult) -> io::Result<()> {
        Ok(())
    }
}

/// How much of the final results a report needs at once, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing: it takes one result at a time, and [`RunEvent::Finished`] without any.
    Nothing,
    /// All results; of what is proven without its flows.
    Findings,
    /// All results in full.
    Everything,
}

/// All reports of a run. One that fails never stops the others.
#[derive(Default)]
pub struct Reports {
    all: Vec<Named>,
    errors: Vec<WriteError>,
    ended: bool,
}

struct Named {
    name: String,
    failed: bool,
    report: Box<dyn Report + Send>,
}

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write the report {name}")]
pub struct WriteError {
    name: String,
    source: io::Error,
}

impl WriteError {
    /// Which report: `FORMAT=PATH`, or the name it was added with.
    pub fn report(&self) -> &str {
        &self.name
    }
}

/// A report could not even be opened, so the run should not begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file cannot be written.
    #[error("open {spec}")]
    File {
        /// What was asked for.
        spec: ReportSpec,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Two reports would overwrite each other.
    #[error("write two reports to one file: {0} and {1}")]
    Twice(ReportSpec, ReportSpec),
}

impl Reports {
    /// Opens all reports before anything else is done.
    ///
    /// JUnit and JSON files say from then on that the run has not begun, so that the file of an
    /// earlier run cannot be taken for this one's.
    ///
    /// # Errors
    /// All that are wrong, not only the first.
    pub fn open(specs: &[ReportSpec]) -> Result<Self, Vec<OpenError>> {
        let mut errors = Vec::new();
        let mut places: HashMap<PathBuf, &ReportSpec> = HashMap::new();
        for spec in specs {
            if let Some(other) = places.insert(place(spec), spec) {
                errors.push(OpenError::Twice(other.clone(), spec.clone()));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut this = Self::default();
        for spec in specs {
            match open(spec) {
                Ok(report) => this.all.push(Named {
                    name: spec.to_string(),
                    failed: false,
                    report,
                }),
                Err(source) => errors.push(OpenError::File {
                    spec: spec.clone(),
                    source,
                }),
            }
        }
        if errors.is_empty() {
            Ok(this)
        } else {
            Err(errors)
        }
    }

    /// Adds a report, with the name by which its failure is told.
    pub fn add(&mut self, name: impl Into<String>, report: impl Report + Send + 'static) {
        self.all.push(Named {
            name: name.into(),
            failed: false,
            report: Box::new(report),
        });
    }

    /// Adds what `-o` asks for beside text: JSON lines as they happen, a document once, at the end.
    pub fn add_output(&mut self, format: Format, writer: impl Write + Send + 'static) {
        let report: Box<dyn Report + Send> = match format {
            Format::Junit => Box::new(Whole::once(Junit::new(hostname()), writer)),
            Format::Json => Box::new(Whole::once(Json::new(), writer)),
            Format::Jsonl => Box::new(Lines::new(writer)),
            Format::Markdown => Box::new(Whole::once(Markdown::new(), writer)),
            Format::Tap => Box::new(Whole::once(Rendered::by(tap::render), writer)),
            Format::Ctrf => Box::new(Whole::once(Rendered::by(ctrf::render), writer)),
            Format::Openmetrics => Box::new(Whole::once(Rendered::by(openmetrics::render), writer)),
        };
        self.all.push(Named {
            name: format!("-o {format}"),
            failed: false,
            report,
        });
    }

    /// Gives an event to all reports. What goes wrong stands in [`Self::errors`].
    pub fn event(&mut self, event: &RunEvent) {
        self.ended |= matches!(event, RunEvent::Finished { .. });
        self.each(|report| report.event(event));
    }

    /// Gives the final results to all reports, holding no more of them than some report needs.
    pub fn finished(
        &mut self,
        run: RunInfo,
        policies: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        self.ended = true;
        let keeps = self
            .all
            .iter()
            .map(|named| named.report.keeps())
            .max()
            .unwrap_or(Keeps::Nothing);
        let mut kept = Vec::new();
        let mut summary = Summary::default();
        for mut result in results {
            summary.add(&result);
            self.each(|report| match report.keeps() {
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
        let bare = RunEvent::Finished {
            run: run.clone(),
            results: Vec::new(),
            summary,
            policies: policies.clone(),
        };
        let whole = RunEvent::Finished {
            run,
            results: kept,
            summary,
            policies,
        };
        self.each(|report| match report.keeps() {
            Keeps::Nothing => report.event(&bare),
            Keeps::Findings | Keeps::Everything => report.event(&whole),
        });
        summary
    }

    /// Tells all reports that the run ended without [`RunEvent::Finished`]; after it, does nothing.
    pub fn stopped(&mut self, why: &str, code: ExitCode) {
        if !std::mem::replace(&mut self.ended, true) {
            self.each(|report| report.stopped(why, code));
        }
    }

    /// Nothing more comes. To be called once, before [`Self::errors`] are looked at.
    pub fn close(&mut self) {
        self.each(|report| report.close());
    }

    fn each(&mut self, mut give: impl FnMut(&mut dyn Report) -> io::Result<()>) {
        for Named {
            name,
            failed,
            report,
        } in &mut self.all
        {
            if let Err(source) = give(report.as_mut())
                && !std::mem::replace(failed, true)
            {
                self.errors.push(WriteError {
                    name: name.clone(),
                    source,
                });
            }
        }
    }

    /// What could not be written: of each report the first that went wrong.
    pub fn errors(&self) -> &[WriteError] {
        &self.errors
    }

    /// The exit code, in view of what could not be written.
    pub fn exit_code(&self, code: ExitCode) -> ExitCode {
        if self.errors.is_empty() {
            code
        } else {
            ExitCode::Defect
        }
    }
}

/// The file that a specification means, as far as it can be known before it exists.
fn place(spec: &ReportSpec) -> PathBuf {
    let path = spec.path();
    let known = path.canonicalize().or_else(|_| {
        let folder = path.parent().unwrap_or(path).join(".").canonicalize()?;
        Ok::<_, io::Error>(
            path.file_name()
                .map_or(folder.clone(), |name| folder.join(name)),
        )
    });
    known.unwrap_or_else(|_| path.to_owned())
}

fn open(spec: &ReportSpec) -> io::Result<Box<dyn Report + Send>> {
    Ok(match spec.format() {
        Format::Junit => Box::new(Whole::open(
            Junit::new(hostname()),
            Sink::open(spec.path())?,
        )?),
        Format::Json => Box::new(Whole::open(Json::new(), Sink::open(spec.path())?)?),
        Format::Jsonl => Box::new(Lines::new(File::create(spec.path())?)),
        Format::Markdown => Box::new(Whole::open(Markdown::new(), Sink::open(spec.path())?)?),
        Format::Tap => Box::new(Whole::open(
            Rendered::by(tap::render),
            Sink::open(spec.path())?,
        )?),
        Format::Ctrf => Box::new(Whole::open(
            Rendered::by(ctrf::render),
            Sink::open(spec.path())?,
        )?),
        Format::Openmetrics => Box::new(Whole::open(
            Rendered::by(openmetrics::render),
            Sink::open(spec.path())?,
        )?),
    })
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname()
        .ok()
        .map(|name| name.to_string_lossy().into_owned())
}
