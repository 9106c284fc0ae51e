//! The attempts of canaries, and what they show about their nodes. Pure.

use crate::wire::{Body, Line};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a flow must stay blocked before its node counts as enforcing: so much longer than the
/// interval between two attempts that a few lost packets do not suffice.
pub(super) const HOLD: Duration = Duration::from_secs(3);

/// The attempts of one canary's flow.
#[derive(Debug, Clone, Default)]
pub(super) struct FlowHistory {
    /// The difference between the runner's clock and the probe's, plus the shortest delay of any
    /// line: attempts are dated late by at most that delay.
    offset: Option<Duration>,
    /// Intervals of attempts with the same outcome, in the probe's time.
    intervals: Vec<Interval>,
    /// Why no more attempts follow.
    pub(super) fault: Option<String>,
}

/// Consecutive attempts with the same outcome.
#[derive(Debug, Clone, Copy)]
struct Interval {
    is_open: bool,
    /// The start of the first attempt.
    first: Duration,
    /// The start of the last attempt.
    last: Duration,
}

impl FlowHistory {
    /// Adds a line that arrived at `at`, in the runner's time.
    pub(super) fn add_line(&mut self, at: Duration, line: &Line, flow: u32) {
        let offset = at.saturating_sub(Duration::from_micros(line.t));
        self.offset = Some(self.offset.map_or(offset, |known| known.min(offset)));
        match &line.body {
            Body::Sample(sample) if sample.flow == flow => {
                let start = Duration::from_micros(sample.start);
                self.add_attempt(sample.observation.stop.is_none(), start);
            }
            Body::Heartbeat(heartbeat) => {
                let last = heartbeat
                    .flows
                    .iter()
                    .find(|(id, ..)| *id == flow)
                    .map(|(.., last)| Duration::from_micros(*last));
                if let (Some(last), Some(interval)) = (last, self.intervals.last_mut()) {
                    interval.last = interval.last.max(last);
                }
            }
            // After a fault of a single attempt the probe makes the next one.
            Body::Fault(fault) if fault.flow.is_none() => self.fault = Some(fault.detail.clone()),
            Body::Hello(_)
            | Body::Sample(_)
            | Body::Fault(_)
            | Body::Latencies { .. }
            | Body::Bye { .. } => {}
        }
    }

    fn add_attempt(&mut self, is_open: bool, start: Duration) {
        match self.intervals.last_mut() {
            Some(interval) if interval.is_open == is_open => {
                interval.last = interval.last.max(start);
            }
            _ => self.intervals.push(Interval {
                is_open,
                first: start,
                last: start,
            }),
        }
    }

    /// The intervals in the runner's time.
    fn intervals(&self) -> impl DoubleEndedIterator<Item = Interval> + '_ {
        let offset = self.offset.unwrap_or_default();
        self.intervals.iter().map(move |interval| Interval {
            is_open: interval.is_open,
            first: interval.first + offset,
            last: interval.last + offset,
        })
    }

    /// The time of the first success at or after a moment.
    pub(super) fn opened_after(&self, moment: Duration) -> Option<Duration> {
        self.intervals()
            .find(|interval| interval.is_open && interval.last >= moment)
            .map(|interval| interval.first.max(moment))
    }

    /// The time from which the flow has been blocked until now, counted from `moment` at the
    /// earliest, if that is at least [`HOLD`].
    pub(super) fn blocked_since(&self, moment: Duration) -> Option<Duration> {
        let interval = self.intervals().next_back()?;
        let since = interval.first.max(moment);
        (!interval.is_open && interval.last >= since + HOLD).then_some(since)
    }
}

/// Whether a node enforces policies on canaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It blocked them when a policy denied it, and let them through when a policy allowed it.
    Enforced {
        /// From the response to the deny policy's creation to the first attempt that stayed
        /// blocked.
        deny: Duration,
        /// From the response to the allow policy's creation to the first success.
        allow: Duration,
    },
    /// It let them through although a policy denied it.
    NotEnforced,
    /// It kept blocking them although a policy allowed it.
    StaysBlocked,
    /// It could not be tested, for this reason.
    NotTested(String),
}

/// The results of canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canaries {
    /// By the node's name.
    pub nodes: BTreeMap<String, Enforcement>,
}

impl Canaries {
    /// The longest time that enforcement took on any node; `None` where no node enforces.
    pub fn latency(&self) -> Option<Duration> {
        let latencies = self
            .nodes
            .values()
            .filter_map(|enforcement| match enforcement {
                Enforcement::Enforced { deny, allow } => Some(*deny.max(allow)),
                Enforcement::NotEnforced
                | Enforcement::StaysBlocked
                | Enforcement::NotTested(_) => None,
            });
        latencies.max()
    }

