//! The command: early main, parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Probes and the responder are this program again; they enter their namespaces before any
    // thread exists.
    if let Some(code) = watertight::early_main() {
        return code;
    }
    let result = std::panic::catch_unwind(watertight::cli::main);
    // The panic's message has been printed by the default hook; the code says that it is a defect
    // of ours.
    result.unwrap_or(watertight::event::ExitCode::Defect).into()
}
