//! When an allow is proven, violated or unstable.

use super::*;

#[test]
fn allow_with_three_successes_in_a_row_is_proven() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 500, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewAttempts));
    scene.attempt(ALLOWED, 1_000, open());
    assert_eq!(scene.allow(), Verdict::Proven);
}

#[test]
fn allow_that_opens_for_the_time_of_one_burst_is_unproven() {
    let mut scene = Scene::new();
    for at in [0, 150, 400] {
        scene.attempt(ALLOWED, at, open());
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewAttempts));
    scene.attempt(ALLOWED, 1_000, open());
    assert_eq!(scene.allow(), Verdict::Proven);
}

#[test]
fn allow_that_comes_up_late_is_proven_with_its_delay() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 2_500, 500, &reset())
        .every(ALLOWED, 3_000, 4_000, 500, &open());
    let judgement = scene.judge(1);
    let FlowVerdict::Allowed(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!(proof.delay().as_millis(), 3_000);
}

#[test]
fn allow_with_handshakes_only_is_not_proven_at_a2() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 11_000, 500, &handshake_only());
    assert_eq!(reason(&scene.allow()), Some(Reason::TargetUnreachable));
}

#[test]
fn allow_that_stays_blocked_while_another_source_gets_through_is_violated() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 10_500, 500, &silence())
        .every(TARGET_CONTROL, 0, 10_500, 500, &open())
        .every(PATH_CONTROL, 0, 10_500, 500, &open());
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::AllowedFlowBlocked {
            contrast: Some(TARGET_CONTROL),
            ..
        })
    ));
}

#[test]
fn allow_that_stays_blocked_is_unproven_before_the_timeout() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 9_000, 500, &silence())
        .every(TARGET_CONTROL, 0, 9_000, 500, &open())
        .every(PATH_CONTROL, 0, 9_000, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewAttempts));
}

#[test]
fn allow_that_no_source_reaches_is_unproven() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 10_500, 500, &reset())
        .every(TARGET_CONTROL, 0, 10_500, 500, &reset())
        .every(PATH_CONTROL, 0, 10_500, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TargetUnreachable));
}

#[test]
fn allow_from_a_source_that_opens_nothing_is_unproven() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 10_500, 500, &silence())
        .every(TARGET_CONTROL, 0, 10_500, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::SourceNotVerified));
}

#[test]
fn allow_refused_by_a_named_enforcer_is_violated_without_a_control() {
    let refusal = Reading::Blocked(Block {
        passed: None,
        stage: Stage::Connect,
        how: Refusal::Wire(StopCause::Silence),
        signature: Some(Signature::IcmpProhibited),
        by_target: false,
    });
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 10_500, 500, &refusal);
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::AllowedFlowBlocked { contrast: None, .. })
    ));
}

#[test]
fn allow_that_loses_two_in_a_row_is_violated_as_unstable() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 2_000, 500, &open())
        .every(ALLOWED, 2_500, 3_000, 500, &silence())
        .every(ALLOWED, 3_500, 5_000, 500, &open());
    scene.every(TARGET_CONTROL, 0, 5_000, 500, &open());
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::Unstable {
            lost: 2,
            in_a_row: 2,
            ..
        })
    ));
}

fn flapping(lost_every: u64) -> Verdict {
    let mut scene = Scene::new();
    for n in 0..60_u64 {
        scene.attempt(
            ALLOWED,
            n * 100,
            if n > 5 && n % lost_every == 0 {
                silence()
            } else {
                open()
            },
        );
    }
    scene.every(TARGET_CONTROL, 0, 6_000, 500, &open());
    scene.allow()
}

#[test]
fn allow_that_loses_single_attempts_is_unstable_above_5_percent() {
    assert!(matches!(
        flapping(8),
        Verdict::Violated(Violation::Unstable { in_a_row: 1, .. })
    ));
    assert_eq!(flapping(30), Verdict::Proven);
}

#[test]
fn heartbeats_extend_a_streak_and_contradictions_are_refused() {
    let mut scene = Scene::new();
    assert!(
        scene.evidence.flows[0].heartbeat(2, 1_000_000).is_err(),
        "a heartbeat before any attempt"
    );
    scene.attempt(DENIED, 200, silence());
    let flow = &mut scene.evidence.flows[0];
    flow.heartbeat(4, 1_200_000).expect("in order");
    assert_eq!(
        (flow.attempts, flow.blocked, flow.streaks[0].count),
        (4, 4, 4)
    );
    assert!(flow.heartbeat(3, 1_300_000).is_err());
    assert!(
        flow.attempt(4, 1_300_000, silence(), StageTimes::default(), None)
            .is_err()
    );
    flow.attempt(7, 2_000_000, open(), StageTimes::default(), None)
        .expect("in order");
    assert_eq!((flow.attempts, flow.blocked, flow.opened), (7, 6, 1));
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        4 => Just(silence()),
        2 => Just(reset()),
        1 => Just(not_sent()),
        1 => Just(open()),
    ]
}

