//! The rules, as sentences over timelines.

use super::evidence::{Disturbed, EnforcerRecord, Evidence, ProbeFailure};
use super::moment::Clock;
use super::reading::{AllowTier, Block, Opening, Reading, Refusal, Signature};
use super::streak::StageTimes;
use super::timeline::Cause;
use super::{FlowVerdict, Judge, Judgement, Reason, Verdict, Violation, concerns, judge};
use crate::model::{Family, ObjectRef};
use crate::plan::{
    Able, Check, Environment, Flow, FlowId, LineRef, Party, Path, PathEnd, Plan, ProbeId, Scope, Standing, TargetKey,
    Terms, Vantage, Waits,
};
use crate::suite::{Demand, Expected, Mechanism, Settings};
use crate::wire::{FaultReason, How, Linger, Observation, Request, Stage, Stop, Transport};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DENIED: FlowId = FlowId(0);
const CONTROL: FlowId = FlowId(1);
const REACHED: FlowId = FlowId(2);
const CROSSING: FlowId = FlowId(3);
const ALLOWED: FlowId = FlowId(4);
const OTHER: FlowId = FlowId(5);

/// web on node-1 must not reach postgres on node-2; api on node-1 may. node-2 is the control, node-1 reaches web and
/// node-2. `OTHER` is something that web is allowed to open.
struct Scene {
    plan: Plan,
    evidence: Evidence,
    next: BTreeMap<u32, u32>,
}

fn pod(name: &str, node: &str) -> Vantage {
    Vantage::Pod { namespace: "shop".into(), name: name.into(), node: node.into() }
}

fn at(name: &str, node: &str) -> Party {
    Party::Pod { namespace: "shop".into(), name: name.into(), node: node.into(), ready: true, host_network: false }
}

fn key(address: &str, port: u16) -> TargetKey {
    TargetKey {
        address: address.parse().expect("address"),
        name: None,
        port,
        transport: Transport::Tcp,
        request: Request::Nonce,
        once: false,
    }
}

fn check(name: &str, expected: Expected, flow: FlowId) -> Check {
    let none = Settings::default();
    Check {
        name: name.into(),
        suite: 0,
        source: "a".into(),
        target: "b".into(),
        expected,
        line: LineRef {
            file: "s".into(),
            line: 1,
            column: 1,
            text: String::new(),
            because: None,
            tags: vec![],
            id: None,
        },
        terms: Terms::of(expected, &none, Environment::Lab, Demand::A2),
        flows: vec![flow],
        retired: vec![],
        scope: Scope { source_nodes: 1, target_pods: 1 },
        standing: Standing::Provable,
        prediction: None,
    }
}

impl Scene {
    fn new() -> Self {
        let node = |name: &str| Vantage::Node { name: name.into() };
        let probes = vec![pod("web-0", "node-1"), node("node-2"), node("node-1"), pod("api-0", "node-1")];
        let flow = |probe, to: TargetKey, party: Party| Flow {
            probe: ProbeId(probe),
            to: to.into(),
            party: party.into(),
            opens_at: Stage::Connect,
            waits: Waits::default(),
        };
        let postgres = || key("10.0.2.1", 5432);
        let flows = vec![
            flow(0, postgres(), at("postgres-0", "node-2")),
            flow(1, postgres(), at("postgres-0", "node-2")),
            flow(2, key("10.0.1.1", 65533), at("web-0", "node-1")),
            flow(2, key("10.0.2.254", 10250), Party::Witness { node: "node-2".into() }),
            flow(3, postgres(), at("postgres-0", "node-2")),
            flow(0, key("10.0.1.9", 8080), at("cache-0", "node-1")),
        ];
        let path = Path { from: Some("node-1".into()), to: PathEnd::Pods("node-2".into()), family: Family::V4 };
        let able = |allowed: Vec<FlowId>, reached: Vec<FlowId>| Able { allowed, tried: vec![], reached };
        let plan = Plan {
            suites: vec![],
            checks: vec![
                check("web -> postgres denied", Expected::Denied, DENIED),
                check("api -> postgres allowed", Expected::Allowed, ALLOWED),
            ],
            swept: vec![],
            rates: vec![],
            crowds: BTreeMap::new(),
            resolvers: vec![],
            listen: None,
            strangers: false,
            probes,
            vouchers: BTreeMap::from([(postgres(), vec![ALLOWED, CONTROL])]),
            composites: BTreeMap::new(),
            able: BTreeMap::from([
                ((ProbeId(0), Family::V4, Transport::Tcp), able(vec![], vec![REACHED])),
                ((ProbeId(3), Family::V4, Transport::Tcp), able(vec![ALLOWED], vec![CROSSING])),
            ]),
            paths: BTreeMap::from([(path, vec![CROSSING, ALLOWED])]),
            flows,
            created: BTreeSet::new(),
            inside: BTreeSet::new(),
            arming: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            predicted: BTreeMap::new(),
            coverage: None,
            notes: vec![],
        };
        let mut evidence = Evidence::of(&plan);
        for probe in &mut evidence.probes {
            probe.clock = Some(Clock::shared(0));
        }
        Self { plan, evidence, next: BTreeMap::new() }
    }

    fn read(&mut self, flow: FlowId, millis: u64, reading: Reading) -> &mut Self {
        let attempt = self.next.entry(flow.0).or_default();
        *attempt += 1;
        self.evidence.flows[flow.0 as usize]
            .sample(*attempt, millis * 1_000, reading, StageTimes::of(&[(Stage::Connect, 400)]), None)
            .expect("in order");
        self
    }

    fn fault(&mut self, flow: FlowId, millis: u64, reason: FaultReason) -> &mut Self {
        let attempt = self.next.entry(flow.0).or_default();
        *attempt += 1;
        let seen = &mut self.evidence.flows[flow.0 as usize];
        seen.fault(*attempt, millis * 1_000, reason).expect("in order");
        self
    }

    fn every(&mut self, flow: FlowId, from: u64, to: u64, step: u64, reading: &Reading) -> &mut Self {
        let mut millis = from;
        while millis <= to {
            self.read(flow, millis, reading.clone());
            millis += step;
        }
        self
    }

