//! The control socket: reads commands, binds sockets in their network namespaces, sends replies.

use super::control::{Command, Listen, Reply};
use super::sockets::{BoundSocket, HomeNamespace};
use crate::descriptors::adopt;
use crate::wire::Transport;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, send};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc::UnboundedSender;

/// Maximum bytes of a command. The sender's `SO_SNDBUF` (by default 208 KiB) is reached first.
const MAX_COMMAND: usize = 1024 * 1024;

/// A command whose sockets are bound.
pub(crate) enum PreparedCommand {
    /// As [`Command::Serve`].
    Serve {
        group: u32,
        /// Name of the responder in its answers.
        name: String,
        sockets: Vec<(BoundSocket, Listen)>,
    },
    /// As [`Command::Close`].
    Close {
        group: u32,
        port: Option<(Transport, u16)>,
    },
    /// As [`Command::Zone`].
    Zone(BTreeMap<String, Vec<IpAddr>>),
}

/// A command, and the channel for its reply.
pub(crate) type PendingCommand = (PreparedCommand, Sender<Reply>);

/// Reads commands and replies to them until the control socket closes.
pub(crate) fn serve_control_socket(commands: &UnboundedSender<PendingCommand>) {
    let control = std::io::stdin();
    let mut buffer = vec![0_u8; MAX_COMMAND];
    let home = HomeNamespace::of_this_thread();
    while let Ok(Some(message)) = receive(control.as_raw_fd(), &mut buffer) {
        let reply = match prepare(message, &home) {
            Err(failed) => failed,
            Ok(command) => match execute(command, commands) {
                Some(reply) => reply,
                None => return,
            },
        };
        let reply = serde_json::to_vec(&reply).unwrap_or_default();
        if send(control.as_raw_fd(), &reply, MsgFlags::MSG_NOSIGNAL).is_err() {
            return;
        }
    }
}

/// Has the runtime execute a command; `None` if the runtime has ended.
fn execute(command: PreparedCommand, commands: &UnboundedSender<PendingCommand>) -> Option<Reply> {
    let (sender, reply) = channel();
    commands.send((command, sender)).ok()?;
    reply.recv().ok()
}

/// A message of the control socket.
struct Message {
    /// The command's text, or why it could not be read.
    text: Result<Vec<u8>, Reply>,
    /// The network namespace that came with it.
    netns: Option<OwnedFd>,
}

/// Receives a message; `None` when the socket is closed.
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

    let length = message.bytes;
    let is_truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
    let text = if is_truncated {
        Err(Reply::Failed {
            what: format!("reading a command of more than {MAX_COMMAND} bytes"),
            errno: 0,
        })
    } else {
        Ok(buffer[..length].to_vec())
    };
    Ok(Some(Message {
        text,
        netns: descriptors.into_iter().next(),
    }))
}

/// Parses a command and binds its sockets.
fn prepare(message: Message, home: &HomeNamespace) -> Result<PreparedCommand, Reply> {
    let text = message.text?;
    let command = serde_json::from_slice(&text).map_err(|error| Reply::Failed {
        what: format!("reading a command: {error}"),
        errno: 0,
    })?;
    Ok(match command {
        Command::Serve { group, who, listen } => PreparedCommand::Serve {
            group,
            name: who,
            sockets: home.run_in(message.netns.as_ref(), || bind_all(listen))?,
        },
        Command::Close { group, port } => PreparedCommand::Close { group, port },
        Command::Zone { records } => PreparedCommand::Zone(records),
    })
}

fn bind_all(listen: Vec<Listen>) -> Result<Vec<(BoundSocket, Listen)>, Reply> {
    listen
        .into_iter()
        .map(|listen| Ok((BoundSocket::new(&listen)?, listen)))
        .collect()
}
