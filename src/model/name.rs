//! Names of endpoints and of hosts.

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// The text does not have the form of an endpoint's name.
    #[error(
        "{0:?} is not a name: 1 to 63 of a-z, 0-9 and '-', starting with a letter, not ending with '-'"
    )]
    Endpoint(String),
    /// `allowed` and `denied` end a line, so they cannot be names.
    #[error("{0:?} is the last word of a line and cannot be a name")]
    Verdict(String),
    /// The text does not have the form of a host name.
    #[error(
        "{0:?} is not a host name (RFC 1123: labels of letters, digits and '-', at most 253 characters)"
    )]
    Host(String),
}

/// The name of an endpoint or a group: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, not `allowed` or
/// `denied`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(String);

impl EndpointName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ParseNameError::Endpoint`] or [`ParseNameError::Verdict`].
    pub fn parse(text: &str) -> Result<Self, ParseNameError> {
        if matches!(text, "allowed" | "denied") {
            return Err(ParseNameError::Verdict(text.to_owned()));
        }
        let starts_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        let ends_without_hyphen = !text.ends_with('-');
        let characters_fit = text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if starts_with_letter && ends_without_hyphen && characters_fit && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError::Endpoint(text.to_owned()))
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for EndpointName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fully qualified host name, in lower case and without the trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Parses a host name by RFC 1123 section 2.1; underscores are allowed, because DNS names use
    /// them.
    ///
    /// # Errors
    /// [`ParseNameError::Host`], also for a name that has no dot.
    pub fn parse(text: &str) -> Result<Self, ParseNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let has_valid_labels = name.split('.').all(is_host_label);
        let is_numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');

        if name.len() <= 253 && name.contains('.') && has_valid_labels && !is_numeric {
            Ok(Self(name))
        } else {
            Err(ParseNameError::Host(text.to_owned()))
        }
    }

    /// The name in lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a label of a host name, of 1 to 63 characters.
fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_names_follow_their_pattern() {
        let longest = "a".repeat(63);
        for good in ["a", "web-tier", "a1", longest.as_str()] {
            assert_eq!(EndpointName::parse(good).expect("good").as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "-a",
            "a-",
            "1a",
            "A",
            "a.b",
            "a_b",
            "ä",
            too_long.as_str(),
        ] {
            assert!(
                matches!(EndpointName::parse(bad), Err(ParseNameError::Endpoint(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            EndpointName::parse("denied"),
            Err(ParseNameError::Verdict(_))
        ));
    }

    #[test]
    fn host_names_have_a_dot_and_are_normalized() {
        assert_eq!(
            HostName::parse("Payments.Example.").expect("good").as_str(),
            "payments.example"
        );
        for bad in ["payments", "", ".", "a..b", "-a.b", "1.2.3.4", "a b.c"] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }
}
