//! The agent as a process: real packets over loopback, real signals.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{
    LOCALHOST, Probe, Responder, error, flow, free_port, once, plan, run, skipped, stages, stop,
    udp,
};
use nix::libc;
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::time::Duration;
use watertight_probe::plan_digest;
use watertight_probe::responder::control::Behaviour;
use watertight_probe::wire::{
    Body, ByeReason, Icmp, Linger, Observation, Request, Stage, Stop, StopCause, Target, Transport,
};

const CONNECT: Request = Request::Connect { linger_ms: 100 };

/// The first observation of a flow among the lines read so far.
fn observation(probe: &Probe, flow: u32) -> &Observation {
    let sample = probe.samples().find(|sample| sample.flow == flow);
    &sample.unwrap().observation
}

#[test]
fn hello_comes_first_and_names_the_plan() {
    let plan = plan(vec![once(flow(1, free_port(Transport::Tcp), CONNECT))]);
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), ByeReason::Done);
    let Body::Hello(hello) = &probe.read[0].body else {
        panic!("{:?}", probe.read[0])
    };
    assert_eq!(hello.digest, plan_digest(&plan));
    assert_eq!(hello.run, "test-run");
    assert!(hello.addresses.iter().all(|a| !a.is_loopback()));
    assert_eq!(hello.boot.len(), 36);
    assert!(hello.boottime_us > 0 && hello.wall_us > 1_700_000_000_000_000);
    probe.assert_no_gap();
    assert!(probe.wait(Duration::from_secs(1)).success());
}

#[test]
fn open_port_is_reported_by_one_sample_then_by_heartbeats() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let mut probe = Probe::start(&plan(vec![flow(
        7,
        listener.local_addr().unwrap().port(),
        CONNECT,
    )]));
    let sample = probe.sample(7);
    assert_eq!(
        (
            sample.attempt,
            stages(&sample.observation),
            &sample.observation.stop
        ),
        (1, vec![Stage::Connect], &None)
    );
    assert_eq!(sample.observation.linger, Some(Linger::Quiet));
    assert!(sample.observation.local_port.is_some());
    let mut last = 0;
    for _ in 0..3 {
        let heartbeat = probe.heartbeat_of(7);
        assert!(heartbeat.flows[0].1 > last);
        last = heartbeat.flows[0].1;
    }
    let samples = probe
        .read
        .iter()
        .filter(|l| matches!(l.body, Body::Sample(_)))
        .count();
    assert_eq!(samples, 1, "{:#?}", probe.read);
    probe.assert_no_gap();
}

#[test]
fn closed_tcp_port_is_a_reset_without_icmp() {
    let mut probe = Probe::start(&plan(vec![flow(1, free_port(Transport::Tcp), CONNECT)]));
    let observation = probe.sample(1).observation;
    assert_eq!(
        observation.stop,
        stop(Stage::Connect, error(libc::ECONNREFUSED))
    );
    assert_eq!(observation.passed, []);
}

#[test]
fn closed_udp_port_is_an_icmp_message_of_the_target() {
    let mut probe = Probe::start(&plan(vec![udp(flow(
        1,
        free_port(Transport::Udp),
        Request::Nonce,
    ))]));
    let Some(Stop {
        stage: Stage::FirstBytes,
        how: StopCause::Error {
            errno,
            icmp: Some(icmp),
        },
    }) = probe.sample(1).observation.stop
    else {
        panic!("{:#?}", probe.read)
    };
    assert_eq!(
        (errno, icmp.v6, icmp.ty, icmp.code),
        (libc::ECONNREFUSED, false, 3, 3)
    );
    assert_eq!(icmp.offender, Some(LOCALHOST));
}

#[test]
fn full_backlog_is_silence_at_connect() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            std::net::TcpStream::connect_timeout(
                &(LOCALHOST, port).into(),
                Duration::from_millis(100),
            )
        })
        .collect();
    let mut probe = Probe::start(&plan(vec![flow(1, port, CONNECT)]));
    assert_eq!(
        probe.sample(1).observation.stop,
        stop(Stage::Connect, StopCause::Silence)
    );
}

