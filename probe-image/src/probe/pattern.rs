//! The pattern of an HTTP answer that a plan gives, compiled.

use crate::wire::AnswerPattern;
use hyper::header::{HeaderMap, HeaderName};
use regex_lite::{Regex, RegexBuilder};

/// Maximum bytes of a body that are searched: the pages of firewalls are shorter.
pub(super) const MAX_SEARCHED: usize = 64 * 1024;

/// Maximum size of a compiled expression, bytes: limits the time that a search takes.
const MAX_EXPRESSION: usize = 64 * 1024;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    status: Vec<u16>,
    headers: Vec<(HeaderName, Regex)>,
    body: Option<Regex>,
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &AnswerPattern) -> Result<Self, String> {
        let headers = pattern.headers.iter().map(|(name, expression)| {
            let name =
                HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
            Ok((name, compile(expression)?))
        });
        Ok(Self {
            status: pattern.status.clone(),
            headers: headers.collect::<Result<_, String>>()?,
            body: pattern.body.as_deref().map(compile).transpose()?,
        })
    }

    /// Bytes of the body to keep for a search.
    pub(super) fn searched(&self) -> usize {
        if self.body.is_some() { MAX_SEARCHED } else { 0 }
    }

    /// Whether an answer matches all parts. `start` is the beginning of the body.
    pub(super) fn matches(&self, status: u16, headers: &HeaderMap, start: &[u8]) -> bool {
        let has_status = self.status.is_empty() || self.status.contains(&status);
        has_status
            && self
                .headers
                .iter()
                .all(|(name, expression)| has_header(headers, name, expression))
            && self
                .body
                .as_ref()
                .is_none_or(|expression| expression.is_match(&String::from_utf8_lossy(start)))
    }
}

fn has_header(headers: &HeaderMap, name: &HeaderName, expression: &Regex) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|value| expression.is_match(&String::from_utf8_lossy(value.as_bytes())))
}

/// Compiles an expression.
///
/// # Errors
/// What is wrong with it.
fn compile(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(expression)
        .size_limit(MAX_EXPRESSION)
        .build()
        .map_err(|error| error.to_string())
}

/// What is wrong with a regular expression of an [`AnswerPattern`]; `None` for a sound one.
pub fn expression_error(expression: &str) -> Option<String> {
    compile(expression).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_that_are_given_must_match() {
        let pattern = Pattern::new(&AnswerPattern {
            status: vec![401, 403],
            headers: vec![("x-denied-by".into(), "^edge-[0-9]+$".into())],
            body: Some("(?i)not allowed".into()),
        })
        .expect("a sound pattern");
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(
                HeaderName::from_static("x-denied-by"),
                hyper::header::HeaderValue::from_static(value),
            )])
        };

        assert!(pattern.matches(403, &headers("edge-7"), b"<b>Not Allowed</b>"));
        assert!(!pattern.matches(200, &headers("edge-7"), b"<b>Not Allowed</b>"));
        assert!(!pattern.matches(403, &headers("app"), b"<b>Not Allowed</b>"));
        assert!(!pattern.matches(403, &HeaderMap::new(), b"not allowed"));
        assert!(!pattern.matches(403, &headers("edge-7"), b"welcome"));
    }

    #[test]
    fn expression_that_is_wrong_or_too_large_is_refused() {
        assert_eq!(expression_error("a+"), None);
        assert!(expression_error("(").is_some());
        assert!(expression_error("(a{100}){100}").is_some());
    }
}
