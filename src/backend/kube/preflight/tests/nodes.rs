//! Nodes and images.

use super::{REFUSE, WARN};
use crate::backend::kube::PROBE_IMAGE;
use crate::backend::kube::preflight::Code;
use crate::backend::kube::preflight::fixtures::{Scenario, changed, clone, object, original};
use serde_json::{Value, json};

fn node(labels: &Value, ready: &str, images: &Value) -> Value {
    json!({
        "metadata": { "name": "node-1", "labels": labels },
        "status": { "conditions": [{ "type": "Ready", "status": ready }], "images": images }
    })
}

/// The images of a node that has the probe image.
fn probe_image() -> Value {
    json!([{ "names": [PROBE_IMAGE] }])
}

#[test]
fn a_windows_node_refuses_the_clone() {
    let mut scenario = Scenario::new();
    scenario.cluster.nodes = vec![object(node(
        &json!({ "kubernetes.io/os": "windows" }),
        "True",
        &probe_image(),
    ))];
    assert_eq!(scenario.risks(), [(Code::WindowsNode, REFUSE)]);
    let asks_for_windows = changed(original(), "/spec/os", json!({ "name": "windows" }));
    assert_eq!(
        Scenario::new().with_original(asks_for_windows).risks(),
        [(Code::WindowsNode, REFUSE)]
    );
    scenario.cluster.nodes = vec![object(node(
        &json!({ "kubernetes.io/os": "linux" }),
        "True",
        &probe_image(),
    ))];
    assert_eq!(scenario.risks(), []);
}

#[test]
fn a_node_that_is_not_ready_is_a_warning() {
    for ready in ["False", "Unknown"] {
        let mut scenario = Scenario::new();
        scenario.cluster.nodes = vec![object(node(&json!({}), ready, &probe_image()))];
        assert_eq!(scenario.risks(), [(Code::NodeNotReady, WARN)]);
    }
}

#[test]
fn an_image_that_the_node_does_not_list_is_a_warning() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("registry.example/probe@{digest}");
    for (image, pull, listed, expected) in [
        (PROBE_IMAGE, "IfNotPresent", probe_image(), vec![]),
        (PROBE_IMAGE, "Never", probe_image(), vec![]),
        (
            "localhost/watertight-probe:other",
            "Never",
            probe_image(),
            vec![(Code::ImageAbsent, WARN)],
        ),
        (
            "localhost/watertight-probe:other",
            "IfNotPresent",
            probe_image(),
            vec![(Code::ImageAbsent, WARN)],
        ),
        (
            "registry.example/probe:1",
            "IfNotPresent",
            probe_image(),
            vec![(Code::ImagePull, WARN)],
        ),
        (
            "probe:1",
            "IfNotPresent",
            json!([{ "names": ["docker.io/library/probe:1"] }]),
            vec![],
        ),
        (
            &by_digest,
            "IfNotPresent",
            json!([{ "names": [by_digest] }]),
            vec![],
        ),
        (
            &by_digest,
            "IfNotPresent",
            json!([{ "names": ["registry.example/probe:1"] }]),
            vec![(Code::ImagePull, WARN)],
        ),
    ] {
        let pod = changed(clone(), "/spec/containers/0/image", json!(image));
        let pod = changed(pod, "/spec/containers/0/imagePullPolicy", json!(pull));
        let mut scenario = Scenario::new().with_clone(pod);
        scenario.cluster.nodes = vec![object(node(&json!({}), "True", &listed))];
        assert_eq!(scenario.risks(), expected, "{image} {pull} {listed}");
    }
}

#[test]
fn the_node_of_a_pod_is_in_its_affinity_or_node_name() {
    let by_node_name = changed(
        changed(clone(), "/spec/affinity", Value::Null),
        "/spec/nodeName",
        json!("node-1"),
    );
    for pod in [clone(), by_node_name] {
        let mut scenario = Scenario::new().with_clone(pod);
        scenario.cluster.nodes = vec![object(node(&json!({}), "False", &probe_image()))];
        assert_eq!(scenario.risks(), [(Code::NodeNotReady, WARN)]);
    }
}
