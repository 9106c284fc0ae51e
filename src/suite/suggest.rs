//! "Did you mean".

/// The candidate that was most likely meant, if one is near enough to be worth a guess.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer than any name, so nothing is near; and the distance is quadratic in the length.
    if text.len() > 100 {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let wanted = plain(text);
    // A third of the word may be wrong: "expcet" is near "expect", "web" is not near "api".
    let tolerance = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&wanted, &plain(candidate)),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Help for a word that is none of the candidates: the nearest one, else all of them (at most ten).
pub(super) fn help<'a>(
    text: &str,
    candidates: &[&'a str],
    none_are: &str,
    all_are: &str,
) -> String {
    const SHOWN: usize = 10;
    if let Some(candidate) = nearest(text, candidates.iter().copied()) {
        return format!("did you mean {candidate}?");
    }
    if candidates.is_empty() {
        return none_are.to_owned();
    }
    let shown: Vec<&'a str> = candidates.iter().copied().take(SHOWN).collect();
    let more = candidates.len().saturating_sub(SHOWN);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{all_are} {}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let cases = [
            ("expcet", Some("expect")),
            ("Expect", Some("expect")),
            ("web_tier", Some("web-tier")),
            ("everythingelse", Some("everythingElse")),
            ("ap", Some("api")),
            ("database", None),
            ("", None),
        ];
        let candidates = ["expect", "web-tier", "everythingElse", "api"];
        for (text, expected) in cases {
            assert_eq!(nearest(text, candidates), expected, "{text}");
        }
    }

    #[test]
    fn help_lists_what_there_is() {
        assert_eq!(
            help("x-y-z", &["one", "two"], "none", "known are"),
            "known are one, two"
        );
        assert_eq!(help("x-y-z", &[], "none", "known are"), "none");
        assert_eq!(
            help("on", &["one", "two"], "none", "known are"),
            "did you mean one?"
        );
    }
}
