//! Credentials that a suite takes from the environment.

use super::world::{kubectl, put, until};
use std::process::{Command, Stdio};
use std::time::Duration;

const SECRET: &str = "Bearer hunter2-in-no-object";

/// The test image answers with the value of a header that it was sent: only a refusal that matches
/// shows that it came, since then every source is refused in the same way.
const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: secrets }
spec:
  endpoints:
    web: { namespace: wt-test-shop, workload: Deployment/web }
    api: { namespace: wt-test-shop, workload: Deployment/api }
  settings: { headers: { Authorization: { fromEnv: WATERTIGHT_TEST_TOKEN } } }
  expect:
    - check: web -> http://api:8080/header?key=Authorization allowed
      status: 200
    - check: web -> http://api:8080/header?key=authorization denied
      refusal: { body: hunter2 }
";

/// The Secrets of runs, by name.
fn secrets() -> String {
    let path = "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}";
    let all = kubectl(&["-n", "wt-test-shop", "get", "secrets", "-o", path]);
    let ours = all.lines().filter(|name| name.starts_with("watertight-"));
    ours.collect::<Vec<_>>().join("\n")
}

/// A credential reaches the probes by a Secret that goes with the run, and stands in no pod and no
/// report; both ways of being a source.
pub(crate) fn reach_the_probe_and_no_object() {
    put();
    for source in ["clone", "ephemeral"] {
        let folder = tempfile::tempdir().unwrap();
        let suite = folder.path().join("suite.yaml");
        std::fs::write(&suite, SUITE).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_watertight"))
            .arg("run")
            .arg(&suite)
            .args(["--timeout", "25s", "--source", source])
            .args(["--report", &format!("json={}", path("report.json"))])
            .args(["--report", &format!("evidence={}", path("evidence"))])
            .env("WATERTIGHT_TEST_TOKEN", SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("a Secret is there", Duration::from_secs(60), || {
            !secrets().is_empty()
        });
        std::thread::sleep(Duration::from_secs(2));
        let pods = kubectl(&["get", "pods,jobs,configmaps", "-A", "-o", "yaml"]);
        let output = child.wait_with_output().unwrap();

        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let report = std::fs::read_to_string(path("report.json")).unwrap();
        let evidence = std::fs::read_to_string(path("evidence")).unwrap();
        assert!(pods.contains("secretKeyRef"), "{source}: {text}");
        assert!(report.contains("all-controls-refused"), "{source}: {text}");
        assert_eq!(output.status.code(), Some(4), "{source}: {text}");
        for shown in [&pods, &text, &report, &evidence] {
            assert!(!shown.contains("hunter2-in-no-object"), "{source}");
        }
        until("no Secret is left", Duration::from_secs(60), || {
            secrets().is_empty()
        });
    }
}
