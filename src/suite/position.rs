//! From a byte of a decoded text back to its place in the file.

use super::grammar::Fault;
use crate::source::{Diagnostic, Node, Sources, Span};
use std::ops::Range;

/// A scalar's text with its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    whole: Span,
    /// Offset of the text in the file, if the file holds it as it is; folds and escapes change
    /// texts, and then only the whole can be pointed at.
    verbatim: Option<usize>,
}

impl Text {
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

    /// The place of some bytes of the text.
    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        match self.verbatim {
            Some(offset) => self.whole.inside(offset + range.start, offset + range.end),
            None => self.whole,
        }
    }

    /// A fault of the grammar as a diagnostic.
    pub(super) fn diagnostic(&self, fault: Fault) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.span(&fault.range), fault.message);
        match fault.help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        }
    }
}
