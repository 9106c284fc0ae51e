//! Decoder of settings, which have the same keys in `spec.settings` and in a line's long form.

use super::forms::parse_payload;
use super::grammar::Fragment;
use super::item::parse_source;
use super::names::{Names, can_send};
use super::position::ScalarText;
use super::shape::text;
use super::{
    EndpointId, Expected, Mechanism, RequiredTier, Settings, Spread, Subject, TargetItem,
    TargetWhat,
};
use crate::model::{Transport, parse_duration};
use crate::source::{Diagnostic, Diagnostics, Node, Sources, Span};
use std::time::Duration;

/// Decodes the settings of a mapping. Leaves out values of the wrong form, which `shape` reported.
pub(super) fn decode(
    node: &Node,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
    names: &mut Names,
) -> Settings {
    let mut settings = Settings::default();
    for entry in node.as_mapping().unwrap_or_default() {
        let value = &entry.value;
        if entry.key.text == "control" {
            settings.control = control(value, sources, diagnostics, names);
        } else {
            set(&mut settings, &entry.key.text, value);
        }
    }
    settings
}

/// Sets one setting; false if no setting has this name.
fn set(settings: &mut Settings, key: &str, value: &Node) -> bool {
    match key {
        "settle" => settings.settle = duration(value),
        "hold" => settings.hold = duration(value),
        "unknownIdentityHold" => settings.unknown_identity_hold = duration(value),
        "timeout" => settings.timeout = duration(value),
        "attemptTimeout" => settings.attempt_timeout = duration(value),
        "attempts" => settings.attempts = text(value).and_then(|text| text.parse().ok()),
        "tier" => settings.required_tier = text(value).and_then(RequiredTier::parse),
        "startup" => settings.startup_isolated = text(value).map(|text| text == "isolated"),
        "mechanism" => settings.mechanism = text(value).and_then(Mechanism::parse),
        "method" => settings.method = owned_text(value),
        "headers" => {
            settings.headers = value
                .as_mapping()
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| Some((entry.key.text.clone(), owned_text(&entry.value)?)))
                .collect();
        }
        "status" => settings.status = text(value).and_then(|text| text.parse().ok()),
        "body" => settings.body = owned_text(value),
        "serverName" => settings.server_name = owned_text(value),
        "alpn" => settings.alpn = texts(value),
        "record" => settings.record = owned_text(value),
        "send" => settings.send = text(value).and_then(|text| parse_payload(text).ok()),
        "repeat" => settings.repeat = text(value).map(|text| text == "true"),
        "established" => settings.established = text(value).map(|text| text == "true"),
        "spread" => settings.spread = text(value).and_then(Spread::parse),
        _ => return false,
    }
    true
}

fn owned_text(node: &Node) -> Option<String> {
    text(node).map(str::to_owned)
}

fn duration(node: &Node) -> Option<Duration> {
    text(node).and_then(|text| parse_duration(text).ok())
}

fn texts(node: &Node) -> Vec<String> {
    node.as_sequence()
        .unwrap_or_default()
        .iter()
        .filter_map(owned_text)
        .collect()
}

/// Decodes the endpoint of `control:`, which must be able to send.
fn control(
    value: &Node,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
    names: &mut Names,
) -> Option<EndpointId> {
    let name = text(value)?;
    let at = ScalarText::new(sources, value, name);
    let fragment = Fragment {
        text: name,
        start: 0,
    };
    let resolved = parse_source(fragment)
        .map_err(|error| at.diagnostic(error))
        .and_then(|parsed| {
            let span = at.span(&parsed.range);
            let subject = names.resolve(&parsed.endpoint, span, &sources.place(span))?;
            control_endpoint(name, span, subject.as_ref(), names)
        });

    match resolved {
        Ok(id) => {
            if let Some(id) = id {
                names.mark_used(id);
            }
            id
        }
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            None
        }
    }
}

