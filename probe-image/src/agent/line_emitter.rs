//! From finished attempts to lines: in the order of attempts, and only what changed. Pure: no
//! clock, no IO.
//!
//! The reader derives from attempt numbers that every attempt between two lines of a flow had the
//! outcome of the flow's last sample. Three rules keep that true:
//!
//! 1. an attempt is reported only after all attempts that started before it;
//! 2. before a fault, a heartbeat reports how many attempts had the old outcome;
//! 3. after a fault, an unfinished attempt and a dropped line, the next attempt is a sample
//!    whatever its outcome.

use crate::probe::same_outcome;
use crate::wire::{
    Body, Fault, FaultReason, Heartbeat, MAX_LATENCIES, MAX_LINE, Observation, Sample,
};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Length of the longest entry of a heartbeat: `[4294967295,4294967295,18446744073709551615],`.
const HEARTBEAT_ENTRY: usize = 45;

/// Length of the longest entry of a latencies line: a flow's number and [`MAX_LATENCIES`] numbers,
/// with separators.
const LATENCIES_ENTRY: usize = 16 + 11 * MAX_LATENCIES;

/// Upper bound for the rest of such a line. With the largest numbers it is under 140 bytes.
const FRAME: usize = 160;

/// Number of addresses of one name that are reported one by one.
const MAX_PEERS: usize = 16;

/// An attempt is reported again when a stage takes longer than this, microseconds, and twice as
/// long as reported, or took longer than this as reported and takes less than half of it now: the
/// runner compares the silence of a denied flow with the latency of its control.
const SLOW_US: u32 = 100_000;

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttemptResult {
    /// The attempt ended with this observation.
    Observed {
        /// Start, microseconds since hello.
        start: u64,
        observation: Observation,
    },
    /// The probe ended during the attempt.
    Unfinished {
        /// Start, microseconds since hello.
        start: u64,
        /// Stages passed before the end.
        observation: Observation,
    },
    /// Our machinery failed.
    Fault {
        /// Actual or intended start, microseconds since hello.
        start: u64,
        reason: FaultReason,
        /// Explanation for people.
        detail: String,
    },
}

impl AttemptResult {
    /// Start of an attempt that passed more than `stages` stages, finished or not.
    fn start_if_further(&self, stages: usize) -> Option<u64> {
        match self {
            Self::Observed { start, observation } | Self::Unfinished { start, observation }
                if observation.passed.len() > stages =>
            {
                Some(*start)
            }
            Self::Observed { .. } | Self::Unfinished { .. } | Self::Fault { .. } => None,
        }
    }
}

/// How an attempt is reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Emitted {
    /// By this line.
    Line(Body),
    /// By the next heartbeat.
    InHeartbeat,
}

/// The attempts of one flow, from their start to their report.
#[derive(Debug)]
pub(crate) struct FlowLog {
    flow: u32,
    /// Number of attempts reported.
    reported: u32,
    /// Start of the last attempt reported, microseconds since hello.
    last_start: u64,
    /// Observation of the last sample; `None` where the next attempt must be a sample.
    last: Option<Observation>,
    /// Addresses reported since the outcome last changed, where the probe resolved them.
    peers: Vec<SocketAddr>,
    /// Whether the next heartbeat has an entry for this flow.
    in_heartbeat: bool,
    /// Results of the attempts that are not reported yet, in order; `None` while in flight.
    pending: VecDeque<Option<AttemptResult>>,
    /// Latencies of the last successes, microseconds, without those during a stall.
    latencies: VecDeque<u32>,
}

impl FlowLog {
    /// The log of a flow before its first attempt.
    pub(crate) fn new(flow: u32) -> Self {
        Self {
            flow,
            reported: 0,
            last_start: 0,
            last: None,
            peers: Vec::new(),
            in_heartbeat: false,
            pending: VecDeque::new(),
            latencies: VecDeque::new(),
        }
    }

