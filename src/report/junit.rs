//! JUnit XML: violated is a `failure`; unproven and not finished are an `error` whose `type` is the
//! reason's code.
//!
//! Readers differ: GitLab reads only the element's text and drops a second case of the same name,
//! Jenkins splits class names at dots, Azure DevOps cuts titles at 512 characters. So the sentence
//! is in message and text, and class and name together stay unique after every change to them.
//!
//! Checks run at the same time, so a case's `time` is the time from the start of the run until the
//! check was settled.
//!
//! A file without a red case is shown green. Where no check is red but the run is not complete, or
//! there was nothing to check, a case `watertight / run` carries the error.

use super::document_file::DocumentFormat;
use super::format::{FormatDefinition, FormatKind};
use super::text::{add_line, stripped, stripped_line};
use super::wording::{self, TOOL};
use crate::event::{CheckRef, CheckResult, ExitCode, Outcome, Reason, RunEvent, RunInfo, SuiteRef};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

/// The format `junit`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "junit",
    extension: "xml",
    aliases: &["xml"],
    kind: FormatKind::Document(|| Box::new(Junit::new(hostname()))),
};

/// Azure DevOps cuts a title at this number of characters.
const MAX_NAME: usize = 512;

/// How far the run is.
enum RunProgress {
    NotBegun,
    Running,
    Complete,
    /// Why the run is not complete: the `type` of the error, and a sentence.
    Incomplete(&'static str, String),
}

/// The test case of a check: its position in the report, and its name.
struct CaseSlot {
    /// Index into [`Report::test_suites`].
    suite: usize,
    /// Index into [`TestSuite::test_cases`].
    case: usize,
    name: String,
    /// Time from the start of the run until the check was settled.
    settled_after: Option<Duration>,
}

/// The report, as far as it is known.
struct Junit {
    hostname: Option<String>,
    progress: RunProgress,
    report: Report,
    checks: Vec<CheckRef>,
    /// By the check's id.
    slots: HashMap<String, CaseSlot>,
    /// Class and name of every case.
    taken_names: HashSet<(String, String)>,
    duration: Option<Duration>,
}

impl Junit {
    fn new(hostname: Option<String>) -> Self {
        Self {
            hostname,
            progress: RunProgress::NotBegun,
            report: Report::new(TOOL),
            checks: Vec::new(),
            slots: HashMap::new(),
            taken_names: HashSet::new(),
            duration: None,
        }
    }

    fn start(&mut self, run: &RunInfo, suites: &[SuiteRef], checks: &[CheckRef]) {
        self.progress = RunProgress::Running;
        self.checks = checks.to_vec();
        self.report.timestamp = timestamp(run.started_at);

        self.report.test_suites = suites
            .iter()
            .map(|suite| self.test_suite(run, suite))
            .collect();
        for check in checks {
            self.add_unfinished(run, check);
        }
    }

    /// Adds a case for a check that is not finished.
    fn add_unfinished(&mut self, run: &RunInfo, check: &CheckRef) {
        let suite = self.suite_index(run, check);
        let test_suite = &mut self.report.test_suites[suite];
        let slot = CaseSlot {
            suite,
            case: test_suite.test_cases.len(),
            name: unique_name(check, &mut self.taken_names),
            settled_after: None,
        };

        test_suite.add_test_case(test_case(&wording::unfinished(check), &slot));
        self.slots.insert(check.id.clone(), slot);
    }

    /// Index of the check's suite, which is added where the run does not list it.
    fn suite_index(&mut self, run: &RunInfo, check: &CheckRef) -> usize {
        let name = stripped_line(&check.suite);
        let listed = self
            .report
            .test_suites
            .iter()
            .position(|suite| suite.name.as_str() == name);
        if let Some(index) = listed {
            return index;
        }

        let unlisted = SuiteRef {
            name: check.suite.clone(),
            file: check.file.clone(),
            sha256: String::new(),
        };
        let test_suite = self.test_suite(run, &unlisted);
        self.report.test_suites.push(test_suite);
        self.report.test_suites.len() - 1
    }

