//! Suite + Inventory → Plan: expansion into checks and flows, controls, rates.

/// A probe of a run: one process, one vantage. The index into the plan's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// A flow of a run. The index into the plan's flows, and the flow's id on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// From where a probe sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vantage {
    /// A pod's identity.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The node it runs on.
        node: String,
    },
    /// A node's own network.
    Node {
        /// Its name.
        name: String,
    },
    /// From where watertight runs; in the lab an outside host.
    Runner,
}

