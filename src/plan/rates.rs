//! How often flows are tried: caps across a run. Where a cap binds, the interval is stretched, and
//! with it the hold.

use super::{BackendKind, Flow, FlowId, Plan, Source, TargetKey};
use crate::wire::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// One attempt a second a flow, unless a cap binds; in the lab two.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Connections that a server of the cluster's users is to accept from one source, at the most.
const ACCEPTED: u32 = 60;

/// Ports of servers that count connections without a request, and block clients that make many: SSH
/// (`MaxStartups`, `PerSourcePenalties`) and `MySQL` (`max_connect_errors`).
const RATE_LIMITED: [u16; 3] = [22, 3306, 33060];

/// As [`ACCEPTED`], for rate-limited servers.
const ACCEPTED_BY_RATE_LIMITED: u32 = 15;

/// Time between two attempts to rate-limited servers; a little less than the two seconds that may
/// lie between two successes of a control.
const RATE_LIMITED_INTERVAL: Duration = Duration::from_millis(1_900);

/// Attempts a second that one core makes in the lab: each takes 60 to 120 microseconds, most of
/// them in the kernel.
const ATTEMPTS_PER_CORE: u32 = 5_000;

/// Caps in attempts a second, and the interval where none binds.
struct Caps {
    /// Time between two attempts of a flow where no other cap binds.
    interval: Duration,
    /// Of one probe.
    probe: u32,
    /// Of all probes on one node.
    node: u32,
    /// Of all.
    total: u32,
    /// To one address and port.
    target: u32,
}

impl Caps {
    fn of(backend: BackendKind) -> Self {
        match backend {
            // A silent attempt holds its socket for the deadline, and a probe has 512 of them. The
            // total is what the machine can do while its probes get enough CPU time: everything
            // that handles the packets runs on it.
            BackendKind::Lab => {
                let cores =
                    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
                Self {
                    // Our own responders need no protection, and a busy machine may lose an attempt
                    // or two.
                    interval: INTERVAL / 2,
                    probe: 280,
                    node: u32::MAX,
                    total: ATTEMPTS_PER_CORE * cores,
                    target: u32::MAX,
                }
            }
            BackendKind::Cluster => Self {
                interval: INTERVAL,
                probe: 100,
                node: 200,
                total: 1_000,
                target: 20,
            },
        }
    }
}

/// How often one probe tries its flows that belong to checks. Controls that planning adds are never
/// slower than one attempt a second: the success of a target control counts for two seconds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two attempts of a flow.
    pub interval: Duration,
    /// Whether a cap binds: then there are no bursts, and starts are spread over the interval.
    pub is_stretched: bool,
}

impl Rate {
    /// Where no cap binds.
    pub(super) const UNSTRETCHED: Self = Self {
        interval: INTERVAL,
        is_stretched: false,
    };

    fn stretched(interval: Duration) -> Self {
        Self {
            interval,
            is_stretched: true,
        }
    }

    fn slower(self, other: Self) -> Self {
        if other.interval > self.interval {
            other
        } else {
            self
        }
    }

    /// The shortest time in which so many attempts can be made, at least the hold.
    pub(super) fn time_for(self, attempts: u32, hold: Duration) -> Duration {
        if self.is_stretched {
            // The starts are spread over one interval; then each further attempt takes another.
            hold.max(self.interval * attempts)
        } else {
            hold
        }
    }
}

/// The rate of one flow: its probe's, or a lower one for targets that many flows go to and for
/// rate-limited servers.
pub fn rate_of(plan: &Plan, flow: &Flow, checked: bool) -> Rate {
    let own = plan.rates()[flow.probe.0 as usize];
    let least = if is_rate_limited(plan, flow) {
        Rate::stretched(RATE_LIMITED_INTERVAL)
    } else {
        Rate {
            interval: own.interval.min(INTERVAL),
            is_stretched: false,
        }
    };
    if !checked {
        return least;
    }
    let of_target = plan.target_rates().get(&*flow.to).copied().unwrap_or(own);
    own.slower(of_target).slower(least)
}

