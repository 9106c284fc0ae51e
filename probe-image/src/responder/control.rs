//! Commands of the lab to its responder, and their replies: one JSON message in each packet of a
//! `SOCK_SEQPACKET` socket.

use crate::wire::Transport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A command to the responder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Listen in the network namespace whose descriptor comes with the message (`SCM_RIGHTS`).
    ///
    /// A second `Serve` of the same group adds sockets to it.
    Serve {
        /// Number of a set of sockets, chosen by the caller: a pod, a node, an outside host.
        group: u32,
        /// Name of the responder in its answers.
        who: String,
        listen: Vec<Listen>,
    },
    /// Close listeners and their connections.
    Close {
        group: u32,
        /// One port of the group; `None` for all.
        port: Option<(Transport, u16)>,
    },
    /// Add names to the zone of the DNS listeners, or replace them; an empty list removes a name.
    Zone {
        /// Addresses by name: fully qualified, lower case, without trailing dot.
        records: BTreeMap<String, Vec<IpAddr>>,
    },
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    pub address: SocketAddr,
    pub transport: Transport,
    pub behaviour: Behaviour,
    /// Certificate for TLS; without one a `ClientHello` is answered by a close.
    pub certificate: Option<Certificate>,
}

/// What a listener does with connections and datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answer by the protocol of the first bytes: TLS, HTTP, else with the nonce and the name.
    Answer,
    /// Answer DNS queries from the zone, with NXDOMAIN for other names.
    Dns,
    /// Accept and never answer.
    Mute,
    /// Accept and close.
    HangUp,
    /// Answer without end.
    Flood,
    /// Answer with one byte a second.
    Drip,
    /// Redirect every HTTP request to itself.
    Redirect,
    /// Answer with these bytes, hexadecimal.
    Raw(String),
    /// Answer HTTP with this status, body and `server` header.
    Status(u16, String, String),
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Certificates, leaf first.
    pub chain: String,
    /// Private key in PKCS #8.
    pub key: String,
}

/// The reply to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The command is executed: its sockets are bound (or closed) now.
    Done,
    /// The command failed and changed nothing.
    Failed {
        /// What failed, and why.
        what: String,
        /// Linux errno; 0 if there is none.
        errno: i32,
    },
}
