//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// Completes when the run shall end early, with the reason. Without a handler the signal ends the process at once.
pub(super) async fn interrupted() -> String {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupted (SIGINT)".to_owned(),
        _ = terminate.recv() => "terminated (SIGTERM)".to_owned(),
    }
}
