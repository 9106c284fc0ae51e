//! Errors and warnings about a user's files, collected and sorted.

use super::Span;
use std::collections::BTreeMap;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file must be changed.
    Error,
    /// The file can be used, unless `--strict` is given.
    Warning,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Another position that a diagnostic shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// An error or a warning, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The problem, in one line.
    pub message: String,
    pub primary: Span,
    /// Text beside the marked part of the file.
    pub label: Option<String>,
    /// Other positions that explain the problem.
    pub secondary: Vec<Label>,
    /// The fix.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates an error.
    pub fn error(primary: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            primary,
            label: None,
            secondary: Vec::new(),
            help: None,
        }
    }

    /// Creates a warning.
    pub fn warning(primary: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(primary, message)
        }
    }

    /// Sets the text beside the marked part of the file.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds another position.
    #[must_use]
    pub fn with_secondary(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Sets the fix.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The diagnostics about a set of files, in the order of files and positions, without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    all: BTreeMap<(Span, Severity, String), Diagnostic>,
}

impl Diagnostics {
    /// Creates an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a diagnostic, unless the same message at the same position is present.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let key = (
            diagnostic.primary,
            diagnostic.severity,
            diagnostic.message.clone(),
        );
        self.all.entry(key).or_insert(diagnostic);
    }

    /// The diagnostics in the order of files and positions.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.all.values()
    }

    /// Whether there is neither an error nor a warning.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The number of diagnostics with a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }

    /// Whether there is an error.
    pub fn has_errors(&self) -> bool {
        self.iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Makes every warning an error (`--strict`).
    #[must_use]
    pub fn strict(self) -> Self {
        self.all
            .into_values()
            .map(|diagnostic| Diagnostic {
                severity: Severity::Error,
                ..diagnostic
            })
            .collect()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        let mut all = Self::new();
        all.extend(diagnostics);
        all
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::collections::btree_map::IntoValues<(Span, Severity, String), Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_values()
    }
}
