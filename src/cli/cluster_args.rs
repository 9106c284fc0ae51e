//! The flags that say which cluster, as whom, and with which probes.

use crate::app::options::ClusterOptions;
use crate::backend::kube::{Access, Image, PROBE_IMAGE};
use crate::model::parse_duration;
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Which cluster, as whom, and with which probes: the first are kubectl's flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster, where no lab is given")]
pub(super) struct ClusterArgs {
    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The cluster of the kubeconfig
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The user of the kubeconfig
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where probe pods run that are no workload's clone; of suite, the namespaces that the draft is
    /// about, separated by commas
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Act as this user
    #[arg(long = "as", value_name = "USER")]
    act_as: Option<String>,
    /// Act as of this group (repeatable)
    #[arg(long = "as-group", value_name = "GROUP")]
    act_as_groups: Vec<String>,
    /// Act as this uid
    #[arg(long = "as-uid", value_name = "UID")]
    act_as_uid: Option<String>,
    /// How long one request to the API server may take; 0 for watertight's own limits
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    request_timeout: Option<Duration>,
    /// The image of the probe
    #[arg(long, value_name = "IMAGE", env = "WATERTIGHT_PROBE_IMAGE", default_value = PROBE_IMAGE)]
    probe_image: String,
    /// When nodes pull the image
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        env = "WATERTIGHT_IMAGE_PULL_POLICY",
        default_value_t
    )]
    image_pull_policy: PullPolicy,
    /// Let autoscalers count the probe pods that have their pods' labels
    #[arg(long, env = "WATERTIGHT_ALLOW_HPA")]
    allow_hpa: bool,
    /// First try, with canaries in this namespace, which must hold no other pods, whether each node
    /// enforces policies on probe pods, and how fast
    #[arg(long, value_name = "NAMESPACE", env = "WATERTIGHT_CANARY")]
    canary: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PullPolicy {
    /// Each time.
    Always,
    /// Where the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ClusterArgs {
    pub(super) fn options(&self) -> ClusterOptions {
        ClusterOptions {
            access: self.access(),
            image: self.image(),
            allow_autoscalers: self.allow_hpa,
            canary: self.canary.clone(),
        }
    }

    /// The namespaces that a command is about; none for all.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let names = self.namespace.iter().flat_map(|names| names.split(','));
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    pub(super) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            namespace: self.namespace.clone(),
            act_as: self.act_as.clone(),
            act_as_groups: self.act_as_groups.clone(),
            act_as_uid: self.act_as_uid.clone(),
            request_timeout: self.request_timeout,
        }
    }

    fn image(&self) -> Image {
        let pull_policy = match self.image_pull_policy {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        };
        Image {
            name: self.probe_image.clone(),
            pull_policy: pull_policy.to_owned(),
        }
    }
}

/// Parses a duration, or 0 without a unit, as kubectl takes it.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text == "0" {
        Ok(Duration::ZERO)
    } else {
        parse_duration(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_zero_needs_no_unit() {
        assert_eq!(parse_timeout("0"), Ok(Duration::ZERO));
        assert_eq!(parse_timeout("5s"), Ok(Duration::from_secs(5)));
        assert!(parse_timeout("five").is_err());
    }
}
