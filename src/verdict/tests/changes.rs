//! Successes of denied flows, and changes during a run.

use super::*;
use crate::model::{ClusterChange, PolicyKind, PolicyRef};

#[test]
fn deny_that_opened_once_is_violated_without_any_control() {
    for missing in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        let mut scene = Scene::proven().without(missing);
        scene.attempt(DENIED, 4_700, open());
        assert!(
            matches!(
                scene.deny(),
                Verdict::Violated(Violation::DeniedFlowOpened {
                    opened: 1,
                    attempts: 10,
                    ..
                })
            ),
            "{missing:?}"
        );
    }
}

#[test]
fn success_counts_after_its_probe_failed() {
    let mut scene = Scene::proven();
    scene.attempt(DENIED, 4_700, open());
    scene.evidence.probes[0].failure = Some((4_800_000, ProbeFailure::Ended("killed".into())));
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn success_counts_after_more_streaks_than_are_kept() {
    let mut scene = Scene::new();
    scene.attempt(DENIED, 100, open());
    for n in 0..60 {
        scene.attempt(
            DENIED,
            200 + n * 20,
            if n % 2 == 0 { silence() } else { reset() },
        );
    }
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::DeniedFlowOpened {
            opened: 1,
            attempts: 61,
            ..
        })
    ));
}

fn replaced(name: &str) -> Cause {
    Cause::Changed(ClusterChange::Pod("shop".into(), name.into()))
}

#[test]
fn success_while_a_pod_is_replaced_is_unproven() {
    let mut scene = Scene::new();
    scene
        .every(DENIED, 200, 1_200, 500, &silence())
        .attempt(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene
        .attempt(DENIED, 2_900, open())
        .every(DENIED, 3_200, 9_000, 500, &silence());
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 10_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn success_well_before_the_pod_was_replaced_is_a_violation() {
    let mut scene = Scene::new();
    scene.attempt(DENIED, 200, open());
    scene.evidence.flows[0].replaced(2_000_000, 4_000_000, 4_000_000, replaced("postgres-0"));
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn success_of_the_new_pod_known_by_a_heartbeat_is_a_violation() {
    let mut scene = Scene::new();
    scene
        .every(DENIED, 200, 1_200, 500, &silence())
        .attempt(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene.evidence.flows[0]
        .heartbeat(9, 3_500_000)
        .expect("in order");
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::DeniedFlowOpened {
            opened: 6,
            attempts: 9,
            ..
        })
    ));
}

/// The verdict where a success at this time is followed by a pod that was gone between 1 s and 3 s.
fn retired_after_success_at(millis: u64) -> Verdict {
    let mut scene = Scene::proven();
    scene.plan.checks[0].retired = vec![OTHER];
    scene.attempt(OTHER, 100, silence());
    if millis < 3_000 {
        scene.attempt(OTHER, millis, open());
    }
    scene.evidence.flows[5].retire(1_000_000, 3_000_000);
    if millis >= 3_000 {
        scene.attempt(OTHER, millis, open());
    }
    scene.deny()
}

#[test]
fn success_of_a_retired_flow_counts_only_before_its_pod_was_gone() {
    assert!(matches!(
        retired_after_success_at(500),
        Verdict::Violated(Violation::DeniedFlowOpened { flow: OTHER, .. })
    ));
    assert_eq!(
        reason(&retired_after_success_at(2_000)),
        Some(Reason::ChangedDuringRun)
    );
    assert_eq!(retired_after_success_at(3_500), Verdict::Proven);
}

/// Restarts all flows at this time, as when the policies of their namespace changed.
fn restart(scene: &mut Scene, millis: u64) {
    for flow in &mut scene.evidence.flows {
        let what = ClusterChange::Policy(PolicyRef::network("shop", "any"));
        flow.restart(millis * 1_000, millis as i64 * 1_000, Cause::Changed(what));
    }
}

#[test]
fn attempts_before_a_change_do_not_count() {
    let mut scene = Scene::proven();
    restart(&mut scene, 4_500);
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

fn blocked_with_open_controls(scene: &mut Scene, from: u64, to: u64) {
    scene.every(DENIED, from + 200, to - 200, 300, &silence());
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, from, to, 300, &open());
    }
}

