//! Problems of a manifest, each with the path of the field: before they become diagnostics with a
//! line of the file.

use std::borrow::Cow;

/// One segment of a [`FieldPath`]: from a node to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathSegment {
    /// A field of a mapping.
    Key(Cow<'static, str>),
    /// An item of a list, from 0.
    Index(usize),
}

/// The path of a node in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath {
    /// Index of the document among the documents of all files.
    pub(super) document: usize,
    /// From the document's root to the node.
    pub(super) segments: Vec<PathSegment>,
}

impl FieldPath {
    /// The root of a document.
    pub(super) fn root(document: usize) -> Self {
        Self {
            document,
            segments: Vec::new(),
        }
    }

    /// The path of a field of this mapping.
    pub(super) fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.segment(PathSegment::Key(key.into()))
    }

    /// The path of a field, by the fields on the way to it.
    pub(super) fn keys<const N: usize>(&self, keys: [&'static str; N]) -> Self {
        keys.into_iter()
            .fold(self.clone(), |path, key| path.key(key))
    }

    /// The path of an item of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        self.segment(PathSegment::Index(index))
    }

    fn segment(&self, segment: PathSegment) -> Self {
        let mut segments = Vec::with_capacity(self.segments.len() + 1);
        segments.extend_from_slice(&self.segments);
        segments.push(segment);
        Self {
            document: self.document,
            segments,
        }
    }
}

impl std::fmt::Display for FieldPath {
    /// `spec.ingress[0].ports`, as `kubectl explain` writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, segment) in self.segments.iter().enumerate() {
            match segment {
                PathSegment::Key(key) if number == 0 => f.write_str(key)?,
                PathSegment::Key(key) => write!(f, ".{key}")?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A problem that makes a manifest unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The node at fault. Where it is absent, the diagnostic points at the nearest node around it.
    pub(super) path: FieldPath,
    /// Whether the key is at fault, not the value.
    pub(super) on_key: bool,
    pub(super) message: String,
    /// The next step for the author.
    pub(super) help: Option<String>,
    /// Another node that explains the problem, with a label for it.
    pub(super) related: Option<(FieldPath, String)>,
}

/// The problems found so far, in order.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem; help and a related node are set on the returned value.
    pub(super) fn error(&mut self, path: FieldPath, message: impl Into<String>) -> &mut Problem {
        self.0.push(Problem {
            path,
            on_key: false,
            message: message.into(),
            help: None,
            related: None,
        });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Adds a problem if `result` is an error: `label value "x y" must be ...`.
    pub(super) fn check(
        &mut self,
        path: &FieldPath,
        what: &str,
        text: &str,
        result: Result<(), String>,
    ) {
        if let Err(fault) = result {
            self.error(path.clone(), format!("{what} {text:?} {fault}"));
        }
    }

    /// The number of problems.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems, in the order in which they were found.
    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl Problem {
    /// Sets the next step for the author.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Sets a related node, with a label for it.
    pub(super) fn related(&mut self, path: FieldPath, text: impl Into<String>) -> &mut Self {
        self.related = Some((path, text.into()));
        self
    }

    /// Marks the key as the fault, not the value.
    pub(super) fn on_key(&mut self) -> &mut Self {
        self.on_key = true;
        self
    }
}

/// The candidate nearest to a misspelt word; `None` if more than a third of its letters differ from
/// each candidate.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
