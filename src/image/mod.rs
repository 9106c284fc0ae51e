//! Images as archives, without an engine: one static program in an otherwise empty image.
//!
//! ```text
//!  files ── find ────▶ Program   ELF, static, of this version, for a machine that we know
//!           archive ─▶ Archive   an OCI layout and a docker archive in one tar, the same bytes every time
//! ```
//!
//! The probe's image holds the agent, the runner's holds watertight itself. Neither has a shell, a
//! user database or certificates of its own; both run as [`USER`] and write nothing into their
//! root.

mod archive;
mod find;
mod program;

pub use archive::{Archive, ArchiveError};
pub use find::{FindError, beside_this_program, read};
pub use program::{Architecture, Program, ProgramError};

/// The user that images run as.
///
/// Numeric, because an image without `/etc/passwd` has no names and Pod Security `restricted` must
/// see that it is not root. Not 1337 and not 2102: meshes exempt their own proxies' users from
/// redirection, so a probe with one of those would test the network under the mesh (istio
/// `tools/istio-iptables/pkg/constants`, linkerd2 `values.yaml`).
pub const USER: u32 = 65532;

/// Which image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent: what runs in probe pods.
    Probe,
    /// watertight itself: what runs as a Job.
    Runner,
}

impl Kind {
    /// The program's file name, in the image and where it was built.
    pub fn program(self) -> &'static str {
        match self {
            Self::Probe => "watertight-probe",
            Self::Runner => "watertight",
        }
    }

    /// The image's name where none is given. `localhost` is no registry: nothing is ever pulled by
    /// this name.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Probe => concat!("localhost/watertight-probe:", env!("CARGO_PKG_VERSION")),
            Self::Runner => concat!("localhost/watertight:", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The most that the program may measure, in bytes. The probe's image is pulled on every node
    /// under test.
    pub fn limit(self) -> usize {
        match self {
            Self::Probe => 4_000_000,
            Self::Runner => 64_000_000,
        }
    }

    /// The command that builds the program for a machine, as people paste it.
    pub fn build_command(self, architecture: Architecture) -> String {
        let target = architecture.target();
        let what = match self {
            Self::Probe => "--profile probe -p watertight-probe",
            Self::Runner => "--release -p watertight",
        };
        let compiler = format!(
            "CC_{}={}",
            target.replace('-', "_"),
            architecture.c_compiler()
        );
        format!("rustup target add {target} && {compiler} cargo build {what} --target {target}")
    }

    /// A text in the program's file that identifies its kind without running it.
    fn mark(self) -> &'static str {
        match self {
            Self::Probe => watertight_probe::BUILD,
            Self::Runner => RUNNER_BUILD,
        }
    }

    /// Arguments where the container gives none.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Probe => &["__probe"],
            Self::Runner => &["--help"],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Probe => "watertight probe",
            Self::Runner => "watertight",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Probe => "Attempts connections and reports what the network did",
            Self::Runner => "Proves that a cluster's network segments hold",
        }
    }
}

/// What a build of this program carries: its name and version.
///
/// Every build contains the agent's mark too, since the runner is also a probe; so this is the
/// runner's own.
const RUNNER_BUILD: &str = concat!("watertight runner ", env!("CARGO_PKG_VERSION"));
