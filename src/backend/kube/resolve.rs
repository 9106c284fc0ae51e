//! Outside names, as pods of the cluster resolve them: by a probe without labels, before anything
//! is planned.

use super::launch::{Run, RunContext};
use crate::backend::{Arrival, Launch};
use crate::plan::{ProbeId, Source};
use crate::wire::{self, Body, Deadlines, Flow, Observation, Pace, Request, Target, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Its number; those of the run begin at 0.
const PROBE: ProbeId = ProbeId(u32::MAX);

/// Name servers' port (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// How long names may take, the probe's start included.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after the first answer the others are waited for.
const REST: Duration = Duration::from_secs(5);

/// How long one answer may take.
const ANSWER: u32 = 2_000;

/// The records that are asked for.
const RECORDS: [&str; 2] = ["A", "AAAA"];

/// What is asked: two flows a name, numbered in their order.
fn plan(run: &str, names: &[String], server: IpAddr) -> wire::Plan {
    let questions = names
        .iter()
        .flat_map(|name| RECORDS.map(|record| (name, record)));
    let flows = questions.enumerate().map(|(id, (name, record))| Flow {
        id: id as u32,
        target: Target::Address(server),
        port: DNS_PORT,
        transport: Transport::Udp,
        request: Request::Dns {
            name: format!("{name}."),
            record: record.to_owned(),
        },
        deadlines: Deadlines {
            resolve_ms: ANSWER,
            connect_ms: ANSWER,
            tls_ms: ANSWER,
            request_ms: ANSWER,
        },
        // A datagram may be lost, and a new pod may not be let out at once.
        pace: Pace {
            bursts_ms: vec![0],
            interval_ms: 1_000,
            attempts: None,
            single: true,
            accepted: None,
        },
    });
    wire::Plan {
        v: wire::VERSION,
        run: run.to_owned(),
        seed: 0,
        ttl_ms: PATIENCE.as_millis() as u64,
        heartbeat_ms: 1_000,
        trust: Vec::new(),
        resolver: None,
        listen: None,
        idle_timeout: None,
        flows: flows.collect(),
    }
}

/// The addresses that an answer holds; `None` for anything that is no answer of the name server.
fn addresses(seen: &Observation) -> Option<Vec<IpAddr>> {
    let dns = seen.dns.as_ref()?;
    // NXDOMAIN (3) is an answer too: the name has no address.
    matches!(dns.rcode?, 0 | 3).then(|| {
        // `NAME TYPE DATA`; an alias is followed by the addresses of what it stands for.
        let data = |record: &String| {
            let mut words = record.split(' ').skip(1);
            RECORDS
                .contains(&words.next()?)
                .then(|| words.next()?.parse().ok())
                .flatten()
        };
        dns.records.iter().filter_map(data).collect()
    })
}

/// Asks the cluster's name server, by a probe of our own.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn resolve(
    place: &RunContext,
    launched: &mut Run,
    names: &[String],
    server: IpAddr,
) -> Result<BTreeMap<String, Vec<IpAddr>>, String> {
    let plan = plan(&place.common.run, names, server);
    let asked = plan.flows.len();
    let (sender, mut lines) = mpsc::channel(64);
    let launch = Launch {
        probe: PROBE,
        source: Source::ReferencePod {
            node: String::new(),
        },
        inside: false,
        plan,
    };
    launched
        .launch(place, vec![launch], &sender)
        .await
        .map_err(|error| error.to_string())?;
    drop(sender);
    let mut found: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut answered = BTreeSet::new();
    let mut deadline = Instant::now() + PATIENCE;
    let mut why = format!("the name server {server} gave no answer");
    while answered.len() < asked {
        let Ok(Some(Arrival { line, .. })) = timeout_at(deadline, lines.recv()).await else {
            break;
        };
        match line {
            Ok(wire::Line {
                body: Body::Sample(sample),
                ..
            }) => {
                let name = names.get(sample.flow as usize / RECORDS.len());
                if let (Some(name), Some(addresses)) = (name, addresses(&sample.observation)) {
                    found.entry(name.clone()).or_default().extend(addresses);
                    answered.insert(sample.flow);
                    deadline = deadline.min(Instant::now() + REST);
                }
            }
            Ok(_) => {}
            Err(fault) => why = fault.to_string(),
        }
    }
    // Whoever still reads for us sees that nobody listens.
    drop(lines);
    if answered.is_empty() {
        return Err(why);
    }
    Ok(found
        .into_iter()
        .map(|(name, addresses)| (name, addresses.into_iter().collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(rcode: Option<u16>, records: &[&str]) -> Observation {
        serde_json::from_value(json!({
            "passed": [], "stop": null,
            "dns": { "server": null, "name": "payments.example.", "rcode": rcode, "records": records },
        }))
        .unwrap()
    }

    #[test]
    fn an_alias_is_followed_and_silence_is_no_answer() {
        let records = [
            "payments.example. CNAME x.example.",
            "x.example. A 203.0.113.10",
            "x.example. AAAA 2001:db8::1",
        ];
        let expected: Vec<IpAddr> = vec![
            "203.0.113.10".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ];
        assert_eq!(addresses(&seen(Some(0), &records)), Some(expected));
        assert_eq!(addresses(&seen(Some(3), &[])), Some(vec![]));
        assert_eq!(
            addresses(&seen(Some(2), &[])),
            None,
            "SERVFAIL says nothing of the name"
        );
        assert_eq!(addresses(&seen(None, &[])), None);
    }

    #[test]
    fn each_name_is_asked_for_in_both_families() {
        let plan = plan(
            "r",
            &["a.example".into(), "b.example".into()],
            [10, 96, 0, 10].into(),
        );
        let asked: Vec<_> = plan
            .flows
            .iter()
            .map(|flow| (flow.id, flow.request.clone()))
            .collect();
        let dns = |name: &str, record: &str| Request::Dns {
            name: name.into(),
            record: record.into(),
        };
        let expected = [
            (0, dns("a.example.", "A")),
            (1, dns("a.example.", "AAAA")),
            (2, dns("b.example.", "A")),
            (3, dns("b.example.", "AAAA")),
        ];
        assert_eq!(asked, expected);
    }
}
