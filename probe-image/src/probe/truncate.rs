//! An observation that fits a line, whatever strangers put into certificates, headers and records.

use crate::wire::{MAX_LINE, Observation};

/// What a line has besides its observation, at most.
const FRAME: usize = 256;

/// Cuts lists and the body's beginning until it fits. Each text is bounded already; quotation marks
/// and characters outside ASCII take more bytes on a line than they have characters.
pub(crate) fn fit(seen: &mut Observation) {
    if seen.tls.is_none() && seen.http.is_none() && seen.dns.is_none() {
        // All the rest together is far below a line's length.
        return;
    }
    while serde_json::to_vec(seen).is_ok_and(|text| text.len() > MAX_LINE - FRAME) {
        let names = seen.tls.as_deref_mut().map(|tls| &mut tls.names);
        let records = seen.dns.as_deref_mut().map(|dns| &mut dns.records);
        let marks = seen.http.as_deref_mut().map(|http| &mut http.marks);
        let lists = [names, records, marks].into_iter().flatten();
        if let Some(longest) = lists
            .max_by_key(|list| list.len())
            .filter(|list| !list.is_empty())
        {
            longest.pop();
        } else if let Some(http) = seen
            .http
            .as_deref_mut()
            .filter(|http| !http.body_start.is_empty())
        {
            http.body_start.clear();
        } else {
            // What is left has a bound of its own, far below the line's.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DnsFacts, TlsFacts};

    #[test]
    fn the_longest_texts_fit_a_line() {
        let text = |n: usize| "\u{10400}".repeat(n);
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
        let mut seen = Observation {
            tls: Some(Box::new(tls)),
            dns: Some(Box::new(dns)),
            ..Observation::default()
        };
        fit(&mut seen);
        assert!(serde_json::to_string(&seen).unwrap().len() <= MAX_LINE - FRAME);
        assert!(!seen.tls.unwrap().subject.is_empty());
    }
}
