//! A connection that is open when a policy is applied: the cluster's enforcer cuts it or not, and the
//! run says which.

use super::run::disturbed;
use super::world::{kubectl, put};

const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: quarantine }
spec:
  endpoints:
    web-tier: { namespace: wt-test-shop, workload: Deployment/web }
    api:      { namespace: wt-test-shop, workload: Deployment/api }
    postgres: { namespace: wt-test-data, workload: StatefulSet/postgres }
  expect:
    - check: web-tier -> api:8080 denied
      established: true
    - api -> postgres:5432 allowed
";

/// The check whose connection is open.
const KEPT: &str = "web-tier -> api:8080 denied";

/// The api's policy stops admitting the web tier while a connection is open.
pub(crate) fn connection_outlives_its_policy_or_not() {
    put();
    let said = disturbed(SUITE, &["--timeout", "15s"], || {
        let spec = r#"{"spec":{"ingress":[]}}"#;
        kubectl(&[
            "-n",
            "wt-test-shop",
            "patch",
            "networkpolicy",
            "api",
            "-p",
            spec,
        ]);
    });

    let (verdict, reason) = said.of(KEPT);
    // An enforcer that judges only the first packet of a connection lets it go on. One that cuts it
    // admits no pod any more, and so no control.
    let may_be_cut = verdict == "unproven" && reason != Some("nothing-changed");
    assert!(verdict == "violated" || may_be_cut, "{}", said.text);
    if verdict == "violated" {
        assert!(
            said.text
                .contains("the connection opened before went on for"),
            "{}",
            said.text
        );
    }
}

/// Without a change nothing is proven, however long the connection is open.
pub(crate) fn nothing_is_applied() {
    put();
    let said = disturbed(SUITE, &["--timeout", "15s"], || {});
    assert_eq!(
        said.of(KEPT),
        ("unproven", Some("nothing-changed")),
        "{}",
        said.text
    );
}
