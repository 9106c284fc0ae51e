//! The plan of one probe, as the wire carries it.

use super::check_settings::MIN_DEADLINE;
use super::composite;
use super::rates::{INTERVAL, accepted, rate_of};
use super::{Check, CheckSettings, FlowId, Plan, ProbeId, Rate, Source};
use crate::suite::Expected;
use crate::wire::{self, Deadlines, IdleTimeout, Pace, Target};
use std::collections::BTreeMap;
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
    /// How often a probe gives life signs.
    pub heartbeat: Duration,
}

/// How long a name may take to resolve.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a TLS handshake may take.
pub const TLS_DEADLINE: Duration = Duration::from_secs(5);

/// How long first bytes, or a whole request, may take.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Controls start this much before the flows that they vouch for, so that they open before these
/// are blocked.
const HEAD_START_MS: u32 = 200;

/// Starts of one probe's flows are spread over this time, so that they do not meet in one
/// millisecond.
const SPREAD_MS: u32 = 100;

/// After the opening burst the second burst comes so much later; it opens the hold where there is
/// no settle.
const SECOND_BURST_MS: u32 = 1_000;

/// Attempts that are made only once are spread, so that a sweep is no burst: 200 a second.
const SWEEP_STEP_MS: u32 = 5;

/// A new pod's labels may not be known everywhere at once, and what is tried once would meet no
/// policy: so long openings may be those of a start.
const SWEEP_AFTER_MS: u32 = 10_000;

/// A request that may be sent only once is sent so long after the others began.
const ONCE_AFTER_MS: u32 = 1_500;

/// A probe within somebody else's pod cannot be stopped, so it ends by itself when its node's
/// probe, which tries it all the time, is gone for so long: several times the longest interval at
/// which controls are tried.
const ALONE_MS: u32 = 15_000;

/// That one may come so much later than the time that a run takes, or never.
const LATE: Duration = Duration::from_secs(30);

/// A probe with more flows than this gives life signs less often, to keep within what it may write.
const MANY_FLOWS: usize = 500;

/// See [`MANY_FLOWS`].
const LONG_HEARTBEAT_MS: u32 = 1_000;

/// A run may have to begin anew three times.
pub const RUNS: u32 = 4;

/// Longer than any run may take; the probe then ends by itself.
const SPARE: Duration = Duration::from_secs(120);

