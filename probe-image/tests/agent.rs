//! The agent as a process: real packets over loopback, real signals.

#![expect(clippy::unwrap_used, reason = "a test ends where what it takes for granted is not so")]

mod common;

use common::{LOCALHOST, Probe, Responder, flow, free_port, once, plan, udp};
use nix::libc;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use watertight_probe::responder::control::Behaviour;
use watertight_probe::wire::{Body, FaultReason, How, Linger, Request, Stage, Stop, Transport};
use watertight_probe::{encode_plan, plan_digest};

const CONNECT: Request = Request::Connect { linger_ms: 100 };

fn stages(seen: &watertight_probe::wire::Observation) -> Vec<Stage> {
    seen.passed.iter().map(|(stage, _)| *stage).collect()
}

#[test]
fn hello_comes_first_and_names_the_plan() {
    let plan = plan(vec![once(flow(1, free_port(Transport::Tcp), CONNECT))]);
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), "done");
    let Body::Hello(hello) = &probe.read[0].body else { panic!("{:?}", probe.read[0]) };
    assert_eq!(hello.digest, plan_digest(&plan));
    assert_eq!(hello.run, "test-run");
    assert!(hello.addresses.iter().all(|a| !a.is_loopback()));
    assert_eq!(hello.boot.len(), 36);
    assert!(hello.boottime_us > 0 && hello.wall_us > 1_700_000_000_000_000);
    probe.assert_no_hole();
    assert!(probe.wait(Duration::from_secs(1)).success());
}

#[test]
fn an_open_port_is_told_once_then_by_beats() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let mut probe = Probe::start(&plan(vec![flow(7, listener.local_addr().unwrap().port(), CONNECT)]));
    let sample = probe.sample(7);
    assert_eq!((sample.attempt, stages(&sample.seen), &sample.seen.stop), (1, vec![Stage::Connect], &None));
    assert_eq!(sample.seen.linger, Some(Linger::Quiet));
    assert!(sample.seen.local_port.is_some());
    let mut last = 0;
    for _ in 0..3 {
        let beat = probe.beat_of(7);
        assert!(beat.flows[0].1 > last);
        last = beat.flows[0].1;
    }
    let samples = probe.read.iter().filter(|l| matches!(l.body, Body::Sample(_))).count();
    assert_eq!(samples, 1, "{:#?}", probe.read);
    probe.assert_no_hole();
}

#[test]
fn a_closed_port_resets_without_icmp() {
    let mut probe = Probe::start(&plan(vec![flow(1, free_port(Transport::Tcp), CONNECT)]));
    let seen = probe.sample(1).seen;
    let how = How::Error { errno: libc::ECONNREFUSED, icmp: None };
    assert_eq!(seen.stop, Some(Stop { stage: Stage::Connect, how }));
    assert_eq!(seen.passed, []);
}

#[test]
fn a_closed_udp_port_is_an_icmp_message_of_the_target() {
    let mut probe = Probe::start(&plan(vec![udp(flow(1, free_port(Transport::Udp), Request::Nonce))]));
    let Some(Stop { stage: Stage::FirstBytes, how: How::Error { errno, icmp: Some(icmp) } }) =
        probe.sample(1).seen.stop
    else {
        panic!("{:#?}", probe.read)
    };
    assert_eq!((errno, icmp.v6, icmp.ty, icmp.code), (libc::ECONNREFUSED, false, 3, 3));
    assert_eq!(icmp.offender, Some(LOCALHOST));
}

#[test]
fn a_full_backlog_is_silence_at_connect() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&(LOCALHOST, port).into(), Duration::from_millis(100)))
        .collect();
    let mut probe = Probe::start(&plan(vec![flow(1, port, CONNECT)]));
    assert_eq!(probe.sample(1).seen.stop, Some(Stop { stage: Stage::Connect, how: How::Silence }));
}

