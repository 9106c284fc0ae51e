//! Folders with a kustomization: what they stand for is built by the user's own tool, never read
//! from the files in them, which patches and generators change.

use crate::source::{self, Diagnostics, Node, Sources};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The names of a kustomization's file (`RecognizedKustomizationFileNames` in
/// sigs.k8s.io/kustomize/api/konfig).
const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A group with a kind called Kustomization that is an object of a cluster.
const FLUX_GROUP: &str = "kustomize.toolkit.fluxcd.io";

/// The fields of a kustomization that name other folders to build on.
const REFERENCES: [&str; 3] = ["resources", "bases", "components"];

/// The largest part of a tool's error that is shown, in characters.
const MAX_ERROR_LENGTH: usize = 600;

/// What a tool has built of a folder.
pub(super) struct Built {
    /// The command, which names the text in messages.
    pub(super) command: String,
    pub(super) output: Vec<u8>,
}

/// Why a folder is not built, and the next step.
pub(super) struct BuildError {
    pub(super) message: String,
    pub(super) help: String,
}

/// Whether a file is a kustomization, by its name and its text.
pub(super) fn is_kustomization(path: &Path) -> bool {
    let has_name = path
        .file_name()
        .is_some_and(|name| FILE_NAMES.iter().any(|known| name == *known));
    has_name
        && path.is_file()
        && !std::fs::read_to_string(path).is_ok_and(|text| text.contains(FLUX_GROUP))
}

/// The kustomization in a folder.
pub(super) fn file_in(folder: &Path) -> Option<PathBuf> {
    FILE_NAMES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| is_kustomization(path))
}

/// What a kustomization says of other folders.
#[derive(Default)]
pub(super) struct Summary {
    /// Whether it is a Component, which cannot be built alone.
    pub(super) is_component: bool,
    /// The canonical paths of the folders that it builds on.
    pub(super) builds_on: Vec<PathBuf>,
}

/// Reads the kustomization in a folder; one that cannot be read says nothing, and its tool reports
/// the error.
pub(super) fn summarize(folder: &Path) -> Summary {
    let Some(text) = file_in(folder).and_then(|path| std::fs::read_to_string(path).ok()) else {
        return Summary::default();
    };
    let mut sources = Sources::new();
    let file = sources.add("kustomization", text);
    let documents = source::parse(&sources, file, &mut Diagnostics::new());

    let mut summary = Summary::default();
    for root in documents.iter().map(|document| &document.root) {
        let kind = root.get("kind").and_then(Node::as_scalar);
        summary.is_component |= kind.is_some_and(|kind| kind.text == "Component");
        let references = REFERENCES.iter().filter_map(|field| root.get(field));
        let items = references.filter_map(Node::as_sequence).flatten();
        let paths = items.filter_map(Node::as_scalar);
        let folders = paths.map(|path| folder.join(&path.text));
        summary
            .builds_on
            .extend(folders.filter_map(|folder| folder.canonicalize().ok()));
    }
    summary
}

/// Builds a folder with `kubectl kustomize`, or with `kustomize build` where there is no kubectl.
pub(super) fn build(folder: &Path) -> Result<Built, BuildError> {
    // A name with a leading dash would be an option.
    let folder = if folder.as_os_str().is_empty() || folder.to_string_lossy().starts_with('-') {
        Path::new(".").join(folder)
    } else {
        folder.to_owned()
    };
    for (tool, subcommand) in [("kubectl", "kustomize"), ("kustomize", "build")] {
        let command = format!("{tool} {subcommand} {}", folder.display());
        let ran = Command::new(tool)
            .arg(subcommand)
            .arg(&folder)
            .stdin(Stdio::null())
            .output();
        match ran {
            Ok(output) if output.status.success() => {
                return Ok(Built {
                    command,
                    output: output.stdout,
                });
            }
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                let error: String = error.trim().chars().take(MAX_ERROR_LENGTH).collect();
                return Err(BuildError {
                    message: format!("{command} failed: {error}"),
                    help: "a kustomization is built first, and its files are not read as they are: build it by hand, and name the file with the result".to_owned(),
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(BuildError {
                    message: format!("{command} cannot be started: {error}"),
                    help: "build the kustomization by hand, and name the file with the result"
                        .to_owned(),
                });
            }
        }
    }

    let folder = folder.display();
    Err(BuildError {
        message: format!(
            "{folder} has a kustomization, and neither kubectl nor kustomize is installed to build it"
        ),
        help: format!("kubectl kustomize {folder} > FILE, and name FILE here"),
    })
}
