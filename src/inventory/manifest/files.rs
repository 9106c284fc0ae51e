//! Which files a command line's paths mean.

use crate::source::{Diagnostic, Diagnostics, Sources, Span};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What counts as a manifest in a folder; a file that is named itself may be called anything.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Folders deeper than this are taken for a loop of links.
const MAX_DEPTH: usize = 32;

/// The files of paths, in the order of the paths and sorted within each folder; a file that is
/// reached twice is read once.
pub(super) fn find(
    paths: &[String],
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<String> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let mut found = Vec::new();
        if path != "-" && Path::new(path).is_dir() {
            if let Err(message) = walk(Path::new(path), 0, &mut found) {
                diagnostics.push(about(path, message, sources));
            } else if found.is_empty() {
                let message = format!(
                    "no manifest in this folder: no file ends with .{}",
                    EXTENSIONS.join(", .")
                );
                diagnostics.push(about(path, message, sources));
            }
            found.sort();
        } else {
            found.push(PathBuf::from(path));
        }
        for file in found {
            // A path that leads nowhere has no canonical form; reading it says so.
            let identity = file.canonicalize().unwrap_or_else(|_| file.clone());
            if seen.insert(identity) {
                files.push(file.to_string_lossy().into_owned());
            }
        }
    }
    files
}

/// A diagnostic about a path that is no file.
fn about(path: &str, message: String, sources: &mut Sources) -> Diagnostic {
    let file = sources.add(path, "");
    Diagnostic::error(Span::new(file, 0, 0), message)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed =
        |error: std::io::Error| format!("cannot read folder {}: {error}", folder.display());
    if depth > MAX_DEPTH {
        return Err(format!(
            "folders are nested more than {MAX_DEPTH} deep at {}",
            folder.display()
        ));
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
        {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_deep_sorted_and_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::create_dir_all(folder.path().join("b/c")).expect("made");
        for name in ["z.yml", "b/c/a.yaml", "b/x.json", "b/notes.txt", "a.yaml"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::new());
        let paths = [
            path("z.yml"),
            path("."),
            path("b/notes.txt"),
            "-".to_owned(),
            path("missing.yaml"),
        ];
        let files = find(&paths, &mut sources, &mut diagnostics);
        let ends = [
            "z.yml",
            "a.yaml",
            "b/c/a.yaml",
            "b/x.json",
            "b/notes.txt",
            "-",
            "missing.yaml",
        ];
        assert_eq!(files.len(), ends.len(), "{files:?}");
        assert!(
            files
                .iter()
                .zip(ends)
                .all(|(file, end)| file.ends_with(end)),
            "{files:?}"
        );
        assert!(diagnostics.is_empty());
    }

    #[test]
    fn a_folder_without_manifests_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::new());
        assert!(
            find(
                &[folder.path().to_string_lossy().into_owned()],
                &mut sources,
                &mut diagnostics
            )
            .is_empty()
        );
        assert!(diagnostics.has_errors());
    }
}
