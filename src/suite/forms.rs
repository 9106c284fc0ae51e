//! The forms that a scalar of a suite can have: what is accepted, and how the JSON Schema says it.

use super::suggest;
use super::{PortItem, PortRef};
use crate::model::{
    EndpointName, HostName, Port, Transport, WorkloadKind, WorkloadRef, parse_duration,
};
use serde_json::{Value as Json, json};
use std::net::IpAddr;

/// The form of a scalar.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// One word and no other.
    Exactly(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any text, the empty one included.
    Text,
    /// Any text that is not empty.
    Words,
    /// A name: of a suite, an endpoint, a group.
    Name,
    /// A line; its grammar is checked apart.
    Line,
    /// An endpoint as a line would write it.
    Reference,
    /// A line's id.
    Id,
    /// A tag.
    Tag,
    /// A duration.
    Duration,
    /// A whole number within bounds, ends included.
    Integer(u32, u32),
    /// True or false.
    Flag,
    /// A namespace or a Service: a DNS label.
    Label,
    /// KIND/NAME of a workload.
    Workload,
    /// A label's key.
    LabelKey,
    /// A label's value.
    LabelValue,
    /// A host name with a dot.
    Host,
    /// An IP address.
    Address,
    /// A port's number or name, with a transport.
    Port,
    /// An HTTP method.
    Method,
    /// The name of an HTTP header.
    HeaderName,
    /// The value of an HTTP header.
    HeaderValue,
    /// A name in TLS: also one without a dot.
    ServerName,
    /// A payload: text, or bytes in hexadecimal after `0x`.
    Payload,
}

/// Why a text does not have its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) help: Option<String>,
}

impl Misfit {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// What a line looks like, as far as a pattern can say: an arrow, and a verdict as the last word.
const LINE_PATTERN: &str = "^\\s*\\S[\\s\\S]*?(->|→)\\s*\\S[\\s\\S]*\\s(allowed|denied)\\s*$";
const NAME_PATTERN: &str = "^(?!(allowed|denied)$)[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const HOST_PATTERN: &str = "^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)+\\.?$";

