//! DNS, TLS and HTTP between agent and responder, whole and broken, and against hostile targets.

#![expect(clippy::unwrap_used, reason = "a test ends where what it takes for granted is not so")]

mod common;

use common::{LOCALHOST, Probe, Responder, flow, once, plan, skipped, udp};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use watertight_probe::responder::control::{Behaviour, Certificate, Command, Listen, Reply};
use watertight_probe::wire::{
    Body, Flow, How, Http, Observation, Plan, Request, Resolver, Stage, Stop, Target, Tls, Transport,
};

/// Runs flows once each and returns what was seen, by flow.
fn run(plan: &Plan) -> BTreeMap<u32, Observation> {
    let mut probe = Probe::start(plan);
    assert_eq!(probe.bye(), "done", "{:#?}", probe.read);
    probe.assert_no_hole();
    assert!(probe.faults().is_empty(), "{:#?}", probe.faults());
    probe.read.samples().collect()
}

trait Samples {
    fn samples(&self) -> impl Iterator<Item = (u32, Observation)>;
}

impl Samples for Vec<watertight_probe::wire::Line> {
    fn samples(&self) -> impl Iterator<Item = (u32, Observation)> {
        self.iter().filter_map(|line| match &line.body {
            Body::Sample(sample) => Some((sample.flow, sample.seen.clone())),
            _ => None,
        })
    }
}

fn stages(seen: &Observation) -> Vec<Stage> {
    seen.passed.iter().map(|(stage, _)| *stage).collect()
}

/// A server of the test's own: each connection is handled by `work`.
fn server(work: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            std::thread::spawn(move || work(stream));
        }
    });
    port
}

fn http(id: u32, port: u16) -> Flow {
    once(flow(id, port, Request::Http(get(port))))
}

fn get(port: u16) -> Http {
    Http {
        tls: None,
        method: "GET".into(),
        path: "/a?b=c".into(),
        authority: format!("localhost:{port}"),
        headers: vec![],
        body: None,
        h2: false,
    }
}

fn https(id: u32, port: u16, alpn: &[&str]) -> Flow {
    let tls = Some(Tls { server_name: Some("web.test".into()), alpn: alpn.iter().map(ToString::to_string).collect() });
    once(flow(id, port, Request::Http(Http { tls, ..get(port) })))
}

fn tls(id: u32, port: u16, server_name: Option<&str>, alpn: &[&str]) -> Flow {
    let alpn = alpn.iter().map(ToString::to_string).collect();
    once(flow(id, port, Request::Tls(Tls { server_name: server_name.map(Into::into), alpn })))
}

/// An authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certificate { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

fn dns(id: u32, port: u16, name: &str, record: &str) -> Flow {
    once(flow(id, port, Request::Dns { name: name.into(), record: record.into() }))
}

fn zone(names: &[(&str, &str)]) -> Command {
    let mut records: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, address) in names {
        records.entry((*name).into()).or_default().push(address.parse().unwrap());
    }
    Command::Zone { records }
}

