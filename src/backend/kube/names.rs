//! Names and marks of everything that a run creates.

use crate::inventory::Labels;
use crate::plan::ProbeId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The annotation that carries the run's id. Never a label: labels are identity.
pub(super) const RUN: &str = "watertight.dev/run";

/// The annotation that says whose identity a probe has.
pub(super) const SOURCE: &str = "watertight.dev/source";

/// The condition that keeps a probe from ever being ready: nobody sets it.
pub(super) const NEVER: &str = "watertight.dev/never-ready";

/// The container of a probe.
pub(super) const CONTAINER: &str = "probe";

/// Lets the cluster's autoscaler take a node away in spite of a probe
/// (cluster-autoscaler's FAQ, "What types of pods can prevent CA from removing a node?").
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// The run that an object belongs to; `None` for objects that are not ours.
pub(super) fn run_of(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations.as_ref()?.get(RUN).map(String::as_str)
}

/// The annotations of a probe.
pub(super) fn annotations(run: &str, source: &str) -> BTreeMap<String, String> {
    let pairs = [(RUN, run), (SOURCE, source), (SAFE_TO_EVICT, "true")];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The name of what there is one of in a run: the owner of everything in a namespace, the container
/// within a pod of the user's.
pub(super) fn of_run(run: &str) -> String {
    format!("watertight-{run}")
}

/// The name of a probe.
///
/// Up to its last dash it is the same for all probes of one set of labels and differs for others:
/// some plugins keep one policy for all pods of a node whose names agree up to there. What follows
/// is no number, since a StatefulSet takes `NAME-NUMBER` for its own (`getParentNameAndOrdinal` in
/// pkg/controller/statefulset).
pub(super) fn probe(labels: &Labels, run: &str, probe: ProbeId) -> String {
    let mut digest = Sha256::new();
    for (key, value) in labels {
        digest.update(format!("{key}={value}\n"));
    }
    let digest: String = digest
        .finalize()
        .iter()
        .take(5)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("watertight-{digest}-p{}x{run}", probe.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_of_labels_has_one_prefix_and_another_has_another() {
        let labels = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        let prefix = |name: &str| name.rsplit_once('-').unwrap().0.to_owned();
        let name = probe(&labels("web"), "0123456789abcdef", ProbeId(3));
        assert_eq!(
            prefix(&name),
            prefix(&probe(&labels("web"), "fedcba9876543210", ProbeId(4)))
        );
        assert_ne!(
            prefix(&name),
            prefix(&probe(&labels("api"), "0123456789abcdef", ProbeId(3)))
        );
        assert!(
            name.len() <= 63 && name.rsplit_once('-').unwrap().1.parse::<u64>().is_err(),
            "{name}"
        );
    }
}
