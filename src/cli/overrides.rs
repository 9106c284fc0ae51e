//! Settings from the command line or the environment: they go before a line's own and the suite's.

use crate::model::parse_duration;
use crate::suite::{Settings, Spread, Suite};
use clap::{Args, ValueEnum};
use std::time::Duration;

/// The settings that may differ from run to run; those of a request belong in the suite.
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
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_PATIENCE", value_parser = parse_duration)]
    patience: Option<Duration>,
    /// How long a handshake may take
    #[arg(long, value_name = "TIME", env = "WATERTIGHT_DEADLINE", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Attempts that a deny needs at least
    #[arg(long, value_name = "N", env = "WATERTIGHT_SAMPLES", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    samples: Option<u32>,
    /// How many instances of a source are used
    #[arg(long, value_enum, value_name = "HOW", env = "WATERTIGHT_SPREAD")]
    spread: Option<SpreadWhen>,
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
        let Self { settle, hold, patience, deadline, samples, spread } = self;
        let time = |time: &Option<Duration>| time.map(|time| time.as_millis() as u64).into();
        [
            ("settle", time(settle)),
            ("hold", time(hold)),
            ("patience", time(patience)),
            ("deadline", time(deadline)),
            ("samples", (*samples).into()),
            ("spread", spread.map(|spread| Spread::from(spread).name()).into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// Puts these settings before those of suites and of their lines.
    pub(super) fn apply(&self, suites: &mut [Suite]) {
        for suite in suites {
            self.over(&mut suite.settings);
            for line in &mut suite.lines {
                self.over(&mut line.settings);
            }
        }
    }

    fn over(&self, settings: &mut Settings) {
        let spread = self.spread.map(Spread::from);
        settings.settle = self.settle.or(settings.settle);
        settings.hold = self.hold.or(settings.hold);
        settings.patience = self.patience.or(settings.patience);
        settings.deadline = self.deadline.or(settings.deadline);
        settings.samples = self.samples.or(settings.samples);
        settings.spread = spread.or(settings.spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;
    use crate::suite;

    #[test]
    fn what_is_given_goes_before_the_line_and_the_suite() {
        let text = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: s}\nspec:\n  settings: {hold: 4s, samples: 8}\n  \
                    endpoints:\n    a: {namespace: n, workload: Deployment/a}\n    b: {namespace: n, workload: Deployment/b}\n  \
                    expect:\n    - {check: \"a -> b:80 denied\", hold: 5s}\n";
        let mut sources = Sources::new();
        let file = sources.add("s.yaml", text);
        let (mut suites, diagnostics) = suite::read(&[file], &sources);
        assert!(!diagnostics.has_errors(), "{}", diagnostics.render_compact(&sources));
        let args = SettingArgs {
            settle: None,
            hold: Some(Duration::from_secs(7)),
            patience: None,
            deadline: None,
            samples: None,
            spread: Some(SpreadWhen::One),
        };
        args.apply(&mut suites);
        let (line, suite) = (&suites[0].lines[0].settings, &suites[0].settings);
        assert_eq!((line.hold, suite.hold), (Some(Duration::from_secs(7)), Some(Duration::from_secs(7))));
        assert_eq!((line.spread, suite.samples, line.samples), (Some(Spread::One), Some(8), None));
    }
}
