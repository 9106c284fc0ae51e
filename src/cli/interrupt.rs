//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, from the moment on that this exists: one that comes while nobody waits is kept for
/// who waits next.
///
/// Made once for a run. From then on the signals no longer end the process by themselves, so a
/// second listener that is made later would miss what came in between.
pub(super) struct Interrupts(Option<(Signal, Signal)>);

impl Interrupts {
    /// Listens. To be called inside of the runtime. Where the kernel refuses, the signals end the
    /// process at once.
    pub(super) fn listen() -> Self {
        let both = signal(SignalKind::interrupt())
            .and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal as Kind, raise};

    #[test]
    fn a_signal_that_comes_while_nobody_waits_is_kept() {
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
