//! Risks: what a probe pod would do to the cluster, or the cluster to it.

use super::namespace_of;
use k8s_openapi::api::core::v1::Pod;
use std::fmt;

/// Whether a risk prevents a pod from being created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pod must not be created.
    Refuse,
    /// The pod may be created.
    Warn,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refused",
            Self::Warn => "warning",
        })
    }
}

/// What a probe pod would do to the cluster, or the cluster to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    pub code: Code,
    pub severity: Severity,
    /// The pod that would be created, `shop/watertight-4d1f-p0x...`; `None` for a risk of the whole
    /// run.
    pub pod: Option<String>,
    /// The object that causes the risk: `shop/PodDisruptionBudget/web`.
    pub object: String,
    /// What would happen, in a sentence.
    pub reason: String,
    /// What the user can do about it.
    pub remedy: String,
}

impl Risk {
    /// A risk of one pod.
    pub(super) fn new(
        severity: Severity,
        pod: &Pod,
        code: Code,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity,
            pod: Some(full_name(pod)),
            object: object.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// A risk for which one pod must not be created.
    pub(super) fn refusal(
        pod: &Pod,
        code: Code,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Refuse, pod, code, object, reason, remedy)
    }

    /// A risk with which one pod may be created.
    pub(super) fn warning(
        pod: &Pod,
        code: Code,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warn, pod, code, object, reason, remedy)
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}", self.object, self.code, self.reason)?;
        if let Some(pod) = &self.pod {
            write!(f, " (pod {pod})")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

/// Defines [`Code`] from a table of variant, name, meaning and remedy.
macro_rules! codes {
    ($($variant:ident => { $name:literal, $meaning:literal, $remedy:literal })+) => {
        /// The kind of a risk, with a stable name that scripts and notes may refer to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("Shown as `", $name, "`.")] $variant,)+
        }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The stable name, as shown in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// A sentence that says what the code means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }

            /// A sentence that says what the user can do about it.
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)+
                }
            }
        }
    };
}

