//! The resolve stage: a name to its addresses, as a pod's stub resolver does it.
//!
//! Servers are asked in order; after one that is silent or refuses, the next is asked. Search list
//! and `ndots` work as in resolv.conf(5). The search continues after any response code: an
//! enforcing DNS proxy refuses the names of the search list one by one, and may allow only the last
//! of them.
//!
//! # Limitations
//!
//! `/etc/hosts` is not read: policies do not know the names in it.

use super::dns::{Question, ask_tcp, ask_udp, facts, rcode};
use super::socket::Segments;
use super::{Cancel, Trace, tcp};
use crate::wire::{FaultReason, Resolver, Stage, StopCause};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// How often a silent server is asked: datagrams get lost, and one lost datagram must not look like
/// a deny.
const ROUNDS: usize = 2;

/// Maximum number of servers; glibc's limit (resolv.conf(5)).
const MAX_SERVERS: usize = 3;

/// Maximum number of search domains; the limit of Kubernetes for a pod (dnsConfig).
const MAX_SEARCH: usize = 32;

/// Parses the text of `resolv.conf`; an empty text gives the defaults of resolv.conf(5).
pub(crate) fn parse_resolv_conf(text: &str) -> Resolver {
    let mut resolver = Resolver {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
    };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A scoped address (`fe80::1%eth0`) has no form in the protocol and is skipped.
                let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                resolver.servers.extend(server);
            }
            Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
            Some("options") => {
                let ndots = words
                    .filter_map(|word| word.strip_prefix("ndots:")?.parse().ok())
                    .next_back();
                resolver.ndots = ndots.unwrap_or(resolver.ndots).min(15);
            }
            _ => {}
        }
    }

    if resolver.servers.is_empty() {
        resolver.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    resolver.servers.truncate(MAX_SERVERS);
    resolver.search.truncate(MAX_SEARCH);
    resolver
}

/// The fully qualified names to ask for, in order.
pub(crate) fn candidates(name: &str, resolver: &Resolver) -> Result<Vec<Name>, String> {
    let mut absolute =
        Name::from_str_relaxed(name).map_err(|e| format!("{name:?} is no DNS name: {e}"))?;
    let is_fqdn = absolute.is_fqdn();
    absolute.set_fqdn(true);
    if is_fqdn {
        return Ok(vec![absolute]);
    }

    let mut names: Vec<Name> = resolver
        .search
        .iter()
        .filter_map(|domain| in_domain(&absolute, domain))
        .collect();
    let dots = name.bytes().filter(|&b| b == b'.').count();
    let position = if dots >= resolver.ndots as usize {
        0
    } else {
        names.len()
    };
    names.insert(position, absolute);
    names.dedup();
    Ok(names)
}

