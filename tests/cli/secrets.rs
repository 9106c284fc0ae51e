//! What a suite takes from the environment is sent, and shown nowhere.

use crate::support::*;

const SECRET: &str = "hunter2-in-no-output";

const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: secrets }
spec:
  endpoints:
    web: { namespace: shop, workload: Deployment/web }
    api: { namespace: shop, workload: Deployment/api }
  settings: { timeout: 5s }
  expect:
    - check: web -> POST http://api:8080/login allowed
      headers: { Authorization: { fromEnv: WATERTIGHT_TEST_TOKEN } }
      body: { fromEnv: WATERTIGHT_TEST_TOKEN }
      status: 200
";

const MANIFESTS: &str = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: c, ports: [{containerPort: 8080}]}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: api, namespace: shop}, spec: {replicas: 1, selector: {matchLabels: {app: api}}, template: {metadata: {labels: {app: api}}, spec: {containers: [{name: c, image: c, ports: [{containerPort: 8080}]}]}}}}
";

#[test]
fn a_credential_from_the_environment_is_in_no_output() {
    let _alone = alone();
    let files = Files::new();
    let suite = files.with("suite.yaml", SUITE);
    let manifests = files.with("world.yaml", MANIFESTS);
    let evidence = files.name("evidence.jsonl");
    let json = files.name("report.json");
    let run = ran(watertight([
        "run",
        &suite,
        "--lab",
        &manifests,
        "--report",
        &format!("evidence={evidence}"),
        "--report",
        &format!("json={json}"),
    ])
    .env("WATERTIGHT_TEST_TOKEN", SECRET));
    run.ends(0);
    let plan =
        ran(watertight(["plan", &suite, "--lab", &manifests]).env("WATERTIGHT_TEST_TOKEN", SECRET));
    plan.ends(0);

    let evidence = std::fs::read_to_string(&evidence).expect("evidence");
    assert!(
        evidence.contains("Authorization fromEnv WATERTIGHT_TEST_TOKEN"),
        "{evidence}"
    );
    let json = std::fs::read_to_string(&json).expect("a report");
    for output in [&run.out, &run.err, &plan.out, &plan.err, &evidence, &json] {
        assert!(!output.contains(SECRET), "{output}");
    }
}

#[test]
fn a_missing_variable_is_an_error_with_its_place() {
    let files = Files::new();
    let suite = files.with("suite.yaml", SUITE);
    ran(&mut watertight(["validate", &suite]))
        .ends(2)
        .complains("the environment has no variable WATERTIGHT_TEST_TOKEN");
}
