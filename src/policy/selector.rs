//! Label selectors, as `k8s.io/apimachinery/pkg/labels` matches them.

use super::InvalidPolicy;
use crate::inventory::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Requirements, all of which must hold; without any, everything is selected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Selector {
    pub(super) requirements: Vec<Requirement>,
}

/// What a selector requires of one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) operator: Operator,
}

/// The operators of `matchExpressions`; a matchLabel is `In` with one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Operator {
    In(Vec<String>),
    /// Also holds for an absent key (`Requirement.Matches` in `k8s.io/apimachinery/pkg/labels`).
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    pub(super) fn parse(selector: &LabelSelector) -> Result<Self, InvalidPolicy> {
        let mut requirements: Vec<Requirement> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In(vec![value.clone()]),
            })
            .collect();

        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            let operator = match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Operator::In(values),
                ("NotIn", false) => Operator::NotIn(values),
                ("Exists", true) => Operator::Exists,
                ("DoesNotExist", true) => Operator::DoesNotExist,
                ("In" | "NotIn", true) => {
                    return Err(InvalidPolicy::Selector(format!(
                        "{} on {key} without values",
                        expression.operator
                    )));
                }
                ("Exists" | "DoesNotExist", false) => {
                    return Err(InvalidPolicy::Selector(format!(
                        "{} on {key} with values",
                        expression.operator
                    )));
                }
                (other, _) => {
                    return Err(InvalidPolicy::Selector(format!(
                        "the operator {other:?} on {key}"
                    )));
                }
            };
            requirements.push(Requirement { key, operator });
        }

        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.is_met_by(labels))
    }

    /// The requirements that labels do not meet.
    pub(super) fn unmet<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Requirement> {
        self.requirements
            .iter()
            .filter(|requirement| !requirement.is_met_by(labels))
    }
}

impl Requirement {
    fn is_met_by(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl std::fmt::Display for Requirement {
    /// Values as `kubectl --selector` writes them; presence and absence in words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Operator::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Operator::Exists => write!(f, "a label {key}"),
            Operator::DoesNotExist => write!(f, "no label {key}"),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requirements: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&requirements.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &serde_json::Value) -> Result<Selector, InvalidPolicy> {
        Selector::parse(&serde_json::from_value(json.clone()).expect("a selector"))
    }

    #[test]
    fn operators_match_as_in_kubernetes() {
        let labels = Labels::from([
            ("a".to_owned(), "1".to_owned()),
            ("empty".to_owned(), String::new()),
        ]);
        let cases = [
            (serde_json::json!({}), true),
            (
                serde_json::json!({ "matchLabels": { "a": "1", "empty": "" } }),
                true,
            ),
            (serde_json::json!({ "matchLabels": { "a": "2" } }), false),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["2", "1"] }] }),
                true,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "a", "operator": "NotIn", "values": ["1"] }] }),
                false,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "b", "operator": "NotIn", "values": ["1"] }] }),
                true,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "empty", "operator": "Exists" }] }),
                true,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "b", "operator": "Exists" }] }),
                false,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] }),
                false,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "b", "operator": "DoesNotExist" }] }),
                true,
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(
                selector(&json).expect("valid").matches(&labels),
                expected,
                "{json}"
            );
        }
    }

    #[test]
    fn faulty_expressions_are_refused() {
        for (operator, values) in [
            ("in", vec!["1"]),
            ("In", vec![]),
            ("Exists", vec!["1"]),
            ("", vec![]),
        ] {
            let json = serde_json::json!({ "matchExpressions": [{ "key": "a", "operator": operator, "values": values }] });
            assert!(selector(&json).is_err(), "{json}");
        }
    }
}
