//! The libtest front end, tested from outside: this program is also the test target that it starts.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot start its program fails"
)]

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, ExitCode, Output, Stdio};
use watertight::harness::{self, Options};

/// The variable that makes this program the test target: its labs, as `SUITE:MANIFESTS`, separated
/// by commas.
const TARGET: &str = "TEST_TARGET_OF";

fn main() -> ExitCode {
    if let Some(code) = watertight::early_main() {
        return code;
    }
    if let Ok(labs) = std::env::var(TARGET) {
        let labs = labs
            .split(',')
            .map(|lab| lab.split_once(':').expect("SUITE:MANIFESTS"));
        let options = labs.fold(None, |options: Option<Options>, (suite, manifests)| {
            Some(match options {
                None => Options::lab(&[suite], &[manifests]),
                Some(options) => options.and_lab(&[suite], &[manifests]),
            })
        });
        return harness::main(&options.expect("at least one lab"));
    }

    let mut arguments = Arguments::from_args();

    // Most of these make a lab, and labs that share two processors slow each other down.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial(
            "checks_are_listed_as_tests_without_a_lab",
            checks_are_listed_as_tests_without_a_lab,
        ),
        trial(
            "a_proven_check_passes_and_a_violated_check_fails",
            a_proven_check_passes_and_a_violated_check_fails,
        ),
        trial(
            "one_run_judges_all_selected_tests",
            one_run_judges_all_selected_tests,
        ),
        trial(
            "an_unproven_check_fails_with_its_reason",
            an_unproven_check_fails_with_its_reason,
        ),
        trial(
            "without_a_lab_every_test_fails",
            without_a_lab_every_test_fails,
        ),
        trial(
            "a_filter_without_matches_needs_no_lab",
            a_filter_without_matches_needs_no_lab,
        ),
        trial(
            "a_mistake_in_a_suite_is_shown_and_nothing_runs",
            a_mistake_in_a_suite_is_shown_and_nothing_runs,
        ),
        trial(
            "two_labs_run_one_after_the_other",
            two_labs_run_one_after_the_other,
        ),
        trial(
            "one_name_in_two_labs_is_a_mistake",
            one_name_in_two_labs_is_a_mistake,
        ),
        trial(
            "an_interrupted_run_fails_unfinished_checks",
            an_interrupted_run_fails_unfinished_checks,
        ),
        trial(
            "under_nextest_a_note_names_the_cost",
            under_nextest_a_note_names_the_cost,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

const SMALL: &str = "tests/cli/small.yaml:tests/cli/world.yaml";
const LEAKY: &str = "tests/cli/leaky.yaml:tests/cli/world.yaml";
const UNPROVABLE: &str = "tests/cli/unproven.yaml:tests/cli/world.yaml";

fn target(labs: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(arguments)
        .env(TARGET, labs)
        .env_remove("NEXTEST")
        .env("RUST_BACKTRACE", "0");
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

fn run(labs: &str, arguments: &[&str]) -> Ran {
    ran(&target(labs, arguments).output().unwrap())
}

impl Ran {
    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(
            self.out.contains(words),
            "{words:?} is not in:\n{}\n{}",
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// `test NAME ... OUTCOME`, whatever the columns.
    #[track_caller]
    fn judges(&self, name: &str, outcome: &str) -> &Self {
        let line = self
            .out
            .lines()
            .find(|line| line.starts_with(&format!("test {name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in:\n{}\n{}", self.out, self.err));

        assert!(
            line.ends_with(&format!("... {outcome}")),
            "{line}\n{}",
            self.out
        );
        self
    }
}

/// Runs a command where the kernel gives out no network namespace.
fn without_namespaces(command: &Command) -> Output {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());

    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    inside.output().expect("unshare of util-linux")
}

fn checks_are_listed_as_tests_without_a_lab() {
    let listed = ran(&without_namespaces(&target(SMALL, &["--list"])));
    listed.ends(0);
    assert_eq!(
        listed.out,
        "small / web -> api:8080 allowed: test\nsmall / api -> web:8080 denied: test\n"
    );
}

fn a_proven_check_passes_and_a_violated_check_fails() {
    let ran = run(LEAKY, &[]);
    ran.ends(101)
        .judges("leaky / web -> api:8080 allowed", "ok")
        .judges("leaky / web -> db:5432 denied [leak]", "FAILED");
    // The evidence, the line, and the next step.
    ran.says("violated: shop/web-")
        .says("tests/cli/leaky.yaml:11: web -> db denied")
        .says("next: find the policy");
    ran.says("test result: FAILED. 1 passed; 1 failed; 0 ignored");
}

fn one_run_judges_all_selected_tests() {
    // Two runs would take two holds.
    let ran = run(SMALL, &["--test-threads=1"]);
    ran.ends(0).says("2 passed; 0 failed; 0 ignored");
    let one = run(SMALL, &["--exact", "small / web -> api:8080 allowed"]);
    one.ends(0)
        .judges("small / web -> api:8080 allowed", "ok")
        .says("1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
    assert!(!one.out.contains("api -> web"), "{}", one.out);
}

fn an_unproven_check_fails_with_its_reason() {
    let ran = run(UNPROVABLE, &[]);
    ran.ends(101)
        .judges("unproven / web -> silent:9999 denied", "FAILED")
        .says("unproven: ")
        .says("reason: ");
}

fn without_a_lab_every_test_fails() {
    let ran = ran(&without_namespaces(&target(SMALL, &[])));
    ran.ends(101).says("0 passed; 2 failed; 0 ignored");
    ran.says("unproven: the lab is not possible here: ")
        .says("user.max_net_namespaces")
        .says("next: sudo sysctl -w");
}

fn a_filter_without_matches_needs_no_lab() {
    let ran = ran(&without_namespaces(&target(SMALL, &["no such test"])));
    ran.ends(0).says("running 0 tests").says("2 filtered out");
}

fn a_mistake_in_a_suite_is_shown_and_nothing_runs() {
    for (suite, words) in [
        ("tests/cli/mistake.yaml", "tests/cli/mistake.yaml:8"),
        ("tests/cli/no-such.yaml", "tests/cli/no-such.yaml"),
    ] {
        for arguments in [&["--list"][..], &[]] {
            let ran = run(&format!("{suite}:tests/cli/world.yaml"), arguments);
            ran.ends(2);
            assert!(ran.err.contains(words), "{words} is not in {}", ran.err);
            assert_eq!(ran.out, "");
        }
    }
}

fn two_labs_run_one_after_the_other() {
    let ran = run(&format!("{SMALL},{LEAKY}"), &["web -> api:8080"]);
    ran.ends(0)
        .judges("small / web -> api:8080 allowed", "ok")
        .judges("leaky / web -> api:8080 allowed", "ok");
}

fn one_name_in_two_labs_is_a_mistake() {
    let ran = run(&format!("{SMALL},{SMALL}"), &["--list"]);
    ran.ends(2);
    assert!(
        ran.err
            .contains("two labs test \"small / web -> api:8080 allowed\""),
        "{}",
        ran.err
    );
}

fn an_interrupted_run_fails_unfinished_checks() {
    let mut command = target(&format!("{SMALL},{LEAKY}"), &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    // The run has begun when there is a probe.
    while !has_probe(child.id()) {
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "it ended before it had a probe"
        );
        std::thread::yield_now();
    }
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let ran = ran(&child.wait_with_output().unwrap());
    ran.ends(101)
        .says("0 passed; 4 failed; 0 ignored")
        .says("interrupted (SIGINT)");
}

/// Whether a process has a probe among its children. The kernel lists children by the thread that
/// started them.
fn has_probe(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .any(|child| {
            std::fs::read_to_string(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.contains("__probe"))
        })
}

fn under_nextest_a_note_names_the_cost() {
    let ran = ran(&target(SMALL, &["--list"])
        .env("NEXTEST", "1")
        .output()
        .unwrap());
    ran.ends(0);

    assert_eq!(ran.err.matches("use cargo test").count(), 1, "{}", ran.err);
    let ignored = target(SMALL, &["--list", "--ignored"])
        .env("NEXTEST", "1")
        .output()
        .unwrap();

    assert_eq!(ignored.stderr, b"", "the second listing repeats no note");
}
