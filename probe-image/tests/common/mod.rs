//! A probe and a responder as processes, started as the runner starts them.

#![expect(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::Pid;
use watertight_probe::encode_plan;
use watertight_probe::responder::control::{
    Behaviour, Certificate, Command as Control, Listen, Reply,
};
use watertight_probe::wire::{
    Body, ByeReason, Deadlines, Fault, FaultReason, Flow, Heartbeat, Http, Line, Observation, Pace,
    Plan, Request, Sample, Stage, Stop, StopCause, Target, Tls, Transport, VERSION,
};

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn plan(flows: Vec<Flow>) -> Plan {
    Plan {
        v: VERSION,
        run: "test-run".into(),
        seed: 42,
        ttl_ms: 20_000,
        heartbeat_ms: 200,
        trust: vec![],
        resolver: None,
        listen: None,
        idle_timeout: None,
        flows,
    }
}

/// A TCP flow to loopback with one attempt every 100 ms after its burst.
pub(crate) fn flow(id: u32, port: u16, request: Request) -> Flow {
    Flow {
        id,
        target: Target::Address(LOCALHOST),
        port,
        transport: Transport::Tcp,
        request,
        deadlines: Deadlines {
            resolve_ms: 600,
            connect_ms: 400,
            tls_ms: 600,
            request_ms: 600,
        },
        pace: Pace {
            bursts_ms: vec![0],
            interval_ms: 100,
            attempts: None,
            single: false,
            accepted: None,
        },
        small_segments: false,
    }
}

pub(crate) fn once(mut flow: Flow) -> Flow {
    flow.pace.attempts = Some(1);
    flow
}

pub(crate) fn udp(mut flow: Flow) -> Flow {
    flow.transport = Transport::Udp;
    flow
}

/// The stages that an attempt passed.
pub(crate) fn stages(observation: &Observation) -> Vec<Stage> {
    observation.passed.iter().map(|(stage, _)| *stage).collect()
}

/// The stop of an attempt.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is compared with Observation::stop"
)]
pub(crate) fn stop(stage: Stage, how: StopCause) -> Option<Stop> {
    Some(Stop { stage, how })
}

/// The cause of a stop by this errno, without an ICMP message.
pub(crate) fn error(errno: i32) -> StopCause {
    StopCause::Error { errno, icmp: None }
}

/// Whether an attempt stopped at this stage by bytes of another protocol.
pub(crate) fn is_garbled(observation: &Observation, at: Stage) -> bool {
    matches!(
        &observation.stop,
        Some(Stop { stage, how: StopCause::Garbled { .. } }) if *stage == at
    )
}

/// Runs flows with one attempt each and returns the observations by flow.
///
/// On a machine so busy that the probe stalled, the probe reports faults: the run is repeated.
pub(crate) fn run(plan: &Plan) -> BTreeMap<u32, Observation> {
    for _ in 0..5 {
        let mut probe = Probe::start(plan);
        assert_eq!(probe.bye(), ByeReason::Done, "{:#?}", probe.read);
        probe.assert_no_gap();
        let faults = probe.faults();
        if faults.is_empty() {
            return probe
                .samples()
                .map(|sample| (sample.flow, sample.observation.clone()))
                .collect();
        }
        assert!(
            faults
                .iter()
                .all(|fault| fault.reason == FaultReason::Starved),
            "{faults:#?}"
        );
    }
    panic!("this machine is too busy to test on");
}

/// Starts a server that handles each connection by `work`; returns its port.
pub(crate) fn server(work: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            std::thread::spawn(move || work(stream));
        }
    });
    port
}

pub(crate) fn http(id: u32, port: u16) -> Flow {
    once(flow(id, port, Request::Http(get(port))))
}

pub(crate) fn get(port: u16) -> Http {
    Http {
        tls: None,
        method: "GET".into(),
        path: "/a?b=c".into(),
        authority: format!("localhost:{port}"),
        headers: vec![],
        body: None,
        h2: false,
        pattern: None,
    }
}

pub(crate) fn tls(id: u32, port: u16, server_name: Option<&str>, alpn: &[&str]) -> Flow {
    let alpn = alpn.iter().map(ToString::to_string).collect();
    once(flow(
        id,
        port,
        Request::Tls(Tls {
            server_name: server_name.map(Into::into),
            alpn,
        }),
    ))
}

pub(crate) fn dns(id: u32, port: u16, name: &str, record: &str) -> Flow {
    once(flow(
        id,
        port,
        Request::Dns {
            name: name.into(),
            record: record.into(),
        },
    ))
}

pub(crate) fn zone(names: &[(&str, &str)]) -> Control {
    let mut records: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, address) in names {
        records
            .entry((*name).into())
            .or_default()
            .push(address.parse().unwrap());
    }
    Control::Zone { records }
}

/// A probe process and the lines that it writes.
pub(crate) struct Probe {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) read: Vec<Line>,
}

impl Probe {
    pub(crate) fn start(plan: &Plan) -> Self {
        Self::start_with(encode_plan(plan).unwrap(), &[])
    }

