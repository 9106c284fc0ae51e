//! Transports as Kubernetes has them, and as probes use them.

use crate::model::Transport;
use crate::wire;

/// The transport that a probe uses; `None` for SCTP, which cannot be probed.
pub fn wire_transport(transport: Transport) -> Option<wire::Transport> {
    match transport {
        Transport::Tcp => Some(wire::Transport::Tcp),
        Transport::Udp => Some(wire::Transport::Udp),
        Transport::Sctp => None,
    }
}

/// The transport in terms of Kubernetes.
pub fn model_transport(transport: wire::Transport) -> Transport {
    match transport {
        wire::Transport::Tcp => Transport::Tcp,
        wire::Transport::Udp => Transport::Udp,
    }
}