    fn test_suite(&self, run: &RunInfo, suite: &SuiteRef) -> TestSuite {
        let mut test_suite = TestSuite::new(stripped_line(&suite.name));
        test_suite.timestamp = timestamp(run.started_at);
        if let Some(hostname) = &self.hostname {
            test_suite
                .extra
                .insert("hostname".into(), stripped_line(hostname).into());
        }
        test_suite
            .extra
            .insert("file".into(), stripped_line(&suite.file).into());
        test_suite.add_properties([
            Property::new("run", &run.id),
            Property::new("backend", &run.backend),
            Property::new("version", &run.version),
            Property::new("sha256", &suite.sha256),
        ]);
        for limit in &run.limits {
            test_suite.add_property(Property::new("limit", limit));
        }
        test_suite
    }

    fn settle(&mut self, result: &CheckResult, after: Option<Duration>) {
        let Some(slot) = self.slots.get_mut(&result.check.id) else {
            return;
        };
        // A check that is settled only at the end took as long as the run.
        slot.settled_after = after.or(slot.settled_after).or(self.duration);
        self.report.test_suites[slot.suite].test_cases[slot.case] = test_case(result, slot);
    }

    fn finish(&mut self, run: &RunInfo, results: &[CheckResult], complete: bool) {
        self.progress = if self.checks.is_empty() {
            RunProgress::Incomplete("nothing-selected", "there was nothing to check".into())
        } else if complete {
            RunProgress::Complete
        } else {
            let why = run.incomplete_because.clone();
            let sentence = why.unwrap_or_else(|| "the run is not complete".into());
            RunProgress::Incomplete("incomplete", sentence)
        };

        self.duration = run
            .ended_at
            .and_then(|end| Duration::try_from(end.duration_since(run.started_at)).ok());
        self.report.time = self.duration;
        for suite in &mut self.report.test_suites {
            suite.time = self.duration;
        }

        let checks = std::mem::take(&mut self.checks);
        for result in wording::in_order(&checks, results) {
            // A port that was swept and found open is no check of the plan, but a violation.
            if !self.slots.contains_key(&result.check.id) {
                self.add_unfinished(run, &result.check);
            }
            self.settle(&result, None);
        }
        self.checks = checks;
    }

    /// The case of a run that is not complete, which no check reports.
    fn run_case(&self) -> Option<TestCase> {
        let (code, sentence) = match &self.progress {
            RunProgress::Complete => return None,
            RunProgress::NotBegun => ("not-begun", "the run has not begun"),
            RunProgress::Running => (Reason::NotFinished.code(), "the run has not finished"),
            RunProgress::Incomplete(code, sentence) => (*code, sentence.as_str()),
        };
        let mut case = TestCase::new(
            "run",
            non_success(NonSuccessKind::Error, code, sentence, sentence),
        );
        case.set_classname(TOOL);
        Some(case)
    }

    /// Sums up all suites, and adds the case of the run where no other is red.
    fn sum_up(&mut self) {
        let suites = &mut self.report.test_suites;
        suites.retain(|suite| suite.name.as_str() != TOOL || !suite.extra.is_empty());
        for suite in suites.iter_mut() {
            suite.tests = suite.test_cases.len();
            suite.failures = count(suite, NonSuccessKind::Failure);
            suite.errors = count(suite, NonSuccessKind::Error);
        }

        let is_red = suites.iter().any(|suite| suite.failures + suite.errors > 0);
        if let Some(case) = self.run_case().filter(|_| !is_red) {
            let mut suite = TestSuite::new(TOOL);
            suite.add_test_case(case);
            self.report.test_suites.push(suite);
        }

        let suites = &self.report.test_suites;
        self.report.tests = suites.iter().map(|suite| suite.tests).sum();
        self.report.failures = suites.iter().map(|suite| suite.failures).sum();
        self.report.errors = suites.iter().map(|suite| suite.errors).sum();
    }
}

impl DocumentFormat for Junit {
    fn apply(&mut self, event: &RunEvent, since_start: Duration) {
        match event {
            RunEvent::Started {
                run,
                suites,
                checks,
                ..
            } => self.start(run, suites, checks),
            RunEvent::Settled { result } => self.settle(result, Some(since_start)),
            RunEvent::Finished {
                run,
                results,
                summary,
                ..
            } => {
                self.finish(run, results, run.complete && summary.complete);
            }
            RunEvent::Note { .. } | RunEvent::Progress { .. } | RunEvent::CleanedUp { .. } => {}
        }
    }

