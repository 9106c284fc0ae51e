//! The agent: one process a source, one thread for all its flows, one line a change.
//!
//! # Limitations
//!
//! One thread samples. A host too busy to run it within 100 ms yields faults, never samples.

mod clock;
mod flows;
mod line_emitter;
mod output;
mod sampler;
mod schedule;
mod tcp_lane;

use crate::descriptors::{adopt, enter_netns, raise_file_limit};
use crate::plan_env::{Received, receive};
use crate::probe::Common;
use crate::responder::probe_listener;
use crate::text::printable;
use crate::wire::{Body, Fault, FaultReason, Hello, MAX_FLOWS, Plan, VERSION};
use clock::{Clock, boottime_us, wall_us};
use output::Output;
use sampler::Sampler;
use std::io::Read;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How long the writer may take with what is queued when the probe ends: the promise is one second
/// in all.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// Addresses told in hello. A node with kube-proxy in IPVS mode has thousands; a line has room for
/// these.
const MAX_ADDRESSES: usize = 100;

/// Samples what `WATERTIGHT_PLAN_0..n` says and writes JSON lines to stdout, until SIGTERM, the
/// plan's time to live, its last attempt, or (with `WATERTIGHT_STDIN=1`) the end of stdin.
///
/// `netns_fd` is an inherited descriptor of the network namespace to sample from. Must be called
/// before any thread exists: a namespace belongs to a thread, and threads started later inherit it.
pub fn probe_main(netns_fd: Option<i32>) -> ExitCode {
    let entered = netns_fd.map_or(Ok(()), |fd| {
        enter_netns(&adopt(fd)).map_err(|errno| format!("entering the network namespace: {errno}"))
    });
    // With fewer descriptors the probe still works; running out of them is a fault of the attempts
    // concerned.
    let _ = raise_file_limit();
    let received = receive(|name| std::env::var(name).ok());
    let hello_at = boottime_us();
    let clock = Clock::since(hello_at);
    let Ok(mut output) = Output::start(clock, std::io::stdout()) else {
        return ExitCode::FAILURE;
    };
    output.send(Body::Hello(hello(&received, hello_at)));

    let plan = entered
        .and(received.plan)
        .and_then(carried_out_by_us)
        .and_then(|plan| Common::new(&plan).map(|common| (plan, common)));
    let (reason, code) = match plan {
        Ok((plan, common)) => match run(&plan, common, clock, &mut output) {
            Ok(reason) => (reason, ExitCode::SUCCESS),
            Err(error) => {
                fault(
                    &mut output,
                    clock,
                    FaultReason::Resources,
                    &format!("starting the probe: {error}"),
                );
                ("fault", ExitCode::FAILURE)
            }
        },
        Err(why) => {
            fault(&mut output, clock, FaultReason::Plan, &why);
            ("plan", ExitCode::FAILURE)
        }
    };
    output.send(Body::Bye {
        reason: reason.into(),
    });
    output.finish(LAST_WORDS);
    code
}

fn carried_out_by_us(plan: Plan) -> Result<Plan, String> {
    if plan.v != VERSION {
        return Err(format!(
            "the plan is of version {}, this probe of version {VERSION}",
            plan.v
        ));
    }
    if plan.flows.len() > MAX_FLOWS {
        return Err(format!("{} flows, more than {MAX_FLOWS}", plan.flows.len()));
    }
    if plan.heartbeat_ms == 0 {
        return Err("a beat every 0 ms".into());
    }
    Ok(plan)
}

fn run(
    plan: &Plan,
    common: Common,
    clock: Clock,
    output: &mut Output,
) -> std::io::Result<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reason = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let in_lab = std::env::var("WATERTIGHT_STDIN").is_ok_and(|value| value == "1");
        let stdin = if in_lab { Some(end_of_stdin()?) } else { None };
        let serving = plan
            .listen
            .map(|port| probe_listener::serve(&addresses(), port, &plan.run));
        let abandoned = async {
            match (&serving, plan.alone) {
                (Some(serving), Some(alone)) => serving.abandoned(alone).await,
                _ => std::future::pending().await,
            }
        };
        let ended = async {
            tokio::select! {
                _ = term.recv() => "term",
                // In the lab, Ctrl-C at the terminal reaches the probe as well as the runner; the
                // runner decides.
                _ = interrupt.recv(), if !in_lab => "term",
                () = closed(stdin) => "stdin",
                () = abandoned => "alone",
            }
        };
        std::io::Result::Ok(Sampler::new(plan, common, clock, output)?.run(ended).await)
    })?;
    // Attempts under way are abandoned; none of them may hold up the end.
    runtime.shutdown_background();
    Ok(reason)
}

async fn closed(stdin: Option<oneshot::Receiver<()>>) {
    match stdin {
        // The thread ends either way when stdin does.
        Some(closed) => drop(closed.await),
        None => std::future::pending().await,
    }
}

/// Tells when stdin ends. A thread of its own, since reading a terminal or a file cannot be
/// cancelled.
fn end_of_stdin() -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, closed) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut buffer = [0_u8; 256];
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut buffer).is_ok_and(|n| n > 0) {}
            let _ = tell.send(());
        })?;
    Ok(closed)
}

fn fault(output: &mut Output, clock: Clock, reason: FaultReason, detail: &str) {
    let detail = printable(detail, 200);
    output.send(Body::Fault(Fault {
        flow: None,
        attempt: None,
        start: clock.now(),
        reason,
        detail,
    }));
}

fn hello(received: &Received, boottime_us: u64) -> Hello {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        run: printable(&received.run, 200),
        digest: received.digest.clone(),
        addresses: addresses(),
        boot: boot.trim().into(),
        boottime_us,
        wall_us: wall_us(),
    }
}

fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses
}
