//! One run, many trials: each waits for its own verdict.

use crate::event::{CheckRef, CheckResult, ExitCode, Outcome, RunEvent};
use crate::report::{Report, explained};
use libtest_mimic::{Failed, Trial};
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

/// The key of a check everywhere: its suite and its name.
pub(super) fn name(check: &CheckRef) -> String {
    format!("{} / {}", check.suite, check.name)
}

/// What became of a check, as libtest can say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// Proven.
    Passed,
    /// Violated or unproven, in words.
    Failed(String),
}

impl Judged {
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

/// Trials that wait, by name.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    senders: HashMap<String, SyncSender<Judged>>,
}

impl Waiting {
    /// A trial that ends as its check is judged.
    pub(super) fn trial(&mut self, name: &str) -> Trial {
        let (sender, verdict) = sync_channel(1);
        self.senders.insert(name.to_owned(), sender);
        Trial::test(name, move || wait(&verdict))
    }

    /// Who tells them.
    pub(super) fn fanout(self) -> Fanout {
        Fanout {
            senders: self.senders,
            interruption: Arc::default(),
        }
    }
}

fn wait(verdict: &Receiver<Judged>) -> Result<(), Failed> {
    match verdict.recv() {
        Ok(Judged::Passed) => Ok(()),
        Ok(Judged::Failed(why)) => Err(why.into()),
        // Whoever should have judged is gone, and has said why on standard error.
        Err(_gone) => Err("unproven: the run ended without a verdict".into()),
    }
}

/// Tells every trial its verdict. Of two verdicts for one trial the first counts.
#[derive(Debug, Clone)]
pub(super) struct Fanout {
    senders: HashMap<String, SyncSender<Judged>>,
    interruption: Arc<OnceLock<String>>,
}

impl Fanout {
    /// Why a run ended early, if one did: then none is begun after it.
    pub(super) fn interruption(&self) -> Option<&str> {
        self.interruption.get().map(String::as_str)
    }

    /// Judges one trial.
    pub(super) fn send(&self, name: &str, judged: Judged) {
        if let Some(sender) = self.senders.get(name) {
            // Full: it was judged before. Closed: it was not selected.
            let _ = sender.try_send(judged);
        }
    }

    /// Judges all alike.
    pub(super) fn all(&self, judged: &Judged) {
        for name in self.senders.keys() {
            self.send(name, judged.clone());
        }
    }
}

/// One lab's run, as its trials see it.
pub(super) struct LabTrials {
    /// Who tells them.
    pub(super) fanout: Fanout,
    /// Those that this run is for.
    pub(super) names: Vec<String>,
}

impl LabTrials {
    /// Fails what was not judged.
    pub(super) fn fail(&self, why: &str) {
        for name in &self.names {
            self.fanout
                .send(name, Judged::Failed(format!("unproven: {why}")));
        }
    }
}

impl Report for LabTrials {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            // Verdicts are final when the probes have stopped, so what is settled on the way is not
            // told.
            RunEvent::Finished { run, results, .. } => {
                if let Some(why) = &run.incomplete_because {
                    self.fanout.interruption.get_or_init(|| why.clone());
                }
                for result in results {
                    self.fanout.send(&name(&result.check), Judged::of(result));
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

    fn conclusion(waiting: impl FnOnce(Waiting), names: &[&str]) -> Conclusion {
        let mut all = Waiting::default();
        let trials = names.iter().map(|name| all.trial(name)).collect();
        waiting(all);
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
            |waiting| {
                let fanout = waiting.fanout();
                fanout.send("a", Judged::Passed);
                fanout.send("b", Judged::Failed("violated".into()));
                fanout.send("b", Judged::Passed);
                fanout.all(&Judged::Failed("late".into()));
            },
            &["a", "b", "c"],
        );
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 2));
    }

    #[test]
    fn trials_that_nobody_judges_fail() {
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
    fn a_run_that_stops_fails_its_own_trials_only() {
        let conclusion = conclusion(
            |waiting| {
                let fanout = waiting.fanout();
                LabTrials {
                    fanout: fanout.clone(),
                    names: vec!["a".into()],
                }
                .stopped("interrupted", ExitCode::Impossible)
                .unwrap();
                fanout.all(&Judged::Passed);
            },
            &["a", "b"],
        );
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 1));
    }
}