/// Makes the plans of some probes, in the order of [`super::ProbeId`].
pub fn probe_plans(plan: &Plan, schedule: &Schedule, probes: Range<usize>) -> Vec<wire::Plan> {
    let from = probes.start;
    let uses = uses(plan);
    let ttl = longest(plan) * RUNS + SPARE;
    let idle_timeout = IdleTimeout {
        first_ms: millis(longest(plan) + LATE),
        next_ms: ALONE_MS,
    };
    let mut plans: Vec<wire::Plan> = plan
        .resolvers()
        .iter()
        .zip(plan.probes())
        .skip(from)
        .take(probes.len())
        .zip(from..)
        .map(|((resolver, source), probe)| wire::Plan {
            v: wire::VERSION,
            run: schedule.run.clone(),
            seed: schedule.seed,
            ttl_ms: ttl.as_millis() as u64,
            heartbeat_ms: schedule.heartbeat.as_millis() as u32,
            trust: schedule.trust.clone(),
            resolver: resolver.clone(),
            listen: plan
                .control_port()
                .filter(|_| matches!(source, Source::Pod { .. } | Source::ReferencePod { .. })),
            idle_timeout: plan
                .ephemeral_probes()
                .contains(&ProbeId(probe as u32))
                .then_some(idle_timeout),
            flows: Vec::new(),
        })
        .collect();
    let composites = plan
        .composites()
        .values()
        .map(|of| (&of.through, composite::interval(of.through.len())));
    let through: BTreeMap<FlowId, u32> = composites
        .flat_map(|(flows, interval)| flows.iter().map(move |flow| (*flow, millis(interval))))
        .collect();
    let mut sweeps = vec![0; plan.probes().len()];
    for (index, flow) in plan.flows().iter().enumerate() {
        let id = FlowId(index as u32);
        let Some(of) = (flow.probe.0 as usize)
            .checked_sub(from)
            .and_then(|nth| plans.get_mut(nth))
        else {
            continue;
        };
        let usage = uses.get(&id).copied().unwrap_or(Usage::CONTROL);
        let rate = rate_of(plan, flow, usage.checked);
        let accepted = accepted(plan, flow, usage.checked);
        let nth = of.flows.len() as u32;
        let at = |bursts_ms, interval_ms, single| Pace {
            bursts_ms,
            interval_ms,
            attempts: None,
            single,
            accepted,
        };
        let once = |start| Pace {
            attempts: Some(1),
            accepted: None,
            ..at(vec![start], 0, true)
        };
        let interval_ms = millis(rate.interval);
        let pace = if flow.to.once && flow.to.request.http().is_some() {
            // In the middle of what the controls and the source's own flows show.
            once(usage.start_ms + usage.settle_ms + ONCE_AFTER_MS)
        } else if flow.to.once {
            sweeps[flow.probe.0 as usize] += 1;
            let armed = if plan.created_probes().contains(&flow.probe) {
                SWEEP_AFTER_MS
            } else {
                0
            };
            once(usage.start_ms + armed + sweeps[flow.probe.0 as usize] * SWEEP_STEP_MS)
        } else if let Some(interval_ms) = through.get(&id) {
            at(vec![usage.start_ms], *interval_ms, true)
        } else if rate.is_stretched {
            // Golden-section steps spread any number of starts evenly over the interval.
            let spread = (f64::from(nth) * 0.618_034).fract() * f64::from(interval_ms);
            at(vec![usage.start_ms + spread as u32], interval_ms, true)
        } else {
            let start = usage.start_ms + (nth * 7) % SPREAD_MS;
            at(
                vec![start, start + usage.settle_ms + SECOND_BURST_MS],
                interval_ms,
                false,
            )
        };
        of.flows.push(wire::Flow {
            id: id.0,
            target: match &flow.to.name {
                Some(name) => Target::Name {
                    name: name.clone(),
                    v6: flow.to.address.is_ipv6(),
                },
                None => Target::Address(flow.to.address),
            },
            port: flow.to.port,
            transport: flow.to.transport,
            request: flow.to.request.clone(),
            deadlines: Deadlines {
                resolve_ms: RESOLVE_DEADLINE.as_millis() as u32,
                connect_ms: usage.deadline_ms.max(millis(flow.waits.connect)),
                tls_ms: millis(TLS_DEADLINE.max(flow.waits.tls)).max(usage.deadline_ms),
                request_ms: millis(REQUEST_DEADLINE.max(flow.waits.request)),
            },
            pace,
        });
    }
    for plan in &mut plans {
        // A control's openings are known by beats, and may not be two seconds apart: so a beat is
        // never longer than this.
        if plan.flows.len() > MANY_FLOWS {
            plan.heartbeat_ms = plan.heartbeat_ms.max(LONG_HEARTBEAT_MS);
        }
    }
    plans
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
    /// Whether it belongs to a check; else it is a control of the planner's own.
    checked: bool,
}

impl Usage {
    const CONTROL: Self = Self {
        start_ms: 0,
        settle_ms: 0,
        checked: false,
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
            },
        }
    }
}

fn uses(plan: &Plan) -> BTreeMap<FlowId, Usage> {
    let mut uses: BTreeMap<FlowId, Usage> = BTreeMap::new();
    for check in plan.checks() {
        let usage = Usage::of(check.expected, &check.settings);
        for flow in &check.flows {
            let known = uses.entry(*flow).or_insert(usage);
            known.deadline_ms = known.deadline_ms.max(usage.deadline_ms);
            known.settle_ms = known.settle_ms.max(usage.settle_ms);
            known.start_ms = known.start_ms.max(usage.start_ms);
        }
    }
    uses
}

/// The least time that a run takes once its probes say hello: settle, hold, deadline and one
/// interval. Where caps stretch the interval, the hold is as long as the samples take.
pub fn floor(plan: &Plan) -> Duration {
    let of = |check: &Check| {
        let settings = &check.settings;
        let rate = slowest(plan, check);
        settings.settle
            + rate.time_for(settings.attempts, settings.hold)
            + settings.attempt_timeout.max(longest_wait(plan, check))
            + INTERVAL
    };
    plan.checks().iter().map(of).max().unwrap_or_default()
}

/// How long an attempt of a check may be waited for because a control took long.
fn longest_wait(plan: &Plan, check: &Check) -> Duration {
    check
        .flows
        .iter()
        .map(|flow| plan.flow(*flow).waits.longest())
        .max()
        .unwrap_or_default()
}

/// The time after which waiting any longer settles nothing: room for two samples in the place of
/// faults.
pub fn longest(plan: &Plan) -> Duration {
    let timeout = plan.checks().iter().map(|check| {
        check.settings.settle + check.settings.timeout + check.settings.attempt_timeout
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
    rates.max_by_key(|rate| rate.interval).unwrap_or(Rate::CALM)
}
