//! Where a document that is written whole goes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A place for a whole document.
pub(super) enum Sink {
    /// A file: written beside its place, then renamed over it, so that no reader ever meets half a
    /// report.
    Replaced(PathBuf),
    /// A file whose directory takes no other file: rewritten in place.
    Rewritten(File),
    /// A pipe, a device, standard output: it takes the document once, at the end.
    Once(Box<dyn Write + Send>),
}

impl Sink {
    /// Opens a path for a report, so that what is wrong with it shows before the run and not after.
    ///
    /// Links are followed. Missing directories are not made: a typing error would hide the report.
    ///
    /// # Errors
    /// The path is a directory, its directory does not exist, or neither it nor its directory can
    /// be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(known) if known.is_dir() => Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "this is a directory",
            )),
            Ok(known) if !known.is_file() => Ok(Self::Once(Box::new(
                OpenOptions::new().write(true).open(path)?,
            ))),
            Ok(_) => {
                let file = OpenOptions::new().write(true).open(path)?;
                let path = path.canonicalize()?;
                Ok(beside(&path).map_or(Self::Rewritten(file), |_| Self::Replaced(path)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder(path);
                if !folder.is_dir() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("the directory {} does not exist", folder.display()),
                    ));
                }
                beside(path)?;
                Ok(Self::Replaced(path.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the document may be written more than once, each time anew.
    pub(super) fn takes_drafts(&self) -> bool {
        match self {
            Self::Replaced(_) | Self::Rewritten(_) => true,
            Self::Once(_) => false,
        }
    }

    /// Writes the document, in place of what stood there.
    pub(super) fn put(&mut self, document: &[u8]) -> io::Result<()> {
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

/// An empty file beside `path`, gone again when dropped.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // A report is as readable as any other file a tool writes: the umask decides, as it does not by
    // tempfile's default.
    let mode = std::fs::metadata(path).map_or(0o666, |known| known.permissions().mode() & 0o777);
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder(path))
}

fn replace(path: &Path, document: &[u8]) -> io::Result<()> {
    let mut file = beside(path)?;
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
    fn a_document_replaces_the_one_before_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let mut sink = Sink::open(&path).unwrap();
        assert!(!path.exists(), "opening makes no file");
        sink.put(b"a longer first").unwrap();
        sink.put(b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link_and_permissions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("real.xml"),
            folder.path().join("link.xml"),
        );
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Sink::open(&link).unwrap().put(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_is_wrong_with_a_path_shows_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/report.json");
        let Err(error) = Sink::open(&missing) else {
            panic!("a missing directory was taken")
        };
        assert!(
            error.to_string().ends_with("no/such does not exist"),
            "{error}"
        );
        let Err(error) = Sink::open(folder.path()) else {
            panic!("a directory was taken")
        };
        assert_eq!(error.to_string(), "this is a directory");
    }

    #[test]
    fn a_device_is_never_renamed_over() {
        let sink = Sink::open(Path::new("/dev/null")).unwrap();
        assert!(!sink.takes_drafts());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_rewritten() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = Sink::Rewritten(file.reopen().unwrap());
        sink.put(b"a longer first").unwrap();
        sink.put(b"second").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"second");
    }
}
