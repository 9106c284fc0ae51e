//! The command: early main, parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Probes and the responder are started from this executable; they enter their namespaces before
    // any thread exists.
    if let Some(code) = watertight::early_main() {
        return code;
    }
    let result = std::panic::catch_unwind(watertight::cli::main);
    // The default hook has printed the panic's message; the code marks it as a defect of
    // watertight.
    result.unwrap_or(watertight::event::ExitCode::Defect).into()
}
