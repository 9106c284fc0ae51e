//! Names, ports, addresses, durations: parsed once, never re-checked.
//!
//! Every type here has private fields and one constructor, so that a value of the type is the proof
//! that its rule holds. Nothing in this module knows what a suite, a manifest or a packet is.

mod duration;
mod family;
mod name;
mod object;
mod observed;
mod policy;
mod port;

pub use duration::{ParseDurationError, parse_duration, show_duration};
pub use family::Family;
pub use name::{EndpointName, HostName, ParseNameError};
pub use object::{ObjectRef, WorkloadKind, WorkloadRef};
pub use observed::{ClusterChange, EnforcerCount};
pub use policy::{PolicyKind, PolicyRef, Scope};
pub use port::{ParsePortError, Port, Transport};
