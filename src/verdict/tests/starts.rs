//! Sources that are new: policy delay, settle, start-up leaks.

use super::*;
use crate::model::{ClusterChange, PolicyRef};

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
    let source_controls = source_controls(vec![OTHER], vec![]);
    scene
        .plan
        .source_controls
        .insert((ProbeId(0), Family::V4, Transport::Tcp), source_controls);
    scene
}

fn open_controls(scene: &mut Scene, to: u64) {
    for flow in [TARGET_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, to, 500, &open());
    }
}

#[test]
fn attempts_of_a_clone_count_after_policy_delay_and_settle() {
    let mut scene = with_a_clone();
    open_controls(&mut scene, 30_000);
    // Its identity is not known for four seconds: everything is denied, also what its labels admit.
    scene
        .every(OTHER, 0, 3_500, 500, &silence())
        .every(OTHER, 4_000, 30_000, 500, &open());
    scene.every(DENIED, 100, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
    scene.every(DENIED, 5_100, 7_900, 400, &silence());
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::TooFewAttempts),
        "2.8 s after policy delay and settle"
    );
    scene.every(DENIED, 8_000, 8_500, 250, &silence());
    let judgement = scene.judge(0);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert!(
        proof.window().from.earliest >= 5_000_000,
        "policy delay of 4 s, settle of 1 s: {:?}",
        proof.window()
    );
}

