//! The cases: what the target does, and what must come of each line.

use crate::scene::{Evaluation, Line, Ran, Stage, Want, beside, line, nothing};
use crate::servers;
use Want::{NotProven, Proven, Unproven, Violated, ViolatedOrUnproven};
use rcgen::{CertificateParams, DnType, SanType};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use watertight::backend::lab::Leak;
use watertight::event::FlowOutcome;
use watertight::inventory::Labels;
use watertight::model::Family;
use watertight::wire::{HttpFacts, Sample, StopCause, Transport};
use watertight_probe::responder::control::Behaviour;

/// Text with control characters and markup that would change a terminal, the log of a pipeline or
/// an XML document if a report contained it unescaped.
const ACTING: &str = "\x1b[2J\x1b[31;1mproven\x1b[0m\x1b]0;t\x07\u{9b}31m]]><![CDATA[</testcase>&amp;<!--\t\u{202e}\u{2028}\u{feff}::error::x";

/// A word that remains wherever a report quotes [`ACTING`].
const SURVIVES: &str = "CDATA";

/// The verdict of an allowed line whose target answers no source.
const UNREACHABLE: Want = Unproven(&["target-unreachable"]);

/// The verdict of a denied line whose target answers no control.
const NO_CONTROL: Want = Unproven(&["no-control-answered"]);

pub(crate) fn all() -> Vec<Evaluation> {
    vec![
        mute(),
        mute_with_a_short_timeout(),
        hang_up(),
        flood(),
        drip(),
        redirect(),
        banners(),
        changing_banners(),
        answers_with_acting_names(),
        certificates(),
        no_tls(),
        signatures_for_every_source(),
        signatures_for_one(),
        silent_for_one(),
        flapping(),
        late(),
        replaced(),
        replaced_after_a_leak(),
        leaky_replica(),
        rare_leak(),
    ]
}

/// Lets a port of the target do something else.
async fn behave(stage: &Stage, port: u16, behaviour: Behaviour) {
    stage
        .sabotage
        .behave(Stage::pod("target"), (Transport::Tcp, port), behaviour)
        .await
        .expect("another behaviour");
}

/// The same for the ports of a case: plain TCP, HTTP, TLS.
async fn behave_all(stage: &Stage, behaviour: Behaviour) {
    for port in [8001, 8002, 8443] {
        behave(stage, port, behaviour.clone()).await;
    }
}

fn raw(bytes: &[u8]) -> Behaviour {
    use std::fmt::Write;
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes everything");
        hex
    });
    Behaviour::Raw(hex)
}

fn with(text: &'static str, settings: &'static str, want: Want) -> Line {
    Line {
        text,
        settings,
        want,
    }
}

fn stop_of(sample: &Sample) -> Option<&StopCause> {
    sample.observation.stop.as_ref().map(|stop| &stop.how)
}

fn mute() -> Evaluation {
    async fn before(stage: Stage) {
        behave_all(&stage, Behaviour::Mute).await;
    }
    Evaluation::new(
        "accepts and never answers",
        beside!(before),
        vec![
            line("good -> target:8001 allowed", UNREACHABLE),
            line("bad -> target:8001 denied", Proven),
            line("careless -> target:8001 denied", Violated(&["careless"])),
            line("good -> http://target:8002/ allowed", UNREACHABLE),
            line("bad -> http://target:8002/ denied", Proven),
            line("careless -> http://target:8002/ denied", NO_CONTROL),
            line("good -> tls://target:8443 allowed", UNREACHABLE),
            line("bad -> tls://target:8443 denied", Proven),
            line("careless -> tls://target:8443 denied", NO_CONTROL),
        ],
    )
}

/// An attempt is reported only when it has waited for an answer, which is long after this timeout.
fn mute_with_a_short_timeout() -> Evaluation {
    async fn before(stage: Stage) {
        behave(&stage, 8001, Behaviour::Mute).await;
    }
    let lines = vec![line(
        "careless -> target:8001 denied",
        Violated(&["careless"]),
    )];
    Evaluation {
        settings: "timeout: 2s",
        ..Evaluation::new(
            "never answers, with a short timeout",
            beside!(before),
            lines,
        )
    }
}

