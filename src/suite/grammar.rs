//! The grammar of a line: `SOURCES -> TARGETS allowed|denied`. Knows no suite: names stay words.

use super::forms::Misfit;
use super::item::{ParsedSource, ParsedTarget, parse_source, parse_target};
use super::{Expected, suggest};
use std::ops::Range;

/// A line, its names not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedLine {
    /// Sources, as written.
    pub(super) sources: Vec<ParsedSource>,
    /// Targets, as written.
    pub(super) targets: Vec<ParsedTarget>,
    /// The verdict; `None` if that is wrong.
    pub(super) expected: Option<Expected>,
}

/// What is wrong with a line, and at which of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Bytes of the line's text.
    pub(super) range: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) help: Option<String>,
}

impl Fault {
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

    pub(super) fn of(range: Range<usize>, misfit: Misfit) -> Self {
        Self {
            range,
            message: misfit.message,
            help: misfit.help,
        }
    }
}

/// A piece of a line that knows where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Where it starts in the line.
    pub(super) start: usize,
}

impl<'a> Piece<'a> {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// From one of its bytes to another.
    pub(super) fn slice(self, range: Range<usize>) -> Self {
        Self {
            text: &self.text[range.clone()],
            start: self.start + range.start,
        }
    }

    /// Without blanks at its ends.
    pub(super) fn trim(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        Self {
            text: self.text.trim(),
            start: self.start + start,
        }
    }

    /// At the first of a character: before and after it.
    pub(super) fn split_once(self, at: char) -> Option<(Self, Self)> {
        let (before, after) = self.text.split_once(at)?;
        Some((
            self.slice(0..before.len()),
            self.slice(self.text.len() - after.len()..self.text.len()),
        ))
    }

    /// At every comma, without the blanks around.
    fn items(self) -> impl Iterator<Item = Self> {
        let mut start = 0;
        self.text.split(',').map(move |item| {
            let piece = self.slice(start..start + item.len());
            start += item.len() + 1;
            piece.trim()
        })
    }

    /// The words with what stands between them left out.
    fn words(self) -> impl Iterator<Item = &'a str> {
        self.text.split_whitespace()
    }
}

const EXAMPLE: &str =
    "write SOURCES -> TARGETS allowed|denied, for example: web -> api:8080 allowed";

/// Parses a line; every fault of it is found, and what is right comes back all the same, so that
/// its names can be looked up.
pub(super) fn parse(text: &str) -> (ParsedLine, Vec<Fault>) {
    let line = Piece { text, start: 0 };
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
    let mut faults = Vec::new();
    let (targets, expected) = match split_verdict(rest) {
        Ok((targets, expected)) => (targets, Some(expected)),
        Err((targets, fault)) => {
            faults.push(fault);
            (targets, None)
        }
    };
    let mut keep = |parsed: Result<(), Fault>| faults.extend(parsed.err());
    let mut parsed_sources = Vec::new();
    for item in sources.items() {
        keep(parse_source(item).map(|source| parsed_sources.push(source)));
    }
    let mut parsed_targets = Vec::new();
    if targets.words().any(|word| matches!(word, "->" | "→")) {
        keep(Err(Fault::new(
            targets.trim().range(),
            "the line has two arrows",
            "write two lines",
        )));
    } else if !(targets.text.trim().is_empty() && expected.is_none()) {
        let mut named = None;
        for item in targets.items() {
            keep(parse_target(item, named).map(|target| parsed_targets.push(target)));
            if !is_port_alone(item.text) {
                named = Some(item);
            }
        }
    }
    (
        ParsedLine {
            sources: parsed_sources,
            targets: parsed_targets,
            expected,
        },
        faults,
    )
}

/// A port without a name before it: `8443`, `:8443`, `8000-8010`, `53/udp`.
pub(super) fn is_port_alone(item: &str) -> bool {
    let item = item.strip_prefix(':').unwrap_or(item);
    let (numbers, transport) = item.split_once('/').unwrap_or((item, "tcp"));
    numbers.starts_with(|c: char| c.is_ascii_digit())
        && numbers.chars().all(|c| c.is_ascii_digit() || c == '-')
        && transport.chars().all(|c| c.is_ascii_alphabetic())
}

fn split_at_arrow(line: Piece<'_>) -> Option<(Piece<'_>, Piece<'_>)> {
    let (at, arrow) = ["->", "→"]
        .into_iter()
        .filter_map(|arrow| Some((line.text.find(arrow)?, arrow)))
        .min()?;
    Some((
        line.slice(0..at),
        line.slice(at + arrow.len()..line.text.len()),
    ))
}

fn no_arrow(line: Piece<'_>) -> Fault {
    let other = ["=>", "⇒", "➜", "⟶", "—>", "–>", ">"]
        .into_iter()
        .find(|arrow| line.text.contains(arrow));
    match other.and_then(|arrow| Some((line.text.find(arrow)?, arrow))) {
        Some((at, arrow)) => Fault::new(
            line.slice(at..at + arrow.len()).range(),
            format!("{arrow:?} is not the arrow"),
            "write ->",
        ),
        None => Fault::new(line.range(), "the line has no arrow", EXAMPLE),
    }
}

/// Cuts the verdict off, the last word; what stands before it comes back also when it is wrong.
fn split_verdict(rest: Piece<'_>) -> Result<(Piece<'_>, Expected), (Piece<'_>, Fault)> {
    let rest = Piece {
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
            Fault::new(
                rest.start.saturating_sub(2)..rest.start,
                "nothing follows the arrow",
                EXAMPLE,
            ),
        )),
        other => {
            let message = "the line must end with allowed or denied";
            Err(match meant_verdict(other) {
                Some(verdict) => (
                    before,
                    Fault::new(word.range(), message, format!("did you mean {verdict}?")),
                ),
                None => (
                    rest,
                    Fault::new(
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

fn meant_verdict(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "allow" | "allows" | "permit" | "permitted" | "open" | "accept" | "accepted" | "pass"
        | "passes" | "ok" | "yes" | "true" => Some("allowed"),
        "deny" | "denies" | "block" | "blocks" | "blocked" | "closed" | "drop" | "dropped"
        | "reject" | "rejected" | "refused" | "no" | "false" => Some("denied"),
        other => suggest::nearest(other, ["allowed", "denied"]),
    }
}
