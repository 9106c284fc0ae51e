//! Why the lab failed.

use super::netlink;
use super::obstacle::Obstacle;

/// Why the lab failed. Messages fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine does not allow a lab.
    #[error("make a lab: {obstacle}; fix: {}", obstacle.cure())]
    Obstacle {
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// A namespace.
    #[error("make the network namespace of {owner}")]
    Namespace {
        /// Of a pod, a node, ...
        owner: String,
        /// Why.
        source: std::io::Error,
    },
    /// A sysctl.
    #[error("write {path}")]
    Sysctl {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A link, an address or a route.
    #[error("wire {owner}: {what}")]
    Wire {
        /// Of a pod, a node, ...
        owner: String,
        /// Which step.
        what: &'static str,
        /// Why.
        source: netlink::Error,
    },
    /// A rule set.
    #[error("load the {what} of {node}")]
    Rules {
        /// Which rules.
        what: &'static str,
        /// The node, or the router.
        node: String,
        /// Why.
        source: netlink::Error,
    },
    /// The lab's certificates.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// A thread.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// The responder.
    #[error("{what} the responder")]
    Responder {
        /// Start, order, ...
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A listener.
    #[error("listen for {who}: {what} (errno {errno})")]
    Listen {
        /// Whose.
        who: String,
        /// What the responder was doing.
        what: String,
        /// Linux errno.
        errno: i32,
    },
    /// Something that the world does not have.
    #[error("find {0} in the lab")]
    Unknown(String),
    /// Policies that cannot be compiled.
    #[error("compile the policies: {0}")]
    Compile(String),
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle { obstacle }
    }
}
