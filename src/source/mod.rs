//! Files, positions in them, their YAML trees, and diagnostics about them.
//!
//! [`Sources`] holds every file that was read, so that a [`Span`] is enough to find a text again.
//! [`parse`] turns a file into [`Document`]s: trees of [`Node`] that keep every scalar as it was
//! written. [`Diagnostics`] collects all errors of a file.
//!
//! A suite's scalars are typed by YAML 1.2; those of manifests by YAML 1.1, as Kubernetes' own reader
//! types them ([`Node::to_json`]). A line ends at a line feed, a carriage return, or both together.

mod diagnostic;
mod document;
mod flow;
mod node;
mod read;
mod render;
mod scalar;
#[cfg(test)]
mod tests;
mod yaml;
mod yaml_error;

pub use diagnostic::{Diagnostic, Diagnostics, Label, Severity};
pub use document::{Document, parse};
pub use node::{Entry, Key, Node, Step, Value};
pub use read::{FileId, MAX_FILE_BYTES, Sources, Span};
pub use scalar::{Scalar, Style};

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file as it was named on the command line (`-` for standard input).
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
