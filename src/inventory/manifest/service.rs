//! Reads Services.

use super::object::Metadata;
use super::pod::{parse_addresses, read_transport};
use super::policy::{check_port_number, one_of};
use super::problem::{FieldPath, Problems};
use super::selector::check_labels;
use super::syntax;
use crate::inventory::{Service, ServiceKind, ServicePort, TargetPort};
use crate::model::{Family, Port};
use k8s_openapi::api::core::v1::{ServicePort as ApiPort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::net::IpAddr;

const TYPES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

/// The `clusterIP` of a Service without a cluster address.
const HEADLESS: &str = "None";

/// Reads the spec of a Service.
pub(super) fn read_service(
    meta: &Metadata,
    spec: &ServiceSpec,
    path: &FieldPath,
    problems: &mut Problems,
) -> Service {
    let path = path.key("spec");
    let kind = read_kind(spec, &path, problems);
    let selector = spec.selector.clone().unwrap_or_default();
    check_labels(&selector, &path.key("selector"), problems);

    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && kind == ServiceKind::ClusterIp {
        problems.error(
            path.key("ports"),
            "a Service with a cluster address needs at least one port",
        );
    }

    Service {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        ports: read_ports(ports, &path.key("ports"), problems),
        families: read_families(spec, &path, problems),
        addresses: if kind == ServiceKind::ClusterIp {
            read_addresses(spec, &path, problems)
        } else {
            Vec::new()
        },
        selector,
        kind,
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
    }
}

fn read_kind(spec: &ServiceSpec, path: &FieldPath, problems: &mut Problems) -> ServiceKind {
    let kind = spec
        .type_
        .as_deref()
        .filter(|kind| !kind.is_empty())
        .unwrap_or("ClusterIP");
    one_of(kind, "type", &TYPES, path.key("type"), problems);
    if kind == "ExternalName" {
        let name = spec.external_name.as_deref().unwrap_or_default();
        let bare = name.strip_suffix('.').unwrap_or(name);
        problems.check(
            &path.key("externalName"),
            "externalName",
            name,
            syntax::dns_subdomain(bare),
        );
        return ServiceKind::ExternalName(bare.to_owned());
    }

    let first_of_list = spec.cluster_ips.iter().flatten().next().map(String::as_str);
    if ![spec.cluster_ip.as_deref(), first_of_list].contains(&Some(HEADLESS)) {
        return ServiceKind::ClusterIp;
    }
    if kind != "ClusterIP" {
        problems.error(
            path.key("clusterIP"),
            format!("a Service of type {kind} cannot be headless"),
        );
    }
    ServiceKind::Headless
}

fn read_families(spec: &ServiceSpec, path: &FieldPath, problems: &mut Problems) -> Vec<Family> {
    let mut families = Vec::new();
    for (index, text) in spec.ip_families.iter().flatten().enumerate() {
        let path = path.key("ipFamilies").index(index);
        one_of(
            text,
            "address family",
            &["IPv4", "IPv6"],
            path.clone(),
            problems,
        );
        let family = if text == "IPv6" {
            Family::V6
        } else {
            Family::V4
        };
        if families.contains(&family) {
            problems.error(path, format!("{text} is listed twice"));
        } else {
            families.push(family);
        }
    }
    families
}

fn read_addresses(spec: &ServiceSpec, path: &FieldPath, problems: &mut Problems) -> Vec<IpAddr> {
    // clusterIP repeats the first of clusterIPs.
    let texts: Vec<(FieldPath, &str)> = match spec.cluster_ips.as_deref() {
        None | Some([]) => spec
            .cluster_ip
            .iter()
            .map(|ip| (path.key("clusterIP"), ip.as_str()))
            .collect(),
        Some(ips) => {
            let path = path.key("clusterIPs");
            ips.iter()
                .enumerate()
                .map(|(index, ip)| (path.index(index), ip.as_str()))
                .collect()
        }
    };
    parse_addresses("Service", texts, problems)
}

fn read_ports(ports: &[ApiPort], path: &FieldPath, problems: &mut Problems) -> Vec<ServicePort> {
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut read_ports = Vec::new();
    for (index, declared) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = declared.name.as_deref().filter(|name| !name.is_empty());
        match name {
            Some(name) => {
                let path = path.key("name");
                problems.check(&path, "port name", name, syntax::dns_label(name));
                if !names.insert(name) {
                    problems.error(path, format!("the port name {name:?} is used twice"));
                }
            }
            None if ports.len() > 1 => {
                problems.error(
                    path.clone(),
                    "a Service with several ports needs a name for each",
                );
            }
            None => {}
        }

        let Some(port) = read_port(declared, &path, problems) else {
            continue;
        };
        if !numbers.insert(port.port) {
            problems.error(
                path.key("port"),
                format!("port {} is listed twice", port.port),
            );
        }
        read_ports.push(port);
    }
    read_ports
}

fn read_port(declared: &ApiPort, path: &FieldPath, problems: &mut Problems) -> Option<ServicePort> {
    let protocol = declared.protocol.as_deref();
    let transport = read_transport(protocol, &path.key("protocol"), problems);
    let number = check_port_number(declared.port, &path.key("port"), problems);
    let target = read_target(declared, &path.key("targetPort"), problems);
    let node_port = match declared.node_port {
        None | Some(0) => None,
        Some(number) => check_port_number(number, &path.key("nodePort"), problems),
    };
    Some(ServicePort {
        name: declared.name.clone().filter(|name| !name.is_empty()),
        port: Port::new(number?, transport?)?,
        target: target?,
        node_port,
    })
}

/// Reads `targetPort`: a container port's name or number; where it is absent, the Service's own
/// number (ServicePort, core/v1).
fn read_target(
    declared: &ApiPort,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<TargetPort> {
    match &declared.target_port {
        // To the API server 0 and "" mean absent (`SetDefaults_Service`).
        None | Some(IntOrString::Int(0)) => {
            u16::try_from(declared.port).ok().map(TargetPort::Number)
        }
        Some(IntOrString::String(name)) if name.is_empty() => {
            u16::try_from(declared.port).ok().map(TargetPort::Number)
        }
        Some(IntOrString::Int(number)) => {
            check_port_number(*number, path, problems).map(TargetPort::Number)
        }
        Some(IntOrString::String(name)) => {
            problems.check(path, "port name", name, syntax::port_name(name));
            Some(TargetPort::Name(name.clone()))
        }
    }
}