    /// Adds an attempt and returns its number.
    pub(crate) fn begin(&mut self) -> u32 {
        self.pending.push_back(None);
        self.reported + u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    /// Records the result of an attempt.
    pub(crate) fn finish(&mut self, attempt: u32, result: AttemptResult) {
        let entry = attempt
            .checked_sub(self.reported + 1)
            .and_then(|index| self.pending.get_mut(index as usize));
        if let Some(entry) = entry {
            *entry = Some(result);
        }
    }

    /// Whether attempts are not reported yet.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Number of attempts in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.pending
            .iter()
            .filter(|result| result.is_none())
            .count() as u32
    }

    /// Whether a heartbeat must come before the next line: it would be a fault after attempts that
    /// no heartbeat has reported.
    pub(crate) fn needs_heartbeat(&self) -> bool {
        self.in_heartbeat
            && matches!(
                self.pending.front(),
                Some(Some(AttemptResult::Fault { .. }))
            )
    }

    /// Reports the next attempt if it has ended.
    ///
    /// An unfinished attempt stays pending: [`Self::abandon_pending`] decides whether it is
    /// reported.
    pub(crate) fn emit(&mut self) -> Option<Emitted> {
        let result = self
            .pending
            .front_mut()?
            .take_if(|result| !matches!(result, AttemptResult::Unfinished { .. }))?;
        self.pending.pop_front();
        self.reported += 1;

        Some(match result {
            AttemptResult::Observed { start, observation }
            | AttemptResult::Unfinished { start, observation } => {
                self.emit_observation(start, observation)
            }
            AttemptResult::Fault {
                start,
                reason,
                detail,
            } => {
                self.require_sample();
                Emitted::Line(Body::Fault(Fault {
                    flow: Some(self.flow),
                    attempt: Some(self.reported),
                    start,
                    reason,
                    detail: crate::text::printable(&detail, 200),
                }))
            }
        })
    }

    fn emit_observation(&mut self, start: u64, observation: Observation) -> Emitted {
        self.last_start = start;
        self.in_heartbeat = true;
        self.record_latency(&observation);

        let same = self
            .last
            .as_ref()
            .filter(|last| same_outcome(last, &observation));
        let unchanged = same.is_some_and(|last| {
            !is_much_slower(last, &observation) && !is_much_slower(&observation, last)
        });
        if same.is_none() {
            self.peers.clear();
        }
        let new_peer = self.add_peer(observation.peer);
        if unchanged && !new_peer {
            return Emitted::InHeartbeat;
        }

        self.last = Some(observation.clone());
        if observation.is_unfinished() {
            self.require_sample();
        }
        Emitted::Line(Body::Sample(Sample {
            flow: self.flow,
            attempt: self.reported,
            start,
            observation,
        }))
    }

    /// Makes room, when the probe ends, for the last attempt that got further than the last sample,
    /// finished or not: the attempts before it that are still in flight become faults.
    ///
    /// Otherwise a success would be lost behind an earlier attempt that still waits for an answer.
    pub(crate) fn abandon_pending(&mut self) {
        let reported = self.last.as_ref().map_or(0, |last| last.passed.len());
        let furthest = self
            .pending
            .iter()
            .enumerate()
            .rev()
            .find_map(|(index, result)| {
                Some((index, result.as_ref()?.start_if_further(reported)?))
            });
        let Some((index, fault_start)) = furthest else {
            return;
        };

        for entry in self.pending.iter_mut().take(index + 1) {
            *entry = match entry.take() {
                Some(AttemptResult::Unfinished { start, observation })
                    if observation.passed.len() > reported =>
                {
                    Some(AttemptResult::Observed { start, observation })
                }
                Some(AttemptResult::Unfinished { .. }) | None => Some(AttemptResult::Fault {
                    start: fault_start,
                    reason: FaultReason::Defect,
                    detail: "the probe ended during the attempt".to_owned(),
                }),
                finished => finished,
            };
        }
    }

