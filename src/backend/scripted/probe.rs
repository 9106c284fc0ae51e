//! One probe's lines, in its own time. Pure: it is told what time it is.

use super::Moment;
use super::flow::{Attempt, attempts};
use super::pattern::Names;
use super::script::{ProbeScript, Script};
use super::seen::Ends;
use crate::backend::Launch;
use crate::wire::{self, Body, Fault, FaultReason, Heartbeat, Hello, Line, Sample, Target};
use std::collections::VecDeque;
use std::time::Duration;

/// The runner's clocks when the run started.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    pub(super) boot: String,
    pub(super) boottime_us: u64,
    pub(super) wall_us: u64,
}

/// The uptime of a machine that is not the runner's, when the run started.
const OTHER_BOOTTIME_US: u64 = 77_000_000;

/// A flow on its way through its attempts.
#[derive(Debug)]
struct Playing {
    id: u32,
    to_come: VecDeque<Attempt>,
    /// Attempts that the next beat tells of: how many so far, and the start of the last.
    in_heartbeat: Option<(u32, u64)>,
}

/// A probe.
#[derive(Debug)]
pub(super) struct Probe {
    script: ProbeScript,
    hello: Option<Hello>,
    heartbeat_us: u64,
    next_heartbeat: u64,
    flows: Vec<Playing>,
    seq: u64,
    version: u32,
    ended: bool,
    end: String,
}

impl Probe {
    /// A probe that is launched `now`.
    pub(super) fn new(
        launch: &Launch,
        now: Moment,
        script: &Script,
        names: &Names,
        clocks: &Clocks,
    ) -> Self {
        let from = launch.source.to_string();
        let mut own = script
            .probes
            .iter()
            .find(|probe| probe.from.matches(&from))
            .cloned()
            .unwrap_or_default();
        own.starts = own.starts.max(now);
        let hello_us = own.starts.as_micros() as u64;
        let ahead = own.ahead_ms * 1_000;
        let digest = watertight_probe::plan_digest(&launch.plan);
        let boottime = if own.boot.is_some() {
            OTHER_BOOTTIME_US
        } else {
            clocks.boottime_us
        };
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            run: launch.plan.run.clone(),
            digest: if own.wrong_plan {
                "00".repeat(32)
            } else {
                digest
            },
            addresses: Vec::new(),
            boot: own.boot.clone().unwrap_or_else(|| clocks.boot.clone()),
            boottime_us: boottime + hello_us,
            wall_us: (clocks.wall_us + hello_us).saturating_add_signed(ahead),
        };
        let run_time = |us: u64| own.run_time(us);
        let flows = launch.plan.flows.iter().map(|flow| {
            let name = names.target(flow);
            let family = match &flow.target {
                Target::Address(address) if address.is_ipv4() => 4,
                Target::Name { v6: false, .. } => 4,
                Target::Address(_) | Target::Name { .. } => 6,
            };
            let who = name.rsplit_once(':').map_or(name.as_str(), |(who, _)| who);
            let attempts = attempts(
                flow,
                &script.flows,
                |line| {
                    line.from.matches(&from)
                        && line.to.matches(&name)
                        && line.family.is_none_or(|wanted| wanted == family)
                },
                who,
                run_time,
                |at| own.stands_still(at),
            );
            Playing {
                id: flow.id,
                to_come: attempts.into(),
                in_heartbeat: None,
            }
        });
        let flows = flows.collect();
        let heartbeat_us = u64::from(launch.plan.heartbeat_ms) * 1_000;
        Self {
            version: own.version.unwrap_or(wire::VERSION),
            script: own,
            hello: Some(hello),
            heartbeat_us,
            next_heartbeat: heartbeat_us,
            flows,
            seq: 0,
            ended: false,
            end: "exit status: 0".into(),
        }
    }

    /// Why it never starts, if it does not.
    pub(super) fn never_starts(&self) -> Option<String> {
        self.script.never_starts.clone()
    }

    /// How late its lines arrive.
    pub(super) fn delay(&self) -> Duration {
        self.script.delay
    }

    /// How it ended.
    pub(super) fn end(&self) -> &str {
        &self.end
    }

    /// The moment of the run at which it has something to say next; `None` once it has ended.
    pub(super) fn next(&self) -> Option<Moment> {
        if self.ended {
            return None;
        }
        if self.hello.is_some() {
            return Some(self.script.starts);
        }
        let told = self
            .flows
            .iter()
            .filter_map(|flow| Some(flow.to_come.front()?.told));
        let own = told
            .chain([self.next_heartbeat])
            .min()
            .unwrap_or(self.next_heartbeat);
        let mut at = self.script.run_time(own);
        // What stands still says nothing before it moves again.
        if let Some(stall) = self
            .script
            .stalls
            .filter(|stall| stall.from <= at && at < stall.to)
        {
            at = stall.to;
        }
        let ends = [&self.script.dies, &self.script.reports]
            .into_iter()
            .flatten()
            .map(|ending| ending.at);
        ends.chain([at]).min()
    }

    /// Everything that it says up to a moment of the run.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Line> {
        let mut bodies = Vec::new();
        let own = self.script.own_time(now);
        if let Some(hello) = self.hello.take() {
            bodies.push(Body::Hello(hello));
            return self.lines(bodies, own);
        }
        if let Some(dies) = self.script.dies.as_ref().filter(|dies| dies.at <= now) {
            self.ended = true;
            self.end.clone_from(&dies.because);
            return Vec::new();
        }
        if let Some(reports) = self
            .script
            .reports
            .as_ref()
            .filter(|reports| reports.at <= now)
        {
            self.ended = true;
            let (start, detail) = (own, reports.because.clone());
            bodies.push(Body::Fault(Fault {
                flow: None,
                attempt: None,
                start,
                reason: FaultReason::Resources,
                detail,
            }));
            bodies.push(Body::Bye {
                reason: "fault".into(),
            });
            return self.lines(bodies, own);
        }
        for flow in &mut self.flows {
            flow.tell(own, &mut bodies);
        }
        if own >= self.next_heartbeat {
            let late = own - self.next_heartbeat;
            bodies.push(self.heartbeat(late));
            self.next_heartbeat = own - own % self.heartbeat_us + self.heartbeat_us;
        }
        self.lines(bodies, own)
    }

    /// What it says when it is told to stop.
    pub(super) fn stop(&mut self, now: Moment) -> Vec<Line> {
        let own = self.script.own_time(now);
        let mut bodies: Vec<Body> = self.hello.take().map(Body::Hello).into_iter().collect();
        for flow in &mut self.flows {
            flow.tell(own, &mut bodies);
        }
        bodies.push(self.heartbeat(0));
        bodies.push(Body::Bye {
            reason: "term".into(),
        });
        self.ended = true;
        self.lines(bodies, own)
    }

    fn heartbeat(&mut self, lag_us: u64) -> Body {
        let entries = self.flows.iter_mut().filter_map(|flow| {
            let (attempts, last) = flow.in_heartbeat.take()?;
            Some((flow.id, attempts, last))
        });
        Body::Heartbeat(Heartbeat {
            flows: entries.collect(),
            lag_us,
            more: false,
        })
    }

    /// Numbers what is said, and loses what the script loses.
    fn lines(&mut self, bodies: Vec<Body>, own: u64) -> Vec<Line> {
        let (version, first) = (self.version, self.seq);
        self.seq += bodies.len() as u64;
        let numbered = bodies.into_iter().zip(first..);
        numbered
            .filter(|(_, seq)| !self.script.loses.contains(seq))
            .map(|(body, seq)| Line {
                v: version,
                seq,
                t: own,
                body,
            })
            .collect()
    }
}

