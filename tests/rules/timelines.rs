//! Verdicts from lines of probes with shifted, stretched and delayed clocks: a proof is true
//! whatever the clocks are.

use crate::worlds;
use proptest::prelude::*;
use std::time::Duration;
use watertight::app::plan_in;
use watertight::backend::{Arrival, ProbeFault};
use watertight::engine::{Collector, RunnerClock};
use watertight::plan::{FlowId, Plan, ProbeId, Selection, probe_plans};
use watertight::verdict::{FlowVerdict, ProbeFailure, Reason, Verdict, judge};
use watertight::wire::{
    Body, ByeReason, Heartbeat, Hello, Line, Observation, Sample, Stage, Stop, StopCause, VERSION,
};

const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n', labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: 'n', labels: {app: b}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
";
const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: {name: s}
spec:
  expect: [n/Pod/a -> n/Pod/b:80 denied]
";

fn plan() -> Plan {
    let world = worlds::world(MANIFESTS, &[]);
    plan_in(&world, &worlds::suites(SUITE), &Selection::default()).expect("a plan")
}

/// A probe's clock in true time: when it said hello, how fast it runs, how wrong its wall clock is,
/// and how late its lines arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeClock {
    hello_us: i64,
    rate: f64,
    wall_error_us: i64,
    delay_us: i64,
    shares_boot: bool,
}

const RUNNER: u64 = 1_000_000_000;
const WALL: u64 = 1_700_000_000_000_000;

impl ProbeClock {
    /// When attempts of each of its flows start, in true time.
    pub(crate) fn starts(self, until_us: i64) -> impl Iterator<Item = i64> {
        (0..)
            .map(move |n| self.hello_us + 10_000 + n * 500_000)
            .take_while(move |at| *at < until_us)
    }

    fn probe_time(self, truth_us: i64) -> u64 {
        ((truth_us - self.hello_us) as f64 * self.rate) as u64
    }

    fn hello(self, digest: String) -> Body {
        Body::Hello(Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            run: worlds::RUN.into(),
            digest,
            addresses: vec![],
            boot: if self.shares_boot {
                "here".into()
            } else {
                "elsewhere".into()
            },
            boottime_us: RUNNER.checked_add_signed(self.hello_us).expect("in range"),
            wall_us: WALL
                .checked_add_signed(self.hello_us + self.wall_error_us)
                .expect("in range"),
        })
    }
}

fn observation(open: bool) -> Observation {
    let stop = (!open).then_some(Stop {
        stage: Stage::Connect,
        how: StopCause::Silence,
    });
    let passed = if open {
        vec![
            (Stage::Connect, 300),
            (Stage::FirstBytes, 300),
            (Stage::Request, 1),
        ]
    } else {
        vec![]
    };
    Observation {
        passed,
        stop,
        local_port: None,
        peer: None,
        answer: None,
        linger: None,
        tls: None,
        http: None,
        dns: None,
    }
}

/// Evidence of one run in which every flow is tried each 500 ms; `opens` decides which attempts
/// open. Lines arrive in the order of true time.
pub(crate) fn collect(
    plan: &Plan,
    clocks: &[ProbeClock],
    until_us: i64,
    opens: impl Fn(FlowId, i64) -> bool,
) -> Collector {
    let schedule = worlds::schedule(Duration::from_millis(500));
    let mut collector = Collector::new(
        plan,
        RunnerClock {
            boot: "here".into(),
            boottime_us: RUNNER,
            wall_us: WALL,
        },
    );
    let mut lines: Vec<(i64, ProbeId, u64, Body)> = Vec::new();
    let mut digests = Vec::new();

    for (index, wire) in probe_plans(plan, &schedule, 0..plan.probes().len())
        .iter()
        .enumerate()
    {
        let probe = ProbeId(index as u32);
        collector.expect(probe, wire);
        digests.push(watertight_probe::plan_digest(wire));
        let clock = clocks[index % clocks.len()];
        lines.push((
            clock.hello_us + clock.delay_us,
            probe,
            0,
            clock.hello(digests[index].clone()),
        ));
        for flow in &wire.flows {
            let mut last = None;
            let mut attempt = 0;
            for truth in clock.starts(until_us) {
                attempt += 1;
                let open = opens(FlowId(flow.id), truth);
                let start = clock.probe_time(truth);
                let body = if last == Some(open) {
                    Body::Heartbeat(Heartbeat {
                        flows: vec![(flow.id, attempt, start)],
                        lag_us: 0,
                        more: false,
                    })
                } else {
                    Body::Sample(Sample {
                        flow: flow.id,
                        attempt,
                        start,
                        observation: observation(open),
                    })
                };
                last = Some(open);
                // Sent a little later, so that the order of lines is that of their times.
                lines.push((truth + clock.delay_us + 1_000, probe, start, body));
            }
        }
    }
    lines.sort_by_key(|(arrives, probe, own, _)| (*arrives, *probe, *own));
    let mut seqs = vec![0; plan.probes().len()];

    for (arrives, probe, t, body) in lines {
        let seq = &mut seqs[probe.0 as usize];
        let line = Line {
            v: VERSION,
            seq: *seq,
            t,
            body,
        };
        *seq += 1;
        let at = Duration::from_micros(u64::try_from(arrives).expect("after the start"));
        collector.line(
            plan,
            Arrival {
                probe,
                at,
                line: Ok(line),
            },
        );
    }
    collector
}

