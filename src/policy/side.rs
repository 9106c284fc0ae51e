//! The evaluation of one side of a flow: the policies of one end, in order, with a reason for each
//! step.

use super::explain::{Match, PolicyStep, RuleStep, Selects, Side};
use super::flow_end::FlowEnd;
use super::near_miss::{
    MissingRequirement, PeerMatch, match_peers, match_port, missing_requirements, port_names_apply,
};
use super::rules::{Direction, DirectionalPolicy, Rule, Rules};
use crate::inventory::{Action, PolicyTier};
use crate::model::Port;

/// Policies, with what near misses need to know of them.
#[derive(Clone, Copy)]
pub(super) struct PolicySet<'a> {
    pub(super) rules: &'a Rules,
    /// The result of [`Rules::selecting_no_pod`]; empty where no text is needed.
    pub(super) selecting_no_pod: &'a [bool],
}

/// One direction of a flow, with everything that its policies compare.
pub(super) struct SideEvaluation<'a> {
    policies: PolicySet<'a>,
    pub(super) direction: Direction,
    /// The end whose policies are evaluated.
    pub(super) own: &'a FlowEnd<'a>,
    /// The end that peers are compared with.
    pub(super) other: &'a FlowEnd<'a>,
    /// The destination, in which port names are looked up.
    pub(super) target: &'a FlowEnd<'a>,
    pub(super) port: Port,
}

/// A policy of the evaluated direction.
pub(super) struct Candidate<'a> {
    /// Its index into [`Rules::policies`].
    pub(super) index: usize,
    pub(super) policy: &'a DirectionalPolicy,
    /// The requirements of its subject that the pod does not meet.
    pub(super) missing: Vec<MissingRequirement>,
}

impl Candidate<'_> {
    pub(super) fn selects(&self) -> bool {
        self.missing.is_empty()
    }
}

/// The outcome of one rule for a flow.
enum RuleOutcome {
    Matches(Action),
    NoMatch,
}

/// The state of an evaluation after some of the policies.
#[derive(Default)]
struct Progress {
    /// The action that decided in the Admin or the Baseline tier, and its rule.
    decision: Option<(Action, String)>,
    /// The rule that passed the flow on from the Admin tier.
    admin_pass: Option<String>,
    /// The rule that passed the flow on from the Baseline tier.
    baseline_pass: Option<String>,
    /// The NetworkPolicies that isolate the pod.
    isolating: Vec<String>,
    /// The first rule of a NetworkPolicy that admits the flow.
    admitting: Option<String>,
}

impl<'a> SideEvaluation<'a> {
    /// Both sides of a flow, in the order of [`Direction::ALL`].
    pub(super) fn both(
        policies: PolicySet<'a>,
        source: &'a FlowEnd<'a>,
        target: &'a FlowEnd<'a>,
        port: Port,
    ) -> [Self; 2] {
        Direction::ALL.map(|direction| {
            let (own, other) = match direction {
                Direction::Egress => (source, target),
                Direction::Ingress => (target, source),
            };
            Self {
                policies,
                direction,
                own,
                other,
                target,
                port,
            }
        })
    }

