//! The suite: a validated file of expectations, with every name resolved to one of its endpoints.
//!
//! [`load`] reads files in five steps:
//!
//! 1. check the YAML tree against the tables of keys (`shape`, `keys`, `forms`),
//! 2. define endpoints and groups (`endpoints`, `names`),
//! 3. parse lines (`grammar`, `item`),
//! 4. resolve the names in lines (`lines`),
//! 5. compare lines with each other (`conflicts`).
//!
//! Every step reports all errors it finds. [`schema`] is generated from the same tables of keys.

mod conflicts;
mod decode;
mod endpoints;
mod forms;
mod grammar;
mod hosts;
mod item;
mod keys;
mod lines;
mod load;
mod names;
mod ports;
mod position;
mod schema;
mod scheme;
mod setting_values;
mod settings;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;

pub use hosts::{HostAddresses, apply_resolve};
pub use keys::setting_names;
pub use load::{load, load_line, read};
pub use names::{INSTANCE_METADATA, WIRE_SERVER};
pub use schema::schema;
pub use scheme::Scheme;

use crate::model::{
    Families, HostName, ObjectRef, Port, SecretText, Secrets, Transport, WorkloadRef,
};
use crate::source::Place;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A valid suite.
#[derive(Debug, Clone)]
pub struct Suite {
    /// `metadata.name`.
    pub name: String,
    /// The file as it was named on the command line.
    pub file: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Endpoints in order of definition, followed by those written inline in a line, in order of
    /// appearance.
    pub endpoints: Vec<Endpoint>,
    /// `spec.settings`.
    pub settings: Settings,
    /// The address families of the lab, `labFamilies` of `spec.settings`.
    pub lab_families: Option<Families>,
    /// `spec.expect`.
    pub lines: Vec<Line>,
    /// The position of `spec.everythingElse: denied`, if given.
    pub everything_else: Option<Place>,
}

impl Suite {
    /// What its requests take from the environment.
    pub fn secrets(&self) -> Secrets {
        let lines = self.lines.iter().map(|line| &line.settings);
        let settings = lines.chain([&self.settings]);
        let texts = settings.flat_map(|settings| {
            let headers = settings.headers.iter().map(|(_, value)| value);
            headers.chain(&settings.body)
        });

        let mut secrets = Secrets::default();
        secrets.extend(texts.filter_map(RequestText::secret));
        secrets
    }
}

/// Index into [`Suite::endpoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// A workload, Service, host or address that sends or receives.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The name in the suite, or the inline text (`shop/Deployment/web`, `203.0.113.66`).
    pub label: String,
    pub locator: Locator,
    /// The addresses that `ip:` or `--resolve` gives a host; empty where neither does, and for
    /// every other locator.
    pub addresses: Vec<IpAddr>,
    /// A Service in the same namespace that selects its pods.
    pub service: Option<String>,
    /// The known ports from `ports:`, if given.
    pub ports: Option<Vec<PortItem>>,
    /// `source:`, if given, otherwise the run's default.
    pub source_mode: Option<SourceMode>,
    /// Position of the definition, or of the first use.
    pub place: Place,
    /// Whether a line names the endpoint; `*` does not count.
    pub used: bool,
}

impl Endpoint {
    /// Creates an endpoint that no file defines.
    pub fn of(label: &str, locator: Locator) -> Self {
        let place = Place {
            file: String::new(),
            line: 1,
            column: 1,
        };
        Self {
            label: label.to_owned(),
            locator,
            addresses: Vec::new(),
            service: None,
            ports: None,
            source_mode: None,
            place,
            used: true,
        }
    }
}

/// The place from which an endpoint that consists of pods sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SourceMode {
    /// From pods with the endpoint's identity: clones in a cluster, the pods themselves in the lab.
    #[default]
    Clone,
    /// From the pods themselves: in a cluster by an ephemeral container, which remains until the
    /// pod is deleted (Kubernetes, "Ephemeral Containers"); in the lab like `Clone`.
    Ephemeral,
    /// From the host network of the nodes that its pods run on. Policies that select the pods do
    /// not apply to what a node sends, and a node can always reach its own pods (Kubernetes,
    /// "Network Policies").
    Node,
    /// From where watertight runs.
    Runner,
}

