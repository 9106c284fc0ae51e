//! Services that would list a clone.
//!
//! Every pod with an address whose labels a Service selects is in its `EndpointSlices`
//! (`ShouldPodBeInEndpoints` in `staging/src/k8s.io/endpointslice/util`). A clone is never Ready,
//! so it is listed with `ready: false` and gets no traffic, except from a Service that publishes
//! addresses before they are ready.

use super::budget::can_become_ready;
use super::risk::{Code, Finding, NO_CLONE, Severity};
use super::selector::equal;
use super::{Candidate, Neighbours, Risk, namespace_of, object_name};

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for service in &around.services {
        let Some(spec) = &service.spec else { continue };
        let listed = service.metadata.namespace.as_deref() == Some(namespace_of(pod))
            && spec.type_.as_deref() != Some("ExternalName")
            && equal(spec.selector.as_ref(), &labels);
        if !listed {
            continue;
        }
        let object = object_name(
            Some(namespace_of(pod)),
            "Service",
            service.metadata.name.as_deref(),
        );
        let (code, severity, reason, remedy) = if spec.publish_not_ready_addresses == Some(true) {
            (
                Code::ServiceTraffic,
                Severity::Refuse,
                "it publishes pods that are not ready (publishNotReadyAddresses), so the clone would get its traffic",
                NO_CLONE,
            )
        } else if can_become_ready(pod) {
            (
                Code::ServiceTraffic,
                Severity::Refuse,
                "the clone would become Ready and get its traffic",
                NO_CLONE,
            )
        } else {
            (
                Code::ServiceListed,
                Severity::Warn,
                "its EndpointSlices would list the clone as not ready; it gets no traffic",
                "nothing to do, it ends with the run",
            )
        };
        found.push(
            Finding {
                pod,
                code,
                severity,
                object,
            }
            .because(reason, remedy),
        );
    }
}