impl Form {
    /// Whether a text has this form, and if not, why.
    pub(super) fn check(self, text: &str) -> Result<(), Misfit> {
        let misfit = |message: &str| Misfit::new(format!("{text:?} {message}"));
        match self {
            Self::Text => Ok(()),
            Self::Exactly(word) => unless(text == word, || {
                misfit(&format!("is not {word:?}")).help(format!("write {word}"))
            }),
            Self::OneOf(words) => unless(words.contains(&text), || {
                misfit(&format!("is not one of {}", words.join(", "))).help(suggest::help(
                    text,
                    words,
                    "",
                    "write one of",
                ))
            }),
            Self::Words | Self::Line => {
                unless(!text.trim().is_empty(), || Misfit::new("the text is empty"))
            }
            Self::Name => EndpointName::parse(text)
                .map(drop)
                .map_err(|error| Misfit::new(error.to_string())),
            Self::Reference => unless(!text.is_empty() && !text.contains([' ', ',']), || {
                misfit("is not an endpoint").help("name one endpoint")
            }),
            Self::Id => unless(is_id(text), || {
                misfit(
                    "is not an id: 1 to 63 letters, digits, '-', '_' and '.', starting with a letter or digit",
                )
            }),
            Self::Tag => unless(
                !text.is_empty()
                    && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ','),
                || {
                    misfit("is not a tag: a word without blanks and commas")
                        .help("write several tags as a list: [pci, audit]")
                },
            ),
            Self::Duration => parse_duration(text)
                .map(drop)
                .map_err(|error| Misfit::new(error.to_string())),
            Self::Integer(from, to) => {
                let number = text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
                unless(
                    number.is_some_and(|number| (from..=to).contains(&number)),
                    || misfit(&format!("is not a whole number from {from} to {to}")),
                )
            }
            Self::Flag => unless(matches!(text, "true" | "false"), || {
                misfit("is neither true nor false")
            }),
            Self::Label => unless(is_dns_label(text), || {
                misfit("cannot be the name of a namespace or Service: 1 to 63 of a-z, 0-9 and '-'")
            }),
            Self::Workload => parse_workload(text).map(drop),
            Self::LabelKey => unless(is_label_key(text), || {
                misfit("cannot be the key of a label")
                    .help("a key is [PREFIX/]NAME: at most 63 letters, digits, '-', '_' and '.'")
            }),
            Self::LabelValue => unless(text.is_empty() || is_label_name(text), || {
                misfit(
                    "cannot be the value of a label: at most 63 letters, digits, '-', '_' and '.'",
                )
            }),
            Self::Host => check_host(text),
            Self::Address => unless(text.parse::<IpAddr>().is_ok(), || address_misfit(text)),
            Self::Port => parse_port(text).map(drop),
            Self::Method => unless(is_method(text), || {
                misfit("is not an HTTP method").help("write it in capitals: GET, HEAD, POST")
            }),
            Self::HeaderName => unless(is_token(text), || misfit("cannot be the name of a header")),
            Self::HeaderValue => unless(text.chars().all(|c| !c.is_control() || c == '\t'), || {
                Misfit::new("a header's value cannot hold line breaks or control characters")
            }),
            Self::ServerName => unless(
                is_dns_label(&text.to_ascii_lowercase()) || HostName::parse(text).is_ok(),
                || {
                    misfit("is not a server name")
                        .help("write a host name; addresses are never sent as one")
                },
            ),
            Self::Payload => parse_payload(text).map(drop),
        }
    }

    /// What is expected, for a message about the wrong kind of node.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Duration => "a duration",
            Self::Integer(..) => "a whole number",
            Self::Flag => "true or false",
            Self::Port => "a port",
            Self::Name => "a name",
            Self::Reference => "an endpoint",
            Self::Address => "an address",
            Self::Host => "a host name",
            Self::Exactly(_) | Self::OneOf(_) => "one word",
            Self::Text
            | Self::Words
            | Self::Line
            | Self::Id
            | Self::Tag
            | Self::Label
            | Self::Workload
            | Self::LabelKey
            | Self::LabelValue
            | Self::Method
            | Self::HeaderName
            | Self::HeaderValue
            | Self::ServerName
            | Self::Payload => "a text",
        }
    }

    /// The form in JSON Schema. A scalar is its text whatever YAML makes of it, so numbers and
    /// booleans pass where their text would.
    pub(super) fn schema(self) -> Json {
        let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
        let any = |pattern: &str| json!({"anyOf": [{"type": "string", "pattern": pattern}, {"type": ["number", "boolean"]}]});
        match self {
            Self::Exactly(word) => json!({"const": word}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Text | Self::HeaderValue | Self::Payload => {
                json!({"type": ["string", "number", "boolean"]})
            }
            Self::Words => any("\\S"),
            Self::Line => text(LINE_PATTERN),
            Self::Name => text(NAME_PATTERN),
            Self::Reference => text("^[^\\s,]+$"),
            Self::Id => any("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
            Self::Tag => any("^[^\\s,]+$"),
            Self::Duration => text("^[0-9]+(\\.[0-9]+)*(ms|s|m|h)$"),
            Self::Integer(from, to) => {
                json!({"anyOf": [{"type": "integer", "minimum": from, "maximum": to}, {"type": "string", "pattern": "^[0-9]+$"}]})
            }
            Self::Flag => json!({"enum": [true, false, "true", "false"]}),
            Self::Label => any(LABEL_PATTERN),
            Self::Workload => {
                let kinds: Vec<_> = WorkloadKind::ALL
                    .into_iter()
                    .map(WorkloadKind::as_str)
                    .collect();
                text(&format!(
                    "^({})/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
                    kinds.join("|")
                ))
            }
            Self::LabelKey => {
                text("^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
            }
            Self::LabelValue => any("^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"),
            Self::Host => text(HOST_PATTERN),
            Self::Address => text("^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$"),
            Self::Port => json!({"anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65_535},
                {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(/(tcp|udp))?$"}
            ]}),
            Self::Method => text("^[A-Z]+$"),
            Self::HeaderName => text("^[!#$%&'*+.^_`|~A-Za-z0-9-]+$"),
            Self::ServerName => text("^[A-Za-z0-9_.-]+$"),
        }
    }
}

fn unless(holds: bool, misfit: impl FnOnce() -> Misfit) -> Result<(), Misfit> {
    if holds { Ok(()) } else { Err(misfit()) }
}

fn check_host(text: &str) -> Result<(), Misfit> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(
            Misfit::new(format!("{text:?} is an address")).help(format!("write ip: {text}"))
        );
    }
    HostName::parse(text).map(drop).map_err(|error| {
        Misfit::new(error.to_string())
            .help("a host has a dot, and neither scheme nor port: payments.example")
    })
}

