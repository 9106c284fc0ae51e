//! The attempts of a run, for those who watch alarms: how many at the most, from where, to where.

use crate::plan::{Flow, FlowId, Plan, rate_of};
use crate::wire::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;

/// Attempts of one flow in the first second, where it begins with a burst.
const BURST: u32 = 3;

/// Attempts in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Load {
    /// In the first second, which is the busiest.
    peak: u32,
    /// In each second after it.
    steady: f64,
    /// In all, of flows that are sent only once.
    once: u32,
}

impl Load {
    /// The attempts of one flow.
    fn of(plan: &Plan, flow: &Flow, is_checked: bool) -> Self {
        if flow.to.once {
            return Self {
                once: 1,
                ..Self::default()
            };
        }
        let rate = rate_of(plan, flow, is_checked);
        Self {
            peak: if rate.is_stretched { 1 } else { BURST },
            steady: 1.0 / rate.interval.as_secs_f64(),
            once: 0,
        }
    }

    fn add(&mut self, other: Self) {
        self.peak += other.peak;
        self.steady += other.steady;
        self.once += other.once;
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let once = if self.once > 0 {
            format!(", and {} once", self.once)
        } else {
            String::new()
        };
        write!(
            f,
            "{:.0}/s, {} in the first second{once}",
            self.steady.ceil(),
            self.peak
        )
    }
}

/// The attempts of a plan: in all, by source, by target.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    all: Load,
    sources: BTreeMap<String, Load>,
    targets: BTreeMap<TargetKey, TargetLoad>,
}

/// What answers, its address and port, and the transport.
type TargetKey = (String, SocketAddr, &'static str);

#[derive(Debug, Default)]
struct TargetLoad {
    load: Load,
    /// The numbers of the probes that send.
    probes: BTreeSet<u32>,
}

impl Traffic {
    pub(super) fn of(plan: &Plan) -> Self {
        let checked: BTreeSet<FlowId> = plan
            .checks()
            .iter()
            .flat_map(|check| check.flows.iter().copied())
            .collect();

        let mut traffic = Self::default();
        for (index, flow) in plan.flows().iter().enumerate() {
            let is_checked = checked.contains(&FlowId(index as u32));
            let load = Load::of(plan, flow, is_checked);

            traffic.all.add(load);
            let source = plan.source(flow.probe).to_string();
            traffic.sources.entry(source).or_default().add(load);

            let target = traffic.targets.entry(target_key(flow)).or_default();
            target.load.add(load);
            target.probes.insert(flow.probe.0);
        }
        traffic
    }

    /// Writes every source, target and port, with its attempts.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nattempts, controls included: {}", self.all)?;
        writeln!(out, "\nfrom")?;
        for (source, load) in &self.sources {
            writeln!(out, "    {source}: {load}")?;
        }
        writeln!(out, "\nto")?;
        for ((target, address, transport), TargetLoad { load, probes }) in &self.targets {
            let sources = if probes.len() == 1 {
                "1 source".to_owned()
            } else {
                format!("{} sources", probes.len())
            };
            writeln!(
                out,
                "    {target}, {address}/{transport}: {load}, from {sources}"
            )?;
        }
        Ok(())
    }
}

fn target_key(flow: &Flow) -> TargetKey {
    let transport = match flow.to.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let address = SocketAddr::new(flow.to.address, flow.to.port);
    (flow.target_kind.to_string(), address, transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_names_its_first_second() {
        let mut load = Load {
            peak: 3,
            steady: 1.0,
            once: 0,
        };
        load.add(Load {
            peak: 1,
            steady: 0.25,
            once: 0,
        });
        assert_eq!(load.to_string(), "2/s, 4 in the first second");
        load.add(Load {
            once: 90,
            ..Load::default()
        });
        assert_eq!(load.to_string(), "2/s, 4 in the first second, and 90 once");
    }
}
