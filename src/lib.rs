//! Prove that a Kubernetes cluster's network segments hold.
//!
//! A suite states who may talk to whom. watertight sends real packets from the right places, judges
//! what came back, and says for every line *proven*, *violated* or *unproven*. "It did not connect"
//! is never taken for "the policy denied it": a deny without a control is not a pass.
//!
//! ```text
//!  files ── source ───────▶ tree with spans, diagnostics
//!           suite ────────▶ Suite         valid; all diagnostics at once, or none
//!  manifests ── inventory ▶ Inventory     pods, services, namespaces, policies as they are now
//!           policy ───────▶ predictions   what the policies say, without packets
//!           plan ─────────▶ Plan          checks → flows, controls, rates; probes to launch
//!           backend ──────▶ lines         what the network did, nothing more
//!           engine ───────▶ evidence      collected, in time
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
//! | cli | model, source, suite, inventory, policy, plan, backend, event, verdict, report, image, wire, app |
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
//!
//! # Glossary
//!
//! One word for one concept, the same in code, suites, console, reports and messages.
//!
//! | word | means |
//! |---|---|
//! | suite, expectation | a file of lines; a line `SOURCE -> TARGET allowed\|denied` |
//! | endpoint | what a line names: a workload, a Service, a host, an address |
//! | check | an expectation for one source endpoint, one target endpoint, one port and request; what reports list |
//! | flow | one source instance, one address, port, transport and request; a check has one or more |
//! | attempt | one connection or exchange of a flow: *open*, *blocked*, *not sent* or *fault* |
//! | probe | the process that makes attempts from one source instance |
//! | probe pod | the pod in which it runs; a *clone* has the labels and service account of a workload's pod |
//! | responder | our server that answers attempts with a nonce |
//! | target control | a flow from elsewhere to the same address, port and request that got through: the target answers |
//! | source control | another flow of the same probe that got through: the source can send |
//! | path control | a flow between the same two nodes that got through in the same window: the path is open |
//! | same-node control | a target control from a pod with other labels on the source's node |
//! | reference pod | a pod of ours without a workload's labels, one on each node, used by controls |
//! | control port | the port on which our reference pods and probes answer |
//! | policy delay | the time until a new pod's identity is known to the enforcer |
//! | start-up leak | successes while the probe's own pod was so new that policies did not apply to it yet |
//! | kept connection | one that is opened once and kept open, to test whether a deny cuts it (`established: true`) |
//! | hold, settle, grace | how long a deny is watched; the pause before; how long a start-up leak may last |
//! | window | the interval that a proof speaks of |
//! | verdict | proven, violated, unproven; with a reason code where not proven |
//! | tier | how strong a proof is |
//! | reach | which nodes, pods and families of the plan a verdict speaks of |
//! | coverage | which policies, rules, pairs, pods and nodes the checks touch |
//! | prediction | what the policies say, without packets |
//! | lab | the network namespaces of this machine in which manifests are tested |
//! | enforcer | whatever drops or rejects packets |

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