    /// Everything as it should be: six blocked samples and more, from 0.2 s to 4.2 s, all four vouchers open.
    fn good() -> Self {
        let mut scene = Self::new();
        scene.every(DENIED, 200, 4_200, 500, &silence());
        for flow in [CONTROL, REACHED, CROSSING] {
            scene.every(flow, 0, 5_000, 500, &open());
        }
        scene
    }

    fn without(mut self, flow: FlowId) -> Self {
        self.evidence.flows[flow.0 as usize] = super::FlowEvidence::default();
        self.next.remove(&flow.0);
        self
    }

    /// Judges a check, and holds the short way to tell whether it is settled against the long one.
    fn judge(&self, index: usize) -> Judgement {
        let check = &self.plan.checks[index];
        let judgement = judge(&self.plan, check, &self.evidence);
        let awaited = Judge::new(&self.plan, &self.evidence).awaits(check, 0);
        let left_out = judgement.flows.iter().any(|flow| matches!(flow.verdict, FlowVerdict::LeftOut(_)));
        // What is left out may be awaited for a few samples more.
        assert!(awaited.is_none() == judgement.is_settled() || left_out && judgement.is_settled(), "{judgement:?}");
        judgement
    }

    fn deny(&self) -> Verdict {
        self.judge(0).verdict
    }

    fn allow(&self) -> Verdict {
        self.judge(1).verdict
    }
}

fn open() -> Reading {
    Reading::Open(Opening { tier: AllowTier::A2, passed: Stage::FirstBytes, then: None })
}

fn handshake_only() -> Reading {
    let then = Some(Stop { stage: Stage::FirstBytes, how: How::Silence });
    Reading::Open(Opening { tier: AllowTier::A0, passed: Stage::Connect, then })
}

fn blocked(how: How, by_target: bool) -> Reading {
    Reading::Blocked(Block { passed: None, stage: Stage::Connect, how: Refusal::Wire(how), signature: None, by_target })
}

fn silence() -> Reading {
    blocked(How::Silence, false)
}

fn reset() -> Reading {
    blocked(How::Error { errno: 111, icmp: None }, true)
}

fn unsent() -> Reading {
    Reading::NotSent(Stop { stage: Stage::Connect, how: How::Error { errno: 101, icmp: None } })
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Unproven(unproven) => Some(unproven.reason),
        Verdict::Proven | Verdict::Violated(_) => None,
    }
}

#[test]
fn deny_with_all_five_conditions_is_proven_at_d2() {
    let judgement = Scene::good().judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
    assert_eq!(proof.tier().to_string(), "D2");
    assert_eq!(proof.window().samples, 9);
    assert_eq!(proof.window().power_percent(), 29);
    assert!(proof.source().is_some_and(super::SourceProof::by_being_reached));
    assert_eq!(judgement.reach.to_string(), "from 1 of 1 node, to 1 of 1 pod");
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
        scene.plan.checks[0].terms.mechanism = Some(Mechanism::Drop);
        scene
    };
    assert_eq!(silent().deny(), Verdict::Proven);
    for others in [1, 3, 12] {
        let mut scene = silent().without(DENIED);
        for nth in 0..30 {
            let is_other = nth < 2 * others && nth % 2 == 0;
            let at = 200 + nth * 133;
            scene.every(DENIED, at, at, 500, &if is_other { reset() } else { silence() });
        }
        let verdict = scene.deny();
        assert_eq!(reason(&verdict), Some(Reason::DemandNotMet), "{others}: {verdict:?}");
        let Verdict::Unproven(unproven) = verdict else { unreachable!("it has a reason") };
        assert_eq!(unproven.detail, "it is blocked by drop and reset, not as the line demands");
        scene.plan.checks[0].terms.mechanism = None;
        assert_eq!(scene.deny(), Verdict::Proven);
    }
}

#[test]
fn deny_without_a_control_is_unproven() {
    assert_eq!(reason(&Scene::good().without(CONTROL).deny()), Some(Reason::NoControlAnswered));
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
    scene.every(CONTROL, 0, 1_500, 500, &open()).every(CONTROL, 2_000, 5_000, 500, &reset());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn deny_whose_control_paused_for_more_than_two_seconds_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 0, 1_500, 500, &open()).every(CONTROL, 3_600, 5_000, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn deny_with_a_control_that_only_began_after_the_samples_is_unproven() {
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 4_300, 6_000, 500, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
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
        how: Refusal::Wire(How::Error { errno: 111, icmp: None }),
        signature: None,
        by_target: true,
    });
    let mut scene = Scene::good().without(DENIED).without(CONTROL);
    scene.plan.probes[1] = Vantage::Witness { node: "node-1".into() };
    scene.every(DENIED, 200, 4_200, 500, &unresolved).every(CONTROL, 0, 5_000, 500, &resolved);
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
    assert_eq!(reason(&Scene::good().without(REACHED).deny()), Some(Reason::SourceNotAble));
}

#[test]
fn being_reached_is_no_excuse_for_a_source_whose_allowed_flows_fail() {
    let mut scene = Scene::good();
    let able = scene.plan.able.get_mut(&(ProbeId(0), Family::V4, Transport::Tcp)).expect("there");
    able.allowed.push(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::SourceNotAble));
    let mut scene = scene.without(OTHER);
    scene.every(OTHER, 0, 5_000, 500, &open());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn what_got_out_before_the_source_was_known_does_not_stand_for_the_time_after() {
    let mut scene = Scene::good();
    scene.plan.able.get_mut(&(ProbeId(0), Family::V4, Transport::Tcp)).expect("there").tried.push(OTHER);
    scene.every(OTHER, 0, 0, 500, &open()).every(OTHER, 500, 5_000, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven, "its node reaches it all the time");
    assert_eq!(reason(&scene.without(REACHED).deny()), Some(Reason::SourceNotAble));
}

