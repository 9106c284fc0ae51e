//! Errors of the lab.

use super::netlink;
use super::obstacle::Obstacle;

/// Why an operation of the lab failed. Messages fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine does not allow a lab.
    #[error("make a lab: {obstacle}; fix: {}", obstacle.fix())]
    Obstacle { obstacle: Obstacle },
    /// A network namespace could not be opened.
    #[error("make the network namespace of {owner}")]
    Namespace {
        /// The name of a pod or node.
        owner: String,
        source: std::io::Error,
    },
    /// A sysctl could not be written.
    #[error("write {path}")]
    Sysctl {
        path: String,
        source: std::io::Error,
    },
    /// A link, an address or a route could not be added.
    #[error("wire {owner}: {what}")]
    Wire {
        /// The name of a pod or node.
        owner: String,
        /// The step.
        what: &'static str,
        source: netlink::Error,
    },
    /// Rules could not be loaded or read.
    #[error("load the {what} of {node}")]
    Rules {
        /// Which rules.
        what: &'static str,
        /// The name of the node, or the router.
        node: String,
        source: netlink::Error,
    },
    /// The lab's certificates could not be made.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// The responder could not be started or commanded.
    #[error("{what} the responder")]
    Responder {
        /// The operation, as a verb.
        what: &'static str,
        source: std::io::Error,
    },
    /// The responder could not listen on a port.
    #[error("listen for {who}: {what} (errno {errno})")]
    Listen {
        /// The name of a pod, node or outside host.
        who: String,
        /// The responder's operation.
        what: String,
        errno: i32,
    },
    /// The world has no such object.
    #[error("find {0} in the lab")]
    Unknown(String),
    /// Policies could not be compiled.
    #[error("compile the policies: {0}")]
    Compile(String),
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle { obstacle }
    }
}
