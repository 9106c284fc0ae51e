//! A suite that states the opposite of another.

use watertight::plan::Plan;
use watertight::suite::{
    Endpoint, EndpointId, Expected, Line, PortItem, PortRef, Settings, Subject, Suite, TargetItem,
    TargetWhat,
};

fn opposite(expected: Expected) -> Expected {
    match expected {
        Expected::Allowed => Expected::Denied,
        Expected::Denied => Expected::Allowed,
    }
}

/// Every line turned round; what `everythingElse` denied is written out as lines, which are turned
/// round too.
pub(crate) fn turned_round(suite: &Suite, plan: &Plan) -> Suite {
    let mut turned = suite.clone();
    for line in &mut turned.lines {
        line.expected = opposite(line.expected);
        line.settings.required_tier = None;
        line.settings.mechanism = None;
    }
    turned.settings.required_tier = None;
    turned.settings.mechanism = None;
    if let Some(place) = turned.everything_else.take() {
        let written: Vec<u32> = suite.lines.iter().map(|line| line.place.line).collect();
        for check in plan
            .checks()
            .iter()
            .filter(|check| !written.contains(&check.line.line))
        {
            let source = suite
                .endpoints
                .iter()
                .position(|endpoint| endpoint.label == check.source)
                .expect("an endpoint");
            let (target, port) = target(&suite.endpoints, &check.target);
            turned.lines.push(Line {
                text: check.name.clone(),
                place: place.clone(),
                sources: vec![Subject::Endpoint(EndpointId(source))],
                targets: vec![TargetItem {
                    subject: Subject::Endpoint(target),
                    what: TargetWhat::Port(port),
                }],
                expected: opposite(check.expected),
                id: None,
                because: None,
                tags: Vec::new(),
                settings: Settings::default(),
            });
        }
    }
    turned
}

/// `api:8080/udp` in its parts; a label may have colons of its own.
fn target(endpoints: &[Endpoint], text: &str) -> (EndpointId, PortItem) {
    let (label, port) = text.rsplit_once(':').expect("a port");
    let id = endpoints
        .iter()
        .position(|endpoint| endpoint.label == label)
        .expect("an endpoint");
    let (port, transport) = match port.split_once('/') {
        Some((port, _)) => (port, watertight::model::Transport::Udp),
        None => (port, watertight::model::Transport::Tcp),
    };
    let port = port
        .parse()
        .map_or_else(|_| PortRef::Name(port.to_owned()), PortRef::Number);
    (EndpointId(id), PortItem { port, transport })
}
