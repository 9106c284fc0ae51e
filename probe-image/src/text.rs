//! What strangers sent, made fit for a line, a terminal and XML; and hexadecimal.

/// At most `most` characters of `text`, each printable; others become `.`.
///
/// Alphanumeric in Unicode's sense leaves out every control, formatting and direction-changing
/// character, and what XML 1.0 cannot carry at all.
pub(crate) fn printable(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() {
                c
            } else {
                '.'
            }
        })
        .collect()
}

/// [`printable`] of at most `most` bytes.
pub(crate) fn printable_bytes(bytes: &[u8], most: usize) -> String {
    printable(
        &String::from_utf8_lossy(&bytes[..bytes.len().min(most)]),
        most,
    )
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of hexadecimal text; `None` if it is not.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_survive() {
        assert_eq!(
            printable("\x1b[31mred\u{202e}\r\n\u{fffe}ü<x>", 100),
            ".[31mred....ü<x>"
        );
        assert_eq!(printable("abc", 2), "ab");
        assert_eq!(printable_bytes(b"\xff\x00a", 3), "..a");
    }

    #[test]
    fn hexadecimal_both_ways() {
        assert_eq!(hex(&[0, 171, 255]), "00abff");
        assert_eq!(from_hex("00aBff"), Some(vec![0, 171, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
