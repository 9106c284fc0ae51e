//! Hosts outside: whose addresses are not known where a check is tested, and addresses at which
//! nothing answers in most networks.

use super::addresses::{Addressing, too_many_addresses};
use super::builder::Builder;
use super::endpoints::{EndpointKind, ResolvedEndpoint};
use super::{BackendKind, Check, TargetKind};
use crate::inventory::{Cidr, Inventory};
use crate::model::RefusedAddress;
use crate::policy::{Explainer, OutsideRule};
use crate::suite::{Expected, Locator, SourceMode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known of hosts outside where checks are tested.
#[derive(Clone, Copy)]
pub(super) struct OutsideHosts<'b, 'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) backend: BackendKind,
    /// `None` where the policies cannot be read.
    pub(super) explainer: Option<&'b Explainer<'a>>,
}

impl OutsideHosts<'_, '_> {
    /// Why it is not known what policies do with packets of a source to a host: the lab had to
    /// invent the host's addresses, and a policy of the source tells addresses apart. `None` for a
    /// target whose addresses are known, or do not matter.
    pub(super) fn unknown_address(
        &self,
        source: &ResolvedEndpoint<'_>,
        target: &ResolvedEndpoint<'_>,
    ) -> Option<String> {
        let host = target.endpoint.locator.host()?;
        if !self.inventory.invented_hosts.contains(host) {
            return None;
        }

        let fix = give_address(host);
        if self.inventory.hosts.get(host).is_none_or(Vec::is_empty) {
            return Some(format!(
                "no address of {host} is given, and policies name every address that the lab could \
                 invent: {fix}"
            ));
        }
        let rule = rule_by_address(source, host, self.explainer)?;
        Some(format!("no address of {host} is given, and {rule}: {fix}"))
    }

    /// Why nothing can be proven of a target outside.
    pub(super) fn unprovable(
        &self,
        source: &ResolvedEndpoint<'_>,
        target: &ResolvedEndpoint<'_>,
        expected: Expected,
    ) -> Option<String> {
        if let Some(why) = refused_address(target) {
            return Some(why);
        }
        if let Some(why) = too_many_addresses(target)
            && expected == Expected::Denied
        {
            return Some(why);
        }

        match self.backend {
            BackendKind::Lab => admitted_by_name(source, target, self.inventory, self.explainer),
            BackendKind::Cluster => None,
        }
    }
}

/// The number of addresses of a host, by name, in families that a source has.
pub(super) fn addresses_in_reach(
    addressing: &Addressing<'_>,
    source: &ResolvedEndpoint<'_>,
    target: &ResolvedEndpoint<'_>,
) -> usize {
    let (EndpointKind::Outside(addresses), Locator::Host(_)) =
        (&target.kind, &target.endpoint.locator)
    else {
        return 0;
    };
    let sources = addressing.sources(source, None);
    addresses
        .iter()
        .filter(|address| {
            let mut senders = sources.iter();
            senders.any(|sender| addressing.has_family_of(sender, **address))
        })
        .count()
}

/// What to write where a host has no address.
fn give_address(host: &str) -> String {
    format!("give its endpoint `ip:`, or run with `--resolve {host}=ADDRESS`")
}

/// The first rule for packets of a source to a host that tells addresses apart. Where the policies
/// cannot be read, every source counts as having one.
pub(super) fn rule_by_address(
    source: &ResolvedEndpoint<'_>,
    host: &str,
    explainer: Option<&Explainer<'_>>,
) -> Option<String> {
    if !is_sent_by_pods(source) {
        return None;
    }
    let Some(explainer) = explainer else {
        return Some(format!("the policies that may admit {host} cannot be read"));
    };
    let rule = source
        .pods
        .iter()
        .find_map(|pod| explainer.rule_by_address(pod))?;
    Some(rule.to_string())
}

/// Why it is not known whether a policy of a source admits its packets to a target: a rule names
/// the target by a domain name, which enforcers of a cluster resolve and the lab does not.
fn admitted_by_name(
    source: &ResolvedEndpoint<'_>,
    target: &ResolvedEndpoint<'_>,
    inventory: &Inventory,
    explainer: Option<&Explainer<'_>>,
) -> Option<String> {
    if !is_sent_by_pods(source) {
        return None;
    }
    let explainer = explainer?;
    let hosts = names_of(target, inventory);
    let find = |host: &str| -> Option<OutsideRule> {
        let mut pods = source.pods.iter();
        pods.find_map(|pod| explainer.rule_by_name(pod, host))
    };
    let rule = hosts.into_iter().find_map(find)?;
    Some(format!(
        "{rule}, and which packets that matches is known to the cluster's enforcer alone"
    ))
}

