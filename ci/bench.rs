//! How fast and how small, by hand: `cargo bench --bench lab`, or `-- worlds|checks|flows` for one part.
//!
//! Prints ratios to the budgets, since single times say little on a shared machine.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for people, which ends where it cannot go on")]

use std::fmt::Write;
use std::time::{Duration, Instant};
use watertight::backend::lab::{self, Deny, Lab, Layout, Options, World};
use watertight::backend::{Arrival, Backend};
use watertight::cli::{engine_options, plan_in};
use watertight::engine::{self, Observer};
use watertight::event::{RunEvent, Summary};
use watertight::inventory::{Manifests, read_manifests};
use watertight::plan::{Selection, floor};
use watertight::source::Sources;
use watertight::suite::{self, Suite};

fn main() {
    if watertight::early_main().is_some() {
        return;
    }
    if std::env::var_os("WATERTIGHT_BENCH_PART").is_none() {
        return each_in_a_process_of_its_own();
    }
    let part = std::env::var("WATERTIGHT_BENCH_PART").unwrap_or_default();
    lab::enter().expect("the lab is possible here");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match part.as_str() {
            "worlds" => worlds().await,
            "checks" => run_of("100 checks", 10, 1, Duration::ZERO).await,
            "many" => run_of("9,900 checks", 100, 1, Duration::ZERO).await,
            "flows" => run_of("99,000 flows in 9,900 checks", 100, 5, Duration::from_secs(30)).await,
            other => println!("no part is called {other}"),
        }
    });
}

/// Peak memory is a process's, so each part has its own.
fn each_in_a_process_of_its_own() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for part in ["worlds", "checks", "many", "flows"] {
        if wanted.is_empty() || wanted.iter().any(|name| name == part) {
            let own = std::env::current_exe().expect("this program");
            let status = std::process::Command::new(own).env("WATERTIGHT_BENCH_PART", part).status();
            println!("{part}: {}\n", status.expect("it ran"));
        }
    }
}

async fn worlds() {
    for (pods, budget) in [(300, 1.5), (1_000, 8.0)] {
        let world = World::place(&many_pods(pods), &[], Layout::default()).expect("placed");
        let started = Instant::now();
        let lab = Lab::up(world, Options { deny: Deny::Drop }).await.expect("up");
        let up = started.elapsed().as_secs_f64();
        assert!(lab.teardown().await.is_empty(), "taken down cleanly");
        println!("{pods} pods with a policy and a Service each: up in {up:.2} s, {:.2} of the budget", up / budget);
    }
}

/// A world with a policy and a Service for each pod.
fn many_pods(pods: usize) -> Manifests {
    let mut text = String::new();
    for n in 0..pods {
        let next = (n + 1) % pods;
        let wrote = write!(
            text,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{n}, namespace: many, labels: {{app: p{n}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: 8080}}]}}]}}}}\n\
             ---\n{{apiVersion: v1, kind: Service, metadata: {{name: p{n}, namespace: many}}, spec: {{selector: {{app: p{n}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n\
             ---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{n}, namespace: many}}, spec: {{podSelector: {{matchLabels: {{app: p{n}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: p{next}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n",
        );
        wrote.expect("text");
    }
    manifests(text)
}

fn manifests(text: String) -> Manifests {
    let mut sources = Sources::new();
    let file = sources.add("bench.yaml", text);
    let (manifests, diagnostics) = read_manifests(&[file], &sources);
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render_compact(&sources));
    manifests
}

/// `workloads` deployments of so many replicas; each may be reached by the one before it and nobody else.
fn ring(workloads: usize, replicas: usize) -> (Manifests, Vec<Suite>) {
    let mut objects = String::new();
    let mut endpoints = String::new();
    let mut expect = String::new();
    for n in 0..workloads {
        let before = (n + workloads - 1) % workloads;
        let wrote = write!(
            objects,
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: w{n}, namespace: ring}}, spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: w{n}}}}}, template: {{metadata: {{labels: {{app: w{n}}}}}, spec: {{containers: [{{name: c, image: c, ports: [{{containerPort: 8080}}]}}]}}}}}}}}\n\
             ---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: w{n}, namespace: ring}}, spec: {{podSelector: {{matchLabels: {{app: w{n}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: w{before}}}}}}}], ports: [{{port: 8080}}]}}]}}}}\n",
        );
        wrote.expect("text");
        writeln!(endpoints, "    w{n}: {{namespace: ring, workload: Deployment/w{n}}}").expect("text");
        writeln!(expect, "    - w{before} -> w{n}:8080 allowed").expect("text");
    }
    let text = format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: ring}}\nspec:\n  settings: {{spread: one}}\n  endpoints:\n{endpoints}  expect:\n{expect}  everythingElse: denied\n"
    );
    let mut sources = Sources::new();
    let file = sources.add("ring.yaml", text);
    let (suites, diagnostics) = suite::read(&[file], &sources);
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render_compact(&sources));
    (manifests(objects), suites)
}