#[test]
fn what_follows_a_handshake_is_told() {
    let responder = Responder::start();
    let hang_up = responder.listen("x", Transport::Tcp, Behaviour::HangUp);
    let greeter = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let greeting = greeter.local_addr().unwrap().port();
    std::thread::spawn(move || {
        greeter.incoming().flatten().for_each(|mut s| drop(s.write_all(b"220 hello\r\n")));
    });
    let resetter = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let resetting = resetter.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in resetter.incoming().flatten() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    let mut probe = Probe::start(&plan(vec![
        once(flow(1, hang_up, CONNECT)),
        once(flow(2, greeting, CONNECT)),
        once(flow(3, resetting, CONNECT)),
        once(flow(4, resetting, Request::Nonce)),
    ]));
    probe.bye();
    let seen = |flow| {
        probe
            .read
            .iter()
            .find_map(|l| if let Body::Sample(s) = &l.body { (s.flow == flow).then(|| s.seen.clone()) } else { None })
            .unwrap()
    };
    assert_eq!((seen(1).linger, seen(1).stop), (Some(Linger::Fin), None));
    assert_eq!((seen(2).linger, stages(&seen(2))), (Some(Linger::Bytes), vec![Stage::Connect, Stage::FirstBytes]));
    assert_eq!((seen(3).linger, stages(&seen(3))), (Some(Linger::Rst), vec![Stage::Connect]));
    assert_eq!(stages(&seen(4)), [Stage::Connect]);
    assert!(matches!(seen(4).stop, Some(Stop { stage: Stage::FirstBytes, how: How::Error { .. } })), "{:?}", seen(4));
}

