//! How a check is judged: settings with every default filled in.

use super::BackendKind;
use crate::suite::{Expected, Mechanism, RequiredTier, Settings, Spread};
use std::time::Duration;

/// One check's settings, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// Wait before the hold.
    pub settle: Duration,
    /// How long a deny is watched, from the first attempt to the last.
    pub hold: Duration,
    /// The hold where the source is new and nothing shows that its labels are known. A shorter
    /// `hold` does not lower it.
    pub unknown_identity_hold: Duration,
    /// How long a start-up leak of a created source may last, from its first attempt.
    pub grace: Duration,
    /// How long an allow may take to get through.
    pub timeout: Duration,
    /// The fewest attempts that prove a deny.
    pub attempts: u32,
    /// Deadline of the connect stage.
    pub attempt_timeout: Duration,
    pub required_tier: RequiredTier,
    /// Whether a start-up leak violates.
    pub startup_isolated: bool,
    /// Whether a connection that was open before the deny applied must be cut.
    pub established: bool,
    /// The mechanism that a deny must have.
    pub mechanism: Option<Mechanism>,
    /// The HTTP statuses that count as allowed; any where there is none. The flows' rule for
    /// answers is made of it ([`super::AnswerRule`]).
    pub status: Vec<u16>,
    /// How many source instances are used.
    pub spread: Spread,
}

/// How long a silent flow is watched before it counts as blocked.
///
/// One second after the first SYN, Linux sends the second (RFC 6298 section 2.1), so anything below
/// that would call a single lost packet a deny.
pub const MIN_DEADLINE: Duration = Duration::from_millis(1_300);

/// The fewest attempts that prove a deny, unless the suite says otherwise.
pub(super) const MIN_ATTEMPTS: u32 = 6;

impl CheckSettings {
    /// Whether a deny is proven only with the enforcer's counter.
    pub fn demands_record(&self) -> bool {
        self.required_tier == RequiredTier::D2Counter
    }

    /// Fills in defaults. `settings` are a line's over its suite's; `answer` is the tier that the
    /// request's answer should reach.
    pub fn of(
        expected: Expected,
        settings: &Settings,
        backend: BackendKind,
        answer: RequiredTier,
    ) -> Self {
        let lab = backend == BackendKind::Lab;
        let seconds =
            |in_lab, in_cluster| Duration::from_secs(if lab { in_lab } else { in_cluster });
        let hold = settings.hold.unwrap_or(seconds(2, 3));
        let required_tier = match expected {
            Expected::Denied => settings
                .required_tier
                .filter(|required_tier| required_tier.is_for_denials())
                .unwrap_or(RequiredTier::D2),
            Expected::Allowed => settings
                .required_tier
                .filter(|required_tier| !required_tier.is_for_denials())
                .unwrap_or(answer),
        };
        Self {
            settle: settings.settle.unwrap_or(seconds(0, 1)),
            hold,
            unknown_identity_hold: settings
                .unknown_identity_hold
                .unwrap_or_else(|| hold.max(seconds(2, 15))),
            grace: seconds(0, 10),
            timeout: settings.timeout.unwrap_or(seconds(10, 60)),
            attempts: settings.attempts.unwrap_or(MIN_ATTEMPTS),
            attempt_timeout: settings.attempt_timeout.unwrap_or(MIN_DEADLINE),
            required_tier,
            startup_isolated: settings.startup_isolated.unwrap_or(false),
            established: expected == Expected::Denied && settings.established == Some(true),
            mechanism: settings.mechanism,
            status: match expected {
                Expected::Allowed => settings.status.clone(),
                Expected::Denied => Vec::new(),
            },
            spread: settings.spread.unwrap_or(Spread::Nodes),
        }
    }
}

impl RequiredTier {
    /// Whether it is a tier of denials.
    pub fn is_for_denials(self) -> bool {
        match self {
            Self::D1 | Self::D2 | Self::D2SameNode | Self::D2Counter => true,
            Self::A0 | Self::A1 | Self::A2 | Self::A3 => false,
        }
    }
}
