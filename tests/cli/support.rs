//! Starting the binary, and reading its output, reports and processes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

pub(crate) const WORLD: &str = "tests/cli/world.yaml";
pub(crate) const SMALL: &str = "tests/cli/small.yaml";
pub(crate) const LEAKY: &str = "tests/cli/leaky.yaml";
pub(crate) const UNPROVEN: &str = "tests/cli/unproven.yaml";

/// The binary with arguments, in the package's folder, without the settings of the caller's
/// environment.
pub(crate) fn watertight<A: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watertight"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .env("RUST_BACKTRACE", "0");
    for name in [
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "WATERTIGHT_COLOR",
        "WATERTIGHT_LAB_DENY",
        "WATERTIGHT_LAB_FAMILIES",
        "GITHUB_ACTIONS",
        "CI",
    ] {
        command.env_remove(name);
    }
    command
}

/// A lock for one lab at a time: on few processors several labs lack CPU time, and their checks are
/// unproven.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static LAB: Mutex<()> = Mutex::new(());
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The output of a finished run of the binary.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self.without_panic()
    }

    #[track_caller]
    pub(crate) fn without_panic(&self) -> &Self {
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    #[track_caller]
    pub(crate) fn complains(&self, words: &str) -> &Self {
        assert!(
            self.err.contains(words),
            "{words:?} is not in:\n{}",
            self.err
        );
        self
    }
}

/// Runs the program, three times at most while something is unproven: on a busy machine probes lack
/// CPU time.
pub(crate) fn ran_again_if_unproven(call: &[&str]) -> Ran {
    let mut last = ran(&mut watertight(call));
    for _ in 0..2 {
        if last.code != Some(4) {
            break;
        }
        last = ran(&mut watertight(call));
    }
    last
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    command.output().expect("the binary starts").into()
}

/// Runs a command with this standard input.
pub(crate) fn fed(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // The program may close its end before it has read all.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}

/// Runs a command where the kernel gives out no namespace.
pub(crate) fn without_namespaces(command: &Command) -> Ran {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    inside
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    inside.output().expect("unshare of util-linux").into()
}

/// A folder of files made for one test.
pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name)
            .to_str()
            .expect("a temporary folder's name is UTF-8")
            .to_owned()
    }

    /// Writes a file and gives its name.
    pub(crate) fn with(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.name(name)
    }
}

/// A report in JSON.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).expect("a whole JSON document")
}

/// A report in JUnit.
pub(crate) fn junit(path: &Path) -> quick_junit::Report {
    quick_junit::Report::deserialize(
        std::fs::File::open(path)
            .map(std::io::BufReader::new)
            .unwrap(),
    )
    .expect("a whole JUnit document")
}

/// The probes and responders among the children of a process.
pub(crate) fn agents_below(pid: u32) -> Vec<Agent> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let mut agents = Vec::new();
    for child in lists.collect::<String>().split_whitespace() {
        let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        let kind = match () {
            () if command.contains("__probe") => Kind::Probe,
            () if command.contains("__responder") => Kind::Responder,
            () => continue,
        };
        let Ok(pid) = child.parse() else { continue };
        let netns = std::fs::read_link(format!("/proc/{child}/ns/net")).ok();
        agents.push(Agent { pid, kind, netns });
    }
    agents
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Probe,
    Responder,
}

/// A probe or responder that a run started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) pid: i32,
    pub(crate) kind: Kind,
    pub(crate) netns: Option<PathBuf>,
}

impl Agent {
    /// Whether it still runs; a zombie does not.
    pub(crate) fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        let ours = std::fs::read_to_string(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|line| line.contains("__"));
        ours && !matches!(state, None | Some('Z' | 'X'))
    }
}

/// The ids of the processes in these network namespaces.
pub(crate) fn processes_in(namespaces: &[PathBuf]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            std::fs::read_link(process.path().join("ns/net"))
                .is_ok_and(|netns| namespaces.contains(&netns))
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}
