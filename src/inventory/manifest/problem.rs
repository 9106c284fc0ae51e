//! What is wrong with a manifest, and where: before it becomes a picture of the file's line.

use std::borrow::Cow;

/// One step from a node to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(Cow<'static, str>),
    /// Into a list.
    Index(usize),
}

/// Which node of which document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    /// Index of the document, of all files.
    pub(super) document: usize,
    /// From the document's root.
    pub(super) steps: Vec<Step>,
}

impl At {
    /// The root of a document.
    pub(super) fn root(document: usize) -> Self {
        Self {
            document,
            steps: Vec::new(),
        }
    }

    /// A field of this mapping.
    pub(super) fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.step(Step::Key(key.into()))
    }

    /// A field below fields.
    pub(super) fn keys<const N: usize>(&self, keys: [&'static str; N]) -> Self {
        keys.into_iter().fold(self.clone(), |at, key| at.key(key))
    }

    /// An item of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        steps.extend_from_slice(&self.steps);
        steps.push(step);
        Self {
            document: self.document,
            steps,
        }
    }
}

impl std::fmt::Display for At {
    /// `spec.ingress[0].ports`, as `kubectl explain` writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Something that must be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The node; where it is absent, the nearest node around it is shown.
    pub(super) at: At,
    /// Whether the key is at fault and not the value.
    pub(super) on_key: bool,
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) help: Option<String>,
    /// Another place that belongs to it, and what stands there.
    pub(super) also: Option<(At, String)>,
}

/// All problems so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem; the answer takes help and other places.
    pub(super) fn error(&mut self, at: At, message: impl Into<String>) -> &mut Problem {
        self.0.push(Problem {
            at,
            on_key: false,
            message: message.into(),
            help: None,
            also: None,
        });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Notes a fault of spelling, if there is one: `NAME "x y" must be ...`.
    pub(super) fn check(&mut self, at: &At, what: &str, text: &str, result: Result<(), String>) {
        if let Err(fault) = result {
            self.error(at.clone(), format!("{what} {text:?} {fault}"));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order in which they were found.
    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl Problem {
    /// Says what to do.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Shows another place.
    pub(super) fn also(&mut self, at: At, text: impl Into<String>) -> &mut Self {
        self.also = Some((at, text.into()));
        self
    }

    /// The key is at fault.
    pub(super) fn on_key(&mut self) -> &mut Self {
        self.on_key = true;
        self
    }
}

/// The candidate nearest to a misspelt word, if one is near: at most a third of its letters differ.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(
                    &word.to_ascii_lowercase(),
                    &candidate.to_ascii_lowercase(),
                ),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
