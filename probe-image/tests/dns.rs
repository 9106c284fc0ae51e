//! DNS between agent and responder: as a request, and before a name is dialled.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where what it takes for granted is not so"
)]

mod common;

use common::{LOCALHOST, Responder, dns, flow, once, plan, run, skipped, udp, zone};
use std::net::{IpAddr, SocketAddr};
use watertight_probe::responder::control::{Behaviour, Command, Listen, Reply};
use watertight_probe::wire::{How, Observation, Request, Resolver, Stage, Stop, Target, Transport};

fn stages(seen: &Observation) -> Vec<Stage> {
    seen.passed.iter().map(|(stage, _)| *stage).collect()
}

#[test]
fn dns_is_answered_from_the_zone() {
    let responder = Responder::start();
    let udp_port = responder.listen("dns", Transport::Udp, Behaviour::Dns);
    let tcp_port = responder.listen("dns", Transport::Tcp, Behaviour::Dns);
    let answer = responder.listen("dns", Transport::Udp, Behaviour::Answer);
    let mute = responder.listen("dns", Transport::Udp, Behaviour::Mute);
    let raw = responder.listen("dns", Transport::Udp, Behaviour::Raw("00ff".into()));
    let zone = zone(&[
        ("api.shop.test", "10.0.0.2"),
        ("api.shop.test", "10.0.0.1"),
        ("api.shop.test", "fd00::1"),
    ]);
    assert_eq!(responder.order(&zone, None), Reply::Done);
    let seen = run(&plan(vec![
        udp(dns(1, udp_port, "API.shop.test", "A")),
        dns(2, tcp_port, "api.shop.test.", "AAAA"),
        udp(dns(3, udp_port, "no.shop.test", "A")),
        udp(dns(4, udp_port, "api.shop.test", "TXT")),
        udp(dns(5, mute, "api.shop.test", "A")),
        udp(dns(6, raw, "api.shop.test", "A")),
        udp(dns(7, answer, "api.shop.test", "A")),
    ]));
    let udp_stages = [Stage::FirstBytes, Stage::Request];
    assert_eq!(
        (stages(&seen[&1]), &seen[&1].stop),
        (udp_stages.to_vec(), &None)
    );
    let facts = seen[&1].dns.as_ref().unwrap();
    assert_eq!(facts.rcode, Some(0));
    assert_eq!(facts.server, Some(SocketAddr::new(LOCALHOST, udp_port)));
    assert_eq!(
        facts.records,
        ["api.shop.test. A 10.0.0.1", "api.shop.test. A 10.0.0.2"]
    );
    assert_eq!(
        stages(&seen[&2]),
        [Stage::Connect, Stage::FirstBytes, Stage::Request]
    );
    assert_eq!(
        seen[&2].dns.as_ref().unwrap().records,
        ["api.shop.test. AAAA fd00::1"]
    );
    let rcode = |code| {
        Some(Stop {
            stage: Stage::Request,
            how: How::Rcode { code },
        })
    };
    assert_eq!(
        (stages(&seen[&3]), &seen[&3].stop),
        (vec![Stage::FirstBytes], &rcode(3))
    );
    assert_eq!(seen[&4].stop, rcode(0));
    assert_eq!(
        seen[&5].stop,
        Some(Stop {
            stage: Stage::FirstBytes,
            how: How::Silence
        })
    );
    assert!(matches!(
        &seen[&6].stop,
        Some(Stop {
            stage: Stage::Request,
            how: How::Garbled { .. }
        })
    ));
    assert_eq!(seen[&7].stop, None);
}

