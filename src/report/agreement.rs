//! Tests that all reports of one run agree with each other and with the exit code.

use super::{
    Capabilities, Console, Detail, Format, OpenError, Progress, ReportSpec, Reports, Screen,
    fixtures,
};
use crate::event::{ExitCode, RunEvent};
use quick_junit::{NonSuccessKind, TestCaseStatus};
use std::collections::BTreeMap;
use std::path::Path;

/// What a report says of each check, by the check's name: the verdict, or the code of the reason
/// why it is unproven.
type Verdicts = BTreeMap<String, String>;

/// The name of the test that stands for the run as a whole.
const RUN: &str = "watertight / run";

fn format(name: &str) -> Format {
    Format::named(name).unwrap()
}

/// A specification in which `DIR` stands for a folder.
fn spec(folder: &Path, text: &str) -> ReportSpec {
    ReportSpec::parse(&text.replace("DIR", &folder.display().to_string())).unwrap()
}

fn by_junit(xml: &str) -> Verdicts {
    let report = quick_junit::Report::deserialize_from_str(xml).unwrap();
    report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .map(|case| (case.name.as_str().to_owned(), junit_verdict(&case.status)))
        .collect()
}

fn junit_verdict(status: &TestCaseStatus) -> String {
    match status {
        TestCaseStatus::Success { .. } => "proven".to_owned(),
        TestCaseStatus::NonSuccess {
            kind: NonSuccessKind::Failure,
            ..
        } => "violated".to_owned(),
        TestCaseStatus::NonSuccess {
            kind: NonSuccessKind::Error,
            ty,
            ..
        } => ty.as_ref().unwrap().as_str().to_owned(),
        TestCaseStatus::Skipped { .. } => "skipped".to_owned(),
    }
}

fn by_json(report: &serde_json::Value) -> Verdicts {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            let verdict = match check["verdict"].as_str().unwrap() {
                "unproven" => check["reason"]["code"].as_str().unwrap(),
                verdict => verdict,
            };
            let name = check["name"].as_str().unwrap();
            (name.to_owned(), verdict.to_owned())
        })
        .collect()
}

fn by_console(text: &str) -> Verdicts {
    let mut verdicts = Verdicts::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(violated) = line.strip_prefix("violated: ") {
            verdicts.insert(violated.to_owned(), "violated".into());
        } else if let Some(unproven) = line.strip_prefix("unproven: ") {
            unproven.clone_into(&mut name);
            if let Some((name, rest)) = unproven.split_once(" (") {
                verdicts.insert(name.to_owned(), rest.split(')').next().unwrap().to_owned());
            }
        } else if line.contains("= reason ") {
            let code = line.trim_end_matches(')').rsplit('(').next().unwrap();
            verdicts.insert(name.clone(), code.into());
        } else if let Some(proven) = ["+ ", "- ", "● ", "○ "]
            .iter()
            .find_map(|sign| line.strip_prefix(sign))
        {
            verdicts.insert(proven.to_owned(), "proven".into());
        }
    }
    verdicts
}

/// The verdicts of a TAP file, and whether it says that the run is complete.
fn by_tap(text: &str) -> (Verdicts, bool) {
    let mut verdicts = Verdicts::new();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("TAP version 14"));
    let planned: usize = lines
        .next()
        .unwrap()
        .strip_prefix("1..")
        .unwrap()
        .parse()
        .unwrap();

    let mut name = String::new();
    let (mut tests, mut run_is_complete) = (0, true);
    for line in lines {
        if let Some((ok, rest)) = tap_result(line) {
            tests += 1;
            let (number, key) = rest.split_once(" - ").unwrap();
            assert_eq!(number.parse(), Ok(tests));
            if key == RUN {
                run_is_complete = ok;
                continue;
            }
            key.split_once(" / ").unwrap().1.clone_into(&mut name);
            verdicts.insert(name.clone(), if ok { "proven" } else { "not ok" }.into());
        } else if let Some(verdict) = line.strip_prefix("  verdict: ") {
            assert_eq!(verdicts[&name] == "proven", verdict == "proven", "{line}");
            verdicts.insert(name.clone(), verdict.to_owned());
        } else if let Some(code) = line.strip_prefix("  reason: ") {
            verdicts.insert(name.clone(), code.to_owned());
        }
    }

    assert_eq!(tests, planned);
    (verdicts, run_is_complete)
}

