//! One run of a suite in a separate lab, which a sabotage breaks before or during the run.

use crate::recorder::Recorder;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use watertight::app::{engine_options, outside_hosts, plan_in, replan_in};
use watertight::backend::Backend;
use watertight::backend::lab::{self, Deny, Lab, Layout, Sabotage, World};
use watertight::engine::{self, Replan};
use watertight::event::{CheckResult, ExitCode, Outcome, RunEvent};
use watertight::inventory::{Inventory, Manifests, load_manifests};
use watertight::plan::{Plan, Selection};
use watertight::source::{Diagnostics, Sources};
use watertight::suite::{self, Mechanism, Suite};
use watertight::verdict::Reason;

/// How often a run is repeated in which the machine did not give the probes their time. Nothing was
/// measured in such a run; every repetition is printed.
const REPETITIONS: u32 = 3;

/// The most probes of a case in which each thing is broken in a separate run.
const EACH_UP_TO: usize = 8;

/// A suite with its manifests.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) name: String,
    pub(crate) suite: Suite,
    pub(crate) manifests: Manifests,
    pub(crate) deny: Deny,
    /// Whether each thing is broken in a separate run, or half of them together.
    pub(crate) turns: Turns,
}

/// How many things of a case are broken in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// Each thing in a separate run.
    Each,
    /// Every other thing in one run, the rest in a second.
    Halves,
}

impl Turns {
    /// Splits things into the groups that are broken together.
    pub(crate) fn split<T: Clone>(self, things: &[T]) -> Vec<Vec<T>> {
        match self {
            Self::Each => things.iter().map(|thing| vec![thing.clone()]).collect(),
            Self::Halves => [every_other(things, 0), every_other(things, 1)]
                .into_iter()
                .filter(|half| !half.is_empty())
                .collect(),
        }
    }
}

/// Every other thing, from this one on.
fn every_other<T: Clone>(things: &[T], first: usize) -> Vec<T> {
    things.iter().skip(first).step_by(2).cloned().collect()
}

impl Evaluation {
    /// Reads `suite.yaml` and `manifests/` of a folder.
    pub(crate) fn load(name: &str, folder: &Path, turns: Turns) -> Self {
        let mut sources = Sources::new();
        let (mut suites, diagnostics) = suite::load(&[path_in(folder, "suite.yaml")], &mut sources);
        flawless(&diagnostics);
        let (manifests, diagnostics) =
            load_manifests(&[path_in(folder, "manifests")], &mut sources);
        flawless(&diagnostics);

        let mut suite = suites.pop().expect("a suite in suite.yaml");
        // An unproven check waits for its whole timeout, and most checks of a broken lab are
        // unproven.
        suite.settings.hold.get_or_insert(Duration::from_secs(2));
        suite.settings.timeout.get_or_insert(Duration::from_secs(4));
        Self {
            name: name.to_owned(),
            suite,
            manifests,
            deny: Deny::Drop,
            turns,
        }
    }

    /// The same, in halves where breaking each thing by itself would take minutes.
    pub(crate) fn in_turns_by_size(self) -> Self {
        let turns = if self.prepare().1.probes().len() > EACH_UP_TO {
            Turns::Halves
        } else {
            Turns::Each
        };
        Self { turns, ..self }
    }

    /// The same with another way to treat denied packets; lines that require a drop require that
    /// way.
    pub(crate) fn denying(&self, deny: Deny) -> Self {
        let mechanism = match deny {
            Deny::Drop => Mechanism::Drop,
            Deny::Reset => Mechanism::Reset,
            Deny::Icmp => Mechanism::Icmp,
        };
        let mut this = Self {
            deny,
            ..self.clone()
        };

        for line in &mut this.suite.lines {
            line.settings.mechanism = line.settings.mechanism.map(|_drop| mechanism);
        }
        this
    }

    /// The same with another suite.
    pub(crate) fn with(&self, suite: Suite) -> Self {
        Self {
            suite,
            ..self.clone()
        }
    }

    /// The world, its plan, and how the plan is renewed.
    pub(crate) fn prepare(&self) -> (World, Plan, Replan) {
        let suites = [self.suite.clone()];
        let world = World::place(
            &self.manifests,
            &outside_hosts(&suites),
            Layout::dual_stack(),
        )
        .expect("a world");
        let plan = plan_in(&world, &suites, &Selection::default());
        let replan = replan_in(&world, &suites, &Selection::default());
        (
            world,
            plan.unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            replan,
        )
    }
}

