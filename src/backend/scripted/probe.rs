//! The lines of one probe, in the probe's time. Pure: the caller passes the current time.

use super::Moment;
use super::flow::{Attempt, attempts};
use super::outcome::AttemptResult;
use super::pattern::Names;
use super::script::{ProbeScript, Script};
use crate::backend::Launch;
use crate::wire::{
    self, Body, ByeReason, Fault, FaultReason, Flow, Heartbeat, Hello, Line, Sample, Target,
};
use std::collections::VecDeque;
use std::time::Duration;

/// The runner's clocks at the start of the run.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    pub(super) boot: String,
    pub(super) boottime_us: u64,
    pub(super) wall_us: u64,
}

/// Uptime of another machine than the runner's at the start of the run, microseconds.
const OTHER_BOOTTIME_US: u64 = 77_000_000;

/// A flow and its attempts that are not reported yet.
#[derive(Debug)]
struct FlowState {
    id: u32,
    attempts: VecDeque<Attempt>,
    /// Entry in the next heartbeat: number and start of the last attempt that it reports.
    in_heartbeat: Option<(u32, u64)>,
}

/// A probe.
#[derive(Debug)]
pub(super) struct Probe {
    script: ProbeScript,
    /// The hello, until it is sent.
    hello: Option<Hello>,
    heartbeat_us: u64,
    next_heartbeat: u64,
    flows: Vec<FlowState>,
    seq: u64,
    version: u32,
    ended: bool,
    exit_status: String,
}

impl Probe {
    /// A probe that is launched at `now`.
    pub(super) fn new(
        launch: &Launch,
        now: Moment,
        script: &Script,
        names: &Names,
        clocks: &Clocks,
    ) -> Self {
        let source = launch.source.to_string();
        let mut probe_script = script
            .probes
            .iter()
            .find(|probe| probe.from.matches(&source))
            .cloned()
            .unwrap_or_default();
        probe_script.starts_at = probe_script.starts_at.max(now);

        let hello = hello(launch, &probe_script, clocks);
        let flows = launch
            .plan
            .flows
            .iter()
            .map(|flow| FlowState::new(flow, &source, script, &probe_script, names))
            .collect();
        let heartbeat_us = u64::from(launch.plan.heartbeat_ms) * 1_000;
        Self {
            version: probe_script.protocol_version.unwrap_or(wire::VERSION),
            script: probe_script,
            hello: Some(hello),
            heartbeat_us,
            next_heartbeat: heartbeat_us,
            flows,
            seq: 0,
            ended: false,
            exit_status: "exit status: 0".into(),
        }
    }

    /// Why the probe fails to start, if it does.
    pub(super) fn start_error(&self) -> Option<String> {
        self.script.fails_to_start.clone()
    }

    /// Delay with which its lines arrive.
    pub(super) fn line_delay(&self) -> Duration {
        self.script.line_delay
    }

    /// How it ended.
    pub(super) fn exit_status(&self) -> &str {
        &self.exit_status
    }

    /// Moment of the run at which it next sends a line; `None` once it has ended.
    pub(super) fn next(&self) -> Option<Moment> {
        if self.ended {
            return None;
        }
        if self.hello.is_some() {
            return Some(self.script.starts_at);
        }

        let reports = self
            .flows
            .iter()
            .filter_map(|flow| Some(flow.attempts.front()?.reported));
        let probe_time = reports
            .chain([self.next_heartbeat])
            .min()
            .unwrap_or(self.next_heartbeat);
        let mut at = self.script.run_time(probe_time);
        // A stalled probe sends nothing before the end of the stall.
        if let Some(stall) = self.script.stalls.filter(|stall| stall.contains(at)) {
            at = stall.to;
        }

        let endings = [&self.script.exits, &self.script.reports_fault]
            .into_iter()
            .flatten()
            .map(|ending| ending.at);
        endings.chain([at]).min()
    }

    /// All lines that it sends up to a moment of the run.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Line> {
        let probe_time = self.script.probe_time(now);
        if let Some(hello) = self.hello.take() {
            return self.lines(vec![Body::Hello(hello)], probe_time);
        }
        if let Some(exit) = self.script.exits.as_ref().filter(|exit| exit.at <= now) {
            self.ended = true;
            self.exit_status.clone_from(&exit.because);
            return Vec::new();
        }
        if let Some(fault) = self
            .script
            .reports_fault
            .as_ref()
            .filter(|fault| fault.at <= now)
        {
            self.ended = true;
            let fault = Body::Fault(Fault {
                flow: None,
                attempt: None,
                start: probe_time,
                reason: FaultReason::Resources,
                detail: fault.because.clone(),
            });
            let bye = Body::Bye {
                reason: ByeReason::Fault,
            };
            return self.lines(vec![fault, bye], probe_time);
        }