fn hang_up() -> Evaluation {
    async fn before(stage: Stage) {
        behave_all(&stage, Behaviour::HangUp).await;
        behave(&stage, 8003, Behaviour::HangUp).await;
    }
    Evaluation::new(
        "accepts and closes",
        beside!(before),
        vec![
            line("good -> target:8001 allowed", UNREACHABLE),
            line("bad -> target:8001 denied", Proven),
            line("careless -> target:8001 denied", Violated(&["careless"])),
            with("good -> target:8003 allowed", "tier: A0", Proven),
            line("good -> http://target:8002/ allowed", UNREACHABLE),
            line("bad -> http://target:8002/ denied", Proven),
            line("careless -> http://target:8002/ denied", NO_CONTROL),
            line("good -> tls://target:8443 allowed", UNREACHABLE),
            line("bad -> tls://target:8443 denied", Proven),
            line("careless -> tls://target:8443 denied", NO_CONTROL),
        ],
    )
}

fn flood() -> Evaluation {
    async fn before(stage: Stage) {
        behave_all(&stage, Behaviour::Flood).await;
    }
    fn also(ran: &Ran) {
        let bodies: Vec<u64> = ran
            .attempts("good", 8002)
            .iter()
            .filter_map(|s| Some(s.observation.http.as_ref()?.body_bytes))
            .collect();
        assert!(!bodies.is_empty(), "the flood was read");
        assert!(
            bodies.iter().all(|bytes| (1..=1_000_000).contains(bytes)),
            "{bodies:?}"
        );
    }
    let lines = vec![
        with("good -> target:8001 allowed", "tier: A1", Proven),
        line("bad -> target:8001 denied", Proven),
        line("careless -> target:8001 denied", Violated(&["careless"])),
        with("good -> http://target:8002/ allowed", "tier: A1", Proven),
        line("bad -> http://target:8002/ denied", Proven),
        line(
            "careless -> http://target:8002/ denied",
            Violated(&["careless"]),
        ),
        line("good -> tls://target:8443 allowed", Proven),
        line("bad -> tls://target:8443 denied", Proven),
        line(
            "careless -> tls://target:8443 denied",
            Violated(&["careless"]),
        ),
        // No nonce is in a flood.
        line(
            "good -> https://target:8443/ allowed",
            Unproven(&["tier-not-met"]),
        ),
    ];
    Evaluation {
        also,
        ..Evaluation::new("answers without end", beside!(before), lines)
    }
}

fn drip() -> Evaluation {
    async fn before(stage: Stage) {
        behave_all(&stage, Behaviour::Drip).await;
        behave(&stage, 8003, Behaviour::Drip).await;
    }
    Evaluation::new(
        "answers a byte a second",
        beside!(before),
        vec![
            line("good -> target:8001 allowed", UNREACHABLE),
            line("bad -> target:8001 denied", Proven),
            line("careless -> target:8001 denied", Violated(&["careless"])),
            with(
                "good -> target:8003 allowed",
                "tier: A1, send: hello",
                Proven,
            ),
            line("good -> http://target:8002/ allowed", UNREACHABLE),
            line("bad -> http://target:8002/ denied", Proven),
            line("careless -> http://target:8002/ denied", NO_CONTROL),
            line("good -> https://target:8443/ allowed", UNREACHABLE),
        ],
    )
}

fn redirect() -> Evaluation {
    /// Requests to the target of a redirect.
    static FOLLOWED: AtomicU32 = AtomicU32::new(0);
    async fn before(stage: Stage) {
        behave(&stage, 8002, Behaviour::Redirect).await;
        behave(&stage, 8443, Behaviour::Redirect).await;
        let there = stage.address("target", Family::V4);
        servers::serve(&stage, 8003, move |_, _| {
            let head = format!(
                "HTTP/1.1 302 Found\r\nlocation: http://{there}:8004/\r\ncontent-length: 0\r\n\r\n"
            );
            Some(head.into_bytes())
        })
        .await;
        servers::serve(&stage, 8004, |_, _| {
            FOLLOWED.fetch_add(1, Ordering::Relaxed);
            None
        })
        .await;
    }
    fn also(ran: &Ran) {
        for port in [8002, 8003, 8443] {
            let statuses: Vec<u16> = ran
                .attempts("good", port)
                .iter()
                .filter_map(|s| Some(s.observation.http.as_ref()?.status))
                .collect();
            assert!(
                !statuses.is_empty() && statuses.iter().all(|status| *status == 302),
                "{port}: {statuses:?}"
            );
        }

        assert_eq!(
            FOLLOWED.load(Ordering::Relaxed),
            0,
            "no redirect is followed"
        );
    }
    let lines = vec![
        with("good -> http://target:8002/ allowed", "tier: A1", Proven),
        line("bad -> http://target:8002/ denied", Proven),
        line(
            "careless -> http://target:8002/ denied",
            Violated(&["careless"]),
        ),
        with("good -> http://target:8003/ allowed", "tier: A1", Proven),
        with("good -> https://target:8443/ allowed", "tier: A1", Proven),
        // No nonce is in a redirect.
        line(
            "good -> http://target:8002/again allowed",
            Unproven(&["tier-not-met"]),
        ),
        with(
            "good -> http://target:8003/stated allowed",
            "tier: A1, status: 200",
            NotProven,
        ),
    ];
    Evaluation {
        also,
        ..Evaluation::new("redirects without end", beside!(before), lines)
    }
}

