//! The agent as a process: real packets over loopback, real signals.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where what it takes for granted is not so"
)]

mod common;

use common::{LOCALHOST, Probe, Responder, flow, free_port, once, plan, run, skipped, udp};
use nix::libc;
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::time::Duration;
use watertight_probe::plan_digest;
use watertight_probe::responder::control::Behaviour;
use watertight_probe::wire::{Body, How, Icmp, Linger, Request, Stage, Stop, Target, Transport};

const CONNECT: Request = Request::Connect { linger_ms: 100 };

fn stages(seen: &watertight_probe::wire::Observation) -> Vec<Stage> {
    seen.passed.iter().map(|(stage, _)| *stage).collect()
}

#[test]
fn hello_comes_first_and_names_the_plan() {
    let plan = plan(vec![once(flow(1, free_port(Transport::Tcp), CONNECT))]);
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), "done");
    let Body::Hello(hello) = &probe.read[0].body else {
        panic!("{:?}", probe.read[0])
    };
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
    let mut probe = Probe::start(&plan(vec![flow(
        7,
        listener.local_addr().unwrap().port(),
        CONNECT,
    )]));
    let sample = probe.sample(7);
    assert_eq!(
        (sample.attempt, stages(&sample.seen), &sample.seen.stop),
        (1, vec![Stage::Connect], &None)
    );
    assert_eq!(sample.seen.linger, Some(Linger::Quiet));
    assert!(sample.seen.local_port.is_some());
    let mut last = 0;
    for _ in 0..3 {
        let heartbeat = probe.beat_of(7);
        assert!(heartbeat.flows[0].1 > last);
        last = heartbeat.flows[0].1;
    }
    let samples = probe
        .read
        .iter()
        .filter(|l| matches!(l.body, Body::Sample(_)))
        .count();
    assert_eq!(samples, 1, "{:#?}", probe.read);
    probe.assert_no_hole();
}

#[test]
fn a_closed_port_resets_without_icmp() {
    let mut probe = Probe::start(&plan(vec![flow(1, free_port(Transport::Tcp), CONNECT)]));
    let seen = probe.sample(1).seen;
    let how = How::Error {
        errno: libc::ECONNREFUSED,
        icmp: None,
    };
    assert_eq!(
        seen.stop,
        Some(Stop {
            stage: Stage::Connect,
            how
        })
    );
    assert_eq!(seen.passed, []);
}

#[test]
fn a_closed_udp_port_is_an_icmp_message_of_the_target() {
    let mut probe = Probe::start(&plan(vec![udp(flow(
        1,
        free_port(Transport::Udp),
        Request::Nonce,
    ))]));
    let Some(Stop {
        stage: Stage::FirstBytes,
        how: How::Error {
            errno,
            icmp: Some(icmp),
        },
    }) = probe.sample(1).seen.stop
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
fn a_full_backlog_is_silence_at_connect() {
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
        probe.sample(1).seen.stop,
        Some(Stop {
            stage: Stage::Connect,
            how: How::Silence
        })
    );
}

#[test]
fn handshake_is_told_though_the_probe_ends_before_the_answer() {
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
    assert_eq!(probe.bye(), "term");
    let told: Vec<_> = probe.samples().filter(|sample| sample.flow == 1).collect();
    let unfinished = Some(Stop {
        stage: Stage::FirstBytes,
        how: How::Unfinished,
    });
    assert_eq!(
        told.first().map(|sample| sample.attempt),
        Some(1),
        "{:#?}",
        probe.read
    );
    for sample in told {
        assert_eq!(
            (stages(&sample.seen), &sample.seen.stop),
            (vec![Stage::Connect], &unfinished)
        );
    }
    probe.assert_no_hole();
}

