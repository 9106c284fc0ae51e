//! NetworkPolicies, checked as the API server does (`pkg/apis/networking/validation`), all faults
//! at once.

use super::problem::{At, Problems, nearest};
use super::selector::check_selector;
use super::syntax;
use crate::inventory::Cidr;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const DIRECTIONS: [&str; 2] = ["Ingress", "Egress"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Checks a policy's spec.
pub(super) fn check_policy(spec: &NetworkPolicySpec, at: &At, problems: &mut Problems) {
    if let Some(selector) = &spec.pod_selector {
        check_selector(selector, &at.key("podSelector"), problems);
    }
    for (number, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = at.key("ingress").index(number);
        check_peers(rule.from.as_deref(), &at.key("from"), problems);
        check_ports(rule.ports.as_deref(), &at.key("ports"), problems);
    }
    for (number, rule) in spec.egress.iter().flatten().enumerate() {
        let at = at.key("egress").index(number);
        check_peers(rule.to.as_deref(), &at.key("to"), problems);
        check_ports(rule.ports.as_deref(), &at.key("ports"), problems);
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > DIRECTIONS.len() {
        problems.error(
            at.key("policyTypes"),
            "at most two policyTypes: Ingress and Egress",
        );
    }
    for (number, direction) in types.iter().enumerate() {
        one_of(
            direction,
            "policy type",
            DIRECTIONS,
            at.key("policyTypes").index(number),
            problems,
        );
    }
}

/// Checks that a word is one of those that the API knows, upper and lower case as written there.
pub(super) fn one_of<const N: usize>(
    word: &str,
    what: &str,
    words: [&str; N],
    at: At,
    problems: &mut Problems,
) {
    if !words.contains(&word) {
        let help = match nearest(word, words) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of {}", words.join(", ")),
        };
        problems
            .error(at, format!("unknown {what} {word:?}"))
            .help(help);
    }
}

fn check_peers(peers: Option<&[NetworkPolicyPeer]>, at: &At, problems: &mut Problems) {
    for (number, peer) in peers.unwrap_or_default().iter().enumerate() {
        let at = at.index(number);
        if let Some(selector) = &peer.pod_selector {
            check_selector(selector, &at.key("podSelector"), problems);
        }
        if let Some(selector) = &peer.namespace_selector {
            check_selector(selector, &at.key("namespaceSelector"), problems);
        }
        if let Some(block) = &peer.ip_block {
            check_block(block, &at.key("ipBlock"), problems);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (selects, &peer.ip_block) {
            (false, None) => {
                problems
                    .error(at, "a peer needs a podSelector, a namespaceSelector or an ipBlock")
                    .help("podSelector: {} selects every pod of the policy's namespace; to match everyone, leave the whole list out");
            }
            (true, Some(_)) => {
                problems
                    .error(
                        at,
                        "a peer with an ipBlock can have no podSelector or namespaceSelector",
                    )
                    .help("write them as two items of the list: either of them then matches");
            }
            (true, None) | (false, Some(_)) => {}
        }
    }
}

fn check_block(block: &IPBlock, at: &At, problems: &mut Problems) {
    if block.cidr.is_empty() {
        problems.error(at.key("cidr"), "an ipBlock needs a cidr");
        return;
    }
    let outer = Cidr::parse(&block.cidr);
    if let Err(error) = &outer {
        problems.error(at.key("cidr"), error.to_string());
    }
    for (number, text) in block.except.iter().flatten().enumerate() {
        let at = at.key("except").index(number);
        match (Cidr::parse(text), &outer) {
            (Err(error), _) => {
                problems.error(at, error.to_string());
            }
            (Ok(inner), Ok(outer))
                if !outer.contains(inner.first()) || inner.length() <= outer.length() =>
            {
                problems.error(
                    at,
                    format!("{text} must lie inside {} and be smaller", block.cidr),
                );
            }
            (Ok(_), _) => {}
        }
    }
}

fn check_ports(ports: Option<&[NetworkPolicyPort]>, at: &At, problems: &mut Problems) {
    for (number, port) in ports.unwrap_or_default().iter().enumerate() {
        let at = at.index(number);
        if let Some(protocol) = &port.protocol {
            one_of(
                protocol,
                "protocol",
                PROTOCOLS,
                at.key("protocol"),
                problems,
            );
        }
        match &port.port {
            Some(IntOrString::Int(first)) => {
                check_number(*first, &at.key("port"), problems);
                if let Some(last) = port.end_port {
                    check_number(last, &at.key("endPort"), problems);
                    if last < *first {
                        problems.error(
                            at.key("endPort"),
                            format!("endPort {last} is below port {first}"),
                        );
                    }
                }
            }
            Some(IntOrString::String(name)) => {
                problems.check(&at.key("port"), "port name", name, syntax::port_name(name));
                if port.end_port.is_some() {
                    problems.error(at.key("endPort"), "endPort needs a port that is a number");
                }
            }
            None => {
                if port.end_port.is_some() {
                    problems.error(at.key("endPort"), "endPort needs a port");
                }
            }
        }
    }
}

/// Checks that a number is a port; answers it if so.
pub(super) fn check_number(number: i32, at: &At, problems: &mut Problems) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        problems.error(
            at.clone(),
            format!("{number} is not a port: a number from 1 to 65535"),
        );
    }
    port
}
