//! Judging checks during a run and at its end.

use super::Observer;
use super::completion::Completion;
use super::run::Run;
use crate::event::{CheckResult, RunEvent, check_ref, check_result};
use crate::plan::{Check, FlowId, Provability, Waits};
use crate::verdict::{
    FlowResult, FlowVerdict, Judge, Judgement, PendingFlow, Reason, Verdict, waits_needed,
};
use std::collections::HashMap;

/// Every so many rounds begin with another flow of a check than the one that it was last waiting
/// for.
const OTHER_FLOW_EVERY: u32 = 8;

impl Run<'_> {
    /// The checks that are not settled.
    pub(super) fn unsettled_checks(&self) -> impl Iterator<Item = &Check> {
        self.plan
            .checks()
            .iter()
            .zip(&self.settled)
            .filter(|(_, settled)| !**settled)
            .map(|(check, _)| check)
    }

    /// Judges what is not settled, and reports what is now. Returns flows that need longer waits.
    pub(super) fn settle(&mut self, observer: &mut impl Observer) -> Vec<(FlowId, Waits)> {
        let mut slow = Vec::new();
        self.rounds += 1;
        let skip = usize::from(self.rounds.is_multiple_of(OTHER_FLOW_EVERY));
        let judge = Judge::new(&self.plan, &self.collector.evidence);
        for (index, check) in self.plan.checks().iter().enumerate() {
            if self.settled[index] {
                continue;
            }

            // Most checks wait for one flow at a time: the others are judged once it is settled, or
            // now and then.
            if let Some(PendingFlow {
                index: flow,
                reason,
            }) = judge.pending_flow(check, self.pending_flows[index] + skip)
            {
                self.pending_flows[index] = flow;
                if reason == Reason::AttemptTimeoutTooShort {
                    slow.extend(self.slow_flows(check, &judge.judge(check)));
                }
                continue;
            }

            let judgement = judge.judge(check);
            self.settled[index] = true;
            let result = check_result(
                &self.plan,
                &self.checks[index],
                &judgement,
                &self.collector.evidence,
            );
            if self.reported[index].replace(result.verdict) != Some(result.verdict) {
                observer.event(RunEvent::Settled {
                    result: Box::new(result),
                });
            }
        }
        slow
    }

    /// The denied flows of a check whose silence was not waited for long enough, and that another
    /// probe can try.
    fn slow_flows(&self, check: &Check, judgement: &Judgement) -> Vec<(FlowId, Waits)> {
        judgement
            .flows
            .iter()
            .filter(|result| is_timeout_too_short(result))
            .map(|result| result.flow)
            .filter(|flow| {
                !self
                    .plan
                    .ephemeral_probes()
                    .contains(&self.plan.flow(*flow).probe)
            })
            .filter_map(|flow| {
                let waits = waits_needed(&self.plan, &self.collector.evidence, check, flow)?;
                Some((flow, waits))
            })
            .collect()
    }

    /// Whether every port of a sweep was tried, as far as its probe can.
    pub(super) fn is_swept(&self) -> bool {
        let mut flows = self.plan.swept().iter().flat_map(|check| &check.flows);
        flows.all(|flow| {
            let probe = self.plan.flow(*flow).probe;
            self.collector.evidence.flow(*flow).attempts > 0
                || self.collector.evidence.probe(probe).failure.is_some()
        })
    }

    /// The results of swept ports that opened, and the number of those that did not, without
    /// samples of checks.
    pub(super) fn swept(&self) -> (Vec<CheckResult>, usize) {
        let evidence = &self.collector.evidence;
        let judge = Judge::new(&self.plan, evidence);
        let mut open = Vec::new();
        let mut count = 0;
        for check in self.plan.swept().iter().filter(|swept| !is_sample(swept)) {
            count += 1;
            let judgement = judge.judge(check);
            // A success that is no violation must not be taken for silence either.
            let opened = check
                .flows
                .iter()
                .any(|flow| evidence.flow(*flow).opened > 0);
            if opened || matches!(judgement.verdict, Verdict::Violated(_)) {
                let named = check_ref(&self.plan, check);
                open.push(check_result(&self.plan, &named, &judgement, evidence));
            }
        }
        let silent = count - open.len();
        (open, silent)
    }

    /// The violations that samples of checks found, by the suite and name of the check.
    fn violated_samples(&self) -> HashMap<(usize, &str), Judgement> {
        let judge = Judge::new(&self.plan, &self.collector.evidence);
        let samples = self.plan.swept().iter().filter(|swept| is_sample(swept));
        samples
            .map(|sample| ((sample.suite, sample.name.as_str()), judge.judge(sample)))
            .filter(|(_, judgement)| matches!(judgement.verdict, Verdict::Violated(_)))
            .collect()
    }

    /// The final results of all checks. Where a run ended early a check that was not settled is not
    /// finished, whatever else it lacks.
    pub(super) fn final_results(
        &self,
        completion: &Completion,
    ) -> impl Iterator<Item = CheckResult> {
        let evidence = &self.collector.evidence;
        let judge = Judge::new(&self.plan, evidence);
        let mut violated_samples = self.violated_samples();
        self.plan
            .checks()
            .iter()
            .enumerate()
            .map(move |(index, check)| {
                let sample = violated_samples.remove(&(check.suite, check.name.as_str()));
                let mut judgement = sample.unwrap_or_else(|| judge.judge(check));
                if !self.settled[index] {
                    completion.apply_to_unsettled(&mut judgement);
                }
                check_result(&self.plan, &self.checks[index], &judgement, evidence)
            })
    }
}

/// Whether a swept entry is the sample of a check that stands for more ports than can be tried.
fn is_sample(swept: &Check) -> bool {
    match swept.provability {
        Provability::PoliciesAdmitMore(_) => true,
        Provability::Provable
        | Provability::Unprovable(_)
        | Provability::MatchesNothing(_)
        | Provability::AddressUnknown(_)
        | Provability::NothingReady(_)
        | Provability::Incomplete(_) => false,
    }
}

fn is_timeout_too_short(result: &FlowResult) -> bool {
    match &result.verdict {
        FlowVerdict::Unproven(unproven) => unproven.reason == Reason::AttemptTimeoutTooShort,
        FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Violated(_)
        | FlowVerdict::LeftOut(_) => false,
    }
}