fn is_id(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(inside)
        && text.len() <= 63
}

/// A DNS label, RFC 1123: namespaces and Services.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inside = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    inside && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

/// The name of an object: DNS labels joined by dots, at most 253 characters.
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let inside = label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        })
}

/// `Deployment/web`.
pub(super) fn parse_workload(text: &str) -> Result<WorkloadRef, Misfit> {
    let Some((kind_text, name)) = text.split_once('/') else {
        return Err(Misfit::new(format!("{text:?} names no kind"))
            .help(format!("write KIND/NAME, for example Deployment/{text}")));
    };
    let kind = parse_kind(kind_text)?;
    if is_object_name(name) {
        Ok(WorkloadRef {
            kind,
            name: name.to_owned(),
        })
    } else {
        Err(
            Misfit::new(format!("{name:?} cannot be the name of a {kind_text}"))
                .help("write KIND/NAME, for example Deployment/web"),
        )
    }
}

/// A kind of workload as Kubernetes writes it.
pub(super) fn parse_kind(text: &str) -> Result<WorkloadKind, Misfit> {
    let kinds: Vec<_> = WorkloadKind::ALL
        .into_iter()
        .map(WorkloadKind::as_str)
        .collect();
    WorkloadKind::parse(text).ok_or_else(|| {
        Misfit::new(format!("{text:?} is not a kind that has pods")).help(suggest::help(
            text,
            &kinds,
            "",
            "the kinds are",
        ))
    })
}

/// `8080`, `53/udp`, `metrics`.
pub(super) fn parse_port(text: &str) -> Result<PortItem, Misfit> {
    let (port, transport) = split_transport(text)?;
    let transport = transport.unwrap_or(Transport::Tcp);
    if port == "*" {
        return Err(Misfit::new("'*' is no port here"));
    }
    Ok(PortItem {
        port: parse_port_ref(port)?,
        transport,
    })
}

/// Cuts `/tcp` or `/udp` off.
pub(super) fn split_transport(text: &str) -> Result<(&str, Option<Transport>), Misfit> {
    let Some((port, transport)) = text.split_once('/') else {
        return Ok((text, None));
    };
    match transport {
        "tcp" => Ok((port, Some(Transport::Tcp))),
        "udp" => Ok((port, Some(Transport::Udp))),
        "sctp" => Err(Misfit::new("SCTP cannot be probed yet").help("leave this port out")),
        other => Err(
            Misfit::new(format!("{other:?} is not a transport")).help(suggest::help(
                other,
                &["tcp", "udp"],
                "",
                "write one of",
            )),
        ),
    }
}

/// A port's number or name.
pub(super) fn parse_port_ref(text: &str) -> Result<PortRef, Misfit> {
    if text.chars().all(|c| c.is_ascii_digit()) {
        return Port::parse_number(text)
            .map(PortRef::Number)
            .map_err(|error| Misfit::new(error.to_string()));
    }
    let named = is_dns_label(text) && text.contains(|c: char| c.is_ascii_lowercase());
    if named {
        Ok(PortRef::Name(text.to_owned()))
    } else {
        Err(Misfit::new(format!("{text:?} is not a port"))
            .help("write a number from 1 to 65535, or the name of a port in lower case"))
    }
}

/// Text as it is, or bytes after `0x`.
pub(super) fn parse_payload(text: &str) -> Result<Vec<u8>, Misfit> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(text.as_bytes().to_vec());
    };
    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            c.to_digit(16)
                .ok_or_else(|| Misfit::new(format!("{c:?} is not a hexadecimal digit")))
        })
        .collect::<Result<_, _>>()?;
    if digits.is_empty() || digits.len() % 2 == 1 {
        return Err(Misfit::new(
            "a payload after 0x needs two hexadecimal digits a byte",
        ));
    }
    Ok(digits
        .chunks_exact(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect())
}

/// An HTTP method in capitals.
pub(super) fn is_method(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_uppercase())
}

fn address_misfit(text: &str) -> Misfit {
    let misfit = Misfit::new(format!("{text:?} is not an IP address"));
    match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            misfit.help("a range cannot be tested: name one address of it")
        }
        _ if HostName::parse(text).is_ok() => misfit.help(format!("write host: {text}")),
        _ => misfit.help("write it like 203.0.113.66 or 2001:db8::1"),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn is_label_name(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let inside = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    inside && (1..=63).contains(&text.len()) && text.starts_with(ends) && text.ends_with(ends)
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}
