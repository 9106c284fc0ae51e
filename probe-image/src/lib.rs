//! The agent: a sampler that reports what the network did, and the responder it talks to.

pub mod responder;
pub mod wire;
