//! Client configuration from kubectl's flags.

use super::error::Error;
use super::tls;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How long a TCP connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The cluster to use and the user to act as: kubectl's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig; by default what `KUBECONFIG` names, `~/.kube/config`, or the service account
    /// of this pod.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    /// The namespace of node probes and reference pods; by default the context's.
    pub namespace: Option<String>,
    pub act_as: Option<String>,
    pub act_as_groups: Vec<String>,
    pub act_as_uid: Option<String>,
    /// How long one request may take; zero and `None` are the default.
    pub request_timeout: Option<Duration>,
}

/// A client, and the cluster that it is connected to.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// The API server's URL.
    pub(super) server: String,
    /// The namespace of node probes and reference pods.
    pub(super) namespace: String,
}

/// Makes a client. It sends nothing yet.
///
/// # Errors
/// [`Error::NoConfiguration`] or [`Error::Configuration`].
pub(super) async fn connect(access: &Access) -> Result<Connection, Error> {
    let mut config = configuration(access).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    if let Some(user) = &access.act_as {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !access.act_as_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(access.act_as_groups.clone());
    }
    if let Some(uid) = &access.act_as_uid {
        config.auth_info.impersonate_uid = Some(uid.clone());
    }

    let namespace = access
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string();
    Ok(Connection {
        client: tls::client(config)?,
        server,
        namespace,
    })
}

async fn configuration(access: &Access) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        cluster: access.cluster.clone(),
        user: access.user.clone(),
    };
    let has_options = access.context.is_some() || access.cluster.is_some() || access.user.is_some();

    match &access.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .map_err(|error| Error::Configuration(Box::new(error)))?;
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|error| Error::Configuration(Box::new(error)))
        }
        None if has_options => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Error::Configuration(Box::new(error))),
        None => Config::infer()
            .await
            .map_err(|error| Error::NoConfiguration(Box::new(error))),
    }
}
