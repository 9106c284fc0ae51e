//! Suggestions for misspelt words.

/// The candidate with the smallest edit distance, if it is small enough for a suggestion.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // No name is that long, and the time for a distance is quadratic in the length.
    if text.len() > 100 {
        return None;
    }
    let wanted = normalize(text);
    // A third of the word may be wrong: "expcet" is near "expect", "web" is not near "api".
    let tolerance = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&wanted, &normalize(candidate)),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normalize(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

/// Help for an unknown word: the nearest candidate, otherwise the first ten candidates.
pub(super) fn help<'a>(
    text: &str,
    candidates: &[&'a str],
    without_candidates: &str,
    list_prefix: &str,
) -> String {
    const SHOWN: usize = 10;
    if let Some(candidate) = nearest(text, candidates.iter().copied()) {
        return format!("did you mean {candidate}?");
    }
    if candidates.is_empty() {
        return without_candidates.to_owned();
    }
    let shown: Vec<&'a str> = candidates.iter().copied().take(SHOWN).collect();
    let more = candidates.len().saturating_sub(SHOWN);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{list_prefix} {}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_misspelt_words_are_near() {
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
    fn help_suggests_the_nearest_candidate_or_lists_all() {
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
