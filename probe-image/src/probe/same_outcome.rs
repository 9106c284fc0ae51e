//! Comparison of two attempts' outcomes.

use crate::wire::{DnsFacts, HttpFacts, Observation};
use std::net::IpAddr;

/// Whether two attempts had the same outcome, so that the second needs no sample.
///
/// Differences between attempts without a meaning are ignored: the durations of stages, the local
/// port, the address dialled where a name was resolved, the order of addresses, and the length and
/// digest of an HTTP body, which may hold dates and request numbers. Status, known denials and the
/// match of the request's pattern count: they distinguish an enforcer's answer from an
/// application's.
pub fn same_outcome(a: &Observation, b: &Observation) -> bool {
    let Observation {
        passed,
        stop,
        local_port: _,
        peer: _,
        answer,
        linger,
        tls,
        http,
        dns,
    } = a;
    passed
        .iter()
        .map(|(stage, _)| stage)
        .eq(b.passed.iter().map(|(stage, _)| stage))
        && *stop == b.stop
        && *answer == b.answer
        && *linger == b.linger
        && *tls == b.tls
        && same_option(http.as_deref(), b.http.as_deref(), same_http)
        && same_option(dns.as_deref(), b.dns.as_deref(), same_dns)
}

/// Whether both values are absent, or present and the same.
fn same_option<T>(a: Option<&T>, b: Option<&T>, same: fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same_http(a: &HttpFacts, b: &HttpFacts) -> bool {
    let HttpFacts {
        version,
        status,
        denial,
        matched,
        body_bytes: _,
        body_digest: _,
    } = a;
    *version == b.version && *status == b.status && *denial == b.denial && *matched == b.matched
}

fn same_dns(a: &DnsFacts, b: &DnsFacts) -> bool {
    let DnsFacts {
        server,
        name,
        rcode,
        addresses,
        records,
    } = a;
    *server == b.server
        && *name == b.name
        && *rcode == b.rcode
        && *records == b.records
        && sorted(addresses) == sorted(&b.addresses)
}

fn sorted(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, Stage};

    fn dns(last: [u8; 2]) -> DnsFacts {
        DnsFacts {
            server: None,
            name: "a".into(),
            rcode: Some(0),
            addresses: last.map(|last| [10, 0, 0, last].into()).to_vec(),
            records: 2,
        }
    }

    #[test]
    fn durations_ports_and_order_of_addresses_are_ignored() {
        let a = Observation {
            passed: vec![(Stage::FirstBytes, 1)],
            local_port: Some(1),
            dns: Some(Box::new(dns([1, 2]))),
            ..Observation::default()
        };
        let b = Observation {
            passed: vec![(Stage::FirstBytes, 2)],
            local_port: Some(2),
            peer: Some(([127, 0, 0, 1], 1).into()),
            dns: Some(Box::new(dns([2, 1]))),
            ..Observation::default()
        };
        assert!(same_outcome(&a, &b));

        let answer = Some(Answer {
            nonce: true,
            who: "web".into(),
        });
        let others = [
            Observation {
                dns: Some(Box::new(dns([2, 3]))),
                ..b.clone()
            },
            Observation {
                dns: None,
                ..b.clone()
            },
            Observation {
                passed: vec![],
                ..b.clone()
            },
            Observation { answer, ..b },
        ];
        for other in others {
            assert!(!same_outcome(&a, &other), "{other:?}");
        }
    }
}