    pub(crate) fn start_with(environment: Vec<(String, String)>, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_watertight-probe"))
            .arg("__probe")
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            read: Vec::new(),
        }
    }

    /// Reads lines until one is `wanted`; panics after 15 s or at the end of output.
    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&Body) -> bool) -> Line {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(text) => {
                    assert!(
                        text.len() < watertight_probe::wire::MAX_LINE,
                        "a line of {} bytes",
                        text.len()
                    );
                    let line: Line =
                        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                    self.read.push(line.clone());
                    if wanted(&line.body) {
                        return line;
                    }
                }
                Err(why) => panic!("{why}; read so far: {:#?}", self.read),
            }
        }
    }

    pub(crate) fn sample(&mut self, flow: u32) -> Sample {
        self.sample_that(flow, |_| true)
    }

    pub(crate) fn sample_that(
        &mut self,
        flow: u32,
        wanted: impl Fn(&Observation) -> bool,
    ) -> Sample {
        let line = self.until(
            |body| matches!(body, Body::Sample(s) if s.flow == flow && wanted(&s.observation)),
        );
        let Body::Sample(sample) = line.body else {
            unreachable!()
        };
        sample
    }

    pub(crate) fn heartbeat_of(&mut self, flow: u32) -> Heartbeat {
        let line = self.until(
            |body| matches!(body, Body::Heartbeat(b) if b.flows.iter().any(|entry| entry.0 == flow)),
        );
        let Body::Heartbeat(heartbeat) = line.body else {
            unreachable!()
        };
        heartbeat
    }

    pub(crate) fn bye(&mut self) -> ByeReason {
        let line = self.until(|body| matches!(body, Body::Bye { .. }));
        let Body::Bye { reason } = line.body else {
            unreachable!()
        };
        reason
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.read.iter().filter_map(|line| {
            if let Body::Sample(sample) = &line.body {
                Some(sample)
            } else {
                None
            }
        })
    }

    pub(crate) fn faults(&self) -> Vec<&Fault> {
        self.read
            .iter()
            .filter_map(|line| {
                if let Body::Fault(fault) = &line.body {
                    Some(fault)
                } else {
                    None
                }
            })
            .collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end; panics after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the probe still runs after {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn no_more_lines(&self) -> bool {
        matches!(
            self.lines.recv_timeout(Duration::from_secs(5)),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    /// Asserts that `seq` is 0, 1, 2, ...
    pub(crate) fn assert_no_gap(&self) {
        let seqs: Vec<u64> = self.read.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A responder process and its control socket.
pub(crate) struct Responder {
    pub(crate) child: Child,
    pub(crate) control: OwnedFd,
}

impl Responder {
    pub(crate) fn start() -> Self {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_watertight-probe"))
            .arg("__responder")
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        Self {
            child,
            control: ours,
        }
    }

    pub(crate) fn send(&self, command: &Control, netns: Option<BorrowedFd<'_>>) -> Reply {
        self.send_text(&serde_json::to_vec(command).unwrap(), netns)
    }

    pub(crate) fn send_text(&self, text: &[u8], netns: Option<BorrowedFd<'_>>) -> Reply {
        let rights = netns.map(|fd| [fd.as_raw_fd()]);
        let ancillary: Vec<ControlMessage<'_>> = rights
            .iter()
            .map(|fds| ControlMessage::ScmRights(fds))
            .collect();
        sendmsg::<()>(
            self.control.as_raw_fd(),
            &[IoSlice::new(text)],
            &ancillary,
            MsgFlags::empty(),
            None,
        )
        .unwrap();

        let mut buffer = vec![0_u8; 64 * 1024];
        let n = recv(self.control.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        serde_json::from_slice(&buffer[..n]).unwrap()
    }

    /// Listens on a free port of loopback and returns it.
    pub(crate) fn listen(&self, who: &str, transport: Transport, behaviour: Behaviour) -> u16 {
        self.listen_with(who, transport, behaviour, None)
    }

    pub(crate) fn listen_with(
        &self,
        who: &str,
        transport: Transport,
        behaviour: Behaviour,
        certificate: Option<Certificate>,
    ) -> u16 {
        let port = free_port(transport);
        let address = SocketAddr::new(LOCALHOST, port);
        let listen = vec![Listen {
            address,
            transport,
            behaviour,
            certificate,
        }];
        let group = u32::from(port);
        assert_eq!(
            self.send(
                &Control::Serve {
                    group,
                    who: who.into(),
                    listen
                },
                None
            ),
            Reply::Done
        );
        port
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A free port below the ephemeral range, so that no attempt takes it as its local port before a
/// listener does.
pub(crate) fn free_port(transport: Transport) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes run in parallel: each starts at another port.
    let base = u16::try_from(std::process::id() % 10_000).unwrap() + 10_000;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        let free = match transport {
            Transport::Tcp => TcpListener::bind((LOCALHOST, port)).is_ok(),
            Transport::Udp => UdpSocket::bind((LOCALHOST, port)).is_ok(),
        };
        if free {
            return port;
        }
    }
}

/// Reports on stderr that a test was skipped, and why.
pub(crate) fn skipped(why: &str) {
    drop(writeln!(std::io::stderr(), "skipped: {why}"));
}
