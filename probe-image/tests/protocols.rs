//! TLS and HTTP between agent and responder, valid and invalid.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{
    Probe, Responder, dns, flow, get, http, is_garbled, once, plan, run, server, stages, stop, tls,
    udp, zone,
};
use std::io::{Read, Write};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use watertight_probe::responder::control::{Behaviour, Certificate, Reply};
use watertight_probe::wire::{
    AnswerPattern, ByeReason, Flow, Http, HttpDenial, Observation, Request, RequestText, Stage,
    StopCause, Tls, TlsFacts, Transport,
};
use watertight_probe::{SECRETS_ON_STDIN, encode_plan, secrets_line};

fn https(id: u32, port: u16, alpn: &[&str]) -> Flow {
    let tls = Some(Tls {
        server_name: Some("web.test".into()),
        alpn: alpn.iter().map(ToString::to_string).collect(),
    });
    once(flow(id, port, Request::Http(Http { tls, ..get(port) })))
}

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())
                .unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certificate {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A responder that answers over TLS with this certificate; returns its port.
fn listen_tls(responder: &Responder, certificate: Certificate) -> u16 {
    responder.listen_with("web", Transport::Tcp, Behaviour::Answer, Some(certificate))
}

/// The TLS facts of a flow that passed the handshake.
fn tls_facts(observation: &Observation) -> &TlsFacts {
    assert_eq!(
        (&observation.stop, stages(observation)),
        (&None, vec![Stage::Connect, Stage::Tls]),
        "{observation:?}"
    );
    observation.tls.as_deref().unwrap()
}

/// Whether the chain is trusted, the name matches, and the leaf has expired.
fn validity(observation: &Observation) -> (bool, bool, bool) {
    let facts = tls_facts(observation);
    (
        facts.chain_error.is_none(),
        facts.name_error.is_none(),
        facts.expired,
    )
}

#[test]
fn chain_name_and_expiry_of_a_certificate_are_recorded_separately() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let responder = Responder::start();
    let good = listen_tls(
        &responder,
        trusted.issue(&["web.test", "127.0.0.1"], |_| {}),
    );
    let untrusted = listen_tls(&responder, other.issue(&["web.test"], |_| {}));
    let expired = listen_tls(
        &responder,
        trusted.issue(&["web.test"], |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }),
    );
    let malicious = listen_tls(
        &responder,
        trusted.issue(&["web.test"], |params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "\u{1b}[31m<evil>&\u{202e}\n");
        }),
    );
    let mut plan = plan(vec![
        tls(1, good, Some("web.test"), &["h2", "http/1.1"]),
        tls(2, good, None, &[]),
        tls(3, good, Some("other.test"), &[]),
        tls(4, untrusted, Some("web.test"), &[]),
        tls(5, expired, Some("web.test"), &[]),
        tls(6, malicious, Some("web.test"), &[]),
        tls(7, good, Some("127.0.0.1"), &[]),
    ]);
    plan.trust = vec![trusted.pem.clone()];
    let observations = run(&plan);

    assert_eq!(validity(&observations[&1]), (true, true, false));
    let facts = tls_facts(&observations[&1]);
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.alpn.as_deref(), Some("h2"));
    assert_eq!(facts.names, ["web.test", "127.0.0.1"]);
    assert_eq!(facts.issuer, "CN=test authority");
    assert_eq!(facts.leaf.len(), 64);

    assert_eq!(validity(&observations[&2]), (true, true, false));
    assert_eq!(tls_facts(&observations[&2]).alpn, None);
    assert_eq!(validity(&observations[&3]), (true, false, false));
    assert_eq!(validity(&observations[&4]), (false, true, false));
    assert_eq!(validity(&observations[&5]), (true, true, true));
    assert_eq!(tls_facts(&observations[&5]).not_after, 1_577_836_800);
    assert_eq!(validity(&observations[&7]), (true, true, false));

    let subject = &tls_facts(&observations[&6]).subject;
    assert!(subject.contains("[31m<evil>&"), "{subject}");
    assert!(!subject.contains(['\u{1b}', '\u{202e}', '\n']));
}

