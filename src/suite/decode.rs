//! Decoder of a document: from its YAML tree to a suite.

use super::endpoints::DefinitionDecoder;
use super::keys::{API_VERSION, KIND};
use super::lines::{LineDecoder, PlacedLine};
use super::names::{Input, Names, has_pods};
use super::shape::{ShapeCheck, text};
use super::{Locator, Settings, Subject, Suite, conflicts, ports, settings, suggest};
use crate::model::EndpointName;
use crate::source::{Diagnostic, Diagnostics, FileId, Node, Sources, Span};

/// Decodes a document; `None` if it has an error, which `diagnostics` receives.
pub(super) fn suite(
    root: &Node,
    file: FileId,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Option<Suite> {
    let mut found = Diagnostics::new();
    let suite = if is_suite(root, &mut found) {
        decode(root, file, sources, &mut found)
    } else {
        None
    };
    let has_errors = found.has_errors();
    diagnostics.extend(found);
    suite.filter(|_| !has_errors)
}

/// The suite's name with its position, also if the suite has other errors.
pub(super) fn name(root: &Node) -> Option<(&str, Span)> {
    let node = root.get("metadata")?.get("name")?;
    let name = text(node)?;
    let is_valid =
        root.get("kind").and_then(text) == Some(KIND) && EndpointName::parse(name).is_ok();
    is_valid.then_some((name, node.site()))
}

/// Whether the document is meant as a suite. Reports a document of another kind, whose content is
/// then not checked.
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

    let has_our_version = root
        .get("apiVersion")
        .and_then(text)
        .is_some_and(|version| version.starts_with("watertight.dev/"));
    match (root.get("kind"), root.get("kind").and_then(text)) {
        (Some(node), Some(kind))
            if kind != KIND && !has_our_version && suggest::nearest(kind, [KIND]).is_none() =>
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
    // A line with an error may use an endpoint that nothing else uses.
    if !diagnostics.has_errors() {
        warn_unused(&names, &lines, everything_else.is_some(), diagnostics);
    }

    let (name, _) = name(root)?;
    let suite = finish(
        name.to_owned(),
        file,
        sources,
        names,
        defaults,
        lines,
        everything_else,
    );
    Some(Suite {
        lab_families: spec.get("settings").and_then(settings::lab_families),
        ..suite
    })
}

/// Assembles a suite.
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
        lab_families: None,
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

/// Warns of endpoints without a check: no line names them, and neither `*` nor `everythingElse`
/// includes them.
fn warn_unused(
    names: &Names,
    lines: &[PlacedLine],
    everything_else: bool,
    diagnostics: &mut Diagnostics,
) {
    let has_wildcard_source = lines
        .iter()
        .any(|placed| placed.line.sources.contains(&Subject::All));
    let has_wildcard_target = lines.iter().any(|placed| {
        placed
            .line
            .targets
            .iter()
            .any(|target| target.subject == Subject::All)
    });
    for (index, endpoint) in names.endpoints().iter().enumerate() {
        let has_pods = has_pods(&endpoint.locator);
        // `*` includes a host only with known ports, and only lines that name the host give it any.
        let has_ports = endpoint.ports.is_some() || has_pods;
        let included = (everything_else && has_ports)
            || (has_wildcard_source && has_pods)
            || (has_wildcard_target && has_ports);
        let built_in = matches!(endpoint.locator, Locator::Runner | Locator::Nodes);
        if !(endpoint.used || included || built_in) {
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