impl Playing {
    /// Tells what has ended by now: by a line if it is not as before, else by the next beat.
    fn tell(&mut self, own: u64, bodies: &mut Vec<Body>) {
        while self
            .to_come
            .front()
            .is_some_and(|attempt| attempt.told <= own)
        {
            let Some(Attempt {
                number,
                start,
                ends,
                as_before,
                ..
            }) = self.to_come.pop_front()
            else {
                return;
            };
            match ends {
                Ends::Seen(_) if as_before => self.in_heartbeat = Some((number, start)),
                Ends::Seen(seen) => {
                    // A sample says itself what all attempts before it were.
                    self.in_heartbeat = None;
                    bodies.push(Body::Sample(Sample {
                        flow: self.id,
                        attempt: number,
                        start,
                        seen,
                    }));
                }
                Ends::Fault(reason) => {
                    if let Some((attempts, last)) = self.in_heartbeat.take() {
                        bodies.push(Body::Heartbeat(Heartbeat {
                            flows: vec![(self.id, attempts, last)],
                            lag_us: 0,
                            more: false,
                        }));
                    }
                    let detail = "the script says so".into();
                    bodies.push(Body::Fault(Fault {
                        flow: Some(self.id),
                        attempt: Some(number),
                        start,
                        reason,
                        detail,
                    }));
                }
            }
        }
    }
}

impl ProbeScript {
    fn rate(&self) -> f64 {
        self.rate.unwrap_or(1.0)
    }

    /// The moment of the run at which its own clock shows so many microseconds since hello.
    fn run_time(&self, own: u64) -> Moment {
        self.starts + Duration::from_micros((own as f64 / self.rate()).round() as u64)
    }

    /// What its own clock shows at a moment of the run, microseconds since hello.
    fn own_time(&self, now: Moment) -> u64 {
        (now.saturating_sub(self.starts).as_micros() as f64 * self.rate()).round() as u64
    }

    fn stands_still(&self, at: Moment) -> bool {
        self.stalls
            .is_some_and(|stall| stall.from <= at && at < stall.to)
    }
}
