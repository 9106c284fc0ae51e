//! TLS and HTTP between agent and responder, whole and broken.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where what it takes for granted is not so"
)]

mod common;

use common::{Probe, Responder, dns, flow, get, http, once, plan, run, server, tls, udp, zone};
use std::io::{Read, Write};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use watertight_probe::responder::control::{Behaviour, Certificate, Reply};
use watertight_probe::wire::{Flow, How, Http, Observation, Request, Stage, Stop, Tls, Transport};

fn stages(seen: &Observation) -> Vec<Stage> {
    seen.passed.iter().map(|(stage, _)| *stage).collect()
}

fn https(id: u32, port: u16, alpn: &[&str]) -> Flow {
    let tls = Some(Tls {
        server_name: Some("web.test".into()),
        alpn: alpn.iter().map(ToString::to_string).collect(),
    });
    once(flow(id, port, Request::Http(Http { tls, ..get(port) })))
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

#[test]
fn tls_facts_judge_chain_name_and_expiry_apart() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let responder = Responder::start();
    let listen = |certificate| {
        responder.listen_with("web", Transport::Tcp, Behaviour::Answer, Some(certificate))
    };
    let good = listen(trusted.issue(&["web.test", "127.0.0.1"], |_| {}));
    let untrusted = listen(other.issue(&["web.test"], |_| {}));
    let expired = listen(trusted.issue(&["web.test"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    }));
    let hostile = listen(trusted.issue(&["web.test"], |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "\u{1b}[31m<evil>&\u{202e}\n");
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
        assert_eq!(
            (&seen.stop, stages(seen)),
            (&None, vec![Stage::Connect, Stage::Tls]),
            "flow {id}: {seen:?}"
        );
        seen.tls.as_deref().unwrap()
    };
    let judged = |id| {
        (
            facts(id).chain_error.is_none(),
            facts(id).name_error.is_none(),
            facts(id).expired,
        )
    };
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
    assert!(
        facts(6).subject.contains("[31m<evil>&"),
        "{}",
        facts(6).subject
    );
    assert!(!facts(6).subject.contains(['\u{1b}', '\u{202e}', '\n']));
    assert_eq!(judged(7), (true, true, false));
}

#[test]
fn a_handshake_that_fails_says_how() {
    let authority = Authority::new();
    let responder = Responder::start();
    let good = responder.listen_with(
        "web",
        Transport::Tcp,
        Behaviour::Answer,
        Some(authority.issue(&["web.test"], |_| {})),
    );
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
    let stop = |how| {
        Some(Stop {
            stage: Stage::Tls,
            how,
        })
    };
    // no_application_protocol, RFC 7301 section 3.2
    assert_eq!(seen[&1].stop, stop(How::Alert { code: 120 }));
    assert_eq!(seen[&2].stop, stop(How::Closed));
    assert_eq!(seen[&3].stop, stop(How::Silence));
    assert!(
        matches!(
            &seen[&4].stop,
            Some(Stop {
                stage: Stage::Tls,
                how: How::Garbled { .. }
            })
        ),
        "{:?}",
        seen[&4]
    );
    assert!(seen.values().all(|seen| stages(seen) == [Stage::Connect]));
}

#[test]
fn http_returns_the_nonce_in_each_version() {
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
    let seen = run(&plan(vec![
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
        let seen = &seen[&id];
        let second = if id < 3 {
            Stage::FirstBytes
        } else {
            Stage::Tls
        };
        assert_eq!(
            (&seen.stop, stages(seen)),
            (&None, vec![Stage::Connect, second, Stage::Request]),
            "flow {id}"
        );
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
    assert_eq!(
        (http.status, http.location.clone()),
        (302, Some(format!("http://localhost:{port}/a")))
    );
    assert_eq!(seen[&1].answer, None);
    let http = seen[&2].http.as_ref().unwrap();
    assert_eq!(
        (
            http.status,
            http.server.as_deref(),
            http.body_start.as_str()
        ),
        (403, Some("envoy"), "RBAC: access denied")
    );
    assert_eq!(seen[&2].stop, None);
}

#[test]
fn a_request_carries_the_runs_name_and_the_plans_headers() {
    let (tell, told) = std::sync::mpsc::channel();
    let port =
        server(move |mut stream| {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            tell.send(String::from_utf8_lossy(&buffer[..n]).into_owned())
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
    let seen = run(&plan(vec![flow]));
    let text = told.recv().unwrap();
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
    let http = seen[&1].http.as_ref().unwrap();
    assert_eq!(
        (http.status, http.marks.clone()),
        (204, vec!["l5d-proxy-error".to_owned(), "x-envoy-a".into()])
    );
}

#[test]
fn http_that_is_not_answered_says_how() {
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
    let seen = run(&plan(vec![
        http(1, mute),
        http(2, hang_up),
        http(3, ssh),
        http(4, cut),
        h2,
    ]));
    assert_eq!(
        seen[&1].stop,
        Some(Stop {
            stage: Stage::FirstBytes,
            how: How::Silence
        })
    );
    assert_eq!(
        seen[&2].stop,
        Some(Stop {
            stage: Stage::FirstBytes,
            how: How::Closed
        })
    );
    assert!(
        matches!(
            &seen[&3].stop,
            Some(Stop {
                stage: Stage::Request,
                how: How::Garbled { .. }
            })
        ),
        "{:?}",
        seen[&3]
    );
    assert_eq!(
        seen[&4].stop,
        Some(Stop {
            stage: Stage::Request,
            how: How::Closed
        })
    );
    assert!(
        matches!(
            &seen[&5].stop,
            Some(Stop {
                stage: Stage::Request,
                how: How::Garbled { .. }
            })
        ),
        "{:?}",
        seen[&5]
    );
    assert!(seen.values().all(|seen| seen.http.is_none()));
}

#[test]
fn certificates_to_trust_that_are_none_are_a_fault_of_the_plan() {
    let mut plan = plan(vec![]);
    plan.trust = vec!["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()];
    let mut probe = Probe::start(&plan);
    assert_eq!(probe.bye(), "plan");
}

#[test]
fn like_answers_are_told_once_though_nonce_and_date_differ() {
    let responder = Responder::start();
    let web = responder.listen("pod web", Transport::Tcp, Behaviour::Answer);
    let dns_port = responder.listen("dns", Transport::Udp, Behaviour::Dns);
    let names = [("a.test", "10.0.0.1")];
    assert_eq!(responder.order(&zone(&names), None), Reply::Done);
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
    assert_eq!(probe.bye(), "done");
    // A fault makes the next attempt a sample; without one there is a single sample a flow.
    assert!(
        probe.samples().count() <= 4 + probe.faults().len(),
        "{:#?}",
        probe.read
    );
    assert!(probe.samples().all(|sample| {
        sample
            .seen
            .answer
            .as_ref()
            .is_none_or(|answer| answer.nonce)
    }));
}
