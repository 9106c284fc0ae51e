//! What can go wrong with a cluster.

use std::time::Duration;

/// Why an operation on the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no usable configuration.
    #[error(
        "find a cluster: no kubeconfig names one and this is no pod; give --kubeconfig, or set KUBECONFIG"
    )]
    NoConfiguration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The configuration cannot be used.
    #[error("read the cluster's configuration")]
    Configuration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server refused or could not be asked.
    #[error("{doing}")]
    Api {
        /// What was being done, as a fragment.
        doing: String,
        /// The answer.
        #[source]
        source: kube::Error,
    },
    /// A watch could not be started.
    #[error("{doing}")]
    Watch {
        /// What was being done, as a fragment.
        doing: String,
        /// The answer.
        #[source]
        source: kube::runtime::watcher::Error,
    },
    /// The API server did not answer in time.
    #[error("{doing}: the API server gave no answer within {} s", .after.as_secs())]
    Silent {
        /// What was being done, as a fragment.
        doing: String,
        /// For how long it was waited.
        after: Duration,
    },
    /// A right is missing.
    #[error("{doing}: not allowed to {verb} {what}; {help}")]
    Forbidden {
        /// What was being done, as a fragment.
        doing: String,
        /// `list`, ...
        verb: &'static str,
        /// `pods in namespace shop`.
        what: String,
        /// The next step.
        help: String,
    },
    /// Objects that this version does not understand.
    #[error("read the cluster's objects: {}", .0.join("; "))]
    Unreadable(Vec<String>),
    /// Something that nothing can remove.
    #[error(
        "remove ephemeral container {container} from pod {pod}: nothing can, before the pod itself is deleted; it has ended, or ends by itself"
    )]
    EphemeralContainerRemains {
        /// The container.
        container: String,
        /// `namespace/name`.
        pod: String,
    },
    /// Something of the run could not be removed.
    #[error(
        "remove {what}: {why}; the cluster removes it by itself{by}, `watertight clean --all-runs` sooner"
    )]
    Left {
        /// What.
        what: String,
        /// What the API server said, or what came in place of an answer.
        why: String,
        /// When the cluster removes it, as ` at 12:00:00 UTC`; empty where nothing was to be
        /// removed later.
        by: String,
    },
    /// Something of the run is deleted and still there.
    #[error(
        "see the end of {what}: deleted, but its node has not ended it yet, and does so once it answers again"
    )]
    Lingering {
        /// What.
        what: String,
    },
    /// Not one probe could be started.
    #[error("start any probe: {0}")]
    NoProbe(String),
}

impl Error {
    /// An answer of the API server to something that was being done.
    pub(super) fn api(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Api {
            doing: doing.into(),
            source,
        }
    }

    /// A watch that did not begin.
    pub(super) fn watch(doing: impl Into<String>, source: kube::runtime::watcher::Error) -> Self {
        Self::Watch {
            doing: doing.into(),
            source,
        }
    }
}

/// The API server's own words, or what kept us from asking it, in one line.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        // By the name of each layer that it passed through: only the innermost says something.
        kube::Error::Service(error) => unreachable(&**error),
        kube::Error::HyperError(error) => unreachable(error),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text.push_str(&format!(": {more}"));
                }
                cause = error.source();
            }
            text
        }
    }
}

/// The last cause of an error of the connection.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("the API server cannot be reached: {cause}")
}

/// The HTTP status with which the API server refused, where it did.
pub(super) fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API server said that this is not allowed.
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    status(error) == Some(403)
}

/// Whether the API server said that there is no such thing.
pub(super) fn is_absent(error: &kube::Error) -> bool {
    status(error) == Some(404)
}

/// Whether the API server said that something else is there by now.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    status(error) == Some(409)
}

/// Whether the API server could not answer just now: too many requests, or an error of its own.
pub(super) fn is_busy(error: &kube::Error) -> bool {
    status(error).is_some_and(|code| code == 429 || code >= 500)
}
