//! How often flows are tried: caps across a run. Where they bind, the interval stretches, and with it the hold.

use super::{Check, Environment, Flow, Plan, ProbeId};
use crate::wire::Transport;
use std::collections::BTreeSet;
use std::time::Duration;

/// One attempt a second a flow, unless a cap binds.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Connections that somebody else's server accepts from one source, at the most.
const ACCEPTED: u32 = 60;

/// Servers that count connections which say nothing, and shut out whoever makes many: SSH (`MaxStartups`,
/// `PerSourcePenalties`) and MySQL (`max_connect_errors`).
const WARY: [u16; 3] = [22, 3306, 33060];

/// See [`ACCEPTED`], for these.
const ACCEPTED_BY_THE_WARY: u32 = 15;

/// Time between two attempts to these; a little less than a control may pause.
const WARY_INTERVAL: Duration = Duration::from_millis(1_900);

/// Attempts a second that one core carries in the lab: 60 to 120 microseconds each, most of them the kernel's.
const EACH_CORE: u32 = 5_000;

/// Attempts a second.
struct Caps {
    /// Of one probe.
    probe: u32,
    /// Of all.
    total: u32,
}

impl Caps {
    fn of(environment: Environment) -> Self {
        match environment {
            // A silent attempt holds its socket for the deadline, and a probe has 512 of them. In all, what the machine
            // carries without starving the probes: everything that the packets meet is on it.
            Environment::Lab => {
                let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
                Self { probe: 280, total: EACH_CORE * cores }
            }
            Environment::Cluster => Self { probe: 100, total: 1_000 },
        }
    }
}

/// How the flows of one probe that belong to checks are paced. Controls of the planner's own always keep to one
/// attempt a second: a target counts as alive for two seconds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two attempts of a flow.
    pub interval: Duration,
}

impl Rate {
    /// Whether a cap binds: then there are no bursts, and starts are spread over the interval.
    pub fn is_stretched(self) -> bool {
        self.interval > INTERVAL
    }

    /// How long it takes at the least to make so many attempts, over so long a hold.
    pub(super) fn time_for(self, samples: u32, hold: Duration) -> Duration {
        if self.is_stretched() {
            // The starts are spread over one interval; then each further sample takes another.
            hold.max(self.interval * samples)
        } else {
            hold
        }
    }
}

/// How one flow is paced: as its probe's, and more gently towards servers that are wary.
pub fn rate_of(plan: &Plan, flow: &Flow, checked: bool) -> Rate {
    let own = if checked { plan.rates[flow.probe.0 as usize].interval } else { INTERVAL };
    let least = if is_wary(plan, flow) { WARY_INTERVAL } else { INTERVAL };
    Rate { interval: own.max(least) }
}

/// How many connections of a flow may be accepted; our own responders do not mind.
pub(super) fn accepted(plan: &Plan, flow: &Flow) -> Option<u32> {
    let is_own = plan.listen == Some(flow.to.port);
    let most = if is_wary(plan, flow) { ACCEPTED_BY_THE_WARY } else { ACCEPTED };
    (plan.strangers && flow.to.transport == Transport::Tcp && !is_own).then_some(most)
}

fn is_wary(plan: &Plan, flow: &Flow) -> bool {
    plan.strangers && flow.to.transport == Transport::Tcp && WARY.contains(&flow.to.port)
}

/// The rate of every probe.
pub(super) fn rates(environment: Environment, probes: usize, flows: &[Flow], checks: &[Check]) -> Vec<Rate> {
    let caps = Caps::of(environment);
    let checked: BTreeSet<_> = checks.iter().flat_map(|check| check.flows.iter().copied()).collect();
    let mut of_probe = vec![0_u32; probes];
    for id in &checked {
        let ProbeId(probe) = flows[id.0 as usize].probe;
        of_probe[probe as usize] += 1;
    }
    let by_total = checked.len() as f64 / f64::from(caps.total);
    let rate = |flows: u32| {
        let seconds = (f64::from(flows) / f64::from(caps.probe)).max(by_total);
        Rate { interval: INTERVAL.max(Duration::from_millis((seconds * 1_000.0).ceil() as u64)) }
    };
    of_probe.into_iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_asked_gently_and_the_wary_more_so() {
        let inventory = crate::inventory::Inventory::default();
        let mut plan = super::super::builder::Builder::default().finish(Environment::Cluster, &inventory);
        plan.listen = Some(65_533);
        plan.rates = vec![Rate { interval: INTERVAL }];
        let to = |port, transport| {
            let key = super::super::TargetKey {
                address: [10, 0, 0, 1].into(),
                name: None,
                port,
                transport,
                request: crate::wire::Request::Nonce,
                once: false,
            };
            let party = super::super::Party::Outside { name: "x".into() };
            Flow {
                probe: ProbeId(0),
                to: std::sync::Arc::new(key),
                party: std::sync::Arc::new(party),
                opens_at: crate::wire::Stage::Connect,
                waits: super::super::Waits::default(),
            }
        };
        let tcp = |port| to(port, Transport::Tcp);
        let caps =
            |plan: &Plan| [tcp(8080), tcp(3306), tcp(65_533), to(22, Transport::Udp)].map(|flow| accepted(plan, &flow));
        assert_eq!(caps(&plan), [Some(60), Some(15), None, None]);
        assert!(rate_of(&plan, &tcp(22), false).is_stretched() && !rate_of(&plan, &tcp(8080), true).is_stretched());
        plan.strangers = false;
        assert_eq!(caps(&plan), [None; 4]);
        assert!(!rate_of(&plan, &tcp(22), true).is_stretched());
    }

    #[test]
    fn stretched_interval_makes_room_for_every_sample() {
        let hold = Duration::from_secs(2);
        let calm = Rate { interval: INTERVAL };
        assert_eq!((calm.is_stretched(), calm.time_for(6, hold)), (false, hold));
        let busy = Rate { interval: Duration::from_secs(4) };
        assert_eq!((busy.is_stretched(), busy.time_for(6, hold)), (true, Duration::from_secs(24)));
    }
}
