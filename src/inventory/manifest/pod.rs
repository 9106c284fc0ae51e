//! Pods, by themselves and as templates.

use super::object::Meta;
use super::policy::{check_number, one_of};
use super::problem::{At, Problems};
use super::selector::check_labels;
use super::syntax;
use crate::inventory::{ContainerPort, DeclaredPod, Labels, Placement};
use crate::model::{Family, Port, Transport, WorkloadKind, WorkloadRef};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus, PodTemplateSpec};
use std::net::IpAddr;

/// Containers that a mesh's admission webhook adds: their ports are the mesh's, not the workload's.
///
/// Istio and Linkerd name theirs so in their injection templates.
const INJECTED: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// A pod that stands in a manifest by itself, written by hand or dumped from a cluster.
#[derive(Debug, Clone)]
pub(super) struct LivePod {
    /// The pod, its `workloads` still without its owners.
    pub(super) pod: DeclaredPod,
    /// The workload that controls it.
    pub(super) owner: Option<WorkloadRef>,
    /// Whether it has run to its end (`Succeeded`, `Failed`): it has given its address back.
    pub(super) finished: bool,
}

/// What a template says of the pods made from it.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) labels: Labels,
    pub(super) ports: Vec<ContainerPort>,
    pub(super) host_network: bool,
    pub(super) has_proxy: bool,
    pub(super) node: Option<String>,
}

impl Template {
    /// Reads a template.
    pub(super) fn read(template: &PodTemplateSpec, at: &At, problems: &mut Problems) -> Self {
        let labels = template
            .metadata
            .as_ref()
            .and_then(|meta| meta.labels.clone())
            .unwrap_or_default();
        check_labels(&labels, &at.keys(["metadata", "labels"]), problems);
        let nothing = PodSpec::default();
        let spec = template.spec.as_ref().unwrap_or(&nothing);
        Self {
            has_proxy: has_proxy(spec),
            labels,
            ports: read_ports(spec, &at.key("spec"), problems),
            host_network: spec.host_network == Some(true),
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
        }
    }
}

/// Reads a pod.
pub(super) fn read_pod(
    meta: &Meta,
    spec: &PodSpec,
    status: &PodStatus,
    at: &At,
    problems: &mut Problems,
) -> LivePod {
    let ports = read_ports(spec, &at.key("spec"), problems);
    let addresses = read_addresses(status, &at.key("status"), problems);
    let node = spec.node_name.clone().filter(|name| !name.is_empty());
    LivePod {
        pod: DeclaredPod {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            labels: meta.labels.clone(),
            ports,
            workloads: vec![WorkloadRef {
                kind: WorkloadKind::Pod,
                name: meta.name.clone(),
            }],
            host_network: spec.host_network == Some(true),
            has_proxy: has_proxy(spec),
            ready: !meta.terminating && is_ready(status),
            placement: node.map_or(Placement::Anywhere, Placement::Node),
            addresses,
        },
        owner: meta.owner.clone(),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
    }
}

/// Whether a mesh's proxy runs in the pod.
fn has_proxy(spec: &PodSpec) -> bool {
    let mut containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    containers.any(|container| INJECTED.contains(&container.name.as_str()))
}

/// Readiness as the status gives it; a pod without a status is one that is meant to be ready.
fn is_ready(status: &PodStatus) -> bool {
    match status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
    {
        Some(condition) => condition.status == "True",
        // A status that was written by hand names the phase at most.
        None => {
            status.conditions.is_none()
                && matches!(status.phase.as_deref(), None | Some("" | "Running"))
        }
    }
}

fn read_addresses(status: &PodStatus, at: &At, problems: &mut Problems) -> Vec<IpAddr> {
    // podIP repeats the first of podIPs.
    let all: Vec<(At, &str)> = match status.pod_ips.as_deref() {
        None | Some([]) => status
            .pod_ip
            .iter()
            .map(|ip| (at.key("podIP"), ip.as_str()))
            .collect(),
        Some(ips) => {
            let at = at.key("podIPs");
            ips.iter()
                .enumerate()
                .map(|(n, item)| (at.index(n).key("ip"), item.ip.as_str()))
                .collect()
        }
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (at, text) in all.into_iter().filter(|(_, text)| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address)
                if addresses
                    .iter()
                    .any(|known| Family::of(*known) == Family::of(address)) =>
            {
                problems.error(
                    at,
                    format!(
                        "a second {} address; a pod has at most one",
                        Family::of(address)
                    ),
                );
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                problems.error(at, format!("{text:?} is not an IP address"));
            }
        }
    }
    addresses
}

/// Ports of containers and of native sidecars: init containers that keep running (`restartPolicy:
/// Always`).
fn read_ports(spec: &PodSpec, at: &At, problems: &mut Problems) -> Vec<ContainerPort> {
    if spec.containers.is_empty() {
        problems.error(at.key("containers"), "a pod needs at least one container");
    }
    let mut ports = Vec::new();
    let lists = [
        ("containers", spec.containers.as_slice()),
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    for (field, containers) in lists {
        for (number, container) in containers.iter().enumerate() {
            // Ports of the others are checked too, since the API server would.
            let read = read_container(container, &at.key(field).index(number), problems);
            let serves =
                field == "containers" || container.restart_policy.as_deref() == Some("Always");
            if serves && !INJECTED.contains(&container.name.as_str()) {
                ports.extend(read);
            }
        }
    }
    ports
}

fn read_container(container: &Container, at: &At, problems: &mut Problems) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for (number, declared) in container.ports.iter().flatten().enumerate() {
        let at = at.key("ports").index(number);
        if let Some(name) = &declared.name {
            problems.check(&at.key("name"), "port name", name, syntax::port_name(name));
        }
        let number = check_number(declared.container_port, &at.key("containerPort"), problems);
        let transport = read_transport(declared.protocol.as_deref(), &at.key("protocol"), problems);
        ports.extend(
            number
                .and_then(|number| Port::new(number, transport?))
                .map(|port| ContainerPort {
                    name: declared.name.clone(),
                    port,
                }),
        );
    }
    ports
}

/// The protocol of a container's or a Service's port: TCP unless written.
pub(super) fn read_transport(
    protocol: Option<&str>,
    at: &At,
    problems: &mut Problems,
) -> Option<Transport> {
    match protocol {
        None | Some("" | "TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some("SCTP") => Some(Transport::Sctp),
        Some(other) => {
            one_of(
                other,
                "protocol",
                ["TCP", "UDP", "SCTP"],
                at.clone(),
                problems,
            );
            None
        }
    }
}
