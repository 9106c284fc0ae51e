//! Loads suites from files, or from one line.

use super::lines::LineDecoder;
use super::names::{Input, Names};
use super::{Settings, Suite, decode, hosts, ports};
use crate::source::{
    Diagnostic, Diagnostics, FileId, Node, Scalar, Sources, Span, Style, Value, parse,
};
use std::collections::{HashMap, HashSet};

/// The file name in diagnostics about a line on the command line.
const COMMAND_LINE: &str = "command line";

/// Reads suites from files, `-` for standard input; a file may hold several.
///
/// Finds all problems of all files. Returns suites only if there is no error, because an error in
/// one file prevents the run.
pub fn load(files: &[String], sources: &mut Sources) -> (Vec<Suite>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut read = Vec::new();
    let mut distinct: HashSet<&str> = HashSet::new();
    for name in files {
        if !distinct.insert(name) {
            let file = sources.add(name, "");
            diagnostics.push(
                Diagnostic::error(Span::new(file, 0, 0), format!("{name} is given twice"))
                    .with_help("name every file once"),
            );
            continue;
        }
        match sources.read(name) {
            Ok(file) => read.push(file),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    all_or_none(&read, sources, diagnostics)
}

/// Like [`load`], for files that have been read.
pub fn read(files: &[FileId], sources: &Sources) -> (Vec<Suite>, Diagnostics) {
    all_or_none(files, sources, Diagnostics::new())
}

fn all_or_none(
    files: &[FileId],
    sources: &Sources,
    mut diagnostics: Diagnostics,
) -> (Vec<Suite>, Diagnostics) {
    let mut suites = decode_files(files, sources, &mut diagnostics);
    if diagnostics.has_errors() {
        suites.clear();
    }
    (suites, diagnostics)
}

/// Decodes the suites of files, and leaves out those with an error.
pub(super) fn decode_files(
    files: &[FileId],
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<Suite> {
    let mut suites = Vec::new();
    let mut names: HashMap<String, Span> = HashMap::new();
    let mut given = hosts::GivenAddresses::new();
    for file in files.iter().copied() {
        let mut found = Diagnostics::new();
        let documents = parse(sources, file, &mut found);
        if documents.is_empty() && found.is_empty() {
            let message = format!("{} holds no suite", sources.name(file));
            found
                .push(Diagnostic::error(Span::new(file, 0, 0), message).with_help(
                    "a suite starts with apiVersion: watertight.dev/v1 and kind: Suite",
                ));
        }
        for document in &documents {
            suites.extend(decode::suite(&document.root, file, sources, &mut found));
            hosts::compare_addresses(&document.root, &mut given, &mut found);
            let Some((name, span)) = decode::name(&document.root) else {
                continue;
            };
            if let Some(first) = names.get(name) {
                found.push(
                    Diagnostic::error(span, format!("two suites are called {name}"))
                        .with_secondary(*first, "first here")
                        .with_help("reports identify a check by the names of its suite and itself: rename one of the suites"),
                );
            } else {
                names.insert(name.to_owned(), span);
            }
        }
        diagnostics.extend(found);
    }
    suites
}

/// Creates a suite named `check` from one line, as `watertight check 'LINE'` takes it.
///
/// The line has no definitions: workloads and Services are written inline; hosts, addresses,
/// `runner` and `nodes` as in a suite.
///
/// # Errors
/// Everything that is wrong with the line.
pub fn load_line(text: &str, sources: &mut Sources) -> Result<Suite, Diagnostics> {
    let file = sources.add(COMMAND_LINE, text);
    let span = Span::new(file, 0, text.len());
    let mut diagnostics = Diagnostics::new();
    if text.trim().is_empty() {
        diagnostics.push(Diagnostic::error(span, "the line is empty").with_help(
            "write a line: 'shop/Deployment/web -> data/StatefulSet/postgres:5432 denied'",
        ));
        return Err(diagnostics);
    }
    let mut names = Names::new(Input::CommandLine);
    let defaults = Settings::default();
    let sources = &*sources;
    let lines = LineDecoder {
        sources,
        diagnostics: &mut diagnostics,
        names: &mut names,
        defaults: &defaults,
        in_brackets: false,
    }
    .decode(&line_as_list(text, span));

    diagnostics.extend(ports::without_known_ports(
        &lines,
        &names,
        &ports::named(&lines, &names),
    ));
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(decode::finish(
        "check".to_owned(),
        file,
        sources,
        names,
        defaults,
        lines,
        None,
    ))
}

/// A list with the line as its one item, so that the decoder handles it like the lines of a file.
fn line_as_list(text: &str, span: Span) -> Node {
    let line = Node {
        span,
        alias: None,
        value: Value::Scalar(Scalar {
            text: text.to_owned(),
            style: Style::Quoted,
        }),
    };
    Node {
        span,
        alias: None,
        value: Value::Sequence(vec![line]),
    }
}
