//! DNS between agent and responder: as a request, and to resolve the name of a target.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{
    LOCALHOST, Responder, dns, flow, is_garbled, once, plan, run, skipped, stages, stop, udp, zone,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use watertight_probe::responder::control::{Behaviour, Command, Listen, Reply};
use watertight_probe::wire::{
    Flow, Observation, Request, Resolver, Stage, Stop, StopCause, Target, Transport,
};

/// A stop by a response code.
fn rcode(stage: Stage, code: u16) -> Option<Stop> {
    stop(stage, StopCause::Rcode { code })
}

/// Address of a name server of the test.
fn server(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 53, last])
}

/// A listener on port 53 of a name server.
fn name_server(last: u8, transport: Transport, behaviour: Behaviour) -> Listen {
    Listen {
        address: SocketAddr::new(server(last), 53),
        transport,
        behaviour,
        certificate: None,
    }
}

/// One attempt to a name.
fn dial(id: u32, port: u16, name: &str) -> Flow {
    let mut flow = once(flow(id, port, Request::Nonce));
    flow.target = Target::Name {
        name: name.into(),
        v6: false,
    };
    flow
}

/// Runs flows with these name servers.
fn run_with(servers: &[u8], flows: Vec<Flow>) -> BTreeMap<u32, Observation> {
    let mut plan = plan(flows);
    plan.resolver = Some(Resolver {
        servers: servers.iter().map(|&last| server(last)).collect(),
        search: vec!["other.test".into(), "shop.test".into()],
        ndots: 2,
    });
    run(&plan)
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
    assert_eq!(responder.send(&zone, None), Reply::Done);
    let observations = run(&plan(vec![
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
        (stages(&observations[&1]), &observations[&1].stop),
        (udp_stages.to_vec(), &None)
    );
    let facts = observations[&1].dns.as_ref().unwrap();
    assert_eq!(facts.rcode, Some(0));
    assert_eq!(facts.server, Some(SocketAddr::new(LOCALHOST, udp_port)));
    let expected: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    assert_eq!(
        (facts.addresses.as_slice(), facts.records),
        (&expected[..], 2)
    );
    assert_eq!(
        stages(&observations[&2]),
        [Stage::Connect, Stage::FirstBytes, Stage::Request]
    );
    let expected: [IpAddr; 1] = ["fd00::1".parse().unwrap()];
    assert_eq!(observations[&2].dns.as_ref().unwrap().addresses, expected);
    assert_eq!(
        (stages(&observations[&3]), &observations[&3].stop),
        (vec![Stage::FirstBytes], &rcode(Stage::Request, 3))
    );
    assert_eq!(observations[&4].stop, rcode(Stage::Request, 0));
    assert_eq!(
        observations[&5].stop,
        stop(Stage::FirstBytes, StopCause::Silence)
    );
    assert!(is_garbled(&observations[&6], Stage::Request));
    assert_eq!(observations[&7].stop, None);

    // The test double takes the stage of a stop from the request.
    let request = dns(3, udp_port, "no.shop.test", "A").request;
    for id in [3, 4, 5, 6] {
        let Stop { stage, how } = observations[&id].stop.as_ref().unwrap();
        assert_eq!(request.stage_stopped_by(Transport::Udp, how), *stage);
    }
}

#[test]
fn name_is_resolved_with_the_search_list_before_it_is_dialled() {
    let responder = Responder::start();
    let port = responder.listen("web", Transport::Tcp, Behaviour::Answer);
    // A server that refuses every query: it returns the query as a response with code REFUSED.
    let refusing = match std::net::UdpSocket::bind((server(3), 53)) {
        Ok(socket) => socket,
        Err(error) => return skipped(&format!("port 53: {error}")),
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
        name_server(1, Transport::Udp, Behaviour::Dns),
        name_server(1, Transport::Tcp, Behaviour::Dns),
        name_server(2, Transport::Udp, Behaviour::Mute),
    ];
    assert_eq!(
        responder.send(
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
    assert_eq!(responder.send(&zone(&names), None), Reply::Done);

    let observations = run_with(
        &[1],
        vec![
            dial(1, port, "web"),
            dial(2, port, "nowhere"),
            dial(3, port, "empty.test."),
            dial(4, port, "many.test"),
        ],
    );
    assert_eq!(observations[&1].stop, None, "{observations:#?}");
    assert_eq!(
        stages(&observations[&1]),
        [
            Stage::Resolve,
            Stage::Connect,
            Stage::FirstBytes,
            Stage::Request
        ]
    );
    assert_eq!(
        observations[&1].peer,
        Some(SocketAddr::new(LOCALHOST, port))
    );
    assert_eq!(observations[&1].dns, None);
    assert_eq!(
        (&observations[&2].stop, stages(&observations[&2])),
        (&rcode(Stage::Resolve, 3), vec![])
    );
    assert_eq!(observations[&2].dns.as_ref().unwrap().name, "nowhere");
    assert_eq!(observations[&3].stop, rcode(Stage::Resolve, 0));
    // Sixty addresses do not fit a datagram: resolved over TCP.
    assert_eq!(observations[&4].passed[0].0, Stage::Resolve);

    // After a silent or refusing server the next is asked; a single one is reported.
    assert_eq!(
        run_with(&[2, 1], vec![dial(1, port, "web.shop.test.")])[&1].stop,
        None
    );
    assert_eq!(
        run_with(&[3, 1], vec![dial(1, port, "web.shop.test.")])[&1].stop,
        None
    );
    let silent = run_with(&[2], vec![dial(1, port, "web.shop.test.")]);
    assert_eq!(silent[&1].stop, stop(Stage::Resolve, StopCause::Silence));
    let refused = run_with(&[3], vec![dial(1, port, "web")]);
    assert_eq!(refused[&1].stop, rcode(Stage::Resolve, 5));
    let facts = refused[&1].dns.as_ref().unwrap();
    assert_eq!(
        (facts.server, facts.rcode),
        (Some(SocketAddr::new(server(3), 53)), Some(5))
    );
    // No listener: the kernel returns an error at once.
    let closed = run_with(&[4], vec![dial(1, port, "web.shop.test.")]);
    assert!(matches!(
        closed[&1].stop,
        Some(Stop {
            stage: Stage::Resolve,
            how: StopCause::Error { errno: 111, .. }
        })
    ));
}
