//! Answers to dry runs.

use super::{REFUSE, WARN};
use crate::backend::kube::preflight::fixtures::{Scenario, changed, clone, object, original};
use crate::backend::kube::preflight::{Answer, Code, Refusal, Severity, dry_run_risks};
use serde_json::{Value, json};

/// The risks of a dry run that was accepted with this pod.
fn dry_run_with(original: Value, stored: Value) -> Vec<(Code, Severity)> {
    let scenario = Scenario::new().with_original(original);
    let answer = Answer::Accepted(Box::new(object(stored)));
    dry_run_risks(&scenario.candidate(), &answer)
        .into_iter()
        .map(|risk| (risk.code, risk.severity))
        .collect()
}

#[test]
fn defaults_of_the_api_server_are_no_change() {
    let stored = changed(
        clone(),
        "/spec/tolerations",
        json!([{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }]),
    );
    let stored = changed(stored, "/spec/dnsPolicy", json!("ClusterFirst"));
    let stored = changed(stored, "/spec/serviceAccountName", json!("default"));
    let stored = changed(stored, "/metadata/uid", json!("9"));
    let stored = changed(
        stored,
        "/spec/containers/0/terminationMessagePath",
        json!("/dev/termination-log"),
    );
    assert_eq!(dry_run_with(original(), stored), []);
}

#[test]
fn labels_that_admission_changes_refuse_the_clone() {
    for stored in [
        changed(clone(), "/metadata/labels/team", json!("a")),
        changed(clone(), "/metadata/labels/app", json!("other")),
        changed(clone(), "/metadata/labels/tier", Value::Null),
    ] {
        assert_eq!(
            dry_run_with(original(), stored),
            [(Code::AdmissionChangesLabels, REFUSE)]
        );
    }
}

#[test]
fn a_sidecar_that_the_original_lacks_refuses_the_clone() {
    let proxy = json!({ "name": "istio-proxy", "image": "proxy:1" });
    let meshed = changed(original(), "/spec/containers/1", proxy.clone());
    let injected = changed(clone(), "/spec/containers/1", proxy.clone());
    assert_eq!(
        dry_run_with(original(), injected.clone()),
        [(Code::AdmissionAddsContainer, REFUSE)]
    );
    assert_eq!(
        dry_run_with(meshed.clone(), injected),
        [(Code::AdmissionAddsContainer, WARN)]
    );
    let native = changed(clone(), "/spec/initContainers", json!([proxy]));
    assert_eq!(
        dry_run_with(original(), native.clone()),
        [(Code::AdmissionAddsContainer, REFUSE)]
    );
    assert_eq!(
        dry_run_with(meshed, native),
        [(Code::AdmissionAddsContainer, WARN)]
    );
    // Without an original nothing may be added.
    let scenario = Scenario {
        originals: Vec::new(),
        ..Scenario::new()
    };
    let answer = Answer::Accepted(Box::new(object(changed(
        clone(),
        "/spec/containers/1",
        json!({ "name": "x" }),
    ))));
    assert_eq!(
        dry_run_risks(&scenario.candidate(), &answer)[0].severity,
        REFUSE
    );
}

#[test]
fn credentials_that_the_original_lacks_refuse_the_clone() {
    let token = json!([{ "name": "t", "projected": { "sources": [
        { "serviceAccountToken": { "path": "token", "audience": "api://AzureADTokenExchange" } }] } }]);
    let injected = changed(clone(), "/spec/volumes", token.clone());
    assert_eq!(
        dry_run_with(original(), injected.clone()),
        [(Code::AdmissionAddsCredentials, REFUSE)]
    );
    assert_eq!(
        dry_run_with(changed(original(), "/spec/volumes", token), injected),
        [(Code::AdmissionAddsCredentials, WARN)]
    );
    for stored in [
        changed(
            clone(),
            "/spec/volumes",
            json!([{ "name": "s", "secret": { "secretName": "db" } }]),
        ),
        changed(
            clone(),
            "/spec/volumes",
            json!([{ "name": "s", "csi": { "driver": "secrets-store.csi.k8s.io" } }]),
        ),
        changed(
            clone(),
            "/spec/containers/0/env/1",
            json!({ "name": "AZURE_FEDERATED_TOKEN_FILE", "value": "/x" }),
        ),
        changed(
            clone(),
            "/spec/containers/0/env/1",
            json!({ "name": "X", "valueFrom": { "secretKeyRef": { "name": "db", "key": "k" } } }),
        ),
    ] {
        assert_eq!(
            dry_run_with(original(), stored),
            [(Code::AdmissionAddsCredentials, REFUSE)]
        );
    }
}

