//! Settings: one table of keys, in `spec.settings` and in a line's long form.

use super::forms::parse_payload;
use super::grammar::Piece;
use super::item::parse_source;
use super::names::{Names, can_send};
use super::position::Text;
use super::shape::text;
use super::{
    EndpointId, Expected, Mechanism, RequiredTier, Settings, Spread, Subject, TargetItem,
    TargetWhat,
};
use crate::model::parse_duration;
use crate::source::{Diagnostic, Diagnostics, Node, Sources};

/// Reads the settings of a mapping; what does not have its form was reported with the shape and is
/// left out.
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

/// Sets one setting, and says whether there is one of this name.
fn set(settings: &mut Settings, key: &str, value: &Node) -> bool {
    let written = || text(value).map(str::to_owned);
    let duration = || text(value).and_then(|text| parse_duration(text).ok());
    let list = || {
        value
            .as_sequence()
            .unwrap_or_default()
            .iter()
            .filter_map(text)
            .map(str::to_owned)
            .collect()
    };
    match key {
        "settle" => settings.settle = duration(),
        "hold" => settings.hold = duration(),
        "timeout" => settings.timeout = duration(),
        "attemptTimeout" => settings.attempt_timeout = duration(),
        "attempts" => settings.attempts = text(value).and_then(|text| text.parse().ok()),
        "tier" => settings.required_tier = text(value).and_then(RequiredTier::named),
        "startup" => settings.startup_isolated = text(value).map(|text| text == "isolated"),
        "mechanism" => settings.mechanism = text(value).and_then(Mechanism::named),
        "method" => settings.method = written(),
        "headers" => {
            let pair = |entry: &crate::source::Entry| {
                Some((entry.key.text.clone(), text(&entry.value)?.to_owned()))
            };
            settings.headers = value
                .as_mapping()
                .unwrap_or_default()
                .iter()
                .filter_map(pair)
                .collect();
        }
        "status" => settings.status = text(value).and_then(|text| text.parse().ok()),
        "body" => settings.body = written(),
        "serverName" => settings.server_name = written(),
        "alpn" => settings.alpn = list(),
        "record" => settings.record = written(),
        "send" => settings.send = text(value).and_then(|text| parse_payload(text).ok()),
        "repeat" => settings.repeat = text(value).map(|text| text == "true"),
        "spread" => settings.spread = text(value).and_then(Spread::named),
        _ => return false,
    }
    true
}

/// The endpoint of `control:`, which must be one that can send.
fn control(
    value: &Node,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
    names: &mut Names,
) -> Option<EndpointId> {
    let name = text(value)?;
    let at = Text::new(sources, value, name);
    let found = parse_source(Piece {
        text: name,
        start: 0,
    })
    .map_err(|fault| at.diagnostic(fault))
    .and_then(|parsed| {
        let span = at.span(&parsed.range);
        let one = |message: String| {
            Err(Diagnostic::error(span, message)
                .with_help("name one endpoint that is known to reach the target, or runner"))
        };
        match names.look_up(&parsed.who, span, &sources.place(span))? {
            Some(Subject::Endpoint(id)) if can_send(&names.endpoint(id).locator) => Ok(Some(id)),
            Some(Subject::Endpoint(_)) => one(format!(
                "{name} is outside the cluster and cannot be a control"
            )),
            Some(Subject::Group(_) | Subject::All) => {
                one(format!("{name} is more than one endpoint"))
            }
            None => Ok(None),
        }
    });
    match found {
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

/// Settings that a line writes and that can have no effect on it: they would promise what is never
/// tested.
pub(super) fn without_effect(
    node: &Node,
    expected: Expected,
    targets: &[TargetItem],
) -> Vec<Diagnostic> {
    let http = targets
        .iter()
        .any(|target| matches!(&target.what, TargetWhat::Url(url) if url.scheme.is_http()));
    let dns = targets
        .iter()
        .any(|target| matches!(&target.what, TargetWhat::Url(url) if url.scheme.is_dns()));
    let port = targets
        .iter()
        .any(|target| !matches!(target.what, TargetWhat::Url(_)));
    let mut found = Vec::new();
    for entry in node.as_mapping().unwrap_or_default() {
        let key = entry.key.text.as_str();
        let tier = text(&entry.value).filter(|_| key == "tier");
        let needs = match key {
            "method" | "headers" | "status" | "body" | "repeat" if !http => {
                Some("an http or https target")
            }
            "record" if !dns => Some("a dns target"),
            "send" if !port => Some("a target with a port"),
            "mechanism" | "startup" if expected == Expected::Allowed => {
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
            found.push(
                Diagnostic::error(entry.key.span, format!("{what} has no effect on this line"))
                    .with_help(format!("it needs {needs}: remove it, or change the line")),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Diagnostics, parse};
    use crate::suite::keys::SETTINGS;

    #[test]
    fn every_setting_of_the_table_is_read() {
        for field in SETTINGS
            .fields
            .iter()
            .filter(|field| field.name != "control")
        {
            let mut sources = Sources::new();
            let file = sources.add("a.yaml", format!("{}: {}\n", field.name, field.example));
            let documents = parse(&sources, file, &mut Diagnostics::new());
            let value = documents[0].root.get(field.name).expect("there");
            let mut settings = Settings::default();
            assert!(set(&mut settings, field.name, value), "{}", field.name);
            assert_ne!(settings, Settings::default(), "{} is not kept", field.name);
        }
    }
}
