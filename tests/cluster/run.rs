//! Runs of the built binary, and what they say.

use super::{killed, world};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a run said.
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Verdict and reason's code of each check, by name.
    pub(crate) verdicts: BTreeMap<String, (String, Option<String>)>,
    /// What the policies say of each check, by name.
    pub(crate) predicted: BTreeMap<String, String>,
    /// The images that its probes ran.
    pub(crate) images: Vec<String>,
    /// As what each flow of a check was sent.
    pub(crate) sent_as: Vec<String>,
    /// The sources of each check's flows, by its name.
    pub(crate) sources: BTreeMap<String, Vec<String>>,
    /// What it could not remove.
    pub(crate) leftovers: Vec<String>,
    /// Everything that people see.
    pub(crate) text: String,
}

impl Said {
    /// The verdict of a check.
    pub(crate) fn of(&self, check: &str) -> (&str, Option<&str>) {
        let Some((verdict, reason)) = self.verdicts.get(check) else {
            panic!(
                "no check {check:?} among {:?}\n{}",
                self.verdicts.keys(),
                self.text
            );
        };
        (verdict, reason.as_deref())
    }
}

/// A run of the shop's suite with these arguments more.
pub(crate) fn shop(arguments: &[&str]) -> Said {
    suite(&world::suite(), arguments)
}

/// What a machine that is too busy to measure may leave unproven.
const BUSY: [&str; 3] = [
    "too-few-attempts",
    "probe-cpu-starved",
    "attempt-timeout-too-short",
];

/// How often a run is tried where only that stands in its way.
pub(crate) const TRIES: usize = 3;

impl Said {
    /// Whether the machine was too busy to measure something.
    pub(crate) fn is_busy(&self) -> bool {
        self.verdicts
            .values()
            .any(|(_, reason)| Self::is_of_a_busy_machine(reason.as_deref()))
    }

    /// Whether that is a reason for which a busy machine leaves something unproven.
    pub(crate) fn is_of_a_busy_machine(reason: Option<&str>) -> bool {
        reason.is_some_and(|reason| BUSY.contains(&reason))
    }
}

/// As [`suite`], again where the machine was too busy to measure something.
pub(crate) fn calm_suite(text: &str, arguments: &[&str]) -> Said {
    let mut said = suite(text, arguments);
    for _ in 1..TRIES {
        if said.is_busy() {
            said = suite(text, arguments);
        }
    }
    said
}

/// A run of a suite with these arguments more.
pub(crate) fn suite(text: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let suite = written(folder.path(), text);
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_watertight"))
        .arg("run")
        .arg(&suite)
        .arg("--report")
        .arg(format!("json={}", report.display()))
        .args(if arguments.contains(&"--timeout") {
            &[][..]
        } else {
            &["--timeout", "25s"][..]
        })
        .args(arguments)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let word = |check: &Value, pointer: &str| {
        check
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let checks = report["checks"].as_array().unwrap();
    let name = |check: &Value| word(check, "/name").unwrap();
    let predicted = checks
        .iter()
        .filter_map(|check| Some((name(check), word(check, "/predicted")?)))
        .collect();
    let verdict = |check: &Value| {
        (
            word(check, "/verdict").unwrap_or_default(),
            word(check, "/reason/code"),
        )
    };
    let verdicts = checks
        .iter()
        .map(|check| (name(check), verdict(check)))
        .collect();
    let of_flows = |check: &Value, pointer| -> Vec<String> {
        check["flows"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|flow| word(flow, pointer))
            .collect()
    };
    let sources = checks
        .iter()
        .map(|check| (name(check), of_flows(check, "/source")))
        .collect();
    let sent_as = checks
        .iter()
        .flat_map(|check| of_flows(check, "/sentAs"))
        .collect();
    let list = |pointer: &str| {
        let all = report
            .pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (images, leftovers) = (list("/run/probeImages"), list("/leftovers"));
    Said {
        predicted,
        images,
        sent_as,
        sources,
        leftovers,
        code: output.status.code().unwrap_or(-1),
        verdicts,
        text,
    }
}

/// A run of a suite in the middle of which something happens: some seconds after its probes run.
pub(crate) fn disturbed(
    text: &str,
    arguments: &[&str],
    disturb: impl FnOnce() + Send + 'static,
) -> Said {
    let disturber = std::thread::spawn(move || {
        world::until("its probes run", Duration::from_secs(60), || {
            running_probes().lines().count() > 3
        });
        std::thread::sleep(IN_THE_MIDDLE);
        disturb();
    });
    let said = suite(text, arguments);
    disturber.join().unwrap();
    said
}

/// How long probes run before a run is disturbed.
const IN_THE_MIDDLE: Duration = Duration::from_secs(5);

/// Namespace and name of each probe that runs.
pub(crate) fn running_probes() -> String {
    let columns = "custom-columns=:.metadata.namespace,:.metadata.name";
    let pods = [
        "get",
        "pods",
        "-A",
        "--no-headers",
        "--field-selector=status.phase=Running",
        "-o",
        columns,
    ];
    let is_ours = |line: &&str| {
        let name = line.split_whitespace().nth(1);
        // What killed runners left goes on for a while.
        name.is_some_and(|name| name.starts_with("watertight-"))
            && !line.starts_with(killed::NAMESPACE)
    };
    world::kubectl(&pods)
        .lines()
        .filter(is_ours)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A suite's file.
fn written(folder: &Path, text: &str) -> PathBuf {
    let suite = folder.join("suite.yaml");
    std::fs::write(&suite, text).unwrap();
    suite
}

/// A run of the shop's suite that goes on.
pub(crate) fn started(folder: &Path) -> Child {
    started_with(folder, &world::suite(), &[])
}

/// A run of a suite that goes on, with these arguments more.
pub(crate) fn started_with(folder: &Path, text: &str, arguments: &[&str]) -> Child {
    let suite = written(folder, text);
    Command::new(env!("CARGO_BIN_EXE_watertight"))
        .arg("run")
        .arg(&suite)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What `watertight plan` says of a suite.
pub(crate) fn plan(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let suite = written(folder.path(), text);
    let output = Command::new(env!("CARGO_BIN_EXE_watertight"))
        .arg("plan")
        .arg(&suite)
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// `watertight clean` with these arguments; its exit code and what it said.
pub(crate) fn clean(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_watertight"))
        .arg("clean")
        .args(arguments)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code().unwrap_or(-1), text)
}
