//! The agent as a process: how it ends, what it does at its limits, and how it reports its own
//! failures.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{LOCALHOST, Probe, Responder, flow, free_port, once, plan, udp};
use nix::sys::signal::Signal;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use watertight_probe::encode_plan;
use watertight_probe::responder::control::Behaviour;
use watertight_probe::wire::{Body, ByeReason, FaultReason, Line, Request, StopCause, Transport};

const CONNECT: Request = Request::Connect { linger_ms: 100 };

#[test]
fn sigterm_ends_with_heartbeat_and_bye_within_a_second() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut probe = Probe::start(&plan(vec![
        flow(1, port, CONNECT),
        flow(2, port, Request::Nonce),
    ]));
    probe.sample(1);
    let at = Instant::now();
    probe.signal(Signal::SIGTERM);
    assert_eq!(probe.bye(), ByeReason::Signal);
    assert_eq!(probe.wait(Duration::from_secs(1)).code(), Some(0));
    assert!(at.elapsed() < Duration::from_secs(1));
    assert!(matches!(
        probe.read[probe.read.len() - 2].body,
        Body::Heartbeat(_)
    ));
    assert!(probe.no_more_lines());
    probe.assert_no_gap();
}

#[test]
fn end_of_stdin_ends_only_a_lab_probe() {
    let flows = vec![flow(1, free_port(Transport::Tcp), CONNECT)];
    let mut environment = encode_plan(&plan(flows.clone())).unwrap();
    environment.push(("WATERTIGHT_STDIN".into(), "1".into()));
    let mut lab = Probe::start_with(environment, &[]);
    lab.sample(1);
    lab.stdin = None;
    assert_eq!(lab.bye(), ByeReason::StdinClosed);
    assert!(lab.wait(Duration::from_secs(1)).success());

    let mut other = Probe::start(&plan(flows));
    other.stdin = None;
    other.sample(1);
    other.heartbeat_of(1);
    other.heartbeat_of(1);
    assert!(other.child.try_wait().unwrap().is_none());
}

#[test]
fn number_of_accepted_connections_is_limited_by_the_plan() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut flows = vec![
        flow(1, port, CONNECT),
        flow(2, free_port(Transport::Tcp), CONNECT),
    ];
    for flow in &mut flows {
        flow.pace.accepted = Some(5);
    }
    let mut probe = Probe::start(&plan(flows));

    // Refused attempts are not accepted connections, so flow 2 continues.
    loop {
        let entries = probe.heartbeat_of(2).flows;
        if entries
            .iter()
            .any(|(flow, attempts, _)| *flow == 2 && *attempts >= 15)
        {
            break;
        }
    }
    probe.signal(Signal::SIGTERM);
    assert_eq!(probe.bye(), ByeReason::Signal);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), 5);
}

#[test]
fn probe_ends_after_its_time_to_live() {
    let mut plan = plan(vec![flow(1, free_port(Transport::Tcp), CONNECT)]);
    plan.ttl_ms = 500;
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), ByeReason::TimeToLive);
    assert!(probe.wait(Duration::from_secs(1)).success());
}

#[test]
fn plan_that_cannot_be_carried_out_is_a_fault_and_bye() {
    let mut newer = plan(vec![]);
    newer.v = 99;
    let cases = [
        vec![],
        vec![("WATERTIGHT_PLAN_0".to_owned(), "not base64!".to_owned())],
        encode_plan(&newer).unwrap(),
    ];
    for environment in cases {
        let mut probe = Probe::start_with(environment, &[]);
        assert_eq!(probe.bye(), ByeReason::BadPlan);
        assert!(matches!(probe.read[0].body, Body::Hello(_)));
        let faults = probe.faults();
        assert_eq!(
            (faults.len(), faults[0].reason, faults[0].flow),
            (1, FaultReason::Plan, None)
        );
        assert!(!probe.wait(Duration::from_secs(1)).success());
        probe.assert_no_gap();
    }
}

#[test]
fn flow_that_cannot_be_attempted_does_not_affect_the_others() {
    let port = free_port(Transport::Tcp);
    let invalid = flow(1, port, Request::Payload { hex: "zz".into() });
    let mut probe = Probe::start(&plan(vec![
        invalid,
        udp(flow(2, port, CONNECT)),
        once(flow(3, port, CONNECT)),
    ]));
    assert_eq!(probe.bye(), ByeReason::Done);
    let faults: Vec<_> = probe.faults().iter().map(|f| (f.flow, f.reason)).collect();
    assert_eq!(
        faults,
        [(Some(1), FaultReason::Plan), (Some(2), FaultReason::Plan)]
    );
    assert!(
        probe
            .read
            .iter()
            .any(|l| matches!(&l.body, Body::Sample(s) if s.flow == 3))
    );
}

