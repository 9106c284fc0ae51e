//! Suites from the outside: text in, suites and diagnostics out.

mod examples;
mod grammar;
mod hostile;
mod mistakes;
mod pairs;
mod schema;

use super::{Endpoint, Line, Suite, load, load_line};
use crate::source::{Diagnostics, Sources};
use std::io::Write as _;

/// Loads files with these contents, named `a.yaml`, `b.yaml`, ... in diagnostics.
fn load_texts(texts: &[&str]) -> (Vec<Suite>, Diagnostics, Sources) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for (text, name) in texts.iter().zip('a'..='z') {
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        files.push(path.to_str().expect("UTF-8").to_owned());
    }
    let mut sources = Sources::new();
    let (suites, diagnostics) = load(&files, &mut sources);
    (suites, diagnostics, sources)
}

/// The diagnostics of files, a line each, without the temporary folder's name.
fn problems(texts: &[&str]) -> Vec<String> {
    let (_, diagnostics, sources) = load_texts(texts);
    let text = diagnostics.render_compact(&sources);
    let strip = |line: &str| {
        let mut line = line.to_owned();
        while let Some(end) = line.find(".yaml").filter(|end| line[..*end].contains('/')) {
            let end = end - 1;
            let start = line[..end].rfind([' ', '(']).map_or(0, |at| at + 1);
            if !line[start..end].contains('/') {
                break;
            }
            line.replace_range(start..end, "");
        }
        line
    };
    text.lines().map(strip).collect()
}

/// A suite that must be without any problem.
fn good(text: &str) -> Suite {
    let (mut suites, diagnostics, sources) = load_texts(&[text]);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources, false));
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
    suite.endpoints.iter().map(|endpoint: &Endpoint| endpoint.label.as_str()).collect()
}