#[test]
fn source_that_was_able_only_before_is_not_known_to_be_able() {
    let mut scene = Scene::good().without(REACHED);
    scene.every(REACHED, 0, 1_000, 500, &open()).every(REACHED, 1_500, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn deny_over_a_path_that_nothing_crossed_is_unproven() {
    assert_eq!(reason(&Scene::good().without(CROSSING).deny()), Some(Reason::NothingCrossed));
}

#[test]
fn deny_over_a_path_that_was_cut_half_way_is_unproven() {
    let mut scene = Scene::good().without(CROSSING).without(ALLOWED);
    scene.every(CROSSING, 0, 1_500, 500, &open()).every(CROSSING, 2_000, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::NothingCrossed));
}

#[test]
fn what_reached_a_nodes_own_address_says_nothing_of_its_pods() {
    let mut scene = Scene::good();
    let takers = scene.plan.paths.values().next().expect("one").clone();
    let to_node = Path { from: Some("node-1".into()), to: PathEnd::Node("node-2".into()), family: Family::V4 };
    scene.plan.paths = BTreeMap::from([(to_node, takers)]);
    assert_eq!(reason(&scene.deny()), Some(Reason::NothingCrossed));
}

/// The runner must not reach Service shop/postgres, whose one pod is on node-2. `OTHER` is what the runner got to.
fn from_the_runner(other: Party) -> Scene {
    let mut scene = Scene::good();
    scene.plan.probes[0] = Vantage::Runner;
    let service = ObjectRef { namespace: "shop".into(), kind: "Service".into(), name: "postgres".into() };
    let pods = vec!["shop/postgres-0".to_owned()];
    scene.plan.flows[0].party = Party::Service { service, nodes: vec!["node-2".into()], pods }.into();
    scene.plan.flows[5].party = other.into();
    let able = Able { allowed: vec![OTHER], tried: vec![], reached: vec![] };
    scene.plan.able.insert((ProbeId(0), Family::V4, Transport::Tcp), able);
    let path = |to| Path { from: None, to, family: Family::V4 };
    let mut ends = scene.plan.flows[5].party.ends(&scene.plan.flows[5]);
    if ends.len() > 2 {
        ends.retain(|end| *end == PathEnd::Services);
    }
    scene.plan.paths.extend(ends.into_iter().map(|end| (path(end), vec![OTHER])));
    scene.every(OTHER, 0, 5_000, 500, &open());
    scene
}

#[test]
fn service_that_the_runner_has_no_route_to_is_not_called_denied() {
    // A node answered the runner, and a pod did: neither shows a way to the Services' addresses.
    for other in [Party::Node { name: "node-2".into() }, at("api-0", "node-2")] {
        let judgement = from_the_runner(other).judge(0);
        assert!(matches!(judgement.flows[0].verdict, FlowVerdict::LeftOut(_)), "{judgement:?}");
        assert_eq!(reason(&judgement.verdict), Some(Reason::NotSampled));
    }
}

#[test]
fn service_is_denied_to_a_runner_whom_another_service_answers() {
    let service = ObjectRef { namespace: "kube-system".into(), kind: "Service".into(), name: "kube-dns".into() };
    let dns = |nodes: &[&str]| Party::Service {
        service: service.clone(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        pods: vec![],
    };
    assert_eq!(from_the_runner(dns(&["node-2"])).deny(), Verdict::Proven);
    // Some Service answered, and nothing shows that its packets went to the pods' node.
    assert_eq!(reason(&from_the_runner(dns(&["node-1", "node-2"])).deny()), Some(Reason::NothingCrossed));
    let mut scene = from_the_runner(dns(&["node-2"]));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn deny_that_opened_once_is_violated_whatever_else_is_missing() {
    for missing in [CONTROL, REACHED, CROSSING] {
        let mut scene = Scene::good().without(missing);
        scene.read(DENIED, 4_700, open());
        assert!(
            matches!(scene.deny(), Verdict::Violated(Violation::Opened { opened: 1, attempts: 10, .. })),
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
        scene.read(DENIED, 200 + n * 20, if n % 2 == 0 { silence() } else { reset() });
    }
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert!(matches!(scene.deny(), Verdict::Violated(Violation::Opened { opened: 1, attempts: 61, .. })));
}

fn replaced(name: &str) -> Cause {
    Cause::Changed(Disturbed::Pod("shop".into(), name.into()))
}

#[test]
fn opening_while_a_pod_is_replaced_is_neither_a_violation_nor_forgotten() {
    let mut scene = Scene::new();
    scene.every(DENIED, 200, 1_200, 500, &silence()).read(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene.read(DENIED, 2_900, open()).every(DENIED, 3_200, 9_000, 500, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 10_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedUnderUs));
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
    scene.every(DENIED, 200, 1_200, 500, &silence()).read(DENIED, 1_700, open());
    scene.evidence.flows[0].replaced(1_000_000, 3_000_000, 3_000_000, replaced("postgres-0"));
    scene.evidence.flows[0].beat(9, 3_500_000).expect("in order");
    assert!(matches!(scene.deny(), Verdict::Violated(Violation::Opened { opened: 6, attempts: 9, .. })));
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
    assert!(matches!(retired(500), Verdict::Violated(Violation::Opened { flow: OTHER, .. })));
    assert_eq!(reason(&retired(2_000)), Some(Reason::ChangedUnderUs));
    assert_eq!(retired(3_500), Verdict::Proven);
}

/// All flows begin anew at this time, as when the policies of their namespace changed.
fn restart(scene: &mut Scene, millis: u64) {
    for flow in &mut scene.evidence.flows {
        let what = Disturbed::Policy("shop".into(), "any".into());
        flow.restart(millis * 1_000, millis as i64 * 1_000, Cause::Changed(what));
    }
}

#[test]
fn samples_before_a_change_do_not_count() {
    let mut scene = Scene::good();
    restart(&mut scene, 4_500);
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedUnderUs));
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
        let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
        assert_eq!(u64::from(proof.restarts()), n);
        assert!(proof.window().from.earliest >= n as i64 * 5_000_000 - 500_000, "{:?}", proof.window());
        restart(&mut scene, n * 5_000 + 4_600);
    }
    all(&mut scene, 20_000, 24_500);
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedUnderUs), "a fourth change is one too many");
}