impl Plan {
    /// The time between two attempts of a flow, as far as caps of its probe and target say.
    pub fn interval_of(&self, id: FlowId) -> Duration {
        let flow = self.flow(id);
        let of_probe = self.rates().get(flow.probe.0 as usize);
        let of_target = self.target_rates().get(&*flow.to);
        of_probe
            .into_iter()
            .chain(of_target)
            .map(|rate| rate.interval)
            .max()
            .unwrap_or(INTERVAL)
    }
}

/// The rates of targets that more flows of checks go to than the cap of attempts a second allows.
pub(super) fn target_rates(
    backend: BackendKind,
    flows: &[Flow],
    checked: &BTreeSet<FlowId>,
) -> BTreeMap<TargetKey, Rate> {
    let cap = Caps::of(backend).target;
    let mut flows_to: BTreeMap<(IpAddr, u16, Transport), u32> = BTreeMap::new();
    for id in checked {
        *flows_to.entry(endpoint(&flows[id.0 as usize])).or_default() += 1;
    }

    let mut rates = BTreeMap::new();
    for id in checked {
        let flow = &flows[id.0 as usize];
        let count = flows_to.get(&endpoint(flow)).copied().unwrap_or_default();
        if count > cap {
            let rate = Rate::stretched(stretched(count, cap));
            rates.insert(TargetKey::clone(&flow.to), rate);
        }
    }
    rates
}

/// What a cap of attempts to a target counts by.
fn endpoint(flow: &Flow) -> (IpAddr, u16, Transport) {
    (flow.to.address, flow.to.port, flow.to.transport)
}

/// The time between two attempts of each of so many flows, so that together they keep to a cap of
/// attempts a second.
fn stretched(flows: u32, cap: u32) -> Duration {
    Duration::from_millis((f64::from(flows) / f64::from(cap) * 1_000.0).ceil() as u64)
}

/// How many connections of a flow may be accepted; `None` is no limit, as for our own responders.
/// Controls that planning adds begin before the slowest source is there and must outlast it, so
/// that only rate-limited servers cap them.
pub(super) fn accepted(plan: &Plan, flow: &Flow, checked: bool) -> Option<u32> {
    let is_responder = plan.control_port() == Some(flow.to.port);
    if flow.to.request.is_kept_open() {
        return None;
    }
    if !plan.has_foreign_targets() || flow.to.transport != Transport::Tcp || is_responder {
        return None;
    }
    if is_rate_limited(plan, flow) {
        Some(ACCEPTED_BY_RATE_LIMITED)
    } else {
        checked.then_some(ACCEPTED)
    }
}

fn is_rate_limited(plan: &Plan, flow: &Flow) -> bool {
    plan.has_foreign_targets()
        && flow.to.transport == Transport::Tcp
        && !flow.to.request.is_kept_open()
        && RATE_LIMITED.contains(&flow.to.port)
}

