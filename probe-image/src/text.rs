//! Text from untrusted peers, made safe for JSON lines, terminals and XML; and hexadecimal.

use sha2::{Digest, Sha256};

/// The first `max` characters of `text`, with `.` for each that is not printable.
///
/// Alphanumeric in Unicode's sense excludes every control, formatting and direction-changing
/// character, and everything that XML 1.0 cannot represent.
pub(crate) fn printable(text: &str, max: usize) -> String {
    text.chars()
        .take(max)
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() {
                c
            } else {
                '.'
            }
        })
        .collect()
}

/// Length and digest of bytes that only the probe may see: `17 bytes, SHA-256 0123456789abcdef`.
pub(crate) fn extent(bytes: &[u8]) -> String {
    format!("{} bytes, SHA-256 {}", bytes.len(), digest(bytes))
}

/// The first 16 hexadecimal digits of the SHA-256 of some bytes.
fn digest(bytes: &[u8]) -> String {
    short_digest(&Sha256::digest(bytes))
}

/// The first 16 hexadecimal digits of a digest: enough to tell answers apart.
pub(crate) fn short_digest(digest: &[u8]) -> String {
    hex(&digest[..digest.len().min(8)])
}

/// The first `max` bytes as text, with `.` for each character that is not printable.
pub(crate) fn printable_bytes(bytes: &[u8], max: usize) -> String {
    let bytes = &bytes[..bytes.len().min(max)];
    printable(&String::from_utf8_lossy(bytes), max)
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a hexadecimal text; `None` if it is not hexadecimal.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }

    let pairs = digits.chunks_exact(2);
    Some(pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_dots() {
        assert_eq!(
            printable("\x1b[31mred\u{202e}\r\n\u{fffe}ü<x>", 100),
            ".[31mred....ü<x>"
        );
        assert_eq!(printable("abc", 2), "ab");
        assert_eq!(printable_bytes(b"\xff\x00a", 3), "..a");
    }

    #[test]
    fn hexadecimal_is_written_and_read() {
        assert_eq!(hex(&[0, 171, 255]), "00abff");
        assert_eq!(from_hex("00aBff"), Some(vec![0, 171, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
