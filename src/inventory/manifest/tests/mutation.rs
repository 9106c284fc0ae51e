//! Mutated manifests give manifests or diagnostics, never a panic.

use super::super::assemble::assemble;
use super::shop;
use crate::source::{Sources, parse};
use proptest::prelude::*;
use serde_json::{Value, json};

fn nodes(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                nodes(
                    inner,
                    &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(items) => {
            for (number, inner) in items.iter().enumerate() {
                nodes(inner, &format!("{path}/{number}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shop_documents() -> Vec<Value> {
    let mut sources = Sources::new();
    let mut diagnostics = crate::source::Diagnostics::new();
    let files: Vec<_> = shop::FILES
        .iter()
        .map(|(name, text)| sources.add(name, *text))
        .collect();
    files
        .into_iter()
        .flat_map(|file| parse(&sources, file, &mut diagnostics))
        .map(|document| document.root.to_json())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutated_values_never_panic(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let mut documents = shop_documents();
        let replacements = [
            json!(null), json!(true), json!(-1), json!(0), json!(70_000), json!(1e40), json!(u64::MAX), json!(""), json!("é/x"),
            json!("::/0"), json!([]), json!([[]]), json!([null]), json!({}), json!({ "": "" }), json!("List"), json!("NetworkPolicy"),
        ];
        for (document, node, replacement) in mutations {
            let document = document.get_mut(&mut documents);
            let mut paths = Vec::new();
            nodes(document, "", &mut paths);
            let path = node.get(&paths);
            if let Some(target) = document.pointer_mut(path) {
                *target = replacement.get(&replacements).clone();
            }
        }
        let (_, problems) = assemble(&documents, &ToString::to_string);
        for problem in problems {
            prop_assert!(!problem.message.is_empty());
        }
    }

    #[test]
    fn mutated_texts_never_panic(position in any::<prop::sample::Index>(), length in 0..40_usize, put in "[ -~\\n]{0,6}") {
        for (name, text) in shop::FILES {
            let chars: Vec<char> = text.chars().collect();
            let start = position.index(chars.len());
            let end = (start + length).min(chars.len());
            let mutated: String = chars[..start].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
            super::read(&[(name, &mutated)]);
        }
    }
}