    fn stop(&mut self, why: &str, _: ExitCode) {
        let code = match self.progress {
            RunProgress::NotBegun => "not-begun",
            RunProgress::Running | RunProgress::Complete | RunProgress::Incomplete(..) => {
                "incomplete"
            }
        };
        self.progress = RunProgress::Incomplete(code, why.to_owned());
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        self.sum_up();
        if let RunProgress::Incomplete(_, why) = &self.progress {
            for suite in &mut self.report.test_suites {
                suite
                    .properties
                    .retain(|property| property.name.as_str() != "incomplete");
                suite.add_property(Property::new("incomplete", stripped(why)));
            }
        }

        let mut xml = Vec::new();
        self.report.serialize(&mut xml).map_err(io::Error::other)?;
        Ok(xml)
    }
}

/// How many cases of a suite are of this kind.
fn count(suite: &TestSuite, kind: NonSuccessKind) -> usize {
    suite
        .test_cases
        .iter()
        .filter(|case| match &case.status {
            TestCaseStatus::NonSuccess { kind: actual, .. } => *actual == kind,
            TestCaseStatus::Success { .. } | TestCaseStatus::Skipped { .. } => false,
        })
        .count()
}

fn test_case(result: &CheckResult, slot: &CaseSlot) -> TestCase {
    let mut case = TestCase::new(slot.name.as_str(), status(result));
    case.set_classname(class_name(&result.check));
    case.time = slot.settled_after;
    case.extra
        .insert("file".into(), stripped_line(&result.check.file).into());
    case.extra
        .insert("line".into(), result.check.line.to_string().into());
    case.add_properties(properties(result));

    match result.verdict {
        Outcome::Proven => {}
        Outcome::Violated | Outcome::Unproven if result.flows.is_empty() => {}
        Outcome::Violated | Outcome::Unproven => {
            case.set_system_out(evidence(result));
        }
    }
    case
}

fn status(result: &CheckResult) -> TestCaseStatus {
    let (kind, code) = match result.verdict {
        Outcome::Proven => return TestCaseStatus::success(),
        Outcome::Violated => (NonSuccessKind::Failure, "violated"),
        Outcome::Unproven => {
            let reason = result.reason.as_ref();
            let code = reason.map_or("unproven", |reason| reason.code.code());
            (NonSuccessKind::Error, code)
        }
    };
    non_success(
        kind,
        code,
        &wording::sentence(result),
        &wording::explained(result),
    )
}

fn non_success(kind: NonSuccessKind, code: &str, sentence: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_type(code)
        .set_message(stripped_line(sentence))
        .set_description(stripped(text));
    status
}

fn properties(result: &CheckResult) -> Vec<Property> {
    let check = &result.check;
    let optional = [
        ("predicted", check.predicted.map(|word| word.to_string())),
        ("unpredicted", result.unpredicted.clone()),
        ("tier", result.tier.clone()),
        ("reach", result.reach.as_ref().map(wording::reach)),
        ("power", wording::power(result)),
        ("because", check.because.clone()),
    ];

    let mut properties = vec![
        Property::new("id", stripped_line(&check.id)),
        Property::new("expected", check.expected.to_string()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            properties.push(Property::new(name, stripped_line(&value)));
        }
    }
    for tag in &check.tags {
        properties.push(Property::new("tag", stripped_line(tag)));
    }
    properties
}

fn evidence(result: &CheckResult) -> String {
    let mut out = String::new();
    for flow in &result.flows {
        let line = wording::flow(flow);
        add_line!(out, "{}: {}", flow.verdict, stripped_line(&line));
        for (label, text) in wording::proof_basis(flow) {
            add_line!(out, "  {label}: {}", stripped_line(text));
        }
    }
    out
}

/// The class of a case: the suite's name, without the dots of which Jenkins would make packages.
fn class_name(check: &CheckRef) -> String {
    stripped_line(&check.suite).replace('.', "_")
}

/// The check's name, unique within its class and short enough; a changed name ends with the id.
fn unique_name(check: &CheckRef, taken: &mut HashSet<(String, String)>) -> String {
    let class = class_name(check);
    let name = stripped_line(&check.name);
    let fits = name.chars().count() <= MAX_NAME;
    if fits && taken.insert((class.clone(), name.clone())) {
        return name;
    }

    let mut suffix = format!(" [{}]", stripped_line(&check.id));
    loop {
        let room = MAX_NAME.saturating_sub(suffix.chars().count());
        let kept: String = name.chars().take(room).collect();
        let candidate = format!("{kept}{suffix}");
        if taken.insert((class.clone(), candidate.clone())) {
            return candidate;
        }
        suffix.push('\'');
    }
}

fn timestamp(at: jiff::Timestamp) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    let nanos = u32::try_from(at.subsec_nanosecond()).ok()?;
    chrono::DateTime::from_timestamp(at.as_second(), nanos).map(|at| at.fixed_offset())
}

