//! What exists: Kubernetes objects in, [`Inventory`] out.
//!
//! Pure. [`Manifests`] is what files declare, before anything has a node or an address; an
//! [`Inventory`] is what exists, in a cluster (as watched) or in the lab (as placed). Everything
//! downstream takes an `Inventory` and does not know which of the two it came from.

mod apply;
mod cidr;
mod cluster_policy;
mod declared;
mod environment_info;
mod identity;
mod manifest;
mod policy;

pub use cidr::{Cidr, ParseCidrError};
pub use cluster_policy::{
    Action, ClusterPeer, ClusterPolicy, ClusterPolicyKind, ClusterPort, ClusterRule, PodScope,
};
pub use environment_info::{EnvironmentInfo, PolicyState, changed_policies, spec_digest};
pub use identity::identity_labels;
pub use manifest::{
    ApiPolicy, Objects, load_manifests, observe, read_cluster_policy, read_manifests,
};
pub use policy::{NetworkPolicy, Policy, PolicyTier, RuleOrigins};

use crate::model::{Family, ObjectRef, Port, Transport, WorkloadKind, WorkloadRef};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What a set of manifest files declares.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Namespaces, by name: those declared and those that any object names. Each carries
    /// `kubernetes.io/metadata.name`, as the API server sets it.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Pods, those of templates included, in the order of declaration.
    pub pods: Vec<DeclaredPod>,
    /// Services.
    pub services: Vec<Service>,
    /// Policies of every kind, validated.
    pub policies: Vec<Policy>,
    /// Kinds that were read and are not needed, with how many of each.
    pub ignored: BTreeMap<String, usize>,
}

/// What exists.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Namespaces, by name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
    /// Policies of every kind.
    pub policies: Vec<Policy>,
    /// Hosts outside the cluster that the suite names, with their addresses.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// The addresses that watertight itself sends from, where they are known.
    pub runner: Vec<IpAddr>,
}

impl Inventory {
    /// The Service of the cluster's name servers, by the name that it has everywhere (Kubernetes,
    /// "DNS for Services and Pods"; the name is kept whatever answers).
    pub fn cluster_dns(&self) -> Option<&Service> {
        self.services
            .iter()
            .find(|service| service.namespace == "kube-system" && service.name == "kube-dns")
    }

    /// Whether a node runs Windows, by the label that its kubelet sets ("Well-Known Labels",
    /// kubernetes.io/os).
    pub fn runs_windows(&self, node: &str) -> bool {
        let mut nodes = self.nodes.iter().filter(|of| of.name == node);
        nodes.any(|of| {
            of.labels
                .get("kubernetes.io/os")
                .is_some_and(|os| os == "windows")
        })
    }

    /// Whether a mesh's proxy is on every path to and from a pod: in a container of its own, or on
    /// its node by its or its namespace's label.
    pub fn is_meshed(&self, pod: &Pod) -> bool {
        let mode = |labels: &Labels| labels.get(DATAPLANE_MODE).cloned();
        let of_namespace = || {
            self.namespaces
                .get(&pod.namespace)
                .and_then(|namespace| mode(&namespace.labels))
        };
        let ambient = || {
            mode(&pod.labels)
                .or_else(of_namespace)
                .is_some_and(|mode| mode == "ambient")
        };
        !pod.host_network && (pod.has_proxy || ambient())
    }
}

/// The label that takes a pod, or a whole namespace, into Istio's ambient mesh (`ambient`) or keeps
/// it out (`none`).
pub(crate) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its internal addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
}

/// A pod as declared: by itself, or by the template of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPod {
    /// Namespace.
    pub namespace: String,
    /// Name; a template's pods are `web-0`, `web-1`, ... (a DaemonSet's get their node's name when
    /// placed).
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Declared ports of its containers and native sidecars.
    pub ports: Vec<ContainerPort>,
    /// Workloads that own it, nearest first (ReplicaSet before Deployment); the pod itself comes
    /// last.
    pub workloads: Vec<WorkloadRef>,
    /// Whether it shares its node's network and so its identity.
    pub host_network: bool,
    /// Whether a mesh's proxy is in a container of its own.
    pub has_proxy: bool,
    /// Whether it is ready. A declared pod is, unless its status says otherwise.
    pub ready: bool,
    /// Where it shall run.
    pub placement: Placement,
    /// Addresses that its status gives; empty for most manifests.
    pub addresses: Vec<IpAddr>,
}

/// Where a declared pod shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere: pods of one workload are spread.
    Anywhere,
    /// `spec.nodeName`.
    Node(String),
    /// One on every node (DaemonSet).
    EveryNode,
}

/// A pod that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The API's uid, or in the lab one that is unique for each incarnation.
    pub uid: String,
    /// Labels.
    pub labels: Labels,
    /// Declared ports of its containers and native sidecars.
    pub ports: Vec<ContainerPort>,
    /// Workloads that own it, nearest first; the pod itself comes last.
    pub workloads: Vec<WorkloadRef>,
    /// Whether it shares its node's network and so its identity.
    pub host_network: bool,
    /// Whether a mesh's proxy is in a container of its own.
    pub has_proxy: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Its node's name.
    pub node: String,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The address in a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)
    }

    /// The outermost workload that owns it, or the pod itself.
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

    /// The port that a name stands for on this pod.
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
    /// Its name.
    pub name: Option<String>,
    /// Number and transport.
    pub port: Port,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What it is reached by.
    pub kind: ServiceKind,
    /// Labels of its pods; empty for a Service without selector.
    pub selector: Labels,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.ipFamilies`; empty when not stated.
    pub families: Vec<Family>,
    /// Cluster addresses; in manifests only those that are written there.
    pub addresses: Vec<IpAddr>,
    /// Whether pods that are not ready are endpoints too.
    pub publish_not_ready: bool,
    /// Whether a node's packets go to pods of that node only (`internalTrafficPolicy: Local`);
    /// without one they are dropped.
    pub local_only: bool,
}

impl Service {
    /// Which object it is.
    pub fn object(&self) -> ObjectRef {
        ObjectRef {
            namespace: self.namespace.clone(),
            kind: "Service".to_owned(),
            name: self.name.clone(),
        }
    }
}

/// What a Service is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// A cluster address (ClusterIP, NodePort and LoadBalancer have one).
    ClusterIp,
    /// DNS only: its pods' addresses.
    Headless,
    /// A DNS alias.
    ExternalName(String),
}

/// A Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: Option<String>,
    /// Number and transport.
    pub port: Port,
    /// The pod's port.
    pub target: TargetPort,
    /// The port on every node, for NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

/// The pod's port behind a Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A container port's name, resolved on each pod.
    Name(String),
}
