//! A network that is broken where no policy denies anything, and a request that is sent once.

use super::run::{Said, calm_suite};
use super::world::{apply, pod, put_namespace, wait_for_pods};
use std::process::Command;

/// The namespace.
pub(crate) const NAMESPACE: &str = "wt-test-broken";

/// The client and the server are on different nodes.
fn world() -> String {
    [("client", 1), ("near", 1), ("server", 2), ("far", 2)]
        .map(|(name, node)| pod(NAMESPACE, name, &format!("app: {name}"), node, 8080))
        .concat()
}

fn suite(line: &str) -> String {
    format!(
        "
apiVersion: watertight.dev/v1
kind: Suite
metadata: {{ name: broken }}
spec:
  endpoints:
    client: {{ namespace: {NAMESPACE}, workload: Pod/client }}
    server: {{ namespace: {NAMESPACE}, workload: Pod/server }}
  settings: {{ hold: 3s, timeout: 20s }}
  expect: ['{line}']
"
    )
}

fn put() {
    put_namespace(NAMESPACE);
    apply(&world());
    wait_for_pods(NAMESPACE, &["--all"]);
}

/// A node forwards nothing while this exists: its own packets leave it, those of its pods do not.
struct DoesNotForward {
    netns: String,
}

impl DoesNotForward {
    fn node(name: &str) -> Self {
        let cluster = std::env::var("WATERTIGHT_CLUSTER").unwrap_or_default();
        let prefix = match cluster.as_str() {
            "" | "1" => "wt".to_owned(),
            number => format!("wt{number}"),
        };
        let this = Self {
            netns: format!("/run/netns/{prefix}-{name}"),
        };
        // The switch for forwarding would be turned on again with the next pod.
        this.nft(
            "add table inet broken; add chain inet broken forward { type filter hook forward priority -300; policy drop; }",
        );
        this
    }

    fn nft(&self, commands: &str) {
        let status = Command::new("nsenter")
            .arg(format!("--net={}", self.netns))
            .args(["nft", commands])
            .status()
            .unwrap();
        assert!(status.success(), "{commands} in {}", self.netns);
    }
}

impl Drop for DoesNotForward {
    fn drop(&mut self) {
        self.nft("delete table inet broken");
    }
}

/// What a node can send shows nothing of what its pods can.
pub(super) fn node_does_not_forward() {
    put();
    let line = "client -> server:8080 denied";
    let forwards = calm_suite(&suite(line), &[]);
    assert_eq!(forwards.of(line).0, "violated", "{}", forwards.text);

    let _broken = DoesNotForward::node("node-1");
    let said: Said = calm_suite(&suite(line), &[]);
    let (verdict, reason) = said.of(line);
    assert_eq!(verdict, "unproven", "{}", said.text);
    assert!(
        matches!(
            reason,
            Some("no-pod-got-through" | "source-not-verified" | "path-not-verified")
        ),
        "{}",
        said.text
    );
}

/// A request that is sent only once violates the line where nothing denies it.
pub(super) fn sent_once() {
    put();
    let line = "client -> POST http://server:8080/echo denied";
    let said = calm_suite(&suite(line), &[]);
    assert_eq!(
        (said.of(line).0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
}