/// Starts of the attempts of a flow that opened, milliseconds.
fn open_starts(starts: &BTreeMap<u32, Vec<(u64, Reading)>>, flow: FlowId) -> Vec<i64> {
    starts[&flow.0]
        .iter()
        .filter(|(_, reading)| matches!(reading, Reading::Open(_)))
        .map(|(at, _)| *at as i64)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the timelines, a proven deny has six blocked attempts over the hold at the end of
    /// its flow, and a success of a target control at most two seconds before and after.
    #[test]
    fn proven_deny_of_any_timeline_has_its_blocked_attempts_and_controls(
        denied in prop::collection::vec((50_u64..700, any_reading()), 0..24),
        control in prop::collection::vec((50_u64..2_500, any_reading()), 0..16),
        source_window in prop::collection::vec((50_u64..1_500, any_reading()), 0..16),
        path_control in prop::collection::vec((50_u64..1_500, any_reading()), 0..16),
        skew in 0_i64..400_000,
    ) {
        let mut scene = Scene::new();
        let mut starts: BTreeMap<u32, Vec<(u64, Reading)>> = BTreeMap::new();
        for (flow, timeline) in [(DENIED, &denied), (TARGET_CONTROL, &control), (SOURCE_CONTROL, &source_window), (PATH_CONTROL, &path_control)] {
            let mut millis = 0;
            for (step, reading) in timeline {
                millis += step;
                scene.attempt(flow, millis, reading.clone());
                starts.entry(flow.0).or_default().push((millis, reading.clone()));
            }
        }
        scene.evidence.probes[1].clock = Some(Clock { least: -skew, most: skew });
        let judgement = scene.judge(0);
        let opened = denied.iter().any(|(_, reading)| matches!(reading, Reading::Open(_)));
        prop_assert_eq!(opened, matches!(judgement.verdict, Verdict::Violated(_)));
        if let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict {
            let window = proof.window();
            let (from, to) = (window.from.earliest / 1_000, window.to.earliest / 1_000);
            let inside: Vec<_> = starts[&DENIED.0].iter().filter(|(at, _)| (from..=to).contains(&(*at as i64))).collect();
            prop_assert!(inside.len() >= 6 && to - from >= 2_000);
            prop_assert!(starts[&DENIED.0].iter().filter(|(at, _)| *at as i64 >= from).all(|(_, r)| matches!(r, Reading::Blocked(_))));
            let control = open_starts(&starts, TARGET_CONTROL);
            prop_assert!(control.iter().any(|at| *at <= from && from - at <= 2_000));
            prop_assert!(control.iter().any(|at| *at >= to && at - to <= 2_000));
            let closed_between = starts[&TARGET_CONTROL.0].iter().any(|(at, r)| (from..=to).contains(&(*at as i64)) && !matches!(r, Reading::Open(_)));
            prop_assert!(!closed_between);
            prop_assert!(open_starts(&starts, SOURCE_CONTROL).iter().any(|at| *at <= from) && open_starts(&starts, SOURCE_CONTROL).iter().any(|at| *at >= to));
            let mut path_controls = open_starts(&starts, PATH_CONTROL);
            path_controls.retain(|at| (from - 2_000..=to + 2_000).contains(at));
            prop_assert!(!path_controls.is_empty());
        }
    }
}

#[test]
fn allow_that_opens_below_its_tier_is_unproven() {
    let mut scene = Scene::new();
    let lower = Reading::Open(Success {
        tier: AllowTier::A1,
        passed: Stage::Request,
        then: None,
    });
    scene.every(ALLOWED, 0, 12_000, 500, &lower);
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 12_000, 500, &lower);
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::TierNotMet));
}

#[test]
fn target_control_with_varying_greetings_counts_as_one_interval() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    for n in 0..11 {
        let what = format!("greeting {n}");
        let then = Some(Stop {
            stage: Stage::Request,
            how: StopCause::Garbled { what },
        });
        let success = Success {
            tier: AllowTier::A1,
            passed: Stage::FirstBytes,
            then,
        };
        scene.attempt(TARGET_CONTROL, n * 500, Reading::Open(success));
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn allow_that_only_our_own_faults_interrupt_is_unproven() {
    let mut scene = Scene::new();
    for n in 0..12_u64 {
        scene.attempt(ALLOWED, n * 1_000, open());
        scene.fault(ALLOWED, n * 1_000 + 500, FaultReason::Starved);
    }
    scene.attempt(ALLOWED, 12_500, open());
    for flow in [TARGET_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 13_000, 500, &open());
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::ProbeCpuStarved));
    // One that was blocked now and then, and never got through three times in a row, is violated.
    let mut scene = scene.without(ALLOWED);
    for n in 0..12_u64 {
        scene
            .attempt(ALLOWED, n * 1_000, open())
            .attempt(ALLOWED, n * 1_000 + 500, silence());
    }
    scene.attempt(ALLOWED, 12_500, open());
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::AllowedFlowBlocked { .. })
    ));
}

#[test]
fn allow_that_is_lost_by_every_source_is_no_violation() {
    let mut scene = Scene::new();
    for flow in [ALLOWED, TARGET_CONTROL] {
        scene
            .every(flow, 0, 2_000, 500, &open())
            .every(flow, 2_500, 3_500, 500, &silence())
            .every(flow, 4_000, 5_000, 500, &open());
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::TargetUnreachable));
}

#[test]
fn allow_that_can_no_longer_be_sent_is_violated_as_unstable() {
    let mut scene = Scene::new();
    scene
        .every(ALLOWED, 0, 2_000, 500, &open())
        .every(ALLOWED, 2_500, 5_000, 500, &not_sent())
        .every(TARGET_CONTROL, 0, 5_000, 500, &open());
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::Unstable { lost: 6, .. })
    ));
}
