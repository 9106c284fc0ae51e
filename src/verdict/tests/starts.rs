//! Sources that are new: arming, settling, leaks of the start.

use super::*;
use crate::model::ClusterChange;

/// The scene in a cluster: web's pod is a clone that this run created. `OTHER` goes from it to a
/// pod on node-2 that admits by labels.
fn with_a_clone() -> Scene {
    let mut scene = Scene::new();
    let none = Settings::default();
    for check in &mut scene.plan.checks {
        check.settings = CheckSettings::of(
            check.expected,
            &none,
            BackendKind::Cluster,
            RequiredTier::A0,
        );
    }
    scene.plan.created_probes = BTreeSet::from([ProbeId(0)]);
    scene.plan.policy_delay_flows =
        BTreeMap::from([((ProbeId(0), "node-2".to_owned()), vec![OTHER])]);
    let source_window = SourceControls {
        allowed: vec![OTHER],
        tried: vec![],
        reached: vec![],
    };
    scene
        .plan
        .source_controls
        .insert((ProbeId(0), Family::V4, Transport::Tcp), source_window);
    scene
}

fn vouched(scene: &mut Scene, to: u64) {
    for flow in [CONTROL, CROSSING] {
        scene.every(flow, 0, to, 500, &open());
    }
}

#[test]
fn samples_of_a_clone_count_once_it_is_armed_and_settled() {
    let mut scene = with_a_clone();
    vouched(&mut scene, 30_000);
    // Nobody knows it for four seconds: it is denied everything, also what its labels admit.
    scene
        .every(OTHER, 0, 3_500, 500, &silence())
        .every(OTHER, 4_000, 30_000, 500, &open());
    scene.every(DENIED, 100, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
    scene.every(DENIED, 5_100, 7_900, 400, &silence());
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::TooFewAttempts),
        "2.8 s after armed and settled"
    );
    scene.every(DENIED, 8_000, 8_500, 250, &silence());
    let judgement = scene.judge(0);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert!(
        proof.window().from.earliest >= 5_000_000,
        "armed at 4 s, settled for one: {:?}",
        proof.window()
    );
}

