//! From documents to single objects: `kind: List` and the `*List` kinds are opened, empty documents
//! skipped.

use super::object::Item;
use super::problem::{At, Problems};
use serde_json::Value;

/// All objects of a document, in order.
pub(super) fn open_lists<'a>(value: &'a Value, at: At, problems: &mut Problems) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    open(value, at, None, &mut items, problems);
    items
}

/// `inherited` is what an item of a `PodList` is where it does not say so: the API leaves it out
/// there.
fn open<'a>(
    value: &'a Value,
    at: At,
    inherited: Option<(&str, &str)>,
    items: &mut Vec<Item<'a>>,
    problems: &mut Problems,
) {
    let object = match value {
        Value::Null => return,
        Value::Object(object) => object,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            problems
                .error(at, "not a Kubernetes object")
                .help("each document is a mapping with apiVersion, kind and metadata");
            return;
        }
    };
    let mut word =
        |field: &'static str, inherited: Option<&str>| match (object.get(field), inherited) {
            (Some(Value::String(text)), _) if !text.is_empty() => Some(text.clone()),
            (None | Some(Value::Null), Some(text)) => Some(text.to_owned()),
            (None | Some(Value::Null), None) => {
                let problem =
                    problems.error(at.clone(), format!("a Kubernetes object needs {field}"));
                if object.get("resources").is_some_and(Value::is_array) {
                    problem.help(
                        "this looks like a kustomization: render it first, with kubectl kustomize",
                    );
                }
                None
            }
            (Some(_), _) => {
                problems.error(at.key(field), format!("{field} must be a text"));
                None
            }
        };
    let api_version = word("apiVersion", inherited.map(|(version, _)| version));
    let kind = word("kind", inherited.map(|(_, kind)| kind));
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        return;
    };
    let Some(of) = kind
        .strip_suffix("List")
        .filter(|of| of.is_empty() || object.contains_key("items"))
    else {
        items.push(Item {
            at,
            value,
            kind,
            api_version,
        });
        return;
    };
    let inherited = (!of.is_empty()).then_some((api_version.as_str(), of));
    let at = at.key("items");
    match object.get("items") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (number, item) in list.iter().enumerate() {
                open(item, at.index(number), inherited, items, problems);
            }
        }
        Some(_) => {
            problems.error(at, "items must be a list");
        }
    }
}
