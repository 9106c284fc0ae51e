//! Errors of operations on a cluster.

use std::time::Duration;

/// Why an operation on the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no configuration.
    #[error(
        "find a cluster: no kubeconfig names one, and this process does not run in a pod; give --kubeconfig, or set KUBECONFIG"
    )]
    NoConfiguration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The configuration cannot be used.
    #[error("read the cluster's configuration")]
    Configuration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server refused a request, or could not be reached.
    #[error("{doing}")]
    Api {
        /// The operation, as a fragment that follows "failed to".
        doing: String,
        #[source]
        source: kube::Error,
    },
    /// A watch could not be started.
    #[error("{doing}")]
    Watch {
        doing: String,
        #[source]
        source: kube::runtime::watcher::Error,
    },
    /// The API server did not answer in time.
    #[error("{doing}: the API server gave no answer within {} s", .after.as_secs())]
    Timeout { doing: String, after: Duration },
    /// A right is missing.
    #[error("{doing}: not allowed to {verb} {what}; {help}")]
    Forbidden {
        doing: String,
        /// `list`, ...
        verb: &'static str,
        /// `pods in namespace shop`.
        what: String,
        /// The next step.
        help: String,
    },
    /// Objects that this version of watertight cannot read.
    #[error("read the cluster's objects: {}", .0.join("; "))]
    Unreadable(Vec<String>),
    /// An ephemeral container remains in its pod: the API cannot remove one.
    #[error(
        "remove ephemeral container {container} from pod {pod}: the API cannot remove it; it has ended or ends by itself, and goes when the pod is deleted"
    )]
    EphemeralContainerRemains {
        container: String,
        /// `namespace/name`.
        pod: String,
    },
    /// Objects of the run could not be removed.
    #[error(
        "remove {what}: {why}; the cluster removes it by itself{by}, or run `watertight clean --all-runs`"
    )]
    NotRemoved {
        what: String,
        /// The API server's message, or why there was no answer.
        why: String,
        /// When the cluster removes it, as ` at 12:00:00 UTC`; empty where that is unknown.
        by: String,
    },
    /// Objects of the run are deleted, and their pods still terminate.
    #[error(
        "confirm the end of {what}: deleted, but its node has not ended it yet; it does so once it answers again"
    )]
    StillTerminating { what: String },
    /// No probe could be started.
    #[error("start any probe: {0}")]
    NoProbe(String),
}

impl Error {
    /// A failed request to the API server. `doing` follows "failed to".
    pub(super) fn api(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Api {
            doing: doing.into(),
            source,
        }
    }

    /// A watch that could not be started. `doing` follows "failed to".
    pub(super) fn watch(doing: impl Into<String>, source: kube::runtime::watcher::Error) -> Self {
        Self::Watch {
            doing: doing.into(),
            source,
        }
    }
}

/// The API server's message, or why it could not be reached, in one line.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        // The outer errors only name the layers of the HTTP client.
        kube::Error::Service(error) => unreachable(&**error),
        kube::Error::HyperError(error) => unreachable(error),
        other => {
            let mut text = other.to_string();
            let mut next = std::error::Error::source(other);
            while let Some(cause) = next {
                let message = cause.to_string();
                if !text.contains(&message) {
                    text.push_str(&format!(": {message}"));
                }
                next = cause.source();
            }
            text
        }
    }
}

/// A message with the innermost cause of a connection error.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("the API server cannot be reached: {cause}")
}

/// The HTTP status of a refusal by the API server; `None` for other errors.
pub(super) fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API server forbade the request (403).
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    status(error) == Some(403)
}

/// Whether the object does not exist (404).
pub(super) fn is_absent(error: &kube::Error) -> bool {
    status(error) == Some(404)
}

/// Whether another object has that name by now, or the object changed (409).
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    status(error) == Some(409)
}

/// Whether the API server was overloaded (429) or failed (5xx), so that a retry makes sense.
pub(super) fn is_busy(error: &kube::Error) -> bool {
    status(error).is_some_and(|code| code == 429 || code >= 500)
}
