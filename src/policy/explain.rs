//! One flow, policy by policy and rule by rule: the slow way that tells everything.

use super::InvalidPolicy;
use super::change::Change;
use super::flow::End;
use super::near_miss::{self, Party};
use super::rules::{Direction, DirectionalPolicy, PolicyName, Rules};
use super::what_if::walks;
use crate::inventory::{Action, Inventory, Labels, PolicyTier};
use crate::model::{Family, Port};
use serde::Serialize;
use std::net::IpAddr;

/// Why policies allow or deny a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who sends.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The destination port.
    #[serde(serialize_with = "shown")]
    pub port: Port,
    /// Whether the flow is allowed.
    pub allowed: bool,
    /// Why no policy is asked, if none is.
    pub beyond_policies: Option<String>,
    /// The source's side, then the destination's; none where no policy is asked.
    pub sides: Vec<Side>,
    /// What would turn the answer, the smallest change first, where it was asked for:
    /// [`Explainer::advise`].
    pub changes: Vec<Change>,
    /// What else whoever asked should know.
    pub notes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn shown<S: serde::Serializer>(port: &Port, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(port)
}

/// One direction of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Egress for the source, Ingress for the destination.
    #[serde(serialize_with = "spelt")]
    pub direction: Direction,
    /// Whose side it is.
    pub whose: String,
    /// Whether this side lets the flow through.
    pub allowed: bool,
    /// In one sentence.
    pub because: String,
    /// Policies that select the pod, or nearly do, in the order in which they are asked.
    pub policies: Vec<PolicyStep>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn spelt<S: serde::Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.as_str())
}

/// A policy, asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStep {
    /// Which.
    pub policy: PolicyName,
    /// Whether it selects the pod.
    pub selects: Selects,
    /// Why it is not asked though it selects the pod: it was decided before.
    pub not_asked: Option<String>,
    /// Its rules.
    pub rules: Vec<RuleStep>,
}

/// Whether a policy selects a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Selects {
    /// It does, and it is in force in this direction.
    Yes,
    /// It does, but its `policyTypes` leave this direction out.
    NotThisDirection,
    /// One thing is missing: which.
    Nearly(String),
}

/// A rule, asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleStep {
    /// From 1.
    pub number: usize,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
    /// What it does with what it matches; NetworkPolicies only accept.
    pub action: String,
    /// Whether the other end is meant.
    pub peer: Match,
    /// Whether the port is meant.
    pub port: Match,
    /// Whether this rule decided.
    pub decides: bool,
}

/// Whether something matches, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Whether it does.
    pub holds: bool,
    /// In words.
    pub text: String,
}

/// The policies of an inventory, asked for one flow at a time.
pub struct Explainer<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) rules: Rules,
    /// [`Rules::selecting_nobody`].
    pub(super) selecting_nobody: Vec<bool>,
}

impl<'a> Explainer<'a> {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that no API server would have taken.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let rules = Rules::of(inventory)?;
        let selecting_nobody = rules.selecting_nobody(inventory);
        Ok(Self {
            inventory,
            rules,
            selecting_nobody,
        })
    }

    /// Policies that are in force, by direction, with the places of their rules.
    pub fn rules(
        &self,
    ) -> impl Iterator<Item = (&PolicyName, Direction, impl Iterator<Item = &str>)> {
        let policies = self.rules.policies.iter().filter(|policy| policy.in_force);
        policies.map(|policy| {
            (
                &policy.name,
                policy.direction,
                policy.rules.iter().map(|rule| rule.origin.as_str()),
            )
        })
    }

    /// Explains one flow. Where no family is given, an end's first known address stands for it.
    pub fn explain(
        &self,
        from: End<'_>,
        to: End<'_>,
        port: Port,
        family: Option<Family>,
    ) -> Explanation {
        let (source, target) = (
            party(self.inventory, from, family),
            party(self.inventory, to, family),
        );
        let mut explanation = Explanation {
            from: source.name.clone(),
            to: target.name.clone(),
            port,
            allowed: true,
            beyond_policies: beyond_policies(&source, &target, to),
            sides: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
        };
        if explanation.beyond_policies.is_some() {
            return explanation;
        }
        let walks = walks(
            (&self.rules, &self.selecting_nobody),
            &source,
            &target,
            port,
        );
        explanation.sides = walks.iter().map(Walk::side).collect();
        explanation.allowed = explanation.sides.iter().all(|side| side.allowed);
        explanation
    }
}

