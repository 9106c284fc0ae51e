//! `--report evidence=PATH`: every line of every probe as it arrived, headed by the meaning of its
//! numbers.
//!
//! One JSON object a line. The first lines have a `head`: the run, each probe with its source, each
//! flow with its destination, each check with its flows (a flow of no check is a control). Then, in
//! the order of events:
//!
//! - `{"probe":N,"arrivedUs":T,"line":{...}}`: a line of the probe's protocol, as it was read;
//! - `{"probe":N,"arrivedUs":T,"fault":"..."}`: the probe ended, or watertight failed to run it;
//! - `{"changedUs":T,"what":"..."}`: a pod, namespace, policy or Service changed;
//! - `{"flow":N,"packets":P,"rule":"..."}`: the packets that the enforcer counted, at the end.
//!
//! Times that end in `Us` are microseconds since the run's clock was started; the times inside of a
//! probe's lines are since its hello.

use crate::backend::{Arrival, Change, EnforcerCounts};
use crate::event::{CheckRef, RunInfo, check_refs, describe_request};
use crate::plan::{Check, Flow, FlowId, Plan};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A file that the raw evidence is written to. The first failure is kept, and nothing is written
/// after it.
pub(super) struct EvidenceFile {
    file: BufWriter<File>,
    error: Option<io::Error>,
    written: Heads,
}

/// The numbers of probes, flows and checks whose heads are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heads {
    probes: usize,
    flows: usize,
    checks: usize,
}

impl EvidenceFile {
    /// Creates the file, or truncates it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            error: None,
            written: Heads::default(),
        })
    }

    /// Writes the heads of what is new in the plan.
    pub(super) fn planned(&mut self, plan: &Plan, run: &RunInfo) {
        let written = self.written;
        self.written = Heads {
            probes: plan.probes().len(),
            flows: plan.flows().len(),
            checks: plan.checks().len(),
        };

        if written == Heads::default() {
            self.write(
                &json!({ "head": "run", "format": "watertight.dev/evidence.v1", "run": run }),
            );
        }
        for (number, source) in plan.probes().iter().enumerate().skip(written.probes) {
            self.write(&json!({ "head": "probe", "probe": number, "from": source.to_string() }));
        }
        for (number, flow) in plan.flows().iter().enumerate().skip(written.flows) {
            self.write(&flow_head(number, flow));
        }

        let refs = check_refs(plan);
        for (check, check_ref) in plan.checks().iter().zip(&refs).skip(written.checks) {
            self.write(&check_head(check, check_ref));
        }
    }

    /// Writes a probe's line or fault.
    pub(super) fn arrival(&mut self, arrival: &Arrival) {
        let (probe, arrived) = (arrival.probe.0, arrival.at.as_micros() as u64);
        match &arrival.line {
            Ok(line) => self.write(&json!({ "probe": probe, "arrivedUs": arrived, "line": line })),
            Err(fault) => self.write(
                &json!({ "probe": probe, "arrivedUs": arrived, "fault": fault.to_string() }),
            ),
        }
    }

    /// Writes a change of the cluster.
    pub(super) fn change(&mut self, change: &Change) {
        self.write(
            &json!({ "changedUs": change.earliest.as_micros() as u64, "what": change.object.to_string() }),
        );
    }

    /// Writes the packets that the enforcer counted.
    pub(super) fn counters(&mut self, counters: &EnforcerCounts) {
        for (FlowId(flow), counter) in counters {
            self.write(&json!({ "flow": flow, "packets": counter.packets, "rule": counter.rule }));
        }
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.file.flush().err();
        }
    }

    /// The first failure.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    fn write(&mut self, line: &Value) {
        if self.error.is_none() {
            self.error = writeln!(self.file, "{line}").err();
        }
    }
}

fn flow_head(number: usize, flow: &Flow) -> Value {
    json!({
        "head": "flow",
        "flow": number,
        "probe": flow.probe.0,
        "target": flow.target_kind.to_string(),
        "address": flow.to.address,
        "name": flow.to.name,
        "port": flow.to.port,
        "transport": flow.to.transport,
        "request": describe_request(&flow.to.request),
        "opensAt": flow.opens_at,
        "answerRule": flow.to.answer_rule.name(),
    })
}

fn check_head(check: &Check, check_ref: &CheckRef) -> Value {
    let flows: Vec<u32> = check.flows.iter().map(|FlowId(flow)| *flow).collect();
    json!({
        "head": "check",
        "id": check_ref.id,
        "suite": check_ref.suite,
        "name": check_ref.name,
        "flows": flows,
    })
}
