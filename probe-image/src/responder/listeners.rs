//! What is being served: groups of listeners, each a task that owns its connections.

use super::commands::Order;
use super::connection::{Listener, accept};
use super::control::{Listen, Reply};
use super::datagram;
use super::sockets::{Opened, failed};
use crate::wire::Transport;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Names and their addresses, as DNS listeners answer.
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

    fn replace(&self, records: BTreeMap<String, Vec<IpAddr>>) {
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
struct Served {
    transport: Transport,
    port: u16,
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Everything that is served.
#[derive(Default)]
pub(crate) struct Listeners {
    groups: HashMap<u32, Vec<Served>>,
    zone: Zone,
}

impl Listeners {
    /// Carries out one order; when this returns, the sockets are served, or closed.
    pub(crate) async fn carry_out(&mut self, order: Order) -> Reply {
        match order {
            Order::Serve {
                group,
                who,
                sockets,
            } => self.serve(group, &who, sockets),
            Order::Close { group, port } => {
                self.close(group, port).await;
                Reply::Done
            }
            Order::Zone(records) => {
                self.zone.replace(records);
                Reply::Done
            }
        }
    }

    fn serve(&mut self, group: u32, who: &str, sockets: Vec<(Opened, Listen)>) -> Reply {
        // All or nothing: the tasks start when every socket is the runtime's.
        let served: Result<Vec<Served>, Reply> = sockets
            .into_iter()
            .map(|(opened, listen)| {
                let address = listen.address;
                let failed = |e: &io::Error| failed(format!("serving {address}: {e}"), e);
                let listener = Arc::new(Listener::new(who, &listen, self.zone.clone())?);
                let (close, closed) = oneshot::channel();
                let task = match opened {
                    Opened::Tcp(socket) => {
                        let socket =
                            tokio::net::TcpListener::from_std(socket).map_err(|e| failed(&e))?;
                        tokio::spawn(accept(socket, listener, closed))
                    }
                    Opened::Udp(socket) => {
                        let socket =
                            tokio::net::UdpSocket::from_std(socket).map_err(|e| failed(&e))?;
                        tokio::spawn(datagram::serve(socket, listener, closed))
                    }
                };
                Ok(Served {
                    transport: listen.transport,
                    port: address.port(),
                    close,
                    task,
                })
            })
            .collect();
        match served {
            Ok(served) => {
                self.groups.entry(group).or_default().extend(served);
                Reply::Done
            }
            Err(failed) => failed,
        }
    }

    async fn close(&mut self, group: u32, port: Option<(Transport, u16)>) {
        let Some(served) = self.groups.get_mut(&group) else {
            return;
        };
        let closing: Vec<Served> = served
            .extract_if(.., |one| {
                port.is_none_or(|port| port == (one.transport, one.port))
            })
            .collect();
        if served.is_empty() {
            self.groups.remove(&group);
        }
        for Served { close, task, .. } in closing {
            drop(close);
            // A task that panicked has closed its sockets as well.
            drop(task.await);
        }
    }
}
