//! The rules of verdicts, as tests over timelines: a scene and its helpers here, the rules in the
//! files of this folder.

mod allow;
mod changes;
mod deny;
mod established;
mod requests;
mod starts;

use super::{
    AllowTier, Block, Cause, Clock, Evidence, FlowVerdict, Judge, Judgement, ProbeFailure, Reading,
    Reason, Refusal, Signature, StageTimes, Success, Verdict, Violation, WeakerProof, concerns,
    judge,
};
use crate::model::{Family, ObjectRef};
use crate::plan::{
    AnswerRule, BackendKind, Check, CheckSettings, ControlStrength, Flow, FlowId, LineRef, Path,
    PathEnd, Plan, PlanParts, ProbeId, Provability, Scope, Source, SourceControls, TargetKey,
    TargetKind, Waits, WeakerControls,
};
use crate::suite::{Expected, Mechanism, RequiredTier, Settings};
use crate::wire::{FaultReason, Linger, Observation, Request, Stage, Stop, StopCause, Transport};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DENIED: FlowId = FlowId(0);
const TARGET_CONTROL: FlowId = FlowId(1);
const SOURCE_CONTROL: FlowId = FlowId(2);
const PATH_CONTROL: FlowId = FlowId(3);
const ALLOWED: FlowId = FlowId(4);
const OTHER: FlowId = FlowId(5);

/// web on node-1 must not reach postgres on node-2; api on node-1 may. node-2 is the target
/// control, node-1 reaches web (source control) and node-2 (path control). `OTHER` is a flow that
/// web is allowed to open.
struct Scene {
    plan: PlanParts,
    evidence: Evidence,
    /// The number of attempts so far, by flow.
    attempts: BTreeMap<u32, u32>,
}

fn pod(name: &str, node: &str) -> Source {
    Source::Pod {
        namespace: "shop".into(),
        name: name.into(),
        node: node.into(),
    }
}

fn target_pod(name: &str, node: &str) -> TargetKind {
    TargetKind::Pod {
        namespace: "shop".into(),
        name: name.into(),
        node: node.into(),
        ready: true,
        host_network: false,
    }
}

fn node(name: &str) -> Source {
    Source::Node { name: name.into() }
}

fn flow(probe: u32, to: TargetKey, target_kind: TargetKind) -> Flow {
    Flow {
        probe: ProbeId(probe),
        to: to.into(),
        target_kind: target_kind.into(),
        opens_at: Stage::Connect,
        waits: Waits::default(),
    }
}

fn source_controls(allowed: Vec<FlowId>, reached: Vec<FlowId>) -> SourceControls {
    SourceControls {
        allowed,
        tried: vec![],
        reached,
    }
}

/// The policies admit no pod anywhere, so that nodes may be the controls.
fn no_pod_is_admitted() -> WeakerControls {
    let because = "the policies admit no pod".to_owned();
    WeakerControls {
        target: Some((ControlStrength::Node, because.clone())),
        paths: BTreeMap::from([(PathEnd::Pods("node-2".into()), because.clone())]),
        source: Some(because),
    }
}

fn key(address: &str, port: u16) -> TargetKey {
    TargetKey {
        address: address.parse().expect("address"),
        name: None,
        port,
        transport: Transport::Tcp,
        request: Request::Nonce,
        answer_rule: AnswerRule::Any,
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
        settings: CheckSettings::of(expected, &none, BackendKind::Lab, RequiredTier::A2),
        flows: vec![flow],
        retired: vec![],
        scope: Scope {
            target_addresses: 0,
            source_nodes: 1,
            source_kinds: 0,
            target_pods: 1,
        },
        provability: Provability::Provable,
        prediction: None,
        prediction_unknown: None,
    }
}

impl Scene {
    fn new() -> Self {
        let probes = vec![
            pod("web-0", "node-1"),
            node("node-2"),
            node("node-1"),
            pod("api-0", "node-1"),
        ];
        let postgres = key("10.0.2.1", 5432);
        let flows = vec![
            flow(0, postgres.clone(), target_pod("postgres-0", "node-2")),
            flow(1, postgres.clone(), target_pod("postgres-0", "node-2")),
            flow(2, key("10.0.1.1", 65533), target_pod("web-0", "node-1")),
            flow(
                2,
                key("10.0.2.254", 10250),
                TargetKind::ReferencePod {
                    node: "node-2".into(),
                },
            ),
            flow(3, postgres.clone(), target_pod("postgres-0", "node-2")),
            flow(0, key("10.0.1.9", 8080), target_pod("cache-0", "node-1")),
        ];
        let path = Path {
            from: Some("node-1".into()),
            to: PathEnd::Pods("node-2".into()),
            family: Family::V4,
        };
        let plan = PlanParts {
            suites: vec![],
            checks: vec![
                check("web -> postgres denied", Expected::Denied, DENIED),
                check("api -> postgres allowed", Expected::Allowed, ALLOWED),
            ],
            swept: vec![],
            rates: vec![],
            target_rates: BTreeMap::new(),
            resolvers: vec![],
            control_port: None,
            foreign_targets: false,
            probes,
            target_controls: BTreeMap::from([(postgres.clone(), vec![ALLOWED, TARGET_CONTROL])]),
            composites: BTreeMap::new(),
            source_controls: BTreeMap::from([
                (
                    (ProbeId(0), Family::V4, Transport::Tcp),
                    source_controls(vec![], vec![SOURCE_CONTROL]),
                ),
                (
                    (ProbeId(3), Family::V4, Transport::Tcp),
                    source_controls(vec![ALLOWED], vec![PATH_CONTROL]),
                ),
            ]),
            path_controls: BTreeMap::from([(path, vec![PATH_CONTROL, ALLOWED])]),
            flows,
            weaker_controls: BTreeMap::from([(DENIED, no_pod_is_admitted())]),
            created_probes: BTreeSet::new(),
            ephemeral_probes: BTreeSet::new(),
            policy_delay_flows: BTreeMap::new(),
            pod_uids: BTreeMap::new(),
            source_kinds: BTreeMap::new(),
            predicted: BTreeMap::new(),
            coverage: None,
            notes: vec![],
        };
        let mut evidence = Evidence::of(&Plan::from_parts(plan.clone()));
        for probe in &mut evidence.probes {
            probe.clock = Some(Clock::shared(0));
        }
        Self {
            plan,
            evidence,
            attempts: BTreeMap::new(),
        }
    }

