//! Console, JUnit, JSON, JSON lines and exit code agree on the same run.

use crate::support::*;
use quick_junit::{NonSuccessKind, TestCaseStatus};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// The verdict of each check, by its id; with the reason where it is unproven: `unproven:
/// clock-skew`.
type Verdicts = BTreeMap<String, String>;

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

fn verdict_of(result: &Value) -> String {
    match result["verdict"].as_str() {
        Some("unproven") => format!("unproven: {}", text(&result["reason"]["code"])),
        _ => text(&result["verdict"]),
    }
}

fn of_results(results: &Value) -> Verdicts {
    let results = results.as_array().unwrap();
    let verdicts: Verdicts = results
        .iter()
        .map(|result| (text(&result["id"]), verdict_of(result)))
        .collect();
    assert_eq!(verdicts.len(), results.len(), "two checks have one id");
    verdicts
}

fn of_junit(path: &Path) -> Verdicts {
    let report = junit(path);
    let (mut verdicts, mut failures, mut errors) = (Verdicts::new(), 0, 0);
    for case in report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
    {
        let id = case
            .properties
            .iter()
            .find(|property| property.name.as_str() == "id");
        let Some(id) = id else { continue };
        let verdict = match &case.status {
            TestCaseStatus::Success { .. } => "proven".to_owned(),
            TestCaseStatus::NonSuccess {
                kind: NonSuccessKind::Failure,
                ..
            } => "violated".to_owned(),
            TestCaseStatus::NonSuccess {
                kind: NonSuccessKind::Error,
                ty,
                ..
            } => {
                format!("unproven: {}", ty.as_ref().unwrap().as_str())
            }
            TestCaseStatus::Skipped { .. } => "skipped".to_owned(),
        };
        assert!(case.time.is_some(), "{} has no time", case.name.as_str());
        failures += usize::from(verdict == "violated");
        errors += usize::from(verdict.starts_with("unproven"));
        verdicts.insert(id.value.as_str().to_owned(), verdict);
    }
    assert_eq!(
        (report.tests, report.failures, report.errors),
        (verdicts.len(), failures, errors)
    );
    verdicts
}

fn of_lines(path: &Path) -> (Verdicts, Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.first().unwrap()["event"], "started");
    let [.., last, removed] = events.as_slice() else {
        panic!("{text}")
    };
    assert_eq!(last["event"], "finished");
    assert_eq!(
        *removed,
        serde_json::json!({ "event": "cleanedUp", "leftovers": [] })
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| event["event"] == "finished")
            .count(),
        1
    );

    let planned: Vec<&Value> = events[0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| &check["id"])
        .collect();
    let judged: Vec<&Value> = last["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["id"])
        .collect();
    assert_eq!(
        planned, judged,
        "every planned check is judged, in the same order"
    );
    (of_results(&last["results"]), last["summary"].clone())
}

fn count(verdicts: &Verdicts, verdict: &str) -> usize {
    verdicts
        .values()
        .filter(|of| of.split(':').next() == Some(verdict))
        .count()
}

/// Runs and compares as [`agreed`]; gives the verdicts by check name.
fn agreed_verdicts(arguments: &[&str]) -> (Ran, BTreeMap<String, String>) {
    let (ran, report) = agreed(arguments);
    let named = report["checks"].as_array().unwrap();
    let verdicts = named
        .iter()
        .map(|result| (text(&result["name"]), text(&result["verdict"])))
        .collect();
    (ran, verdicts)
}

/// Runs to the end, and compares console, JUnit, JSON, JSON lines and exit code; gives the JSON
/// report.
pub(crate) fn agreed(arguments: &[&str]) -> (Ran, Value) {
    let files = Files::new();
    let mut command = watertight(arguments);
    for (format, name) in [("json", "r.json"), ("junit", "r.xml"), ("jsonl", "r.jsonl")] {
        command
            .arg("--report")
            .arg(format!("{format}={}", files.name(name)));
    }

    let ran = ran(&mut command);
    ran.without_panic();

    assert_ne!(ran.code, Some(2), "{}", ran.err);
    let report = json(&files.path("r.json"));
    let by_json = of_results(&report["checks"]);
    let (by_lines, summary) = of_lines(&files.path("r.jsonl"));
    assert_eq!(by_json, of_junit(&files.path("r.xml")), "JSON and JUnit");
    assert_eq!(by_json, by_lines, "JSON and JSON lines");

    let (proven, violated, unproven) = (
        count(&by_json, "proven"),
        count(&by_json, "violated"),
        count(&by_json, "unproven"),
    );
    assert_eq!(proven + violated + unproven, by_json.len());
    for (key, number) in [
        ("checks", by_json.len()),
        ("proven", proven),
        ("violated", violated),
        ("unproven", unproven),
    ] {
        assert_eq!(summary[key], number, "{key}");
    }

    let code = if violated > 0 {
        3
    } else if unproven > 0 {
        4
    } else {
        0
    };
    ran.ends(code);
    assert_eq!(report["run"]["exitCode"], code);
    assert_eq!(summary["exitCode"], code);
    assert_eq!(report["run"]["complete"], true);

    let sums = format!("{proven} proven, {violated} violated, {unproven} unproven in ");
    assert!(ran.out.contains(&sums), "{sums} is not in:\n{}", ran.out);
    for result in report["checks"].as_array().unwrap() {
        let (name, verdict) = (text(&result["name"]), text(&result["verdict"]));
        for word in ["violated", "unproven"] {
            let shown = ran
                .out
                .lines()
                .any(|line| line == format!("{word}: {name}"));
            assert_eq!(shown, word == verdict, "{word}: {name}\n{}", ran.out);
        }
    }
    validates(&report);
    (ran, report)
}

