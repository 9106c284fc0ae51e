//! What a probe answers by itself, in its own network: the sign that this network is alive.

use super::connection::{Listener, accept};
use super::control::{Behaviour, Listen};
use super::datagram;
use super::listeners::Zone;
use super::sockets::Opened;
use crate::wire::{IdleTimeout, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// Keeps listeners open until it is dropped.
pub(crate) struct Serving {
    visited: Arc<Notify>,
    #[expect(dead_code, reason = "held for its drop")]
    open: Vec<oneshot::Sender<()>>,
}

impl Serving {
    /// Returns once nobody has come for so long.
    pub(crate) async fn abandoned(&self, alone: IdleTimeout) {
        let mut most = Duration::from_millis(alone.first_ms.into());
        while timeout(most, self.visited.notified()).await.is_ok() {
            most = Duration::from_millis(alone.then_ms.into());
        }
    }
}

/// Answers on a port of each of these addresses, over TCP and UDP, beside probes of other runs in
/// the same network. Where that is not possible, nobody is answered, which proves nothing. To be
/// called inside of the runtime.
pub(crate) fn serve(addresses: &[IpAddr], port: u16, run: &str) -> Serving {
    let visited = Arc::new(Notify::new());
    let mut open = Vec::new();
    for address in addresses.iter().filter(|address| !is_link_local(**address)) {
        for transport in [Transport::Tcp, Transport::Udp] {
            open.extend(listen(
                SocketAddr::new(*address, port),
                transport,
                run,
                &visited,
            ));
        }
    }
    Serving { visited, open }
}

fn listen(
    address: SocketAddr,
    transport: Transport,
    run: &str,
    visited: &Arc<Notify>,
) -> Option<oneshot::Sender<()>> {
    let listen = Listen {
        address,
        transport,
        behaviour: Behaviour::Answer,
        certificate: None,
    };
    let mut listener =
        Listener::new(&format!("a probe of run {run}"), &listen, Zone::default()).ok()?;
    listener.visited = Arc::clone(visited);
    let listener = Arc::new(listener);
    let (close, closed) = oneshot::channel();
    match Opened::beside_others(&listen).ok()? {
        Opened::Tcp(socket) => {
            let socket = tokio::net::TcpListener::from_std(socket).ok()?;
            tokio::spawn(accept(socket, listener, closed));
        }
        Opened::Udp(socket) => {
            let socket = tokio::net::UdpSocket::from_std(socket).ok()?;
            tokio::spawn(datagram::serve(socket, listener, closed));
        }
    }
    Some(close)
}

/// Addresses that need an interface beside them (RFC 4291 section 2.5.6); nobody dials them.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::MAGIC;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UdpSocket};

    #[tokio::test]
    async fn a_probe_answers_on_its_own_addresses_until_it_ends() {
        let address: IpAddr = [127, 0, 0, 1].into();
        let port = std::net::TcpListener::bind((address, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let serving = serve(&[address, "fe80::1".parse().unwrap()], port, "r");
        let question = format!("{MAGIC} ab12\n");
        let expected = format!("{MAGIC} ab12 a probe of run r\n");

        let mut stream = TcpStream::connect((address, port)).await.unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected);

        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        socket
            .send_to(question.as_bytes(), (address, port))
            .await
            .unwrap();
        let mut answer = [0; 100];
        let (length, _) = socket.recv_from(&mut answer).await.unwrap();
        assert_eq!(&answer[..length], expected.as_bytes());

        drop((serving, stream));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(TcpStream::connect((address, port)).await.is_err());
    }

    #[tokio::test]
    async fn it_is_abandoned_once_those_who_came_stay_away() {
        let address: IpAddr = [127, 0, 0, 1].into();
        let port = std::net::TcpListener::bind((address, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let serving = serve(&[address], port, "r");
        let of_another_run = serve(&[address], port, "s");
        let after = Duration::from_millis(300);
        let alone = IdleTimeout {
            first_ms: 1_000,
            then_ms: 300,
        };
        assert!(
            timeout(2 * after, serving.abandoned(alone)).await.is_err(),
            "somebody may still come"
        );
        assert!(
            timeout(5 * after, serving.abandoned(alone)).await.is_ok(),
            "nobody came"
        );
        drop(of_another_run);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let visits = async {
            for _ in 0..6 {
                TcpStream::connect((address, port)).await.unwrap();
                tokio::time::sleep(after / 3).await;
            }
        };
        let abandoned = serving.abandoned(alone);
        tokio::pin!(abandoned);
        tokio::select! {
            () = &mut abandoned => panic!("somebody still comes"),
            () = visits => {}
        }
        assert!(timeout(3 * after, abandoned).await.is_ok());
    }
}