    /// Records the latency of a success.
    fn record_latency(&mut self, observation: &Observation) {
        let us = observation
            .passed
            .iter()
            .fold(0_u32, |sum, (_, us)| sum.saturating_add(*us));
        if observation.stop.is_some() || us == 0 {
            return;
        }

        if self.latencies.len() == MAX_LATENCIES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(us);
    }

    /// Adds an address to those reported; `true` if it must be reported now.
    fn add_peer(&mut self, peer: Option<SocketAddr>) -> bool {
        let Some(peer) = peer else { return false };
        if self.peers.contains(&peer) || self.peers.len() == MAX_PEERS {
            return false;
        }
        self.peers.push(peer);
        true
    }

    /// Makes the next attempt a sample, whatever its outcome.
    pub(crate) fn require_sample(&mut self) {
        self.last = None;
        self.peers.clear();
        self.in_heartbeat = false;
    }

    /// The flow's entry in the next heartbeat, if it has one.
    fn take_heartbeat_entry(&mut self) -> Option<(u32, u32, u64)> {
        if !std::mem::take(&mut self.in_heartbeat) {
            return None;
        }
        Some((self.flow, self.reported, self.last_start))
    }
}

/// Whether a stage took much longer in the second of two attempts with the same outcome.
fn is_much_slower(one: &Observation, other: &Observation) -> bool {
    let mut pairs = one.passed.iter().zip(&other.passed);
    pairs.any(|((_, one), (_, other))| *other > SLOW_US && *other / 2 > *one)
}

/// The heartbeat of all flows, in parts that fit a line; at least one.
pub(crate) fn heartbeat<'a>(
    flows: impl IntoIterator<Item = &'a mut FlowLog>,
    lag_us: u64,
) -> Vec<Body> {
    let entries: Vec<(u32, u32, u64)> = flows
        .into_iter()
        .filter_map(FlowLog::take_heartbeat_entry)
        .collect();
    let mut parts: Vec<Vec<_>> = entries
        .chunks((MAX_LINE - FRAME) / HEARTBEAT_ENTRY)
        .map(<[_]>::to_vec)
        .collect();
    if parts.is_empty() {
        parts.push(Vec::new());
    }

    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(n, flows)| {
            Body::Heartbeat(Heartbeat {
                flows,
                lag_us,
                more: n < last,
            })
        })
        .collect()
}

