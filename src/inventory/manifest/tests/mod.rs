//! Tests of manifests, with and without problems.

mod cluster_policies;
mod dumps;
mod mutation;
mod objects;
mod policies;
mod reading;
mod shop;

use super::read_manifests;
use crate::inventory::{DeclaredPod, Manifests};
use crate::source::Sources;

/// The manifests, and the problems, each as `file:line:column message [help]`.
fn read(files: &[(&str, &str)]) -> (Manifests, Vec<String>) {
    let mut sources = Sources::new();
    let ids: Vec<_> = files
        .iter()
        .map(|(name, text)| sources.add(name, *text))
        .collect();
    let (manifests, diagnostics) = read_manifests(&ids, &sources);
    let faults = diagnostics.iter().map(|diagnostic| {
        let related: Vec<String> = diagnostic
            .secondary
            .iter()
            .map(|label| format!(" ({} {})", sources.place(label.span), label.text))
            .collect();
        let related = related.concat();
        let help = diagnostic
            .help
            .as_deref()
            .map(|help| format!(" [{help}]"))
            .unwrap_or_default();
        format!(
            "{} {}{related}{help}",
            sources.place(diagnostic.primary),
            diagnostic.message
        )
    });
    let faults = faults.collect();
    (manifests, faults)
}

/// The manifests of a text without problems.
fn good(text: &str) -> Manifests {
    let (manifests, faults) = read(&[("m.yaml", text)]);
    assert_eq!(faults, Vec::<String>::new(), "{text}");
    manifests
}

/// The problems of a text, without the file's name.
fn faults(text: &str) -> Vec<String> {
    let (_, faults) = read(&[("m", text)]);
    faults
        .into_iter()
        .map(|fault| fault.strip_prefix("m:").expect("the file").to_owned())
        .collect()
}

fn names(manifests: &Manifests) -> Vec<String> {
    manifests
        .pods
        .iter()
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect()
}

fn chain(pod: &DeclaredPod) -> String {
    pod.workloads
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" < ")
}

/// A workload of `app: KIND-NAME` in one line a field, `extra` within its spec.
fn workload(kind: &str, name: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec:\n  selector: {{ matchLabels: {{ app: {name} }} }}\n  \
         {extra}\n  template:\n    metadata: {{ labels: {{ app: {name} }} }}\n    spec: {{ containers: [{{ name: c, image: i, ports: [{{ containerPort: 80 }}] }}] }}\n"
    )
}
