//! The forms of a suite's scalars: the check of each and its JSON Schema.

use super::suggest;
use super::{PortItem, PortRef};
use crate::model::{
    EndpointName, HostName, Port, RefusedAddress, Transport, WorkloadKind, WorkloadRef,
    parse_duration,
};
use regex_lite::RegexBuilder;
use serde_json::{Value as Json, json};
use std::net::IpAddr;

/// Maximum size of a compiled expression, bytes, as in the probe.
const MAX_EXPRESSION: usize = 64 * 1024;

/// The form of a scalar.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Exactly this word.
    Exactly(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any text, including the empty text.
    Text,
    /// Any text with a character other than whitespace.
    NonEmptyText,
    /// The name of a suite, an endpoint or a group.
    Name,
    /// A line; `grammar` parses it.
    Line,
    /// An endpoint in the syntax of a line.
    Reference,
    Id,
    Tag,
    Duration,
    /// A whole number between two bounds, both included.
    Integer(u32, u32),
    Boolean,
    /// The name of a namespace or a Service: a DNS label.
    Label,
    /// `KIND/NAME` of a workload.
    Workload,
    LabelKey,
    LabelValue,
    /// A host name with a dot.
    Host,
    Address,
    /// The number or name of a port, with an optional transport.
    Port,
    Method,
    HeaderName,
    HeaderValue,
    /// A TLS server name, with or without a dot.
    ServerName,
    /// A payload: text, or bytes in hexadecimal after `0x`.
    Payload,
    /// A regular expression, for the answer of a target.
    Expression,
    /// The name of a variable of the environment.
    Variable,
}

/// Why a text does not have the required form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FormatError {
    pub(super) message: String,
    /// The fix, where one is known.
    pub(super) help: Option<String>,
}

impl FormatError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// A line has an arrow, and its last word is the expected outcome. A pattern cannot check more.
const LINE_PATTERN: &str = "^\\s*\\S[\\s\\S]*?(->|→)\\s*\\S[\\s\\S]*\\s(allowed|denied)\\s*$";
const NAME_PATTERN: &str = "^(?!(allowed|denied)$)[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const HOST_PATTERN: &str = "^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)+\\.?$";