/// The path of a file or folder in a folder, as the command line gives it.
fn path_in(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Asserts that nothing was found wrong in files.
fn flawless(diagnostics: &Diagnostics) {
    let all: Vec<&str> = diagnostics
        .iter()
        .map(|diagnostic| diagnostic.message.as_str())
        .collect();
    assert!(all.is_empty(), "{all:?}");
}

/// When a lab is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Before any probe starts.
    Before,
    /// So long after the last probe said hello.
    After(Duration),
}

/// The lab, as a sabotage changes it.
#[derive(Debug, Clone)]
pub(crate) struct Hand {
    pub(crate) sabotage: Sabotage,
}

/// When a run is broken or interrupted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) when: When,
    /// Whether probes are starved on purpose.
    pub(crate) starves: bool,
    /// When the run is interrupted.
    pub(crate) interrupt: Option<Duration>,
}

impl How {
    pub(crate) const BEFORE: Self = Self {
        when: When::Before,
        starves: false,
        interrupt: None,
    };
    /// A second after the start the burst is over and no hold is complete.
    pub(crate) const DURING: Self = Self {
        when: When::After(Duration::from_secs(1)),
        ..Self::BEFORE
    };
}

/// The results of a run.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) plan: Arc<Plan>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) results: Vec<CheckResult>,
    pub(crate) code: ExitCode,
    /// Attempts that are no evidence, since the machine did not let the probe carry them out in
    /// time.
    starved: usize,
}

/// Runs a case without sabotage.
pub(crate) async fn run_whole(case: &Evaluation) -> Result<Ran, String> {
    run(case, How::BEFORE, async |_| Ok(())).await
}

/// Runs a case and breaks its lab.
///
/// # Errors
/// The step that failed. Verdicts are no errors.
pub(crate) async fn run(
    case: &Evaluation,
    how: How,
    act: impl AsyncFn(Hand) -> Result<(), lab::Error>,
) -> Result<Ran, String> {
    let mut ran = run_once(case, how, &act).await?;
    for _ in 0..REPETITIONS {
        let Some(starved) = ran.starved().filter(|_| !how.starves) else {
            break;
        };
        crate::say(&format!(
            "      {}: the machine was too busy to measure, once more; {starved}",
            case.name
        ));
        ran = run_once(case, how, &act).await?;
    }
    Ok(ran)
}

/// The message of a step that failed.
fn failed(step: &str, error: &dyn std::error::Error) -> String {
    format!("failed to {step}: {error}")
}

async fn run_once(
    case: &Evaluation,
    how: How,
    act: &impl AsyncFn(Hand) -> Result<(), lab::Error>,
) -> Result<Ran, String> {
    let (world, plan, replan) = case.prepare();
    let (plan, inventory) = (Arc::new(plan), Arc::new(world.inventory().clone()));
    let mut lab = Lab::up(world, lab::Options { deny: case.deny })
        .await
        .map_err(|e| failed("make the lab", &e))?;
    let hand = Hand {
        sabotage: lab.sabotage(),
    };

    if how.when == When::Before {
        act(hand.clone())
            .await
            .map_err(|e| failed("break the lab", &e))?;
        // The change was before the run: it is no change during the run.
        drop(lab.changes());
    }

    let (mut recorder, mut progress) = Recorder::new(|_: &RunEvent| {});
    let mut options = engine_options(&lab);
    options.replan = replan;

    let interrupted = async {
        match how.interrupt {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
        "interrupted on purpose".to_owned()
    };

    let running = engine::run(&plan, &mut lab, options, interrupted, &mut recorder);
    let breaking = async {
        let When::After(moment) = how.when else {
            return Ok(());
        };
        let all = progress.wait_for(|progress| progress.hellos.len() == plan.probes().len());
        match tokio::time::timeout(Duration::from_secs(20), all).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err("not every probe said hello".to_owned()),
        }
        tokio::time::sleep(moment).await;
        act(hand).await.map_err(|e| failed("break the lab", &e))
    };

    let (summary, broken) = tokio::join!(running, breaking);
    let torn_down = lab.teardown().await;

    broken?;
    let summary = summary.map_err(|e| failed("run", &e))?;
    if let Some(error) = torn_down.first() {
        return Err(failed("take the lab down", error));
    }

    let (results, _) = recorder
        .finished
        .ok_or("the run did not say that it finished")?;
    Ok(Ran {
        plan,
        inventory,
        results,
        code: ExitCode::of(&summary),
        starved: recorder.starved,
    })
}