impl Explanation {
    /// Why, in one sentence: the side that denies, or what each side says.
    pub fn because(&self) -> String {
        if let Some(why) = &self.beyond_policies {
            return why.clone();
        }
        let deny = self
            .sides
            .iter()
            .filter(|side| !side.allowed)
            .map(|side| side.because.as_str());
        let said: Vec<&str> = if self.allowed {
            self.sides
                .iter()
                .map(|side| side.because.as_str())
                .collect()
        } else {
            deny.collect()
        };
        said.join("; ")
    }

    /// Whether the same rules of the same policies decide in the same way: two replicas have
    /// explanations that differ in names only.
    pub fn is_like(&self, other: &Self) -> bool {
        let alike = |(a, b): (&Side, &Side)| a.outline() == b.outline();
        self.port == other.port
            && self.allowed == other.allowed
            && self.beyond_policies.is_some() == other.beyond_policies.is_some()
            && self.sides.len() == other.sides.len()
            && self.sides.iter().zip(&other.sides).all(alike)
    }
}

impl Side {
    /// What was asked and answered, without words.
    fn outline(&self) -> Vec<(&PolicyName, bool, Vec<[bool; 3]>)> {
        let rule = |rule: &RuleStep| [rule.peer.holds, rule.port.holds, rule.decides];
        let step = |step: &PolicyStep| step.rules.iter().map(rule).collect();
        self.policies
            .iter()
            .map(|of| (&of.policy, of.selects == Selects::Yes, step(of)))
            .collect()
    }
}

/// Who is at an end.
pub(super) fn party<'a>(
    inventory: &'a Inventory,
    end: End<'_>,
    family: Option<Family>,
) -> Party<'a> {
    let node = |name: &str| {
        let node = inventory.nodes.iter().find(|node| node.name == name);
        let addresses = node
            .map(|node| node.addresses.as_slice())
            .unwrap_or_default();
        let address = addresses
            .iter()
            .copied()
            .find(|address| family.is_none_or(|family| Family::of(*address) == family));
        Party {
            pod: None,
            namespace: Labels::new(),
            node,
            address,
            name: format!("node {name}"),
        }
    };
    let outside = |address: IpAddr| Party {
        pod: None,
        namespace: Labels::new(),
        node: None,
        address: Some(address),
        name: address.to_string(),
    };
    match end {
        End::Pod(number) | End::Served(number) => {
            Party::pod(inventory, &inventory.pods[number], family)
        }
        End::Node(name) => node(name),
        End::Address(address) => {
            let pods = inventory
                .pods
                .iter()
                .find(|pod| !pod.host_network && pod.addresses.contains(&address));
            let nodes = || {
                inventory
                    .nodes
                    .iter()
                    .find(|node| node.addresses.contains(&address))
            };
            match (pods, nodes()) {
                (Some(pod), _) => Party::pod(inventory, pod, Some(Family::of(address))),
                (None, Some(of)) => Party {
                    address: Some(address),
                    ..node(&of.name)
                },
                (None, None) => outside(address),
            }
        }
    }
}