/// Whether a test line is `ok`, and the rest of it; `None` of every other line.
fn tap_result(line: &str) -> Option<(bool, &str)> {
    if let Some(rest) = line.strip_prefix("ok ") {
        return Some((true, rest));
    }
    Some((false, line.strip_prefix("not ok ")?))
}

/// The verdicts of a CTRF file, and whether it says that the run is complete.
fn by_ctrf(text: &str) -> (Verdicts, bool) {
    let report: serde_json::Value = serde_json::from_str(text).unwrap();
    let tests = report["results"]["tests"].as_array().unwrap();
    let summary = &report["results"]["summary"];
    let passed = tests.iter().filter(|test| test["status"] == "passed");
    let failed = tests.iter().filter(|test| test["status"] == "failed");
    let (passed, failed) = (passed.count(), failed.count());
    assert_eq!(
        (summary["passed"].as_u64(), summary["failed"].as_u64()),
        (Some(passed as u64), Some(failed as u64))
    );
    assert_eq!(
        passed + failed,
        tests.len(),
        "nothing is skipped, pending or other"
    );

    let verdicts = tests
        .iter()
        .filter(|test| test["name"] != RUN)
        .map(|test| {
            let (_, name) = test["name"].as_str().unwrap().split_once(" / ").unwrap();
            let raw_status = test["rawStatus"].as_str().unwrap();
            assert_eq!(test["status"] == "passed", raw_status == "proven");
            let verdict = raw_status.trim_start_matches("unproven: ");
            (name.to_owned(), verdict.to_owned())
        })
        .collect();
    let run_is_complete = tests.iter().all(|test| test["name"] != RUN);
    (verdicts, run_is_complete)
}

/// The verdicts of a metrics file, without reasons, and whether it says that the run is complete.
fn by_openmetrics(text: &str) -> (Verdicts, bool) {
    assert!(text.ends_with("# EOF\n"));
    let verdicts = text
        .lines()
        .filter_map(|line| line.strip_prefix("watertight_check_proven{"))
        .map(|line| {
            let (labels, value) = line.rsplit_once("} ").unwrap();
            let verdict = label(labels, "verdict");
            assert_eq!(value == "1", verdict == "proven");
            (label(labels, "name"), verdict)
        })
        .collect();
    let run_is_complete = text.lines().any(|line| line == "watertight_run_complete 1");
    (verdicts, run_is_complete)
}