#[test]
fn dns_is_answered_from_the_zone() {
    let responder = Responder::start();
    let udp_port = responder.listen("dns", Transport::Udp, Behaviour::Dns);
    let tcp_port = responder.listen("dns", Transport::Tcp, Behaviour::Dns);
    let answer = responder.listen("dns", Transport::Udp, Behaviour::Answer);
    let mute = responder.listen("dns", Transport::Udp, Behaviour::Mute);
    let raw = responder.listen("dns", Transport::Udp, Behaviour::Raw("00ff".into()));
    let zone = zone(&[("api.shop.test", "10.0.0.2"), ("api.shop.test", "10.0.0.1"), ("api.shop.test", "fd00::1")]);
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
    assert_eq!((stages(&seen[&1]), &seen[&1].stop), (udp_stages.to_vec(), &None));
    let facts = seen[&1].dns.as_ref().unwrap();
    assert_eq!(facts.rcode, Some(0));
    assert_eq!(facts.server, Some(SocketAddr::new(LOCALHOST, udp_port)));
    assert_eq!(facts.records, ["api.shop.test. A 10.0.0.1", "api.shop.test. A 10.0.0.2"]);
    assert_eq!(stages(&seen[&2]), [Stage::Connect, Stage::FirstBytes, Stage::Request]);
    assert_eq!(seen[&2].dns.as_ref().unwrap().records, ["api.shop.test. AAAA fd00::1"]);
    let rcode = |code| Some(Stop { stage: Stage::Request, how: How::Rcode { code } });
    assert_eq!((stages(&seen[&3]), &seen[&3].stop), (vec![Stage::FirstBytes], &rcode(3)));
    assert_eq!(seen[&4].stop, rcode(0));
    assert_eq!(seen[&5].stop, Some(Stop { stage: Stage::FirstBytes, how: How::Silence }));
    assert!(matches!(&seen[&6].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })));
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
    // A message whose code is REFUSED answers every query; only its number is wrong, so it is patched by a server of
    // the test's own.
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
    assert_eq!(responder.order(&Command::Serve { group: 1, who: "dns".into(), listen }, None), Reply::Done);
    let many: Vec<String> = (1..=60).map(|n| format!("127.0.9.{n}")).collect();
    let mut names = vec![("web.shop.test", "127.0.0.1"), ("empty.test", "fd00::1")];
    names.extend(many.iter().map(|address| ("many.test", address.as_str())));
    assert_eq!(responder.order(&zone(&names), None), Reply::Done);

    let dial = |id, name: &str| {
        let mut flow = once(flow(id, port, Request::Nonce));
        flow.target = Target::Name { name: name.into(), v6: false };
        flow
    };
    let ask = |servers: &[u8], flows| {
        let mut plan = plan(flows);
        let servers = servers.iter().map(|&n| server(n)).collect();
        plan.resolver = Some(Resolver { servers, search: vec!["other.test".into(), "shop.test".into()], ndots: 2 });
        run(&plan)
    };
    let seen = ask(&[1], vec![dial(1, "web"), dial(2, "nowhere"), dial(3, "empty.test."), dial(4, "many.test")]);
    assert_eq!(seen[&1].stop, None, "{seen:#?}");
    assert_eq!(stages(&seen[&1]), [Stage::Resolve, Stage::Connect, Stage::FirstBytes, Stage::Request]);
    assert_eq!(seen[&1].peer, Some(SocketAddr::new(LOCALHOST, port)));
    assert_eq!(seen[&1].dns, None);
    let rcode = |code| Some(Stop { stage: Stage::Resolve, how: How::Rcode { code } });
    assert_eq!((&seen[&2].stop, stages(&seen[&2])), (&rcode(3), vec![]));
    assert_eq!(seen[&2].dns.as_ref().unwrap().name, "nowhere");
    assert_eq!(seen[&3].stop, rcode(0));
    // Sixty addresses do not fit a datagram: resolved over TCP.
    assert_eq!(seen[&4].passed[0].0, Stage::Resolve);

    // A silent and a refusing server give way to the next; alone they are told.
    assert_eq!(ask(&[2, 1], vec![dial(1, "web.shop.test.")])[&1].stop, None);
    assert_eq!(ask(&[3, 1], vec![dial(1, "web.shop.test.")])[&1].stop, None);
    let silent = ask(&[2], vec![dial(1, "web.shop.test.")]);
    assert_eq!(silent[&1].stop, Some(Stop { stage: Stage::Resolve, how: How::Silence }));
    let refused = ask(&[3], vec![dial(1, "web")]);
    assert_eq!(refused[&1].stop, rcode(5));
    let facts = refused[&1].dns.as_ref().unwrap();
    assert_eq!((facts.server, facts.rcode), (Some(SocketAddr::new(server(3), 53)), Some(5)));
    // Nobody listens: the kernel says so at once.
    let closed = ask(&[4], vec![dial(1, "web.shop.test.")]);
    assert!(matches!(closed[&1].stop, Some(Stop { stage: Stage::Resolve, how: How::Error { errno: 111, .. } })));
}