#[test]
fn changes_that_are_noticed_together_are_one() {
    let mut scene = Scene::new();
    for millis in [1_000, 1_200, 1_900] {
        restart(&mut scene, millis);
    }
    assert_eq!(scene.evidence.flows[0].restarts.as_ref().map(|restarts| restarts.count), Some(1));
    restart(&mut scene, 2_100);
    assert_eq!(scene.evidence.flows[0].restarts.as_ref().map(|restarts| restarts.count), Some(2));
}

#[test]
fn attempt_that_started_before_a_change_counts_for_nothing_though_it_ended_after() {
    let mut scene = Scene::new();
    restart(&mut scene, 2_000);
    scene.every(DENIED, 200, 1_900, 100, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 5_000, 500, &open());
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::ChangedUnderUs));
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
    assert_eq!(reason(&scene.allow()), Some(Reason::ChangedUnderUs));
    scene.every(ALLOWED, 2_500, 3_000, 500, &silence()).every(ALLOWED, 3_500, 4_500, 500, &open());
    let judgement = scene.judge(1);
    let FlowVerdict::Allowed(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
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
    assert!(matches!(scene.allow(), Verdict::Violated(Violation::Shut { .. })));
}

#[test]
fn probe_that_stood_still_begins_anew_and_is_starved_without_enough_samples() {
    let mut scene = Scene::good();
    scene.evidence.flows[0].restart(3_000_000, 3_000_000, Cause::Stalled(1_500));
    assert_eq!(reason(&scene.deny()), Some(Reason::Starved));
    scene.every(DENIED, 4_700, 7_500, 300, &silence());
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 5_500, 8_000, 500, &open());
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn change_concerns_the_flows_between_its_objects() {
    let plan = Scene::new().plan;
    let relevant = [
        Disturbed::Pod("shop".into(), "web-0".into()),
        Disturbed::Pod("shop".into(), "postgres-0".into()),
        Disturbed::Namespace("shop".into()),
        Disturbed::Policy("shop".into(), "any".into()),
        Disturbed::Policy(String::new(), "of-the-cluster".into()),
    ];
    for what in relevant {
        assert!(concerns(&plan, DENIED, &what), "{what}");
    }
    let elsewhere = [
        Disturbed::Pod("shop".into(), "cart-0".into()),
        Disturbed::Namespace("data".into()),
        Disturbed::Policy("data".into(), "any".into()),
        Disturbed::Service("shop".into(), "postgres".into()),
    ];
    for what in elsewhere {
        assert!(!concerns(&plan, DENIED, &what), "{what}");
    }
}

#[test]
fn attempts_that_were_not_sent_are_neither_blocked_nor_open() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 4_200, 500, &unsent());
    assert_eq!(reason(&scene.deny()), Some(Reason::CouldNotSend));
}

#[test]
fn samples_before_one_that_was_not_sent_do_not_count() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 3_200, 500, &silence()).read(DENIED, 3_300, unsent()).every(
        DENIED,
        3_500,
        4_200,
        200,
        &silence(),
    );
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn fault_in_an_attempt_breaks_the_hold() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 2_200, 500, &silence());
    scene.fault(DENIED, 2_500, FaultReason::Resources);
    assert_eq!(reason(&scene.deny()), Some(Reason::ProbeFault));
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn starved_attempt_is_no_sample_and_interrupts_nothing() {
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 1_700, 500, &silence());
    for at in [2_200, 2_400, 2_600] {
        scene.fault(DENIED, at, FaultReason::Starved);
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::Starved), "four samples and three starved attempts are no six");
    scene.every(DENIED, 3_000, 4_500, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.fault(DENIED, 4_600, FaultReason::Starved);
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn control_that_was_starved_for_longer_than_two_seconds_vouches_for_nothing_across_that_time() {
    for (without, says) in [(0, Verdict::Proven), (1_500, Verdict::Proven)] {
        let mut scene = Scene::good().without(CONTROL);
        scene.every(CONTROL, 100, 2_000, 300, &open()).fault(CONTROL, 2_100, FaultReason::Starved);
        scene.every(CONTROL, 2_200 + without, 9_000, 300, &open());
        assert_eq!(scene.deny(), says, "{without} ms without a sample");
    }
    let mut scene = Scene::good().without(CONTROL);
    scene.every(CONTROL, 100, 1_900, 300, &open()).fault(CONTROL, 2_100, FaultReason::Starved);
    scene.every(CONTROL, 4_000, 9_000, 300, &open());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn deny_of_a_probe_that_failed_is_unproven() {
    let cases = [
        (ProbeFailure::Ended("killed".into()), Reason::ProbeFault),
        (ProbeFailure::Protocol("a hole".into()), Reason::ProbeFault),
        (ProbeFailure::Clocks("drift".into()), Reason::Clocks),
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
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
    let mut scene = Scene::good().without(DENIED);
    scene.every(DENIED, 200, 2_100, 100, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn deadline_shorter_than_ten_round_trips_is_unproven() {
    let mut scene = Scene::good();
    scene.plan.checks[0].terms.deadline = std::time::Duration::from_millis(3);
    assert_eq!(reason(&scene.deny()), Some(Reason::DeadlineTooShort));
}

#[test]
fn clocks_that_are_known_too_loosely_prove_nothing() {
    let mut scene = Scene::good();
    scene.evidence.probes[1].clock = Some(Clock { least: -2_000_000, most: 2_000_000 });
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
    scene.evidence.probes[1].clock = Some(Clock { least: -100_000, most: 100_000 });
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn demand_that_is_not_met_is_unproven() {
    let mut scene = Scene::good();
    scene.plan.checks[0].terms.demand = Demand::D2Twin;
    assert_eq!(reason(&scene.deny()), Some(Reason::DemandNotMet));
    scene.every(ALLOWED, 0, 5_000, 500, &open());
    assert_eq!(scene.deny(), Verdict::Proven);
    scene.plan.checks[0].terms.demand = Demand::D2Record;
    assert_eq!(reason(&scene.deny()), Some(Reason::DemandNotMet));
    scene.evidence.records.insert(DENIED, EnforcerRecord { packets: 3, rule: "deny".into() });
    assert_eq!(reason(&scene.deny()), Some(Reason::DemandNotMet), "fewer packets than samples");
    scene.evidence.records.insert(DENIED, EnforcerRecord { packets: 18, rule: "deny".into() });
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn d1_needs_neither_source_nor_path() {
    let mut scene = Scene::good().without(REACHED).without(CROSSING);
    scene.plan.checks[0].terms.demand = Demand::D1;
    assert_eq!(scene.deny(), Verdict::Proven);
    let mut scene = scene.without(CONTROL);
    scene.plan.checks[0].terms.demand = Demand::D1;
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
}

#[test]
fn unprovable_line_is_unproven_unless_it_opens() {
    let mut scene = Scene::good();
    scene.plan.checks[0].standing = Standing::Unprovable("why".into());
    assert_eq!(reason(&scene.deny()), Some(Reason::Unprovable));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn silence_of_a_pod_that_is_not_ready_does_not_count_and_its_opening_does() {
    let mut scene = Scene::good();
    if let Party::Pod { ready, .. } = Arc::make_mut(&mut scene.plan.flows[0].party) {
        *ready = false;
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::NotSampled));
    scene.read(DENIED, 4_700, open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn allow_with_three_openings_in_a_row_is_proven() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 500, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewSamples));
    scene.read(ALLOWED, 1_000, open());
    assert_eq!(scene.allow(), Verdict::Proven);
}

#[test]
fn allow_that_comes_up_late_is_proven_with_its_delay() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 2_500, 500, &reset()).every(ALLOWED, 3_000, 4_000, 500, &open());
    let judgement = scene.judge(1);
    let FlowVerdict::Allowed(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
    assert_eq!(proof.delay().as_millis(), 3_000);
}

#[test]
fn allow_that_only_shakes_hands_is_not_proven_at_a2() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 11_000, 500, &handshake_only());
    assert_eq!(reason(&scene.allow()), Some(Reason::NobodyReachedTarget));
}

#[test]
fn allow_that_stays_shut_while_another_gets_through_is_violated() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 10_500, 500, &silence()).every(CONTROL, 0, 10_500, 500, &open()).every(
        CROSSING,
        0,
        10_500,
        500,
        &open(),
    );
    assert!(matches!(scene.allow(), Verdict::Violated(Violation::Shut { witness: Some(CONTROL), .. })));
}

#[test]
fn allow_that_stays_shut_is_unproven_before_patience_is_over() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 9_000, 500, &silence()).every(CONTROL, 0, 9_000, 500, &open()).every(
        CROSSING,
        0,
        9_000,
        500,
        &open(),
    );
    assert_eq!(reason(&scene.allow()), Some(Reason::TooFewSamples));
}

