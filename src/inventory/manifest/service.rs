//! Services.

use super::object::Meta;
use super::pod::read_transport;
use super::policy::{check_number, one_of};
use super::problem::{At, Problems};
use super::selector::check_labels;
use super::syntax;
use crate::inventory::{Service, ServiceKind, ServicePort, TargetPort};
use crate::model::{Family, Port};
use k8s_openapi::api::core::v1::{ServicePort as ApiPort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::net::IpAddr;

const TYPES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

/// What the API writes for "no cluster address".
const HEADLESS: &str = "None";

/// Reads a Service.
pub(super) fn read_service(
    meta: &Meta,
    spec: &ServiceSpec,
    at: &At,
    problems: &mut Problems,
) -> Service {
    let at = at.key("spec");
    let kind = read_kind(spec, &at, problems);
    let selector = spec.selector.clone().unwrap_or_default();
    check_labels(&selector, &at.key("selector"), problems);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && kind == ServiceKind::ClusterIp {
        problems.error(
            at.key("ports"),
            "a Service with a cluster address needs at least one port",
        );
    }
    Service {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        ports: read_ports(ports, &at.key("ports"), problems),
        families: read_families(spec, &at, problems),
        addresses: if kind == ServiceKind::ClusterIp {
            read_addresses(spec, &at, problems)
        } else {
            Vec::new()
        },
        selector,
        kind,
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
    }
}

fn read_kind(spec: &ServiceSpec, at: &At, problems: &mut Problems) -> ServiceKind {
    let kind = spec
        .type_
        .as_deref()
        .filter(|kind| !kind.is_empty())
        .unwrap_or("ClusterIP");
    one_of(kind, "type", TYPES, at.key("type"), problems);
    if kind == "ExternalName" {
        let name = spec.external_name.as_deref().unwrap_or_default();
        let bare = name.strip_suffix('.').unwrap_or(name);
        problems.check(
            &at.key("externalName"),
            "externalName",
            name,
            syntax::dns_subdomain(bare),
        );
        return ServiceKind::ExternalName(bare.to_owned());
    }
    let headless = [
        spec.cluster_ip.as_deref(),
        spec.cluster_ips.iter().flatten().next().map(String::as_str),
    ];
    if !headless.contains(&Some(HEADLESS)) {
        return ServiceKind::ClusterIp;
    }
    if kind != "ClusterIP" {
        problems.error(
            at.key("clusterIP"),
            format!("a Service of type {kind} cannot be headless"),
        );
    }
    ServiceKind::Headless
}

fn read_families(spec: &ServiceSpec, at: &At, problems: &mut Problems) -> Vec<Family> {
    let mut families = Vec::new();
    for (number, text) in spec.ip_families.iter().flatten().enumerate() {
        let at = at.key("ipFamilies").index(number);
        one_of(
            text,
            "address family",
            ["IPv4", "IPv6"],
            at.clone(),
            problems,
        );
        let family = if text == "IPv6" {
            Family::V6
        } else {
            Family::V4
        };
        if families.contains(&family) {
            problems.error(at, format!("{text} stands here twice"));
        } else {
            families.push(family);
        }
    }
    families
}

fn read_addresses(spec: &ServiceSpec, at: &At, problems: &mut Problems) -> Vec<IpAddr> {
    // clusterIP repeats the first of clusterIPs.
    let texts: Vec<(At, &str)> = match spec.cluster_ips.as_deref() {
        None | Some([]) => spec
            .cluster_ip
            .iter()
            .map(|ip| (at.key("clusterIP"), ip.as_str()))
            .collect(),
        Some(ips) => {
            let at = at.key("clusterIPs");
            ips.iter()
                .enumerate()
                .map(|(number, ip)| (at.index(number), ip.as_str()))
                .collect()
        }
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (at, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address)
                if addresses
                    .iter()
                    .any(|known| Family::of(*known) == Family::of(address)) =>
            {
                problems.error(
                    at,
                    format!(
                        "a second {} address; a Service has at most one",
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

fn read_ports(ports: &[ApiPort], at: &At, problems: &mut Problems) -> Vec<ServicePort> {
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut read = Vec::new();
    for (index, declared) in ports.iter().enumerate() {
        let at = at.index(index);
        match declared.name.as_deref().filter(|name| !name.is_empty()) {
            None if ports.len() > 1 => {
                problems.error(
                    at.clone(),
                    "a Service with several ports needs a name for each",
                );
            }
            None => {}
            Some(name) => {
                problems.check(&at.key("name"), "port name", name, syntax::dns_label(name));
                if !names.insert(name) {
                    problems.error(
                        at.key("name"),
                        format!("the port name {name:?} stands here twice"),
                    );
                }
            }
        }
        let transport = read_transport(declared.protocol.as_deref(), &at.key("protocol"), problems);
        let number = check_number(declared.port, &at.key("port"), problems);
        let target = read_target(declared, &at.key("targetPort"), problems);
        let node_port = match declared.node_port {
            None | Some(0) => None,
            Some(number) => check_number(number, &at.key("nodePort"), problems),
        };
        let (Some(port), Some(target)) = (
            number.and_then(|number| Port::new(number, transport?)),
            target,
        ) else {
            continue;
        };
        if !numbers.insert(port) {
            problems.error(at.key("port"), format!("port {port} stands here twice"));
        }
        read.push(ServicePort {
            name: declared.name.clone().filter(|name| !name.is_empty()),
            port,
            target,
            node_port,
        });
    }
    read
}

/// `targetPort`: a container port's name or number; the Service's own number unless written
/// (ServicePort, core/v1).
fn read_target(declared: &ApiPort, at: &At, problems: &mut Problems) -> Option<TargetPort> {
    match &declared.target_port {
        // The API server takes 0 and "" for absent (`SetDefaults_Service`).
        None | Some(IntOrString::Int(0)) => {
            u16::try_from(declared.port).ok().map(TargetPort::Number)
        }
        Some(IntOrString::String(name)) if name.is_empty() => {
            u16::try_from(declared.port).ok().map(TargetPort::Number)
        }
        Some(IntOrString::Int(number)) => {
            check_number(*number, at, problems).map(TargetPort::Number)
        }
        Some(IntOrString::String(name)) => {
            problems.check(at, "port name", name, syntax::port_name(name));
            Some(TargetPort::Name(name.clone()))
        }
    }
}
