//! Truncation of an observation to the length of a line, whatever peers put into certificates.

use crate::wire::{MAX_LINE, Observation};

/// Maximum bytes of a line besides its observation.
const FRAME: usize = 256;

/// Shortens lists until the observation fits a line.
///
/// Each text is limited already, but quotation marks and characters outside ASCII need more bytes
/// on a line than they have characters.
pub(crate) fn truncate(observation: &mut Observation) {
    if observation.tls.is_none() && observation.dns.is_none() {
        // All other fields together are far shorter than a line.
        return;
    }

    while is_too_long(observation) {
        if !shorten_names(observation) && !shorten_addresses(observation) {
            // The remaining fields are limited, far below the length of a line.
            return;
        }
    }
}

fn is_too_long(observation: &Observation) -> bool {
    serde_json::to_vec(observation).is_ok_and(|text| text.len() > MAX_LINE - FRAME)
}

/// Removes the last of a certificate's names; `false` if there is none.
fn shorten_names(observation: &mut Observation) -> bool {
    let tls = observation.tls.as_deref_mut();
    tls.and_then(|tls| tls.names.pop()).is_some()
}

/// Removes the last of an answer's addresses; `false` if there is none.
fn shorten_addresses(observation: &mut Observation) -> bool {
    let dns = observation.dns.as_deref_mut();
    dns.and_then(|dns| dns.addresses.pop()).is_some()
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
            addresses: vec![[0xff; 16].into(); 20],
            records: u16::MAX,
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