#[test]
fn clone_whose_identity_is_not_shown_has_a_longer_hold() {
    let mut scene = with_a_clone();
    scene.plan.policy_delay_flows.clear();
    open_controls(&mut scene, 30_000);
    scene
        .every(OTHER, 0, 30_000, 500, &open())
        .every(DENIED, 100, 15_600, 500, &silence());
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::TooFewAttempts),
        "14.5 s after it settled"
    );
    // Not every start is kept, so it takes a little longer than the hold.
    scene.every(DENIED, 16_100, 19_600, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn success_towards_another_node_does_not_show_the_identity() {
    let mut scene = with_a_clone();
    scene.plan.policy_delay_flows =
        BTreeMap::from([((ProbeId(0), "node-1".to_owned()), vec![OTHER])]);
    open_controls(&mut scene, 10_000);
    scene
        .every(OTHER, 0, 10_000, 500, &open())
        .every(DENIED, 100, 9_600, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

fn is_proven_with_last_hello(hello: i64) -> bool {
    let mut scene = with_a_clone();
    scene.plan.created_probes.clear();
    // A second source, whose probe came up later.
    scene.plan.checks[0].flows.push(ALLOWED);
    scene.evidence.probes[3].clock = Some(Clock::shared(hello));
    open_controls(&mut scene, 12_000);
    scene
        .every(OTHER, 0, 12_000, 500, &open())
        .every(DENIED, 100, 6_100, 500, &silence());
    matches!(scene.judge(0).flows[0].verdict, FlowVerdict::Denied(_))
}

#[test]
fn settle_starts_at_the_last_hello_of_the_check() {
    assert!(is_proven_with_last_hello(0) && is_proven_with_last_hello(2_000_000));
    assert!(!is_proven_with_last_hello(2_200_000));
}

/// A clone whose denied flow opens from its first attempt on, until some time.
fn leaking(until: u64) -> Scene {
    let mut scene = with_a_clone();
    open_controls(&mut scene, 60_000);
    scene
        .every(OTHER, 0, 60_000, 500, &open())
        .every(DENIED, 100, until, 500, &open());
    let last = until - (until - 100) % 500;
    scene.every(DENIED, last + 500, 58_000, 500, &silence());
    scene
}

#[test]
fn startup_leak_of_a_clone_is_proven_with_its_length() {
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

fn is_violated(scene: &Scene) -> bool {
    matches!(
        scene.deny(),
        Verdict::Violated(Violation::DeniedFlowOpened { .. })
    )
}

#[test]
fn startup_leak_that_is_excluded_or_lasts_or_returns_is_a_violation() {
    let mut isolated = leaking(2_300);
    isolated.plan.checks[0].settings.startup_isolated = true;
    assert!(is_violated(&isolated));
    let mut existing = leaking(2_300);
    existing.plan.created_probes.clear();
    assert!(is_violated(&existing));
    assert!(is_violated(&leaking(10_100)), "longer than grace");
    let mut returns = leaking(2_300);
    returns.attempt(DENIED, 58_500, open());
    assert!(is_violated(&returns));
    let mut measured = leaking(2_300);
    measured.evidence.canary = Some(std::time::Duration::from_millis(600));
    assert!(
        is_violated(&measured),
        "three times the canary's latency is over"
    );
}

/// A clone whose first attempts are blocked, as its identity is not known yet where they arrive,
/// whose next one opens, and which is blocked from then on.
fn leaking_with_gaps(blocked_before: u64, until: u64) -> Scene {
    let mut scene = with_a_clone();
    open_controls(&mut scene, 60_000);
    scene.every(OTHER, 0, 60_000, 500, &open());
    for nth in 0..blocked_before {
        scene.attempt(DENIED, 100 + nth * 500, silence());
    }
    let opens = 100 + blocked_before * 500;
    scene
        .attempt(DENIED, opens, open())
        .every(DENIED, opens + 500, until, 500, &silence());
    scene
}

#[test]
fn startup_leak_with_gaps_is_proven_once_a_lasting_leak_is_ruled_out() {
    // One of two: seven more must be blocked, which the hold requires anyway.
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
            .attempt(DENIED, later, open())
            .every(DENIED, later + 500, 58_000, 500, &silence());
        let violated = matches!(returns.deny(), Verdict::Violated(_));
        assert_eq!(violated, later > 10_000, "it opened again after {later} ms");
    }
}

#[test]
fn leak_that_a_policy_may_have_ended_is_unproven() {
    let changed = Cause::Changed(ClusterChange::Policy(PolicyRef::network(
        "data", "postgres",
    )));
    for (at, startup) in [
        (50_000, true),
        (2_000_000, false),
        (4_400_000, false),
        (6_000_000, true),
    ] {
        let mut scene = with_a_clone();
        open_controls(&mut scene, 60_000);
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

fn verdict_once_retired(mut scene: Scene) -> Verdict {
    scene.evidence.flows[DENIED.0 as usize].retire(50_000_000, 52_000_000);
    let check = &mut scene.plan.checks[0];
    check.flows.clear();
    check.retired.push(DENIED);
    scene.deny()
}

#[test]
fn startup_leak_of_a_retired_flow_is_no_violation() {
    assert!(
        matches!(verdict_once_retired(leaking(2_300)), Verdict::Unproven(unproven) if unproven.reason == Reason::NotAttempted)
    );
    assert!(matches!(
        verdict_once_retired(leaking(10_100)),
        Verdict::Violated(_)
    ));
}

#[test]
fn success_of_a_flow_first_tried_after_the_grace_is_a_violation() {
    for (at, violated) in [(9_900, false), (10_100, true)] {
        let mut scene = with_a_clone();
        open_controls(&mut scene, 60_000);
        scene.attempt(DENIED, at, open());
        assert_eq!(
            matches!(scene.deny(), Verdict::Violated(_)),
            violated,
            "{at} ms after the pod's start"
        );
    }
}

#[test]
fn attempt_without_cpu_time_does_not_interrupt_a_startup_leak() {
    let mut scene = with_a_clone();
    open_controls(&mut scene, 60_000);
    scene
        .fault(DENIED, 50, FaultReason::Starved)
        .every(OTHER, 0, 60_000, 500, &open())
        .every(DENIED, 100, 1_100, 500, &open());
    scene
        .fault(DENIED, 1_600, FaultReason::Starved)
        .attempt(DENIED, 2_100, open())
        .every(DENIED, 2_600, 58_000, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn clone_that_still_leaks_within_its_grace_is_unproven_so_far() {
    let mut scene = with_a_clone();
    scene.every(DENIED, 100, 4_100, 500, &open());
    let FlowVerdict::Unproven(unproven) = &scene.judge(0).flows[0].verdict else {
        panic!("proven or violated")
    };
    assert!(unproven.open);
    scene.every(DENIED, 4_600, 11_000, 500, &open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

fn reason_with_clock_up_to(most: i64) -> Option<Reason> {
    let mut scene = Scene::proven();
    scene.evidence.probes[0].clock = Some(Clock {
        least: -1_000_000,
        most,
    });
    reason(&scene.deny())
}

#[test]
fn wall_clock_that_is_a_second_off_the_arrivals_is_clock_skew() {
    assert_eq!(reason_with_clock_up_to(1_000_001), Some(Reason::ClockSkew));
    assert_ne!(reason_with_clock_up_to(1_000_000), Some(Reason::ClockSkew));
}

/// The allowed flow starts from a clone whose identity nothing shows.
fn allowed_from_a_clone() -> Scene {
    let mut scene = with_a_clone();
    scene.plan.created_probes = BTreeSet::from([ProbeId(3)]);
    scene.plan.policy_delay_flows.clear();
    scene
}

#[test]
fn allow_from_a_clone_is_not_proven_by_its_first_moments() {
    let mut scene = allowed_from_a_clone();
    scene.every(ALLOWED, 0, 400, 100, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewAttempts));
    scene.every(ALLOWED, 1_000, 9_000, 1_000, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewAttempts));
    scene.every(ALLOWED, 10_000, 11_000, 1_000, &open());
    assert_eq!(scene.allow(), Verdict::Proven);
}

#[test]
fn allow_from_a_clone_that_is_blocked_after_its_first_moments_is_not_proven() {
    let mut scene = allowed_from_a_clone();
    scene
        .every(ALLOWED, 0, 400, 100, &open())
        .every(ALLOWED, 1_000, 70_000, 1_000, &silence());
    assert_eq!(reason(&scene.allow()), Some(Reason::TargetUnreachable));
    scene.every(TARGET_CONTROL, 0, 70_000, 1_000, &open());
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::Unstable { .. })
    ));
}

#[test]
fn allow_from_a_clone_that_was_denied_until_its_identity_was_known_is_proven() {
    let mut scene = allowed_from_a_clone();
    scene.plan.policy_delay_flows =
        BTreeMap::from([((ProbeId(3), "node-2".to_owned()), vec![ALLOWED])]);
    scene
        .every(ALLOWED, 3_000, 6_000, 500, &open())
        .every(TARGET_CONTROL, 0, 6_000, 500, &open());
    assert_eq!(scene.allow(), Verdict::Proven);
}