#[test]
fn clone_that_nothing_arms_is_watched_for_longer() {
    let mut scene = with_a_clone();
    scene.plan.policy_delay_flows.clear();
    vouched(&mut scene, 30_000);
    scene
        .every(OTHER, 0, 30_000, 500, &open())
        .every(DENIED, 100, 15_600, 500, &silence());
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::TooFewAttempts),
        "14.5 s after it settled"
    );
    // Not every start is remembered, so it takes a little longer than it must.
    scene.every(DENIED, 16_100, 19_600, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn opening_towards_another_node_arms_nothing() {
    let mut scene = with_a_clone();
    scene.plan.policy_delay_flows =
        BTreeMap::from([((ProbeId(0), "node-1".to_owned()), vec![OTHER])]);
    vouched(&mut scene, 10_000);
    scene
        .every(OTHER, 0, 10_000, 500, &open())
        .every(DENIED, 100, 9_600, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn settle_starts_when_the_last_probe_of_the_check_said_hello() {
    let settled_after = |hello: i64| {
        let mut scene = with_a_clone();
        scene.plan.created_probes.clear();
        // A second source, whose probe came up later.
        scene.plan.checks[0].flows.push(ALLOWED);
        scene.evidence.probes[3].clock = Some(Clock::shared(hello));
        vouched(&mut scene, 12_000);
        scene
            .every(OTHER, 0, 12_000, 500, &open())
            .every(DENIED, 100, 6_100, 500, &silence());
        matches!(scene.judge(0).flows[0].verdict, FlowVerdict::Denied(_))
    };
    assert!(settled_after(0) && settled_after(2_000_000));
    assert!(!settled_after(2_200_000));
}

/// A clone that reaches what it must not from its first attempt on, until some time.
fn leaking(until: u64) -> Scene {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene
        .every(OTHER, 0, 60_000, 500, &open())
        .every(DENIED, 100, until, 500, &open());
    let last = until - (until - 100) % 500;
    scene.every(DENIED, last + 500, 58_000, 500, &silence());
    scene
}

#[test]
fn startup_leak_of_a_clone_is_told_with_its_length_and_does_not_violate() {
    let judgement = leaking(2_300).judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!(
        proof.startup_leak().map(|leak| leak.as_millis()),
        Some(2_500)
    );
}

#[test]
fn startup_leak_violates_where_it_is_not_to_be_or_lasts_or_returns() {
    let violated = |scene: &Scene| {
        matches!(
            scene.deny(),
            Verdict::Violated(Violation::FirstSuccess { .. })
        )
    };
    let mut isolated = leaking(2_300);
    isolated.plan.checks[0].settings.startup_isolated = true;
    assert!(violated(&isolated));
    let mut there_before = leaking(2_300);
    there_before.plan.created_probes.clear();
    assert!(violated(&there_before));
    assert!(violated(&leaking(10_100)), "longer than grace");
    let mut returns = leaking(2_300);
    returns.read(DENIED, 58_500, open());
    assert!(violated(&returns));
    let mut measured = leaking(2_300);
    measured.evidence.canary = Some(std::time::Duration::from_millis(600));
    assert!(
        violated(&measured),
        "three times the canary's latency is over"
    );
}

/// A clone whose first attempts are blocked, as it is not known yet where they arrive, whose next
/// one opens, and which is blocked from then on.
fn leaking_with_gaps(blocked_before: u64, until: u64) -> Scene {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene.every(OTHER, 0, 60_000, 500, &open());
    for nth in 0..blocked_before {
        scene.read(DENIED, 100 + nth * 500, silence());
    }
    let opens = 100 + blocked_before * 500;
    scene
        .read(DENIED, opens, open())
        .every(DENIED, opens + 500, until, 500, &silence());
    scene
}

#[test]
fn startup_leak_with_gaps_is_one_once_a_leak_that_lasts_is_ruled_out() {
    // One of two: seven more must be blocked, which the hold asks for anyway.
    let judgement = leaking_with_gaps(1, 20_000).judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!(proof.startup_leak().map(|leak| leak.as_millis()), Some(500));
    // One of six: twenty-six.
    for (until, proven) in [(15_000, false), (15_600, true)] {
        match leaking_with_gaps(5, until).judge(0).flows[0]
            .verdict
            .clone()
        {
            FlowVerdict::Denied(_) => assert!(proven, "{until}"),
            FlowVerdict::Unproven(unproven) => {
                assert_eq!(
                    (proven, unproven.open, unproven.reason),
                    (false, true, Reason::TooFewAttempts)
                );
                assert!(
                    unproven.detail.contains("26 attempts blocked"),
                    "{}",
                    unproven.detail
                );
            }
            other => panic!("{other:?}"),
        }
    }
    for later in [9_900, 20_100] {
        let mut returns = leaking_with_gaps(1, later - 200);
        returns
            .read(DENIED, later, open())
            .every(DENIED, later + 500, 58_000, 500, &silence());
        let violated = matches!(returns.deny(), Verdict::Violated(_));
        assert_eq!(violated, later > 10_000, "it opened again after {later} ms");
    }
}

#[test]
fn what_a_policy_may_have_ended_is_no_startup_leak() {
    let changed = Cause::Changed(ClusterChange::Policy("data".into(), "postgres".into()));
    for (at, startup) in [
        (50_000, true),
        (2_000_000, false),
        (4_400_000, false),
        (6_000_000, true),
    ] {
        let mut scene = with_a_clone();
        vouched(&mut scene, 60_000);
        if at < 100_000 {
            scene.evidence.flows[DENIED.0 as usize].restart(at as u64, at, changed.clone());
        }
        scene
            .every(OTHER, 0, 60_000, 500, &open())
            .every(DENIED, 100, 2_100, 500, &open());
        scene.every(DENIED, 2_600, 6_100, 500, &silence());
        if at > 100_000 {
            scene.evidence.flows[DENIED.0 as usize].restart(at as u64, at, changed.clone());
        }
        scene.every(DENIED, 6_600, 58_000, 500, &silence());
        match scene.judge(0).flows[0].verdict.clone() {
            FlowVerdict::Unproven(unproven) => {
                assert_eq!(
                    unproven.reason == Reason::ChangedDuringRun && !unproven.open,
                    !startup,
                    "{}",
                    unproven.detail
                );
            }
            FlowVerdict::Denied(_) => assert!(startup, "{at}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn startup_leak_of_a_flow_that_was_given_up_does_not_violate() {
    let gone = |mut scene: Scene| {
        scene.evidence.flows[DENIED.0 as usize].retire(50_000_000, 52_000_000);
        let check = &mut scene.plan.checks[0];
        check.flows.clear();
        check.retired.push(DENIED);
        scene.deny()
    };
    assert!(
        matches!(gone(leaking(2_300)), Verdict::Unproven(unproven) if unproven.reason == Reason::NotAttempted)
    );
    assert!(matches!(gone(leaking(10_100)), Verdict::Violated(_)));
}

#[test]
fn opening_of_what_was_first_tried_after_the_grace_is_no_startup_leak() {
    for (at, violated) in [(9_900, false), (10_100, true)] {
        let mut scene = with_a_clone();
        vouched(&mut scene, 60_000);
        scene.read(DENIED, at, open());
        assert_eq!(
            matches!(scene.deny(), Verdict::Violated(_)),
            violated,
            "{at} ms after the pod's start"
        );
    }
}

#[test]
fn attempt_that_was_starved_does_not_break_a_startup_leak() {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene
        .fault(DENIED, 50, FaultReason::Starved)
        .every(OTHER, 0, 60_000, 500, &open())
        .every(DENIED, 100, 1_100, 500, &open());
    scene
        .fault(DENIED, 1_600, FaultReason::Starved)
        .read(DENIED, 2_100, open())
        .every(DENIED, 2_600, 58_000, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn clone_that_still_leaks_within_its_grace_is_not_judged_yet() {
    let mut scene = with_a_clone();
    scene.every(DENIED, 100, 4_100, 500, &open());
    let FlowVerdict::Unproven(unproven) = &scene.judge(0).flows[0].verdict else {
        panic!("judged")
    };
    assert!(unproven.open);
    scene.every(DENIED, 4_600, 11_000, 500, &open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn wall_clock_that_is_a_second_off_the_arrivals_is_unproven_by_that_name() {
    let judged = |most: i64| {
        let mut scene = Scene::good();
        scene.evidence.probes[0].clock = Some(Clock {
            least: -1_000_000,
            most,
        });
        reason(&scene.deny())
    };
    assert_eq!(judged(1_000_001), Some(Reason::ClockSkew));
    assert_ne!(judged(1_000_000), Some(Reason::ClockSkew));
}
