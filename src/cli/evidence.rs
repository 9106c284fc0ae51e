//! `--report evidence=PATH`: every line of every probe as it arrived, with what its numbers stand
//! for.
//!
//! One JSON object a line. The first lines have a `head`: the run, each probe and from where it
//! sends, each flow and where it goes, each check and its flows (a flow of no check is a control).
//! Then, as they happen:
//!
//! - `{"probe":N,"arrivedUs":T,"line":{...}}`: a line of the probe's protocol, as it was read;
//! - `{"probe":N,"arrivedUs":T,"fault":"..."}`: our machinery failed, or the probe ended;
//! - `{"changedUs":T,"what":"..."}`: a pod, namespace, policy or Service changed;
//! - `{"flow":N,"packets":P,"rule":"..."}`: the enforcer's own count, at the end.
//!
//! Times that end in `Us` are microseconds since the run's clock was started; a probe's own times,
//! inside of its lines, are since its hello.

use crate::backend::{Arrival, Change, EnforcerCounts};
use crate::event::{RunInfo, check_refs, describe_request};
use crate::plan::{FlowId, Plan};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The raw evidence on its way into a file. The first failure is kept, and nothing is written after
/// it.
pub(super) struct EvidenceFile {
    file: BufWriter<File>,
    error: Option<io::Error>,
    /// Probes, flows and checks that have their head.
    told: (usize, usize, usize),
}

impl EvidenceFile {
    /// Begins a file, in place of one that is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            error: None,
            told: (0, 0, 0),
        })
    }

    /// Says what numbers stand for, as far as that is not said yet.
    pub(super) fn planned(&mut self, plan: &Plan, run: &RunInfo) {
        let (probes, flows, checks) = std::mem::replace(
            &mut self.told,
            (plan.probes().len(), plan.flows().len(), plan.checks().len()),
        );
        if (probes, flows, checks) == (0, 0, 0) {
            self.write(
                &json!({ "head": "run", "format": "watertight.dev/evidence.v1", "run": run }),
            );
        }
        for (probe, source) in plan.probes().iter().enumerate().skip(probes) {
            self.write(&json!({ "head": "probe", "probe": probe, "from": source.to_string() }));
        }
        for (number, flow) in plan.flows().iter().enumerate().skip(flows) {
            self.write(&json!({
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
            }));
        }
        let named = check_refs(plan);
        for (check, named) in plan.checks().iter().zip(&named).skip(checks) {
            let flows: Vec<u32> = check.flows.iter().map(|FlowId(flow)| *flow).collect();
            self.write(&json!({
                "head": "check", "id": named.id, "suite": named.suite, "name": named.name, "flows": flows,
            }));
        }
    }

    /// What came of a probe.
    pub(super) fn arrival(&mut self, arrival: &Arrival) {
        let (probe, arrived) = (arrival.probe.0, arrival.at.as_micros() as u64);
        match &arrival.line {
            Ok(line) => self.write(&json!({ "probe": probe, "arrivedUs": arrived, "line": line })),
            Err(fault) => self.write(
                &json!({ "probe": probe, "arrivedUs": arrived, "fault": fault.to_string() }),
            ),
        }
    }

    /// What changed.
    pub(super) fn change(&mut self, change: &Change) {
        self.write(
            &json!({ "changedUs": change.at.as_micros() as u64, "what": change.what.to_string() }),
        );
    }

    /// What the enforcer counted.
    pub(super) fn counters(&mut self, counters: &EnforcerCounts) {
        for (FlowId(flow), counter) in counters {
            self.write(&json!({ "flow": flow, "packets": counter.packets, "rule": counter.rule }));
        }
    }

    /// Sees to it that all is in the file.
    pub(super) fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.file.flush().err();
        }
    }

    /// What went wrong.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    fn write(&mut self, line: &Value) {
        if self.error.is_none() {
            self.error = writeln!(self.file, "{line}").err();
        }
    }
}
