//! The grammar of a line: `SOURCES -> TARGETS allowed|denied`.
//!
//! The parser does not know the suite: it keeps names as text, and `lines` resolves them.

use super::forms::FormatError;
use super::item::{ParsedSource, ParsedTarget, parse_source, parse_target};
use super::{Expected, suggest};
use std::ops::Range;

/// A parsed line with unresolved names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedLine {
    pub(super) sources: Vec<ParsedSource>,
    pub(super) targets: Vec<ParsedTarget>,
    /// The expected outcome; `None` if the line does not end with one.
    pub(super) expected: Option<Expected>,
}

/// An error in a line, with the byte range it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineError {
    /// Byte range in the line's text.
    pub(super) range: Range<usize>,
    pub(super) message: String,
    /// The fix, where one is known.
    pub(super) help: Option<String>,
}

impl LineError {
    pub(super) fn new(
        range: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            range,
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// Places the format error of a part of the line at that part's byte range.
    pub(super) fn from_format(range: Range<usize>, error: FormatError) -> Self {
        Self {
            range,
            message: error.message,
            help: error.help,
        }
    }
}

/// A part of a line's text with its offset in the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) text: &'a str,
    /// Byte offset in the line.
    pub(super) start: usize,
}

impl<'a> Fragment<'a> {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// The part in a byte range, counted from the start of this one.
    pub(super) fn slice(self, range: Range<usize>) -> Self {
        Self {
            text: &self.text[range.clone()],
            start: self.start + range.start,
        }
    }

    /// The fragment without leading and trailing whitespace.
    pub(super) fn trim(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        Self {
            text: self.text.trim(),
            start: self.start + start,
        }
    }

    /// The parts before and after the first occurrence of a character.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (before, after) = self.text.split_once(separator)?;
        Some((
            self.slice(0..before.len()),
            self.slice(self.text.len() - after.len()..self.text.len()),
        ))
    }

    /// The parts between commas, without surrounding whitespace.
    fn items(self) -> impl Iterator<Item = Self> {
        let mut start = 0;
        self.text.split(',').map(move |item| {
            let fragment = self.slice(start..start + item.len());
            start += item.len() + 1;
            fragment.trim()
        })
    }

    /// The words, separated by whitespace.
    fn words(self) -> impl Iterator<Item = &'a str> {
        self.text.split_whitespace()
    }
}

const EXAMPLE: &str =
    "write SOURCES -> TARGETS allowed|denied, for example: web -> api:8080 allowed";

/// Parses a line and finds all of its errors. The valid parts are returned as well, so that their
/// names can be checked.
pub(super) fn parse(text: &str) -> (ParsedLine, Vec<LineError>) {
    let line = Fragment { text, start: 0 };
    let Some((sources, rest)) = split_at_arrow(line) else {
        return (
            ParsedLine {
                sources: Vec::new(),
                targets: Vec::new(),
                expected: None,
            },
            vec![no_arrow(line.trim())],
        );
    };

    let mut errors = Vec::new();
    let (targets, expected) = match split_expected(rest) {
        Ok((targets, expected)) => (targets, Some(expected)),
        Err((targets, error)) => {
            errors.push(error);
            (targets, None)
        }
    };

    let mut parsed_sources = Vec::new();
    for item in sources.items() {
        match parse_source(item) {
            Ok(source) => parsed_sources.push(source),
            Err(error) => errors.push(error),
        }
    }

    // Without targets and an outcome, the error above says all.
    let nothing_follows = targets.text.trim().is_empty() && expected.is_none();
    let parsed_targets = if nothing_follows {
        Vec::new()
    } else {
        parse_targets(targets, &mut errors)
    };

    (
        ParsedLine {
            sources: parsed_sources,
            targets: parsed_targets,
            expected,
        },
        errors,
    )
}

