//! The way in: files, or one line, to suites.

use super::lines::LineDecoder;
use super::names::{Input, Names};
use super::{Settings, Suite, decode, ports};
use crate::source::{
    Diagnostic, Diagnostics, FileId, Node, Scalar, Sources, Span, Style, Value, parse,
};
use std::collections::{HashMap, HashSet};

/// What a line on the command line is called where a file would be.
const COMMAND_LINE: &str = "command line";

/// Reads suites from files, `-` for standard input; a file may hold several.
///
/// All problems of all files are found. Suites come back only when there is no error: with one,
/// none of them may run.
pub fn load(files: &[String], sources: &mut Sources) -> (Vec<Suite>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut read = Vec::new();
    let mut given: HashSet<&str> = HashSet::new();
    for name in files {
        if !given.insert(name) {
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

/// As [`load`], of texts that were read already.
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

/// The suites of files that were read; those that are wrong are left out.
pub(super) fn decode_files(
    files: &[FileId],
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<Suite> {
    let mut suites = Vec::new();
    let mut names: HashMap<String, Span> = HashMap::new();
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
            let Some((name, span)) = decode::name(&document.root) else {
                continue;
            };
            if let Some(first) = names.get(name) {
                found.push(
                    Diagnostic::error(span, format!("two suites are called {name}"))
                        .with_secondary(*first, "first here")
                        .with_help("the name and the check's name are the key in every report: rename one of them"),
                );
            } else {
                names.insert(name.to_owned(), span);
            }
        }
        diagnostics.extend(found);
    }
    suites
}

/// Makes a suite named `check` of one line, as `watertight check 'LINE'` takes it.
///
/// Endpoints are written in place; hosts, addresses, `runner` and `nodes` are known as everywhere.
///
/// # Errors
/// Everything that is wrong with the line.
pub fn load_line(text: &str, sources: &mut Sources) -> Result<Suite, Diagnostics> {
    let file = sources.add(COMMAND_LINE, text);
    let span = Span::new(file, 0, text.len());
    // The line as a quoted scalar of a tree, so that it takes the way of every other line.
    let node = |value| Node {
        span,
        alias: None,
        value,
    };
    let line = node(Value::Scalar(Scalar {
        text: text.to_owned(),
        style: Style::Quoted,
    }));
    let mut diagnostics = Diagnostics::new();
    if text.trim().is_empty() {
        diagnostics.push(Diagnostic::error(span, "the line is empty").with_help(
            "write a line: 'shop/Deployment/web -> data/StatefulSet/postgres:5432 denied'",
        ));
        return Err(diagnostics);
    }
    let mut names = Names::new(Input::CommandLine);
    let defaults = Settings::default();
    let sources_now = &*sources;
    let lines = LineDecoder {
        sources: sources_now,
        diagnostics: &mut diagnostics,
        names: &mut names,
        defaults: &defaults,
        in_brackets: false,
    }
    .decode(&node(Value::Sequence(vec![line])));
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
        sources_now,
        names,
        defaults,
        lines,
        None,
    ))
}
