//! What a network says of itself: changes of its objects, and the counts of its enforcer.

use super::PolicyRef;

/// A change of a Kubernetes object that can make evidence of a flow outdated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterChange {
    /// A pod was replaced, relabelled, moved, restarted, deleted or created. `namespace`, `name`.
    Pod(String, String),
    /// A namespace's labels changed.
    Namespace(String),
    /// A policy's spec changed.
    Policy(PolicyRef),
    /// A Service's spec or its endpoints changed. `namespace`, `name`.
    Service(String, String),
}

impl std::fmt::Display for ClusterChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(namespace, name) => write!(f, "pod {namespace}/{name}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Policy(policy) => policy.fmt(f),
            Self::Service(namespace, name) => write!(f, "Service {namespace}/{name}"),
        }
    }
}

/// The enforcer's own count of one flow's denied packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnforcerCount {
    /// Denied packets since the network came up.
    pub packets: u64,
    /// The rule that counted, by its policy's name: `data/NetworkPolicy/postgres ingress`.
    pub rule: String,
}