pub(crate) fn skewed_clock() -> impl Strategy<Value = ProbeClock> {
    (
        0_i64..800_000,
        0.999_f64..1.001,
        -900_000_i64..900_000,
        0_i64..900_000,
        any::<bool>(),
    )
        .prop_map(
            |(hello_us, rate, wall_error_us, delay_us, shares_boot)| ProbeClock {
                hello_us: hello_us + 100_000,
                // One machine has one clock, at one speed.
                rate: if shares_boot { 1.0 } else { rate },
                wall_error_us,
                delay_us,
                shares_boot,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The target runs only for some time, and no source reaches it before or after: a proven deny
    /// was tried at least six times while it ran.
    #[test]
    fn denied_target_with_skewed_clocks_was_attempted_while_it_ran(
        clocks in prop::collection::vec(skewed_clock(), 1..5),
        lives in (0_i64..6_000_000, 0_i64..9_000_000),
    ) {
        let plan = plan();
        let check = &plan.checks()[0];
        let (from, to) = (lives.0, lives.0 + lives.1);
        let of_target: Vec<FlowId> = plan.target_controls().values().flatten().copied().collect();
        let collector = collect(&plan, &clocks, 14_000_000, |flow, at| {
            !check.flows.contains(&flow) && (!of_target.contains(&flow) || (from..to).contains(&at))
        });
        let judgement = judge(&plan, check, &collector.evidence);

        for flow in &judgement.flows {
            if let FlowVerdict::Denied(proof) = &flow.verdict {
                // Attempts of the denied flow while the target ran, by true time.
                let clock = clocks[plan.flow(flow.flow).probe.0 as usize % clocks.len()];
                let tried = clock.starts(to).filter(|at| *at >= from).count();
                prop_assert!(tried >= 6 && tried as u32 >= proof.window().attempts, "{tried} of {proof:?}");
            }
        }
        let violated = matches!(judgement.verdict, Verdict::Violated(_));
        prop_assert!(!violated, "nothing of it opened");
    }
}

/// A clock that is right.
pub(crate) fn right_clock(shares_boot: bool) -> ProbeClock {
    ProbeClock {
        hello_us: 100_000,
        rate: 1.0,
        wall_error_us: 0,
        delay_us: 20_000,
        shares_boot,
    }
}

#[test]
fn denied_flow_with_right_clocks_is_proven() {
    let plan = plan();
    for shares_boot in [true, false] {
        let denied = plan.checks()[0].flows.clone();
        let collector = collect(&plan, &[right_clock(shares_boot)], 14_000_000, |flow, _| {
            !denied.contains(&flow)
        });
        assert_eq!(
            judge(&plan, &plan.checks()[0], &collector.evidence).verdict,
            Verdict::Proven
        );
    }
}

#[test]
fn wall_clock_ahead_or_behind_is_unproven_as_clock_skew() {
    let plan = plan();
    for wall_error_us in [-1_500_000, 1_500_000] {
        let off = ProbeClock {
            wall_error_us,
            ..right_clock(false)
        };
        let denied = plan.checks()[0].flows.clone();
        let collector = collect(&plan, &[off], 14_000_000, |flow, _| !denied.contains(&flow));
        let Verdict::Unproven(unproven) =
            judge(&plan, &plan.checks()[0], &collector.evidence).verdict
        else {
            panic!("judged")
        };
        assert_eq!(unproven.reason, Reason::ClockSkew, "{}", unproven.detail);
    }
}

/// A probe's lines after its hello, and what the probe failed at.
fn failure(lines: Vec<(u64, u64, Body)>) -> Option<ProbeFailure> {
    let plan = plan();
    let denied = plan.checks()[0].flows.clone();
    let mut collector = collect(&plan, &[right_clock(true)], 200_000, |flow, _| {
        !denied.contains(&flow)
    });

    for (seq, t, body) in lines {
        let line = Line {
            v: VERSION,
            seq,
            t,
            body,
        };
        collector.line(
            &plan,
            Arrival {
                probe: ProbeId(0),
                at: Duration::from_secs(9),
                line: Ok(line),
            },
        );
    }
    collector.evidence.probes[0]
        .failure
        .clone()
        .map(|(_, failure)| failure)
}

/// A heartbeat without flows.
fn heartbeat() -> Body {
    Body::Heartbeat(Heartbeat {
        flows: vec![],
        lag_us: 0,
        more: false,
    })
}

fn is_protocol_failure(failure: Option<ProbeFailure>) -> bool {
    failure.is_some_and(|failure| matches!(failure, ProbeFailure::Protocol(_)))
}

/// The number of the next line of the first probe after its hello and one line of each flow.
fn next_line(plan: &Plan) -> u64 {
    let flows = plan.flows().iter().filter(|flow| flow.probe == ProbeId(0));
    flows.count() as u64 + 1
}

#[test]
fn missing_lines_and_second_hellos_are_protocol_failures_and_late_lines_are_not() {
    let next = next_line(&plan());

    assert_eq!(
        failure(vec![
            (next, 2_000_000, heartbeat()),
            (next + 1, 4_900_000, heartbeat())
        ]),
        None
    );
    assert!(
        is_protocol_failure(failure(vec![(next + 1, 500_000, heartbeat())])),
        "a missing line"
    );
    assert!(
        is_protocol_failure(failure(vec![(next, 3_200_000, heartbeat())])),
        "more than three seconds without a heartbeat"
    );
    assert!(
        is_protocol_failure(failure(vec![(
            next,
            500_000,
            right_clock(true).hello(String::new())
        )])),
        "a second hello"
    );
}

#[test]
fn probe_without_remaining_attempts_ends_without_a_failure() {
    let plan = plan();
    let next = next_line(&plan);
    let bye = |reason: ByeReason| vec![(next, 500_000, Body::Bye { reason })];

    assert_eq!(failure(bye(ByeReason::Done)), None);
    assert!(matches!(
        failure(bye(ByeReason::TimeToLive)),
        Some(ProbeFailure::Ended(_))
    ));
    let mut collector = collect(&plan, &[right_clock(true)], 200_000, |_, _| true);
    let ended = Arrival {
        probe: ProbeId(0),
        at: Duration::from_secs(1),
        line: Err(ProbeFault::Ended("exit status: 0".into())),
    };
    collector.line(&plan, ended);

    assert!(
        collector.evidence.probes[0].failure.is_some(),
        "it did not say bye"
    );
}

/// A log that could not be read to the end: the probe's last attempts before its stop are unknown.
#[test]
fn log_that_ends_before_the_stop_is_a_probe_fault() {
    let plan = plan();
    let denied = plan.checks()[0].flows.clone();
    for (stopped, proven) in [(15_500_000, true), (18_500_000, false)] {
        let mut collector = collect(&plan, &[right_clock(true)], 14_000_000, |flow, _| {
            !denied.contains(&flow)
        });
        collector.stopping(stopped);
        let ended = Err(ProbeFault::Ended("no route to its node".into()));
        collector.line(
            &plan,
            Arrival {
                probe: ProbeId(0),
                at: Duration::from_secs(30),
                line: ended,
            },
        );
        collector.close();
        match judge(&plan, &plan.checks()[0], &collector.evidence).verdict {
            Verdict::Proven => assert!(proven, "stopped at {stopped}"),
            Verdict::Unproven(unproven) => {
                assert_eq!(
                    (proven, unproven.reason),
                    (false, Reason::ProbeFault),
                    "{}",
                    unproven.detail
                );
                assert!(
                    unproven.detail.contains("the last 4 s"),
                    "{}",
                    unproven.detail
                );
            }
            Verdict::Violated(violation) => panic!("{violation:?}"),
        }
    }
}

/// The first probe after this hello, to a runner with this boot id.
fn after_hello(boot: &str, change: impl FnOnce(&mut Hello)) -> Collector {
    let plan = plan();
    let clock = RunnerClock {
        boot: boot.into(),
        boottime_us: RUNNER,
        wall_us: WALL,
    };
    let mut collector = Collector::new(&plan, clock);
    let schedule = worlds::schedule(Duration::from_millis(500));
    let wire = &probe_plans(&plan, &schedule, 0..1)[0];
    collector.expect(ProbeId(0), wire);
    let Body::Hello(mut hello) = right_clock(true).hello(watertight_probe::plan_digest(wire))
    else {
        panic!("no hello")
    };
    change(&mut hello);
    let arrival = Arrival {
        probe: ProbeId(0),
        at: Duration::from_millis(200),
        line: Ok(Line {
            v: VERSION,
            seq: 0,
            t: 0,
            body: Body::Hello(hello),
        }),
    };
    collector.line(&plan, arrival);
    collector
}

#[test]
fn probe_of_another_version_has_failed_with_both_versions_named() {
    let collector = after_hello("here", |hello| hello.version = "0.0.7".into());
    let failure = collector.evidence.probe(ProbeId(0)).failure.clone();
    let Some((_, ProbeFailure::Protocol(why))) = failure else {
        panic!("{failure:?}")
    };
    assert!(
        why.contains("0.0.7") && why.contains(env!("CARGO_PKG_VERSION")),
        "{why}"
    );
}

#[test]
fn two_empty_boot_ids_are_no_shared_clock() {
    let is_exact = |boot: &str| {
        let collector = after_hello(boot, |hello| hello.boot = boot.into());
        let clock = collector.evidence.probe(ProbeId(0)).clock.unwrap();
        let moment = clock.moment(0);
        moment.earliest == moment.latest
    };
    assert!(is_exact("here"));
    assert!(!is_exact(""));
}
