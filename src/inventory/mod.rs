//! Kubernetes objects in, [`Inventory`] out; without side effects, except that manifest files are
//! read, and kustomizations built by the user's own tool.
//!
//! [`Manifests`] is what files declare, before anything has a node or an address. An [`Inventory`]
//! is what exists in a cluster, as watched, or in the lab, as placed; the modules that use it do
//! not know which of the two it came from.

mod apply;
mod cidr;
mod cluster_policy;
mod declared;
mod environment_info;
mod identity;
mod manifest;
mod policy;
mod unread;

pub use cidr::{Cidr, ParseCidrError};
pub use cluster_policy::{
    Action, ClusterPeer, ClusterPolicy, ClusterPolicyKind, ClusterPort, ClusterRule, PodScope,
};
pub use environment_info::{EnvironmentInfo, PolicyState, changed_policies, spec_digest};
pub use identity::identity_labels;
pub use manifest::{
    ApiObjects, ApiPolicy, load_manifests, read_api_objects, read_cluster_policy, read_manifests,
};
pub use policy::{NetworkPolicy, PoliciesByKind, Policy, PolicyTier, RuleOrigins};
pub use unread::UnreadPolicy;

use crate::model::{Family, ObjectRef, Port, Transport, WorkloadKind, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Labels of an object, by key.
pub type Labels = BTreeMap<String, String>;

/// The objects that a set of manifest files declares.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Namespaces, by name: those that are declared and those that any object names. Each has the
    /// label `kubernetes.io/metadata.name`, which the API server sets.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Nodes that are declared, by name; most manifests have none.
    pub nodes: BTreeMap<String, Node>,
    /// Pods, including those that templates make, in the order of declaration.
    pub pods: Vec<DeclaredPod>,
    pub services: Vec<Service>,
    /// Policies of every kind, validated.
    pub policies: Vec<Policy>,
    /// Policies of kinds that are not read.
    pub unread_policies: Vec<UnreadPolicy>,
    /// The number of objects of each other kind that is not read, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// Files and folders that were passed over within folders, with the reason.
    pub passed_over: BTreeMap<String, &'static str>,
}

/// The objects that exist.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Namespaces, by name.
    pub namespaces: BTreeMap<String, Namespace>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    /// Policies of every kind.
    pub policies: Vec<Policy>,
    /// Policies of kinds that are not read, which manifests declare.
    pub unread_policies: Vec<UnreadPolicy>,
    /// The addresses of the hosts outside the cluster that the suite names, by host name.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// The names among these whose addresses the lab invented, since nothing gives any.
    pub invented_hosts: BTreeSet<String>,
    /// The full names of the pods that the lab adds to what the manifests declare: its cluster DNS.
    pub added_pods: BTreeSet<String>,
    /// The addresses of pods and nodes that the lab invented, since nothing gives any.
    pub invented_addresses: BTreeSet<IpAddr>,
    /// The addresses that watertight itself sends from; empty where they are not known.
    pub runner: Vec<IpAddr>,
}

impl Inventory {
    /// The Service of the cluster's DNS. Its name is the same with every DNS server (Kubernetes,
    /// "DNS for Services and Pods").
    pub fn cluster_dns(&self) -> Option<&Service> {
        self.services
            .iter()
            .find(|service| service.namespace == "kube-system" && service.name == "kube-dns")
    }

    /// The host whose invented address this is, if it is one.
    pub fn invented_at(&self, address: IpAddr) -> Option<&str> {
        self.invented_hosts
            .iter()
            .find(|name| {
                let addresses = self.hosts.get(*name);
                addresses.is_some_and(|addresses| addresses.contains(&address))
            })
            .map(String::as_str)
    }

    /// Whether a node runs Windows, by the label that its kubelet sets (Kubernetes, "Well-Known
    /// Labels": kubernetes.io/os).
    pub fn runs_windows(&self, node: &str) -> bool {
        self.nodes
            .iter()
            .filter(|known| known.name == node)
            .filter_map(|known| known.labels.get("kubernetes.io/os"))
            .any(|os| os == "windows")
    }

    /// Whether a mesh's proxy is on every path to and from a pod: in one of its containers, or, in
    /// Istio's ambient mode, on its node. The pod's label goes before its namespace's.
    pub fn is_meshed(&self, pod: &Pod) -> bool {
        let namespace = self.namespaces.get(&pod.namespace);
        let of_namespace = namespace.and_then(|namespace| namespace.labels.get(DATAPLANE_MODE));
        let mode = pod.labels.get(DATAPLANE_MODE).or(of_namespace);
        let is_ambient = mode.is_some_and(|mode| mode == "ambient");
        !pod.host_network && (pod.has_proxy || is_ambient)
    }
}

