//! Label selectors, evaluated as Kubernetes does for objects that the API server has accepted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use std::collections::BTreeMap;

/// Whether labels match a selector. A selector that cannot be parsed counts as matching, so that
/// its risk is reported.
pub(super) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).map_or(true, |selector| selector.matches(labels))
}

/// Whether labels match the selector of a Service or ReplicationController. An empty one matches
/// nothing.
pub(super) fn equal(
    selector: Option<&BTreeMap<String, String>>,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    })
}

/// A selector in the syntax of `kubectl get -l`.
pub(super) fn show(selector: &LabelSelector) -> String {
    match Selector::try_from(selector.clone()) {
        Ok(selector) if selector.selects_all() => "every pod".into(),
        Ok(selector) => selector.to_string(),
        Err(_) => "a selector that cannot be parsed".into(),
    }
}
