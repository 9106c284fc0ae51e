//! Lines of probes whose clocks are shifted, stretched and delayed: whatever they are, what is
//! proven is so.

use proptest::prelude::*;
use std::time::Duration;
use watertight::app::plan_in;
use watertight::backend::lab::{Layout, World};
use watertight::backend::{Arrival, ProbeFault};
use watertight::engine::{Collector, RunnerClock};
use watertight::inventory::read_manifests;
use watertight::plan::{FlowId, Plan, ProbeId, Schedule, Selection, probe_plans};
use watertight::source::Sources;
use watertight::suite;
use watertight::verdict::{FlowVerdict, ProbeFailure, Reason, Verdict, judge};
use watertight::wire::{
    Body, ByeReason, Heartbeat, Hello, Line, Observation, Sample, Stage, Stop, StopCause, VERSION,
};

const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: a}}, spec: {nodeName: node-1, containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: n, labels: {app: b}}, spec: {nodeName: node-2, containers: [{name: c, image: c, ports: [{containerPort: 80}]}]}}
";
const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: {name: s}
spec:
  expect: [n/Pod/a -> n/Pod/b:80 denied]
";

fn plan() -> Plan {
    let mut sources = Sources::new();
    let manifests = sources.add("m.yaml", MANIFESTS);
    let file = sources.add("s.yaml", SUITE);
    let (manifests, problems) = read_manifests(&[manifests], &sources);
    let (suites, mistakes) = suite::read(&[file], &sources);
    assert!(
        problems.is_empty() && !mistakes.has_errors(),
        "{}",
        mistakes.render_compact(&sources)
    );
    let world = World::place(&manifests, &[], Layout::default()).expect("a world");
    plan_in(&world, &suites, &Selection::default()).expect("a plan")
}

/// A probe's clock as the world has it: when it said hello, how fast it runs, how wrong its wall
/// clock is, and how late its lines arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crooked {
    hello_us: i64,
    control_interval: f64,
    wall_error_us: i64,
    delay_us: i64,
    shares: bool,
}

const RUNNER: u64 = 1_000_000_000;
const WALL: u64 = 1_700_000_000_000_000;

impl Crooked {
    /// When attempts of each of its flows start, by the world's clock.
    pub(crate) fn starts(self, until_us: i64) -> impl Iterator<Item = i64> {
        (0..)
            .map(move |n| self.hello_us + 10_000 + n * 500_000)
            .take_while(move |at| *at < until_us)
    }

    fn own(self, truth_us: i64) -> u64 {
        ((truth_us - self.hello_us) as f64 * self.control_interval) as u64
    }

