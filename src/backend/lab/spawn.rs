//! Starting this program again, as a probe or as the responder.

use super::netns::Netns;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// This program, as it runs now: also after the file was replaced, and without any path.
pub(super) const SELF: &str = "/proc/self/exe";

/// Makes the child end with the thread that starts it, out of reach of the terminal's Ctrl-C, and
/// hands it the namespace's descriptor under the number that it has here.
///
/// The runner decides what an interruption means: a responder that ended with it would look like a
/// dead target.
///
/// The descriptor stays close-on-exec in this process and is opened up in the child alone, between
/// fork and exec: so no other child started at the same time gets it too.
#[expect(
    unsafe_code,
    reason = "there is no other way to act between fork and exec"
)]
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
