//! Checks of NetworkPolicies, as the API server makes them (`pkg/apis/networking/validation`).

use super::problem::{FieldPath, Problems, nearest};
use super::selector::check_selector;
use super::syntax;
use crate::inventory::Cidr;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const DIRECTIONS: [&str; 2] = ["Ingress", "Egress"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Checks the spec of a NetworkPolicy.
pub(super) fn check_network_policy(
    spec: &NetworkPolicySpec,
    path: &FieldPath,
    problems: &mut Problems,
) {
    if let Some(selector) = &spec.pod_selector {
        check_selector(selector, &path.key("podSelector"), problems);
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let path = path.key("ingress").index(index);
        check_peers(rule.from.as_deref(), &path.key("from"), problems);
        check_ports(rule.ports.as_deref(), &path.key("ports"), problems);
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let path = path.key("egress").index(index);
        check_peers(rule.to.as_deref(), &path.key("to"), problems);
        check_ports(rule.ports.as_deref(), &path.key("ports"), problems);
    }

    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > DIRECTIONS.len() {
        problems.error(
            path.key("policyTypes"),
            "at most two policyTypes: Ingress and Egress",
        );
    }
    for (index, direction) in types.iter().enumerate() {
        one_of(
            direction,
            "policy type",
            &DIRECTIONS,
            path.key("policyTypes").index(index),
            problems,
        );
    }
}

/// Checks that a word is one of the API's words; `subject` names what it is. Case matters.
pub(super) fn one_of(
    word: &str,
    subject: &str,
    words: &[&str],
    path: FieldPath,
    problems: &mut Problems,
) {
    if !words.contains(&word) {
        let help = match nearest(word, words.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("one of {}", words.join(", ")),
        };
        problems
            .error(path, format!("unknown {subject} {word:?}"))
            .help(help);
    }
}

fn check_peers(peers: Option<&[NetworkPolicyPeer]>, path: &FieldPath, problems: &mut Problems) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        if let Some(selector) = &peer.pod_selector {
            check_selector(selector, &path.key("podSelector"), problems);
        }
        if let Some(selector) = &peer.namespace_selector {
            check_selector(selector, &path.key("namespaceSelector"), problems);
        }
        if let Some(block) = &peer.ip_block {
            check_block(block, &path.key("ipBlock"), problems);
        }

        let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (has_selector, &peer.ip_block) {
            (false, None) => {
                problems
                    .error(path, "a peer needs a podSelector, a namespaceSelector or an ipBlock")
                    .help("podSelector: {} selects every pod of the policy's namespace; to match everyone, leave the whole list out");
            }
            (true, Some(_)) => {
                problems
                    .error(
                        path,
                        "a peer with an ipBlock can have no podSelector or namespaceSelector",
                    )
                    .help("write them as two items of the list: either of them then matches");
            }
            (true, None) | (false, Some(_)) => {}
        }
    }
}

fn check_block(block: &IPBlock, path: &FieldPath, problems: &mut Problems) {
    if block.cidr.is_empty() {
        problems.error(path.key("cidr"), "an ipBlock needs a cidr");
        return;
    }
    let cidr = Cidr::parse(&block.cidr);
    if let Err(error) = &cidr {
        problems.error(path.key("cidr"), error.to_string());
    }

    for (index, text) in block.except.iter().flatten().enumerate() {
        let path = path.key("except").index(index);
        match (Cidr::parse(text), &cidr) {
            (Err(error), _) => {
                problems.error(path, error.to_string());
            }
            (Ok(exception), Ok(cidr))
                if !cidr.contains(exception.first()) || exception.length() <= cidr.length() =>
            {
                problems.error(
                    path,
                    format!("{text} must lie inside {} and be smaller", block.cidr),
                );
            }
            (Ok(_), _) => {}
        }
    }
}

fn check_ports(ports: Option<&[NetworkPolicyPort]>, path: &FieldPath, problems: &mut Problems) {
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        if let Some(protocol) = &port.protocol {
            one_of(
                protocol,
                "protocol",
                &PROTOCOLS,
                path.key("protocol"),
                problems,
            );
        }

        match &port.port {
            Some(IntOrString::Int(first)) => {
                check_port_number(*first, &path.key("port"), problems);
                if let Some(last) = port.end_port {
                    check_port_number(last, &path.key("endPort"), problems);
                    if last < *first {
                        problems.error(
                            path.key("endPort"),
                            format!("endPort {last} is below port {first}"),
                        );
                    }
                }
            }
            Some(IntOrString::String(name)) => {
                problems.check(
                    &path.key("port"),
                    "port name",
                    name,
                    syntax::port_name(name),
                );
                if port.end_port.is_some() {
                    problems.error(path.key("endPort"), "endPort needs a port that is a number");
                }
            }
            None => {
                if port.end_port.is_some() {
                    problems.error(path.key("endPort"), "endPort needs a port");
                }
            }
        }
    }
}

/// Checks that a number is a port, and returns it if so.
pub(super) fn check_port_number(
    number: i32,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        problems.error(
            path.clone(),
            format!("{number} is not a port: a number from 1 to 65535"),
        );
    }
    port
}
