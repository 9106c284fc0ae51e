//! The JSON report, `watertight.dev/report.v1`: the source of all others.
//!
//! The structs are the shape; its JSON Schema is derived from them. A field that is not known is
//! `null`, never absent, so that a reader can tell "unknown" from "an older version".
//!
//! # Limitations
//! Events carry no predictions and no latencies yet: these are `null`. What a lab has not, such as
//! a cluster's uid or a policy's resource version, is `null` there.

mod shape;

use super::document_file::Document;
use super::text;
use super::wording;
use crate::event::{CheckRef, ExitCode, RunEvent, RunInfo};
use shape::{BackendKind, Check, Coverage, Policy, Probe, ReportDocument, Run, Suite, Tool};
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// The JSON Schema of the JSON report.
pub fn json_schema() -> serde_json::Value {
    schemars::generate::SchemaSettings::draft07()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<ReportDocument>()
        .to_value()
}

/// The report as it stands.
pub(super) struct Json {
    document: ReportDocument,
    checks: Vec<CheckRef>,
    places: HashMap<String, usize>,
}

impl Json {
    pub(super) fn new() -> Self {
        let run = Run {
            id: None,
            started_at: None,
            ended_at: None,
            complete: false,
            incomplete_because: Some("the run has not begun".into()),
            exit_code: None,
            tool: Tool {
                version: env!("CARGO_PKG_VERSION").into(),
                digest: None,
            },
            probe: Probe {
                digest: None,
                images: Vec::new(),
            },
            backend: None,
            settings: None,
        };
        let document = ReportDocument {
            api_version: "watertight.dev/report.v1",
            kind: "Report",
            run,
            environment: None,
            suites: Vec::new(),
            checks: Vec::new(),
            coverage: None,
            leftovers: None,
        };
        Self {
            document,
            checks: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn run(&mut self, run: &RunInfo) {
        let of = &mut self.document.run;
        of.id = Some(run.id.clone());
        of.started_at = Some(run.started_at.to_string());
        of.ended_at = run.ended_at.map(|at| at.to_string());
        of.tool.version.clone_from(&run.version);
        of.tool.digest.clone_from(&run.digest);
        of.probe.digest.clone_from(&run.probe_digest);
        of.probe.images.clone_from(&run.probe_images);
        of.settings = Some(run.settings.clone());
        of.backend = Some(run.backend.clone());
    }
}

impl Document for Json {
    fn fold(&mut self, event: &RunEvent, _: Duration) {
        match event {
            RunEvent::Started {
                run,
                environment_info,
                suites,
                checks,
                coverage,
            } => {
                self.run(run);
                self.document.coverage = coverage.as_deref().map(Coverage::from);
                self.document.environment = environment_info.as_ref().map(BackendKind::from);
                self.document.run.incomplete_because = Some("the run has not finished".into());
                self.document.suites = suites.iter().map(Suite::from).collect();
                self.document.checks = checks
                    .iter()
                    .map(|check| Check::from(&wording::unfinished(check)))
                    .collect();
                self.places = checks
                    .iter()
                    .enumerate()
                    .map(|(place, check)| (check.id.clone(), place))
                    .collect();
                self.checks.clone_from(checks);
            }
            RunEvent::Settled { result } => {
                if let Some(place) = self.places.get(&result.check.id) {
                    self.document.checks[*place] = Check::from(&**result);
                }
            }
            RunEvent::Finished {
                run,
                results,
                summary,
                policies,
            } => {
                self.run(run);
                if let (Some(environment), Some(policies)) =
                    (&mut self.document.environment, policies)
                {
                    environment.policies.after = Some(policies.iter().map(Policy::from).collect());
                }
                self.document.run.complete = run.complete && summary.complete;
                self.document
                    .run
                    .incomplete_because
                    .clone_from(&run.incomplete_because);
                self.document.run.exit_code = Some(summary.exit_code);
                self.document.checks = wording::in_order(&self.checks, results)
                    .iter()
                    .map(|result| Check::from(&**result))
                    .collect();
            }
            RunEvent::CleanedUp { leftovers } => self.document.leftovers = Some(leftovers.clone()),
            RunEvent::Note { .. } | RunEvent::Progress { .. } => {}
        }
    }

    fn stop(&mut self, why: &str, code: ExitCode) {
        self.document.run.incomplete_because = Some(why.to_owned());
        self.document.run.exit_code = Some(code.number());
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        let mut json = text::escaped_json(serde_json::to_string_pretty(&self.document)?);
        json.push('\n');
        Ok(json.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use serde_json::Value;

    fn rendered(json: &mut Json) -> Value {
        serde_json::from_slice(&json.render().unwrap()).unwrap()
    }

    fn of(events: &[RunEvent]) -> Json {
        let mut json = Json::new();
        for event in events {
            json.fold(event, Duration::ZERO);
        }
        json
    }

    fn assert_valid(document: &Value) {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    #[test]
    fn a_report_is_valid_at_every_moment() {
        let events = fixtures::shop();
        assert_valid(&rendered(&mut Json::new()));
        for upto in 1..=events.len() {
            assert_valid(&rendered(&mut of(&events[..upto])));
        }
        let mut stopped = of(&events[..3]);
        stopped.stop("interrupted", ExitCode::Impossible);
        assert_valid(&rendered(&mut stopped));
        assert_valid(&rendered(&mut of(&fixtures::hostile())));
        assert_valid(&rendered(&mut of(&fixtures::empty())));
    }

    #[test]
    fn the_schema_takes_no_report_with_a_field_too_few_or_too_many() {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        let whole = rendered(&mut of(&fixtures::shop()));
        assert!(validator.is_valid(&whole));
        let objects = [
            "",
            "/run",
            "/run/tool",
            "/environment",
            "/environment/policies/before/0",
            "/checks/0",
            "/checks/0/settings",
            "/checks/0/flows/0",
            "/checks/4/controls/0",
            "/suites/0",
        ];
        for pointer in objects {
            let fields: Vec<String> = whole
                .pointer(pointer)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            for field in fields {
                let mut broken = whole.clone();
                broken
                    .pointer_mut(pointer)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove(&field);
                assert!(
                    !validator.is_valid(&broken),
                    "{pointer}/{field} may be absent"
                );
            }
            let mut broken = whole.clone();
            broken.pointer_mut(pointer).unwrap()["more"] = Value::Null;
            assert!(
                !validator.is_valid(&broken),
                "{pointer} takes an unknown field"
            );
        }
        let mut broken = whole.clone();
        broken["checks"][0]["verdict"] = "passed".into();
        assert!(!validator.is_valid(&broken));
    }

    #[test]
    fn at_the_start_every_check_is_not_finished() {
        let report = rendered(&mut of(&fixtures::shop()[..1]));
        assert_eq!(report["run"]["complete"], false);
        assert_eq!(report["run"]["exitCode"], Value::Null);
        for check in report["checks"].as_array().unwrap() {
            assert_eq!(
                (&check["verdict"], &check["reason"]["code"]),
                (&"unproven".into(), &"not-finished".into())
            );
            assert_eq!(check["reach"], Value::Null);
        }
    }

    #[test]
    fn at_the_end_it_says_what_the_events_say() {
        let report = rendered(&mut of(&fixtures::shop()));
        assert_eq!(report["apiVersion"], "watertight.dev/report.v1");
        assert_eq!(report["run"]["exitCode"], 3);
        assert_eq!(report["run"]["complete"], true);
        assert_eq!(report["run"]["endedAt"], "2026-11-22T10:00:04.2Z");
        assert_eq!(report["run"]["tool"]["digest"], "01".repeat(32));
        assert_eq!(report["run"]["probe"]["digest"], "23".repeat(32));
        assert_eq!(
            report["run"]["settings"],
            serde_json::json!({ "hold": 5000, "only": null })
        );
        let policies = &report["environment"]["policies"];
        assert_eq!(policies["before"][0]["name"], "postgres");
        assert_eq!(policies["before"], policies["after"]);
        assert_eq!(report["leftovers"], Value::Null, "nothing was removed yet");
        let leak = &report["checks"][3];
        assert_eq!(leak["name"], "web-tier -> postgres:5432 denied");
        assert_eq!(leak["verdict"], "violated");
        let deny = &report["checks"][4];
        assert_eq!(
            (&deny["tier"], &deny["power"]),
            (&"D2+counter".into(), &22.into())
        );
        assert_eq!(deny["reach"]["ofTargetPods"], 1);
        assert_eq!(deny["controls"][0]["flow"], 9);
        assert_eq!(deny["settings"]["hold"], 2000);
    }

    #[test]
    fn what_could_not_be_removed_is_in_it() {
        let mut events = fixtures::shop();
        events.push(RunEvent::CleanedUp {
            leftovers: Vec::new(),
        });
        assert_eq!(
            rendered(&mut of(&events))["leftovers"],
            serde_json::json!([])
        );
        events.push(RunEvent::CleanedUp {
            leftovers: vec!["pod shop/web-probe: forbidden".into()],
        });
        let report = rendered(&mut of(&events));
        assert_eq!(report["leftovers"][0], "pod shop/web-probe: forbidden");
        assert_valid(&report);
    }

    #[test]
    fn hostile_text_reads_back_as_it_was() {
        let report = rendered(&mut of(&fixtures::hostile()));
        assert_eq!(report["checks"][0]["seen"], fixtures::HOSTILE);
    }
}