impl Form {
    /// Checks that a text has this form.
    ///
    /// # Errors
    /// The first rule of the form that the text breaks.
    pub(super) fn check(self, text: &str) -> Result<(), FormatError> {
        match self {
            Self::Text => Ok(()),
            Self::Exactly(word) => ensure(text == word, || {
                text_error(text, &format!("is not {word:?}")).with_help(format!("write {word}"))
            }),
            Self::OneOf(words) => ensure(words.contains(&text), || {
                text_error(text, &format!("is not one of {}", words.join(", ")))
                    .with_help(suggest::help(text, words, "", "write one of"))
            }),
            Self::NonEmptyText | Self::Line => ensure(!text.trim().is_empty(), || {
                FormatError::new("the text is empty")
            }),
            Self::Name => EndpointName::parse(text)
                .map(drop)
                .map_err(|error| FormatError::new(error.to_string())),
            Self::Reference => ensure(!text.is_empty() && !text.contains([' ', ',']), || {
                text_error(text, "is not an endpoint").with_help("name one endpoint")
            }),
            Self::Id => ensure(is_id(text), || {
                text_error(
                    text,
                    "is not an id: 1 to 63 letters, digits, '-', '_' and '.', starting with a letter or digit",
                )
            }),
            Self::Tag => ensure(
                !text.is_empty()
                    && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ','),
                || {
                    text_error(text, "is not a tag: a word without blanks and commas")
                        .with_help("write several tags as a list: [pci, audit]")
                },
            ),
            Self::Duration => parse_duration(text)
                .map(drop)
                .map_err(|error| FormatError::new(error.to_string())),
            Self::Integer(from, to) => {
                let number = text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
                ensure(
                    number.is_some_and(|number| (from..=to).contains(&number)),
                    || text_error(text, &format!("is not a whole number from {from} to {to}")),
                )
            }
            Self::Boolean => ensure(matches!(text, "true" | "false"), || {
                text_error(text, "is neither true nor false")
            }),
            Self::Label => ensure(is_dns_label(text), || {
                text_error(
                    text,
                    "cannot be the name of a namespace or Service: 1 to 63 of a-z, 0-9 and '-'",
                )
            }),
            Self::Workload => parse_workload(text).map(drop),
            Self::LabelKey => ensure(is_label_key(text), || {
                text_error(text, "cannot be the key of a label").with_help(
                    "a key is [PREFIX/]NAME: at most 63 letters, digits, '-', '_' and '.'",
                )
            }),
            Self::LabelValue => ensure(text.is_empty() || is_label_name(text), || {
                text_error(
                    text,
                    "cannot be the value of a label: at most 63 letters, digits, '-', '_' and '.'",
                )
            }),
            Self::Host => check_host(text),
            Self::Address => parse_address(text).map(drop),
            Self::Port => parse_port(text).map(drop),
            Self::Method => ensure(is_method(text), || {
                text_error(text, "is not an HTTP method")
                    .with_help("write it in capitals: GET, HEAD, POST")
            }),
            Self::HeaderName => ensure(is_token(text), || {
                text_error(text, "cannot be the name of a header")
            }),
            Self::HeaderValue => ensure(text.chars().all(|c| !c.is_control() || c == '\t'), || {
                FormatError::new("a header's value cannot hold line breaks or control characters")
            }),
            Self::ServerName => ensure(
                is_dns_label(&text.to_ascii_lowercase()) || HostName::parse(text).is_ok(),
                || {
                    text_error(text, "is not a server name")
                        .with_help("write a host name; addresses are never sent as one")
                },
            ),
            Self::Payload => parse_payload(text).map(drop),
            Self::Expression => check_expression(text),
            Self::Variable => ensure(is_variable(text), || {
                text_error(
                    text,
                    "is not the name of a variable: letters, digits and '_', not starting with a digit",
                )
            }),
        }
    }

    /// The expected kind of value, for a message about a node of another kind.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Duration => "a duration",
            Self::Integer(..) => "a whole number",
            Self::Boolean => "true or false",
            Self::Port => "a port",
            Self::Name => "a name",
            Self::Reference => "an endpoint",
            Self::Address => "an address",
            Self::Host => "a host name",
            Self::Exactly(_) | Self::OneOf(_) => "one word",
            Self::Text
            | Self::NonEmptyText
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
            Self::Expression => "a regular expression",
            Self::Variable => "the name of a variable",
        }
    }

    /// The JSON Schema of the form. The decoder reads every scalar as text, so the schema accepts a
    /// number or boolean whose text has the form.
    pub(super) fn schema(self) -> Json {
        match self {
            Self::Exactly(word) => json!({"const": word}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Text | Self::HeaderValue | Self::Payload => {
                json!({"type": ["string", "number", "boolean"]})
            }
            Self::NonEmptyText | Self::Expression => scalar_schema("\\S"),
            Self::Line => string_schema(LINE_PATTERN),
            Self::Name => string_schema(NAME_PATTERN),
            Self::Reference => string_schema("^[^\\s,]+$"),
            Self::Id => scalar_schema("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
            Self::Tag => scalar_schema("^[^\\s,]+$"),
            Self::Duration => string_schema("^[0-9]+(\\.[0-9]+)*(ms|s|m|h)$"),
            Self::Integer(from, to) => {
                json!({"anyOf": [{"type": "integer", "minimum": from, "maximum": to}, {"type": "string", "pattern": "^[0-9]+$"}]})
            }
            Self::Boolean => json!({"enum": [true, false, "true", "false"]}),
            Self::Label => scalar_schema(LABEL_PATTERN),
            Self::Workload => {
                let kinds: Vec<_> = WorkloadKind::ALL
                    .into_iter()
                    .map(WorkloadKind::as_str)
                    .collect();
                string_schema(&format!(
                    "^({})/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
                    kinds.join("|")
                ))
            }
            Self::LabelKey => {
                string_schema("^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
            }
            Self::LabelValue => scalar_schema("^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"),
            Self::Host => string_schema(HOST_PATTERN),
            Self::Address => {
                string_schema("^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$")
            }
            Self::Port => json!({"anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65_535},
                {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(/(tcp|udp))?$"}
            ]}),
            Self::Method => string_schema("^[A-Z]+$"),
            Self::HeaderName => string_schema("^[!#$%&'*+.^_`|~A-Za-z0-9-]+$"),
            Self::ServerName => string_schema("^[A-Za-z0-9_.-]+$"),
            Self::Variable => string_schema("^[A-Za-z_][A-Za-z0-9_]*$"),
        }
    }
}

/// The error of a text, whose message begins with the text.
fn text_error(text: &str, message: &str) -> FormatError {
    FormatError::new(format!("{text:?} {message}"))
}

fn string_schema(pattern: &str) -> Json {
    json!({"type": "string", "pattern": pattern})
}

/// A string with a pattern, or any number or boolean.
fn scalar_schema(pattern: &str) -> Json {
    json!({"anyOf": [{"type": "string", "pattern": pattern}, {"type": ["number", "boolean"]}]})
}

fn ensure(condition: bool, error: impl FnOnce() -> FormatError) -> Result<(), FormatError> {
    if condition { Ok(()) } else { Err(error()) }
}

fn check_host(text: &str) -> Result<(), FormatError> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(FormatError::new(format!("{text:?} is an address"))
            .with_help(format!("write ip: {text}")));
    }
    HostName::parse(text).map(drop).map_err(|error| {
        FormatError::new(error.to_string())
            .with_help("a host has a dot, and neither scheme nor port: payments.example")
    })
}

