//! Why something is unproven: one documented list.

use serde::Serialize;

/// Why a check is unproven. The code is stable; reports carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The run ended before the check was judged.
    NotFinished,
    /// Planning found that this line can never be proven.
    Unprovable,
    /// The source or the target matches nothing that exists.
    MatchesNothing,
    /// A flow of the check has no sample, or there is no flow at all.
    NotSampled,
    /// The probe failed: it did not start, was killed, stood still, or broke its protocol.
    ProbeFault,
    /// The probe did not get enough processor time to measure.
    Starved,
    /// The clocks of the machines disagree.
    Clocks,
    /// The attempts never left the source.
    CouldNotSend,
    /// The source opened nothing at all, so its silence says nothing about the target.
    SourceNotAble,
    /// Nobody got an answer from the denied target, so it may just be dead.
    NoControlAnswered,
    /// Nobody at all reached the allowed target.
    NobodyReachedTarget,
    /// Everybody was refused alike.
    EveryoneRefused,
    /// Nothing crossed between the two nodes, so the path itself may be broken.
    NothingCrossed,
    /// The name did not resolve.
    NameDidNotResolve,
    /// A pod, namespace, policy or Service changed during the run.
    ChangedUnderUs,
    /// The samples do not cover the hold.
    TooFewSamples,
    /// The deadline is shorter than ten round trips of the control.
    DeadlineTooShort,
    /// It is proven, but not at the tier or by the mechanism that the line demands.
    DemandNotMet,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 18] = [
        Self::NotFinished,
        Self::Unprovable,
        Self::MatchesNothing,
        Self::NotSampled,
        Self::ProbeFault,
        Self::Starved,
        Self::Clocks,
        Self::CouldNotSend,
        Self::SourceNotAble,
        Self::NoControlAnswered,
        Self::NobodyReachedTarget,
        Self::EveryoneRefused,
        Self::NothingCrossed,
        Self::NameDidNotResolve,
        Self::ChangedUnderUs,
        Self::TooFewSamples,
        Self::DeadlineTooShort,
        Self::DemandNotMet,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFinished => "not-finished",
            Self::Unprovable => "unprovable",
            Self::MatchesNothing => "matches-nothing",
            Self::NotSampled => "not-sampled",
            Self::ProbeFault => "probe-fault",
            Self::Starved => "starved",
            Self::Clocks => "clocks",
            Self::CouldNotSend => "could-not-send",
            Self::SourceNotAble => "source-not-able",
            Self::NoControlAnswered => "no-control-answered",
            Self::NobodyReachedTarget => "nobody-reached-target",
            Self::EveryoneRefused => "everyone-refused",
            Self::NothingCrossed => "nothing-crossed",
            Self::NameDidNotResolve => "name-did-not-resolve",
            Self::ChangedUnderUs => "changed-under-us",
            Self::TooFewSamples => "too-few-samples",
            Self::DeadlineTooShort => "deadline-too-short",
            Self::DemandNotMet => "demand-not-met",
        }
    }

    /// What would settle it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::NotFinished => "run it again and let it finish",
            Self::Unprovable => "change the line, or accept that no packet can prove it",
            Self::MatchesNothing => "deploy the workload, or correct the endpoint",
            Self::NotSampled => "see that the target's pods are ready, then run again",
            Self::ProbeFault => {
                "look at what ended the probe or kept it from being read, then run again"
            }
            Self::Starved => "give the probes processor time, then run again",
            Self::Clocks => "synchronise the clocks of the nodes, then run again",
            Self::CouldNotSend => "repair the source's own network: routes, addresses, limits",
            Self::SourceNotAble => {
                "check that the source's network works: nothing it may reach answered it either"
            }
            Self::NoControlAnswered => {
                "check that the target listens on that port: nobody got an answer from it"
            }
            Self::NobodyReachedTarget => {
                "check that the target listens on that port: nobody got an answer from it"
            }
            Self::EveryoneRefused => {
                "name a control that may reach the target: everybody was refused alike"
            }
            Self::NothingCrossed => "repair the path between the nodes, or check what blocks it",
            Self::NameDidNotResolve => "check the cluster's DNS, and that the source may reach it",
            Self::ChangedUnderUs => "run again while nothing is being deployed",
            Self::TooFewSamples => "let the run take longer: raise `patience` or lower `hold`",
            Self::DeadlineTooShort => "raise `deadline` above ten round trips of the control",
            Self::DemandNotMet => {
                "lower `demand`, or give the suite a pod or a record that meets it"
            }
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}
