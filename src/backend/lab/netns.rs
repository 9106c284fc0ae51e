//! Network namespaces: making them, and running code in one.

use super::error::Error;
use super::obstacle::{Facts, Operation, diagnose};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A network namespace, alive as long as this or any socket or thread in it is.
#[derive(Debug, Clone)]
pub(super) struct Netns(Arc<File>);

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Netns {
    /// Moves the calling thread into a new namespace with these sysctls (under `/proc/sys/net`) and
    /// opens it. `owner` names the pod or node in errors.
    ///
    /// # Errors
    /// The obstacle, or the sysctl.
    pub(super) fn make(owner: &str, sysctls: &[(&str, &str)]) -> Result<Self, Error> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| refused(Operation::NetworkNamespace, errno))?;

        let file =
            File::open("/proc/thread-self/ns/net").map_err(|source| open_failed(owner, source))?;

        for (key, value) in sysctls {
            let path = format!("/proc/sys/net/{key}");
            if let Err(source) = std::fs::write(&path, value) {
                if key.starts_with("ipv6/") && source.kind() == std::io::ErrorKind::NotFound {
                    return Err(super::obstacle::Obstacle::NoIpv6.into());
                }
                return Err(Error::Sysctl { path, source });
            }
        }

        Ok(Self(Arc::new(file)))
    }

    /// Runs `work` in the namespace, on a new thread that ends with it.
    ///
    /// # Errors
    /// Those of `work`, and a namespace that cannot be entered.
    pub(super) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        on_own_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|errno| refused(Operation::NetworkNamespace, errno))?;
            work()
        })
    }
}

/// Runs `work` on a new thread, so that a change of namespace does not affect the caller's.
///
/// # Errors
/// Those of `work`, and a thread that cannot be started.
pub(super) fn on_own_thread<T: Send>(
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("lab-netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::Thread)?;

        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open_failed(owner: &str, source: std::io::Error) -> Error {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => refused(Operation::Open, errno),
        _ => Error::Namespace {
            owner: owner.to_owned(),
            source,
        },
    }
}

/// The error for an operation that the kernel refused, with the obstacle behind the errno.
pub(super) fn refused(operation: Operation, errno: Errno) -> Error {
    diagnose(operation, errno, Facts::of_machine()).into()
}
