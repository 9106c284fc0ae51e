//! Runs that are ended by a signal.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A run with all reports.
struct Running {
    child: Child,
    files: Files,
    /// The processes that it started, as far as they were seen.
    agents: Vec<Agent>,
}

impl Running {
    fn start(suite: &str, manifests: &str) -> Self {
        let files = Files::new();
        let mut command = watertight(["run", suite, "--lab", manifests]);
        for (format, name) in [("json", "r.json"), ("junit", "r.xml"), ("jsonl", "r.jsonl")] {
            command
                .arg("--report")
                .arg(format!("{format}={}", files.name(name)));
        }
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            files,
            agents: Vec::new(),
        }
    }

    fn shop() -> Self {
        Self::start("suites/shop/suite.yaml", "suites/shop/manifests")
    }

    fn events(&self) -> String {
        std::fs::read_to_string(self.files.path("r.jsonl")).unwrap_or_default()
    }

    /// Waits until a condition holds; the run must not end before.
    #[track_caller]
    fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        loop {
            for agent in agents_below(self.child.id()) {
                if !self.agents.iter().any(|known| known.pid == agent.pid) {
                    self.agents.push(agent);
                }
            }
            if holds(self) {
                return;
            }
            assert_eq!(
                self.child.try_wait().unwrap(),
                None,
                "the run ended before {what}"
            );
            std::thread::yield_now();
        }
    }

    fn wait_for_reports(&mut self) {
        self.wait_until("its reports were open", |run| {
            run.files.path("r.jsonl").exists()
        });
    }

    fn wait_for_responder(&mut self) {
        self.wait_until("its responder was there", |run| {
            run.agents.iter().any(|agent| agent.kind == Kind::Responder)
        });
    }

    fn wait_for_probes(&mut self, count: usize) {
        self.wait_until("its probes were there", |run| {
            run.agents
                .iter()
                .filter(|agent| agent.kind == Kind::Probe)
                .count()
                >= count
        });
    }

    fn wait_for_event(&mut self, name: &str) {
        let mark = format!("\"event\":\"{name}\"");
        self.wait_until(name, |run| run.events().contains(&mark));
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    fn wait_for_end(self) -> Ended {
        let ran = self.child.wait_with_output().unwrap().into();
        Ended {
            ran,
            files: self.files,
            agents: self.agents,
        }
    }
}

struct Ended {
    ran: Ran,
    files: Files,
    agents: Vec<Agent>,
}

impl Ended {
    /// Asserts that within this time no process of the run is left, nor any in its namespaces.
    #[track_caller]
    fn assert_nothing_left_within(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let namespaces: Vec<_> = self
            .agents
            .iter()
            .filter_map(|agent| agent.netns.clone())
            .collect();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let namespaces: Vec<_> = namespaces
            .into_iter()
            .filter(|netns| *netns != own)
            .collect();
        loop {
            let agents: Vec<_> = self.agents.iter().filter(|agent| agent.runs()).collect();
            let inside = processes_in(&namespaces);
            if agents.is_empty() && inside.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still there after {timeout:?}: {agents:?}, processes {inside:?}"
            );
            std::thread::yield_now();
        }
    }

    /// Asserts that the signal ended the run with code 5, complete reports with the reason, and
    /// nothing left.
    #[track_caller]
    fn assert_interrupted(&self, why: &str) {
        self.ran.ends(5);
        let report = json(&self.files.path("r.json"));
        assert_eq!(report["run"]["complete"], false);
        assert_eq!(report["run"]["exitCode"], 5);
        assert_eq!(report["run"]["incompleteBecause"], why);
        let xml = junit(&self.files.path("r.xml"));
        assert!(xml.errors > 0, "an incomplete JUnit file without an error");
        let events = std::fs::read_to_string(self.files.path("r.jsonl")).unwrap();
        assert!(events.ends_with('\n'), "half a line: {events}");
        for line in events.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        self.assert_nothing_left_within(Duration::ZERO);
    }
}

const SIGNALS: [(Signal, &str); 2] = [
    (Signal::SIGINT, "interrupted (SIGINT)"),
    (Signal::SIGTERM, "terminated (SIGTERM)"),
];

#[test]
fn a_signal_before_the_lab_ends_the_run_without_a_green_report() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.wait_for_reports();
        run.signal(signal);
        let ended = run.wait_for_end();
        // Before the run listens, the signal itself ends it, as a shell expects; after, the run
        // does.
        match ended.ran.code {
            None => {
                let report = json(&ended.files.path("r.json"));
                assert_eq!(report["run"]["complete"], false);
                assert!(junit(&ended.files.path("r.xml")).errors > 0);
                ended.assert_nothing_left_within(Duration::from_secs(3));
            }
            Some(_) => ended.assert_interrupted(why),
        }
    }
}

#[test]
fn a_signal_during_the_start_of_the_lab_ends_the_run() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.wait_for_responder();
        run.signal(signal);
        run.wait_for_end().assert_interrupted(why);
    }
}

#[test]
fn a_signal_at_any_moment_of_the_start_ends_the_run() {
    let _alone = alone();

    // From the start of the responder to the first probes; by delays, since no event lies between.
    for millis in (0..100).step_by(5) {
        let mut run = Running::shop();
        run.wait_for_responder();
        std::thread::sleep(Duration::from_millis(millis));
        run.signal(Signal::SIGTERM);
        run.wait_for_end()
            .assert_interrupted("terminated (SIGTERM)");
    }
}

