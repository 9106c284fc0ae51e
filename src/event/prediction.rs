//! Observations compared with what the policies say.

use super::{Expected, FlowOutcome, FlowReport};
use crate::model::Families;

/// The flows of a check that were observed to differ from the policies, in one sentence with the
/// usual causes; `None` where all that is known agrees.
pub(super) fn unpredicted(expected: Expected, flows: &[FlowReport]) -> Option<String> {
    let differing: Vec<(&FlowReport, Expected)> = flows
        .iter()
        .filter_map(|flow| Some((flow, observed(expected, flow.verdict)?)))
        .filter(|(flow, observed)| flow.predicted == Some(opposite(*observed)))
        .collect();
    let (first, observed) = differing.first()?;

    let predicted = opposite(*observed);
    let more = match differing.len() - 1 {
        0 => String::new(),
        1 => " and 1 more flow".to_owned(),
        more => format!(" and {more} more flows"),
    };
    let causes = usual_causes(*observed);
    Some(format!(
        "the policies say {predicted}, and {} -> {}{}{more} was {observed}; usual causes: {causes}",
        first.source,
        first.target,
        over_family(&differing, flows)
    ))
}

/// " over IPv6", where flows differ in that family alone and the check has flows of both.
fn over_family(differing: &[(&FlowReport, Expected)], flows: &[FlowReport]) -> String {
    let of_differing = Families::of(differing.iter().map(|(flow, _)| flow.family));
    let of_check = Families::of(flows.iter().map(|flow| flow.family));
    match of_differing {
        Some(families) if of_check != of_differing => format!(" over {families}"),
        _ => String::new(),
    }
}

/// What a flow's verdict shows of it; `None` where it shows nothing.
fn observed(expected: Expected, verdict: FlowOutcome) -> Option<Expected> {
    match verdict {
        FlowOutcome::Proven => Some(expected),
        FlowOutcome::Violated => Some(opposite(expected)),
        FlowOutcome::Unproven | FlowOutcome::LeftOut => None,
    }
}

fn opposite(expected: Expected) -> Expected {
    match expected {
        Expected::Allowed => Expected::Denied,
        Expected::Denied => Expected::Allowed,
    }
}

fn usual_causes(observed: Expected) -> &'static str {
    match observed {
        Expected::Allowed => {
            "nothing enforces them on that node, or not yet; the policy is staged or only audited; \
             or the plugin treats blocks, host network or Service addresses otherwise"
        }
        Expected::Denied => {
            "another layer on the path (a mesh, a firewall, a security group), a policy of a kind that is not read, \
             or a plugin that treats blocks, host network or Service addresses otherwise"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{SentAs, Transport};
    use crate::model::Family;

    fn flow(predicted: Option<Expected>, verdict: FlowOutcome) -> FlowReport {
        FlowReport {
            flow: 0,
            probe: 0,
            source: "shop/web-0 (node-1)".into(),
            sent_as: SentAs::Pod,
            target: "data/db-0 on node-2".into(),
            family: Family::V4,
            address: "10.0.0.1:5432".into(),
            transport: Transport::Tcp,
            request: "a nonce".into(),
            predicted,
            verdict,
            text: String::new(),
            attempts: 6,
            opened: 0,
            window: None,
            target_control: None,
            source_control: None,
            path_control: None,
            same_node_control: None,
            weaker: Vec::new(),
            counter: None,
            answered_by: Vec::new(),
            restarts: 0,
        }
    }

    #[test]
    fn verdict_that_differs_from_the_prediction_is_reported_with_causes() {
        use Expected::{Allowed, Denied};
        use FlowOutcome::{LeftOut, Proven, Unproven, Violated};
        let cases = [
            (Denied, Some(Denied), Proven, false),
            (Denied, Some(Allowed), Proven, true),
            (Denied, Some(Denied), Violated, true),
            (Denied, Some(Allowed), Violated, false),
            (Denied, Some(Allowed), Unproven, false),
            (Denied, Some(Allowed), LeftOut, false),
            (Denied, None, Violated, false),
            (Allowed, Some(Denied), Proven, true),
            (Allowed, Some(Allowed), Violated, true),
            (Allowed, Some(Denied), Violated, false),
        ];
        for (expected, predicted, verdict, differs) in cases {
            let text = unpredicted(expected, &[flow(predicted, verdict)]);
            assert_eq!(
                text.is_some(),
                differs,
                "{expected} {predicted:?} {verdict}: {text:?}"
            );
        }
        let leak = unpredicted(
            Denied,
            &[flow(Some(Denied), Violated), flow(Some(Denied), Violated)],
        );
        let start = "the policies say denied, and shop/web-0 (node-1) -> data/db-0 on node-2 and 1 more flow was allowed; \
                     usual causes: nothing enforces them on that node";
        assert!(
            leak.as_deref().is_some_and(|text| text.starts_with(start)),
            "{leak:?}"
        );
    }

    #[test]
    fn family_is_named_where_flows_of_the_other_agree() {
        let (allowed, denied) = (Some(Expected::Allowed), Some(Expected::Denied));
        let over = |family, predicted| FlowReport {
            family,
            ..flow(predicted, FlowOutcome::Proven)
        };
        let text = |of_v4, of_v6| {
            let flows = [over(Family::V4, of_v4), over(Family::V6, of_v6)];
            unpredicted(Expected::Denied, &flows).unwrap_or_default()
        };
        assert!(text(denied, allowed).contains("on node-2 over IPv6 was denied"));
        assert!(!text(allowed, allowed).contains(" over "));
        assert_eq!(text(denied, denied), "");
    }
}
