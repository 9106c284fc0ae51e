//! What the lab tells its responder: one JSON message a packet of a `SOCK_SEQPACKET` socket, one
//! reply each.

use crate::wire::Transport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// An order to the responder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Listen in the network namespace whose descriptor comes with the message (`SCM_RIGHTS`).
    ///
    /// A second `Serve` of the same group adds sockets to it.
    Serve {
        /// The caller's number for a set of sockets: a pod, a node, an outside host.
        group: u32,
        /// Who to say we are.
        who: String,
        /// The sockets.
        listen: Vec<Listen>,
    },
    /// Close listeners and their connections.
    Close {
        /// The group.
        group: u32,
        /// One port of it; all where `None`.
        port: Option<(Transport, u16)>,
    },
    /// Add names to the zone that DNS listeners answer from, or replace them; an empty list removes
    /// the name.
    Zone {
        /// Fully qualified lower-case names without trailing dot, with their addresses.
        records: BTreeMap<String, Vec<IpAddr>>,
    },
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
    /// What it does.
    pub behaviour: Behaviour,
    /// For TLS; without one a `ClientHello` is answered by closing.
    pub certificate: Option<Certificate>,
}

/// What a listener does with a connection or a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answer by the first bytes: TLS, HTTP, else echo with the nonce and who it is.
    Answer,
    /// Answer DNS queries from the zone: NXDOMAIN for other names.
    Dns,
    /// Accept and never answer.
    Mute,
    /// Accept and close.
    HangUp,
    /// Answer without end.
    Flood,
    /// Answer a byte a second.
    Drip,
    /// Redirect every HTTP request to itself.
    Redirect,
    /// Answer with these bytes, hexadecimal.
    Raw(String),
    /// Answer HTTP with this status and body; `server` header as given.
    Status(u16, String, String),
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Leaf first.
    pub chain: String,
    /// PKCS #8.
    pub key: String,
}

/// The responder's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Carried out: the sockets are bound (or closed) now.
    Done,
    /// Not carried out.
    Failed {
        /// What was being done.
        what: String,
        /// Linux errno, 0 where none applies.
        errno: i32,
    },
}
