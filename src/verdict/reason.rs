//! Why something is unproven: one documented list.

use serde::Serialize;

/// Why a check is unproven. The code is stable; reports carry it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The run ended before the check was judged.
    NotFinished,
    /// Planning found that this line can never be proven.
    Unprovable,
    /// The source or the target matches nothing that exists.
    MatchesNothing,
    /// A flow of the check has no sample, or there is no flow at all.
    NotAttempted,
    /// The probe failed: it did not start, was killed, stood still, or broke its protocol.
    ProbeFault,
    /// The probe did not get enough processor time to measure.
    ProbeCpuStarved,
    /// The clocks of the machines disagree.
    ClockSkew,
    /// The attempts never left the source.
    SendFailed,
    /// The source opened nothing at all, so its silence says nothing about the target.
    SourceNotVerified,
    /// Nobody got an answer from the denied target, so it may just be dead.
    NoControlAnswered,
    /// Nobody at all reached the allowed target.
    TargetUnreachable,
    /// Everybody was refused alike.
    AllControlsRefused,
    /// Nothing crossed between the two nodes, so the path itself may be broken.
    PathNotVerified,
    /// The name did not resolve.
    NameDidNotResolve,
    /// A pod, namespace, policy or Service changed during the run.
    ChangedDuringRun,
    /// The samples do not cover the hold.
    TooFewAttempts,
    /// The deadline is shorter than ten round trips of the control.
    AttemptTimeoutTooShort,
    /// It is proven, but not at the tier or by the mechanism that the line demands.
    TierNotMet,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 18] = [
        Self::NotFinished,
        Self::Unprovable,
        Self::MatchesNothing,
        Self::NotAttempted,
        Self::ProbeFault,
        Self::ProbeCpuStarved,
        Self::ClockSkew,
        Self::SendFailed,
        Self::SourceNotVerified,
        Self::NoControlAnswered,
        Self::TargetUnreachable,
        Self::AllControlsRefused,
        Self::PathNotVerified,
        Self::NameDidNotResolve,
        Self::ChangedDuringRun,
        Self::TooFewAttempts,
        Self::AttemptTimeoutTooShort,
        Self::TierNotMet,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFinished => "not-finished",
            Self::Unprovable => "unprovable",
            Self::MatchesNothing => "matches-nothing",
            Self::NotAttempted => "not-attempted",
            Self::ProbeFault => "probe-fault",
            Self::ProbeCpuStarved => "probe-cpu-starved",
            Self::ClockSkew => "clock-skew",
            Self::SendFailed => "send-failed",
            Self::SourceNotVerified => "source-not-verified",
            Self::NoControlAnswered => "no-control-answered",
            Self::TargetUnreachable => "target-unreachable",
            Self::AllControlsRefused => "all-controls-refused",
            Self::PathNotVerified => "path-not-verified",
            Self::NameDidNotResolve => "name-did-not-resolve",
            Self::ChangedDuringRun => "changed-during-run",
            Self::TooFewAttempts => "too-few-attempts",
            Self::AttemptTimeoutTooShort => "attempt-timeout-too-short",
            Self::TierNotMet => "tier-not-met",
        }
    }

    /// What would settle it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::NotFinished => "run it again and let it finish",
            Self::Unprovable => "change the line, or accept that no packet can prove it",
            Self::MatchesNothing => "deploy the workload, or correct the endpoint",
            Self::NotAttempted => "see that the target's pods are ready, then run again",
            Self::ProbeFault => {
                "look at what ended the probe or kept it from being read, then run again"
            }
            Self::ProbeCpuStarved => "give the probes processor time, then run again",
            Self::ClockSkew => "synchronise the clocks of the nodes, then run again",
            Self::SendFailed => "repair the source's own network: routes, addresses, limits",
            Self::SourceNotVerified => {
                "check that the source's network works: nothing it may reach answered it either"
            }
            Self::NoControlAnswered => {
                "check that the target listens on that port: nobody got an answer from it"
            }
            Self::TargetUnreachable => {
                "check that the target listens on that port: nobody got an answer from it"
            }
            Self::AllControlsRefused => {
                "name a control that may reach the target: everybody was refused alike"
            }
            Self::PathNotVerified => "repair the path between the nodes, or check what blocks it",
            Self::NameDidNotResolve => "check the cluster's DNS, and that the source may reach it",
            Self::ChangedDuringRun => "run again while nothing is being deployed",
            Self::TooFewAttempts => "let the run take longer: raise `patience` or lower `hold`",
            Self::AttemptTimeoutTooShort => "raise `deadline` above ten round trips of the control",
            Self::TierNotMet => "lower `demand`, or give the suite a pod or a record that meets it",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}