#[test]
fn allow_that_nobody_reaches_is_unproven() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 10_500, 500, &reset()).every(CONTROL, 0, 10_500, 500, &reset()).every(
        CROSSING,
        0,
        10_500,
        500,
        &open(),
    );
    assert_eq!(reason(&scene.allow()), Some(Reason::NobodyReachedTarget));
}

#[test]
fn allow_from_a_source_that_is_not_able_is_unproven() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 10_500, 500, &silence()).every(CONTROL, 0, 10_500, 500, &open());
    assert_eq!(reason(&scene.allow()), Some(Reason::SourceNotAble));
}

#[test]
fn refusal_that_names_its_enforcer_needs_no_witness() {
    let refusal = Reading::Blocked(Block {
        passed: None,
        stage: Stage::Connect,
        how: Refusal::Wire(How::Silence),
        signature: Some(Signature::IcmpProhibited),
        by_target: false,
    });
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 10_500, 500, &refusal);
    assert!(matches!(scene.allow(), Verdict::Violated(Violation::Shut { witness: None, .. })));
}

#[test]
fn allow_that_loses_two_in_a_row_is_violated_as_unstable() {
    let mut scene = Scene::new();
    scene.every(ALLOWED, 0, 2_000, 500, &open()).every(ALLOWED, 2_500, 3_000, 500, &silence()).every(
        ALLOWED,
        3_500,
        5_000,
        500,
        &open(),
    );
    scene.every(CONTROL, 0, 5_000, 500, &open());
    assert!(matches!(scene.allow(), Verdict::Violated(Violation::Unstable { lost: 2, in_a_row: 2, .. })));
}

#[test]
fn allow_that_loses_one_now_and_then_is_judged_by_its_share() {
    let flapping = |lost_every: u64| {
        let mut scene = Scene::new();
        for n in 0..60_u64 {
            scene.read(ALLOWED, n * 100, if n > 5 && n % lost_every == 0 { silence() } else { open() });
        }
        scene.every(CONTROL, 0, 6_000, 500, &open());
        scene.allow()
    };
    assert!(matches!(flapping(8), Verdict::Violated(Violation::Unstable { in_a_row: 1, .. })));
    assert_eq!(flapping(30), Verdict::Proven);
}