#[test]
fn deny_that_holds_again_after_a_change_is_proven_with_its_restarts() {
    let mut scene = Scene::new();
    for n in 0..4 {
        blocked_with_open_controls(&mut scene, n * 5_000, n * 5_000 + 4_500);
        assert_eq!(scene.deny(), Verdict::Proven);
        let judgement = scene.judge(0);
        let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
            panic!("{judgement:?}")
        };
        assert_eq!(u64::from(proof.restarts()), n);
        assert!(
            proof.window().from.earliest >= n as i64 * 5_000_000 - 500_000,
            "{:?}",
            proof.window()
        );
        restart(&mut scene, n * 5_000 + 4_600);
    }
    blocked_with_open_controls(&mut scene, 20_000, 24_500);
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::ChangedDuringRun),
        "a fourth change is one too many"
    );
}

#[test]
fn changes_noticed_within_a_second_are_one_restart() {
    let mut scene = Scene::new();
    for millis in [1_000, 1_200, 1_900] {
        restart(&mut scene, millis);
    }
    assert_eq!(
        scene.evidence.flows[0]
            .restarts
            .as_ref()
            .map(|restarts| restarts.count),
        Some(1)
    );
    restart(&mut scene, 2_100);
    assert_eq!(
        scene.evidence.flows[0]
            .restarts
            .as_ref()
            .map(|restarts| restarts.count),
        Some(2)
    );
}

#[test]
fn attempt_that_started_before_a_change_and_ended_after_does_not_count() {
    let mut scene = Scene::new();
    restart(&mut scene, 2_000);
    scene.every(DENIED, 200, 1_900, 100, &silence());
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn success_after_a_policy_was_removed_is_a_violation() {
    let mut scene = Scene::proven();
    restart(&mut scene, 4_300);
    scene.attempt(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn allow_after_a_change_needs_three_successes_again() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 2_000, 500, &open());
    assert_eq!(scene.allow(), Verdict::Proven);
    restart(&mut scene, 2_100);
    assert_eq!(reason(&scene.allow()), Some(Reason::ChangedDuringRun));
    scene
        .every(ALLOWED, 2_500, 3_000, 500, &silence())
        .every(ALLOWED, 3_500, 4_500, 500, &open());
    let judgement = scene.judge(1);
    let FlowVerdict::Allowed(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!((proof.delay().as_millis(), proof.restarts()), (1_000, 1));
}

#[test]
fn allow_that_stays_blocked_after_a_change_is_violated() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 2_000, 500, &open());
    restart(&mut scene, 2_100);
    scene.every(ALLOWED, 2_500, 13_000, 500, &silence());
    for flow in [TARGET_CONTROL, PATH_CONTROL] {
        scene.every(flow, 2_500, 13_000, 500, &open());
    }
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::AllowedFlowBlocked { .. })
    ));
}

#[test]
fn deny_of_a_stalled_probe_is_cpu_starved_until_it_has_enough_attempts() {
    let mut scene = Scene::proven();
    scene.evidence.flows[0].restart(3_000_000, 3_000_000, Cause::Stalled(1_500));
    assert_eq!(reason(&scene.deny()), Some(Reason::ProbeCpuStarved));
    scene.every(DENIED, 4_700, 7_500, 300, &silence());
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 5_500, 8_000, 500, &open());
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn change_concerns_flows_from_or_to_its_object() {
    let plan = Scene::new().plan();
    let relevant = [
        ClusterChange::Pod("shop".into(), "web-0".into()),
        ClusterChange::Pod("shop".into(), "postgres-0".into()),
        ClusterChange::Namespace("shop".into()),
        ClusterChange::Policy(PolicyRef::network("shop", "any")),
        ClusterChange::Policy(PolicyRef::cluster(
            PolicyKind::ClusterNetworkPolicy,
            "of-the-cluster",
        )),
    ];
    for change in relevant {
        assert!(concerns(&plan, DENIED, &change), "{change}");
    }
    let elsewhere = [
        ClusterChange::Pod("shop".into(), "cart-0".into()),
        ClusterChange::Namespace("data".into()),
        ClusterChange::Policy(PolicyRef::network("data", "any")),
        ClusterChange::Service("shop".into(), "postgres".into()),
    ];
    for change in elsewhere {
        assert!(!concerns(&plan, DENIED, &change), "{change}");
    }
}
