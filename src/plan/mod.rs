//! Suite + Inventory → [`Plan`]: expansion into checks and flows, controls, rates.
//!
//! A plan holds everything that a run will do and every relation that a verdict may need: which
//! flows can vouch for a target, for a source, for a path. Whether one of them *did* is not known
//! here.

mod addresses;
mod builder;
mod check_settings;
mod checks;
mod composite;
mod controls;
mod coverage;
mod draft;
mod endpoints;
mod invalidate;
mod mesh;
mod notes;
mod policy_delay;
mod predict;
mod probe_plan;
mod rates;
mod replan;
mod request;
mod resolve;
mod sweep;
mod transport;

pub use check_settings::{BackendKind, CheckSettings, MIN_DEADLINE};
pub use composite::Composite;
pub use controls::{ControlEndpoints, NodeEndpoint, ReferencePodAddress};
pub use coverage::{Coverage, Touched};
pub use draft::{DraftError, draft};
pub use invalidate::invalidate_identities;
pub use notes::policies_selecting_no_pod;
pub use policy_delay::shows_identity_towards;
pub use predict::explain_flows;
pub use probe_plan::{
    REQUEST_DEADLINE, RESOLVE_DEADLINE, RUNS, Schedule, TLS_DEADLINE, floor, longest, probe_plans,
};
pub use rates::{Rate, rate_of};
pub use replan::Renewal;
pub use request::url_port;
pub use resolve::{PlanDiagnostic, PlanError, Selection, resolve};
pub use sweep::{METADATA, METADATA_PORT};
pub use transport::{off_the_wire, on_the_wire};

use crate::model::{Family, ObjectRef};
use crate::suite::Expected;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A probe of a run: one process, one vantage. The index into [`Plan::probes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// A flow of a run. The index into [`Plan::flows`], and the flow's id on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// A check of a run. The index into [`Plan::checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// Everything that a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The suites, in the order of the command line.
    pub suites: Vec<SuiteRef>,
    /// The checks, in the order in which they are reported.
    pub checks: Vec<Check>,
    /// Ports of denied ranges that nobody is known to listen on, and what a swept workload could
    /// reach beyond all lines, each tried once: an opening violates, silence says only "closed or
    /// denied" and is no check.
    pub swept: Vec<Check>,
    /// The probes to launch.
    pub probes: Vec<Source>,
    /// How often each probe tries its flows.
    pub rates: Vec<Rate>,
    /// How often the flows of checks try targets that many of them try.
    pub target_rates: BTreeMap<TargetKey, Rate>,
    /// Whom each probe asks for names; `None` is its own `resolv.conf`.
    pub resolvers: Vec<Option<wire::Resolver>>,
    /// The port on which each pod's probe answers by itself, where the backend does not.
    pub listen: Option<u16>,
    /// Whether targets are other people's servers, in place of our own responders.
    pub foreign_targets: bool,
    /// The flows, those that serve as controls included.
    pub flows: Vec<Flow>,
    /// For each target of a check, who can vouch that it is alive.
    pub target_controls: BTreeMap<TargetKey, Vec<FlowId>>,
    /// For Services that nobody is sure to get through to, what vouches for them together.
    pub composites: BTreeMap<TargetKey, Composite>,
    /// For each probe, family and transport, what can vouch that the source is able.
    pub source_controls: BTreeMap<(ProbeId, Family, wire::Transport), SourceControls>,
    /// For each path, the flows that take it.
    pub path_controls: BTreeMap<Path, Vec<FlowId>>,
    /// The probes whose pods this run creates.
    pub created: BTreeSet<ProbeId>,
    /// The probes that run within the pods whose identity they have, where the backend has a
    /// choice.
    pub inside: BTreeSet<ProbeId>,
    /// For each of these and each node, the flows that show that the probe's labels are known
    /// there.
    pub policy_delay_flows: BTreeMap<(ProbeId, String), Vec<FlowId>>,
    /// The uid of every pod at an end of a flow, by `namespace/name`.
    pub pod_uids: BTreeMap<String, String>,
    /// What the policies say of each flow, where they say one thing.
    pub predicted: BTreeMap<FlowId, Expected>,
    /// How much of what exists the checks touch; nothing where the policies cannot be read.
    pub coverage: Option<Coverage>,
    /// What is worth telling before anything is sampled.
    pub notes: Vec<String>,
}

impl Plan {
    /// The flow of an id that this plan gave out.
    pub fn flow(&self, id: FlowId) -> &Flow {
        &self.flows[id.0 as usize]
    }

    /// The vantage of a probe that this plan gave out.
    pub fn source(&self, id: ProbeId) -> &Source {
        &self.probes[id.0 as usize]
    }
}

