//! Why something is unproven: one documented list.

use serde::Serialize;

/// Why a check is unproven; [`Reason::meaning`] says what each of them means.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    NotFinished,
    Unprovable,
    MatchesNothing,
    AddressUnknown,
    IncompleteReach,
    PoliciesAdmitMore,
    NotAttempted,
    ProbeFault,
    ProbeCpuStarved,
    ClockSkew,
    SendFailed,
    SourceNotVerified,
    NoControlAnswered,
    NoPodGotThrough,
    TargetUnreachable,
    AllControlsRefused,
    PathNotVerified,
    NameDidNotResolve,
    ChangedDuringRun,
    NothingChanged,
    WasNotOpen,
    TooFewAttempts,
    SentOnce,
    AttemptTimeoutTooShort,
    TierNotMet,
}

/// The row of a reason in the list of reasons.
struct Entry {
    code: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 25] = [
        Self::NotFinished,
        Self::Unprovable,
        Self::MatchesNothing,
        Self::AddressUnknown,
        Self::IncompleteReach,
        Self::PoliciesAdmitMore,
        Self::NotAttempted,
        Self::ProbeFault,
        Self::ProbeCpuStarved,
        Self::ClockSkew,
        Self::SendFailed,
        Self::SourceNotVerified,
        Self::NoControlAnswered,
        Self::NoPodGotThrough,
        Self::TargetUnreachable,
        Self::AllControlsRefused,
        Self::PathNotVerified,
        Self::NameDidNotResolve,
        Self::ChangedDuringRun,
        Self::NothingChanged,
        Self::WasNotOpen,
        Self::TooFewAttempts,
        Self::SentOnce,
        Self::AttemptTimeoutTooShort,
        Self::TierNotMet,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// What it means, in one sentence.
    pub fn meaning(self) -> &'static str {
        self.entry().meaning
    }

    /// What settles it, in one sentence.
    pub fn remedy(self) -> &'static str {
        self.entry().remedy
    }

    fn entry(self) -> Entry {
        match self {
            Self::NotFinished => Entry {
                code: "not-finished",
                meaning: "the run ended before the check was judged",
                remedy: "run it again and let it finish",
            },
            Self::Unprovable => Entry {
                code: "unprovable",
                meaning: "planning found that no packet can prove this line",
                remedy: "change the line, or accept that no packet can prove it",
            },
            Self::MatchesNothing => Entry {
                code: "matches-nothing",
                meaning: "the source or the target matches nothing that exists",
                remedy: "deploy the workload, or correct the endpoint",
            },
            Self::AddressUnknown => Entry {
                code: "address-unknown",
                meaning: "no address of the host is given, and policies of the source tell addresses apart",
                remedy: "give the host's endpoint `ip:`, or run with `--resolve NAME=ADDRESS`",
            },
            Self::IncompleteReach => Entry {
                code: "incomplete-reach",
                meaning: "a pod or a kind of pod of the source or the target could not be tested",
                remedy: "give the pods the same named port and the same address families, or make two endpoints",
            },
            Self::PoliciesAdmitMore => Entry {
                code: "policies-admit-more",
                meaning: "policies admit ports between the two that no line allows, and not every port can be tried",
                remedy: "give the rule its `ports`, or allow the ports in a line",
            },
            Self::NotAttempted => Entry {
                code: "not-attempted",
                meaning: "no attempt of one of the check's flows was reported, or the check has no flow",
                remedy: "see that the target's pods are ready, then run again",
            },
            Self::ProbeFault => Entry {
                code: "probe-fault",
                meaning: "the probe did not start, was killed, could not be read, or could not carry out its attempts",
                remedy: "find what ended the probe or kept it from being read, then run again",
            },
            Self::ProbeCpuStarved => Entry {
                code: "probe-cpu-starved",
                meaning: "the probe did not get enough processor time to measure",
                remedy: "give the probes processor time, then run again",
            },
            Self::ClockSkew => Entry {
                code: "clock-skew",
                meaning: "the clocks of the machines disagree by more than a second",
                remedy: "synchronise the clocks of the nodes, then run again",
            },
            Self::SendFailed => Entry {
                code: "send-failed",
                meaning: "the attempts failed on the source itself and never left it",
                remedy: "repair the source's own network: routes, addresses, limits",
            },
            Self::SourceNotVerified => Entry {
                code: "source-not-verified",
                meaning: "no source control got through, so the silence may be the source's own",
                remedy: "check that the source's network works: nothing it may reach answered it either",
            },
            Self::NoControlAnswered => Entry {
                code: "no-control-answered",
                meaning: "no target control got an answer from the denied target, so the target may be down",
                remedy: "check that the target listens on that port: no control got an answer from it",
            },
            Self::NoPodGotThrough => Entry {
                code: "no-pod-got-through",
                meaning: "the policies admit a pod to the denied target and none got through, only a node or a nearby pod did, so the pods' network may be broken",
                remedy: "repair the network between the pods: forwarding and return routes on the nodes",
            },
            Self::TargetUnreachable => Entry {
                code: "target-unreachable",
                meaning: "no other source reached the allowed target either, so the target may be down",
                remedy: "check that the target listens on that port: no source got an answer from it",
            },
            Self::AllControlsRefused => Entry {
                code: "all-controls-refused",
                meaning: "every source, controls included, was refused in the same way",
                remedy: "name a control that may reach the target: every control was refused",
            },
            Self::PathNotVerified => Entry {
                code: "path-not-verified",
                meaning: "no path control got through between the two nodes, so the path itself may be broken",
                remedy: "repair the path between the nodes, or check what blocks it",
            },
            Self::NameDidNotResolve => Entry {
                code: "name-did-not-resolve",
                meaning: "neither the source nor a control could resolve the target's name",
                remedy: "check the cluster's DNS, and that the source may reach it",
            },
            Self::ChangedDuringRun => Entry {
                code: "changed-during-run",
                meaning: "a pod, namespace, policy or Service that concerns the check changed during the run",
                remedy: "run again while nothing is being deployed",
            },
            Self::NothingChanged => Entry {
                code: "nothing-changed",
                meaning: "the connection was opened, and nothing that concerns it changed during the run",
                remedy: "apply the policy while the run is under way",
            },
            Self::WasNotOpen => Entry {
                code: "was-not-open",
                meaning: "no connection was open when the deny began to apply, so none could be cut",
                remedy: "start the run before the policy is applied, while the source still reaches the target",
            },
            Self::TooFewAttempts => Entry {
                code: "too-few-attempts",
                meaning: "the attempts that count are too few, or do not cover the hold",
                remedy: "let the run take longer: raise `timeout` or lower `hold`",
            },
            Self::SentOnce => Entry {
                code: "sent-once",
                meaning: "the handshake opened and the request may be sent only once, so a deny of the request could only be violated, not proven",
                remedy: "give the line `repeat: true` if the request may be sent again, or test a GET that the same rule denies",
            },
            Self::AttemptTimeoutTooShort => Entry {
                code: "attempt-timeout-too-short",
                meaning: "an attempt waits less than ten times as long as a control took, so silence may be slowness",
                remedy: "raise `attemptTimeout` above ten round trips of the control",
            },
            Self::TierNotMet => Entry {
                code: "tier-not-met",
                meaning: "the expectation was shown, but not at the tier or by the mechanism that the line requires",
                remedy: "lower `tier`, or give the suite a pod or a counter that meets it",
            },
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_unique_code_a_meaning_and_a_remedy() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(
                serde_json::to_value(reason).unwrap(),
                serde_json::json!(reason.code())
            );
            for text in [reason.meaning(), reason.remedy()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{reason}: {text}");
            }
        }
    }
}
