//! A risk has a name, a reason and a way out.

use std::fmt;

/// How much a risk weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pod must not be created.
    Refuse,
    /// It may be; the user is told.
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

/// Something that a probe pod would do, or that would be done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    /// Its stable name.
    pub code: Code,
    /// Whether it stops the run.
    pub severity: Severity,
    /// The pod that would be created: `shop/wt-4d1f-0`; `None` for what concerns the run as a
    /// whole.
    pub pod: Option<String>,
    /// The object that the risk is about: `shop/PodDisruptionBudget/web`.
    pub object: String,
    /// What would happen, in a sentence.
    pub reason: String,
    /// What can be done.
    pub remedy: String,
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

/// Stable names: scripts and people's notes refer to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A controller would take the pod as one of its own.
    Adoption,
    /// The original belongs to a controller whose rules are not known.
    UnknownController,
    /// A PodDisruptionBudget would allow more, or fewer, disruptions.
    BudgetChanged,
    /// A PodDisruptionBudget would show the pod in its status or events; what it allows stays.
    DisruptionBudget,
    /// A `HorizontalPodAutoscaler` would count the pod.
    Autoscaler,
    /// An autoscaler's target cannot be looked into.
    AutoscalerUnknown,
    /// A Service would send the pod traffic.
    ServiceTraffic,
    /// A Service would list the pod as not ready.
    ServiceListed,
    /// A `ResourceQuota` leaves no room.
    Quota,
    /// A `ResourceQuota` demands what the pod does not state.
    QuotaDemands,
    /// A LimitRange refuses the pod's requests.
    LimitRange,
    /// A LimitRange would set a CPU limit: a throttled probe misses its times.
    LimitRangeCpu,
    /// The namespace's Pod Security level refuses the pod.
    PodSecurity,
    /// A policy speaks of a label that the clone does not carry.
    PolicyLabel,
    /// Windows.
    Windows,
    /// The node takes no pods now.
    NodeNotReady,
    /// The image is not on the node and cannot be pulled.
    ImageAbsent,
    /// The image is not on the node and has to be pulled.
    ImagePull,
    /// Admission would change labels.
    AdmissionLabels,
    /// Admission would add a container.
    AdmissionContainer,
    /// Admission would give the pod credentials.
    AdmissionCredential,
    /// Admission would run something else, or as somebody else.
    AdmissionProgram,
    /// Admission would make the pod ready, owned, or scheduled otherwise.
    AdmissionShape,
    /// Admission refuses the pod.
    AdmissionDenied,
    /// A webhook does not take part in dry runs.
    DryRunUnsupported,
    /// The API server cannot tell.
    DryRunFailed,
    /// A right is missing.
    Permission,
    /// A pod of a kubelet's own file, to which nothing can be added.
    StaticPod,
    /// Something of the run stays in the cluster.
    EphemeralContainerRemains,
}

impl Code {
    /// All.
    pub const ALL: [Self; 29] = [
        Self::Adoption,
        Self::UnknownController,
        Self::BudgetChanged,
        Self::DisruptionBudget,
        Self::Autoscaler,
        Self::AutoscalerUnknown,
        Self::ServiceTraffic,
        Self::ServiceListed,
        Self::Quota,
        Self::QuotaDemands,
        Self::LimitRange,
        Self::LimitRangeCpu,
        Self::PodSecurity,
        Self::PolicyLabel,
        Self::Windows,
        Self::NodeNotReady,
        Self::ImageAbsent,
        Self::ImagePull,
        Self::AdmissionLabels,
        Self::AdmissionContainer,
        Self::AdmissionCredential,
        Self::AdmissionProgram,
        Self::AdmissionShape,
        Self::AdmissionDenied,
        Self::DryRunUnsupported,
        Self::DryRunFailed,
        Self::Permission,
        Self::StaticPod,
        Self::EphemeralContainerRemains,
    ];

    /// Whether it speaks against the run as a whole: what is missing or used up is so for all
    /// probes of a namespace. Others speak against one source, and the run does without that.
    pub fn is_of_the_run(self) -> bool {
        matches!(
            self,
            Self::Quota | Self::QuotaDemands | Self::Permission | Self::DryRunFailed
        )
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adoption => "adoption",
            Self::UnknownController => "unknown-controller",
            Self::BudgetChanged => "budget-changed",
            Self::DisruptionBudget => "disruption-budget",
            Self::Autoscaler => "autoscaler",
            Self::AutoscalerUnknown => "autoscaler-unknown",
            Self::ServiceTraffic => "service-traffic",
            Self::ServiceListed => "service-listed",
            Self::Quota => "quota",
            Self::QuotaDemands => "quota-demands",
            Self::LimitRange => "limit-range",
            Self::LimitRangeCpu => "limit-range-cpu",
            Self::PodSecurity => "pod-security",
            Self::PolicyLabel => "policy-label",
            Self::Windows => "windows",
            Self::NodeNotReady => "node-not-ready",
            Self::ImageAbsent => "image-absent",
            Self::ImagePull => "image-pull",
            Self::AdmissionLabels => "admission-labels",
            Self::AdmissionContainer => "admission-container",
            Self::AdmissionCredential => "admission-credential",
            Self::AdmissionProgram => "admission-program",
            Self::AdmissionShape => "admission-shape",
            Self::AdmissionDenied => "admission-denied",
            Self::DryRunUnsupported => "dry-run-unsupported",
            Self::DryRunFailed => "dry-run-failed",
            Self::Permission => "permission",
            Self::StaticPod => "static-pod",
            Self::EphemeralContainerRemains => "ephemeral-container-remains",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where risks are put together, so that each file says only what is its own.
pub(super) struct Finding<'a> {
    pub(super) pod: &'a k8s_openapi::api::core::v1::Pod,
    pub(super) code: Code,
    pub(super) severity: Severity,
    pub(super) object: String,
}

impl Finding<'_> {
    pub(super) fn because(self, reason: impl Into<String>, remedy: impl Into<String>) -> Risk {
        Risk {
            code: self.code,
            severity: self.severity,
            pod: Some(full_name(self.pod)),
            object: self.object,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// `namespace/name` of a pod, with a name that the API server would complete as it is sent.
pub(in super::super) fn full_name(pod: &k8s_openapi::api::core::v1::Pod) -> String {
    let name = pod
        .metadata
        .name
        .as_deref()
        .or(pod.metadata.generate_name.as_deref())
        .unwrap_or("?");
    format!("{}/{name}", super::namespace_of(pod))
}

/// The way out where the identity cannot be taken by a second pod.
pub(super) const NO_CLONE: &str = "send from within the pod (source: ephemeral), or leave this source out: no second pod can have its identity without harm";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(names.iter().all(|name| {
            name.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '-')
        }));
    }
}
