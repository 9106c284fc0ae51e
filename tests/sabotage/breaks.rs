//! The generic sabotages: each breaks one thing of any case and says what every check must then
//! come back as.

use crate::coverage::Exercised;
use crate::ends::{Ends, Socket};
use crate::runner::{Evaluation, Hand, How, Ran, Turns, Wanted, run};
use crate::{Done, Job, flipped};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use watertight::backend::lab::{self, Leak};
use watertight::event::{FlowOutcome, Outcome};
use watertight::inventory::{NetworkPolicy, Policy, RuleOrigins};
use watertight::plan::{Check, ProbeId, Schedule, TargetKind, probe_plans};
use watertight::suite::Expected;
use watertight::verdict::Reason;
use watertight::wire::Target;

/// A case with the result of its run without sabotage.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) case: Evaluation,
    pub(crate) ran: Ran,
}

/// The wanted verdict of a check, by its number, after a sabotage; `None`: any.
type Expect = Box<dyn Fn(&Base, usize) -> Option<Wanted> + Send>;

impl Base {
    fn ends(&self) -> Ends<'_> {
        Ends {
            plan: &self.ran.plan,
            inventory: &self.ran.inventory,
        }
    }

    fn check(&self, index: usize) -> &Check {
        &self.ran.plan.checks()[index]
    }

    fn was_proven(&self, index: usize) -> bool {
        self.ran.results[index].verdict == Outcome::Proven
    }

    /// Checks that were proven: only their verdicts show what a sabotage changes.
    fn proven(&self) -> impl Iterator<Item = &Check> {
        let checks = self.ran.plan.checks().iter().enumerate();
        checks
            .filter(|(index, _)| self.was_proven(*index))
            .map(|(_, check)| check)
    }

    fn proven_denials(&self) -> impl Iterator<Item = &Check> {
        self.proven()
            .filter(|check| check.expected == Expected::Denied)
    }
}

/// One run of a case, broken.
fn job(
    base: &Arc<Base>,
    what: &str,
    how: How,
    act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
    expect: Expect,
) -> Job {
    let base = Arc::clone(base);
    Job::new(format!("{} / {what}", base.case.name), async move || {
        Done::of(run(&base.case, how, act).await, |ran| {
            ran.differing(|index| expect(&base, index).filter(|_| base.was_proven(index)))
        })
    })
}

/// Every sabotage of a case.
pub(crate) fn all(base: &Arc<Base>) -> Vec<Job> {
    let mut jobs = vec![turned_round(base)];
    jobs.extend(policies_removed(base));
    jobs.extend(listeners_stopped(base));
    jobs.extend(paths_cut(base));
    jobs.extend(probes_lost(base));
    jobs.extend(policies_changed_during_the_run(base));
    jobs.push(dns_stopped(base));
    jobs.extend(rare_leak(base));
    jobs.extend(leaky_replica(base));
    jobs
}

/// Every expectation turned round: nothing may come back proven, and what was allowed is violated
/// as a denial.
fn turned_round(base: &Arc<Base>) -> Job {
    let base = Arc::clone(base);
    Job::new(
        format!("{} / every expectation turned round", base.case.name),
        async move || {
            let case = base
                .case
                .with(flipped::turned_round(&base.case.suite, &base.ran.plan));
            let ran = match run(&case, How::BEFORE, async |_| Ok(())).await {
                Ok(ran) => ran,
                Err(error) => return Done::failed(error),
            };
            let mut failures = ran.differing(|index| {
                Some(match ran.plan.checks()[index].expected {
                    Expected::Denied => Wanted::Violated,
                    Expected::Allowed => Wanted::NotProven,
                })
            });
            if ran.results.len() != base.ran.results.len() {
                failures.push(format!(
                    "{} checks became {}",
                    base.ran.results.len(),
                    ran.results.len()
                ));
            }
            Done {
                failures,
                exercised: Exercised::by(&ran),
            }
        },
    )
}

/// The policies of both ends removed → violated.
fn policies_removed(base: &Arc<Base>) -> Vec<Job> {
    let ends = base.ends();
    let sets: BTreeSet<BTreeSet<String>> = base
        .proven_denials()
        .map(|check| ends.namespaces(check))
        .collect();
    let sets: Vec<BTreeSet<String>> = match base.case.turns {
        Turns::Each => sets.into_iter().collect(),
        Turns::Halves => vec![sets.into_iter().flatten().collect()],
    };
    let of = |gone: BTreeSet<String>| {
        let what = format!("policies of {} removed", listed(&gone));
        let keep = gone.clone();
        let act = async move |hand: Hand| without_policies(&hand, &keep).await;
        let expect: Expect = Box::new(move |base, index| {
            let check = base.check(index);
            let namespaces = base.ends().namespaces(check);
            if check.expected == Expected::Denied && namespaces.is_subset(&gone) {
                Some(Wanted::Violated)
            } else if namespaces.is_disjoint(&gone) {
                Some(Wanted::Proven)
            } else {
                None
            }
        });
        job(base, &what, How::BEFORE, act, expect)
    };
    sets.into_iter()
        .filter(|set| !set.is_empty())
        .map(of)
        .collect()
}