    /// Whether no node enforces policies on probe pods, though at least one was tested.
    pub fn nowhere_enforced(&self) -> bool {
        self.latency().is_none()
            && self
                .nodes
                .values()
                .any(|node| *node == Enforcement::NotEnforced)
    }

    /// One sentence for each node.
    pub fn sentences(&self) -> Vec<String> {
        let sentences = self.nodes.iter().map(|(node, enforcement)| match enforcement {
            Enforcement::Enforced { deny, allow } => format!(
                "canary: node {node} enforces policies on probe pods: a deny acted after {} ms, an allow after {} ms",
                deny.as_millis(),
                allow.as_millis()
            ),
            Enforcement::NotEnforced => format!(
                "canary: node {node} does not enforce policies on probe pods: a flow that a policy denies got through"
            ),
            Enforcement::StaysBlocked => {
                format!("canary: node {node} blocks probe pods, and keeps blocking a flow that a policy allows again")
            }
            Enforcement::NotTested(why) => format!("canary: node {node} could not be tested: {why}"),
        });
        sentences.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as written")]
    fn line(t_ms: u64, body: serde_json::Value) -> Line {
        let mut value = json!({ "v": 1, "seq": 0, "t": t_ms * 1_000 });
        value
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn sample(start_ms: u64, open: bool) -> Line {
        let stop = if open {
            json!(null)
        } else {
            json!({ "stage": "connect", "how": "silence" })
        };
        line(
            start_ms + 10,
            json!({
                "k": "sample", "flow": 7, "attempt": 1, "start": start_ms * 1_000, "observation": { "passed": [], "stop": stop }
            }),
        )
    }

    fn heartbeat(last_ms: u64) -> Line {
        line(
            last_ms + 10,
            json!({ "k": "heartbeat", "flows": [[7, 9, last_ms * 1_000]], "lag_us": 0 }),
        )
    }

    /// The history of lines that each arrive half a second after they were written.
    fn history(lines: &[Line]) -> FlowHistory {
        let mut history = FlowHistory::default();
        for line in lines {
            history.add_line(Duration::from_micros(line.t) + ms(500), line, 7);
        }
        history
    }

    #[test]
    fn a_flow_counts_as_blocked_after_the_hold() {
        let blocked = |last: u64| {
            history(&[sample(0, true), sample(2_000, false), heartbeat(last)])
                .blocked_since(ms(1_000))
        };
        assert_eq!(blocked(2_000 + 2_900), None);
        assert_eq!(blocked(2_000 + 3_000), Some(ms(2_500)));
        assert_eq!(
            history(&[sample(0, true), heartbeat(9_000)]).blocked_since(ms(1_000)),
            None,
            "it stays open"
        );
        assert_eq!(
            history(&[]).blocked_since(ms(0)),
            None,
            "there was no attempt"
        );
    }

    #[test]
    fn a_success_restarts_the_hold() {
        let lines = [
            sample(0, true),
            sample(1_000, false),
            heartbeat(3_500),
            sample(3_800, true),
            sample(4_000, false),
            heartbeat(6_000),
        ];
        assert_eq!(history(&lines).blocked_since(ms(0)), None);
        assert_eq!(history(&lines).opened_after(ms(2_000)), Some(ms(4_300)));
    }

    #[test]
    fn opened_after_gives_the_first_success_from_that_moment_on() {
        let history = history(&[
            sample(0, true),
            heartbeat(900),
            sample(1_000, false),
            heartbeat(5_000),
            sample(5_200, true),
        ]);
        assert_eq!(
            history.opened_after(ms(600)),
            Some(ms(600)),
            "it was open then"
        );
        assert_eq!(history.opened_after(ms(1_500)), Some(ms(5_700)));
        assert_eq!(history.opened_after(ms(9_000)), None);
    }

    fn canaries(nodes: &[(&str, Enforcement)]) -> Canaries {
        Canaries {
            nodes: nodes
                .iter()
                .map(|(name, enforcement)| ((*name).to_owned(), enforcement.clone()))
                .collect(),
        }
    }

    #[test]
    fn policies_are_enforced_nowhere_only_if_no_tested_node_enforces_them() {
        let enforced = Enforcement::Enforced {
            deny: ms(200),
            allow: ms(900),
        };
        let one = canaries(&[
            ("node-1", enforced.clone()),
            ("node-2", Enforcement::NotEnforced),
        ]);
        assert_eq!(
            (one.nowhere_enforced(), one.latency()),
            (false, Some(ms(900)))
        );
        assert!(one.sentences()[1].contains("node-2 does not enforce"));
        let all = canaries(&[
            ("node-1", Enforcement::NotEnforced),
            ("node-2", Enforcement::NotEnforced),
        ]);
        assert_eq!((all.nowhere_enforced(), all.latency()), (true, None));
        let untried = canaries(&[("node-1", Enforcement::NotTested("no room".into()))]);
        assert!(!untried.nowhere_enforced());
    }
}
