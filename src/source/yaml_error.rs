//! What is wrong with a YAML text, in words that lead to the fix.

use super::{Diagnostic, FileId, Span};
use serde_saphyr::granit_parser::{ErrorKind, ScanError};
use std::ops::Range;

const QUOTE_STAR: &str =
    "YAML takes a bare * for an alias; put the whole line in quotes: - \"* -> metadata denied\"";

/// The parser's error as a diagnostic.
pub(super) fn diagnose(
    error: &ScanError,
    text: &str,
    document: &Range<usize>,
    file: FileId,
) -> Diagnostic {
    let marker = error.marker().byte_offset().unwrap_or_default();
    let mut at = (document.start + marker).min(document.end);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (message, help) = explain(error.kind(), text, document, at);
    // At the very end there is nothing to point at: the last visible character is better than an
    // empty line.
    if text[at..document.end].trim().is_empty() {
        let visible = text[document.start..at].trim_end();
        at = document.start
            + visible
                .char_indices()
                .next_back()
                .map_or(0, |(last, _)| last);
    }
    let tab = tab_near(text, document, at).filter(|_| help.is_none() || is_tab(error.kind()));
    if let Some(tab) = tab {
        return Diagnostic::error(Span::new(file, tab, tab + 1), "a tab cannot indent YAML")
            .with_help(
                "replace the tab by spaces (most editors: \"convert indentation to spaces\")",
            );
    }
    let width = text[at..document.end]
        .chars()
        .next()
        .map_or(0, char::len_utf8);
    let diagnostic = Diagnostic::error(Span::new(file, at, at + width), message);
    match help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

/// A mapping's key that appears twice.
pub(super) fn duplicate_key(key: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error(second, format!("the key {key:?} appears twice"))
        .with_label("again here")
        .with_secondary(first, "first here")
        .with_help("remove or rename one of them")
}

/// An alias without an anchor, most often a `*` that was meant as a text.
pub(super) fn unknown_alias(name: &str, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("no anchor is called {name:?}")).with_help(QUOTE_STAR)
}

/// Nesting beyond the limit.
pub(super) fn too_deep(span: Span, limit: usize) -> Diagnostic {
    Diagnostic::error(
        span,
        format!("the document nests deeper than {limit} levels"),
    )
}

/// A list or mapping in the place of a key: nearly always a template's braces.
pub(super) fn key_is_no_text(span: Span) -> Diagnostic {
    Diagnostic::error(span, "a key must be a text, and this is a list or a mapping").with_help(
        "a template ({{ ... }}) must be rendered first, for example with helm template; a text with braces needs quotes",
    )
}

fn is_tab(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::InvalidBlockEntryWhitespace
            | ErrorKind::InvalidMappingValueWhitespace
    )
}

/// A tab in the indentation of the faulty line, or of the one before or after: the parser notices
/// some tabs late.
fn tab_near(text: &str, document: &Range<usize>, at: usize) -> Option<usize> {
    let line_start = |offset: usize| {
        text[document.start..offset]
            .rfind('\n')
            .map_or(document.start, |found| document.start + found + 1)
    };
    let start = line_start(at);
    let previous = line_start(start.saturating_sub(1).max(document.start));
    let next = text[at..document.end]
        .find('\n')
        .map(|found| at + found + 1);
    [Some(start), Some(previous), next]
        .into_iter()
        .flatten()
        .find_map(|line| {
            let rest = &text[line..document.end];
            let indentation = rest.len() - rest.trim_start_matches([' ', '\t', '-']).len();
            rest[..indentation].find('\t').map(|found| line + found)
        })
}

/// The message, and the help where one is known.
fn explain(
    kind: &ErrorKind,
    text: &str,
    document: &Range<usize>,
    at: usize,
) -> (String, Option<String>) {
    let own = |message: &str, help: &str| (message.to_owned(), Some(help.to_owned()));
    if text[document.start..at]
        .trim_end_matches(' ')
        .ends_with([']', '}'])
        && !text[at..document.end]
            .trim_start_matches(' ')
            .starts_with(['\n', '\r', '#'])
    {
        return own(
            "text follows a closing bracket",
            "YAML takes what starts with [ or { for a list or mapping: write names with commas and without brackets (web, api -> db denied), or put the whole text in quotes",
        );
    }
    let star_before =
        text[document.start..at].ends_with('*') || text[at..document.end].starts_with('*');
    match kind {
        ErrorKind::MissingAnchorOrAliasName if star_before => {
            own("a text cannot start with * outside quotes", QUOTE_STAR)
        }
        ErrorKind::RecursionLimitExceeded => (too_deep_message(), None),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidSimpleKey => own(
            "a ':' stands where no key can be",
            "put a text that holds ': ' in quotes; else check the indentation of this line and the one before",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => own(
            "a key with ':' is expected here",
            "check that this line is indented like its neighbours and holds 'key: value'",
        ),
        ErrorKind::ExpectedBlockSequenceEntry | ErrorKind::BlockSequenceEntryNotAllowed => own(
            "a list item cannot stand here",
            "every item of a list starts with '- ' at the same indentation, on a line of its own",
        ),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::UnexpectedEof => own(
            "a quote is never closed",
            "close it, or double it if it is part of the text",
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => own(
            "text follows a closing quote",
            "put the quotes around the whole text",
        ),
        ErrorKind::UnclosedFlowCollection { open } => (
            format!("the bracket '{open}' is never closed"),
            Some("close it, or put the text in quotes".to_owned()),
        ),
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => own(
            "',' or ']' is expected here",
            "close the list, or put a text that holds brackets or ': ' in quotes",
        ),
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => own(
            "',' or '}' is expected here",
            "close the mapping, or put a text that holds braces in quotes",
        ),
        ErrorKind::UnexpectedCharacter { character } => (
            format!("a text cannot start with {character:?} outside quotes"),
            Some("put the whole text in quotes".to_owned()),
        ),
        ErrorKind::InvalidIndentation
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidQuotedScalarIndent => own(
            "the indentation does not fit the lines before",
            "indent this line like its neighbours, with spaces",
        ),
        ErrorKind::UnknownQuotedScalarEscape => own(
            "this escape is unknown in double quotes",
            "use single quotes, or double the backslash",
        ),
        other => (format!("the YAML is broken: {other}"), None),
    }
}

fn too_deep_message() -> String {
    "the document nests too deep".to_owned()
}
