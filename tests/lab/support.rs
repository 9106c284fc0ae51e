//! A small world, probes in it, and what they saw.

use crate::worlds;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use watertight::backend::lab::{self, Deny, Options, Outside, Sabotage, World};
use watertight::backend::{Arrival, Backend, Launch, ProbeFault};
use watertight::inventory::Inventory;
use watertight::model::Family;
use watertight::plan::{FlowId, ProbeId, Source};
use watertight::wire::{self, Body, FaultReason, Observation, Stage, StopCause};

/// A check, with its name.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Names a check by its function.
#[macro_export]
macro_rules! check {
    ($name:ident) => {
        Check {
            name: stringify!($name),
            run: || Box::pin($name()),
        }
    };
}

/// Runs as what the arguments say: a probe, the responder, or the checks whose name contains the
/// first argument. Those on request run only when they are named in full.
pub(crate) fn main(on_request: &[Check], checks: &[Check]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("__probe") => {
            return watertight_probe::probe_main(arguments.get(1).and_then(|fd| fd.parse().ok()));
        }
        Some("__responder") => return watertight_probe::responder_main(),
        _ => {}
    }

    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let named = on_request
        .iter()
        .filter(|check| filter.is_some_and(|filter| check.name == filter));
    let wanted = checks
        .iter()
        .filter(|check| filter.is_none_or(|filter| check.name.contains(filter.as_str())))
        .chain(named);
    if arguments.iter().any(|argument| argument == "--list") {
        wanted.for_each(|check| say(&format!("{}: test", check.name)));
        return ExitCode::SUCCESS;
    }

    if let Err(obstacle) = lab::enter() {
        say(&format!(
            "no check was run: {obstacle}; fix: {}",
            obstacle.fix()
        ));
        return ExitCode::FAILURE;
    }

    let mut failed = 0;
    for Check { name, run } in wanted {
        let started = std::time::Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let ended = std::panic::catch_unwind(|| runtime.block_on(run()));
        failed += usize::from(ended.is_err());
        say(&format!(
            "test {name} ... {} ({:?})",
            if ended.is_ok() { "ok" } else { "FAILED" },
            started.elapsed()
        ));
    }

    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

pub(crate) fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// A pod by `namespace/name`.
pub(crate) fn pod(full: &str) -> Source {
    let (namespace, name) = full.split_once('/').expect("namespace/name");
    Source::Pod {
        namespace: namespace.into(),
        name: name.into(),
        node: String::new(),
    }
}

pub(crate) fn node(name: &str) -> Source {
    Source::Node { name: name.into() }
}

pub(crate) fn runner() -> Source {
    Source::Runner
}

const MANIFESTS: &str = include_str!("world.yaml");

pub(crate) fn world() -> World {
    let outside = [
        Outside {
            name: Some("pay.example".into()),
            addresses: Vec::new(),
            ports: vec![(443, wire::Transport::Tcp)],
        },
        Outside {
            name: None,
            addresses: vec![[203, 0, 113, 66].into()],
            ports: vec![(8443, wire::Transport::Tcp)],
        },
    ];
    worlds::world(MANIFESTS, &outside)
}

/// A flow: from where, over what, to whom.
pub(crate) type Flow = (Source, wire::Transport, SocketAddr);

