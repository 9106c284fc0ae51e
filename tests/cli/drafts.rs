//! `watertight suite --from`: its drafts, every line of which the lab proves.

use crate::support::*;
use serde_json::Value;

const EXAMPLES: [&str; 3] = ["shop", "platform", "protocols"];

#[test]
fn drafts_of_the_examples_are_valid_and_every_line_is_proven() {
    let _alone = alone();
    let files = Files::new();
    for example in EXAMPLES {
        let manifests = format!("suites/{example}/manifests");
        let call = ["suite", "--from", &manifests, "--name", example];
        let both_families = ["--lab-families", "ipv4,ipv6"];
        let call = || ran(&mut watertight(call.iter().chain(&both_families)));
        let drafted = call();
        drafted.ends(0);
        assert!(
            drafted
                .out
                .contains("settings: { labFamilies: [ipv4, ipv6] }"),
            "{}",
            drafted.out
        );
        let again = call();
        assert_eq!(drafted.out, again.out, "one input, one draft");
        let file = files.with(&format!("{example}.yaml"), &drafted.out);
        ran(&mut watertight([
            "validate", "--strict", &file, "--with", &manifests,
        ]))
        .ends(0);
        ran(&mut watertight(["predict", &manifests, "--suite", &file])).ends(0);
        run_until_proven(&files, &file, &manifests);
    }
}

/// Runs until every line is proven, three times at most: on a busy machine probes lack CPU time and
/// checks are unproven. Ports that nothing declares stay unproven, where policies admit them.
fn run_until_proven(files: &Files, file: &str, manifests: &str) {
    let report = files.name("report.json");
    let document = format!("json={report}");
    let call = [
        "run",
        file,
        "--lab",
        manifests,
        "--timeout",
        "40s",
        "--report",
        &document,
    ];
    let mut open = Vec::new();
    for _ in 0..3 {
        let run = ran(&mut watertight(call));
        assert!(matches!(run.code, Some(0 | 4)), "{}\n{}", run.out, run.err);
        open = open_lines(std::path::Path::new(&report));
        if open.is_empty() {
            return;
        }
    }
    panic!("{open:?}");
}

/// Whether a check stands for an endpoint of which no port is known, which a draft cannot mend.
fn is_of_an_endpoint_without_ports(check: &Value) -> bool {
    let has_no_port = check["target"]
        .as_str()
        .is_some_and(|target| target.ends_with(":*"));
    has_no_port && check["reason"]["code"] == "unprovable"
}

/// The checks that are not proven, other than those that stand for ports that nothing declares.
fn open_lines(report: &std::path::Path) -> Vec<String> {
    let report = json(report);
    let checks = report["checks"].as_array().expect("checks");
    checks
        .iter()
        .filter(|check| check["verdict"] != "proven")
        .filter(|check| check["reason"]["code"] != "policies-admit-more")
        .filter(|check| !is_of_an_endpoint_without_ports(check))
        .map(|check| check["name"].to_string())
        .collect()
}

#[test]
fn a_draft_names_the_rule_behind_a_line_and_marks_guesses() {
    let drafted = ran(&mut watertight([
        "suite",
        "--from",
        "suites/shop/manifests",
    ]));
    drafted.ends(0);
    for line in [
        "# NetworkPolicy data/postgres (suites/shop/manifests/policies-data.yaml:1) isolates postgres.",
        "# by egress rule 1 of NetworkPolicy shop/api, ingress rule 1 of NetworkPolicy data/postgres\n    - api -> postgres allowed",
        "# stopped by NetworkPolicy data/postgres alone: egress rule 2 of NetworkPolicy shop/web would let it through\n    - web -> postgres denied",
        "    # metadata: { ip: 169.254.169.254, ports: [80] }   # guessed:",
        "    # - in-shop, postgres -> metadata, elsewhere denied",
        "metadata: { name: drafted }",
        "everythingElse: denied",
    ] {
        assert!(
            drafted.out.contains(line),
            "{line:?} is not in:\n{}",
            drafted.out
        );
    }
    drafted.complains("policies name addresses of the other family");
    let block = "# Address blocks of a family that no pod has an address of, so that nothing can be sent there:\n  #   2001:db8:113::/124";
    assert!(drafted.out.contains(block), "{}", drafted.out);
}

#[test]
fn a_draft_names_endpoints_without_dns_and_unknown_fields() {
    let drafted = ran(&mut watertight([
        "suite",
        "--from",
        "tests/cli/tenants.yaml",
    ]));
    drafted
        .ends(0)
        .complains("this version does not know to[0].gateways");
    let title = "  # Endpoints that may not ask cluster DNS, so that they reach nothing by name:\n  #   red-client\n  #   web\n";
    assert!(drafted.out.contains(title), "{}", drafted.out);
}

