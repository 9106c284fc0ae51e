//! The picture of a diagnostic, and its one-line form.

use super::{Diagnostic, Diagnostics, FileId, Severity, Sources, Span};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A line longer than this is named, not drawn: no terminal shows it.
const MAX_DRAWN_LINE_BYTES: usize = 4_096;

/// How many diagnostics are drawn; the rest is counted. Past that the cause is one, or the file is
/// not a suite.
const MAX_DRAWN: usize = 200;

/// Lines between two marked ones that are drawn too instead of an ellipsis.
const CONTEXT_LINES: usize = 2;

impl Diagnostics {
    /// All diagnostics with their pictures, each followed by an empty line.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let mut out = String::new();
        for diagnostic in self.iter().take(MAX_DRAWN) {
            out.push_str(&diagnostic.render(sources, colour));
            out.push_str("\n\n");
        }
        self.count_rest(&mut out);
        out
    }

    /// All diagnostics, a line each.
    pub fn render_compact(&self, sources: &Sources) -> String {
        let mut out = String::new();
        for diagnostic in self.iter().take(MAX_DRAWN) {
            out.push_str(&diagnostic.render_compact(sources));
            out.push('\n');
        }
        self.count_rest(&mut out);
        out
    }

    fn count_rest(&self, out: &mut String) {
        let rest = self.iter().count().saturating_sub(MAX_DRAWN);
        if rest > 0 {
            let _infallible = writeln!(out, "and {rest} more");
        }
    }
}

impl Diagnostic {
    /// `file:line:column: error: message; help: ...`, without line breaks.
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

    /// The message, the place, a picture of the marked lines, and the help.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(visible(&self.message)));
        group = group.elements(self.picture(sources));
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
    fn picture(&self, sources: &Sources) -> Vec<Element<'static>> {
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
                let of_file: Vec<_> = marks
                    .iter()
                    .filter(|(span, ..)| span.file() == file)
                    .collect();
                let lines: Vec<usize> = of_file
                    .iter()
                    .map(|(span, ..)| sources.line_index(file, span.start()))
                    .collect();
                let too_long = lines
                    .iter()
                    .any(|line| sources.line_range(file, *line).len() > MAX_DRAWN_LINE_BYTES);
                if too_long || sources.text(file).is_empty() {
                    let place = sources.place(of_file[0].0);
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
                let annotations: Vec<Annotation<'static>> = of_file
                    .iter()
                    .map(|(span, kind, label)| {
                        kind.span(excerpt.place(sources, *span))
                            .label(label.as_deref().map(visible))
                    })
                    .collect();
                let name = visible(sources.name(file));
                Snippet::source(excerpt.text)
                    .line_start(excerpt.first_line + 1)
                    .path(name)
                    .fold(true)
                    .annotations(annotations)
                    .into()
            })
            .collect()
    }
}

/// The marked lines of a file with all between, the unmarked ones emptied: they are folded, and a
/// file of many megabytes is not drawn to show one line. Characters that would act on the terminal
/// are replaced.
struct Excerpt {
    text: String,
    first_line: usize,
    /// Where each line starts in `text`.
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
            if shown.contains(&line) && range.len() <= MAX_DRAWN_LINE_BYTES {
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

    /// A span in the excerpt, cut at the end of its first line.
    fn place(&self, sources: &Sources, span: Span) -> std::ops::Range<usize> {
        let file = span.file();
        let line = sources.line_index(file, span.start());
        let range = sources.line_range(file, line);
        let text = sources.text(file);
        let shown = |offset: usize| {
            visible_line(
                text.get(range.start..offset.clamp(range.start, range.end))
                    .unwrap_or_default(),
            )
            .len()
        };
        let start = self.starts[line - self.first_line];
        start + shown(span.start())..start + shown(span.end())
    }
}

/// A line's text; the byte order mark, which no editor shows or counts, is left out.
fn visible_line(line: &str) -> String {
    visible(line.strip_prefix('\u{feff}').unwrap_or(line))
}

/// The text with every character that acts on a terminal, or hides, replaced one for one; a tab
/// becomes a space.
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