/// Flows that no policy is asked about.
fn beyond_policies(from: &Party<'_>, to: &Party<'_>, end: End<'_>) -> Option<String> {
    let target = to.pod?;
    match (from.pod, from.node) {
        (Some(source), _) if std::ptr::eq(source, target) && !matches!(end, End::Served(_)) => {
            Some("what a pod sends to its own address never leaves it".to_owned())
        }
        (None, Some(node)) if node.name == target.node => {
            let says =
                "and a node always reaches its own pods; from another node policies would decide";
            Some(format!("{} runs on node {}, {says}", to.name, node.name))
        }
        _ => None,
    }
}

/// One direction of a flow, with all that policies ask.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a Rules,
    /// [`Rules::selecting_nobody`]; empty where nobody asks for words.
    pub(super) selecting_nobody: &'a [bool],
    pub(super) direction: Direction,
    /// Whose policies are asked.
    pub(super) own: &'a Party<'a>,
    pub(super) other: &'a Party<'a>,
    /// Where names of ports are looked up.
    pub(super) target: &'a Party<'a>,
    pub(super) port: Port,
}

/// What a rule makes of a flow.
enum Asked {
    Decides(Action),
    NotMeant,
}

impl<'a> Walk<'a> {
    /// Policies of this direction by their places among all, with what the pod lacks to be
    /// selected.
    pub(super) fn numbered(
        &self,
    ) -> impl Iterator<Item = (usize, &'a DirectionalPolicy, Vec<near_miss::MissingRequirement>)> {
        let policies = self.rules.policies.iter().map(|policy| &**policy).enumerate();
        let own = self.own;
        policies
            .filter(|(_, policy)| policy.direction == self.direction)
            .filter_map(move |(at, policy)| {
                Some((
                    at,
                    policy,
                    near_miss::missing_requirement(&policy.subject, own.pod?, &own.namespace),
                ))
            })
    }

    /// Whether a policy that selects all but for one thing was perhaps meant to: it selects nobody
    /// else, or the thing looks like a slip. Of policies for other pods there are many.
    pub(super) fn nearly_selects(&self, policy: usize, only: &near_miss::MissingRequirement) -> bool {
        let selects_nobody = self.selecting_nobody.get(policy).copied().unwrap_or_default();
        only.may_be_a_slip()
            || (selects_nobody
                && !matches!(only, near_miss::MissingRequirement::OtherNamespace { .. }))
    }

