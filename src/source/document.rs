//! The YAML documents of a file, each parsed separately.

use super::{Diagnostics, FileId, Node, Sources, yaml};

/// One YAML document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Index in the file, from 0; empty documents count too.
    pub index: usize,
    pub root: Node,
}

/// Parses a file's documents.
///
/// A document with a syntax error or a duplicate key is missing from the result, and `diagnostics`
/// receives the error; the other documents are not affected. Empty documents are left out.
pub fn parse(sources: &Sources, file: FileId, diagnostics: &mut Diagnostics) -> Vec<Document> {
    let text = sources.text(file);
    split(text)
        .into_iter()
        .enumerate()
        .filter_map(|(index, range)| {
            let root = yaml::parse_document(text, range, file, diagnostics)?;
            Some(Document { index, root })
        })
        .collect()
}

/// The byte ranges of a file's documents.
///
/// A line that starts with `---` or `...` and whitespace ends a document in every context (YAML
/// 1.2.2, rule 206, c-forbidden). The split therefore needs no parser, and an error in a document
/// cannot affect the next one.
fn split(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut line_start = 0;
    // Directives and comments before a `---` belong to the document that begins there.
    let mut only_prefix = true;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.len();
        if is_marker(line, "...") {
            ranges.push(start..line_end);
            (start, only_prefix) = (line_end, true);
        } else if is_marker(line.trim_start_matches('\u{feff}'), "---") {
            if !only_prefix {
                ranges.push(start..line_start);
                start = line_start;
            }
            only_prefix = false;
        } else {
            let content = line.trim_start_matches('\u{feff}').trim();
            only_prefix &= content.is_empty() || content.starts_with('#') || line.starts_with('%');
        }
        line_start = line_end;
    }
    if start < text.len() {
        ranges.push(start..text.len());
    }
    ranges
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_at_their_markers() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("a: 1\n", &["a: 1\n"]),
            ("---\na: 1\n---\nb: 2\n", &["---\na: 1\n", "---\nb: 2\n"]),
            (
                "# note\n%YAML 1.2\n---\na: 1\n",
                &["# note\n%YAML 1.2\n---\na: 1\n"],
            ),
            (
                "a: 1\n...\n# note\n---\nb: 2",
                &["a: 1\n...\n", "# note\n---\nb: 2"],
            ),
            ("a: 1\n--- b\n", &["a: 1\n", "--- b\n"]),
            ("a: |\n  ---\n ---x\n", &["a: |\n  ---\n ---x\n"]),
            (
                "\u{feff}---\na: 1\r\n---\r\nb: 2\r\n",
                &["\u{feff}---\na: 1\r\n", "---\r\nb: 2\r\n"],
            ),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = split(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
