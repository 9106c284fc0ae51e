//! The trials of a run: each waits for the verdict of its check.

use crate::event::{CheckRef, CheckResult, ExitCode, Outcome, RunEvent};
use crate::report::{Report, explained};
use libtest_mimic::{Failed, Trial};
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

/// The name of a check's trial: its suite and its name.
pub(super) fn trial_name(check: &CheckRef) -> String {
    format!("{} / {}", check.suite, check.name)
}

/// A check's result in the two outcomes of libtest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TrialVerdict {
    /// Proven.
    Passed,
    /// Violated or unproven, with the text to show.
    Failed(String),
}

impl TrialVerdict {
    fn of(result: &CheckResult) -> Self {
        match result.verdict {
            Outcome::Proven => Self::Passed,
            Outcome::Violated | Outcome::Unproven => Self::Failed(format!(
                "{}: {}",
                result.verdict,
                explained(result).trim_end()
            )),
        }
    }
}

/// The channels on which trials wait for their verdicts, by the trial's name.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    senders: HashMap<String, SyncSender<TrialVerdict>>,
}

impl Verdicts {
    /// A trial that ends when its verdict is sent.
    pub(super) fn trial(&mut self, name: &str) -> Trial {
        let (sender, receiver) = sync_channel(1);
        self.senders.insert(name.to_owned(), sender);
        Trial::test(name, move || wait(&receiver))
    }

    pub(super) fn into_senders(self) -> VerdictSenders {
        VerdictSenders {
            senders: self.senders,
            interruption: Arc::default(),
        }
    }
}

fn wait(receiver: &Receiver<TrialVerdict>) -> Result<(), Failed> {
    match receiver.recv() {
        Ok(TrialVerdict::Passed) => Ok(()),
        Ok(TrialVerdict::Failed(why)) => Err(why.into()),
        // All senders are dropped; the cause stands on standard error.
        Err(_closed) => Err("unproven: the run ended without a verdict".into()),
    }
}

/// Sends verdicts to trials. Of two verdicts for one trial the first counts.
#[derive(Debug, Clone)]
pub(super) struct VerdictSenders {
    senders: HashMap<String, SyncSender<TrialVerdict>>,
    interruption: Arc<OnceLock<String>>,
}

impl VerdictSenders {
    /// Why a run ended early, if one did: no run is started after it.
    pub(super) fn interruption(&self) -> Option<&str> {
        self.interruption.get().map(String::as_str)
    }

    pub(super) fn send(&self, name: &str, verdict: TrialVerdict) {
        if let Some(sender) = self.senders.get(name) {
            // Full: the trial has its verdict. Closed: the trial was not selected.
            let _ = sender.try_send(verdict);
        }
    }

    pub(super) fn send_to_all(&self, verdict: &TrialVerdict) {
        for name in self.senders.keys() {
            self.send(name, verdict.clone());
        }
    }
}

/// The trials of one lab, as a report of its run.
pub(super) struct LabTrials {
    pub(super) senders: VerdictSenders,
    /// The names of the trials.
    pub(super) names: Vec<String>,
}

impl LabTrials {
    /// Fails every trial that has no verdict yet.
    pub(super) fn fail(&self, why: &str) {
        for name in &self.names {
            let verdict = TrialVerdict::Failed(format!("unproven: {why}"));
            self.senders.send(name, verdict);
        }
    }
}

impl Report for LabTrials {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            // Verdicts are final only when the probes have stopped, so `Settled` fails no trial.
            RunEvent::Finished { run, results, .. } => {
                if let Some(why) = &run.incomplete_because {
                    self.senders.interruption.get_or_init(|| why.clone());
                }
                for result in results {
                    let verdict = TrialVerdict::of(result);
                    self.senders.send(&trial_name(&result.check), verdict);
                }
                self.fail("the run ended without a verdict");
            }
            RunEvent::Started { .. }
            | RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CleanedUp { .. } => {}
        }
        Ok(())
    }

    fn stopped(&mut self, why: &str, _: ExitCode) -> io::Result<()> {
        self.fail(why);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libtest_mimic::{Arguments, Conclusion};

    fn conclusion(send: impl FnOnce(Verdicts), names: &[&str]) -> Conclusion {
        let mut verdicts = Verdicts::default();
        let trials = names.iter().map(|name| verdicts.trial(name)).collect();
        send(verdicts);
        let arguments = Arguments {
            quiet: true,
            logfile: Some("/dev/null".into()),
            ..Arguments::default()
        };
        libtest_mimic::run(&arguments, trials)
    }

    #[test]
    fn the_first_verdict_counts() {
        let conclusion = conclusion(
            |verdicts| {
                let senders = verdicts.into_senders();
                senders.send("a", TrialVerdict::Passed);
                senders.send("b", TrialVerdict::Failed("violated".into()));
                senders.send("b", TrialVerdict::Passed);
                senders.send_to_all(&TrialVerdict::Failed("late".into()));
            },
            &["a", "b", "c"],
        );
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 2));
    }

    #[test]
    fn trials_without_a_verdict_fail() {
        let conclusion = conclusion(drop, &["a", "b"]);
        assert_eq!(
            (
                conclusion.num_passed,
                conclusion.num_failed,
                conclusion.num_ignored
            ),
            (0, 2, 0)
        );
    }

    #[test]
    fn a_stopped_run_fails_only_its_own_trials() {
        let conclusion = conclusion(
            |verdicts| {
                let senders = verdicts.into_senders();
                LabTrials {
                    senders: senders.clone(),
                    names: vec!["a".into()],
                }
                .stopped("interrupted", ExitCode::Impossible)
                .unwrap();
                senders.send_to_all(&TrialVerdict::Passed);
            },
            &["a", "b"],
        );
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 1));
    }
}
