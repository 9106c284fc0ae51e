//! Requests that are sent once, take long, go by name, or cross a mesh.

use super::super::{read, waits_needed};
use super::*;

/// A POST that is sent once, in the middle of a control's GETs.
fn once(stage: Stage, passed: Option<Stage>) -> Scene {
    let http = |method: &str| {
        Request::Http(crate::wire::Http {
            tls: None,
            method: method.into(),
            path: "/".into(),
            authority: "postgres".into(),
            headers: vec![],
            body: None,
            h2: false,
        })
    };
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
    scene.plan.target_controls = BTreeMap::from([(post, vec![CONTROL])]);
    scene.evidence = Evidence::of(&scene.plan());
    for probe in &mut scene.evidence.probes {
        probe.clock = Some(Clock::shared(0));
    }
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 4_000, 500, &open());
    }
    let how = Refusal::Wire(How::Silence);
    let block = Block {
        passed,
        stage,
        how,
        signature: None,
        by_target: false,
    };
    scene.read(DENIED, 1_700, Reading::Blocked(block));
    scene
}

#[test]
fn request_that_is_sent_once_is_denied_between_two_answers_of_a_control() {
    assert_eq!(once(Stage::Connect, None).deny(), Verdict::Proven);
    assert_eq!(
        reason(&once(Stage::Connect, None).without(CONTROL).deny()),
        Some(Reason::NoControlAnswered)
    );
    let mut late = once(Stage::Connect, None).without(CONTROL);
    late.every(CONTROL, 2_000, 4_000, 500, &open());
    assert_eq!(reason(&late.deny()), Some(Reason::TooFewAttempts));
    let mut opened = once(Stage::Connect, None).without(DENIED);
    opened.read(DENIED, 1_700, open());
    assert!(matches!(opened.deny(), Verdict::Violated(_)));
}

#[test]
fn control_that_asks_for_something_else_does_not_show_that_a_request_would_be_answered() {
    let scene = once(Stage::FirstBytes, Some(Stage::Connect));
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn request_that_is_sent_once_is_allowed_by_one_opening() {
    let mut scene = once(Stage::Connect, None);
    assert_eq!(reason(&scene.allow()), Some(Reason::NotAttempted));
    scene.read(ALLOWED, 1_700, open());
    assert_eq!(scene.allow(), Verdict::Proven);
    let mut shut = once(Stage::Connect, None);
    shut.read(ALLOWED, 1_700, silence());
    assert!(matches!(
        shut.allow(),
        Verdict::Violated(Violation::Shut { .. })
    ));
}

#[test]
fn control_that_takes_long_asks_for_more_time() {
    let mut scene = Scene::new();
    scene.every(DENIED, 200, 4_200, 500, &silence());
    for flow in [REACHED, CROSSING] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    for n in 1..=10_u32 {
        let slow = StageTimes::of(&[(Stage::Connect, 200_000)]);
        let at = u64::from(n - 1) * 500_000;
        scene.evidence.flows[1]
            .sample(n, at, open(), slow, None)
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
fn name_that_leads_elsewhere_than_its_controls_go_proves_nothing() {
    let address = |last: u8| std::net::IpAddr::from([203, 0, 113, last]);
    let mut scene = Scene::good();
    scene.evidence.flows[0].dialled(address(1), false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    scene.evidence.flows[1].dialled(address(1), false);
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::NoControlAnswered),
        "dialled is not answered"
    );
    scene.evidence.flows[1].dialled(address(1), true);
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.evidence.flows[0].dialled(address(2), false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn handshake_that_a_mesh_may_have_answered_is_denied_only_where_others_got_bytes() {
    let connect = || Request::Connect { linger_ms: 250 };
    let meshed = Flow {
        probe: ProbeId(0),
        to: TargetKey {
            request: connect(),
            ..key("10.0.2.1", 5432)
        }
        .into(),
        target_kind: at("postgres-0", "node-2").into(),
        opens_at: Stage::FirstBytes,
        waits: Waits::default(),
    };
    let after_handshake = |linger: Linger| {
        let mut passed = vec![(Stage::Connect, 300)];
        if linger == Linger::Bytes {
            passed.push((Stage::FirstBytes, 300));
        }
        read(
            &meshed,
            None,
            &Observation {
                passed,
                linger: Some(linger),
                ..Observation::default()
            },
        )
    };
    assert!(matches!(
        after_handshake(Linger::Bytes),
        Reading::Open(Success {
            passed: Stage::FirstBytes,
            ..
        })
    ));
    for linger in [Linger::Quiet, Linger::Fin, Linger::Rst] {
        let reading = after_handshake(linger);
        assert!(
            matches!(&reading, Reading::Blocked(block) if block.stage == Stage::FirstBytes),
            "{reading:?}"
        );
        let mut scene = Scene::good().without(DENIED);
        scene.plan.flows[DENIED.0 as usize] = meshed.clone();
        scene.plan.flows[CONTROL.0 as usize].to = Arc::clone(&meshed.to);
        scene
            .plan
            .target_controls
            .insert(TargetKey::clone(&meshed.to), vec![CONTROL]);
        scene.every(DENIED, 200, 4_200, 500, &reading);
        assert_eq!(
            scene.deny(),
            Verdict::Proven,
            "{linger:?}, and the control got bytes"
        );
        let mut scene = scene.without(CONTROL);
        scene.every(CONTROL, 0, 5_000, 500, &handshake_only());
        assert_eq!(
            reason(&scene.deny()),
            Some(Reason::NoControlAnswered),
            "{linger:?}, and so did the control"
        );
    }
}