#[test]
fn beats_carry_a_streak_on_and_contradictions_are_refused() {
    let mut scene = Scene::new();
    assert!(scene.evidence.flows[0].beat(2, 1_000_000).is_err(), "a beat before any sample");
    scene.read(DENIED, 200, silence());
    let flow = &mut scene.evidence.flows[0];
    flow.beat(4, 1_200_000).expect("in order");
    assert_eq!((flow.attempts, flow.blocked, flow.streaks[0].count), (4, 4, 4));
    assert!(flow.beat(3, 1_300_000).is_err());
    assert!(flow.sample(4, 1_300_000, silence(), StageTimes::default(), None).is_err());
    flow.sample(7, 2_000_000, open(), StageTimes::default(), None).expect("in order");
    assert_eq!((flow.attempts, flow.blocked, flow.opened), (7, 6, 1));
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        4 => Just(silence()),
        2 => Just(reset()),
        1 => Just(unsent()),
        1 => Just(open()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the timelines, a proven deny has six blocked samples over the hold at the end of its flow, and an
    /// opening of a control at most two seconds before and after.
    #[test]
    fn no_timeline_proves_a_deny_that_its_rules_do_not(
        denied in prop::collection::vec((50_u64..700, any_reading()), 0..24),
        control in prop::collection::vec((50_u64..2_500, any_reading()), 0..16),
        able in prop::collection::vec((50_u64..1_500, any_reading()), 0..16),
        crossing in prop::collection::vec((50_u64..1_500, any_reading()), 0..16),
        skew in 0_i64..400_000,
    ) {
        let mut scene = Scene::new();
        let mut starts: BTreeMap<u32, Vec<(u64, Reading)>> = BTreeMap::new();
        for (flow, timeline) in [(DENIED, &denied), (CONTROL, &control), (REACHED, &able), (CROSSING, &crossing)] {
            let mut millis = 0;
            for (step, reading) in timeline {
                millis += step;
                scene.read(flow, millis, reading.clone());
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
            let open_at = |flow: FlowId| -> Vec<i64> {
                starts[&flow.0].iter().filter(|(_, r)| matches!(r, Reading::Open(_))).map(|(at, _)| *at as i64).collect()
            };
            let control = open_at(CONTROL);
            prop_assert!(control.iter().any(|at| *at <= from && from - at <= 2_000));
            prop_assert!(control.iter().any(|at| *at >= to && at - to <= 2_000));
            let closed_between = starts[&CONTROL.0].iter().any(|(at, r)| (from..=to).contains(&(*at as i64)) && !matches!(r, Reading::Open(_)));
            prop_assert!(!closed_between);
            prop_assert!(open_at(REACHED).iter().any(|at| *at <= from) && open_at(REACHED).iter().any(|at| *at >= to));
            let mut crossed = open_at(CROSSING);
            crossed.retain(|at| (from - 2_000..=to + 2_000).contains(at));
            prop_assert!(!crossed.is_empty());
        }
    }
}

#[test]
fn an_allow_that_opens_below_its_tier_is_not_violated() {
    let mut scene = Scene::new();
    let lower = Reading::Open(Opening { tier: AllowTier::A1, passed: Stage::Request, then: None });
    scene.every(ALLOWED, 0, 12_000, 500, &lower);
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 12_000, 500, &lower);
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::DemandNotMet));
}

