//! From finished attempts to lines: in the order of attempts, and only what changed. Pure: no
//! clock, no IO.
//!
//! The reader derives from attempt numbers that everything between two lines of a flow had the
//! outcome of the flow's last sample. Three rules keep that true:
//!
//! 1. an attempt is reported only after all that started before it;
//! 2. before a fault, a beat tells how many attempts had the old outcome;
//! 3. after a fault, an attempt that was not finished, and a line that was dropped, the next
//!    attempt is a sample whatever its outcome.

use crate::probe::same_outcome;
use crate::wire::{Body, Fault, FaultReason, Heartbeat, MAX_LINE, MAX_TOOK, Observation, Sample};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The longest entry of a beat: `[4294967295,4294967295,18446744073709551615],`.
const ENTRY: usize = 45;

/// What a beat's line has besides its entries, with the largest numbers: under 140 bytes.
const FRAME: usize = 160;

/// Entries of one part of a beat.
const PART: usize = (MAX_LINE - FRAME) / ENTRY;

/// Addresses of one name that are told one by one.
const MAX_PEERS: usize = 16;

/// A stage that takes longer than this, and twice as long as was told, is told: a reader who knows
/// how long a control takes knows how long silence must last.
const SLOW_US: u32 = 100_000;

/// Whether a stage took much longer than in an attempt with the same outcome.
fn is_much_slower(before: &Observation, now: &Observation) -> bool {
    let pairs = before.passed.iter().zip(&now.passed);
    pairs
        .into_iter()
        .any(|((_, before), (_, now))| *now > SLOW_US && *now / 2 > *before)
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// The network did this.
    Seen {
        /// When it started, microseconds since hello.
        start: u64,
        /// What was seen.
        seen: Observation,
    },
    /// The probe is ending: this is how far it had come.
    Unfinished {
        /// When it started, microseconds since hello.
        start: u64,
        /// What was seen until now.
        seen: Observation,
    },
    /// Our machinery failed.
    Fault {
        /// When it started or was to start.
        start: u64,
        /// Why.
        reason: FaultReason,
        /// For people.
        detail: String,
    },
}

/// An attempt whose turn to be reported has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Released {
    /// By a line of its own.
    Line(Body),
    /// By the next beat.
    InHeartbeat,
}

/// What is known of one flow.
#[derive(Debug)]
pub(crate) struct FlowLog {
    flow: u32,
    reported: u32,
    last_start: u64,
    last: Option<Observation>,
    /// Addresses that were dialled with the last outcome and told, where the probe resolved them.
    peers: Vec<SocketAddr>,
    in_heartbeat: bool,
    pending: VecDeque<Option<Ended>>,
    /// How long its last openings took, microseconds; those during a stall left out.
    took: VecDeque<u32>,
}

impl FlowLog {
    /// Nothing tried yet.
    pub(crate) fn new(flow: u32) -> Self {
        Self {
            flow,
            reported: 0,
            last_start: 0,
            last: None,
            peers: Vec::new(),
            in_heartbeat: false,
            pending: VecDeque::new(),
            took: VecDeque::new(),
        }
    }

