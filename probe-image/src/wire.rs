//! The probe's protocol: one plan in, JSON lines out.
//!
//! A probe makes attempts and judges none of them. The plan names flows but no expected outcome;
//! the lines state what the network did ([`Observation`]) or how our own machinery failed
//! ([`FaultReason`]). Types and serde only: no IO, no clock.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Version of the protocol. A line or a plan of another version is a fault.
pub const VERSION: u32 = 1;

/// Maximum bytes of one line, newline included; containerd splits log lines at 16 KiB.
pub const MAX_LINE: usize = 8 * 1024;

/// Maximum bytes that one probe writes; the kubelet rotates logs at 10 MiB.
pub const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// Maximum number of flows of one probe.
pub const MAX_FLOWS: usize = 2_000;

/// Maximum number of latencies that a probe reports for one flow.
pub const MAX_LATENCIES: usize = 32;

/// The work of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Protocol version, [`VERSION`].
    pub v: u32,
    /// Id of the run, also sent in the `User-Agent`.
    pub run: String,
    /// Seed of every nonce of this probe.
    pub seed: u64,
    /// Time to live in milliseconds; the probe then exits.
    pub ttl_ms: u64,
    /// Milliseconds between two heartbeats.
    pub heartbeat_ms: u32,
    /// Certificates to trust, PEM.
    pub trust: Vec<String>,
    /// Name servers to ask; `None` means those of `/etc/resolv.conf`.
    pub resolver: Option<Resolver>,
    /// TCP and UDP port on which the probe answers as our responder does, so that controls can test
    /// whether its network is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<u16>,
    /// Idle timeout of [`Plan::listen`]; the probe then exits. Set where the runner cannot stop the
    /// probe: connections of other probes keep it running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<IdleTimeout>,
    /// Flows to attempt.
    pub flows: Vec<Flow>,
}

/// How long a probe waits for connections and datagrams on its own port before it exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTimeout {
    /// Milliseconds from the probe's start to the first connection.
    pub first_ms: u32,
    /// Milliseconds from one connection to the next.
    pub next_ms: u32,
}

/// Resolver settings, as in resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Servers in the order in which they are asked, on port 53.
    pub servers: Vec<IpAddr>,
    /// Domains of the search list.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the search list first.
    pub ndots: u32,
}

/// One flow, which is attempted repeatedly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Number, unique in the run.
    pub id: u32,
    pub target: Target,
    /// Port, 1 to 65535.
    pub port: u16,
    pub transport: Transport,
    pub request: Request,
    /// Time that each stage may take.
    pub deadlines: Deadlines,
    /// Times of the attempts.
    pub pace: Pace,
    /// Whether TCP segments are kept small in both directions ([`SMALL_SEGMENT`]), so that a path
    /// that loses large packets is not mistaken for one that is denied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub small_segments: bool,
}

/// Octets of data of a small TCP segment: what every IPv4 path carries without fragmentation (RFC
/// 9293 section 3.7.1; IPv6 paths carry 1,220, RFC 8200 section 5).
pub const SMALL_SEGMENT: u32 = 536;

/// Destination of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Address(IpAddr),
    /// A name that the probe resolves itself, in one address family.
    Name {
        /// Name as given to a resolver; a trailing dot suppresses the search list.
        name: String,
        /// `true` asks for AAAA, `false` for A.
        v6: bool,
    },
}

/// Transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// What an attempt sends once it is connected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Nothing after the TCP handshake; for `linger_ms` the probe waits for bytes, FIN or RST.
    Connect {
        /// Milliseconds after the handshake; 0 closes at once.
        linger_ms: u32,
    },
    /// A nonce that our responder returns together with its name.
    Nonce,
    /// Bytes; any answer passes [`Stage::FirstBytes`].
    Payload {
        /// The bytes in hexadecimal.
        hex: String,
    },
    Tls(Tls),
    /// One HTTP exchange.
    Http(Http),
    /// One DNS query.
    Dns {
        /// Fully qualified name to ask for.
        name: String,
        /// Record type by its IANA mnemonic: `A`, `AAAA`, ...
        record: String,
    },
    /// Nothing over one TCP connection, which the first attempt that can opens and which is kept:
    /// each later attempt passes [`Stage::Connect`] again when the peer acknowledges a TCP
    /// keep-alive that was sent after the attempt's start. It is never opened again.
    KeptOpen,
}

