//! From documents to single objects: the items of `kind: List` and of the `*List` kinds are taken
//! out, empty documents are skipped.

use super::object::RawObject;
use super::problem::{FieldPath, Problems, nearest};
use serde_json::{Map, Value};

/// The objects of a document, in order.
pub(super) fn objects_of<'a>(
    document: &'a Value,
    path: FieldPath,
    problems: &mut Problems,
) -> Vec<RawObject<'a>> {
    let mut objects = Vec::new();
    add_objects(document, path, None, &mut objects, problems);
    objects
}

/// The kind and version of the items of a `PodList` and its like: the API leaves both out there.
#[derive(Clone, Copy)]
struct ItemKind<'a> {
    api_version: &'a str,
    kind: &'a str,
}

fn add_objects<'a>(
    value: &'a Value,
    path: FieldPath,
    inherited: Option<ItemKind<'_>>,
    objects: &mut Vec<RawObject<'a>>,
    problems: &mut Problems,
) {
    let fields = match value {
        Value::Null => return,
        Value::Object(fields) => fields,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            problems
                .error(path, "not a Kubernetes object")
                .help("each document is a mapping with apiVersion, kind and metadata");
            return;
        }
    };
    let api_version = inherited.map(|item| item.api_version);
    let api_version = text_field(fields, "apiVersion", api_version, &path, problems);
    let kind = inherited.map(|item| item.kind);
    let kind = text_field(fields, "kind", kind, &path, problems);
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        return;
    };

    // `List` itself has an empty item kind: its items name theirs.
    let item_kind = kind
        .strip_suffix("List")
        .filter(|item_kind| item_kind.is_empty() || fields.contains_key("items"));
    let Some(item_kind) = item_kind else {
        objects.push(RawObject {
            path,
            value,
            kind,
            api_version,
        });
        return;
    };
    let inherited = (!item_kind.is_empty()).then_some(ItemKind {
        api_version: &api_version,
        kind: item_kind,
    });

    let path = path.key("items");
    match fields.get("items") {
        None => {
            let problem = problems.error(path, format!("a {kind} needs items"));
            if let Some(near) = nearest("items", fields.keys().map(String::as_str)) {
                problem.help(format!(
                    "{near:?} is no field of a {kind}; did you mean items?"
                ));
            }
        }
        Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                add_objects(item, path.index(index), inherited, objects, problems);
            }
        }
        Some(_) => {
            problems.error(path, "items must be a list");
        }
    }
}

/// A text field that an object needs, or what it inherits where the field is absent.
fn text_field(
    fields: &Map<String, Value>,
    name: &'static str,
    inherited: Option<&str>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<String> {
    match (fields.get(name), inherited) {
        (Some(Value::String(text)), _) if !text.is_empty() => Some(text.clone()),
        (None | Some(Value::Null), Some(inherited)) => Some(inherited.to_owned()),
        (None | Some(Value::Null), None) => {
            let problem = problems.error(path.clone(), format!("a Kubernetes object needs {name}"));
            if fields.get("resources").is_some_and(Value::is_array) {
                problem.help(
                    "this looks like a kustomization: render it first, with kubectl kustomize",
                );
            }
            None
        }
        (Some(_), _) => {
            problems.error(path.key(name), format!("{name} must be a text"));
            None
        }
    }
}
