//! The JSON Schema against suites.

use super::*;
use crate::source::parse;
use crate::suite::schema;
use serde_json::{Value, json};

fn as_json(text: &str) -> Vec<Value> {
    let mut sources = Sources::new();
    let file = sources.add("a.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let documents = parse(&sources, file, &mut diagnostics);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    documents
        .iter()
        .map(|document| document.root.to_json())
        .collect()
}

#[test]
fn the_schema_is_a_draft_07_schema() {
    assert_eq!(
        schema()["$schema"],
        "http://json-schema.org/draft-07/schema#"
    );
    assert!(jsonschema::draft7::meta::is_valid(&schema()));
}

#[test]
fn good_suites_are_accepted() {
    let validator = jsonschema::draft7::new(&schema()).expect("a schema");
    let lines = with_lines(
        "    - web → api:1 allowed\n    - { check: web -> api:2 denied, send: 12, status: 404, repeat: true, because: no }",
    );
    for text in [
        examples::SHOP,
        examples::EVERYTHING,
        examples::SMALL,
        &lines,
    ] {
        for document in as_json(text) {
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
    }
}

#[test]
fn broken_suites_are_refused_by_the_schema_and_by_the_decoder() {
    let validator = jsonschema::draft7::new(&schema()).expect("a schema");
    let edits = [
        ("watertight.dev/v1", "watertight.dev/v2"),
        ("kind: Suite", "kind: Deployment"),
        ("{ name: shop }", "{ name: Shop }"),
        ("{ name: shop }", "{ title: shop }"),
        ("spec:", "specs:"),
        ("endpoints:", "endpoint:"),
        ("web: {", "Web: {"),
        ("namespace: shop, workload", "workload"),
        ("Deployment/web", "web"),
        ("Deployment/web", "deployment/web"),
        ("{ app: api }", "[app, api]"),
        ("service: api", "host: api.example"),
        ("[5432, 53/udp]", "5432"),
        ("[5432, 53/udp]", "[0]"),
        ("[5432, 53/udp]", "[53/sctp]"),
        ("{ host: payments.example }", "{ host: payments }"),
        ("{ host: payments.example }", "{ ip: payments }"),
        ("{ host: payments.example }", "{}"),
        ("[web, api]", "web, api"),
        ("[web, api]", "[]"),
        ("everythingElse: denied", "everythingElse: allowed"),
        ("everythingElse: denied", "everything: denied"),
        ("    - web -> api:1 denied", "    - web -> api:1"),
        ("    - web -> api:1 denied", "    - web api:1 denied"),
        ("    - web -> api:1 denied", "    - web -> api: 1 denied"),
        ("    - web -> api:1 denied", "    - [web, api]"),
        ("    - web -> api:1 denied", "    -"),
        ("    - web -> api:1 denied", "    web -> api:1 denied"),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, hold: 3}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, attempts: 0}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, tier: D3}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, tags: pci}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, tag: [pci]}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, id: two words}",
        ),
        (
            "    - web -> api:1 denied",
            "    - {check: web -> api:1 denied, repeat: maybe}",
        ),
        ("    - web -> api:1 denied", "    - {id: x}"),
    ];
    for (from, to) in edits {
        let text = with_lines("    - web -> api:1 denied");
        assert!(text.contains(from), "{from}");
        let broken = text.replacen(from, to, 1);
        assert!(
            !validator.is_valid(&as_json(&broken)[0]),
            "the schema accepts {to}"
        );
        let (suites, diagnostics, _) = load_texts(&[&broken]);
        assert!(
            suites.is_empty() && diagnostics.has_errors(),
            "the decoder accepts {to}"
        );
    }
}

#[test]
fn every_example_of_a_key_is_accepted_by_schema_and_decoder() {
    let validator = jsonschema::draft7::new(&schema()).expect("a schema");
    let long_form_line = |key: &str| match key {
        "status" => "web -> https://payment/x allowed",
        "method" | "headers" | "refusal" | "body" | "repeat" => "web -> https://payment/x denied",
        "record" => "web -> dns://payment/a.b denied",
        _ => "web -> payment:1 denied",
    };
    for field in crate::suite::keys::LINE
        .fields
        .iter()
        .filter(|field| field.name != "check")
    {
        let text = with_lines(&format!(
            "    - {{ check: {}, {}: {} }}",
            long_form_line(field.name),
            field.name,
            field.example
        ));
        let errors: Vec<String> = validator
            .iter_errors(&as_json(&text)[0])
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", field.name);
        assert_eq!(problems(&[&text]), Vec::<String>::new(), "{}", field.name);
    }
}

#[test]
fn the_schema_describes_every_key() {
    let schema = schema();
    let hold = &schema["definitions"]["line"]["properties"]["hold"];
    assert_eq!(
        hold["description"],
        json!("how long a deny is watched, for example: 3s")
    );
    assert_eq!(
        schema["properties"]["spec"]["additionalProperties"],
        json!(false)
    );
}
