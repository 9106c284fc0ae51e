//! Source modes, and targets with built-in names: each denied with policies, and open without.

use crate::support::*;

const WORLD: &str = "suites/shop/manifests";

/// The same pods without policies.
const WITHOUT_POLICIES: [&str; 2] = [
    "suites/shop/manifests/shop.yaml",
    "suites/shop/manifests/data.yaml",
];

fn check(line: &str, manifests: &[&str], more: &[&str]) -> Ran {
    ran(watertight(["check", line, "--lab"])
        .args(manifests)
        .args(more))
}

fn assert_denied_by_policies(line: &str, more: &[&str]) {
    let _alone = alone();
    let proven = check(line, &[WORLD], more);
    proven.ends(0);
    assert!(proven.out.contains("1 proven"), "{}", proven.out);

    let open = check(line, &WITHOUT_POLICIES, more);
    open.ends(3);
    assert!(open.out.contains(line), "{}", open.out);
}

#[test]
fn instance_metadata_and_the_wire_server_have_names() {
    assert_denied_by_policies("shop/Deployment/api -> instance-metadata denied", &[]);
    assert_denied_by_policies("shop/Deployment/api -> azure-wire-server:32526 denied", &[]);
}

#[test]
fn a_source_can_send_from_the_runner() {
    assert_denied_by_policies(
        "shop/Deployment/web -> data/StatefulSet/postgres:5432 denied",
        &["--source", "runner"],
    );
}

/// Policies that select pods do not apply to their nodes, and a node always reaches its own pods.
#[test]
fn a_source_can_send_from_the_nodes_of_its_pods() {
    let _alone = alone();
    let line = "shop/Deployment/web -> shop/Deployment/api:8080 denied";
    let ran = ran(
        watertight(["check", line, "--lab", WORLD, "--source", "node", "-v"])
            .args(["--lab-deny", "reset"]),
    );
    ran.ends(3);
    assert!(
        ran.out.contains("node node-1") && !ran.out.contains("shop/web-0 (node-"),
        "{}",
        ran.out
    );

    let text = format!("{}{}", ran.out, ran.err);
    assert!(
        text.contains(
            "Deployment/web sends from the nodes of its pods, not with its pods' identity"
        ),
        "{text}"
    );
    assert!(
        !text.contains("Deployment/api sends"),
        "a note on the target: {text}"
    );
}
