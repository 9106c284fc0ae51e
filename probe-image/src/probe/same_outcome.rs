//! When two attempts had the same outcome.

use crate::wire::{DnsFacts, HttpFacts, Observation};

/// Whether two attempts had the same outcome, so that the second need not be told.
///
/// What differs from one attempt to the next without meaning anything is left aside: how long the
/// stages took, the local port, the address dialled where a name was resolved, the order of DNS
/// records, and the length and digest of an HTTP body, in which dates and request numbers stand
/// (status, marks and the body's beginning count: they tell an enforcer's answer from an
/// application's).
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
        && both(http.as_deref(), b.http.as_deref(), same_http)
        && both(dns.as_deref(), b.dns.as_deref(), same_dns)
}

fn both<T>(a: Option<&T>, b: Option<&T>, same: fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn same_http(a: &HttpFacts, b: &HttpFacts) -> bool {
    let HttpFacts {
        version,
        status,
        server,
        location,
        marks,
        body_start,
        body_bytes: _,
        body_sha256: _,
    } = a;
    *version == b.version
        && *status == b.status
        && *server == b.server
        && *location == b.location
        && *marks == b.marks
        && *body_start == b.body_start
}

fn same_dns(a: &DnsFacts, b: &DnsFacts) -> bool {
    let DnsFacts {
        server,
        name,
        rcode,
        records,
    } = a;
    let sorted = |records: &[String]| {
        let mut records = records.to_vec();
        records.sort_unstable();
        records
    };
    *server == b.server
        && *name == b.name
        && *rcode == b.rcode
        && sorted(records) == sorted(&b.records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, Stage};

    #[test]
    fn times_ports_and_record_order_do_not_count() {
        let dns = |records: [&str; 2]| {
            let records = records.map(str::to_owned).to_vec();
            Some(Box::new(DnsFacts {
                server: None,
                name: "a".into(),
                rcode: Some(0),
                records,
            }))
        };
        let a = Observation {
            passed: vec![(Stage::FirstBytes, 1)],
            local_port: Some(1),
            dns: dns(["x", "y"]),
            ..Observation::default()
        };
        let b = Observation {
            passed: vec![(Stage::FirstBytes, 2)],
            local_port: Some(2),
            peer: Some(([127, 0, 0, 1], 1).into()),
            dns: dns(["y", "x"]),
            ..Observation::default()
        };
        assert!(same_outcome(&a, &b));
        assert!(!same_outcome(
            &a,
            &Observation {
                dns: dns(["y", "z"]),
                ..b.clone()
            }
        ));
        assert!(!same_outcome(
            &a,
            &Observation {
                dns: None,
                ..b.clone()
            }
        ));
        assert!(!same_outcome(
            &a,
            &Observation {
                passed: vec![],
                ..b.clone()
            }
        ));
        let answer = Some(Answer {
            nonce: true,
            who: "web".into(),
        });
        assert!(!same_outcome(&a, &Observation { answer, ..b }));
    }
}
