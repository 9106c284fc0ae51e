//! What people and the cluster itself change in the middle of a run: what no longer holds is never
//! proven.

use super::cases::{TIERS, ours};
use super::run::{Said, disturbed, running_probes};
use super::world::{apply, deployment, kubectl, put, put_namespace, suite, until_gone};
use std::time::Duration;

/// A run of some checks of the shop that is long enough for something to happen in the middle of
/// it.
fn while_it_runs(disturb: impl FnOnce() + Send + 'static) -> Said {
    put();
    let lines = "tier-isolation|api -> postgres|web-tier -> api";
    disturbed(
        &suite(),
        &["--only", lines, "--hold", "9s", "--timeout", "25s"],
        disturb,
    )
}

const API: &str = "api -> postgres:5432 allowed";

/// What it lets through was denied until then.
pub(crate) fn policy_widened() {
    let said = while_it_runs(|| {
        let spec = r#"{"spec":{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"tier":"frontend"}}}]}]}}"#;
        kubectl(&[
            "-n",
            "wt-test-data",
            "patch",
            "networkpolicy",
            "postgres",
            "-p",
            spec,
        ]);
    });

    assert_eq!(
        (said.of(TIERS).0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
    assert!(
        said.text
            .contains("not the same at the end as at the start"),
        "{}",
        said.text
    );
}

/// Pods of the web tier's controller that still have its label.
fn web_pods() -> String {
    kubectl(&[
        "-n",
        "wt-test-shop",
        "get",
        "pods",
        "-l",
        "pod-template-hash,app=web",
        "-o",
        "name",
    ])
}

/// The web tier's pods get the label of the api, which the database admits: no proof of the web
/// tier rests on probes of the old pods.
pub(crate) fn source_relabelled() {
    put();
    let before = web_pods();
    let said = while_it_runs(move || {
        for pod in web_pods().lines() {
            kubectl(&["-n", "wt-test-shop", "label", pod, "app=api", "--overwrite"]);
        }
    });
    let (verdict, reason) = said.of(TIERS);

    assert!(
        matches!(verdict, "proven" | "unproven"),
        "{verdict} {reason:?}\n{}",
        said.text
    );
    let of_old = |source: &&String| {
        before
            .lines()
            .any(|pod| source.contains(pod.trim_start_matches("pod/")))
    };
    let sources = said.sources.get(TIERS).into_iter().flatten();

    assert!(
        verdict != "proven" || sources.clone().all(|source| !of_old(&source)),
        "{sources:?}\n{before}"
    );
    // No controller owns the relabelled pods any more.
    kubectl(&["delete", "namespace", "wt-test-shop", "--timeout=120s"]);
}

/// By the API that drains nodes.
pub(crate) fn probe_evicted() {
    let said = while_it_runs(|| {
        let probes = running_probes();
        let of_shop = |line: &&str| line.starts_with("wt-test-shop");
        for line in probes.lines().filter(of_shop) {
            let pod = line.split_whitespace().nth(1).unwrap();
            let path = format!("/api/v1/namespaces/wt-test-shop/pods/{pod}/eviction");
            let eviction = format!(
                r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"wt-test-shop"}}}}"#
            );
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), eviction).unwrap();
            kubectl(&[
                "create",
                "--raw",
                &path,
                "-f",
                file.path().to_str().unwrap(),
            ]);
        }
    });

    for check in [TIERS, API] {
        assert_eq!(
            said.of(check),
            ("unproven", Some("probe-fault")),
            "{}",
            said.text
        );
    }

    assert!(
        said.text.contains("deleted, evicted or preempted"),
        "{}",
        said.text
    );
    until_gone("what the run made", Duration::from_secs(20), ours);
}

/// Neither end is there any more.
pub(crate) fn namespaces_deleted() {
    for namespace in ["wt-test-data", "wt-test-shop"] {
        let said = while_it_runs(move || {
            kubectl(&["delete", "namespace", namespace, "--timeout=120s"]);
        });
        for check in [TIERS, API] {
            // Its policies are deleted before its pods: until those are gone, they may be open
            // indeed.
            let (verdict, reason) = said.of(check);
            assert!(
                verdict == "unproven" || (check == TIERS && verdict == "violated"),
                "{reason:?}\n{}",
                said.text
            );
        }
        assert!(matches!(said.code, 3 | 4), "{}", said.text);
        until_gone("what the run made", Duration::from_secs(20), ours);
    }
}

/// The namespace of those that may say nothing.
pub(crate) const MUTE: &str = "wt-test-mute";

/// `mute` pods may send nothing; `open` admits every source, and `picky` only sources with a label
/// that it selects.
const MUTE_POLICIES: &str = "
apiVersion: v1
kind: Service
metadata: { name: open, namespace: wt-test-mute }
spec: { selector: { app: open }, ipFamilyPolicy: PreferDualStack, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: mute, namespace: wt-test-mute }
spec: { podSelector: { matchLabels: { app: mute } }, policyTypes: [Egress] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: picky, namespace: wt-test-mute }
spec:
  podSelector: { matchLabels: { app: picky } }
  ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: app, operator: In, values: [mute, open] }] } }] }]
";

const MUTE_SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: mute }
spec:
  endpoints:
    mute: { namespace: wt-test-mute, workload: Deployment/mute }
    open: { namespace: wt-test-mute, pods: { app: open }, service: open }
    picky: { namespace: wt-test-mute, workload: Deployment/picky }
    outside: { ip: 203.0.113.66, ports: [80] }
  expect:
    - mute -> open denied
    - mute -> picky denied
    - mute -> outside denied
    - open -> picky allowed
";

/// A source that may send nothing: successes before its own node knows the new pod are a start-up
/// leak, whatever the target admits; without its policy every deny is violated.
pub(crate) fn source_without_egress() {
    put_namespace(MUTE);
    let world: String = ["mute", "open", "picky"]
        .map(|name| deployment(MUTE, name))
        .concat();
    apply(&(world + MUTE_POLICIES));

    for name in ["mute", "open", "picky"] {
        kubectl(&[
            "-n",
            MUTE,
            "rollout",
            "status",
            &format!("deployment/{name}"),
            "--timeout=120s",
        ]);
    }
    let said = super::run::calm_suite(MUTE_SUITE, &[]);

    for (check, (verdict, reason)) in &said.verdicts {
        assert_eq!(
            (verdict.as_str(), reason),
            ("proven", &None),
            "{check}\n{}",
            said.text
        );
    }

    assert_eq!((said.verdicts.len(), said.code), (4, 0), "{}", said.text);

    kubectl(&["-n", MUTE, "delete", "networkpolicy", "mute"]);
    let said = super::run::calm_suite(MUTE_SUITE, &["--timeout", "15s"]);
    for check in [
        "mute -> open:8080 denied",
        "mute -> picky:8080 denied",
        "mute -> outside:80 denied",
    ] {
        assert_eq!(said.of(check).0, "violated", "{}", said.text);
    }
}
