//! The event loop of a command: one thread, built here and nowhere else.

use super::run::Stopped;
use super::terminal::Terminal;
use crate::event::ExitCode;
use tokio::runtime::Builder;

/// The event loop that a backend needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventLoop {
    /// Real time. At its end it waits for blocking work, such as a link that is being made.
    Lab,
    /// Real time. At its end it drops blocking work: what is still being read then comes from
    /// probes that are gone.
    Cluster,
    /// Virtual time, without IO: it stops while there is work, and jumps to the next timer when
    /// there is none.
    Scripted,
}

impl EventLoop {
    /// Runs `work` to its end.
    ///
    /// # Errors
    /// The kernel gives out no event loop; the cause has been shown.
    pub(super) fn block_on<T>(
        self,
        terminal: &Terminal,
        work: impl Future<Output = T>,
    ) -> Result<T, Stopped> {
        let mut builder = Builder::new_current_thread();
        let builder = match self {
            Self::Lab | Self::Cluster => builder.enable_all(),
            Self::Scripted => builder.enable_time().start_paused(true),
        };
        let runtime = builder.build().map_err(|error| {
            terminal.error(&format!("failed to start the event loop: {error}"));
            Stopped::new("the event loop did not start", ExitCode::Impossible)
        })?;

        let result = runtime.block_on(work);
        match self {
            Self::Lab | Self::Scripted => drop(runtime),
            Self::Cluster => runtime.shutdown_background(),
        }
        Ok(result)
    }
}
