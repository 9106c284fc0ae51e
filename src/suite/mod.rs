//! A suite: what its author expects, valid and with every name resolved to an endpoint of the same
//! file.
//!
//! [`load`] takes files to suites in five steps, each in a file of its own: the tree is held
//! against the tables of keys (`shape`, `keys`, `forms`), endpoints and groups are defined
//! (`endpoints`, `names`), lines are parsed (`grammar`, `item`) and looked up (`lines`), and lines
//! are held against each other (`conflicts`). Every step reports all it finds; none stops at the
//! first fault. [`schema`] is made from the same tables.

mod choices;
mod conflicts;
mod decode;
mod endpoints;
mod forms;
mod grammar;
mod item;
mod keys;
mod lines;
mod load;
mod names;
mod ports;
mod position;
mod schema;
mod scheme;
mod settings;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;

pub use keys::setting_names;
pub use load::{load, load_line, read};
pub use names::{INSTANCE_METADATA, WIRE_SERVER};
pub use schema::schema;
pub use scheme::Scheme;

use crate::model::{HostName, ObjectRef, Port, Transport, WorkloadRef};
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
    /// Endpoints in order of definition; those written in place in a line follow, in order of
    /// appearance.
    pub endpoints: Vec<Endpoint>,
    /// `spec.settings`.
    pub settings: Settings,
    /// `spec.expect`.
    pub lines: Vec<Line>,
    /// `spec.everythingElse: denied`, with its place.
    pub everything_else: Option<Place>,
}

/// Index into [`Suite::endpoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// A workload, Service, host or address that sends or receives.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// How the suite names it: its name, or the text in place (`shop/Deployment/web`,
    /// `203.0.113.66`).
    pub label: String,
    /// How it is found.
    pub locator: Locator,
    /// A Service that leads to it, in the same namespace.
    pub service: Option<String>,
    /// `ports:`, if given.
    pub ports: Option<Vec<PortItem>>,
    /// `source:`, if given, or the run's default.
    pub source_mode: Option<SourceMode>,
    /// Where it is defined.
    pub place: Place,
    /// Whether any line names it (`*` does not).
    pub used: bool,
}

impl Endpoint {
    /// One that stands in no file.
    pub fn of(label: &str, locator: Locator) -> Self {
        let place = Place {
            file: String::new(),
            line: 1,
            column: 1,
        };
        Self {
            label: label.to_owned(),
            locator,
            service: None,
            ports: None,
            source_mode: None,
            place,
            used: true,
        }
    }
}

/// From where the packets of an endpoint that is made of pods are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SourceMode {
    /// From pods with its identity: in a cluster clones, in the lab the pods themselves.
    #[default]
    Clone,
    /// From within the pods themselves: in a cluster by an ephemeral container, which stays in the
    /// pod until that is deleted (Kubernetes, "Ephemeral Containers"); in the lab as `Clone`.
    Ephemeral,
    /// From the own network of the nodes that its pods run on. A node is no pod: policies that
    /// select its pods say nothing of what it sends, and it may always reach its own pods
    /// (Kubernetes, "Network Policies").
    Node,
    /// From where watertight runs.
    Runner,
}

/// How an endpoint is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locator {
    /// A workload's pods.
    Workload {
        /// Namespace.
        namespace: String,
        /// Kind and name.
        workload: WorkloadRef,
    },
    /// Pods by labels, all of which must match.
    Pods {
        /// Namespace.
        namespace: String,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
    /// A Service alone: its address, and the pods it selects.
    Service {
        /// Namespace and name.
        service: ObjectRef,
    },
    /// A host outside the cluster.
    Host(HostName),
    /// An address.
    Address(IpAddr),
    /// From where watertight runs.
    Runner,
    /// Every node.
    Nodes,
}