#[test]
fn tls_facts_judge_chain_name_and_expiry_apart() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let responder = Responder::start();
    let listen = |certificate| responder.listen_with("web", Transport::Tcp, Behaviour::Answer, Some(certificate));
    let good = listen(trusted.issue(&["web.test", "127.0.0.1"], |_| {}));
    let untrusted = listen(other.issue(&["web.test"], |_| {}));
    let expired = listen(trusted.issue(&["web.test"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    }));
    let hostile = listen(trusted.issue(&["web.test"], |params| {
        params.distinguished_name.push(DnType::CommonName, "\u{1b}[31m<evil>&\u{202e}\n");
    }));
    let mut plan = plan(vec![
        tls(1, good, Some("web.test"), &["h2", "http/1.1"]),
        tls(2, good, None, &[]),
        tls(3, good, Some("other.test"), &[]),
        tls(4, untrusted, Some("web.test"), &[]),
        tls(5, expired, Some("web.test"), &[]),
        tls(6, hostile, Some("web.test"), &[]),
        tls(7, good, Some("127.0.0.1"), &[]),
    ]);
    plan.trust = vec![trusted.pem.clone()];
    let seen = run(&plan);
    let facts = |id| {
        let seen = &seen[&id];
        assert_eq!((&seen.stop, stages(seen)), (&None, vec![Stage::Connect, Stage::Tls]), "flow {id}: {seen:?}");
        seen.tls.as_deref().unwrap()
    };
    let judged = |id| (facts(id).chain_error.is_none(), facts(id).name_error.is_none(), facts(id).expired);
    assert_eq!(judged(1), (true, true, false));
    assert_eq!(facts(1).version, "TLSv1.3");
    assert_eq!(facts(1).alpn.as_deref(), Some("h2"));
    assert_eq!(facts(1).names, ["web.test", "127.0.0.1"]);
    assert_eq!(facts(1).issuer, "CN=test authority");
    assert_eq!(facts(1).leaf.len(), 64);
    assert_eq!(judged(2), (true, true, false));
    assert_eq!(facts(2).alpn, None);
    assert_eq!(judged(3), (true, false, false));
    assert_eq!(judged(4), (false, true, false));
    assert_eq!(judged(5), (true, true, true));
    assert_eq!(facts(5).not_after, 1_577_836_800);
    assert!(facts(6).subject.contains("[31m<evil>&"), "{}", facts(6).subject);
    assert!(!facts(6).subject.contains(['\u{1b}', '\u{202e}', '\n']));
    assert_eq!(judged(7), (true, true, false));
}

