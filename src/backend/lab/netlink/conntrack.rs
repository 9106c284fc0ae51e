//! The kernel's table of connections (`linux/netfilter/nfnetlink_conntrack.h`).

use super::error::Error;
use super::message::{Attributes, Message};
use super::socket::Socket;
use super::uapi::{IPCTNL_MSG_CT_DELETE, NFNL_SUBSYS_CTNETLINK};
use nix::sys::socket::SockProtocol;

/// `struct nfgenmsg` without a family: all of them.
const ALL_FAMILIES: [u8; 4] = [0; 4];

/// Makes the calling thread's namespace forget all connections: their next packets are judged as
/// those of new ones (`nf_conntrack_tcp_loose`).
///
/// # Errors
/// The kernel's refusal, or a socket that fails.
pub(in super::super) fn forget_connections() -> Result<(), Error> {
    let delete = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let message = Message::new(delete, 0, &ALL_FAMILIES, &Attributes::new());
    Socket::open(SockProtocol::NetlinkNetFilter)?.request(&message)
}