/// Asserts that a report is valid by the schema that the program prints.
pub(crate) fn validates(report: &Value) {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let printed = ran(&mut watertight(["schema", "report"]));
        serde_json::from_str(&printed.ends(0).out).unwrap()
    });
    let validator = jsonschema::draft7::new(schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn reports_agree_on_every_verdict() {
    let _alone = alone();
    let (ran, verdicts) = agreed_verdicts(&["run", LEAKY, UNPROVEN, "--lab", WORLD]);
    ran.ends(3);
    let expected = [
        ("web -> api:8080 allowed", "proven"),
        ("web -> db:5432 denied [leak]", "violated"),
        ("web -> silent:9999 denied", "unproven"),
    ];
    assert_eq!(
        verdicts,
        expected
            .map(|(name, verdict)| (name.to_owned(), verdict.to_owned()))
            .into()
    );
}

#[test]
fn reports_agree_when_all_is_proven() {
    let _alone = alone();
    let shop = [
        "run",
        "suites/shop/suite.yaml",
        "--lab",
        "suites/shop/manifests",
        "--only",
        ":(8080|5432|80) ",
    ];

    let (ran, verdicts) = agreed_verdicts(&shop);
    ran.ends(0);
    assert_eq!(verdicts.len(), 12, "{verdicts:?}");
}

/// Runs the leaky suite, with a format on standard output.
fn run_leaky(format: &str) -> Ran {
    ran(&mut watertight([
        "run", LEAKY, "--lab", WORLD, "-o", format,
    ]))
}

#[test]
fn standard_output_holds_only_the_document() {
    let _alone = alone();
    let document = run_leaky("json");
    document
        .ends(3)
        .complains("violated: web -> db:5432 denied [leak]");
    let report: Value = serde_json::from_str(&document.out).expect("a JSON document alone");
    assert_eq!(count(&of_results(&report["checks"]), "violated"), 1);

    let lines = run_leaky("jsonl");
    lines.ends(3);
    assert!(
        lines
            .out
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{}",
        lines.out
    );

    let xml = run_leaky("junit");
    xml.ends(3);
    assert_eq!(
        quick_junit::Report::deserialize_from_str(&xml.out)
            .expect("an XML document alone")
            .failures,
        1
    );
}

/// Names with control sequences of terminals, XML, logs and shells.
#[test]
fn hostile_names_stay_text_in_every_report() {
    let _alone = alone();
    let files = Files::new();
    let hostile = r"\e[31m]]><b>&amp;\u202Eevil\u0007 ::error::x ##[group] $(id) `id` ' \u2028";
    let tag = r"\u202E]]></testcase>&amp;##[error]::error::\u2066";
    let text = std::fs::read_to_string("tests/cli/hostile.yaml").unwrap();
    let text = text.replace("BECAUSE", hostile).replace("TAG", tag);
    let suite = files.with("hostile.yaml", &text);

    // One line both allowed and denied is a mistake; its diagnostic escapes the names.
    let ran_twice = ran(&mut watertight(["run", &suite, "--lab", WORLD]));
    ran_twice.ends(2);
    assert!(
        !ran_twice.err.contains('\u{1b}') && !ran_twice.err.contains('\u{202e}'),
        "{:?}",
        ran_twice.err
    );

    let once = text
        .split("    - check: web -> api:8080 denied")
        .next()
        .unwrap()
        .replace("allowed", "denied");
    let suite = files.with("once.yaml", once);
    let (ran, _) = agreed_verdicts(&["run", &suite, "--lab", WORLD]);
    ran.ends(3);
    for stream in [&ran.out, &ran.err] {
        assert!(
            !stream.contains(['\u{1b}', '\u{202e}', '\u{7}', '\u{2028}']),
            "{stream:?}"
        );
        assert!(!stream.contains("##["), "{stream:?}");
    }
}