#[test]
fn our_responder_returns_the_nonce_and_says_who_it_is() {
    let responder = Responder::start();
    let tcp = responder.listen("pod shop/web-1", Transport::Tcp, Behaviour::Answer);
    let udp_port = responder.listen("pod shop/web-2", Transport::Udp, Behaviour::Answer);
    let payload = Request::Payload { hex: "00ff".into() };
    let mut probe = Probe::start(&plan(vec![
        once(flow(1, tcp, Request::Nonce)),
        once(udp(flow(2, udp_port, Request::Nonce))),
        once(udp(flow(3, udp_port, payload.clone()))),
        once(flow(4, tcp, payload)),
    ]));
    probe.bye();
    let mut seen = 0;
    for line in &probe.read {
        let Body::Sample(sample) = &line.body else {
            continue;
        };
        seen += 1;
        assert_eq!(sample.seen.stop, None, "{sample:?}");
        let expected = match sample.flow {
            1 => vec![Stage::Connect, Stage::FirstBytes, Stage::Request],
            2 => vec![Stage::FirstBytes, Stage::Request],
            3 => vec![Stage::FirstBytes],
            _ => vec![Stage::Connect, Stage::FirstBytes],
        };
        assert_eq!(stages(&sample.seen), expected);
        if sample.flow < 3 {
            let answer = sample.seen.answer.as_ref().unwrap();
            assert!(answer.nonce);
            assert_eq!(answer.who, format!("pod shop/web-{}", sample.flow));
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn an_answer_with_another_nonce_is_told_as_such() {
    let responder = Responder::start();
    let raw = |text: &str| {
        Behaviour::Raw(
            text.bytes().flat_map(|b| [b >> 4, b & 15]).filter_map(|d| char::from_digit(d.into(), 16)).collect(),
        )
    };
    let stale = responder.listen("x", Transport::Tcp, raw("watertight/1 00ff impostor\n"));
    let ssh = responder.listen("x", Transport::Tcp, raw("SSH-2.0-\u{1b}[31mOpenSSH\r\n"));
    let stale_udp = responder.listen("x", Transport::Udp, raw("watertight/1 00ff impostor\n"));
    let mut probe = Probe::start(&plan(vec![
        flow(1, stale, Request::Nonce),
        flow(2, ssh, Request::Nonce),
        udp(flow(3, stale_udp, Request::Nonce)),
    ]));
    for id in [1, 3] {
        let seen = probe.sample(id).seen;
        let answer = seen.answer.unwrap();
        assert_eq!((answer.nonce, answer.who.as_str(), seen.stop), (false, "impostor", None));
        probe.read.clear();
        if id == 1 {
            let seen = probe.sample(2).seen;
            let what = "SSH-2.0-.[31mOpenSSH..".to_owned();
            assert_eq!(seen.stop, Some(Stop { stage: Stage::Request, how: How::Garbled { what } }));
            assert_eq!(stages(&seen), [Stage::Connect, Stage::FirstBytes]);
        }
    }
}

#[test]
fn a_mute_target_is_open_at_connect_and_silent_after() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let mute_udp = responder.listen("x", Transport::Udp, Behaviour::Mute);
    let mut probe =
        Probe::start(&plan(vec![once(flow(1, mute, Request::Nonce)), once(udp(flow(2, mute_udp, Request::Nonce)))]));
    probe.bye();
    let silence = Some(Stop { stage: Stage::FirstBytes, how: How::Silence });
    let seen: Vec<_> = probe
        .read
        .iter()
        .filter_map(|l| if let Body::Sample(s) = &l.body { Some((s.flow, &s.seen)) } else { None })
        .collect();
    assert_eq!(seen.len(), 2);
    for (flow, seen) in seen {
        assert_eq!(seen.stop, silence);
        assert_eq!(stages(seen), if flow == 1 { vec![Stage::Connect] } else { vec![] });
    }
}

#[test]
fn a_change_of_outcome_is_a_sample_at_once() {
    let port = free_port(Transport::Tcp);
    let mut probe = Probe::start(&plan(vec![flow(1, port, CONNECT)]));
    assert!(probe.sample(1).seen.stop.is_some());
    let listener = TcpListener::bind((LOCALHOST, port)).unwrap();
    let opened = probe.sample_that(1, |seen| seen.stop.is_none());
    drop(listener);
    let shut = probe.sample_that(1, |seen| seen.stop.is_some());
    assert!(opened.attempt > 1 && shut.attempt > opened.attempt);
    probe.assert_no_hole();
}

#[test]
fn sigterm_brings_beat_and_bye_within_a_second() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut probe = Probe::start(&plan(vec![flow(1, port, CONNECT), flow(2, port, Request::Nonce)]));
    probe.sample(1);
    let at = Instant::now();
    probe.signal(Signal::SIGTERM);
    assert_eq!(probe.bye(), "term");
    assert_eq!(probe.wait(Duration::from_secs(1)).code(), Some(0));
    assert!(at.elapsed() < Duration::from_secs(1));
    assert!(matches!(probe.read[probe.read.len() - 2].body, Body::Beat(_)));
    assert!(probe.no_more_lines());
    probe.assert_no_hole();
}

#[test]
fn the_end_of_stdin_ends_a_lab_probe_only() {
    let flows = vec![flow(1, free_port(Transport::Tcp), CONNECT)];
    let mut environment = encode_plan(&plan(flows.clone())).unwrap();
    environment.push(("WATERTIGHT_STDIN".into(), "1".into()));
    let mut lab = Probe::start_with(environment, &[]);
    lab.sample(1);
    lab.stdin = None;
    assert_eq!(lab.bye(), "stdin");
    assert!(lab.wait(Duration::from_secs(1)).success());

    let mut other = Probe::start(&plan(flows));
    other.stdin = None;
    other.sample(1);
    other.beat_of(1);
    other.beat_of(1);
    assert!(other.child.try_wait().unwrap().is_none());
}

#[test]
fn the_time_to_live_ends_a_probe() {
    let mut plan = plan(vec![flow(1, free_port(Transport::Tcp), CONNECT)]);
    plan.ttl_ms = 500;
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), "ttl");
    assert!(probe.wait(Duration::from_secs(1)).success());
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_a_fault_and_bye() {
    let mut newer = plan(vec![]);
    newer.v = 99;
    let cases =
        [vec![], vec![("WATERTIGHT_PLAN_0".to_owned(), "not base64!".to_owned())], encode_plan(&newer).unwrap()];
    for environment in cases {
        let mut probe = Probe::start_with(environment, &[]);
        assert_eq!(probe.bye(), "plan");
        assert!(matches!(probe.read[0].body, Body::Hello(_)));
        let faults = probe.faults();
        assert_eq!((faults.len(), faults[0].reason, faults[0].flow), (1, FaultReason::Plan, None));
        assert!(!probe.wait(Duration::from_secs(1)).success());
        probe.assert_no_hole();
    }
}

