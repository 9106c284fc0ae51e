//! The explanation of one flow, policy by policy and rule by rule.

use super::InvalidPolicy;
use super::change::Change;
use super::flow::EndpointRef;
use super::flow_end::FlowEnd;
use super::rules::{Direction, PolicyName, Rules};
use super::side::{PolicySet, SideEvaluation};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use serde::Serialize;

/// Why policies allow or deny a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The source.
    pub from: String,
    /// The destination.
    pub to: String,
    /// The destination port.
    #[serde(serialize_with = "serialize_port")]
    pub port: Port,
    pub allowed: bool,
    /// Why no policy applies to the flow, if none does.
    pub beyond_policies: Option<String>,
    /// Why the answer is not known, where it depends on addresses that nothing gives; `allowed` is
    /// then the answer for the addresses that the lab invented.
    pub depends_on_addresses: Option<String>,
    /// The source's side, then the destination's; empty where no policy applies.
    pub sides: Vec<Side>,
    /// Changes that give the opposite answer, the smallest first; only [`Explainer::advise`] looks
    /// for them.
    pub changes: Vec<Change>,
    /// Further facts that matter to the reader of the answer.
    pub notes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn serialize_port<S: serde::Serializer>(port: &Port, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(port)
}

/// One direction of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Egress for the source, Ingress for the destination.
    #[serde(serialize_with = "serialize_direction")]
    pub direction: Direction,
    /// The end whose policies are evaluated.
    pub whose: String,
    pub allowed: bool,
    /// The reason, in one sentence.
    pub because: String,
    /// Policies that select the pod or almost do, in order of evaluation.
    pub policies: Vec<PolicyStep>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn serialize_direction<S: serde::Serializer>(
    direction: &Direction,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.as_str())
}

/// The evaluation of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStep {
    pub policy: PolicyName,
    pub selects: Selects,
    /// Why the policy is not evaluated although it selects the pod: an earlier one has decided.
    pub not_asked: Option<String>,
    pub rules: Vec<RuleStep>,
}

/// Whether a policy selects a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Selects {
    /// It selects the pod, and it is in force in this direction.
    Yes,
    /// It selects the pod, but its `policyTypes` leave this direction out.
    NotThisDirection,
    /// Exactly one requirement of its selector is not met: the reason.
    Nearly(String),
}

/// The evaluation of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleStep {
    /// From 1.
    pub number: usize,
    pub name: Option<String>,
    /// `file:line` of a manifest; empty for a policy of a cluster.
    pub origin: String,
    /// The action on a match: `Accept`, `Deny` or `Pass`, and `admits` for a NetworkPolicy.
    pub action: String,
    /// Whether the rule's peers match the other end.
    pub peer: Match,
    /// Whether the rule's ports match the port.
    pub port: Match,
    /// Whether this rule decided.
    pub decides: bool,
}

/// Whether peers or ports match, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    pub holds: bool,
    pub text: String,
}

/// The policies of an inventory, for explanations of single flows.
pub struct Explainer<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) rules: Rules,
    /// The result of [`Rules::selecting_no_pod`].
    selecting_no_pod: Vec<bool>,
}

impl<'a> Explainer<'a> {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that an API server would refuse.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let rules = Rules::of(inventory)?;
        let selecting_no_pod = rules.selecting_no_pod(inventory);
        Ok(Self {
            inventory,
            rules,
            selecting_no_pod,
        })
    }

    pub(super) fn policy_set(&self) -> PolicySet<'_> {
        PolicySet {
            rules: &self.rules,
            selecting_no_pod: &self.selecting_no_pod,
        }
    }

    /// Policies in force, by direction, with the origins of their rules.
    pub fn rules(
        &self,
    ) -> impl Iterator<Item = (&PolicyName, Direction, impl Iterator<Item = &str>)> {
        let in_force = self.rules.policies.iter().filter(|policy| policy.in_force);
        in_force.map(|policy| {
            (
                &policy.name,
                policy.direction,
                policy.rules.iter().map(|rule| rule.origin.as_str()),
            )
        })
    }

    /// Explains one flow. Without a family, the first known address of each end is used.
    pub fn explain(
        &self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        port: Port,
        family: Option<Family>,
    ) -> Explanation {
        let source = FlowEnd::resolve(self.inventory, from, family);
        let target = FlowEnd::resolve(self.inventory, to, family);
        let mut explanation = Explanation {
            from: source.name.clone(),
            to: target.name.clone(),
            port,
            allowed: true,
            beyond_policies: beyond_policies(&source, &target, to),
            depends_on_addresses: None,
            sides: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
        };
        if explanation.beyond_policies.is_some() {
            return explanation;
        }

        let sides = SideEvaluation::both(self.policy_set(), &source, &target, port);
        explanation.sides = sides.iter().map(SideEvaluation::evaluate).collect();
        explanation.allowed = explanation.sides.iter().all(|side| side.allowed);
        explanation
    }
}

impl Explanation {
    /// The reason in one sentence: of the sides that deny, or of both where both allow.
    pub fn because(&self) -> String {
        if let Some(why) = &self.beyond_policies {
            return why.clone();
        }

        let deciding = self
            .sides
            .iter()
            .filter(|side| side.allowed == self.allowed);
        let reasons: Vec<&str> = deciding.map(|side| side.because.as_str()).collect();
        reasons.join("; ")
    }

    /// Whether the same rules of the same policies decide in the same way, as for two replicas,
    /// whose explanations differ only in names.
    pub fn is_like(&self, other: &Self) -> bool {
        self.port == other.port
            && self.allowed == other.allowed
            && self.beyond_policies.is_some() == other.beyond_policies.is_some()
            && self.sides.len() == other.sides.len()
            && self
                .sides
                .iter()
                .zip(&other.sides)
                .all(|(one, other)| one.outline() == other.outline())
    }
}

impl Side {
    /// Policies, whether each selects the pod, and the outcomes of their rules, without text.
    fn outline(&self) -> Vec<(&PolicyName, bool, Vec<[bool; 3]>)> {
        self.policies
            .iter()
            .map(|step| {
                let rules = step.rules.iter().map(RuleStep::outline).collect();
                (&step.policy, step.selects == Selects::Yes, rules)
            })
            .collect()
    }
}

impl RuleStep {
    fn outline(&self) -> [bool; 3] {
        [self.peer.holds, self.port.holds, self.decides]
    }
}

/// Why no policy applies to a flow: within a pod, or from a node to its own pod.
fn beyond_policies(
    source: &FlowEnd<'_>,
    target: &FlowEnd<'_>,
    to: EndpointRef<'_>,
) -> Option<String> {
    let pod = target.pod?;
    let through_service = matches!(to, EndpointRef::ServicePod(_));
    match (source.pod, source.node) {
        (Some(source), _) if std::ptr::eq(source, pod) && !through_service => {
            Some("traffic from a pod to its own address never leaves the pod".to_owned())
        }
        (None, Some(node)) if node.name == pod.node => Some(format!(
            "{} runs on node {}, and a node always reaches its own pods; policies apply to other \
             nodes",
            target.name, node.name
        )),
        _ => None,
    }
}
