//! Truncation of an observation to the length of a line, whatever peers put into certificates,
//! headers and records.

use crate::wire::{MAX_LINE, Observation};

/// Maximum bytes of a line besides its observation.
const FRAME: usize = 256;

/// Shortens lists, then clears the start of the body, until the observation fits a line.
///
/// Each text is limited already, but quotation marks and characters outside ASCII need more bytes
/// on a line than they have characters.
pub(crate) fn truncate(observation: &mut Observation) {
    if observation.tls.is_none() && observation.http.is_none() && observation.dns.is_none() {
        // All other fields together are far shorter than a line.
        return;
    }

    while is_too_long(observation) {
        if !shorten_longest_list(observation) && !clear_body_start(observation) {
            // The remaining fields are limited, far below the length of a line.
            return;
        }
    }
}

fn is_too_long(observation: &Observation) -> bool {
    serde_json::to_vec(observation).is_ok_and(|text| text.len() > MAX_LINE - FRAME)
}

/// Removes the last entry of the longest list; `false` if all lists are empty.
fn shorten_longest_list(observation: &mut Observation) -> bool {
    let names = observation.tls.as_deref_mut().map(|tls| &mut tls.names);
    let records = observation.dns.as_deref_mut().map(|dns| &mut dns.records);
    let marks = observation.http.as_deref_mut().map(|http| &mut http.marks);
    let lists = [names, records, marks].into_iter().flatten();
    lists
        .max_by_key(|list| list.len())
        .and_then(Vec::pop)
        .is_some()
}

/// Clears the start of the body; `false` if it is empty.
fn clear_body_start(observation: &mut Observation) -> bool {
    let Some(http) = observation.http.as_deref_mut() else {
        return false;
    };
    !std::mem::take(&mut http.body_start).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DnsFacts, TlsFacts};

    fn text(characters: usize) -> String {
        "\u{10400}".repeat(characters)
    }

    #[test]
    fn observation_with_the_longest_texts_fits_a_line() {
        let tls = TlsFacts {
            version: text(20),
            alpn: Some(text(50)),
            leaf: text(64),
            subject: text(200),
            issuer: text(200),
            names: vec![text(150); 20],
            not_after: i64::MIN,
            chain_error: Some(text(200)),
            name_error: Some(text(200)),
            expired: true,
        };
        let dns = DnsFacts {
            server: None,
            name: text(255),
            rcode: None,
            records: vec!["\"".repeat(250); 20],
        };
        let mut observation = Observation {
            tls: Some(Box::new(tls)),
            dns: Some(Box::new(dns)),
            ..Observation::default()
        };

        truncate(&mut observation);
        assert!(serde_json::to_string(&observation).unwrap().len() <= MAX_LINE - FRAME);
        assert!(!observation.tls.unwrap().subject.is_empty());
    }
}