/// Whether a check is unproven for a reason.
pub(crate) fn is(result: &CheckResult, reason: Reason) -> bool {
    result
        .reason
        .as_ref()
        .is_some_and(|given| given.code == reason)
}

/// Whether a check is unproven for one of these reasons.
fn is_any(result: &CheckResult, reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| is(result, *reason))
}

/// The wanted verdict of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Proven,
    Violated,
    Unproven(Vec<Reason>),
    /// Proven, or unproven for one of these reasons.
    ProvenOr(Vec<Reason>),
    NotProven,
    NotViolated,
}

impl Wanted {
    fn holds(&self, result: &CheckResult) -> bool {
        match self {
            Self::Proven => result.verdict == Outcome::Proven,
            Self::Violated => result.verdict == Outcome::Violated,
            Self::Unproven(reasons) => {
                result.verdict == Outcome::Unproven && is_any(result, reasons)
            }
            Self::ProvenOr(reasons) => match result.verdict {
                Outcome::Proven => true,
                Outcome::Unproven => is_any(result, reasons),
                Outcome::Violated => false,
            },
            Self::NotProven => result.verdict != Outcome::Proven,
            Self::NotViolated => result.verdict != Outcome::Violated,
        }
    }
}

impl Ran {
    /// A check of which nothing was measured, since probes or the responder did not get their time.
    fn starved(&self) -> Option<String> {
        let checks = self.plan.checks().iter().zip(&self.results);
        let mut starved = checks.filter(|(check, result)| {
            // A listener in the lab answers within a millisecond if it gets CPU time.
            let slow = check.settings.attempt_timeout >= Duration::from_secs(1)
                && is(result, Reason::AttemptTimeoutTooShort);
            let interrupted = self.starved > 0 && is(result, Reason::TooFewAttempts);
            slow || interrupted || is(result, Reason::ProbeCpuStarved)
        });

        let (_, result) = starved.next()?;
        let reason = result.reason.as_ref();
        let text = reason.map_or("", |reason| reason.text.as_str());
        Some(format!("{}: {text}", result.check.name))
    }

    /// Results that are not the wanted ones; `wanted` gets a check's index in the plan.
    pub(crate) fn differing(&self, wanted: impl Fn(usize) -> Option<Wanted>) -> Vec<String> {
        let mut differing = Vec::new();
        // Swept ports that opened come after the checks.
        if self.results.len() < self.plan.checks().len() {
            differing.push(format!(
                "{} results for {} checks",
                self.results.len(),
                self.plan.checks().len()
            ));
        }

        for (index, result) in self.results.iter().enumerate() {
            let Some(wanted) = wanted(index).filter(|wanted| !wanted.holds(result)) else {
                continue;
            };
            differing.push(format!(
                "{}: wanted {wanted:?}, {}",
                result.check.name,
                shown(result)
            ));
        }
        differing
    }
}

/// A result in one line, with the flows that made it so.
pub(crate) fn shown(result: &CheckResult) -> String {
    let reason = result.reason.as_ref().map_or(String::new(), |reason| {
        format!(" ({}: {})", reason.code, reason.text)
    });
    let flows: Vec<String> = result
        .flows
        .iter()
        .filter(|flow| {
            flow.verdict.to_string() != result.verdict.to_string() || result.flows.len() == 1
        })
        .chain(
            result
                .flows
                .iter()
                .filter(|flow| flow.verdict.to_string() == result.verdict.to_string()),
        )
        .take(4)
        .map(|flow| {
            format!(
                "{} -> {} {} {} {}",
                flow.source, flow.target, flow.address, flow.verdict, flow.text
            )
        })
        .collect();
    format!(
        "got {}{reason}; {}; flows: {}",
        result.verdict,
        result.seen,
        flows.join(" | ")
    )
}
