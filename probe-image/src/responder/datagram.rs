//! A UDP listener.

use super::connection::{Does, Listener, echo};
use super::dns;
use crate::probe::MAGIC;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Datagrams that one question to a flooding or dripping listener brings.
const MANY: usize = 1_000;

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
        // An error here is one that an earlier answer met (ICMP): the next datagram is another
        // matter.
        let Ok((length, from)) = received else {
            continue;
        };
        listener.visited.notify_one();
        let answers = tokio::select! {
            _ = &mut closed => return,
            answers = answer(&socket, &buffer[..length], from, &listener) => answers,
        };
        // A client that cannot be reached asks in vain.
        drop(answers);
    }
}

async fn answer(
    socket: &UdpSocket,
    question: &[u8],
    from: std::net::SocketAddr,
    listener: &Listener,
) -> std::io::Result<()> {
    match &listener.behaviour {
        Does::Mute | Does::HangUp | Does::Redirect | Does::Status { .. } => {}
        Does::Raw(bytes) => drop(socket.send_to(bytes, from).await?),
        Does::Flood => {
            for _ in 0..MANY {
                socket.send_to(&[b'A'; 1024], from).await?;
            }
        }
        Does::Drip => {
            for _ in 0..10 {
                socket.send_to(b"A", from).await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Does::Dns => {
            if let Some(answer) = dns::answer_udp(question, &listener.zone) {
                socket.send_to(&answer, from).await?;
            }
        }
        Does::Answer if is_answer(question) => {}
        Does::Answer => {
            let answer = dns::answer_udp(question, &listener.zone);
            let answer = answer.unwrap_or_else(|| echo(question, &listener.who));
            socket.send_to(&answer, from).await?;
        }
    }
    Ok(())
}

/// Whether a datagram is itself an answer. Answering those would let one forged datagram set two
/// responders talking to each other for ever.
fn is_answer(datagram: &[u8]) -> bool {
    let line = datagram.split(|&b| b == b'\n').next().unwrap_or_default();
    line.starts_with(MAGIC.as_bytes()) && line.split(|&b| b == b' ').nth(2).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_not_answered() {
        assert!(is_answer(&echo(b"anything", "web")));
        assert!(is_answer(&echo(b"watertight/1 ab\n", "web")));
        assert!(!is_answer(b"watertight/1 ab\n"));
        assert!(!is_answer(b"hello there you"));
    }
}
