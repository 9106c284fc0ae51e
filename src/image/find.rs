//! Where static programs are searched for when none is named.

use super::{Architecture, Kind, Program, ProgramError};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no program to put into an image.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file is no program for an image.
    #[error("cannot use {}: {error}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: ProgramError,
    },
    /// Nothing was found.
    #[error("no static {} was found{}", kind.program(), passed_over(.unfit))]
    Nowhere {
        /// Of what.
        kind: Kind,
        /// Candidates that are there and do not fit.
        unfit: Vec<(PathBuf, ProgramError)>,
    },
}

fn passed_over(unfit: &[(PathBuf, ProgramError)]) -> String {
    unfit
        .iter()
        .map(|(path, error)| format!("\n  passed over {}: {error}", path.display()))
        .collect()
}

/// Reads one program by its path.
///
/// # Errors
/// [`FindError::Unreadable`], [`FindError::Unfit`].
pub fn read(kind: Kind, path: &Path) -> Result<Program, FindError> {
    let bytes = std::fs::read(path).map_err(|error| FindError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    Program::new(kind, bytes).map_err(|error| FindError::Unfit {
        path: path.to_owned(),
        error,
    })
}

/// The programs that lie beside this one, or where cargo builds them: at most one for each
/// architecture.
///
/// # Errors
/// [`FindError::Nowhere`] with what was passed over; [`FindError::Unreadable`].
pub fn beside_this_program(kind: Kind, this: &Path) -> Result<Vec<Program>, FindError> {
    let (mut programs, mut unfit) = (Vec::new(), Vec::new());
    for architecture in Architecture::ALL {
        for path in candidates(kind, architecture, this) {
            match read(kind, &path) {
                Ok(program) if program.architecture() == architecture => {
                    programs.push(program);
                    break;
                }
                // A program for the other machine has its turn there.
                Ok(_) => {}
                Err(FindError::Unreadable { error, .. })
                    if error.kind() == io::ErrorKind::NotFound => {}
                Err(FindError::Unfit { path, error }) => unfit.push((path, error)),
                Err(error) => return Err(error),
            }
        }
    }
    if programs.is_empty() {
        let mut seen = BTreeSet::new();
        unfit.retain(|(path, _)| seen.insert(path.clone()));
        return Err(FindError::Nowhere { kind, unfit });
    }
    Ok(programs)
}

/// Paths in the order in which they are tried.
fn candidates(kind: Kind, architecture: Architecture, this: &Path) -> Vec<PathBuf> {
    let name = kind.program();
    let folder = this.parent().unwrap_or(Path::new("."));
    let mut paths = vec![
        folder.join(format!("{name}-{architecture}")),
        folder.join(name),
    ];
    // target/release/watertight, target/TRIPLE/release/watertight
    let built = match kind {
        Kind::Probe => "probe",
        Kind::Runner => "release",
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
    fn programs_are_found_beside_and_where_cargo_builds_them() {
        let folder = tempfile::tempdir().unwrap();
        let this = folder.path().join("release/watertight");
        put(
            &folder.path().join("release/watertight-probe"),
            &elf(Kind::Probe, EM_X86_64, PT_INTERP),
        );
        let nothing = beside_this_program(Kind::Probe, &this)
            .unwrap_err()
            .to_string();
        assert!(
            nothing.contains("passed over") && nothing.contains("linked dynamically"),
            "{nothing}"
        );
        assert_eq!(nothing.matches("passed over").count(), 1, "{nothing}");

        let built = folder
            .path()
            .join("x86_64-unknown-linux-musl/probe/watertight-probe");
        put(&built, &elf(Kind::Probe, EM_X86_64, PT_LOAD));
        put(
            &folder.path().join("release/watertight-probe-arm64"),
            &elf(Kind::Probe, EM_AARCH64, PT_LOAD),
        );
        let found = beside_this_program(Kind::Probe, &this).unwrap();
        assert_eq!(
            found.iter().map(Program::architecture).collect::<Vec<_>>(),
            Architecture::ALL
        );

        // The runner that was built for the image's target itself.
        let this = folder
            .path()
            .join("x86_64-unknown-linux-musl/release/watertight");
        assert_eq!(beside_this_program(Kind::Probe, &this).unwrap().len(), 1);
    }

    #[test]
    fn a_named_file_that_does_not_fit_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(Kind::Probe, &folder.path().join("nothing")).unwrap_err();
        assert!(matches!(missing, FindError::Unreadable { .. }));
        let path = folder.path().join("script");
        put(&path, b"#!/bin/sh\n");
        assert!(
            read(Kind::Probe, &path)
                .unwrap_err()
                .to_string()
                .contains("it is no ELF program")
        );
    }
}
