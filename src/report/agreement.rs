//! One run, all reports: they say the same, and so does the exit code.

use super::{
    Capabilities, Console, Detail, Format, OpenError, Progress, ReportSpec, Reports, Screen,
    fixtures,
};
use crate::event::{ExitCode, RunEvent};
use quick_junit::{NonSuccessKind, TestCaseStatus};
use std::collections::BTreeMap;

/// Check name → what a report says of it.
type Said = BTreeMap<String, String>;

fn by_junit(xml: &str) -> Said {
    let report = quick_junit::Report::deserialize_from_str(xml).unwrap();
    let says = |status: &TestCaseStatus| match status {
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
    };
    report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .map(|case| (case.name.as_str().to_owned(), says(&case.status)))
        .collect()
}

fn by_json(report: &serde_json::Value) -> Said {
    let says = |check: &serde_json::Value| match check["verdict"].as_str().unwrap() {
        "unproven" => check["reason"]["code"].as_str().unwrap().to_owned(),
        verdict => verdict.to_owned(),
    };
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["name"].as_str().unwrap().to_owned(), says(check)))
        .collect()
}

fn by_console(text: &str) -> Said {
    let mut said = Said::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(violated) = line.strip_prefix("violated: ") {
            said.insert(violated.to_owned(), "violated".into());
        } else if let Some(unproven) = line.strip_prefix("unproven: ") {
            unproven.clone_into(&mut name);
            if let Some((name, rest)) = unproven.split_once(" (") {
                said.insert(name.to_owned(), rest.split(')').next().unwrap().to_owned());
            }
        } else if line.contains("= reason ") {
            let code = line.trim_end_matches(')').rsplit('(').next().unwrap();
            said.insert(name.clone(), code.into());
        } else if let Some(proven) = ["+ ", "- ", "● ", "○ "]
            .iter()
            .find_map(|sign| line.strip_prefix(sign))
        {
            said.insert(proven.to_owned(), "proven".into());
        }
    }
    said
}

/// `ok` and `not ok`, which is all that TAP says by itself; the run's own line left out.
fn by_tap(text: &str) -> (Said, bool) {
    let mut said = Said::new();
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
    let (mut tests, mut run_is_ok) = (0, true);
    for line in lines {
        let passed = line.strip_prefix("ok ").map(|rest| (true, rest));
        if let Some((ok, rest)) =
            passed.or_else(|| line.strip_prefix("not ok ").map(|rest| (false, rest)))
        {
            tests += 1;
            let (number, key) = rest.split_once(" - ").unwrap();
            assert_eq!(number.parse(), Ok(tests));
            if key == "watertight / run" {
                run_is_ok = ok;
                continue;
            }
            key.split_once(" / ").unwrap().1.clone_into(&mut name);
            said.insert(name.clone(), if ok { "proven" } else { "not ok" }.into());
        } else if let Some(verdict) = line.strip_prefix("  verdict: ") {
            assert_eq!(said[&name] == "proven", verdict == "proven", "{line}");
            said.insert(name.clone(), verdict.to_owned());
        } else if let Some(code) = line.strip_prefix("  reason: ") {
            said.insert(name.clone(), code.to_owned());
        }
    }
    assert_eq!(tests, planned);
    (said, run_is_ok)
}

fn by_ctrf(text: &str) -> (Said, bool) {
    let report: serde_json::Value = serde_json::from_str(text).unwrap();
    let tests = report["results"]["tests"].as_array().unwrap();
    let summary = &report["results"]["summary"];
    let of = |status: &str| tests.iter().filter(|test| test["status"] == status).count();
    assert_eq!(
        (summary["passed"].as_u64(), summary["failed"].as_u64()),
        (Some(of("passed") as u64), Some(of("failed") as u64))
    );
    assert_eq!(
        of("passed") + of("failed"),
        tests.len(),
        "nothing is skipped, pending or other"
    );
    let run = tests.iter().find(|test| test["name"] == "watertight / run");
    let says = |test: &serde_json::Value| {
        let raw = test["rawStatus"].as_str().unwrap();
        assert_eq!(test["status"] == "passed", raw == "proven");
        raw.trim_start_matches("unproven: ").to_owned()
    };
    let checks = tests
        .iter()
        .filter(|test| test["name"] != "watertight / run");
    let name = |test: &serde_json::Value| {
        test["name"]
            .as_str()
            .unwrap()
            .split_once(" / ")
            .unwrap()
            .1
            .to_owned()
    };
    (
        checks.map(|test| (name(test), says(test))).collect(),
        run.is_none(),
    )
}

