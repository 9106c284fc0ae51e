//! DNS from the zone: NXDOMAIN for names that are not in it, NOERROR without records for other
//! types.

use super::listeners::Zone;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A zone may change with every order; nobody shall keep its records.
const TTL: u32 = 0;

/// The longest answer over UDP without EDNS (RFC 1035 §4.2.1).
const MAX_UDP: usize = 512;

/// The answer to a query; `None` for what is no query.
pub(crate) fn answer(bytes: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    let [question] = &query.queries[..] else {
        return None;
    };
    if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query
    {
        return None;
    }
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_query(question.clone());
    let name = question
        .name()
        .to_ascii()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    match zone
        .get(&name)
        .filter(|_| question.query_class() == DNSClass::IN)
    {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            let asked = question.query_type();
            for data in addresses.into_iter().map(|address| match address {
                IpAddr::V4(v4) => RData::A(v4.into()),
                IpAddr::V6(v6) => RData::AAAA(v6.into()),
            }) {
                if asked == data.record_type() || asked == RecordType::ANY {
                    response.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
                }
            }
        }
    }
    response.to_vec().ok()
}

/// As [`answer`], cut to what UDP carries: the client asks again over TCP.
pub(crate) fn answer_udp(bytes: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let whole = answer(bytes, zone)?;
    if whole.len() <= MAX_UDP {
        return Some(whole);
    }
    let mut cut = Message::from_vec(&whole).ok()?;
    cut.answers.clear();
    cut.metadata.truncation = true;
    cut.to_vec().ok()
}

/// Answers queries over one connection until it ends, or says something else.
pub(crate) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    zone: &Zone,
) -> io::Result<()> {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let Some(answer) = answer(&query, zone) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Ok(());
        };
        stream
            .write_all(&[&length.to_be_bytes()[..], &answer].concat())
            .await?;
    }
    Ok(())
}
