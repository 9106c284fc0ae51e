//! Texts that are shown nowhere.

use std::collections::BTreeMap;
use std::fmt;

/// A text that nothing prints: a credential. It has neither `Display` nor `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// A secret with this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for those who send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// Secrets by name: the variable of the environment that each was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, SecretText>);

impl Secrets {
    /// Adds a secret.
    pub fn insert(&mut self, name: &str, value: SecretText) {
        self.0.insert(name.to_owned(), value);
    }

    /// Those with these names.
    ///
    /// # Errors
    /// A sentence that names one that is missing.
    pub fn select<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let selected = names.into_iter().map(|name| match self.0.get(name) {
            Some(value) => Ok((name.to_owned(), value.clone())),
            None => Err(format!("the secret {name} is not known")),
        });
        selected.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and texts, for those who send them.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        let secrets = self.0.iter();
        secrets.map(|(name, value)| (name.as_str(), value.expose()))
    }
}

impl IntoIterator for Secrets {
    type Item = (String, SecretText);
    type IntoIter = std::collections::btree_map::IntoIter<String, SecretText>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<(String, SecretText)> for Secrets {
    fn extend<T: IntoIterator<Item = (String, SecretText)>>(&mut self, secrets: T) {
        self.0.extend(secrets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_text() {
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN", SecretText::new("hunter2".into()));
        let text = format!("{secrets:?}");
        assert!(
            text.contains("TOKEN") && !text.contains("hunter2"),
            "{text}"
        );
        assert_eq!(
            secrets.select(["OTHER"]).unwrap_err(),
            "the secret OTHER is not known"
        );
    }
}
