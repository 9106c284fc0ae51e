//! Label selectors and labels, checked as the API server does.
//!
//! `ValidateLabelSelector` in `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.

use super::problem::{FieldPath, Problems, nearest};
use super::syntax;
use crate::inventory::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Checks the keys and values of labels or of `matchLabels`.
pub(super) fn check_labels(labels: &Labels, path: &FieldPath, problems: &mut Problems) {
    for (key, value) in labels {
        let path = path.key(key.clone());
        if let Err(fault) = syntax::label_key(key) {
            problems
                .error(path.clone(), format!("label key {key:?} {fault}"))
                .on_key();
        }
        problems.check(&path, "label value", value, syntax::label_value(value));
    }
}

/// Checks the keys, operators and values of a selector, and that each operator has as many values
/// as it needs.
pub(super) fn check_selector(selector: &LabelSelector, path: &FieldPath, problems: &mut Problems) {
    if let Some(labels) = &selector.match_labels {
        check_labels(labels, &path.key("matchLabels"), problems);
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.key("matchExpressions").index(index);
        check_expression(expression, &path, problems);
    }
}

fn check_expression(
    expression: &LabelSelectorRequirement,
    path: &FieldPath,
    problems: &mut Problems,
) {
    problems.check(
        &path.key("key"),
        "label key",
        &expression.key,
        syntax::label_key(&expression.key),
    );

    let values = expression.values.as_deref().unwrap_or_default();
    match expression.operator.as_str() {
        operator @ ("In" | "NotIn") if values.is_empty() => {
            problems.error(
                path.key("values"),
                format!("operator {operator} needs at least one value"),
            );
        }
        operator @ ("Exists" | "DoesNotExist") if !values.is_empty() => {
            problems.error(
                path.key("values"),
                format!("operator {operator} takes no values"),
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        unknown => {
            let problem = problems.error(
                path.key("operator"),
                format!("unknown operator {unknown:?}"),
            );
            problem.help(match nearest(unknown, OPERATORS) {
                Some(operator) => format!("did you mean {operator}?"),
                None => format!("one of {}", OPERATORS.join(", ")),
            });
        }
    }

    for (index, value) in values.iter().enumerate() {
        problems.check(
            &path.key("values").index(index),
            "label value",
            value,
            syntax::label_value(value),
        );
    }
}
