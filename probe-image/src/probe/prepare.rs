//! A flow of the plan, checked once, ready to be tried many times.

use super::dns::{self, Question};
use super::resolve::{candidates, parse_resolv_conf, resolve};
use super::tls::{self, Trust};
use super::truncate::fit;
use super::{Cancel, Open, Trace, http, tcp, udp};
use crate::text::{from_hex, hex};
use crate::wire::{
    Deadlines, FaultReason, Flow, How, Observation, Plan, Request, Resolver, Stage, Target,
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

/// What all flows of a plan share.
pub(crate) struct Common {
    seed: u64,
    run: String,
    trust: Trust,
    resolver: Resolver,
    /// `true` once attempts under way shall say what they have seen so far.
    ending: watch::Sender<bool>,
}

impl Common {
    /// Of this plan.
    ///
    /// # Errors
    ///
    /// Certificates to trust that are none.
    pub(crate) fn new(plan: &Plan) -> Result<Self, String> {
        // A missing file is one with nothing in it (resolv.conf(5)).
        let system =
            || parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        Ok(Self {
            seed: plan.seed,
            run: plan.run.clone(),
            trust: Trust::new(&plan.trust)?,
            resolver: plan.resolver.clone().unwrap_or_else(system),
            ending: watch::Sender::new(false),
        })
    }

    /// From now on attempts wait for nothing: they end as [`How::Unfinished`] where they are.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// The nonce of one attempt: nobody who does not know the seed can say it before it was sent.
    fn nonce(&self, flow: u32, attempt: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(flow.to_le_bytes());
        hash.update(attempt.to_le_bytes());
        hex(&hash.finalize()[..16])
    }
}

/// What the network did with one attempt, or why our machinery failed.
pub(crate) type Seen = Result<Observation, (FaultReason, String)>;

/// What a plain TCP attempt does: no name to resolve, no protocol above.
pub(crate) struct Plain<'a> {
    pub(super) peer: SocketAddr,
    pub(super) connect: Duration,
    pub(super) request: Duration,
    pub(super) say: Say<'a>,
}

/// What is said once connected.
#[derive(Clone, Copy)]
pub(super) enum Say<'a> {
    /// Nothing; this long it is seen what the other side does.
    Nothing { linger: Duration },
    /// Our responder is asked for the nonce of the attempt.
    Nonce,
    /// These bytes.
    Payload(&'a [u8]),
}

/// A flow whose request makes sense over its transport.
pub(crate) struct Prepared {
    id: u32,
    to: To,
    port: u16,
    transport: Transport,
    deadlines: Deadlines,
    work: Work,
}

/// Where a flow goes.
enum To {
    Address(IpAddr),
    Names { names: Vec<Name>, v6: bool },
}

/// What is done once there is an address.
enum Work {
    Connect { linger: Duration },
    Nonce,
    Payload(Vec<u8>),
    Tls(tls::Parameters),
    Http(Box<http::Prepared>),
    Dns(Question),
}