fn parse_targets(targets: Fragment<'_>, errors: &mut Vec<LineError>) -> Vec<ParsedTarget> {
    if targets.words().any(|word| matches!(word, "->" | "→")) {
        errors.push(LineError::new(
            targets.trim().range(),
            "the line has two arrows",
            "write two lines",
        ));
        return Vec::new();
    }

    let mut parsed = Vec::new();
    let mut previous_named = None;
    for item in targets.items() {
        match parse_target(item, previous_named) {
            Ok(target) => parsed.push(target),
            Err(error) => errors.push(error),
        }
        if !is_port_alone(item.text) {
            previous_named = Some(item);
        }
    }
    parsed
}

/// A port without a name before it: `8443`, `:8443`, `8000-8010`, `53/udp`.
pub(super) fn is_port_alone(item: &str) -> bool {
    let item = item.strip_prefix(':').unwrap_or(item);
    let (numbers, transport) = item.split_once('/').unwrap_or((item, "tcp"));
    numbers.starts_with(|c: char| c.is_ascii_digit())
        && numbers.chars().all(|c| c.is_ascii_digit() || c == '-')
        && transport.chars().all(|c| c.is_ascii_alphabetic())
}

fn split_at_arrow(line: Fragment<'_>) -> Option<(Fragment<'_>, Fragment<'_>)> {
    let (at, arrow) = ["->", "→"]
        .into_iter()
        .filter_map(|arrow| Some((line.text.find(arrow)?, arrow)))
        .min()?;
    Some((
        line.slice(0..at),
        line.slice(at + arrow.len()..line.text.len()),
    ))
}

fn no_arrow(line: Fragment<'_>) -> LineError {
    let other = ["=>", "⇒", "➜", "⟶", "—>", "–>", ">"]
        .into_iter()
        .find(|arrow| line.text.contains(arrow));
    match other.and_then(|arrow| Some((line.text.find(arrow)?, arrow))) {
        Some((at, arrow)) => LineError::new(
            line.slice(at..at + arrow.len()).range(),
            format!("{arrow:?} is not the arrow"),
            "write ->",
        ),
        None => LineError::new(line.range(), "the line has no arrow", EXAMPLE),
    }
}

/// Splits off the last word, which is the expected outcome. The error contains the rest of the line
/// too.
fn split_expected(
    rest: Fragment<'_>,
) -> Result<(Fragment<'_>, Expected), (Fragment<'_>, LineError)> {
    let rest = Fragment {
        text: rest.text.trim_end(),
        start: rest.start,
    };
    let word_start = rest
        .text
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace())
        .map_or(0, |(at, c)| at + c.len_utf8());
    let word = rest.slice(word_start..rest.text.len());
    let before = rest.slice(0..word_start);
    match word.text {
        "allowed" => Ok((before, Expected::Allowed)),
        "denied" => Ok((before, Expected::Denied)),
        "" => Err((
            before,
            LineError::new(
                rest.start.saturating_sub(2)..rest.start,
                "nothing follows the arrow",
                EXAMPLE,
            ),
        )),
        other => {
            let message = "the line must end with allowed or denied";
            Err(match suggest_expected(other) {
                Some(expected) => (
                    before,
                    LineError::new(word.range(), message, format!("did you mean {expected}?")),
                ),
                None => (
                    rest,
                    LineError::new(
                        word.range(),
                        message,
                        format!(
                            "add it at the end: -> {} allowed, or denied",
                            rest.text.trim()
                        ),
                    ),
                ),
            })
        }
    }
}

/// The outcome that a wrong last word most likely means.
fn suggest_expected(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "allow" | "allows" | "permit" | "permitted" | "open" | "accept" | "accepted" | "pass"
        | "passes" | "ok" | "yes" | "true" => Some("allowed"),
        "deny" | "denies" | "block" | "blocks" | "blocked" | "closed" | "drop" | "dropped"
        | "reject" | "rejected" | "refused" | "no" | "false" => Some("denied"),
        other => suggest::nearest(other, ["allowed", "denied"]),
    }
}
