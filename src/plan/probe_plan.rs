//! The plan of one probe, in the probe's protocol.

use super::check_settings::MIN_DEADLINE;
use super::composite;
use super::rates::{INTERVAL, accepted, rate_of};
use super::{Check, CheckSettings, Flow, FlowId, Path, Plan, ProbeId, Rate, Source};
use crate::suite::Expected;
use crate::wire::{self, Deadlines, IdleTimeout, Pace, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// What a run adds to a plan.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The run's id.
    pub run: String,
    /// Seed of all nonces.
    pub seed: u64,
    /// Certificates to trust, PEM.
    pub trust: Vec<String>,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
}

/// How long a name may take to resolve.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a TLS handshake may take.
pub const TLS_DEADLINE: Duration = Duration::from_secs(5);

/// How long first bytes, or a whole request, may take.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long the acknowledgement of a kept connection may take: two keep-alives, which are a second
/// apart, and their way.
const KEPT_OPEN_DEADLINE: Duration = Duration::from_millis(2_500);

/// Controls start this much before the flows that they are controls of, so that they get through
/// before those are blocked.
const HEAD_START_MS: u32 = 200;

/// Starts of one probe's flows are spread over this time, so that they do not start in the
/// same millisecond.
const SPREAD_MS: u32 = 100;

/// Time from the first burst to the second, which begins the hold where there is no settle.
const SECOND_BURST_MS: u32 = 1_000;

/// Time between two attempts of a sweep: 200 a second.
const SWEEP_STEP_MS: u32 = 5;

/// What is tried only once waits so long after the start of a new pod, the default grace: before,
/// the pod's labels may not be known everywhere, and a success may be a start-up leak.
const ONCE_AFTER_GRACE_MS: u32 = 10_000;

/// A request that may be sent only once is sent so long after the first attempts of the others.
const ONCE_AFTER_MS: u32 = 1_500;

/// A probe in an ephemeral container cannot be stopped from outside, so it ends by itself when its
/// node's probe, which tries its control port all the time, has been silent for so long: several
/// times the longest interval at which controls are tried.
const IDLE_MS: u32 = 15_000;

/// How much longer than a run takes such a probe waits for the first attempt on its control port.
const LATE: Duration = Duration::from_secs(30);

/// A probe with more flows than this sends heartbeats less often, to keep within what it may write.
const MANY_FLOWS: usize = 500;

/// See [`MANY_FLOWS`].
const LONG_HEARTBEAT_MS: u32 = 1_000;

/// How often a run may sample: once, and three times more when sampling restarts.
pub const RUNS: u32 = 4;

/// Added to the time of all runs; the probe then ends by itself.
const SPARE: Duration = Duration::from_secs(120);

/// Makes the wire plans of some probes, in the order of [`super::ProbeId`].
pub fn probe_plans(plan: &Plan, schedule: &Schedule, probes: Range<usize>) -> Vec<wire::Plan> {
    let mut pacing = Pacing::of(plan);
    let first = probes.start;
    let mut plans: Vec<wire::Plan> = probes
        .filter(|probe| *probe < plan.probes().len())
        .map(|probe| empty_plan(plan, schedule, ProbeId(probe as u32)))
        .collect();

    for (index, flow) in plan.flows().iter().enumerate() {
        let probe_plan = (flow.probe.0 as usize)
            .checked_sub(first)
            .and_then(|nth| plans.get_mut(nth));
        if let Some(probe_plan) = probe_plan {
            let flow = pacing.wire_flow(FlowId(index as u32), flow, probe_plan.flows.len());
            probe_plan.flows.push(flow);
        }
    }

    for plan in &mut plans {
        // Heartbeats show when a control got through, and successes may not be two seconds apart:
        // so a heartbeat is never longer than this.
        if plan.flows.len() > MANY_FLOWS {
            plan.heartbeat_ms = plan.heartbeat_ms.max(LONG_HEARTBEAT_MS);
        }
    }
    plans
}

/// The wire plan of a probe, without flows.
fn empty_plan(plan: &Plan, schedule: &Schedule, probe: ProbeId) -> wire::Plan {
    let listens = match plan.source(probe) {
        Source::Pod { .. } | Source::ReferencePod { .. } => true,
        Source::Node { .. } | Source::Runner => false,
    };
    let is_ephemeral = plan.ephemeral_probes().contains(&probe);
    let ttl = longest(plan) * RUNS + SPARE;

    wire::Plan {
        v: wire::VERSION,
        run: schedule.run.clone(),
        seed: schedule.seed,
        ttl_ms: ttl.as_millis() as u64,
        heartbeat_ms: schedule.heartbeat.as_millis() as u32,
        trust: schedule.trust.clone(),
        resolver: plan.resolvers()[probe.0 as usize].clone(),
        listen: plan.control_port().filter(|_| listens),
        idle_timeout: is_ephemeral.then(|| IdleTimeout {
            first_ms: millis(longest(plan) + LATE),
            next_ms: IDLE_MS,
        }),
        flows: Vec::new(),
    }
}

