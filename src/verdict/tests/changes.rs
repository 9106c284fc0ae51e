//! Openings, and what changes while a run goes on.

use super::*;
use crate::model::ClusterChange;

#[test]
fn deny_that_opened_once_is_violated_whatever_else_is_missing() {
    for missing in [CONTROL, REACHED, CROSSING] {
        let mut scene = Scene::good().without(missing);
        scene.read(DENIED, 4_700, open());
        assert!(
            matches!(
                scene.deny(),
                Verdict::Violated(Violation::FirstSuccess {
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
fn opening_outlives_a_later_failure_of_the_probe() {
    let mut scene = Scene::good();
    scene.read(DENIED, 4_700, open());
    scene.evidence.probes[0].failure = Some((4_800_000, ProbeFailure::Ended("killed".into())));
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn opening_counts_even_after_more_changes_than_are_remembered() {
    let mut scene = Scene::new();
    scene.read(DENIED, 100, open());
    for n in 0..60 {
        scene.read(
            DENIED,
            200 + n * 20,
            if n % 2 == 0 { silence() } else { reset() },
        );
    }
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::FirstSuccess {
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
fn opening_while_a_pod_is_replaced_is_neither_a_violation_nor_forgotten() {
    let mut scene = Scene::new();
    scene
        .every(DENIED, 200, 1_200, 500, &silence())
        .read(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene
        .read(DENIED, 2_900, open())
        .every(DENIED, 3_200, 9_000, 500, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 10_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn opening_well_before_the_pod_was_replaced_is_a_violation() {
    let mut scene = Scene::new();
    scene.read(DENIED, 200, open());
    scene.evidence.flows[0].replaced(2_000_000, 4_000_000, 4_000_000, replaced("postgres-0"));
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn opening_of_the_new_pod_is_a_violation_though_only_a_beat_tells_it() {
    let mut scene = Scene::new();
    scene
        .every(DENIED, 200, 1_200, 500, &silence())
        .read(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene.evidence.flows[0]
        .heartbeat(9, 3_500_000)
        .expect("in order");
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::FirstSuccess {
            opened: 6,
            attempts: 9,
            ..
        })
    ));
}

#[test]
fn what_opens_on_a_retired_flow_counts_only_before_its_pod_was_gone() {
    let retired = |millis: u64| {
        let mut scene = Scene::good();
        scene.plan.checks[0].retired = vec![OTHER];
        scene.read(OTHER, 100, silence());
        if millis < 3_000 {
            scene.read(OTHER, millis, open());
        }
        scene.evidence.flows[5].retire(1_000_000, 3_000_000);
        if millis >= 3_000 {
            scene.read(OTHER, millis, open());
        }
        scene.deny()
    };
    assert!(matches!(
        retired(500),
        Verdict::Violated(Violation::FirstSuccess { flow: OTHER, .. })
    ));
    assert_eq!(reason(&retired(2_000)), Some(Reason::ChangedDuringRun));
    assert_eq!(retired(3_500), Verdict::Proven);
}

/// All flows begin anew at this time, as when the policies of their namespace changed.
fn restart(scene: &mut Scene, millis: u64) {
    for flow in &mut scene.evidence.flows {
        let what = ClusterChange::Policy("shop".into(), "any".into());
        flow.restart(millis * 1_000, millis as i64 * 1_000, Cause::Changed(what));
    }
}

#[test]
fn samples_before_a_change_do_not_count() {
    let mut scene = Scene::good();
    restart(&mut scene, 4_500);
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn deny_that_holds_again_after_a_change_is_proven_and_says_so() {
    let mut scene = Scene::new();
    let all = |scene: &mut Scene, from, to| {
        scene.every(DENIED, from + 200, to - 200, 300, &silence());
        for flow in [CONTROL, REACHED, CROSSING] {
            scene.every(flow, from, to, 300, &open());
        }
    };
    for n in 0..4 {
        all(&mut scene, n * 5_000, n * 5_000 + 4_500);
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
    all(&mut scene, 20_000, 24_500);
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::ChangedDuringRun),
        "a fourth change is one too many"
    );
}

#[test]
fn changes_that_are_noticed_together_are_one() {
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
fn attempt_that_started_before_a_change_counts_for_nothing_though_it_ended_after() {
    let mut scene = Scene::new();
    restart(&mut scene, 2_000);
    scene.every(DENIED, 200, 1_900, 100, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn policy_that_is_removed_while_watched_leaves_a_violation() {
    let mut scene = Scene::good();
    restart(&mut scene, 4_300);
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn allow_must_come_up_again_after_a_change() {
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
fn allow_that_stays_shut_after_a_change_is_violated() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 2_000, 500, &open());
    restart(&mut scene, 2_100);
    scene.every(ALLOWED, 2_500, 13_000, 500, &silence());
    for flow in [CONTROL, CROSSING] {
        scene.every(flow, 2_500, 13_000, 500, &open());
    }
    assert!(matches!(
        scene.allow(),
        Verdict::Violated(Violation::Shut { .. })
    ));
}

#[test]
fn probe_that_stood_still_begins_anew_and_is_starved_without_enough_samples() {
    let mut scene = Scene::good();
    scene.evidence.flows[0].restart(3_000_000, 3_000_000, Cause::Stalled(1_500));
    assert_eq!(reason(&scene.deny()), Some(Reason::ProbeCpuStarved));
    scene.every(DENIED, 4_700, 7_500, 300, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 5_500, 8_000, 500, &open());
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn change_concerns_the_flows_between_its_objects() {
    let plan = Scene::new().plan();
    let relevant = [
        ClusterChange::Pod("shop".into(), "web-0".into()),
        ClusterChange::Pod("shop".into(), "postgres-0".into()),
        ClusterChange::Namespace("shop".into()),
        ClusterChange::Policy("shop".into(), "any".into()),
        ClusterChange::Policy(String::new(), "of-the-cluster".into()),
    ];
    for what in relevant {
        assert!(concerns(&plan, DENIED, &what), "{what}");
    }
    let elsewhere = [
        ClusterChange::Pod("shop".into(), "cart-0".into()),
        ClusterChange::Namespace("data".into()),
        ClusterChange::Policy("data".into(), "any".into()),
        ClusterChange::Service("shop".into(), "postgres".into()),
    ];
    for what in elsewhere {
        assert!(!concerns(&plan, DENIED, &what), "{what}");
    }
}
