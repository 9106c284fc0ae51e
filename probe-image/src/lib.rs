//! The agent: a sampler that reports what the network did, and the responder it talks to.
//!
//! ```text
//! WATERTIGHT_PLAN_0..n ── plan_env ──▶ wire::Plan
//!                         agent ─────▶ schedule → sampler → release → output → JSON lines on stdout
//!                         probe ─────▶ one attempt: resolve → connect → first bytes or TLS → request
//!                         responder ─▶ the other end, where watertight owns the target
//! ```
//!
//! | module | may import |
//! |---|---|
//! | `wire`, `responder::control` | nothing: types only |
//! | `plan_env` | `wire` |
//! | `request` | `wire` |
//! | `probe` | `wire` |
//! | `agent` | `wire`, `plan_env`, `probe`, `responder` |
//! | `responder` | `wire`; of `probe` the words of question and answer |
//!
//! Nothing here knows what anyone hopes to see. What the network did is an [`wire::Observation`];
//! what our own machinery failed at is a [`wire::Fault`], and no function turns the one into the
//! other.

mod agent;
mod descriptors;
mod plan_env;
mod probe;
mod request;
pub mod responder;
mod text;
pub mod wire;

pub use agent::probe_main;
pub use plan_env::{PlanTooLarge, encode_plan, plan_digest};
pub use probe::same_outcome;
pub use responder::responder_main;

/// Name and version of the agent, and of the protocol that it speaks.
///
/// Every build carries this text in one piece, so that a file can be told to be the agent without
/// being run: an image may be for another machine.
pub const BUILD: &str = concat!("watertight-probe ", env!("CARGO_PKG_VERSION"), " (wire 1)");

#[cfg(test)]
mod tests {
    #[test]
    fn a_build_names_the_protocol_that_it_speaks() {
        assert!(super::BUILD.ends_with(&format!("(wire {})", super::wire::VERSION)));
    }
}
