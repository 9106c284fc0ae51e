//! JUnit XML: violated is a `failure`; unproven and not finished are an `error` whose `type` is the
//! reason's code.
//!
//! Readers differ: GitLab reads only the element's text and drops a second case of the same name,
//! Jenkins splits class names at dots, Azure DevOps cuts titles at 512 characters. So the sentence
//! stands in message and text, and class and name together are unique after everything that is done
//! to them.
//!
//! Checks run side by side, so a case's `time` is the time from the start of the run until the
//! check was settled.
//!
//! A file without a red case is shown green. Where no check is red but the run is not complete, or
//! there was nothing to check, a case `watertight / run` carries the error.

use super::document_file::Document;
use super::text::{say, stripped, stripped_line};
use super::wording::{self, TOOL};
use crate::event::{CheckRef, CheckResult, ExitCode, Outcome, Reason, RunEvent, RunInfo, SuiteRef};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

/// Azure DevOps cuts a title here.
const LONGEST_NAME: usize = 512;

/// How far the run is.
enum State {
    NotBegun,
    Running,
    Complete,
    /// The code and the sentence.
    Incomplete(&'static str, String),
}

/// Where a check's case stands, and what it is called.
struct Place {
    suite: usize,
    case: usize,
    name: String,
    settled: Option<Duration>,
}

/// The report as it stands.
pub(super) struct Junit {
    hostname: Option<String>,
    state: State,
    report: Report,
    checks: Vec<CheckRef>,
    places: HashMap<String, Place>,
    /// Class and name of every case.
    taken: HashSet<(String, String)>,
    took: Option<Duration>,
}

impl Junit {
    pub(super) fn new(hostname: Option<String>) -> Self {
        Self {
            hostname,
            state: State::NotBegun,
            report: Report::new(TOOL),
            checks: Vec::new(),
            places: HashMap::new(),
            taken: HashSet::new(),
            took: None,
        }
    }

    fn start(&mut self, run: &RunInfo, suites: &[SuiteRef], checks: &[CheckRef]) {
        self.state = State::Running;
        self.checks = checks.to_vec();
        self.report.timestamp = timestamp(run.started_at);
        self.report.test_suites = suites.iter().map(|suite| self.suite(run, suite)).collect();
        for check in checks {
            self.add(run, check);
        }
    }

    /// A case for a check, not finished.
    fn add(&mut self, run: &RunInfo, check: &CheckRef) {
        let known = self
            .report
            .test_suites
            .iter()
            .position(|suite| suite.name.as_str() == stripped_line(&check.suite));
        let suite = known.unwrap_or_else(|| {
            let unlisted = SuiteRef {
                name: check.suite.clone(),
                file: check.file.clone(),
                sha256: String::new(),
            };
            let suite = self.suite(run, &unlisted);
            self.report.test_suites.push(suite);
            self.report.test_suites.len() - 1
        });
        let name = unique_name(check, &mut self.taken);
        let place = Place {
            suite,
            case: self.report.test_suites[suite].test_cases.len(),
            name,
            settled: None,
        };
        let case = case(&wording::unfinished(check), &place);
        self.report.test_suites[suite].add_test_case(case);
        self.places.insert(check.id.clone(), place);
    }

    fn suite(&self, run: &RunInfo, of: &SuiteRef) -> TestSuite {
        let mut suite = TestSuite::new(stripped_line(&of.name));
        suite.timestamp = timestamp(run.started_at);
        if let Some(hostname) = &self.hostname {
            suite
                .extra
                .insert("hostname".into(), stripped_line(hostname).into());
        }
        suite
            .extra
            .insert("file".into(), stripped_line(&of.file).into());
        suite.add_properties([
            Property::new("run", &run.id),
            Property::new("backend", &run.backend),
            Property::new("version", &run.version),
            Property::new("sha256", &of.sha256),
        ]);
        suite
    }

    fn settle(&mut self, result: &CheckResult, after: Option<Duration>) {
        let Some(place) = self.places.get_mut(&result.check.id) else {
            return;
        };
        // What was settled only at the end took as long as the run.
        place.settled = after.or(place.settled).or(self.took);
        self.report.test_suites[place.suite].test_cases[place.case] = case(result, place);
    }

    fn finish(&mut self, run: &RunInfo, results: &[CheckResult], complete: bool) {
        self.state = if self.checks.is_empty() {
            State::Incomplete("nothing-selected", "there was nothing to check".into())
        } else if complete {
            State::Complete
        } else {
            State::Incomplete(
                "incomplete",
                run.incomplete_because
                    .clone()
                    .unwrap_or_else(|| "the run is not complete".into()),
            )
        };
        let took = run
            .ended_at
            .and_then(|end| Duration::try_from(end.duration_since(run.started_at)).ok());
        self.report.time = took;
        for suite in &mut self.report.test_suites {
            suite.time = took;
        }
        let checks = std::mem::take(&mut self.checks);
        self.took = took;
        for result in wording::in_order(&checks, results) {
            // A port that was swept and found open is no check of the plan, and yet a violation.
            if !self.places.contains_key(&result.check.id) {
                self.add(run, &result.check);
            }
            self.settle(&result, None);
        }
        self.checks = checks;
    }

