//! The file or stream that a document is written to.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file or stream that a document is written to.
pub(super) enum Destination {
    /// A file: written under a temporary name beside it, then renamed over it, so that no reader
    /// finds half a report.
    Replaced(PathBuf),
    /// A file in a directory where no other file can be created: rewritten in place.
    Rewritten(File),
    /// A pipe, a device or standard output: written once, at the end.
    Once(Box<dyn Write + Send>),
}

impl Destination {
    /// Opens a path for a report, so that an unusable path is reported before the run.
    ///
    /// Links are followed. Missing directories are not created: a typing error would hide the
    /// report.
    ///
    /// # Errors
    /// The path is a directory, its directory does not exist, or neither it nor its directory can
    /// be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "this is a directory",
            )),
            Ok(metadata) if !metadata.is_file() => Ok(Self::Once(Box::new(
                OpenOptions::new().write(true).open(path)?,
            ))),
            Ok(_) => {
                let file = OpenOptions::new().write(true).open(path)?;
                let path = path.canonicalize()?;
                match temporary_beside(&path) {
                    Ok(_) => Ok(Self::Replaced(path)),
                    Err(_) => Ok(Self::Rewritten(file)),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder(path);
                if !folder.is_dir() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("the directory {} does not exist", folder.display()),
                    ));
                }
                temporary_beside(path)?;
                Ok(Self::Replaced(path.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the document may be written more than once, each time replacing the last.
    pub(super) fn takes_drafts(&self) -> bool {
        match self {
            Self::Replaced(_) | Self::Rewritten(_) => true,
            Self::Once(_) => false,
        }
    }

    /// Writes the document, replacing what was there.
    pub(super) fn write(&mut self, document: &[u8]) -> io::Result<()> {
        match self {
            Self::Replaced(path) => replace(path, document),
            Self::Rewritten(file) => {
                file.rewind()?;
                file.set_len(0)?;
                file.write_all(document)
            }
            Self::Once(writer) => {
                writer.write_all(document)?;
                writer.flush()
            }
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// An empty file in the directory of `path`, deleted when dropped.
fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // The umask decides who may read a report, as for other files that a tool writes; tempfile's
    // default would be 0600.
    let mode =
        std::fs::metadata(path).map_or(0o666, |metadata| metadata.permissions().mode() & 0o777);
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder(path))
}

fn replace(path: &Path, document: &[u8]) -> io::Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(document)?;
    match file.persist(path) {
        Ok(_) => Ok(()),
        // A file that is itself a mount point (as /dev/termination-log is in a pod) cannot be
        // renamed over.
        Err(failed) if failed.error.kind() == io::ErrorKind::ResourceBusy => {
            std::fs::write(path, document)
        }
        Err(failed) => Err(failed.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_replaces_the_one_before_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let mut destination = Destination::open(&path).unwrap();
        assert!(!path.exists(), "opening makes no file");
        destination.write(b"a longer first").unwrap();
        destination.write(b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn link_and_permissions_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("real.xml"),
            folder.path().join("link.xml"),
        );
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Destination::open(&link).unwrap().write(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn unusable_path_is_an_error_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/report.json");
        let Err(error) = Destination::open(&missing) else {
            panic!("a missing directory was taken")
        };
        assert!(
            error.to_string().ends_with("no/such does not exist"),
            "{error}"
        );
        let Err(error) = Destination::open(folder.path()) else {
            panic!("a directory was taken")
        };
        assert_eq!(error.to_string(), "this is a directory");
    }

    #[test]
    fn device_takes_no_drafts() {
        let destination = Destination::open(Path::new("/dev/null")).unwrap();
        assert!(!destination.takes_drafts());
    }

    #[test]
    fn file_that_cannot_be_replaced_is_rewritten() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut destination = Destination::Rewritten(file.reopen().unwrap());
        destination.write(b"a longer first").unwrap();
        destination.write(b"second").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"second");
    }
}