/// Takes away the policies of namespaces, and with them those of the whole cluster.
async fn without_policies(hand: &Hand, namespaces: &BTreeSet<String>) -> Result<(), lab::Error> {
    let mut policies = hand.sabotage.inventory().await?.policies;
    policies.retain(|policy| {
        policy
            .namespace()
            .is_some_and(|namespace| !namespaces.contains(namespace))
    });
    hand.sabotage.set_policies(policies).await
}

/// Listeners of a target stopped → its denies and allows are unproven, every other verdict stays.
fn listeners_stopped(base: &Arc<Base>) -> Vec<Job> {
    let labels: BTreeSet<String> = base.proven().map(|check| check.target.clone()).collect();
    let groups = base
        .case
        .turns
        .split(&labels.into_iter().collect::<Vec<_>>());
    let of = |labels: Vec<String>| {
        let targets = base.proven().filter(|check| labels.contains(&check.target));
        let stopped: BTreeSet<Socket> = targets
            .flat_map(|check| base.ends().sockets(check))
            .collect();
        let what = format!("{} stopped", some(&labels));
        let victims = stopped.clone();
        let act = async move |hand: Hand| {
            for socket in &victims {
                hand.sabotage
                    .stop_listener(socket.listener(), Some((socket.transport, socket.port)))
                    .await?;
            }
            Ok(())
        };
        let expect: Expect = Box::new(move |base, index| {
            let check = base.check(index);
            let sockets = base.ends().sockets(check);
            Some(if sockets.is_subset(&stopped) {
                Wanted::Unproven(vec![match check.expected {
                    Expected::Denied => Reason::NoControlAnswered,
                    Expected::Allowed => Reason::TargetUnreachable,
                }])
            } else if sockets.is_disjoint(&stopped) {
                // The stopped listeners may have been the only source controls or path controls.
                Wanted::ProvenOr(vec![Reason::SourceNotVerified, Reason::PathNotVerified])
            } else {
                Wanted::NotViolated
            })
        });
        job(base, &what, How::BEFORE, act, expect)
    };
    groups.into_iter().map(of).collect()
}

/// The path between two nodes cut → checks with flows between them are not proven.
fn paths_cut(base: &Arc<Base>) -> Option<Job> {
    let [one, two, ..] = base.ran.inventory.nodes.as_slice() else {
        return None;
    };
    let (one, two) = (one.name.clone(), two.name.clone());
    let what = format!("path between {one} and {two} cut");
    let act = async move |hand: Hand| hand.sabotage.cut(&one, &two).await;
    let expect: Expect = Box::new(|base, index| {
        let check = base.check(index);
        let named = resolved_by_probes(base);
        if check.expected == Expected::Allowed
            && check.flows.iter().any(|flow| named.contains(&flow.0))
        {
            // The name server that is asked may be beyond the cut, now and then: then it comes and
            // goes.
            return None;
        }
        Some(match (check.expected, base.ends().crosses(check)) {
            (Expected::Denied, true) => Wanted::Unproven(vec![
                Reason::PathNotVerified,
                Reason::NoPodGotThrough,
                Reason::NoControlAnswered,
                Reason::SourceNotVerified,
                Reason::TooFewAttempts,
            ]),
            (Expected::Allowed, true) => Wanted::NotProven,
            (_, false) => Wanted::NotViolated,
        })
    });
    Some(job(base, &what, How::BEFORE, act, expect))
}

