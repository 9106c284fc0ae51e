//! From kubectl's flags to a client.

use super::error::Error;
use super::tls;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection to the API server may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which cluster, and as whom: kubectl's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig; by default what `KUBECONFIG` names, `~/.kube/config`, or the service account
    /// of this pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context of it.
    pub context: Option<String>,
    /// The cluster of it.
    pub cluster: Option<String>,
    /// The user of it.
    pub user: Option<String>,
    /// The namespace of what belongs to the run and to no workload; by default the context's.
    pub namespace: Option<String>,
    /// The user to act as.
    pub act_as: Option<String>,
    /// The groups to act as.
    pub act_as_groups: Vec<String>,
    /// The uid to act as.
    pub act_as_uid: Option<String>,
    /// How long one request may take.
    pub request_timeout: Option<Duration>,
}

/// A client, and what it is connected to.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// The API server's address.
    pub(super) server: String,
    /// The namespace of what belongs to the run and to no workload.
    pub(super) namespace: String,
}

/// Makes a client. Nothing is sent yet.
///
/// # Errors
/// When there is no configuration, or a faulty one.
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
    let chosen = access.context.is_some() || access.cluster.is_some() || access.user.is_some();
    match &access.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .map_err(|error| Error::Configuration(Box::new(error)))?;
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|error| Error::Configuration(Box::new(error)))
        }
        None if chosen => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Error::Configuration(Box::new(error))),
        None => Config::infer()
            .await
            .map_err(|error| Error::NoConfiguration(Box::new(error))),
    }
}
