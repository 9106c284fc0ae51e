//! Text that came from a network, made fit for a terminal, an XML file or a column.
//!
//! Nothing that a target answers may move the cursor, recolour a line or turn the reading direction
//! of a report: a hostile banner must not be able to make *violated* look like *proven*.

use std::borrow::Cow;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// Appends a line to a text that is being written.
macro_rules! say {
    ($out:expr, $($words:tt)*) => {{
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!($out, $($words)*);
    }};
}
pub(super) use say;

/// Whether a character acts on the terminal or the reader instead of being read.
///
/// Control characters (C0, DEL, C1: U+009B starts an escape sequence just as ESC `[` does), the
/// marks that turn the reading direction (Unicode TR 36 §2.6), invisible characters, line
/// separators, and what XML 1.0 §2.2 excludes.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// GitHub's runner takes this for a command wherever it stands in a line of a log.
const OLD_COMMAND: &str = "##[";

/// For people: one line, in which every character that would act is shown as its escape.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.contains(OLD_COMMAND) {
        return Cow::Owned(shown(&text.replace(OLD_COMMAND, "#\\u{23}[")).into_owned());
    }
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if acts(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// [`shown`], and in ASCII where the terminal has nothing else.
pub(super) fn shown_as(text: &str, unicode: bool) -> Cow<'_, str> {
    let shown = shown(text);
    if unicode || shown.is_ascii() {
        return shown;
    }
    let mut out = String::with_capacity(shown.len());
    for c in shown.chars() {
        match c {
            '→' => out.push_str("->"),
            c if c.is_ascii() => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    Cow::Owned(out)
}

/// For XML: escape sequences and characters that act are removed; newlines stay.
pub(super) fn stripped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| acts(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let plain = anstream::adapter::strip_str(text).to_string();
    Cow::Owned(
        plain
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| *c == '\n' || !acts(*c))
            .collect(),
    )
}

/// [`stripped`], on one line.
pub(super) fn stripped_line(text: &str) -> String {
    stripped(text).replace('\n', " ")
}

/// For JSON that may reach a terminal: what acts is written `\uXXXX`, which every reader reads back
/// as it was.
///
/// The characters concerned can only stand inside strings; line breaks between the members are left
/// alone.
pub(super) fn escaped_json(json: String) -> String {
    let acts = |c: char| acts(c) && c != '\n';
    if !json.chars().any(acts) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Columns that a text takes on a terminal; it has been through [`shown`].
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// At most `columns` wide, with an ellipsis where something was cut.
pub(super) fn cut(text: &str, columns: usize, unicode: bool) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let ellipsis = if unicode { "…" } else { "..." };
    let room = columns.saturating_sub(width(ellipsis));
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(c);
    }
    out.push_str(ellipsis);
    Cow::Owned(out)
}

/// Breaks a text at spaces into lines of at most `columns`; a longer word keeps a line of its own.
///
/// No line begins with `::`: GitHub's runner would take it for a command, however far it is
/// indented.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && !word.starts_with("::") && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// `1 check`, `2 checks`.
pub(super) fn counted(n: usize, thing: &str) -> String {
    if n == 1 {
        format!("1 {thing}")
    } else {
        format!("{n} {thing}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[31mred\x1b[0m\x07\0\u{9b}2J\u{202e}nevorp\r\nb";

    #[test]
    fn nothing_that_acts_reaches_a_terminal() {
        let shown = shown(HOSTILE);
        assert_eq!(
            shown,
            r"a\u{1b}[31mred\u{1b}[0m\u{7}\u{0}\u{9b}2J\u{202e}nevorp\r\nb"
        );
        assert!(!shown.chars().any(acts));
        assert_eq!(super::shown("a ##[error]b"), r"a #\u{23}[error]b");
    }

    #[test]
    fn xml_text_loses_what_acts() {
        assert_eq!(stripped(HOSTILE), "ared2Jnevorp\nb");
        assert_eq!(stripped("\u{fffe}x\u{ffff}"), "x");
        assert_eq!(stripped_line("a\nb"), "a b");
    }

    #[test]
    fn json_reads_back_as_it_was() {
        let value = serde_json::json!({ "banner": format!("{HOSTILE}\u{e0041}") });
        let written = escaped_json(serde_json::to_string_pretty(&value).unwrap());
        assert!(!written.chars().any(|c| acts(c) && c != '\n'), "{written}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&written).unwrap(),
            value
        );
    }

    #[test]
    fn a_terminal_without_unicode_gets_ascii_only() {
        assert_eq!(shown_as("web → api é", false), r"web -> api \u{e9}");
        assert_eq!(shown_as("web → api", true), "web → api");
    }

    #[test]
    fn cutting_and_wrapping_count_columns() {
        assert_eq!(cut("postgres", 5, true), "post…");
        assert_eq!(cut("postgres", 6, false), "pos...");
        assert_eq!(cut("数据库", 5, true), "数据…");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(
            wrapped("a banner ::stop-commands::x", 8),
            ["a banner ::stop-commands::x"]
        );
    }
}