/// Parameters of a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// Server name to send and to check; `None` sends none.
    pub server_name: Option<String>,
    /// Protocols to offer, in order.
    pub alpn: Vec<String>,
}

/// Parameters of an HTTP exchange.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Http {
    /// TLS below HTTP; `None` for cleartext.
    pub tls: Option<Tls>,
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Value of the `Host` header or `:authority`.
    pub authority: String,
    /// Further headers.
    pub headers: Vec<(String, RequestText)>,
    pub body: Option<RequestText>,
    /// Whether to use HTTP/2 with prior knowledge where TLS does not negotiate a protocol.
    pub h2: bool,
    /// What to look for in the answer. The probe reports only whether it is there
    /// ([`HttpFacts::matched`]), and does not know what that means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Box<AnswerPattern>>,
}

/// A text of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestText {
    /// The text itself.
    Plain(String),
    /// A text that is no part of the plan and comes beside it.
    Secret {
        /// Its name.
        secret: String,
    },
}

impl From<&str> for RequestText {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

/// What an HTTP answer may look like: all parts that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AnswerPattern {
    /// One of these statuses; any where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// Headers by name, each with a regular expression that one of its values matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// A regular expression that matches somewhere in the first 64 KiB of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
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

/// Times of a flow's attempts: bursts of three, and one attempt an interval from the first burst
/// on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Starts of bursts, milliseconds since hello; the first is the flow's start. A burst is three
    /// attempts, at 0, 150 and 400 ms.
    pub bursts_ms: Vec<u32>,
    /// Milliseconds between two attempts outside bursts, counted from the first burst. An attempt
    /// within 150 ms of one of a burst is left out. 0 means bursts only.
    pub interval_ms: u32,
    /// Maximum number of attempts.
    pub attempts: Option<u32>,
    /// Whether a burst is a single attempt: for runs with so many flows that bursts would flood the
    /// network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single: bool,
    /// Maximum number of connections that the target may accept. After the first of them, attempts
    /// in flight count as accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
}

/// A stage of an attempt, in the order in which stages are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The name resolved to an address. Absent where the plan gives the address.
    Resolve,
    /// The TCP handshake is done.
    Connect,
    /// Bytes of the peer arrived (UDP: an answer).
    FirstBytes,
    /// The TLS handshake is done.
    Tls,
    /// The request was answered.
    Request,
}

/// What the network did with one attempt. The default has passed no stage and stopped at none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Stages passed, in order, each with its duration in microseconds.
    pub passed: Vec<(Stage, u32)>,
    /// Stage at which the attempt stopped; `None` when it passed all stages of its request.
    pub stop: Option<Stop>,
    /// Local port of the socket, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// Address dialled, where the probe resolved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Answer of our responder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What the peer did after a handshake that no request followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<Linger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<TlsFacts>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<HttpFacts>>,
    /// Facts of a DNS request, or of the resolve stage where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Box<DnsFacts>>,
}

impl Observation {
    /// Whether anything came back from the address that was dialled.
    pub fn is_answered(&self) -> bool {
        self.passed.iter().any(|(stage, _)| *stage > Stage::Resolve)
    }

    /// Whether the attempt ended before the stage at which it stopped had an outcome.
    pub fn is_unfinished(&self) -> bool {
        self.stop
            .as_ref()
            .is_some_and(|stop| stop.how == StopCause::Unfinished)
    }
}

/// The stage at which an attempt stopped, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stop {
    /// Stage that was not passed.
    pub stage: Stage,
    pub how: StopCause,
}