/// A suite as reports name it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct SuiteRef {
    /// `metadata.name`.
    pub name: String,
    /// The file as it was named.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// A line expanded to one source endpoint, one target endpoint, one port.
#[derive(Debug, Clone)]
pub struct Check {
    /// `SOURCE -> TARGET:PORT allowed|denied`, unique within its suite.
    pub name: String,
    /// Index into [`Plan::suites`].
    pub suite: usize,
    /// The source as the suite names it, for matrices.
    pub source: String,
    /// The target and port as the suite names them, for matrices.
    pub target: String,
    /// What is expected.
    pub expected: Expected,
    /// Where it comes from.
    pub line: LineRef,
    /// How it is judged.
    pub settings: CheckSettings,
    /// What is sampled for it.
    pub flows: Vec<FlowId>,
    /// What was sampled for it until a pod at either end was replaced: what these flows opened
    /// before that still counts.
    pub retired: Vec<FlowId>,
    /// How much of the source and of the target these flows cover.
    pub scope: Scope,
    /// Whether it can be proven at all.
    pub provability: Provability,
    /// What the policies say of it; nothing where that is not known.
    pub prediction: Option<Prediction>,
}

/// What the policies say of a check, before any packet. It is shown, and may choose what is tried;
/// no verdict sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// What they say of all of its flows; nothing where they say different things.
    pub answer: Option<Expected>,
    /// Why it is not what the suite expects, if it is not.
    pub because: Option<String>,
    /// The smallest change of policies or labels that would make it so.
    pub change: Option<String>,
}

impl Prediction {
    /// `allowed`, `denied` or `mixed`.
    pub fn word(&self) -> &'static str {
        match self.answer {
            Some(Expected::Allowed) => "allowed",
            Some(Expected::Denied) => "denied",
            None => "mixed",
        }
    }
}

impl Check {
    /// Why the policies cannot do what the suite expects, in one sentence, if they cannot.
    pub fn contradiction(&self) -> Option<String> {
        let prediction = self.prediction.as_ref()?;
        let because = prediction.because.as_ref()?;
        let change = prediction.change.as_ref().map_or(String::new(), |change| {
            format!("; to change that: {change}")
        });
        Some(format!(
            "the policies cannot do what the suite expects: {because}{change}"
        ))
    }
}

/// The line of a suite that a check comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LineRef {
    /// File as named.
    pub file: String,
    /// Line number, from 1.
    pub line: u32,
    /// Column of the line's first character, from 1.
    pub column: u32,
    /// The line as written.
    pub text: String,
    /// `because:`.
    pub because: Option<String>,
    /// `tags:`.
    pub tags: Vec<String>,
    /// `id:`.
    pub id: Option<String>,
}

impl LineRef {
    /// `file:line:column`.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How much there was to cover when the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Nodes on which the source has pods.
    pub source_nodes: usize,
    /// Pods of the target; 0 for targets that are not pods.
    pub target_pods: usize,
}

/// Whether a check can be proven, as far as planning can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provability {
    /// Yes, if the network is as expected.
    Provable,
    /// Never, and why; it is sampled where possible.
    Unprovable(String),
    /// The source or the target matches nothing that exists.
    MatchesNothing(String),
}

/// From where a probe sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A pod's identity.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The node it runs on.
        node: String,
    },
    /// A node's own network.
    Node {
        /// Its name.
        name: String,
    },
    /// A vantage of the backend's own on a node, wired like a pod, that no policy stops: what it
    /// cannot reach, nothing can.
    ReferencePod {
        /// The node.
        node: String,
    },
    /// From where watertight runs; in the lab an outside host.
    Runner,
}

impl Source {
    /// The node it sends from, if it is in the cluster.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Pod { node, .. } | Self::ReferencePod { node } => Some(node),
            Self::Node { name } => Some(name),
            Self::Runner => None,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                node,
            } => write!(f, "{namespace}/{name} on {node}"),
            Self::Node { name } => write!(f, "node {name}"),
            Self::ReferencePod { node } => write!(f, "the witness on {node}"),
            Self::Runner => f.write_str("the runner"),
        }
    }
}

/// One source instance, one address, port, protocol and request.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Who sends.
    pub probe: ProbeId,
    /// Where to and what; shared by all flows that do the same.
    pub to: Arc<TargetKey>,
    /// Who is there.
    pub target_kind: Arc<TargetKind>,
    /// What of a sample makes it open.
    pub opens_at: wire::Stage,
    /// How long its stages are waited for at the least.
    pub waits: Waits,
}

/// How long stages are waited for at the least, because a control took long; zero leaves it at the
/// usual deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// For the handshake, or the first UDP answer.
    pub connect: Duration,
    /// For TLS.
    pub tls: Duration,
    /// For first bytes, and the whole of a request.
    pub request: Duration,
}