/// The names of a target outside: its own, and those of hosts that have its address.
fn names_of<'t>(target: &'t ResolvedEndpoint<'_>, inventory: &'t Inventory) -> BTreeSet<&'t str> {
    let EndpointKind::Outside(addresses) = &target.kind else {
        return BTreeSet::new();
    };
    let others = inventory
        .hosts
        .iter()
        .filter(|(_, of_host)| of_host.iter().any(|address| addresses.contains(address)))
        .map(|(name, _)| name.as_str());
    target
        .endpoint
        .locator
        .host()
        .into_iter()
        .chain(others)
        .collect()
}

/// Whether an endpoint's packets are sent by its pods, to which policies apply.
fn is_sent_by_pods(source: &ResolvedEndpoint<'_>) -> bool {
    match source.endpoint.source_mode.unwrap_or_default() {
        SourceMode::Clone | SourceMode::Ephemeral => !source.pods.is_empty(),
        SourceMode::Node | SourceMode::Runner => false,
    }
}

/// Why a target outside is not dialled: one of its addresses is no host's, as where a resolver
/// answers with 0.0.0.0 for a name that it blocks.
pub(super) fn refused_address(target: &ResolvedEndpoint<'_>) -> Option<String> {
    let EndpointKind::Outside(addresses) = &target.kind else {
        return None;
    };
    addresses.iter().find_map(|address| {
        let why = RefusedAddress::of(*address)?;
        let label = &target.endpoint.label;
        Some(match target.endpoint.locator {
            Locator::Host(_) => format!("{label} resolves to {address}, which {why}"),
            Locator::Workload { .. }
            | Locator::Pods { .. }
            | Locator::Service { .. }
            | Locator::Address(_)
            | Locator::Runner
            | Locator::Nodes => format!("{address} {why}"),
        })
    })
}

/// Notes on the addresses of hosts outside that checks go to: those that the lab invented, and in a
/// cluster those of ranges in which most networks have no host.
pub(super) fn notes(builder: &Builder, backend: BackendKind, inventory: &Inventory) -> Vec<String> {
    let mut invented: BTreeSet<&str> = BTreeSet::new();
    let mut set_aside: BTreeMap<IpAddr, &'static str> = BTreeMap::new();
    for check in &builder.checks {
        for address in outside_addresses(builder, check) {
            invented.extend(inventory.invented_at(address));
            if backend == BackendKind::Cluster && check.expected == Expected::Denied {
                set_aside.extend(set_aside_for(address).map(|purpose| (address, purpose)));
            }
        }
    }

    let invented = invented.into_iter().map(|host| {
        let addresses: Vec<String> = inventory.hosts[host]
            .iter()
            .map(ToString::to_string)
            .collect();
        format!(
            "no address of {host} is given: the lab places it at {}, which it invented; no policy \
             of the sources tells addresses apart. To choose, {}",
            addresses.join(" and "),
            give_address(host)
        )
    });
    let set_aside = set_aside.into_iter().map(|(address, purpose)| {
        format!(
            "{address} is set aside for {purpose}: unless this network has a host there, no \
             control is answered and what is denied to it stays unproven"
        )
    });
    invented.chain(set_aside).collect()
}

/// The addresses outside that the flows of a check go to.
fn outside_addresses(builder: &Builder, check: &Check) -> BTreeSet<IpAddr> {
    check
        .flows
        .iter()
        .map(|flow| &builder.flows[flow.0 as usize])
        .filter(|flow| matches!(*flow.target_kind, TargetKind::Outside { .. }))
        .map(|flow| flow.to.address)
        .collect()
}

/// Ranges in which most networks have no host, with their purpose (IANA's registries of
/// special-purpose addresses). Some networks use the last two for their own hosts all the same, and
/// resolvers of tunnels answer with addresses of 198.18.0.0/15 that stand for others, so that
/// neither is proof that nothing answers.
const SET_ASIDE: [(&str, &str); 8] = [
    ("192.0.2.0/24", "documentation (RFC 5737)"),
    ("198.51.100.0/24", "documentation (RFC 5737)"),
    ("203.0.113.0/24", "documentation (RFC 5737)"),
    ("2001:db8::/32", "documentation (RFC 3849)"),
    ("3fff::/20", "documentation (RFC 9637)"),
    ("100::/64", "packets to be discarded (RFC 6666)"),
    ("198.18.0.0/15", "benchmarks (RFC 2544)"),
    ("240.0.0.0/4", "future use (RFC 1112)"),
];

/// The purpose of the range of an address in which most networks have no host.
fn set_aside_for(address: IpAddr) -> Option<&'static str> {
    SET_ASIDE
        .into_iter()
        .find(|(range, _)| Cidr::parse(range).is_ok_and(|range| range.contains(address)))
        .map(|(_, purpose)| purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_set_aside_is_an_address_block() {
        for (range, _) in SET_ASIDE {
            let block = Cidr::parse(range).expect(range);
            assert!(set_aside_for(block.first()).is_some(), "{range}");
        }
        assert_eq!(set_aside_for([8, 8, 8, 8].into()), None);
    }
}