/// Why a stage was not passed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Nothing arrived before the deadline.
    Silence,
    /// The probe ended before the deadline, or stalled during the attempt. The stages before count
    /// as passed (with a duration of 0 after a stall); the outcome of this stage is unknown.
    Unfinished,
    /// The kernel returned an error.
    Error {
        /// Linux errno.
        errno: i32,
        /// ICMP message behind the error, from the socket's error queue.
        icmp: Option<Icmp>,
    },
    /// The peer closed the connection (FIN).
    Closed,
    /// A TLS alert (RFC 8446 section 6).
    Alert {
        /// Number of the alert.
        code: u8,
    },
    /// A DNS answer without a record of the type asked for.
    Rcode {
        /// Response code (RFC 1035 section 4.1.1): 0 is NOERROR without data, 3 NXDOMAIN, 5
        /// REFUSED.
        code: u16,
    },
    /// Bytes of another protocol than the one asked for.
    Garbled {
        /// What is wrong, at most 200 characters, printable: our own words, and of what arrived
        /// only its length and digest.
        what: String,
    },
}

/// An ICMP message from a socket's error queue (`IP_RECVERR`, ip(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Icmp {
    /// Whether it is `ICMPv6`.
    pub v6: bool,
    /// Type.
    pub ty: u8,
    /// Code.
    pub code: u8,
    /// Sender. A hint only: some plugins forge the target's address, and DNAT rewrites it.
    pub offender: Option<IpAddr>,
}

/// An answer in our responder's form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it returned the nonce of this attempt.
    pub nonce: bool,
    /// Name that the responder gives itself, at most 200 characters, printable; empty without the
    /// nonce, which only our responder knows to return.
    pub who: String,
}

/// What the peer did after a handshake while the probe sent nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linger {
    /// Nothing.
    Quiet,
    /// It sent bytes.
    Bytes,
    /// FIN before any byte.
    Fin,
    /// RST before any byte.
    Rst,
}

/// Facts of a TLS handshake. The probe records chain, name and expiry separately and rejects none
/// of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsFacts {
    /// Protocol version, such as `TLSv1.3`.
    pub version: String,
    /// Protocol that ALPN negotiated.
    pub alpn: Option<String>,
    /// SHA-256 of the leaf certificate, hexadecimal.
    pub leaf: String,
    /// Subject of the leaf, printable, at most 200 characters.
    pub subject: String,
    /// Issuer of the leaf, printable, at most 200 characters.
    pub issuer: String,
    /// DNS names, addresses and URIs of the leaf, at most 20.
    pub names: Vec<String>,
    /// Expiry of the leaf, seconds since 1970.
    pub not_after: i64,
    /// Why the plan's certificates do not trust the chain; `None` when they do.
    pub chain_error: Option<String>,
    /// Why the leaf does not match the server name; `None` when it does, or none was sent.
    pub name_error: Option<String>,
    /// Whether the leaf has expired or is not valid yet, by the probe's clock.
    pub expired: bool,
}

/// Facts of an HTTP exchange. What the target says stays with the probe, which looks for known
/// answers and for the request's pattern itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpFacts {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    pub status: u16,
    /// The enforcer whose known denial the answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<HttpDenial>,
    /// Whether the answer matches the request's pattern; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<bool>,
    /// Bytes of the body that were read, at most 1 MB.
    pub body_bytes: u64,
    /// The first 16 hexadecimal digits of the SHA-256 of the bytes that were read.
    pub body_digest: String,
}

/// A known denial by HTTP, by the enforcer that answers so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpDenial {
    /// Cilium's HTTP proxy.
    CiliumHttp,
    /// Istio's authorisation.
    IstioAuthorization,
    /// Istio's `REGISTRY_ONLY`.
    IstioRegistryOnly,
    /// Linkerd's proxy.
    Linkerd,
    /// Azure Firewall's application rules.
    AzureFirewall,
    /// Azure Application Gateway's WAF with its default answer.
    ApplicationGatewayWaf,
}

/// Facts of a DNS exchange. Of the answer's records only addresses are reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsFacts {
    /// Server that was asked.
    pub server: Option<SocketAddr>,
    /// Name that was asked for, after the search list.
    pub name: String,
    /// Response code; `None` when no answer came.
    pub rcode: Option<u16>,
    /// Addresses of the answer's A and AAAA records; sorted, at most 20.
    pub addresses: Vec<IpAddr>,
    /// Records of the answer, of any type.
    pub records: u16,
}

