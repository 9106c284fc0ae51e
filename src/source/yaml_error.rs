//! Diagnostics for syntax errors in YAML, with the likely cause and the fix.

use super::read::{LINE_BREAKS, lines};
use super::{Diagnostic, FileId, Span};
use serde_saphyr::granit_parser::{ErrorKind, ScanError};
use std::ops::Range;

const QUOTE_STAR: &str =
    "YAML takes a bare * for an alias; put the whole line in quotes: - \"* -> metadata denied\"";

/// The help for a file that is a template.
pub(super) const TEMPLATE: &str = "a template ({{ ... }}) must be rendered first, for example with helm template; a text with braces needs quotes";

/// The openings of a template's expressions and statements: Go and Jinja.
const TEMPLATE_OPENINGS: [&str; 2] = ["{{", "{%"];

/// Converts the parser's error into a diagnostic.
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
    let is_template = is_in_template(text, document, at);
    let help = if is_template {
        Some(TEMPLATE.to_owned())
    } else {
        help
    };

    // An error at the end of the document marks its last visible character instead of an empty
    // line.
    if text[at..document.end].trim().is_empty() {
        let content = text[document.start..at].trim_end();
        at = document.start
            + content
                .char_indices()
                .next_back()
                .map_or(0, |(last, _)| last);
    }

    let tab = tab_near(text, document, at)
        .filter(|_| !is_template && (help.is_none() || is_tab(error.kind())));
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

/// The error for a key that appears twice in a mapping.
pub(super) fn duplicate_key(key: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error(second, format!("the key {key:?} appears twice"))
        .with_label("again here")
        .with_secondary(first, "first here")
        .with_help("remove or rename one of them")
}

/// The error for an alias without an anchor, which is most often a `*` meant as text.
pub(super) fn unknown_alias(name: &str, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("no anchor is called {name:?}")).with_help(QUOTE_STAR)
}

/// The error for a document that begins where no line does, which would hide the one before it.
pub(super) fn second_document(span: Span) -> Diagnostic {
    Diagnostic::error(span, "a second document begins within this one")
        .with_help("write --- on a line of its own between two documents")
}

/// The error for a document deeper than the limit.
pub(super) fn too_deep(span: Span, limit: usize) -> Diagnostic {
    Diagnostic::error(
        span,
        format!("the document nests deeper than {limit} levels"),
    )
}

/// The error for a list or mapping as a key, which is nearly always caused by a template's braces.
pub(super) fn key_is_not_text(span: Span) -> Diagnostic {
    Diagnostic::error(
        span,
        "a key must be a text, and this is a list or a mapping",
    )
    .with_help(TEMPLATE)
}

