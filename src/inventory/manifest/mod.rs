//! Reads manifest files into [`Manifests`]: checked as the API server would, every problem reported
//! at once.
//!
//! ```text
//! paths ── files ──▶ documents ── lists ──▶ raw objects ── object ──▶ objects ── assemble ──▶ Manifests
//! ```
//!
//! From the documents on, everything works on plain JSON values and names a problem by its field
//! path; only this file turns field paths into lines of files. `api_objects` reads the objects of a
//! cluster's API with the same readers.
//!
//! # Limitations
//! - Unknown fields are reported in policies; in objects of other kinds only fields that are read and
//!   are written with the wrong case, or nearly right in a port, are reported.
//! - Within one part of an object (its metadata, its spec) only the first wrong type is reported.
//! - Admission is not applied: a LimitRange, a webhook or a quota changes nothing here.
//! - A ReplicationController's template makes no pods; its pods count if they are listed
//!   themselves.

mod api_objects;
mod assemble;
mod cluster_policy;
mod decode;
mod fields;
mod files;
mod kustomize;
mod lists;
mod node;
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

pub use api_objects::{ApiObjects, ApiPolicy, read_api_objects};
pub use cluster_policy::read_cluster_policy;

use super::Manifests;
use crate::source::{self, Diagnostic, Diagnostics, Document, FileId, Node, Sources, Span};
use files::Input;
use problem::{FieldPath, PathSegment, Problem};

/// Reads manifests from files, from folders and the folders in them, and from standard input (`-`).
///
/// A folder with a kustomization is built by kubectl or kustomize. Files of folders that hold no
/// object are passed over ([`Manifests::passed_over`]).
///
/// With an error among the diagnostics the manifests are incomplete and must not be used: a policy
/// may be missing.
pub fn load_manifests(paths: &[String], sources: &mut Sources) -> (Manifests, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut files = Vec::new();
    let mut found = files::find(paths, sources, &mut diagnostics);
    for input in &found.inputs {
        let file = match read_input(input, sources) {
            Ok(file) => file,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                continue;
            }
        };
        match why_passed_over(input, file, sources) {
            Some(why) => {
                let name = sources.name(file).to_owned();
                found.passed_over.insert(name, why);
            }
            None => files.push(file),
        }
    }

    let (mut manifests, problems) = read_manifests(&files, sources);
    manifests.passed_over = found.passed_over;
    diagnostics.extend(problems);
    (manifests, diagnostics)
}

/// Reads a file, or builds a kustomization.
fn read_input(input: &Input, sources: &mut Sources) -> Result<FileId, Diagnostic> {
    match input {
        Input::Named(path) | Input::InFolder(path) => sources.read(&path.to_string_lossy()),
        Input::Kustomization(folder) => match kustomize::build(folder) {
            Ok(built) => sources.read_from(&built.command, built.output.as_slice()),
            Err(error) => {
                let folder = folder.to_string_lossy();
                Err(files::error_about(&folder, error.message, sources).with_help(error.help))
            }
        },
    }
}

/// Why a file is passed over; `None` if it is read. Only files of folders are passed over: those
/// without an object, and those that are called a patch and are no whole object.
fn why_passed_over(input: &Input, file: FileId, sources: &Sources) -> Option<&'static str> {
    let Input::InFolder(path) = input else {
        return None;
    };
    if !files::may_hold_object(sources.text(file)) {
        Some("no Kubernetes object")
    } else if files::is_called_patch(path) && read_manifests(&[file], sources).1.has_errors() {
        Some("a patch")
    } else {
        None
    }
}

/// Reads manifests that are among the sources already, such as built-in ones.
///
/// As with [`load_manifests`], manifests with an error among the diagnostics must not be used.
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

    let (manifests, problems) = assemble::assemble(&values, &|path: &FieldPath| {
        let place = sources.place(span_of(&documents, path, false));
        format!("{}:{}", place.file, place.line)
    });
    let problems = problems.into_iter();
    diagnostics.extend(problems.map(|problem| diagnostic_of(&documents, sources, problem)));
    (manifests, diagnostics)
}

fn diagnostic_of(documents: &[Document], sources: &Sources, problem: Problem) -> Diagnostic {
    let span = span_of(documents, &problem.path, problem.on_key);
    let mut diagnostic = Diagnostic::error(span, problem.message);
    if has_placeholder(sources.slice(span)) {
        diagnostic = diagnostic.with_help(PLACEHOLDER);
    } else if let Some(help) = problem.help {
        diagnostic = diagnostic.with_help(help);
    }
    if let Some((path, label)) = problem.related {
        diagnostic = diagnostic.with_secondary(span_of(documents, &path, false), label);
    }
    diagnostic
}

/// The help for a value that is still a template's.
const PLACEHOLDER: &str = "this is a placeholder of a template: render it first, for example with helm template or envsubst";

/// Whether a text holds a placeholder of a template: Go's or Jinja's `{{ x }}`, a shell's `${X}`, or
/// ERB's `<%= x %>`.
fn has_placeholder(text: &str) -> bool {
    ["{{", "{%", "${", "<%"]
        .into_iter()
        .any(|opening| text.contains(opening))
}

/// The span of a field path: of the node, of its key, or of the nearest node around it where it is
/// absent.
fn span_of(documents: &[Document], path: &FieldPath, on_key: bool) -> Span {
    let root = &documents[path.document].root;
    if on_key && let Some((PathSegment::Key(last), parent)) = path.segments.split_last() {
        let parent = root.nearest(parent.iter().map(source_step));
        let entry = parent
            .as_mapping()
            .and_then(|entries| entries.iter().find(|entry| entry.key.text == *last));
        if let Some(entry) = entry {
            return entry.key.span;
        }
    }
    head(root.nearest(path.segments.iter().map(source_step)))
}

fn source_step(segment: &PathSegment) -> source::Step<'_> {
    match segment {
        PathSegment::Key(key) => source::Step::Key(key),
        PathSegment::Index(index) => source::Step::Index(*index),
    }
}

/// The span of a node; of a mapping, which goes over many lines, that of its first key.
fn head(node: &Node) -> Span {
    match node.as_mapping() {
        Some([first, ..]) if node.alias.is_none() => first.key.span,
        _ => node.site(),
    }
}
