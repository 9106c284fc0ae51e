//! Prove that a Kubernetes cluster's network segments hold.
//!
//! A suite states who may talk to whom. watertight sends real packets from the right places, judges
//! what came back, and says for every line *proven*, *violated* or *unproven*. "It did not connect"
//! is never taken for "the policy denied it": a deny that nothing contrasts with is not a pass.
//!
//! ```text
//!  files ── source ───────▶ tree with spans, diagnostics
//!           suite ────────▶ Suite         valid; all diagnostics at once, or none
//!  manifests ── inventory ▶ Inventory     pods, services, namespaces, policies as they are now
//!           policy ───────▶ predictions   what the policies say, without packets
//!           plan ─────────▶ Plan          checks → flows, controls, rates; probes to launch
//!           backend ──────▶ lines         what the network did, nothing more
//!           engine ───────▶ evidence      folded, in time
//!           verdict ──────▶ Verdict       pure function of (check, evidence)
//!           event ────────▶ RunEvent      the only thing a report ever sees
//!           report ───────▶ console, JUnit, JSON, JSON lines   and one exit code
//!           app ──────────▶ a command: the stages above, in order
//! ```
//!
//! | module | may import |
//! |---|---|
//! | model | |
//! | image | wire |
//! | source | model |
//! | suite, inventory | model, source |
//! | policy | model, inventory |
//! | plan | model, source, suite, inventory, policy, wire |
//! | verdict | model, suite, plan, wire |
//! | event | model, suite, inventory, plan, verdict, wire |
//! | report | model, event |
//! | backend | model, inventory, plan, wire |
//! | engine | model, inventory, plan, backend, verdict, event, wire |
//! | app | model, source, suite, inventory, policy, plan, backend, engine, event, report, wire |
//! | harness | source, suite, inventory, plan, backend, event, report, app, early_main |
//! | cli | model, source, suite, inventory, policy, plan, backend, event, report, image, wire, app |
//!
//! A row imports only from rows above it. `wire` is the agent's module of types
//! ([`watertight_probe::wire`]). `tests/layering.rs` holds the table.
//!
//! # Invariants
//!
//! - A probe never knows what is expected: the wire has no word for it.
//! - What the network did ([`wire::Observation`]) and what our machinery failed at
//!   ([`backend::ProbeFault`], [`wire::Fault`]) are different types; the second can only ever lead
//!   to *unproven*.
//! - [`verdict::DenyProof`] cannot be built without a [`verdict::ControlProof`].
//! - Nothing with more than two outcomes has a predicate for success: reports match exhaustively.
//! - Zero checks is not success, and neither is a check without a verdict.
//! - What policies say is shown and may choose what is tried; no verdict reads it.

pub mod app;
pub mod backend;
pub mod cli;
pub mod engine;
pub mod event;
pub mod harness;
pub mod image;
pub mod inventory;
pub mod model;
pub mod plan;
pub mod policy;
pub mod report;
pub mod source;
pub mod suite;
pub mod verdict;

pub use watertight_probe::wire;

use std::process::ExitCode;

/// Serves `__probe` and `__responder`, the parts of the agent that the lab starts from the same
/// program.
///
/// To be called first in `main`, before any thread exists. `None` means that the process is
/// neither.
pub fn early_main() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    match args.next()?.as_str() {
        "__probe" => Some(watertight_probe::probe_main(
            args.next().and_then(|fd| fd.parse().ok()),
        )),
        "__responder" => Some(watertight_probe::responder_main()),
        _ => None,
    }
}
