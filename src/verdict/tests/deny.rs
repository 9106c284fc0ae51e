//! What a deny needs to be proven.

use super::super::SourceProof;
use super::*;
use crate::model::EnforcerCount;

#[test]
fn deny_with_all_five_conditions_is_proven_at_d2() {
    let judgement = Scene::good().judge(0);
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
fn deny_by_reset_with_a_control_is_proven_too() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &reset());
    assert_eq!(scene.deny(), Verdict::Proven);
}

/// One attempt in a hundred that was stopped otherwise is enough, however often the two alternate.
#[test]
fn deny_that_must_be_of_one_kind_is_unproven_where_any_sample_was_of_another() {
    let silent = || {
        let mut scene = Scene::good();
        scene.plan.checks[0].settings.mechanism = Some(Mechanism::Drop);
        scene
    };
    assert_eq!(silent().deny(), Verdict::Proven);
    for others in [1, 3, 12] {
        let mut scene = silent().without(DENIED);
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
            "it is blocked by drop and reset, not as the line demands"
        );
        scene.plan.checks[0].settings.mechanism = None;
        assert_eq!(scene.deny(), Verdict::Proven);
    }
}

#[test]
fn deny_without_a_control_is_unproven() {
    assert_eq!(
        reason(&Scene::good().without(CONTROL).deny()),
        Some(Reason::NoControlAnswered)
    );
}

