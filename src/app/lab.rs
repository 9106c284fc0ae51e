//! A run in the lab, from suites and manifests to an exit code.

use super::interrupt::Interrupts;
use super::load;
use super::options::{LabOptions, RunOptions, SelectOptions, SuiteInput, WorldOptions};
use super::outputs::Outputs;
use super::outside::hosts_to_place;
use super::planning::{plan_in, replan_in, secrets_of, show_plan_error};
use super::run::{Stopped, new_schedule, own_digest, run_and_tear_down};
use super::runtime::EventLoop;
use super::terminal::{Terminal, describe};
use crate::backend::lab::{self, Deny, Lab, Layout, Outside, World};
use crate::engine::{self, Replan, RunnerClock};
use crate::event::ExitCode;
use crate::inventory::{Manifests, Policy};
use crate::model::{Families, Family, Secrets};
use crate::plan::{self, Check, Plan, Selection};
use crate::source::Sources;
use crate::suite::Suite;
use serde_json::{Map, Value};
use std::time::Duration;

/// The interval between the heartbeats of a lab's probe; a probe in the lab has no log to fill.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Suites, planned in the world that their manifests make.
pub(crate) struct PlannedLab {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) replan: Replan,
    /// What requests take from the environment.
    pub(crate) secrets: Secrets,
}

/// Tests suites in the lab.
pub(super) fn run(
    input: SuiteInput<'_>,
    lab: &LabOptions,
    options: &RunOptions,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let planned =
        load(input, &lab.world, &options.select, terminal).map_err(Stopped::while_loading)?;
    outputs.show_console(options, terminal);
    enter(terminal).map_err(|code| Stopped::new("the lab is not possible here", code))?;

    let settings = options.report_settings(Some(lab.deny));
    run_planned(planned, lab.deny, settings, outputs, terminal)
}

/// Reads suites and manifests, places the world, makes the plan.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn load(
    input: SuiteInput<'_>,
    world: &WorldOptions,
    select: &SelectOptions,
    terminal: &Terminal,
) -> Result<PlannedLab, ExitCode> {
    let mut sources = Sources::new();
    let (mut suites, manifests) =
        load::suites_and_world(input, world, select.strict, &mut sources, terminal)?;
    select.apply(&mut suites);
    let selection = &select.selection;
    let families = families(&suites, world.families, terminal)?;
    place_and_plan(&suites, &manifests, families, selection, &sources, terminal)
}

/// The address families that a command or its suites give; `None` where neither does.
///
/// # Errors
/// [`ExitCode::Usage`] where suites of one run give different ones, which has been shown.
pub(crate) fn families(
    suites: &[Suite],
    of_command: Option<Families>,
    terminal: &Terminal,
) -> Result<Option<Families>, ExitCode> {
    if of_command.is_some() {
        return Ok(of_command);
    }
    let mut given = suites
        .iter()
        .filter_map(|suite| Some((suite, suite.lab_families?)));
    let Some((first, families)) = given.next() else {
        return Ok(None);
    };
    if let Some((other, others)) = given.find(|(_, others)| *others != families) {
        terminal.error(&format!(
            "labFamilies: suite {} tests {families}, suite {} tests {others}, and a run has one lab: \
             choose with --lab-families, or run them one after the other",
            first.name, other.name
        ));
        return Err(ExitCode::Usage);
    }
    Ok(Some(families))
}

/// Gives every check of suites with its prediction to `each`, in the world that the lab would make of
/// manifests; `families` as in [`Layout`].
///
/// # Errors
/// The cause has been shown.
pub(crate) fn survey(
    suites: &[Suite],
    manifests: &Manifests,
    families: Option<Families>,
    each: &mut dyn FnMut(&Check),
    sources: &Sources,
    terminal: &Terminal,
) -> Result<(), ExitCode> {
    load::note_what_is_missing(manifests, terminal);
    let outside = hosts_to_place(suites, &Selection::default());
    let world = place(manifests, &outside, families, terminal)?;
    load::note_policy_caveats(world.inventory(), terminal);
    plan::survey(suites, world.inventory(), &world.properties(), each)
        .map_err(|error| show_plan_error(&error, sources, terminal))
}