/// The name in a search domain; `None` if it is too long there and thus cannot exist.
fn in_domain(name: &Name, domain: &str) -> Option<Name> {
    let mut relative = name.clone();
    relative.set_fqdn(false);
    let domain = Name::from_str_relaxed(domain).ok()?;
    let mut name = relative.append_domain(&domain).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Resolves the first of `names` that has addresses; passes [`Stage::Resolve`]. The addresses are
/// sorted, so that attempts can take them in turn.
pub(crate) async fn resolve(
    names: &[Name],
    v6: bool,
    resolver: &Resolver,
    limit: Duration,
    trace: &mut Trace,
) -> Result<Vec<IpAddr>, Cancel> {
    let started = Instant::now();
    let deadline = started + limit;
    let record = if v6 { RecordType::AAAA } else { RecordType::A };
    let mut reported: Option<(SocketAddr, Question, Message)> = None;
    for name in names {
        let question = Question::of(name.clone(), record);
        let (server, message) = match ask_servers(&question, resolver, deadline).await? {
            ServerResult::Answer(server, message) => (server, message),
            ServerResult::Failure(server, how) => {
                trace.observation.dns = Some(Box::new(facts(server, &question, None)));
                return Err(Cancel::stop(Stage::Resolve, how));
            }
        };

        let addresses = addresses(&message);
        if !addresses.is_empty() {
            trace.pass(Stage::Resolve, started);
            return Ok(addresses);
        }
        // A refusal is reported rather than "no such name"; of equal answers, the last.
        if reported
            .as_ref()
            .is_none_or(|(_, _, kept)| is_conclusive(kept) || !is_conclusive(&message))
        {
            reported = Some((server, question, message));
        }
    }

    let Some((server, question, message)) = reported else {
        let detail = "no name to resolve".into();
        return Err(Cancel::fault(FaultReason::Plan, detail));
    };
    trace.observation.dns = Some(Box::new(facts(server, &question, Some(&message))));
    let code = rcode(&message);
    Err(Cancel::stop(Stage::Resolve, StopCause::Rcode { code }))
}

/// Whether the server answered for the name: NOERROR or NXDOMAIN.
fn is_conclusive(message: &Message) -> bool {
    matches!(
        message.metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    )
}

/// Result of a question to all servers.
enum ServerResult {
    /// A server and its answer, with any response code.
    Answer(SocketAddr, Message),
    /// The server that failed last, and how.
    Failure(SocketAddr, StopCause),
}

/// Asks the servers in order until one answers for the name. If none does, the first answer with
/// another response code counts; without an answer, the last failure.
async fn ask_servers(
    question: &Question,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<ServerResult, Cancel> {
    let mut servers: Vec<SocketAddr> = resolver
        .servers
        .iter()
        .map(|ip| SocketAddr::new(*ip, 53))
        .collect();
    let Some(&first) = servers.first() else {
        let detail = "no name server".into();
        return Err(Cancel::fault(FaultReason::Plan, detail));
    };

    let mut tries = u32::try_from(servers.len() * ROUNDS).unwrap_or(1).max(1);
    let mut refusal = None;
    let mut failure = (first, StopCause::Silence);
    for _ in 0..ROUNDS {
        for server in std::mem::take(&mut servers) {
            let share = deadline.saturating_duration_since(Instant::now()) / tries;
            tries = tries.saturating_sub(1).max(1);
            match ask(server, question, share, deadline).await {
                Ok(message) if is_conclusive(&message) => {
                    return Ok(ServerResult::Answer(server, message));
                }
                Ok(message) => {
                    refusal.get_or_insert((server, message));
                }
                Err(Cancel::Stop(stop)) => {
                    if stop.how == StopCause::Silence {
                        // Asked again in the next round.
                        servers.push(server);
                    }
                    failure = (server, stop.how);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    Ok(match refusal {
        Some((server, message)) => ServerResult::Answer(server, message),
        None => ServerResult::Failure(failure.0, failure.1),
    })
}

/// Asks over UDP; if the answer was truncated and has no address, again over TCP (RFC 7766 §5).
async fn ask(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
    deadline: Instant,
) -> Result<Message, Cancel> {
    // The stages of a look-up are no stages of the attempt.
    let mut trace = Trace::new();
    let message = ask_udp(server, question, limit, &mut trace).await?;
    if !message.metadata.truncation || !addresses(&message).is_empty() {
        return Ok(message);
    }

    let remaining = deadline.saturating_duration_since(Instant::now());
    let mut stream = tcp::connect(server, remaining, Segments::Usual, &mut trace).await?;
    ask_tcp(&mut stream, question, deadline, &mut trace).await
}

/// The addresses of an answer, sorted.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        })
        .collect();

    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str, ndots: u32) -> Vec<String> {
        let resolver = Resolver {
            servers: vec![],
            search: vec!["shop.svc.cluster.local".into(), "lan".into()],
            ndots,
        };
        candidates(name, &resolver)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn candidates_are_ordered_by_search_list_and_ndots() {
        assert_eq!(
            names("api", 5),
            ["api.shop.svc.cluster.local.", "api.lan.", "api."]
        );
        assert_eq!(
            names("a.example.com", 2),
            [
                "a.example.com.",
                "a.example.com.shop.svc.cluster.local.",
                "a.example.com.lan."
            ]
        );
        assert_eq!(names("a.example.com.", 5), ["a.example.com."]);
    }

    #[test]
    fn resolv_conf_of_a_pod_is_parsed() {
        let text = "# kubelet's\nsearch a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                    nameserver fd00::a\nnameserver fe80::1%eth0\noptions edns0 ndots:5\n";
        let resolver = parse_resolv_conf(text);
        assert_eq!(
            resolver.servers,
            [
                "10.96.0.10".parse::<IpAddr>().unwrap(),
                "fd00::a".parse().unwrap()
            ]
        );
        assert_eq!(
            resolver.search,
            ["a.svc.cluster.local", "svc.cluster.local"]
        );
        assert_eq!(resolver.ndots, 5);

        let empty = parse_resolv_conf("");
        assert_eq!(
            (empty.servers, empty.ndots),
            (vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], 1)
        );
    }
}