/// When each flow of a plan is tried.
struct Pacing<'p> {
    plan: &'p Plan,
    usages: BTreeMap<FlowId, Usage>,
    /// Milliseconds between two attempts of a composite's flows through its Service.
    composite_intervals: BTreeMap<FlowId, u32>,
    /// The flows that are controls of denied flows.
    controls: BTreeSet<FlowId>,
    /// Attempts of each probe that are made only once, so far.
    swept: Vec<u32>,
}

impl<'p> Pacing<'p> {
    fn of(plan: &'p Plan) -> Self {
        let mut composite_intervals = BTreeMap::new();
        for composite in plan.composites().values() {
            let interval = millis(composite::interval(composite.through.len()));
            for flow in &composite.through {
                composite_intervals.insert(*flow, interval);
            }
        }
        Self {
            plan,
            usages: usages(plan),
            composite_intervals,
            controls: controls_of_denied_flows(plan),
            swept: vec![0; plan.probes().len()],
        }
    }

    /// A flow as its probe gets it; `nth` counts the flows of the probe before it.
    fn wire_flow(&mut self, id: FlowId, flow: &Flow, nth: usize) -> wire::Flow {
        let usage = self.usages.get(&id).copied().unwrap_or(Usage::CONTROL);
        let target = match &flow.to.name {
            Some(name) => Target::Name {
                name: name.clone(),
                v6: flow.to.address.is_ipv6(),
            },
            None => Target::Address(flow.to.address),
        };

        wire::Flow {
            id: id.0,
            target,
            port: flow.to.port,
            transport: flow.to.transport,
            request: flow.to.request.clone(),
            deadlines: Deadlines {
                resolve_ms: millis(RESOLVE_DEADLINE),
                connect_ms: if flow.to.request.is_kept_open() {
                    usage.deadline_ms.max(millis(KEPT_OPEN_DEADLINE))
                } else {
                    usage.deadline_ms.max(millis(flow.waits.connect))
                },
                tls_ms: millis(TLS_DEADLINE.max(flow.waits.tls)).max(usage.deadline_ms),
                request_ms: millis(REQUEST_DEADLINE.max(flow.waits.request)),
            },
            pace: self.pace(id, flow, usage, nth as u32),
            small_segments: usage.denied,
        }
    }

    fn pace(&mut self, id: FlowId, flow: &Flow, usage: Usage, nth: u32) -> Pace {
        if flow.to.once {
            return once_at(usage.start_ms + self.delay_of_single_attempt(flow, usage));
        }

        // A control goes on until the last check that needs it is judged.
        let is_capped = usage.checked && !self.controls.contains(&id);
        let accepted = accepted(self.plan, flow, is_capped);
        if let Some(interval_ms) = self.composite_intervals.get(&id) {
            return single_attempts(usage.start_ms, *interval_ms, accepted);
        }
        let rate = rate_of(self.plan, flow, usage.checked);
        let interval_ms = millis(rate.interval);
        if rate.is_stretched {
            // Golden-section steps spread any number of starts evenly over the interval.
            let spread = (f64::from(nth) * 0.618_034).fract() * f64::from(interval_ms);
            return single_attempts(usage.start_ms + spread as u32, interval_ms, accepted);
        }

        let start = usage.start_ms + (nth * 7) % SPREAD_MS;
        Pace {
            bursts_ms: vec![start, start + usage.settle_ms + SECOND_BURST_MS],
            interval_ms,
            attempts: None,
            single: false,
            accepted,
        }
    }

    /// How long after its start a flow is tried that is tried only once.
    fn delay_of_single_attempt(&mut self, flow: &Flow, usage: Usage) -> u32 {
        let policy_delay = if self.plan.created_probes().contains(&flow.probe) {
            ONCE_AFTER_GRACE_MS
        } else {
            0
        };
        if usage.checked {
            // In the middle of what the controls and the source's own flows show.
            return policy_delay.max(usage.settle_ms + ONCE_AFTER_MS);
        }

        let swept = &mut self.swept[flow.probe.0 as usize];
        *swept += 1;
        policy_delay + *swept * SWEEP_STEP_MS
    }
}

/// The flows that may be controls of denied flows.
fn controls_of_denied_flows(plan: &Plan) -> BTreeSet<FlowId> {
    let denied = plan
        .checks()
        .iter()
        .filter(|check| check.expected == Expected::Denied)
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow));
    let mut targets = BTreeSet::new();
    let mut sources = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for flow in denied {
        targets.insert(&*flow.to);
        sources.insert((flow.probe, flow.family(), flow.to.transport));
        let from = plan.source(flow.probe).node();
        paths.extend(flow.target_kind.path_ends(flow).into_iter().map(|to| Path {
            from: from.map(str::to_owned),
            to,
            family: flow.family(),
        }));
    }

    let of_targets = targets
        .into_iter()
        .filter_map(|target| plan.target_controls().get(target))
        .flatten();
    let of_sources = sources
        .iter()
        .filter_map(|source| plan.source_controls().get(source))
        .flat_map(|controls| &controls.allowed);
    let of_paths = paths
        .iter()
        .filter_map(|path| plan.path_controls().get(path))
        .flatten();
    of_targets
        .chain(of_sources)
        .chain(of_paths)
        .copied()
        .collect()
}

