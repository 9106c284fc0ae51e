//! Decoder of `spec.expect`: lines as text and in long form.

use super::grammar::{self, ParsedLine};
use super::item::{EndpointRef, ParsedTarget};
use super::names::{Names, can_send};
use super::position::ScalarText;
use super::shape::text;
use super::{Line, Settings, Subject, TargetItem, TargetWhat, settings};
use crate::source::{Diagnostic, Diagnostics, Node, Sources, Span};
use std::collections::{HashMap, HashSet};

/// A line with its position, for diagnostics about two lines.
#[derive(Debug)]
pub(super) struct PlacedLine {
    pub(super) line: Line,
    pub(super) span: Span,
}

/// The decoder of lines.
pub(super) struct LineDecoder<'a> {
    pub(super) sources: &'a Sources,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) names: &'a mut Names,
    /// `spec.settings`, which apply where a line has no setting.
    pub(super) defaults: &'a Settings,
    /// Whether the lines are in `[ ]`, where YAML ends a text at a comma.
    pub(super) in_brackets: bool,
}

impl LineDecoder<'_> {
    /// Decodes all lines and leaves out those with an error.
    pub(super) fn decode(&mut self, node: &Node) -> Vec<PlacedLine> {
        let lines: Vec<PlacedLine> = node
            .as_sequence()
            .unwrap_or_default()
            .iter()
            .filter_map(|item| self.entry(item))
            .collect();
        self.check_unique_ids(node);
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
        // `shape` reported an empty line.
        let written = text(node).filter(|written| !written.trim().is_empty())?;
        let at = ScalarText::new(self.sources, node, written);
        let (parsed, errors) = grammar::parse(written);
        let has_errors = !errors.is_empty();
        let in_brackets = self.in_brackets && long.is_none();
        for error in errors {
            let mut diagnostic = at.diagnostic(error);
            if in_brackets {
                diagnostic = diagnostic.with_help(
                    "inside [ ] a comma ends a text: put every line in quotes, or write one line each after '- '",
                );
            }
            self.diagnostics.push(diagnostic);
        }

        let settings = long
            .as_ref()
            .map(|(_, settings)| settings.clone())
            .unwrap_or_default();
        let expected = parsed.expected;
        let subjects = self.resolve(&at, parsed, &settings);
        let (expected, (sources, targets)) = expected.zip(subjects).filter(|_| !has_errors)?;

        let long = long.map(|(node, _)| node);
        if let Some(long) = long {
            self.diagnostics
                .extend(settings::without_effect(long, expected, &targets));
        }

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
            id: long.and_then(|node| owned_text(node, "id")),
            because: long.and_then(|node| owned_text(node, "because")),
            tags: tags.iter().filter_map(text).map(str::to_owned).collect(),
            settings,
        };
        Some(PlacedLine {
            line,
            span: node.site(),
        })
    }

    /// Resolves all subjects of a line; `None` if one of them has an error.
    fn resolve(
        &mut self,
        at: &ScalarText,
        parsed: ParsedLine,
        settings: &Settings,
    ) -> Option<(Vec<Subject>, Vec<TargetItem>)> {
        let mut complete = true;
        let mut sources: Vec<Subject> = Vec::new();
        let mut seen: HashSet<Subject> = HashSet::new();
        for source in parsed.sources {
            let span = at.span(&source.range);
            match self.subject(&source.endpoint, span) {
                Some(subject) => {
                    complete &= self.check_can_send(&subject, span);
                    if seen.insert(subject.clone()) {
                        sources.push(subject);
                    } else {
                        self.warn_duplicate(span);
                    }
                }
                None => complete = false,
            }
        }

        let mut targets: Vec<TargetItem> = Vec::new();
        let mut seen: HashSet<TargetItem> = HashSet::new();
        for target in parsed.targets {
            let span = at.span(&target.range);
            match self.target(at, target, settings) {
                Some(item) if seen.insert(item.clone()) => targets.push(item),
                Some(_) => self.warn_duplicate(span),
                None => complete = false,
            }
        }

        complete.then_some((sources, targets))
    }

    fn target(
        &mut self,
        at: &ScalarText,
        target: ParsedTarget,
        settings: &Settings,
    ) -> Option<TargetItem> {
        let subject = self.subject(&target.endpoint, at.span(&target.endpoint_range))?;
        let what = match target.what {
            TargetWhat::Url(mut url) => {
                let is_http = url.scheme.is_http();
                if let (Some(written), Some(setting)) = (&target.method, &settings.method)
                    && written != setting
                {
                    let diagnostic = Diagnostic::error(
                        at.span(&target.range),
                        format!("the line says {written}, and the setting method says {setting}"),
                    );
                    self.diagnostics
                        .push(diagnostic.with_help("write the method once"));
                    return None;
                }

                // The name of a check contains the URL's text, so a method from the settings is
                // added to it here.
                let setting = settings.method.as_ref().or(self.defaults.method.as_ref());
                if let Some(method) =
                    setting.filter(|method| is_http && target.method.is_none() && *method != "GET")
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

    fn subject(&mut self, endpoint: &EndpointRef, span: Span) -> Option<Subject> {
        match self
            .names
            .resolve(endpoint, span, &self.sources.place(span))
        {
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

    fn check_can_send(&mut self, subject: &Subject, span: Span) -> bool {
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

    fn warn_duplicate(&mut self, span: Span) {
        self.diagnostics.push(
            Diagnostic::warning(span, "this item appears twice in the line")
                .with_help("remove one of them"),
        );
    }

    fn check_unique_ids(&mut self, node: &Node) {
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

fn owned_text(node: &Node, key: &str) -> Option<String> {
    node.get(key).and_then(text).map(str::to_owned)
}

/// The text of a line without line breaks, as reports show it.
fn one_line(text: &str) -> String {
    let text = text.trim();
    if text.contains(|c: char| c.is_control()) {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        text.to_owned()
    }
}

/// The label of a line in a diagnostic about two lines: "denied here".
pub(super) fn expectation_label(line: &Line) -> String {
    format!("{} here", line.expected)
}
