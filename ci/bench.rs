//! How fast and how small, by hand: `cargo bench --bench lab`, or `--
//! worlds|checks|many|flows|busy|agent` for one part.
//!
//! Prints ratios to the budgets, since single times say little on a shared machine, and the CPU
//! time that each attempt costs, which other programs disturb least. A run in which something is
//! unproven has failed, however fast it was.
//!
//! `busy` runs in a network that loses one packet in a hundred on every node, on a machine whose
//! cores are all busy: at most one check in a thousand may be unproven there, and none violated.
//!
//! `agent` measures the static agent: build it first, with `cargo build --profile probe -p
//! watertight-probe --target x86_64-unknown-linux-musl` (and `CC_x86_64_unknown_linux_musl=gcc`
//! where there is no other C compiler for it).
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people, which ends at the first failure"
)]

use nix::sys::resource::{UsageWho, getrusage};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};
use watertight::app::{engine_options, plan_in};
use watertight::backend::lab::{self, Deny, Lab, Layout, Loss, Options, World};
use watertight::backend::{Arrival, Backend};
use watertight::engine::{self, Observer};
use watertight::event::{CheckResult, Outcome, RunEvent, RunInfo, Summary};
use watertight::inventory::{Manifests, PolicyState, read_manifests};
use watertight::plan::{Selection, floor};
use watertight::source::Sources;
use watertight::suite::{self, Suite};
use watertight::wire::{self, Body};

fn main() {
    if watertight::early_main().is_some() {
        return;
    }
    if std::env::var_os("WATERTIGHT_BENCH_PART").is_none() {
        return run_parts();
    }
    let part = std::env::var("WATERTIGHT_BENCH_PART").unwrap_or_default();
    lab::enter().expect("the lab is possible here");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        match part.as_str() {
            "worlds" => worlds().await,
            "checks" => measure_run(&Ring::new("100 checks", 10)).await,
            "many" => measure_run(&Ring::new("9,900 checks", 100)).await,
            "flows" => {
                measure_run(&Ring {
                    replicas: 5,
                    budget: Duration::from_secs(30),
                    ..Ring::new("99,000 flows in 9,900 checks", 100)
                })
                .await;
            }
            "busy" => {
                keep_cores_busy();
                for _ in 0..BUSY_RUNS {
                    measure_run(&Ring {
                        loss: Some(Loss::OneIn(100)),
                        ..Ring::new("992 checks in a busy network", 32)
                    })
                    .await;
                }
            }
            "agent" => agent().await,
            other => println!("no part is called {other}"),
        }
    });
}

/// Runs each part in a separate process: peak memory is counted for a process.
fn run_parts() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of this machine: {}", load.trim());
    for part in ["worlds", "checks", "many", "flows", "busy", "agent"] {
        if wanted.is_empty() || wanted.iter().any(|name| name == part) {
            let executable = std::env::current_exe().expect("this program");
            let status = std::process::Command::new(executable)
                .env("WATERTIGHT_BENCH_PART", part)
                .status();
            println!("{part}: {}\n", status.expect("the part ran"));
        }
    }
}

async fn worlds() {
    for (pods, budget) in [(300, 1.5), (1_000, 8.0)] {
        let world = World::place(&many_pods(pods), &[], Layout::dual_stack()).expect("placed");
        let started = Instant::now();
        let lab = Lab::up(world, Options { deny: Deny::Drop })
            .await
            .expect("up");
        let up = started.elapsed().as_secs_f64();
        assert!(lab.teardown().await.is_empty(), "taken down cleanly");
        println!(
            "{pods} pods with a policy and a Service each: up in {up:.2} s, {:.2} of the budget",
            up / budget
        );
    }
}

