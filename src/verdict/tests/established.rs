//! Lines with `established: true`.

use super::*;
use crate::model::{ClusterChange, PolicyKind, PolicyRef};

/// The connection that is kept open.
const KEPT: FlowId = FlowId(6);

/// That of its target control.
const KEPT_CONTROL: FlowId = FlowId(7);

/// When the policy changed, milliseconds.
const CHANGE: u64 = 1_200;

/// The end of the controls' attempts, milliseconds.
const END: u64 = 8_000;

fn closed() -> Reading {
    blocked(StopCause::Closed, false)
}

fn kept_key() -> TargetKey {
    TargetKey {
        request: Request::KeptOpen,
        ..key("10.0.2.1", 5432)
    }
}

/// The scene with both connections, before any attempt.
fn scene() -> Scene {
    let mut scene = Scene::new();
    for probe in [0, 1] {
        scene
            .plan
            .flows
            .push(flow(probe, kept_key(), target_pod("postgres-0", "node-2")));
    }
    scene
        .plan
        .target_controls
        .insert(kept_key(), vec![KEPT_CONTROL]);
    let weaker = scene.plan.weaker_controls[&DENIED].clone();
    scene.plan.weaker_controls.insert(KEPT, weaker);
    let check = &mut scene.plan.checks[0];
    check.flows = vec![KEPT, DENIED];
    check.settings.established = true;

    scene.evidence.extend(&Plan::from_parts(scene.plan.clone()));
    scene
}

/// The same, with controls that get through all the time.
fn with_controls() -> Scene {
    let mut scene = scene();
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL, KEPT_CONTROL] {
        scene.every(flow, 0, END, 500, &open());
    }
    scene
}

/// Notes that a policy changed at [`CHANGE`].
fn change(scene: &mut Scene) {
    let cause = Cause::Changed(ClusterChange::Policy(PolicyRef {
        kind: PolicyKind::NetworkPolicy,
        namespace: Some("shop".into()),
        name: "quarantine".into(),
    }));
    let at = CHANGE as i64 * 1_000;
    scene.evidence.flows[DENIED.0 as usize].restart(CHANGE * 1_000, at, cause.clone());
    scene.evidence.flows[KEPT.0 as usize].note_change(at, cause);
}

/// Both open until the change; then new connections are blocked, and the kept one reads `then`.
fn changed(mut scene: Scene, then: &Reading) -> Scene {
    scene.every(DENIED, 0, 1_000, 500, &open());
    scene.every(KEPT, 0, 1_000, 500, &open());
    change(&mut scene);
    scene.every(DENIED, 1_700, 7_200, 500, &silence());
    scene.every(KEPT, 1_500, 7_000, 500, then);
    scene
}

#[test]
fn connection_that_ends_with_the_change_is_proven_cut() {
    for then in [silence(), reset(), closed()] {
        let scene = changed(with_controls(), &then);
        assert_eq!(scene.deny(), Verdict::Proven, "{then:?}");
    }
}

#[test]
fn connection_that_goes_on_is_unproven_within_the_timeout_and_violated_after_it() {
    let mut scene = changed(with_controls(), &open());
    let judgement = scene.judge(0);
    assert!(
        matches!(judgement.verdict, Verdict::Unproven(_)) && !judgement.is_settled(),
        "{judgement:?}"
    );

    scene.every(KEPT, 7_500, 11_500, 500, &open());
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::StayedOpen { flow: KEPT, lasted, .. })
            if lasted >= std::time::Duration::from_secs(10)
    ));
}

#[test]
fn connection_that_comes_back_after_the_timeout_is_violated() {
    let mut scene = changed(with_controls(), &silence());
    scene.attempt(KEPT, 12_000, open());
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::StayedOpen { .. })
    ));
}

#[test]
fn run_without_a_change_is_unproven() {
    let mut scene = with_controls();
    scene.every(DENIED, 0, END, 500, &open());
    scene.every(KEPT, 0, END, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::NothingChanged));
}

