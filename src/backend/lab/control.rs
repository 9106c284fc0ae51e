//! The control port: what proves that a pod's own network works, when nothing else may reach it.

use super::CONTROL_PORT;
use super::table_builder::Draft;
use nlink::netlink::nftables::types::{BaseChain, FilterHook, IcmpxCode, Priority};

/// Adds the rules that keep the control port to a pod's own node.
///
/// They come after the policies: a packet that a policy drops stays dropped, and what a policy lets
/// through is answered as if nobody listened. The node's own packets are not forwarded and so pass.
///
/// # Errors
/// A name that the kernel does not take; it is none.
pub(super) fn keep_to_the_node(draft: &mut Draft) -> nlink::Result<()> {
    draft.base(
        "control",
        BaseChain::filter(FilterHook::Forward, Priority::Custom(100)),
    )?;
    draft.rule("control", |rule| {
        rule.match_tcp_dport(CONTROL_PORT).reject_tcp_reset()
    });
    draft.rule("control", |rule| {
        rule.match_udp_dport(CONTROL_PORT)
            .reject_icmpx(IcmpxCode::PortUnreachable)
    });
    Ok(())
}
