//! Settings from the command line or the environment: they take precedence over a line's own and
//! the suite's.

use crate::app::options::SettingOverrides;
use crate::model::parse_duration;
use crate::suite::{Mechanism, RequiredTier, SourceMode, Spread};
use clap::{Args, ValueEnum};
use std::time::Duration;

/// The settings that may differ from run to run, without `labFamilies`, which is an option of the
/// lab. Those of a request (`method`, `headers`, `status`,
/// `refusal`, `body`, `serverName`, `alpn`, `record`, `send`, `repeat`) say what is tested, and `control`
/// names an endpoint of one suite: they are in the suite alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings, before those of the suite")]
pub(super) struct SettingArgs {
    /// Wait before the hold
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_SETTLE", value_parser = parse_duration)]
    settle: Option<Duration>,
    /// How long a deny is watched
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_HOLD", value_parser = parse_duration)]
    hold: Option<Duration>,
    /// How long a deny is watched where nothing shows that the labels of a new pod are known
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_UNKNOWN_IDENTITY_HOLD", value_parser = parse_duration)]
    unknown_identity_hold: Option<Duration>,
    /// How long an allow may take to come up
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_TIMEOUT", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How long a handshake may take
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_ATTEMPT_TIMEOUT", value_parser = parse_duration)]
    attempt_timeout: Option<Duration>,
    /// Attempts that a deny needs at least
    #[arg(long, value_name = "N", env = "WATERTIGHT_ATTEMPTS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    attempts: Option<u32>,
    /// How many instances of a source are used
    #[arg(long, value_enum, value_name = "HOW", env = "WATERTIGHT_SPREAD")]
    spread: Option<SpreadArg>,
    /// The tier that proofs must reach: D1, D2, D2+same-node or D2+counter for denials, A0 to A3
    /// for allowances; one of each
    #[arg(long, value_name = "TIER", env = "WATERTIGHT_TIER", value_delimiter = ',', value_parser = parse_tier)]
    tier: Vec<RequiredTier>,
    /// isolated: what a new source could reach before its policies took hold violates
    #[arg(long, value_name = "HOW", env = "WATERTIGHT_STARTUP", value_parser = ["isolated"])]
    startup: Option<String>,
    /// The kind that every denial must be: drop, reset, icmp or signature
    #[arg(long, value_name = "KIND", env = "WATERTIGHT_MECHANISM", value_parser = parse_mechanism)]
    mechanism: Option<Mechanism>,
}

impl SettingArgs {
    pub(super) fn overrides(&self) -> SettingOverrides {
        SettingOverrides {
            settle: self.settle,
            hold: self.hold,
            unknown_identity_hold: self.unknown_identity_hold,
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
            attempts: self.attempts,
            spread: self.spread.map(Spread::from),
            tiers: self.tier.clone(),
            startup: self.startup.clone(),
            mechanism: self.mechanism,
        }
    }
}

/// From where sources send whose endpoint does not say it.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct SourceModeArgs {
    /// From where sources send whose endpoint does not say it
    #[arg(long, value_enum, value_name = "FROM", env = "WATERTIGHT_SOURCE")]
    source: Option<SourceModeArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SourceModeArg {
    /// From pods with the identity of the endpoint's.
    Clone,
    /// From within the endpoint's pods, by an ephemeral container that stays in each until the pod
    /// is deleted.
    Ephemeral,
    /// From the network of the nodes that its pods run on.
    Node,
    /// From where watertight runs.
    Runner,
}

impl SourceModeArgs {
    pub(super) fn source_mode(self) -> Option<SourceMode> {
        Some(match self.source? {
            SourceModeArg::Clone => SourceMode::Clone,
            SourceModeArg::Ephemeral => SourceMode::Ephemeral,
            SourceModeArg::Node => SourceMode::Node,
            SourceModeArg::Runner => SourceMode::Runner,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpreadArg {
    /// One instance.
    One,
    /// One a node, at most three.
    Nodes,
    /// Every replica.
    Replicas,
}

impl From<SpreadArg> for Spread {
    fn from(spread: SpreadArg) -> Self {
        match spread {
            SpreadArg::One => Self::One,
            SpreadArg::Nodes => Self::Nodes,
            SpreadArg::Replicas => Self::Replicas,
        }
    }
}

fn parse_tier(word: &str) -> Result<RequiredTier, String> {
    let names = RequiredTier::ALL.iter().map(|tier| tier.name());
    RequiredTier::parse(word).ok_or_else(|| one_of(names))
}

fn parse_mechanism(word: &str) -> Result<Mechanism, String> {
    let names = Mechanism::ALL.iter().map(|mechanism| mechanism.name());
    Mechanism::parse(word).ok_or_else(|| one_of(names))
}

fn one_of<'w>(names: impl Iterator<Item = &'w str>) -> String {
    format!("it is one of {}", names.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    /// `attempt_timeout` as suites spell it: `attemptTimeout`.
    fn camel_case(name: &str) -> String {
        let mut words = name.split('_');
        let first = words.next().unwrap().to_owned();
        words.fold(first, |name, word| {
            name + &word[..1].to_uppercase() + &word[1..]
        })
    }

    #[test]
    fn every_setting_is_a_flag_or_says_why_not() {
        const IN_SUITES_ONLY: [&str; 11] = [
            "alpn",
            "body",
            "control",
            "headers",
            "method",
            "record",
            "refusal",
            "repeat",
            "send",
            "serverName",
            "status",
        ];
        let command = SettingArgs::augment_args(clap::Command::new("test"));
        let ids = command.get_arguments().map(|arg| arg.get_id().as_str());
        let mut known: Vec<String> = ids.map(camel_case).collect();
        for arg in command.get_arguments() {
            let name = arg.get_id().as_str().to_uppercase();
            assert_eq!(
                arg.get_env().and_then(|env| env.to_str()),
                Some(format!("WATERTIGHT_{name}").as_str())
            );
        }
        known.extend(IN_SUITES_ONLY.map(str::to_owned));
        known.push("labFamilies".to_owned());
        known.sort_unstable();
        let mut settings = suite::setting_names();
        settings.sort_unstable();
        assert_eq!(known, settings);
    }
}
