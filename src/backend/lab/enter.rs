//! Entering a network namespace, before the process has a second thread.
//!
//! The right to create network namespaces comes with a user namespace, where the kernel permits
//! one, or with `CAP_SYS_ADMIN`. A refusal is diagnosed exactly, with the command that fixes it:
//! "permission denied" has five causes here, with four different fixes.

use super::obstacle::{Facts, Obstacle, Operation, diagnose};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};
use std::path::Path;

/// The source of the process's right to create network namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// The process is root in a new user namespace.
    UserNamespace,
    /// The process had `CAP_SYS_ADMIN` and left the machine's network namespace.
    NetworkNamespace,
}

/// Moves the process out of the machine's network, into an empty network namespace that it owns.
///
/// Call this before any thread is started: the kernel creates a user namespace only for a process
/// with one thread. User and group become 0 inside, so that the probes and the responder, which are
/// the same program executed again, keep the capabilities over the namespaces created later; files
/// are still written as the user outside. The soft limit of open files is raised to the hard one.
///
/// # Errors
/// The [`Obstacle`]; after it the process must not use a lab.
pub fn enter() -> Result<Entered, Obstacle> {
    let facts = Facts::of_machine();
    raise_file_limit();
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => {
            map_to_root(user.as_raw(), group.as_raw())
                .map_err(|errno| diagnose(Operation::MapUser, errno, facts))?;
            Ok(Entered::UserNamespace)
        }
        Err(errno) if facts.sys_admin => match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => Ok(Entered::NetworkNamespace),
            // With the capability, a limit on user namespaces cannot be the cause.
            Err(Errno::EPERM) => Err(diagnose(Operation::UserNamespace, errno, facts)),
            Err(errno) => Err(diagnose(Operation::NetworkNamespace, errno, facts)),
        },
        Err(errno) => Err(diagnose(Operation::UserNamespace, errno, facts)),
    }
}

/// Maps one user and one group to 0. A process without privileges can map only its own ids, and its
/// group only after `setgroups` is denied (`user_namespaces(7)`).
fn map_to_root(user: u32, group: u32) -> Result<(), Errno> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<(), Errno> {
    std::fs::write(path, text)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Raises the soft limit of open files to the hard one. The responder has a socket per listener and
/// this process a descriptor per namespace: the usual soft limit of 1,024 is too low for 100 pods.
/// `Lab::up` checks the hard limit.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // A refusal shows later, as `EMFILE`.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
