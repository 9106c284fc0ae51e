//! Getting the right to make network namespaces, before the process has a second thread.
//!
//! A user namespace gives it to anybody, where the kernel lets anybody have one; else
//! `CAP_SYS_ADMIN` does. What stands in the way is named exactly, with the one command that removes
//! it: "permission denied" has five causes here, and four of them are cured in different places.

use super::obstacle::{Facts, Obstacle, Operation, diagnose};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};
use std::path::Path;

/// How the process came by its right to make network namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is root in a user namespace of its own.
    UserNamespace,
    /// It had `CAP_SYS_ADMIN` and left the machine's network.
    NetworkNamespace,
}

/// Moves the process out of the machine's network, into an empty network namespace that it owns.
///
/// To be called before any thread is started: the kernel gives a user namespace to processes of one
/// thread only. The own user and group become 0 inside, so that the probes and the responder, which
/// are the same program executed again, keep the capabilities over the namespaces made later; files
/// are still written as the user outside. The soft limit of open files is raised to the hard one.
///
/// # Errors
/// The [`Obstacle`]; after one, the process must not go on to use a lab.
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
            // With the capability, a limit on user namespaces is not what stands in the way.
            Err(Errno::EPERM) => Err(diagnose(Operation::UserNamespace, errno, facts)),
            Err(errno) => Err(diagnose(Operation::NetworkNamespace, errno, facts)),
        },
        Err(errno) => Err(diagnose(Operation::UserNamespace, errno, facts)),
    }
}

/// Maps one user and one group to 0 (`user_namespaces(7)`: a process without privileges may map its
/// own ids only, and the group only once it has given up setgroups).
fn map_to_root(user: u32, group: u32) -> Result<(), Errno> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<(), Errno> {
    std::fs::write(path, text)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Sockets of every listener in one process and a descriptor for every namespace in another: the
/// usual soft limit of 1,024 ends a lab of 100 pods. What the hard limit lacks is found when the
/// world is known.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // A refusal shows later as the limit that it is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
