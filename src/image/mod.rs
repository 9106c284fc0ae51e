//! Builds container images as archives, without a container engine: one static program in an
//! otherwise empty image.
//!
//! ```text
//!  files ── find ────▶ Program   ELF, static, of this version, for a known architecture
//!           archive ─▶ Archive   an OCI layout and a docker archive in one tar, the same bytes every time
//! ```
//!
//! The probe's image contains the probe, the runner's image contains watertight. Neither has a
//! shell, a user database or certificates; both run as [`USER`] and never write to their root file
//! system.

mod archive;
mod find;
mod program;

pub use archive::{Archive, ArchiveError};
pub use find::{FindError, find_programs, read};
pub use program::{Architecture, Program, ProgramError};

/// The user that images run as.
///
/// Numeric, because an image without `/etc/passwd` has no names and Pod Security `restricted` must
/// see that it is not root. Not 1337 and not 2102: meshes exempt their own proxies' users from
/// redirection, so a probe with one of those would test the network under the mesh (istio
/// `tools/istio-iptables/pkg/constants`, linkerd2 `values.yaml`).
pub const USER: u32 = 65532;

/// The kind of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The probe, which runs in probe pods.
    Probe,
    /// watertight, which runs as a Job.
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

    /// The default name of the image. `localhost` is not a registry, so no engine pulls the image
    /// by this name.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Probe => concat!("localhost/watertight-probe:", env!("CARGO_PKG_VERSION")),
            Self::Runner => concat!("localhost/watertight:", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The greatest size of the program in bytes. The probe's image is pulled on every node
    /// under test.
    pub fn limit(self) -> usize {
        match self {
            Self::Probe => 4_000_000,
            Self::Runner => 64_000_000,
        }
    }

    /// The shell command that builds the program for an architecture.
    pub fn build_command(self, architecture: Architecture) -> String {
        let target = architecture.target();
        let package = match self {
            Self::Probe => "--profile probe -p watertight-probe",
            Self::Runner => "--release -p watertight",
        };
        let compiler = format!(
            "CC_{}={}",
            target.replace('-', "_"),
            architecture.c_compiler()
        );
        format!("rustup target add {target} && {compiler} cargo build {package} --target {target}")
    }

    /// A text in the program's file that identifies its kind and version.
    fn build_marker(self) -> &'static str {
        match self {
            Self::Probe => watertight_probe::BUILD,
            Self::Runner => RUNNER_BUILD,
        }
    }

    /// The default arguments of the container.
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

/// The text with name and version in every build of the runner.
///
/// It differs from the probe's marker, because every build of the runner contains that one too.
const RUNNER_BUILD: &str = concat!("watertight runner ", env!("CARGO_PKG_VERSION"));