/// A raw HTTP answer.
fn http(headers: &str, body: &str) -> Behaviour {
    raw(format!("HTTP/1.1 200 OK\r\n{headers}\r\nconnection: close\r\n\r\n{body}").as_bytes())
}

/// The first HTTP answer that `good` got from a port of the target.
fn first_http(ran: &Ran, port: u16) -> HttpFacts {
    ran.attempts("good", port)
        .iter()
        .find_map(|sample| sample.observation.http.as_deref().cloned())
        .expect("an answer")
}

fn banners() -> Evaluation {
    async fn before(stage: Stage) {
        behave(
            &stage,
            8001,
            raw(format!("{ACTING}\0\u{fffe}\r\n").as_bytes()),
        )
        .await;
        behave(
            &stage,
            8002,
            http("server: ]]><b>CDATA&\u{9b}31m\u{202e}", ACTING),
        )
        .await;
        behave(&stage, 8003, http(&format!("server: {ACTING}"), "")).await;
        behave(
            &stage,
            8004,
            Behaviour::Status(200, ACTING.into(), "]]>".into()),
        )
        .await;
        behave(&stage, 8443, raw(ACTING.as_bytes())).await;
    }
    fn also(ran: &Ran) {
        let banner = ran.attempts("good", 8001);
        let garbled = banner.iter().any(
            |s| matches!(stop_of(s), Some(StopCause::Garbled { what }) if what.contains("bytes")),
        );

        assert!(garbled, "the banner was read: {banner:?}");
        for port in [8002, 8004] {
            let facts = first_http(ran, port);
            assert_eq!(facts.body_digest.len(), 16, "the body was read: {facts:?}");
        }
        // What a target says stays with the probe.
        for report in [&ran.written.json, &ran.written.lines] {
            assert!(!report.contains(SURVIVES), "{report}");
        }
    }
    let lines = vec![
        with("good -> target:8001 allowed", "tier: A1", Proven),
        line("bad -> target:8001 denied", Proven),
        line("careless -> target:8001 denied", Violated(&["careless"])),
        with("good -> http://target:8002/ allowed", "tier: A1", Proven),
        line("bad -> http://target:8002/ denied", Proven),
        line(
            "careless -> http://target:8002/ denied",
            Violated(&["careless"]),
        ),
        line("good -> http://target:8003/ allowed", UNREACHABLE),
        line("bad -> http://target:8003/ denied", Proven),
        with("good -> http://target:8004/ allowed", "tier: A1", Proven),
        line("good -> tls://target:8443 allowed", UNREACHABLE),
    ];
    Evaluation {
        also,
        ..Evaluation::new(
            "banners, headers and bodies that act",
            beside!(before),
            lines,
        )
    }
}

fn changing_banners() -> Evaluation {
    async fn before(stage: Stage) {
        for port in [8001, 8002] {
            let count = AtomicU32::new(0);
            servers::serve(&stage, port, move |_, question| {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let http = question.starts_with(b"GET");
                let head = if http {
                    "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
                } else {
                    ""
                };
                Some(format!("{head}greeting number {n}\r\n").into_bytes())
            })
            .await;
        }
    }
    Evaluation::new(
        "a banner that is another each time",
        beside!(before),
        vec![
            with("good -> target:8001 allowed", "tier: A1", Proven),
            line("bad -> target:8001 denied", Proven),
            line("careless -> target:8001 denied", Violated(&["careless"])),
            with("good -> http://target:8002/ allowed", "tier: A1", Proven),
            line("bad -> http://target:8002/ denied", Proven),
            line(
                "careless -> http://target:8002/ denied",
                Violated(&["careless"]),
            ),
        ],
    )
}

