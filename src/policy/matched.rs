//! What one flow meets, by number: which policies select its ends, and which of their rules match
//! it.
//!
//! Nothing is put into words, and nothing is looked for twice: everything is taken from the sets of
//! the rows.

use super::classes::Entity;
use super::flow::{End, Predictor};
use super::reachability::Rows;
use super::rules::Direction;
use crate::model::{Family, Port};

/// A policy that selects an end of a flow, in the direction of that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Which: its place in [`Explainer::rules`](super::Explainer::rules), from 0.
    pub policy: usize,
    /// Those of its rules that match the flow, from 0, in order; whether one of them decides is not
    /// asked.
    pub rules: Vec<usize>,
}

impl Predictor<'_> {
    /// The policies in force that select an end of a flow, and their rules that match it: the
    /// source's, then the destination's. Nothing where no policy is asked.
    pub fn met(&self, from: End<'_>, to: End<'_>, port: Port, family: Family) -> Vec<Met> {
        let Some((from, to)) = self.ends(from, to) else {
            return Vec::new();
        };
        let mut met = self.rows.met(Direction::Egress, from, to, to, port, family);
        met.extend(
            self.rows
                .met(Direction::Ingress, to, from, to, port, family),
        );
        met
    }
}

impl Rows<'_> {
    /// The same of one side: of whose policies `own` is.
    fn met(
        &self,
        direction: Direction,
        own: Entity,
        other: Entity,
        target: Entity,
        port: Port,
        family: Family,
    ) -> Vec<Met> {
        // Nodes and addresses outside have no policies.
        let applying = self
            .applying(direction)
            .get(own)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let declared = self
            .universe
            .groups
            .get(target)
            .map(|group| group.named.as_slice())
            .unwrap_or_default();
        let of = |policy: u32| {
            let matching = self
                .rules(policy)
                .filter(|rule| rule.peers(family).contains(other));
            let matching = matching.filter(|rule| {
                let named =
                    || rule.names_count(direction, other) && rule.on(declared).contains(port);
                self.sets.get(rule.set()).contains(port) || named()
            });
            Met {
                policy: policy as usize,
                rules: matching
                    .map(super::reachability::CompiledRule::number)
                    .collect(),
            }
        };
        applying.iter().map(|policy| of(*policy)).collect()
    }
}
