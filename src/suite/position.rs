//! Positions in the file of parts of a decoded scalar.

use super::grammar::LineError;
use crate::source::{Diagnostic, Node, Sources, Span};
use std::ops::Range;

/// The text of a scalar with its position in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScalarText {
    whole: Span,
    /// Offset of the text within `whole`, if the file holds the text unchanged. Folding and escapes
    /// change a text; a diagnostic can then mark only the whole scalar.
    verbatim: Option<usize>,
}

impl ScalarText {
    pub(super) fn new(sources: &Sources, node: &Node, text: &str) -> Self {
        let written = sources.slice(node.span);

        let verbatim = if written == text {
            Some(0)
        } else {
            let inner = written
                .get(1..written.len().saturating_sub(1))
                .filter(|_| written.starts_with(['"', '\'']));
            (inner == Some(text)).then_some(1)
        };

        Self {
            whole: node.span,
            verbatim,
        }
    }

    /// The position of a byte range of the text.
    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        match self.verbatim {
            Some(offset) => self.whole.inside(offset + range.start, offset + range.end),
            None => self.whole,
        }
    }

    /// Converts an error of the line grammar into a diagnostic.
    pub(super) fn diagnostic(&self, error: LineError) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.span(&error.range), error.message);
        match error.help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        }
    }
}