/// A world with a policy and a Service for each pod.
fn many_pods(pods: usize) -> Manifests {
    let mut text = String::new();
    for n in 0..pods {
        let next = (n + 1) % pods;
        let written = write!(
            text,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{n}, namespace: many, labels: {{app: p{n}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: 8080}}]}}]}}}}\n\
             ---\n{{apiVersion: v1, kind: Service, metadata: {{name: p{n}, namespace: many}}, spec: {{selector: {{app: p{n}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n\
             ---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{n}, namespace: many}}, spec: {{podSelector: {{matchLabels: {{app: p{n}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: p{next}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n",
        );
        written.expect("text");
    }
    manifests(text)
}

fn manifests(text: String) -> Manifests {
    let mut sources = Sources::new();
    let file = sources.add("bench.yaml", text);
    let (manifests, diagnostics) = read_manifests(&[file], &sources);
    assert!(
        !diagnostics.has_errors(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    manifests
}

/// Deployments with so many replicas, of which each may be reached by the one before it only.
fn ring(workloads: usize, replicas: usize) -> (Manifests, Vec<Suite>) {
    let mut objects = String::new();
    let mut endpoints = String::new();
    let mut expect = String::new();
    for n in 0..workloads {
        let before = (n + workloads - 1) % workloads;
        let written = write!(
            objects,
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: w{n}, namespace: ring}}, spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: w{n}}}}}, template: {{metadata: {{labels: {{app: w{n}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: 8080}}]}}]}}}}}}}}\n\
             ---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: w{n}, namespace: ring}}, spec: {{podSelector: {{matchLabels: {{app: w{n}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: w{before}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n",
        );
        written.expect("text");
        writeln!(
            endpoints,
            "    w{n}: {{namespace: ring, workload: Deployment/w{n}}}"
        )
        .expect("text");
        writeln!(expect, "    - w{before} -> w{n}:8080 allowed").expect("text");
    }

    let text = format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: ring}}\nspec:\n  settings: {{spread: one}}\n  endpoints:\n{endpoints}  expect:\n{expect}  everythingElse: denied\n"
    );
    let mut sources = Sources::new();
    let file = sources.add("ring.yaml", text);
    let (suites, diagnostics) = suite::read(&[file], &sources);
    assert!(
        !diagnostics.has_errors(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    (manifests(objects), suites)
}

/// Serialises every event of a run, as JSON lines do, and measures.
#[derive(Default)]
struct Measurements {
    lines: u64,
    summary: Option<Summary>,
    last_hello: Option<Duration>,
    reasons: BTreeMap<String, usize>,
    /// The violations: in these worlds each is an error.
    violated: Vec<String>,
    /// Attempts by flow.
    attempts: Vec<u32>,
    /// The largest probe so far, KiB.
    probe_kib: u64,
    probes_measured_at: Option<Instant>,
    /// The runner's memory at the first line, and at the end of the run, KiB.
    resident_kib: [u64; 2],
}

impl Observer for Measurements {
    fn event(&mut self, event: RunEvent) {
        // What JSON lines cost is part of the run.
        serde_json::to_writer(std::io::sink(), &event).expect("JSON");
        if self
            .probes_measured_at
            .is_none_or(|at| at.elapsed() > Duration::from_secs(2))
        {
            self.probes_measured_at = Some(Instant::now());
            let probes = children("__probe").into_iter().map(|pid| peak_kib(&pid));
            self.probe_kib = self.probe_kib.max(probes.max().unwrap_or(0));
        }
    }

    /// Takes one result at a time, as JSON lines do.
    fn finished(
        &mut self,
        run: RunInfo,
        _policies: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        self.resident_kib[1] = resident_kib();
        let mut summary = Summary::default();
        for result in results {
            serde_json::to_writer(std::io::sink(), &result).expect("JSON");
            summary.add(&result);
            if let Some(reason) = &result.reason {
                *self.reasons.entry(reason.code.to_string()).or_default() += 1;
            }
            if result.verdict == Outcome::Violated {
                self.violated
                    .push(format!("{}: {}", result.check.id, result.seen));
            }
        }
        let summary = summary.close(run.complete);
        self.summary = Some(summary);
        summary
    }

    fn arrival(&mut self, arrival: &Arrival) {
        if self.lines == 0 {
            self.resident_kib[0] = resident_kib();
        }
        self.lines += 1;
        match arrival.line.as_ref().map(|line| &line.body) {
            Ok(Body::Hello(_)) => self.last_hello = Some(arrival.at),
            Ok(Body::Sample(sample)) => {
                self.attempts[sample.flow as usize] = sample.attempt;
            }
            Ok(Body::Heartbeat(heartbeat)) => {
                for (flow, attempts, _) in &heartbeat.flows {
                    self.attempts[*flow as usize] = *attempts;
                }
            }
            Ok(Body::Fault(_) | Body::Latencies { .. } | Body::Bye { .. }) | Err(_) => {}
        }
    }
}

/// Number of runs in a busy network.
const BUSY_RUNS: usize = 5;

/// Keeps as many threads busy as this machine has cores, until the process ends.
fn keep_cores_busy() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

/// A run that is measured.
struct Ring {
    what: &'static str,
    workloads: usize,
    replicas: usize,
    /// Zero is none.
    budget: Duration,
    /// What every node loses.
    loss: Option<Loss>,
}

impl Ring {
    /// A run of workloads with one replica each, without a budget, where nothing is lost.
    fn new(what: &'static str, workloads: usize) -> Self {
        Self {
            what,
            workloads,
            replicas: 1,
            budget: Duration::ZERO,
            loss: None,
        }
    }
}

/// Plans and runs a ring of workloads, and prints the measurements.
async fn measure_run(measured_ring: &Ring) {
    let Ring {
        what,
        workloads,
        replicas,
        budget,
        loss,
    } = *measured_ring;
    let (manifests, suites) = ring(workloads, replicas);
    let world = World::place(&manifests, &[], Layout::dual_stack()).expect("placed");
    let started = Instant::now();
    let plan = plan_in(&world, &suites, &Selection::default()).expect("a plan");
    let planned_in = started.elapsed();
    let planned_kib = resident_kib();
    let (checks, flows, probe_count) =
        (plan.checks().len(), plan.flows().len(), plan.probes().len());

    let started = Instant::now();
    let mut lab = Lab::up(world, Options { deny: Deny::Drop })
        .await
        .expect("up");
    let up_in = started.elapsed();
    println!(
        "{what}: {checks} checks, {flows} flows, {probe_count} probes; planned in {planned_in:.2?}, lab up in {up_in:.2?}"
    );

    if let Some(loss) = loss {
        let sabotage = lab.sabotage();
        let nodes = sabotage.inventory().await.expect("a lab").nodes;
        for node in nodes {
            sabotage.lose_packets(&node.name, loss).await.expect("loss");
        }
    }

    let mut measured = Measurements {
        attempts: vec![0; flows],
        ..Measurements::default()
    };
    let options = engine_options(&lab);
    let started = Instant::now();
    let began = lab.started().elapsed();
    let cpu_before = Cpu::now();
    let result = engine::run(
        &plan,
        &mut lab,
        options,
        std::future::pending(),
        &mut measured,
    )
    .await;
    let ran_in = started.elapsed();
    let cpu = Cpu::now().since(&cpu_before);
    result.expect("a run");
    assert!(lab.teardown().await.is_empty(), "taken down cleanly");

    print_verdicts(&measured, checks);

    // The slowest probe's start is part of the floor.
    let start = measured
        .last_hello
        .map_or(Duration::ZERO, |last| last.saturating_sub(began));
    print_times(ran_in, floor(&plan) + start, start, budget);
    print_cpu(&measured, &cpu);
    println!(
        "  largest probe {:.1} MiB; runner {:.1} MiB once planned, {:.1} launched, {:.1} at the end, peak {:.1} MiB",
        mib(measured.probe_kib),
        mib(planned_kib),
        mib(measured.resident_kib[0]),
        mib(measured.resident_kib[1]),
        mib(peak_kib("self"))
    );
}

fn print_verdicts(measured: &Measurements, checks: usize) {
    let summary = measured.summary.expect("a run has an end");
    println!(
        "  {} proven, {} violated, {} unproven",
        summary.proven, summary.violated, summary.unproven
    );
    if summary.proven < checks {
        println!(
            "  FAILED, however fast: not proven because of {:?}",
            measured.reasons
        );
        for violated in &measured.violated {
            println!("    {violated}");
        }
    }
}

fn print_times(ran_in: Duration, floor: Duration, start: Duration, budget: Duration) {
    let ratio = ran_in.as_secs_f64() / floor.as_secs_f64();
    println!(
        "  ran {ran_in:.2?}: {ratio:.2} of the floor of {floor:.2?} (budget 1.15), of which {start:.2?} for the slowest start"
    );
    if !budget.is_zero() {
        println!(
            "  {:.2} of the budget of {budget:?}",
            ran_in.as_secs_f64() / budget.as_secs_f64()
        );
    }
}

fn print_cpu(measured: &Measurements, cpu: &Cpu) {
    let attempts: u64 = measured.attempts.iter().map(|n| u64::from(*n)).sum();
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / attempts.max(1) as f64;
    println!(
        "  {attempts} attempts; CPU {:.0} us each: probes {:.0}, responder {:.0}, runner {:.0}; {} lines",
        micros(cpu.runner + cpu.probes + cpu.responder),
        micros(cpu.probes),
        micros(cpu.responder),
        micros(cpu.runner),
        measured.lines
    );
}

/// The static agent: its size, and its memory at 1,000 TCP flows of which the permitted
/// number wait for an answer.
async fn agent() {
    let path = std::path::Path::new("target/x86_64-unknown-linux-musl/probe/watertight-probe");
    let Ok(file) = std::fs::metadata(path) else {
        println!(
            "the static agent is not built: {} is not there",
            path.display()
        );
        return;
    };
    println!(
        "static agent: {:.2} MB, {:.2} of the budget of 4 MB",
        file.len() as f64 / 1e6,
        file.len() as f64 / 4e6
    );

    let plan = wire::Plan {
        v: wire::VERSION,
        run: "bench".into(),
        seed: 1,
        ttl_ms: 60_000,
        heartbeat_ms: 500,
        trust: vec![],
        resolver: None,
        listen: None,
        idle_timeout: None,
        flows: agent_flows(silent_listener()),
    };
    let mut child = std::process::Command::new(path)
        .arg("__probe")
        .envs(watertight_probe::encode_plan(&plan).expect("the plan fits"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the agent runs");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("the lines of the probe"));
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    tokio::time::sleep(Duration::from_secs(12)).await;
    let pid = child.id().to_string();
    let (peak, cpu) = (peak_kib(&pid), cpu_of(&pid));
    child.kill().expect("the probe is a child");
    child.wait().expect("the probe ends");
    println!(
        "  at 1,000 TCP flows: {:.1} MiB resident, {:.2} of the budget of 16 MiB; {cpu:.2?} of CPU in 12 s",
        mib(peak),
        mib(peak) / 16.0
    );
}

/// The port of a listener that accepts connections by its backlog and never answers.
fn silent_listener() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut { stream }, &mut std::io::sink()));
        }
    });
    port
}