#[test]
fn a_control_whose_greeting_is_another_each_time_is_alive_throughout() {
    let mut scene = Scene::good().without(CONTROL);
    for n in 0..11 {
        let what = format!("greeting {n}");
        let then = Some(Stop { stage: Stage::Request, how: How::Garbled { what } });
        let opening = Opening { tier: AllowTier::A1, passed: Stage::FirstBytes, then };
        scene.read(CONTROL, n * 500, Reading::Open(opening));
    }
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn an_allow_that_only_our_own_faults_interrupt_is_not_violated() {
    let mut scene = Scene::new();
    for n in 0..12_u64 {
        scene.read(ALLOWED, n * 1_000, open());
        scene.fault(ALLOWED, n * 1_000 + 500, FaultReason::Starved);
    }
    scene.read(ALLOWED, 12_500, open());
    for flow in [CONTROL, CROSSING] {
        scene.every(flow, 0, 13_000, 500, &open());
    }
    assert_eq!(reason(&scene.allow()), Some(Reason::Starved));
    // What was blocked now and then, and never got through three times in a row, is.
    let mut scene = scene.without(ALLOWED);
    for n in 0..12_u64 {
        scene.read(ALLOWED, n * 1_000, open()).read(ALLOWED, n * 1_000 + 500, silence());
    }
    scene.read(ALLOWED, 12_500, open());
    assert!(matches!(scene.allow(), Verdict::Violated(Violation::Shut { .. })));
}

/// The scene in a cluster: web's pod is a clone that this run created. `OTHER` goes from it to a pod on node-2 that admits
/// by labels.
fn with_a_clone() -> Scene {
    let mut scene = Scene::new();
    let none = Settings::default();
    for check in &mut scene.plan.checks {
        check.terms = Terms::of(check.expected, &none, Environment::Cluster, Demand::A0);
    }
    scene.plan.created = BTreeSet::from([ProbeId(0)]);
    scene.plan.arming = BTreeMap::from([((ProbeId(0), "node-2".to_owned()), vec![OTHER])]);
    let able = Able { allowed: vec![OTHER], tried: vec![], reached: vec![] };
    scene.plan.able.insert((ProbeId(0), Family::V4, Transport::Tcp), able);
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
    scene.every(OTHER, 0, 3_500, 500, &silence()).every(OTHER, 4_000, 30_000, 500, &open());
    scene.every(DENIED, 100, 5_000, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
    scene.every(DENIED, 5_100, 7_900, 400, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples), "2.8 s after armed and settled");
    scene.every(DENIED, 8_000, 8_500, 250, &silence());
    let judgement = scene.judge(0);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
    assert!(proof.window().from.earliest >= 5_000_000, "armed at 4 s, settled for one: {:?}", proof.window());
}

#[test]
fn clone_that_nothing_arms_is_watched_for_longer() {
    let mut scene = with_a_clone();
    scene.plan.arming.clear();
    vouched(&mut scene, 30_000);
    scene.every(OTHER, 0, 30_000, 500, &open()).every(DENIED, 100, 15_600, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples), "14.5 s after it settled");
    // Not every start is remembered, so it takes a little longer than it must.
    scene.every(DENIED, 16_100, 19_600, 500, &silence());
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn opening_towards_another_node_arms_nothing() {
    let mut scene = with_a_clone();
    scene.plan.arming = BTreeMap::from([((ProbeId(0), "node-1".to_owned()), vec![OTHER])]);
    vouched(&mut scene, 10_000);
    scene.every(OTHER, 0, 10_000, 500, &open()).every(DENIED, 100, 9_600, 500, &silence());
    assert_eq!(reason(&scene.deny()), Some(Reason::TooFewSamples));
}

#[test]
fn settle_starts_when_the_last_probe_of_the_check_said_hello() {
    let settled_after = |hello: i64| {
        let mut scene = with_a_clone();
        scene.plan.created.clear();
        // A second source, whose probe came up later.
        scene.plan.checks[0].flows.push(ALLOWED);
        scene.evidence.probes[3].clock = Some(Clock::shared(hello));
        vouched(&mut scene, 12_000);
        scene.every(OTHER, 0, 12_000, 500, &open()).every(DENIED, 100, 6_100, 500, &silence());
        matches!(scene.judge(0).flows[0].verdict, FlowVerdict::Denied(_))
    };
    assert!(settled_after(0) && settled_after(2_000_000));
    assert!(!settled_after(2_200_000));
}

/// A clone that reaches what it must not from its first attempt on, until some time.
fn leaking(until: u64) -> Scene {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene.every(OTHER, 0, 60_000, 500, &open()).every(DENIED, 100, until, 500, &open());
    let last = until - (until - 100) % 500;
    scene.every(DENIED, last + 500, 58_000, 500, &silence());
    scene
}

#[test]
fn startup_leak_of_a_clone_is_told_with_its_length_and_does_not_violate() {
    let judgement = leaking(2_300).judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
    assert_eq!(proof.startup_leak().map(|leak| leak.as_millis()), Some(2_500));
}

#[test]
fn startup_leak_violates_where_it_is_not_to_be_or_lasts_or_returns() {
    let violated = |scene: &Scene| matches!(scene.deny(), Verdict::Violated(Violation::Opened { .. }));
    let mut isolated = leaking(2_300);
    isolated.plan.checks[0].terms.startup_isolated = true;
    assert!(violated(&isolated));
    let mut there_before = leaking(2_300);
    there_before.plan.created.clear();
    assert!(violated(&there_before));
    assert!(violated(&leaking(10_100)), "longer than grace");
    let mut returns = leaking(2_300);
    returns.read(DENIED, 58_500, open());
    assert!(violated(&returns));
    let mut measured = leaking(2_300);
    measured.evidence.canary = Some(std::time::Duration::from_millis(600));
    assert!(violated(&measured), "three times the canary's latency is over");
}

/// A clone whose first attempts are blocked, as it is not known yet where they arrive, whose next one opens, and which is
/// blocked from then on.
fn leaking_with_gaps(blocked_before: u64, until: u64) -> Scene {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene.every(OTHER, 0, 60_000, 500, &open());
    for nth in 0..blocked_before {
        scene.read(DENIED, 100 + nth * 500, silence());
    }
    let opens = 100 + blocked_before * 500;
    scene.read(DENIED, opens, open()).every(DENIED, opens + 500, until, 500, &silence());
    scene
}

#[test]
fn startup_leak_with_gaps_is_one_once_a_leak_that_lasts_is_ruled_out() {
    // One of two: seven more must be blocked, which the hold asks for anyway.
    let judgement = leaking_with_gaps(1, 20_000).judge(0);
    assert_eq!(judgement.verdict, Verdict::Proven);
    let FlowVerdict::Denied(proof) = &judgement.flows[0].verdict else { panic!("{judgement:?}") };
    assert_eq!(proof.startup_leak().map(|leak| leak.as_millis()), Some(500));
    // One of six: twenty-six.
    for (until, proven) in [(15_000, false), (15_600, true)] {
        match leaking_with_gaps(5, until).judge(0).flows[0].verdict.clone() {
            FlowVerdict::Denied(_) => assert!(proven, "{until}"),
            FlowVerdict::Unproven(unproven) => {
                assert_eq!((proven, unproven.open, unproven.reason), (false, true, Reason::TooFewSamples));
                assert!(unproven.detail.contains("26 attempts blocked"), "{}", unproven.detail);
            }
            other => panic!("{other:?}"),
        }
    }
    for later in [9_900, 20_100] {
        let mut returns = leaking_with_gaps(1, later - 200);
        returns.read(DENIED, later, open()).every(DENIED, later + 500, 58_000, 500, &silence());
        let violated = matches!(returns.deny(), Verdict::Violated(_));
        assert_eq!(violated, later > 10_000, "it opened again after {later} ms");
    }
}

#[test]
fn what_a_policy_may_have_ended_is_no_startup_leak() {
    let changed = Cause::Changed(Disturbed::Policy("data".into(), "postgres".into()));
    for (at, startup) in [(50_000, true), (2_000_000, false), (4_400_000, false), (6_000_000, true)] {
        let mut scene = with_a_clone();
        vouched(&mut scene, 60_000);
        if at < 100_000 {
            scene.evidence.flows[DENIED.0 as usize].restart(at as u64, at, changed.clone());
        }
        scene.every(OTHER, 0, 60_000, 500, &open()).every(DENIED, 100, 2_100, 500, &open());
        scene.every(DENIED, 2_600, 6_100, 500, &silence());
        if at > 100_000 {
            scene.evidence.flows[DENIED.0 as usize].restart(at as u64, at, changed.clone());
        }
        scene.every(DENIED, 6_600, 58_000, 500, &silence());
        match scene.judge(0).flows[0].verdict.clone() {
            FlowVerdict::Unproven(unproven) => {
                assert_eq!(
                    unproven.reason == Reason::ChangedUnderUs && !unproven.open,
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
    assert!(matches!(gone(leaking(2_300)), Verdict::Unproven(unproven) if unproven.reason == Reason::NotSampled));
    assert!(matches!(gone(leaking(10_100)), Verdict::Violated(_)));
}

#[test]
fn opening_of_what_was_first_tried_after_the_grace_is_no_startup_leak() {
    for (at, violated) in [(9_900, false), (10_100, true)] {
        let mut scene = with_a_clone();
        vouched(&mut scene, 60_000);
        scene.read(DENIED, at, open());
        assert_eq!(matches!(scene.deny(), Verdict::Violated(_)), violated, "{at} ms after the pod's start");
    }
}

#[test]
fn attempt_that_was_starved_does_not_break_a_startup_leak() {
    let mut scene = with_a_clone();
    vouched(&mut scene, 60_000);
    scene.fault(DENIED, 50, FaultReason::Starved).every(OTHER, 0, 60_000, 500, &open()).every(
        DENIED,
        100,
        1_100,
        500,
        &open(),
    );
    scene.fault(DENIED, 1_600, FaultReason::Starved).read(DENIED, 2_100, open()).every(
        DENIED,
        2_600,
        58_000,
        500,
        &silence(),
    );
    assert_eq!(scene.deny(), Verdict::Proven);
}

#[test]
fn clone_that_still_leaks_within_its_grace_is_not_judged_yet() {
    let mut scene = with_a_clone();
    scene.every(DENIED, 100, 4_100, 500, &open());
    let FlowVerdict::Unproven(unproven) = &scene.judge(0).flows[0].verdict else { panic!("judged") };
    assert!(unproven.open);
    scene.every(DENIED, 4_600, 11_000, 500, &open());
    assert!(matches!(scene.deny(), Verdict::Violated(_)));
}

#[test]
fn wall_clock_that_is_a_second_off_the_arrivals_is_unproven_by_that_name() {
    let judged = |most: i64| {
        let mut scene = Scene::good();
        scene.evidence.probes[0].clock = Some(Clock { least: -1_000_000, most });
        reason(&scene.deny())
    };
    assert_eq!(judged(1_000_001), Some(Reason::Clocks));
    assert_ne!(judged(1_000_000), Some(Reason::Clocks));
}

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
    let post = TargetKey { request: http("POST"), once: true, ..key("10.0.2.1", 5432) };
    scene.plan.flows[0].to = post.clone().into();
    scene.plan.flows[1].to = TargetKey { request: http("GET"), ..key("10.0.2.1", 5432) }.into();
    scene.plan.flows[4].to = post.clone().into();
    scene.plan.vouchers = BTreeMap::from([(post, vec![CONTROL])]);
    scene.evidence = Evidence::of(&scene.plan);
    for probe in &mut scene.evidence.probes {
        probe.clock = Some(Clock::shared(0));
    }
    for flow in [CONTROL, REACHED, CROSSING] {
        scene.every(flow, 0, 4_000, 500, &open());
    }
    let how = Refusal::Wire(How::Silence);
    let block = Block { passed, stage, how, signature: None, by_target: false };
    scene.read(DENIED, 1_700, Reading::Blocked(block));
    scene
}

#[test]
fn request_that_is_sent_once_is_denied_between_two_answers_of_a_control() {
    assert_eq!(once(Stage::Connect, None).deny(), Verdict::Proven);
    assert_eq!(reason(&once(Stage::Connect, None).without(CONTROL).deny()), Some(Reason::NoControlAnswered));
    let mut late = once(Stage::Connect, None).without(CONTROL);
    late.every(CONTROL, 2_000, 4_000, 500, &open());
    assert_eq!(reason(&late.deny()), Some(Reason::TooFewSamples));
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
    assert_eq!(reason(&scene.allow()), Some(Reason::NotSampled));
    scene.read(ALLOWED, 1_700, open());
    assert_eq!(scene.allow(), Verdict::Proven);
    let mut shut = once(Stage::Connect, None);
    shut.read(ALLOWED, 1_700, silence());
    assert!(matches!(shut.allow(), Verdict::Violated(Violation::Shut { .. })));
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
        scene.evidence.flows[1].sample(n, at, open(), slow, None).expect("in order");
    }
    assert_eq!(reason(&scene.deny()), Some(Reason::DeadlineTooShort));
    let waits = super::waits_needed(&scene.plan, &scene.evidence, &scene.plan.checks[0], DENIED).expect("more time");
    assert_eq!((waits.connect.as_millis(), waits.request.as_millis()), (3_000, 0));
    scene.plan.flows[0].waits = waits;
    assert_eq!(scene.deny(), Verdict::Proven);
    assert_eq!(super::waits_needed(&scene.plan, &scene.evidence, &scene.plan.checks[0], DENIED), None);
}

#[test]
fn name_that_leads_elsewhere_than_its_controls_go_proves_nothing() {
    let address = |last: u8| std::net::IpAddr::from([203, 0, 113, last]);
    let mut scene = Scene::good();
    scene.evidence.flows[0].dialled(address(1), false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered));
    scene.evidence.flows[1].dialled(address(1), false);
    assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered), "dialled is not answered");
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
        to: TargetKey { request: connect(), ..key("10.0.2.1", 5432) }.into(),
        party: at("postgres-0", "node-2").into(),
        opens_at: Stage::FirstBytes,
        waits: Waits::default(),
    };
    let after_handshake = |linger: Linger| {
        let mut passed = vec![(Stage::Connect, 300)];
        if linger == Linger::Bytes {
            passed.push((Stage::FirstBytes, 300));
        }
        super::read(&meshed, None, &Observation { passed, linger: Some(linger), ..Observation::default() })
    };
    assert!(matches!(after_handshake(Linger::Bytes), Reading::Open(Opening { passed: Stage::FirstBytes, .. })));
    for linger in [Linger::Quiet, Linger::Fin, Linger::Rst] {
        let reading = after_handshake(linger);
        assert!(matches!(&reading, Reading::Blocked(block) if block.stage == Stage::FirstBytes), "{reading:?}");
        let mut scene = Scene::good().without(DENIED);
        scene.plan.flows[DENIED.0 as usize] = meshed.clone();
        scene.plan.flows[CONTROL.0 as usize].to = Arc::clone(&meshed.to);
        scene.plan.vouchers.insert(TargetKey::clone(&meshed.to), vec![CONTROL]);
        scene.every(DENIED, 200, 4_200, 500, &reading);
        assert_eq!(scene.deny(), Verdict::Proven, "{linger:?}, and the control got bytes");
        let mut scene = scene.without(CONTROL);
        scene.every(CONTROL, 0, 5_000, 500, &handshake_only());
        assert_eq!(reason(&scene.deny()), Some(Reason::NoControlAnswered), "{linger:?}, and so did the control");
    }
}