/// Some probes killed, others stopped for two seconds → their checks are unproven by name, and
/// checks whose only controls they were are not proven.
fn probes_lost(base: &Arc<Base>) -> Vec<Job> {
    // As planned at first: a run on a busy machine may have added probes that the next one does not
    // need.
    let (_, plan, _) = base.case.prepare();
    let probes: Vec<ProbeId> = (0..plan.probes().len() as u32).map(ProbeId).collect();
    let groups = base.case.turns.split(&probes);
    let of = |n: usize| {
        let killed: BTreeSet<ProbeId> = groups[n].iter().copied().collect();
        let stalled: BTreeSet<ProbeId> = groups[(n + 1) % groups.len()].iter().copied().collect();
        let of = |probes: &BTreeSet<ProbeId>| match probes.first() {
            Some(probe) if probes.len() == 1 => base.ran.plan.source(*probe).to_string(),
            _ => format!("{} probes", probes.len()),
        };
        let what = format!(
            "probe killed: {}, probe stopped: {}",
            of(&killed),
            of(&stalled)
        );
        let (kill, stall) = (killed.clone(), stalled.clone());
        let act = async move |hand: Hand| {
            for (probes, signal) in [(&kill, Signal::SIGKILL), (&stall, Signal::SIGSTOP)] {
                probes
                    .iter()
                    .try_for_each(|probe| hand.sabotage.signal(*probe, signal))?;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            for probe in &stall {
                // Where nothing was left to settle the run is over by now, and so is the probe.
                let _ = hand.sabotage.signal(*probe, Signal::SIGCONT);
            }
            Ok(())
        };
        let expect: Expect = Box::new(move |base, index| {
            let (ends, check) = (base.ends(), base.check(index));
            let probes = ends.probes(check);
            Some(
                match (probes.is_disjoint(&killed), probes.is_disjoint(&stalled)) {
                    (false, true) => Wanted::Unproven(vec![Reason::ProbeFault]),
                    // Its sampling restarts, and a control that only a killed probe could be may be
                    // missing.
                    (true, false) => Wanted::ProvenOr(vec![
                        Reason::ProbeCpuStarved,
                        Reason::NoControlAnswered,
                        Reason::TooFewAttempts,
                        Reason::SourceNotVerified,
                        Reason::PathNotVerified,
                        Reason::TierNotMet,
                    ]),
                    (false, false) => {
                        Wanted::Unproven(vec![Reason::ProbeFault, Reason::ProbeCpuStarved])
                    }
                    (true, true)
                        if check.expected == Expected::Denied
                            && ends.controlled_only_by(check, &killed) =>
                    {
                        Wanted::Unproven(vec![
                            Reason::NoControlAnswered,
                            Reason::TooFewAttempts,
                            Reason::SourceNotVerified,
                        ])
                    }
                    (true, true) => Wanted::NotViolated,
                },
            )
        });
        job(
            base,
            &what,
            How {
                starves: true,
                ..How::DURING
            },
            act,
            expect,
        )
    };
    // One group of a single probe cannot be killed and stopped at once.
    (0..groups.len())
        .filter(|_| groups.len() > 1)
        .map(of)
        .collect()
}

/// Policies replaced by isolation in the middle of a run → what they admitted is violated; policies
/// removed → what they denied is violated. Sampling of every check that they touch restarts.
fn policies_changed_during_the_run(base: &Arc<Base>) -> Vec<Job> {
    let ends = base.ends();
    let touched: BTreeSet<String> = base
        .proven()
        .flat_map(|check| ends.namespaces(check))
        .collect();
    let inventory = &base.ran.inventory;
    let isolated: BTreeSet<String> = if inventory.cluster_policies().next().is_none() {
        inventory
            .network_policies()
            .map(|policy| policy.namespace.clone())
            .collect()
    } else {
        touched.clone()
    };
    let groups = |namespaces: BTreeSet<String>| -> Vec<BTreeSet<String>> {
        let all: Vec<String> = namespaces.into_iter().collect();
        match base.case.turns {
            Turns::Each => all.into_iter().map(|one| BTreeSet::from([one])).collect(),
            Turns::Halves => vec![all.into_iter().collect()],
        }
    };
    let mut jobs = Vec::new();

    for namespaces in groups(touched.clone()) {
        let what = format!(
            "policies of {} replaced by isolation during the run",
            listed(&namespaces)
        );
        let here = namespaces.clone();
        let act = async move |hand: Hand| {
            let mut policies = hand.sabotage.inventory().await?.policies;
            policies.retain(|policy| {
                policy
                    .namespace()
                    .is_some_and(|namespace| !here.contains(namespace))
            });
            policies.extend(here.iter().map(|namespace| isolating(namespace)));
            hand.sabotage.set_policies(policies).await
        };
        let expect: Expect = Box::new(move |base, index| {
            let check = base.check(index);
            let touched = !base.ends().namespaces(check).is_disjoint(&namespaces);
            // The only source control of an untouched allow may have been touched.
            Some(match check.expected {
                _ if !touched => {
                    Wanted::ProvenOr(vec![Reason::SourceNotVerified, Reason::TooFewAttempts])
                }
                Expected::Denied => Wanted::NotViolated,
                // The new policy stops every pod: sampling restarted, and attempts stay blocked.
                Expected::Allowed if base.ends().sends_from_pods(check) => Wanted::Violated,
                Expected::Allowed if base.ends().is_from_own_node(check) => {
                    Wanted::ProvenOr(vec![Reason::SourceNotVerified, Reason::TooFewAttempts])
                }
                Expected::Allowed => Wanted::NotProven,
            })
        });
        jobs.push(job(base, &what, How::DURING, act, expect));
    }

    for namespaces in groups(touched.intersection(&isolated).cloned().collect()) {
        if namespaces.is_empty() {
            continue;
        }
        let what = format!("policies of {} removed during the run", listed(&namespaces));
        let gone = namespaces.clone();
        let act = async move |hand: Hand| without_policies(&hand, &gone).await;
        let expect: Expect = Box::new(move |base, index| {
            let check = base.check(index);
            if base.ends().namespaces(check).is_disjoint(&namespaces) {
                return Some(Wanted::ProvenOr(vec![
                    Reason::SourceNotVerified,
                    Reason::TooFewAttempts,
                ]));
            }
            match check.expected {
                Expected::Denied if base.ends().namespaces(check).is_subset(&namespaces) => {
                    Some(Wanted::Violated)
                }
                // The policies of the other end may still deny it.
                Expected::Denied => None,
                Expected::Allowed => Some(Wanted::ProvenOr(vec![Reason::ChangedDuringRun])),
            }
        });
        jobs.push(job(base, &what, How::DURING, act, expect));
    }
    jobs
}

/// A policy that isolates every pod of a namespace.
fn isolating(namespace: &str) -> Policy {
    let spec = serde_json::json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] });
    Policy::Network(NetworkPolicy {
        namespace: namespace.to_owned(),
        name: "isolation".to_owned(),
        spec: serde_json::from_value(spec).expect("a policy"),
        origin: String::new(),
        rule_origins: RuleOrigins::default(),
    })
}

