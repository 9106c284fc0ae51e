//! Label selectors, as `k8s.io/apimachinery/pkg/labels` matches them.

use super::InvalidPolicy;
use crate::inventory::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Requirements, all of which must hold; none at all selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Selector {
    pub(super) requirements: Vec<Requirement>,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) must: Must,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Must {
    /// It is there with one of these values.
    In(Vec<String>),
    /// It is not there, or with another value (`Requirement.Matches`: "`NotIn`" holds for an absent
    /// key).
    NotIn(Vec<String>),
    Exist,
    NotExist,
}

impl Selector {
    pub(super) fn parse(selector: &LabelSelector) -> Result<Self, InvalidPolicy> {
        let mut requirements: Vec<Requirement> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                must: Must::In(vec![value.clone()]),
            })
            .collect();
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            let must = match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Must::In(values),
                ("NotIn", false) => Must::NotIn(values),
                ("Exists", true) => Must::Exist,
                ("DoesNotExist", true) => Must::NotExist,
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
            requirements.push(Requirement { key, must });
        }
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(labels))
    }

    /// What does not hold.
    pub(super) fn missing_requirement<'a>(
        &'a self,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Requirement> {
        self.requirements
            .iter()
            .filter(|requirement| !requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.must {
            Must::In(values) => value.is_some_and(|value| values.contains(value)),
            Must::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Must::Exist => value.is_some(),
            Must::NotExist => value.is_none(),
        }
    }
}

impl std::fmt::Display for Requirement {
    /// As `kubectl --selector` writes it, where people read that; what must be there or must not,
    /// in words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        match &self.must {
            Must::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Must::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Must::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            Must::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Must::Exist => write!(f, "a label {key}"),
            Must::NotExist => write!(f, "no label {key}"),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(", "))
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
