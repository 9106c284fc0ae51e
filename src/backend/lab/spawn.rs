//! Executing this program again, as a probe or as the responder.

use super::netns::Netns;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Path of the running program; valid also after its file was replaced.
pub(super) const SELF: &str = "/proc/self/exe";

/// Prepares a child: it ends with the thread that starts it, gets no Ctrl-C from the terminal, and
/// inherits the namespace's descriptor under the same number.
///
/// Without Ctrl-C the runner decides what an interruption means: a responder that ended with it
/// would look like a dead target. The descriptor stays close-on-exec in this process and only the
/// child clears the flag, between fork and exec: no other child that is started at the same time
/// inherits it.
#[expect(unsafe_code, reason = "only pre_exec runs code between fork and exec")]
pub(super) fn prepare(command: &mut Command, netns: Option<Netns>) {
    command.process_group(0);
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if let Some(netns) = &netns {
            fcntl(netns, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing, which is allowed after
    // fork.
    unsafe { command.pre_exec(prepare) };
}
