//! Worlds, suites and plans from texts.

use std::time::Duration;
use watertight::backend::lab::{Layout, Outside, World};
use watertight::inventory::{Manifests, read_manifests};
use watertight::plan::{Plan, Schedule, Selection, resolve};
use watertight::source::Sources;
use watertight::suite::{self, Suite};

/// The objects of YAML documents. Any diagnostic fails the test.
#[track_caller]
pub(crate) fn manifests(text: impl Into<String>) -> Manifests {
    let mut sources = Sources::new();
    let file = sources.add("world.yaml", text);
    let (manifests, diagnostics) = read_manifests(&[file], &sources);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    manifests
}

/// The world of YAML documents, with these hosts outside the cluster.
#[track_caller]
pub(crate) fn world(text: impl Into<String>, outside: &[Outside]) -> World {
    place(&manifests(text), outside)
}

/// The world of objects, with these hosts outside the cluster.
#[track_caller]
pub(crate) fn place(manifests: &Manifests, outside: &[Outside]) -> World {
    World::place(manifests, outside, Layout::dual_stack()).expect("a world")
}

/// The suites of a text. An error in it fails the test; a warning does not.
#[track_caller]
pub(crate) fn suites(text: impl Into<String>) -> Vec<Suite> {
    let mut sources = Sources::new();
    let file = sources.add("suite.yaml", text);
    let (suites, diagnostics) = suite::read(&[file], &sources);
    assert!(
        !diagnostics.has_errors(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    suites
}

/// What the lab would do for suites in a world.
#[track_caller]
pub(crate) fn lab_plan(world: &World, suites: &[Suite]) -> Plan {
    resolve(
        suites,
        world.inventory(),
        &world.properties(),
        &Selection::default(),
    )
    .expect("a plan")
}

/// The run's id in [`schedule`].
pub(crate) const RUN: &str = "0123456789abcdef";

/// A schedule with a fixed run and seed, for probes that trust no authority.
pub(crate) fn schedule(heartbeat: Duration) -> Schedule {
    Schedule {
        run: RUN.into(),
        seed: 1,
        trust: Vec::new(),
        heartbeat,
    }
}
