//! Addresses of probe pods that other probes send to. Pure.
//!
//! A plan is made before any probe pod has an address. A node's flow to the control port of a pod
//! names the original pod's address, and a flow to a reference pod names a placeholder. Both are
//! replaced by the address of the probe pod just before the sending probe is created; flows to a
//! reference pod that has no address are left out. A probe reports the digest of the plan that it
//! was sent; that digest is replaced by the one of the planned plan, if it is the one that was
//! sent.

use super::control_endpoints::is_placeholder;
use crate::backend::CONTROL_PORT;
use crate::plan::Source;
use crate::wire::{self, Body, Target};
use std::collections::BTreeMap;
use std::net::IpAddr;
use watertight_probe::plan_digest;

/// Addresses of probe pods, by the addresses that plans name.
pub(super) type AddressMap = BTreeMap<IpAddr, IpAddr>;

/// The addresses in a plan that have to be replaced by those of probe pods: placeholders, and for a
/// node's probe every address with the control port.
pub(super) fn to_replace(source: &Source, plan: &wire::Plan) -> Vec<IpAddr> {
    let is_node = matches!(source, Source::Node { .. });
    plan.flows
        .iter()
        .filter_map(control_port_address)
        .filter(|address| is_node || is_placeholder(*address))
        .collect()
}

fn control_port_address(flow: &wire::Flow) -> Option<IpAddr> {
    match flow.target {
        Target::Address(address) if flow.port == CONTROL_PORT => Some(address),
        Target::Address(_) | Target::Name { .. } => None,
    }
}

/// A plan with the known addresses replaced, without the flows whose placeholder is left.
pub(super) fn replace(plan: &wire::Plan, known: &AddressMap) -> wire::Plan {
    let mut plan = plan.clone();

    for flow in plan
        .flows
        .iter_mut()
        .filter(|flow| flow.port == CONTROL_PORT)
    {
        if let Target::Address(address) = &mut flow.target
            && let Some(probe_address) = known.get(address)
        {
            *address = *probe_address;
        }
    }

    plan.flows
        .retain(|flow| !matches!(flow.target, Target::Address(address) if is_placeholder(address)));
    plan
}

/// The digests of a plan before and after its addresses were replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    planned: String,
    sent: String,
}

impl Digests {
    pub(super) fn new(planned: &wire::Plan, sent: &wire::Plan) -> Self {
        Self {
            planned: plan_digest(planned),
            sent: plan_digest(sent),
        }
    }

    /// Replaces the digest of the sent plan in a `hello` by the one of the planned plan.
    pub(super) fn restore(&self, line: &mut wire::Line) {
        if let Body::Hello(hello) = &mut line.body
            && hello.digest == self.sent
        {
            hello.digest.clone_from(&self.planned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Deadlines, Flow, Hello, Line, Pace, Request, Transport};

    fn flow(id: u32, address: &str, port: u16) -> Flow {
        Flow {
            id,
            target: Target::Address(address.parse().unwrap()),
            port,
            transport: Transport::Tcp,
            request: Request::Nonce,
            deadlines: Deadlines {
                resolve_ms: 1,
                connect_ms: 1,
                tls_ms: 1,
                request_ms: 1,
            },
            pace: Pace {
                bursts_ms: vec![0],
                interval_ms: 1000,
                attempts: None,
                single: false,
                accepted: None,
            },
            small_segments: false,
        }
    }

    fn plan() -> wire::Plan {
        wire::Plan {
            v: wire::VERSION,
            run: "r".into(),
            seed: 1,
            ttl_ms: 1,
            heartbeat_ms: 1,
            trust: vec![],
            resolver: None,
            listen: None,
            idle_timeout: None,
            flows: vec![
                flow(0, "10.0.0.1", CONTROL_PORT),
                flow(1, "10.0.0.1", 80),
                flow(2, "fd00::1", CONTROL_PORT),
                flow(3, "198.18.1.1", CONTROL_PORT),
            ],
        }
    }

    #[test]
    fn only_control_port_addresses_of_known_probe_pods_are_replaced() {
        let node = Source::Node { name: "n".into() };
        let addresses =
            ["10.0.0.1", "fd00::1", "198.18.1.1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(to_replace(&node, &plan()), addresses);
        assert_eq!(to_replace(&Source::Runner, &plan()), addresses[2..]);
        let known = AddressMap::from([(addresses[0], "10.0.0.9".parse().unwrap())]);
        let sent = replace(&plan(), &known);
        let targets: Vec<_> = sent.flows.iter().map(|flow| flow.target.clone()).collect();
        let at = |text: &str| Target::Address(text.parse().unwrap());
        assert_eq!(
            targets,
            [at("10.0.0.9"), at("10.0.0.1"), at("fd00::1")],
            "nothing is sent to a placeholder"
        );
    }

    #[test]
    fn only_the_digest_of_the_sent_plan_is_restored() {
        let known = AddressMap::from([("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap())]);
        let sent = replace(&plan(), &known);
        let digests = Digests::new(&plan(), &sent);

        let restored = restored_digest(&digests, plan_digest(&sent));
        assert_eq!(restored, plan_digest(&plan()));
        assert_eq!(restored_digest(&digests, "other".into()), "other");
    }

    fn restored_digest(digests: &Digests, digest: String) -> String {
        let hello = Hello {
            version: String::new(),
            run: "r".into(),
            digest,
            addresses: vec![],
            boot: String::new(),
            boottime_us: 0,
            wall_us: 0,
        };
        let mut line = Line {
            v: wire::VERSION,
            seq: 0,
            t: 0,
            body: Body::Hello(hello),
        };
        digests.restore(&mut line);
        match line.body {
            Body::Hello(hello) => hello.digest,
            other => unreachable!("a hello became {other:?}"),
        }
    }
}
