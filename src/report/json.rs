//! The JSON report, `watertight.dev/report.v1`: the event types in one document.
//!
//! Its JSON Schema is derived from those types. A value that is not known is `null`, never absent,
//! so that a reader can tell "unknown" from "an older version". What a lab lacks, such as a
//! cluster's uid or a policy's resource version, is `null` there.

use super::format::{FormatDefinition, FormatKind};
use super::run_state::RunState;
use super::text;
use crate::event::{CheckResult, Coverage, EnvironmentInfo, PolicyState, SuiteRef};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use std::borrow::Cow;

/// The format `json`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "json",
    extension: "json",
    aliases: &[],
    kind: FormatKind::Rendered(render),
};

/// A report of one run.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "watertight report")]
struct ReportDocument<'a> {
    #[schemars(extend("const" = "watertight.dev/report.v1"))]
    api_version: &'static str,
    #[schemars(extend("const" = "Report"))]
    kind: &'static str,
    run: Run<'a>,
    /// Where the run took place, and under which policies; null where that could not be read.
    environment: Option<Environment<'a>>,
    /// The suites, in the order of the command line.
    suites: &'a [SuiteRef],
    /// The checks, in the order of the suites.
    checks: Vec<Cow<'a, CheckResult>>,
    /// How much of what exists the checks touch; null where the policies cannot be read.
    coverage: Option<&'a Coverage>,
    /// What the run could not remove; null until it has tried.
    leftovers: Option<&'a [String]>,
}

/// The run: the fields of `RunInfo`, null before it has started, and its exit code.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    /// 16 hexadecimal digits; null: the run never started.
    id: Option<&'a str>,
    /// RFC 3339, UTC.
    #[schemars(with = "Option<String>")]
    started_at: Option<jiff::Timestamp>,
    /// RFC 3339, UTC; null while the run goes on, and of a run that was killed.
    #[schemars(with = "Option<String>")]
    ended_at: Option<jiff::Timestamp>,
    /// Whether every planned check was judged with all its evidence.
    complete: bool,
    /// Why the run is not complete.
    incomplete_because: Option<&'a str>,
    /// Null while the run goes on, and of a run that was killed.
    exit_code: Option<u8>,
    /// `lab`, `cluster` or `scripted`.
    backend: Option<&'a str>,
    /// The version of watertight.
    version: &'a str,
    /// SHA-256 of watertight's executable.
    digest: Option<&'a str>,
    /// SHA-256 of the probe: of its executable, or of its image.
    probe_digest: Option<&'a str>,
    /// The images that probes ran, as the cluster names them (`imageID` of the containers'
    /// status).
    probe_images: &'a [String],
    /// The settings that were given by flag or environment, null where one was not given; each
    /// check names the settings in force for it.
    settings: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// What the proofs of the run do not say, one sentence each.
    limits: &'a [String],
}

impl<'a> Run<'a> {
    fn of(state: &'a RunState) -> Self {
        let run = state.run.as_ref();
        Self {
            id: run.map(|run| run.id.as_str()),
            started_at: run.map(|run| run.started_at),
            ended_at: run.and_then(|run| run.ended_at),
            complete: state.is_complete,
            incomplete_because: if state.is_complete {
                None
            } else {
                state.incomplete.as_deref()
            },
            exit_code: state.exit_code,
            backend: run.map(|run| run.backend.as_str()),
            version: run.map_or(env!("CARGO_PKG_VERSION"), |run| &run.version),
            digest: run.and_then(|run| run.digest.as_deref()),
            probe_digest: run.and_then(|run| run.probe_digest.as_deref()),
            probe_images: run.map_or(&[], |run| &run.probe_images),
            settings: run.map(|run| &run.settings),
            limits: run.map_or(&[], |run| &run.limits),
        }
    }
}

/// Where the run took place, with the policies at its start and at its end.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Environment<'a> {
    #[serde(flatten)]
    at_start: &'a EnvironmentInfo,
    /// The policies when all probes had stopped; null until then, or if they could not be read.
    policies_after: Option<&'a [PolicyState]>,
}

/// The JSON Schema of the JSON report.
pub fn json_schema() -> serde_json::Value {
    SchemaSettings::draft07()
        .for_serialize()
        .with_transform(RecursiveTransform(forbid_unknown_fields))
        .into_generator()
        .into_root_schema_for::<ReportDocument<'static>>()
        .to_value()
}

/// Closes every object whose fields are known.
fn forbid_unknown_fields(schema: &mut Schema) {
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".into(), false.into());
    }
}

