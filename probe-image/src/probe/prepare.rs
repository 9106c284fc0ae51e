//! A flow of the plan, checked once and ready for its attempts.

use super::dns::{self, Question};
use super::kept_open::KeptOpen;
use super::resolve::{candidates, parse_resolv_conf, resolve};
use super::socket::Segments;
use super::tls::{self, Trust};
use super::truncate::truncate;
use super::{Cancel, OpenConnection, Trace, http, tcp, udp};
use crate::secrets::Secrets;
use crate::text::{from_hex, hex};
use crate::wire::{
    Deadlines, FaultReason, Flow, Observation, Plan, Request, Resolver, Stage, StopCause, Target,
    Transport,
};
use hickory_proto::rr::Name;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// Added to the sum of an attempt's deadlines before the attempt counts as defective.
const SLACK: Duration = Duration::from_secs(2);

/// What all flows of a plan share.
pub(crate) struct Common {
    seed: u64,
    run: String,
    trust: Trust,
    resolver: Resolver,
    secrets: Secrets,
    /// `true` once attempts in flight must end.
    ending: watch::Sender<bool>,
}

impl Common {
    /// The common part of a plan.
    ///
    /// # Errors
    ///
    /// A certificate to trust cannot be read.
    pub(crate) fn new(plan: &Plan, secrets: Secrets) -> Result<Self, String> {
        Ok(Self {
            seed: plan.seed,
            run: plan.run.clone(),
            trust: Trust::new(&plan.trust)?,
            resolver: plan.resolver.clone().unwrap_or_else(system_resolver),
            secrets,
            ending: watch::Sender::new(false),
        })
    }

    /// Ends all attempts in flight: they stop as [`StopCause::Unfinished`] where they are.
    pub(crate) fn end_attempts(&self) {
        self.ending.send_replace(true);
    }

    /// The nonce of one attempt. It cannot be guessed without the seed.
    fn nonce(&self, flow: u32, attempt: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(flow.to_le_bytes());
        hash.update(attempt.to_le_bytes());
        hex(&hash.finalize()[..16])
    }
}

/// The resolver of `/etc/resolv.conf`. A missing file means the same as an empty one
/// (resolv.conf(5)).
fn system_resolver() -> Resolver {
    parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// What the network did with one attempt, or why our machinery failed.
pub(crate) type Outcome = Result<Observation, (FaultReason, String)>;

/// A flow over TCP to an address, without TLS or HTTP.
pub(crate) struct TcpFlow<'a> {
    pub(super) peer: SocketAddr,
    /// Time for the handshake.
    pub(super) connect: Duration,
    /// Time for question and answer.
    pub(super) request: Duration,
    pub(super) segments: Segments,
    pub(super) question: TcpQuestion<'a>,
}

/// What a [`TcpFlow`] sends once it is connected.
#[derive(Clone, Copy)]
pub(super) enum TcpQuestion<'a> {
    /// Nothing; the peer is observed for this long.
    Nothing {
        linger: Duration,
    },
    /// The nonce of the attempt, for our responder.
    Nonce,
    Payload(&'a [u8]),
}

/// A flow that can be attempted.
pub(crate) struct Prepared {
    id: u32,
    destination: Destination,
    port: u16,
    transport: Transport,
    deadlines: Deadlines,
    segments: Segments,
    request: PreparedRequest,
}

/// Where a flow goes.
enum Destination {
    Address(IpAddr),
    /// Names to resolve, in the order of the search list.
    Names {
        names: Vec<Name>,
        v6: bool,
    },
}

/// A request whose parameters are checked.
enum PreparedRequest {
    Connect { linger: Duration },
    Nonce,
    Payload(Vec<u8>),
    Tls(tls::Parameters),
    Http(Box<http::Prepared>),
    Dns(Question),
    KeptOpen(KeptOpen),
}

impl PreparedRequest {
    fn new(flow: &Flow, run: &str, secrets: &Secrets) -> Result<Self, String> {
        Ok(match &flow.request {
            Request::Connect { linger_ms } => {
                require_tcp(flow, "a handshake")?;
                Self::Connect {
                    linger: millis(*linger_ms),
                }
            }
            Request::Nonce => Self::Nonce,
            Request::Payload { hex } => {
                Self::Payload(from_hex(hex).ok_or("the payload is not hexadecimal")?)
            }
            Request::Tls(parameters) => {
                require_tcp(flow, "TLS")?;
                Self::Tls(tls::Parameters::new(parameters)?)
            }
            Request::Http(request) => {
                require_tcp(flow, "HTTP")?;
                Self::Http(Box::new(http::Prepared::new(request, run, secrets)?))
            }
            Request::Dns { name, record } => Self::Dns(Question::new(name, record)?),
            Request::KeptOpen => {
                require_tcp(flow, "a connection that is kept open")?;
                Self::KeptOpen(KeptOpen::default())
            }
        })
    }

