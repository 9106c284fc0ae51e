//! The built binary, tested from outside: exit codes, reports, bad input, signals.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot start the binary fails"
)]

mod bad_input;
mod deployment;
mod documents;
mod drafts;
mod exit_codes;
mod families;
mod findings;
mod folders;
mod hosts;
mod image;
mod nodes;
mod one_model;
mod policies;
mod predictions;
mod readme;
mod scripted;
mod secrets;
mod signals;
mod sources;
mod support;
mod sweeps;
