//! The options of a command, checked and free of the command line's syntax.

use crate::backend::kube::{Access, Image};
use crate::backend::lab::Deny;
use crate::model::Families;
use crate::plan::Selection;
use crate::report::{Detail, Output, ReportSpec};
use crate::suite::{
    Expected, HostAddresses, Mechanism, RequiredTier, Settings, SourceMode, Spread, Suite,
};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// The suites to test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SuiteInput<'a> {
    /// Suite files.
    Files(&'a [String]),
    /// One line, without a file.
    Line(&'a str),
}

/// The network to test in.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Cluster(Box<ClusterOptions>),
    Lab(LabOptions),
    /// The test double: the lab's plan, with the attempts that a script file describes.
    Scripted {
        world: WorldOptions,
        script: PathBuf,
    },
}

/// The world that a lab makes.
#[derive(Debug, Clone)]
pub(crate) struct WorldOptions {
    /// Files, folders, or `-` for standard input.
    pub(crate) manifests: Vec<String>,
    /// The addresses of hosts outside.
    pub(crate) resolve: Vec<HostAddresses>,
    /// The address families, before those of suites and manifests.
    pub(crate) families: Option<Families>,
}

/// The lab of a run.
#[derive(Debug, Clone)]
pub(crate) struct LabOptions {
    pub(crate) world: WorldOptions,
    pub(crate) deny: Deny,
}

/// The cluster of a run, the user to act as, and the probes to create.
#[derive(Debug, Clone)]
pub(crate) struct ClusterOptions {
    pub(crate) access: Access,
    pub(crate) image: Image,
    /// Whether autoscalers may count probe pods that carry their pods' labels.
    pub(crate) allow_autoscalers: bool,
    /// The namespace in which canaries run before the probes; `None` for no canaries.
    pub(crate) canary: Option<String>,
}

/// Which checks are planned, and with which settings.
#[derive(Debug, Clone)]
pub(crate) struct SelectOptions {
    pub(crate) selection: Selection,
    pub(crate) settings: SettingOverrides,
    /// The source mode of endpoints that set none.
    pub(crate) source_mode: Option<SourceMode>,
    /// Whether warnings count as errors.
    pub(crate) strict: bool,
}

impl SelectOptions {
    /// Applies the overrides and the default source mode to suites.
    pub(super) fn apply(&self, suites: &mut [Suite]) {
        self.settings.apply(suites);

        for endpoint in suites.iter_mut().flat_map(|suite| &mut suite.endpoints) {
            endpoint.source_mode = endpoint.source_mode.or(self.source_mode);
        }
    }
}

/// Which checks a run tests, and where its results go.
#[derive(Debug, Clone)]
pub(crate) struct RunOptions {
    pub(crate) select: SelectOptions,
    pub(crate) reports: Vec<ReportSpec>,
    /// The file for the raw evidence.
    pub(crate) evidence: Option<PathBuf>,
    /// What goes to standard output.
    pub(crate) output: Output,
    pub(crate) detail: Detail,
}

impl RunOptions {
    /// The options of a run for its report: `null` where an option was not given.
    pub(crate) fn report_settings(&self, deny: Option<Deny>) -> Map<String, Value> {
        let SelectOptions {
            selection,
            settings,
            source_mode,
            strict,
        } = &self.select;
        let only = selection.only.as_ref().map(regex::Regex::as_str);
        let sweep: Vec<String> = selection.sweep.iter().map(ToString::to_string).collect();

        let mut report = settings.report_settings();
        report.insert("only".to_owned(), only.into());
        report.insert("tag".to_owned(), selection.tags.clone().into());
        report.insert("skipTag".to_owned(), selection.skip_tags.clone().into());
        report.insert("sweep".to_owned(), sweep.into());
        report.insert("strict".to_owned(), (*strict).into());
        report.insert(
            "source".to_owned(),
            source_mode.map(SourceMode::name).into(),
        );
        report.insert("labDeny".to_owned(), deny.map(Deny::name).into());
        report.insert("labFamilies".to_owned(), Value::Null);
        report
    }
}

/// Settings that take precedence over those of suites and of their lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingOverrides {
    pub(crate) settle: Option<Duration>,
    pub(crate) hold: Option<Duration>,
    pub(crate) unknown_identity_hold: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) attempts: Option<u32>,
    pub(crate) spread: Option<Spread>,
    /// At most one tier for denials and one for allowances count: the first of each.
    pub(crate) tiers: Vec<RequiredTier>,
    /// `isolated` is the only value there is.
    pub(crate) startup: Option<String>,
    pub(crate) mechanism: Option<Mechanism>,
}