#[test]
fn deny_whose_control_was_refused_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 0, 5_000, 500, &reset());
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn deny_whose_control_stopped_answering_half_way_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene
        .every(CONTROL, 0, 1_500, 500, &open())
        .every(CONTROL, 2_000, 5_000, 500, &reset());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_whose_control_paused_for_more_than_two_seconds_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene
        .every(CONTROL, 0, 1_500, 500, &open())
        .every(CONTROL, 3_600, 5_000, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_with_a_control_that_only_began_after_the_samples_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 4_300, 6_000, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn control_that_shook_hands_vouches_for_a_handshake_only() {
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 0, 5_000, 500, &handshake_only());
    assert_eq!(scene.deny(), Verdict::Proven);
    let deeper = Reading::Blocked(Block {
        passed: Some(Stage::Connect),
        stage: Stage::FirstBytes,
        how: Refusal::Wire(How::Closed),
        signature: None,
        by_target: false,
    });
    let mut scene = scene.without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &deeper);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn control_that_was_stopped_later_vouches_for_what_it_passed() {
    let unresolved = Reading::Blocked(Block {
        passed: None,
        stage: Stage::Resolve,
        how: Refusal::Wire(How::Silence),
        signature: None,
        by_target: false,
    });
    let resolved = Reading::Blocked(Block {
        passed: Some(Stage::Resolve),
        stage: Stage::Connect,
        how: Refusal::Wire(How::Error {
            errno: 111,
            icmp: None,
        }),
        signature: None,
        by_target: true,
    });
    let mut scene = Scene::good().without(DENIED).without(CONTROL);
    scene.plan.probes[1] = Source::ReferencePod {
        node: "node-1".into(),
    };
    scene
        .every(DENIED, 200, 4_200, 500, &unresolved)
        .every(CONTROL, 0, 5_000, 500, &resolved);
    assert_eq!(scene.deny(), Verdict::Proven);
    let mut scene = scene.without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn target_cannot_vouch_for_itself() {
    let mut scene = Scene::good();
    scene.plan.probes[1] = pod("postgres-0", "node-2");
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn source_cannot_vouch_for_its_own_target() {
    let mut scene = Scene::good();
    scene.plan.flows[1].probe = ProbeId(0);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn deny_from_a_source_that_nothing_reached_is_unproven() {
    assert_eq!(
        reason(&Scene::good().without(REACHED).deny()),
        Some(Reason::SourceNotVerified)
    );
}

#[test]
fn being_reached_is_no_excuse_for_a_source_whose_allowed_flows_fail() {
    let mut scene = Scene::good();
    let source_window = scene
        .plan
        .source_controls
        .get_mut(&(ProbeId(0), Family::V4, Transport::Tcp))
        .expect("there");
    source_window.allowed.push(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::SourceNotVerified));
    let mut scene = scene.without(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &open());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn what_got_out_before_the_source_was_known_does_not_stand_for_the_time_after() {
    let mut scene = Scene::good();
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
        reason(&scene.without(REACHED).deny()),
        Some(Reason::SourceNotVerified)
    );
}

#[test]
fn source_that_was_able_only_before_is_not_known_to_be_able() {
    let mut scene = Scene::good().without(REACHED);
    scene
        .every(REACHED, 0, 1_000, 500, &open())
        .every(REACHED, 1_500, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_over_a_path_that_nothing_crossed_is_unproven() {
    assert_eq!(
        reason(&Scene::good().without(CROSSING).deny()),
        Some(Reason::PathNotVerified)
    );
}

#[test]
fn deny_over_a_path_that_was_cut_half_way_is_unproven() {
    let mut scene = Scene::good().without(CROSSING).without(ALLOWED);
    scene
        .every(CROSSING, 0, 1_500, 500, &open())
        .every(CROSSING, 2_000, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}

#[test]
fn what_reached_a_nodes_own_address_says_nothing_of_its_pods() {
    let mut scene = Scene::good();
    let takers = scene
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
    scene.plan.path_controls = BTreeMap::from([(to_node, takers)]);
    assert_eq!(reason(&scene.deny()), Some(Reason::PathNotVerified));
}

/// The runner must not reach Service shop/postgres, whose one pod is on node-2. `OTHER` is what the
/// runner got to.
fn from_the_runner(other: TargetKind) -> Scene {
    let mut scene = Scene::good();
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
    let source_window = SourceControls {
        allowed: vec![OTHER],
        tried: vec![],
        reached: vec![],
    };
    scene
        .plan
        .source_controls
        .insert((ProbeId(0), Family::V4, Transport::Tcp), source_window);
    let path = |to| Path {
        from: None,
        to,
        family: Family::V4,
    };
    let mut ends = scene.plan.flows[5]
        .target_kind
        .path_ends(&scene.plan.flows[5]);
    if ends.len() > 2 {
        ends.retain(|end| *end == PathEnd::Services);
    }
    scene
        .plan
        .path_controls
        .extend(ends.into_iter().map(|end| (path(end), vec![OTHER])));
    scene.every(OTHER, 0, 5_000, 500, &open());
    scene
}

#[test]
fn service_that_the_runner_has_no_route_to_is_not_called_denied() {
    // A node answered the runner, and a pod did: neither shows a way to the Services' addresses.
    for other in [
        TargetKind::Node {
            name: "node-2".into(),
        },
        at("api-0", "node-2"),
    ] {
        let judgement = from_the_runner(other).judge(0);
        assert!(
            matches!(judgement.flows[0].verdict, FlowVerdict::LeftOut(_)),
            "{judgement:?}"
        );
        assert_eq!(reason(&judgement.verdict), Some(Reason::NotAttempted));
    }
}

#[test]
fn service_is_denied_to_a_runner_whom_another_service_answers() {
    let service = ObjectRef {
        namespace: "kube-system".into(),
        kind: "Service".into(),
        name: "kube-dns".into(),
    };
    let dns = |nodes: &[&str]| TargetKind::Service {
        service: service.clone(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        pods: vec![],
    };
    assert_eq!(from_the_runner(dns(&["node-2"])).deny(), Verdict::Proven);
    // Some Service answered, and nothing shows that its packets went to the pods' node.
    assert_eq!(
        reason(&from_the_runner(dns(&["node-1", "node-2"])).deny()),
        Some(Reason::PathNotVerified)
    );
    let mut scene = from_the_runner(dns(&["node-2"]));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn attempts_that_were_not_sent_are_neither_blocked_nor_open() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &unsent());
    assert_eq!(reason(&scene.deny()), Some(Reason::SendFailed));
}

#[test]
fn samples_before_one_that_was_not_sent_do_not_count() {
    let mut scene = Scene::good().without(DENIED);
    scene
        .every(DENIED, 200, 3_200, 500, &silence())
        .read(DENIED, 3_300, unsent())
        .every(DENIED, 3_500, 4_200, 200, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn fault_in_an_attempt_breaks_the_hold() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 2_200, 500, &silence());
    scene.fault(DENIED, 2_500, FaultReason::Resources);
    assert_eq!(reason(&scene.deny()), Some(Reason::ProbeFault));
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn starved_attempt_is_no_sample_and_interrupts_nothing() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 1_700, 500, &silence());
    for at in [2_200, 2_400, 2_600] {
        scene.fault(DENIED, at, FaultReason::Starved);
    }
    assert_eq!(
        reason(&scene.deny()),
        Some(Reason::ProbeCpuStarved),
        "four samples and three starved attempts are no six"
    );
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.fault(DENIED, 4_600, FaultReason::Starved);
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn control_that_was_starved_for_longer_than_two_seconds_vouches_for_nothing_across_that_time() {
    for (without, says) in [(0, Verdict::Proven), (1_500, Verdict::Proven)] {
        let mut scene = Scene::good().without(CONTROL);
        scene
            .every(CONTROL, 100, 2_000, 300, &open())
            .fault(CONTROL, 2_100, FaultReason::Starved);
        scene.every(CONTROL, 2_200 + without, 9_000, 300, &open());
        assert_eq!(scene.deny(), says, "{without} ms without a sample");
    }
    let mut scene = Scene::good().without(CONTROL);
    scene
        .every(CONTROL, 100, 1_900, 300, &open())
        .fault(CONTROL, 2_100, FaultReason::Starved);
    scene.every(CONTROL, 4_000, 9_000, 300, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deny_of_a_probe_that_failed_is_unproven() {
    let cases = [
        (ProbeFailure::Ended("killed".into()), Reason::ProbeFault),
        (ProbeFailure::Protocol("a hole".into()), Reason::ProbeFault),
        (ProbeFailure::Clocks("drift".into()), Reason::ClockSkew),
    ];
    for (failure, expected) in cases {
        let mut scene = Scene::good();
        scene.evidence.probes[0].failure = Some((4_300_000, failure));
        assert_eq!(reason(&scene.deny()), Some(expected));
    }
}

#[test]
fn control_of_a_probe_that_failed_vouches_for_nothing() {
    let mut scene = Scene::good();
    scene.evidence.probes[1].failure = Some((3_000_000, ProbeFailure::Ended("killed".into())));
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn too_few_samples_or_too_short_a_hold_is_unproven() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 2_200, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 2_100, 100, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewAttempts));
}

#[test]
fn deadline_shorter_than_ten_round_trips_is_unproven() {
    let mut scene = Scene::good();
    scene.plan.checks[0].settings.attempt_timeout = std::time::Duration::from_millis(3);
    assert_eq!(reason(&scene.deny()), Some(Reason::AttemptTimeoutTooShort));
}

#[test]
fn clocks_that_are_known_too_loosely_prove_nothing() {
    let mut scene = Scene::good();
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
fn demand_that_is_not_met_is_unproven() {
    let mut scene = Scene::good();
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
        "fewer packets than samples"
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
fn d1_needs_neither_source_nor_path() {
    let mut scene = Scene::good().without(REACHED).without(CROSSING);
    scene.plan.checks[0].settings.required_tier = RequiredTier::D1;
    assert_eq!(scene.deny(), Verdict::Proven);
    let mut scene = scene.without(CONTROL);
    scene.plan.checks[0].settings.required_tier = RequiredTier::D1;
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn unprovable_line_is_unproven_unless_it_opens() {
    let mut scene = Scene::good();
    scene.plan.checks[0].provability = Provability::Unprovable("why".into());
    assert_eq!(reason(&scene.deny()), Some(Reason::Unprovable));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn silence_of_a_pod_that_is_not_ready_does_not_count_and_its_opening_does() {
    let mut scene = Scene::good();
    if let TargetKind::Pod { ready, .. } = Arc::make_mut(&mut scene.plan.flows[0].target_kind) {
        *ready = false;
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::NotAttempted));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}
