//! What canaries saw, and what that says of their nodes. Pure.

use crate::wire::{Body, Line};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a flow must stay blocked before its node counts as one that enforces: longer than the
/// gap between two attempts by so much that a lost packet or two do not make it.
pub(super) const HOLD: Duration = Duration::from_secs(3);

/// One canary's flow as the runner knows it, in the runner's time.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    /// What is added to the probe's time: the least that any line took to arrive, so that no
    /// attempt is dated too early by more than that.
    offset: Option<Duration>,
    /// Runs of one outcome: whether open, first start, last start.
    runs: Vec<(bool, Duration, Duration)>,
    /// Why its probe can say nothing more.
    pub(super) fault: Option<String>,
}

impl Track {
    /// Takes a line in. Starts are in microseconds of the probe.
    pub(super) fn take(&mut self, at: Duration, line: &Line, flow: u32) {
        let offset = at.saturating_sub(Duration::from_micros(line.t));
        self.offset = Some(self.offset.map_or(offset, |known| known.min(offset)));
        match &line.body {
            Body::Sample(sample) if sample.flow == flow => {
                let start = Duration::from_micros(sample.start);
                self.extend(sample.observation.stop.is_none(), start);
            }
            Body::Heartbeat(heartbeat) => {
                let last = heartbeat
                    .flows
                    .iter()
                    .find(|(of, ..)| *of == flow)
                    .map(|(.., last)| Duration::from_micros(*last));
                if let (Some(last), Some(run)) = (last, self.runs.last_mut()) {
                    run.2 = run.2.max(last);
                }
            }
            // A single attempt that failed is made again.
            Body::Fault(fault) if fault.flow.is_none() => self.fault = Some(fault.detail.clone()),
            Body::Hello(_)
            | Body::Sample(_)
            | Body::Fault(_)
            | Body::Latencies { .. }
            | Body::Bye { .. } => {}
        }
    }

    fn extend(&mut self, open: bool, start: Duration) {
        match self.runs.last_mut() {
            Some(run) if run.0 == open => run.2 = run.2.max(start),
            _ => self.runs.push((open, start, start)),
        }
    }

    /// Runs of one outcome in the runner's time.
    fn runs(&self) -> impl DoubleEndedIterator<Item = (bool, Duration, Duration)> + '_ {
        let offset = self.offset.unwrap_or_default();
        self.runs
            .iter()
            .map(move |(open, first, last)| (*open, *first + offset, *last + offset))
    }

    /// The first opening at or after a moment.
    pub(super) fn opened_after(&self, moment: Duration) -> Option<Duration> {
        self.runs()
            .filter(|(open, _, last)| *open && *last >= moment)
            .map(|(_, first, _)| first.max(moment))
            .next()
    }

    /// When it began to be blocked for good, if it has been for [`HOLD`] since.
    pub(super) fn blocked_since(&self, moment: Duration) -> Option<Duration> {
        let (open, first, last) = self.runs().next_back()?;
        let since = first.max(moment);
        (!open && last >= since + HOLD).then_some(since)
    }
}

/// What a node does to canaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It blocked them when told to, and let them through again.
    Enforced {
        /// From the answer to the policy's creation to the last opening.
        deny: Duration,
        /// From the answer to the allowing policy's creation to the first opening.
        allow: Duration,
    },
    /// It let them through although a policy denied it.
    Leaks,
    /// It never let them through again after a policy allowed it.
    Stuck,
    /// It could not be tried.
    Untried(String),
}

/// Each node, and what it does to canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canaries {
    /// By the node's name.
    pub nodes: BTreeMap<String, Enforcement>,
}

impl Canaries {
    /// The longest that enforcement took on any node; `None` where none enforces.
    pub fn latency(&self) -> Option<Duration> {
        let enforced = self.nodes.values().filter_map(|node| match node {
            Enforcement::Enforced { deny, allow } => Some(*deny.max(allow)),
            Enforcement::Leaks | Enforcement::Stuck | Enforcement::Untried(_) => None,
        });
        enforced.max()
    }

