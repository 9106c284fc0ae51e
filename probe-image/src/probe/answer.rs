//! The words of our own responder: `watertight/1 NONCE` is asked, `watertight/1 NONCE WHO` is
//! answered.

use crate::text::printable;
use crate::wire::Answer;

/// The first word of question and answer.
pub(crate) const MAGIC: &str = "watertight/1";

/// The question, newline included.
pub(crate) fn question(nonce: &str) -> String {
    format!("{MAGIC} {nonce}\n")
}

/// The answer, newline included.
pub(crate) fn answer(nonce: &str, who: &str) -> String {
    format!("{MAGIC} {nonce} {who}\n")
}

/// The answer in these bytes, if they begin with one.
pub(crate) fn parse(bytes: &[u8], nonce: &str) -> Option<Answer> {
    let line = bytes
        .split(|&b| b == b'\n')
        .next()
        .filter(|line| line.len() < bytes.len())?;
    parse_words(
        std::str::from_utf8(line)
            .ok()?
            .strip_prefix(MAGIC)?
            .strip_prefix(' ')?,
        nonce,
    )
}

/// The answer in `NONCE WHO`, as an HTTP response carries it.
pub(crate) fn parse_words(words: &str, nonce: &str) -> Option<Answer> {
    let (returned, who) = words.trim_end().split_once(' ')?;
    Some(Answer {
        nonce: returned == nonce,
        who: printable(who, 200),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_who_and_whether_the_nonce_is_ours() {
        let text = answer("ab12", "pod shop/web-1");
        assert_eq!(
            parse(text.as_bytes(), "ab12"),
            Some(Answer {
                nonce: true,
                who: "pod shop/web-1".into()
            })
        );
        assert!(!parse(text.as_bytes(), "ab13").unwrap().nonce);
    }

    #[test]
    fn other_bytes_are_no_answer() {
        for bytes in [
            "",
            "watertight/1 ab12 web",
            "watertight/1 ab12\n",
            "SSH-2.0-x\r\n",
            "watertight/1\n",
        ] {
            assert_eq!(parse(bytes.as_bytes(), "ab12"), None, "{bytes:?}");
        }
    }
}
