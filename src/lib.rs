//! watertight
pub mod model;
pub mod source;
pub mod suite;
pub mod inventory;
pub use watertight_probe::wire;
