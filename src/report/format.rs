//! The report formats: what each consists of, and the list of all.

use super::destination::Destination;
use super::document_file::{DocumentFile, DocumentFormat};
use super::run_state::{RenderedDocument, RunState};
use super::{Report, ctrf, json, json_lines, junit, markdown, openmetrics, tap};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// All formats, in the order in which messages name them.
static FORMATS: &[&FormatDefinition] = &[
    &junit::FORMAT,
    &json::FORMAT,
    &json_lines::FORMAT,
    &markdown::FORMAT,
    &tap::FORMAT,
    &ctrf::FORMAT,
    &openmetrics::FORMAT,
];

/// Names that differ by more edits than this are no typing error.
const MAX_TYPING_DISTANCE: usize = 2;

/// A format, as its file defines it.
pub(super) struct FormatDefinition {
    /// The name on the command line.
    pub(super) name: &'static str,
    /// The usual extension of its files.
    pub(super) extension: &'static str,
    /// Other words by which people ask for it, for "did you mean".
    pub(super) aliases: &'static [&'static str],
    /// How it is written.
    pub(super) kind: FormatKind,
}

/// How a format is written.
pub(super) enum FormatKind {
    /// As a whole, from the state of the run.
    Rendered(fn(&RunState) -> String),
    /// As a whole, by a document with its own state.
    Document(fn() -> Box<dyn DocumentFormat + Send>),
    /// Event by event.
    Stream(fn(Box<dyn Write + Send>) -> Box<dyn Report + Send>),
}

/// One of the report formats.
#[derive(Clone, Copy)]
pub struct Format(&'static FormatDefinition);

impl Format {
    /// All formats.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMATS.iter().map(|definition| Self(definition))
    }

    /// The format of a name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|format| format.name() == name)
    }

    /// The format that was probably meant by a name that is none.
    pub(super) fn nearest(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let by_alias = Self::all().find(|format| format.0.aliases.contains(&name.as_str()));
        if by_alias.is_some() {
            return by_alias;
        }

        Self::all()
            .map(|format| (strsim::damerau_levenshtein(&name, format.name()), format))
            .filter(|(distance, _)| *distance <= MAX_TYPING_DISTANCE)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, format)| format)
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The usual extension of its files.
    pub(super) fn extension(self) -> &'static str {
        self.0.extension
    }

    /// A report of this format in a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn open(self, path: &Path) -> io::Result<Box<dyn Report + Send>> {
        let document = match self.0.kind {
            FormatKind::Rendered(render) => RenderedDocument::boxed(render),
            FormatKind::Document(new) => new(),
            FormatKind::Stream(new) => return Ok(new(Box::new(File::create(path)?))),
        };
        let file = DocumentFile::open(document, Destination::open(path)?)?;
        Ok(Box::new(file))
    }

    /// A report of this format on a writer. A document is written once, at the end.
    pub(super) fn write_to(self, writer: Box<dyn Write + Send>) -> Box<dyn Report + Send> {
        let document = match self.0.kind {
            FormatKind::Rendered(render) => RenderedDocument::boxed(render),
            FormatKind::Document(new) => new(),
            FormatKind::Stream(new) => return new(writer),
        };
        Box::new(DocumentFile::once(document, writer))
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}
