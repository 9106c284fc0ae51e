//! The JSON Schema of the suite format, generated from the decoder's tables of keys.

use super::forms::Form;
use super::keys::{Field, SUITE, Shape, Table};
use serde_json::{Map, Value as Json, json};

/// The JSON Schema (draft-07) of a suite, for editors and pipelines.
///
/// # Limitations
/// A schema checks one value at a time. Only `watertight validate` finds undefined names,
/// contradictions and errors in the grammar of a line.
pub fn schema() -> Json {
    let mut definitions = Map::new();
    definitions.insert("line".to_owned(), table(&super::keys::LINE));
    let mut root = table(&SUITE);
    if let Json::Object(root) = &mut root {
        root.insert(
            "$schema".to_owned(),
            json!("http://json-schema.org/draft-07/schema#"),
        );
        root.insert("title".to_owned(), json!("watertight suite"));
        root.insert("definitions".to_owned(), Json::Object(definitions));
    }
    root
}

fn table(table: &Table) -> Json {
    let properties: Map<String, Json> = table
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), property(field)))
        .collect();
    let required: Vec<&str> = table
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false, "description": table.what});
    // Draft-07 allows an empty `required`, draft-04 readers do not.
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if table.what == super::keys::ENDPOINT.what {
        object["oneOf"] = endpoint_choices();
    }
    if table.what == super::keys::SPEC.what {
        object["anyOf"] = json!([{"required": ["expect"]}, {"required": ["everythingElse"]}]);
    }
    object
}

/// The combinations of keys that locate an endpoint, which exclude each other.
fn endpoint_choices() -> Json {
    json!([
        endpoint_choice(&["namespace", "workload"], &["pods", "host", "ip"]),
        endpoint_choice(&["namespace", "pods"], &["workload", "host", "ip"]),
        endpoint_choice(
            &["namespace", "service"],
            &["workload", "pods", "host", "ip"]
        ),
        endpoint_choice(
            &["host"],
            &["namespace", "workload", "pods", "service", "source"]
        ),
        endpoint_choice(
            &["ip"],
            &["namespace", "workload", "pods", "service", "source", "host"]
        ),
    ])
}

fn endpoint_choice(required: &[&str], excluded: &[&str]) -> Json {
    let excluded: Vec<Json> = excluded
        .iter()
        .map(|key| json!({"required": [key]}))
        .collect();
    json!({"required": required, "not": {"anyOf": excluded}})
}

fn property(field: &Field) -> Json {
    let mut property = shape(&field.shape);
    // Beside a $ref draft-07 ignores every other key; no property here is a bare $ref.
    property["description"] = json!(format!("{}, for example: {}", field.meaning, field.example));
    property
}

fn shape(shape_of_node: &Shape) -> Json {
    match shape_of_node {
        Shape::Scalar(form) => form.schema(),
        Shape::List(item) => json!({"type": "array", "minItems": 1, "items": shape(item)}),
        Shape::OneOrMore(item) => {
            json!({"anyOf": [shape(item), {"type": "array", "minItems": 1, "items": shape(item)}]})
        }
        Shape::Map(key, value) => {
            json!({"type": "object", "propertyNames": key.schema(), "additionalProperties": shape(value)})
        }
        Shape::Object(of) => table(of),
        Shape::TextOr(form, of) => json!({"anyOf": [form.schema(), table(of)]}),
        Shape::Line => json!({"anyOf": [Form::Line.schema(), {"$ref": "#/definitions/line"}]}),
    }
}
