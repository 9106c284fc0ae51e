//! The control port: what proves that a pod's own network works, when nothing else may reach it.

use super::CONTROL_PORT;
use super::nat::protocol;
use super::netlink::{BaseChain, Hook, Load, Reject, Rule};
use super::table_builder::Draft;
use crate::wire::Transport;

/// Adds the rules that keep the control port to a pod's own node.
///
/// They come after the policies: a packet that a policy drops stays dropped, and what a policy lets
/// through is answered as if nothing listened. The node's own packets are not forwarded and so
/// pass.
pub(super) fn keep_to_the_node(draft: &mut Draft) {
    draft.base_chain("control", BaseChain::filter(Hook::Forward, 100));
    for (transport, reject) in [
        (Transport::Tcp, Reject::TcpReset),
        (Transport::Udp, Reject::PortUnreachable),
    ] {
        let rule = Rule::new()
            .protocol(protocol(transport))
            .equal(Load::DestinationPort, &CONTROL_PORT.to_be_bytes())
            .reject(reject);
        draft.rule("control", &rule);
    }
}
