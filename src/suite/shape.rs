//! Check of a document against the tables of keys: its keys, types, and the form of each scalar.
//!
//! This step reports every deviation once. The decoders after it skip invalid values without
//! another report.

use super::forms::Form;
use super::keys::{Field, LINE, SPEC, SUITE, Shape, Table};
use super::suggest;
use crate::source::{Diagnostic, Diagnostics, Entry, Node, Span, Style, Value};

/// The check of one document.
pub(super) struct ShapeCheck<'a> {
    pub(super) diagnostics: &'a mut Diagnostics,
}

/// The key of a node and an example of its value, for messages.
#[derive(Clone, Copy)]
struct KeyContext<'a> {
    name: &'a str,
    example: &'a str,
}

/// The text of a scalar; `None` for other nodes and for a key without a value.
pub(super) fn text(node: &Node) -> Option<&str> {
    let scalar = node.as_scalar()?;
    let is_missing = scalar.style == Style::Plain && scalar.text.is_empty();
    (!is_missing).then_some(&scalar.text)
}

/// The items of a list, or the node itself.
pub(super) fn one_or_more(node: &Node) -> Vec<&Node> {
    match node.as_sequence() {
        Some(items) => items.iter().collect(),
        None => vec![node],
    }
}

const EMPTY_LINE: &str = "write a line: web -> api:8080 allowed";

