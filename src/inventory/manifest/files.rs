//! The manifest files that the paths of a command line name.

use crate::source::{Diagnostic, Diagnostics, Sources, Span};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Extensions of manifests in a folder; a file that the command line names may have any.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The depth at which nested folders are taken for a loop of links.
const MAX_DEPTH: usize = 32;

/// The files of the paths, in the order of the paths and sorted within each folder. A file that is
/// reached twice is read once.
pub(super) fn find(
    paths: &[String],
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<String> {
    let mut files = Vec::new();
    let mut known = BTreeSet::new();
    for path in paths {
        let mut files_of_path = Vec::new();
        if path != "-" && Path::new(path).is_dir() {
            if let Err(message) = walk(Path::new(path), 0, &mut files_of_path) {
                diagnostics.push(error_about(path, message, sources));
            } else if files_of_path.is_empty() {
                let message = format!(
                    "no manifest in this folder: no file ends with .{}",
                    EXTENSIONS.join(", .")
                );
                diagnostics.push(error_about(path, message, sources));
            }
            files_of_path.sort();
        } else {
            files_of_path.push(PathBuf::from(path));
        }

        for file in files_of_path {
            // A missing file has no canonical form; the error comes from reading it.
            let canonical = file.canonicalize().unwrap_or_else(|_| file.clone());
            if known.insert(canonical) {
                files.push(file.to_string_lossy().into_owned());
            }
        }
    }
    files
}

/// A diagnostic about a path that is not a file.
fn error_about(path: &str, message: String, sources: &mut Sources) -> Diagnostic {
    let file = sources.add(path, "");
    Diagnostic::error(Span::new(file, 0, 0), message)
}

/// Adds the manifests of a folder and of the folders in it.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!(
            "folders are nested more than {MAX_DEPTH} deep at {}",
            folder.display()
        ));
    }

    let entries = std::fs::read_dir(folder).map_err(|error| read_error(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| read_error(folder, &error))?.path();
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn read_error(folder: &Path, error: &std::io::Error) -> String {
    format!("cannot read folder {}: {error}", folder.display())
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_nested_folders_are_sorted_and_listed_once() {
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
