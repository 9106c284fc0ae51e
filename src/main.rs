//! The command: early main, parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Probes and the responder are started from this executable; they enter their namespaces before
    // any thread exists.
    if let Some(code) = watertight::early_main() {
        return code;
    }
    exit_on_panic();
    watertight::cli::main().into()
}

/// Makes a panic of any thread end the process with the code that marks a defect of watertight,
/// after the default hook has printed its message.
fn exit_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(watertight::event::ExitCode::Defect.number().into());
    }));
}
