//! Suggested changes, tried: the policies are evaluated with each, and only those that give the
//! opposite answer are kept.

use super::InvalidPolicy;
use super::change::{self, Change};
use super::difference::Comparison;
use super::edit::{self, Edit};
use super::explain::{Explainer, Explanation};
use super::flow::{EndpointRef, Predictor};
use super::flow_end::FlowEnd;
use super::map::{Link, LinkEnd, workload_of};
use super::ports::PortSet;
use super::rules::Rules;
use super::side::{PolicySet, SideEvaluation};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use serde::Serialize;
use std::rc::Rc;

/// The number of changes that are suggested for one flow.
const MAX_CHANGES: usize = 3;

/// Connections that a change opens or closes besides the flow that it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SideEffects {
    pub opens: Vec<String>,
    pub closes: Vec<String>,
}

/// A flow with both of its ends.
struct Flow<'p> {
    source: FlowEnd<'p>,
    target: FlowEnd<'p>,
    port: Port,
}

impl Flow<'_> {
    /// Whether each side allows the flow under edited rules, in the order of [`Direction::ALL`].
    ///
    /// [`Direction::ALL`]: super::rules::Direction::ALL
    fn allowed_after(&self, rules: &Rules, edits: &[Edit]) -> [bool; 2] {
        let rules = edit::rules(rules, edits);
        let source_pod = self.source.pod.and_then(|pod| edit::pod(pod, edits));
        let target_pod = self.target.pod.and_then(|pod| edit::pod(pod, edits));
        let source = edit::flow_end(&self.source, source_pod.as_ref(), edits);
        let target = edit::flow_end(&self.target, target_pod.as_ref(), edits);

        let policies = PolicySet {
            rules: &rules,
            selecting_no_pod: &[],
        };
        SideEvaluation::both(policies, &source, &target, self.port)
            .map(|side| side.evaluate().allowed)
    }

    /// Whether a change makes one side allow the flow; sides are in the order of
    /// [`Direction::ALL`](super::rules::Direction::ALL).
    fn is_allowed_by_side(&self, side: usize, rules: &Rules, change: &Change) -> bool {
        self.allowed_after(rules, &change.edits)[side]
    }

    /// Whether the policies allow the flow after a change.
    fn is_allowed_after(&self, rules: &Rules, change: &Change) -> bool {
        self.allowed_after(rules, &change.edits) == [true, true]
    }
}

impl Explainer<'_> {
    /// Explains one flow, with the smallest changes that give the opposite answer. Each was tried:
    /// with it, the policies give the opposite answer.
    pub fn advise(
        &self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        port: Port,
        family: Option<Family>,
    ) -> Explanation {
        let mut explanation = self.explain(from, to, port, family);
        if explanation.beyond_policies.is_some() {
            return explanation;
        }

        let flow = Flow {
            source: FlowEnd::resolve(self.inventory, from, family),
            target: FlowEnd::resolve(self.inventory, to, family),
            port,
        };
        explanation.changes = if explanation.allowed {
            self.denying_changes(&flow)
        } else {
            self.allowing_changes(&flow, &explanation)
        };
        explanation
    }

    fn sides<'e>(&'e self, flow: &'e Flow<'e>) -> [SideEvaluation<'e>; 2] {
        SideEvaluation::both(self.policy_set(), &flow.source, &flow.target, flow.port)
    }

    /// Changes after which one of the sides denies an allowed flow.
    fn denying_changes(&self, flow: &Flow<'_>) -> Vec<Change> {
        let sides = self.sides(flow);
        let candidates = sides.iter().flat_map(change::denying).collect();
        smallest_first(candidates)
            .filter(|change| !flow.is_allowed_after(&self.rules, change))
            .take(MAX_CHANGES)
            .collect()
    }

    /// Changes after which every side that denies a flow allows it.
    fn allowing_changes(&self, flow: &Flow<'_>, explanation: &Explanation) -> Vec<Change> {
        let mut changes_of_sides: Vec<Vec<Change>> = Vec::new();
        for (number, side) in self.sides(flow).iter().enumerate() {
            if !explanation.sides[number].allowed {
                let changes = smallest_first(change::allowing(side))
                    .filter(|change| flow.is_allowed_by_side(number, &self.rules, change))
                    .take(MAX_CHANGES);
                changes_of_sides.push(changes.collect());
            }
        }

        let candidates = match changes_of_sides.as_slice() {
            [only] => only.clone(),
            [egress, ingress] => combinations(egress, ingress),
            _ => Vec::new(),
        };
        smallest_first(candidates)
            .filter(|change| flow.is_allowed_after(&self.rules, change))
            .take(MAX_CHANGES)
            .collect()
    }

    /// The inventory and the rules with a change applied.
    pub(super) fn apply(&self, change: &Change) -> (Inventory, Rules) {
        (
            edit::inventory(self.inventory, &change.edits),
            edit::rules(&self.rules, &change.edits),
        )
    }

    /// The connections that a change opens or closes besides one flow.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that an API server would refuse.
    pub fn side_effects(
        &self,
        change: &Change,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        port: Port,
    ) -> Result<SideEffects, InvalidPolicy> {
        let mut before = Predictor::new(self.inventory)?;
        let (inventory, rules) = self.apply(change);
        let mut after = Predictor::with(&inventory, &rules);

        let differences = Comparison::new(&mut before, &mut after).differences(None, None);
        Ok(SideEffects {
            opens: self.describe_others(differences.opened, from, to, port),
            closes: self.describe_others(differences.closed, from, to, port),
        })
    }

    /// Links as text, without one flow.
    fn describe_others(
        &self,
        links: Vec<Link>,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        port: Port,
    ) -> Vec<String> {
        let excluded = PortSet::range(port.transport(), port.number(), port.number());
        let mut texts = Vec::new();
        for mut link in links {
            if self.is_at(&link.from, from) && self.is_at(&link.to, to) {
                link.ports = Rc::new(link.ports.minus(&excluded));
                link.unknown = Rc::new(link.unknown.minus(&excluded));
            }
            if !link.ports.is_empty() || !link.unknown.is_empty() {
                texts.push(link.to_string());
            }
        }
        texts
    }

    /// Whether an end of a link contains an endpoint: its workload, or its address alone.
    fn is_at(&self, end: &LinkEnd, endpoint: EndpointRef<'_>) -> bool {
        let mut pods = self.inventory.pods.iter();
        let pod = match endpoint {
            EndpointRef::Pod(index) | EndpointRef::ServicePod(index) => pods.nth(index),
            EndpointRef::Address(address) => pods.find(|pod| pod.addresses.contains(&address)),
            EndpointRef::Node(_) => None,
        };

        match (end, pod, endpoint) {
            (LinkEnd::Workload(workload), Some(pod), _) => {
                workload.workload == workload_of(pod)
                    && (workload.pods.is_empty() || workload.pods.contains(&pod.name))
            }
            (LinkEnd::Outside(first, last), _, EndpointRef::Address(address)) => {
                *first == address && *last == address
            }
            _ => false,
        }
    }
}

/// Every change of one list together with every change of the other.
fn combinations(one: &[Change], other: &[Change]) -> Vec<Change> {
    one.iter()
        .flat_map(|first| other.iter().map(|second| first.and(second)))
        .collect()
}

/// The changes by size, each once.
fn smallest_first(mut changes: Vec<Change>) -> impl Iterator<Item = Change> {
    changes.sort_by(|a, b| (a.size, &a.text).cmp(&(b.size, &b.text)));
    changes.dedup_by(|a, b| a.text == b.text);
    changes.into_iter()
}
