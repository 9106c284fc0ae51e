//! A check as it is known before any attempt.

use super::{Expected, Mechanism, RequiredTier, Spread};
use crate::plan::{Check, CheckSettings, Plan, Prediction};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A check as it is known before any attempt.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckRef {
    /// First 12 hexadecimal digits of SHA-256 over the suite's name, a newline and the check's
    /// name.
    #[schemars(extend("pattern" = "^[0-9a-f]{12}$"))]
    pub id: String,
    /// Unique within its suite.
    pub name: String,
    /// The suite's name.
    pub suite: String,
    /// The suite's file.
    pub file: String,
    /// The line in the file, from 1.
    pub line: u32,
    /// The column of the line's first character, from 1.
    pub column: u32,
    /// The line as written.
    pub text: String,
    /// Why the line is in the suite: its `because:`.
    pub because: Option<String>,
    pub tags: Vec<String>,
    /// The source as the suite names it.
    pub source: String,
    /// The target, with port, as the suite names it.
    pub target: String,
    /// What the suite expects.
    pub expected: Expected,
    /// What the policies say, before any packet; null where it is not known.
    pub predicted: Option<Predicted>,
    /// Why the policies cannot do what the suite expects, and what would change that.
    pub contradiction: Option<String>,
    /// Why planning knows that the check cannot be proven.
    pub unprovable: Option<String>,
    /// The settings in force for this check, defaults included.
    pub settings: SettingsReport,
}

/// What the policies say of all flows of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Predicted {
    /// Every flow gets through.
    Allowed,
    /// Every flow is stopped.
    Denied,
    /// Some flows get through and some are stopped.
    Mixed,
}

impl From<&Prediction> for Predicted {
    fn from(prediction: &Prediction) -> Self {
        match prediction.answer {
            Some(Expected::Allowed) => Self::Allowed,
            Some(Expected::Denied) => Self::Denied,
            None => Self::Mixed,
        }
    }
}

impl std::fmt::Display for Predicted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Mixed => "mixed",
        })
    }
}

/// A check's settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingsReport {
    /// Milliseconds before the hold.
    pub settle_ms: u64,
    /// Milliseconds that a deny is watched.
    pub hold_ms: u64,
    /// Milliseconds that an allow may take to come up.
    pub timeout_ms: u64,
    /// Milliseconds that the handshake of one attempt may take.
    pub attempt_timeout_ms: u64,
    /// Attempts that a deny needs at the least.
    pub attempts: u32,
    /// The required tier.
    pub tier: RequiredTier,
    /// The required kind of deny; null: any.
    pub mechanism: Option<Mechanism>,
    /// Whether a start-up leak is a violation.
    pub startup_isolated: bool,
    /// Whether a connection that was open before the deny applied must be cut.
    pub established: bool,
    /// Which instances of the source send.
    pub spread: Spread,
    /// The HTTP statuses that count as allowed; empty: any.
    pub status: Vec<u16>,
}

impl From<&CheckSettings> for SettingsReport {
    fn from(settings: &CheckSettings) -> Self {
        Self {
            settle_ms: settings.settle.as_millis() as u64,
            hold_ms: settings.hold.as_millis() as u64,
            timeout_ms: settings.timeout.as_millis() as u64,
            attempt_timeout_ms: settings.attempt_timeout.as_millis() as u64,
            attempts: settings.attempts,
            tier: settings.required_tier,
            mechanism: settings.mechanism,
            startup_isolated: settings.startup_isolated,
            established: settings.established,
            spread: settings.spread,
            status: settings.status.clone(),
        }
    }
}

/// The checks of a plan, as reports name them.
pub fn check_refs(plan: &Plan) -> Vec<CheckRef> {
    plan.checks()
        .iter()
        .map(|check| check_ref(plan, check))
        .collect()
}

/// A check of a plan, as reports name it.
pub fn check_ref(plan: &Plan, check: &Check) -> CheckRef {
    let suite = plan.suites()[check.suite].name.clone();

    CheckRef {
        id: check_id(&suite, &check.name),
        name: check.name.clone(),
        suite,
        file: check.line.file.clone(),
        line: check.line.line,
        column: check.line.column,
        text: check.line.text.clone(),
        because: check.line.because.clone(),
        tags: check.line.tags.clone(),
        source: check.source.clone(),
        target: check.target.clone(),
        expected: check.expected,
        predicted: check.prediction.as_ref().map(Predicted::from),
        contradiction: check.contradiction(),
        unprovable: check.provability.obstacle().map(str::to_owned),
        settings: SettingsReport::from(&check.settings),
    }
}

/// First 12 hexadecimal digits of SHA-256 over suite, a newline, and check name.
fn check_id(suite: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{suite}\n{name}"));
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serialised(value: impl Serialize) -> String {
        serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
    }

    #[test]
    fn settings_are_serialised_by_their_names_in_a_suite() {
        for tier in RequiredTier::ALL {
            assert_eq!(serialised(tier), tier.name());
        }
        for mechanism in Mechanism::ALL {
            assert_eq!(serialised(mechanism), mechanism.name());
        }
        for spread in Spread::ALL {
            assert_eq!(serialised(spread), spread.name());
        }
    }
}