/// Whether an error is about a tab.
pub(super) fn is_tab(kind: &ErrorKind) -> bool {
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

/// The offset of a tab in the indentation of the line with the error, the one before or the one
/// after, because the parser reports some tabs late.
fn tab_near(text: &str, document: &Range<usize>, at: usize) -> Option<usize> {
    let start = line_start(text, document, at);
    let previous = line_start(text, document, start.saturating_sub(1).max(document.start));
    let next = lines(&text[at..document.end])
        .next()
        .map(|line| at + line.len());
    [Some(start), Some(previous), next]
        .into_iter()
        .flatten()
        .find_map(|line| {
            let rest = &text[line..document.end];
            let indentation = rest.len() - rest.trim_start_matches([' ', '\t', '-']).len();
            rest[..indentation].find('\t').map(|tab| line + tab)
        })
}

/// The start of the line that contains a byte, within the document.
fn line_start(text: &str, document: &Range<usize>, offset: usize) -> usize {
    text[document.start..offset]
        .rfind(LINE_BREAKS)
        .map_or(document.start, |end| document.start + end + 1)
}

/// Whether a template's statement is open at a byte, or stands outside quotes on its line or on the
/// last line before it that is not empty: the parser reports some of them late.
fn is_in_template(text: &str, document: &Range<usize>, at: usize) -> bool {
    let before = &text[document.start..at];
    let is_open = [("{{", "}}"), ("{%", "%}")]
        .into_iter()
        .filter_map(|(opening, closing)| Some((before.rfind(opening)?, closing)))
        .any(|(start, closing)| !before[start..].contains(closing));

    let line = lines(&text[line_start(text, document, at)..document.end]).next();
    let lines_before = lines(&text[document.start..line_start(text, document, at)]);
    let last_before = lines_before.filter(|line| !line.trim().is_empty()).last();
    is_open || [line, last_before].into_iter().flatten().any(has_template)
}

/// Whether a line has a template's statement outside quotes and comments.
fn has_template(line: &str) -> bool {
    let openings = TEMPLATE_OPENINGS
        .into_iter()
        .filter_map(|opening| line.find(opening));
    openings.min().is_some_and(|start| {
        let before = &line[..start];
        let is_closed = |quote: char| before.matches(quote).count().is_multiple_of(2);
        is_closed('"') && is_closed('\'') && !before.contains('#')
    })
}

fn message_and_help(message: &str, help: &str) -> (String, Option<String>) {
    (message.to_owned(), Some(help.to_owned()))
}

/// The message of a parser's error, and the help where one is known.
fn explain(
    kind: &ErrorKind,
    text: &str,
    document: &Range<usize>,
    at: usize,
) -> (String, Option<String>) {
    if text[document.start..at]
        .trim_end_matches(' ')
        .ends_with([']', '}'])
        && !text[at..document.end]
            .trim_start_matches(' ')
            .starts_with(['\n', '\r', '#'])
    {
        return message_and_help(
            "text follows a closing bracket",
            "YAML takes what starts with [ or { for a list or mapping: write names with commas and without brackets (web, api -> db denied), or put the whole text in quotes",
        );
    }
    let star_before =
        text[document.start..at].ends_with('*') || text[at..document.end].starts_with('*');
    match kind {
        ErrorKind::MissingAnchorOrAliasName if star_before => {
            message_and_help("a text cannot start with * outside quotes", QUOTE_STAR)
        }
        ErrorKind::RecursionLimitExceeded => ("the document nests too deep".to_owned(), None),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidSimpleKey => message_and_help(
            "a ':' is not allowed here",
            "put a text that contains ': ' in quotes, or check the indentation of this line and the one before",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => message_and_help(
            "a key with ':' is expected here",
            "check that this line is indented like its neighbours and has the form 'key: value'",
        ),
        ErrorKind::ExpectedBlockSequenceEntry | ErrorKind::BlockSequenceEntryNotAllowed => {
            message_and_help(
                "a list item is not allowed here",
                "every item of a list starts with '- ' at the same indentation, on a line of its own",
            )
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::UnexpectedEof => message_and_help(
            "a quote is never closed",
            "close it, or double it if it is part of the text",
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => message_and_help(
            "text follows a closing quote",
            "put the quotes around the whole text",
        ),
        ErrorKind::UnclosedFlowCollection { open } => (
            format!("the bracket '{open}' is never closed"),
            Some("close it, or put the text in quotes".to_owned()),
        ),
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            message_and_help(
                "',' or ']' is expected here",
                "close the list, or put a text that contains brackets or ': ' in quotes",
            )
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
            message_and_help(
                "',' or '}' is expected here",
                "close the mapping, or put a text that contains braces in quotes",
            )
        }
        ErrorKind::UnexpectedCharacter { character } => (
            format!("a text cannot start with {character:?} outside quotes"),
            Some("put the whole text in quotes".to_owned()),
        ),
        ErrorKind::InvalidIndentation
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidQuotedScalarIndent => message_and_help(
            "the indentation does not match the lines before",
            "indent this line like its neighbours, with spaces",
        ),
        ErrorKind::UnknownQuotedScalarEscape => message_and_help(
            "this escape sequence does not exist in double quotes",
            "use single quotes, or double the backslash",
        ),
        other => (format!("invalid YAML: {other}"), None),
    }
}
