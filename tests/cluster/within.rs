//! Probes within the pods themselves.

use super::cases::NAMESPACES;
use super::run::{Said, calm_suite};
use super::world::{kubectl, put, suite, until};
use std::time::Duration;

/// A line that the database's policy stands behind, and one that is allowed.
fn from_within() -> Said {
    calm_suite(
        &suite(),
        &[
            "--only",
            "tier-isolation|web-tier -> api",
            "--source",
            "ephemeral",
        ],
    )
}

/// Containers of ours that were added to pods: name and state of each, by pod.
fn added() -> Vec<(String, String)> {
    let path = "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.status.ephemeralContainerStatuses[*].state}{\"\\n\"}{end}";
    let pods = NAMESPACES.map(|namespace| kubectl(&["-n", namespace, "get", "pods", "-o", path]));
    let lines = pods
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.split_once('\t'));
    lines
        .filter(|(_, state)| !state.is_empty())
        .map(|(pod, state)| (pod.to_owned(), state.to_owned()))
        .collect()
}

/// Pods that were never sent from within.
fn fresh() {
    put();
    for (namespace, workload) in [
        ("wt-test-shop", "deployment/web"),
        ("wt-test-shop", "deployment/api"),
        ("wt-test-data", "statefulset/postgres"),
    ] {
        kubectl(&["-n", namespace, "rollout", "restart", workload]);
        kubectl(&[
            "-n",
            namespace,
            "rollout",
            "status",
            workload,
            "--timeout=120s",
        ]);
    }
    until("only new pods are left", Duration::from_secs(60), || {
        added().is_empty()
    });
}

/// Checks sent from ephemeral containers are proven; each pod has one container of ours however
/// many flows it sends, which is reported and ends by itself; the deny is violated once the policy
/// is gone.
pub(super) fn the_shop() {
    fresh();
    let said = from_within();
    for (check, (verdict, reason)) in &said.verdicts {
        assert_eq!(
            (verdict.as_str(), reason),
            ("proven", &None),
            "{check}\n{}",
            said.text
        );
    }

    assert!(
        said.sent_as.iter().all(|sent_as| sent_as == "ephemeral"),
        "{:?}",
        said.sent_as
    );
    let entered = added();
    let reported = said
        .leftovers
        .iter()
        .filter(|left| left.contains("ephemeral container watertight-"))
        .count();

    assert_eq!(
        (reported, entered.len()),
        (said.leftovers.len(), reported),
        "{:?}\n{entered:?}",
        said.leftovers
    );
    assert!(
        reported > 0 && entered.iter().all(|(pod, _)| pod.starts_with("web-")),
        "{entered:?}"
    );

    kubectl(&["-n", "wt-test-data", "delete", "networkpolicy", "postgres"]);
    // At once, while the first run's may still be there.
    let said = from_within();
    let violated = said
        .verdicts
        .iter()
        .filter(|(_, (verdict, _))| verdict == "violated");
    let violated: Vec<&str> = violated.map(|(check, _)| check.as_str()).collect();

    assert_eq!(
        (violated, said.code),
        (vec!["web-tier -> postgres:5432 denied [tier-isolation]"], 3),
        "{}",
        said.text
    );
    until(
        "they have ended by themselves",
        Duration::from_secs(90),
        || added().iter().all(|(_, state)| !state.contains("running")),
    );
}
