//! How a run ended, and what follows for checks that were not settled. Pure.

use crate::backend::WatchGap;
use crate::verdict::{Judgement, Reason, Unproven, Verdict, Violation};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Completion {
    /// Every flow was tried for its whole time.
    Complete,
    /// It was interrupted, and why.
    Interrupted(String),
    /// Changes up to its end are not known, and why.
    WatchGap(String),
    /// Probes could not start for a reason that is to be removed before any test.
    NotStarted(String),
}

impl Completion {
    /// The completion of a run by why it was interrupted, if it was, what could not be watched at
    /// its end, and why probes could not start.
    pub(super) fn of(
        interrupted: Option<String>,
        gap: Option<WatchGap>,
        start_failure: Option<String>,
    ) -> Self {
        match (interrupted, gap, start_failure) {
            (_, Some(gap), _) => Self::WatchGap(gap.to_string()),
            (_, None, Some(why)) => Self::NotStarted(why),
            (Some(why), None, None) => Self::Interrupted(why),
            (None, None, None) => Self::Complete,
        }
    }

    /// Why the run is not complete, if it is not.
    pub(super) fn why_incomplete(&self) -> Option<&str> {
        match self {
            Self::Complete => None,
            Self::Interrupted(why) | Self::WatchGap(why) | Self::NotStarted(why) => Some(why),
        }
    }

    /// Makes the judgement of a check that was not settled when the run ended *not finished*,
    /// whatever else it lacks.
    ///
    /// A success of a denied flow stays a violation whatever changed. Any other verdict stays after
    /// an interruption, but not where a policy may have changed in the middle of its evidence. Where
    /// probes could not start, each check says so itself.
    pub(super) fn apply_to_unsettled(&self, judgement: &mut Judgement) {
        let why = match self {
            Self::Complete | Self::NotStarted(_) => return,
            Self::Interrupted(why) | Self::WatchGap(why) => why,
        };
        let is_undone = match &judgement.verdict {
            Verdict::Unproven(_) => true,
            Verdict::Violated(
                Violation::DeniedFlowOpened { .. } | Violation::StayedOpen { .. },
            ) => false,
            Verdict::Proven
            | Verdict::Violated(
                Violation::AllowedFlowBlocked { .. } | Violation::Unstable { .. },
            ) => {
                matches!(self, Self::WatchGap(_))
            }
        };
        if is_undone {
            judgement.verdict = Verdict::Unproven(Unproven {
                reason: Reason::NotFinished,
                detail: format!("the run ended before this was judged: {why}"),
                flow: None,
                open: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FlowId;
    use crate::verdict::{Reach, SuccessfulAttempt};
    use std::time::Duration;

    fn watch_gap() -> WatchGap {
        WatchGap {
            since: Duration::from_secs(3),
            what: "pods".into(),
            why: "refused".into(),
        }
    }

    fn becomes_not_finished(completion: &Completion, verdict: &Verdict) -> bool {
        let mut judgement = Judgement {
            verdict: verdict.clone(),
            reach: Reach::default(),
            flows: vec![],
        };
        completion.apply_to_unsettled(&mut judgement);
        matches!(
            judgement.verdict,
            Verdict::Unproven(Unproven {
                reason: Reason::NotFinished,
                ..
            })
        )
    }

    #[test]
    fn run_without_its_probes_is_incomplete_and_its_checks_keep_their_reasons() {
        let completion = Completion::of(Some("SIGINT".into()), None, Some("no image".into()));
        assert_eq!(completion.why_incomplete(), Some("no image"));
        let unproven = Verdict::Unproven(Unproven {
            reason: Reason::ProbeFault,
            detail: "no image".into(),
            flow: None,
            open: false,
        });
        assert!(!becomes_not_finished(&completion, &unproven));
    }

    #[test]
    fn watch_gap_leaves_no_unsettled_verdict_but_a_success_of_a_denied_flow() {
        let flow = FlowId(0);
        let opened = Violation::DeniedFlowOpened {
            flow,
            first: SuccessfulAttempt {
                attempt: 1,
                start: 0,
                who: None,
            },
            opened: 1,
            attempts: 1,
        };
        let blocked = Verdict::Violated(Violation::AllowedFlowBlocked {
            flow,
            block: None,
            contrast: None,
        });
        let verdicts = [Verdict::Proven, blocked, Verdict::Violated(opened)];
        let completions = [
            (Completion::of(None, None, None), [false, false, false]),
            (
                Completion::of(Some("SIGINT".into()), None, None),
                [false, false, false],
            ),
            (
                Completion::of(None, Some(watch_gap()), None),
                [true, true, false],
            ),
            (
                Completion::of(Some("SIGINT".into()), Some(watch_gap()), None),
                [true, true, false],
            ),
        ];
        for (completion, expected) in completions {
            assert_eq!(
                verdicts
                    .each_ref()
                    .map(|verdict| becomes_not_finished(&completion, verdict)),
                expected,
                "{completion:?}"
            );
        }
    }
}