impl Locator {
    /// The name of an outside host, where it is found by one.
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
    /// Where it stands.
    pub place: Place,
    /// Sources, in order.
    pub sources: Vec<Subject>,
    /// Targets, in order.
    pub targets: Vec<TargetItem>,
    /// What is expected.
    pub expected: Expected,
    /// `id:`.
    pub id: Option<String>,
    /// `because:`.
    pub because: Option<String>,
    /// `tags:`.
    pub tags: Vec<String>,
    /// The long form's settings.
    pub settings: Settings,
}

/// What a line expects.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// The flow gets through.
    Allowed,
    /// The flow is stopped.
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

/// A source or a target, before `*` and groups meet an inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One endpoint, named by itself.
    Endpoint(EndpointId),
    /// A group's members: never paired with themselves.
    Group(Vec<EndpointId>),
    /// `*`.
    All,
}

impl Subject {
    /// The endpoints that it holds by name; none for `*`.
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
    /// Who.
    pub subject: Subject,
    /// What of it.
    pub what: TargetWhat,
}

/// What of a target is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetWhat {
    /// Every known port (no PORT, or `*`), of one transport if it was written (`*/udp`).
    KnownPorts(Option<Transport>),
    /// One port.
    Port(PortItem),
    /// The known ports in a range, ends included; the rest is swept.
    Range {
        /// First.
        from: u16,
        /// Last.
        to: u16,
        /// Transport.
        transport: Transport,
    },
    /// A request.
    Url(Url),
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortItem {
    /// Number or name.
    pub port: PortRef,
    /// Transport.
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
    /// Scheme.
    pub scheme: Scheme,
    /// Method, for HTTP; `GET` unless written.
    pub method: String,
    /// Port, when written.
    pub port: Option<PortRef>,
    /// Path and query as written, `%2C` kept; empty when none.
    pub path: String,
    /// The whole item as written, for the check's name (with the method unless GET).
    pub text: String,
}

/// Settings as written: of a line, or of `spec.settings`. What is `None` was not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Wait before the hold.
    pub settle: Option<Duration>,
    /// How long a deny is watched.
    pub hold: Option<Duration>,
    /// How long an allow may take to come up.
    pub timeout: Option<Duration>,
    /// Samples that a deny needs at least.
    pub attempts: Option<u32>,
    /// Deadline of the connect stage.
    pub attempt_timeout: Option<Duration>,
    /// The tier demanded.
    pub required_tier: Option<RequiredTier>,
    /// `startup: isolated`.
    pub startup_isolated: Option<bool>,
    /// The kind that a deny must be.
    pub mechanism: Option<Mechanism>,
    /// An endpoint that is known to reach the target.
    pub control: Option<EndpointId>,
    /// The request's method.
    pub method: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The status that counts as allowed.
    pub status: Option<u16>,
    /// Body.
    pub body: Option<String>,
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
    /// How many source instances.
    pub spread: Option<Spread>,
}

impl Settings {
    /// What a line's settings and its suite's make together: the line's go first.
    #[must_use]
    pub fn over(&self, suite: &Self) -> Self {
        let (line, suite) = (self.clone(), suite.clone());
        Self {
            settle: line.settle.or(suite.settle),
            hold: line.hold.or(suite.hold),
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
            status: line.status.or(suite.status),
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
        }
    }
}

/// A tier that a line demands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
pub enum RequiredTier {
    /// Blocked, target alive, nothing changed.
    D1,
    /// All five conditions.
    D2,
    /// And a pod on the same node got through.
    #[serde(rename = "D2+same-node")]
    D2SameNode,
    /// And the enforcer's own record.
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

/// The kind of deny that a line demands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// Silence.
    Drop,
    /// A TCP reset.
    Reset,
    /// An ICMP message.
    Icmp,
    /// A known answer of an enforcement layer (HTTP, TLS or DNS).
    Signature,
}

/// How many instances of a source are used.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// One.
    One,
    /// One a node, at most three.
    Nodes,
    /// Every replica.
    Replicas,
}
