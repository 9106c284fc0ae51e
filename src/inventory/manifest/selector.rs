//! Label selectors and labels, checked as the API server does.
//!
//! `ValidateLabelSelector` in `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.

use super::problem::{At, Problems, nearest};
use super::syntax;
use crate::inventory::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Checks keys and values of labels, or of `matchLabels`.
pub(super) fn check_labels(labels: &Labels, at: &At, problems: &mut Problems) {
    for (key, value) in labels {
        let at = at.key(key.clone());
        if let Err(fault) = syntax::label_key(key) {
            problems
                .error(at.clone(), format!("label key {key:?} {fault}"))
                .on_key();
        }
        problems.check(&at, "label value", value, syntax::label_value(value));
    }
}

/// Checks a selector: keys, values, operators, and that each operator has the values it needs.
pub(super) fn check_selector(selector: &LabelSelector, at: &At, problems: &mut Problems) {
    if let Some(labels) = &selector.match_labels {
        check_labels(labels, &at.key("matchLabels"), problems);
    }
    for (number, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = at.key("matchExpressions").index(number);
        problems.check(
            &at.key("key"),
            "label key",
            &expression.key,
            syntax::label_key(&expression.key),
        );
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            operator @ ("In" | "NotIn") if values.is_empty() => {
                problems.error(
                    at.key("values"),
                    format!("operator {operator} needs at least one value"),
                );
            }
            operator @ ("Exists" | "DoesNotExist") if !values.is_empty() => {
                problems.error(
                    at.key("values"),
                    format!("operator {operator} takes no values"),
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let problem =
                    problems.error(at.key("operator"), format!("unknown operator {other:?}"));
                problem.help(match nearest(other, OPERATORS) {
                    Some(operator) => format!("did you mean {operator}?"),
                    None => format!("one of {}", OPERATORS.join(", ")),
                });
            }
        }
        for (number, value) in values.iter().enumerate() {
            problems.check(
                &at.key("values").index(number),
                "label value",
                value,
                syntax::label_value(value),
            );
        }
    }
}