impl Prepared {
    /// Checks a flow.
    ///
    /// # Errors
    ///
    /// What the probe cannot carry out, for people.
    pub(crate) fn new(flow: &Flow, common: &Common) -> Result<Self, String> {
        if flow.port == 0 {
            return Err("port 0 cannot be dialled".into());
        }
        if flow.pace.bursts_ms.is_empty() {
            return Err("a pace without a burst never starts".into());
        }
        let tcp_only = |what: &str| match flow.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => Err(format!("{what} needs tcp")),
        };
        let work = match &flow.request {
            Request::Connect { linger_ms } => {
                tcp_only("a handshake")?;
                Work::Connect {
                    linger: millis(*linger_ms),
                }
            }
            Request::Nonce => Work::Nonce,
            Request::Payload { hex } => {
                Work::Payload(from_hex(hex).ok_or("the payload is not hexadecimal")?)
            }
            Request::Tls(parameters) => {
                tcp_only("TLS")?;
                Work::Tls(tls::Parameters::new(parameters)?)
            }
            Request::Http(request) => {
                tcp_only("HTTP")?;
                Work::Http(Box::new(http::Prepared::new(request, &common.run)?))
            }
            Request::Dns { name, record } => Work::Dns(Question::new(name, record)?),
        };
        let to = match &flow.target {
            Target::Address(address) => To::Address(*address),
            Target::Name { name, v6 } => To::Names {
                names: candidates(name, &common.resolver)?,
                v6: *v6,
            },
        };
        Ok(Self {
            id: flow.id,
            to,
            port: flow.port,
            transport: flow.transport,
            deadlines: flow.deadlines,
            work,
        })
    }

    /// Longer than any attempt takes: beyond it the attempt itself is defective.
    pub(crate) fn longest(&self) -> Duration {
        let Deadlines {
            resolve_ms,
            connect_ms,
            tls_ms,
            request_ms,
        } = self.deadlines;
        let linger = match self.work {
            Work::Connect { linger } => linger,
            _ => Duration::ZERO,
        };
        [resolve_ms, connect_ms, tls_ms, request_ms]
            .into_iter()
            .map(millis)
            .sum::<Duration>()
            + linger
            + Duration::from_secs(2)
    }

    /// Whether it is plain TCP to an address: then [`super::Attempt`] tries it.
    pub(crate) fn plain(&self) -> Option<Plain<'_>> {
        let (Transport::Tcp, To::Address(address)) = (self.transport, &self.to) else {
            return None;
        };
        let say = match &self.work {
            Work::Connect { linger } => Say::Nothing { linger: *linger },
            Work::Nonce => Say::Nonce,
            Work::Payload(payload) => Say::Payload(payload),
            Work::Tls(_) | Work::Http(_) | Work::Dns(_) => return None,
        };
        let Deadlines {
            connect_ms,
            request_ms,
            ..
        } = self.deadlines;
        let peer = SocketAddr::new(*address, self.port);
        Some(Plain {
            peer,
            connect: millis(connect_ms),
            request: millis(request_ms),
            say,
        })
    }

    /// The nonce of one attempt.
    pub(crate) fn nonce(&self, common: &Common, attempt: u32) -> String {
        common.nonce(self.id, attempt)
    }

    /// Tries once: what the network did, or why our machinery failed. A connection that is still
    /// open is returned, to be closed when the attempt has been reported.
    pub(crate) async fn attempt(&self, common: &Common, attempt: u32) -> (Seen, Option<Open>) {
        let mut trace = Trace::new();
        let mut open = None;
        let mut ending = common.ending.subscribe();
        let ended = tokio::select! {
            biased;
            ended = self.stages(common, attempt, &mut trace, &mut open) => ended,
            // The sender lives as long as what borrows it here.
            _ = ending.wait_for(|ending| *ending) => Err(Cancel::stop(self.stage_after(&trace), How::Unfinished)),
        };
        (finished(trace, ended), open)
    }

    async fn stages(
        &self,
        common: &Common,
        attempt: u32,
        trace: &mut Trace,
        open: &mut Option<Open>,
    ) -> Result<(), Cancel> {
        let peer = SocketAddr::new(self.address(common, attempt, trace).await?, self.port);
        let nonce = common.nonce(self.id, attempt);
        let connect = millis(self.deadlines.connect_ms);
        let request = millis(self.deadlines.request_ms);
        match (self.transport, &self.work) {
            (transport, Work::Dns(question)) => {
                return dns::request(peer, transport, question, (connect, request), trace, open)
                    .await;
            }
            (Transport::Udp, Work::Payload(payload)) => {
                udp::exchange(peer, payload, connect, |_| true, trace).await?;
                return Ok(());
            }
            (Transport::Udp, _) => return udp::nonce(peer, &nonce, connect, trace).await,
            (Transport::Tcp, _) => {}
        }
        let mut stream = tcp::connect(peer, connect, trace).await?;
        let ended = match &self.work {
            Work::Connect { linger } => tcp::linger(&mut stream, *linger, trace).await,
            Work::Payload(payload) => {
                let deadline = Instant::now() + request;
                tcp::exchange(&mut stream, payload, deadline, 1, |_| true, trace)
                    .await
                    .map(drop)
            }
            Work::Tls(parameters) => {
                let stream = self.secure(stream, parameters, common, trace).await?;
                *open = Some(Open::Tls(Box::new(stream)));
                return Ok(());
            }
            Work::Http(prepared) => {
                return match &prepared.tls {
                    None => http::over_tcp(stream, prepared, &nonce, request, trace, open).await,
                    Some(parameters) => {
                        let stream = self.secure(stream, parameters, common, trace).await?;
                        http::over_tls(stream, prepared, &nonce, request, trace, open).await
                    }
                };
            }
            Work::Nonce | Work::Dns(_) => tcp::nonce(&mut stream, &nonce, request, trace).await,
        };
        *open = Some(Open::Plain(stream));
        ended
    }

    /// The stage that an attempt waits for, by what it has passed.
    fn stage_after(&self, trace: &Trace) -> Stage {
        let passed = trace.seen.passed.last().map(|(stage, _)| *stage);
        let tls = match &self.work {
            Work::Tls(_) => true,
            Work::Http(http) => http.tls.is_some(),
            Work::Connect { .. } | Work::Nonce | Work::Payload(_) | Work::Dns(_) => false,
        };
        match (passed, self.transport) {
            (None, _) if matches!(self.to, To::Names { .. }) => Stage::Resolve,
            (None | Some(Stage::Resolve), Transport::Tcp) => Stage::Connect,
            (None | Some(Stage::Resolve), Transport::Udp) => Stage::FirstBytes,
            (Some(Stage::Connect), _) if tls => Stage::Tls,
            (Some(Stage::Connect), _) => Stage::FirstBytes,
            (Some(Stage::FirstBytes | Stage::Tls | Stage::Request), _) => Stage::Request,
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        parameters: &tls::Parameters,
        common: &Common,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Cancel> {
        tls::handshake(
            stream,
            parameters,
            &common.trust,
            millis(self.deadlines.tls_ms),
            trace,
        )
        .await
    }

    /// The address to dial. Where a name has several, attempts take turns: a leak to one of them
    /// must not hide.
    async fn address(
        &self,
        common: &Common,
        attempt: u32,
        trace: &mut Trace,
    ) -> Result<IpAddr, Cancel> {
        match &self.to {
            To::Address(address) => Ok(*address),
            To::Names { names, v6 } => {
                let limit = millis(self.deadlines.resolve_ms);
                let addresses = resolve(names, *v6, &common.resolver, limit, trace).await?;
                let turn = (attempt as usize).wrapping_sub(1) % addresses.len().max(1);
                let address = addresses.get(turn).copied().ok_or_else(|| {
                    Cancel::fault(FaultReason::Defect, "resolved to no address".into())
                })?;
                trace.seen.peer = Some(SocketAddr::new(address, self.port));
                Ok(address)
            }
        }
    }
}

/// What an attempt showed that ended like this.
pub(super) fn finished(trace: Trace, ended: Result<(), Cancel>) -> Seen {
    let mut seen = trace.seen;
    match ended {
        Ok(()) => {}
        Err(Cancel::Stop(stop)) => seen.stop = Some(stop),
        Err(Cancel::Fault(reason, detail)) => return Err((reason, detail)),
    }
    fit(&mut seen);
    Ok(seen)
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
