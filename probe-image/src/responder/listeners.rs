//! The listeners by group, each a task that owns its connections.

use super::commands::PreparedCommand;
use super::connection::{Listener, accept};
use super::control::{Listen, Reply};
use super::datagram;
use super::sockets::{BoundSocket, failed};
use crate::wire::Transport;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Names and their addresses, from which DNS listeners answer.
#[derive(Clone, Default)]
pub(crate) struct Zone(Arc<RwLock<BTreeMap<String, Vec<IpAddr>>>>);

impl Zone {
    /// The addresses of a lower-case name without trailing dot; `None` where it does not exist.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Adds names or replaces them; an empty list removes a name.
    fn update(&self, records: BTreeMap<String, Vec<IpAddr>>) {
        let mut zone = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (name, addresses) in records {
            if addresses.is_empty() {
                zone.remove(&name);
            } else {
                zone.insert(name, addresses);
            }
        }
    }
}

/// A listener's task. It ends, with its connections, when `close` is dropped.
struct RunningListener {
    transport: Transport,
    port: u16,
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// All listeners of the responder.
#[derive(Default)]
pub(crate) struct Listeners {
    groups: HashMap<u32, Vec<RunningListener>>,
    zone: Zone,
}

impl Listeners {
    /// Executes a command; when this returns, its sockets are served, or closed.
    pub(crate) async fn execute(&mut self, command: PreparedCommand) -> Reply {
        match command {
            PreparedCommand::Serve {
                group,
                name,
                sockets,
            } => self.serve(group, &name, sockets),
            PreparedCommand::Close { group, port } => {
                self.close(group, port).await;
                Reply::Done
            }
            PreparedCommand::Zone(records) => {
                self.zone.update(records);
                Reply::Done
            }
        }
    }

    /// Serves all of these sockets, or none.
    fn serve(&mut self, group: u32, name: &str, sockets: Vec<(BoundSocket, Listen)>) -> Reply {
        let started: Result<Vec<RunningListener>, Reply> = sockets
            .into_iter()
            .map(|(socket, listen)| start(socket, &listen, name, &self.zone))
            .collect();
        match started {
            Ok(started) => {
                self.groups.entry(group).or_default().extend(started);
                Reply::Done
            }
            Err(failed) => failed,
        }
    }

    async fn close(&mut self, group: u32, port: Option<(Transport, u16)>) {
        let Some(listeners) = self.groups.get_mut(&group) else {
            return;
        };
        let closing: Vec<RunningListener> = listeners
            .extract_if(.., |listener| {
                port.is_none_or(|port| port == (listener.transport, listener.port))
            })
            .collect();
        if listeners.is_empty() {
            self.groups.remove(&group);
        }

        for RunningListener { close, task, .. } in closing {
            drop(close);
            // A task that panicked has closed its sockets as well.
            drop(task.await);
        }
    }
}

/// Registers a socket with the runtime and starts its listener.
fn start(
    socket: BoundSocket,
    listen: &Listen,
    name: &str,
    zone: &Zone,
) -> Result<RunningListener, Reply> {
    let address = listen.address;
    let listener = Arc::new(Listener::new(name, listen, zone.clone())?);
    let (close, closed) = oneshot::channel();
    let task = spawn(socket, listener, closed)
        .map_err(|e| failed(format!("serving {address}: {e}"), &e))?;
    Ok(RunningListener {
        transport: listen.transport,
        port: address.port(),
        close,
        task,
    })
}

/// Registers a socket with the runtime and serves it in a task until `closed`.
pub(crate) fn spawn(
    socket: BoundSocket,
    listener: Arc<Listener>,
    closed: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    Ok(match socket {
        BoundSocket::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            tokio::spawn(accept(socket, listener, closed))
        }
        BoundSocket::Udp(socket) => {
            let socket = UdpSocket::from_std(socket)?;
            tokio::spawn(datagram::serve(socket, listener, closed))
        }
    })
}
