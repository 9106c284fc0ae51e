//! DNS answers from the zone: NXDOMAIN for other names, NOERROR without records for other types.

use super::listeners::Zone;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Time to live of records, seconds. The zone may change with every command, so that no answer may
/// be cached.
const TTL: u32 = 0;

/// Maximum bytes of an answer over UDP without EDNS (RFC 1035 §4.2.1).
const MAX_UDP: usize = 512;

/// The answer to a query; `None` if the bytes are no query.
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
    let Some(addresses) = look_up(question, zone) else {
        response.metadata.response_code = ResponseCode::NXDomain;
        return response.to_vec().ok();
    };

    let asked = question.query_type();
    for address in addresses {
        let data = match address {
            IpAddr::V4(v4) => RData::A(v4.into()),
            IpAddr::V6(v6) => RData::AAAA(v6.into()),
        };
        if asked == data.record_type() || asked == RecordType::ANY {
            response.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        }
    }
    response.to_vec().ok()
}

/// The addresses of the name asked for; `None` if the zone does not have it.
fn look_up(question: &Query, zone: &Zone) -> Option<Vec<IpAddr>> {
    if question.query_class() != DNSClass::IN {
        return None;
    }
    let name = question.name().to_ascii();
    zone.get(&name.trim_end_matches('.').to_ascii_lowercase())
}

/// As [`answer`], truncated to the maximum over UDP: the client asks again over TCP.
pub(crate) fn answer_udp(bytes: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let whole = answer(bytes, zone)?;
    if whole.len() <= MAX_UDP {
        return Some(whole);
    }

    let mut truncated = Message::from_vec(&whole).ok()?;
    truncated.answers.clear();
    truncated.metadata.truncation = true;
    truncated.to_vec().ok()
}

/// Answers queries over one connection until it ends or sends something else.
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
