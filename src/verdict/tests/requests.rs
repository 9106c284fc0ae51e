//! Requests that are sent once, take long, go by name, or pass a mesh.

use super::super::{Signature, read, waits_needed};
use super::*;
use crate::plan::AnswerRule;
use crate::wire::{HttpDenial, HttpFacts};

fn http(method: &str) -> Request {
    Request::Http(crate::wire::Http {
        tls: None,
        method: method.into(),
        path: "/".into(),
        authority: "postgres".into(),
        headers: vec![],
        body: None,
        h2: false,
        pattern: None,
    })
}

/// A POST that is sent once, in the middle of a control's GETs.
fn once(stage: Stage, passed: Option<Stage>) -> Scene {
    let mut scene = Scene::new();
    let post = TargetKey {
        request: http("POST"),
        once: true,
        ..key("10.0.2.1", 5432)
    };
    scene.plan.flows[0].to = post.clone().into();
    scene.plan.flows[1].to = TargetKey {
        request: http("GET"),
        ..key("10.0.2.1", 5432)
    }
    .into();
    scene.plan.flows[4].to = post.clone().into();
    scene.plan.target_controls = BTreeMap::from([(post, vec![TARGET_CONTROL])]);
    scene.evidence = Evidence::of(&scene.plan());
    for probe in &mut scene.evidence.probes {
        probe.clock = Some(Clock::shared(0));
    }
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 4_000, 500, &open());
    }
    let how = Refusal::Wire(StopCause::Silence);
    let block = Block {
        passed,
        stage,
        how,
        signature: None,
        by_target: false,
    };
    scene.attempt(DENIED, 1_700, Reading::Blocked(block));
    scene
}

/// A denied POST that is sent once (`OTHER`), beside handshakes with the same address and port
/// (`DENIED`), which are blocked.
fn with_handshakes() -> Scene {
    let mut scene = Scene::proven();
    scene.plan.flows[5].to = TargetKey {
        request: http("POST"),
        once: true,
        ..key("10.0.2.1", 5432)
    }
    .into();
    scene.plan.flows[5].target_kind = scene.plan.flows[0].target_kind.clone();
    scene.plan.checks[0].flows = vec![DENIED, OTHER];
    scene
}

#[test]
fn deny_of_a_request_sent_once_is_proven_by_handshakes_once_it_was_sent() {
    let mut scene = with_handshakes();
    assert_eq!(reason(&scene.deny()), Some(Reason::NotAttempted));
    scene.attempt(OTHER, 1_700, silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn deny_of_a_request_sent_once_is_violated_by_that_one() {
    let mut scene = with_handshakes();
    scene.attempt(OTHER, 1_700, open());
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::DeniedFlowOpened { flow: OTHER, .. })
    ));
}

#[test]
fn deny_of_a_request_sent_once_whose_handshake_opens_is_unproven() {
    let mut scene = with_handshakes().without(DENIED);
    scene
        .every(DENIED, 200, 4_200, 500, &open())
        .attempt(OTHER, 1_700, reset());
    assert_eq!(reason(&scene.deny()), Some(Reason::SentOnce));
}

#[test]
fn request_sent_once_proves_no_deny_by_itself() {
    let mut scene = with_handshakes().without(DENIED);
    scene.plan.checks[0].flows = vec![OTHER];
    scene.attempt(OTHER, 1_700, silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::NotAttempted));
}

#[test]
fn allow_of_a_request_sent_once_is_proven_by_one_success() {
    let mut scene = once(Stage::Connect, None);
    assert_eq!(reason(&scene.allow()), Some(Reason::NotAttempted));
    scene.attempt(ALLOWED, 1_700, open());
    assert_eq!(scene.allow(), Verdict::Proven);
    let mut blocked = once(Stage::Connect, None);
    blocked.attempt(ALLOWED, 1_700, silence());
    assert!(matches!(
        blocked.allow(),
        Verdict::Violated(Violation::AllowedFlowBlocked { .. })
    ));
}

#[test]
fn deny_with_a_slow_target_control_needs_longer_waits() {
    let mut scene = Scene::new();
    scene.every(DENIED, 200, 4_200, 500, &silence());
    for flow in [SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    for n in 1..=10_u32 {
        let slow = StageTimes::of(&[(Stage::Connect, 200_000)]);
        let at = u64::from(n - 1) * 500_000;
        scene.evidence.flows[1]
            .attempt(n, at, open(), slow, None)
            .expect("in order");
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::AttemptTimeoutTooShort));
    let waits = waits_needed(
        &scene.plan(),
        &scene.evidence,
        &scene.plan.checks[0],
        DENIED,
    )
    .expect("more time");
    assert_eq!(
        (waits.connect.as_millis(), waits.request.as_millis()),
        (3_000, 0)
    );
    scene.plan.flows[0].waits = waits;
    assert_eq!(scene.deny(), Verdict::Proven);
    assert_eq!(
        waits_needed(
            &scene.plan(),
            &scene.evidence,
            &scene.plan.checks[0],
            DENIED
        ),
        None
    );
}

