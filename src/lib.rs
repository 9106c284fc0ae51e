//! watertight
pub mod backend;
pub mod inventory;
pub mod model;
pub mod plan;
pub mod source;
pub mod suite;
pub use watertight_probe::wire;
