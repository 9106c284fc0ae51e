//! What was observed, held against what the policies say.

use super::{Expected, FlowReport};

/// The flows of a check that did something else than the policies say, in one sentence with the
/// usual causes; nothing where all that is known agrees.
pub(super) fn unpredicted(expected: Expected, flows: &[FlowReport]) -> Option<String> {
    let opposite = match expected {
        Expected::Allowed => Expected::Denied,
        Expected::Denied => Expected::Allowed,
    };
    let observed = |flow: &FlowReport| match flow.shows {
        "proven" => Some(expected),
        "violated" => Some(opposite),
        _ => None,
    };
    let differing: Vec<(&FlowReport, Expected)> = flows
        .iter()
        .filter_map(|flow| Some((flow, observed(flow)?)))
        .filter(|(flow, observed)| {
            flow.predicted
                .is_some_and(|predicted| predicted != *observed)
        })
        .collect();
    let (first, observed) = differing.first()?;
    let more = match differing.len() - 1 {
        0 => String::new(),
        1 => " and 1 more flow".to_owned(),
        more => format!(" and {more} more flows"),
    };
    let causes = match observed {
        Expected::Allowed => {
            "nothing enforces them on that node, or not yet; the policy is staged or only audited; \
             or the plugin treats blocks, host network or Service addresses otherwise"
        }
        Expected::Denied => {
            "another layer on the path (a mesh, a firewall, a security group), a policy of a kind that is not read, \
             or a plugin that treats blocks, host network or Service addresses otherwise"
        }
    };
    let predicted = match observed {
        Expected::Allowed => Expected::Denied,
        Expected::Denied => Expected::Allowed,
    };
    Some(format!(
        "the policies say {predicted}, and {} -> {}{more} was {observed}; usual causes: {causes}",
        first.source, first.target
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(predicted: Option<Expected>, shows: &'static str) -> FlowReport {
        FlowReport {
            flow: 0,
            probe: 0,
            source: "shop/web-0 (node-1)".into(),
            sent_as: "pod",
            target: "data/db-0 on node-2".into(),
            address: "10.0.0.1:5432".into(),
            transport: "tcp",
            request: "a nonce".into(),
            predicted,
            shows,
            text: String::new(),
            attempts: 6,
            opened: 0,
            window: None,
            control: None,
            able: None,
            path: None,
            same_node_control: None,
            record: None,
            answered_by: Vec::new(),
            restarts: 0,
        }
    }

    #[test]
    fn only_what_was_shown_and_not_predicted_is_told() {
        use Expected::{Allowed, Denied};
        let cases = [
            (Denied, Some(Denied), "proven", false),
            (Denied, Some(Allowed), "proven", true),
            (Denied, Some(Denied), "violated", true),
            (Denied, Some(Allowed), "violated", false),
            (Denied, Some(Allowed), "unproven", false),
            (Denied, Some(Allowed), "left-out", false),
            (Denied, None, "violated", false),
            (Allowed, Some(Denied), "proven", true),
            (Allowed, Some(Allowed), "violated", true),
            (Allowed, Some(Denied), "violated", false),
        ];
        for (expected, predicted, shows, told) in cases {
            let text = unpredicted(expected, &[flow(predicted, shows)]);
            assert_eq!(
                text.is_some(),
                told,
                "{expected} {predicted:?} {shows}: {text:?}"
            );
        }
        let leak = unpredicted(
            Denied,
            &[
                flow(Some(Denied), "violated"),
                flow(Some(Denied), "violated"),
            ],
        );
        let start = "the policies say denied, and shop/web-0 (node-1) -> data/db-0 on node-2 and 1 more flow was allowed; \
                     usual causes: nothing enforces them on that node";
        assert!(
            leak.as_deref().is_some_and(|text| text.starts_with(start)),
            "{leak:?}"
        );
    }
}
