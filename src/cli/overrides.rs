//! Settings from the command line or the environment: they go before a line's own and the suite's.

use crate::model::parse_duration;
use crate::suite::{Expected, Mechanism, RequiredTier, Settings, SourceMode, Spread, Suite};
use clap::{Args, ValueEnum};
use std::time::Duration;

/// The settings that may differ from run to run. Those of a request (`method`, `headers`, `status`,
/// `body`, `serverName`, `alpn`, `record`, `send`, `repeat`) say what is tested, and `control`
/// names an endpoint of one suite: they are in the suite alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings, before those of the suite")]
pub(crate) struct SettingArgs {
    /// Wait before the hold
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_SETTLE", value_parser = parse_duration)]
    settle: Option<Duration>,
    /// How long a deny is watched
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_HOLD", value_parser = parse_duration)]
    hold: Option<Duration>,
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
    spread: Option<SpreadWhen>,
    /// The tier that proofs must reach: D1, D2, D2+same-node or D2+counter for denials, A0 to A3
    /// for allowances; one of each
    #[arg(long, value_name = "TIER", env = "WATERTIGHT_TIER", value_delimiter = ',', value_parser = required_tier)]
    tier: Vec<RequiredTier>,
    /// isolated: what a new source could reach before its policies took hold violates
    #[arg(long, value_name = "HOW", env = "WATERTIGHT_STARTUP", value_parser = ["isolated"])]
    startup: Option<String>,
    /// The kind that every denial must be: drop, reset, icmp or signature
    #[arg(long, value_name = "KIND", env = "WATERTIGHT_MECHANISM", value_parser = mechanism)]
    mechanism: Option<Mechanism>,
}

/// From where sources send that do not say it themselves.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SourceModeArgs {
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
    /// From the own network of the nodes that its pods run on.
    Node,
    /// From where watertight runs.
    Runner,
}

impl SourceModeArgs {
    fn source_mode(self) -> Option<SourceMode> {
        Some(match self.source? {
            SourceModeArg::Clone => SourceMode::Clone,
            SourceModeArg::Ephemeral => SourceMode::Ephemeral,
            SourceModeArg::Node => SourceMode::Node,
            SourceModeArg::Runner => SourceMode::Runner,
        })
    }

    /// What was given, for the report.
    pub(super) fn told(self) -> serde_json::Value {
        self.source_mode().map(SourceMode::name).into()
    }

    /// For every endpoint that does not say it.
    pub(super) fn apply(self, suites: &mut [Suite]) {
        for endpoint in suites.iter_mut().flat_map(|suite| &mut suite.endpoints) {
            endpoint.source_mode = endpoint.source_mode.or(self.source_mode());
        }
    }
}

fn required_tier(word: &str) -> Result<RequiredTier, String> {
    RequiredTier::named(word).ok_or_else(|| words(RequiredTier::ALL.iter().map(|one| one.name())))
}

fn mechanism(word: &str) -> Result<Mechanism, String> {
    Mechanism::named(word).ok_or_else(|| words(Mechanism::ALL.iter().map(|one| one.name())))
}