fn hostname() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn document(events: &[RunEvent]) -> Junit {
        let mut junit = Junit::new(Some("ci-7".into()));
        for (second, event) in events.iter().enumerate() {
            junit.apply(event, Duration::from_secs(second as u64));
        }
        junit
    }

    fn xml(junit: &mut Junit) -> String {
        String::from_utf8(junit.render().unwrap()).unwrap()
    }

    fn read(junit: &mut Junit) -> Report {
        Report::deserialize_from_str(&xml(junit)).unwrap()
    }

    #[test]
    fn violation_is_a_failure_with_its_line_and_evidence() {
        let xml = xml(&mut document(&fixtures::shop()));
        let expected = r#"        <testcase name="web-tier -&gt; postgres:5432 denied" classname="shop" time="4.000" file="shop.yaml" line="16">
            <properties>
                <property name="id" value="000000000003"/>
                <property name="expected" value="denied"/>
                <property name="reach" value="from 2 of 2 nodes, to 1 of 1 pod"/>
                <property name="because" value="only the API may touch the data"/>
                <property name="tag" value="pci"/>
            </properties>
            <failure message="shop/web-6d4f-x2 (node-1) reached data/postgres-0:5432 (node-2): 12 of 12 attempts opened, answered by postgres-0" type="violated">"#;
        assert!(xml.contains(expected), "{xml}");
        assert!(xml.contains("violated: shop/web-6d4f-x2 (node-1) -&gt; data/postgres-0 on node-2 (10.0.2.7:5432/tcp): 12 of 12 attempts opened"), "{xml}");
        assert!(
            xml.contains("next: find the policy that should stop this flow"),
            "{xml}"
        );
        assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"watertight\" tests=\"7\" skipped=\"0\" failures=\"1\" errors=\"1\" timestamp=\"2026-11-22T10:00:00.000+00:00\" time=\"4.200\">"), "{xml}");
        assert!(xml.contains(r#"hostname="ci-7" file="shop.yaml""#), "{xml}");
    }

    #[test]
    fn unproven_check_is_an_error_with_its_reason() {
        let report = read(&mut document(&fixtures::shop()));
        let case = &report.test_suites[0].test_cases[6];
        let TestCaseStatus::NonSuccess {
            kind: NonSuccessKind::Error,
            message,
            ty,
            description,
            ..
        } = &case.status
        else {
            panic!("{case:?}")
        };
        assert_eq!(ty.as_ref().unwrap().as_str(), "no-control-answered");
        let sentence = message.as_ref().unwrap().as_str();
        assert!(
            description.as_ref().unwrap().starts_with(sentence),
            "the sentence is in message and text"
        );
    }

    #[test]
    fn every_case_is_not_finished_at_the_start() {
        let report = read(&mut document(&fixtures::shop()[..1]));
        assert_eq!((report.tests, report.errors, report.failures), (7, 7, 0));
        for case in &report.test_suites[0].test_cases {
            let TestCaseStatus::NonSuccess { ty, .. } = &case.status else {
                panic!("{case:?}")
            };
            assert_eq!(ty.as_ref().unwrap().as_str(), "not-finished");
        }
    }

    #[test]
    fn file_is_not_green_before_a_complete_run_has_ended() {
        let mut not_begun = Junit::new(None);
        let report = read(&mut not_begun);
        assert_eq!((report.tests, report.errors), (1, 1));
        assert_eq!(report.test_suites[0].test_cases[0].name.as_str(), "run");

        // Everything settled and proven, but not finished.
        let mut proven = fixtures::all_proven();
        let last = proven.pop().unwrap();
        let mut running = document(&proven);
        assert_eq!(read(&mut running).errors, 1);
        running.apply(&last, Duration::ZERO);
        let done = read(&mut running);
        assert_eq!(
            (done.errors, done.failures, done.test_suites.len()),
            (0, 0, 1)
        );
    }

    #[test]
    fn run_without_checks_is_an_error() {
        let report = read(&mut document(&fixtures::empty()));
        assert_eq!((report.tests, report.errors), (1, 1));
    }

    #[test]
    fn stopped_run_says_why() {
        let mut junit = document(&fixtures::shop()[..3]);
        junit.stop("the API server is gone", ExitCode::Impossible);
        let xml = xml(&mut junit);
        assert!(
            xml.contains(r#"<property name="incomplete" value="the API server is gone"/>"#),
            "{xml}"
        );

        let mut junit = Junit::new(None);
        junit.stop("no rights to create pods", ExitCode::Impossible);
        let report = read(&mut junit);
        let TestCaseStatus::NonSuccess { ty, message, .. } =
            &report.test_suites[0].test_cases[0].status
        else {
            panic!()
        };
        assert_eq!(
            (
                ty.as_ref().unwrap().as_str(),
                message.as_ref().unwrap().as_str()
            ),
            ("not-begun", "no rights to create pods")
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        let xml = xml(&mut document(&fixtures::hostile()));
        assert!(
            !xml.chars()
                .any(|c| c != '\n' && super::super::text::is_active(c)),
            "{xml}"
        );
        assert!(!xml.contains("</failure><"), "{xml}");
        let report = Report::deserialize_from_str(&xml).unwrap();
        assert_eq!(report.tests, 2);
    }

    #[test]
    fn names_stay_unique_after_changes() {
        let mut events = fixtures::many(4);
        let RunEvent::Started { checks, .. } = &mut events[0] else {
            panic!()
        };
        checks[0].name = "x".repeat(600);
        checks[1].name = format!("{}y", "x".repeat(600));
        (checks[2].name, checks[2].suite) = ("a\u{1b}[1m".into(), "many.er".into());
        (checks[3].name, checks[3].suite) = ("a".into(), "many_er".into());
        let report = read(&mut document(&events[..1]));
        let cases: Vec<_> = report
            .test_suites
            .iter()
            .flat_map(|suite| &suite.test_cases)
            .collect();
        let keys: HashSet<_> = cases
            .iter()
            .map(|case| {
                (
                    case.classname.as_ref().unwrap().as_str(),
                    case.name.as_str(),
                )
            })
            .collect();
        assert_eq!((cases.len(), keys.len()), (4, 4));
        assert!(
            cases
                .iter()
                .all(|case| case.name.chars().count() <= MAX_NAME)
        );
        assert!(
            cases
                .iter()
                .all(|case| !case.classname.as_ref().unwrap().contains('.'))
        );
    }

    #[test]
    fn cases_are_in_the_order_of_the_suite() {
        let mut events = fixtures::shop();
        if let Some(RunEvent::Finished { results, .. }) = events.last_mut() {
            results.reverse();
        }
        let report = read(&mut document(&events));
        let lines: Vec<&str> = report.test_suites[0]
            .test_cases
            .iter()
            .map(|case| case.extra["line"].as_str())
            .collect();
        assert_eq!(lines, ["14", "14", "15", "16", "17", "18", "19"]);
    }
}
