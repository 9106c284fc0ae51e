//! Scalars: the text as written, its value by the core schema of YAML 1.2, and its value in a
//! manifest, by Kubernetes' own reader.

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

    /// The value that kubectl and the API server read: by YAML 1.1, in which `no` is a boolean,
    /// `010` is eight and `1_000` a thousand (`resolve` in sigs.k8s.io/yaml, goyaml.v2).
    /// Infinities and NaN, which JSON lacks, stay text.
    pub fn to_json(&self) -> Json {
        if self.style != Style::Plain {
            return Json::String(self.text.clone());
        }
        if self.is_null() {
            return Json::Null;
        }
        if let Some(value) = kubernetes_bool(&self.text) {
            return Json::Bool(value);
        }
        number(&self.text).map_or_else(|| Json::String(self.text.clone()), Json::Number)
    }

    /// The value as the key of a mapping, which is always a text in JSON: that of a number or a
    /// boolean is its own spelling (`convertToJSONableObject` in sigs.k8s.io/yaml).
    pub(super) fn to_json_key(&self) -> String {
        match self.to_json() {
            Json::Bool(value) => value.to_string(),
            Json::Number(value) if value.is_i64() || value.is_u64() => value.to_string(),
            _ => self.text.clone(),
        }
    }
}

/// The boolean that a plain scalar is by YAML 1.1.
fn kubernetes_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Some(false)
        }
        _ => None,
    }
}

/// Parses a number: an integer with Go's prefixes (`0x`, `0o`, `0b`, and `0` for octal), or a float;
/// underscores between its digits do not count.
fn number(text: &str) -> Option<Number> {
    // A number begins with a sign, a digit or a point; the point alone is of no prefix.
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    if text.starts_with('.') {
        return is_float(text).then(|| float(text)).flatten();
    }

    let plain = text.replace('_', "");
    let (is_negative, unsigned) = match plain.strip_prefix(['-', '+']) {
        Some(unsigned) => (plain.starts_with('-'), unsigned),
        None => (false, plain.as_str()),
    };
    if let Some(magnitude) = integer(unsigned) {
        return if is_negative {
            0_i64.checked_sub_unsigned(magnitude).map(Number::from)
        } else {
            Some(Number::from(magnitude))
        };
    }
    is_float(unsigned).then(|| float(&plain)).flatten()
}

/// Parses an integer without a sign as Go does with base 0 (`strconv.ParseUint`).
fn integer(unsigned: &str) -> Option<u64> {
    let prefixes = [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ];
    let after_prefix = prefixes
        .into_iter()
        .find_map(|(prefix, radix)| Some((unsigned.strip_prefix(prefix)?, radix)));
    let (digits, radix) = match (after_prefix, unsigned.strip_prefix('0')) {
        (Some(number), _) => number,
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        (None, _) => (unsigned, 10),
    };
    // Rust accepts a sign here.
    let has_digits_only = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    has_digits_only
        .then(|| u64::from_str_radix(digits, radix).ok())
        .flatten()
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
    fn plain_scalars_are_typed_as_the_api_server_types_them() {
        let cases = [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nUll", json!("nUll")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("no", json!(false)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("yes", json!(true)),
            ("ON", json!(true)),
            ("nO", json!("nO")),
            ("010", json!(8)),
            ("-010", json!(-8)),
            ("0", json!(0)),
            ("00", json!(0)),
            // No octal digit: a float, which is a number all the same.
            ("08", json!(8.0)),
            ("0b101", json!(5)),
            ("0x", json!("0x")),
            ("2001-01-01", json!("2001-01-01")),
            ("_1", json!("_1")),
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
            ("1_000", json!(1000)),
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
