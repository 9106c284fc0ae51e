//! Text from a network or a file, made safe for a terminal, an XML file or a column.
//!
//! No answer of a target may move the cursor, recolour a line or change the reading direction of a
//! report: a hostile banner must not make *violated* look like *proven*.

use std::borrow::Cow;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// Appends a formatted line to a `String`.
macro_rules! add_line {
    ($out:expr, $($arguments:tt)*) => {{
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!($out, $($arguments)*);
    }};
}
pub(super) use add_line;

/// Whether a character acts on the terminal or the reader instead of being shown.
///
/// Control characters (C0, DEL, C1: U+009B starts an escape sequence just as ESC `[` does), the
/// marks that change the reading direction (Unicode TR 36 §2.6), invisible characters, line
/// separators, and what XML 1.0 §2.2 excludes.
pub(super) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// GitHub's runner reads this as a command anywhere in a line of a log.
const LOG_COMMAND: &str = "##[";

/// Text for people: one line, with every active character replaced by its escape.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(LOG_COMMAND) {
        return Cow::Owned(escaped(&text.replace(LOG_COMMAND, "#\\u{23}[")).into_owned());
    }
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if is_active(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// [`escaped`], and in ASCII where the terminal takes nothing else.
pub(super) fn escaped_for(text: &str, unicode: bool) -> Cow<'_, str> {
    let escaped = escaped(text);
    if unicode || escaped.is_ascii() {
        return escaped;
    }

    let mut out = String::with_capacity(escaped.len());
    for c in escaped.chars() {
        match c {
            '→' => out.push_str("->"),
            c if c.is_ascii() => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    Cow::Owned(out)
}

/// Text for XML: without escape sequences and active characters; newlines stay.
pub(super) fn stripped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_active(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let plain = anstream::adapter::strip_str(text).to_string();
    Cow::Owned(
        plain
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| *c == '\n' || !is_active(*c))
            .collect(),
    )
}

/// [`stripped`], on one line.
pub(super) fn stripped_line(text: &str) -> String {
    stripped(text).replace('\n', " ")
}

/// JSON that may reach a terminal: active characters are written `\uXXXX`, which every reader reads
/// back unchanged.
///
/// Active characters occur only inside strings; line breaks between the members stay.
pub(super) fn escaped_json(json: String) -> String {
    if !json.chars().any(must_be_escaped) {
        return json;
    }

    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if must_be_escaped(c) {
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

/// Whether a character in JSON needs an escape: active, and no line break between members.
fn must_be_escaped(c: char) -> bool {
    is_active(c) && c != '\n'
}

/// Columns that a text takes on a terminal, after [`escaped`].
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text in at most `columns`, with an ellipsis where it was longer.
pub(super) fn truncated(text: &str, columns: usize, unicode: bool) -> Cow<'_, str> {
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

/// The text in lines of at most `columns`, broken at spaces; a longer word gets a line to itself.
///
/// No line begins with `::`: GitHub's runner reads that as a command, however far it is indented.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
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

/// A count with its noun: `1 check`, `2 checks`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[31mred\x1b[0m\x07\0\u{9b}2J\u{202e}nevorp\r\nb";

    #[test]
    fn active_characters_are_escaped_for_a_terminal() {
        let text = escaped(HOSTILE);
        assert_eq!(
            text,
            r"a\u{1b}[31mred\u{1b}[0m\u{7}\u{0}\u{9b}2J\u{202e}nevorp\r\nb"
        );
        assert!(!text.chars().any(is_active));
        assert_eq!(escaped("a ##[error]b"), r"a #\u{23}[error]b");
    }

    #[test]
    fn active_characters_are_removed_for_xml() {
        assert_eq!(stripped(HOSTILE), "ared2Jnevorp\nb");
        assert_eq!(stripped("\u{fffe}x\u{ffff}"), "x");
        assert_eq!(stripped_line("a\nb"), "a b");
    }

    #[test]
    fn escaped_json_reads_back_unchanged() {
        let value = serde_json::json!({ "banner": format!("{HOSTILE}\u{e0041}") });
        let written = escaped_json(serde_json::to_string_pretty(&value).unwrap());
        assert!(
            !written.chars().any(|c| is_active(c) && c != '\n'),
            "{written}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&written).unwrap(),
            value
        );
    }

    #[test]
    fn terminal_without_unicode_gets_ascii_only() {
        assert_eq!(escaped_for("web → api é", false), r"web -> api \u{e9}");
        assert_eq!(escaped_for("web → api", true), "web → api");
    }

    #[test]
    fn truncating_and_wrapping_count_columns() {
        assert_eq!(truncated("postgres", 5, true), "post…");
        assert_eq!(truncated("postgres", 6, false), "pos...");
        assert_eq!(truncated("数据库", 5, true), "数据…");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(
            wrapped("a banner ::stop-commands::x", 8),
            ["a banner ::stop-commands::x"]
        );
    }
}