#[test]
fn a_name_is_resolved_by_search_list_before_it_is_dialled() {
    let responder = Responder::start();
    let port = responder.listen("web", Transport::Tcp, Behaviour::Answer);
    let server = |last: u8| IpAddr::from([127, 0, 53, last]);
    let at = |last, transport, behaviour| Listen {
        address: SocketAddr::new(server(last), 53),
        transport,
        behaviour,
        certificate: None,
    };
    // A message whose code is REFUSED answers every query; only its number is wrong, so it is
    // patched by a server of the test's own.
    let refusing = match std::net::UdpSocket::bind((server(3), 53)) {
        Ok(socket) => socket,
        Err(why) => return skipped(&format!("port 53: {why}")),
    };
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 512];
        while let Ok((n, from)) = refusing.recv_from(&mut buffer) {
            buffer[2] = 0x81;
            buffer[3] = 0x85;
            drop(refusing.send_to(&buffer[..n], from));
        }
    });
    let listen = vec![
        at(1, Transport::Udp, Behaviour::Dns),
        at(1, Transport::Tcp, Behaviour::Dns),
        at(2, Transport::Udp, Behaviour::Mute),
    ];
    assert_eq!(
        responder.order(
            &Command::Serve {
                group: 1,
                who: "dns".into(),
                listen
            },
            None
        ),
        Reply::Done
    );
    let many: Vec<String> = (1..=60).map(|n| format!("127.0.9.{n}")).collect();
    let mut names = vec![("web.shop.test", "127.0.0.1"), ("empty.test", "fd00::1")];
    names.extend(many.iter().map(|address| ("many.test", address.as_str())));
    assert_eq!(responder.order(&zone(&names), None), Reply::Done);

    let dial = |id, name: &str| {
        let mut flow = once(flow(id, port, Request::Nonce));
        flow.target = Target::Name {
            name: name.into(),
            v6: false,
        };
        flow
    };
    let ask = |servers: &[u8], flows| {
        let mut plan = plan(flows);
        let servers = servers.iter().map(|&n| server(n)).collect();
        plan.resolver = Some(Resolver {
            servers,
            search: vec!["other.test".into(), "shop.test".into()],
            ndots: 2,
        });
        run(&plan)
    };
    let seen = ask(
        &[1],
        vec![
            dial(1, "web"),
            dial(2, "nowhere"),
            dial(3, "empty.test."),
            dial(4, "many.test"),
        ],
    );
    assert_eq!(seen[&1].stop, None, "{seen:#?}");
    assert_eq!(
        stages(&seen[&1]),
        [
            Stage::Resolve,
            Stage::Connect,
            Stage::FirstBytes,
            Stage::Request
        ]
    );
    assert_eq!(seen[&1].peer, Some(SocketAddr::new(LOCALHOST, port)));
    assert_eq!(seen[&1].dns, None);
    let rcode = |code| {
        Some(Stop {
            stage: Stage::Resolve,
            how: How::Rcode { code },
        })
    };
    assert_eq!((&seen[&2].stop, stages(&seen[&2])), (&rcode(3), vec![]));
    assert_eq!(seen[&2].dns.as_ref().unwrap().name, "nowhere");
    assert_eq!(seen[&3].stop, rcode(0));
    // Sixty addresses do not fit a datagram: resolved over TCP.
    assert_eq!(seen[&4].passed[0].0, Stage::Resolve);

    // A silent and a refusing server give way to the next; alone they are told.
    assert_eq!(ask(&[2, 1], vec![dial(1, "web.shop.test.")])[&1].stop, None);
    assert_eq!(ask(&[3, 1], vec![dial(1, "web.shop.test.")])[&1].stop, None);
    let silent = ask(&[2], vec![dial(1, "web.shop.test.")]);
    assert_eq!(
        silent[&1].stop,
        Some(Stop {
            stage: Stage::Resolve,
            how: How::Silence
        })
    );
    let refused = ask(&[3], vec![dial(1, "web")]);
    assert_eq!(refused[&1].stop, rcode(5));
    let facts = refused[&1].dns.as_ref().unwrap();
    assert_eq!(
        (facts.server, facts.rcode),
        (Some(SocketAddr::new(server(3), 53)), Some(5))
    );
    // Nobody listens: the kernel says so at once.
    let closed = ask(&[4], vec![dial(1, "web.shop.test.")]);
    assert!(matches!(
        closed[&1].stop,
        Some(Stop {
            stage: Stage::Resolve,
            how: How::Error { errno: 111, .. }
        })
    ));
}
