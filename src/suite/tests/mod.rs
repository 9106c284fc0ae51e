//! Suites from the outside: text in, suites and diagnostics out.

mod definitions;
mod established;
mod examples;
mod grammar;
mod hostile;
mod mistakes;
mod pairs;
mod schema;

use super::load::decode_files;
use super::{Endpoint, Line, Suite, load_line};
use crate::source::{Diagnostics, Sources};

/// Loads texts as the files `a.yaml`, `b.yaml`, ...
fn load_texts(texts: &[&str]) -> (Vec<Suite>, Diagnostics, Sources) {
    let mut sources = Sources::new();
    let files: Vec<_> = texts
        .iter()
        .zip('a'..='z')
        .map(|(text, name)| sources.add(&format!("{name}.yaml"), *text))
        .collect();
    let mut diagnostics = Diagnostics::new();
    let suites = decode_files(&files, &sources, &mut diagnostics);
    (suites, diagnostics, sources)
}

/// The diagnostics of texts, a line each.
fn problems(texts: &[&str]) -> Vec<String> {
    let (_, diagnostics, sources) = load_texts(texts);
    diagnostics
        .render_compact(&sources)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A suite that must be without any problem.
fn good(text: &str) -> Suite {
    let (mut suites, diagnostics, sources) = load_texts(&[text]);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&sources, false)
    );
    assert_eq!(suites.len(), 1);
    suites.remove(0)
}

/// A suite with a few endpoints and these lines of YAML under `expect:`.
fn with_lines(lines: &str) -> String {
    format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: shop }}\nspec:\n  endpoints:\n    web: {{ namespace: shop, workload: Deployment/web }}\n    api: {{ namespace: shop, pods: {{ app: api }}, service: api }}\n    db: {{ namespace: data, workload: StatefulSet/db, ports: [5432, 53/udp] }}\n    payment: {{ host: payments.example }}\n  groups:\n    tiers: [web, api]\n  everythingElse: denied\n  expect:\n{lines}\n"
    )
}

/// The line at which `with_lines` puts its lines.
const FIRST_LINE: usize = 14;

fn line(suite: &Suite, index: usize) -> &Line {
    &suite.lines[index]
}

fn labels(suite: &Suite) -> Vec<&str> {
    suite
        .endpoints
        .iter()
        .map(|endpoint: &Endpoint| endpoint.label.as_str())
        .collect()
}
