//! The conditions of a proven deny.

use super::super::SourceProof;
use super::*;
use crate::model::EnforcerCount;

#[test]
fn deny_with_all_five_conditions_is_proven_at_d2() {
    let judgement = Scene::proven().judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!(proof.tier().to_string(), "D2");
    assert_eq!(proof.window().attempts, 9);
    assert_eq!(proof.window().power_percent(), 29);
    assert!(proof.source().is_some_and(SourceProof::by_being_reached));
    assert_eq!(
        judgement.reach.to_string(),
        "from 1 of 1 node, to 1 of 1 pod"
    );
}

#[test]
fn deny_by_reset_with_a_target_control_is_proven() {
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &reset());
    assert_eq!(scene.deny(), Verdict::Proven);
}

fn drop_required() -> Scene {
    let mut scene = Scene::proven();
    scene.plan.checks[0].settings.mechanism = Some(Mechanism::Drop);
    scene
}

/// One attempt that was stopped in another way is enough, however often the two alternate.
#[test]
fn deny_by_a_required_mechanism_is_unproven_where_any_attempt_was_blocked_by_another() {
    assert_eq!(drop_required().deny(), Verdict::Proven);
    for others in [1, 3, 12] {
        let mut scene = drop_required().without(DENIED);
        for nth in 0..30 {
            let is_other = nth < 2 * others && nth % 2 == 0;
            let at = 200 + nth * 133;
            scene.every(
                DENIED,
                at,
                at,
                500,
                &if is_other { reset() } else { silence() },
            );
        }
        let verdict = scene.deny();
        assert_eq!(
            reason(&verdict),
            Some(Reason::TierNotMet),
            "{others}: {verdict:?}"
        );
        let Verdict::Unproven(unproven) = verdict else {
            unreachable!("it has a reason")
        };
        assert_eq!(
            unproven.detail,
            "it is blocked by drop and reset, not as the line requires"
        );
        scene.plan.checks[0].settings.mechanism = None;
        assert_eq!(scene.deny(), Verdict::Proven);
    }
}

#[test]
fn deny_without_a_target_control_is_unproven() {
    assert_eq!(
        reason(&Scene::proven().without(TARGET_CONTROL).deny()),
        Some(Reason::NoControlAnswered)
    );
}