#[test]
fn a_handshake_that_fails_says_how() {
    let authority = Authority::new();
    let responder = Responder::start();
    let good =
        responder.listen_with("web", Transport::Tcp, Behaviour::Answer, Some(authority.issue(&["web.test"], |_| {})));
    let without = responder.listen("web", Transport::Tcp, Behaviour::Answer);
    let mute = responder.listen("web", Transport::Tcp, Behaviour::Mute);
    let plain = server(|mut stream| {
        drop(stream.read(&mut [0; 1024]));
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    let seen = run(&plan(vec![
        tls(1, good, Some("web.test"), &["smtp"]),
        tls(2, without, Some("web.test"), &[]),
        tls(3, mute, Some("web.test"), &[]),
        tls(4, plain, Some("web.test"), &[]),
    ]));
    let stop = |how| Some(Stop { stage: Stage::Tls, how });
    // no_application_protocol, RFC 7301 section 3.2
    assert_eq!(seen[&1].stop, stop(How::Alert { code: 120 }));
    assert_eq!(seen[&2].stop, stop(How::Closed));
    assert_eq!(seen[&3].stop, stop(How::Silence));
    assert!(matches!(&seen[&4].stop, Some(Stop { stage: Stage::Tls, how: How::Garbled { .. } })), "{:?}", seen[&4]);
    assert!(seen.values().all(|seen| stages(seen) == [Stage::Connect]));
}

#[test]
fn http_returns_the_nonce_in_each_version() {
    let authority = Authority::new();
    let responder = Responder::start();
    let plain = responder.listen("pod web", Transport::Tcp, Behaviour::Answer);
    let certificate = authority.issue(&["web.test"], |_| {});
    let secure = responder.listen_with("pod web", Transport::Tcp, Behaviour::Answer, Some(certificate));
    let mut prior = http(2, plain);
    let Request::Http(request) = &mut prior.request else { unreachable!() };
    request.h2 = true;
    request.method = "POST".into();
    request.body = Some("hello".into());
    let seen = run(&plan(vec![
        http(1, plain),
        prior,
        https(3, secure, &["h2"]),
        https(4, secure, &["http/1.1"]),
        https(5, secure, &[]),
    ]));
    for (id, version) in [(1, "HTTP/1.1"), (2, "HTTP/2.0"), (3, "HTTP/2.0"), (4, "HTTP/1.1"), (5, "HTTP/1.1")] {
        let seen = &seen[&id];
        let second = if id < 3 { Stage::FirstBytes } else { Stage::Tls };
        assert_eq!((&seen.stop, stages(seen)), (&None, vec![Stage::Connect, second, Stage::Request]), "flow {id}");
        let http = seen.http.as_ref().unwrap();
        assert_eq!((http.version.as_str(), http.status), (version, 200));
        assert_eq!(http.body_start, "watertight/1 NONCE pod web.");
        assert_eq!(http.body_bytes, "watertight/1  pod web\n".len() as u64 + 32);
        let answer = seen.answer.as_ref().unwrap();
        assert_eq!((answer.nonce, answer.who.as_str()), (true, "pod web"));
        assert_eq!(seen.tls.is_some(), id > 2);
    }
}

#[test]
fn redirects_are_told_and_not_followed() {
    let responder = Responder::start();
    let port = responder.listen("web", Transport::Tcp, Behaviour::Redirect);
    let denied = Behaviour::Status(403, "RBAC: access denied".into(), "envoy".into());
    let denying = responder.listen("web", Transport::Tcp, denied);
    let seen = run(&plan(vec![http(1, port), http(2, denying)]));
    let http = seen[&1].http.as_ref().unwrap();
    assert_eq!((http.status, http.location.clone()), (302, Some(format!("http://localhost:{port}/a"))));
    assert_eq!(seen[&1].answer, None);
    let http = seen[&2].http.as_ref().unwrap();
    assert_eq!(
        (http.status, http.server.as_deref(), http.body_start.as_str()),
        (403, Some("envoy"), "RBAC: access denied")
    );
    assert_eq!(seen[&2].stop, None);
}

#[test]
fn a_request_carries_the_runs_name_and_the_plans_headers() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).unwrap();
        tell.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).unwrap();
        drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nl5d-proxy-error: x\r\nx-envoy-a: b\r\n\r\n"));
    });
    let mut flow = http(1, port);
    let Request::Http(request) = &mut flow.request else { unreachable!() };
    request.headers = vec![("X-Line".into(), "one".into())];
    let seen = run(&plan(vec![flow]));
    let text = told.recv().unwrap();
    assert!(text.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{text}");
    for line in [
        format!("host: localhost:{port}"),
        format!("user-agent: watertight/{} (test-run)", env!("CARGO_PKG_VERSION")),
        "x-line: one".into(),
    ] {
        assert!(text.lines().any(|l| l.eq_ignore_ascii_case(&line)), "{line} in {text}");
    }
    let http = seen[&1].http.as_ref().unwrap();
    assert_eq!((http.status, http.marks.clone()), (204, vec!["l5d-proxy-error".to_owned(), "x-envoy-a".into()]));
}

