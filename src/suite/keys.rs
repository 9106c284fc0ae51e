//! Tables of the keys of a suite, from which the decoder's checks and the JSON Schema are derived.

use super::forms::Form;
use super::{Mechanism, RequiredTier, SourceMode, Spread};
use crate::model::Families;

/// A mapping with known keys.
#[derive(Debug)]
pub(super) struct Table {
    /// The described thing, for messages: "an endpoint".
    pub(super) what: &'static str,
    pub(super) fields: &'static [Field],
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: Shape,
    /// Its meaning in one phrase, for the JSON Schema.
    pub(super) meaning: &'static str,
    /// An example of a value, as YAML.
    pub(super) example: &'static str,
}

/// The shape of a node.
#[derive(Debug)]
pub(super) enum Shape {
    Scalar(Form),
    /// A list of at least one item.
    List(&'static Shape),
    /// One item, or a list of at least one.
    OneOrMore(&'static Shape),
    /// A mapping with keys of one form.
    Map(Form, &'static Shape),
    /// A mapping with known keys.
    Object(&'static Table),
    /// A text, or a mapping that says where the text comes from.
    TextOr(Form, &'static Table),
    /// An entry of `expect`: a line, or its long form.
    Line,
}

impl Table {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.name).collect()
    }

    /// A key by its name.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn optional(
    name: &'static str,
    shape: Shape,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field {
        name,
        required: false,
        shape,
        meaning,
        example,
    }
}

const fn required(
    name: &'static str,
    shape: Shape,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field {
        name,
        required: true,
        shape,
        meaning,
        example,
    }
}

/// The version of the format.
pub(super) const API_VERSION: &str = "watertight.dev/v1";
/// The kind of document.
pub(super) const KIND: &str = "Suite";

/// A document.
pub(super) static SUITE: Table = Table {
    what: "a suite",
    fields: &[
        required(
            "apiVersion",
            Shape::Scalar(Form::Exactly(API_VERSION)),
            "the version of this format",
            API_VERSION,
        ),
        required(
            "kind",
            Shape::Scalar(Form::Exactly(KIND)),
            "what the document is",
            KIND,
        ),
        required(
            "metadata",
            Shape::Object(&METADATA),
            "the suite's name",
            "{ name: shop }",
        ),
        required(
            "spec",
            Shape::Object(&SPEC),
            "what the suite expects",
            "{ expect: [...] }",
        ),
    ],
};

/// `metadata`.
pub(super) static METADATA: Table = Table {
    what: "metadata",
    fields: &[required(
        "name",
        Shape::Scalar(Form::Name),
        "the suite's name, unique in a run",
        "shop",
    )],
};

/// `spec`.
pub(super) static SPEC: Table = Table {
    what: "spec",
    fields: &[
        optional(
            "endpoints",
            Shape::Map(Form::Name, &Shape::Object(&ENDPOINT)),
            "the sources and targets of the lines",
            "{ web: { namespace: shop, workload: Deployment/web } }",
        ),
        optional(
            "groups",
            Shape::Map(Form::Name, &Shape::List(&Shape::Scalar(Form::Reference))),
            "endpoints under one name",
            "{ tiers: [web, api] }",
        ),
        optional(
            "settings",
            Shape::Object(&SETTINGS),
            "settings for every line; the settings of a line take precedence",
            "{ hold: 3s }",
        ),
        optional(
            "expect",
            Shape::List(&Shape::Line),
            "the lines",
            "[web -> api:8080 allowed]",
        ),
        optional(
            "everythingElse",
            Shape::Scalar(Form::OneOf(&["denied"])),
            "every pair and known port that no line mentions is denied",
            "denied",
        ),
    ],
};

/// An endpoint.
pub(super) static ENDPOINT: Table = Table {
    what: "an endpoint",
    fields: &[
        optional(
            "namespace",
            Shape::Scalar(Form::Label),
            "the namespace of its workload, pods or Service",
            "shop",
        ),
        optional(
            "workload",
            Shape::Scalar(Form::Workload),
            "the workload that owns its pods",
            "Deployment/web",
        ),
        optional(
            "pods",
            Shape::Map(Form::LabelKey, &Shape::Scalar(Form::LabelValue)),
            "labels that all of its pods have",
            "{ app: api }",
        ),
        optional(
            "service",
            Shape::Scalar(Form::Label),
            "a Service that selects its pods",
            "api",
        ),
        optional(
            "ports",
            Shape::List(&Shape::Scalar(Form::Port)),
            "its known ports, instead of those that its containers and Service declare",
            "[5432, 53/udp]",
        ),
        optional(
            "source",
            Shape::Scalar(Form::OneOf(SourceMode::NAMES)),
            "where its packets are sent from: pods with its identity, its own pods, their nodes, or the runner",
            "node",
        ),
        optional(
            "host",
            Shape::Scalar(Form::Host),
            "a host outside the cluster",
            "payments.example",
        ),
        optional(
            "ip",
            Shape::OneOrMore(&Shape::Scalar(Form::Address)),
            "an address; beside host, where the lab and predictions place it",
            "203.0.113.66",
        ),
    ],
};

const DURATION: Shape = Shape::Scalar(Form::Duration);

/// DNS record types that can be asked for.
const RECORDS: &[&str] = &[
    "A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT",
];

const STATUS: Shape = Shape::OneOrMore(&Shape::Scalar(Form::Integer(100, 599)));

/// A text from the environment.
pub(super) static FROM_ENV: Table = Table {
    what: "a text from the environment",
    fields: &[required(
        "fromEnv",
        Shape::Scalar(Form::Variable),
        "the variable of watertight's own environment that holds the text",
        "API_TOKEN",
    )],
};

/// `refusal`.
pub(super) static REFUSAL: Table = Table {
    what: "a refusal",
    fields: &[
        optional(
            "status",
            STATUS,
            "the status of a refusal, or several",
            "[401, 403]",
        ),
        optional(
            "header",
            Shape::Map(Form::HeaderName, &Shape::Scalar(Form::Expression)),
            "headers of a refusal, each with a regular expression for its value",
            "{ X-Denied-By: edge }",
        ),
        optional(
            "body",
            Shape::Scalar(Form::Expression),
            "a regular expression that the body of a refusal matches",
            "(?i)not allowed",
        ),
    ],
};

macro_rules! with_settings {
    ($($field:expr,)*) => {
        &[
            $($field,)*
            optional("settle", DURATION, "wait before the hold", "1s"),
            optional("hold", DURATION, "how long a deny is watched", "3s"),
            optional("unknownIdentityHold", DURATION, "the hold where nothing shows that the labels of a new pod are known", "15s"),
            optional("timeout", DURATION, "how long an allow may take to come up", "60s"),
            optional("attempts", Shape::Scalar(Form::Integer(1, 100_000)), "the least number of attempts for a deny", "6"),
            optional("attemptTimeout", DURATION, "how long one attempt may take to connect", "1.3s"),
            optional("tier", Shape::Scalar(Form::OneOf(RequiredTier::NAMES)), "the tier that the proof must reach", "D2+same-node"),
            optional("startup", Shape::Scalar(Form::OneOf(&["isolated"])), "a start-up leak counts as a violation", "isolated"),
            optional("mechanism", Shape::Scalar(Form::OneOf(Mechanism::NAMES)), "the deny must be of this kind", "drop"),
            optional("control", Shape::Scalar(Form::Reference), "an endpoint, or runner, that is known to reach the target", "runner"),
            optional("method", Shape::Scalar(Form::Method), "the request's method", "POST"),
            optional("headers", Shape::Map(Form::HeaderName, &Shape::TextOr(Form::HeaderValue, &FROM_ENV)), "the request's headers, each with a text or { fromEnv: NAME }", "{ X-Request-Id: probe }"),
            optional("status", STATUS, "on an allowed line, the status that counts as allowed, or several", "404"),
            optional("refusal", Shape::Object(&REFUSAL), "on a denied line, how its enforcer says no by HTTP, beside the known ways", "{ status: [401, 403] }"),
            optional("body", Shape::TextOr(Form::Text, &FROM_ENV), "the request's body, a text or { fromEnv: NAME }", "'{}'"),
            optional("serverName", Shape::Scalar(Form::ServerName), "the server name in the TLS handshake", "payments.example"),
            optional("alpn", Shape::List(&Shape::Scalar(Form::NonEmptyText)), "the protocols offered in the TLS handshake", "[h2, http/1.1]"),
            optional("record", Shape::Scalar(Form::OneOf(RECORDS)), "the DNS record type", "AAAA"),
            optional("send", Shape::Scalar(Form::Payload), "the TCP or UDP payload: text, or bytes after 0x", "0x0a0b"),
            optional("repeat", Shape::Scalar(Form::Boolean), "a method other than GET, HEAD and OPTIONS may be sent more than once", "true"),
            optional("spread", Shape::Scalar(Form::OneOf(Spread::NAMES)), "how many instances of a source send", "nodes"),
        ]
    };
}

/// `spec.settings`.
pub(super) static SETTINGS: Table = Table {
    what: "settings",
    fields: with_settings!(optional(
        "labFamilies",
        Shape::OneOrMore(&Shape::Scalar(Form::OneOf(Families::NAMES))),
        "the address families of the lab; in a cluster they are the cluster's",
        "[ipv4, ipv6]"
    ),),
};

/// A line's long form: the line, its metadata, and every setting.
pub(super) static LINE: Table = Table {
    what: "a line's long form",
    fields: with_settings!(
        required(
            "check",
            Shape::Scalar(Form::Line),
            "the line",
            "web -> api:8080 allowed"
        ),
        optional(
            "id",
            Shape::Scalar(Form::Id),
            "a stable id for people",
            "exfiltration"
        ),
        optional(
            "because",
            Shape::Scalar(Form::NonEmptyText),
            "the reason for the expectation",
            "cards are stored here"
        ),
        optional(
            "tags",
            Shape::List(&Shape::Scalar(Form::Tag)),
            "labels for --tag and --skip-tag",
            "[pci]"
        ),
        optional(
            "established",
            Shape::Scalar(Form::Boolean),
            "a connection that was open before the deny applied must be cut by it",
            "true"
        ),
    ),
};

/// The names of all settings.
pub fn setting_names() -> Vec<&'static str> {
    SETTINGS.names()
}