    /// The policies of this direction, in order of evaluation; none if the end is not a pod.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate<'a>> {
        let own = self.own;
        let policies = self.policies.rules.policies.iter().enumerate();
        policies
            .filter(|(_, policy)| policy.direction == self.direction)
            .filter_map(move |(index, policy)| {
                Some(Candidate {
                    index,
                    policy,
                    missing: missing_requirements(&policy.subject, own.pod?, &own.namespace_labels),
                })
            })
    }

    /// Whether a policy with one unmet requirement was probably meant to select the pod: it selects
    /// no other pod, or the requirement looks like a typo. Most such policies are for other pods.
    pub(super) fn nearly_selects(&self, policy: usize, missing: &MissingRequirement) -> bool {
        let selects_no_pod = self
            .policies
            .selecting_no_pod
            .get(policy)
            .copied()
            .unwrap_or_default();
        let is_in_namespace = !matches!(missing, MissingRequirement::OtherNamespace { .. });

        missing.is_likely_typo() || (selects_no_pod && is_in_namespace)
    }

    /// Evaluates the policies of this side.
    pub(super) fn evaluate(&self) -> Side {
        let mut side = Side {
            direction: self.direction,
            whose: self.own.name.clone(),
            allowed: true,
            because: String::new(),
            policies: Vec::new(),
        };
        if self.own.pod.is_none() {
            side.because = self.why_no_policy_selects();
            return side;
        }

        let mut progress = Progress::default();
        for candidate in self.candidates() {
            if candidate.selects() {
                side.policies
                    .push(self.step(candidate.policy, &mut progress));
            } else {
                side.policies.extend(self.near_miss_step(&candidate));
            }
        }
        (side.allowed, side.because) = self.conclude(progress);
        side
    }

    fn why_no_policy_selects(&self) -> String {
        let name = &self.own.name;
        match self.own.node {
            Some(node) if *name != format!("node {}", node.name) => format!(
                "{name} shares the network of node {}: no policy selects it",
                node.name
            ),
            Some(_) => "policies select pods, not nodes".to_owned(),
            None => "policies select pods, and this address is outside the cluster".to_owned(),
        }
    }

    /// The step of a policy that selects the pod but for one requirement; `None` if it is probably
    /// for other pods.
    fn near_miss_step(&self, candidate: &Candidate<'_>) -> Option<PolicyStep> {
        let [only] = candidate.missing.as_slice() else {
            return None;
        };
        if !self.nearly_selects(candidate.index, only) {
            return None;
        }

        Some(PolicyStep {
            policy: candidate.policy.name.clone(),
            selects: Selects::Nearly(only.reason()),
            not_asked: None,
            rules: Vec::new(),
        })
    }

    /// The step of a policy that selects the pod.
    fn step(&self, policy: &DirectionalPolicy, progress: &mut Progress) -> PolicyStep {
        let not_asked = progress.why_skipped(policy);
        if policy.in_force && policy.tier == PolicyTier::NetworkPolicy {
            progress.isolating.push(policy.name.to_string());
        }

        let mut is_open = policy.in_force && not_asked.is_none();
        let mut rules = Vec::new();
        for number in 0..policy.rules.len() {
            let (mut rule, outcome) = self.rule(policy, number);
            if let (true, RuleOutcome::Matches(action)) = (is_open, outcome) {
                rule.decides = true;
                let title = format!("rule {} of {}", rule.number, policy.name);
                is_open = progress.record(policy.tier, action, title);
            }
            rules.push(rule);
        }

        PolicyStep {
            policy: policy.name.clone(),
            selects: if policy.in_force {
                Selects::Yes
            } else {
                Selects::NotThisDirection
            },
            not_asked,
            rules,
        }
    }

    /// Whether the side allows the flow, and why.
    fn conclude(&self, progress: Progress) -> (bool, String) {
        let whose = &self.own.name;
        let direction = self.direction.as_str();
        let Progress {
            decision,
            admitting,
            isolating,
            ..
        } = progress;

        match (decision, admitting, isolating.as_slice()) {
            (Some((Action::Deny, rule)), ..) => (false, format!("{rule} denies it")),
            (Some((Action::Accept | Action::Pass, rule)), ..) => {
                (true, format!("{rule} accepts it"))
            }
            (None, Some(rule), _) => (true, format!("{rule} admits it")),
            (None, None, []) => (
                true,
                format!("no policy isolates {whose} for {direction}: everything is allowed"),
            ),
            (None, None, policies) => {
                let verb = if policies.len() == 1 {
                    "isolates"
                } else {
                    "isolate"
                };
                let policies = policies.join(" and ");
                (
                    false,
                    format!(
                        "{policies} {verb} {whose} for {direction}, and no rule admits this flow"
                    ),
                )
            }
        }
    }

    /// The evaluation of one rule, before it is known whether it decides.
    fn rule(&self, policy: &DirectionalPolicy, number: usize) -> (RuleStep, RuleOutcome) {
        let rule = &policy.rules[number];
        let understood = rule.as_understood();
        let action = understood.as_ref().map_or(rule.action, |rule| rule.action);
        let (peer, port) = if rule.unknown.is_empty() {
            self.match_rule(rule)
        } else {
            fail_closed(rule, understood.is_some())
        };

        let outcome = if peer.holds && port.holds {
            RuleOutcome::Matches(action)
        } else {
            RuleOutcome::NoMatch
        };
        let step = RuleStep {
            number: number + 1,
            name: rule.name.clone(),
            origin: rule.origin.clone(),
            action: if policy.tier == PolicyTier::NetworkPolicy {
                "admits".to_owned()
            } else {
                action.to_string()
            },
            peer,
            port,
            decides: false,
        };
        (step, outcome)
    }

    /// Compares the peers and the ports of a rule with the flow.
    fn match_rule(&self, rule: &Rule) -> (Match, Match) {
        let peers = match_peers(rule, self.other);
        let names_apply = port_names_apply(rule, self.direction, &peers);
        let (holds, text) = match_port(rule, self.port, self.target, names_apply);

        let peer = if rule.peers.is_none() {
            Match {
                holds: true,
                text: "any peer".to_owned(),
            }
        } else {
            summarize_peers(&peers)
        };
        (peer, Match { holds, text })
    }

    /// Whether a rule matches the flow.
    pub(super) fn rule_matches(&self, rule: &Rule) -> bool {
        let peers = match_peers(rule, self.other);
        let names_apply = port_names_apply(rule, self.direction, &peers);

        (rule.peers.is_none() || peers.iter().any(PeerMatch::matches))
            && match_port(rule, self.port, self.target, names_apply).0
    }
}

