//! The responder: the other end of a flow where watertight owns the target.

pub mod control;
