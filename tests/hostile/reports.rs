//! Every report of a run, and what must hold of it whatever a target sent.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use watertight::event::{CheckResult, Outcome, RunEvent, Summary};
use watertight::report::{
    Annotations, Capabilities, Console, Detail, Progress, ReportSpec, Reports, Screen, StepSummary,
    json_schema,
};

/// The console's own colours: reset, bold, dim, green, yellow, bright red.
const COLOURS: [&str; 6] = [
    "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[91m",
];

/// The seed of the nonces of every run, which no report may show.
pub(crate) const SEED: u64 = 0x5eed_0f57_a9c3_1b62;

/// Text that a report writes into.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        let bytes = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        String::from_utf8(bytes).expect("a report is UTF-8")
    }
}

/// All reports of one run.
pub(crate) struct Sinks {
    folder: tempfile::TempDir,
    reports: Mutex<Reports>,
    plain: Page,
    coloured: Page,
    annotations: Page,
}

/// The text of each report.
pub(crate) struct Written {
    pub(crate) console: String,
    pub(crate) junit: String,
    pub(crate) json: String,
    pub(crate) lines: String,
}

impl Sinks {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut reports = Reports::open(&["junit", "json", "jsonl"].map(|format| {
            let path = folder.path().join(format);
            ReportSpec::parse(&format!("{format}={}", path.display())).expect("a report")
        }))
        .map_err(|_| "open")
        .expect("reports");
        let (plain, coloured, annotations) = (Page::default(), Page::default(), Page::default());
        let fine = Capabilities {
            terminal: false,
            width: 100,
            colour: true,
            unicode: true,
        };

        for (name, page, capabilities) in [
            ("plain", &plain, Capabilities::plain()),
            ("coloured", &coloured, fine),
        ] {
            let screen = || Screen::new(page.clone(), capabilities);
            reports.add(
                name,
                Console::new(screen(), screen(), Detail::Verbose, Progress::Quiet),
            );
        }
        reports.add("annotations", Annotations::new(annotations.clone()));
        reports.add(
            "summary",
            StepSummary::open(&folder.path().join("summary")).expect("a summary"),
        );
        Self {
            folder,
            reports: Mutex::new(reports),
            plain,
            coloured,
            annotations,
        }
    }

    pub(crate) fn event(&self, event: &RunEvent) {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .event(event);
    }

    /// Asserts that every report is well-formed and states the run's verdicts.
    pub(crate) fn close(self, results: &[CheckResult], summary: Summary) -> Written {
        let reports = self
            .reports
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);

        assert!(reports.errors().is_empty(), "{:?}", reports.errors());
        drop(reports);
        let read = |name: &str| {
            std::fs::read_to_string(self.folder.path().join(name)).expect("a report in UTF-8")
        };
        let written = Written {
            console: self.plain.text(),
            junit: read("junit"),
            json: read("json"),
            lines: read("jsonl"),
        };
        let all = [
            &written.console,
            &written.junit,
            &written.json,
            &written.lines,
        ];
        for text in all {
            without_seed(text);
        }
        console(&written.console, &[]);
        console(&self.coloured.text(), &COLOURS);
        console(&self.annotations.text(), &[]);
        console(&read("summary"), &[]);
        junit(&written.junit, results, summary);
        json(&written.json, results, summary);
        lines(&written.lines);
        let commands = self.annotations.text().lines().count();

        assert_eq!(
            commands,
            summary.violated + summary.unproven,
            "one command a finding: {}",
            self.annotations.text()
        );
        written
    }
}

/// No report shows the seed, in whatever notation.
#[track_caller]
fn without_seed(text: &str) {
    for seed in [
        SEED.to_string(),
        format!("{SEED:x}"),
        format!("{:?}", SEED.to_le_bytes()),
    ] {
        assert!(!text.contains(&seed), "{text}");
    }
}

/// No character acts on a terminal but newlines and the colours given; no line is a command to
/// GitHub's runner.
#[track_caller]
fn console(text: &str, colours: &[&str]) {
    let mut rest = text.to_owned();
    for colour in colours {
        rest = rest.replace(colour, "");
    }
    let acting = rest.chars().find(|c| {
        (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}')
    });
    assert_eq!(acting, None, "{rest:?}");
}

fn junit(text: &str, results: &[CheckResult], summary: Summary) {
    let report = quick_junit::Report::deserialize_from_str(text).expect("JUnit");
    let cases: Vec<_> = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .collect();

    for result in results {
        let case = cases
            .iter()
            .find(|case| case.name.as_str() == result.check.name)
            .expect("a test case");
        let is_success = matches!(case.status, quick_junit::TestCaseStatus::Success { .. });
        assert_eq!(
            is_success,
            result.verdict == Outcome::Proven,
            "{}",
            result.check.name
        );
    }
    let bad = cases
        .iter()
        .filter(|case| !matches!(case.status, quick_junit::TestCaseStatus::Success { .. }))
        .count();

    assert_eq!(bad, summary.violated + summary.unproven, "{text}");
    let acting = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(acting, None, "{text:?}");
}

fn json(text: &str, results: &[CheckResult], summary: Summary) {
    let document: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let validator = jsonschema::validator_for(&json_schema()).expect("a schema");
    let errors: Vec<_> = validator
        .iter_errors(&document)
        .map(|error| error.to_string())
        .collect();

    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(document["run"]["exitCode"], summary.exit_code, "{text}");
    let reported = document["checks"].as_array().map(Vec::len);
    assert_eq!(reported, Some(results.len()), "{text}");
    assert!(
        text.chars().all(|c| !c.is_control() || c == '\n'),
        "{text:?}"
    );
}

fn lines(text: &str) {
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
        assert!(line.len() < 1_000_000, "a line of {} bytes", line.len());
    }
    assert!(
        text.chars().all(|c| !c.is_control() || c == '\n'),
        "{text:?}"
    );
}
