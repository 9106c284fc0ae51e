//! From where a source sends, and targets that are known by name: each denied, and each denied no
//! longer.

use crate::support::*;

const WORLD: &str = "suites/shop/manifests";

/// The same pods, without any policy.
const OPEN: [&str; 2] = [
    "suites/shop/manifests/shop.yaml",
    "suites/shop/manifests/data.yaml",
];

fn denied(line: &str, more: &[&str]) {
    let _alone = alone();
    let check = |manifests: &[&str]| {
        ran(watertight(["check", line, "--lab"])
            .args(manifests)
            .args(more))
    };
    let proven = check(&[WORLD]);
    proven.ends(0);
    assert!(proven.out.contains("1 proven"), "{}", proven.out);
    let open = check(&OPEN);
    open.ends(3);
    assert!(open.out.contains(line), "{}", open.out);
}

#[test]
fn metadata_of_instances_and_the_wire_server_are_known_by_name() {
    denied("shop/Deployment/api -> instance-metadata denied", &[]);
    denied("shop/Deployment/api -> azure-wire-server:32526 denied", &[]);
}

#[test]
fn a_source_may_send_from_where_watertight_runs() {
    denied(
        "shop/Deployment/web -> data/StatefulSet/postgres:5432 denied",
        &["--source", "runner"],
    );
}

/// A node is no pod: what policies say of the pods they do not say of it, and it reaches its own
/// pods in any case.
#[test]
fn a_source_may_send_from_the_nodes_of_its_pods() {
    let _alone = alone();
    let line = "shop/Deployment/web -> shop/Deployment/api:8080 denied";
    let said = ran(
        watertight(["check", line, "--lab", WORLD, "--source", "node", "-v"])
            .args(["--lab-deny", "reset"]),
    );
    said.ends(3);
    assert!(
        said.out.contains("node node-1") && !said.out.contains("shop/web-0 (node-"),
        "{}",
        said.out
    );
    let text = format!("{}{}", said.out, said.err);
    assert!(
        text.contains(
            "Deployment/web sends from the nodes of its pods, not with its pods' identity"
        ),
        "{text}"
    );
    assert!(
        !text.contains("Deployment/api sends"),
        "it is only sent to: {text}"
    );
}
