//! Every suite in `suites/`, proven in a lab of its own manifests.

use std::path::Path;
use std::process::ExitCode;
use watertight::harness::{self, Options};

fn main() -> ExitCode {
    // Paths as they stand in the repository: cargo starts tests in the package's folder.
    let folders = match folders(Path::new("suites")) {
        Ok(folders) => folders,
        Err(error) => {
            // The library's writer needs a suite; there is none.
            let _closed = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("suites/: {error}\n").as_bytes(),
            );
            return ExitCode::FAILURE;
        }
    };
    let labs = folders.iter().map(|folder| {
        (
            [format!("{folder}/suite.yaml")],
            [format!("{folder}/manifests")],
        )
    });
    let options = labs.fold(None, |options: Option<Options>, (suites, manifests)| {
        Some(match options {
            None => Options::lab(&suites, &manifests),
            Some(options) => options.and_lab(&suites, &manifests),
        })
    });

    match options {
        Some(options) => harness::main(&options),
        None => ExitCode::FAILURE,
    }
}

/// The folders of a folder, by name.
fn folders(root: &Path) -> std::io::Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path.to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(folders)
}
