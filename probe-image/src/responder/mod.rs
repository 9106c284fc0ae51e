//! The responder: the other end of a flow where watertight owns the target.
//!
//! One process for all pods of a lab. A thread of its own takes orders from the control socket and
//! opens sockets in the network namespaces that come with them; one runtime on one thread serves
//! them all.
//!
//! # Limitations
//!
//! A UDP socket bound to a wildcard address answers from the address that the kernel's routing
//! picks, which need not be the one that was asked: bind to addresses.

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

/// The longest answer to one question, bytes.
const MAX_ANSWER: usize = 4 * 1024;

/// Serves what the control socket on stdin orders, until that socket closes.
///
/// Must be called before any thread exists, as it takes stdin for itself.
pub fn responder_main() -> ExitCode {
    // With fewer descriptors it serves fewer listeners; those that fail are answered by `Failed`.
    let _ = raise_file_limit();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let (orders, mut inbox) = unbounded_channel();
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || commands::take(&orders));
    if control.is_err() {
        return ExitCode::FAILURE;
    }
    runtime.block_on(async {
        let mut listeners = Listeners::default();
        while let Some((order, done)) = inbox.recv().await {
            // The control thread waits for this; if it is gone, the loop ends with it.
            drop(done.send(listeners.carry_out(order).await));
        }
    });
    runtime.shutdown_background();
    ExitCode::SUCCESS
}