/// How an endpoint is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locator {
    /// The pods of a workload.
    Workload {
        namespace: String,
        workload: WorkloadRef,
    },
    /// The pods that match all of these labels.
    Pods {
        namespace: String,
        labels: BTreeMap<String, String>,
    },
    /// A Service: its address, and the pods it selects.
    Service {
        service: ObjectRef,
    },
    /// A host outside the cluster.
    Host(HostName),
    Address(IpAddr),
    /// The machine or pod in which watertight runs.
    Runner,
    /// Every node.
    Nodes,
}

impl Locator {
    /// The host name; `None` for every other locator.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Host(name) => Some(name.as_str()),
            Self::Workload { .. }
            | Self::Pods { .. }
            | Self::Service { .. }
            | Self::Address(_)
            | Self::Runner
            | Self::Nodes => None,
        }
    }
}

/// One entry of `spec.expect`.
#[derive(Debug, Clone)]
pub struct Line {
    /// The line as written: `web-tier -> api:8080 allowed`.
    pub text: String,
    pub place: Place,
    /// Sources, in order.
    pub sources: Vec<Subject>,
    /// Targets, in order.
    pub targets: Vec<TargetItem>,
    pub expected: Expected,
    pub id: Option<String>,
    pub because: Option<String>,
    pub tags: Vec<String>,
    /// The long form's settings.
    pub settings: Settings,
}

/// The expected outcome of a line.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// The flow gets through.
    Allowed,
    /// The flow is blocked.
    Denied,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        })
    }
}

/// A source or a target of a line; the planner resolves `*` against an inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One endpoint.
    Endpoint(EndpointId),
    /// The members of a group; a member is never paired with itself.
    Group(Vec<EndpointId>),
    /// `*`: every endpoint that can have the role.
    All,
}

impl Subject {
    /// The named endpoints; none for `*`.
    pub fn members(&self) -> &[EndpointId] {
        match self {
            Self::Endpoint(id) => std::slice::from_ref(id),
            Self::Group(members) => members,
            Self::All => &[],
        }
    }
}

/// A target with its port or URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetItem {
    pub subject: Subject,
    pub what: TargetWhat,
}

/// The ports or the request of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetWhat {
    /// Every known port (no PORT, or `*`); only those of one transport, if one is written
    /// (`*/udp`).
    KnownPorts(Option<Transport>),
    /// One port.
    Port(PortItem),
    /// The known ports in a range, both ends included; a sweep tests the others.
    Range {
        from: u16,
        to: u16,
        transport: Transport,
    },
    /// A request.
    Url(Url),
}

/// A port, by number or name, with its transport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortItem {
    pub port: PortRef,
    pub transport: Transport,
}

impl From<Port> for PortItem {
    fn from(port: Port) -> Self {
        Self {
            port: PortRef::Number(port.number()),
            transport: port.transport(),
        }
    }
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// 1 to 65535.
    Number(u16),
    /// A container's or Service's port name.
    Name(String),
}

/// A URL target: `https://payment/health`, `POST http://api:8080/x`, `tls://payment`,
/// `dns://10.96.0.10/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    pub scheme: Scheme,
    /// Method, for HTTP; `GET` unless written.
    pub method: String,
    /// The port, if written.
    pub port: Option<PortRef>,
    /// Path and query as written, without decoding `%2C`; may be empty.
    pub path: String,
    /// The item as written, with the method unless it is GET; part of the check's name.
    pub text: String,
}

