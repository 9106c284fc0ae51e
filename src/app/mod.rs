//! What a command does: loading, planning, running on a backend, reporting and tearing down.
//!
//! The command line (`cli`) and the libtest front end (`harness`) fill in plain option structs and
//! call this module; it knows no flag and no help text.
//!
//! ```text
//! SuiteInput, manifests ── load ─────▶ Suites, Manifests     diagnostics shown, all at once
//!                          planning ─▶ Plan, Replan          in the lab's world or in a cluster
//!                          lab       ─┐
//!                          cluster    ├▶ a backend that is up
//!                          scripted  ─┘
//!                          run ──────▶ engine, teardown      one exit code
//!                          outputs ──▶ reports, console, raw evidence
//! ```
//!
//! A function that returns `Err(ExitCode)` or `Err(Stopped)` has shown the cause on standard error
//! already.
//!
//! The public items are what tests and benchmarks need to plan and run in a lab of their own.

pub(crate) mod cluster;
pub(crate) mod draft;
mod evidence;
mod hosts;
mod interrupt;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod options;
pub(crate) mod outputs;
mod outside;
pub(crate) mod planning;
pub(crate) mod prediction;
pub(crate) mod preflight;
pub(crate) mod run;
mod runtime;
mod scripted;
pub(crate) mod terminal;

pub use lab::engine_options;
pub use outside::outside_hosts;
pub use planning::{plan_in, replan_in};
