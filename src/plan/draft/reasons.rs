//! Whose word an answer is: the rules and policies to name beside a line.

use super::endpoints::short_name;
use crate::inventory::Action;
use crate::model::PolicyKind;
use crate::policy::{Direction, Explanation, Selects, Side};
use std::collections::BTreeSet;

/// How many are named beside a line.
const NAMED: usize = 4;

/// Whose word the answers of a line are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    /// What decides: rules that admit, or policies that stop.
    decide: BTreeSet<String>,
    /// Of a deny: rules of the other side that would have let the flow through.
    overruled: BTreeSet<String>,
    /// Whether some pair is allowed for want of any policy.
    undecided: bool,
}

impl Reasons {
    pub(super) fn add(&mut self, why: &Explanation) {
        let deciding = |side: &Side| rules(side, |_| true);
        if why.allowed {
            let rules: BTreeSet<String> = why.sides.iter().flat_map(deciding).collect();
            self.undecided |= rules.is_empty();
            self.decide.extend(rules);
            return;
        }
        let (deny, allow): (Vec<&Side>, Vec<&Side>) =
            why.sides.iter().partition(|side| !side.allowed);
        self.decide
            .extend(deny.iter().flat_map(|side| stopping(side)));
        if deny.len() == 1 {
            self.overruled.extend(allow.into_iter().flat_map(deciding));
        }
    }

    /// Adds another line's.
    pub(super) fn join(&mut self, other: Self) {
        self.decide.extend(other.decide);
        self.overruled.extend(other.overruled);
        self.undecided |= other.undecided;
    }

    /// What is said beside an allowed line.
    pub(super) fn of_allowed(&self) -> Option<String> {
        let by = (!self.decide.is_empty()).then(|| format!("by {}", some(&self.decide)));
        let guess = self.undecided.then(|| {
            let whom = if by.is_some() { "some of it" } else { "it" };
            format!("guessed: no policy decides {whom}; is this meant?")
        });
        match (by, guess) {
            (Some(by), Some(guess)) => Some(format!("{by}; {guess}")),
            (by, guess) => by.or(guess),
        }
    }

    /// What is said beside a denied line.
    pub(super) fn of_denied(&self) -> Option<String> {
        let stops =
            (!self.decide.is_empty()).then(|| format!("stopped by {}", some(&self.decide)))?;
        if self.overruled.is_empty() {
            return Some(stops);
        }
        Some(format!(
            "{stops} alone: {} would let it through",
            some(&self.overruled)
        ))
    }
}

/// Rules of a side that decide.
fn rules(side: &Side, wanted: fn(&str) -> bool) -> Vec<String> {
    let steps = side
        .policies
        .iter()
        .flat_map(|step| step.rules.iter().map(move |rule| (&step.policy, rule)));
    steps
        .filter(|(_, rule)| rule.decides && wanted(&rule.action))
        .map(|(policy, rule)| {
            let way = match side.direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            format!("{way} rule {} of {}", rule.number, short_name(policy))
        })
        .collect()
}

/// What stops a flow: the rule that denies it, or the policies that isolate the pod.
fn stopping(side: &Side) -> Vec<String> {
    let denying = rules(side, |action| action == Action::Deny.to_string());
    if !denying.is_empty() {
        return denying;
    }
    let selecting = side
        .policies
        .iter()
        .filter(|step| step.selects == Selects::Yes);
    selecting
        .filter(|step| step.policy.reference.kind == PolicyKind::NetworkPolicy)
        .map(|step| short_name(&step.policy))
        .collect()
}

fn some(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = names.len() - shown.len();
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", shown.join(", "))
}