    fn uses_tls(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Http(http) => http.tls.is_some(),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload(_)
            | Self::Dns(_)
            | Self::KeptOpen(_) => false,
        }
    }
}

fn require_tcp(flow: &Flow, what: &str) -> Result<(), String> {
    match flow.transport {
        Transport::Tcp => Ok(()),
        Transport::Udp => Err(format!("{what} needs tcp")),
    }
}

impl Prepared {
    /// Checks a flow.
    ///
    /// # Errors
    ///
    /// A text for people that says what the probe cannot carry out.
    pub(crate) fn new(flow: &Flow, common: &Common) -> Result<Self, String> {
        if flow.port == 0 {
            return Err("port 0 cannot be dialled".into());
        }
        if flow.pace.bursts_ms.is_empty() {
            return Err("a pace without a burst never starts".into());
        }

        let request = PreparedRequest::new(flow, &common.run, &common.secrets)?;
        let destination = match &flow.target {
            Target::Address(address) => Destination::Address(*address),
            Target::Name { name, v6 } => Destination::Names {
                names: candidates(name, &common.resolver)?,
                v6: *v6,
            },
        };
        Ok(Self {
            id: flow.id,
            destination,
            port: flow.port,
            transport: flow.transport,
            deadlines: flow.deadlines,
            segments: if flow.small_segments {
                Segments::Small
            } else {
                Segments::Usual
            },
            request,
        })
    }

    /// Time after which an attempt is defective: more than all its deadlines together.
    pub(crate) fn time_limit(&self) -> Duration {
        let Deadlines {
            resolve_ms,
            connect_ms,
            tls_ms,
            request_ms,
        } = self.deadlines;
        let linger = match self.request {
            PreparedRequest::Connect { linger } => linger,
            _ => Duration::ZERO,
        };
        let stages: Duration = [resolve_ms, connect_ms, tls_ms, request_ms]
            .into_iter()
            .map(millis)
            .sum();
        stages + linger + SLACK
    }

    /// The flow as one over TCP to an address, for [`super::TcpAttempt`]; `None` if it resolves a
    /// name, or uses UDP, TLS, HTTP or DNS.
    pub(crate) fn as_tcp(&self) -> Option<TcpFlow<'_>> {
        let (Transport::Tcp, Destination::Address(address)) = (self.transport, &self.destination)
        else {
            return None;
        };
        let question = match &self.request {
            PreparedRequest::Connect { linger } => TcpQuestion::Nothing { linger: *linger },
            PreparedRequest::Nonce => TcpQuestion::Nonce,
            PreparedRequest::Payload(payload) => TcpQuestion::Payload(payload),
            PreparedRequest::Tls(_)
            | PreparedRequest::Http(_)
            | PreparedRequest::Dns(_)
            | PreparedRequest::KeptOpen(_) => {
                return None;
            }
        };

