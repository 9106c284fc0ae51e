//! The probe's protocol: one plan in, JSON lines out.
//!
//! A probe is a dumb sampler. Nothing here says what anyone hopes to see: the plan names flows, the
//! lines name what the network did ([`Observation`]) or what our own machinery did
//! ([`FaultReason`]), and there is no word for success. Serde only: no IO, no clock.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The protocol's version. A line or a plan of another version is a fault.
pub const VERSION: u32 = 1;

/// The most bytes of one line, newline included; containerd cuts log lines at 16 KiB.
pub const MAX_LINE: usize = 8 * 1024;

/// The most bytes that one probe writes; the kubelet rotates logs at 10 MiB.
pub const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// The most flows of one probe.
pub const MAX_FLOWS: usize = 2_000;

/// What one probe shall do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`].
    pub v: u32,
    /// The run's id, also in the `User-Agent`.
    pub run: String,
    /// Seed of every nonce of this probe.
    pub seed: u64,
    /// The probe ends itself after this many milliseconds.
    pub ttl_ms: u64,
    /// Milliseconds between two beats.
    pub heartbeat_ms: u32,
    /// Certificates to trust, PEM.
    pub trust: Vec<String>,
    /// Name servers to ask; `None` means `/etc/resolv.conf`.
    pub resolver: Option<Resolver>,
    /// A TCP and UDP port on which the probe itself answers as our responder does, so that others
    /// can tell whether its network is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<u16>,
    /// When the probe ends itself since nobody asks it anything there: where nobody can stop it,
    /// whoever asks keeps it going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<IdleTimeout>,
    /// What to sample.
    pub flows: Vec<Flow>,
}

/// For how long nobody may ask a probe anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTimeout {
    /// Milliseconds from its start to the first question.
    pub first_ms: u32,
    /// Milliseconds between two questions.
    pub then_ms: u32,
}

/// The part of `resolv.conf` that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Servers, asked in order, on port 53.
    pub servers: Vec<IpAddr>,
    /// Search list.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the search list first.
    pub ndots: u32,
}

/// One thing to sample, again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Unique in the run.
    pub id: u32,
    /// Where to.
    pub target: Target,
    /// The port, 1 to 65535.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
    /// What is said once connected.
    pub request: Request,
    /// How long each stage may take.
    pub deadlines: Deadlines,
    /// When to try.
    pub pace: Pace,
}

/// Where a flow goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// An address.
    Address(IpAddr),
    /// A name that the probe resolves itself, in one family.
    Name {
        /// As a resolver takes it; a trailing dot suppresses the search list.
        name: String,
        /// `true` asks for AAAA, `false` for A.
        v6: bool,
    },
}

/// A transport that can be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is said once connected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// TCP: the handshake, then nothing is sent; for `linger_ms` the probe waits for bytes, FIN or
    /// RST.
    Connect {
        /// Milliseconds after the handshake; 0 closes at once.
        linger_ms: u32,
    },
    /// Our responder is asked to return a nonce and to say who it is.
    Nonce,
    /// These bytes; any answer passes `first_bytes`.
    Payload {
        /// Hexadecimal.
        hex: String,
    },
    /// A TLS handshake.
    Tls(Tls),
    /// One HTTP exchange.
    Http(Http),
    /// One DNS query.
    Dns {
        /// The name asked for, fully qualified.
        name: String,
        /// `A`, `AAAA`, ... by IANA's mnemonic.
        record: String,
    },
}

/// A TLS handshake's parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// The server name sent and checked; `None` sends none.
    pub server_name: Option<String>,
    /// Protocols offered, in order.
    pub alpn: Vec<String>,
}

/// An HTTP exchange's parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Http {
    /// TLS first, if any.
    pub tls: Option<Tls>,
    /// `GET`, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host` header or `:authority`.
    pub authority: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
    /// `true` speaks HTTP/2 with prior knowledge where TLS does not negotiate it.
    pub h2: bool,
}

/// Milliseconds that each stage may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Name resolution.
    pub resolve_ms: u32,
    /// TCP handshake, or the first UDP answer.
    pub connect_ms: u32,
    /// TLS handshake.
    pub tls_ms: u32,
    /// First bytes, and the whole of a request.
    pub request_ms: u32,
}