impl SettingOverrides {
    /// The settings for the report: `null` where one was not given. Durations are milliseconds.
    fn report_settings(&self) -> Map<String, Value> {
        let tiers: Vec<&str> = self.tiers.iter().map(|tier| tier.name()).collect();
        let tier = (!tiers.is_empty()).then(|| tiers.join(","));

        let mut report = Map::new();
        report.insert("settle".to_owned(), milliseconds(self.settle));
        report.insert("hold".to_owned(), milliseconds(self.hold));
        report.insert(
            "unknownIdentityHold".to_owned(),
            milliseconds(self.unknown_identity_hold),
        );
        report.insert("timeout".to_owned(), milliseconds(self.timeout));
        report.insert(
            "attemptTimeout".to_owned(),
            milliseconds(self.attempt_timeout),
        );
        report.insert("attempts".to_owned(), self.attempts.into());
        report.insert("spread".to_owned(), self.spread.map(Spread::name).into());
        report.insert("tier".to_owned(), tier.into());
        report.insert("startup".to_owned(), self.startup.clone().into());
        report.insert(
            "mechanism".to_owned(),
            self.mechanism.map(Mechanism::name).into(),
        );
        report
    }

    /// Puts these settings before those of suites and of their lines.
    fn apply(&self, suites: &mut [Suite]) {
        for suite in suites {
            self.override_common(&mut suite.settings);
            // The suite's own settings for denials also apply to `everythingElse`.
            self.override_by_outcome(Expected::Denied, &mut suite.settings);

            for line in &mut suite.lines {
                self.override_common(&mut line.settings);
                self.override_by_outcome(line.expected, &mut line.settings);
            }
        }
    }

    /// Overrides the settings that mean the same for every line.
    fn override_common(&self, settings: &mut Settings) {
        settings.settle = self.settle.or(settings.settle);
        settings.hold = self.hold.or(settings.hold);
        settings.unknown_identity_hold = self
            .unknown_identity_hold
            .or(settings.unknown_identity_hold);
        settings.timeout = self.timeout.or(settings.timeout);
        settings.attempt_timeout = self.attempt_timeout.or(settings.attempt_timeout);
        settings.attempts = self.attempts.or(settings.attempts);
        settings.spread = self.spread.or(settings.spread);
    }

    /// Overrides the settings that exist for denials only, or that differ between denials and
    /// allowances.
    fn override_by_outcome(&self, expected: Expected, settings: &mut Settings) {
        let is_denial = expected == Expected::Denied;
        let tier = self
            .tiers
            .iter()
            .find(|tier| tier.is_for_denials() == is_denial);
        settings.required_tier = tier.copied().or(settings.required_tier);

        if is_denial {
            let isolated = self.startup.as_ref().map(|_| true);
            settings.startup_isolated = isolated.or(settings.startup_isolated);
            settings.mechanism = self.mechanism.or(settings.mechanism);
        }
    }
}

fn milliseconds(time: Option<Duration>) -> Value {
    time.map(|time| time.as_millis() as u64).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;
    use crate::suite;

    const SUITE: &str = "\
apiVersion: watertight.dev/v1
kind: Suite
metadata: {name: s}
spec:
  settings: {hold: 4s, attempts: 8}
  endpoints:
    a: {namespace: n, workload: Deployment/a}
    b: {namespace: n, workload: Deployment/b}
  expect:
    - {check: \"a -> b:80 denied\", hold: 5s}
";

    #[test]
    fn overrides_take_precedence_over_line_and_suite() {
        let mut sources = Sources::new();
        let file = sources.add("s.yaml", SUITE);
        let (mut suites, diagnostics) = suite::read(&[file], &sources);
        assert!(
            !diagnostics.has_errors(),
            "{}",
            diagnostics.render_compact(&sources)
        );

        let overrides = SettingOverrides {
            hold: Some(Duration::from_secs(7)),
            spread: Some(Spread::One),
            tiers: vec![RequiredTier::A1, RequiredTier::D1],
            startup: Some("isolated".to_owned()),
            mechanism: Some(Mechanism::Drop),
            ..SettingOverrides::default()
        };
        overrides.apply(&mut suites);

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
}