    /// What no check says: that the run as a whole is not what it should be.
    fn run_case(&self) -> Option<TestCase> {
        let (code, sentence) = match &self.state {
            State::Complete => return None,
            State::NotBegun => ("not-begun", "the run has not begun"),
            State::Running => (Reason::NotFinished.code(), "the run has not finished"),
            State::Incomplete(code, sentence) => (*code, sentence.as_str()),
        };
        let mut case = TestCase::new(
            "run",
            status(NonSuccessKind::Error, code, sentence, sentence),
        );
        case.set_classname(TOOL);
        Some(case)
    }

    fn count(&mut self) {
        self.report
            .test_suites
            .retain(|suite| suite.name.as_str() != TOOL || !suite.extra.is_empty());
        for suite in &mut self.report.test_suites {
            let of = |kind: NonSuccessKind| {
                let is = |case: &&TestCase| match &case.status {
                    TestCaseStatus::NonSuccess { kind: found, .. } => *found == kind,
                    TestCaseStatus::Success { .. } | TestCaseStatus::Skipped { .. } => false,
                };
                suite.test_cases.iter().filter(is).count()
            };
            (suite.failures, suite.errors) =
                (of(NonSuccessKind::Failure), of(NonSuccessKind::Error));
            suite.tests = suite.test_cases.len();
        }
        let red = self
            .report
            .test_suites
            .iter()
            .any(|suite| suite.failures + suite.errors > 0);
        if let Some(case) = self.run_case().filter(|_| !red) {
            let mut suite = TestSuite::new(TOOL);
            suite.add_test_case(case);
            self.report.test_suites.push(suite);
        }
        let sum = |of: fn(&TestSuite) -> usize| self.report.test_suites.iter().map(of).sum();
        (self.report.tests, self.report.failures, self.report.errors) = (
            sum(|suite| suite.tests),
            sum(|suite| suite.failures),
            sum(|suite| suite.errors),
        );
    }
}

impl Document for Junit {
    fn fold(&mut self, event: &RunEvent, since_start: Duration) {
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
        let code = match self.state {
            State::NotBegun => "not-begun",
            State::Running | State::Complete | State::Incomplete(..) => "incomplete",
        };
        self.state = State::Incomplete(code, why.to_owned());
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        self.count();
        if let State::Incomplete(_, why) = &self.state {
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

fn case(result: &CheckResult, place: &Place) -> TestCase {
    let sentence = wording::sentence(result);
    let status = match result.verdict {
        Outcome::Proven => TestCaseStatus::success(),
        Outcome::Violated => status(
            NonSuccessKind::Failure,
            "violated",
            &sentence,
            &wording::explained(result),
        ),
        Outcome::Unproven => {
            let code = result
                .reason
                .as_ref()
                .map_or("unproven", |reason| reason.code);
            status(
                NonSuccessKind::Error,
                code,
                &sentence,
                &wording::explained(result),
            )
        }
    };
    let mut case = TestCase::new(place.name.as_str(), status);
    case.set_classname(class(&result.check));
    case.time = place.settled;
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

fn properties(result: &CheckResult) -> Vec<Property> {
    let mut properties = vec![Property::new("id", stripped_line(&result.check.id))];
    let mut add = |name: &str, value: Option<String>| {
        properties.extend(value.map(|value| Property::new(name, stripped_line(&value))));
    };
    add("expected", Some(result.check.expected.to_string()));
    add("predicted", result.check.predicted.map(str::to_owned));
    add("unpredicted", result.unpredicted.clone());
    add("tier", result.tier.clone());
    add(
        "reach",
        (!result.flows.is_empty()).then(|| wording::reach(&result.reach)),
    );
    add("power", wording::power(result));
    add("because", result.check.because.clone());
    for tag in &result.check.tags {
        add("tag", Some(tag.clone()));
    }
    properties
}

fn status(kind: NonSuccessKind, code: &str, sentence: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_type(code)
        .set_message(stripped_line(sentence))
        .set_description(stripped(text));
    status
}

fn evidence(result: &CheckResult) -> String {
    let mut out = String::new();
    for flow in &result.flows {
        say!(
            out,
            "{}: {}",
            flow.shows,
            stripped_line(&wording::flow(flow))
        );
        for (word, text) in wording::grounds(flow) {
            say!(out, "  {word}: {}", stripped_line(text));
        }
    }
    out
}

/// The suite's name; Jenkins would make packages of its dots.
fn class(check: &CheckRef) -> String {
    stripped_line(&check.suite).replace('.', "_")
}

/// The check's name, short enough, and unlike every other of its class; what had to be changed
/// carries the id.
fn unique_name(check: &CheckRef, taken: &mut HashSet<(String, String)>) -> String {
    let class = class(check);
    let name = stripped_line(&check.name);
    let fits = name.chars().count() <= LONGEST_NAME;
    if fits && taken.insert((class.clone(), name.clone())) {
        return name;
    }
    let mut mark = format!(" [{}]", stripped_line(&check.id));
    loop {
        let kept: String = name
            .chars()
            .take(LONGEST_NAME.saturating_sub(mark.chars().count()))
            .collect();
        let marked = format!("{kept}{mark}");
        if taken.insert((class.clone(), marked.clone())) {
            return marked;
        }
        mark.push('\'');
    }
}

fn timestamp(at: jiff::Timestamp) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    let nanos = u32::try_from(at.subsec_nanosecond()).ok()?;
    chrono::DateTime::from_timestamp(at.as_second(), nanos).map(|at| at.fixed_offset())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn of(events: &[RunEvent]) -> Junit {
        let mut junit = Junit::new(Some("ci-7".into()));
        for (second, event) in events.iter().enumerate() {
            junit.fold(event, Duration::from_secs(second as u64));
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
    fn a_violation_is_a_failure_with_its_place_and_evidence() {
        let xml = xml(&mut of(&fixtures::shop()));
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
    fn an_unproven_check_is_an_error_of_its_reason() {
        let report = read(&mut of(&fixtures::shop()));
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
            "the sentence stands in message and text"
        );
    }

    #[test]
    fn at_the_start_every_case_is_not_finished() {
        let report = read(&mut of(&fixtures::shop()[..1]));
        assert_eq!((report.tests, report.errors, report.failures), (7, 7, 0));
        for case in &report.test_suites[0].test_cases {
            let TestCaseStatus::NonSuccess { ty, .. } = &case.status else {
                panic!("{case:?}")
            };
            assert_eq!(ty.as_ref().unwrap().as_str(), "not-finished");
        }
    }

    #[test]
    fn no_file_is_green_before_a_complete_run_has_ended() {
        let mut before = Junit::new(None);
        let report = read(&mut before);
        assert_eq!((report.tests, report.errors), (1, 1));
        assert_eq!(report.test_suites[0].test_cases[0].name.as_str(), "run");

        // Everything settled and proven, but not finished.
        let mut proven = fixtures::all_proven();
        let last = proven.pop().unwrap();
        let mut running = of(&proven);
        assert_eq!(read(&mut running).errors, 1);
        running.fold(&last, Duration::ZERO);
        let done = read(&mut running);
        assert_eq!(
            (done.errors, done.failures, done.test_suites.len()),
            (0, 0, 1)
        );
    }

    #[test]
    fn nothing_to_check_is_an_error() {
        let report = read(&mut of(&fixtures::empty()));
        assert_eq!((report.tests, report.errors), (1, 1));
    }

    #[test]
    fn a_run_that_stops_says_why() {
        let mut junit = of(&fixtures::shop()[..3]);
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
        let xml = xml(&mut of(&fixtures::hostile()));
        assert!(
            !xml.chars()
                .any(|c| c != '\n' && super::super::text::acts(c)),
            "{xml}"
        );
        assert!(!xml.contains("</failure><"), "{xml}");
        let report = Report::deserialize_from_str(&xml).unwrap();
        assert_eq!(report.tests, 2);
    }

    #[test]
    fn names_stay_unique_whatever_is_done_to_them() {
        let mut events = fixtures::many(4);
        let RunEvent::Started { checks, .. } = &mut events[0] else {
            panic!()
        };
        checks[0].name = "x".repeat(600);
        checks[1].name = format!("{}y", "x".repeat(600));
        (checks[2].name, checks[2].suite) = ("a\u{1b}[1m".into(), "many.er".into());
        (checks[3].name, checks[3].suite) = ("a".into(), "many_er".into());
        let report = read(&mut of(&events[..1]));
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
                .all(|case| case.name.chars().count() <= LONGEST_NAME)
        );
        assert!(
            cases
                .iter()
                .all(|case| !case.classname.as_ref().unwrap().contains('.'))
        );
    }

    #[test]
    fn cases_come_in_the_order_of_the_suite() {
        let mut events = fixtures::shop();
        if let Some(RunEvent::Finished { results, .. }) = events.last_mut() {
            results.reverse();
        }
        let report = read(&mut of(&events));
        let lines: Vec<&str> = report.test_suites[0]
            .test_cases
            .iter()
            .map(|case| case.extra["line"].as_str())
            .collect();
        assert_eq!(lines, ["14", "14", "15", "16", "17", "18", "19"]);
    }
}
