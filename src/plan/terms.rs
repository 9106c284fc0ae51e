//! How a check is judged: settings with every default filled in.

use crate::suite::{Demand, Expected, Mechanism, Settings, Spread};
use std::time::Duration;

/// Where a run takes place: defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Namespaces of this machine: everything is armed and settled from the start.
    Lab,
    /// A cluster.
    Cluster,
}

/// One check's settings, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Wait before the hold.
    pub settle: Duration,
    /// How long a deny is watched, first sample to last.
    pub hold: Duration,
    /// The same where the source is new and nothing shows that its labels are known.
    pub unarmed_hold: Duration,
    /// How long a source that the run creates may reach what it must not, from its first attempt
    /// on.
    pub grace: Duration,
    /// How long an allow may take to come up.
    pub patience: Duration,
    /// Samples that a deny needs at least.
    pub samples: u32,
    /// Deadline of the connect stage.
    pub deadline: Duration,
    /// The tier demanded.
    pub demand: Demand,
    /// Whether a start-up leak violates.
    pub startup_isolated: bool,
    /// The kind that a deny must be.
    pub mechanism: Option<Mechanism>,
    /// The HTTP status that counts as allowed.
    pub status: Option<u16>,
    /// How many source instances are used.
    pub spread: Spread,
}

/// How long a silent flow is watched before it counts as blocked.
///
/// One second after the first SYN, Linux sends the second (RFC 6298 section 2.1), so anything below
/// that would call a single lost packet a deny.
pub const MIN_DEADLINE: Duration = Duration::from_millis(1_300);

/// Samples that a deny needs at least, unless the suite says otherwise.
pub(super) const MIN_SAMPLES: u32 = 6;

impl Terms {
    /// Whether a deny is proven only with the enforcer's own record.
    pub fn demands_record(&self) -> bool {
        self.demand == Demand::D2Record
    }

    /// Fills in defaults. `settings` are a line's over its suite's; `answer` is the tier that the
    /// request's answer should reach.
    pub fn of(
        expected: Expected,
        settings: &Settings,
        environment: Environment,
        answer: Demand,
    ) -> Self {
        let lab = environment == Environment::Lab;
        let seconds =
            |in_lab, in_cluster| Duration::from_secs(if lab { in_lab } else { in_cluster });
        let demand = match expected {
            Expected::Denied => settings
                .demand
                .filter(|demand| demand.is_for_denials())
                .unwrap_or(Demand::D2),
            Expected::Allowed => settings
                .demand
                .filter(|demand| !demand.is_for_denials())
                .unwrap_or(answer),
        };
        Self {
            settle: settings.settle.unwrap_or(seconds(0, 1)),
            hold: settings.hold.unwrap_or(seconds(2, 3)),
            unarmed_hold: settings.hold.unwrap_or(seconds(2, 15)),
            grace: seconds(0, 10),
            patience: settings.patience.unwrap_or(seconds(10, 60)),
            samples: settings.samples.unwrap_or(MIN_SAMPLES),
            deadline: settings.deadline.unwrap_or(MIN_DEADLINE),
            demand,
            startup_isolated: settings.startup_isolated.unwrap_or(false),
            mechanism: settings.mechanism,
            status: settings.status,
            spread: settings.spread.unwrap_or(Spread::Nodes),
        }
    }
}

impl Demand {
    /// Whether it is a tier of denials.
    pub fn is_for_denials(self) -> bool {
        match self {
            Self::D1 | Self::D2 | Self::D2Twin | Self::D2Record => true,
            Self::A0 | Self::A1 | Self::A2 | Self::A3 => false,
        }
    }
}
