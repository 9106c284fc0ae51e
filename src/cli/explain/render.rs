//! Explanations as text for people.

use crate::plan::FlowExplanation;
use crate::policy::{Change, Explanation, PolicyStep, RuleStep, Selects, Side, SideEffects};
use std::fmt::Write as _;

/// The number of connections that a side effect names.
const NAMED_SIDE_EFFECTS: usize = 4;

/// Explanations, each with the number of further pairs of addresses that it holds for.
pub(super) fn text(explanations: &[FlowExplanation]) -> String {
    let texts: Vec<String> = explanations.iter().map(explanation_text).collect();
    texts.join("\n")
}

fn explanation_text(flows: &FlowExplanation) -> String {
    let explanation = &flows.explanation;
    let mut out = String::new();
    let over = flows
        .family
        .map_or(String::new(), |family| format!(" over {family}"));
    let more = match flows.others {
        0 => String::new(),
        1 => "   (and for 1 more pair of addresses)".to_owned(),
        more => format!("   (and for {more} more pairs of addresses)"),
    };
    let answer = match (&explanation.depends_on_addresses, explanation.allowed) {
        (None, true) => "allowed",
        (None, false) => "denied",
        (Some(_), true) => "unknown (allowed in the lab)",
        (Some(_), false) => "unknown (denied in the lab)",
    };
    let Explanation { from, to, port, .. } = explanation;
    line(
        &mut out,
        &format!("{from} -> {to}:{port} is {answer} by the policies{over}{more}"),
    );

    if let Some(why) = &explanation.depends_on_addresses {
        line(&mut out, &format!("  {why}"));
    }
    if let Some(why) = &explanation.beyond_policies {
        line(&mut out, &format!("  no policy applies: {why}"));
    }
    for side in &explanation.sides {
        add_side(side, &mut out);
    }
    for note in &explanation.notes {
        line(&mut out, &format!("\n  note: {note}"));
    }
    add_changes(explanation, &mut out);
    out
}

/// Adds the changes that would give the opposite answer.
fn add_changes(explanation: &Explanation, out: &mut String) {
    let opposite = if explanation.allowed {
        "denied"
    } else {
        "allowed"
    };
    if !explanation.changes.is_empty() {
        line(
            out,
            &format!("\n  for it to be {opposite}, the smallest change first (each was tried):"),
        );
    } else if explanation.beyond_policies.is_none() {
        line(
            out,
            &format!("\n  for it to be {opposite}: no change of a few rules or labels was found"),
        );
    }

    for Change {
        text, side_effects, ..
    } in &explanation.changes
    {
        line(out, &format!("    - {text}"));
        if let Some(side_effects) = side_effects {
            add_side_effects(side_effects, out);
        }
    }
}

/// Adds the first few connections that a change also opens or closes.
fn add_side_effects(side_effects: &SideEffects, out: &mut String) {
    let SideEffects { opens, closes } = side_effects;
    if opens.is_empty() && closes.is_empty() {
        line(out, "        and nothing else changes");
    }
    for (verb, links) in [("opens", opens), ("closes", closes)] {
        for link in links.iter().take(NAMED_SIDE_EFFECTS) {
            line(out, &format!("        also {verb} {link}"));
        }
        if links.len() > NAMED_SIDE_EFFECTS {
            let more = links.len() - NAMED_SIDE_EFFECTS;
            line(out, &format!("        and {verb} {more} more"));
        }
    }
}

/// Adds one direction of the flow, with every policy of it.
fn add_side(side: &Side, out: &mut String) {
    let answer = if side.allowed { "allows" } else { "denies" };
    let direction = side.direction.as_str();
    line(
        out,
        &format!(
            "\n  {direction} of {} {answer} it: {}",
            side.whose, side.because
        ),
    );
    for policy in &side.policies {
        add_policy(policy, direction, out);
    }
}

fn add_policy(policy: &PolicyStep, direction: &str, out: &mut String) {
    let selects = match &policy.selects {
        Selects::Yes => "selects it".to_owned(),
        Selects::NotThisDirection => format!(
            "selects it, but its policyTypes leave out {direction}: nothing below is in force"
        ),
        Selects::Nearly(why) => format!("does not select it: {why}"),
    };
    let not_evaluated = policy
        .not_asked
        .as_ref()
        .map_or(String::new(), |why| format!(" and is not evaluated: {why}"));
    line(
        out,
        &format!("    {} {selects}{not_evaluated}", policy.policy),
    );
    if policy.not_asked.is_some() {
        return;
    }

    if policy.selects == Selects::Yes && policy.rules.is_empty() {
        line(
            out,
            "      it has no rule for this direction, so it admits nothing",
        );
    }
    let is_cluster_wide = policy.policy.reference.namespace.is_none();
    for rule in &policy.rules {
        add_rule(rule, is_cluster_wide, out);
    }
}

fn add_rule(rule: &RuleStep, is_cluster_wide: bool, out: &mut String) {
    let name = rule
        .name
        .as_ref()
        .map_or(String::new(), |name| format!(" {name:?}"));
    let origin = if rule.origin.is_empty() {
        String::new()
    } else {
        format!(" ({})", rule.origin)
    };
    let mark = match (rule.decides, rule.peer.holds && rule.port.holds) {
        (true, _) => "decides",
        // Of a cluster-wide policy the first rule that matches decides.
        (false, true) if is_cluster_wide => "would match, but an earlier rule decides",
        (false, true) => "matches",
        (false, false) => "does not match",
    };
    line(
        out,
        &format!(
            "      rule {}{name}{origin} {}: {mark}",
            rule.number, rule.action
        ),
    );

    let peers: Vec<&str> = rule.peer.text.split(" | ").collect();
    if let [peer] = peers.as_slice() {
        line(
            out,
            &format!("        peer {}: {peer}", yes_or_no(rule.peer.holds)),
        );
    } else {
        line(out, "        peer no, none of these:");
        for peer in peers {
            line(out, &format!("          {peer}"));
        }
    }
    let (holds, port) = (yes_or_no(rule.port.holds), &rule.port.text);
    line(out, &format!("        port {holds}: {port}"));
}

fn yes_or_no(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
