//! The YAML documents of a file, each parsed separately, and the objects of a JSON stream.

use super::read::lines;
use super::{Diagnostics, FileId, Node, Sources, yaml};
use serde::de::IgnoredAny;
use std::ops::Range;

/// One YAML document of a file, or one object of a JSON stream.
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
        .flat_map(|range| split_json(text, range))
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
fn split(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut line_start = 0;
    // Directives and comments before a `---` belong to the document that begins there.
    let mut only_prefix = true;
    for line in lines(text) {
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

/// The byte ranges of a document's JSON objects, one after the other without a marker between them,
/// as `kubectl get -o json` and `jq` write several; the whole range of any other document.
///
/// kubectl reads a file that starts with `{` in the same way (`YAMLOrJSONDecoder` in
/// k8s.io/apimachinery/pkg/util/yaml).
fn split_json(text: &str, document: Range<usize>) -> Vec<Range<usize>> {
    let content = content_start(text, &document);
    if !text[content..document.end].starts_with('{') {
        return vec![document];
    }

    let json = &text[content..document.end];
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<IgnoredAny>();
    let mut ranges = Vec::new();
    let mut start = document.start;
    while let Some(Ok(_)) = values.next() {
        let end = content + values.byte_offset();
        if text[end..document.end].trim_start().starts_with('{') {
            ranges.push(start..end);
            start = end;
        }
    }
    ranges.push(start..document.end);
    ranges
}

/// The offset of a document's content, after its marker, comments and empty lines.
fn content_start(text: &str, document: &Range<usize>) -> usize {
    let mut start = document.start;
    for line in lines(&text[document.clone()]) {
        let content = line.trim_start_matches('\u{feff}');
        let content = if is_marker(content, "---") {
            &content["---".len()..]
        } else {
            content
        };
        let content = content.trim_start();
        if !(content.is_empty() || content.starts_with(['#', '%'])) {
            return start + line.len() - content.len();
        }
        start += line.len();
    }
    document.end
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
        let cases: [(&str, &[&str]); 10] = [
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
            ("a: 1\r---\rb: 2\r", &["a: 1\r", "---\rb: 2\r"]),
            ("a: 1\n\r---\rb: 2\n", &["a: 1\n\r", "---\rb: 2\n"]),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = split(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn objects_of_a_json_stream_are_documents() {
        let cases: [(&str, &[&str]); 7] = [
            ("{\"a\": 1}\n", &["{\"a\": 1}\n"]),
            ("{\"a\": 1}{\"b\": 2}\n", &["{\"a\": 1}", "{\"b\": 2}\n"]),
            (
                "# note\n--- {\"a\": \"}{\"}\n\t{\"b\": 2}",
                &["# note\n--- {\"a\": \"}{\"}", "\n\t{\"b\": 2}"],
            ),
            // The rest is not valid, and is a document of its own with its own error.
            ("{\"a\": 1} {\"b\": ", &["{\"a\": 1}", " {\"b\": "]),
            ("{\"a\": 1} # {\n", &["{\"a\": 1} # {\n"]),
            ("{a: 1}\n", &["{a: 1}\n"]),
            ("a: {}\n", &["a: {}\n"]),
        ];
        for (text, expected) in cases {
            let whole = split(text).into_iter();
            let found: Vec<_> = whole
                .flat_map(|range| split_json(text, range))
                .map(|range| &text[range])
                .collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
