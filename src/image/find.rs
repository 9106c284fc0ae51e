//! Reads static programs, and finds them when the command names none.

use super::{Architecture, Kind, Program, ProgramError};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Why no program for an image was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// A file is not a program for an image.
    #[error("cannot use {}: {error}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        error: ProgramError,
    },
    /// No usable program was found.
    #[error("no static {} found{}", kind.program(), rejected_files(.rejected))]
    NotFound {
        kind: Kind,
        /// Existing files that are not usable.
        rejected: Vec<(PathBuf, ProgramError)>,
    },
}

fn rejected_files(rejected: &[(PathBuf, ProgramError)]) -> String {
    rejected
        .iter()
        .map(|(path, error)| format!("\n  cannot use {}: {error}", path.display()))
        .collect()
}

/// Reads one program by its path.
///
/// # Errors
/// [`FindError::Unreadable`], [`FindError::Unusable`].
pub fn read(kind: Kind, path: &Path) -> Result<Program, FindError> {
    let bytes = std::fs::read(path).map_err(|error| FindError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    Program::new(kind, bytes).map_err(|error| FindError::Unusable {
        path: path.to_owned(),
        error,
    })
}

/// Finds programs in the folder of this executable and in cargo's target folder, at most one for
/// each architecture.
///
/// # Errors
/// [`FindError::NotFound`] with the files that are not usable; [`FindError::Unreadable`].
pub fn find_programs(kind: Kind, executable: &Path) -> Result<Vec<Program>, FindError> {
    let mut programs = Vec::new();
    let mut rejected = Vec::new();
    for architecture in Architecture::ALL {
        for path in candidates(kind, architecture, executable) {
            match read(kind, &path) {
                Ok(program) if program.architecture() == architecture => {
                    programs.push(program);
                    break;
                }
                // The loop finds a program for the other architecture again.
                Ok(_) => {}
                Err(FindError::Unreadable { error, .. })
                    if error.kind() == io::ErrorKind::NotFound => {}
                Err(FindError::Unusable { path, error }) => rejected.push((path, error)),
                Err(error) => return Err(error),
            }
        }
    }
    if programs.is_empty() {
        let mut distinct = BTreeSet::new();
        rejected.retain(|(path, _)| distinct.insert(path.clone()));
        return Err(FindError::NotFound { kind, rejected });
    }
    Ok(programs)
}

/// Paths of possible programs, in the order in which they are tried.
fn candidates(kind: Kind, architecture: Architecture, executable: &Path) -> Vec<PathBuf> {
    let name = kind.program();
    let folder = executable.parent().unwrap_or(Path::new("."));
    let mut paths = vec![
        folder.join(format!("{name}-{architecture}")),
        folder.join(name),
    ];
    // The profiles of ci/static: target/TRIPLE/probe, target/TRIPLE/dist.
    let built = match kind {
        Kind::Probe => "probe",
        Kind::Runner => "dist",
    };
    for above in folder.ancestors().skip(1).take(2) {
        paths.extend(
            architecture
                .targets()
                .map(|target| above.join(target).join(built).join(name)),
        );
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::elf;
    use super::*;
    use object::elf::{EM_AARCH64, EM_X86_64, PT_INTERP, PT_LOAD};

    fn put(path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn programs_are_found_beside_the_executable_and_in_the_target_folder() {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("release/watertight");
        put(
            &folder.path().join("release/watertight-probe"),
            &elf(Kind::Probe, EM_X86_64, PT_INTERP),
        );
        let nothing = find_programs(Kind::Probe, &executable)
            .unwrap_err()
            .to_string();
        assert!(
            nothing.contains("cannot use") && nothing.contains("linked dynamically"),
            "{nothing}"
        );
        assert_eq!(nothing.matches("cannot use").count(), 1, "{nothing}");

        let built = folder
            .path()
            .join("x86_64-unknown-linux-musl/probe/watertight-probe");
        put(&built, &elf(Kind::Probe, EM_X86_64, PT_LOAD));
        put(
            &folder.path().join("release/watertight-probe-arm64"),
            &elf(Kind::Probe, EM_AARCH64, PT_LOAD),
        );
        let found = find_programs(Kind::Probe, &executable).unwrap();
        assert_eq!(
            found.iter().map(Program::architecture).collect::<Vec<_>>(),
            Architecture::ALL
        );

        // The runner that was built for the image's target itself.
        let executable = folder
            .path()
            .join("x86_64-unknown-linux-musl/release/watertight");
        assert_eq!(find_programs(Kind::Probe, &executable).unwrap().len(), 1);
    }

    #[test]
    fn an_unusable_file_is_an_error_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(Kind::Probe, &folder.path().join("nothing")).unwrap_err();
        assert!(matches!(missing, FindError::Unreadable { .. }));
        let path = folder.path().join("script");
        put(&path, b"#!/bin/sh\n");
        assert!(
            read(Kind::Probe, &path)
                .unwrap_err()
                .to_string()
                .contains("it is not an ELF program")
        );
    }
}