#[test]
fn a_container_that_admission_changes_refuses_the_clone() {
    for stored in [
        changed(
            clone(),
            "/spec/containers/0/image",
            json!("mirror.example/watertight-probe:1"),
        ),
        changed(clone(), "/spec/containers/0/command", json!(["sh"])),
        changed(clone(), "/spec/containers/0/args", json!([])),
        changed(clone(), "/spec/containers/0/env", json!([])),
        changed(
            clone(),
            "/spec/containers/0/securityContext/runAsUser",
            json!(1337),
        ),
        changed(clone(), "/spec/containers/0/name", json!("other")),
    ] {
        let reported = dry_run_with(original(), stored.clone());
        assert!(
            reported.contains(&(Code::AdmissionChangesContainer, REFUSE)),
            "{reported:?} {stored}"
        );
    }
}

#[test]
fn pod_properties_that_admission_changes_refuse_the_clone() {
    for stored in [
        changed(clone(), "/spec/readinessGates", Value::Null),
        changed(clone(), "/spec/hostNetwork", json!(true)),
        changed(clone(), "/spec/activeDeadlineSeconds", Value::Null),
        changed(clone(), "/metadata/ownerReferences", json!([])),
    ] {
        assert_eq!(
            dry_run_with(original(), stored.clone()),
            [(Code::AdmissionChangesPod, REFUSE)],
            "{stored}"
        );
    }
}

#[test]
fn refusals_show_the_message_and_the_refusing_object() {
    for (code, message, expected, object) in [
        (
            403,
            "admission webhook \"validation.gatekeeper.sh\" denied the request: [azurepolicy-k8sazurev3-allowed-x] no",
            Code::AdmissionDenied,
            "validation.gatekeeper.sh",
        ),
        (
            400,
            "admission webhook \"validate.kyverno.svc-fail\" denied the request: no",
            Code::AdmissionDenied,
            "kyverno",
        ),
        (
            422,
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            Code::AdmissionDenied,
            "ValidatingAdmissionPolicy",
        ),
        (
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces",
            Code::AdmissionDenied,
            "PodSecurity",
        ),
        (
            403,
            "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
            Code::AdmissionDenied,
            "ResourceQuota",
        ),
        (
            404,
            "serviceaccounts \"x\" not found",
            Code::AdmissionDenied,
            "APIServer",
        ),
        (
            400,
            "admission webhook \"w.example\" does not support dry run",
            Code::DryRunUnsupported,
            "Webhook",
        ),
        (
            503,
            "etcdserver: leader changed",
            Code::DryRunFailed,
            "APIServer",
        ),
    ] {
        let scenario = Scenario::new();
        let refusal = Refusal {
            code,
            reason: "Forbidden".into(),
            message: message.into(),
        };
        let reported = dry_run_risks(&scenario.candidate(), &Answer::Refused(refusal));
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].code, expected, "{message}");
        assert!(
            reported[0].object.contains(object),
            "{}",
            reported[0].object
        );
        assert!(
            reported[0].reason.contains(message),
            "{}",
            reported[0].reason
        );
        let severity = if expected == Code::DryRunUnsupported {
            WARN
        } else {
            REFUSE
        };
        assert_eq!(reported[0].severity, severity);
    }
}
