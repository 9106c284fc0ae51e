//! Names and annotations of the objects that a run creates.

use crate::inventory::Labels;
use crate::plan::ProbeId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The annotation that carries the run's id. It is not a label, since policies select by labels.
pub(super) const RUN: &str = "watertight.dev/run";

/// The annotation that names the source whose identity a probe pod has.
pub(super) const SOURCE: &str = "watertight.dev/source";

/// The readiness gate of every probe pod. No component sets this condition, so the pod is never
/// ready.
pub(super) const NEVER_READY: &str = "watertight.dev/never-ready";

/// The container of a probe pod.
pub(super) const CONTAINER: &str = "probe";

/// Allows the cluster autoscaler to remove a node on which a probe pod runs (cluster-autoscaler
/// FAQ, "What types of pods can prevent CA from removing a node?").
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// The run that an object's annotation names. Anybody may write that annotation: whether the run
/// has made the object is decided by [`is_owned_by`] and by its name.
pub(super) fn run_id(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations.as_ref()?.get(RUN).map(String::as_str)
}

/// Whether a text has the form of a run's id: 16 hexadecimal digits, and one letter where the
/// objects are not those of the run itself (`n` resolves names, `c` are canaries).
pub(super) fn is_run_id(run: &str) -> bool {
    let digits = run.strip_suffix(['n', 'c']).unwrap_or(run);
    digits.len() == 16 && is_hexadecimal(digits)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether an object has an owner reference to the Job of a run, whose uid `is_job` knows.
pub(super) fn is_owned_by(meta: &ObjectMeta, run: &str, is_job: impl Fn(&str) -> bool) -> bool {
    let job = run_object(run);
    meta.owner_references.iter().flatten().any(|owner| {
        owner.api_version == "batch/v1"
            && owner.kind == "Job"
            && owner.name == job
            && is_job(&owner.uid)
    })
}

/// The annotations of an object of a run.
pub(super) fn annotations(run: &str, source: &str) -> BTreeMap<String, String> {
    let pairs = [(RUN, run), (SOURCE, source), (SAFE_TO_EVICT, "true")];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The name of an object of which a run has only one in its scope: the owner Job of a namespace,
/// the ephemeral container of a pod.
pub(super) fn run_object(run: &str) -> String {
    format!("watertight-{run}")
}

/// The name of a probe's Secret.
pub(super) fn probe_secret(run: &str, probe: ProbeId) -> String {
    format!("watertight-{run}-p{}", probe.0)
}

/// The name of a probe pod.
///
/// The part before the last dash is the same for all probe pods with the same labels and differs
/// for other labels: some network plugins share one set of rules among the pods of a node whose
/// names have that part in common. The part after it is not a number, since a StatefulSet adopts
/// pods named `NAME-NUMBER` (`getParentNameAndOrdinal` in pkg/controller/statefulset).
pub(super) fn probe_pod(labels: &Labels, run: &str, probe: ProbeId) -> String {
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

/// Whether a name is that of a probe pod of a run.
pub(super) fn is_probe_pod(name: &str, run: &str) -> bool {
    let parts = name
        .strip_prefix("watertight-")
        .and_then(|rest| rest.strip_suffix(run))
        .and_then(|rest| rest.strip_suffix('x'))
        .and_then(|rest| rest.split_once("-p"));
    parts.is_some_and(|(digest, probe)| {
        digest.len() == 10
            && is_hexadecimal(digest)
            && !probe.is_empty()
            && probe.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The name of a policy of canaries; `verb` is `allow` or `deny`.
pub(super) fn canary_policy(verb: &str, run: &str) -> String {
    format!("watertight-canary-{verb}-{run}")
}

/// Whether a name is that of a policy of a run's canaries.
pub(super) fn is_canary_policy(name: &str, run: &str) -> bool {
    ["allow", "deny"]
        .iter()
        .any(|verb| name == canary_policy(verb, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_a_prefix_only_among_pods_with_the_same_labels() {
        let labels = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        let prefix = |name: &str| name.rsplit_once('-').unwrap().0.to_owned();
        let name = probe_pod(&labels("web"), "0123456789abcdef", ProbeId(3));
        assert_eq!(
            prefix(&name),
            prefix(&probe_pod(&labels("web"), "fedcba9876543210", ProbeId(4)))
        );
        assert_ne!(
            prefix(&name),
            prefix(&probe_pod(&labels("api"), "0123456789abcdef", ProbeId(3)))
        );
        assert!(
            name.len() <= 63 && name.rsplit_once('-').unwrap().1.parse::<u64>().is_err(),
            "{name}"
        );
    }
    #[test]
    fn names_of_other_objects_do_not_have_the_form_of_a_probe_pods() {
        let run = "0123456789abcdef";
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        assert!(is_probe_pod(&probe_pod(&labels, run, ProbeId(12)), run));
        for name in [
            "web-5d4f-x",
            "watertight-0123456789abcdef",
            "watertight-web-p0x0123456789abcdef",
            "watertight-0123456789-px0123456789abcdef",
            "watertight-0123456789-p1x0123456789abcdee",
            "watertight-0123456789-p1x0123456789abcdef-x",
        ] {
            assert!(!is_probe_pod(name, run), "{name}");
        }
        assert!(is_run_id(run) && is_run_id("0123456789abcdefc"));
        assert!(!is_run_id("nightly") && !is_run_id("0123456789ABCDEF") && !is_run_id(""));
    }
}
