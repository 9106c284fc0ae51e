//! Sources that no clone can stand for.

use super::run::calm_suite;
use super::world::{IMAGE, apply, kubectl, put};

/// A DaemonSet, which would take a clone for one of its own pods, and delete one of the two.
fn daemon_set() -> String {
    format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{ name: agent, namespace: wt-test-shop }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: agent }} }}\n  template:\n    metadata: {{ labels: {{ app: agent }} }}\n    \
         spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n        - {{ name: c, image: {IMAGE}, \
         imagePullPolicy: Never, args: [pause] }}\n"
    )
}

/// Once as a source and once as a line's own control.
fn suite(source: &str) -> String {
    format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: refused }}\nspec:\n  endpoints:\n    \
         web: {{ namespace: wt-test-shop, workload: Deployment/web }}\n    \
         api: {{ namespace: wt-test-shop, workload: Deployment/api }}\n    \
         agent: {{ namespace: wt-test-shop, workload: DaemonSet/agent{source} }}\n    \
         db: {{ namespace: wt-test-data, workload: StatefulSet/postgres }}\n  expect:\n    \
         - {{ check: web -> db:5432 denied, control: agent }}\n    - web -> api:8080 allowed\n    - agent -> db:5432 denied\n"
    )
}

fn pods() -> String {
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    kubectl(&[
        "-n",
        "wt-test-shop",
        "get",
        "pods",
        "-l",
        "app=agent",
        "-o",
        path,
    ])
}

/// What is said of it is unproven by that name, the rest is as ever, and its pods are the same;
/// from within them it is proven.
pub(super) fn daemon_sets_pods() {
    put();
    apply(&daemon_set());
    kubectl(&[
        "-n",
        "wt-test-shop",
        "rollout",
        "status",
        "daemonset/agent",
        "--timeout=60s",
    ]);
    let before = pods();
    let said = calm_suite(&suite(""), &[]);

    assert_eq!(
        said.of("agent -> db:5432 denied"),
        ("unproven", Some("probe-fault")),
        "{}",
        said.text
    );
    assert!(
        said.text
            .contains("[adoption] wt-test-shop/DaemonSet/agent"),
        "{}",
        said.text
    );
    assert_eq!(
        said.of("web -> db:5432 denied").0,
        "proven",
        "{}",
        said.text
    );
    assert_eq!(
        (said.of("web -> api:8080 allowed").0, said.code),
        ("proven", 4),
        "{}",
        said.text
    );
    assert_eq!(pods(), before, "a clone was taken for one of them");
    let said = calm_suite(&suite(", source: ephemeral"), &["--only", "agent"]);

    assert_eq!(
        (said.of("agent -> db:5432 denied").0, said.code),
        ("proven", 0),
        "{}",
        said.text
    );
    assert_eq!(pods(), before);
    kubectl(&["-n", "wt-test-shop", "delete", "daemonset", "agent"]);
}