/// Each check's verdict, without the reason.
fn by_openmetrics(text: &str) -> (Said, bool) {
    assert!(text.ends_with("# EOF\n"));
    let checks = text
        .lines()
        .filter_map(|line| line.strip_prefix("watertight_check_proven{"));
    let said = checks.map(|line| {
        let (labels, value) = line.rsplit_once("} ").unwrap();
        let of = |label: &str| {
            let (_, rest) = labels.split_once(&format!("{label}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        assert_eq!(value == "1", of("verdict") == "proven");
        (of("name"), of("verdict"))
    });
    (
        said.collect(),
        text.lines().any(|line| line == "watertight_run_complete 1"),
    )
}

#[test]
fn no_further_format_is_greener_than_the_json_report() {
    let further = [
        Format::Json,
        Format::Markdown,
        Format::Tap,
        Format::Ctrf,
        Format::Openmetrics,
    ];
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
        let outs = further.map(|format| {
            let (writer, written) = fixtures::pipe();
            reports.add_output(format, writer);
            written
        });
        for event in &events {
            reports.event(event);
        }
        reports.stopped("killed", ExitCode::Impossible);
        reports.close();
        let [json, markdown, tap, ctrf, openmetrics] = outs.map(|out| out.text());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let said = by_json(&json);
        let whole = json["run"]["complete"] == true && !said.is_empty();
        assert_eq!(by_tap(&tap), (said.clone(), whole), "{tap}");
        assert_eq!(by_ctrf(&ctrf), (said.clone(), whole), "{ctrf}");
        let verdict = |says: &String| match says.as_str() {
            "proven" | "violated" => says.clone(),
            _ => "unproven".to_owned(),
        };
        let verdicts = said
            .iter()
            .map(|(name, says)| (name.clone(), verdict(says)))
            .collect();
        assert_eq!(
            by_openmetrics(&openmetrics),
            (verdicts, whole),
            "{openmetrics}"
        );
        let green = whole && said.values().all(|says| says == "proven");
        assert_eq!(
            markdown.starts_with("### watertight: as expected"),
            green,
            "{markdown}"
        );
        if matches!(events.last(), Some(RunEvent::Finished { .. })) && !said.is_empty() {
            assert_eq!(by_console(&markdown), said, "{markdown}");
        }
    }
}

#[test]
fn hostile_text_breaks_no_further_format() {
    for format in [
        Format::Markdown,
        Format::Tap,
        Format::Ctrf,
        Format::Openmetrics,
    ] {
        let (writer, written) = fixtures::pipe();
        let mut reports = Reports::default();
        reports.add_output(format, writer);
        for event in &fixtures::hostile() {
            reports.event(event);
        }
        reports.close();
        let text = written.text();
        assert!(
            !text.chars().any(|c| c != '\n' && super::text::acts(c)),
            "{format}: {text}"
        );
        match format {
            Format::Tap => assert_eq!(
                text.lines()
                    .filter(|line| line.contains("ok ") && !line.starts_with(' '))
                    .count(),
                2,
                "{text}"
            ),
            Format::Ctrf => assert_eq!(by_ctrf(&text).0.len(), 2),
            Format::Openmetrics => {
                assert_eq!(
                    text.lines()
                        .filter(|line| line.starts_with("watertight_check_proven{"))
                        .count(),
                    2
                );
            }
            _ => assert_eq!(
                text.lines().filter(|line| line.starts_with("```")).count(),
                2,
                "{text}"
            ),
        }
    }
}

#[test]
fn all_reports_and_the_exit_code_agree() {
    for events in [
        fixtures::shop(),
        fixtures::all_proven(),
        fixtures::interrupted(),
        fixtures::swept(),
        fixtures::covered(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let spec = |format: &str, name: &str| {
            ReportSpec::parse(&format!("{format}={}", path(name).display())).unwrap()
        };
        let mut reports = Reports::open(&[
            spec("junit", "a.xml"),
            spec("json", "a.json"),
            spec("jsonl", "a.jsonl"),
        ])
        .unwrap();
        let ((out, console), (err, _)) = (fixtures::pipe(), fixtures::pipe());
        let terminal = [
            Screen::new(out, Capabilities::plain()),
            Screen::new(err, Capabilities::plain()),
        ];
        let [results, live] = terminal;
        reports.add(
            "console",
            Console::new(results, live, Detail::Verbose, Progress::Quiet),
        );
        let ((out, junit), (more, json)) = (fixtures::pipe(), fixtures::pipe());
        reports.add_output(Format::Junit, out);
        reports.add_output(Format::Json, more);
        for event in &events {
            reports.event(event);
        }
        reports.stopped("comes too late", ExitCode::Impossible);
        reports.close();
        assert!(reports.errors().is_empty());

        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&read("a.json")).unwrap();
        assert_eq!(
            json.text(),
            read("a.json"),
            "-o and --report write the same"
        );
        assert_eq!(by_junit(&junit.text()), by_junit(&read("a.xml")));
        let said = by_json(&report);
        assert_eq!(by_junit(&read("a.xml")), said);
        assert_eq!(by_console(&console.text()), said, "{}", console.text());
        let last = read("a.jsonl")
            .lines()
            .last()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .unwrap();

        let Some(RunEvent::Finished { summary, .. }) = events.last() else {
            panic!()
        };
        assert_eq!(said.len(), summary.checks);
        let code = ExitCode::of(summary);
        assert_eq!(report["run"]["exitCode"], code.number());
        assert_eq!(last["summary"]["exitCode"], code.number());
        assert_eq!(
            said.values().any(|says| says == "violated"),
            code == ExitCode::Violated
        );
        assert_eq!(
            said.values().all(|says| says == "proven"),
            code == ExitCode::Proven
        );
        assert_eq!(reports.exit_code(code), code);
    }
}

#[test]
fn one_report_that_fails_stops_no_other_and_makes_a_defect() {
    let mut reports = Reports::default();
    reports.add_output(Format::Json, fixtures::Full);
    let (writer, written) = fixtures::pipe();
    reports.add_output(Format::Junit, writer);
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
fn everything_wrong_with_the_files_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let spec = |text: &str| {
        ReportSpec::parse(&text.replace("DIR", &folder.path().display().to_string())).unwrap()
    };
    let Err(errors) = Reports::open(&[
        spec("json=DIR/no/a"),
        spec("junit=DIR"),
        spec("json=DIR/fine"),
    ]) else {
        panic!()
    };
    assert_eq!(errors.len(), 2);
    assert_eq!(
        errors[0].to_string(),
        format!("open json={}/no/a", folder.path().display())
    );

    let Err(errors) = Reports::open(&[spec("json=DIR/a"), spec("junit=DIR/./a")]) else {
        panic!()
    };
    assert!(matches!(errors[..], [OpenError::Twice(..)]));
}

#[test]
fn the_file_of_an_earlier_run_cannot_be_taken_for_this_one() {
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
            .all(|says| says == "proven")
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
fn ten_thousand_checks_go_into_every_report() {
    let mut reports = Reports::default();
    let outs = Format::ALL.map(|format| {
        let (writer, written) = fixtures::pipe();
        reports.add_output(format, writer);
        written
    });
    for event in &fixtures::many(10_000) {
        reports.event(event);
    }
    reports.close();
    let [junit, json, jsonl, ..] = outs.map(|out| out.text());
    assert_eq!(by_junit(&junit).len(), 10_000);
    assert_eq!(
        by_json(&serde_json::from_str(&json).unwrap()),
        by_junit(&junit)
    );
    assert_eq!(jsonl.lines().count(), 10_003);
}
