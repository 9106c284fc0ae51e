//! The flows of a check put together.

use super::allow::judge_allowed;
use super::classify::Reading;
use super::controls::Evaluation;
use super::deny::{blame, judge_denied, judge_retired, unusable};
use super::evidence::Evidence;
use super::reason::Reason;
use super::source_and_path::PathControls;
use super::{FlowVerdict, Unproven, Verdict};
use crate::plan::{Check, FlowId, PathEnd, Plan, Provability, Scope, Source, TargetKind};
use crate::suite::Expected;
use std::collections::BTreeSet;

/// What is said of a check, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// How far it reaches.
    pub reach: Reach,
    /// Each flow's own.
    pub flows: Vec<FlowResult>,
}

impl Judgement {
    /// Whether more samples could change it, other than by an opening of a denied flow.
    pub fn is_settled(&self) -> bool {
        match &self.verdict {
            Verdict::Proven => true,
            Verdict::Violated(_) | Verdict::Unproven(_) => {
                self.flows.iter().all(|flow| match &flow.verdict {
                    FlowVerdict::Unproven(unproven) => !unproven.open,
                    FlowVerdict::Denied(_)
                    | FlowVerdict::Allowed(_)
                    | FlowVerdict::Violated(_)
                    | FlowVerdict::LeftOut(_) => true,
                })
            }
        }
    }
}

/// One flow's part in a judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowResult {
    /// The flow.
    pub flow: FlowId,
    /// What it shows.
    pub verdict: FlowVerdict,
}

/// How far a verdict reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Nodes that the source's samples came from.
    pub source_nodes: usize,
    /// Nodes on which the source has pods.
    pub of_source_nodes: usize,
    /// Pods of the target that were sampled.
    pub target_pods: usize,
    /// Pods of the target.
    pub of_target_pods: usize,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let mut parts = Vec::new();
        if self.of_source_nodes > 0 {
            parts.push(format!(
                "from {} of {} node{}",
                self.source_nodes,
                self.of_source_nodes,
                plural(self.of_source_nodes)
            ));
        }
        if self.of_target_pods > 0 {
            parts.push(format!(
                "to {} of {} pod{}",
                self.target_pods,
                self.of_target_pods,
                plural(self.of_target_pods)
            ));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Judges one check.
pub fn judge(plan: &Plan, check: &Check, evidence: &Evidence) -> Judgement {
    Judge::new(plan, evidence).judge(check)
}

/// Judges checks by evidence that stands still meanwhile.
#[derive(Debug)]
pub struct Judge<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    path_controls: PathControls,
}

/// A flow that keeps a check from being settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// Its place among the check's flows.
    pub place: usize,
    /// What it lacks.
    pub lacks: Reason,
}

impl<'a> Judge<'a> {
    /// By this evidence.
    pub fn new(plan: &'a Plan, evidence: &'a Evidence) -> Self {
        Self {
            plan,
            evidence,
            path_controls: PathControls::default(),
        }
    }