    /// The number of a new attempt.
    pub(crate) fn begin(&mut self) -> u32 {
        self.pending.push_back(None);
        self.reported + u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    /// An attempt ended.
    pub(crate) fn end(&mut self, attempt: u32, ended: Ended) {
        let place = attempt
            .checked_sub(self.reported + 1)
            .and_then(|n| self.pending.get_mut(n as usize));
        if let Some(place) = place {
            *place = Some(ended);
        }
    }

    /// Whether attempts are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many attempts are under way.
    pub(crate) fn under_way(&self) -> u32 {
        self.pending.iter().filter(|ended| ended.is_none()).count() as u32
    }

    /// Whether nothing is known yet of an attempt that is under way.
    pub(crate) fn waits(&self) -> bool {
        self.pending.iter().any(Option::is_none)
    }

    /// Whether the next line would be a fault after attempts that no beat has told of.
    pub(crate) fn owes_heartbeat(&self) -> bool {
        self.in_heartbeat && matches!(self.pending.front(), Some(Some(Ended::Fault { .. })))
    }

    /// Reports the next attempt if its turn has come.
    pub(crate) fn release(&mut self) -> Option<Released> {
        // Whether an unfinished attempt is told depends on what it got to, and is decided at the
        // end.
        let ended = self
            .pending
            .front_mut()?
            .take_if(|ended| !matches!(ended, Ended::Unfinished { .. }))?;
        self.pending.pop_front();
        self.reported += 1;
        Some(match ended {
            Ended::Seen { start, seen } | Ended::Unfinished { start, seen } => {
                self.last_start = start;
                self.in_heartbeat = true;
                self.time(&seen);
                let same = self
                    .last
                    .as_ref()
                    .is_some_and(|last| same_outcome(last, &seen));
                if !same {
                    self.peers.clear();
                }
                let slower = same
                    && self
                        .last
                        .as_ref()
                        .is_some_and(|last| is_much_slower(last, &seen));
                if same && !slower && self.knows(seen.peer) {
                    Released::InHeartbeat
                } else {
                    self.knows(seen.peer);
                    self.last = Some(seen.clone());
                    if seen.is_unfinished() {
                        self.forget();
                    }
                    Released::Line(Body::Sample(Sample {
                        flow: self.flow,
                        attempt: self.reported,
                        start,
                        seen,
                    }))
                }
            }
            Ended::Fault {
                start,
                reason,
                detail,
            } => {
                self.forget();
                Released::Line(Body::Fault(Fault {
                    flow: Some(self.flow),
                    attempt: Some(self.reported),
                    start,
                    reason,
                    detail: crate::text::printable(&detail, 200),
                }))
            }
        })
    }

    /// When the probe ends: waits no longer for attempts under way before one that got further than
    /// the last one told, finished or not.
    ///
    /// Else an opening would be lost for an earlier attempt that is still in its silence. Those
    /// given up are faults.
    pub(crate) fn give_up(&mut self) {
        let told = self.last.as_ref().map_or(0, |last| last.passed.len());
        let got_further = |seen: &Observation| seen.passed.len() > told;
        let further =
            self.pending
                .iter()
                .enumerate()
                .rev()
                .find_map(|(place, ended)| match ended {
                    Some(Ended::Seen { start, seen } | Ended::Unfinished { start, seen })
                        if got_further(seen) =>
                    {
                        Some((place, *start))
                    }
                    Some(Ended::Seen { .. } | Ended::Unfinished { .. } | Ended::Fault { .. })
                    | None => None,
                });
        let Some((further, start)) = further else {
            return;
        };
        for place in self.pending.iter_mut().take(further + 1) {
            *place = match place.take() {
                Some(Ended::Unfinished { start, seen }) if got_further(&seen) => {
                    Some(Ended::Seen { start, seen })
                }
                Some(Ended::Unfinished { .. }) | None => {
                    let detail = "the probe ended during the attempt".to_owned();
                    Some(Ended::Fault {
                        start,
                        reason: FaultReason::Defect,
                        detail,
                    })
                }
                ended => ended,
            };
        }
    }

    fn time(&mut self, seen: &Observation) {
        let us = seen
            .passed
            .iter()
            .fold(0_u32, |sum, (_, us)| sum.saturating_add(*us));
        if seen.stop.is_none() && us > 0 {
            if self.took.len() == MAX_TOOK {
                self.took.pop_front();
            }
            self.took.push_back(us);
        }
    }

    /// Whether an address needs no telling; from now on it is told.
    fn knows(&mut self, peer: Option<SocketAddr>) -> bool {
        let Some(peer) = peer.filter(|peer| !self.peers.contains(peer)) else {
            return true;
        };
        if self.peers.len() == MAX_PEERS {
            return true;
        }
        self.peers.push(peer);
        false
    }

    /// Makes the next attempt a sample, whatever its outcome.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.peers.clear();
        self.in_heartbeat = false;
    }
}