    /// Whether no node at all enforces policies on pods such as our probes, and at least one was
    /// tried.
    pub fn nowhere_enforced(&self) -> bool {
        self.latency().is_none() && self.nodes.values().any(|node| *node == Enforcement::Leaks)
    }

    /// One sentence for each node, and for all.
    pub fn sentences(&self) -> Vec<String> {
        let of_nodes = self.nodes.iter().map(|(node, seen)| match seen {
            Enforcement::Enforced { deny, allow } => format!(
                "canary: node {node} enforces policies on probe pods: a deny took {} ms, an allow {} ms",
                deny.as_millis(),
                allow.as_millis()
            ),
            Enforcement::Leaks => format!(
                "canary: node {node} does not enforce policies on probe pods: what a default deny forbids got through"
            ),
            Enforcement::Stuck => {
                format!("canary: node {node} blocks probe pods, and goes on blocking what a policy allows again")
            }
            Enforcement::Untried(why) => format!("canary: node {node} could not be tried: {why}"),
        });
        of_nodes.collect()
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

    /// Lines as they arrive, half a second after they were written in the runner's time.
    fn track(lines: &[Line]) -> Track {
        let mut track = Track::default();
        for line in lines {
            track.take(Duration::from_micros(line.t) + ms(500), line, 7);
        }
        track
    }

    #[test]
    fn a_flow_is_blocked_only_when_it_has_been_for_the_hold() {
        let blocked = |last: u64| {
            track(&[sample(0, true), sample(2_000, false), heartbeat(last)])
                .blocked_since(ms(1_000))
        };
        assert_eq!(blocked(2_000 + 2_900), None);
        assert_eq!(blocked(2_000 + 3_000), Some(ms(2_500)));
        assert_eq!(
            track(&[sample(0, true), heartbeat(9_000)]).blocked_since(ms(1_000)),
            None,
            "it stays open"
        );
        assert_eq!(track(&[]).blocked_since(ms(0)), None, "nothing was seen");
    }

    #[test]
    fn an_opening_ends_the_hold() {
        let lines = [
            sample(0, true),
            sample(1_000, false),
            heartbeat(3_500),
            sample(3_800, true),
            sample(4_000, false),
            heartbeat(6_000),
        ];
        assert_eq!(track(&lines).blocked_since(ms(0)), None);
        assert_eq!(track(&lines).opened_after(ms(2_000)), Some(ms(4_300)));
    }

    #[test]
    fn an_opening_after_a_moment_is_the_first_from_there_on() {
        let track = track(&[
            sample(0, true),
            heartbeat(900),
            sample(1_000, false),
            heartbeat(5_000),
            sample(5_200, true),
        ]);
        assert_eq!(
            track.opened_after(ms(600)),
            Some(ms(600)),
            "it was open then"
        );
        assert_eq!(track.opened_after(ms(1_500)), Some(ms(5_700)));
        assert_eq!(track.opened_after(ms(9_000)), None);
    }

    fn canaries(nodes: &[(&str, Enforcement)]) -> Canaries {
        Canaries {
            nodes: nodes
                .iter()
                .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
                .collect(),
        }
    }

    #[test]
    fn one_leaking_node_is_named_and_only_all_of_them_speak_against_probe_pods() {
        let enforced = Enforcement::Enforced {
            deny: ms(200),
            allow: ms(900),
        };
        let one = canaries(&[("node-1", enforced.clone()), ("node-2", Enforcement::Leaks)]);
        assert_eq!(
            (one.nowhere_enforced(), one.latency()),
            (false, Some(ms(900)))
        );
        assert!(one.sentences()[1].contains("node-2 does not enforce"));
        let all = canaries(&[
            ("node-1", Enforcement::Leaks),
            ("node-2", Enforcement::Leaks),
        ]);
        assert_eq!((all.nowhere_enforced(), all.latency()), (true, None));
        let untried = canaries(&[("node-1", Enforcement::Untried("no room".into()))]);
        assert!(!untried.nowhere_enforced());
    }
}