fn label(labels: &str, name: &str) -> String {
    let (_, rest) = labels.split_once(&format!("{name}=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Verdicts with `unproven` in place of a reason's code.
fn without_reasons(verdicts: &Verdicts) -> Verdicts {
    verdicts
        .iter()
        .map(|(name, verdict)| {
            let verdict = match verdict.as_str() {
                "proven" | "violated" => verdict,
                _ => "unproven",
            };
            (name.clone(), verdict.to_owned())
        })
        .collect()
}

#[test]
fn other_formats_agree_with_the_json_report() {
    let formats = ["json", "markdown", "tap", "ctrf", "openmetrics"].map(format);
    for events in [
        fixtures::shop(),
        fixtures::all_proven(),
        fixtures::interrupted(),
        fixtures::swept(),
        fixtures::covered(),
        fixtures::empty(),
        fixtures::shop()[..4].to_vec(),
    ] {
        let mut reports = Reports::default();
        let outputs = formats.map(|format| {
            let (writer, written) = fixtures::pipe();
            reports.add_output(format, writer);
            written
        });
        for event in &events {
            reports.event(event);
        }
        reports.stopped("killed", ExitCode::Impossible);
        reports.close();

        let [json, markdown, tap, ctrf, openmetrics] = outputs.map(|output| output.text());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let verdicts = by_json(&json);
        let is_complete = json["run"]["complete"] == true && !verdicts.is_empty();
        assert_eq!(by_tap(&tap), (verdicts.clone(), is_complete), "{tap}");
        assert_eq!(by_ctrf(&ctrf), (verdicts.clone(), is_complete), "{ctrf}");
        assert_eq!(
            by_openmetrics(&openmetrics),
            (without_reasons(&verdicts), is_complete),
            "{openmetrics}"
        );

        let is_green = is_complete && verdicts.values().all(|verdict| verdict == "proven");
        assert_eq!(
            markdown.starts_with("### watertight: as expected"),
            is_green,
            "{markdown}"
        );
        if matches!(events.last(), Some(RunEvent::Finished { .. })) && !verdicts.is_empty() {
            assert_eq!(by_console(&markdown), verdicts, "{markdown}");
        }
    }
}

#[test]
fn hostile_text_breaks_no_format() {
    for format in Format::all() {
        let (writer, written) = fixtures::pipe();
        let mut reports = Reports::default();
        reports.add_output(format, writer);
        for event in &fixtures::hostile() {
            reports.event(event);
        }
        reports.close();

        let text = written.text();
        assert!(
            !text.chars().any(|c| c != '\n' && super::text::is_active(c)),
            "{format}: {text}"
        );
        match format.name() {
            "tap" => assert_eq!(
                text.lines()
                    .filter(|line| line.contains("ok ") && !line.starts_with(' '))
                    .count(),
                2,
                "{text}"
            ),
            "ctrf" => assert_eq!(by_ctrf(&text).0.len(), 2),
            "openmetrics" => {
                assert_eq!(
                    text.lines()
                        .filter(|line| line.starts_with("watertight_check_proven{"))
                        .count(),
                    2
                );
            }
            "markdown" => assert_eq!(
                text.lines().filter(|line| line.starts_with("```")).count(),
                2,
                "{text}"
            ),
            _ => {}
        }
    }
}

#[test]
fn reports_and_exit_code_agree() {
    for events in [
        fixtures::shop(),
        fixtures::all_proven(),
        fixtures::interrupted(),
        fixtures::swept(),
        fixtures::covered(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut reports = Reports::open(&[
            spec(folder.path(), "junit=DIR/a.xml"),
            spec(folder.path(), "json=DIR/a.json"),
            spec(folder.path(), "jsonl=DIR/a.jsonl"),
        ])
        .unwrap();
        let ((results, console), (live, _)) = (fixtures::pipe(), fixtures::pipe());
        reports.add(
            "console",
            Console::new(
                Screen::new(results, Capabilities::plain()),
                Screen::new(live, Capabilities::plain()),
                Detail::Verbose,
                Progress::Quiet,
            ),
        );
        let ((junit_writer, junit), (json_writer, json)) = (fixtures::pipe(), fixtures::pipe());
        reports.add_output(format("junit"), junit_writer);
        reports.add_output(format("json"), json_writer);
        for event in &events {
            reports.event(event);
        }
        reports.stopped("comes too late", ExitCode::Impossible);
        reports.close();
        assert!(reports.errors().is_empty());

        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (junit_file, json_file, lines_file) = (read("a.xml"), read("a.json"), read("a.jsonl"));
        let report: serde_json::Value = serde_json::from_str(&json_file).unwrap();
        assert_eq!(json.text(), json_file, "-o and --report write the same");
        assert_eq!(by_junit(&junit.text()), by_junit(&junit_file));
        let verdicts = by_json(&report);
        assert_eq!(by_junit(&junit_file), verdicts);
        assert_eq!(by_console(&console.text()), verdicts, "{}", console.text());

        let last_line = lines_file.lines().last().unwrap();
        let last: serde_json::Value = serde_json::from_str(last_line).unwrap();
        let Some(RunEvent::Finished { summary, .. }) = events.last() else {
            panic!()
        };
        assert_eq!(verdicts.len(), summary.checks);
        let code = ExitCode::of(summary);
        assert_eq!(report["run"]["exitCode"], code.number());
        assert_eq!(last["summary"]["exitCode"], code.number());
        assert_eq!(
            verdicts.values().any(|verdict| verdict == "violated"),
            code == ExitCode::Violated
        );
        assert_eq!(
            verdicts.values().all(|verdict| verdict == "proven"),
            code == ExitCode::Proven
        );
        assert_eq!(reports.exit_code(code), code);
    }
}

#[test]
fn report_that_fails_is_a_defect_and_stops_no_other() {
    let mut reports = Reports::default();
    reports.add_output(format("json"), fixtures::Full);
    let (writer, written) = fixtures::pipe();
    reports.add_output(format("junit"), writer);
    for event in &fixtures::all_proven() {
        reports.event(event);
    }
    reports.close();
    assert!(written.text().contains("<testsuites"));
    assert_eq!(reports.errors().len(), 1);
    assert_eq!(reports.errors()[0].to_string(), "write the report -o json");
    assert_eq!(reports.exit_code(ExitCode::Proven), ExitCode::Defect);
}

#[test]
fn all_unusable_files_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Err(errors) = Reports::open(&[
        spec(folder, "json=DIR/no/a"),
        spec(folder, "junit=DIR"),
        spec(folder, "json=DIR/fine"),
    ]) else {
        panic!()
    };
    assert_eq!(errors.len(), 2);
    assert_eq!(
        errors[0].to_string(),
        format!("open json={}/no/a", folder.display())
    );

    let Err(errors) = Reports::open(&[spec(folder, "json=DIR/a"), spec(folder, "junit=DIR/./a")])
    else {
        panic!()
    };
    assert!(matches!(errors[..], [OpenError::SameFile(..)]));
}

#[test]
fn file_of_an_earlier_run_is_overwritten_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.xml");
    let spec = ReportSpec::parse(&format!("junit={}", path.display())).unwrap();
    let mut first = Reports::open(std::slice::from_ref(&spec)).unwrap();
    for event in &fixtures::all_proven() {
        first.event(event);
    }
    assert!(
        by_junit(&std::fs::read_to_string(&path).unwrap())
            .values()
            .all(|verdict| verdict == "proven")
    );

    let mut second = Reports::open(&[spec]).unwrap();
    assert_eq!(
        by_junit(&std::fs::read_to_string(&path).unwrap())["run"],
        "not-begun"
    );
    second.stopped("the cluster cannot be reached", ExitCode::Impossible);
    let xml = std::fs::read_to_string(&path).unwrap();
    assert!(xml.contains("the cluster cannot be reached"), "{xml}");
}

#[test]
fn every_format_takes_ten_thousand_checks() {
    let mut reports = Reports::default();
    let mut outputs = BTreeMap::new();
    for format in Format::all() {
        let (writer, written) = fixtures::pipe();
        reports.add_output(format, writer);
        outputs.insert(format.name(), written);
    }
    for event in &fixtures::many(10_000) {
        reports.event(event);
    }
    reports.close();
    assert!(reports.errors().is_empty());

    let (junit, json) = (outputs["junit"].text(), outputs["json"].text());
    assert_eq!(by_junit(&junit).len(), 10_000);
    assert_eq!(
        by_json(&serde_json::from_str(&json).unwrap()),
        by_junit(&junit)
    );
    assert_eq!(outputs["jsonl"].text().lines().count(), 10_003);
}