fn answers_with_acting_names() -> Evaluation {
    async fn before(stage: Stage) {
        let bad = Family::ALL.map(|family| stage.address("bad", family));
        servers::serve(&stage, 8001, |_, question| {
            Some(format!("watertight/1 {} {ACTING}\n", servers::nonce(question)).into_bytes())
        })
        .await;
        servers::serve(&stage, 8002, |_, question| {
            let nonce = servers::nonce(question);
            Some(
                format!("HTTP/1.1 200 OK\r\nx-watertight-answer: {nonce} ]]><b>CDATA&\r\n\r\n")
                    .into_bytes(),
            )
        })
        .await;
        // The policies allow every source, and yet one source gets another answer.
        servers::serve(&stage, 8003, move |from, question| {
            Some(if bad.contains(&from) {
                format!("{ACTING}\n").into_bytes()
            } else {
                format!("watertight/1 {} a\n", servers::nonce(question)).into_bytes()
            })
        })
        .await;
    }
    fn also(ran: &Ran) {
        let names = &ran.result("good -> target:8001 allowed").flows[0].answered_by;
        assert!(
            names.iter().any(|name| name.contains(SURVIVES)),
            "{names:?}"
        );

        for report in [
            &ran.written.console,
            &ran.written.junit,
            &ran.written.json,
            &ran.written.lines,
        ] {
            assert!(
                report.contains(SURVIVES),
                "the answer is reported: {report}"
            );
        }
    }
    let lines = vec![
        line("good -> target:8001 allowed", Proven),
        line(
            "careless -> target:8001 denied",
            Violated(&["careless", SURVIVES]),
        ),
        line("good -> http://target:8002/ allowed", Proven),
        line(
            "careless -> http://target:8002/ denied",
            Violated(&["careless", SURVIVES]),
        ),
        line("good -> target:8003 allowed", Proven),
        line(
            "bad -> target:8003 allowed",
            Violated(&["bad", "bytes, SHA-256"]),
        ),
    ];
    Evaluation {
        also,
        enforced: false,
        ..Evaluation::new("answers in names that act", beside!(before), lines)
    }
}

fn certificates() -> Evaluation {
    async fn before(stage: Stage) {
        // A DNS name and a URI are of ASCII, which has what acts; a subject may have all of
        // Unicode.
        let ascii: String = ACTING.chars().filter(char::is_ascii).collect();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(ascii.clone().try_into().expect("ASCII")),
            SanType::URI(format!("spiffe://{ascii}").try_into().expect("ASCII")),
        ];
        params.subject_alt_names.extend((0..25).map(|n| {
            SanType::DnsName(
                format!("{n}.{}", "x".repeat(1_500))
                    .try_into()
                    .expect("ASCII"),
            )
        }));
        params.distinguished_name.push(DnType::CommonName, ACTING);
        servers::serve_tls(&stage, 8443, &params).await;
    }
    fn also(ran: &Ran) {
        let attempts = ran.attempts("good", 8443);
        let facts = attempts
            .iter()
            .find_map(|s| s.observation.tls.as_ref())
            .expect("a certificate");
        let names = format!("{} {:?}", facts.subject, facts.names);

        assert!(
            facts.subject.contains(SURVIVES) && facts.names[0].contains(SURVIVES),
            "{names}"
        );
        assert!(
            names.len() < 8_192 && !names.chars().any(char::is_control),
            "{names:?}"
        );
    }
    let lines = vec![
        line("good -> tls://target:8443 allowed", Proven),
        line("bad -> tls://target:8443 denied", Proven),
        line(
            "careless -> tls://target:8443 denied",
            Violated(&["careless"]),
        ),
    ];
    Evaluation {
        also,
        ..Evaluation::new("certificates with names that act", beside!(before), lines)
    }
}

