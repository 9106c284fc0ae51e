//! Pod Security levels and policies.

use super::REFUSE;
use crate::backend::kube::preflight::fixtures::{
    Scenario, changed, clone, object, original, policy,
};
use crate::backend::kube::preflight::{Allowances, Code, PolicyObject, risks};
use serde_json::{Value, json};

/// A clone without a field of the security context, both in the pod and in its container.
fn without_in_pod_and_container(field: &str) -> Value {
    let pod = changed(
        clone(),
        &format!("/spec/securityContext/{field}"),
        Value::Null,
    );
    let pointer = format!("/spec/containers/0/securityContext/{field}");
    changed(pod, &pointer, Value::Null)
}

#[test]
fn pod_security_levels_refuse_what_they_forbid() {
    let context = "/spec/containers/0/securityContext";
    let host = changed(clone(), "/spec/hostNetwork", json!(true));
    for (level, pod, refused) in [
        ("restricted", clone(), None),
        ("baseline", host.clone(), Some("hostNetwork")),
        ("privileged", host.clone(), None),
        ("restricted", host, Some("hostNetwork")),
        (
            // The container states the same as the pod.
            "restricted",
            changed(clone(), "/spec/securityContext", json!({})),
            None,
        ),
        (
            "restricted",
            changed(clone(), &format!("{context}/runAsNonRoot"), Value::Null),
            None,
        ),
        (
            "restricted",
            without_in_pod_and_container("runAsNonRoot"),
            Some("runAsNonRoot"),
        ),
        (
            "restricted",
            without_in_pod_and_container("seccompProfile"),
            Some("seccomp"),
        ),
        (
            "restricted",
            changed(clone(), &format!("{context}/capabilities"), Value::Null),
            Some("capabilities"),
        ),
        (
            "restricted",
            changed(
                clone(),
                &format!("{context}/allowPrivilegeEscalation"),
                json!(true),
            ),
            Some("privileges"),
        ),
        (
            "restricted",
            changed(clone(), &format!("{context}/runAsUser"), json!(0)),
            Some("user 0"),
        ),
        (
            "baseline",
            changed(clone(), &format!("{context}/privileged"), json!(true)),
            Some("privileged"),
        ),
        (
            "baseline",
            changed(clone(), &format!("{context}/capabilities"), Value::Null),
            None,
        ),
    ] {
        let mut scenario = Scenario::new().with_clone(pod);
        let labels = json!({ "pod-security.kubernetes.io/enforce": level });
        scenario.cluster.namespaces = vec![object(
            json!({ "metadata": { "name": "shop", "labels": labels } }),
        )];
        let reported = risks(
            &[scenario.candidate()],
            &scenario.cluster,
            Allowances::default(),
        );
        match refused {
            None => assert_eq!(reported, [], "{level}"),
            Some(word) => {
                assert_eq!(reported.len(), 1, "{level} {word}");
                assert_eq!(reported[0].code, Code::PodSecurity);
                assert!(reported[0].reason.contains(word), "{}", reported[0].reason);
            }
        }
    }
}

#[test]
fn a_policy_that_selects_by_a_label_the_clone_lacks_refuses_it() {
    let by_hash = json!({ "matchLabels": { "app": "web", "pod-template-hash": "6f7" } });
    let without_hash =
        json!({ "matchExpressions": [{ "key": "pod-template-hash", "operator": "DoesNotExist" }] });
    let of_another = json!({ "matchLabels": { "app": "api", "pod-template-hash": "6f7" } });
    let by_app = json!({ "matchLabels": { "app": "web" } });
    let peer = |selector: &Value| json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": selector }] }] });
    let far_peer = |selector: &Value| json!({ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": selector }] }] });
    let cilium = json!({ "endpointSelector": { "matchLabels": { "k8s:app": "web", "k8s:pod-template-hash": "6f7" } } });
    let of_cilium =
        json!({ "endpointSelector": {}, "ingress": [{ "fromEndpoints": [by_hash, by_app] }] });
    let cluster =
        json!({ "subject": { "pods": { "namespaceSelector": {}, "podSelector": by_hash } } });
    let here = |spec: Value| policy("NetworkPolicy", Some("shop"), spec);
    let there = |spec: Value| policy("NetworkPolicy", Some("data"), spec);
    let admin = json!({
        "subject": { "pods": { "namespaceSelector": {}, "podSelector": {} } },
        "ingress": [{ "from": [{ "pods": { "namespaceSelector": {}, "podSelector": by_hash } }] }],
    });
    let specs = json!({ "specs": [{ "endpointSelector": by_hash }] });
    let calico = json!({ "spec": { "selector": "app == 'web' && !has(pod-template-hash)" } });
    let refused: [PolicyObject; 10] = [
        here(json!({ "podSelector": by_hash })),
        here(json!({ "podSelector": without_hash })),
        here(peer(&by_hash)),
        there(far_peer(&by_hash)),
        policy("CiliumNetworkPolicy", Some("shop"), cilium),
        policy("CiliumNetworkPolicy", Some("shop"), of_cilium),
        policy("ClusterNetworkPolicy", None, cluster),
        policy("AdminNetworkPolicy", None, admin),
        policy("CiliumClusterwideNetworkPolicy", None, specs),
        policy("Calico GlobalNetworkPolicy", None, calico),
    ];
    for policy in refused {
        let mut scenario = Scenario::new();
        scenario.cluster.policies = vec![policy.clone()];
        assert_eq!(
            scenario.risks(),
            [(Code::PolicyLabelMissing, REFUSE)],
            "{policy:?}"
        );
        // The policy treats an original without that label as its clone.
        let mut scenario = Scenario::new().with_original(changed(
            original(),
            "/metadata/labels/pod-template-hash",
            Value::Null,
        ));
        scenario.cluster.policies = vec![policy];
        assert_eq!(scenario.risks(), []);
    }
    for policy in [
        here(json!({ "podSelector": by_app })),
        here(json!({ "podSelector": {} })),
        here(json!({ "podSelector": of_another })),
        there(json!({ "podSelector": by_hash })),
        there(peer(&by_hash)),
        policy(
            "Calico GlobalNetworkPolicy",
            None,
            json!({ "spec": { "selector": "app == 'pod-template-hash-of-another'" } }),
        ),
    ] {
        let mut scenario = Scenario::new();
        scenario.cluster.policies = vec![policy.clone()];
        assert_eq!(scenario.risks(), [], "{policy:?}");
    }
}