/// Cluster DNS stopped → what probes have to resolve is unproven by that name.
fn dns_stopped(base: &Arc<Base>) -> Job {
    let act = async |hand: Hand| hand.sabotage.stop_dns().await;
    let expect: Expect = Box::new(|base, index| {
        let check = base.check(index);
        let named = resolved_by_probes(base);
        Some(if check.flows.iter().any(|flow| named.contains(&flow.0)) {
            Wanted::Unproven(vec![Reason::NameDidNotResolve])
        } else if base
            .ends()
            .sockets(check)
            .iter()
            .any(|socket| socket.port == 53)
        {
            Wanted::NotViolated
        } else {
            // DNS is the only source control of a source that is allowed nothing else.
            Wanted::ProvenOr(vec![Reason::SourceNotVerified])
        })
    });
    job(base, "DNS stopped", How::BEFORE, act, expect)
}

/// Flows whose address a probe looks up itself.
fn resolved_by_probes(base: &Base) -> BTreeSet<u32> {
    let schedule = Schedule {
        run: String::new(),
        seed: 0,
        trust: Vec::new(),
        heartbeat: Duration::from_secs(1),
    };
    let plans = probe_plans(&base.ran.plan, &schedule, 0..base.ran.plan.probes().len());
    let flows = plans.iter().flat_map(|plan| &plan.flows);
    flows
        .filter(|flow| matches!(flow.target, Target::Name { .. }))
        .map(|flow| flow.id)
        .collect()
}

/// One packet in twenty of every denied flow gets through → violated with `attempts: 20`.
fn rare_leak(base: &Arc<Base>) -> Option<Job> {
    let leaks = leaks(base, 20, |_| true);
    if leaks.is_empty() {
        return None;
    }
    let mut case = base.case.clone();
    case.suite.settings.attempts = Some(20);
    case.suite.settings.timeout = Some(Duration::from_secs(20));
    let base = Arc::clone(base);
    Some(Job::new(
        format!("{} / one packet in twenty leaks", base.case.name),
        async move || {
            let leaks = leaks.clone();
            let ran = run(&case, How::BEFORE, async |hand: Hand| {
                hand.sabotage.leak(leaks.clone()).await
            })
            .await;
            let ran = match ran {
                Ok(ran) => ran,
                Err(error) => return Done::failed(error),
            };
            let wanted = |index| match base.check(index).expected {
                Expected::Denied => Wanted::Violated,
                Expected::Allowed => Wanted::Proven,
            };
            let failures =
                ran.differing(|index| Some(wanted(index)).filter(|_| base.was_proven(index)));
            Done {
                failures,
                exercised: Exercised::by(&ran),
            }
        },
    ))
}