/// The beat of all flows, in parts that fit a line; at least one.
pub(crate) fn heartbeat<'a>(
    flows: impl IntoIterator<Item = &'a mut FlowLog>,
    lag_us: u64,
) -> Vec<Body> {
    let entries: Vec<(u32, u32, u64)> = flows
        .into_iter()
        .filter_map(|log| {
            std::mem::take(&mut log.in_heartbeat).then_some((
                log.flow,
                log.reported,
                log.last_start,
            ))
        })
        .collect();
    let mut parts: Vec<Vec<_>> = entries.chunks(PART).map(<[_]>::to_vec).collect();
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

/// How long the last openings of all flows took, in parts that fit a line; none where nothing
/// opened.
pub(crate) fn took<'a>(flows: impl IntoIterator<Item = &'a FlowLog>) -> Vec<Body> {
    // As text: a flow's number, and of each opening the most that a number has, with what separates
    // them.
    const MOST: usize = 16 + 11 * MAX_TOOK;
    let opened = flows.into_iter().filter(|log| !log.took.is_empty());
    let entries: Vec<(u32, Vec<u32>)> = opened
        .map(|log| (log.flow, log.took.iter().copied().collect()))
        .collect();
    entries
        .chunks((MAX_LINE - FRAME) / MOST)
        .map(|part| Body::Took {
            flows: part.to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{How, Line, Stage, Stop, VERSION};

    fn seen(start: u64, errno: Option<i32>) -> Ended {
        let stop = errno.map(|errno| Stop {
            stage: Stage::Connect,
            how: How::Error { errno, icmp: None },
        });
        let passed = if stop.is_none() {
            vec![(Stage::Connect, start as u32)]
        } else {
            vec![]
        };
        Ended::Seen {
            start,
            seen: Observation {
                passed,
                stop,
                ..Observation::default()
            },
        }
    }

    fn fault(start: u64) -> Ended {
        Ended::Fault {
            start,
            reason: FaultReason::Starved,
            detail: String::new(),
        }
    }

    /// What a flow's lines say, a line each; a beat is asked for by `None`.
    fn told(log: &mut FlowLog) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            if log.owes_heartbeat() {
                lines.extend(heartbeat([&mut *log], 0).iter().map(short));
            }
            match log.release() {
                Some(Released::Line(body)) => lines.push(short(&body)),
                Some(Released::InHeartbeat) => {}
                None => return lines,
            }
        }
    }

    fn short(body: &Body) -> String {
        match body {
            Body::Sample(s) => format!("sample {} {}", s.attempt, s.seen.stop.is_none()),
            Body::Fault(f) => format!("fault {}", f.attempt.unwrap()),
            Body::Heartbeat(b) => format!("beat {:?}", b.flows),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn attempts_are_told_in_order_of_start() {
        let mut log = FlowLog::new(9);
        assert_eq!([log.begin(), log.begin(), log.begin()], [1, 2, 3]);
        log.end(3, seen(30, Some(111)));
        log.end(2, seen(20, None));
        assert_eq!(told(&mut log), [""; 0]);
        log.end(1, seen(10, None));
        assert_eq!(told(&mut log), ["sample 1 true", "sample 3 false"]);
        assert!(!log.is_busy());
        assert_eq!(
            heartbeat([&mut log], 7)
                .iter()
                .map(short)
                .collect::<Vec<_>>(),
            ["beat [(9, 3, 30)]"]
        );
        assert_eq!(
            heartbeat([&mut log], 7)
                .iter()
                .map(short)
                .collect::<Vec<_>>(),
            ["beat []"]
        );
    }

    #[test]
    fn a_fault_between_like_outcomes_makes_the_next_a_sample() {
        let mut log = FlowLog::new(9);
        for n in 1..=5 {
            assert_eq!(log.begin(), n);
        }
        log.end(1, seen(1, None));
        log.end(2, seen(2, None));
        log.end(3, fault(3));
        log.end(4, seen(4, None));
        log.end(5, seen(5, None));
        assert_eq!(
            told(&mut log),
            [
                "sample 1 true",
                "beat [(9, 2, 2)]",
                "fault 3",
                "sample 4 true"
            ]
        );
        assert_eq!(
            heartbeat([&mut log], 0)
                .iter()
                .map(short)
                .collect::<Vec<_>>(),
            ["beat [(9, 5, 5)]"]
        );
    }

    #[test]
    fn a_fault_is_never_covered_by_a_beat() {
        let mut log = FlowLog::new(9);
        log.begin();
        log.end(1, fault(1));
        assert_eq!(told(&mut log), ["fault 1"]);
        assert_eq!(
            heartbeat([&mut log], 0)
                .iter()
                .map(short)
                .collect::<Vec<_>>(),
            ["beat []"]
        );
    }

    #[test]
    fn an_opening_is_told_at_the_end_though_an_earlier_attempt_is_under_way() {
        let mut log = FlowLog::new(9);
        for n in 1..=5 {
            assert_eq!(log.begin(), n);
        }
        log.end(1, seen(1, Some(110)));
        log.end(3, seen(3, Some(110)));
        log.end(4, seen(4, None));
        assert_eq!(told(&mut log), ["sample 1 false"]);
        log.give_up();
        assert_eq!(
            told(&mut log),
            [
                "beat [(9, 1, 1)]",
                "fault 2",
                "sample 3 false",
                "sample 4 true"
            ]
        );
    }

    #[test]
    fn every_address_of_a_name_is_told_once_and_so_is_a_stage_that_takes_much_longer() {
        let mut log = FlowLog::new(9);
        let attempt = |log: &mut FlowLog, last: u8, took: u32| {
            let n = log.begin();
            let peer = Some(SocketAddr::from(([192, 0, 2, last], 443)));
            let passed = vec![(Stage::Connect, took)];
            log.end(
                n,
                Ended::Seen {
                    start: 1,
                    seen: Observation {
                        passed,
                        peer,
                        ..Observation::default()
                    },
                },
            );
            told(log).len()
        };
        assert_eq!(
            [attempt(&mut log, 1, 300), attempt(&mut log, 2, 300)],
            [1, 1]
        );
        assert_eq!(
            [attempt(&mut log, 1, 300), attempt(&mut log, 2, 90_000)],
            [0, 0]
        );
        assert_eq!(
            [attempt(&mut log, 1, 120_000), attempt(&mut log, 1, 200_000)],
            [1, 0]
        );
        assert_eq!(
            [attempt(&mut log, 2, 250_000), attempt(&mut log, 2, 300)],
            [1, 0]
        );
    }

    fn unfinished(start: u64, passed: Vec<(Stage, u32)>) -> Ended {
        let stop = Some(Stop {
            stage: Stage::Request,
            how: How::Unfinished,
        });
        Ended::Unfinished {
            start,
            seen: Observation {
                passed,
                stop,
                ..Observation::default()
            },
        }
    }

    #[test]
    fn unfinished_attempt_is_told_only_if_it_got_further() {
        let mut log = FlowLog::new(9);
        for n in 1..=4 {
            assert_eq!(log.begin(), n);
        }
        log.end(1, seen(1, Some(110)));
        log.end(2, unfinished(2, vec![]));
        log.end(3, unfinished(3, vec![(Stage::Connect, 1)]));
        log.end(4, unfinished(4, vec![]));
        assert_eq!(told(&mut log), ["sample 1 false"]);
        log.give_up();
        assert_eq!(
            told(&mut log),
            ["beat [(9, 1, 1)]", "fault 2", "sample 3 false"]
        );
    }

    #[test]
    fn nothing_is_given_up_for_more_of_the_same() {
        let mut log = FlowLog::new(9);
        for n in 1..=3 {
            assert_eq!(log.begin(), n);
        }
        log.end(1, seen(1, Some(110)));
        log.end(3, seen(3, Some(111)));
        log.give_up();
        assert_eq!(told(&mut log), ["sample 1 false"]);
    }

    #[test]
    fn openings_tell_how_long_the_last_of_them_took() {
        let mut log = FlowLog::new(9);
        assert_eq!(took([&log]), []);
        let mut attempt = |us: u32, stop: Option<Stop>| {
            let n = log.begin();
            let passed = vec![(Stage::Connect, us), (Stage::FirstBytes, 1)];
            log.end(
                n,
                Ended::Seen {
                    start: 1,
                    seen: Observation {
                        passed,
                        stop,
                        ..Observation::default()
                    },
                },
            );
            told(&mut log);
        };
        attempt(
            7,
            Some(Stop {
                stage: Stage::Request,
                how: How::Silence,
            }),
        );
        (0..40).for_each(|n| attempt(100 + n, None));
        let [Body::Took { flows }] = &took([&log])[..] else {
            panic!("one part")
        };
        assert_eq!(flows[..], [(9, (109..141).collect::<Vec<u32>>())]);
        let longest = (0..500).map(|flow| FlowLog {
            took: std::iter::repeat_n(u32::MAX, MAX_TOOK).collect(),
            ..FlowLog::new(u32::MAX - flow)
        });
        let longest: Vec<FlowLog> = longest.collect();
        for body in took(&longest) {
            let line = Line {
                v: VERSION,
                seq: u64::MAX,
                t: u64::MAX,
                body,
            };
            assert!(serde_json::to_string(&line).unwrap().len() < MAX_LINE);
        }
    }

    #[test]
    fn parts_of_a_beat_fit_a_line() {
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
            let line = Line {
                v: VERSION,
                seq: u64::MAX,
                t: u64::MAX,
                body: body.clone(),
            };
            assert!(serde_json::to_string(&line).unwrap().len() < MAX_LINE);
            let Body::Heartbeat(part) = body else {
                unreachable!()
            };
            assert_eq!(part.more, n + 1 < parts.len());
            flows += part.flows.len();
        }
        assert_eq!(flows, 2_000);
    }
}
