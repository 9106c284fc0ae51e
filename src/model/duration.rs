//! Durations with a unit: `1.5s`, `300ms`, `2m`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// The unit is missing or is not one of `ms`, `s`, `m`, `h`.
    #[error("{0:?} is not a duration; write a number and a unit: 300ms, 1.5s, 2m, 1h")]
    Form(String),
    /// The duration exceeds a day, which is longer than any sensible run.
    #[error("{0:?} is longer than 24h")]
    TooLong(String),
}

/// Parses a number with a unit of `ms`, `s`, `m` or `h`; fractions are allowed, signs are not.
///
/// The range is 0 to 24 hours, the resolution one microsecond.
///
/// # Errors
/// [`ParseDurationError`], with the text.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(|| ParseDurationError::Form(text.to_owned()))?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(ParseDurationError::Form(text.to_owned())),
    };

    let digits_only = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let well_formed = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    if !digits_only || !well_formed {
        return Err(ParseDurationError::Form(text.to_owned()));
    }

    let seconds = number
        .parse::<f64>()
        .map_err(|_| ParseDurationError::Form(text.to_owned()))?
        * seconds_per_unit;
    if seconds > 86_400.0 {
        return Err(ParseDurationError::TooLong(text.to_owned()));
    }
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// Formats a duration for messages: `340ms`, `2.1s`, `1m30s`.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => {
            let tenths = (millis + 50) / 100;
            if tenths.is_multiple_of(10) {
                format!("{}s", tenths / 10)
            } else {
                format!("{}.{}s", tenths / 10, tenths % 10)
            }
        }
        _ => {
            let seconds = (millis + 500) / 1_000;
            format!("{}m{}s", seconds / 60, seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let cases = [
            ("300ms", 300_000),
            ("1.5s", 1_500_000),
            ("0s", 0),
            ("2m", 120_000_000),
            ("24h", 86_400_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_micros(micros)),
                "{text}"
            );
        }
    }

    #[test]
    fn texts_without_a_number_and_a_unit_are_rejected() {
        for text in [
            "", "3", "s", "-1s", "1 s", "1.s", ".5s", "1e3s", "1d", "inf s", "NaNs", "3S",
            "1.2.3s", "1s2",
        ] {
            assert!(
                matches!(parse_duration(text), Err(ParseDurationError::Form(_))),
                "{text}"
            );
        }
        assert!(matches!(
            parse_duration("25h"),
            Err(ParseDurationError::TooLong(_))
        ));
    }

    #[test]
    fn durations_are_formatted_with_the_largest_unit() {
        let cases = [
            (340, "340ms"),
            (2_000, "2s"),
            (2_140, "2.1s"),
            (59_999, "60s"),
            (90_000, "1m30s"),
        ];
        for (millis, text) in cases {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
    }
}