/// The one endpoint of a control's subject.
fn control_endpoint(
    name: &str,
    span: Span,
    subject: Option<&Subject>,
    names: &Names,
) -> Result<Option<EndpointId>, Diagnostic> {
    let message = match subject {
        None => return Ok(None),
        Some(Subject::Endpoint(id)) if can_send(&names.endpoint(*id).locator) => {
            return Ok(Some(*id));
        }
        Some(Subject::Endpoint(_)) => {
            format!("{name} is outside the cluster and cannot be a control")
        }
        Some(Subject::Group(_) | Subject::All) => format!("{name} is more than one endpoint"),
    };
    Err(Diagnostic::error(span, message)
        .with_help("name one endpoint that is known to reach the target, or runner"))
}

/// Errors for settings of a line that have no effect on it. They are errors, not warnings, because
/// their author expects something that is never tested.
pub(super) fn without_effect(
    node: &Node,
    expected: Expected,
    targets: &[TargetItem],
) -> Vec<Diagnostic> {
    let has_http = targets
        .iter()
        .any(|target| matches!(&target.what, TargetWhat::Url(url) if url.scheme.is_http()));
    let has_dns = targets
        .iter()
        .any(|target| matches!(&target.what, TargetWhat::Url(url) if url.scheme.is_dns()));
    let has_port = targets
        .iter()
        .any(|target| !matches!(target.what, TargetWhat::Url(_)));

    let all_tcp = targets.iter().all(|target| is_over_tcp(&target.what));

    let mut diagnostics = Vec::new();
    for entry in node.as_mapping().unwrap_or_default() {
        let key = entry.key.text.as_str();
        let tier = text(&entry.value).filter(|_| key == "tier");
        let needs = match key {
            "method" | "headers" | "status" | "body" | "repeat" if !has_http => {
                Some("an http or https target")
            }
            "record" if !has_dns => Some("a dns target"),
            "send" if !has_port => Some("a target with a port"),
            "established" if !all_tcp => {
                Some("TCP targets: no connection is kept open over UDP or to a name server")
            }
            "mechanism" | "startup" | "established" if expected == Expected::Allowed => {
                Some("a line that ends with denied")
            }
            "tier"
                if expected == Expected::Allowed
                    && tier.is_some_and(|tier| tier.starts_with('D')) =>
            {
                Some("a line that ends with denied (A0 to A3 are the tiers of allowed)")
            }
            "tier"
                if expected == Expected::Denied
                    && tier.is_some_and(|tier| tier.starts_with('A')) =>
            {
                Some("a line that ends with allowed (D1 and D2 are the tiers of denied)")
            }
            _ => None,
        };

        if let Some(needs) = needs {
            let what = tier.unwrap_or(key);
            diagnostics.push(
                Diagnostic::error(entry.key.span, format!("{what} has no effect on this line"))
                    .with_help(format!("it needs {needs}: remove it, or change the line")),
            );
        }
    }
    diagnostics
}

/// Whether a target is one that a TCP connection can be kept open to.
fn is_over_tcp(what: &TargetWhat) -> bool {
    let transport = match what {
        TargetWhat::KnownPorts(transport) => *transport,
        TargetWhat::Port(port) => Some(port.transport),
        TargetWhat::Range { transport, .. } => Some(*transport),
        TargetWhat::Url(url) => return !url.scheme.is_dns(),
    };
    transport != Some(Transport::Udp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Diagnostics, parse};
    use crate::suite::keys::{LINE, SETTINGS};

    #[test]
    fn every_setting_of_the_table_is_read() {
        let of_lines = LINE.fields.iter();
        for field in SETTINGS
            .fields
            .iter()
            .chain(of_lines.filter(|field| field.name == "established"))
            .filter(|field| field.name != "control")
        {
            let mut sources = Sources::new();
            let file = sources.add("a.yaml", format!("{}: {}\n", field.name, field.example));
            let documents = parse(&sources, file, &mut Diagnostics::new());
            let value = documents[0]
                .root
                .get(field.name)
                .expect("the document has the setting");
            let mut settings = Settings::default();
            assert!(set(&mut settings, field.name, value), "{}", field.name);
            assert_ne!(settings, Settings::default(), "{} is not kept", field.name);
        }
    }
}