fn words<'w>(all: impl Iterator<Item = &'w str>) -> String {
    format!("it is one of {}", all.collect::<Vec<_>>().join(", "))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpreadWhen {
    /// One.
    One,
    /// One a node, at most three.
    Nodes,
    /// Every replica.
    Replicas,
}

impl From<SpreadWhen> for Spread {
    fn from(spread: SpreadWhen) -> Self {
        match spread {
            SpreadWhen::One => Self::One,
            SpreadWhen::Nodes => Self::Nodes,
            SpreadWhen::Replicas => Self::Replicas,
        }
    }
}

impl SettingArgs {
    /// What was given, for the report: `null` where nothing was. Durations are milliseconds.
    pub(super) fn told(&self) -> serde_json::Map<String, serde_json::Value> {
        let Self {
            settle,
            hold,
            timeout,
            attempt_timeout,
            attempts,
            spread,
            tier,
            startup,
            mechanism,
        } = self;
        let tier: Vec<&str> = tier.iter().map(|tier| tier.name()).collect();
        let time = |time: &Option<Duration>| time.map(|time| time.as_millis() as u64).into();
        [
            ("settle", time(settle)),
            ("hold", time(hold)),
            ("timeout", time(timeout)),
            ("attemptTimeout", time(attempt_timeout)),
            ("attempts", (*attempts).into()),
            (
                "spread",
                spread.map(|spread| Spread::from(spread).name()).into(),
            ),
            ("tier", (!tier.is_empty()).then(|| tier.join(",")).into()),
            ("startup", startup.clone().into()),
            ("mechanism", mechanism.map(Mechanism::name).into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// Puts these settings before those of suites and of their lines.
    pub(super) fn apply(&self, suites: &mut [Suite]) {
        for suite in suites {
            self.over(&mut suite.settings);
            // Of the suite's own settings, those of denials also hold for what no line speaks of.
            self.over_of(Expected::Denied, &mut suite.settings);
            for line in &mut suite.lines {
                self.over(&mut line.settings);
                self.over_of(line.expected, &mut line.settings);
            }
        }
    }

    fn over(&self, settings: &mut Settings) {
        let spread = self.spread.map(Spread::from);
        settings.settle = self.settle.or(settings.settle);
        settings.hold = self.hold.or(settings.hold);
        settings.timeout = self.timeout.or(settings.timeout);
        settings.attempt_timeout = self.attempt_timeout.or(settings.attempt_timeout);
        settings.attempts = self.attempts.or(settings.attempts);
        settings.spread = spread.or(settings.spread);
    }

    /// Settings that mean something for denials only, or for each kind of line something else.
    fn over_of(&self, expected: Expected, settings: &mut Settings) {
        let of_kind = |required_tier: &&RequiredTier| {
            required_tier.is_for_denials() == (expected == Expected::Denied)
        };
        settings.required_tier = self
            .tier
            .iter()
            .find(of_kind)
            .copied()
            .or(settings.required_tier);
        if expected == Expected::Denied {
            settings.startup_isolated = self
                .startup
                .as_ref()
                .map(|_| true)
                .or(settings.startup_isolated);
            settings.mechanism = self.mechanism.or(settings.mechanism);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;
    use crate::suite;

    #[test]
    fn what_is_given_goes_before_the_line_and_the_suite() {
        let text = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: s}\nspec:\n  settings: {hold: 4s, attempts: 8}\n  \
                    endpoints:\n    a: {namespace: n, workload: Deployment/a}\n    b: {namespace: n, workload: Deployment/b}\n  \
                    expect:\n    - {check: \"a -> b:80 denied\", hold: 5s}\n";
        let mut sources = Sources::new();
        let file = sources.add("s.yaml", text);
        let (mut suites, diagnostics) = suite::read(&[file], &sources);
        assert!(
            !diagnostics.has_errors(),
            "{}",
            diagnostics.render_compact(&sources)
        );
        let args = SettingArgs {
            settle: None,
            hold: Some(Duration::from_secs(7)),
            timeout: None,
            attempt_timeout: None,
            attempts: None,
            spread: Some(SpreadWhen::One),
            tier: vec![RequiredTier::A1, RequiredTier::D1],
            startup: Some("isolated".to_owned()),
            mechanism: Some(Mechanism::Drop),
        };
        args.apply(&mut suites);
        let (line, suite) = (&suites[0].lines[0].settings, &suites[0].settings);
        assert_eq!(
            (line.hold, suite.hold),
            (Some(Duration::from_secs(7)), Some(Duration::from_secs(7)))
        );
        assert_eq!(
            (line.spread, suite.attempts, line.attempts),
            (Some(Spread::One), Some(8), None)
        );
        assert_eq!(
            (line.required_tier, line.startup_isolated, line.mechanism),
            (Some(RequiredTier::D1), Some(true), Some(Mechanism::Drop))
        );
    }

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
        const IN_SUITES_ONLY: [&str; 10] = [
            "alpn",
            "body",
            "control",
            "headers",
            "method",
            "record",
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
        known.sort_unstable();
        let mut settings = suite::setting_names();
        settings.sort_unstable();
        assert_eq!(known, settings);
    }
}
