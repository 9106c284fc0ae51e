//! The agent: one process for each source, one thread for all its flows, one line for each change
//! of outcome.
//!
//! # Limitations
//!
//! One thread samples. On a host too busy to run it within 100 ms, attempts become faults.

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
use crate::secrets::Secrets;
use crate::text::printable;
use crate::wire::{Body, ByeReason, Fault, FaultReason, Hello, MAX_FLOWS, Plan, VERSION};
use clock::{Clock, boottime_us, wall_us};
use output::Output;
use sampler::Sampler;
use std::io::Read;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How long the writer may take for the queued lines when the probe ends: the whole stop takes at
/// most one second.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);

/// Maximum number of addresses in hello. A node with kube-proxy in IPVS mode has thousands; these
/// fit a line.
const MAX_ADDRESSES: usize = 100;

/// Makes the attempts of the plan in `WATERTIGHT_PLAN_0..n` and writes JSON lines to stdout, until
/// SIGTERM, the plan's time to live, its last attempt, or (with `WATERTIGHT_STDIN=1`) the end of
/// stdin.
///
/// `netns_fd` is an inherited descriptor of the network namespace to send from. Must be called
/// before any thread exists: a namespace belongs to a thread, and threads started later inherit it.
pub fn probe_main(netns_fd: Option<i32>) -> ExitCode {
    let entered = netns_fd.map_or(Ok(()), |fd| {
        enter_netns(&adopt(fd)).map_err(|errno| format!("entering the network namespace: {errno}"))
    });
    // With fewer descriptors the probe still works; running out of them is a fault of the attempts
    // concerned.
    let _ = raise_file_limit();

    let received = receive(|name| std::env::var(name).ok());
    let hello_us = boottime_us();
    let clock = Clock::since(hello_us);
    let Ok(mut output) = Output::start(clock, std::io::stdout()) else {
        return ExitCode::FAILURE;
    };
    output.send(Body::Hello(hello(&received, hello_us)));

    let plan = entered
        .and(received.plan)
        .and_then(check_plan)
        .and_then(|plan| {
            // A variable that is no text is none of ours.
            let variables = std::env::vars_os().filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            });
            let secrets = Secrets::receive(variables, std::io::stdin().lock())?;
            Common::new(&plan, secrets).map(|common| (plan, common))
        });
    let (reason, code) = match plan {
        Ok((plan, common)) => match run(&plan, common, clock, &mut output) {
            Ok(reason) => (reason, ExitCode::SUCCESS),
            Err(error) => {
                let detail = format!("starting the probe: {error}");
                send_fault(&mut output, clock, FaultReason::Resources, &detail);
                (ByeReason::Fault, ExitCode::FAILURE)
            }
        },
        Err(error) => {
            send_fault(&mut output, clock, FaultReason::Plan, &error);
            (ByeReason::BadPlan, ExitCode::FAILURE)
        }
    };

    output.send(Body::Bye { reason });
    output.finish(STOP_TIMEOUT);
    code
}

/// Returns the plan if this probe can carry it out as a whole.
fn check_plan(plan: Plan) -> Result<Plan, String> {
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
        return Err("a heartbeat every 0 ms".into());
    }
    Ok(plan)
}

/// Samples until the probe ends; returns why it ended.
fn run(
    plan: &Plan,
    common: Common,
    clock: Clock,
    output: &mut Output,
) -> std::io::Result<ByeReason> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reason = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let in_lab = std::env::var("WATERTIGHT_STDIN").is_ok_and(|value| value == "1");
        let stdin_end = if in_lab { Some(watch_stdin()?) } else { None };
        let listener = plan
            .listen
            .map(|port| probe_listener::serve(&addresses(), port, &plan.run));

        let idle = async {
            match (&listener, plan.idle_timeout) {
                (Some(listener), Some(timeout)) => listener.wait_until_idle(timeout).await,
                _ => std::future::pending().await,
            }
        };
        let ended = async {
            tokio::select! {
                _ = term.recv() => ByeReason::Signal,
                // In the lab, Ctrl-C at the terminal reaches the probe as well as the runner; the
                // runner decides.
                _ = interrupt.recv(), if !in_lab => ByeReason::Signal,
                () = wait_for(stdin_end) => ByeReason::StdinClosed,
                () = idle => ByeReason::IdleTimeout,
            }
        };
        std::io::Result::Ok(Sampler::new(plan, common, clock, output)?.run(ended).await)
    })?;

    // Tasks of attempts in flight are not awaited: none of them may delay the end.
    runtime.shutdown_background();
    Ok(reason)
}

/// Waits for an event; forever where there is none to wait for.
async fn wait_for(event: Option<oneshot::Receiver<()>>) {
    match event {
        // A dropped sender is the event too: the thread that held it has ended.
        Some(event) => drop(event.await),
        None => std::future::pending().await,
    }
}

/// Returns a channel that is closed when stdin ends. Stdin is read in a separate thread, since
/// reading a terminal or a file cannot be cancelled.
fn watch_stdin() -> std::io::Result<oneshot::Receiver<()>> {
    let (sender, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut buffer = [0_u8; 256];
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut buffer).is_ok_and(|n| n > 0) {}
            let _ = sender.send(());
        })?;
    Ok(end)
}

/// Reports a fault of the whole probe.
fn send_fault(output: &mut Output, clock: Clock, reason: FaultReason, detail: &str) {
    output.send(Body::Fault(Fault {
        flow: None,
        attempt: None,
        start: clock.now(),
        reason,
        detail: printable(detail, 200),
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

/// Addresses of this network namespace without loopback, at most [`MAX_ADDRESSES`].
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