#[test]
fn deny_of_an_address_that_no_control_reached_is_unproven() {
    let [first, second] = [1, 2].map(|last| std::net::IpAddr::from([203, 0, 113, last]));
    let mut scene = Scene::proven();
    scene.evidence.flows[0].dialled(first, false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    scene.evidence.flows[1].dialled(first, false);
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::NoControlAnswered),
        "dialled is not answered"
    );
    scene.evidence.flows[1].dialled(first, true);
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.evidence.flows[0].dialled(second, false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    scene.attempt(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

/// A bare handshake from web to postgres that a mesh may answer.
fn meshed() -> Flow {
    let to = TargetKey {
        request: Request::Connect { linger_ms: 250 },
        ..key("10.0.2.1", 5432)
    };
    Flow {
        opens_at: Stage::FirstBytes,
        ..flow(0, to, target_pod("postgres-0", "node-2"))
    }
}

fn after_handshake(flow: &Flow, linger: Linger) -> Reading {
    let mut passed = vec![(Stage::Connect, 300)];
    if linger == Linger::Bytes {
        passed.push((Stage::FirstBytes, 300));
    }
    let observation = Observation {
        passed,
        linger: Some(linger),
        ..Observation::default()
    };
    read(flow, &observation)
}

#[test]
fn deny_after_a_mesh_handshake_needs_a_target_control_that_got_bytes() {
    let meshed = meshed();
    assert!(matches!(
        after_handshake(&meshed, Linger::Bytes),
        Reading::Open(Success {
            passed: Stage::FirstBytes,
            ..
        })
    ));
    for linger in [Linger::Quiet, Linger::Fin, Linger::Rst] {
        let reading = after_handshake(&meshed, linger);
        assert!(
            matches!(&reading, Reading::Blocked(block) if block.stage == Stage::FirstBytes),
            "{reading:?}"
        );
        let mut scene = Scene::proven().without(DENIED);
        scene.plan.flows[DENIED.0 as usize] = meshed.clone();
        scene.plan.flows[TARGET_CONTROL.0 as usize].to = Arc::clone(&meshed.to);
        scene
            .plan
            .target_controls
            .insert(TargetKey::clone(&meshed.to), vec![TARGET_CONTROL]);
        scene.every(DENIED, 200, 4_200, 500, &reading);
        assert_eq!(
            scene.deny(),
            Verdict::Proven,
            "{linger:?}, and the control got bytes"
        );
        let mut scene = scene.without(TARGET_CONTROL);
        scene.every(TARGET_CONTROL, 0, 5_000, 500, &handshake_only());
        assert_eq!(
            reason(&scene.deny()),
            Some(Reason::NoControlAnswered),
            "{linger:?}, and so did the control"
        );
    }
}

/// What a DNS answer with this code, without a record, is read as.
fn dns_answer(code: u16) -> Reading {
    let to = TargetKey {
        request: Request::Dns {
            name: "evil.example".into(),
            record: "A".into(),
        },
        transport: Transport::Udp,
        ..key("10.0.2.1", 53)
    };
    let flow = Flow {
        opens_at: Stage::FirstBytes,
        ..flow(0, to, target_pod("postgres-0", "node-2"))
    };
    let observation = Observation {
        passed: vec![(Stage::FirstBytes, 300)],
        stop: Some(Stop {
            stage: Stage::Request,
            how: StopCause::Rcode { code },
        }),
        ..Observation::default()
    };
    read(&flow, &observation)
}

#[test]
fn dns_answer_refused_is_blocked_at_the_request_and_every_other_opens() {
    let Reading::Blocked(block) = dns_answer(5) else {
        panic!("REFUSED is a refusal")
    };
    assert_eq!(
        (block.passed, block.stage, block.signature),
        (
            Some(Stage::FirstBytes),
            Stage::Request,
            Some(Signature::DnsRefused)
        )
    );
    for code in [0, 2, 3] {
        let Reading::Open(success) = dns_answer(code) else {
            panic!("{code} is an answer")
        };
        assert_eq!((success.passed, success.then), (Stage::Request, None));
    }
}

/// What an HTTP answer is read as by this rule, where it matches the pattern or not.
fn http_answer(answer_rule: AnswerRule, matched: Option<bool>, denial: Option<HttpDenial>) -> bool {
    let to = TargetKey {
        request: http("GET"),
        answer_rule,
        ..key("10.0.2.1", 80)
    };
    let flow = Flow {
        opens_at: Stage::Request,
        ..flow(0, to, target_pod("postgres-0", "node-2"))
    };
    let http = HttpFacts {
        version: "HTTP/1.1".into(),
        status: 403,
        denial,
        matched,
        body_bytes: 0,
        body_digest: String::new(),
    };
    let stages = [Stage::Connect, Stage::FirstBytes, Stage::Request];
    let observation = Observation {
        passed: stages.map(|stage| (stage, 300)).to_vec(),
        http: Some(Box::new(http)),
        ..Observation::default()
    };
    matches!(read(&flow, &observation), Reading::Open(_))
}

#[test]
fn http_answer_is_read_by_the_rule_of_its_flow() {
    use AnswerRule::{Any, MatchOpens, MatchRefuses};
    for (rule, matched, opens) in [
        (Any, None, true),
        (MatchOpens, Some(true), true),
        (MatchOpens, Some(false), false),
        (MatchOpens, None, false),
        (MatchRefuses, Some(true), false),
        (MatchRefuses, Some(false), true),
    ] {
        assert_eq!(
            http_answer(rule, matched, None),
            opens,
            "{rule:?} {matched:?}"
        );
        assert!(
            !http_answer(rule, matched, Some(HttpDenial::CiliumHttp)),
            "a known denial is one by every rule"
        );
    }
}