#[test]
fn what_follows_a_handshake_is_told() {
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
    let seen = |flow| {
        probe
            .read
            .iter()
            .find_map(|l| {
                if let Body::Sample(s) = &l.body {
                    (s.flow == flow).then(|| s.seen.clone())
                } else {
                    None
                }
            })
            .unwrap()
    };
    assert_eq!((seen(1).linger, seen(1).stop), (Some(Linger::Fin), None));
    assert_eq!(
        (seen(2).linger, stages(&seen(2))),
        (Some(Linger::Bytes), vec![Stage::Connect, Stage::FirstBytes])
    );
    assert_eq!(
        (seen(3).linger, stages(&seen(3))),
        (Some(Linger::Rst), vec![Stage::Connect])
    );
    assert_eq!(stages(&seen(4)), [Stage::Connect]);
    assert!(
        matches!(
            seen(4).stop,
            Some(Stop {
                stage: Stage::FirstBytes,
                how: How::Error { .. }
            })
        ),
        "{:?}",
        seen(4)
    );
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
            text.bytes()
                .flat_map(|b| [b >> 4, b & 15])
                .filter_map(|d| char::from_digit(d.into(), 16))
                .collect(),
        )
    };
    let stale = responder.listen("x", Transport::Tcp, raw("watertight/1 00ff impostor\n"));
    let ssh = responder.listen("x", Transport::Tcp, raw("SSH-2.0-\u{1b}[31mOpenSSH\r\n"));
    let stale_udp = responder.listen("x", Transport::Udp, raw("watertight/1 00ff impostor\n"));
    let seen = run(&plan(vec![
        once(flow(1, stale, Request::Nonce)),
        once(flow(2, ssh, Request::Nonce)),
        once(udp(flow(3, stale_udp, Request::Nonce))),
    ]));
    for id in [1, 3] {
        let answer = seen[&id].answer.as_ref().unwrap();
        assert_eq!((answer.nonce, answer.who.as_str()), (false, "impostor"));
        assert_eq!(seen[&id].stop, None);
    }
    let what = "SSH-2.0-.[31mOpenSSH..".to_owned();
    let how = How::Garbled { what };
    assert_eq!(
        seen[&2].stop,
        Some(Stop {
            stage: Stage::Request,
            how
        })
    );
    assert_eq!(stages(&seen[&2]), [Stage::Connect, Stage::FirstBytes]);
}

#[test]
fn a_mute_target_is_open_at_connect_and_silent_after() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let mute_udp = responder.listen("x", Transport::Udp, Behaviour::Mute);
    let mut probe = Probe::start(&plan(vec![
        once(flow(1, mute, Request::Nonce)),
        once(udp(flow(2, mute_udp, Request::Nonce))),
    ]));
    probe.bye();
    let silence = Some(Stop {
        stage: Stage::FirstBytes,
        how: How::Silence,
    });
    let seen: Vec<_> = probe
        .read
        .iter()
        .filter_map(|l| {
            if let Body::Sample(s) = &l.body {
                Some((s.flow, &s.seen))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(seen.len(), 2);
    for (flow, seen) in seen {
        assert_eq!(seen.stop, silence);
        assert_eq!(
            stages(seen),
            if flow == 1 {
                vec![Stage::Connect]
            } else {
                vec![]
            }
        );
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
fn the_other_family_works_alike() {
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
    let seen = run(&plan(flows));
    assert_eq!(
        (&seen[&1].stop, stages(&seen[&1])),
        (&None, vec![Stage::Connect])
    );
    let refused = |icmp| How::Error {
        errno: libc::ECONNREFUSED,
        icmp,
    };
    assert_eq!(
        seen[&2].stop,
        Some(Stop {
            stage: Stage::Connect,
            how: refused(None)
        })
    );
    let icmp = Icmp {
        v6: true,
        ty: 1,
        code: 4,
        offender: Some(six),
    };
    assert_eq!(
        seen[&3].stop,
        Some(Stop {
            stage: Stage::FirstBytes,
            how: refused(Some(icmp))
        })
    );
}