impl Progress {
    /// Why a policy that selects the pod is not evaluated; `None` if it is, or if it is not in
    /// force in this direction.
    fn why_skipped(&self, policy: &DirectionalPolicy) -> Option<String> {
        if !policy.in_force {
            return None;
        }
        if let Some((_, rule)) = &self.decision {
            return Some(format!("{rule} has already decided"));
        }

        let passed = match policy.tier {
            PolicyTier::Admin => self.admin_pass.as_ref(),
            PolicyTier::NetworkPolicy => None,
            PolicyTier::Baseline => self.baseline_pass.as_ref(),
        };
        if let Some(rule) = passed {
            return Some(format!("{rule} has passed the flow to the next tier"));
        }
        if policy.tier == PolicyTier::Baseline && !self.isolating.is_empty() {
            return Some(
                "Baseline policies apply only to pods that no NetworkPolicy isolates".to_owned(),
            );
        }
        None
    }

    /// Records the rule that matched. Returns whether further rules of its policy can decide.
    fn record(&mut self, tier: PolicyTier, action: Action, rule: String) -> bool {
        match (tier, action) {
            (PolicyTier::NetworkPolicy, _) => {
                self.admitting.get_or_insert(rule);
                return true;
            }
            (PolicyTier::Admin, Action::Pass) => self.admin_pass = Some(rule),
            (PolicyTier::Baseline, Action::Pass) => self.baseline_pass = Some(rule),
            (PolicyTier::Admin | PolicyTier::Baseline, Action::Accept | Action::Deny) => {
                self.decision = Some((action, rule));
            }
        }
        false
    }
}

/// The first peer that matches, or else why each one does not.
fn summarize_peers(peers: &[PeerMatch]) -> Match {
    if let Some(peer) = peers.iter().find(|peer| peer.matches()) {
        return Match {
            holds: true,
            text: peer.description.clone(),
        };
    }

    let mismatches: Vec<String> = peers
        .iter()
        .map(|peer| format!("{}: {}", peer.description, peer.reasons.join("; ")))
        .collect();
    Match {
        holds: false,
        text: mismatches.join(" | "),
    }
}

/// The matches of a rule with unknown fields: it denies everything, or matches nothing.
fn fail_closed(rule: &Rule, denies: bool) -> (Match, Match) {
    let fields = rule.unknown.join(", ");
    let effect = if denies {
        "denies everything"
    } else {
        "matches nothing"
    };
    let peer = Match {
        holds: denies,
        text: format!("this version does not know {fields}, so the rule fails closed: it {effect}"),
    };
    let port = Match {
        holds: denies,
        text: "every port".to_owned(),
    };
    (peer, port)
}