    fn attempt(&mut self, flow: FlowId, millis: u64, reading: Reading) -> &mut Self {
        let attempt = self.attempts.entry(flow.0).or_default();
        *attempt += 1;
        self.evidence.flows[flow.0 as usize]
            .attempt(
                *attempt,
                millis * 1_000,
                reading,
                StageTimes::of(&[(Stage::Connect, 400)]),
                None,
            )
            .expect("in order");
        self
    }

    fn fault(&mut self, flow: FlowId, millis: u64, reason: FaultReason) -> &mut Self {
        let attempt = self.attempts.entry(flow.0).or_default();
        *attempt += 1;
        let evidence = &mut self.evidence.flows[flow.0 as usize];
        evidence
            .fault(*attempt, millis * 1_000, reason)
            .expect("in order");
        self
    }

    fn every(
        &mut self,
        flow: FlowId,
        from: u64,
        to: u64,
        step: u64,
        reading: &Reading,
    ) -> &mut Self {
        let mut millis = from;
        while millis <= to {
            self.attempt(flow, millis, reading.clone());
            millis += step;
        }
        self
    }

    /// All conditions hold: more than six blocked attempts, from 0.2 s to 4.2 s, all controls open.
    fn proven() -> Self {
        let mut scene = Self::new();
        scene.every(DENIED, 200, 4_200, 500, &silence());
        for flow in [TARGET_CONTROL, SOURCE_CONTROL, PATH_CONTROL] {
            scene.every(flow, 0, 5_000, 500, &open());
        }
        scene
    }

    fn without(mut self, flow: FlowId) -> Self {
        self.evidence.flows[flow.0 as usize] = super::FlowEvidence::default();
        self.attempts.remove(&flow.0);
        self
    }

    fn plan(&self) -> Plan {
        Plan::from_parts(self.plan.clone())
    }

    /// Judges a check, and compares [`Judge::pending_flow`] with [`Judgement::is_settled`].
    fn judge(&self, index: usize) -> Judgement {
        let plan = self.plan();
        let check = &plan.checks()[index];
        let judgement = judge(&plan, check, &self.evidence);
        let pending = Judge::new(&plan, &self.evidence).pending_flow(check, 0);
        let left_out = judgement
            .flows
            .iter()
            .any(|flow| matches!(flow.verdict, FlowVerdict::LeftOut(_)));
        // A flow that is left out may be pending for a few attempts more.
        assert!(
            pending.is_none() == judgement.is_settled() || left_out && judgement.is_settled(),
            "{judgement:?}"
        );
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
    Reading::Open(Success {
        tier: AllowTier::A2,
        passed: Stage::FirstBytes,
        then: None,
    })
}

fn handshake_only() -> Reading {
    let then = Some(Stop {
        stage: Stage::FirstBytes,
        how: StopCause::Silence,
    });
    Reading::Open(Success {
        tier: AllowTier::A0,
        passed: Stage::Connect,
        then,
    })
}

fn blocked(how: StopCause, by_target: bool) -> Reading {
    Reading::Blocked(Block {
        passed: None,
        stage: Stage::Connect,
        how: Refusal::Wire(how),
        signature: None,
        by_target,
    })
}

fn silence() -> Reading {
    blocked(StopCause::Silence, false)
}

fn reset() -> Reading {
    blocked(
        StopCause::Error {
            errno: 111,
            icmp: None,
        },
        true,
    )
}

fn not_sent() -> Reading {
    Reading::NotSent(Stop {
        stage: Stage::Connect,
        how: StopCause::Error {
            errno: 101,
            icmp: None,
        },
    })
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Unproven(unproven) => Some(unproven.reason),
        Verdict::Proven | Verdict::Violated(_) => None,
    }
}
