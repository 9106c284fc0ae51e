//! A UDP listener.

use super::connection::{Listener, ParsedBehaviour, answer_to};
use super::dns;
use crate::probe::MAGIC;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Number of datagrams with which a flooding listener answers a question.
const FLOOD: usize = 1_000;

/// Number of datagrams, one a second, with which a dripping listener answers a question.
const DRIP: usize = 10;

/// Answers datagrams until `closed`.
pub(crate) async fn serve(
    socket: UdpSocket,
    listener: Arc<Listener>,
    mut closed: oneshot::Receiver<()>,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let received = tokio::select! {
            _ = &mut closed => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is the ICMP error of an earlier answer; the socket still works.
        let Ok((length, from)) = received else {
            continue;
        };
        listener.activity.notify_one();
        let answered = tokio::select! {
            _ = &mut closed => return,
            answered = answer(&socket, &buffer[..length], from, &listener) => answered,
        };
        // The client cannot be reached: nothing is left to do for it.
        drop(answered);
    }
}

/// Answers one datagram.
async fn answer(
    socket: &UdpSocket,
    question: &[u8],
    from: std::net::SocketAddr,
    listener: &Listener,
) -> std::io::Result<()> {
    match &listener.behaviour {
        ParsedBehaviour::Mute
        | ParsedBehaviour::HangUp
        | ParsedBehaviour::Redirect
        | ParsedBehaviour::Status { .. } => {}
        ParsedBehaviour::Raw(bytes) => drop(socket.send_to(bytes, from).await?),
        ParsedBehaviour::Flood => {
            for _ in 0..FLOOD {
                socket.send_to(&[b'A'; 1024], from).await?;
            }
        }
        ParsedBehaviour::Drip => {
            for _ in 0..DRIP {
                socket.send_to(b"A", from).await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        ParsedBehaviour::Dns => {
            if let Some(answer) = dns::answer_udp(question, &listener.zone) {
                socket.send_to(&answer, from).await?;
            }
        }
        ParsedBehaviour::Answer if is_answer(question) => {}
        ParsedBehaviour::Answer => {
            let answer = dns::answer_udp(question, &listener.zone);
            let answer = answer.unwrap_or_else(|| answer_to(question, &listener.name));
            socket.send_to(&answer, from).await?;
        }
    }
    Ok(())
}

/// Whether a datagram is itself an answer. Answering it would let one forged datagram start an
/// endless exchange between two responders.
fn is_answer(datagram: &[u8]) -> bool {
    let line = datagram.split(|&b| b == b'\n').next().unwrap_or_default();
    line.starts_with(MAGIC.as_bytes()) && line.split(|&b| b == b' ').nth(2).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_distinguished_from_questions() {
        assert!(is_answer(&answer_to(b"anything", "web")));
        assert!(is_answer(&answer_to(b"watertight/1 ab\n", "web")));
        assert!(!is_answer(b"watertight/1 ab\n"));
        assert!(!is_answer(b"hello there you"));
    }
}
