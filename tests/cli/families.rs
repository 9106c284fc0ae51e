//! Address families of the lab: those of the manifests, the suite's or the command line's.

use crate::support::*;

/// A policy that admits every IPv4 address but one, and pods without addresses.
const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: job, namespace: tenants, labels: { app: job } }
spec: { containers: [{ name: c, image: i }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: tenants, labels: { app: web } }
spec: { containers: [{ name: c, image: i, ports: [{ containerPort: 80 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: tool, namespace: free }
spec: { containers: [{ name: c, image: i }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: block-metadata, namespace: tenants }
spec:
  podSelector: { matchLabels: {} }
  policyTypes: [Egress]
  egress: [{ to: [{ ipBlock: { cidr: 0.0.0.0/0, except: [169.254.169.254/32] } }] }]
";

const SUITE: &str = "\
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: metadata-except }
spec:
  endpoints:
    job:  { namespace: tenants, workload: Pod/job }
    web:  { namespace: tenants, workload: Pod/web }
    tool: { namespace: free, workload: Pod/tool }
  expect:
    - job, web -> instance-metadata denied
    - tool -> instance-metadata allowed
    - job -> 203.0.113.8:443 allowed
    - job -> web:80 allowed
";

const BOTH: &str = "[ipv4, ipv6]";

/// The suite with a setting for the families of the lab.
fn suite_with(families: &str) -> String {
    let settings = format!("  settings: {{ labFamilies: {families} }}\n");
    SUITE.replace("  expect:\n", &format!("{settings}  expect:\n"))
}

/// Runs a suite over these manifests.
fn run(files: &Files, suite: &str, more: &[&str]) -> Ran {
    let suite = files.with("suite.yaml", suite);
    let manifests = files.with("manifests.yaml", MANIFESTS);
    ran_again_if_unproven(&[&["run", &suite, "--lab", &manifests], more].concat())
}

#[test]
fn ipv4_is_tested_alone_where_nothing_shows_ipv6() {
    let _alone = alone();
    let files = Files::new();
    let report = files.path("report.json");
    let report_option = format!("--report=json={}", report.display());
    run(&files, SUITE, &[&report_option]).ends(0);

    let report = json(&report);
    assert_eq!(report["run"]["settings"]["labFamilies"], "ipv4");
    let flows = report["checks"][0]["flows"].as_array().unwrap();
    assert!(!flows.is_empty(), "{report}");
    for flow in flows {
        let address = flow["address"].as_str().unwrap();
        assert!(!address.starts_with('['), "{address}");
    }
}

#[test]
fn what_differs_by_family_names_the_family() {
    let _alone = alone();
    let files = Files::new();
    for (suite, option) in [
        (SUITE.to_owned(), &["--lab-families", "ipv4,ipv6"][..]),
        (suite_with(BOTH), &[]),
    ] {
        let ran = run(&files, &suite, option);
        ran.ends(3)
            .complains("over IPv6, NetworkPolicy tenants/block-metadata");
        let seen = ran.out.split_once("= seen ").unwrap().1;
        let seen = seen.split_once("= contrast").unwrap().0;
        let seen: Vec<&str> = seen.split_whitespace().collect();
        assert!(
            seen.join(" ")
                .contains("tenants/web:80 (node-2) over IPv6: no answer"),
            "{seen:?}"
        );
    }
}

#[test]
fn explain_names_the_family_where_families_differ() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", MANIFESTS);
    let explain = |families: &[&str]| {
        let call = [
            "explain",
            "tenants/Pod/job -> tenants/Pod/web:80",
            "--lab",
            &manifests,
        ];
        ran(&mut watertight(call.iter().chain(families)))
    };
    let one = explain(&[]);
    assert!(
        one.ends(0)
            .out
            .starts_with("tenants/job -> tenants/web:80 is allowed by the policies\n")
    );
    let both = explain(&["--lab-families=ipv4,ipv6"]);
    for headline in [
        "is allowed by the policies over IPv4\n",
        "is denied by the policies over IPv6\n",
    ] {
        assert!(both.ends(0).out.contains(headline), "{}", both.out);
    }
}

#[test]
fn flag_goes_before_the_suite_and_the_environment_between() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite_with(BOTH));
    let manifests = files.with("manifests.yaml", MANIFESTS);
    let plan = |flag: &[&str], environment: Option<&str>| {
        let call = ["validate", &suite, "--with", &manifests];
        let mut command = watertight(call.iter().chain(flag));
        command.envs(environment.map(|families| ("WATERTIGHT_LAB_FAMILIES", families)));
        ran(&mut command).ends(0).out.contains("of 5 of 5 checks")
    };
    assert!(
        !plan(&[], None),
        "the suite's both families contradict a line"
    );
    assert!(plan(&[], Some("ipv4")));
    assert!(!plan(&["--lab-families=ipv4,ipv6"], Some("ipv4")));
}

#[test]
fn suites_of_one_run_with_different_families_are_refused() {
    let files = Files::new();
    let one = files.with("one.yaml", suite_with(BOTH));
    let other = suite_with("ipv4").replace("metadata-except", "other");
    let other = files.with("other.yaml", other);
    let manifests = files.with("manifests.yaml", MANIFESTS);
    ran(&mut watertight(["plan", &one, &other, "--lab", &manifests]))
        .ends(2)
        .complains("suite metadata-except tests IPv4 and IPv6, suite other tests IPv4");
}

#[test]
fn address_of_a_family_that_the_lab_lacks_says_how_to_get_it() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", MANIFESTS);
    let flow = "tenants/Pod/job -> [2001:db8::1]:80";
    ran(&mut watertight(["explain", flow, "--lab", &manifests]))
        .ends(2)
        .complains("--lab-families ipv4,ipv6");
}

#[test]
fn policies_that_name_a_family_without_addresses_are_noted() {
    let files = Files::new();
    let manifests = MANIFESTS.replace("0.0.0.0/0, except: [169.254.169.254/32]", "'::/0'");
    let manifests = files.with("manifests.yaml", manifests);
    let flow = "tenants/Pod/job -> tenants/Pod/web:80";
    ran(&mut watertight(["explain", flow, "--lab", &manifests]))
        .ends(0)
        .complains("the lab has IPv4 alone");
}

/// A port that no container declares: a Service leads to it, and a probe asks it.
#[test]
fn port_that_a_service_or_a_probe_names_has_a_listener() {
    let _alone = alone();
    let files = Files::new();
    let manifests = files.with(
        "manifests.yaml",
        "apiVersion: apps/v1
kind: Deployment
metadata: { name: api, namespace: s }
spec:
  selector: { matchLabels: { app: api } }
  template: { metadata: { labels: { app: api } }, spec: { containers: [{ name: c, image: i, readinessProbe: { grpc: { port: 9002 } } }] } }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: s }
spec: { selector: { app: api }, ports: [{ port: 80, targetPort: 9001 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: cli, namespace: s, labels: { app: cli } }
spec: { containers: [{ name: c, image: i }] }
",
    );
    let suite = files.with(
        "suite.yaml",
        "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: svc }
spec:
  endpoints:
    api: { namespace: s, workload: Deployment/api, service: api }
    pods: { namespace: s, workload: Deployment/api }
    cli: { namespace: s, workload: Pod/cli }
  expect: [\"cli -> api allowed\", \"cli -> pods:9002 allowed\"]
",
    );
    let ran = ran_again_if_unproven(&["run", &suite, "--lab", &manifests]);
    ran.ends(0);
    assert!(
        ran.err.contains("coverage: the checks touch")
            || ran.out.contains("coverage: the checks touch"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("2 of 2 pods"),
        "the lab's DNS is not counted: {}",
        ran.out
    );
}