#[test]
fn handshake_is_reported_though_the_probe_ends_before_the_answer() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let plan = plan(vec![
        flow(1, mute, Request::Nonce),
        flow(2, free_port(Transport::Tcp), CONNECT),
    ]);
    let mut probe = Probe::start(&plan);
    probe.sample(2);
    std::thread::sleep(Duration::from_millis(300));
    probe.signal(Signal::SIGTERM);
    assert_eq!(probe.bye(), ByeReason::Signal);

    let samples: Vec<_> = probe.samples().filter(|sample| sample.flow == 1).collect();
    let unfinished = stop(Stage::FirstBytes, StopCause::Unfinished);
    assert_eq!(
        samples.first().map(|sample| sample.attempt),
        Some(1),
        "{:#?}",
        probe.read
    );
    for sample in samples {
        assert_eq!(
            (stages(&sample.observation), &sample.observation.stop),
            (vec![Stage::Connect], &unfinished)
        );
    }
    probe.assert_no_gap();
}

#[test]
fn what_the_peer_does_after_the_handshake_is_reported() {
    let responder = Responder::start();
    let hang_up = responder.listen("x", Transport::Tcp, Behaviour::HangUp);
    let greeter = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let greeting = greeter.local_addr().unwrap().port();
    std::thread::spawn(move || {
        greeter
            .incoming()
            .flatten()
            .for_each(|mut s| drop(s.write_all(b"220 hello\r\n")));
    });
    let resetter = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let resetting = resetter.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in resetter.incoming().flatten() {
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
    let mut probe = Probe::start(&plan(vec![
        once(flow(1, hang_up, CONNECT)),
        once(flow(2, greeting, CONNECT)),
        once(flow(3, resetting, CONNECT)),
        once(flow(4, resetting, Request::Nonce)),
    ]));
    probe.bye();

    let closed = observation(&probe, 1);
    assert_eq!((closed.linger, &closed.stop), (Some(Linger::Fin), &None));
    let banner = observation(&probe, 2);
    assert_eq!(
        (banner.linger, stages(banner)),
        (Some(Linger::Bytes), vec![Stage::Connect, Stage::FirstBytes])
    );
    let reset = observation(&probe, 3);
    assert_eq!(
        (reset.linger, stages(reset)),
        (Some(Linger::Rst), vec![Stage::Connect])
    );
    let reset = observation(&probe, 4);
    assert_eq!(stages(reset), [Stage::Connect]);
    assert!(
        matches!(
            reset.stop,
            Some(Stop {
                stage: Stage::FirstBytes,
                how: StopCause::Error { .. }
            })
        ),
        "{reset:?}"
    );
}

#[test]
fn responder_returns_the_nonce_and_its_name() {
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
    assert_eq!(probe.samples().count(), 4);
    for sample in probe.samples() {
        assert_eq!(sample.observation.stop, None, "{sample:?}");
        let expected = match sample.flow {
            1 => vec![Stage::Connect, Stage::FirstBytes, Stage::Request],
            2 => vec![Stage::FirstBytes, Stage::Request],
            3 => vec![Stage::FirstBytes],
            _ => vec![Stage::Connect, Stage::FirstBytes],
        };
        assert_eq!(stages(&sample.observation), expected);
        if sample.flow < 3 {
            let answer = sample.observation.answer.as_ref().unwrap();
            assert!(answer.nonce);
            assert_eq!(answer.who, format!("pod shop/web-{}", sample.flow));
        }
    }
}

/// A listener that answers with this text.
fn raw(text: &str) -> Behaviour {
    Behaviour::Raw(
        text.bytes()
            .flat_map(|b| [b >> 4, b & 15])
            .filter_map(|d| char::from_digit(d.into(), 16))
            .collect(),
    )
}

#[test]
fn answer_with_another_nonce_is_reported_as_such() {
    let responder = Responder::start();
    let stale = responder.listen("x", Transport::Tcp, raw("watertight/1 00ff impostor\n"));
    let ssh = responder.listen("x", Transport::Tcp, raw("SSH-2.0-\u{1b}[31mOpenSSH\r\n"));
    let stale_udp = responder.listen("x", Transport::Udp, raw("watertight/1 00ff impostor\n"));
    let observations = run(&plan(vec![
        once(flow(1, stale, Request::Nonce)),
        once(flow(2, ssh, Request::Nonce)),
        once(udp(flow(3, stale_udp, Request::Nonce))),
    ]));
    for id in [1, 3] {
        let answer = observations[&id].answer.as_ref().unwrap();
        assert_eq!((answer.nonce, answer.who.as_str()), (false, ""));
        assert_eq!(observations[&id].stop, None);
    }
    // A greeting stays with the probe: it may be anything.
    let Some(StopCause::Garbled { what }) = observations[&2].stop.clone().map(|stop| stop.how)
    else {
        unreachable!("{observations:?}")
    };
    assert!(
        what.starts_with("not our responder: 22 bytes, SHA-256 ") && !what.contains("SSH"),
        "{what}"
    );
    assert_eq!(
        stages(&observations[&2]),
        [Stage::Connect, Stage::FirstBytes]
    );
}

#[test]
fn mute_target_passes_connect_and_is_silent_after() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let mute_udp = responder.listen("x", Transport::Udp, Behaviour::Mute);
    let mut probe = Probe::start(&plan(vec![
        once(flow(1, mute, Request::Nonce)),
        once(udp(flow(2, mute_udp, Request::Nonce))),
    ]));
    probe.bye();
    assert_eq!(probe.samples().count(), 2);
    for sample in probe.samples() {
        let silence = stop(Stage::FirstBytes, StopCause::Silence);
        assert_eq!(sample.observation.stop, silence);
        let expected = if sample.flow == 1 {
            vec![Stage::Connect]
        } else {
            vec![]
        };
        assert_eq!(stages(&sample.observation), expected);
    }
}