    pub(super) fn side(&self) -> Side {
        let mut side = Side {
            direction: self.direction,
            whose: self.own.name.clone(),
            allowed: true,
            because: String::new(),
            policies: Vec::new(),
        };
        if self.own.pod.is_none() {
            side.because = match self.own.node {
                Some(node) if self.own.name != format!("node {}", node.name) => {
                    format!(
                        "{} shares the network of node {}: no policy selects it",
                        self.own.name, node.name
                    )
                }
                Some(_) => "policies select pods, not nodes".to_owned(),
                None => "policies select pods, and this is outside the cluster".to_owned(),
            };
            return side;
        }
        let mut steps = Vec::new();
        let mut decided: Option<(Action, String)> = None;
        // The rule that left the tier.
        let mut passed_admin: Option<String> = None;
        let mut passed_baseline: Option<String> = None;
        let mut isolating: Vec<String> = Vec::new();
        let mut admitted: Option<String> = None;
        for (at, policy, missing_requirement) in self.numbered() {
            if !missing_requirement.is_empty() {
                if let [only] = missing_requirement.as_slice()
                    && self.nearly_selects(at, only)
                {
                    steps.push(PolicyStep {
                        policy: policy.name.clone(),
                        selects: Selects::Nearly(only.reason()),
                        not_asked: None,
                        rules: Vec::new(),
                    });
                }
                continue;
            }
            let selects = if policy.in_force {
                Selects::Yes
            } else {
                Selects::NotThisDirection
            };
            let passed = match policy.tier {
                PolicyTier::Admin => passed_admin.as_ref(),
                PolicyTier::NetworkPolicy => None,
                PolicyTier::Baseline => passed_baseline.as_ref(),
            };
            let not_asked = match (&decided, passed) {
                _ if !policy.in_force => None,
                (Some((_, rule)), _) => Some(format!("{rule} has decided")),
                (None, Some(rule)) => Some(format!("{rule} has passed the rest of this tier by")),
                (None, None)
                    if matches!(policy.tier, PolicyTier::Baseline) && !isolating.is_empty() =>
                {
                    Some("Baseline is for pods that no NetworkPolicy isolates".to_owned())
                }
                (None, None) => None,
            };
            let asked = policy.in_force && not_asked.is_none();
            if policy.in_force && policy.tier == PolicyTier::NetworkPolicy {
                isolating.push(policy.name.to_string());
            }
            let mut step = PolicyStep {
                policy: policy.name.clone(),
                selects,
                not_asked,
                rules: Vec::new(),
            };
            let mut open = asked;
            for number in 0..policy.rules.len() {
                let (mut rule, verdict) = self.rule(policy, number);
                if let (true, Asked::Decides(action)) = (open, verdict) {
                    let title = format!("rule {} of {}", rule.number, policy.name);
                    rule.decides = true;
                    match (policy.tier, action) {
                        (PolicyTier::NetworkPolicy, _) => {
                            admitted.get_or_insert(title);
                        }
                        (PolicyTier::Admin, Action::Pass) => {
                            (passed_admin, open) = (Some(title), false)
                        }
                        (PolicyTier::Baseline, Action::Pass) => {
                            (passed_baseline, open) = (Some(title), false)
                        }
                        (_, action) => (decided, open) = (Some((action, title)), false),
                    }
                }
                step.rules.push(rule);
            }
            steps.push(step);
        }
        side.policies = steps;
        let whose = &self.own.name;
        let direction = self.direction.as_str();
        (side.allowed, side.because) = match (decided, admitted, isolating.as_slice()) {
            (Some((Action::Deny, rule)), ..) => (false, format!("{rule} denies it")),
            (Some((_, rule)), ..) => (true, format!("{rule} accepts it")),
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
                (
                    false,
                    format!(
                        "{} {verb} {whose} for {direction}, and no rule admits this flow",
                        policies.join(" and ")
                    ),
                )
            }
        };
        side
    }

    /// A rule, asked: what it says of the flow.
    fn rule(&self, policy: &DirectionalPolicy, number: usize) -> (RuleStep, Asked) {
        let rule = &policy.rules[number];
        let standings = near_miss::peers(rule, self.other);
        let mut peer = match &rule.peers {
            None => Match {
                holds: true,
                text: "anyone".to_owned(),
            },
            Some(_) => {
                if let Some(standing) = standings.iter().find(|standing| standing.holds()) {
                    Match {
                        holds: true,
                        text: standing.what.clone(),
                    }
                } else {
                    let each = standings
                        .iter()
                        .map(|one| format!("{}: {}", one.what, one.reasons.join("; ")));
                    Match {
                        holds: false,
                        text: each.collect::<Vec<_>>().join(" | "),
                    }
                }
            }
        };
        let names_count = near_miss::names_count(rule, self.direction, &standings);
        let (holds, text) = near_miss::ports(rule, self.port, self.target, names_count);
        let mut port = Match { holds, text };
        let understood = rule.as_understood();
        let action = understood.as_ref().map_or(rule.action, |rule| rule.action);
        if !rule.unknown.is_empty() {
            let fields = rule.unknown.join(", ");
            let deny = understood.is_some();
            let text = format!(
                "this version does not know {fields}, so the rule fails closed: it {}",
                if deny {
                    "denies everything"
                } else {
                    "matches nothing"
                }
            );
            peer = Match { holds: deny, text };
            port = Match {
                holds: deny,
                text: "every port".to_owned(),
            };
        }
        let asked = if peer.holds && port.holds {
            Asked::Decides(action)
        } else {
            Asked::NotMeant
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
        (step, asked)
    }
}