/// 1,000 flows to a port of this machine, started 4 ms apart.
fn agent_flows(port: u16) -> Vec<wire::Flow> {
    (0..1_000)
        .map(|id| wire::Flow {
            id,
            target: wire::Target::Address([127, 0, 0, 1].into()),
            port,
            transport: wire::Transport::Tcp,
            request: wire::Request::Nonce,
            deadlines: wire::Deadlines {
                resolve_ms: 2_000,
                connect_ms: 1_300,
                tls_ms: 5_000,
                request_ms: 1_300,
            },
            pace: wire::Pace {
                bursts_ms: vec![id * 4],
                interval_ms: 4_000,
                attempts: None,
                single: true,
                accepted: None,
            },
            small_segments: false,
        })
        .collect()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The peak memory of a process so far, KiB.
fn peak_kib(pid: &str) -> u64 {
    status_kib(pid, "VmHWM:")
}

/// The memory of this process now, KiB.
fn resident_kib() -> u64 {
    status_kib("self", "VmRSS:")
}

/// A line of `/proc/PID/status`, KiB.
fn status_kib(pid: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or(0)
}

/// The ids of the processes that this process started in a role: `__probe` or `__responder`.
fn children(role: &str) -> Vec<String> {
    let runner = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| fields(pid).get(1).is_some_and(|parent| *parent == runner))
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
        })
        .collect()
}

/// The fields of `/proc/PID/stat` from the state on (`proc_pid_stat(5)`).
fn fields(pid: &str) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().map(str::to_owned).collect()
}

/// User and system time of a process so far; the kernel counts them in hundredths of a second.
fn cpu_of(pid: &str) -> Duration {
    let ticks: u64 = fields(pid)
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// User and system time of the processes of a run so far.
struct Cpu {
    runner: Duration,
    /// Of the probes that have ended.
    probes: Duration,
    responder: Duration,
}

impl Cpu {
    fn now() -> Self {
        Self {
            runner: usage(UsageWho::RUSAGE_SELF),
            probes: usage(UsageWho::RUSAGE_CHILDREN),
            responder: children("__responder").iter().map(|pid| cpu_of(pid)).sum(),
        }
    }

    /// The time since `before`; for the responder, since its start.
    fn since(self, before: &Self) -> Self {
        Self {
            runner: self.runner.saturating_sub(before.runner),
            probes: self.probes.saturating_sub(before.probes),
            responder: self.responder,
        }
    }
}

/// User and system time of this process, or of its children that have ended.
fn usage(who: UsageWho) -> Duration {
    let usage = getrusage(who).expect("a valid argument");
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000))
        .sum()
}
