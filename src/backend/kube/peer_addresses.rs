//! Some probes reach other probes, whose addresses exist only once those run. Pure.
//!
//! A plan is made before any probe exists: where it sends a node's flow to a pod's landmark, it
//! says that pod's own address, and a placeholder where it sends to a witness. What has to answer
//! there is a probe, so the address is exchanged for that one's just before the probe that sends is
//! created; what goes to a witness that never came is left out. The probe says the digest of what
//! it was given; it is told as the digest of what was planned if, and only if, that is what it was
//! given.

use super::control_endpoints::{CONTROL_PORT, is_placeholder};
use crate::plan::Source;
use crate::wire::{self, Body, Target};
use std::collections::BTreeMap;
use std::net::IpAddr;
use watertight_probe::plan_digest;

/// Addresses of pods, and those of their probes.
pub(super) type AddressMap = BTreeMap<IpAddr, IpAddr>;

/// The addresses of probes that a plan wants to reach: placeholders, and for a node's probe what is
/// at the landmark's port.
pub(super) fn wanted(source: &Source, plan: &wire::Plan) -> Vec<IpAddr> {
    let is_node = matches!(source, Source::Node { .. });
    let of = |flow: &wire::Flow| match flow.target {
        Target::Address(address) if flow.port == CONTROL_PORT => Some(address),
        Target::Address(_) | Target::Name { .. } => None,
    };
    plan.flows
        .iter()
        .filter_map(of)
        .filter(|address| is_node || is_placeholder(*address))
        .collect()
}

/// Exchanges the addresses of a plan, as far as they are known.
pub(super) fn exchange(plan: &wire::Plan, known: &AddressMap) -> wire::Plan {
    let mut plan = plan.clone();
    for flow in plan
        .flows
        .iter_mut()
        .filter(|flow| flow.port == CONTROL_PORT)
    {
        if let Target::Address(address) = &mut flow.target
            && let Some(own) = known.get(address)
        {
            *address = *own;
        }
    }
    plan.flows
        .retain(|flow| !matches!(flow.target, Target::Address(address) if is_placeholder(address)));
    plan
}

/// The digests of a plan before and after an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    planned: String,
    given: String,
}

impl Digests {
    /// Of these two.
    pub(super) fn of(planned: &wire::Plan, given: &wire::Plan) -> Self {
        Self {
            planned: plan_digest(planned),
            given: plan_digest(given),
        }
    }

    /// Tells a hello as that of the planned plan, if it is that of the given one.
    pub(super) fn tell(&self, line: &mut wire::Line) {
        if let Body::Hello(hello) = &mut line.body
            && hello.digest == self.given
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
    fn only_landmarks_are_exchanged_and_only_where_the_probe_is_known() {
        let node = Source::Node { name: "n".into() };
        let addresses =
            ["10.0.0.1", "fd00::1", "198.18.1.1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(wanted(&node, &plan()), addresses);
        assert_eq!(wanted(&Source::Runner, &plan()), addresses[2..]);
        let known = AddressMap::from([(addresses[0], "10.0.0.9".parse().unwrap())]);
        let given = exchange(&plan(), &known);
        let targets: Vec<_> = given.flows.iter().map(|flow| flow.target.clone()).collect();
        let at = |text: &str| Target::Address(text.parse().unwrap());
        assert_eq!(
            targets,
            [at("10.0.0.9"), at("10.0.0.1"), at("fd00::1")],
            "nothing is sent to a placeholder"
        );
    }

    #[test]
    fn a_hello_of_any_other_plan_stays_what_it_is() {
        let known = AddressMap::from([("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap())]);
        let given = exchange(&plan(), &known);
        let digests = Digests::of(&plan(), &given);
        let told = |digest: String| {
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
            digests.tell(&mut line);
            let Body::Hello(hello) = line.body else {
                unreachable!("it was a hello")
            };
            hello.digest
        };
        assert_eq!(told(plan_digest(&given)), plan_digest(&plan()));
        assert_eq!(told("other".into()), "other");
    }
}