#[test]
fn a_flow_that_cannot_be_carried_out_leaves_the_others_alone() {
    let port = free_port(Transport::Tcp);
    let odd = flow(1, port, Request::Payload { hex: "zz".into() });
    let mut probe = Probe::start(&plan(vec![odd, udp(flow(2, port, CONNECT)), once(flow(3, port, CONNECT))]));
    assert_eq!(probe.bye(), "done");
    let faults: Vec<_> = probe.faults().iter().map(|f| (f.flow, f.reason)).collect();
    assert_eq!(faults, [(Some(1), FaultReason::Plan), (Some(2), FaultReason::Plan)]);
    assert!(probe.read.iter().any(|l| matches!(&l.body, Body::Sample(s) if s.flow == 3)));
}

#[test]
fn a_stopped_probe_reports_faults_and_then_samples_anew() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut probe = Probe::start(&plan(vec![flow(1, port, Request::Connect { linger_ms: 300 })]));
    probe.beat_of(1);
    probe.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    probe.signal(Signal::SIGCONT);
    let fault = probe.until(|body| matches!(body, Body::Fault(_)));
    let Body::Fault(fault) = fault.body else { unreachable!() };
    assert_eq!((fault.flow, fault.reason), (Some(1), FaultReason::Starved));
    let fresh = probe.sample(1);
    assert!(fresh.seen.stop.is_none(), "the same outcome as before, and yet a sample");
    probe.signal(Signal::SIGTERM);
    probe.bye();
    probe.assert_no_hole();
    // Attempts are told in order and without a gap: each is a sample, a fault, or covered by a beat before it.
    let mut last = 0;
    for line in &probe.read {
        match &line.body {
            Body::Sample(s) => {
                assert!(s.attempt > last);
                last = s.attempt;
            }
            Body::Fault(f) => {
                assert_eq!(f.attempt, Some(last + 1), "a beat must have told of those before");
                last += 1;
            }
            Body::Beat(b) => b.flows.iter().for_each(|f| {
                assert!(f.1 >= last);
                last = f.1;
            }),
            _ => {}
        }
    }
    let lag = probe.read.iter().filter_map(|l| if let Body::Beat(b) = &l.body { Some(b.lag_us) } else { None }).max();
    assert!(lag.unwrap() > 1_500_000, "lag {lag:?}");
}

#[test]
fn beats_of_many_flows_come_in_parts_below_the_line_limit() {
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
    plan.beat_ms = 1_500;
    let mut probe = Probe::start(&plan);
    let first = probe.until(|body| matches!(body, Body::Beat(b) if b.more));
    let Body::Beat(first) = first.body else { unreachable!() };
    assert!(first.flows.len() > 100);
    probe.until(|body| matches!(body, Body::Beat(b) if !b.more && !b.flows.is_empty()));
    probe.signal(Signal::SIGTERM);
    probe.bye();
    probe.assert_no_hole();
}

#[test]
fn a_reader_that_stops_reading_stops_nothing() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plan = plan(vec![flow(1, port, Request::Connect { linger_ms: 0 })]);
    plan.ttl_ms = 3_000;
    plan.beat_ms = 1;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_watertight-probe"))
        .arg("__probe")
        .envs(encode_plan(&plan).unwrap())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let at = Instant::now();
    let status = child.wait().unwrap();
    assert!(status.success());
    assert!(at.elapsed() < Duration::from_millis(4_500), "{:?}", at.elapsed());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.len() > 32 * 1024, "the pipe was to be full");
}
