//! The protocol of our responder: the question is `watertight/1 NONCE`, the answer `watertight/1
//! NONCE NAME`.

use crate::text::printable;
use crate::wire::Answer;

/// First word of question and answer.
pub(crate) const MAGIC: &str = "watertight/1";

/// The question, newline included.
pub(crate) fn question(nonce: &str) -> String {
    format!("{MAGIC} {nonce}\n")
}

/// The answer, newline included.
pub(crate) fn answer(nonce: &str, name: &str) -> String {
    format!("{MAGIC} {nonce} {name}\n")
}

/// Parses the answer at the beginning of `bytes`; `None` without one.
pub(crate) fn parse(bytes: &[u8], nonce: &str) -> Option<Answer> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    parse_words(line.strip_prefix(MAGIC)?.strip_prefix(' ')?, nonce)
}

/// Parses an answer in the form `NONCE NAME`, as an HTTP response carries it.
pub(crate) fn parse_words(words: &str, nonce: &str) -> Option<Answer> {
    let (returned, name) = words.trim_end().split_once(' ')?;
    let is_ours = returned == nonce;
    Some(Answer {
        nonce: is_ours,
        who: if is_ours {
            printable(name, 200)
        } else {
            String::new()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_has_the_responders_name_and_whether_the_nonce_matches() {
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
    fn bytes_of_another_form_are_no_answer() {
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