#[test]
fn a_draft_that_fails_prints_no_suite() {
    let files = Files::new();
    let broken = files.with("broken.yaml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: x, namespace: a }\nspec: { podSelector: {}, ingress: [{ ports: [{ port: 70000 }] }] }\n");
    let host_network = files.with("host-network.yaml", "apiVersion: v1\nkind: Pod\nmetadata: { name: p, namespace: a }\nspec: { hostNetwork: true, containers: [{ name: c, image: i }] }\n");
    let absent = files.name("absent.yaml");
    let kubeconfig = files.name("kubeconfig");
    let calls: [(&[&str], i32, &str); 6] = [
        (&["suite"], 2, "--from"),
        (&["suite", "--from", &absent], 2, "it does not exist"),
        (&["suite", "--from", &broken], 2, "broken.yaml:4"),
        (
            &["suite", "--from", WORLD, "--name", "Not A Name"],
            2,
            "\"Not A Name\" is not a name",
        ),
        (
            &["suite", "--from", "cluster", "--kubeconfig", &kubeconfig],
            5,
            "kubeconfig",
        ),
        (
            &["suite", "--from", &host_network, "--from", &absent],
            2,
            "it does not exist",
        ),
    ];

    for (call, code, words) in calls {
        let ran = ran(&mut watertight(call));
        ran.ends(code).complains(words);
        assert_eq!(ran.out, "", "{call:?}");
    }

    // The lab has cluster DNS even without other pods, and pods in their node's network are named.
    let only_dns = ran(&mut watertight(["suite", "--from", &host_network]));
    only_dns.ends(0);
    assert!(only_dns.out.contains("#   a/Pod/p"), "{}", only_dns.out);
}

#[test]
fn a_draft_is_read_from_standard_input_and_written_to_a_pipe() {
    let world = std::fs::read(WORLD).unwrap();
    let drafted = fed(&mut watertight(["suite", "--from", "-"]), &world);
    drafted.ends(0);
    let validated = fed(&mut watertight(["validate", "-"]), drafted.out.as_bytes());
    validated.ends(0);
    assert!(
        validated.out.contains("suite drafted is valid"),
        "{}",
        validated.out
    );
}

/// What a policy says of the metadata address, whatever port it names, is for a person to choose.
#[test]
fn the_metadata_address_is_a_comment_at_its_own_port() {
    let files = Files::new();
    let manifests = files.with(
        "manifests.yaml",
        "apiVersion: v1
kind: Pod
metadata: { name: api, namespace: pay, labels: { app: api } }
spec: { containers: [{ name: c, image: i, ports: [{ containerPort: 8080 }] }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: out, namespace: pay }
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{ to: [{ ipBlock: { cidr: 0.0.0.0/0, except: [169.254.169.254/32] } }], ports: [{ port: 443 }] }]
",
    );
    let drafted = ran(&mut watertight(["suite", "--from", &manifests]));
    drafted.ends(0);
    let lines = drafted.out.lines().map(str::trim);
    let of_metadata: Vec<&str> = lines
        .filter(|line| line.contains("metadata") && !line.starts_with("metadata: { name"))
        .collect();
    assert!(!of_metadata.is_empty());
    assert!(
        of_metadata.iter().all(|line| line.starts_with('#')),
        "{of_metadata:?}"
    );
    assert!(
        of_metadata
            .iter()
            .any(|line| line.starts_with("# metadata: { ip: 169.254.169.254, ports: [80] }")),
        "{of_metadata:?}"
    );
    assert!(
        of_metadata.contains(&"# - api -> metadata denied"),
        "{of_metadata:?}"
    );

    // What is uncommented is valid, and the policies agree with it.
    let uncommented: String = drafted
        .out
        .lines()
        .map(|line| {
            let optional = line.starts_with("    # - ")
                || line.starts_with("    # metadata:")
                || line.starts_with("    # elsewhere:");
            let line = if optional {
                line.replacen("# ", "", 1)
            } else {
                line.to_owned()
            };
            line + "\n"
        })
        .collect();
    let suite = files.with("suite.yaml", uncommented);
    let validated = ran(&mut watertight([
        "validate", "--strict", &suite, "--with", &manifests,
    ]));
    validated.ends(0);
}

#[test]
fn namespaces_and_labels_select_what_a_draft_is_about() {
    let manifests = "suites/shop/manifests";
    let drafted = |options: &[&str]| {
        let call = ["suite", "--from", manifests];
        ran(&mut watertight(call.iter().chain(options)))
    };
    let data = drafted(&["-n", "data"]);
    data.ends(0);
    assert!(
        data.out.contains("postgres: {") && !data.out.contains("namespace: shop"),
        "{}",
        data.out
    );
    let both = drafted(&["-n", "data,shop", "-l", "app!=web"]);
    both.ends(0);
    assert!(
        both.out.contains("postgres: {") && both.out.contains("api: {"),
        "{}",
        both.out
    );
    assert!(!both.out.contains("Deployment/web"), "{}", both.out);
    drafted(&["-n", "dat"])
        .ends(2)
        .complains("-n dat selects no pod");
    drafted(&["-l", "app in web"])
        .ends(2)
        .complains("selects no labels");
}
