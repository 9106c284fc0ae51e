//! The identity of a pod: its labels without those that its controller sets on each pod, or on each
//! generation of pods.

use super::Labels;

/// Labels that controllers set on their pods.
///
/// Deployment and Argo Rollouts set template hashes; StatefulSet and DaemonSet the revision, name
/// and index; Job the uid, name and index (`pkg/controller` and
/// `staging/src/k8s.io/api/{apps,batch}/v1` of Kubernetes).
const CONTROLLER_LABELS: [&str; 8] = [
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
];

/// The prefix of further labels that Jobs set.
const JOB_LABEL_PREFIX: &str = "batch.kubernetes.io/";

/// The labels that a pod shares with the other pods of its workload.
pub fn identity_labels(labels: &Labels) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| !is_controller_label(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn is_controller_label(key: &str) -> bool {
    CONTROLLER_LABELS.contains(&key) || key.starts_with(JOB_LABEL_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_controllers_set_are_not_part_of_the_identity() {
        let labels: Labels = CONTROLLER_LABELS
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