/// Places a world for suites and plans them in it; `families` as in [`Layout`].
///
/// # Errors
/// The cause has been shown.
pub(crate) fn place_and_plan(
    suites: &[Suite],
    manifests: &Manifests,
    families: Option<Families>,
    selection: &Selection,
    sources: &Sources,
    terminal: &Terminal,
) -> Result<PlannedLab, ExitCode> {
    load::note_what_is_missing(manifests, terminal);
    let outside = hosts_to_place(suites, selection);
    let world = place(manifests, &outside, families, terminal)?;
    let plan = plan_in(&world, suites, selection)
        .map_err(|error| show_plan_error(&error, sources, terminal))?;
    let replan = replan_in(&world, suites, selection);
    Ok(PlannedLab {
        world,
        plan,
        replan,
        secrets: secrets_of(suites),
    })
}

/// Gives every pod, node and outside host of the manifests its addresses; `families` as in
/// [`Layout`].
///
/// # Errors
/// [`ExitCode::Usage`], and the cause has been shown.
pub(super) fn place(
    manifests: &Manifests,
    outside: &[Outside],
    families: Option<Families>,
    terminal: &Terminal,
) -> Result<World, ExitCode> {
    let layout = Layout {
        families,
        ..Layout::default()
    };
    let world = World::place(manifests, outside, layout).map_err(|error| {
        terminal.error(&format!("cannot make the lab: failed to {error}"));
        ExitCode::Usage
    })?;
    if families.is_none() && names_untested_family(manifests, world.families()) {
        terminal.note(&format!(
            "the lab has {} alone, as the manifests show, and policies name addresses of the other \
             family: test both with --lab-families ipv4,ipv6",
            world.families()
        ));
    }
    Ok(world)
}

/// Whether policies name address blocks of a family that the lab does not have.
fn names_untested_family(manifests: &Manifests, families: Families) -> bool {
    let mut blocks = manifests.policies.iter().flat_map(Policy::blocks);
    blocks.any(|block| !families.contains(Family::of(block.first())))
}

/// Enters the lab's namespaces; to be called once, before any thread is started.
///
/// # Errors
/// [`ExitCode::Impossible`]; the obstacle and its fix have been shown.
pub(crate) fn enter(terminal: &Terminal) -> Result<(), ExitCode> {
    match lab::enter() {
        Ok(_how) => Ok(()),
        Err(obstacle) => {
            terminal.error(&format!(
                "the lab is not possible here: {obstacle}\n  fix: {}",
                obstacle.fix()
            ));
            Err(ExitCode::Impossible)
        }
    }
}

/// Makes the world, runs the plan in it, takes everything down. `settings` are the options of the
/// run, for its report.
///
/// # Errors
/// The lab could not be made, or no probe could be started.
pub(crate) fn run_planned(
    planned: PlannedLab,
    deny: Deny,
    mut settings: Map<String, Value>,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let PlannedLab {
        world,
        plan,
        replan,
        secrets,
    } = planned;

    settings.insert("labFamilies".to_owned(), world.families().names().into());

    EventLoop::Lab.block_on(terminal, async {
        let digest = tokio::task::spawn_blocking(own_digest);
        let limits = world.inventory().unread_policies_warning();
        let mut interrupts = Interrupts::listen();
        let mut lab = bring_up(world, deny, &mut interrupts, terminal).await?;
        lab.provide(secrets);

        let digest = digest.await.ok().flatten();
        let mut options = engine_options(&lab);
        options.replan = replan;
        options.about = engine::About {
            // The lab's probes are started from the same executable.
            probe_digest: digest.clone(),
            digest,
            settings,
            limits: limits.into_iter().collect(),
        };

        run_and_tear_down(&plan, lab, options, interrupts.next(), outputs, terminal).await
    })?
}

async fn bring_up(
    world: World,
    deny: Deny,
    interrupts: &mut Interrupts,
    terminal: &Terminal,
) -> Result<Lab, Stopped> {
    let result = tokio::select! {
        result = Lab::up(world, lab::Options { deny }) => result,
        why = interrupts.next() => return Err(Stopped::new(why, ExitCode::Impossible)),
    };
    result.map_err(|error| {
        let why = describe(&error);
        terminal.error(&why);
        Stopped::new(
            format!("the lab could not be made: {why}"),
            ExitCode::Impossible,
        )
    })
}

/// The engine's options for a run in a lab that is up: a new run id and seed, and no
/// [`engine::Options::replan`].
pub fn engine_options(lab: &Lab) -> engine::Options {
    engine::Options {
        schedule: new_schedule(vec![lab.authority().to_owned()], HEARTBEAT),
        backend: "lab",
        clock: RunnerClock::read(lab.started().elapsed()),
        about: engine::About::default(),
        replan: Replan::default(),
    }
}
