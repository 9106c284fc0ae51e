//! Manifest files in, [`Manifests`] out: checked as the API server would, every fault shown at
//! once.
//!
//! ```text
//! paths ── files ──▶ documents ── lists ──▶ items ── object ──▶ objects ── assemble ──▶ Manifests
//! ```
//!
//! From the documents on everything works on plain JSON values and names a fault by its path; only
//! this file turns paths into places in files.
//!
//! # Limitations
//! - Of kinds other than policies, unknown fields are not noticed: the types have them all, but not
//!   their absence.
//! - Within one part of an object (its metadata, its spec) only the first wrong type is shown.
//! - Admission is not played: a LimitRange, a webhook or a quota changes nothing here.
//! - A ReplicationController's template makes no pods; its pods count if they are given themselves.

mod assemble;
mod cluster_policy;
mod decode;
mod fields;
mod files;
mod lists;
mod live;
mod object;
mod pod;
mod policy;
mod problem;
mod selector;
mod service;
mod syntax;
mod workload;

#[cfg(test)]
mod tests;

pub use cluster_policy::read_cluster_policy;
pub use live::{ApiPolicy, Objects, observe};

use super::Manifests;
use crate::source::{self, Diagnostic, Diagnostics, Document, FileId, Node, Sources, Span};
use problem::{At, Problem, Step};

/// Reads manifests: files, folders with all that is below them, `-` for standard input.
///
/// With any error among the diagnostics the manifests are incomplete: a policy may be missing, so
/// they must not be used.
pub fn load_manifests(paths: &[String], sources: &mut Sources) -> (Manifests, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut read = Vec::new();
    for name in files::find(paths, sources, &mut diagnostics) {
        match sources.read(&name) {
            Ok(file) => read.push(file),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    let (manifests, found) = read_manifests(&read, sources);
    diagnostics.extend(found);
    (manifests, diagnostics)
}

/// Reads manifests that are among the sources already, such as those built in.
///
/// As with [`load_manifests`], an error among the diagnostics means that the manifests must not be
/// used.
pub fn read_manifests(files: &[FileId], sources: &Sources) -> (Manifests, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let documents: Vec<Document> = files
        .iter()
        .flat_map(|file| source::parse(sources, *file, &mut diagnostics))
        .collect();
    let values: Vec<serde_json::Value> = documents
        .iter()
        .map(|document| document.root.to_json())
        .collect();
    let origin = |at: &At| {
        let place = sources.place(span_of(&documents, at, false));
        format!("{}:{}", place.file, place.line)
    };
    let (manifests, problems) = assemble::assemble(&values, origin);
    diagnostics.extend(
        problems
            .into_iter()
            .map(|problem| show(&documents, problem)),
    );
    (manifests, diagnostics)
}

fn show(documents: &[Document], problem: Problem) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(
        span_of(documents, &problem.at, problem.on_key),
        problem.message,
    );
    if let Some(help) = problem.help {
        diagnostic = diagnostic.with_help(help);
    }
    if let Some((at, text)) = problem.also {
        diagnostic = diagnostic.with_secondary(span_of(documents, &at, false), text);
    }
    diagnostic
}

/// Where to point for a path: at the node, at its key, or at the nearest node around it where it is
/// absent.
fn span_of(documents: &[Document], at: &At, on_key: bool) -> Span {
    let root = &documents[at.document].root;
    let steps = || {
        at.steps.iter().map(|step| match step {
            Step::Key(key) => source::Step::Key(key),
            Step::Index(index) => source::Step::Index(*index),
        })
    };
    if on_key && let Some((Step::Key(last), around)) = at.steps.split_last() {
        let parent = root.nearest(steps().take(around.len()));
        let entry = parent
            .as_mapping()
            .and_then(|entries| entries.iter().find(|entry| entry.key.text == *last));
        if let Some(entry) = entry {
            return entry.key.span;
        }
    }
    head(root.nearest(steps()))
}

/// A mapping goes over many lines: its first key stands for it.
fn head(node: &Node) -> Span {
    match node.as_mapping() {
        Some([first, ..]) if node.alias.is_none() => first.key.span,
        _ => node.site(),
    }
}