        let mut bodies = Vec::new();
        for flow in &mut self.flows {
            flow.report(probe_time, &mut bodies);
        }
        if probe_time >= self.next_heartbeat {
            let lag = probe_time - self.next_heartbeat;
            bodies.push(self.heartbeat(lag));
            self.next_heartbeat = probe_time - probe_time % self.heartbeat_us + self.heartbeat_us;
        }
        self.lines(bodies, probe_time)
    }

    /// The lines that it sends when it is stopped.
    pub(super) fn stop(&mut self, now: Moment) -> Vec<Line> {
        let probe_time = self.script.probe_time(now);
        let mut bodies: Vec<Body> = self.hello.take().map(Body::Hello).into_iter().collect();
        for flow in &mut self.flows {
            flow.report(probe_time, &mut bodies);
        }
        bodies.push(self.heartbeat(0));
        bodies.push(Body::Bye {
            reason: ByeReason::Signal,
        });
        self.ended = true;
        self.lines(bodies, probe_time)
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

    /// Numbers the lines, without those that the script loses.
    fn lines(&mut self, bodies: Vec<Body>, probe_time: u64) -> Vec<Line> {
        let (version, first) = (self.version, self.seq);
        self.seq += bodies.len() as u64;
        let numbered = bodies.into_iter().zip(first..);
        numbered
            .filter(|(_, seq)| !self.script.lost_lines.contains(seq))
            .map(|(body, seq)| Line {
                v: version,
                seq,
                t: probe_time,
                body,
            })
            .collect()
    }
}

/// The hello of a probe.
fn hello(launch: &Launch, script: &ProbeScript, clocks: &Clocks) -> Hello {
    let hello_us = script.starts_at.as_micros() as u64;
    let boottime_us = if script.boot.is_some() {
        OTHER_BOOTTIME_US
    } else {
        clocks.boottime_us
    };
    Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        run: launch.plan.run.clone(),
        digest: if script.wrong_plan {
            "00".repeat(32)
        } else {
            watertight_probe::plan_digest(&launch.plan)
        },
        addresses: Vec::new(),
        boot: script.boot.clone().unwrap_or_else(|| clocks.boot.clone()),
        boottime_us: boottime_us + hello_us,
        wall_us: (clocks.wall_us + hello_us)
            .saturating_add_signed(script.wall_clock_offset_ms * 1_000),
    }
}

impl FlowState {
    /// A flow with all its attempts to come.
    fn new(flow: &Flow, source: &str, script: &Script, probe: &ProbeScript, names: &Names) -> Self {
        let target = names.target(flow);
        let family = family(flow);
        let flow_script = script.flows.iter().find(|script| {
            script.from.matches(source)
                && script.to.matches(&target)
                && script.family.is_none_or(|wanted| wanted == family)
        });
        let target_name = target
            .rsplit_once(':')
            .map_or(target.as_str(), |(name, _)| name);
        Self {
            id: flow.id,
            attempts: attempts(flow, flow_script, probe, target_name).into(),
            in_heartbeat: None,
        }
    }

    /// Removes the next attempt if it is to be reported by `now`.
    fn pop_reported(&mut self, now: u64) -> Option<Attempt> {
        if self.attempts.front()?.reported > now {
            return None;
        }
        self.attempts.pop_front()
    }

    /// Reports the attempts that have ended by `now`: unchanged ones by the next heartbeat, others
    /// by a line.
    fn report(&mut self, now: u64, bodies: &mut Vec<Body>) {
        while let Some(Attempt {
            number,
            start,
            result,
            unchanged,
            ..
        }) = self.pop_reported(now)
        {
            match result {
                AttemptResult::Observed(_) if unchanged => {
                    self.in_heartbeat = Some((number, start));
                }
                AttemptResult::Observed(observation) => {
                    // A sample also reports all attempts before it.
                    self.in_heartbeat = None;
                    bodies.push(Body::Sample(Sample {
                        flow: self.id,
                        attempt: number,
                        start,
                        observation,
                    }));
                }
                AttemptResult::Fault(reason) => {
                    if let Some((attempts, last)) = self.in_heartbeat.take() {
                        bodies.push(Body::Heartbeat(Heartbeat {
                            flows: vec![(self.id, attempts, last)],
                            lag_us: 0,
                            more: false,
                        }));
                    }
                    bodies.push(Body::Fault(Fault {
                        flow: Some(self.id),
                        attempt: Some(number),
                        start,
                        reason,
                        detail: "the script says so".into(),
                    }));
                }
            }
        }
    }
}

/// Address family of a flow: 4 or 6.
fn family(flow: &Flow) -> u8 {
    match &flow.target {
        Target::Address(address) if address.is_ipv4() => 4,
        Target::Name { v6: false, .. } => 4,
        Target::Address(_) | Target::Name { .. } => 6,
    }
}

impl ProbeScript {
    fn rate(&self) -> f64 {
        self.clock_rate.unwrap_or(1.0)
    }

    /// Moment of the run at which the probe's clock shows so many microseconds since hello.
    pub(super) fn run_time(&self, probe_time: u64) -> Moment {
        let us = (probe_time as f64 / self.rate()).round() as u64;
        self.starts_at + Duration::from_micros(us)
    }

    /// Microseconds since hello that the probe's clock shows at a moment of the run.
    fn probe_time(&self, now: Moment) -> u64 {
        let us = now.saturating_sub(self.starts_at).as_micros();
        (us as f64 * self.rate()).round() as u64
    }

    /// Whether the probe is stalled at a moment of the run.
    pub(super) fn is_stalled(&self, at: Moment) -> bool {
        self.stalls.is_some_and(|stall| stall.contains(at))
    }
}
