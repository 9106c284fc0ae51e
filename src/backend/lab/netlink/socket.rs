//! A netlink socket: requests, lists and batches, each with the kernel's answer.

use super::error::Error;
use super::message::{Message, Received, attribute, host32, messages, text};
use super::uapi::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
    NLMSGERR_ATTR_MSG, operation_name,
};
use nix::errno::Errno;
use nix::sys::socket::sockopt::SetBool;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::{libc, setsockopt_impl};
use std::os::fd::{AsRawFd, OwnedFd};

/// How long an answer is waited for, seconds. The kernel answers within the call of `send`, so
/// only a fault of the kernel takes as long.
const TIMEOUT_S: i64 = 30;

/// Attempts to list objects while others change them.
const DUMP_ATTEMPTS: usize = 10;

/// Bytes of the largest datagram that is read. The kernel fills lists into datagrams of at most 32
/// KiB (`netlink_recvmsg`, `net/netlink/af_netlink.c`); answers are smaller.
const DATAGRAM: usize = 65_536;

/// Bytes of `struct nlmsghdr`, which an error repeats from the request.
const HEADER: usize = 16;

/// Explanations beside error numbers.
#[derive(Clone, Copy)]
struct ExtendedAck;

/// Errors without the request's content.
#[derive(Clone, Copy)]
struct CappedAck;

setsockopt_impl!(
    ExtendedAck,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool,
    SetBool
);
setsockopt_impl!(
    CappedAck,
    libc::SOL_NETLINK,
    libc::NETLINK_CAP_ACK,
    bool,
    SetBool
);

