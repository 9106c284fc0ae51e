//! Runs that are ended from outside.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A run with all reports.
struct Running {
    child: Child,
    files: Files,
    /// Everything that it was seen to start.
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

    /// Waits for something to be true of the run, which must not end before.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        loop {
            for agent in agents_below(self.child.id()) {
                if !self.agents.iter().any(|known| known.pid == agent.pid) {
                    self.agents.push(agent);
                }
            }
            if is(self) {
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

    fn opened(&mut self) {
        self.until("its reports were open", |run| {
            run.files.path("r.jsonl").exists()
        });
    }

    fn responder(&mut self) {
        self.until("its responder was there", |run| {
            run.agents.iter().any(|agent| agent.kind == Kind::Responder)
        });
    }

    fn probes(&mut self, count: usize) {
        self.until("its probes were there", |run| {
            run.agents
                .iter()
                .filter(|agent| agent.kind == Kind::Probe)
                .count()
                >= count
        });
    }

    fn event(&mut self, name: &str) {
        let mark = format!("\"event\":\"{name}\"");
        self.until(name, |run| run.events().contains(&mark));
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    fn end(self) -> Ended {
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
    /// Nothing of it runs, and nobody is in its namespaces.
    #[track_caller]
    fn left_nothing_within(&self, timeout: Duration) {
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
            let left: Vec<_> = self.agents.iter().filter(|agent| agent.runs()).collect();
            let inside = inhabitants(&namespaces);
            if left.is_empty() && inside.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still there after {timeout:?}: {left:?}, processes {inside:?}"
            );
            std::thread::yield_now();
        }
    }

    /// Ended by the signal in good order: code, whole reports that say so, and nothing left.
    #[track_caller]
    fn says_interrupted(&self, why: &str) {
        self.ran.ends(5);
        let report = json(&self.files.path("r.json"));
        assert_eq!(report["run"]["complete"], false);
        assert_eq!(report["run"]["exitCode"], 5);
        assert_eq!(report["run"]["incompleteBecause"], why);
        let xml = junit(&self.files.path("r.xml"));
        assert!(xml.errors > 0, "a JUnit file that looks complete");
        let events = std::fs::read_to_string(self.files.path("r.jsonl")).unwrap();
        assert!(events.ends_with('\n'), "half a line: {events}");
        for line in events.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        self.left_nothing_within(Duration::ZERO);
    }
}

const SIGNALS: [(Signal, &str); 2] = [
    (Signal::SIGINT, "interrupted (SIGINT)"),
    (Signal::SIGTERM, "terminated (SIGTERM)"),
];

#[test]
fn a_signal_before_the_lab_ends_the_process_and_no_report_is_green() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.opened();
        run.signal(signal);
        let ended = run.end();
        // Before the run listens, the signal itself ends it, as a shell expects; after, the run
        // does.
        match ended.ran.code {
            None => {
                let report = json(&ended.files.path("r.json"));
                assert_eq!(report["run"]["complete"], false);
                assert!(junit(&ended.files.path("r.xml")).errors > 0);
                ended.left_nothing_within(Duration::from_secs(3));
            }
            Some(_) => ended.says_interrupted(why),
        }
    }
}

#[test]
fn a_signal_while_the_lab_is_made_ends_it() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.responder();
        run.signal(signal);
        run.end().says_interrupted(why);
    }
}

#[test]
fn no_moment_loses_a_signal() {
    let _alone = alone();
    // From the responder's start over the lab's to the first probes: delays, since no event lies
    // between.
    for millis in (0..100).step_by(5) {
        let mut run = Running::shop();
        run.responder();
        std::thread::sleep(Duration::from_millis(millis));
        run.signal(Signal::SIGTERM);
        run.end().says_interrupted("terminated (SIGTERM)");
    }
}