/// When a flow is tried: in bursts of three, and once an interval from the first burst on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Starts of bursts, milliseconds since hello; the first is the flow's start. A burst is three
    /// attempts, at 0, 150 and 400 ms.
    pub bursts_ms: Vec<u32>,
    /// Milliseconds between two attempts outside bursts, counted from the first burst; an attempt
    /// that would fall within 150 ms of one of a burst is left out.
    pub interval_ms: u32,
    /// No attempt after this many.
    pub attempts: Option<u32>,
    /// Whether a burst is one attempt only: for runs with so many flows that bursts would be a
    /// flood.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single: bool,
    /// No attempt once so many connections were accepted; attempts under way count as accepted as
    /// soon as one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
}

/// A part of an attempt, in the order in which they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The name has an address. Absent where the plan gave the address.
    Resolve,
    /// TCP: the handshake is done.
    Connect,
    /// Bytes of the other side arrived (UDP: an answer).
    FirstBytes,
    /// The TLS handshake is done.
    Tls,
    /// The request was answered.
    Request,
}

/// What the network did with one attempt: nothing more. The default is an attempt of which nothing
/// was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Stages passed, each with its own duration in microseconds, in order.
    pub passed: Vec<(Stage, u32)>,
    /// Where it stopped; `None` when everything that the request asks for was passed.
    pub stop: Option<Stop>,
    /// The socket's local port, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The address dialled, where the probe resolved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// What our responder said of itself, with our nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What came after a handshake that was not followed by a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<Linger>,
    /// TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<TlsFacts>>,
    /// HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<HttpFacts>>,
    /// DNS: of a DNS request, or of the resolve stage when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Box<DnsFacts>>,
}

impl Observation {
    /// Whether anything came back from the address that was dialled.
    pub fn is_answered(&self) -> bool {
        self.passed.iter().any(|(stage, _)| *stage > Stage::Resolve)
    }

    /// Whether nothing is known of the stage at which it stopped.
    pub fn is_unfinished(&self) -> bool {
        self.stop
            .as_ref()
            .is_some_and(|stop| stop.how == How::Unfinished)
    }
}

/// Where and how an attempt stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stop {
    /// The stage that was not passed.
    pub stage: Stage,
    /// What was seen of it.
    pub how: How,
}

/// What was seen of a stage that was not passed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing, to the deadline.
    Silence,
    /// Nothing yet: the probe was told to end before the deadline, or stood still meanwhile. What
    /// was passed until then was passed (by a probe that stood still in 0 microseconds); of this
    /// stage nothing is known.
    Unfinished,
    /// The kernel gave an error.
    Error {
        /// Linux errno.
        errno: i32,
        /// The ICMP message behind it, from the socket's error queue.
        icmp: Option<Icmp>,
    },
    /// The other side closed the connection (FIN).
    Closed,
    /// A TLS alert, by its code (RFC 8446 section 6).
    Alert {
        /// The alert's number.
        code: u8,
    },
    /// A DNS answer without what was asked for, by its response code (RFC 1035 section 4.1.1).
    Rcode {
        /// 0 is NOERROR without data, 3 NXDOMAIN, 5 REFUSED.
        code: u16,
    },
    /// Bytes that are not the protocol asked for.
    Garbled {
        /// What was wrong, at most 200 characters, printable.
        what: String,
    },
}

/// An ICMP message from a socket's error queue (`IP_RECVERR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Icmp {
    /// `ICMPv6`, else ICMP (v4).
    pub v6: bool,
    /// Type.
    pub ty: u8,
    /// Code.
    pub code: u8,
    /// Who sent it. A hint: some plugins forge the target's address, and DNAT rewrites it.
    pub offender: Option<IpAddr>,
}

/// What our responder answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it returned the nonce of this very attempt.
    pub nonce: bool,
    /// Who it says it is, at most 200 characters, printable.
    pub who: String,
}

/// What came after a handshake while nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linger {
    /// Nothing.
    Quiet,
    /// Bytes.
    Bytes,
    /// FIN before any byte.
    Fin,
    /// RST before any byte.
    Rst,
}

/// What a TLS handshake showed; chain, name and expiry are recorded here and judged apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.3`, ...
    pub version: String,
    /// The protocol negotiated.
    pub alpn: Option<String>,
    /// The leaf's SHA-256, hexadecimal.
    pub leaf: String,
    /// The leaf's subject, printable, at most 200 characters.
    pub subject: String,
    /// The leaf's issuer, likewise.
    pub issuer: String,
    /// The leaf's DNS names and addresses, at most 20.
    pub names: Vec<String>,
    /// The leaf's expiry, seconds since 1970.
    pub not_after: i64,
    /// Why the chain is not trusted by the plan's certificates; `None` when it is.
    pub chain_error: Option<String>,
    /// Why the leaf is not for the name asked for; `None` when it is, or none was asked for.
    pub name_error: Option<String>,
    /// Whether it has expired or is not valid yet, by the probe's clock.
    pub expired: bool,
}