#[test]
fn a_signal_during_the_run_keeps_settled_verdicts() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.wait_for_probes(7);
        run.wait_for_event("settled");
        run.signal(signal);
        let ended = run.wait_for_end();
        ended.assert_interrupted(why);
        let report = json(&ended.files.path("r.json"));
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 18, "every planned check is in the report");
        let unfinished = checks
            .iter()
            .filter(|check| check["reason"]["code"] == "not-finished")
            .count();
        let proven = checks
            .iter()
            .filter(|check| check["verdict"] == "proven")
            .count();
        assert!(
            unfinished > 0 && proven > 0,
            "{unfinished} not finished, {proven} proven"
        );
        assert!(ended.ran.out.contains("not-finished"), "{}", ended.ran.out);
    }
}

#[test]
fn after_a_signal_during_the_stop_code_and_reports_agree() {
    let _alone = alone();
    let mut run = Running::start(SMALL, WORLD);
    run.wait_until("everything was settled", |run| {
        run.events().matches("\"event\":\"settled\"").count() == 2
    });
    run.signal(Signal::SIGTERM);
    let ended = run.wait_for_end();

    // It arrives just before the stop or during it; in both cases the code and all reports must
    // agree.
    let code = ended.ran.code.expect("the signal did not kill the process");
    let report = json(&ended.files.path("r.json"));
    assert!(code == 0 || code == 5, "{code}: {}", ended.ran.err);
    assert_eq!(
        (&report["run"]["exitCode"], &report["run"]["complete"]),
        (&code.into(), &(code == 0).into())
    );
    assert_eq!(junit(&ended.files.path("r.xml")).errors > 0, code == 5);
    ended.assert_nothing_left_within(Duration::ZERO);
}

#[test]
fn an_interrupted_run_with_a_violation_is_3() {
    let _alone = alone();

    // Another check runs long after the violation.
    let files = Files::new();
    let text = std::fs::read_to_string(LEAKY).unwrap();
    let slow = files.with(
        "slow.yaml",
        text.replace("  expect:", "  expect:\n    - api -> web:8080 denied"),
    );
    let mut run = Running::start(&slow, WORLD);
    run.wait_until("a violation", |run| {
        run.events().contains("\"verdict\":\"violated\"")
    });
    run.signal(Signal::SIGINT);
    let ended = run.wait_for_end();
    ended.ran.ends(3);
    let report = json(&ended.files.path("r.json"));
    assert_eq!(
        (&report["run"]["complete"], &report["run"]["exitCode"]),
        (&false.into(), &3.into())
    );
    let xml = junit(&ended.files.path("r.xml"));
    assert!(
        xml.failures == 1 && xml.errors > 0,
        "{} failures, {} errors",
        xml.failures,
        xml.errors
    );
    ended.assert_nothing_left_within(Duration::ZERO);
}

#[test]
fn a_second_signal_changes_nothing() {
    let _alone = alone();
    for pause in [0, 1, 5, 20] {
        let mut run = Running::shop();
        run.wait_for_probes(7);
        run.wait_for_event("settled");
        run.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(pause));
        run.signal(Signal::SIGINT);
        run.wait_for_end()
            .assert_interrupted("interrupted (SIGINT)");
    }
}

#[test]
fn a_killed_run_leaves_incomplete_reports_and_no_process() {
    let _alone = alone();
    for settled in [false, true] {
        let mut run = Running::shop();
        run.wait_for_probes(7);
        if settled {
            run.wait_for_event("settled");
        }
        run.wait_until("the report was begun", |run| {
            json(&run.files.path("r.json"))["checks"][0]["id"].is_string()
        });
        run.signal(Signal::SIGKILL);
        let ended = run.wait_for_end();
        assert_eq!(ended.ran.code, None);
        ended.assert_nothing_left_within(Duration::from_secs(3));
        let report = json(&ended.files.path("r.json"));
        crate::one_model::validates(&report);
        assert_eq!(report["run"]["complete"], false);
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 18);
        assert!(
            checks
                .iter()
                .any(|check| check["reason"]["code"] == "not-finished"),
            "{report:#}"
        );
        let xml = junit(&ended.files.path("r.xml"));
        assert!(
            xml.tests == 18 && xml.errors > 0,
            "{} tests, {} errors",
            xml.tests,
            xml.errors
        );
    }
}

#[test]
fn a_run_killed_during_its_start_leaves_no_process() {
    let _alone = alone();
    let mut run = Running::shop();
    run.wait_for_responder();
    run.signal(Signal::SIGKILL);
    let ended = run.wait_for_end();
    ended.assert_nothing_left_within(Duration::from_secs(3));
    assert_eq!(json(&ended.files.path("r.json"))["run"]["complete"], false);
    assert!(junit(&ended.files.path("r.xml")).errors > 0);
}

#[test]
fn simultaneous_runs_do_not_disturb_each_other() {
    let _alone = alone();
    let mut small = Running::start(SMALL, WORLD);
    let mut leaky = Running::start(LEAKY, WORLD);
    small.wait_for_probes(2);
    leaky.wait_for_probes(2);
    let third = {
        let mut run = Running::start(SMALL, WORLD);
        run.wait_for_probes(2);
        run.signal(Signal::SIGKILL);
        run.wait_for_end()
    };

    let (small, leaky) = (small.wait_for_end(), leaky.wait_for_end());
    small.ran.ends(0);
    leaky.ran.ends(3);
    for ended in [&small, &leaky] {
        ended.assert_nothing_left_within(Duration::from_secs(1));
    }
    third.assert_nothing_left_within(Duration::from_secs(3));
    assert_ne!(run_id(&small), run_id(&leaky));
}

fn run_id(ended: &Ended) -> serde_json::Value {
    json(&ended.files.path("r.json"))["run"]["id"].clone()
}
