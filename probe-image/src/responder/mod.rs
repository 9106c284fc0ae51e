//! The responder: the target of a flow, where watertight provides it.
//!
//! One process serves all pods of a lab. A thread reads commands from the control socket and binds
//! sockets in the network namespaces that come with them; one runtime on another thread serves all
//! sockets.
//!
//! # Limitations
//!
//! A UDP socket bound to a wildcard address answers from the address that the kernel's routing
//! chooses, which may differ from the one that was asked: bind to addresses.

mod commands;
mod connection;
pub mod control;
mod datagram;
mod dns;
mod first_bytes;
mod http;
mod listeners;
pub(crate) mod probe_listener;
mod sockets;
mod tls;

use crate::descriptors::raise_file_limit;
use listeners::Listeners;
use std::process::ExitCode;
use tokio::sync::mpsc::unbounded_channel;

/// Maximum bytes of the answer to one question.
const MAX_ANSWER: usize = 4 * 1024;

/// Serves the listeners that commands on the control socket (stdin) ask for, until that socket
/// closes.
///
/// Must be called before any thread exists, as it takes ownership of stdin.
pub fn responder_main() -> ExitCode {
    // With fewer descriptors it serves fewer listeners; commands that fail are answered by
    // `Failed`.
    let _ = raise_file_limit();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };

    let (sender, mut commands) = unbounded_channel();
    let control_thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || commands::serve_control_socket(&sender));
    if control_thread.is_err() {
        return ExitCode::FAILURE;
    }

    runtime.block_on(async {
        let mut listeners = Listeners::default();
        while let Some((command, reply)) = commands.recv().await {
            // The control thread waits for the reply; if it is gone, the loop ends with it.
            drop(reply.send(listeners.execute(command).await));
        }
    });
    runtime.shutdown_background();
    ExitCode::SUCCESS
}
