//! Scalars: the text as written, and its value by the core schema of YAML 1.2.

use serde_json::{Number, Value as Json};

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes; YAML may read it as a number, a boolean or null.
    Plain,
    /// In quotes, or tagged `!!str`: always a text.
    Quoted,
    /// A block (`|` or `>`): always a text.
    Block,
}

/// A scalar: the text as written (`no`, `1.10`, `0o17`), or as decoded from quotes and blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

impl Scalar {
    /// Whether YAML reads it as null: empty, `~` or `null` without quotes.
    pub fn is_null(&self) -> bool {
        self.style == Style::Plain
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The boolean that YAML reads it as, if any.
    pub fn as_bool(&self) -> Option<bool> {
        match (self.style, self.text.as_str()) {
            (Style::Plain, "true" | "True" | "TRUE") => Some(true),
            (Style::Plain, "false" | "False" | "FALSE") => Some(false),
            _ => None,
        }
    }

    /// The value by the core schema of YAML 1.2, section 10.3.2. Infinities and NaN, which JSON
    /// lacks, stay text.
    pub fn to_json(&self) -> Json {
        if self.style != Style::Plain {
            return Json::String(self.text.clone());
        }
        if self.is_null() {
            return Json::Null;
        }
        if let Some(value) = self.as_bool() {
            return Json::Bool(value);
        }
        number(&self.text).map_or_else(|| Json::String(self.text.clone()), Json::Number)
    }
}

/// Parses a number of the core schema: decimal, `0o17`, `0x1f`, or a float.
fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0o") {
        return unsigned_in_radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return unsigned_in_radix(digits, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        let integer = plain
            .parse::<u64>()
            .map(Number::from)
            .or_else(|_| plain.parse::<i64>().map(Number::from));
        return integer.ok().or_else(|| float(text));
    }
    if is_float(unsigned) {
        float(text)
    } else {
        None
    }
}

fn unsigned_in_radix(digits: &str, radix: u32) -> Option<Number> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}

fn float(text: &str) -> Option<Number> {
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

/// Whether a text without a sign is a float: `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]?
/// [0-9]+ )?`: narrower than what Rust parses (`inf`, `nan`).
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_is_valid = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && has_only_digits(exponent)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent_is_valid
        && has_only_digits(whole)
        && has_only_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
}

fn has_only_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_are_typed_by_the_core_schema() {
        let cases = [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nUll", json!("nUll")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("no", json!("no")),
            ("yes", json!("yes")),
            ("8080", json!(8080)),
            ("-1", json!(-1)),
            ("+7", json!(7)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0xZ", json!("0xZ")),
            ("0o", json!("0o")),
            ("1.10", json!(1.1)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e3", json!(1000.0)),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("-", json!("-")),
            ("inf", json!("inf")),
            (".inf", json!(".inf")),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("18446744073709551615", json!(u64::MAX)),
            (
                "18446744073709551616",
                json!(18_446_744_073_709_551_616.0_f64),
            ),
            ("1_000", json!("1_000")),
            ("12:30", json!("12:30")),
        ];
        for (text, expected) in cases {
            let scalar = Scalar {
                text: text.to_owned(),
                style: Style::Plain,
            };
            assert_eq!(scalar.to_json(), expected, "{text}");
        }
    }

    #[test]
    fn quotes_and_blocks_make_a_text() {
        for style in [Style::Quoted, Style::Block] {
            for text in ["", "8080", "true", "null"] {
                let scalar = Scalar {
                    text: text.to_owned(),
                    style,
                };
                assert_eq!(scalar.to_json(), json!(text));
                assert!(!scalar.is_null() && scalar.as_bool().is_none());
            }
        }
    }
}
