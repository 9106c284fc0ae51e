//! From a JSON value to Kubernetes' own types, with the place of the first wrong type.

use super::problem::{At, Problems, Step};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Decodes a part of an object. An absent or null part is the type's default, as the API server
/// reads it.
///
/// `None` after a wrong type, which is then among the problems.
pub(super) fn decode<T: DeserializeOwned + Default>(
    value: Option<&Value>,
    at: &At,
    problems: &mut Problems,
) -> Option<T> {
    let value = match value {
        None | Some(Value::Null) => return Some(T::default()),
        Some(value) => value,
    };
    match serde_path_to_error::deserialize(value) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            let mut place = at.clone();
            place
                .steps
                .extend(error.path().iter().filter_map(|segment| match segment {
                    Segment::Seq { index } => Some(Step::Index(*index)),
                    Segment::Map { key } => Some(Step::Key(key.clone().into())),
                    Segment::Enum { .. } | Segment::Unknown => None,
                }));
            let message = error.into_inner().to_string();
            let quoted_number = message.contains("invalid type: integer")
                && message.contains("expected a string")
                || message.contains("invalid type: boolean")
                    && message.contains("expected a string");
            let unquoted = message.contains("invalid type: string");
            let problem = problems.error(place, message);
            if quoted_number {
                problem.help("quote it: YAML reads this word as a number or a boolean");
            } else if unquoted {
                problem.help("a number or a boolean is written without quotes");
            }
            None
        }
    }
}