/// A single attempt.
fn once_at(start_ms: u32) -> Pace {
    Pace {
        attempts: Some(1),
        ..single_attempts(start_ms, 0, None)
    }
}

/// Attempts without bursts.
fn single_attempts(start_ms: u32, interval_ms: u32, accepted: Option<u32>) -> Pace {
    Pace {
        bursts_ms: vec![start_ms],
        interval_ms,
        attempts: None,
        single: true,
        accepted,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// How one flow is used by the checks.
#[derive(Debug, Clone, Copy)]
struct Usage {
    start_ms: u32,
    settle_ms: u32,
    deadline_ms: u32,
    /// Whether it belongs to a check; else planning added it as a control.
    checked: bool,
    /// Whether a check expects it to be denied, and none to be allowed.
    denied: bool,
}

impl Usage {
    const CONTROL: Self = Self {
        start_ms: 0,
        settle_ms: 0,
        checked: false,
        denied: false,
        deadline_ms: MIN_DEADLINE.as_millis() as u32,
    };

    fn of(expected: Expected, settings: &CheckSettings) -> Self {
        let deadline_ms = settings.attempt_timeout.as_millis() as u32;
        match expected {
            Expected::Allowed => Self {
                deadline_ms,
                checked: true,
                ..Self::CONTROL
            },
            Expected::Denied => Self {
                start_ms: HEAD_START_MS,
                settle_ms: settings.settle.as_millis() as u32,
                deadline_ms,
                checked: true,
                denied: true,
            },
        }
    }
}

fn usages(plan: &Plan) -> BTreeMap<FlowId, Usage> {
    let mut usages: BTreeMap<FlowId, Usage> = BTreeMap::new();
    for check in plan.checks() {
        let usage = Usage::of(check.expected, &check.settings);
        for flow in &check.flows {
            let known = usages.entry(*flow).or_insert(usage);
            known.deadline_ms = known.deadline_ms.max(usage.deadline_ms);
            known.settle_ms = known.settle_ms.max(usage.settle_ms);
            known.start_ms = known.start_ms.max(usage.start_ms);
            known.denied &= usage.denied;
        }
    }
    usages
}

/// The shortest time that a run takes once its probes say hello: settle, hold, deadline and one
/// interval. Where caps stretch the interval, the hold is as long as the attempts take.
pub fn floor(plan: &Plan) -> Duration {
    plan.checks()
        .iter()
        .map(|check| floor_of(plan, check))
        .max()
        .unwrap_or_default()
}

fn floor_of(plan: &Plan, check: &Check) -> Duration {
    let settings = &check.settings;
    let rate = slowest(plan, check);

    let repeated = settings.settle
        + rate.time_for(settings.attempts, settings.hold)
        + settings.attempt_timeout.max(longest_wait(plan, check))
        + INTERVAL;
    repeated.max(time_of_single_attempt(plan, check))
}

/// The time until a check's request that is sent only once is over; zero where there is none.
fn time_of_single_attempt(plan: &Plan, check: &Check) -> Duration {
    let mut once = check
        .flows
        .iter()
        .map(|id| plan.flow(*id))
        .filter(|flow| flow.to.once);
    let waits_for_grace = once.any(|flow| plan.created_probes().contains(&flow.probe));
    if waits_for_grace {
        Duration::from_millis(ONCE_AFTER_GRACE_MS.into()) + check.settings.attempt_timeout
    } else {
        Duration::ZERO
    }
}

/// The longest deadline of a check that was raised because a control took long.
fn longest_wait(plan: &Plan, check: &Check) -> Duration {
    check
        .flows
        .iter()
        .map(|flow| plan.flow(*flow).waits.longest())
        .max()
        .unwrap_or_default()
}

/// The time after which waiting longer decides nothing: with room for two attempts in the place of
/// faults.
pub fn longest(plan: &Plan) -> Duration {
    let timeout = plan.checks().iter().map(|check| {
        let settings = &check.settings;
        let cut_by = if settings.established {
            // From the change on; the run takes as long again once it is noticed.
            settings.grace + 2 * KEPT_OPEN_DEADLINE
        } else {
            Duration::ZERO
        };
        settings.settle + settings.timeout + settings.attempt_timeout + cut_by
    });
    let interval = plan
        .checks()
        .iter()
        .map(|check| slowest(plan, check).interval)
        .max()
        .unwrap_or_default();
    timeout
        .max()
        .unwrap_or_default()
        .max(floor(plan) + 2 * interval)
}

/// The rate of the slowest probe of a check.
fn slowest(plan: &Plan, check: &Check) -> Rate {
    let rates = check
        .flows
        .iter()
        .map(|flow| rate_of(plan, plan.flow(*flow), true));
    rates
        .max_by_key(|rate| rate.interval)
        .unwrap_or(Rate::UNSTRETCHED)
}