#[test]
fn a_signal_in_mid_run_keeps_what_was_settled() {
    let _alone = alone();
    for (signal, why) in SIGNALS {
        let mut run = Running::shop();
        run.probes(7);
        run.event("settled");
        run.signal(signal);
        let ended = run.end();
        ended.says_interrupted(why);
        let report = json(&ended.files.path("r.json"));
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 15, "every planned check is in the report");
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
fn a_signal_while_the_run_stops_changes_nothing_that_is_said() {
    let _alone = alone();
    let mut run = Running::start(SMALL, WORLD);
    run.until("everything was settled", |run| {
        run.events().matches("\"event\":\"settled\"").count() == 2
    });
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    // It comes just before the stop, or in it: what counts is that the code and all reports are of
    // one mind.
    let code = ended.ran.code.expect("no death by the signal");
    let report = json(&ended.files.path("r.json"));
    assert!(code == 0 || code == 5, "{code}: {}", ended.ran.err);
    assert_eq!(
        (&report["run"]["exitCode"], &report["run"]["complete"]),
        (&code.into(), &(code == 0).into())
    );
    assert_eq!(junit(&ended.files.path("r.xml")).errors > 0, code == 5);
    ended.left_nothing_within(Duration::ZERO);
}

#[test]
fn a_violation_outlives_the_interruption() {
    let _alone = alone();
    // Its other suite holds the run up long after the violation is there.
    let files = Files::new();
    let text = std::fs::read_to_string(LEAKY).unwrap();
    let slow = files.with(
        "slow.yaml",
        text.replace("  expect:", "  expect:\n    - api -> web:8080 denied"),
    );
    let mut run = Running::start(&slow, WORLD);
    run.until("a violation", |run| {
        run.events().contains("\"verdict\":\"violated\"")
    });
    run.signal(Signal::SIGINT);
    let ended = run.end();
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
    ended.left_nothing_within(Duration::ZERO);
}

#[test]
fn a_second_signal_does_no_harm() {
    let _alone = alone();
    for pause in [0, 1, 5, 20] {
        let mut run = Running::shop();
        run.probes(7);
        run.event("settled");
        run.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(pause));
        run.signal(Signal::SIGINT);
        run.end().says_interrupted("interrupted (SIGINT)");
    }
}

#[test]
fn a_killed_run_leaves_reports_that_say_so_and_no_process() {
    let _alone = alone();
    for settled in [false, true] {
        let mut run = Running::shop();
        run.probes(7);
        if settled {
            run.event("settled");
        }
        run.until("the report was begun", |run| {
            json(&run.files.path("r.json"))["checks"][0]["id"].is_string()
        });
        run.signal(Signal::SIGKILL);
        let ended = run.end();
        assert_eq!(ended.ran.code, None);
        ended.left_nothing_within(Duration::from_secs(3));
        let report = json(&ended.files.path("r.json"));
        crate::one_model::validates(&report);
        assert_eq!(report["run"]["complete"], false);
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 15);
        assert!(
            checks
                .iter()
                .any(|check| check["reason"]["code"] == "not-finished"),
            "{report:#}"
        );
        let xml = junit(&ended.files.path("r.xml"));
        assert!(
            xml.tests == 15 && xml.errors > 0,
            "{} tests, {} errors",
            xml.tests,
            xml.errors
        );
    }
}

#[test]
fn a_killed_start_leaves_no_process() {
    let _alone = alone();
    let mut run = Running::shop();
    run.responder();
    run.signal(Signal::SIGKILL);
    let ended = run.end();
    ended.left_nothing_within(Duration::from_secs(3));
    assert_eq!(json(&ended.files.path("r.json"))["run"]["complete"], false);
    assert!(junit(&ended.files.path("r.xml")).errors > 0);
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let _alone = alone();
    let mut small = Running::start(SMALL, WORLD);
    let mut leaky = Running::start(LEAKY, WORLD);
    small.probes(2);
    leaky.probes(2);
    let third = {
        let mut run = Running::start(SMALL, WORLD);
        run.probes(2);
        run.signal(Signal::SIGKILL);
        run.end()
    };
    let (small, leaky) = (small.end(), leaky.end());
    small.ran.ends(0);
    leaky.ran.ends(3);
    for ended in [&small, &leaky] {
        ended.left_nothing_within(Duration::from_secs(1));
    }
    third.left_nothing_within(Duration::from_secs(3));
    let id = |ended: &Ended| json(&ended.files.path("r.json"))["run"]["id"].clone();
    assert_ne!(id(&small), id(&leaky));
}