fn no_tls() -> Evaluation {
    async fn before(stage: Stage) {
        behave(&stage, 8443, raw(b"220 mail.example ESMTP\r\n")).await;
        // The head of a handshake record that never comes to its end, and one that is longer than
        // any may be.
        behave(&stage, 8001, raw(b"\x16\x03\x03\x40\x00\x02\x00")).await;
        behave(&stage, 8002, raw(b"\x16\x03\x03\xff\xff\x02\x00")).await;
        behave(&stage, 8003, raw(&[0; 4096])).await;
    }
    let mut lines = Vec::new();

    for (good, bad, careless) in [
        (
            "good -> tls://target:8443 allowed",
            "bad -> tls://target:8443 denied",
            "careless -> tls://target:8443 denied",
        ),
        (
            "good -> tls://target:8001 allowed",
            "bad -> tls://target:8001 denied",
            "careless -> tls://target:8001 denied",
        ),
        (
            "good -> tls://target:8002 allowed",
            "bad -> tls://target:8002 denied",
            "careless -> tls://target:8002 denied",
        ),
        (
            "good -> https://target:8003/ allowed",
            "bad -> https://target:8003/ denied",
            "careless -> https://target:8003/ denied",
        ),
    ] {
        lines.extend([
            line(good, UNREACHABLE),
            line(bad, Proven),
            line(careless, NO_CONTROL),
        ]);
    }
    // The same port, asked for no more than a handshake.
    lines.push(with("good -> target:8443 allowed", "tier: A1", Proven));
    lines.push(line(
        "careless -> target:8443 denied",
        Violated(&["careless"]),
    ));
    Evaluation::new("no TLS where TLS is expected", beside!(before), lines)
}

/// An HTTP answer with a status code, a body and a `server` header.
fn status(code: u16, body: &str, server: &str) -> Behaviour {
    Behaviour::Status(code, body.into(), server.into())
}

fn signatures_for_every_source() -> Evaluation {
    async fn before(stage: Stage) {
        behave(&stage, 8001, status(403, "RBAC: access denied", "envoy")).await;
        behave(&stage, 8002, status(403, "Access denied\r\n", "")).await;
        behave(
            &stage,
            8003,
            status(470, "Action: Deny. Reason: no rule matched.", ""),
        )
        .await;
        behave(
            &stage,
            8004,
            status(403, "you are not logged in; Access denied", "app"),
        )
        .await;
        behave(&stage, 8005, status(500, "no", "app")).await;
    }
    const REFUSED: Want = Unproven(&["all-controls-refused"]);
    Evaluation::new(
        "refusals of enforcers, to every source",
        beside!(before),
        vec![
            line(
                "good -> http://target:8001/ allowed",
                Violated(&["403", "Istio"]),
            ),
            line("careless -> http://target:8001/ denied", REFUSED),
            line(
                "good -> http://target:8002/ allowed",
                Violated(&["403", "Cilium"]),
            ),
            line("careless -> http://target:8002/ denied", REFUSED),
            line(
                "good -> http://target:8003/ allowed",
                Violated(&["470", "Azure"]),
            ),
            line("careless -> http://target:8003/ denied", REFUSED),
            // An application's own refusal shows that the request arrived.
            with("good -> http://target:8004/ allowed", "tier: A1", Proven),
            line("bad -> http://target:8004/ denied", Proven),
            line(
                "careless -> http://target:8004/ denied",
                Violated(&["careless"]),
            ),
            with("good -> http://target:8005/ allowed", "tier: A1", Proven),
            line(
                "careless -> http://target:8005/ denied",
                Violated(&["careless"]),
            ),
        ],
    )
}