#[test]
fn change_of_outcome_is_a_sample_at_once() {
    let port = free_port(Transport::Tcp);
    let mut probe = Probe::start(&plan(vec![flow(1, port, CONNECT)]));
    assert!(probe.sample(1).observation.stop.is_some());
    let listener = TcpListener::bind((LOCALHOST, port)).unwrap();
    let opened = probe.sample_that(1, |observation| observation.stop.is_none());
    drop(listener);
    let blocked = probe.sample_that(1, |observation| observation.stop.is_some());
    assert!(opened.attempt > 1 && blocked.attempt > opened.attempt);
    probe.assert_no_gap();
}

#[test]
fn ipv6_works_as_ipv4_does() {
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    let Ok(listener) = TcpListener::bind((six, 0)) else {
        return skipped("no IPv6 loopback here");
    };
    let port = listener.local_addr().unwrap().port();
    let closed = free_port(Transport::Udp);
    let mut flows = vec![
        once(flow(1, port, CONNECT)),
        once(flow(2, closed, CONNECT)),
        once(udp(flow(3, closed, Request::Nonce))),
    ];
    for flow in &mut flows {
        flow.target = Target::Address(six);
    }
    let observations = run(&plan(flows));
    assert_eq!(
        (&observations[&1].stop, stages(&observations[&1])),
        (&None, vec![Stage::Connect])
    );
    assert_eq!(
        observations[&2].stop,
        stop(Stage::Connect, error(libc::ECONNREFUSED))
    );
    let refused = StopCause::Error {
        errno: libc::ECONNREFUSED,
        icmp: Some(Icmp {
            v6: true,
            ty: 1,
            code: 4,
            offender: Some(six),
        }),
    };
    assert_eq!(observations[&3].stop, stop(Stage::FirstBytes, refused));
}
