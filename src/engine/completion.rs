//! How a run ended, and what that leaves of its judgements. Pure.

use crate::backend::WatchGap;
use crate::verdict::{Judgement, Reason, Unproven, Verdict, Violation};

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was tried for as long as it was to be.
    Whole,
    /// It was told to end early, and why.
    Interrupted(String),
    /// What changed up to its end is not known, and why.
    WatchGap(String),
}

impl End {
    /// By whether it was told to end, and what could not be seen then.
    pub(super) fn of(interrupted: Option<String>, unseen: Option<WatchGap>) -> Self {
        match (interrupted, unseen) {
            (_, Some(unseen)) => Self::WatchGap(unseen.to_string()),
            (Some(why), None) => Self::Interrupted(why),
            (None, None) => Self::Whole,
        }
    }

    /// Why the run is not whole, if it is not.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Interrupted(why) | Self::WatchGap(why) => Some(why),
        }
    }

    /// A check that was not settled when the run ended is not finished, whatever else it lacks. An
    /// opening of a denied flow is one whatever changed. Anything else that was shown already is
    /// not undone by an interruption, but it is nothing where a policy may have changed in the
    /// middle of it.
    pub(super) fn leaves_open(&self, judgement: &mut Judgement) {
        let Some(why) = self.why() else { return };
        let is_open = match &judgement.verdict {
            Verdict::Unproven(_) => true,
            Verdict::Violated(Violation::FirstSuccess { .. }) => false,
            Verdict::Proven
            | Verdict::Violated(Violation::Shut { .. } | Violation::Unstable { .. }) => {
                matches!(self, Self::WatchGap(_))
            }
        };
        if is_open {
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
    use crate::verdict::{FirstSuccess, Reach};
    use std::time::Duration;

    fn unseen() -> WatchGap {
        WatchGap {
            since: Duration::from_secs(3),
            what: "pods".into(),
            why: "refused".into(),
        }
    }

    fn left_open(end: &End, verdict: &Verdict) -> bool {
        let mut judgement = Judgement {
            verdict: verdict.clone(),
            reach: Reach::default(),
            flows: vec![],
        };
        end.leaves_open(&mut judgement);
        matches!(
            judgement.verdict,
            Verdict::Unproven(Unproven {
                reason: Reason::NotFinished,
                ..
            })
        )
    }

    #[test]
    fn what_may_have_changed_unseen_leaves_nothing_but_an_opening() {
        let flow = FlowId(0);
        let opened = Violation::FirstSuccess {
            flow,
            first: FirstSuccess {
                attempt: 1,
                start: 0,
                who: None,
            },
            opened: 1,
            attempts: 1,
        };
        let shut = Verdict::Violated(Violation::Shut {
            flow,
            block: None,
            contrast: None,
        });
        let verdicts = [Verdict::Proven, shut, Verdict::Violated(opened)];
        let ends = [
            (End::of(None, None), [false, false, false]),
            (End::of(Some("SIGINT".into()), None), [false, false, false]),
            (End::of(None, Some(unseen())), [true, true, false]),
            (
                End::of(Some("SIGINT".into()), Some(unseen())),
                [true, true, false],
            ),
        ];
        for (end, expected) in ends {
            assert_eq!(
                verdicts.each_ref().map(|verdict| left_open(&end, verdict)),
                expected,
                "{end:?}"
            );
        }
    }
}
