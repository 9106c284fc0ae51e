//! A pod's identity: its labels less those that its controller gives each pod, or each generation
//! of pods.

use super::Labels;

/// Labels that controllers set on their pods; none of them says what the pod is.
///
/// Deployment and Argo Rollouts (template hashes), StatefulSet and DaemonSet (revision, name,
/// index), Job (uid, name, index): `pkg/controller` and `staging/src/k8s.io/api/{apps,batch}/v1` of
/// Kubernetes.
const OF_CONTROLLERS: [&str; 8] = [
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
];

/// All labels of Jobs' own.
const OF_JOBS: &str = "batch.kubernetes.io/";

/// The labels by which a pod is the same as its siblings.
pub fn identity_labels(labels: &Labels) -> Labels {
    let is_own = |key: &str| !OF_CONTROLLERS.contains(&key) && !key.starts_with(OF_JOBS);
    labels
        .iter()
        .filter(|(key, _)| is_own(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controllers_add_is_no_part_of_the_identity() {
        let labels: Labels = OF_CONTROLLERS
            .into_iter()
            .chain([
                "batch.kubernetes.io/job-completion-index",
                "app",
                "app.kubernetes.io/name",
            ])
            .map(|key| (key.to_owned(), "x".to_owned()))
            .collect();
        let kept: Vec<String> = identity_labels(&labels).into_keys().collect();
        assert_eq!(kept, ["app", "app.kubernetes.io/name"]);
    }
}
