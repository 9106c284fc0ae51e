//! Resolution of outside host names as the cluster's pods resolve them, by a probe without labels,
//! before the plan is made.

use super::launch::{Run, RunContext};
use crate::backend::{Arrival, Launch};
use crate::plan::{ProbeId, Source};
use crate::wire::{self, Body, Deadlines, Flow, Observation, Pace, Request, Target, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The id of the resolving probe; those of a run's probes begin at 0.
const PROBE: ProbeId = ProbeId(u32::MAX);

/// The port of name servers (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// How long the resolution may take, including the probe's start.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the remaining answers after each answer.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one query may take, in milliseconds.
const QUERY_TIMEOUT_MS: u32 = 2_000;

/// The record types that are queried.
const RECORD_TYPES: [&str; 2] = ["A", "AAAA"];

/// A plan with one flow for each name and record type, in that order.
fn plan(run: &str, names: &[String], server: IpAddr) -> wire::Plan {
    let queries = names
        .iter()
        .flat_map(|name| RECORD_TYPES.map(|record_type| (name, record_type)));
    let flows = queries.enumerate().map(|(id, (name, record_type))| Flow {
        id: id as u32,
        target: Target::Address(server),
        port: DNS_PORT,
        transport: Transport::Udp,
        request: Request::Dns {
            name: format!("{name}."),
            record: record_type.to_owned(),
        },
        deadlines: Deadlines {
            resolve_ms: QUERY_TIMEOUT_MS,
            connect_ms: QUERY_TIMEOUT_MS,
            tls_ms: QUERY_TIMEOUT_MS,
            request_ms: QUERY_TIMEOUT_MS,
        },
        // Repeated, since a datagram may be lost and policies may not allow a new pod's traffic
        // yet.
        pace: Pace {
            bursts_ms: vec![0],
            interval_ms: 1_000,
            attempts: None,
            single: true,
            accepted: None,
        },
        small_segments: false,
    });

    wire::Plan {
        v: wire::VERSION,
        run: run.to_owned(),
        seed: 0,
        ttl_ms: TIMEOUT.as_millis() as u64,
        heartbeat_ms: 1_000,
        trust: Vec::new(),
        resolver: None,
        listen: None,
        idle_timeout: None,
        flows: flows.collect(),
    }
}

/// The addresses in an answer; `None` where the name server gave no answer about the name.
fn addresses(observation: &Observation) -> Option<Vec<IpAddr>> {
    let dns = observation.dns.as_ref()?;
    // NXDOMAIN (3) is an answer: the name has no address.
    if !matches!(dns.rcode?, 0 | 3) {
        return None;
    }
    Some(dns.addresses.clone())
}

/// Resolves names through a probe that queries the cluster's name server.
///
/// # Errors
/// The reason why no query was answered.
pub(super) async fn resolve(
    context: &RunContext,
    launched: &mut Run,
    names: &[String],
    server: IpAddr,
) -> Result<BTreeMap<String, Vec<IpAddr>>, String> {
    let plan = plan(&context.settings.run, names, server);
    let queries = plan.flows.len();
    let (sender, mut lines) = mpsc::channel(64);
    let launch = Launch {
        probe: PROBE,
        source: Source::ReferencePod {
            node: String::new(),
        },
        ephemeral: false,
        plan,
    };
    launched
        .launch(context, vec![launch], &sender)
        .await
        .map_err(|error| error.to_string())?;
    drop(sender);

    let mut resolved: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut answered = BTreeSet::new();
    let mut deadline = Instant::now() + TIMEOUT;
    let mut why = format!("the name server {server} gave no answer");
    while answered.len() < queries {
        let Ok(Some(Arrival { line, .. })) = timeout_at(deadline, lines.recv()).await else {
            break;
        };
        match line {
            Ok(wire::Line {
                body: Body::Sample(sample),
                ..
            }) => {
                let name = names.get(sample.flow as usize / RECORD_TYPES.len());
                if let (Some(name), Some(addresses)) = (name, addresses(&sample.observation)) {
                    resolved.entry(name.clone()).or_default().extend(addresses);
                    answered.insert(sample.flow);
                    deadline = deadline.min(Instant::now() + NEXT_ANSWER_TIMEOUT);
                }
            }
            Ok(_) => {}
            Err(fault) => why = fault.to_string(),
        }
    }

    // The closed channel makes the probe's reader stop.
    drop(lines);
    if answered.is_empty() {
        return Err(why);
    }
    Ok(resolved
        .into_iter()
        .map(|(name, addresses)| (name, addresses.into_iter().collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn observation(rcode: Option<u16>, addresses: &[&str]) -> Observation {
        serde_json::from_value(json!({
            "passed": [], "stop": null,
            "dns": { "server": null, "name": "payments.example.", "rcode": rcode, "addresses": addresses, "records": addresses.len() },
        }))
        .unwrap()
    }

    #[test]
    fn addresses_are_taken_from_answers_and_failures_are_no_answer() {
        let known = ["203.0.113.10", "2001:db8::1"];
        let expected: Vec<IpAddr> = known.map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(addresses(&observation(Some(0), &known)), Some(expected));
        assert_eq!(addresses(&observation(Some(3), &[])), Some(vec![]));
        assert_eq!(
            addresses(&observation(Some(2), &[])),
            None,
            "SERVFAIL says nothing about the name"
        );
        assert_eq!(addresses(&observation(None, &[])), None);
    }

    #[test]
    fn every_name_is_queried_in_both_families() {
        let plan = plan(
            "r",
            &["a.example".into(), "b.example".into()],
            [10, 96, 0, 10].into(),
        );
        let queries: Vec<_> = plan
            .flows
            .iter()
            .map(|flow| (flow.id, flow.request.clone()))
            .collect();
        let dns = |name: &str, record_type: &str| Request::Dns {
            name: name.into(),
            record: record_type.into(),
        };
        let expected = [
            (0, dns("a.example.", "A")),
            (1, dns("a.example.", "AAAA")),
            (2, dns("b.example.", "A")),
            (3, dns("b.example.", "AAAA")),
        ];
        assert_eq!(queries, expected);
    }
}