/// A server that answers as the lab's responder does, and `to_bad` to the pod `bad`.
async fn otherwise_to_bad(stage: &Stage, port: u16, to_bad: Option<&'static str>) {
    let bad = Family::ALL.map(|family| stage.address("bad", family));
    servers::serve(stage, port, move |from: IpAddr, question: &[u8]| {
        if bad.contains(&from) {
            return to_bad.map(|text| text.as_bytes().to_vec());
        }
        let nonce = servers::nonce(question);
        Some(
            format!("HTTP/1.1 200 OK\r\nx-watertight-answer: {nonce} target\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        )
    })
    .await;
}

fn signatures_for_one() -> Evaluation {
    async fn before(stage: Stage) {
        let rbac = "HTTP/1.1 403 Forbidden\r\nserver: envoy\r\ncontent-length: 19\r\n\r\nRBAC: access denied";
        let cilium = "HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\n\r\nAccess denied\r\n";
        let own = "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nforbidden";
        otherwise_to_bad(&stage, 8001, Some(rbac)).await;
        otherwise_to_bad(&stage, 8002, Some(cilium)).await;
        otherwise_to_bad(&stage, 8003, Some(own)).await;
    }
    fn also(ran: &Ran) {
        let mechanism = &ran.result("bad -> http://target:8001/ denied").mechanism;
        assert_eq!(mechanism.as_deref(), Some("Istio's AuthorizationPolicy"));
    }
    let lines = vec![
        line("good -> http://target:8001/ allowed", Proven),
        with(
            "bad -> http://target:8001/ denied",
            "mechanism: signature",
            Proven,
        ),
        line("good -> http://target:8002/ allowed", Proven),
        with(
            "bad -> http://target:8002/ denied",
            "mechanism: signature",
            Proven,
        ),
        line("good -> http://target:8003/ allowed", Proven),
        line("bad -> http://target:8003/ denied", Violated(&["bad"])),
    ];
    Evaluation {
        also,
        enforced: false,
        ..Evaluation::new("refusals of enforcers, to one", beside!(before), lines)
    }
}

fn silent_for_one() -> Evaluation {
    async fn before(stage: Stage) {
        otherwise_to_bad(&stage, 8001, None).await;
        otherwise_to_bad(&stage, 8002, None).await;
        otherwise_to_bad(&stage, 8003, Some("")).await;
    }
    let lines = vec![
        line("good -> http://target:8001/ allowed", Proven),
        line(
            "bad -> http://target:8001/ allowed",
            Violated(&["bad", "never got through"]),
        ),
        line("good -> http://target:8003/ allowed", Proven),
        line(
            "bad -> http://target:8003/ allowed",
            Violated(&["bad", "never got through"]),
        ),
        // Its handshake is done, so something of it gets through.
        line("bad -> target:8002 denied", Violated(&["bad"])),
    ];
    Evaluation {
        enforced: false,
        ..Evaluation::new(
            "silence after the handshake, to one",
            beside!(before),
            lines,
        )
    }
}

fn flapping() -> Evaluation {
    async fn during(stage: Stage) {
        for up in [false, true].into_iter().cycle() {
            for port in [8001, 8002] {
                let (target, port) = (Stage::pod("target"), Some((Transport::Tcp, port)));
                let done = if up {
                    stage.sabotage.start_listener(target, port).await
                } else {
                    stage.sabotage.stop_listener(target, port).await
                };
                // The lab is taken down under us at the end of the run.
                if done.is_err() {
                    return;
                }
            }
            sleep(Duration::from_millis(600)).await;
        }
    }
    let lines = vec![
        line(
            "good -> target:8001 allowed",
            ViolatedOrUnproven("unstable"),
        ),
        line("careless -> target:8001 denied", Violated(&["careless"])),
        line("bad -> target:8001 denied", NotProven),
        line(
            "good -> http://target:8002/ allowed",
            ViolatedOrUnproven("unstable"),
        ),
        // Keeps the run going.
        with("bad -> target:8003 denied", "hold: 9s", Proven),
    ];
    Evaluation {
        during: beside!(during),
        ..Evaluation::new("comes and goes every 600 ms", beside!(nothing), lines)
    }
}

fn late() -> Evaluation {
    async fn before(stage: Stage) {
        for port in [8001, 8002] {
            let target = Stage::pod("target");
            stage
                .sabotage
                .stop_listener(target, Some((Transport::Tcp, port)))
                .await
                .expect("a listener to stop");
        }
    }
    async fn during(mut stage: Stage) {
        stage.first_sample().await;
        sleep(Duration::from_secs(3)).await;
        for port in [8001, 8002] {
            let target = Stage::pod("target");
            stage
                .sabotage
                .start_listener(target, Some((Transport::Tcp, port)))
                .await
                .expect("a listener to start");
        }
    }
    fn also(ran: &Ran) {
        for name in [
            "good -> target:8001 allowed",
            "good -> http://target:8002/ allowed",
        ] {
            let result = ran.result(name);
            assert!(result.delay_ms.is_some_and(|ms| ms >= 2_000), "{result:?}");
            assert!(result.seen.contains("the first after"), "{}", result.seen);
            assert!(
                ran.written.console.contains("the first after"),
                "{}",
                ran.written.console
            );
        }
    }
    let lines = vec![
        line("good -> target:8001 allowed", Proven),
        line("bad -> target:8001 denied", Proven),
        line("careless -> target:8001 denied", Violated(&["careless"])),
        line("good -> http://target:8002/ allowed", Proven),
        line("bad -> http://target:8002/ denied", Proven),
    ];
    Evaluation {
        during: beside!(during),
        also,
        ..Evaluation::new("comes up after three seconds", beside!(before), lines)
    }
}

async fn replace(stage: &Stage) {
    let labels = Labels::from([("app".into(), "other".into())]);
    stage
        .sabotage
        .replace_pod("h", "target", "another", labels)
        .await
        .expect("another pod");
}

fn replaced() -> Evaluation {
    async fn during(mut stage: Stage) {
        stage.first_sample().await;
        sleep(Duration::from_secs(2)).await;
        replace(&stage).await;
    }
    fn also(ran: &Ran) {
        let result = ran.result("bad -> target:8001 denied");
        assert!(
            result.opened > 0,
            "the pod in the target's place answered: {result:?}"
        );
    }
    let lines = vec![
        line(
            "good -> target:8001 allowed",
            Unproven(&["changed-during-run"]),
        ),
        line(
            "bad -> target:8001 denied",
            Unproven(&["changed-during-run"]),
        ),
        // Keeps the run going.
        with("bad -> web:3000 denied", "hold: 8s", Proven),
        line("good -> web:3000 allowed", Proven),
    ];
    Evaluation {
        during: beside!(during),
        also,
        ..Evaluation::new(
            "replaced by another pod at its address",
            beside!(nothing),
            lines,
        )
    }
}

fn replaced_after_a_leak() -> Evaluation {
    async fn during(mut stage: Stage) {
        stage.first_sample().await;
        sleep(Duration::from_secs(5)).await;
        replace(&stage).await;
    }
    let lines = vec![
        line(
            "careless -> target:8001 denied",
            Violated(&["careless", "h/target"]),
        ),
        with("bad -> web:3000 denied", "hold: 9s", Proven),
        line("good -> web:3000 allowed", Proven),
    ];
    Evaluation {
        during: beside!(during),
        ..Evaluation::new("replaced long after it leaked", beside!(nothing), lines)
    }
}

fn leaky_replica() -> Evaluation {
    async fn before(stage: Stage) {
        leak(&stage, "web-1", 3000, &[Family::V6], 1).await;
    }
    fn also(ran: &Ran) {
        let result = ran.result("bad -> web:3000 denied");
        let leaking: Vec<_> = result
            .flows
            .iter()
            .filter(|flow| flow.verdict == FlowOutcome::Violated)
            .map(|flow| &flow.target)
            .collect();

        assert_eq!(leaking.len(), 1, "{result:?}");
        assert!(leaking[0].contains("web-1"), "{leaking:?}");
        assert!(
            ran.written.console.contains("h/web-1") && ran.written.junit.contains("h/web-1"),
            "it is named"
        );
    }
    let lines = vec![
        line("good -> web:3000 allowed", Proven),
        line(
            "bad -> web:3000 denied",
            Violated(&["h/bad", "h/web-1:3000"]),
        ),
        line("bad -> target:8001 denied", Proven),
    ];
    Evaluation {
        also,
        ..Evaluation::new("one of three replicas leaks", beside!(before), lines)
    }
}

async fn leak(stage: &Stage, to: &str, port: u16, families: &[Family], one_in: u32) {
    let of = |family: &Family| Leak {
        from: stage.address("bad", *family),
        to: stage.address(to, *family),
        port,
        transport: Transport::Tcp,
        one_in,
    };
    stage
        .sabotage
        .leak(families.iter().map(of).collect())
        .await
        .expect("a leak");
}

fn rare_leak() -> Evaluation {
    async fn before(stage: Stage) {
        leak(&stage, "target", 8001, &[Family::V4], 20).await;
    }
    fn also(ran: &Ran) {
        let result = ran.result("bad -> target:8001 denied");
        assert!(
            result.opened >= 1 && result.opened * 5 < result.attempts,
            "{result:?}"
        );
    }
    let lines = vec![
        line("good -> target:8001 allowed", Proven),
        with(
            "bad -> target:8001 denied",
            "hold: 14s",
            Violated(&["h/bad", "h/target:8001"]),
        ),
        with("bad -> target:8002 denied", "hold: 14s", Proven),
    ];
    Evaluation {
        also,
        ..Evaluation::new("one in twenty packets leaks", beside!(before), lines)
    }
}
