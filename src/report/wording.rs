//! What every format says of a check, so that they all say the same.

use super::text::say;
use crate::event::{CheckRef, CheckResult, FlowReport, Outcome, Reach, Reason, ReasonText};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The tool's name, where a format wants one.
pub(super) const TOOL: &str = "watertight";

/// The result of a check that has none.
pub(super) fn unfinished(check: &CheckRef) -> CheckResult {
    CheckResult {
        check: check.clone(),
        verdict: Outcome::Unproven,
        tier: None,
        reach: Reach {
            source_nodes: 0,
            of_source_nodes: 0,
            target_pods: 0,
            of_target_pods: 0,
        },
        power_percent: None,
        reason: Some(ReasonText {
            code: Reason::NotFinished.code(),
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

/// One result for each check, in the order of the checks; a check without one is [`unfinished`].
/// Results beyond the checks follow: ports that were swept and found open.
pub(super) fn in_order<'a>(
    checks: &[CheckRef],
    results: &'a [CheckResult],
) -> Vec<Cow<'a, CheckResult>> {
    let by_id: HashMap<&str, &CheckResult> = results
        .iter()
        .map(|result| (result.check.id.as_str(), result))
        .collect();
    let of = |check: &CheckRef| {
        by_id.get(check.id.as_str()).map_or_else(
            || Cow::Owned(unfinished(check)),
            |found| Cow::Borrowed(*found),
        )
    };
    let planned: HashSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    let found_open = results
        .iter()
        .filter(|result| !planned.contains(result.check.id.as_str()))
        .map(Cow::Borrowed);
    checks.iter().map(of).chain(found_open).collect()
}

/// What was found, in one sentence.
pub(super) fn sentence(result: &CheckResult) -> String {
    match (&result.verdict, &result.reason) {
        (Outcome::Unproven, Some(reason)) => reason.text.clone(),
        (Outcome::Proven | Outcome::Violated | Outcome::Unproven, _) => result.seen.clone(),
    }
}

/// A result in full: the sentence first, then the line of the suite and all that explains it.
pub fn explained(result: &CheckResult) -> String {
    let CheckRef {
        file, line, text, ..
    } = &result.check;
    let sentence = sentence(result);
    let mut out = format!("{sentence}\n\n{file}:{line}: {text}\n");
    for (word, text) in explanation(result)
        .into_iter()
        .filter(|(_, text)| *text != sentence)
    {
        say!(out, "{word}: {text}");
    }
    out
}

/// How far a verdict reaches: *proven* is never said without it.
pub(super) fn reach(reach: &Reach) -> String {
    match reach.to_string() {
        text if text.is_empty() => "from and to outside the cluster".into(),
        text => text,
    }
}

/// Whether the samples covered every node of the source and every pod of the target.
pub(super) fn reaches_all(reach: &Reach) -> bool {
    reach.source_nodes >= reach.of_source_nodes && reach.target_pods >= reach.of_target_pods
}

/// What a deny's power means.
pub(super) fn power(result: &CheckResult) -> Option<String> {
    result
        .power_percent
        .map(|percent| format!("a leak in {percent} % of attempts would have shown with 95 %"))
}

/// Everything that explains a result that is not proven, with a word for each.
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
pub(super) fn predicted(result: &CheckResult) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    match (&result.check.contradiction, result.check.predicted) {
        (Some(why), _) => parts.push(("predicted", why.clone())),
        (None, Some(word)) if result.unpredicted.is_none() => {
            parts.push(("predicted", word.to_owned()))
        }
        (None, _) => {}
    }
    parts.extend(result.unpredicted.clone().map(|text| ("differs", text)));
    parts
}

/// One flow in one line.
pub(super) fn flow(flow: &FlowReport) -> String {
    let answered = match flow.answered_by.as_slice() {
        [] => String::new(),
        by => format!("; answered by {}", by.join(", ")),
    };
    // What our own responder is asked is the same for all; two flows that differ in anything else
    // are told apart by it.
    let request = if flow.request == "a nonce" {
        String::new()
    } else {
        format!(", {}", flow.request)
    };
    let FlowReport {
        source,
        target,
        address,
        transport,
        text,
        ..
    } = flow;
    format!("{source} -> {target} ({address}/{transport}{request}): {text}{answered}")
}

/// What a flow's proof rests on, with a word for each.
pub(super) fn grounds(flow: &FlowReport) -> Vec<(&'static str, &str)> {
    let grounds = [
        ("control", &flow.control),
        ("able", &flow.able),
        ("path", &flow.path),
        ("twin", &flow.same_node_control),
        ("record", &flow.record),
    ];
    grounds
        .into_iter()
        .filter_map(|(word, text)| text.as_deref().map(|text| (word, text)))
        .collect()
}

/// The flows that matter to a verdict, first, and how many others there are.
///
/// What shows the verdict comes before what does not; flows that were left out of it come last.
pub(super) fn telling(result: &CheckResult, most: usize) -> (Vec<&FlowReport>, usize) {
    let shows = result.verdict.to_string();
    let (mut first, rest): (Vec<_>, Vec<_>) =
        result.flows.iter().partition(|flow| flow.shows == shows);
    if first.is_empty() {
        first = rest
            .into_iter()
            .filter(|flow| flow.shows != "left-out")
            .collect();
    }
    first.truncate(most);
    let others = result.flows.len() - first.len();
    (first, others)
}