/// The rate of every probe. `checked` are the flows of checks.
pub(super) fn rates(
    backend: BackendKind,
    probes: &[Source],
    flows: &[Flow],
    checked: &BTreeSet<FlowId>,
) -> Vec<Rate> {
    let caps = Caps::of(backend);
    let mut of_probe = vec![0_u32; probes.len()];
    let mut of_node: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    for id in checked {
        let probe = flows[id.0 as usize].probe.0 as usize;
        of_probe[probe] += 1;
        *of_node.entry(probes[probe].node()).or_default() += 1;
    }
    let all = stretched(checked.len() as u32, caps.total);

    let mut rates = Vec::with_capacity(probes.len());
    for (flows, source) in of_probe.into_iter().zip(probes) {
        let flows_of_node = of_node.get(&source.node()).copied().unwrap_or_default();
        let capped = all
            .max(stretched(flows, caps.probe))
            .max(stretched(flows_of_node, caps.node));
        rates.push(Rate {
            interval: capped.max(caps.interval),
            is_stretched: capped > caps.interval,
        });
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_servers_accept_few_connections_and_rate_limited_ones_fewer() {
        let inventory = crate::inventory::Inventory::default();
        let properties = super::super::BackendProperties {
            kind: BackendKind::Cluster,
            control_port: Some(65_533),
            ..super::super::BackendProperties::none()
        };
        let mut plan = super::super::builder::Builder::default().finish(&properties, &inventory);
        plan.parts.rates = vec![Rate::UNSTRETCHED];
        let to = |port, transport| {
            let key = TargetKey {
                address: [10, 0, 0, 1].into(),
                name: None,
                port,
                transport,
                request: crate::wire::Request::Nonce,
                answer_rule: super::super::AnswerRule::Any,
                once: false,
            };
            let target_kind = super::super::TargetKind::Outside { name: "x".into() };
            Flow {
                probe: super::super::ProbeId(0),
                to: std::sync::Arc::new(key),
                target_kind: std::sync::Arc::new(target_kind),
                opens_at: crate::wire::Stage::Connect,
                waits: super::super::Waits::default(),
            }
        };
        let tcp = |port| to(port, Transport::Tcp);
        let caps = |plan: &Plan| {
            [tcp(8080), tcp(3306), tcp(65_533), to(22, Transport::Udp)]
                .map(|flow| accepted(plan, &flow, true))
        };
        assert_eq!(caps(&plan), [Some(60), Some(15), None, None]);
        assert!(
            rate_of(&plan, &tcp(22), false).is_stretched
                && !rate_of(&plan, &tcp(8080), true).is_stretched
        );
        assert_eq!(
            [8080, 3306].map(|port| accepted(&plan, &tcp(port), false)),
            [None, Some(15)]
        );
        plan.parts.foreign_targets = false;
        assert_eq!(caps(&plan), [None; 4]);
        assert!(!rate_of(&plan, &tcp(22), true).is_stretched);
    }

    #[test]
    fn caps_of_node_and_target_stretch_the_flows_that_exceed_them() {
        let source = |n: usize| Source::Pod {
            namespace: "n".into(),
            name: n.to_string(),
            node: format!("n{}", n % 2),
        };
        let probes: Vec<_> = (0..6).map(source).collect();
        let to = |last: u8| TargetKey {
            address: [10, 0, 0, last].into(),
            name: None,
            port: 80,
            transport: Transport::Tcp,
            request: crate::wire::Request::Nonce,
            answer_rule: super::super::AnswerRule::Any,
            once: false,
        };
        let mut flows = Vec::new();
        let mut checked = BTreeSet::new();
        // 90 flows of each probe to separate targets, and four of each to one target in common.
        for probe in 0..6_u8 {
            for n in 0..94_u8 {
                let last = if n < 4 { 0 } else { n };
                let key = TargetKey {
                    port: 80 + u16::from(if n < 4 { 0 } else { probe }),
                    ..to(last)
                };
                checked.insert(FlowId(flows.len() as u32));
                flows.push(Flow {
                    probe: super::super::ProbeId(u32::from(probe)),
                    to: std::sync::Arc::new(key),
                    target_kind: std::sync::Arc::new(super::super::TargetKind::Outside {
                        name: "x".into(),
                    }),
                    opens_at: crate::wire::Stage::Connect,
                    waits: super::super::Waits::default(),
                });
            }
        }
        // 282 of them on each node, which may send 200 a second.
        let stretched = Rate::stretched(Duration::from_millis(1_410));
        assert_eq!(
            rates(BackendKind::Cluster, &probes, &flows, &checked),
            vec![stretched; 6]
        );
        let capped = BTreeMap::from([(to(0), Rate::stretched(Duration::from_millis(1_200)))]);
        assert_eq!(target_rates(BackendKind::Cluster, &flows, &checked), capped);
        assert_eq!(
            target_rates(BackendKind::Lab, &flows, &checked),
            BTreeMap::new()
        );
        assert_eq!(
            rates(BackendKind::Lab, &probes, &flows, &checked),
            vec![
                Rate {
                    interval: INTERVAL / 2,
                    is_stretched: false
                };
                6
            ]
        );
    }

    #[test]
    fn stretched_interval_leaves_time_for_every_attempt() {
        let hold = Duration::from_secs(2);
        let unstretched = Rate::UNSTRETCHED;
        assert_eq!(
            (unstretched.is_stretched, unstretched.time_for(6, hold)),
            (false, hold)
        );
        let stretched = Rate::stretched(Duration::from_secs(4));
        assert_eq!(
            (stretched.is_stretched, stretched.time_for(6, hold)),
            (true, Duration::from_secs(24))
        );
    }
}
