//! `watertight image -o probe.tar`: the probe's image as an archive, without an engine.

use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use crate::image::{self, Architecture, Archive, FindError, Kind, Program};
use clap::Args;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// The archive to write, - for standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: PathBuf,
    /// The image's name and tag [default: localhost/watertight-probe:VERSION]
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// The static program to put in, one for each architecture (repeatable) [default: searched
    /// beside this program and where cargo builds it]
    #[arg(long, value_name = "PATH", visible_alias = "agent")]
    program: Vec<PathBuf>,
    /// The image of watertight itself, to run it as a Job, in place of the probe's
    #[arg(long)]
    runner: bool,
}

pub(super) fn image(args: &ImageArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let kind = if args.runner {
        Kind::Runner
    } else {
        Kind::Probe
    };
    let programs = programs(kind, &args.program).map_err(|error| {
        terminal.error(&format!("{error}\n{}", how_to_build(kind)));
        ExitCode::Usage
    })?;
    let archive = Archive::pack(&programs, args.tag.as_deref()).map_err(|error| {
        terminal.error(&format!("failed to {error}"));
        ExitCode::Usage
    })?;

    let to_stdout = args.output == Path::new("-");
    let written = if to_stdout {
        io::stdout().write_all(&archive.bytes)
    } else {
        write_atomically(&args.output, &archive.bytes)
    };
    written.map_err(|error| {
        terminal.error(&format!(
            "failed to write {}: {error}",
            args.output.display()
        ));
        ExitCode::Impossible
    })?;

    let summary = summary(kind, &archive, &args.output);
    let shown = if to_stdout {
        io::stderr().write_all(summary.as_bytes())
    } else {
        io::stdout().write_all(summary.as_bytes())
    };
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Ok(ExitCode::Defect),
        // With the pipe closed, the archive is complete all the same.
        Ok(()) | Err(_) => Ok(ExitCode::Proven),
    }
}

/// The programs that the command line names; else those beside this program.
fn programs(kind: Kind, named: &[PathBuf]) -> Result<Vec<Program>, FindError> {
    if named.is_empty() {
        let executable = std::env::current_exe().map_err(|error| FindError::Unreadable {
            path: "/proc/self/exe".into(),
            error,
        })?;
        return image::find_programs(kind, &executable);
    }
    named.iter().map(|path| image::read(kind, path)).collect()
}

fn how_to_build(kind: Kind) -> String {
    let command = kind.build_command(Architecture::Amd64);
    format!(
        "build it in watertight's sources (ci/static does it, also where musl cannot be had):\n    {command}\nor name \
         one that is built: --program PATH"
    )
}

/// Writes a file beside `path` and renames it: half an archive would be loaded as a broken image.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Name, digest, size, and the next commands.
fn summary(kind: Kind, archive: &Archive, output: &Path) -> String {
    let Archive {
        name,
        digest,
        architectures,
        bytes,
    } = archive;
    let architectures: Vec<&str> = architectures
        .iter()
        .map(|architecture| architecture.name())
        .collect();
    let size = bytes.len() as f64 / 1e6;
    let file = if output == Path::new("-") {
        "FILE".into()
    } else {
        output.display().to_string()
    };
    let next = match kind {
        Kind::Probe => format!("watertight run SUITE --probe-image {name}"),
        Kind::Runner => "ci/kustomize runs it as a Job".to_owned(),
    };
    let repository = name.rsplit(['/', ':']).nth(1).unwrap_or(kind.program());
    let tag = name.rsplit(':').next().unwrap_or("latest");
    [
        format!("image   {name}"),
        format!("digest  {digest}"),
        format!(
            "holds   linux/{} in {size:.1} MB",
            architectures.join(", linux/")
        ),
        format!("load    kind load image-archive {file}"),
        format!("   or   ctr --namespace k8s.io images import {file}     on each node"),
        format!(
            "   or   skopeo copy --all oci-archive:{file} docker://REGISTRY/{repository}:{tag}"
        ),
        format!("then    {next}"),
    ]
    .map(|line| line + "\n")
    .concat()
}