/// What leaks of the proven denials' flows, to the pods that are wanted.
fn leaks(base: &Base, one_in: u32, wanted: impl Fn(&str) -> bool) -> Vec<Leak> {
    let ends = base.ends();
    let mut leaks: Vec<Leak> = Vec::new();
    for flow in base.proven_denials().flat_map(|check| ends.flows(check)) {
        let Some(from) = ends.source_address(flow) else {
            continue;
        };
        let to: Vec<_> = match &*flow.target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } if wanted(&format!("{namespace}/{name}")) => {
                vec![(flow.to.address, flow.to.port)]
            }
            TargetKind::Service { pods, .. } => {
                let pods = base
                    .ran
                    .inventory
                    .pods
                    .iter()
                    .filter(|pod| pods.contains(&pod.full_name()));
                pods.filter(|pod| wanted(&pod.full_name()))
                    .filter_map(|pod| {
                        let address = pod
                            .addresses
                            .iter()
                            .copied()
                            .find(|a| a.is_ipv4() == from.is_ipv4())?;
                        Some((address, ends.behind(flow, pod)?))
                    })
                    .collect()
            }
            TargetKind::Outside { name } if wanted(name) => vec![(flow.to.address, flow.to.port)],
            TargetKind::Pod { .. }
            | TargetKind::Outside { .. }
            | TargetKind::Node { .. }
            | TargetKind::ReferencePod { .. } => Vec::new(),
        };
        for (to, port) in to {
            let leak = Leak {
                from,
                to,
                port,
                transport: flow.to.transport,
                one_in,
            };
            if !leaks.contains(&leak) {
                leaks.push(leak);
            }
        }
    }
    leaks
}

/// One replica of a target admits sources that the others deny → violated, and it is named.
fn leaky_replica(base: &Arc<Base>) -> Option<Job> {
    let ends = base.ends();
    let of = |check: &Check| {
        ends.replicas(check)
            .into_iter()
            .next_back()
            .filter(|_| ends.replicas(check).len() > 1)
    };
    let porous: BTreeSet<String> = base.proven_denials().filter_map(of).collect();
    let leaks = leaks(base, 1, |pod| porous.contains(pod));
    if leaks.is_empty() {
        return None;
    }
    let base = Arc::clone(base);
    Some(Job::new(
        format!(
            "{} / {} leak, the other replicas do not",
            base.case.name,
            listed(&porous)
        ),
        async move || {
            let leaks = leaks.clone();
            let ran = run(&base.case, How::BEFORE, async |hand: Hand| {
                hand.sabotage.leak(leaks.clone()).await
            })
            .await;
            let ran = match ran {
                Ok(ran) => ran,
                Err(error) => return Done::failed(error),
            };
            let must_leak = |index: usize| {
                let check = base.check(index);
                check.expected == Expected::Denied
                    && !base.ends().replicas(check).is_disjoint(&porous)
            };
            let wanted = |index| {
                if must_leak(index) {
                    Wanted::Violated
                } else {
                    Wanted::Proven
                }
            };
            let mut failures =
                ran.differing(|index| Some(wanted(index)).filter(|_| base.was_proven(index)));
            for (index, result) in ran.results.iter().enumerate() {
                if !must_leak(index) || !base.was_proven(index) {
                    continue;
                }
                if !porous.iter().any(|pod| result.seen.contains(pod.as_str())) {
                    failures.push(format!(
                        "{}: names no leaky replica: {}",
                        result.check.name, result.seen
                    ));
                }
                for (flow, report) in base.check(index).flows.iter().zip(&result.flows) {
                    let dials = match &*ran.plan.flow(*flow).target_kind {
                        TargetKind::Pod {
                            namespace, name, ..
                        } => format!("{namespace}/{name}"),
                        TargetKind::Service { .. }
                        | TargetKind::Node { .. }
                        | TargetKind::ReferencePod { .. }
                        | TargetKind::Outside { .. } => {
                            continue;
                        }
                    };
                    if (report.verdict == FlowOutcome::Violated) != porous.contains(&dials) {
                        failures.push(format!(
                            "{}: the flow to {dials} shows {}",
                            result.check.name, report.verdict
                        ));
                    }
                }
            }
            Done {
                failures,
                exercised: Exercised::by(&ran),
            }
        },
    ))
}

fn listed(names: &BTreeSet<String>) -> String {
    some(&names.iter().cloned().collect::<Vec<_>>())
}

fn some(names: &[String]) -> String {
    let more = if names.len() > 3 {
        format!(" and {} more", names.len() - 3)
    } else {
        String::new()
    };
    format!(
        "{}{more}",
        names.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
    )
}