#[test]
fn http_that_is_not_answered_says_how() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let hang_up = responder.listen("x", Transport::Tcp, Behaviour::HangUp);
    let ssh = responder.listen("x", Transport::Tcp, Behaviour::Raw("5353482d322e300d0a0d0a".into()));
    let cut = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nx-cut"));
    });
    let mut h2 = http(5, ssh);
    let Request::Http(request) = &mut h2.request else { unreachable!() };
    request.h2 = true;
    let seen = run(&plan(vec![http(1, mute), http(2, hang_up), http(3, ssh), http(4, cut), h2]));
    assert_eq!(seen[&1].stop, Some(Stop { stage: Stage::FirstBytes, how: How::Silence }));
    assert_eq!(seen[&2].stop, Some(Stop { stage: Stage::FirstBytes, how: How::Closed }));
    assert!(matches!(&seen[&3].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })), "{:?}", seen[&3]);
    assert_eq!(seen[&4].stop, Some(Stop { stage: Stage::Request, how: How::Closed }));
    assert!(matches!(&seen[&5].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })), "{:?}", seen[&5]);
    assert!(seen.values().all(|seen| seen.http.is_none()));
}

#[test]
fn hostile_targets_cost_bounded_time_and_memory() {
    let responder = Responder::start();
    let flood = responder.listen("x", Transport::Tcp, Behaviour::Flood);
    let drip = responder.listen("x", Transport::Tcp, Behaviour::Drip);
    let flood_udp = responder.listen("x", Transport::Udp, Behaviour::Flood);
    let headers = server(|mut stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n"));
        while stream.write_all(b"x-more: and more and more and more and more\r\n").is_ok() {}
    });
    let interim = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
    });
    let huge = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n<b>\x1b[31m"));
        let block = vec![b'x'; 65536];
        while stream.write_all(&block).is_ok() {}
    });
    let slow_body = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(b"HTTP/1.1 403 Forbidden\r\nserver: <a href=\"\xff\">\r\n\r\nno"));
        std::thread::sleep(Duration::from_secs(5));
    });
    let mut plan = plan(vec![
        http(1, flood),
        http(2, drip),
        http(3, headers),
        http(4, huge),
        http(5, slow_body),
        once(flow(6, flood, Request::Nonce)),
        tls(7, flood, None, &[]),
        tls(8, drip, None, &[]),
        udp(once(flow(9, flood_udp, Request::Nonce))),
        http(10, interim),
    ]);
    plan.ttl_ms = 8_000;
    let began = Instant::now();
    let mut probe = Probe::start(&plan);
    probe.until(|body| matches!(body, Body::Beat(_)));
    let mut seen: BTreeMap<u32, Observation> = probe.read.samples().collect();
    while seen.len() < 10 {
        let line = probe.until(|body| matches!(body, Body::Sample(_)));
        if let Body::Sample(sample) = line.body {
            seen.insert(sample.flow, sample.seen);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", probe.child.id())) {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let peak: u64 = peak.map_or(0, |kb| kb.trim().parse().unwrap());
        assert!(peak < 64 * 1024, "{peak} KiB");
    }
    assert_eq!(seen[&1].http.as_ref().unwrap().body_bytes, 1_000_000);
    assert_eq!(seen[&2].stop, Some(Stop { stage: Stage::Request, how: How::Silence }));
    assert!(matches!(seen[&3].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })), "{:?}", seen[&3]);
    let http = seen[&4].http.as_ref().unwrap();
    assert_eq!((http.body_bytes, &http.body_start[..8]), (1_000_000, "<b>.[31m"));
    let http = seen[&5].http.as_ref().unwrap();
    assert_eq!((http.status, http.body_bytes, http.server.as_deref()), (403, 2, Some("<a href=\".\">")));
    assert!(matches!(seen[&6].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })));
    assert!(matches!(seen[&7].stop, Some(Stop { stage: Stage::Tls, how: How::Garbled { .. } })), "{:?}", seen[&7]);
    assert!(matches!(seen[&8].stop, Some(Stop { stage: Stage::Tls, .. })), "{:?}", seen[&8]);
    assert!(matches!(seen[&9].stop, Some(Stop { stage: Stage::Request, how: How::Garbled { .. } })));
    assert_eq!(seen[&10].stop, Some(Stop { stage: Stage::Request, how: How::Silence }));
}

#[test]
fn certificates_to_trust_that_are_none_are_a_fault_of_the_plan() {
    let mut plan = plan(vec![]);
    plan.trust = vec!["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()];
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), "plan");
}