/// What an HTTP exchange showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpFacts {
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// `server` header, printable, at most 100 characters.
    pub server: Option<String>,
    /// `location` header, likewise, 200.
    pub location: Option<String>,
    /// Names of headers that enforcement layers set (`l5d-proxy-error`, ...), lower case.
    pub marks: Vec<String>,
    /// The first 256 bytes of the body, printable.
    pub body_start: String,
    /// Bytes of the body that were read, at most 1 MB.
    pub body_bytes: u64,
    /// SHA-256 of what was read, hexadecimal.
    pub body_sha256: String,
}

/// What a DNS exchange showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsFacts {
    /// The server asked.
    pub server: Option<SocketAddr>,
    /// The name that was answered, after the search list.
    pub name: String,
    /// Response code; `None` when no answer came.
    pub rcode: Option<u16>,
    /// Records of the answer as `NAME TYPE DATA`: presentation form without class and time to live;
    /// sorted, at most 20.
    pub records: Vec<String>,
}

/// One line of a probe's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub v: u32,
    /// 0, 1, 2, ... over all kinds, without holes.
    pub seq: u64,
    /// Microseconds since hello, by a clock that never steps.
    pub t: u64,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub enum Body {
    /// Once, first.
    Hello(Hello),
    /// The first attempt of a flow, and every change of outcome.
    Sample(Sample),
    /// Each beat, in as many parts as the line's length demands.
    Heartbeat(Heartbeat),
    /// The machinery failed.
    Fault(Fault),
    /// Before the end, in as many parts as the line's length demands: how long openings took.
    Took {
        /// `[flow, microseconds of each of its last openings, oldest first]`, at most [`MAX_TOOK`]
        /// a flow, of flows that opened.
        flows: Vec<(u32, Vec<u32>)>,
    },
    /// The end.
    Bye {
        /// Why: `term`, `stdin`, `ttl`, `output`, `done`; after a fault of the whole probe `plan`
        /// or `fault`.
        reason: String,
    },
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's version.
    pub version: String,
    /// The plan's run.
    pub run: String,
    /// SHA-256 of the plan's JSON text, hexadecimal.
    pub digest: String,
    /// The addresses of this network namespace, loopback left out.
    pub addresses: Vec<IpAddr>,
    /// `/proc/sys/kernel/random/boot_id`: two probes with one boot id share a monotonic clock.
    pub boot: String,
    /// `CLOCK_BOOTTIME` at hello, microseconds.
    pub boottime_us: u64,
    /// `CLOCK_REALTIME` at hello, microseconds since 1970.
    pub wall_us: u64,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The flow.
    pub flow: u32,
    /// 1, 2, 3, ... by start. Samples and beats of a flow come in the order of attempts: an attempt
    /// is reported only after all that started before it.
    pub attempt: u32,
    /// When the attempt started, microseconds since hello.
    pub start: u64,
    /// What was seen.
    pub seen: Observation,
}

/// Of so many openings of a flow at the most is told how long they took.
pub const MAX_TOOK: usize = 32;

/// Life signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `[flow, attempts reported so far, start of the last of these]` for flows with attempts since
    /// the beat before, all of the same outcome as the flow's last sample.
    pub flows: Vec<(u32, u32, u64)>,
    /// The worst delay of the probe's own timer since the beat before, microseconds.
    pub lag_us: u64,
    /// Whether more parts of this beat follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A failure of our own machinery. It can only ever lead to "unproven".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The flow, or the whole probe.
    pub flow: Option<u32>,
    /// Attempts of the flow so far, the faulty one included.
    pub attempt: Option<u32>,
    /// When the faulty attempt started, or when the fault was noticed; microseconds since hello.
    pub start: u64,
    /// Why.
    pub reason: FaultReason,
    /// For people, at most 200 characters.
    pub detail: String,
}

/// Why the machinery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultReason {
    /// The probe's timer lagged more than 100 ms during the attempt, and it did not get through.
    Starved,
    /// The probe ran out of sockets, descriptors or buffers.
    Resources,
    /// A plan that the probe cannot carry out.
    Plan,
    /// A defect in the probe.
    Defect,
}
