//! The listener of a probe: it answers in the probe's own network namespace, which shows that this
//! network is up.

use super::connection::Listener;
use super::control::{Behaviour, Listen};
use super::listeners::{Zone, spawn};
use super::sockets::BoundSocket;
use crate::wire::{IdleTimeout, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// A probe's listener, which is closed when this is dropped.
pub(crate) struct ProbeListener {
    activity: Arc<Notify>,
    #[expect(dead_code, reason = "held for its drop")]
    sockets: Vec<oneshot::Sender<()>>,
}

impl ProbeListener {
    /// Returns once no connection or datagram has come for the timeout.
    pub(crate) async fn wait_until_idle(&self, idle: IdleTimeout) {
        let mut limit = Duration::from_millis(idle.first_ms.into());
        while timeout(limit, self.activity.notified()).await.is_ok() {
            limit = Duration::from_millis(idle.next_ms.into());
        }
    }
}

/// Answers on one port of each address over TCP and UDP, shared with probes of other runs in the
/// same network namespace. To be called within a runtime.
///
/// A socket that cannot be bound is left out: without an answer there, a control proves nothing.
pub(crate) fn serve(addresses: &[IpAddr], port: u16, run: &str) -> ProbeListener {
    let activity = Arc::new(Notify::new());
    let mut sockets = Vec::new();
    for address in addresses.iter().filter(|address| !is_link_local(**address)) {
        for transport in [Transport::Tcp, Transport::Udp] {
            let address = SocketAddr::new(*address, port);
            sockets.extend(listen(address, transport, run, &activity));
        }
    }
    ProbeListener { activity, sockets }
}

/// Listens on one address until the returned sender is dropped; `None` if that is not possible.
fn listen(
    address: SocketAddr,
    transport: Transport,
    run: &str,
    activity: &Arc<Notify>,
) -> Option<oneshot::Sender<()>> {
    let listen = Listen {
        address,
        transport,
        behaviour: Behaviour::Answer,
        certificate: None,
    };
    let name = format!("a probe of run {run}");
    let mut listener = Listener::new(&name, &listen, Zone::default()).ok()?;
    listener.activity = Arc::clone(activity);

    let (close, closed) = oneshot::channel();
    let socket = BoundSocket::shared(&listen).ok()?;
    spawn(socket, Arc::new(listener), closed).ok()?;
    Some(close)
}

/// Whether an address is link-local (RFC 4291 §2.5.6): it needs an interface with it, and no flow
/// has it as its target.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::MAGIC;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UdpSocket};

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn free_port() -> u16 {
        let socket = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
        socket.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn probe_answers_on_its_addresses_until_it_ends() {
        let port = free_port();
        let listener = serve(&[LOCALHOST, "fe80::1".parse().unwrap()], port, "r");
        let question = format!("{MAGIC} ab12\n");
        let expected = format!("{MAGIC} ab12 a probe of run r\n");

        let mut stream = TcpStream::connect((LOCALHOST, port)).await.unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected);

        let socket = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
        socket
            .send_to(question.as_bytes(), (LOCALHOST, port))
            .await
            .unwrap();
        let mut answer = [0; 100];
        let (length, _) = socket.recv_from(&mut answer).await.unwrap();
        assert_eq!(&answer[..length], expected.as_bytes());

        drop((listener, stream));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect((LOCALHOST, port)).await.is_err());
    }

    #[tokio::test]
    async fn idle_timeout_ends_after_the_last_connection() {
        const NEXT: Duration = Duration::from_millis(300);
        let port = free_port();
        let listener = serve(&[LOCALHOST], port, "r");
        let of_another_run = serve(&[LOCALHOST], port, "s");
        let idle = IdleTimeout {
            first_ms: 1_000,
            next_ms: 300,
        };
        assert!(
            timeout(2 * NEXT, listener.wait_until_idle(idle))
                .await
                .is_err(),
            "the first connection may still come"
        );
        assert!(
            timeout(5 * NEXT, listener.wait_until_idle(idle))
                .await
                .is_ok(),
            "no connection came"
        );

        drop(of_another_run);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let connections = async {
            for _ in 0..6 {
                TcpStream::connect((LOCALHOST, port)).await.unwrap();
                tokio::time::sleep(NEXT / 3).await;
            }
        };
        let idle = listener.wait_until_idle(idle);
        tokio::pin!(idle);
        tokio::select! {
            () = &mut idle => panic!("connections still come"),
            () = connections => {}
        }
        assert!(timeout(3 * NEXT, idle).await.is_ok());
    }
}
