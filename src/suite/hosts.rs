//! The addresses of hosts outside: `ip:` beside `host:`, and `--resolve NAME=IP[,IP]`.

use super::forms::parse_address;
use super::shape::{one_or_more, text};
use super::{Suite, suggest};
use crate::model::HostName;
use crate::source::{Diagnostic, Diagnostics, Node, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A host's name with its addresses, as `--resolve` gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddresses {
    name: HostName,
    addresses: Vec<IpAddr>,
}

impl HostAddresses {
    /// Parses `NAME=IP[,IP]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, with help.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((name, list)) = text.split_once('=') else {
            return Err(format!(
                "{text:?} is not NAME=IP[,IP]; write payments.example=203.0.113.10"
            ));
        };
        let name = HostName::parse(name).map_err(|error| error.to_string())?;

        let mut addresses: Vec<IpAddr> = Vec::new();
        for item in list.split(',') {
            let address = parse_address(item).map_err(|error| match error.help {
                Some(help) => format!("{}; {help}", error.message),
                None => error.message,
            })?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(Self { name, addresses })
    }
}

/// Gives hosts of suites the addresses of `--resolve`, which take precedence over `ip:`.
///
/// # Errors
/// A sentence: a name is given twice, or no suite has it.
pub fn apply_resolve(suites: &mut [Suite], given: &[HostAddresses]) -> Result<(), String> {
    let mut names: BTreeSet<&HostName> = BTreeSet::new();
    for HostAddresses { name, addresses } in given {
        if !names.insert(name) {
            return Err(format!(
                "--resolve names {name} twice; write all of its addresses once: {name}=IP,IP"
            ));
        }

        let mut is_known = false;
        for endpoint in suites.iter_mut().flat_map(|suite| &mut suite.endpoints) {
            if endpoint.locator.host() == Some(name.as_str()) {
                endpoint.addresses.clone_from(addresses);
                is_known = true;
            }
        }
        if !is_known {
            return Err(unknown_host(suites, name));
        }
    }
    Ok(())
}

fn unknown_host(suites: &[Suite], name: &HostName) -> String {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    let known: BTreeSet<&str> = endpoints
        .filter_map(|endpoint| endpoint.locator.host())
        .collect();
    let known: Vec<&str> = known.into_iter().collect();
    let help = suggest::help(
        name.as_str(),
        &known,
        "they name no host outside",
        "known are",
    );
    format!("--resolve names {name}, which is no host of the suites; {help}")
}

/// The addresses that the endpoints of all documents give to each host, with the place of the
/// first.
pub(super) type GivenAddresses = BTreeMap<HostName, (BTreeSet<IpAddr>, Span)>;

/// Reports endpoints of a document that give a host other addresses than an earlier one does: a
/// host is at one place in a run.
pub(super) fn compare_addresses(
    root: &Node,
    given: &mut GivenAddresses,
    diagnostics: &mut Diagnostics,
) {
    let endpoints = root.get("spec").and_then(|spec| spec.get("endpoints"));
    let entries = endpoints.and_then(Node::as_mapping).unwrap_or_default();
    for entry in entries {
        // What has another form was reported by `shape`.
        let Some((name, addresses)) = host_addresses(&entry.value) else {
            continue;
        };
        let span = entry.key.span;
        match given.get(&name) {
            None => {
                given.insert(name, (addresses, span));
            }
            Some((known, _)) if *known == addresses => {}
            Some((known, first)) => diagnostics.push(
                Diagnostic::error(span, format!("{name} has other addresses here"))
                    .with_secondary(*first, format!("here it has {}", joined(known)))
                    .with_help("give a host the same ip: wherever it is defined"),
            ),
        }
    }
}

/// The host of an endpoint and its `ip:`; `None` for an endpoint that lacks one of them.
fn host_addresses(endpoint: &Node) -> Option<(HostName, BTreeSet<IpAddr>)> {
    let name = HostName::parse(text(endpoint.get("host")?)?).ok()?;
    let addresses = one_or_more(endpoint.get("ip")?)
        .into_iter()
        .map(|item| text(item)?.parse().ok())
        .collect::<Option<_>>()?;
    Some((name, addresses))
}

fn joined(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_takes_addresses_of_both_families() {
        let given = HostAddresses::parse("Payments.Example=203.0.113.10,2001:db8::1").unwrap();
        assert_eq!(given.name.as_str(), "payments.example");
        assert_eq!(given.addresses.len(), 2);
    }

    #[test]
    fn resolve_of_another_form_is_refused() {
        for text in [
            "payments.example",
            "payments.example=",
            "payments=203.0.113.10",
            "payments.example=127.0.0.1",
            "payments.example=::ffff:203.0.113.10",
            "payments.example=203.0.113.0/24",
        ] {
            assert!(HostAddresses::parse(text).is_err(), "{text}");
        }
    }
}
