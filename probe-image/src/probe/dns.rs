//! DNS: one query to one server, as the request of a flow or for the resolve stage.
//!
//! Of an answer's records only addresses are reported, and how many records there are: whatever
//! else a server says stays here.
//!
//! # Limitations
//!
//! No EDNS and no DNSSEC: one question, as the simplest stub resolver asks it.

use super::socket::Segments;
use super::{Cancel, OpenConnection, Trace, tcp, udp};
use crate::text::{extent, printable};
use crate::wire::{DnsFacts, FaultReason, Stage, StopCause, Transport};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Maximum number of addresses reported.
const MAX_ADDRESSES: usize = 20;

/// Length of the prefix of a DNS message over TCP, which holds the message's length (RFC 1035
/// §4.2.2).
const PREFIX: usize = 2;

/// A question whose name and type are checked.
#[derive(Debug, Clone)]
pub(crate) struct Question(Query);

impl Question {
    /// A question for a fully qualified name, with or without its trailing dot, and the mnemonic of
    /// a record type.
    pub(crate) fn new(name: &str, record: &str) -> Result<Self, String> {
        let mut name =
            Name::from_str_relaxed(name).map_err(|e| format!("{name:?} is no DNS name: {e}"))?;
        name.set_fqdn(true);
        let record: RecordType = record
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| format!("{record:?} is no DNS record type"))?;
        Ok(Self(Query::query(name, record)))
    }

    /// A question for a parsed name.
    pub(crate) fn of(name: Name, record: RecordType) -> Self {
        Self(Query::query(name, record))
    }

    /// Text of the name without its trailing dot.
    pub(crate) fn name(&self) -> String {
        printable(self.0.name().to_ascii().trim_end_matches('.'), 255)
    }

    /// The query message and its encoding.
    fn message(&self) -> Result<(Message, Vec<u8>), Cancel> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(self.0.clone());
        let bytes = message
            .to_vec()
            .map_err(|e| Cancel::fault(FaultReason::Plan, format!("encoding a DNS query: {e}")))?;
        Ok((message, bytes))
    }

    /// Whether the answer has a record of the type asked for.
    fn is_answered_by(&self, answer: &Message) -> bool {
        let asked = self.0.query_type();
        answer
            .answers
            .iter()
            .any(|record| asked == RecordType::ANY || record.record_type() == asked)
    }
}

/// Asks one server over UDP; passes [`Stage::FirstBytes`] of `trace`.
///
/// Each question is sent from a new port, so the first datagram that arrives there is the answer to
/// it or no valid answer at all.
pub(crate) async fn ask_udp(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
    trace: &mut Trace,
) -> Result<Message, Cancel> {
    let (query, bytes) = question.message()?;
    let answer = udp::exchange(server, &bytes, limit, trace).await?;
    parse(&answer, &query)
}

/// Asks over a TCP connection; passes [`Stage::FirstBytes`] of `trace`.
pub(crate) async fn ask_tcp(
    stream: &mut TcpStream,
    question: &Question,
    deadline: Instant,
    trace: &mut Trace,
) -> Result<Message, Cancel> {
    let (query, bytes) = question.message()?;
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let framed = [&length.to_be_bytes()[..], &bytes].concat();
    let max = PREFIX + usize::from(u16::MAX);
    let answer = tcp::exchange(stream, &framed, deadline, max, is_complete, trace).await?;
    parse(answer.get(PREFIX..).unwrap_or_default(), &query)
}

/// Whether these bytes hold a length prefix and a message of that length.
fn is_complete(bytes: &[u8]) -> bool {
    match bytes {
        [a, b, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*a, *b])),
        _ => false,
    }
}

/// Parses the answer to `query`.
fn parse(bytes: &[u8], query: &Message) -> Result<Message, Cancel> {
    let answer =
        Message::from_vec(bytes).map_err(|_| garbled(format!("not DNS: {}", extent(bytes))))?;
    if answer.metadata.id != query.metadata.id
        || answer.metadata.message_type != MessageType::Response
        || answer.metadata.op_code != OpCode::Query
    {
        return Err(garbled("a DNS message that does not answer ours".into()));
    }

    // Some servers leave the question out of a refusal; where there is one it must be ours.
    if !answer.queries.iter().all(|asked| is_asked_by(asked, query)) {
        return Err(garbled("a DNS answer to another question".into()));
    }
    Ok(answer)
}

/// Whether `query` asks this question.
fn is_asked_by(question: &Query, query: &Message) -> bool {
    query.queries.iter().any(|asked| {
        asked.query_type() == question.query_type()
            && asked.name().eq_ignore_root_case(question.name())
    })
}

fn garbled(what: String) -> Cancel {
    Cancel::stop(Stage::Request, StopCause::Garbled { what })
}

/// Makes the DNS request of a flow; passes [`Stage::Request`] if there is a record of the type
/// asked for.
///
/// `limits` are the times for the connection (UDP: for the answer) and for the exchange over TCP,
/// `segments` is for TCP.
pub(crate) async fn request(
    peer: SocketAddr,
    transport: Transport,
    question: &Question,
    limits: (Duration, Duration),
    segments: Segments,
    trace: &mut Trace,
    open: &mut Option<OpenConnection>,
) -> Result<(), Cancel> {
    let started = Instant::now();
    let (connect, exchange) = limits;
    let answer = match transport {
        Transport::Udp => ask_udp(peer, question, connect, trace).await,
        Transport::Tcp => {
            let mut stream = tcp::connect(peer, connect, segments, trace).await?;
            let deadline = Instant::now() + exchange;
            let answer = ask_tcp(&mut stream, question, deadline, trace).await;
            *open = Some(OpenConnection::Tcp(stream));
            answer
        }
    };

    trace.observation.dns = Some(Box::new(facts(peer, question, answer.as_ref().ok())));
    let answer = answer?;
    if question.is_answered_by(&answer) {
        trace.pass(Stage::Request, started);
        Ok(())
    } else {
        let code = rcode(&answer);
        Err(Cancel::stop(Stage::Request, StopCause::Rcode { code }))
    }
}

/// Number of the response code.
pub(crate) fn rcode(answer: &Message) -> u16 {
    answer.metadata.response_code.into()
}

/// Facts of an exchange; `answer` is `None` where none came.
pub(crate) fn facts(server: SocketAddr, question: &Question, answer: Option<&Message>) -> DnsFacts {
    let records = answer.map_or(&[][..], |answer| answer.answers.as_slice());
    let mut addresses: Vec<IpAddr> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .take(MAX_ADDRESSES)
        .collect();
    addresses.sort_unstable();

    DnsFacts {
        server: Some(server),
        name: question.name(),
        rcode: answer.map(rcode),
        addresses,
        records: u16::try_from(records.len()).unwrap_or(u16::MAX),
    }
}