/// Settings of a line or of `spec.settings`; `None` for those that are not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Wait before the hold.
    pub settle: Option<Duration>,
    /// How long a deny is watched.
    pub hold: Option<Duration>,
    /// How long a deny is watched where nothing shows that the labels of a new pod are known.
    pub unknown_identity_hold: Option<Duration>,
    /// How long an allow may take to come up.
    pub timeout: Option<Duration>,
    /// The least number of attempts for a deny.
    pub attempts: Option<u32>,
    /// How long one attempt may take to connect.
    pub attempt_timeout: Option<Duration>,
    /// The lowest tier that the proof must reach.
    pub required_tier: Option<RequiredTier>,
    /// `startup: isolated`.
    pub startup_isolated: Option<bool>,
    pub mechanism: Option<Mechanism>,
    /// An endpoint that is known to reach the target.
    pub control: Option<EndpointId>,
    pub method: Option<String>,
    pub headers: Vec<(String, RequestText)>,
    /// The statuses that count as allowed, on allowed lines; any where there is none.
    pub status: Vec<u16>,
    /// How the enforcer says no, on denied lines.
    pub refusal: Option<Refusal>,
    pub body: Option<RequestText>,
    /// TLS server name.
    pub server_name: Option<String>,
    /// ALPN protocols.
    pub alpn: Vec<String>,
    /// DNS record type.
    pub record: Option<String>,
    /// Payload.
    pub send: Option<Vec<u8>>,
    /// Whether a method that is not safe may be sent more than once.
    pub repeat: Option<bool>,
    pub spread: Option<Spread>,
    /// Whether a connection that was opened before the deny applied must be cut; of a line only.
    pub established: Option<bool>,
}

impl Settings {
    /// Merges a line's settings with its suite's; the line's take precedence.
    #[must_use]
    pub fn over(&self, suite: &Self) -> Self {
        let (line, suite) = (self.clone(), suite.clone());
        Self {
            settle: line.settle.or(suite.settle),
            hold: line.hold.or(suite.hold),
            unknown_identity_hold: line.unknown_identity_hold.or(suite.unknown_identity_hold),
            timeout: line.timeout.or(suite.timeout),
            attempts: line.attempts.or(suite.attempts),
            attempt_timeout: line.attempt_timeout.or(suite.attempt_timeout),
            required_tier: line.required_tier.or(suite.required_tier),
            startup_isolated: line.startup_isolated.or(suite.startup_isolated),
            mechanism: line.mechanism.or(suite.mechanism),
            control: line.control.or(suite.control),
            method: line.method.or(suite.method),
            headers: if line.headers.is_empty() {
                suite.headers
            } else {
                line.headers
            },
            status: if line.status.is_empty() {
                suite.status
            } else {
                line.status
            },
            refusal: line.refusal.or(suite.refusal),
            body: line.body.or(suite.body),
            server_name: line.server_name.or(suite.server_name),
            alpn: if line.alpn.is_empty() {
                suite.alpn
            } else {
                line.alpn
            },
            record: line.record.or(suite.record),
            send: line.send.or(suite.send),
            repeat: line.repeat.or(suite.repeat),
            spread: line.spread.or(suite.spread),
            established: line.established,
        }
    }
}

/// A header's value or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestText {
    /// As the suite writes it.
    Literal(String),
    /// From the environment of watertight: `{ fromEnv: NAME }`.
    FromEnv { variable: String, value: SecretText },
}

impl RequestText {
    /// Name and text, where it comes from the environment.
    fn secret(&self) -> Option<(String, SecretText)> {
        match self {
            Self::Literal(_) => None,
            Self::FromEnv { variable, value } => Some((variable.clone(), value.clone())),
        }
    }
}

/// How an enforcer says no by HTTP: all parts that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// One of these statuses; any where there is none.
    pub status: Vec<u16>,
    /// Headers by name, each with a regular expression for its value.
    pub headers: Vec<(String, String)>,
    /// A regular expression that is found in the body.
    pub body: Option<String>,
}

/// The tier that a line requires.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
pub enum RequiredTier {
    /// Blocked, with a target control and no change during the window.
    D1,
    /// D1 with a source control and a path control.
    D2,
    /// D2 with a same-node control.
    #[serde(rename = "D2+same-node")]
    D2SameNode,
    /// D2 with the enforcer's counter.
    #[serde(rename = "D2+counter")]
    D2Counter,
    /// Handshake.
    A0,
    /// Bytes or certificate of the target.
    A1,
    /// Our nonce, or the expected certificate.
    A2,
    /// Mesh identity.
    A3,
}

/// The kind of deny that a line requires.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// No answer.
    Drop,
    /// A TCP reset.
    Reset,
    /// An ICMP message.
    Icmp,
    /// A known answer of an enforcement layer (HTTP, TLS or DNS).
    Signature,
}

/// How many instances of a source send.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// One.
    One,
    /// One on each node, on at most three nodes.
    Nodes,
    /// Every replica.
    Replicas,
}