/// One line of a probe's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Protocol version, [`VERSION`].
    pub v: u32,
    /// Sequence number: 0, 1, 2, ... over all kinds, without gaps.
    pub seq: u64,
    /// Microseconds since hello, by a clock that never steps.
    pub t: u64,
    #[serde(flatten)]
    pub body: Body,
}

/// Content of a line, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub enum Body {
    /// First line, once.
    Hello(Hello),
    /// First attempt of a flow, or an attempt with a changed outcome.
    Sample(Sample),
    /// Heartbeat, in as many parts as [`MAX_LINE`] requires.
    Heartbeat(Heartbeat),
    /// Failure of our own machinery.
    Fault(Fault),
    /// Latencies of successful attempts, once before the end, in as many parts as [`MAX_LINE`]
    /// requires.
    Latencies {
        /// `[flow, microseconds of each of its last successes, oldest first]`, at most
        /// [`MAX_LATENCIES`] a flow, for flows with a success.
        flows: Vec<(u32, Vec<u32>)>,
    },
    /// Last line.
    Bye { reason: ByeReason },
}

/// Why a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByeReason {
    /// All attempts are made.
    Done,
    /// SIGTERM, or SIGINT outside of the lab.
    Signal,
    /// Stdin of a lab probe ended: the runner is gone.
    StdinClosed,
    /// Stdout can no longer be written.
    StdoutClosed,
    /// The plan's time to live is over.
    TimeToLive,
    /// [`MAX_OUTPUT`] is reached.
    OutputLimit,
    /// No connection arrived within the plan's idle timeout.
    IdleTimeout,
    /// The plan cannot be carried out; a fault says why.
    BadPlan,
    /// The probe could not start; a fault says why.
    Fault,
}

impl std::fmt::Display for ByeReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "all attempts are made",
            Self::Signal => "it received a signal",
            Self::StdinClosed => "its stdin was closed",
            Self::StdoutClosed => "its stdout was closed",
            Self::TimeToLive => "its time to live was over",
            Self::OutputLimit => "its output reached 4 MiB",
            Self::IdleTimeout => "no connection arrived within its idle timeout",
            Self::BadPlan => "it could not carry out its plan",
            Self::Fault => "it could not start",
        })
    }
}

/// Content of the first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent.
    pub version: String,
    /// Run of the plan.
    pub run: String,
    /// SHA-256 of the plan's JSON text, hexadecimal.
    pub digest: String,
    /// Addresses of this network namespace without loopback.
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
    pub flow: u32,
    /// Number of the attempt: 1, 2, 3, ... by start. An attempt is reported only after all attempts
    /// of its flow that started before it.
    pub attempt: u32,
    /// Start of the attempt, microseconds since hello.
    pub start: u64,
    pub observation: Observation,
}

/// Proof that the probe is running, with the attempts whose outcome did not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `[flow, attempts reported so far, start of the last of these]` for flows with attempts since
    /// the previous heartbeat, all with the outcome of the flow's last sample.
    pub flows: Vec<(u32, u32, u64)>,
    /// Longest delay of the probe's own timer since the previous heartbeat, microseconds.
    pub lag_us: u64,
    /// Whether more parts of this heartbeat follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A failure of our own machinery. It can only make a check unproven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Flow concerned; `None` for the whole probe.
    pub flow: Option<u32>,
    /// Number of the failed attempt.
    pub attempt: Option<u32>,
    /// Start of the failed attempt, or time of the fault; microseconds since hello.
    pub start: u64,
    pub reason: FaultReason,
    /// Explanation for people, at most 200 characters.
    pub detail: String,
}

/// Why our machinery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultReason {
    /// The probe got too little processor time: its timer lagged more than 100 ms during an attempt
    /// that did not get through.
    Starved,
    /// The probe ran out of sockets, descriptors or buffers.
    Resources,
    /// The probe cannot carry out the plan.
    Plan,
    /// A defect in the probe.
    Defect,
}