impl Waits {
    /// The longer one at each stage.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            connect: self.connect.max(other.connect),
            tls: self.tls.max(other.tls),
            request: self.request.max(other.request),
        }
    }

    /// The longest of all.
    pub fn longest(self) -> Duration {
        self.connect.max(self.tls).max(self.request)
    }
}

impl Flow {
    /// The family of the address dialled.
    pub fn family(&self) -> Family {
        Family::of(self.to.address)
    }
}

/// Address, port, protocol and request: two flows with the same key differ only in who sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// The address dialled; for a name, one that it is known to have in that family.
    pub address: IpAddr,
    /// The name that the probe resolves itself before each attempt.
    pub name: Option<String>,
    /// The port.
    pub port: u16,
    /// The transport.
    pub transport: wire::Transport,
    /// What is said.
    pub request: wire::Request,
    /// Whether it may be said only once: a request that changes something.
    pub once: bool,
}

/// Who is at the address that a flow dials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A pod, by its own address.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Its node.
        node: String,
        /// Whether it was ready when the plan was made.
        ready: bool,
        /// Whether its address is its node's own.
        host_network: bool,
    },
    /// A Service, by its cluster address.
    Service {
        /// The Service.
        service: ObjectRef,
        /// The nodes of its ready pods.
        nodes: Vec<String>,
        /// Its ready pods, `namespace/name`.
        pods: Vec<String>,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// The backend's own witness on a node: its address is like a pod's, and no policy selects it.
    ReferencePod {
        /// The node.
        node: String,
    },
    /// A host or an address outside the cluster.
    Outside {
        /// As the suite names it.
        name: String,
    },
}

impl TargetKind {
    /// Where paths to it end: for a proof about it, something must have crossed to each of them.
    ///
    /// Addresses of different kinds are different ends: that a node's own address is reached says
    /// nothing of the network of its pods (an overlay may be down), and neither says anything of
    /// the Services' addresses.
    pub fn ends(&self, flow: &Flow) -> Vec<PathEnd> {
        match self {
            Self::Pod {
                node,
                host_network: false,
                ..
            }
            | Self::ReferencePod { node } => vec![PathEnd::Pods(node.clone())],
            Self::Pod {
                node,
                host_network: true,
                ..
            } => vec![PathEnd::Node(node.clone())],
            Self::Service { nodes, .. } => nodes
                .iter()
                .cloned()
                .map(PathEnd::Pods)
                .chain([PathEnd::Services])
                .collect(),
            Self::Node { name } => vec![PathEnd::Node(name.clone())],
            Self::Outside { .. } => vec![PathEnd::Address(flow.to.address)],
        }
    }

    /// The ends to which a packet has surely crossed when it was answered. Where a Service has pods
    /// on several nodes, it may have gone to any of them.
    fn shows(&self, flow: &Flow) -> Vec<PathEnd> {
        match self {
            Self::Service { nodes, .. } if nodes.len() > 1 => vec![PathEnd::Services],
            Self::Service { .. }
            | Self::Pod { .. }
            | Self::Node { .. }
            | Self::ReferencePod { .. }
            | Self::Outside { .. } => self.ends(flow),
        }
    }
}

impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                node,
                ..
            } => write!(f, "{namespace}/{name} on {node}"),
            Self::Service { service, .. } => {
                write!(f, "Service {}/{}", service.namespace, service.name)
            }
            Self::Node { name } => write!(f, "node {name}"),
            Self::ReferencePod { node } => write!(f, "the witness on {node}"),
            Self::Outside { name } => f.write_str(name),
        }
    }
}

/// What can vouch that a source is able to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceControls {
    /// Flows of the same probe that the suite expects to be allowed.
    pub allowed: Vec<FlowId>,
    /// Flows of the same probe that the planner added on the chance that a policy admits them.
    pub tried: Vec<FlowId>,
    /// Flows from the source's own node to the source: they count only where nothing is allowed to
    /// it.
    pub reached: Vec<FlowId>,
}

/// A way through the network, as far as it can be shared by flows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The source's node; `None` for the runner.
    pub from: Option<String>,
    /// Where it ends.
    pub to: PathEnd,
    /// The family.
    pub family: Family,
}

/// Where a path ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathEnd {
    /// A node's own address.
    Node(String),
    /// The network of a node's pods.
    Pods(String),
    /// The cluster addresses of Services.
    Services,
    /// An address outside.
    Address(IpAddr),
}

impl std::fmt::Display for PathEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pods(node) => write!(f, "the pods on {node}"),
            Self::Services => f.write_str("any Service's cluster address"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}
