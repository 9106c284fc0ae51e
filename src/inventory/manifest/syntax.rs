//! The spelling of names, labels and port names, as the API server checks it
//! (`k8s.io/apimachinery/pkg/util/validation`).

/// The rule that a text breaks, as the end of a sentence: `... must be at most 63 characters`.
pub(super) type Fault = String;

fn is_lower_alphanumeric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether a text is of a-z, 0-9 and '-', with a letter or digit at both ends.
fn is_dns_part(text: &str) -> bool {
    text.starts_with(is_lower_alphanumeric)
        && text.ends_with(is_lower_alphanumeric)
        && text.chars().all(|c| is_lower_alphanumeric(c) || c == '-')
}

/// `IsDNS1123Label`: names of namespaces and Services.
pub(super) fn dns_label(text: &str) -> Result<(), Fault> {
    match (text.len(), is_dns_part(text)) {
        (64.., _) => Err("must be at most 63 characters".to_owned()),
        (_, false) => {
            Err("must be of a-z, 0-9 and '-', and start and end with a letter or digit (RFC 1123 label)".to_owned())
        }
        (_, true) => Ok(()),
    }
}

/// `IsDNS1123Subdomain`: names of most objects, prefixes of label keys. A part between dots may be
/// longer than 63 characters.
pub(super) fn dns_subdomain(text: &str) -> Result<(), Fault> {
    match (text.len(), text.split('.').all(is_dns_part)) {
        (254.., _) => Err("must be at most 253 characters".to_owned()),
        (_, false) => Err(
            "must be of a-z, 0-9, '-' and '.', and each part start and end with a letter or digit (RFC 1123 subdomain)"
                .to_owned(),
        ),
        (_, true) => Ok(()),
    }
}

/// The rule for the name part of a label's key and for its value.
fn label_word(text: &str) -> Result<(), Fault> {
    let inside = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    match (text.len(), inside && ends) {
        (64.., _) => Err("must be at most 63 characters".to_owned()),
        (_, false) => {
            Err("must be of letters, digits, '-', '_' and '.', and start and end with a letter or digit".to_owned())
        }
        (_, true) => Ok(()),
    }
}

/// `IsQualifiedName`: `[prefix/]name`.
pub(super) fn label_key(text: &str) -> Result<(), Fault> {
    match text.split_once('/') {
        None => label_word(text),
        Some((prefix, name)) => {
            dns_subdomain(prefix)
                .map_err(|fault| format!("has the prefix {prefix:?}, which {fault}"))?;
            label_word(name)
        }
    }
}

/// `IsValidLabelValue`: empty, or the same as the name part of a key.
pub(super) fn label_value(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        Ok(())
    } else {
        label_word(text)
    }
}

/// `IsValidPortName`, `IANA_SVC_NAME` (RFC 6335 section 5.1).
pub(super) fn port_name(text: &str) -> Result<(), Fault> {
    let inside = text.chars().all(|c| is_lower_alphanumeric(c) || c == '-');
    let dashes = text.starts_with('-') || text.ends_with('-') || text.contains("--");

    if text.len() > 15 {
        Err("must be at most 15 characters".to_owned())
    } else if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        Err("must contain a letter; a port's number is written without quotes".to_owned())
    } else if text.is_empty()
        || !inside
        || dashes
        || !text.contains(|c: char| c.is_ascii_lowercase())
    {
        Err(
            "must be of a-z, 0-9 and single '-' inside, with at least one letter (RFC 6335)"
                .to_owned(),
        )
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Result<(), Fault>;

    #[test]
    fn each_rule_accepts_valid_and_refuses_invalid_texts() {
        let long = "a".repeat(64);
        let longest = "a".repeat(63);
        let longer = "a.".repeat(127);
        let table: [(Check, &[&str], &[&str]); 5] = [
            (
                dns_label,
                &["a", "0", "web-1", &longest],
                &["", "-a", "a-", "A", "a.b", "a_b", &long, "ä"],
            ),
            (
                dns_subdomain,
                &["a", "a.b-c.0", &long],
                &["", ".", "a.", ".a", "a..b", "A", "a_b", "-a.b", &longer],
            ),
            (
                label_key,
                &["app", "App_1.x", "app.kubernetes.io/name", "0", &longest],
                &["", "-a", "a-", "a/", "/a", "a/b/c", "A.b/c", "a b", &long],
            ),
            (
                label_value,
                &["", "v1.2_3-x", "A", &longest],
                &["-", "a-", ".a", "a b", "a/b", &long],
            ),
            (
                port_name,
                &["http", "a", "8a", "http-2", "a-2-c"],
                &[
                    "",
                    "80",
                    "-a",
                    "a-",
                    "a--b",
                    "HTTP",
                    "sixteen-letters-",
                    "a_b",
                    "-",
                ],
            ),
        ];
        for (row, (check, good, bad)) in table.iter().enumerate() {
            for text in *good {
                assert_eq!(check(text), Ok(()), "row {row}: {text}");
            }
            for text in *bad {
                assert!(check(text).is_err(), "row {row}: {text}");
            }
        }
    }
}
