//! Ctrl-C and SIGTERM.

use crate::event::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A listener for both signals. A signal that arrives between two calls of [`Interrupts::next`] is
/// kept for the second.
///
/// Made once for a run: from then on the signals no longer end the process by themselves, so a
/// second listener that is made later would miss the signals in between.
pub(super) struct Interrupts(Option<(Signal, Signal)>);

impl Interrupts {
    /// Starts to listen; to be called inside of the event loop. Where the kernel refuses, the
    /// signals end the process at once.
    pub(super) fn listen() -> Self {
        let both = signal(SignalKind::interrupt())
            .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
        Self(both.ok())
    }

    /// Completes when the run shall end early, with the reason.
    pub(super) async fn next(&mut self) -> String {
        let Some((interrupt, terminate)) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => "interrupted (SIGINT)".to_owned(),
            _ = terminate.recv() => "terminated (SIGTERM)".to_owned(),
        }
    }

    /// Runs `work` unless a signal arrives before its end.
    ///
    /// # Errors
    /// [`ExitCode::Impossible`] when a signal arrived.
    pub(super) async fn unless_interrupted<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, ExitCode> {
        tokio::select! {
            result = work => Ok(result),
            _ = self.next() => Err(ExitCode::Impossible),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal as Kind, raise};

    #[test]
    fn a_signal_between_two_waits_is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut interrupts = Interrupts::listen();
            drop(interrupts.next());
            raise(Kind::SIGTERM).unwrap();
            assert_eq!(interrupts.next().await, "terminated (SIGTERM)");
        });
    }
}