/// The latencies of all flows, in parts that fit a line; empty where no attempt succeeded.
pub(crate) fn latencies<'a>(flows: impl IntoIterator<Item = &'a FlowLog>) -> Vec<Body> {
    let entries: Vec<(u32, Vec<u32>)> = flows
        .into_iter()
        .filter(|log| !log.latencies.is_empty())
        .map(|log| (log.flow, log.latencies.iter().copied().collect()))
        .collect();
    entries
        .chunks((MAX_LINE - FRAME) / LATENCIES_ENTRY)
        .map(|part| Body::Latencies {
            flows: part.to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Line, Stage, Stop, StopCause, VERSION};

    /// An attempt that stopped with an error, or got through.
    fn observed(start: u64, errno: Option<i32>) -> AttemptResult {
        let stop = errno.map(|errno| Stop {
            stage: Stage::Connect,
            how: StopCause::Error { errno, icmp: None },
        });
        let passed = if stop.is_none() {
            vec![(Stage::Connect, start as u32)]
        } else {
            vec![]
        };
        AttemptResult::Observed {
            start,
            observation: Observation {
                passed,
                stop,
                ..Observation::default()
            },
        }
    }

    fn unfinished(start: u64, passed: Vec<(Stage, u32)>) -> AttemptResult {
        let stop = Some(Stop {
            stage: Stage::Request,
            how: StopCause::Unfinished,
        });
        AttemptResult::Unfinished {
            start,
            observation: Observation {
                passed,
                stop,
                ..Observation::default()
            },
        }
    }

    fn fault(start: u64) -> AttemptResult {
        AttemptResult::Fault {
            start,
            reason: FaultReason::Starved,
            detail: String::new(),
        }
    }

    /// A success with this latency.
    fn success(us: u32) -> Observation {
        Observation {
            passed: vec![(Stage::Connect, us)],
            ..Observation::default()
        }
    }

    /// A success at an address of a name.
    fn success_at(last: u8) -> Observation {
        Observation {
            peer: Some(SocketAddr::from(([192, 0, 2, last], 443))),
            ..success(300)
        }
    }

    /// Begins so many attempts.
    fn begin(log: &mut FlowLog, attempts: u32) {
        for n in 1..=attempts {
            assert_eq!(log.begin(), n);
        }
    }

    /// Makes one attempt; returns the number of its lines.
    fn attempt(log: &mut FlowLog, observation: Observation) -> usize {
        let n = log.begin();
        log.finish(
            n,
            AttemptResult::Observed {
                start: 1,
                observation,
            },
        );
        emitted(log).len()
    }

    /// The lines that a flow can emit now, each in short form.
    fn emitted(log: &mut FlowLog) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            if log.needs_heartbeat() {
                lines.extend(heartbeats(log));
            }
            match log.emit() {
                Some(Emitted::Line(body)) => lines.push(short(&body)),
                Some(Emitted::InHeartbeat) => {}
                None => return lines,
            }
        }
    }

    /// The heartbeat of one flow in short form.
    fn heartbeats(log: &mut FlowLog) -> Vec<String> {
        heartbeat([log], 0).iter().map(short).collect()
    }

    fn short(body: &Body) -> String {
        match body {
            Body::Sample(s) => format!("sample {} {}", s.attempt, s.observation.stop.is_none()),
            Body::Fault(f) => format!("fault {}", f.attempt.unwrap()),
            Body::Heartbeat(b) => format!("heartbeat {:?}", b.flows),
            other => format!("{other:?}"),
        }
    }

    fn line_length(body: Body) -> usize {
        let line = Line {
            v: VERSION,
            seq: u64::MAX,
            t: u64::MAX,
            body,
        };
        serde_json::to_string(&line).unwrap().len()
    }

    #[test]
    fn attempts_are_reported_in_order_of_start() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 3);
        log.finish(3, observed(30, Some(111)));
        log.finish(2, observed(20, None));
        assert_eq!(emitted(&mut log), [""; 0]);

        log.finish(1, observed(10, None));
        assert_eq!(emitted(&mut log), ["sample 1 true", "sample 3 false"]);
        assert!(!log.has_pending());
        assert_eq!(heartbeats(&mut log), ["heartbeat [(9, 3, 30)]"]);
        assert_eq!(heartbeats(&mut log), ["heartbeat []"]);
    }

    #[test]
    fn attempt_after_a_fault_is_a_sample_though_its_outcome_is_unchanged() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 5);
        log.finish(1, observed(1, None));
        log.finish(2, observed(2, None));
        log.finish(3, fault(3));
        log.finish(4, observed(4, None));
        log.finish(5, observed(5, None));
        assert_eq!(
            emitted(&mut log),
            [
                "sample 1 true",
                "heartbeat [(9, 2, 2)]",
                "fault 3",
                "sample 4 true"
            ]
        );
        assert_eq!(heartbeats(&mut log), ["heartbeat [(9, 5, 5)]"]);
    }

    #[test]
    fn fault_has_no_entry_in_a_heartbeat() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 1);
        log.finish(1, fault(1));
        assert_eq!(emitted(&mut log), ["fault 1"]);
        assert_eq!(heartbeats(&mut log), ["heartbeat []"]);
    }

    #[test]
    fn success_is_reported_at_the_end_though_an_earlier_attempt_is_in_flight() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 5);
        log.finish(1, observed(1, Some(110)));
        log.finish(3, observed(3, Some(110)));
        log.finish(4, observed(4, None));
        assert_eq!(emitted(&mut log), ["sample 1 false"]);

        log.abandon_pending();
        assert_eq!(
            emitted(&mut log),
            [
                "heartbeat [(9, 1, 1)]",
                "fault 2",
                "sample 3 false",
                "sample 4 true"
            ]
        );
    }

    #[test]
    fn each_address_of_a_name_is_reported_once() {
        let mut log = FlowLog::new(9);
        assert_eq!(
            [1, 2, 1, 2].map(|last| attempt(&mut log, success_at(last))),
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn stage_that_takes_much_longer_or_no_longer_so_long_is_reported() {
        let mut log = FlowLog::new(9);
        assert_eq!(
            [300, 90_000, 120_000, 200_000, 250_000, 300].map(|us| attempt(&mut log, success(us))),
            [1, 0, 1, 0, 1, 1]
        );
    }

    #[test]
    fn unfinished_attempt_is_reported_only_if_it_got_further() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 4);
        log.finish(1, observed(1, Some(110)));
        log.finish(2, unfinished(2, vec![]));
        log.finish(3, unfinished(3, vec![(Stage::Connect, 1)]));
        log.finish(4, unfinished(4, vec![]));
        assert_eq!(emitted(&mut log), ["sample 1 false"]);

        log.abandon_pending();
        assert_eq!(
            emitted(&mut log),
            ["heartbeat [(9, 1, 1)]", "fault 2", "sample 3 false"]
        );
    }

    #[test]
    fn attempt_in_flight_is_kept_before_one_that_got_no_further() {
        let mut log = FlowLog::new(9);
        begin(&mut log, 3);
        log.finish(1, observed(1, Some(110)));
        log.finish(3, observed(3, Some(111)));
        log.abandon_pending();
        assert_eq!(emitted(&mut log), ["sample 1 false"]);
    }

    #[test]
    fn latencies_are_those_of_the_last_successes() {
        let mut log = FlowLog::new(9);
        assert_eq!(latencies([&log]), []);

        let stopped = Observation {
            stop: Some(Stop {
                stage: Stage::Request,
                how: StopCause::Silence,
            }),
            ..success(7)
        };
        attempt(&mut log, stopped);
        for n in 0..40 {
            let mut two_stages = success(100 + n);
            two_stages.passed.push((Stage::FirstBytes, 1));
            attempt(&mut log, two_stages);
        }

        let [Body::Latencies { flows }] = &latencies([&log])[..] else {
            panic!("one part")
        };
        assert_eq!(flows[..], [(9, (109..141).collect::<Vec<u32>>())]);
    }

    #[test]
    fn parts_of_the_latencies_fit_a_line() {
        let longest: Vec<FlowLog> = (0..500)
            .map(|flow| FlowLog {
                latencies: std::iter::repeat_n(u32::MAX, MAX_LATENCIES).collect(),
                ..FlowLog::new(u32::MAX - flow)
            })
            .collect();
        for body in latencies(&longest) {
            assert!(line_length(body) < MAX_LINE);
        }
    }

    #[test]
    fn parts_of_a_heartbeat_fit_a_line() {
        let mut logs: Vec<FlowLog> = (0..2_000)
            .map(|n| FlowLog {
                reported: u32::MAX,
                last_start: u64::MAX,
                in_heartbeat: true,
                ..FlowLog::new(u32::MAX - n)
            })
            .collect();
        let parts = heartbeat(&mut logs, u64::MAX);

        let mut flows = 0;
        for (n, body) in parts.iter().enumerate() {
            assert!(line_length(body.clone()) < MAX_LINE);
            let Body::Heartbeat(part) = body else {
                unreachable!()
            };
            assert_eq!(part.more, n + 1 < parts.len());
            flows += part.flows.len();
        }
        assert_eq!(flows, 2_000);
    }
}
