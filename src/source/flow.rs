//! Flow collections (`{ ... }`, `[ ... ]`) whose lines begin with tabs.

use super::read::LINE_BREAKS;

/// A document with a space for each tab that begins a line of the flow collection at byte `start`;
/// every other byte keeps its place and value.
pub(super) fn with_spaces(document: &str, start: usize) -> String {
    let mut text = document.as_bytes().to_vec();
    let mut position = Position::Separation;
    let mut starts_line = false;
    let mut depth = 0_usize;

    for byte in &mut text[start..] {
        let character = char::from(*byte);
        if starts_line && character == '\t' && !position.is_quoted() {
            *byte = b' ';
        }
        starts_line =
            LINE_BREAKS.contains(&character) || (starts_line && [' ', '\t'].contains(&character));

        let is_structure = !position.is_quoted() && position != Position::Comment;
        match character {
            '{' | '[' if is_structure => depth += 1,
            '}' | ']' if is_structure && depth == 1 => break,
            '}' | ']' if is_structure => depth = depth.saturating_sub(1),
            _ => {}
        }
        position = position.after(character);
    }
    // Only ASCII was replaced, by ASCII.
    String::from_utf8(text).unwrap_or_else(|_| document.to_owned())
}

/// What a byte of a flow collection is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Nothing that a quote or a comment could not follow.
    Separation,
    Plain,
    SingleQuoted,
    /// After a single quote that ends a text, unless another follows at once.
    SingleQuoteEnd,
    DoubleQuoted,
    /// After a backslash in double quotes.
    Escaped,
    Comment,
}

impl Position {
    fn is_quoted(self) -> bool {
        matches!(
            self,
            Self::SingleQuoted | Self::DoubleQuoted | Self::Escaped
        )
    }

    fn after(self, character: char) -> Self {
        match (self, character) {
            (Self::SingleQuoted, '\'') => Self::SingleQuoteEnd,
            (Self::SingleQuoted, _) | (Self::SingleQuoteEnd | Self::Separation, '\'') => {
                Self::SingleQuoted
            }
            (Self::DoubleQuoted, '"') => Self::Plain,
            (Self::DoubleQuoted, '\\') => Self::Escaped,
            (Self::DoubleQuoted | Self::Escaped, _) => Self::DoubleQuoted,
            (Self::Comment, character) if !LINE_BREAKS.contains(&character) => Self::Comment,
            (Self::Separation, '"') => Self::DoubleQuoted,
            (Self::Separation, '#') => Self::Comment,
            (_, ' ' | '\t' | '\n' | '\r' | '{' | '[' | ',' | ':' | '}' | ']') => Self::Separation,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tabs_that_begin_a_line_of_the_collection_become_spaces() {
        let document =
            "a: {\n\t \tb: it's,\tc: 'x''[\n\ty', # '}\n\td: \"\\\"}\n\t\",\n\t}\n\te: 1\n";
        let start = document.find('{').unwrap_or_default();
        assert_eq!(
            with_spaces(document, start),
            "a: {\n   b: it's,\tc: 'x''[\n\ty', # '}\n d: \"\\\"}\n\t\",\n }\n\te: 1\n"
        );
    }
}