#[test]
fn stopped_probe_reports_faults_and_then_a_sample() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut probe = Probe::start(&plan(vec![flow(
        1,
        port,
        Request::Connect { linger_ms: 300 },
    )]));
    probe.heartbeat_of(1);
    probe.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    probe.signal(Signal::SIGCONT);
    let fault = probe.until(|body| matches!(body, Body::Fault(_)));
    let Body::Fault(fault) = fault.body else {
        unreachable!()
    };
    assert_eq!((fault.flow, fault.reason), (Some(1), FaultReason::Starved));
    let sample = probe.sample(1);
    assert!(
        sample.observation.stop.is_none(),
        "a sample though the outcome is unchanged"
    );
    probe.signal(Signal::SIGTERM);
    probe.bye();
    probe.assert_no_gap();

    // Attempts are reported in order and without a gap: each by a sample, a fault, or a heartbeat
    // before the next line.
    let mut last = 0;
    for line in &probe.read {
        match &line.body {
            Body::Sample(s) => {
                assert!(s.attempt > last);
                last = s.attempt;
            }
            Body::Fault(f) => {
                assert_eq!(
                    f.attempt,
                    Some(last + 1),
                    "a heartbeat must have reported those before"
                );
                last += 1;
            }
            Body::Heartbeat(b) => b.flows.iter().for_each(|f| {
                assert!(f.1 >= last);
                last = f.1;
            }),
            _ => {}
        }
    }

    let lag = probe
        .read
        .iter()
        .filter_map(|l| match &l.body {
            Body::Heartbeat(b) => Some(b.lag_us),
            _ => None,
        })
        .max();
    assert!(lag.unwrap() > 1_500_000, "lag {lag:?}");
}

#[test]
fn heartbeat_of_many_flows_comes_in_parts_below_the_line_limit() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let flows = (0..600)
        .map(|n| {
            let mut flow = flow(4_000_000_000 + n, port, Request::Connect { linger_ms: 0 });
            flow.pace.bursts_ms = vec![n];
            flow.pace.interval_ms = 1_000;
            flow
        })
        .collect();
    let mut plan = plan(flows);
    plan.heartbeat_ms = 1_500;
    let mut probe = Probe::start(&plan);
    let first = probe.until(|body| matches!(body, Body::Heartbeat(b) if b.more));
    let Body::Heartbeat(first) = first.body else {
        unreachable!()
    };
    assert!(first.flows.len() > 100);
    probe.until(|body| matches!(body, Body::Heartbeat(b) if !b.more && !b.flows.is_empty()));
    probe.signal(Signal::SIGTERM);
    probe.bye();
    probe.assert_no_gap();
}

#[test]
fn reader_that_stops_reading_does_not_delay_the_probe() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plan = plan(vec![flow(1, port, Request::Connect { linger_ms: 0 })]);
    plan.ttl_ms = 3_000;
    plan.heartbeat_ms = 1;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_watertight-probe"))
        .arg("__probe")
        .envs(encode_plan(&plan).unwrap())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let at = Instant::now();
    let status = child.wait().unwrap();
    assert!(status.success());
    assert!(
        at.elapsed() < Duration::from_millis(4_500),
        "{:?}",
        at.elapsed()
    );
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.len() > 32 * 1024, "the pipe must be full");
}

#[test]
fn attempt_without_a_free_socket_in_time_is_starved() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let flows = (0..600)
        .map(|id| once(flow(id, mute, Request::Nonce)))
        .collect();
    let mut probe = Probe::start(&plan(flows));
    assert_eq!(probe.bye(), ByeReason::Done);
    let starved = probe.faults();
    assert!(
        starved
            .iter()
            .all(|fault| fault.reason == FaultReason::Starved && fault.attempt == Some(1))
    );
    // At most 512 sockets, each in use for the 600 ms of the request's deadline.
    assert!(starved.len() >= 88, "{}", starved.len());
    assert_eq!(starved.len() + probe.samples().count(), 600);
    probe.assert_no_gap();
}

#[test]
fn lack_of_descriptors_is_a_fault() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let flows = (0..40)
        .map(|id| once(flow(id, mute, Request::Nonce)))
        .collect();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -n 24; exec \"$0\" __probe",
            env!("CARGO_BIN_EXE_watertight-probe"),
        ])
        .envs(encode_plan(&plan(flows)).unwrap())
        .output()
        .unwrap();
    let lines = output.stdout.split_inclusive(|&b| b == b'\n');
    let bodies: Vec<Body> = lines
        .map(|l| serde_json::from_slice::<Line>(l).unwrap().body)
        .collect();
    let faults = bodies
        .iter()
        .filter(|body| matches!(body, Body::Fault(f) if f.reason == FaultReason::Resources));
    assert!(faults.count() > 10, "{bodies:#?}");
    let observations: Vec<_> = bodies
        .iter()
        .filter_map(|body| match body {
            Body::Sample(sample) => Some(&sample.observation),
            _ => None,
        })
        .collect();
    assert!(!observations.is_empty());
    assert!(observations.iter().all(|observation| {
        observation
            .stop
            .as_ref()
            .is_some_and(|stop| stop.how == StopCause::Silence)
    }));
}
