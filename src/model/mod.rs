//! Names, ports, address families, durations and references to objects, each valid by construction.
//!
//! A type with a rule has private fields and one constructor, which checks the rule. The module
//! does not depend on suites, manifests or packets.

mod address;
mod duration;
mod family;
mod name;
mod object;
mod observed;
mod policy;
mod port;
mod secret;

pub use address::RefusedAddress;
pub use duration::{ParseDurationError, parse_duration, show_duration};
pub use family::{Families, Family};
pub use name::{EndpointName, HostName, ParseNameError};
pub use object::{ObjectRef, WorkloadKind, WorkloadRef};
pub use observed::{ClusterChange, EnforcerCount};
pub use policy::{PolicyKind, PolicyRef, Scope};
pub use port::{ParsePortError, Port, Transport};
pub use secret::{SecretText, Secrets};