codes! {
    Adoption => {
        "adoption",
        "the selector of a controller (ReplicaSet, StatefulSet, DaemonSet, Job, ReplicationController) matches the clone, so the controller would adopt it and may delete one of its pods",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    UnknownController => {
        "unknown-controller",
        "the original pod belongs to a controller that is not part of Kubernetes, so it is not known which pods that controller adopts",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    DisruptionBudgetChanged => {
        "disruption-budget-changed",
        "a PodDisruptionBudget would count the clone and allow more or fewer disruptions",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    DisruptionBudget => {
        "disruption-budget",
        "a PodDisruptionBudget would show the clone in its status or events, and allow as many disruptions as before",
        "nothing to do: it ends with the run"
    }
    Autoscaler => {
        "autoscaler",
        "a HorizontalPodAutoscaler would count the clone among the pods that it scales",
        "accept it with --allow-hpa, or leave this source out"
    }
    AutoscalerTargetUnknown => {
        "autoscaler-target-unknown",
        "a HorizontalPodAutoscaler scales an object whose pods cannot be determined, so it may count the clone",
        "accept it with --allow-hpa, or leave this source out"
    }
    ServiceTraffic => {
        "service-traffic",
        "a Service would send traffic to the clone",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    ServiceNotReadyEndpoint => {
        "service-not-ready-endpoint",
        "a Service's EndpointSlices would list the clone as not ready, so it gets no traffic",
        "nothing to do: it ends with the run"
    }
    QuotaExceeded => {
        "quota-exceeded",
        "a ResourceQuota has no room for the probe pods",
        "raise the quota for the run, select fewer checks (--only, --tag), or use `spread: one`"
    }
    QuotaRequiresLimit => {
        "quota-requires-limit",
        "a ResourceQuota counts a limit that probe pods do not state, and refuses such pods",
        "give the namespace a LimitRange with a default for it, or leave this source out"
    }
    LimitRange => {
        "limit-range",
        "a LimitRange does not admit the probe pod's requests or limits",
        "change the LimitRange to admit the probe pod, or leave this source out"
    }
    LimitRangeCpu => {
        "limit-range-cpu",
        "a LimitRange would give the probe a CPU limit, and a throttled probe misses its deadlines",
        "look for checks that are unproven as probe-cpu-starved, and if there are any, remove the default CPU limit for the run"
    }
    PodSecurity => {
        "pod-security",
        "the namespace's Pod Security level does not admit the probe pod",
        "leave this source out, or run watertight in a namespace with another level"
    }
    PolicyLabelMissing => {
        "policy-label-missing",
        "a policy selects by a label that a controller sets and that the clone lacks, so the policy would treat the clone differently from the original pod",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    WindowsNode => {
        "windows-node",
        "the source runs on a Windows node, where probes cannot run",
        "leave this source out: it is not tested"
    }
    NodeNotReady => {
        "node-not-ready",
        "the node is not ready, so the probe may not start",
        "wait for the node, or spread the source over other nodes"
    }
    ImageAbsent => {
        "image-absent",
        "the node does not list the probe image and cannot pull it",
        "load the image onto the node (watertight image), or name one that can be pulled (--probe-image)"
    }
    ImagePull => {
        "image-pull",
        "the node does not list the probe image, so it has to pull it first",
        "load the image onto the nodes before the run"
    }
    AdmissionChangesLabels => {
        "admission-changes-labels",
        "admission would change the labels of the clone, which policies select by",
        "send from inside the pod (source: ephemeral), or leave this source out"
    }
    AdmissionAddsContainer => {
        "admission-adds-container",
        "admission would add a container to the clone, such as the sidecar of a service mesh",
        "nothing to do where the original pod has that container too; else send from inside the pod (source: ephemeral)"
    }
    AdmissionAddsCredentials => {
        "admission-adds-credentials",
        "admission would give the clone credentials: a secret, a token or a password",
        "nothing to do where the original pod has those credentials too; else send from inside the pod (source: ephemeral)"
    }
    AdmissionChangesContainer => {
        "admission-changes-container",
        "admission would change the image, command, environment or user of the probe container",
        "exempt the probe image from that change, or leave this source out"
    }
    AdmissionChangesPod => {
        "admission-changes-pod",
        "admission would change the readiness gate, network, service account, active deadline or owners of the probe pod",
        "exempt probe pods from that change, or leave this source out"
    }
    AdmissionDenied => {
        "admission-denied",
        "admission refuses the probe pod",
        "exempt the namespace or the probe image from the policy that refuses it, or leave this source out"
    }
    DryRunUnsupported => {
        "dry-run-unsupported",
        "an admission webhook does not support dry runs, so its changes are not known in advance",
        "nothing to do: the pod is compared once it is created"
    }
    DryRunFailed => {
        "dry-run-failed",
        "the API server could not answer the dry run",
        "run again"
    }
    PermissionMissing => {
        "permission-missing",
        "watertight lacks a permission that the run needs",
        "apply the Role that is printed with it"
    }
    StaticPod => {
        "static-pod",
        "the original pod is a static pod, to which no container can be added",
        "leave this source out, or send from its node (source: node)"
    }
    EphemeralContainerRemains => {
        "ephemeral-container-remains",
        "the run adds an ephemeral container, which stays in the pod until the pod is deleted and uses its memory",
        "restart the workload after the run, or send from clones (source: clone)"
    }
}

impl Code {
    /// Whether a refusal with this code stops the whole run, since it concerns all probes of a
    /// namespace. With any other code the run goes on without the refused source.
    pub fn stops_the_run(self) -> bool {
        matches!(
            self,
            Self::QuotaExceeded
                | Self::QuotaRequiresLimit
                | Self::PermissionMissing
                | Self::DryRunFailed
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `NAMESPACE/NAME` of a pod, or `NAMESPACE/PREFIX` where the API server completes the name.
pub(in super::super) fn full_name(pod: &Pod) -> String {
    let name = pod
        .metadata
        .name
        .as_deref()
        .or(pod.metadata.generate_name.as_deref())
        .unwrap_or("?");
    format!("{}/{name}", namespace_of(pod))
}

/// The remedy where no second pod with that identity can be created without harm.
pub(super) const NO_CLONE: &str = "send from inside the pod (source: ephemeral), or leave this source out: a second pod with its identity would do harm";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_codes_are_unique_and_in_kebab_case() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(names.iter().all(|name| {
            name.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '-')
        }));
    }

    #[test]
    fn every_code_has_a_meaning_and_a_remedy_in_one_sentence() {
        for code in Code::ALL {
            for text in [code.meaning(), code.remedy()] {
                assert!(
                    !text.is_empty() && !text.contains(". ") && !text.ends_with('.'),
                    "{code}: {text}"
                );
            }
        }
    }
}
