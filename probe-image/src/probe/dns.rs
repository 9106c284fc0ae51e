//! DNS: one query to one server, as a request of its own or for the resolve stage.
//!
//! A record is told as `NAME TYPE DATA`: presentation form without class and time to live, which
//! counts down.
//!
//! # Limitations
//!
//! No EDNS, no DNSSEC: one plain question, as the oldest stub resolver would ask it.

use super::{Cancel, Trace, tcp, udp};
use crate::text::printable;
use crate::wire::{DnsFacts, How, Stage, Transport};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Records that are told.
const MAX_RECORDS: usize = 20;

/// Characters of a record that are told, so that twenty fit a line.
const MAX_RECORD: usize = 250;

/// A DNS message over TCP has a length of two bytes before it (RFC 1035 §4.2.2).
const PREFIX: usize = 2;

/// A question, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Question(Query);

impl Question {
    /// A fully qualified name, with or without its trailing dot, and a record type's mnemonic.
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

    /// Of a name that is one already.
    pub(crate) fn of(name: Name, record: RecordType) -> Self {
        Self(Query::query(name, record))
    }

    /// Text of the name, without trailing dot.
    pub(crate) fn name(&self) -> String {
        printable(self.0.name().to_ascii().trim_end_matches('.'), 255)
    }

    fn message(&self) -> Result<(Message, Vec<u8>), Cancel> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(self.0.clone());
        let bytes = message.to_vec().map_err(|e| {
            Cancel::fault(
                crate::wire::FaultReason::Plan,
                format!("encoding a DNS query: {e}"),
            )
        })?;
        Ok((message, bytes))
    }

    /// Whether there is a record of the type asked for.
    fn is_answered_by(&self, message: &Message) -> bool {
        let asked = self.0.query_type();
        message
            .answers
            .iter()
            .any(|record| asked == RecordType::ANY || record.record_type() == asked)
    }
}

/// Asks one server over UDP; passes [`Stage::FirstBytes`] of `trace`.
pub(crate) async fn ask_udp(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
    trace: &mut Trace,
) -> Result<Message, Cancel> {
    let (asked, bytes) = question.message()?;
    // A fresh port each time: what arrives there first is the answer to this question, or is none
    // at all.
    let answer = udp::exchange(server, &bytes, limit, |_| true, trace).await?;
    parse(&answer, &asked)
}

/// Asks over a connection; passes [`Stage::FirstBytes`] of `trace`.
pub(crate) async fn ask_tcp(
    stream: &mut TcpStream,
    question: &Question,
    deadline: Instant,
    trace: &mut Trace,
) -> Result<Message, Cancel> {
    let (asked, bytes) = question.message()?;
    let mut framed = u16::try_from(bytes.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
        .to_vec();
    framed.extend_from_slice(&bytes);
    let whole = |bytes: &[u8]| match bytes {
        [a, b, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*a, *b])),
        _ => false,
    };
    let most = PREFIX + usize::from(u16::MAX);
    let answer = tcp::exchange(stream, &framed, deadline, most, whole, trace).await?;
    parse(answer.get(PREFIX..).unwrap_or_default(), &asked)
}

fn parse(bytes: &[u8], asked: &Message) -> Result<Message, Cancel> {
    let garbled = |what: String| Cancel::stop(Stage::Request, How::Garbled { what });
    let message =
        Message::from_vec(bytes).map_err(|e| garbled(printable(&format!("not DNS: {e}"), 200)))?;
    if message.metadata.id != asked.metadata.id
        || message.metadata.message_type != MessageType::Response
        || message.metadata.op_code != OpCode::Query
    {
        return Err(garbled("a DNS message that does not answer ours".into()));
    }
    // Some servers leave the question out of a refusal; with one it must be ours.
    if message.queries.iter().any(|q| {
        !asked
            .queries
            .iter()
            .any(|a| a.query_type() == q.query_type() && a.name().eq_ignore_root_case(q.name()))
    }) {
        return Err(garbled("a DNS answer to another question".into()));
    }
    Ok(message)
}

/// A DNS request as a flow's whole purpose; passes [`Stage::Request`] with a record of the type
/// asked for.
pub(crate) async fn request(
    peer: SocketAddr,
    transport: Transport,
    question: &Question,
    limits: (Duration, Duration),
    trace: &mut Trace,
    open: &mut Option<super::Open>,
) -> Result<(), Cancel> {
    let began = Instant::now();
    let (connect, request) = limits;
    let asked = match transport {
        Transport::Udp => ask_udp(peer, question, connect, trace).await,
        Transport::Tcp => {
            let mut stream = tcp::connect(peer, connect, trace).await?;
            let asked = ask_tcp(&mut stream, question, Instant::now() + request, trace).await;
            *open = Some(super::Open::Plain(stream));
            asked
        }
    };
    trace.seen.dns = Some(Box::new(facts(peer, question, asked.as_ref().ok())));
    let message = asked?;
    if question.is_answered_by(&message) {
        trace.pass(Stage::Request, began);
        Ok(())
    } else {
        Err(Cancel::stop(
            Stage::Request,
            How::Rcode {
                code: rcode(&message),
            },
        ))
    }
}

/// The response code as on the wire.
pub(crate) fn rcode(message: &Message) -> u16 {
    message.metadata.response_code.into()
}

/// What is told of an exchange.
pub(crate) fn facts(
    server: SocketAddr,
    question: &Question,
    message: Option<&Message>,
) -> DnsFacts {
    let mut records: Vec<String> = message
        .iter()
        .flat_map(|message| &message.answers)
        .take(MAX_RECORDS)
        .map(|r| {
            printable(
                &format!("{} {} {}", r.name, r.record_type(), r.data),
                MAX_RECORD,
            )
        })
        .collect();
    records.sort_unstable();
    DnsFacts {
        server: Some(server),
        name: question.name(),
        rcode: message.map(rcode),
        records,
    }
}