    fn evaluation(&self) -> Evaluation<'_> {
        Evaluation {
            plan: self.plan,
            evidence: self.evidence,
            path_controls: &self.path_controls,
        }
    }

    /// Judges one check.
    pub fn judge(&self, check: &Check) -> Judgement {
        let evaluation = self.evaluation();
        let result = |flow: &FlowId| FlowResult {
            flow: *flow,
            verdict: judge_flow(evaluation, check, *flow),
        };
        let mut flows: Vec<FlowResult> = check.flows.iter().map(result).collect();
        if check.expected == Expected::Denied {
            let retired = check.retired.iter();
            flows.extend(retired.filter_map(|flow| {
                Some(FlowResult {
                    flow: *flow,
                    verdict: judge_retired(evaluation, check, *flow)?,
                })
            }));
        }
        let verdict = combine(check, &flows);
        Judgement {
            verdict,
            reach: reach(self.plan, check.scope, &flows),
            flows,
        }
    }

    /// A flow that keeps a check from being settled, looked for from place `from` on; `None` when
    /// the check is settled. The same as [`Judgement::is_settled`], without judging more flows than
    /// it takes.
    pub fn awaits(&self, check: &Check, from: usize) -> Option<Awaited> {
        let evaluation = self.evaluation();
        let count = check.flows.len();
        (0..count).map(|n| (from + n) % count).find_map(|place| {
            let flow = check.flows[place];
            if is_too_early(evaluation, check, flow) {
                return Some(Awaited {
                    place,
                    lacks: Reason::TooFewAttempts,
                });
            }
            match judge_flow(evaluation, check, flow) {
                FlowVerdict::Unproven(Unproven {
                    open: true, reason, ..
                }) => Some(Awaited {
                    place,
                    lacks: reason,
                }),
                FlowVerdict::Unproven(_)
                | FlowVerdict::Denied(_)
                | FlowVerdict::Allowed(_)
                | FlowVerdict::Violated(_)
                | FlowVerdict::LeftOut(_) => None,
            }
        })
    }
}

/// Whether a denied flow has so few samples that nothing more need be looked at. (One that will be
/// left out is left out a few samples later by this.)
fn is_too_early(evaluation: Evaluation<'_>, check: &Check, flow: FlowId) -> bool {
    let seen = evaluation.evidence.flow(flow);
    check.expected == Expected::Denied
        && seen.attempts < check.settings.attempts
        && seen.first_open.is_none()
        && seen.doubtful.is_none()
        && !evaluation.plan.flow(flow).to.once
        && !evaluation
            .evidence
            .probe(evaluation.plan.flow(flow).probe)
            .stopped
        && unusable(evaluation, flow).is_none_or(|unproven| unproven.open)
}

fn judge_flow(evaluation: Evaluation<'_>, check: &Check, flow: FlowId) -> FlowVerdict {
    if let Some(why) = left_out(evaluation, check, flow) {
        return FlowVerdict::LeftOut(why);
    }
    let verdict = match check.expected {
        Expected::Denied => judge_denied(evaluation, check, flow),
        Expected::Allowed => judge_allowed(evaluation, &check.settings, flow),
    };
    match verdict {
        FlowVerdict::Unproven(unproven) => FlowVerdict::Unproven(blame(evaluation, unproven)),
        verdict => verdict,
    }
}

/// Silence of a pod that is not ready does not count, its openings do; nor does a family that
/// nothing is served in.
fn left_out(evaluation: Evaluation<'_>, check: &Check, flow: FlowId) -> Option<String> {
    let of = evaluation.plan.flow(flow);
    if evaluation.evidence.flow(flow).opened > 0 || unusable(evaluation, flow).is_some() {
        return None;
    }
    if let TargetKind::Pod {
        ready: false,
        namespace,
        name,
        ..
    } = &*of.target_kind
    {
        return Some(format!("{namespace}/{name} is not ready"));
    }
    if matches!(*of.target_kind, TargetKind::Service { .. })
        && *evaluation.plan.source(of.probe) == Source::Runner
    {
        // Cluster addresses exist inside the cluster only ("Virtual IPs and Service Proxies"):
        // unless some such address answered the runner, silence is for want of a route.
        let reaches_services = evaluation.paths(flow).iter().any(|path| {
            let takers = evaluation
                .plan
                .path_controls()
                .get(path)
                .filter(|_| path.to == PathEnd::Services);
            takers
                .into_iter()
                .flatten()
                .any(|taker| evaluation.evidence.flow(*taker).opened > 0)
        });
        if !reaches_services {
            return Some("no Service's cluster address answers the runner at all".into());
        }
    }
    let refused = |control: FlowId| {
        let seen = evaluation.evidence.flow(control);
        seen.opened == 0
            && matches!(seen.latest(), Some(Reading::Blocked(block)) if block.by_target)
    };
    let mut target_controls = evaluation.target_controls(flow).peekable();
    let not_here = matches!(*of.target_kind, TargetKind::Pod { .. })
        && target_controls.peek().is_some()
        && target_controls.all(refused);
    let served_elsewhere = || {
        check.flows.iter().any(|other| {
            let same_node_control = evaluation.plan.flow(*other);
            same_node_control.target_kind == of.target_kind
                && same_node_control.family() != of.family()
                && (same_node_control.to.port, same_node_control.to.transport)
                    == (of.to.port, of.to.transport)
                && evaluation
                    .target_controls(*other)
                    .any(|control| evaluation.evidence.flow(control).opened > 0)
        })
    };
    (not_here && served_elsewhere()).then(|| format!("not served over {}", of.family()))
}

