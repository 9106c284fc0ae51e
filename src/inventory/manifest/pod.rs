//! Pods: written out as objects, and as templates of workloads.

use super::object::Metadata;
use super::policy::{check_port_number, one_of};
use super::problem::{FieldPath, Problems};
use super::selector::check_labels;
use super::syntax;
use crate::inventory::{ContainerPort, DeclaredPod, Labels, Placement};
use crate::model::{Family, Port, Transport, WorkloadKind, WorkloadRef};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus, PodTemplateSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Names of the containers that the admission webhooks of Istio and Linkerd add (in their injection
/// templates). Their ports are the mesh's, not the workload's.
const PROXY_CONTAINERS: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// A pod that is an object of the manifests, written by hand or dumped from a cluster.
#[derive(Debug, Clone)]
pub(super) struct PodObject {
    /// The pod; its `workloads` do not contain its owners yet.
    pub(super) pod: DeclaredPod,
    /// The workload that controls it.
    pub(super) owner: Option<WorkloadRef>,
    /// Whether its phase is `Succeeded` or `Failed`: it has no address any more.
    pub(super) finished: bool,
}

/// The properties that a template gives to its pods.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) labels: Labels,
    pub(super) ports: Vec<ContainerPort>,
    pub(super) host_network: bool,
    pub(super) has_proxy: bool,
    pub(super) node: Option<String>,
    pub(super) probe_ports: Vec<Port>,
}

impl Template {
    /// Reads a template.
    pub(super) fn read(
        template: &PodTemplateSpec,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Self {
        let labels = template
            .metadata
            .as_ref()
            .and_then(|meta| meta.labels.clone())
            .unwrap_or_default();
        check_labels(&labels, &path.keys(["metadata", "labels"]), problems);

        let no_spec = PodSpec::default();
        let spec = template.spec.as_ref().unwrap_or(&no_spec);
        Self {
            has_proxy: has_proxy(spec),
            labels,
            ports: read_ports(spec, &path.key("spec"), problems),
            host_network: spec.host_network == Some(true),
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
            probe_ports: probe_ports(spec),
        }
    }
}

/// Reads a pod.
pub(super) fn read_pod(
    meta: &Metadata,
    spec: &PodSpec,
    status: &PodStatus,
    path: &FieldPath,
    problems: &mut Problems,
) -> PodObject {
    let ports = read_ports(spec, &path.key("spec"), problems);
    let addresses = read_addresses(status, &path.key("status"), problems);
    let node = spec.node_name.clone().filter(|name| !name.is_empty());
    PodObject {
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
            probe_ports: probe_ports(spec),
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
    containers.any(|container| PROXY_CONTAINERS.contains(&container.name.as_str()))
}

/// Readiness, by the status; a pod without a status counts as ready.
fn is_ready(status: &PodStatus) -> bool {
    match status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
    {
        Some(condition) => condition.status == "True",
        // A status that is written by hand has a phase at most.
        None => {
            status.conditions.is_none()
                && matches!(status.phase.as_deref(), None | Some("" | "Running"))
        }
    }
}

fn read_addresses(status: &PodStatus, path: &FieldPath, problems: &mut Problems) -> Vec<IpAddr> {
    // podIP repeats the first of podIPs.
    let texts: Vec<(FieldPath, &str)> = match status.pod_ips.as_deref() {
        None | Some([]) => status
            .pod_ip
            .iter()
            .map(|ip| (path.key("podIP"), ip.as_str()))
            .collect(),
        Some(ips) => {
            let path = path.key("podIPs");
            ips.iter()
                .enumerate()
                .map(|(index, item)| (path.index(index).key("ip"), item.ip.as_str()))
                .collect()
        }
    };
    parse_addresses("pod", texts, problems)
}

/// Parses the addresses of an object of a kind; empty texts are skipped. A second address of one
/// family is a problem.
pub(super) fn parse_addresses(
    kind: &str,
    texts: Vec<(FieldPath, &str)>,
    problems: &mut Problems,
) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (path, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let Ok(address) = text.parse::<IpAddr>() else {
            problems.error(path, format!("{text:?} is not an IP address"));
            continue;
        };
        let family = Family::of(address);
        if addresses.iter().any(|known| Family::of(*known) == family) {
            problems.error(
                path,
                format!("a second {family} address; a {kind} has at most one"),
            );
        } else {
            addresses.push(address);
        }
    }
    addresses
}

/// Ports of containers and of native sidecars: init containers that keep running (`restartPolicy:
/// Always`).
fn read_ports(spec: &PodSpec, path: &FieldPath, problems: &mut Problems) -> Vec<ContainerPort> {
    if spec.containers.is_empty() {
        problems.error(path.key("containers"), "a pod needs at least one container");
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
        for (index, container) in containers.iter().enumerate() {
            // The API server checks the ports of every container, so they are all read.
            let path = path.key(field).index(index);
            let container_ports = read_container_ports(container, &path, problems);
            let keeps_running = field == "containers" || keeps_running(container);
            if keeps_running && !PROXY_CONTAINERS.contains(&container.name.as_str()) {
                ports.extend(container_ports);
            }
        }
    }
    ports
}

/// The port numbers that probes of the containers that keep running ask, each once. A probe that
/// names a port asks one that is declared.
fn probe_ports(spec: &PodSpec) -> Vec<Port> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| keeps_running(container));
    let numbers: BTreeSet<i32> = spec
        .containers
        .iter()
        .chain(sidecars)
        .filter(|container| !PROXY_CONTAINERS.contains(&container.name.as_str()))
        .flat_map(|container| {
            [
                &container.liveness_probe,
                &container.readiness_probe,
                &container.startup_probe,
            ]
        })
        .flatten()
        .flat_map(asked_ports)
        .collect();

    // Numbers that no port has are the API server's to refuse.
    let numbers = numbers
        .into_iter()
        .filter_map(|number| u16::try_from(number).ok());
    numbers
        .filter_map(|number| Port::new(number, Transport::Tcp))
        .collect()
}