    fn hello(self, digest: String) -> Body {
        Body::Hello(Hello {
            version: "0".into(),
            run: "r".into(),
            digest,
            addresses: vec![],
            boot: if self.shares {
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

fn seen(open: bool) -> Observation {
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

/// One run in which everybody tries every 500 ms; who opens when is up to `opens`. Lines arrive in
/// the order of the world.
pub(crate) fn fold(
    plan: &Plan,
    clocks: &[Crooked],
    until_us: i64,
    opens: impl Fn(FlowId, i64) -> bool,
) -> Collector {
    let schedule = Schedule {
        run: "r".into(),
        seed: 1,
        trust: vec![],
        heartbeat: Duration::from_millis(500),
    };
    let mut fold = Collector::new(
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
        fold.expect(probe, wire);
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
                let start = clock.own(truth);
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
                        observation: seen(open),
                    })
                };
                last = Some(open);
                // Told a little after, so that the order of lines is that of their times.
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
        fold.line(
            plan,
            Arrival {
                probe,
                at,
                line: Ok(line),
            },
        );
    }
    fold
}

pub(crate) fn crooked() -> impl Strategy<Value = Crooked> {
    (
        0_i64..800_000,
        0.999_f64..1.001,
        -900_000_i64..900_000,
        0_i64..900_000,
        any::<bool>(),
    )
        .prop_map(
            |(hello_us, control_interval, wall_error_us, delay_us, shares)| Crooked {
                hello_us: hello_us + 100_000,
                // One machine has one clock, at one speed.
                control_interval: if shares { 1.0 } else { control_interval },
                wall_error_us,
                delay_us,
                shares,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The target lives for some time only, and nobody may reach it before or after: what is proven
    /// to be denied was tried at least six times while it lived.
    #[test]
    fn no_clock_makes_a_dead_target_a_denied_one(
        clocks in prop::collection::vec(crooked(), 1..5),
        lives in (0_i64..6_000_000, 0_i64..9_000_000),
    ) {
        let plan = plan();
        let check = &plan.checks()[0];
        let (from, to) = (lives.0, lives.0 + lives.1);
        let of_target: Vec<FlowId> = plan.target_controls().values().flatten().copied().collect();
        let fold = fold(&plan, &clocks, 14_000_000, |flow, at| {
            !check.flows.contains(&flow) && (!of_target.contains(&flow) || (from..to).contains(&at))
        });
        let judgement = judge(&plan, check, &fold.evidence);
        for flow in &judgement.flows {
            if let FlowVerdict::Denied(proof) = &flow.verdict {
                // Attempts of the denied flow while the target lived, by the world's own clock.
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
pub(crate) fn straight(shares: bool) -> Crooked {
    Crooked {
        hello_us: 100_000,
        control_interval: 1.0,
        wall_error_us: 0,
        delay_us: 20_000,
        shares,
    }
}

#[test]
fn clocks_that_agree_prove_what_is_so() {
    let plan = plan();
    for shares in [true, false] {
        let denied = plan.checks()[0].flows.clone();
        let fold = fold(&plan, &[straight(shares)], 14_000_000, |flow, _| {
            !denied.contains(&flow)
        });
        assert_eq!(
            judge(&plan, &plan.checks()[0], &fold.evidence).verdict,
            Verdict::Proven
        );
    }
}

#[test]
fn wall_clock_that_is_off_is_unproven_by_that_name_whichever_way() {
    let plan = plan();
    for wall_error_us in [-1_500_000, 1_500_000] {
        let off = Crooked {
            wall_error_us,
            ..straight(false)
        };
        let denied = plan.checks()[0].flows.clone();
        let fold = fold(&plan, &[off], 14_000_000, |flow, _| !denied.contains(&flow));
        let Verdict::Unproven(unproven) = judge(&plan, &plan.checks()[0], &fold.evidence).verdict
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
    let mut fold = fold(&plan, &[straight(true)], 200_000, |flow, _| {
        !denied.contains(&flow)
    });
    for (seq, t, body) in lines {
        let line = Line {
            v: VERSION,
            seq,
            t,
            body,
        };
        fold.line(
            &plan,
            Arrival {
                probe: ProbeId(0),
                at: Duration::from_secs(9),
                line: Ok(line),
            },
        );
    }
    fold.evidence.probes[0]
        .failure
        .clone()
        .map(|(_, failure)| failure)
}

#[test]
fn holes_silences_and_second_hellos_are_faults_and_late_arrival_is_none() {
    let plan = plan();
    let next = plan
        .flows()
        .iter()
        .filter(|flow| flow.probe == ProbeId(0))
        .count() as u64
        + 1;
    let heartbeat = || {
        Body::Heartbeat(Heartbeat {
            flows: vec![],
            lag_us: 0,
            more: false,
        })
    };
    let protocol = |failure| matches!(failure, Some(ProbeFailure::Protocol(_)));
    assert_eq!(
        failure(vec![
            (next, 2_000_000, heartbeat()),
            (next + 1, 4_900_000, heartbeat())
        ]),
        None
    );
    assert!(
        protocol(failure(vec![(next + 1, 500_000, heartbeat())])),
        "a hole"
    );
    assert!(
        protocol(failure(vec![(next, 3_200_000, heartbeat())])),
        "more than three seconds without a beat"
    );
    assert!(
        protocol(failure(vec![(
            next,
            500_000,
            straight(true).hello(String::new())
        )])),
        "a second hello"
    );
}

#[test]
fn probe_that_has_nothing_left_to_do_ends_without_a_fault() {
    let plan = plan();
    let next = plan
        .flows()
        .iter()
        .filter(|flow| flow.probe == ProbeId(0))
        .count() as u64
        + 1;
    let bye = |reason: ByeReason| vec![(next, 500_000, Body::Bye { reason })];
    assert_eq!(failure(bye(ByeReason::Done)), None);
    assert!(matches!(
        failure(bye(ByeReason::TimeToLive)),
        Some(ProbeFailure::Ended(_))
    ));
    let mut fold = fold(&plan, &[straight(true)], 200_000, |_, _| true);
    let ended = || Arrival {
        probe: ProbeId(0),
        at: Duration::from_secs(1),
        line: Err(ProbeFault::Ended("exit status: 0".into())),
    };
    fold.line(&plan, ended());
    assert!(
        fold.evidence.probes[0].failure.is_some(),
        "it did not say bye"
    );
}

/// A log that could not be reached: what the probe saw before it was told to stop may be anything.
#[test]
fn what_was_not_read_up_to_the_stop_is_no_evidence() {
    let plan = plan();
    let denied = plan.checks()[0].flows.clone();
    for (stopped, proven) in [(15_500_000, true), (18_500_000, false)] {
        let mut fold = fold(&plan, &[straight(true)], 14_000_000, |flow, _| {
            !denied.contains(&flow)
        });
        fold.stopping(stopped);
        let ended = Err(ProbeFault::Ended("no route to its node".into()));
        fold.line(
            &plan,
            Arrival {
                probe: ProbeId(0),
                at: Duration::from_secs(30),
                line: ended,
            },
        );
        fold.close();
        match judge(&plan, &plan.checks()[0], &fold.evidence).verdict {
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