/// A netlink socket of the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Socket {
    /// Opens a socket of a netlink protocol in the calling thread's namespace.
    ///
    /// # Errors
    /// The errno of the socket API: `EMFILE` for too many open files, `EPROTONOSUPPORT` for a
    /// protocol that the kernel was built without.
    pub(super) fn open(protocol: SockProtocol) -> Result<Self, Error> {
        let descriptor = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map_err(socket_failed("open"))?;
        // Port 0: the kernel chooses one.
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(socket_failed("bind"))?;

        setsockopt(&descriptor, ExtendedAck, &true).map_err(socket_failed("set up"))?;
        setsockopt(&descriptor, CappedAck, &true).map_err(socket_failed("set up"))?;
        let timeout = TimeVal::seconds(TIMEOUT_S);
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &timeout)
            .map_err(socket_failed("set up"))?;

        Ok(Self {
            descriptor,
            sequence: 0,
            datagram: vec![0; DATAGRAM],
        })
    }

    /// Sends a request and waits until it is carried out.
    ///
    /// # Errors
    /// The kernel's refusal, or a socket that fails.
    pub(super) fn request(&mut self, message: &Message) -> Result<(), Error> {
        let sequence = self.send(&[message], |_| NLM_F_ACK)?;
        self.acknowledged(sequence, &[message])
    }

    /// Sends a request for one object; gives the body of the reply.
    ///
    /// # Errors
    /// As for [`Socket::request`].
    pub(super) fn get(&mut self, message: &Message) -> Result<Vec<u8>, Error> {
        let sequence = self.send(&[message], |_| 0)?;
        loop {
            let datagram = self.receive(MsgFlags::empty())?;
            let reply = messages(datagram).find(|reply| reply.sequence == sequence);
            match reply {
                Some(reply) if reply.kind == NLMSG_ERROR => {
                    return Err(refusal(&reply, || operation_name(message.kind()))
                        .unwrap_or(Error::Malformed));
                }
                Some(reply) => return Ok(reply.body.to_vec()),
                None => {}
            }
        }
    }

    /// Sends a request for a list of objects; gives the bodies of the replies. A list that other
    /// changes interrupt is asked for again.
    ///
    /// # Errors
    /// As for [`Socket::request`], and a list that is interrupted again and again.
    pub(super) fn dump(&mut self, message: &Message) -> Result<Vec<Vec<u8>>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(bodies) = self.try_dump(message)? {
                return Ok(bodies);
            }
        }
        Err(Error::Interrupted {
            attempts: DUMP_ATTEMPTS,
        })
    }

    /// `None` when the list was interrupted; it is read to its end nevertheless.
    fn try_dump(&mut self, message: &Message) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let sequence = self.send(&[message], |_| NLM_F_DUMP)?;
        let (mut bodies, mut interrupted) = (Vec::new(), false);
        loop {
            let datagram = self.receive(MsgFlags::empty())?;
            for reply in messages(datagram).filter(|reply| reply.sequence == sequence) {
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match reply.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        // NLMSG_DONE carries an errno as an error does.
                        return match refusal(&reply, || operation_name(message.kind())) {
                            Some(error) if error.errno() != Some(Errno::EINTR) => Err(error),
                            Some(_) => Ok(None),
                            None => Ok((!interrupted).then_some(bodies)),
                        };
                    }
                    _ => bodies.push(reply.body.to_vec()),
                }
            }
        }
    }

    /// Sends messages between the begin and the end of a batch, which the kernel carries out as a
    /// whole or not at all, and waits until it has.
    ///
    /// # Errors
    /// The first refusal, or a socket that fails.
    pub(super) fn batch(
        &mut self,
        begin: &Message,
        messages: &[Message],
        end: &Message,
    ) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        let all: Vec<_> = std::iter::once(begin)
            .chain(messages)
            .chain([end])
            .collect();

        // The last message is acknowledged after the commit. The end of the batch would be as well,
        // but only since Linux 6.10.
        let last = messages.len();
        let sequence = self.send(&all, |n| if n == last { NLM_F_ACK } else { 0 })?;
        self.acknowledged(sequence, &all[..=last])
    }

    /// Sends messages in one datagram; gives the sequence number of the first, the others follow.
    fn send(&mut self, messages: &[&Message], flags: impl Fn(usize) -> u16) -> Result<u32, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(messages.iter().map(|m| m.length()).sum());
        for (n, message) in messages.iter().enumerate() {
            if message.is_too_long() {
                return Err(Error::TooLong);
            }
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, flags(n), &mut datagram);
        }

        send(self.descriptor.as_raw_fd(), &datagram, MsgFlags::empty())
            .map_err(socket_failed("send to"))?;
        Ok(first)
    }

    /// Waits for the acknowledgement of the last of some messages; gives the first refusal.
    ///
    /// The kernel carries on after a refused message of a batch and refuses further ones. All
    /// answers are in the queue before `send` returns, so after a refusal nothing is waited for:
    /// out of memory, the kernel drops the answers of the other messages.
    fn acknowledged(&mut self, first: u32, sent: &[&Message]) -> Result<(), Error> {
        let last = first.wrapping_add(sent.len() as u32 - 1);
        let mut failure = None;
        loop {
            let flags = match failure {
                None => MsgFlags::empty(),
                Some(_) => MsgFlags::MSG_DONTWAIT,
            };
            let datagram = match (self.receive(flags), failure.take()) {
                (Ok(datagram), earlier) => {
                    failure = earlier;
                    datagram
                }
                // Refusals that did not fit the queue are lost; those before are still in it.
                (Err(error), None) if error.errno() == Some(Errno::ENOBUFS) => {
                    failure = Some(error);
                    continue;
                }
                (Err(error), None) => return Err(error),
                (Err(_), Some(failure)) => return Err(failure),
            };

            for answer in messages(datagram).filter(|answer| answer.kind == NLMSG_ERROR) {
                let n = answer.sequence.wrapping_sub(first) as usize;
                let Some(message) = sent.get(n) else { continue };
                let name = || place_in_batch(message.kind(), n, sent.len());
                if let Some(refused) = refusal(&answer, name)
                    && !matches!(failure, Some(Error::Refused { .. }))
                {
                    failure = Some(refused);
                }
                if answer.sequence == last {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn receive(&mut self, flags: MsgFlags) -> Result<&[u8], Error> {
        // MSG_TRUNC: the length of the datagram, also where it is longer than the buffer.
        let flags = flags | MsgFlags::MSG_TRUNC;
        let length = loop {
            match recv(self.descriptor.as_raw_fd(), &mut self.datagram, flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Error::Timeout { seconds: TIMEOUT_S }),
                result => break result.map_err(socket_failed("receive from"))?,
            }
        };
        self.datagram.get(..length).ok_or(Error::Malformed)
    }
}

fn socket_failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Socket { call, errno }
}

/// Names one of the messages of a batch; the first is the batch's begin.
fn place_in_batch(kind: u16, n: usize, count: usize) -> String {
    let name = operation_name(kind);
    if count == 1 {
        return name;
    }
    format!("{name} ({n} of {} in a batch)", count - 1)
}

/// What an answer of the type `NLMSG_ERROR` or `NLMSG_DONE` refuses; `None` for an acknowledgement.
///
/// Its body is a negative errno, then, in an error, the header of the request and, unless
/// `NLM_F_CAPPED` is set, its content, then attributes where `NLM_F_ACK_TLVS` is set.
fn refusal(answer: &Received<'_>, operation: impl FnOnce() -> String) -> Option<Error> {
    let Some(number) = host32(answer.body) else {
        // An NLMSG_DONE without content.
        return (answer.kind == NLMSG_ERROR).then_some(Error::Malformed);
    };
    let errno = Errno::from_raw(number.cast_signed().wrapping_neg());
    if number == 0 {
        return None;
    }

    let repeated = match answer.kind {
        NLMSG_ERROR if answer.flags & NLM_F_CAPPED != 0 => HEADER,
        NLMSG_ERROR => answer.body.get(4..).and_then(host32).unwrap_or(0) as usize,
        _ => 0,
    };
    let explanation = if answer.flags & NLM_F_ACK_TLVS == 0 {
        None
    } else {
        answer.body.get(4 + repeated.next_multiple_of(4)..)
    };

    Some(Error::Refused {
        operation: operation(),
        errno,
        message: explanation
            .and_then(|attributes| attribute(attributes, NLMSGERR_ATTR_MSG))
            .map(text),
    })
}
