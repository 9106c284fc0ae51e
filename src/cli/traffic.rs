//! What a run sends, for those who watch alarms: how much at the most, from where, to what.

use crate::plan::{FlowId, Plan, rate_of};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;

/// Attempts of one flow in the first second, where it opens with a burst.
const BURST: u32 = 3;

/// Attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Load {
    /// In the busiest second.
    peak: u32,
    /// In a second after it.
    steady: f64,
    /// Of flows that are sent once and no more.
    once: u32,
}

impl Load {
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
    /// By address, port and transport, with who is there and how many send.
    targets: BTreeMap<(String, SocketAddr, &'static str), (Load, BTreeSet<u32>)>,
}

impl Traffic {
    /// What a plan sends.
    pub(super) fn of(plan: &Plan) -> Self {
        let checked: BTreeSet<FlowId> = plan
            .checks()
            .iter()
            .flat_map(|check| check.flows.iter().copied())
            .collect();
        let mut this = Self::default();
        for (index, flow) in plan.flows().iter().enumerate() {
            let rate = rate_of(plan, flow, checked.contains(&FlowId(index as u32)));
            let load = if flow.to.once {
                Load {
                    once: 1,
                    ..Load::default()
                }
            } else if rate.is_stretched {
                Load {
                    peak: 1,
                    steady: 1.0 / rate.interval.as_secs_f64(),
                    once: 0,
                }
            } else {
                Load {
                    peak: BURST,
                    steady: 1.0 / rate.interval.as_secs_f64(),
                    once: 0,
                }
            };
            let transport = match flow.to.transport {
                crate::wire::Transport::Tcp => "tcp",
                crate::wire::Transport::Udp => "udp",
            };
            let at = (
                flow.target_kind.to_string(),
                SocketAddr::new(flow.to.address, flow.to.port),
                transport,
            );
            this.all.add(load);
            this.sources
                .entry(plan.source(flow.probe).to_string())
                .or_default()
                .add(load);
            let (sum, from) = this.targets.entry(at).or_default();
            sum.add(load);
            from.insert(flow.probe.0);
        }
        this
    }

    /// Every source, target and port, with its attempts.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nattempts, controls included: {}", self.all)?;
        writeln!(out, "\nfrom")?;
        for (source, load) in &self.sources {
            writeln!(out, "    {source}: {load}")?;
        }
        writeln!(out, "\nto")?;
        for ((who, at, transport), (load, from)) in &self.targets {
            let sources = if from.len() == 1 {
                "1 source".to_owned()
            } else {
                format!("{} sources", from.len())
            };
            writeln!(out, "    {who}, {at}/{transport}: {load}, from {sources}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_said_with_its_first_second() {
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
