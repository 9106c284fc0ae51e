//! Suggestions, tried: policies are evaluated again as they would be, and only what turns the
//! answer is told.

use super::InvalidPolicy;
use super::change::{self, Change};
use super::edit::{self, Edit};
use super::explain::{Explainer, Explanation, Walk, party};
use super::flow::{End, Predictor};
use super::map::{ConnectionMap, Link, Who, workload_of};
use super::near_miss::Party;
use super::rules::{Direction, Rules};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use serde::Serialize;

/// How many changes are told.
const MOST: usize = 3;

/// What else a change would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SideEffects {
    /// What else would become reachable.
    pub opens: Vec<String>,
    /// What else would no longer be.
    pub closes: Vec<String>,
}

/// A flow, with both of its ends.
struct Asked<'p> {
    source: Party<'p>,
    target: Party<'p>,
    port: Port,
}

impl Asked<'_> {
    /// What both sides say, in the order of [`Direction::ALL`].
    fn allowed(&self, rules: &Rules, edits: &[Edit]) -> [bool; 2] {
        let rules = edit::rules(rules, edits);
        let (source, target) = (self.source.pod, self.target.pod);
        let source = source.and_then(|pod| edit::pod(pod, edits));
        let target = target.and_then(|pod| edit::pod(pod, edits));
        let source = edit::party(&self.source, source.as_ref(), edits);
        let target = edit::party(&self.target, target.as_ref(), edits);
        walks((&rules, &[]), &source, &target, self.port).map(|walk| walk.side().allowed)
    }
}

/// Both sides of a flow, by rules and what is known of whom they select.
pub(super) fn walks<'a>(
    (rules, selecting_no_pod): (&'a Rules, &'a [bool]),
    source: &'a Party<'a>,
    target: &'a Party<'a>,
    port: Port,
) -> [Walk<'a>; 2] {
    [
        Walk {
            rules,
            selecting_no_pod,
            direction: Direction::Egress,
            own: source,
            other: target,
            target,
            port,
        },
        Walk {
            rules,
            selecting_no_pod,
            direction: Direction::Ingress,
            own: target,
            other: source,
            target,
            port,
        },
    ]
}

impl Explainer<'_> {
    /// Explains one flow, with the smallest changes that would turn the answer. Each was tried:
    /// with it, the policies say the opposite.
    pub fn advise(
        &self,
        from: End<'_>,
        to: End<'_>,
        port: Port,
        family: Option<Family>,
    ) -> Explanation {
        let mut explanation = self.explain(from, to, port, family);
        if explanation.beyond_policies.is_none() {
            let asked = Asked {
                source: party(self.inventory, from, family),
                target: party(self.inventory, to, family),
                port,
            };
            explanation.changes = self.turning(&asked, &explanation);
        }
        explanation
    }

    /// A denied flow needs every side that denies it to let it through; an allowed one is stopped
    /// by either.
    fn turning(&self, asked: &Asked<'_>, explanation: &Explanation) -> Vec<Change> {
        let walks = walks(
            (&self.rules, &self.selecting_no_pod),
            &asked.source,
            &asked.target,
            asked.port,
        );
        let turns = |change: &Change| {
            asked
                .allowed(&self.rules, &change.edits)
                .iter()
                .all(|side| *side)
                != explanation.allowed
        };
        let mut changes: Vec<Change> = Vec::new();
        if explanation.allowed {
            changes.extend(
                sorted(walks.iter().flat_map(change::closing).collect())
                    .filter(turns)
                    .take(MOST),
            );
            return changes;
        }
        let mut needed: Vec<Vec<Change>> = Vec::new();
        for (number, walk) in walks
            .iter()
            .enumerate()
            .filter(|(number, _)| !explanation.sides[*number].allowed)
        {
            let opens = |change: &Change| asked.allowed(&self.rules, &change.edits)[number];
            needed.push(
                sorted(change::opening(walk))
                    .filter(opens)
                    .take(MOST)
                    .collect(),
            );
        }
        match needed.as_slice() {
            [only] => changes.extend(only.iter().filter(|change| turns(change)).cloned()),
            [egress, ingress] => {
                let both = egress
                    .iter()
                    .flat_map(|one| ingress.iter().map(move |other| one.and(other)));
                changes.extend(sorted(both.collect()).filter(turns).take(MOST));
            }
            _ => {}
        }
        changes
    }

    /// Everything as it would be.
    pub(super) fn as_changed(&self, change: &Change) -> (Inventory, Rules) {
        (
            edit::inventory(self.inventory, &change.edits),
            edit::rules(&self.rules, &change.edits),
        )
    }

    /// What a change would do beside turning the answer about one flow.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that no API server would have taken.
    pub fn side_effects(
        &self,
        change: &Change,
        from: End<'_>,
        to: End<'_>,
        port: Port,
    ) -> Result<SideEffects, InvalidPolicy> {
        let before = Predictor::new(self.inventory)?.map();
        let (inventory, rules) = self.as_changed(change);
        let after = Predictor::with(&inventory, &rules).map();
        Ok(self.beside(&before, &after, from, to, port))
    }

    fn beside(
        &self,
        before: &ConnectionMap,
        after: &ConnectionMap,
        from: End<'_>,
        to: End<'_>,
        port: Port,
    ) -> SideEffects {
        let (opened, closed) = before.changes(after);
        let asked = edit::only(port);
        let others = |links: Vec<Link>| {
            let mut told = Vec::new();
            for mut link in links {
                if self.is_at(&link.from, from) && self.is_at(&link.to, to) {
                    link.ports = link.ports.minus(&asked);
                }
                if !link.ports.is_empty() {
                    let over = link
                        .family
                        .map_or(String::new(), |family| format!(" over {family}"));
                    told.push(format!(
                        "{} -> {}{over}: {}",
                        link.from, link.to, link.ports
                    ));
                }
            }
            told
        };
        SideEffects {
            opens: others(opened),
            closes: others(closed),
        }
    }

    /// Whether an end of a link is where a flow has its end, and nothing else is there.
    fn is_at(&self, who: &Who, end: End<'_>) -> bool {
        let pod = match end {
            End::Pod(number) | End::Served(number) => self.inventory.pods.get(number),
            End::Address(address) => self
                .inventory
                .pods
                .iter()
                .find(|pod| pod.addresses.contains(&address)),
            End::Node(_) => None,
        };
        match (who, pod, end) {
            (Who::Member(member), Some(pod), _) => {
                member.workload == workload_of(pod)
                    && (member.pods.is_empty() || member.pods.contains(&pod.name))
            }
            (Who::Outside(first, last), _, End::Address(address)) => {
                *first == address && *last == address
            }
            _ => false,
        }
    }
}

/// The smallest first, each once.
fn sorted(mut changes: Vec<Change>) -> impl Iterator<Item = Change> {
    changes.sort_by(|a, b| (a.size, &a.text).cmp(&(b.size, &b.text)));
    changes.dedup_by(|a, b| a.text == b.text);
    changes.into_iter()
}