#[derive(Default)]
struct Quiet {
    lines: u64,
    summary: Option<Summary>,
    first_line: Option<Duration>,
    reasons: std::collections::BTreeMap<String, usize>,
}

impl Observer for Quiet {
    fn event(&mut self, event: RunEvent) {
        // What JSON lines cost is part of the run.
        let line = serde_json::to_vec(&event).expect("JSON");
        std::hint::black_box(line);
        if let RunEvent::Finished { results, summary, .. } = event {
            self.summary = Some(summary);
            for reason in results.iter().filter_map(|result| result.reason.as_ref()) {
                *self.reasons.entry(reason.code.to_owned()).or_default() += 1;
            }
        }
    }

    fn arrival(&mut self, arrival: &Arrival) {
        self.lines += 1;
        self.first_line.get_or_insert(arrival.at);
    }
}

async fn run_of(what: &str, workloads: usize, replicas: usize, budget: Duration) {
    let (manifests, suites) = ring(workloads, replicas);
    let world = World::place(&manifests, &[], Layout::default()).expect("placed");
    let planning = Instant::now();
    let plan = plan_in(&world, &suites, &Selection::default()).expect("a plan");
    let planned = planning.elapsed();
    let (checks, flows, probes) = (plan.checks.len(), plan.flows.len(), plan.probes.len());
    let up = Instant::now();
    let mut lab = Lab::up(world, Options { deny: Deny::Drop }).await.expect("up");
    let up = up.elapsed();
    let mut quiet = Quiet::default();
    let options = engine_options(&lab);
    let running = Instant::now();
    let began = lab.started().elapsed();
    let result = engine::run(&plan, &mut lab, options, std::future::pending(), &mut quiet).await;
    let took = running.elapsed();
    result.expect("a run");
    assert!(lab.teardown().await.is_empty(), "taken down cleanly");
    // The slowest probe's start is part of the floor; the first line is the best lower bound that the runner sees.
    let start = quiet.first_line.map_or(Duration::ZERO, |first| first.saturating_sub(began));
    let floor = floor(&plan) + start;
    let ratio = took.as_secs_f64() / floor.as_secs_f64();
    println!("{what}: {checks} checks, {flows} flows, {probes} probes; planned in {planned:.2?}, lab up in {up:.2?}");
    println!("  {:?}, not proven because of {:?}", quiet.summary, quiet.reasons);
    println!("  ran {took:.2?}, {ratio:.2} of the floor of {floor:.2?}; {} lines", quiet.lines);
    if !budget.is_zero() {
        println!("  {:.2} of the budget of {budget:?}", took.as_secs_f64() / budget.as_secs_f64());
    }
    println!("  runner's peak memory: {} MiB", peak_mib());
}

/// `VmHWM` of this process: the responder and the probes are others.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}