/// Checks a regular expression as the probe reads it. An empty one would match every answer.
fn check_expression(text: &str) -> Result<(), FormatError> {
    if text.trim().is_empty() {
        return Err(FormatError::new("an empty expression matches everything"));
    }
    RegexBuilder::new(text)
        .size_limit(MAX_EXPRESSION)
        .build()
        .map(drop)
        .map_err(|error| text_error(text, &format!("is not a regular expression: {error}")))
}

/// Whether a text is the name of a variable (POSIX.1-2024, section 3.216), at most as long as a key
/// of a Secret may be.
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 253
}

fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_label_character)
        && text.len() <= 63
}

/// Whether a text is a DNS label (RFC 1123), as names of namespaces and Services are.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_object_name_label(text)
}

/// Whether a text is the name of an object: DNS labels joined by dots, at most 253 characters.
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_object_name_label)
}

/// Whether a text is a part of an object's name between dots, of any length but 0.
fn is_object_name_label(label: &str) -> bool {
    let characters_fit = label
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    characters_fit && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
}

/// Parses `KIND/NAME`: `Deployment/web`.
pub(super) fn parse_workload(text: &str) -> Result<WorkloadRef, FormatError> {
    let Some((kind_text, name)) = text.split_once('/') else {
        return Err(FormatError::new(format!("{text:?} names no kind"))
            .with_help(format!("write KIND/NAME, for example Deployment/{text}")));
    };
    let kind = parse_kind(kind_text)?;
    if is_object_name(name) {
        Ok(WorkloadRef {
            kind,
            name: name.to_owned(),
        })
    } else {
        Err(
            FormatError::new(format!("{name:?} cannot be the name of a {kind_text}"))
                .with_help("write KIND/NAME, for example Deployment/web"),
        )
    }
}