#[test]
fn deny_whose_target_control_was_refused_is_unproven() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 0, 5_000, 500, &reset());
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn deny_whose_target_control_stopped_half_way_is_unproven() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 0, 1_500, 500, &open()).every(
        TARGET_CONTROL,
        2_000,
        5_000,
        500,
        &reset(),
    );
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_whose_target_control_paused_for_more_than_two_seconds_is_unproven() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 0, 1_500, 500, &open()).every(
        TARGET_CONTROL,
        3_600,
        5_000,
        500,
        &open(),
    );
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_whose_target_control_began_after_the_attempts_is_unproven() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 4_300, 6_000, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn target_control_with_a_handshake_counts_for_the_handshake_only() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 0, 5_000, 500, &handshake_only());
    assert_eq!(scene.deny(), Verdict::Proven);
    let deeper = Reading::Blocked(Block {
        passed: Some(Stage::Connect),
        stage: Stage::FirstBytes,
        how: Refusal::Wire(StopCause::Closed),
        signature: None,
        by_target: false,
    });
    let mut scene = scene.without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &deeper);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn target_control_stopped_later_counts_for_the_stages_it_passed() {
    let unresolved = Reading::Blocked(Block {
        passed: None,
        stage: Stage::Resolve,
        how: Refusal::Wire(StopCause::Silence),
        signature: None,
        by_target: false,
    });
    let resolved = Reading::Blocked(Block {
        passed: Some(Stage::Resolve),
        stage: Stage::Connect,
        how: Refusal::Wire(StopCause::Error {
            errno: 111,
            icmp: None,
        }),
        signature: None,
        by_target: true,
    });
    let mut scene = Scene::proven().without(DENIED).without(TARGET_CONTROL);
    scene.plan.probes[1] = Source::ReferencePod {
        node: "node-1".into(),
    };
    scene.every(DENIED, 200, 4_200, 500, &unresolved).every(
        TARGET_CONTROL,
        0,
        5_000,
        500,
        &resolved,
    );
    assert_eq!(scene.deny(), Verdict::Proven);
    let mut scene = scene.without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn target_pod_is_no_target_control_of_itself() {
    let mut scene = Scene::proven();
    scene.plan.probes[1] = pod("postgres-0", "node-2");
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn source_is_no_target_control_of_its_own_deny() {
    let mut scene = Scene::proven();
    scene.plan.flows[1].probe = ProbeId(0);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn deny_without_a_source_control_is_unproven() {
    assert_eq!(
        reason(&Scene::proven().without(SOURCE_CONTROL).deny()),
        Some(Reason::SourceNotVerified)
    );
}

#[test]
fn source_whose_allowed_flows_fail_is_not_verified_by_being_reached() {
    let mut scene = Scene::proven();
    let source_controls = scene
        .plan
        .source_controls
        .get_mut(&(ProbeId(0), Family::V4, Transport::Tcp))
        .expect("there");
    source_controls.allowed.push(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::SourceNotVerified));
    let mut scene = scene.without(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &open());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn source_control_that_ended_early_leaves_only_the_node_that_reaches_the_source() {
    let mut scene = Scene::proven();
    scene
        .plan
        .source_controls
        .get_mut(&(ProbeId(0), Family::V4, Transport::Tcp))
        .expect("there")
        .tried
        .push(OTHER);
    scene
        .every(OTHER, 0, 0, 500, &open())
        .every(OTHER, 500, 5_000, 500, &silence());
    assert_eq!(
        scene.deny(),
        Verdict::Proven,
        "its node reaches it all the time"
    );
    assert_eq!(
        reason(&scene.without(SOURCE_CONTROL).deny()),
        Some(Reason::SourceNotVerified)
    );
}

#[test]
fn deny_whose_source_control_stopped_half_way_is_unproven() {
    let mut scene = Scene::proven().without(SOURCE_CONTROL);
    scene.every(SOURCE_CONTROL, 0, 1_000, 500, &open()).every(
        SOURCE_CONTROL,
        1_500,
        5_000,
        500,
        &silence(),
    );
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_without_a_path_control_is_unproven() {
    assert_eq!(
        reason(&Scene::proven().without(PATH_CONTROL).deny()),
        Some(Reason::PathNotVerified)
    );
}

#[test]
fn deny_whose_path_control_stopped_half_way_is_unproven() {
    let mut scene = Scene::proven().without(PATH_CONTROL).without(ALLOWED);
    scene.every(PATH_CONTROL, 0, 1_500, 500, &open()).every(
        PATH_CONTROL,
        2_000,
        5_000,
        500,
        &silence(),
    );
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}

#[test]
fn path_control_to_a_node_says_nothing_of_the_path_to_its_pods() {
    let mut scene = Scene::proven();
    let flows = scene
        .plan
        .path_controls
        .values()
        .next()
        .expect("one")
        .clone();
    let to_node = Path {
        from: Some("node-1".into()),
        to: PathEnd::Node("node-2".into()),
        family: Family::V4,
    };
    scene.plan.path_controls = BTreeMap::from([(to_node, flows)]);
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}

/// The runner must not reach Service shop/postgres, whose one pod is on node-2. `OTHER` is a flow
/// of the runner that got through.
fn from_the_runner(other: TargetKind) -> Scene {
    let mut scene = Scene::proven();
    scene.plan.checks[0].scope = Scope::default();
    scene.plan.probes[0] = Source::Runner;
    let service = ObjectRef {
        namespace: "shop".into(),
        kind: "Service".into(),
        name: "postgres".into(),
    };
    let pods = vec!["shop/postgres-0".to_owned()];
    scene.plan.flows[0].target_kind = TargetKind::Service {
        service,
        nodes: vec!["node-2".into()],
        pods,
    }
    .into();
    scene.plan.flows[5].target_kind = other.into();
    let source_controls = source_controls(vec![OTHER], vec![]);
    scene
        .plan
        .source_controls
        .insert((ProbeId(0), Family::V4, Transport::Tcp), source_controls);
    let mut ends = scene.plan.flows[5]
        .target_kind
        .path_ends(&scene.plan.flows[5]);
    if ends.len() > 2 {
        ends.retain(|end| *end == PathEnd::Services);
    }
    for to in ends {
        let path = Path {
            from: None,
            to,
            family: Family::V4,
        };
        scene.plan.path_controls.insert(path, vec![OTHER]);
    }
    scene.every(OTHER, 0, 5_000, 500, &open());
    scene
}

#[test]
fn service_deny_from_a_runner_without_a_route_is_left_out() {
    // A node answered the runner, and a pod did: neither shows a way to the Services' addresses.
    for other in [
        TargetKind::Node {
            name: "node-2".into(),
        },
        target_pod("api-0", "node-2"),
    ] {
        let judgement = from_the_runner(other).judge(0);
        assert!(
            matches!(judgement.flows[0].verdict, FlowVerdict::LeftOut(_)),
            "{judgement:?}"
        );
        assert_eq!(reason(&judgement.verdict), Some(Reason::NotAttempted));
    }
}

fn dns(nodes: &[&str]) -> TargetKind {
    TargetKind::Service {
        service: ObjectRef {
            namespace: "kube-system".into(),
            kind: "Service".into(),
            name: "kube-dns".into(),
        },
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        pods: vec![],
    }
}

#[test]
fn service_deny_from_a_runner_that_reaches_another_service_is_proven() {
    let mut scene = from_the_runner(dns(&["node-2"]));
    scene.plan.checks[0].scope = Scope::default();
    assert_eq!(scene.deny(), Verdict::Proven);
    // Some Service answered, and nothing shows that its packets went to the pods' node.
    assert_eq!(
        reason(&from_the_runner(dns(&["node-1", "node-2"])).deny()),
        Some(Reason::PathNotVerified)
    );
    let mut scene = from_the_runner(dns(&["node-2"]));
    scene.attempt(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn deny_whose_attempts_were_not_sent_is_unproven() {
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &not_sent());
    assert_eq!(reason(&scene.deny()), Some(Reason::SendFailed));
}

#[test]
fn attempts_before_one_that_was_not_sent_do_not_count() {
    let mut scene = Scene::proven().without(DENIED);
    scene
        .every(DENIED, 200, 3_200, 500, &silence())
        .attempt(DENIED, 3_300, not_sent())
        .every(DENIED, 3_500, 4_200, 200, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn fault_in_an_attempt_restarts_the_hold() {
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 2_200, 500, &silence());
    scene.fault(DENIED, 2_500, FaultReason::Resources);
    assert_eq!(reason(&scene.deny()), Some(Reason::ProbeFault));
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn attempt_without_cpu_time_neither_counts_nor_interrupts() {
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 1_700, 500, &silence());
    for at in [2_200, 2_400, 2_600] {
        scene.fault(DENIED, at, FaultReason::Starved);
    }
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::ProbeCpuStarved),
        "four attempts and three without processor time are not six"
    );
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.fault(DENIED, 4_600, FaultReason::Starved);
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn target_control_without_cpu_time_for_more_than_two_seconds_does_not_span_that_time() {
    for (pause, expected) in [(0, Verdict::Proven), (1_500, Verdict::Proven)] {
        let mut scene = Scene::proven().without(TARGET_CONTROL);
        scene.every(TARGET_CONTROL, 100, 2_000, 300, &open()).fault(
            TARGET_CONTROL,
            2_100,
            FaultReason::Starved,
        );
        scene.every(TARGET_CONTROL, 2_200 + pause, 9_000, 300, &open());
        assert_eq!(scene.deny(), expected, "{pause} ms without an attempt");
    }
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    scene.every(TARGET_CONTROL, 100, 1_900, 300, &open()).fault(
        TARGET_CONTROL,
        2_100,
        FaultReason::Starved,
    );
    scene.every(TARGET_CONTROL, 4_000, 9_000, 300, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_of_a_failed_probe_is_unproven() {
    let cases = [
        (ProbeFailure::Ended("killed".into()), Reason::ProbeFault),
        (ProbeFailure::Protocol("a hole".into()), Reason::ProbeFault),
        (ProbeFailure::Clocks("drift".into()), Reason::ClockSkew),
    ];
    for (failure, expected) in cases {
        let mut scene = Scene::proven();
        scene.evidence.probes[0].failure = Some((4_300_000, failure));
        assert_eq!(reason(&scene.deny()), Some(expected));
    }
}

#[test]
fn target_control_of_a_failed_probe_does_not_count() {
    let mut scene = Scene::proven();
    scene.evidence.probes[1].failure = Some((3_000_000, ProbeFailure::Ended("killed".into())));
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn deny_with_too_few_attempts_or_too_short_a_hold_is_unproven() {
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 2_200, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
    let mut scene = Scene::proven().without(DENIED);
    scene.every(DENIED, 200, 2_100, 100, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_with_a_timeout_below_ten_round_trips_is_unproven() {
    let mut scene = Scene::proven();
    scene.plan.checks[0].settings.attempt_timeout = std::time::Duration::from_millis(3);
    assert_eq!(reason(&scene.deny()), Some(Reason::AttemptTimeoutTooShort));
}

#[test]
fn deny_with_a_loosely_known_clock_is_unproven() {
    let mut scene = Scene::proven();
    scene.evidence.probes[1].clock = Some(Clock {
        least: -2_000_000,
        most: 2_000_000,
    });
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
    scene.evidence.probes[1].clock = Some(Clock {
        least: -100_000,
        most: 100_000,
    });
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn deny_below_its_required_tier_is_unproven() {
    let mut scene = Scene::proven();
    scene.plan.checks[0].settings.required_tier = RequiredTier::D2SameNode;
    assert_eq!(reason(&scene.deny()), Some(Reason::TierNotMet));
    scene.every(ALLOWED, 0, 5_000, 500, &open());
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.plan.checks[0].settings.required_tier = RequiredTier::D2Counter;
    assert_eq!(reason(&scene.deny()), Some(Reason::TierNotMet));
    scene.evidence.counters.insert(
        DENIED,
        EnforcerCount {
            packets: 3,
            rule: "deny".into(),
        },
    );
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::TierNotMet),
        "fewer packets than attempts"
    );
    scene.evidence.counters.insert(
        DENIED,
        EnforcerCount {
            packets: 18,
            rule: "deny".into(),
        },
    );
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn deny_at_d1_needs_neither_source_nor_path_control() {
    let mut scene = Scene::proven()
        .without(SOURCE_CONTROL)
        .without(PATH_CONTROL);
    scene.plan.checks[0].settings.required_tier = RequiredTier::D1;
    assert_eq!(scene.deny(), Verdict::Proven);
    let mut scene = scene.without(TARGET_CONTROL);
    scene.plan.checks[0].settings.required_tier = RequiredTier::D1;
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn unprovable_deny_is_unproven_unless_it_opens() {
    let mut scene = Scene::proven();
    scene.plan.checks[0].provability = Provability::Unprovable("why".into());
    assert_eq!(reason(&scene.deny()), Some(Reason::Unprovable));
    scene.attempt(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn deny_to_a_pod_that_is_not_ready_is_left_out_unless_it_opens() {
    let mut scene = Scene::proven();
    if let TargetKind::Pod { ready, .. } = Arc::make_mut(&mut scene.plan.flows[0].target_kind) {
        *ready = false;
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::NotAttempted));
    scene.attempt(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

/// The policies admit a pod to the target, and the scene's controls are nodes.
fn with_strong_controls_required() -> Scene {
    let mut scene = Scene::proven();
    scene.plan.weaker_controls.clear();
    scene
}

#[test]
fn deny_that_only_nodes_contradict_is_unproven_where_the_policies_admit_a_pod() {
    let scene = with_strong_controls_required();
    assert_eq!(reason(&scene.deny()), Some(Reason::NoPodGotThrough));
}

#[test]
fn deny_by_the_controls_of_pods_is_proven() {
    let mut scene = with_strong_controls_required();
    for flow in [ALLOWED, OTHER] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::SourceNotVerified),
        "only its node reaches the source"
    );
    let own = SourceControls {
        tried: vec![OTHER],
        ..source_controls(vec![], vec![SOURCE_CONTROL])
    };
    scene
        .plan
        .source_controls
        .insert((ProbeId(0), Family::V4, Transport::Tcp), own);
    let judgement = scene.judge(0);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    assert_eq!(proof.control().flow(), ALLOWED);
    assert_eq!(*proof.weaker(), WeakerProof::default());
}

#[test]
fn deny_without_a_pods_path_control_is_unproven_where_the_policies_admit_one() {
    let mut scene = Scene::proven();
    let weaker = scene.plan.weaker_controls.get_mut(&DENIED);
    weaker.expect("the scene has weaker controls").paths.clear();
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}

#[test]
fn proof_by_weaker_controls_says_why_they_are_enough() {
    let judgement = Scene::proven().judge(0);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else {
        panic!("{judgement:?}")
    };
    let WeakerProof {
        target,
        source,
        path,
    } = proof.weaker();
    assert!(target.is_some() && source.is_some() && path.is_some());
}

#[test]
fn deny_whose_source_control_opened_only_at_both_ends_is_unproven() {
    let mut scene = Scene::proven().without(SOURCE_CONTROL);
    scene
        .attempt(SOURCE_CONTROL, 0, open())
        .every(SOURCE_CONTROL, 500, 4_500, 500, &silence())
        .attempt(SOURCE_CONTROL, 5_000, open());
    assert_eq!(reason(&scene.deny()), Some(Reason::SourceNotVerified));
}

#[test]
fn control_that_lost_one_attempt_in_ten_alone_still_counts() {
    for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
        let mut scene = Scene::proven().without(flow);
        scene
            .every(flow, 0, 2_000, 500, &open())
            .attempt(flow, 2_500, silence())
            .every(flow, 3_000, 5_000, 500, &open());
        assert_eq!(scene.deny(), Verdict::Proven, "one of eleven");

        let mut scene = Scene::proven().without(flow);
        scene
            .every(flow, 0, 1_500, 500, &open())
            .every(flow, 2_000, 2_500, 500, &silence())
            .every(flow, 3_000, 5_000, 500, &open());
        assert_ne!(scene.deny(), Verdict::Proven, "two in a row");

        let mut scene = Scene::proven().without(flow);
        scene
            .every(flow, 0, 1_000, 500, &open())
            .attempt(flow, 1_500, silence())
            .every(flow, 2_000, 3_000, 500, &open())
            .attempt(flow, 3_500, silence())
            .every(flow, 4_000, 5_000, 500, &open());
        assert_ne!(scene.deny(), Verdict::Proven, "two of eleven");
    }
}

#[test]
fn control_with_one_slow_handshake_is_judged_by_its_median() {
    let mut scene = Scene::proven().without(TARGET_CONTROL);
    for n in 1..=11_u32 {
        let us = if n == 4 { 1_010_000 } else { 400 };
        scene.evidence.flows[1]
            .attempt(
                n,
                u64::from(n - 1) * 500_000,
                open(),
                StageTimes::of(&[(Stage::Connect, us)]),
                None,
            )
            .expect("in order");
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}