        Some(TcpFlow {
            peer: SocketAddr::new(*address, self.port),
            connect: millis(self.deadlines.connect_ms),
            request: millis(self.deadlines.request_ms),
            segments: self.segments,
            question,
        })
    }

    /// The nonce of one attempt.
    pub(crate) fn nonce(&self, common: &Common, attempt: u32) -> String {
        common.nonce(self.id, attempt)
    }

    /// Makes one attempt. A connection that is still open is returned with the outcome, to be
    /// closed after the report.
    pub(crate) async fn attempt(
        &self,
        common: &Common,
        attempt: u32,
    ) -> (Outcome, Option<OpenConnection>) {
        let mut trace = Trace::new();
        let mut open = None;
        let mut ending = common.ending.subscribe();
        let result = tokio::select! {
            biased;
            result = self.pass_stages(common, attempt, &mut trace, &mut open) => result,
            // The sender lives as long as `common`.
            _ = ending.wait_for(|ending| *ending) => {
                Err(Cancel::stop(self.next_stage(&trace), StopCause::Unfinished))
            }
        };
        (outcome_of(trace, result), open)
    }

    async fn pass_stages(
        &self,
        common: &Common,
        attempt: u32,
        trace: &mut Trace,
        open: &mut Option<OpenConnection>,
    ) -> Result<(), Cancel> {
        let connect = millis(self.deadlines.connect_ms);
        // A connection that is open needs no address any more.
        if let PreparedRequest::KeptOpen(kept) = &self.request
            && kept.was_opened()
        {
            return kept.wait_for_acknowledgement(connect, trace).await;
        }

        let address = self.address(common, attempt, trace).await?;
        let peer = SocketAddr::new(address, self.port);
        let nonce = common.nonce(self.id, attempt);
        let request = millis(self.deadlines.request_ms);

        match (self.transport, &self.request) {
            (transport, PreparedRequest::Dns(question)) => {
                let limits = (connect, request);
                return dns::request(
                    peer,
                    transport,
                    question,
                    limits,
                    self.segments,
                    trace,
                    open,
                )
                .await;
            }
            (Transport::Udp, PreparedRequest::Payload(payload)) => {
                udp::exchange(peer, payload, connect, trace).await?;
                return Ok(());
            }
            (Transport::Udp, _) => return udp::nonce(peer, &nonce, connect, trace).await,
            (Transport::Tcp, _) => {}
        }

        let mut stream = tcp::connect(peer, connect, self.segments, trace).await?;
        if let PreparedRequest::KeptOpen(kept) = &self.request {
            trace.check_not_reset(Stage::FirstBytes)?;
            return kept.keep(stream);
        }
        let result = match &self.request {
            PreparedRequest::Connect { linger } => tcp::linger(&mut stream, *linger, trace).await,
            PreparedRequest::Payload(payload) => {
                let deadline = Instant::now() + request;
                tcp::exchange(&mut stream, payload, deadline, 1, |_| true, trace)
                    .await
                    .map(drop)
            }
            PreparedRequest::Tls(parameters) => {
                let stream = self.tls(stream, parameters, common, trace).await?;
                *open = Some(OpenConnection::Tls(Box::new(stream)));
                return Ok(());
            }
            PreparedRequest::Http(prepared) => {
                return match &prepared.tls {
                    None => http::over_tcp(stream, prepared, &nonce, request, trace, open).await,
                    Some(parameters) => {
                        let stream = self.tls(stream, parameters, common, trace).await?;
                        http::over_tls(stream, prepared, &nonce, request, trace, open).await
                    }
                };
            }
            PreparedRequest::Nonce | PreparedRequest::Dns(_) | PreparedRequest::KeptOpen(_) => {
                tcp::nonce(&mut stream, &nonce, request, trace).await
            }
        };
        *open = Some(OpenConnection::Tcp(stream));
        result
    }

    /// The stage that an attempt waits for after those it has passed.
    fn next_stage(&self, trace: &Trace) -> Stage {
        let passed = trace.observation.passed.last().map(|(stage, _)| *stage);
        match (passed, self.transport) {
            (None, _) if matches!(self.destination, Destination::Names { .. }) => Stage::Resolve,
            (None | Some(Stage::Resolve), Transport::Tcp) => Stage::Connect,
            (None | Some(Stage::Resolve), Transport::Udp) => Stage::FirstBytes,
            (Some(Stage::Connect), _) if self.request.uses_tls() => Stage::Tls,
            (Some(Stage::Connect), _) => Stage::FirstBytes,
            (Some(Stage::FirstBytes | Stage::Tls | Stage::Request), _) => Stage::Request,
        }
    }

    async fn tls(
        &self,
        stream: TcpStream,
        parameters: &tls::Parameters,
        common: &Common,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Cancel> {
        let limit = millis(self.deadlines.tls_ms);
        tls::handshake(stream, parameters, &common.trust, limit, trace).await
    }

    /// The address to dial. Where a name has several, attempts take them in turn, so that a leak to
    /// one of them is found.
    async fn address(
        &self,
        common: &Common,
        attempt: u32,
        trace: &mut Trace,
    ) -> Result<IpAddr, Cancel> {
        let (names, v6) = match &self.destination {
            Destination::Address(address) => return Ok(*address),
            Destination::Names { names, v6 } => (names, *v6),
        };
        let limit = millis(self.deadlines.resolve_ms);
        let addresses = resolve(names, v6, &common.resolver, limit, trace).await?;
        let turn = (attempt as usize).wrapping_sub(1) % addresses.len().max(1);
        let Some(address) = addresses.get(turn).copied() else {
            let detail = "resolved to no address".into();
            return Err(Cancel::fault(FaultReason::Defect, detail));
        };

        trace.observation.peer = Some(SocketAddr::new(address, self.port));
        Ok(address)
    }
}

/// The outcome of an attempt with this trace and this result of its last stage.
pub(super) fn outcome_of(trace: Trace, result: Result<(), Cancel>) -> Outcome {
    let mut observation = trace.observation;
    match result {
        Ok(()) => {}
        Err(Cancel::Stop(stop)) => observation.stop = Some(stop),
        Err(Cancel::Fault(reason, detail)) => return Err((reason, detail)),
    }
    truncate(&mut observation);
    Ok(observation)
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
