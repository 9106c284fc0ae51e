//! The resolve stage: a name to an address, as a pod's stub resolver does it, and with every step
//! told.
//!
//! Servers are asked in order; one that is silent or refuses gives way to the next. Search list and
//! `ndots` are those of resolv.conf(5). The search goes on after any response code: an enforcing
//! DNS proxy refuses the names of the search list one by one, and only the last of them may be the
//! one that it lets through.
//!
//! # Limitations
//!
//! `/etc/hosts` is not read: a name there is not a name that a policy knows.

use super::dns::{Question, ask_tcp, ask_udp, facts, rcode};
use super::{Cancel, Trace, tcp};
use crate::wire::{How, Resolver, Stage};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Times a silent server is asked: datagrams get lost, and a resolver that asks once calls each
/// loss a deny.
const ROUNDS: usize = 2;

/// Servers and search domains that are used; glibc's limits are three and six (resolv.conf(5)).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 32;

/// The resolver that `resolv.conf` describes; of an empty file, what resolv.conf(5) says.
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
                // A scoped address (`fe80::1%eth0`) cannot be told on the wire.
                resolver
                    .servers
                    .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
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

/// The names to try, in order.
pub(crate) fn candidates(name: &str, resolver: &Resolver) -> Result<Vec<Name>, String> {
    let mut plain =
        Name::from_str_relaxed(name).map_err(|e| format!("{name:?} is no DNS name: {e}"))?;
    let absolute = plain.is_fqdn();
    plain.set_fqdn(true);
    if absolute {
        return Ok(vec![plain]);
    }
    let mut names: Vec<Name> = resolver
        .search
        .iter()
        .filter_map(|domain| {
            let mut relative = plain.clone();
            relative.set_fqdn(false);
            // A name that becomes too long with a domain does not exist there.
            relative
                .append_domain(&Name::from_str_relaxed(domain).ok()?)
                .ok()
        })
        .collect();
    for name in &mut names {
        name.set_fqdn(true);
    }
    let dots = name.bytes().filter(|&b| b == b'.').count();
    let at = if dots >= resolver.ndots as usize {
        0
    } else {
        names.len()
    };
    names.insert(at, plain);
    names.dedup();
    Ok(names)
}

/// Resolves; the addresses come sorted, so that attempts can take turns. Passes [`Stage::Resolve`].
pub(crate) async fn resolve(
    names: &[Name],
    v6: bool,
    resolver: &Resolver,
    limit: Duration,
    trace: &mut Trace,
) -> Result<Vec<IpAddr>, Cancel> {
    let began = Instant::now();
    let deadline = began + limit;
    let record = if v6 { RecordType::AAAA } else { RecordType::A };
    let mut refusal: Option<(SocketAddr, Question, Message)> = None;
    for name in names {
        let question = Question::of(name.clone(), record);
        match ask_servers(&question, resolver, deadline).await? {
            Ok((server, message)) => {
                let addresses = addresses(&message);
                if !addresses.is_empty() {
                    trace.pass(Stage::Resolve, began);
                    return Ok(addresses);
                }
                // What says most is kept: a refusal before "no such name", and of like ones the
                // last.
                let says_little = |m: &Message| {
                    matches!(
                        m.metadata.response_code,
                        ResponseCode::NoError | ResponseCode::NXDomain
                    )
                };
                if refusal
                    .as_ref()
                    .is_none_or(|(_, _, kept)| says_little(kept) || !says_little(&message))
                {
                    refusal = Some((server, question, message));
                }
            }
            Err((server, how)) => {
                trace.seen.dns = Some(Box::new(facts(server, &question, None)));
                return Err(Cancel::stop(Stage::Resolve, how));
            }
        }
    }
    let Some((server, question, message)) = refusal else {
        return Err(Cancel::fault(
            crate::wire::FaultReason::Plan,
            "no name to resolve".into(),
        ));
    };
    trace.seen.dns = Some(Box::new(facts(server, &question, Some(&message))));
    Err(Cancel::stop(
        Stage::Resolve,
        How::Rcode {
            code: rcode(&message),
        },
    ))
}

type Answered = Result<(SocketAddr, Message), (SocketAddr, How)>;

/// Asks the servers in order until one answers for the name: NOERROR or NXDOMAIN. Failing that, the
/// first other answer counts; failing that, what the last server did.
async fn ask_servers(
    question: &Question,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<Answered, Cancel> {
    let mut to_ask: Vec<SocketAddr> = resolver
        .servers
        .iter()
        .map(|ip| SocketAddr::new(*ip, 53))
        .collect();
    let Some(&first) = to_ask.first() else {
        return Err(Cancel::fault(
            crate::wire::FaultReason::Plan,
            "no name server".into(),
        ));
    };
    let mut tries = u32::try_from(to_ask.len() * ROUNDS).unwrap_or(1).max(1);
    let mut answer = None;
    let mut failure = (first, How::Silence);
    for _ in 0..ROUNDS {
        for server in std::mem::take(&mut to_ask) {
            let share = deadline.saturating_duration_since(Instant::now()) / tries;
            tries = tries.saturating_sub(1).max(1);
            match ask(server, question, share, deadline).await {
                Ok(message) => {
                    if matches!(
                        message.metadata.response_code,
                        ResponseCode::NoError | ResponseCode::NXDomain
                    ) {
                        return Ok(Ok((server, message)));
                    }
                    answer.get_or_insert((server, message));
                }
                Err(Cancel::Stop(stop)) => {
                    if stop.how == How::Silence {
                        to_ask.push(server);
                    }
                    failure = (server, stop.how);
                }
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(answer.ok_or(failure))
}

/// Over UDP; an answer that was cut and has no address, over TCP (RFC 7766 §5).
async fn ask(
    server: SocketAddr,
    question: &Question,
    share: Duration,
    deadline: Instant,
) -> Result<Message, Cancel> {
    // The trace of a lookup's sockets is not the attempt's.
    let mut trace = Trace::new();
    let message = ask_udp(server, question, share, &mut trace).await?;
    if !message.metadata.truncation || !addresses(&message).is_empty() {
        return Ok(message);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let mut stream = tcp::connect(server, left, &mut trace).await?;
    ask_tcp(&mut stream, question, deadline, &mut trace).await
}

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
    fn search_list_and_ndots_order_the_names() {
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
    fn a_pods_resolv_conf_is_read() {
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
