//! From a JSON value to Kubernetes' own types, with the path of the first wrong type.

use super::problem::{FieldPath, PathSegment, Problems};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Decodes a part of an object. An absent or null part is the type's default, as the API server
/// reads it.
///
/// Returns `None` after a wrong type, which is then among the problems.
pub(super) fn decode<T: DeserializeOwned + Default>(
    value: Option<&Value>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<T> {
    let value = match value {
        None | Some(Value::Null) => return Some(T::default()),
        Some(value) => value,
    };
    match serde_path_to_error::deserialize(value) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            let path = path_within(path, error.path());
            let message = error.into_inner().to_string();
            let help = help_for(&message);
            let message = in_words(message, &path);

            let problem = problems.error(path, message);
            if let Some(help) = help {
                problem.help(help);
            }
            None
        }
    }
}

/// The path of a node below the decoded part.
fn path_within(part: &FieldPath, inner: &serde_path_to_error::Path) -> FieldPath {
    let segments = inner.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(PathSegment::Index(*index)),
        Segment::Map { key } => Some(PathSegment::Key(key.clone().into())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let mut path = part.clone();
    path.segments.extend(segments);
    path
}

/// A message of serde's about a list and a mapping that are mixed up, in words of YAML; any other
/// as it is.
fn in_words(message: String, path: &FieldPath) -> String {
    let field = match path.segments.last() {
        Some(PathSegment::Key(key)) => key.as_ref(),
        Some(PathSegment::Index(_)) | None => "this",
    };
    match message.split_once(", expected ") {
        Some(("invalid type: map", "a sequence")) => {
            format!("{field} must be a list, and is a mapping")
        }
        Some(("invalid type: sequence", "a string")) => {
            format!("{field} must be a text, and is a list")
        }
        // The types of Kubernetes are called by their names: `expected LabelSelector`.
        Some(("invalid type: sequence", expected))
            if expected == "a map" || expected.contains(char::is_uppercase) =>
        {
            format!("{field} must be a mapping, and is a list")
        }
        Some(("invalid type: map", "a string")) => {
            format!("{field} must be a text, and is a mapping")
        }
        _ => message,
    }
}

/// The next step after a message of serde's about a wrong type.
fn help_for(message: &str) -> Option<&'static str> {
    let is_number_or_boolean = ["integer", "floating point", "boolean"]
        .into_iter()
        .any(|found| message.contains(&format!("invalid type: {found}")));
    if message == "invalid type: map, expected a sequence" {
        Some("begin each item with '- '")
    } else if message.starts_with("invalid type: sequence, expected") {
        Some("leave out the '- ' or the brackets")
    } else if is_number_or_boolean && message.contains("expected a string") {
        Some("quote it: YAML reads this word as a number or a boolean")
    } else if message.contains("invalid type: string") {
        Some("a number or a boolean is written without quotes")
    } else {
        None
    }
}
