//! The YAML tree, whose nodes know their position in the source.

use super::{Scalar, Span};
use serde_json::{Map, Value as Json};

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The position of its content; for an alias, at the anchor.
    pub span: Span,
    /// The alias (`*name`) of which the node is a copy, if any.
    pub alias: Option<Span>,
    pub value: Value,
}

/// The value of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, number, boolean or null, kept as written.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file; keys are unique. Entries merged by `<<` come last.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Node,
}

/// A mapping's key, always a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The text as written, or as decoded from quotes.
    pub text: String,
    /// The key that the API server reads: `true` for a plain `yes`.
    pub(super) json: String,
    pub span: Span,
}

/// One step of a path into a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into a mapping.
    Key(&'a str),
    /// Into a list.
    Index(usize),
}

impl Node {
    /// The position to show in messages: the alias, if the node is a copy, otherwise the content.
    pub fn site(&self) -> Span {
        self.alias.unwrap_or(self.span)
    }

    /// The scalar, if it is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The list's items, if it is one.
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            Value::Scalar(_) | Value::Mapping(_) => None,
        }
    }

    /// The mapping's entries, if it is one.
    pub fn as_mapping(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            Value::Scalar(_) | Value::Sequence(_) => None,
        }
    }

    /// Whether the node is a null scalar.
    pub fn is_null(&self) -> bool {
        self.as_scalar().is_some_and(Scalar::is_null)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_mapping()?
            .iter()
            .find(|entry| entry.key.text == key)
            .map(|entry| &entry.value)
    }

    /// The kind of node, for messages: "a list", "a mapping", "a text", "nothing".
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a text",
        }
    }

    /// The node at a path, if there is one.
    pub fn at_path<'a>(&self, path: impl IntoIterator<Item = Step<'a>>) -> Option<&Self> {
        path.into_iter().try_fold(self, Self::step)
    }

    /// The deepest existing node on a path, which a message about a missing key marks.
    pub fn nearest<'a>(&self, path: impl IntoIterator<Item = Step<'a>>) -> &Self {
        let mut node = self;
        for step in path {
            match node.step(step) {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The deepest node on the path that [`serde_path_to_error`] gives for [`Node::to_json`]'s
    /// value.
    pub fn nearest_to_error(&self, path: &serde_path_to_error::Path) -> &Self {
        use serde_path_to_error::Segment;
        // The variant of an enum is a key in JSON too. `Unknown` is a key that is not a text.
        self.nearest(path.iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key)),
            Segment::Enum { variant } => Some(Step::Key(variant)),
            Segment::Unknown => None,
        }))
    }

    /// The tree as the JSON that the API server reads ([`Scalar::to_json`]).
    pub fn to_json(&self) -> Json {
        // Recursion is bounded: the parser refuses trees deeper than its limit.
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Mapping(entries) => {
                let pair = |entry: &Entry| (entry.key.json.clone(), entry.value.to_json());
                Json::Object(entries.iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }

    fn step(&self, step: Step<'_>) -> Option<&Self> {
        match step {
            Step::Key(key) => self.get(key),
            Step::Index(index) => self.as_sequence()?.get(index),
        }
    }
}
