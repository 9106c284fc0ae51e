//! Renders diagnostics: with the marked lines of the source, or in one line.

use super::{Diagnostic, Diagnostics, FileId, Severity, Sources, Span};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The longest line that is shown; of a longer one only the position is shown.
const MAX_SHOWN_LINE_BYTES: usize = 4_096;

/// The most diagnostics that are shown; the number of the others follows.
const MAX_SHOWN: usize = 200;

/// Lines shown before and after a marked line.
const CONTEXT_LINES: usize = 2;

impl Diagnostics {
    /// Renders all diagnostics with the marked lines, each followed by an empty line.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let mut out = String::new();
        for diagnostic in self.iter().take(MAX_SHOWN) {
            out.push_str(&diagnostic.render(sources, colour));
            out.push_str("\n\n");
        }
        self.write_omitted(&mut out);
        out
    }

    /// Renders each diagnostic in one line.
    pub fn render_compact(&self, sources: &Sources) -> String {
        let mut out = String::new();
        for diagnostic in self.iter().take(MAX_SHOWN) {
            out.push_str(&diagnostic.render_compact(sources));
            out.push('\n');
        }
        self.write_omitted(&mut out);
        out
    }

    fn write_omitted(&self, out: &mut String) {
        let omitted = self.iter().count().saturating_sub(MAX_SHOWN);
        if omitted > 0 {
            let _infallible = writeln!(out, "and {omitted} more");
        }
    }
}

impl Diagnostic {
    /// Renders `file:line:column: error: message; help: ...` without line breaks.
    pub fn render_compact(&self, sources: &Sources) -> String {
        let place = sources.place(self.primary);
        let mut out = if sources.text(self.primary.file()).is_empty() {
            format!("{}: {}: {}", place.file, self.severity, self.message)
        } else {
            format!("{place}: {}: {}", self.severity, self.message)
        };
        for label in &self.secondary {
            let _infallible = write!(out, "; {} ({})", label.text, sources.place(label.span));
        }
        if let Some(help) = &self.help {
            let _infallible = write!(out, "; help: {help}");
        }
        visible(&out)
    }

    /// Renders the message, the position, the marked lines, and the help.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(visible(&self.message)));
        group = group.elements(self.snippets(sources));
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(visible(help)));
        }
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }

    /// One snippet for each file, the primary's first.
    fn snippets(&self, sources: &Sources) -> Vec<Element<'static>> {
        let mut marks = vec![(self.primary, AnnotationKind::Primary, self.label.clone())];
        marks.extend(self.secondary.iter().map(|label| {
            (
                label.span,
                AnnotationKind::Context,
                Some(label.text.clone()),
            )
        }));

        let mut files: Vec<FileId> = Vec::new();
        for (span, ..) in &marks {
            if !files.contains(&span.file()) {
                files.push(span.file());
            }
        }
        files
            .into_iter()
            .map(|file| {
                let marks_of_file: Vec<Mark<'_>> = marks
                    .iter()
                    .filter(|(span, ..)| span.file() == file)
                    .map(|(span, kind, label)| Mark {
                        span: *span,
                        kind: *kind,
                        label: label.as_deref(),
                    })
                    .collect();
                snippet(sources, file, &marks_of_file)
            })
            .collect()
    }
}

/// A marked part of a file.
struct Mark<'a> {
    span: Span,
    kind: AnnotationKind,
    label: Option<&'a str>,
}

/// The marked lines of a file; only its name and position if it is empty or a line is too long.
fn snippet(sources: &Sources, file: FileId, marks: &[Mark<'_>]) -> Element<'static> {
    let lines: Vec<usize> = marks
        .iter()
        .map(|mark| sources.line_index(file, mark.span.start()))
        .collect();
    let too_long = lines
        .iter()
        .any(|line| sources.line_range(file, *line).len() > MAX_SHOWN_LINE_BYTES);

    if too_long || sources.text(file).is_empty() {
        let place = sources.place(marks[0].span);
        let origin = Origin::path(visible(&place.file));
        return if too_long {
            origin
                .line(place.line as usize)
                .char_column(place.column as usize)
                .into()
        } else {
            origin.into()
        };
    }

    let excerpt = Excerpt::new(sources, file, &lines);
    let annotations: Vec<Annotation<'static>> = marks
        .iter()
        .map(|mark| {
            mark.kind
                .span(excerpt.range_of(sources, mark.span))
                .label(mark.label.map(visible))
        })
        .collect();
    Snippet::source(excerpt.text)
        .line_start(excerpt.first_line + 1)
        .path(visible(sources.name(file)))
        .fold(true)
        .annotations(annotations)
        .into()
}

/// The lines of a file from the first to the last marked one. Lines far from a marked one are
/// empty, so that the renderer folds them and need not process a file of many megabytes. Control
/// characters are replaced.
struct Excerpt {
    text: String,
    first_line: usize,
    /// Byte offset in `text` at which each line starts.
    starts: Vec<usize>,
}

impl Excerpt {
    fn new(sources: &Sources, file: FileId, marked: &[usize]) -> Self {
        let first_line = marked.iter().copied().min().unwrap_or_default();
        let last_line = marked.iter().copied().max().unwrap_or_default();
        let shown: BTreeSet<usize> = marked
            .iter()
            .flat_map(|line| {
                line.saturating_sub(CONTEXT_LINES)
                    ..=(line + CONTEXT_LINES).min(sources.line_count(file) - 1)
            })
            .collect();
        let mut text = String::new();
        let mut starts = Vec::new();
        for line in first_line..=last_line {
            starts.push(text.len());
            let range = sources.line_range(file, line);
            if shown.contains(&line) && range.len() <= MAX_SHOWN_LINE_BYTES {
                text.push_str(&visible_line(&sources.text(file)[range]));
            }
            text.push('\n');
        }
        Self {
            text,
            first_line,
            starts,
        }
    }

    /// The byte range of a span in the excerpt, cut at the end of its first line.
    fn range_of(&self, sources: &Sources, span: Span) -> std::ops::Range<usize> {
        let file = span.file();
        let line = sources.line_index(file, span.start());
        let range = sources.line_range(file, line);
        let text = sources.text(file);
        let line_start = self.starts[line - self.first_line];

        let [start, end] = [span.start(), span.end()].map(|offset| {
            let before = text
                .get(range.start..offset.clamp(range.start, range.end))
                .unwrap_or_default();
            line_start + visible_line(before).len()
        });
        start..end
    }
}

/// The visible text of a line, without a byte order mark, which editors neither show nor count.
fn visible_line(line: &str) -> String {
    visible(line.strip_prefix('\u{feff}').unwrap_or(line))
}

/// The text with every control character and every invisible character replaced by one visible
/// character; a tab becomes a space.
pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
            other => other,
        })
        .collect()
}
