//! Inherited descriptors, network namespaces and the file limit.

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that this process received by exec or by `SCM_RIGHTS`.
#[expect(
    unsafe_code,
    reason = "a descriptor passed from outside arrives as a number; nothing in std can own it"
)]
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number that they received from the kernel or the parent process, and
    // pass it once; no other value in this process owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_netns(netns: &OwnedFd) -> nix::Result<()> {
    setns(netns, CloneFlags::CLONE_NEWNET)
}

/// Raises the soft limit of open files to the hard limit and returns it.
pub(crate) fn raise_file_limit() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