fn render(state: &RunState) -> String {
    let document = ReportDocument {
        api_version: "watertight.dev/report.v1",
        kind: "Report",
        run: Run::of(state),
        environment: state.environment.as_ref().map(|at_start| Environment {
            at_start,
            policies_after: state.policies_after.as_deref(),
        }),
        suites: &state.suites,
        checks: state.results(),
        coverage: state.coverage.as_deref(),
        leftovers: state.leftovers.as_deref(),
    };
    let json = serde_json::to_string_pretty(&document)
        .expect("the keys of all maps are strings, and no field's serialiser fails");
    let mut json = text::escaped_json(json);
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ExitCode, RunEvent};
    use crate::report::document_file::DocumentFormat;
    use crate::report::fixtures;
    use crate::report::run_state::RenderedDocument;
    use serde_json::Value;
    use std::time::Duration;

    fn document(events: &[RunEvent]) -> RenderedDocument {
        let mut document = RenderedDocument::new(render);
        for event in events {
            document.apply(event, Duration::ZERO);
        }
        document
    }

    fn rendered(document: &mut RenderedDocument) -> Value {
        serde_json::from_slice(&document.render().unwrap()).unwrap()
    }

    fn report(events: &[RunEvent]) -> Value {
        rendered(&mut document(events))
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
    fn report_is_valid_at_every_moment() {
        let events = fixtures::shop();
        assert_valid(&report(&[]));
        for upto in 1..=events.len() {
            assert_valid(&report(&events[..upto]));
        }
        let mut stopped = document(&events[..3]);
        stopped.stop("interrupted", ExitCode::Impossible);
        assert_valid(&rendered(&mut stopped));
        assert_valid(&report(&fixtures::hostile()));
        assert_valid(&report(&fixtures::empty()));
    }

    #[test]
    fn schema_rejects_missing_and_unknown_fields() {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        let mut valid = report(&fixtures::shop());
        valid["coverage"] = report(&fixtures::covered())["coverage"].clone();
        assert!(validator.is_valid(&valid));
        let objects = [
            "",
            "/run",
            "/environment",
            "/environment/policies/0",
            "/checks/0",
            "/checks/0/latency",
            "/checks/0/reach",
            "/checks/0/settings",
            "/checks/0/flows/0",
            "/checks/4/controls/0",
            "/checks/4/flows/0/window",
            "/checks/6/reason",
            "/coverage",
            "/coverage/policies",
            "/suites/0",
        ];
        for pointer in objects {
            let fields: Vec<String> = valid
                .pointer(pointer)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            for field in fields {
                let mut broken = valid.clone();
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
            let mut broken = valid.clone();
            broken.pointer_mut(pointer).unwrap()["more"] = Value::Null;
            assert!(
                !validator.is_valid(&broken),
                "{pointer} takes an unknown field"
            );
        }
        let mut broken = valid.clone();
        broken["checks"][0]["verdict"] = "passed".into();
        assert!(!validator.is_valid(&broken));
    }

    #[test]
    fn report_and_events_have_the_same_fields() {
        let events = fixtures::shop();
        let report = report(&events);
        let started = serde_json::to_value(&events[0]).unwrap();
        let finished = serde_json::to_value(events.last().unwrap()).unwrap();

        for (name, value) in finished["run"].as_object().unwrap() {
            assert_eq!(&report["run"][name], value, "run.{name}");
        }
        for (name, value) in started["environment"].as_object().unwrap() {
            assert_eq!(&report["environment"][name], value, "environment.{name}");
        }
        assert_eq!(
            report["environment"]["policiesAfter"],
            finished["policiesAfter"]
        );
        assert_eq!(report["run"]["exitCode"], finished["summary"]["exitCode"]);
        assert_eq!(report["suites"], started["suites"]);
        assert_eq!(report["checks"], finished["results"]);
        assert_eq!(report["coverage"], started["coverage"]);
    }

    #[test]
    fn every_check_is_not_finished_at_the_start() {
        let report = report(&fixtures::shop()[..1]);
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
    fn finished_report_holds_what_the_events_say() {
        let report = report(&fixtures::shop());
        assert_eq!(report["apiVersion"], "watertight.dev/report.v1");
        assert_eq!(report["run"]["exitCode"], 3);
        assert_eq!(report["run"]["complete"], true);
        assert_eq!(report["run"]["endedAt"], "2026-11-22T10:00:04.2Z");
        assert_eq!(report["run"]["digest"], "01".repeat(32));
        assert_eq!(report["run"]["probeDigest"], "23".repeat(32));
        assert_eq!(
            report["run"]["settings"],
            serde_json::json!({ "hold": 5000, "only": null })
        );
        let environment = &report["environment"];
        assert_eq!(environment["policies"][0]["name"], "postgres");
        assert_eq!(environment["policies"], environment["policiesAfter"]);
        assert_eq!(report["leftovers"], Value::Null, "nothing was removed yet");
        let leak = &report["checks"][3];
        assert_eq!(leak["name"], "web-tier -> postgres:5432 denied");
        assert_eq!(leak["verdict"], "violated");
        let deny = &report["checks"][4];
        assert_eq!(
            (&deny["tier"], &deny["powerPercent"]),
            (&"D2+counter".into(), &22.into())
        );
        assert_eq!(deny["reach"]["ofTargetPods"], 1);
        assert_eq!(deny["controls"][0]["flow"], 9);
        assert_eq!(deny["settings"]["holdMs"], 2000);
    }

    #[test]
    fn leftovers_are_in_the_report() {
        let mut events = fixtures::shop();
        events.push(RunEvent::CleanedUp {
            leftovers: Vec::new(),
        });
        assert_eq!(report(&events)["leftovers"], serde_json::json!([]));
        events.push(RunEvent::CleanedUp {
            leftovers: vec!["pod shop/web-probe: forbidden".into()],
        });
        let report = report(&events);
        assert_eq!(report["leftovers"][0], "pod shop/web-probe: forbidden");
        assert_valid(&report);
    }

    #[test]
    fn hostile_text_reads_back_unchanged() {
        let report = report(&fixtures::hostile());
        assert_eq!(report["checks"][0]["seen"], fixtures::HOSTILE);
    }
}