/// The port numbers that a probe asks.
fn asked_ports(probe: &Probe) -> Vec<i32> {
    let http = probe.http_get.as_ref().map(|action| &action.port);
    let tcp = probe.tcp_socket.as_ref().map(|action| &action.port);
    let by_either = http.into_iter().chain(tcp).filter_map(|port| match port {
        IntOrString::Int(number) => Some(*number),
        // An API server takes a number written as text for a name, and a name needs a letter.
        IntOrString::String(_) => None,
    });
    let grpc = probe.grpc.as_ref().map(|action| action.port);
    by_either.chain(grpc).collect()
}

/// Whether an init container keeps running beside the containers: a native sidecar.
fn keeps_running(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

fn read_container_ports(
    container: &Container,
    path: &FieldPath,
    problems: &mut Problems,
) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for (index, declared) in container.ports.iter().flatten().enumerate() {
        let path = path.key("ports").index(index);
        if let Some(name) = &declared.name {
            problems.check(
                &path.key("name"),
                "port name",
                name,
                syntax::port_name(name),
            );
        }
        let number = check_port_number(
            declared.container_port,
            &path.key("containerPort"),
            problems,
        );
        let transport = read_transport(
            declared.protocol.as_deref(),
            &path.key("protocol"),
            problems,
        );
        let port = number.and_then(|number| Port::new(number, transport?));
        ports.extend(port.map(|port| ContainerPort {
            name: declared.name.clone(),
            port,
        }));
    }
    ports
}

/// Reads the protocol of a container's or a Service's port; TCP where it is absent.
pub(super) fn read_transport(
    protocol: Option<&str>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<Transport> {
    match protocol {
        None | Some("" | "TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some("SCTP") => Some(Transport::Sctp),
        Some(unknown) => {
            one_of(
                unknown,
                "protocol",
                &["TCP", "UDP", "SCTP"],
                path.clone(),
                problems,
            );
            None
        }
    }
}
