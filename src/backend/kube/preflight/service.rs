//! Services that would select a clone.
//!
//! Every pod with an address whose labels a Service selects is in the Service's `EndpointSlices`
//! (`ShouldPodBeInEndpoints` in `staging/src/k8s.io/endpointslice/util`). A clone is never Ready,
//! so it is listed with `ready: false` and gets no traffic, except from a Service that publishes
//! addresses that are not ready.

use super::budget::can_become_ready;
use super::risk::{Code, NO_CLONE, Risk};
use super::selector::equal;
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Pod, Service};

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let selecting = cluster
        .services
        .iter()
        .filter(|service| selects(service, candidate.pod));
    risks.extend(selecting.map(|service| risk(candidate.pod, service)));
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    service.metadata.namespace.as_deref() == Some(namespace_of(pod))
        && service.spec.as_ref().is_some_and(|spec| {
            spec.type_.as_deref() != Some("ExternalName") && equal(spec.selector.as_ref(), &labels)
        })
}

fn risk(pod: &Pod, service: &Service) -> Risk {
    let object = object_name(
        Some(namespace_of(pod)),
        "Service",
        service.metadata.name.as_deref(),
    );
    let publishes_not_ready = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.publish_not_ready_addresses == Some(true));

    if publishes_not_ready {
        Risk::refusal(
            pod,
            Code::ServiceTraffic,
            object,
            "it publishes pods that are not ready (publishNotReadyAddresses), so it would send traffic to the clone",
            NO_CLONE,
        )
    } else if can_become_ready(pod) {
        Risk::refusal(
            pod,
            Code::ServiceTraffic,
            object,
            "the clone would become Ready, so it would send traffic to it",
            NO_CLONE,
        )
    } else {
        Risk::warning(
            pod,
            Code::ServiceNotReadyEndpoint,
            object,
            "its EndpointSlices would list the clone as not ready; the clone gets no traffic",
            "nothing to do: it ends with the run",
        )
    }
}
