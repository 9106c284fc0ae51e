//! Sentences and orders that all formats share, so that they all say the same of a check.

use super::text::add_line;
use crate::event::{
    CheckRef, CheckResult, FlowOutcome, FlowReport, Outcome, Reach, Reason, ReasonText,
};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The tool's name, where a format wants one.
pub(super) const TOOL: &str = "watertight";

/// The request of all flows to our own responder, which no line repeats.
const NONCE_REQUEST: &str = "a nonce";

/// The result of a check that was not judged.
pub(super) fn unfinished(check: &CheckRef) -> CheckResult {
    CheckResult {
        check: check.clone(),
        verdict: Outcome::Unproven,
        tier: None,
        reach: None,
        power_percent: None,
        reason: Some(ReasonText {
            code: Reason::NotFinished,
            text: "the run ended before this check was judged".into(),
        }),
        seen: "not finished".into(),
        unpredicted: None,
        contrast: None,
        next_step: Some(Reason::NotFinished.remedy().into()),
        mechanism: None,
        delay_ms: None,
        latency: None,
        startup_leak_ms: None,
        attempts: 0,
        opened: 0,
        flows: Vec::new(),
        controls: Vec::new(),
    }
}

/// Whether a result says no more than that its check was not judged.
pub(super) fn is_unfinished(result: &CheckResult) -> bool {
    result
        .reason
        .as_ref()
        .is_some_and(|reason| reason.code == Reason::NotFinished)
}

/// One result for each check, in the order of the checks; a check without one is [`unfinished`].
/// Results of other checks follow: ports that were swept and found open.
pub(super) fn in_order<'a>(
    checks: &[CheckRef],
    results: &'a [CheckResult],
) -> Vec<Cow<'a, CheckResult>> {
    let by_id: HashMap<&str, &CheckResult> = results
        .iter()
        .map(|result| (result.check.id.as_str(), result))
        .collect();
    let planned: HashSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();

    let mut ordered = Vec::with_capacity(results.len());
    for check in checks {
        ordered.push(match by_id.get(check.id.as_str()) {
            Some(result) => Cow::Borrowed(*result),
            None => Cow::Owned(unfinished(check)),
        });
    }
    for result in results {
        if !planned.contains(result.check.id.as_str()) {
            ordered.push(Cow::Borrowed(result));
        }
    }
    ordered
}

/// A result in one sentence.
pub(super) fn sentence(result: &CheckResult) -> String {
    match (&result.verdict, &result.reason) {
        (Outcome::Unproven, Some(reason)) => reason.text.clone(),
        (Outcome::Proven | Outcome::Violated | Outcome::Unproven, _) => result.seen.clone(),
    }
}

/// A result in full: the sentence, the line of the suite, and everything that explains it.
pub fn explained(result: &CheckResult) -> String {
    let CheckRef {
        file, line, text, ..
    } = &result.check;
    let sentence = sentence(result);

    let mut out = format!("{sentence}\n\n{file}:{line}: {text}\n");
    for (label, text) in explanation(result) {
        if text != sentence {
            add_line!(out, "{label}: {text}");
        }
    }
    out
}

/// The reach of a verdict in words: *proven* is never said without it.
pub(super) fn reach(reach: &Reach) -> String {
    match reach.to_string() {
        text if text.is_empty() => "from and to outside the cluster".into(),
        text => text,
    }
}

/// Whether the attempts covered every node of the source and every pod and address of the target.
pub(super) fn covers_all(reach: &Reach) -> bool {
    reach.source_nodes >= reach.of_source_nodes
        && reach.source_kinds >= reach.of_source_kinds
        && reach.target_pods >= reach.of_target_pods
        && reach.target_addresses >= reach.of_target_addresses
}

/// The power of a deny in words.
pub(super) fn power(result: &CheckResult) -> Option<String> {
    result
        .power_percent
        .map(|percent| format!("a leak in {percent} % of attempts would have shown with 95 %"))
}

/// Everything that explains a result that is not proven, each text with its label.
pub(super) fn explanation(result: &CheckResult) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    if let Some(reason) = &result.reason {
        parts.push(("reason", format!("{} ({})", reason.text, reason.code)));
    }
    parts.push(("seen", result.seen.clone()));
    parts.extend(result.contrast.clone().map(|text| ("contrast", text)));
    parts.extend(predicted(result));
    parts.extend(result.check.because.clone().map(|text| ("because", text)));
    parts.extend(result.next_step.clone().map(|text| ("next", text)));
    parts
}

/// What the policies say, where it is not what is expected or what was observed.
fn predicted(result: &CheckResult) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    match (&result.check.contradiction, result.check.predicted) {
        (Some(why), _) => parts.push(("predicted", why.clone())),
        (None, Some(predicted)) if result.unpredicted.is_none() => {
            parts.push(("predicted", predicted.to_string()));
        }
        (None, _) => {}
    }
    parts.extend(result.unpredicted.clone().map(|text| ("differs", text)));
    parts
}

/// A flow in one line.
pub(super) fn flow(flow: &FlowReport) -> String {
    let FlowReport {
        source,
        target,
        address,
        transport,
        text,
        ..
    } = flow;
    let request = if flow.request == NONCE_REQUEST {
        String::new()
    } else {
        format!(", {}", flow.request)
    };
    let answered = match flow.answered_by.as_slice() {
        [] => String::new(),
        responders => format!("; answered by {}", responders.join(", ")),
    };
    format!("{source} -> {target} ({address}/{transport}{request}): {text}{answered}")
}

/// What the proof of a flow rests on, each text with its label.
pub(super) fn proof_basis(flow: &FlowReport) -> Vec<(&'static str, &str)> {
    let basis = [
        ("target control", &flow.target_control),
        ("source control", &flow.source_control),
        ("path control", &flow.path_control),
        ("same-node control", &flow.same_node_control),
        ("counter", &flow.counter),
    ];
    let weaker = flow
        .weaker
        .iter()
        .map(|control| ("weaker control", control.because.as_str()));
    basis
        .into_iter()
        .filter_map(|(label, text)| Some((label, text.as_deref()?)))
        .chain(weaker)
        .collect()
}

/// At most `max` flows that show the verdict of a check, and the number of all its other flows.
///
/// Where no flow has the check's verdict, these are all but those that were left out.
pub(super) fn relevant_flows(result: &CheckResult, max: usize) -> (Vec<&FlowReport>, usize) {
    let verdict = match result.verdict {
        Outcome::Proven => FlowOutcome::Proven,
        Outcome::Violated => FlowOutcome::Violated,
        Outcome::Unproven => FlowOutcome::Unproven,
    };
    let (mut relevant, rest): (Vec<_>, Vec<_>) = result
        .flows
        .iter()
        .partition(|flow| flow.verdict == verdict);
    if relevant.is_empty() {
        relevant = rest
            .into_iter()
            .filter(|flow| flow.verdict != FlowOutcome::LeftOut)
            .collect();
    }

    relevant.truncate(max);
    let others = result.flows.len() - relevant.len();
    (relevant, others)
}