/// Parses the kind of a workload in Kubernetes' spelling.
pub(super) fn parse_kind(text: &str) -> Result<WorkloadKind, FormatError> {
    let kinds: Vec<_> = WorkloadKind::ALL
        .into_iter()
        .map(WorkloadKind::as_str)
        .collect();
    WorkloadKind::parse(text).ok_or_else(|| {
        FormatError::new(format!("{text:?} is not a kind that has pods")).with_help(suggest::help(
            text,
            &kinds,
            "",
            "the kinds are",
        ))
    })
}

/// Parses a port: `8080`, `53/udp`, `metrics`.
pub(super) fn parse_port(text: &str) -> Result<PortItem, FormatError> {
    let (port, transport) = split_transport(text)?;
    let transport = transport.unwrap_or(Transport::Tcp);
    if port == "*" {
        return Err(FormatError::new(
            "'*' cannot be used here: a port is expected",
        ));
    }
    Ok(PortItem {
        port: parse_port_ref(port)?,
        transport,
    })
}

/// Splits off the suffix `/tcp` or `/udp`.
pub(super) fn split_transport(text: &str) -> Result<(&str, Option<Transport>), FormatError> {
    let Some((port, transport)) = text.split_once('/') else {
        return Ok((text, None));
    };
    match transport {
        "tcp" => Ok((port, Some(Transport::Tcp))),
        "udp" => Ok((port, Some(Transport::Udp))),
        "sctp" => {
            Err(FormatError::new("SCTP cannot be probed yet").with_help("leave this port out"))
        }
        other => Err(FormatError::new(format!("{other:?} is not a transport"))
            .with_help(suggest::help(other, &["tcp", "udp"], "", "write one of"))),
    }
}

/// Parses the number or name of a port.
pub(super) fn parse_port_ref(text: &str) -> Result<PortRef, FormatError> {
    if text.chars().all(|c| c.is_ascii_digit()) {
        return Port::parse_number(text)
            .map(PortRef::Number)
            .map_err(|error| FormatError::new(error.to_string()));
    }

    let is_name = is_dns_label(text) && text.contains(|c: char| c.is_ascii_lowercase());
    if is_name {
        Ok(PortRef::Name(text.to_owned()))
    } else {
        Err(FormatError::new(format!("{text:?} is not a port"))
            .with_help("write a number from 1 to 65535, or the name of a port in lower case"))
    }
}

/// Parses a payload: hexadecimal bytes after `0x`, otherwise the bytes of the text.
pub(super) fn parse_payload(text: &str) -> Result<Vec<u8>, FormatError> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(text.as_bytes().to_vec());
    };

    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            c.to_digit(16)
                .ok_or_else(|| FormatError::new(format!("{c:?} is not a hexadecimal digit")))
        })
        .collect::<Result<_, _>>()?;
    if digits.is_empty() || digits.len() % 2 == 1 {
        return Err(FormatError::new(
            "a payload after 0x needs two hexadecimal digits a byte",
        ));
    }

    Ok(digits
        .chunks_exact(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect())
}

/// Whether a text is an HTTP method: 1 to 20 capital letters.
pub(super) fn is_method(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_uppercase())
}

/// Parses an address that can be a target.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, FormatError> {
    let address = text.parse().map_err(|_| address_error(text))?;
    match RefusedAddress::of(address) {
        None => Ok(address),
        Some(why) => Err(FormatError::new(format!("{address} {why}")).with_help(why.help())),
    }
}

fn address_error(text: &str) -> FormatError {
    let error = FormatError::new(format!("{text:?} is not an IP address"));
    match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            error.with_help("a range cannot be tested: name one address of it")
        }
        _ if HostName::parse(text).is_ok() => error.with_help(format!("write host: {text}")),
        _ => error.with_help("write it like 203.0.113.66 or 2001:db8::1"),
    }
}

/// Whether a text is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn is_label_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_label_character)
}

fn is_label_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}
