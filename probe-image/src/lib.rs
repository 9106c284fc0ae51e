//! The agent: the probe, which makes attempts and reports what the network did, and the responder,
//! which answers them.
//!
//! ```text
//! WATERTIGHT_PLAN_0..n ── plan_env ──▶ wire::Plan
//!                         agent ─────▶ schedule → sampler → line_emitter → output → JSON lines on stdout
//!                         probe ─────▶ one attempt: resolve → connect → first bytes or TLS → request
//!                         responder ─▶ the target, where watertight provides it
//! ```
//!
//! | module | may import |
//! |---|---|
//! | `wire`, `responder::control` | nothing: types only |
//! | `plan_env`, `secrets` | `wire` |
//! | `request` | `wire` |
//! | `probe` | `wire`, `secrets` |
//! | `agent` | `wire`, `plan_env`, `secrets`, `probe`, `responder` |
//! | `responder` | `wire`; of `probe` the form of questions and answers |
//!
//! Nothing here knows an expected outcome. What the network did is a [`wire::Observation`]; a
//! failure of our own machinery is a [`wire::Fault`]; no function turns one into the other.

mod agent;
mod descriptors;
mod plan_env;
mod probe;
mod request;
pub mod responder;
mod secrets;
mod text;
pub mod wire;

pub use agent::probe_main;
pub use plan_env::{PlanTooLarge, encode_plan, plan_digest};
pub use probe::{expression_error, same_outcome};
pub use responder::responder_main;
pub use secrets::{SECRETS_ON_STDIN, secret_variable, secrets_line};

/// Name and version of the agent, and version of its protocol.
///
/// Every build contains this text in one piece, so that a file can be recognised as the agent
/// without being run: an image may be for another architecture.
pub const BUILD: &str = concat!("watertight-probe ", env!("CARGO_PKG_VERSION"), " (wire 1)");

#[cfg(test)]
mod tests {
    #[test]
    fn build_names_the_version_of_the_protocol() {
        assert!(super::BUILD.ends_with(&format!("(wire {})", super::wire::VERSION)));
    }
}
