//! The shop's manifests, as this cluster can run them: under namespaces of these tests' own, with
//! the test image.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Kubernetes' own test image, which serves HTTP on any port.
pub(crate) const IMAGE: &str = "localhost/agnhost:1";

/// A program that stops and starts components: `PROGRAM stop node-2/netpol`.
const CONTROL: &str = "WATERTIGHT_CLUSTER_CONTROL";

/// Manifests of the shop, in the order in which they can be applied.
const MANIFESTS: [&str; 4] = [
    include_str!("../../suites/shop/manifests/shop.yaml"),
    include_str!("../../suites/shop/manifests/data.yaml"),
    include_str!("../../suites/shop/manifests/policies-shop.yaml"),
    include_str!("../../suites/shop/manifests/policies-data.yaml"),
];

/// The shop's suite.
const SUITE: &str = include_str!("../../suites/shop/suite.yaml");

/// A text of the shop under the namespaces of these tests.
fn renamed(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ["shop", "data"] {
        text = text.replace(
            &format!("namespace: {name}"),
            &format!("namespace: wt-test-{name}"),
        );
        text = text.replace(
            &format!("{{ name: {name}, labels"),
            &format!("{{ name: wt-test-{name}, labels"),
        );
    }
    text
}

/// The suite, under these namespaces.
pub(crate) fn suite() -> String {
    renamed(SUITE)
}

/// The image of a container, and arguments with which it serves HTTP on a port.
fn serve(port: u16) -> String {
    format!(
        "image: {IMAGE}\n          imagePullPolicy: Never\n          args: [netexec, --http-port={port}, --udp-port=-1]"
    )
}

/// A Deployment of two pods on different nodes, labelled `app: NAME`, that serve HTTP on 8080.
pub(crate) fn deployment(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
        - {{ maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {{ matchLabels: {{ app: {name} }} }} }}
      containers:
        - {{ name: c, image: {IMAGE}, imagePullPolicy: Never, args: [netexec, --http-port=8080, --udp-port=-1], ports: [{{ containerPort: 8080 }}] }}
---
"
    )
}

/// The manifests, under these namespaces, with an image that is there and pods on both nodes.
fn manifests() -> String {
    let mut all = String::new();
    for text in MANIFESTS {
        for line in renamed(text).lines() {
            let line = match line.trim_start() {
                image if image.starts_with("image: postgres") => line.replace(image, &serve(5432)),
                image if image.starts_with("image: shop/") => line.replace(image, &serve(8080)),
                // The provider's published range, as this cluster has it.
                _ => line.replace("2001:db8:113::/124", "2001:db8:1::10/124"),
            };
            all.push_str(&line);
            all.push('\n');
            if let Some(app) = line.trim().strip_prefix("metadata: { labels: { app: ") {
                let app = app.trim_end_matches([' ', '}']);
                all.push_str(&spread(app));
            }
        }
        all.push_str("---\n");
    }
    // The template's own `spec:` follows its labels: what is to be in it goes before the first
    // container.
    all.replace("    spec:\n      containers:", "      containers:")
}

/// The head of a template's spec that puts its pods on different nodes.
fn spread(app: &str) -> String {
    format!(
        "    spec:\n      terminationGracePeriodSeconds: 0\n      topologySpreadConstraints:\n        - {{ maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {{ matchLabels: {{ app: {app} }} }} }}\n"
    )
}

/// Runs kubectl; its output, or a panic with its words.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    fed(arguments, "")
}

fn fed(arguments: &[&str], input: &str) -> String {
    let output = output(arguments, input);
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs kubectl, which may fail: whether it succeeded, and everything it says.
pub(crate) fn try_kubectl(arguments: &[&str], input: &str) -> (bool, String) {
    let output = output(arguments, input);
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

/// Waits until something is gone.
pub(crate) fn until_gone(what: &str, most: Duration, left: impl Fn() -> Vec<String>) {
    let deadline = Instant::now() + most;
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what} is still there after {} s: {left:#?}",
            most.as_secs()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A kubectl that goes on.
pub(crate) fn kubectl_child(arguments: &[&str]) -> Child {
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let mut words = program.split(' ');
    Command::new(words.next().unwrap())
        .args(words)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(arguments: &[&str], input: &str) -> Output {
    let mut child = kubectl_child(arguments);
    // A command that does not read its input may have ended by now.
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Whether components of the cluster can be stopped and started.
pub(crate) fn has_control() -> bool {
    std::env::var_os(CONTROL).is_some()
}

/// Stops or starts a component of the cluster.
pub(crate) fn control(arguments: &[&str]) {
    let program = std::env::var(CONTROL).unwrap();
    let status = Command::new(&program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// What the program that controls the cluster prints for these arguments.
pub(crate) fn control_output(arguments: &[&str]) -> String {
    let program = std::env::var(CONTROL).unwrap();
    let output = Command::new(&program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Puts the world into its right state and waits until it is.
pub(crate) fn put() {
    let all = manifests();
    let namespaces: Vec<&str> = all
        .split("---\n")
        .filter(|text| text.contains("kind: Namespace"))
        .collect();
    fed(&["apply", "-f", "-"], &namespaces.join("---\n"));
    fed(&["apply", "-f", "-"], &all);

    for (namespace, workload) in [
        ("wt-test-shop", "deployment/web"),
        ("wt-test-shop", "deployment/api"),
        ("wt-test-data", "statefulset/postgres"),
    ] {
        kubectl(&["-n", namespace, "scale", workload, "--replicas=2"]);
        kubectl(&[
            "-n",
            namespace,
            "rollout",
            "status",
            workload,
            "--timeout=120s",
        ]);
    }
}

/// Applies a manifest.
pub(crate) fn apply(manifest: &str) {
    fed(&["apply", "-f", "-"], manifest);
}

/// Makes a namespace.
pub(crate) fn put_namespace(name: &str) {
    apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}\n"
    ));
}

/// A pod on a node that answers HTTP on a port, as YAML with its separator.
pub(crate) fn pod(namespace: &str, name: &str, labels: &str, node: u8, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {namespace}, labels: {{ {labels} }} }}
spec:
  nodeName: node-{node}
  terminationGracePeriodSeconds: 0
  containers: [{{ name: c, image: {IMAGE}, imagePullPolicy: Never, args: [netexec, --http-port={port}, --udp-port=-1] }}]
---
"
    )
}

/// Waits until pods of a namespace are ready; `which` as kubectl takes it.
pub(crate) fn wait_for_pods(namespace: &str, which: &[&str]) {
    let wait = ["-n", namespace, "wait", "pods"];
    let ready = ["--for=condition=Ready", "--timeout=60s"];
    kubectl(&[&wait[..], which, &ready].concat());
}

/// Takes the world down.
pub(crate) fn remove() {
    let mut namespaces = vec![
        "wt-test-shop",
        "wt-test-data",
        super::closed::NAMESPACE,
        super::changes::MUTE,
    ];
    namespaces.extend([
        super::broken::NAMESPACE,
        super::killed::NAMESPACE,
        super::untouched::NAMESPACE,
        super::ours::NAMESPACE,
        super::account::NAMESPACE,
        super::account::RUNNER,
    ]);
    namespaces.extend(super::predicted::NAMESPACES.map(|(name, _)| name));
    let arguments = [
        "delete",
        "namespace",
        "--ignore-not-found",
        "--timeout=120s",
    ];
    kubectl(&[&arguments[..], &namespaces[..]].concat());
}

/// Waits until something holds.
pub(crate) fn until(what: &str, most: Duration, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "{what}: not after {} s",
            most.as_secs()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}