/// Precedence in one check: intact opening of a denied flow > unproven > violated allow > proven.
fn combine(check: &Check, flows: &[FlowResult]) -> Verdict {
    let violated = |expected: Expected| {
        flows
            .iter()
            .filter(|_| check.expected == expected)
            .find_map(|flow| match &flow.verdict {
                FlowVerdict::Violated(violation) => Some(violation.clone()),
                FlowVerdict::Denied(_)
                | FlowVerdict::Allowed(_)
                | FlowVerdict::Unproven(_)
                | FlowVerdict::LeftOut(_) => None,
            })
    };
    if let Some(violation) = violated(Expected::Denied) {
        return Verdict::Violated(violation);
    }
    let unproven = |reason, detail: &str| {
        Verdict::Unproven(Unproven {
            reason,
            detail: detail.to_owned(),
            flow: None,
            open: false,
        })
    };
    match &check.provability {
        Provability::Unprovable(why) => return unproven(Reason::Unprovable, why),
        Provability::MatchesNothing(what) => return unproven(Reason::MatchesNothing, what),
        Provability::Provable => {}
    }
    let mut counted = flows
        .iter()
        .filter(|flow| !matches!(flow.verdict, FlowVerdict::LeftOut(_)))
        .peekable();
    if counted.peek().is_none() {
        let why = flows.iter().find_map(|flow| match &flow.verdict {
            FlowVerdict::LeftOut(why) => Some(why.as_str()),
            FlowVerdict::Denied(_)
            | FlowVerdict::Allowed(_)
            | FlowVerdict::Violated(_)
            | FlowVerdict::Unproven(_) => None,
        });
        return unproven(
            Reason::NotAttempted,
            why.unwrap_or("there is nothing to sample"),
        );
    }
    // Of several reasons, one that more samples cannot mend says more than one that they might.
    let mut worst: Option<&Unproven> = None;
    for flow in counted {
        if let FlowVerdict::Unproven(unproven) = &flow.verdict
            && worst.is_none_or(|worst| worst.open && !unproven.open)
        {
            worst = Some(unproven);
        }
    }
    match (worst, violated(Expected::Allowed)) {
        (Some(unproven), _) => Verdict::Unproven(unproven.clone()),
        (None, Some(violation)) => Verdict::Violated(violation),
        (None, None) => Verdict::Proven,
    }
}

fn reach(plan: &Plan, scope: Scope, flows: &[FlowResult]) -> Reach {
    let mut nodes = BTreeSet::new();
    let mut pods = BTreeSet::new();
    for result in flows {
        if matches!(result.verdict, FlowVerdict::LeftOut(_)) {
            continue;
        }
        let flow = plan.flow(result.flow);
        nodes.extend(plan.source(flow.probe).node());
        if let TargetKind::Pod {
            namespace, name, ..
        } = &*flow.target_kind
        {
            pods.insert((namespace, name));
        }
    }
    Reach {
        source_nodes: nodes.len(),
        of_source_nodes: scope.source_nodes.max(nodes.len()),
        target_pods: pods.len(),
        of_target_pods: scope.target_pods.max(pods.len()),
    }
}
