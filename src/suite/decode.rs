//! From a document's tree to a suite.

use super::endpoints::DefinitionDecoder;
use super::keys::{API_VERSION, KIND};
use super::lines::{LineDecoder, PlacedLine};
use super::names::{Input, Names, has_pods};
use super::shape::{ShapeCheck, text};
use super::{Locator, Settings, Subject, Suite, conflicts, ports, settings, suggest};
use crate::model::EndpointName;
use crate::source::{Diagnostic, Diagnostics, FileId, Node, Sources, Span};

/// Decodes a document; `None` if it is wrong, and then the diagnostics say why.
pub(super) fn suite(
    root: &Node,
    file: FileId,
    sources: &Sources,
    all: &mut Diagnostics,
) -> Option<Suite> {
    let mut found = Diagnostics::new();
    let suite = if is_suite(root, &mut found) {
        decode(root, file, sources, &mut found)
    } else {
        None
    };
    let broken = found.has_errors();
    all.extend(found);
    suite.filter(|_| !broken)
}

/// The suite's name with its place, also of a suite that is otherwise wrong.
pub(super) fn name(root: &Node) -> Option<(&str, Span)> {
    let node = root.get("metadata")?.get("name")?;
    let name = text(node)?;
    (root.get("kind").and_then(text) == Some(KIND) && EndpointName::parse(name).is_ok())
        .then_some((name, node.site()))
}

/// Whether the document is meant as a suite; another kind is reported once and not looked into.
fn is_suite(root: &Node, diagnostics: &mut Diagnostics) -> bool {
    let Some(entries) = root.as_mapping() else {
        diagnostics.push(
            Diagnostic::error(
                root.site(),
                format!("a suite is a mapping, not {}", root.describe()),
            )
            .with_help(format!(
                "start with apiVersion: {API_VERSION} and kind: {KIND}"
            )),
        );
        return false;
    };
    let written = |key: &str| root.get(key).and_then(text);
    let ours = written("apiVersion").is_some_and(|version| version.starts_with("watertight.dev/"));
    match (root.get("kind"), written("kind")) {
        (Some(node), Some(kind))
            if kind != KIND && !ours && suggest::nearest(kind, [KIND]).is_none() =>
        {
            diagnostics.push(
                Diagnostic::error(
                    node.site(),
                    format!("this document is a {kind}, not a {KIND}"),
                )
                .with_help("name only suites here; manifests follow --lab"),
            );
            false
        }
        (None, _)
            if !["apiVersion", "metadata", "spec"]
                .into_iter()
                .any(|key| root.get(key).is_some()) =>
        {
            let span = entries
                .first()
                .map_or_else(|| root.site(), |entry| entry.key.span);
            diagnostics.push(
                Diagnostic::error(span, "this document is not a suite").with_help(format!(
                    "start it with apiVersion: {API_VERSION} and kind: {KIND}"
                )),
            );
            false
        }
        _ => true,
    }
}

fn decode(
    root: &Node,
    file: FileId,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Option<Suite> {
    ShapeCheck { diagnostics }.suite(root);
    let spec = root.get("spec")?;
    let mut names = Names::new(Input::SuiteFile);
    let mut definitions = DefinitionDecoder {
        sources,
        diagnostics,
        names: &mut names,
    };
    if let Some(endpoints) = spec.get("endpoints") {
        definitions.endpoints(endpoints);
    }
    if let Some(groups) = spec.get("groups") {
        definitions.groups(groups);
    }
    let defaults = spec
        .get("settings")
        .map(|node| settings::decode(node, sources, diagnostics, &mut names))
        .unwrap_or_default();
    let expect = spec.get("expect");
    let lines = expect
        .map(|node| {
            let in_brackets = sources.slice(node.span).starts_with('[');
            LineDecoder {
                sources,
                diagnostics,
                names: &mut names,
                defaults: &defaults,
                in_brackets,
            }
            .decode(node)
        })
        .unwrap_or_default();
    let everything_else = spec
        .get("everythingElse")
        .map(|node| sources.place(node.site()));
    if expect.is_none() && everything_else.is_none() && spec.as_mapping().is_some() {
        let (_, span) = key_of(root, "spec")?;
        diagnostics.push(
            Diagnostic::error(span, "the suite expects nothing")
                .with_help("add expect with at least one line, or everythingElse: denied"),
        );
    }
    let named_ports = ports::named(&lines, &names);
    diagnostics.extend(ports::without_known_ports(&lines, &names, &named_ports));
    conflicts::report(&lines, &names, &named_ports, &defaults, diagnostics);
    // With a broken line it is unknown which endpoints are used.
    if !diagnostics.has_errors() {
        unused(&names, &lines, everything_else.is_some(), diagnostics);
    }
    let (name, _) = name(root)?;
    Some(finish(
        name.to_owned(),
        file,
        sources,
        names,
        defaults,
        lines,
        everything_else,
    ))
}

/// Puts a suite together.
pub(super) fn finish(
    name: String,
    file: FileId,
    sources: &Sources,
    names: Names,
    settings: Settings,
    lines: Vec<PlacedLine>,
    everything_else: Option<crate::source::Place>,
) -> Suite {
    Suite {
        name,
        file: sources.name(file).to_owned(),
        sha256: sources.sha256(file).to_owned(),
        endpoints: names.into_endpoints(),
        settings,
        lines: lines.into_iter().map(|placed| placed.line).collect(),
        everything_else,
    }
}

fn key_of<'a>(node: &'a Node, key: &str) -> Option<(&'a str, Span)> {
    node.as_mapping()?
        .iter()
        .find(|entry| entry.key.text == key)
        .map(|entry| (entry.key.text.as_str(), entry.key.span))
}

/// Warns of endpoints that no check can come from: no line names them, and neither `*` nor
/// `everythingElse` holds them.
fn unused(
    names: &Names,
    lines: &[PlacedLine],
    everything_else: bool,
    diagnostics: &mut Diagnostics,
) {
    let star_source = lines
        .iter()
        .any(|placed| placed.line.sources.contains(&Subject::All));
    let star_target = lines.iter().any(|placed| {
        placed
            .line
            .targets
            .iter()
            .any(|target| target.subject == Subject::All)
    });
    for (index, endpoint) in names.endpoints().iter().enumerate() {
        let pods = has_pods(&endpoint.locator);
        // A host's known ports are those that lines name; without any it is part of nothing.
        let ports = endpoint.ports.is_some() || pods;
        let held = (everything_else && ports) || (star_source && pods) || (star_target && ports);
        let in_place = matches!(endpoint.locator, Locator::Runner | Locator::Nodes);
        if !(endpoint.used || held || in_place) {
            diagnostics.push(
                Diagnostic::warning(
                    names.span(super::EndpointId(index)),
                    format!("no line names {}", endpoint.label),
                )
                .with_help("remove it, or write what is expected of it"),
            );
        }
    }
}