/// The label that takes a pod, or a whole namespace, into Istio's ambient mesh (`ambient`) or keeps
/// it out (`none`).
pub(crate) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub name: String,
    pub labels: Labels,
}

impl Namespace {
    /// A namespace with the one label that all namespaces have: the API server sets it.
    pub(crate) fn unlabelled(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]),
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub labels: Labels,
    /// Its internal addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
}

/// A pod as declared: as an object, or by the template of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPod {
    pub namespace: String,
    /// A template's pods are `web-0`, `web-1`, ...; a DaemonSet's are named by their nodes when
    /// they are placed.
    pub name: String,
    pub labels: Labels,
    /// Declared ports of its containers and native sidecars.
    pub ports: Vec<ContainerPort>,
    /// Workloads that own it, nearest first (ReplicaSet before Deployment); the pod itself comes
    /// last.
    pub workloads: Vec<WorkloadRef>,
    /// Whether it shares its node's network and so its identity.
    pub host_network: bool,
    /// Whether one of its containers is a mesh's proxy.
    pub has_proxy: bool,
    /// True, unless its status says otherwise.
    pub ready: bool,
    pub placement: Placement,
    /// The addresses in its status; most manifests have none.
    pub addresses: Vec<IpAddr>,
    /// The port numbers that liveness, readiness and startup probes of its containers ask; a
    /// container listens on them whether it declares them or not.
    pub probe_ports: Vec<Port>,
}

/// The nodes that a declared pod is to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Any node; the pods of one workload are spread.
    Anywhere,
    /// `spec.nodeName`.
    Node(String),
    /// One on every node (DaemonSet).
    EveryNode,
}

/// A pod that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// The API's uid; in the lab, a number that changes when the pod is replaced.
    pub uid: String,
    pub labels: Labels,
    /// Declared ports of its containers and native sidecars.
    pub ports: Vec<ContainerPort>,
    /// Workloads that own it, nearest first; the pod itself comes last.
    pub workloads: Vec<WorkloadRef>,
    /// Whether it shares its node's network and so its identity.
    pub host_network: bool,
    /// Whether one of its containers is a mesh's proxy.
    pub has_proxy: bool,
    pub ready: bool,
    /// Its node's name; empty where it has none.
    pub node: String,
    /// At most one a family.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Its address in a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)
    }

    /// The outermost workload that owns it; the pod itself where none does.
    pub fn outermost_workload(&self) -> WorkloadRef {
        let outermost = self
            .workloads
            .iter()
            .rev()
            .find(|workload| workload.kind != WorkloadKind::Pod);
        outermost.cloned().unwrap_or_else(|| WorkloadRef {
            kind: WorkloadKind::Pod,
            name: self.name.clone(),
        })
    }

    /// The declared port with a name and a transport.
    pub fn named_port(&self, name: &str, transport: Transport) -> Option<Port> {
        self.ports
            .iter()
            .find(|declared| {
                declared.name.as_deref() == Some(name) && declared.port.transport() == transport
            })
            .map(|declared| declared.port)
    }
}

/// A container's declared port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub port: Port,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub kind: ServiceKind,
    /// The labels of its pods; empty for a Service without a selector.
    pub selector: Labels,
    pub ports: Vec<ServicePort>,
    /// `spec.ipFamilies`; empty where absent.
    pub families: Vec<Family>,
    /// Its cluster addresses; of a manifest's Service only those that the manifest names.
    pub addresses: Vec<IpAddr>,
    /// Whether pods that are not ready are endpoints too (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// Whether packets go to pods of the sender's node only (`internalTrafficPolicy: Local`); they
    /// are dropped where it has none.
    pub local_only: bool,
}

impl Service {
    /// A reference to it.
    pub fn object(&self) -> ObjectRef {
        ObjectRef {
            namespace: self.namespace.clone(),
            kind: "Service".to_owned(),
            name: self.name.clone(),
        }
    }
}

/// The way in which clients find a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// By a cluster address: types ClusterIP, NodePort and LoadBalancer.
    ClusterIp,
    /// By DNS, which gives the addresses of its pods.
    Headless,
    /// By DNS, as an alias of this name.
    ExternalName(String),
}

/// A Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<String>,
    pub port: Port,
    pub target: TargetPort,
    /// The port on every node, of types NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

/// The port of the pods behind a Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    /// The name of a container's port, looked up on each pod.
    Name(String),
}

impl TargetPort {
    /// Its number on a pod; `None` where the pod declares no port of that name.
    pub fn number_on(&self, pod: &Pod, transport: Transport) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => pod.named_port(name, transport).map(Port::number),
        }
    }
}
