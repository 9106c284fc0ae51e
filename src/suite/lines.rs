//! `spec.expect`: from texts and long forms to lines.

use super::grammar::{self, ParsedLine};
use super::item::{ParsedTarget, Who};
use super::names::{Names, can_send};
use super::position::Text;
use super::shape::text;
use super::{Expected, Line, Settings, Subject, TargetItem, TargetWhat, settings};
use crate::source::{Diagnostic, Diagnostics, Node, Sources, Span};
use std::collections::{HashMap, HashSet};

/// A line with its place, for diagnostics about two of them.
#[derive(Debug)]
pub(super) struct PlacedLine {
    /// The line.
    pub(super) line: Line,
    /// Where it stands.
    pub(super) span: Span,
}

/// The decoder of lines.
pub(super) struct Lines<'a> {
    /// For places.
    pub(super) sources: &'a Sources,
    /// Where to report.
    pub(super) diagnostics: &'a mut Diagnostics,
    /// What lines can name.
    pub(super) names: &'a mut Names,
    /// `spec.settings`, for what a line leaves open.
    pub(super) defaults: &'a Settings,
    /// Whether the lines stand in `[ ]`, where YAML ends a text at a comma.
    pub(super) in_brackets: bool,
}

impl Lines<'_> {
    /// Decodes all lines; those that are wrong are left out.
    pub(super) fn all(&mut self, node: &Node) -> Vec<PlacedLine> {
        let lines: Vec<PlacedLine> = node
            .as_sequence()
            .unwrap_or_default()
            .iter()
            .filter_map(|item| self.entry(item))
            .collect();
        self.ids_are_unique(node);
        lines
    }

    fn entry(&mut self, item: &Node) -> Option<PlacedLine> {
        let Some(check) = item.get("check") else {
            return self.line(item, None);
        };
        let settings = settings::decode(item, self.sources, self.diagnostics, self.names);
        self.line(check, Some((item, settings)))
    }

    fn line(&mut self, node: &Node, long: Option<(&Node, Settings)>) -> Option<PlacedLine> {
        // An empty line was reported with the shape.
        let written = text(node).filter(|written| !written.trim().is_empty())?;
        let at = Text::new(self.sources, node, written);
        let (parsed, faults) = grammar::parse(written);
        let broken = !faults.is_empty();
        let in_brackets = self.in_brackets && long.is_none();
        self.diagnostics.extend(faults.into_iter().map(|fault| match at.diagnostic(fault) {
            diagnostic if in_brackets => diagnostic.with_help(
                "inside [ ] a comma ends a text: put every line in quotes, or write one line each after '- '",
            ),
            diagnostic => diagnostic,
        }));
        let settings = long
            .as_ref()
            .map(|(_, settings)| settings.clone())
            .unwrap_or_default();
        let expected = parsed.expected;
        let subjects = self.look_up(&at, parsed, &settings);
        let (expected, (sources, targets)) = expected.zip(subjects).filter(|_| !broken)?;
        let long = long.map(|(node, _)| node);
        if let Some(long) = long {
            self.diagnostics
                .extend(settings::without_effect(long, expected, &targets));
        }
        let value = |key: &str| {
            long.and_then(|node| node.get(key))
                .and_then(text)
                .map(str::to_owned)
        };
        let tags = long
            .and_then(|node| node.get("tags"))
            .and_then(Node::as_sequence)
            .unwrap_or_default();
        let line = Line {
            text: one_line(written),
            place: self.sources.place(long.unwrap_or(node).site()),
            sources,
            targets,
            expected,
            id: value("id"),
            because: value("because"),
            tags: tags.iter().filter_map(text).map(str::to_owned).collect(),
            settings,
        };
        Some(PlacedLine {
            line,
            span: node.site(),
        })
    }

    /// The subjects of a line; `None` if one of them is wrong. All of them are looked up.
    fn look_up(
        &mut self,
        at: &Text,
        parsed: ParsedLine,
        settings: &Settings,
    ) -> Option<(Vec<Subject>, Vec<TargetItem>)> {
        let mut whole = true;
        let mut sources: Vec<Subject> = Vec::new();
        let mut seen: HashSet<Subject> = HashSet::new();
        for source in parsed.sources {
            let span = at.span(&source.range);
            match self.subject(&source.who, span) {
                Some(subject) => {
                    whole &= self.can_send(&subject, span);
                    if seen.insert(subject.clone()) {
                        sources.push(subject);
                    } else {
                        self.twice(span);
                    }
                }
                None => whole = false,
            }
        }
        let mut targets: Vec<TargetItem> = Vec::new();
        let mut seen: HashSet<TargetItem> = HashSet::new();
        for target in parsed.targets {
            let span = at.span(&target.range);
            match self.target(at, target, settings) {
                Some(item) if seen.insert(item.clone()) => targets.push(item),
                Some(_) => self.twice(span),
                None => whole = false,
            }
        }
        whole.then_some((sources, targets))
    }

    fn target(
        &mut self,
        at: &Text,
        target: ParsedTarget,
        settings: &Settings,
    ) -> Option<TargetItem> {
        let subject = self.subject(&target.who, at.span(&target.who_range))?;
        let what = match target.what {
            TargetWhat::Url(mut url) => {
                let http = url.scheme.is_http();
                if let (Some(written), Some(set)) = (&target.method, &settings.method)
                    && written != set
                {
                    let diagnostic = Diagnostic::error(
                        at.span(&target.range),
                        format!("the line says {written}, and method says {set}"),
                    );
                    self.diagnostics
                        .push(diagnostic.with_help("write the method once"));
                    return None;
                }
                // The check's name carries the method, so what the settings say is written into the
                // URL here.
                let set = settings.method.as_ref().or(self.defaults.method.as_ref());
                if let Some(method) =
                    set.filter(|method| http && target.method.is_none() && *method != "GET")
                {
                    url.method.clone_from(method);
                    url.text = format!("{method} {}", url.text);
                }
                TargetWhat::Url(url)
            }
            other => other,
        };
        Some(TargetItem { subject, what })
    }

    fn subject(&mut self, who: &Who, span: Span) -> Option<Subject> {
        match self.names.look_up(who, span, &self.sources.place(span)) {
            Ok(subject) => {
                for id in subject.as_ref().map(Subject::members).unwrap_or_default() {
                    self.names.mark_used(*id);
                }
                subject
            }
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn can_send(&mut self, subject: &Subject, span: Span) -> bool {
        let Some(outside) = subject
            .members()
            .iter()
            .map(|id| self.names.endpoint(*id))
            .find(|endpoint| !can_send(&endpoint.locator))
        else {
            return true;
        };
        let label = &outside.label;
        let message = match subject {
            Subject::Group(_) => {
                format!(
                    "the group holds {label}, which is outside the cluster and cannot be a source"
                )
            }
            Subject::Endpoint(_) | Subject::All => {
                format!("{label} is outside the cluster and cannot be a source")
            }
        };
        self.diagnostics
            .push(Diagnostic::error(span, message).with_help(
                "hosts and addresses are targets only; write runner for connections from outside",
            ));
        false
    }

    fn twice(&mut self, span: Span) {
        self.diagnostics.push(
            Diagnostic::warning(span, "this stands twice in the line")
                .with_help("remove one of them"),
        );
    }

    fn ids_are_unique(&mut self, node: &Node) {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for item in node.as_sequence().unwrap_or_default() {
            let Some(id) = item.get("id") else { continue };
            let Some(name) = text(id) else { continue };
            if let Some(first) = seen.get(name) {
                self.diagnostics.push(
                    Diagnostic::error(id.site(), format!("the id {name:?} is used twice"))
                        .with_secondary(*first, "first here")
                        .with_help("an id belongs to one line: change one of them"),
                );
            } else {
                seen.insert(name, id.site());
            }
        }
    }
}

/// A line folded over several lines of the file is still one line in reports.
fn one_line(text: &str) -> String {
    let text = text.trim();
    if text.contains(|c: char| c.is_control()) {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        text.to_owned()
    }
}

/// What an id or a verdict looks like beside a line, for diagnostics about two lines.
pub(super) fn shown(line: &Line) -> String {
    let verdict = match line.expected {
        Expected::Allowed => "allowed",
        Expected::Denied => "denied",
    };
    format!("{verdict} here")
}
