//! Indexes of the policies that select the ends of a flow, and of their rules that match it.
//!
//! Everything comes from the sets of [`Reachability`], without text.

use super::classes::ClassIndex;
use super::flow::{EndpointRef, Predictor};
use super::reachability::{CompiledRule, Reachability};
use super::rules::Direction;
use crate::inventory::ContainerPort;
use crate::model::{Family, Port};

/// A policy that selects an end of a flow, in the direction of that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedPolicy {
    /// Its index in [`Explainer::rules`](super::Explainer::rules).
    pub policy: usize,
    /// The indexes of its rules that match the flow, ascending, whether or not they decide.
    pub rules: Vec<usize>,
}

/// One side of a flow.
struct SideQuery {
    direction: Direction,
    /// The end whose policies are evaluated.
    own: ClassIndex,
    /// The end that peers are compared with.
    other: ClassIndex,
    /// The destination, in which port names are looked up.
    target: ClassIndex,
    port: Port,
    family: Family,
}

impl Predictor<'_> {
    /// The policies in force that select an end of a flow, with their rules that match it: the
    /// source's, then the destination's. Empty where no policy applies.
    pub fn matched_policies(
        &self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        port: Port,
        family: Family,
    ) -> Vec<MatchedPolicy> {
        let Some((from, to)) = self.classes_of(from, to) else {
            return Vec::new();
        };
        let egress = SideQuery {
            direction: Direction::Egress,
            own: from,
            other: to,
            target: to,
            port,
            family,
        };
        let ingress = SideQuery {
            direction: Direction::Ingress,
            own: to,
            other: from,
            ..egress
        };

        let mut matched = self.reachability.matched_policies(&egress);
        matched.extend(self.reachability.matched_policies(&ingress));
        matched
    }
}

impl Reachability<'_> {
    fn matched_policies(&self, side: &SideQuery) -> Vec<MatchedPolicy> {
        // Nodes and addresses outside the cluster have no policies.
        let Some(policies) = self.selecting(side.direction).get(side.own) else {
            return Vec::new();
        };
        policies
            .iter()
            .map(|policy| MatchedPolicy {
                policy: *policy as usize,
                rules: self.matching_rules(*policy, side),
            })
            .collect()
    }

    fn matching_rules(&self, policy: u32, side: &SideQuery) -> Vec<usize> {
        let declared = self
            .classes
            .pods
            .get(side.target)
            .map(|class| class.named_ports.as_slice())
            .unwrap_or_default();
        self.rules(policy)
            .filter(|rule| rule.peers(side.family).contains(side.other))
            .filter(|rule| self.has_port(rule, side, declared))
            .map(CompiledRule::index)
            .collect()
    }

    /// Whether the ports of a rule contain the port of a flow to a pod with these named ports.
    fn has_port(&self, rule: &CompiledRule, side: &SideQuery, declared: &[ContainerPort]) -> bool {
        self.sets.get(rule.set()).contains(side.port)
            || (rule.port_names_apply(side.direction, side.other)
                && rule.named_on(declared).contains(side.port))
    }
}