pub(crate) struct Lab {
    pub(crate) backend: lab::Lab,
    pub(crate) world: World,
    inventory: Inventory,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

fn next() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Lab {
    pub(crate) async fn up(deny: Deny) -> Self {
        Self::of(world(), deny).await
    }

    /// A lab of any world.
    pub(crate) async fn of(world: World, deny: Deny) -> Self {
        let mut backend = lab::Lab::up(world.clone(), Options { deny })
            .await
            .expect("lab");
        let inventory = backend.inventory().await.expect("inventory");
        Self {
            backend,
            world,
            inventory,
        }
    }

    pub(crate) async fn down(self) {
        let errors = self.backend.teardown().await;
        assert!(errors.is_empty(), "{errors:?}");
    }

    pub(crate) async fn refresh(&mut self) {
        self.inventory = self.backend.inventory().await.expect("inventory");
    }

    pub(crate) fn sabotage(&self) -> Sabotage {
        self.backend.sabotage()
    }

    pub(crate) fn at(&self, full: &str, family: Family, port: u16) -> SocketAddr {
        let pod = self
            .inventory
            .pods
            .iter()
            .find(|pod| pod.full_name() == full)
            .expect("a pod of the world");
        SocketAddr::new(pod.address(family).expect("an address"), port)
    }

    pub(crate) fn node_of(&self, full: &str) -> String {
        self.inventory
            .pods
            .iter()
            .find(|pod| pod.full_name() == full)
            .expect("a pod of the world")
            .node
            .clone()
    }

    pub(crate) fn other_node(&self, full: &str) -> String {
        let own = self.node_of(full);
        self.inventory
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .find(|name| *name != own)
            .expect("two nodes")
    }

    pub(crate) fn service(&self, full: &str, family: Family, port: u16) -> SocketAddr {
        let mut services = self.inventory.services.iter();
        let service = services
            .find(|service| format!("{}/{}", service.namespace, service.name) == full)
            .expect("a Service");
        SocketAddr::new(of_family(&service.addresses, family), port)
    }

    pub(crate) fn node_at(&self, name: &str, family: Family, port: u16) -> SocketAddr {
        let node = self
            .inventory
            .nodes
            .iter()
            .find(|node| node.name == name)
            .expect("a node");
        SocketAddr::new(of_family(&node.addresses, family), port)
    }

    pub(crate) fn host(&self, name: &str, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(of_family(&self.inventory.hosts[name], family), port)
    }

    /// Tries each flow once, all at the same time; again where a busy machine starved a probe.
    pub(crate) async fn observe(&mut self, flows: &[Flow]) -> Vec<Seen> {
        for _ in 0..5 {
            if let Some(seen) = self.observe_once(flows).await {
                return seen;
            }
        }
        panic!("the machine is too busy for any probe");
    }

    /// Tries each flow once; `None` where a busy machine starved a probe.
    pub(crate) async fn observe_once(&mut self, flows: &[Flow]) -> Option<Vec<Seen>> {
        let mut ids = Vec::new();
        let mut by_source: BTreeMap<Source, Vec<wire::Flow>> = BTreeMap::new();
        for (from, transport, to) in flows {
            let flow = wire_flow(*transport, *to, Some(1));
            ids.push((flow.id, format!("{from:?} to {to} over {transport:?}")));
            by_source.entry(from.clone()).or_default().push(flow);
        }
        let launches = by_source
            .into_iter()
            .map(|(source, flows)| launch(source, flows))
            .collect();

        let (sender, mut lines) = mpsc::channel(64);
        self.backend.launch(launches, sender).await.expect("launch");

        let mut seen: BTreeMap<u32, Observation> = BTreeMap::new();
        let mut starved = false;
        let all = async {
            while seen.len() < flows.len() && !starved {
                let arrival = lines.recv().await.expect("lines");
                match arrival.line {
                    Ok(wire::Line {
                        body: Body::Sample(sample),
                        ..
                    }) => drop(seen.insert(sample.flow, sample.observation)),
                    Ok(wire::Line {
                        body: Body::Fault(fault),
                        ..
                    }) => {
                        assert_eq!(fault.reason, FaultReason::Starved, "{fault:?}");
                        starved = true;
                    }
                    // A probe whose attempts are all made ends by itself.
                    Ok(_) => {}
                    Err(ProbeFault::Ended(how)) if how == "exit status: 0" => {}
                    Err(fault) => panic!("{fault:?}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .expect("a sample of every flow");
        let stop = self.backend.stop();
        tokio::join!(stop, async { while lines.recv().await.is_some() {} });

        if starved {
            return None;
        }
        let mut all = Vec::new();

        for (id, what) in ids {
            all.push(Seen {
                flow: FlowId(id),
                what,
                observation: seen.remove(&id).expect("seen above"),
            });
        }
        Some(all)
    }

    /// Starts probes that go on until they are stopped.
    pub(crate) async fn launch_endless(
        &mut self,
        flows: &[Flow],
    ) -> (Vec<ProbeId>, mpsc::Receiver<Arrival>) {
        let flows = flows.iter().map(|(from, transport, to)| {
            launch(from.clone(), vec![wire_flow(*transport, *to, None)])
        });
        let launches: Vec<Launch> = flows.collect();
        let ids = launches.iter().map(|launch| launch.probe).collect();
        let (sender, lines) = mpsc::channel(64);
        self.backend.launch(launches, sender).await.expect("launch");
        (ids, lines)
    }

    /// Asks a name server over UDP.
    pub(crate) async fn ask(
        &self,
        from: Source,
        server: SocketAddr,
        name: &str,
        family: Family,
    ) -> Option<Vec<IpAddr>> {
        let query = query(name, family);
        self.sabotage()
            .within(from, move || exchange(server, &query))
            .await
            .expect("the source is a place in the lab")
    }
}

fn of_family(addresses: &[IpAddr], family: Family) -> IpAddr {
    *addresses
        .iter()
        .find(|address| Family::of(**address) == family)
        .expect("an address of that family")
}

fn wire_flow(transport: wire::Transport, to: SocketAddr, attempts: Option<u32>) -> wire::Flow {
    wire::Flow {
        id: next(),
        target: wire::Target::Address(to.ip()),
        port: to.port(),
        transport,
        request: wire::Request::Nonce,
        deadlines: wire::Deadlines {
            resolve_ms: 400,
            connect_ms: 400,
            tls_ms: 400,
            request_ms: 400,
        },
        pace: wire::Pace {
            bursts_ms: vec![0],
            interval_ms: 500,
            attempts,
            single: false,
            accepted: None,
        },
        small_segments: false,
    }
}

fn launch(source: Source, flows: Vec<wire::Flow>) -> Launch {
    let plan = wire::Plan {
        v: wire::VERSION,
        run: "lab-packets".into(),
        seed: 7,
        ttl_ms: 60_000,
        heartbeat_ms: 200,
        trust: Vec::new(),
        resolver: None,
        listen: None,
        idle_timeout: None,
        flows,
    };
    Launch {
        probe: ProbeId(next()),
        source,
        ephemeral: false,
        plan,
    }
}

/// The one attempt of a flow.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) flow: FlowId,
    #[expect(dead_code, reason = "shown when an assertion fails")]
    what: String,
    observation: Observation,
}

impl Seen {
    pub(crate) fn is_open(&self) -> bool {
        self.observation.stop.is_none()
    }

    pub(crate) fn who(&self) -> String {
        self.observation
            .answer
            .as_ref()
            .unwrap_or_else(|| panic!("no answer: {self:?}"))
            .who
            .clone()
    }

    #[track_caller]
    pub(crate) fn opened(&self) {
        assert!(
            self.is_open()
                && self
                    .observation
                    .answer
                    .as_ref()
                    .is_some_and(|answer| answer.nonce),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(crate) fn said(&self, start: &str) {
        self.opened();
        assert!(self.who().starts_with(start), "{self:?}");
    }

    #[track_caller]
    fn stopped(&self) -> (&StopCause, Stage) {
        let stop = self
            .observation
            .stop
            .as_ref()
            .unwrap_or_else(|| panic!("open: {self:?}"));
        (&stop.how, stop.stage)
    }

    #[track_caller]
    pub(crate) fn silent(&self) {
        assert!(
            matches!(self.stopped(), (StopCause::Silence, _)),
            "{self:?}"
        );
    }

    /// Asserts a refusal by a reset or by ICMP: no listener.
    #[track_caller]
    pub(crate) fn refused(&self) {
        assert!(
            matches!(self.stopped(), (StopCause::Error { errno: 111, .. }, _)),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(crate) fn reset(&self) {
        assert!(
            matches!(
                self.stopped(),
                (
                    StopCause::Error {
                        errno: 111,
                        icmp: None
                    },
                    _
                )
            ),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(crate) fn icmp(&self, wanted: (u8, u8)) {
        match self.stopped() {
            (
                StopCause::Error {
                    icmp: Some(icmp), ..
                },
                _,
            ) => assert_eq!((icmp.ty, icmp.code), wanted, "{self:?}"),
            _ => panic!("{self:?}"),
        }
    }
}

/// Reads until so many probes have sampled.
pub(crate) async fn until_sampled(lines: &mut mpsc::Receiver<Arrival>, probes: usize) {
    let mut sampled = BTreeSet::new();
    while sampled.len() < probes {
        let arrival = lines.recv().await.expect("lines");
        if let Ok(wire::Line {
            body: Body::Sample(_),
            ..
        }) = arrival.line
        {
            sampled.insert(arrival.probe);
        }
    }
}

/// Reads until so many probes have ended, and how.
pub(crate) async fn until_ended(
    lines: &mut mpsc::Receiver<Arrival>,
    probes: usize,
) -> BTreeMap<ProbeId, String> {
    let mut ends = BTreeMap::new();
    while ends.len() < probes {
        let arrival = lines.recv().await.expect("lines");
        if let Err(ProbeFault::Ended(how)) = arrival.line {
            ends.insert(arrival.probe, how);
        }
    }
    ends
}

/// Child processes of this one, with their state and what they are.
pub(crate) fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    processes
        .filter_map(|process| child_of(&own, &process.path()))
        .collect()
}

/// A process by its folder in `/proc`, if it is a child of this parent.
fn child_of(parent: &str, process: &Path) -> Option<String> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    if status_field(&status, "PPid:")? != parent {
        return None;
    }

    let command = std::fs::read_to_string(process.join("cmdline")).ok()?;
    let state = status_field(&status, "State:").unwrap_or_default();
    Some(format!("{state} {}", command.replace('\0', " ")))
}

/// A field of `/proc/PID/status` (`proc_pid_status(5)`).
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

/// The addresses in the first answer of a name server to a query; `None` without an answer.
fn exchange(server: SocketAddr, query: &[u8]) -> Option<Vec<IpAddr>> {
    let any: IpAddr = if server.is_ipv4() {
        [0; 4].into()
    } else {
        [0_u16; 8].into()
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(server).ok()?;
    socket
        .set_read_timeout(Some(Duration::from_millis(700)))
        .ok()?;
    socket.send(query).ok()?;

    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).ok()?;
    Some(addresses(&answer[..length], query.len()))
}

/// A DNS query (RFC 1035 section 4).
fn query(name: &str, family: Family) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a label"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, if family == Family::V4 { 1 } else { 28 }, 0, 1]);
    query
}

/// The addresses in an answer whose question took so many bytes; names in it are taken as pointers.
fn addresses(answer: &[u8], question: usize) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut rest = &answer[question..];
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        // A name is a pointer, or labels up to a zero.
        let name = if rest[0] >= 0xc0 {
            2
        } else {
            rest.iter()
                .position(|byte| *byte == 0)
                .expect("a name's end")
                + 1
        };
        let length = usize::from(u16::from_be_bytes([rest[name + 8], rest[name + 9]]));
        let data = &rest[name + 10..name + 10 + length];
        match length {
            4 => found.push(IpAddr::from(<[u8; 4]>::try_from(data).expect("four"))),
            16 => found.push(IpAddr::from(<[u8; 16]>::try_from(data).expect("sixteen"))),
            _ => {}
        }
        rest = &rest[name + 10 + length..];
    }
    found
}