impl ShapeCheck<'_> {
    /// Checks a whole document.
    pub(super) fn suite(&mut self, root: &Node) {
        self.object(
            root,
            &SUITE,
            None,
            KeyContext {
                name: "the document",
                example: "apiVersion: watertight.dev/v1",
            },
        );
    }

    fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics
            .push(Diagnostic::error(span, message).with_help(help));
    }

    fn node(&mut self, node: &Node, shape: &Shape, key: Option<Span>, at: KeyContext<'_>) {
        match shape {
            Shape::Scalar(form) => self.scalar(node, *form, key, at),
            Shape::List(item) => self.list(node, item, key, at),
            Shape::OneOrMore(item) => match &node.value {
                Value::Sequence(_) => self.list(node, item, key, at),
                Value::Scalar(_) | Value::Mapping(_) => self.node(node, item, key, at),
            },
            Shape::Map(form, value) => self.map(node, *form, value, key, at),
            Shape::TextOr(form, table) => match &node.value {
                Value::Mapping(_) => self.object(node, table, key, at),
                Value::Scalar(_) | Value::Sequence(_) => self.scalar(node, *form, key, at),
            },
            Shape::Object(table) => self.object(node, table, key, at),
            Shape::Line => self.line(node),
        }
    }

    fn scalar(&mut self, node: &Node, form: Form, key: Option<Span>, at: KeyContext<'_>) {
        let Some(text) = text(node) else {
            return self.wrong_type(node, form.describe(), key, at);
        };
        if let Err(error) = form.check(text) {
            let diagnostic =
                Diagnostic::error(node.span, format!("{}: {}", at.name, error.message));
            self.diagnostics.push(match error.help {
                Some(help) => diagnostic.with_help(help),
                None => diagnostic,
            });
        }
    }

    fn list(&mut self, node: &Node, item: &Shape, key: Option<Span>, at: KeyContext<'_>) {
        match &node.value {
            Value::Sequence(items) if items.is_empty() => {
                self.error(
                    node.site(),
                    format!("{} is an empty list", at.name),
                    format!("list something, or leave {} out", at.name),
                );
            }
            Value::Sequence(items) => {
                for entry in items {
                    self.node(entry, item, None, at);
                }
            }
            Value::Scalar(scalar) if text(node).is_some() => {
                let help = match item {
                    Shape::Line => {
                        "every line is a list item: start it with '- ' on a line of its own"
                            .to_owned()
                    }
                    _ => format!("write a list: {}: [{}]", at.name, scalar.text.trim()),
                };
                self.error(
                    node.span,
                    format!("{} must be a list, not a text", at.name),
                    help,
                );
            }
            Value::Scalar(_) | Value::Mapping(_) => self.wrong_type(node, "a list", key, at),
        }
    }

    fn map(
        &mut self,
        node: &Node,
        form: Form,
        value: &Shape,
        key: Option<Span>,
        at: KeyContext<'_>,
    ) {
        let Some(entries) = node.as_mapping() else {
            return self.wrong_type(node, "a mapping", key, at);
        };
        for entry in entries {
            if let Err(error) = form.check(&entry.key.text) {
                let diagnostic =
                    Diagnostic::error(entry.key.span, format!("{}: {}", at.name, error.message));
                self.diagnostics.push(match error.help {
                    Some(help) => diagnostic.with_help(help),
                    None => diagnostic,
                });
            }
            // The example is one of the whole mapping, so it does not fit one entry.
            self.node(
                &entry.value,
                value,
                Some(entry.key.span),
                KeyContext {
                    name: &entry.key.text,
                    example: "",
                },
            );
        }
    }

    fn object(&mut self, node: &Node, table: &Table, key: Option<Span>, at: KeyContext<'_>) {
        let Some(entries) = node.as_mapping() else {
            return self.wrong_type(node, "a mapping", key, at);
        };
        let mut misspelt = Vec::new();
        for entry in entries {
            match table.field(&entry.key.text) {
                Some(field) => self.field(entry, field),
                None => misspelt.extend(self.unknown_field(entry, table)),
            }
        }
        let anchor = key
            .or_else(|| entries.first().map(|entry| entry.key.span))
            .unwrap_or_else(|| node.site());
        for field in table.fields.iter().filter(|field| field.required) {
            // A misspelt key was reported as unknown, so it is not reported as missing.
            if !misspelt.contains(&field.name)
                && !entries.iter().any(|entry| entry.key.text == field.name)
            {
                self.error(
                    anchor,
                    format!("{} needs the key {}", table.what, field.name),
                    format!("write {}: {}", field.name, field.example),
                );
            }
        }
    }

    fn field(&mut self, entry: &Entry, field: &Field) {
        self.node(
            &entry.value,
            &field.shape,
            Some(entry.key.span),
            KeyContext {
                name: field.name,
                example: field.example,
            },
        );
    }

    /// Reports an unknown key, and returns the key of which it is probably a misspelling.
    fn unknown_field(&mut self, entry: &Entry, table: &Table) -> Option<&'static str> {
        let name = entry.key.text.as_str();
        let span = entry.key.span;
        let names = table.names();
        let list = format!("the keys of {} are {}", table.what, names.join(", "));
        let meant = suggest::nearest(name, names.iter().copied());
        let help = if let Some(near) = meant {
            format!("did you mean {near}? {list}")
        } else if SPEC.field(name).is_some() {
            format!("{name} belongs under spec; {list}")
        } else if LINE.field(name).is_some() {
            format!("{name} belongs under spec.settings or a line's long form; {list}")
        } else {
            list
        };
        self.error(span, format!("{} has no key {name:?}", table.what), help);
        meant
    }

    fn line(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(_) if text(node).is_some_and(|text| !text.trim().is_empty()) => {}
            Value::Scalar(_) => self.error(node.site(), "the line is empty", EMPTY_LINE),
            Value::Mapping(entries) if is_long_form(entries) => {
                self.object(
                    node,
                    &LINE,
                    None,
                    KeyContext {
                        name: "the line",
                        example: "",
                    },
                );
            }
            Value::Mapping(entries) => self.colon_in_line(node, entries),
            Value::Sequence(items) => {
                let words: Vec<&str> = items.iter().filter_map(text).collect();
                let help = format!(
                    "write the names with commas and no brackets, and quotes around the line: \"{} -> ...\"",
                    words.join(", ")
                );
                self.error(node.site(), "a line cannot be a list", help);
            }
        }
    }

    /// Reports a line such as `- web -> api: 8080 denied`, which YAML reads as a key and its value.
    fn colon_in_line(&mut self, node: &Node, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return self.error(node.site(), "the line is empty", EMPTY_LINE);
        };
        // YAML reads braces without a colon as a key without a value.
        let Some(value) = text(&first.value) else {
            let help =
                "a line is one text, \"web -> api:8080 allowed\", or a mapping with the key check";
            return self.error(
                node.site(),
                format!("{:?} is not a line", first.key.text),
                help,
            );
        };
        let meant = format!("{}:{}", first.key.text, value);
        let help = format!(
            "YAML reads 'name: value' as a key and its value; write the port without a blank: {meant}"
        );
        self.error(first.key.span, "this is a mapping, not a line", help);
    }

    fn wrong_type(&mut self, node: &Node, expected: &str, key: Option<Span>, at: KeyContext<'_>) {
        let found = if node.as_scalar().is_some() && text(node).is_none() {
            "nothing"
        } else {
            kind_of(node)
        };
        // A missing value has no text to mark, so its key is marked.
        let span = if found == "nothing" {
            key.unwrap_or_else(|| node.site())
        } else {
            node.site()
        };
        let message = format!("{} must be {expected}, not {found}", at.name);
        let diagnostic = Diagnostic::error(span, message);
        self.diagnostics.push(if at.example.is_empty() {
            diagnostic
        } else {
            diagnostic.with_help(format!("for example {}: {}", at.name, at.example))
        });
    }
}

fn kind_of(node: &Node) -> &'static str {
    match node.value {
        Value::Scalar(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    }
}

/// Whether a mapping in `expect` is meant as a long form: it has one of its keys, or a misspelling
/// of `check`.
fn is_long_form(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| {
        LINE.field(&entry.key.text).is_some()
            || suggest::nearest(&entry.key.text, ["check"]).is_some()
    })
}
