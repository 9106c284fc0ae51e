//! Decoder of settings, which have the same keys in `spec.settings` and in a line's long form.

use super::forms::{Form, parse_payload};
use super::grammar::Fragment;
use super::item::parse_source;
use super::names::{Names, can_send};
use super::position::ScalarText;
use super::shape::{one_or_more, text};
use super::{
    EndpointId, Expected, Mechanism, Refusal, RequestText, RequiredTier, Settings, Spread, Subject,
    TargetItem, TargetWhat,
};
use crate::model::{Families, SecretText, Transport, parse_duration};
use crate::source::{Diagnostic, Diagnostics, Key, Node, Sources, Span};
use std::env::VarError;
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
        diagnostics.extend(empty_refusal(&entry.key, value));
        if entry.key.text == "control" {
            settings.control = control(value, sources, diagnostics, names);
        } else {
            set(&mut settings, &entry.key.text, value, diagnostics);
        }
    }
    settings
}

/// Sets one setting; false if no setting has this name.
fn set(settings: &mut Settings, key: &str, value: &Node, diagnostics: &mut Diagnostics) -> bool {
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
                .filter_map(|entry| {
                    let text = request_text(&entry.value, Form::HeaderValue, diagnostics)?;
                    Some((entry.key.text.clone(), text))
                })
                .collect();
        }
        "status" => settings.status = numbers(value),
        "refusal" => settings.refusal = refusal(value),
        "body" => settings.body = request_text(value, Form::Text, diagnostics),
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

/// The families of `labFamilies`, which are of the whole suite.
pub(super) fn lab_families(node: &Node) -> Option<Families> {
    let value = node.get("labFamilies")?;
    Families::parse(one_or_more(value).into_iter().filter_map(text)).ok()
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

/// Decodes a header's value or a body. What comes from the environment is read here, so that a
/// missing variable is an error before anything is sent.
fn request_text(node: &Node, form: Form, diagnostics: &mut Diagnostics) -> Option<RequestText> {
    if node.as_mapping().is_none() {
        return owned_text(node).map(RequestText::Literal);
    }
    let named = node.get("fromEnv")?;
    let variable = text(named).filter(|text| Form::Variable.check(text).is_ok())?;
    match read_variable(variable, form) {
        Ok(value) => Some(RequestText::FromEnv {
            variable: variable.to_owned(),
            value,
        }),
        Err(message) => {
            diagnostics.push(
                Diagnostic::error(named.span, message)
                    .with_help("set the variable where watertight runs, as the suite expects it"),
            );
            None
        }
    }
}

/// The text of a variable of the environment.
///
/// # Errors
/// A sentence that does not hold the text.
fn read_variable(variable: &str, form: Form) -> Result<SecretText, String> {
    match std::env::var(variable) {
        Err(VarError::NotPresent) => Err(format!("the environment has no variable {variable}")),
        Err(VarError::NotUnicode(_)) => Err(format!("the variable {variable} is not UTF-8")),
        Ok(value) if value.is_empty() => Err(format!("the variable {variable} is empty")),
        Ok(value) => match form.check(&value) {
            Ok(()) => Ok(SecretText::new(value)),
            // The error of these forms does not quote the text.
            Err(error) => Err(format!("the variable {variable}: {}", error.message)),
        },
    }
}

/// The numbers of a scalar or a list.
fn numbers(node: &Node) -> Vec<u16> {
    node.as_sequence()
        .unwrap_or(std::slice::from_ref(node))
        .iter()
        .filter_map(|item| text(item)?.parse().ok())
        .collect()
}

/// Decodes `refusal:`; `None` where it says nothing, which [`empty_refusal`] reports.
fn refusal(node: &Node) -> Option<Refusal> {
    let refusal = Refusal {
        status: node.get("status").map(numbers).unwrap_or_default(),
        headers: node
            .get("header")
            .and_then(Node::as_mapping)
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| Some((entry.key.text.clone(), owned_text(&entry.value)?)))
            .collect(),
        body: node.get("body").and_then(owned_text),
    };
    (refusal != Refusal::default()).then_some(refusal)
}

/// The error of a `refusal:` that describes nothing: every answer would match it.
fn empty_refusal(key: &Key, value: &Node) -> Option<Diagnostic> {
    let is_empty = value.as_mapping().is_some_and(|entries| {
        entries
            .iter()
            .all(|entry| entry.value.as_mapping().is_some_and(<[_]>::is_empty))
    });
    (key.text == "refusal" && is_empty).then(|| {
        Diagnostic::error(key.span, "refusal describes no answer")
            .with_help("say how the enforcer answers: refusal: { status: 403 }")
    })
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
        if let Some(diagnostic) = answer_of_the_other_kind(&entry.key, expected) {
            diagnostics.push(diagnostic);
            continue;
        }
        let needs = match key {
            "method" | "headers" | "status" | "refusal" | "body" | "repeat" if !has_http => {
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

/// The error of `status` on a denied line, or of `refusal` on an allowed one.
fn answer_of_the_other_kind(key: &Key, expected: Expected) -> Option<Diagnostic> {
    let (message, help) = match (key.text.as_str(), expected) {
        ("status", Expected::Denied) => (
            "status says what an allowed line is answered",
            "say how the enforcer refuses a denied one: refusal: { status: 403 }",
        ),
        ("refusal", Expected::Allowed) => (
            "refusal says how a denied line is refused",
            "say what an allowed line is answered: status: 200",
        ),
        _ => return None,
    };
    Some(Diagnostic::error(key.span, message).with_help(help))
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
            .filter(|field| !["control", "labFamilies"].contains(&field.name))
        {
            let mut sources = Sources::new();
            let file = sources.add("a.yaml", format!("{}: {}\n", field.name, field.example));
            let documents = parse(&sources, file, &mut Diagnostics::new());
            let value = documents[0]
                .root
                .get(field.name)
                .expect("the document has the setting");
            let mut settings = Settings::default();
            let mut diagnostics = Diagnostics::new();
            assert!(
                set(&mut settings, field.name, value, &mut diagnostics),
                "{}",
                field.name
            );
            assert_ne!(settings, Settings::default(), "{} is not kept", field.name);
        }
    }
}