#[test]
fn failed_tls_handshake_is_reported_with_its_cause() {
    let authority = Authority::new();
    let responder = Responder::start();
    let good = listen_tls(&responder, authority.issue(&["web.test"], |_| {}));
    let without = responder.listen("web", Transport::Tcp, Behaviour::Answer);
    let mute = responder.listen("web", Transport::Tcp, Behaviour::Mute);
    let plain = server(|mut stream| {
        drop(stream.read(&mut [0; 1024]));
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    let observations = run(&plan(vec![
        tls(1, good, Some("web.test"), &["smtp"]),
        tls(2, without, Some("web.test"), &[]),
        tls(3, mute, Some("web.test"), &[]),
        tls(4, plain, Some("web.test"), &[]),
    ]));

    // no_application_protocol (RFC 7301 §3.2)
    assert_eq!(
        observations[&1].stop,
        stop(Stage::Tls, StopCause::Alert { code: 120 })
    );
    assert_eq!(observations[&2].stop, stop(Stage::Tls, StopCause::Closed));
    assert_eq!(observations[&3].stop, stop(Stage::Tls, StopCause::Silence));
    assert!(
        is_garbled(&observations[&4], Stage::Tls),
        "{:?}",
        observations[&4]
    );
    assert!(
        observations
            .values()
            .all(|observation| stages(observation) == [Stage::Connect])
    );
}

#[test]
fn nonce_is_returned_by_each_version_of_http() {
    let authority = Authority::new();
    let responder = Responder::start();
    let plain = responder.listen("pod web", Transport::Tcp, Behaviour::Answer);
    let certificate = authority.issue(&["web.test"], |_| {});
    let secure = responder.listen_with(
        "pod web",
        Transport::Tcp,
        Behaviour::Answer,
        Some(certificate),
    );
    let mut prior = http(2, plain);
    let Request::Http(request) = &mut prior.request else {
        unreachable!()
    };
    request.h2 = true;
    request.method = "POST".into();
    request.body = Some("hello".into());
    let observations = run(&plan(vec![
        http(1, plain),
        prior,
        https(3, secure, &["h2"]),
        https(4, secure, &["http/1.1"]),
        https(5, secure, &[]),
    ]));
    for (id, version) in [
        (1, "HTTP/1.1"),
        (2, "HTTP/2.0"),
        (3, "HTTP/2.0"),
        (4, "HTTP/1.1"),
        (5, "HTTP/1.1"),
    ] {
        let observation = &observations[&id];
        let second = if id < 3 {
            Stage::FirstBytes
        } else {
            Stage::Tls
        };
        assert_eq!(
            (&observation.stop, stages(observation)),
            (&None, vec![Stage::Connect, second, Stage::Request]),
            "flow {id}"
        );
        let http = observation.http.as_ref().unwrap();
        assert_eq!((http.version.as_str(), http.status), (version, 200));
        assert_eq!(http.body_bytes, "watertight/1  pod web\n".len() as u64 + 32);
        let answer = observation.answer.as_ref().unwrap();
        assert_eq!((answer.nonce, answer.who.as_str()), (true, "pod web"));
        assert_eq!(observation.tls.is_some(), id > 2);
    }
}

#[test]
fn redirects_are_reported_and_not_followed() {
    let responder = Responder::start();
    let port = responder.listen("web", Transport::Tcp, Behaviour::Redirect);
    let denied = Behaviour::Status(403, "RBAC: access denied".into(), "envoy".into());
    let denying = responder.listen("web", Transport::Tcp, denied);
    let observations = run(&plan(vec![http(1, port), http(2, denying)]));
    let http = observations[&1].http.as_ref().unwrap();
    assert_eq!((http.status, http.denial), (302, None));
    assert_eq!(observations[&1].answer, None);
    let http = observations[&2].http.as_ref().unwrap();
    assert_eq!(
        (http.status, http.denial),
        (403, Some(HttpDenial::IstioAuthorization))
    );
    assert_eq!(observations[&2].stop, None);
}

#[test]
fn request_has_the_id_of_the_run_and_the_headers_of_the_plan() {
    let (sender, request_text) = std::sync::mpsc::channel();
    let port =
        server(move |mut stream| {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            sender
                .send(String::from_utf8_lossy(&buffer[..n]).into_owned())
                .unwrap();
            drop(stream.write_all(
                b"HTTP/1.1 204 No Content\r\nl5d-proxy-error: x\r\nx-envoy-a: b\r\n\r\n",
            ));
        });
    let mut flow = http(1, port);
    let Request::Http(request) = &mut flow.request else {
        unreachable!()
    };
    request.headers = vec![("X-Line".into(), "one".into())];
    let observations = run(&plan(vec![flow]));
    let text = request_text.recv().unwrap();
    assert!(text.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{text}");
    for line in [
        format!("host: localhost:{port}"),
        format!(
            "user-agent: watertight/{} (test-run)",
            env!("CARGO_PKG_VERSION")
        ),
        "x-line: one".into(),
    ] {
        assert!(
            text.lines().any(|l| l.eq_ignore_ascii_case(&line)),
            "{line} in {text}"
        );
    }
    let http = observations[&1].http.as_ref().unwrap();
    assert_eq!((http.status, http.matched), (204, None));
}

#[test]
fn secrets_on_stdin_reach_the_server_and_no_line() {
    const SECRET: &str = "Bearer hunter2";
    let (sender, request_text) = std::sync::mpsc::channel();
    let port =
        server(move |mut stream| {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            // A server that returns what it was sent.
            drop(stream.write_all(
                format!("HTTP/1.1 401 {SECRET}\r\nx: {SECRET}\r\n\r\n{text}").as_bytes(),
            ));
            sender.send(text).unwrap();
        });
    let secret = |name: &str| RequestText::Secret {
        secret: name.into(),
    };
    let mut flow = http(1, port);
    let Request::Http(request) = &mut flow.request else {
        unreachable!()
    };
    request.headers = vec![("Authorization".into(), secret("TOKEN"))];
    request.body = Some(secret("BODY"));

    let mut environment = encode_plan(&plan(vec![flow])).unwrap();
    environment.push((SECRETS_ON_STDIN.to_owned(), "1".to_owned()));
    let mut probe = Probe::start_with(environment, &[]);
    let line = secrets_line([("TOKEN", SECRET), ("BODY", "hunter3")]);
    let stdin = probe.stdin.as_mut().unwrap();
    stdin.write_all(line.as_bytes()).unwrap();
    probe.bye();
    let text = request_text.recv().unwrap();
    assert!(
        text.contains(&format!("authorization: {SECRET}")) && text.ends_with("hunter3"),
        "{text}"
    );
    let written = serde_json::to_string(&probe.read).unwrap();
    assert!(written.contains("401"), "{written}");
    assert!(!written.contains("hunter"), "{written}");
}

#[test]
fn answer_is_matched_by_the_probe_and_stays_there() {
    const SECRET: &str = "AKIAIOSFODNN7EXAMPLE";
    let responder = Responder::start();
    let body = format!("not allowed: {SECRET}");
    let denying = Behaviour::Status(403, body, format!("edge {SECRET}"));
    let port = responder.listen("web", Transport::Tcp, denying);
    let matching = |id, pattern: AnswerPattern| {
        let mut flow = http(id, port);
        flow.request = flow.request.with_pattern(Some(pattern));
        flow
    };
    let observations = run(&plan(vec![
        matching(
            1,
            AnswerPattern {
                status: vec![401, 403],
                headers: vec![("Server".into(), "^edge".into())],
                body: Some("^not allowed".into()),
            },
        ),
        matching(
            2,
            AnswerPattern {
                status: vec![204],
                ..AnswerPattern::default()
            },
        ),
    ]));
    let matched = [1, 2].map(|id| observations[&id].http.as_ref().unwrap().matched);
    assert_eq!(matched, [Some(true), Some(false)]);
    let written = serde_json::to_string(&observations).unwrap();
    assert!(!written.contains(SECRET), "{written}");
}

#[test]
fn http_without_a_response_is_reported_with_its_cause() {
    let responder = Responder::start();
    let mute = responder.listen("x", Transport::Tcp, Behaviour::Mute);
    let hang_up = responder.listen("x", Transport::Tcp, Behaviour::HangUp);
    let ssh = responder.listen(
        "x",
        Transport::Tcp,
        Behaviour::Raw("5353482d322e300d0a0d0a".into()),
    );
    let cut = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nx-cut"));
    });
    let mut h2 = http(5, ssh);
    let Request::Http(request) = &mut h2.request else {
        unreachable!()
    };
    request.h2 = true;
    let observations = run(&plan(vec![
        http(1, mute),
        http(2, hang_up),
        http(3, ssh),
        http(4, cut),
        h2,
    ]));
    assert_eq!(
        observations[&1].stop,
        stop(Stage::FirstBytes, StopCause::Silence)
    );
    assert_eq!(
        observations[&2].stop,
        stop(Stage::FirstBytes, StopCause::Closed)
    );
    assert!(
        is_garbled(&observations[&3], Stage::Request),
        "{:?}",
        observations[&3]
    );
    assert_eq!(
        observations[&4].stop,
        stop(Stage::Request, StopCause::Closed)
    );
    assert!(
        is_garbled(&observations[&5], Stage::Request),
        "{:?}",
        observations[&5]
    );
    assert!(
        observations
            .values()
            .all(|observation| observation.http.is_none())
    );
}

#[test]
fn invalid_certificate_to_trust_is_a_fault_of_the_plan() {
    let mut plan = plan(vec![]);
    plan.trust = vec!["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()];
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), ByeReason::BadPlan);
}

#[test]
fn equal_answers_are_one_sample_though_nonce_and_date_differ() {
    let responder = Responder::start();
    let web = responder.listen("pod web", Transport::Tcp, Behaviour::Answer);
    let dns_port = responder.listen("dns", Transport::Udp, Behaviour::Dns);
    let names = [("a.test", "10.0.0.1")];
    assert_eq!(responder.send(&zone(&names), None), Reply::Done);
    let mut flows = vec![
        http(1, web),
        flow(2, web, Request::Nonce),
        udp(dns(3, dns_port, "a.test", "A")),
        udp(dns(4, dns_port, "b.test", "A")),
    ];
    for flow in &mut flows {
        flow.pace.attempts = Some(8);
    }
    let mut probe = Probe::start(&plan(flows));
    assert_eq!(probe.bye(), ByeReason::Done);
    // After a fault the next attempt is a sample; otherwise each flow has one sample.
    assert!(
        probe.samples().count() <= 4 + probe.faults().len(),
        "{:#?}",
        probe.read
    );
    assert!(probe.samples().all(|sample| {
        sample
            .observation
            .answer
            .as_ref()
            .is_none_or(|answer| answer.nonce)
    }));
}
