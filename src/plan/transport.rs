//! Transports as Kubernetes has them, and as packets are sent.

use crate::model::Transport;
use crate::wire;

/// The transport on the wire; SCTP cannot be probed.
pub fn on_the_wire(transport: Transport) -> Option<wire::Transport> {
    match transport {
        Transport::Tcp => Some(wire::Transport::Tcp),
        Transport::Udp => Some(wire::Transport::Udp),
        Transport::Sctp => None,
    }
}

/// The transport that was probed.
pub fn off_the_wire(transport: wire::Transport) -> Transport {
    match transport {
        wire::Transport::Tcp => Transport::Tcp,
        wire::Transport::Udp => Transport::Udp,
    }
}