#[test]
fn connection_that_was_not_open_before_the_change_is_unproven() {
    let mut denied_before = with_controls();
    denied_before.every(DENIED, 0, 1_000, 500, &silence());
    denied_before.every(KEPT, 0, 1_000, 500, &silence());
    assert_eq!(reason(&denied_before.deny()), Some(Reason::WasNotOpen));

    change(&mut denied_before);
    denied_before.every(DENIED, 1_700, 7_200, 500, &silence());
    denied_before.every(KEPT, 1_500, 7_000, 500, &silence());
    assert_eq!(reason(&denied_before.deny()), Some(Reason::WasNotOpen));

    let mut opened_after = with_controls();
    change(&mut opened_after);
    opened_after.every(DENIED, 1_700, 7_200, 500, &silence());
    opened_after.every(KEPT, 1_500, 2_000, 500, &open());
    opened_after.every(KEPT, 2_500, 7_000, 500, &silence());
    assert_eq!(reason(&opened_after.deny()), Some(Reason::WasNotOpen));
}

#[test]
fn connection_that_ended_long_before_the_change_is_unproven() {
    let mut scene = with_controls();
    scene.attempt(KEPT, 0, open());
    scene.every(KEPT, 500, 4_500, 500, &closed());
    scene.every(DENIED, 0, 4_500, 500, &open());
    let cause = Cause::Changed(ClusterChange::Namespace("shop".into()));
    scene.evidence.flows[DENIED.0 as usize].restart(4_600_000, 4_600_000, cause.clone());
    scene.evidence.flows[KEPT.0 as usize].note_change(4_600_000, cause);
    scene.every(DENIED, 5_000, END, 300, &silence());
    scene.every(KEPT, 5_000, END, 300, &closed());
    assert_eq!(reason(&scene.deny()), Some(Reason::WasNotOpen));
}

/// A control whose connection ends at the same time.
fn control_ends_too(then: &Reading) -> Scene {
    let mut scene = scene();
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        scene.every(flow, 0, END, 500, &open());
    }
    scene.every(KEPT_CONTROL, 0, 1_000, 500, &open());
    scene.every(KEPT_CONTROL, 1_500, END, 500, then);
    changed(scene, then)
}

#[test]
fn connections_that_the_target_closes_for_every_source_are_unproven() {
    for then in [closed(), reset()] {
        let scene = control_ends_too(&then);
        assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    }
}

#[test]
fn connections_that_all_fall_silent_while_the_target_answers_new_ones_are_proven_cut() {
    assert_eq!(control_ends_too(&silence()).deny(), Verdict::Proven);
}

#[test]
fn silence_of_a_source_that_cannot_send_is_unproven() {
    let scene = changed(with_controls(), &silence()).without(SOURCE_CONTROL);
    assert_eq!(reason(&scene.deny()), Some(Reason::SourceNotVerified));
}

#[test]
fn silence_of_a_target_that_is_gone_is_unproven() {
    let scene = changed(with_controls(), &silence())
        .without(TARGET_CONTROL)
        .without(KEPT_CONTROL);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn new_connection_after_the_change_violates() {
    let mut scene = changed(with_controls(), &silence());
    scene.attempt(DENIED, 7_700, open());
    assert!(matches!(
        scene.deny(),
        Verdict::Violated(Violation::DeniedFlowOpened {
            flow: DENIED,
            opened: 1,
            ..
        })
    ));
}

#[test]
fn connection_of_a_pod_that_was_replaced_is_unproven() {
    let mut scene = with_controls();
    scene.every(DENIED, 0, 1_000, 500, &open());
    scene.every(KEPT, 0, 1_000, 500, &open());
    change(&mut scene);
    let cause = Cause::Changed(ClusterChange::Pod("shop".into(), "postgres-0".into()));
    scene.evidence.flows[KEPT.0 as usize].replaced(1_100_000, 1_300_000, 1_300_000, cause);
    scene.every(DENIED, 1_700, 7_200, 500, &silence());
    scene.every(KEPT, 1_500, 7_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedDuringRun));
}

#[test]
fn kept_connection_is_no_path_control() {
    let mut scene = changed(with_controls(), &silence()).without(PATH_CONTROL);
    let flows = scene.plan.path_controls.values_mut();
    flows.for_each(|flows| *flows = vec![KEPT_CONTROL]);
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}
