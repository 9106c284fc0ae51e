//! The control socket: orders come in, sockets are opened where they belong, replies go out.

use super::control::{Command, Listen, Reply};
use super::sockets::{Home, Opened};
use crate::descriptors::adopt;
use crate::wire::Transport;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, send};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc::UnboundedSender;

/// The longest command. The sender's `SO_SNDBUF` (by default 208 KiB) is reached first.
const MAX_COMMAND: usize = 1024 * 1024;

/// What is left of a command once its sockets are open.
pub(crate) enum Order {
    /// Serve these.
    Serve {
        /// Theirs.
        group: u32,
        /// Who to say we are.
        who: String,
        /// Open sockets.
        sockets: Vec<(Opened, Listen)>,
    },
    /// As [`Command::Close`].
    Close {
        /// Of these.
        group: u32,
        /// One of them, or all.
        port: Option<(Transport, u16)>,
    },
    /// As [`Command::Zone`].
    Zone(BTreeMap<String, Vec<IpAddr>>),
}

/// An order, and where its reply goes.
pub(crate) type WithReply = (Order, Sender<Reply>);

/// Takes orders until the control socket closes.
pub(crate) fn take(orders: &UnboundedSender<WithReply>) {
    let control = std::io::stdin();
    let mut buffer = vec![0_u8; MAX_COMMAND];
    let home = Home::of_this_thread();
    loop {
        let Ok(Some((message, netns))) = receive(control.as_raw_fd(), &mut buffer) else {
            return;
        };
        let reply = match order(&message, netns.as_ref(), &home) {
            Err(failed) => failed,
            Ok(order) => {
                let (done, wait) = channel();
                if orders.send((order, done)).is_err() {
                    return;
                }
                let Ok(reply) = wait.recv() else { return };
                reply
            }
        };
        let reply = serde_json::to_vec(&reply).unwrap_or_default();
        if send(control.as_raw_fd(), &reply, MsgFlags::MSG_NOSIGNAL).is_err() {
            return;
        }
    }
}

/// The text of a command, or why it could not be read, and the descriptor that came with it.
type Message = (Result<Vec<u8>, Reply>, Option<OwnedFd>);

/// A message; `None` at the end.
fn receive(socket: RawFd, buffer: &mut [u8]) -> nix::Result<Option<Message>> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut ancillary = nix::cmsg_space!([RawFd; 4]);
    let message = loop {
        match recvmsg::<SockaddrStorage>(
            socket,
            &mut parts,
            Some(&mut ancillary),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(rights) = part {
            descriptors.extend(rights.into_iter().map(adopt));
        }
    }
    if message.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let (bytes, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    let text = if cut {
        Err(Reply::Failed {
            what: format!("reading a command of more than {MAX_COMMAND} bytes"),
            errno: 0,
        })
    } else {
        Ok(buffer[..bytes].to_vec())
    };
    Ok(Some((text, descriptors.into_iter().next())))
}

fn order(
    message: &Result<Vec<u8>, Reply>,
    netns: Option<&OwnedFd>,
    home: &Home,
) -> Result<Order, Reply> {
    let text = message.as_ref().map_err(Clone::clone)?;
    let command = serde_json::from_slice(text).map_err(|error| Reply::Failed {
        what: format!("reading a command: {error}"),
        errno: 0,
    })?;
    Ok(match command {
        Command::Serve { group, who, listen } => {
            let opened = home.visit(netns, || {
                listen
                    .into_iter()
                    .map(|listen| Ok((Opened::new(&listen)?, listen)))
                    .collect()
            });
            Order::Serve {
                group,
                who,
                sockets: opened?,
            }
        }
        Command::Close { group, port } => Order::Close { group, port },
        Command::Zone { records } => Order::Zone(records),
    })
}
