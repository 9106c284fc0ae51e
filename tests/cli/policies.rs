//! `watertight predict` and `watertight explain`: output and exit codes.

use crate::support::*;
use std::path::Path;

const MANIFESTS: &str = "suites/shop/manifests";
const SUITE: &str = "suites/shop/suite.yaml";

/// The shop with its mistake, in a new folder.
fn mistaken(files: &Files) -> String {
    let folder = files.path("mistaken");
    std::fs::create_dir(&folder).unwrap();
    for name in ["shop.yaml", "data.yaml", "policies-shop.yaml"] {
        std::fs::copy(Path::new(MANIFESTS).join(name), folder.join(name)).unwrap();
    }
    std::fs::copy(
        "suites/shop/mistake/policies-data.yaml",
        folder.join("policies-data.yaml"),
    )
    .unwrap();
    files.name("mistaken")
}

/// The map of the shop's policies in a format.
fn predict(format: &str) -> String {
    let ran = ran(&mut watertight(["predict", MANIFESTS, "-o", format]));
    ran.ends(0);
    ran.out
}

#[test]
fn the_map_is_printed_in_every_format() {
    assert_eq!(
        predict("text"),
        "shop/Deployment/api -> data/StatefulSet/postgres: 5432\n\
         shop/Deployment/web -> shop/Deployment/api: 8080\n\
         shop/Deployment/api -> 203.0.113.0/28: 443\n\
         shop/Deployment/api -> 2001:db8:113::/124: 443\n"
    );
    assert_eq!(
        predict("csv"),
        "from,to,family,ports,unknown\r\n\
         shop/Deployment/api,data/StatefulSet/postgres,,5432,\r\n\
         shop/Deployment/web,shop/Deployment/api,,8080,\r\n\
         shop/Deployment/api,203.0.113.0/28,,443,\r\n\
         shop/Deployment/api,2001:db8:113::/124,,443,\r\n"
    );

    let markdown = predict("markdown");
    assert!(
        markdown.starts_with(
            "| from | to | family | ports | unknown |\n| --- | --- | --- | --- | --- |\n"
        ),
        "{markdown}"
    );
    assert_eq!(markdown.lines().count(), 6, "{markdown}");
    let dot = predict("dot");
    assert!(
        dot.starts_with("digraph policies {") && dot.ends_with("}\n"),
        "{dot}"
    );
    assert!(
        dot.contains("\"shop/Deployment/web\" -> \"shop/Deployment/api\" [label=\"8080\"];"),
        "{dot}"
    );
    let json: serde_json::Value = serde_json::from_str(&predict("json")).unwrap();
    assert_eq!(json["members"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(json["links"].as_array().map(Vec::len), Some(4), "{json}");
    assert_eq!(
        json["links"][0]["ports"]["tcp"],
        serde_json::json!([[5432, 5432]]),
        "{json}"
    );
}

#[test]
fn the_map_is_narrowed_to_one_workload() {
    let from = ran(&mut watertight([
        "predict",
        MANIFESTS,
        "--from",
        "shop/Deployment/web",
    ]));
    assert_eq!(
        from.ends(0).out,
        "shop/Deployment/web -> shop/Deployment/api: 8080\n"
    );
    let to = ran(&mut watertight([
        "predict",
        MANIFESTS,
        "--to",
        "data/StatefulSet/postgres",
    ]));
    assert_eq!(
        to.ends(0).out,
        "shop/Deployment/api -> data/StatefulSet/postgres: 5432\n"
    );
    let none = ran(&mut watertight([
        "predict",
        MANIFESTS,
        "--from",
        "shop/Deployment/web",
        "--to",
        "data/StatefulSet/postgres",
    ]));
    assert_eq!(none.ends(0).out, "");
}

#[test]
fn newly_reachable_links_are_printed_before_unreachable_ones() {
    let files = Files::new();
    let mistaken = mistaken(&files);
    let opened = ran(&mut watertight(["predict", "--diff", MANIFESTS, &mistaken]));
    opened
        .ends(0)
        .complains("became reachable, 0 became unreachable");
    assert!(
        opened
            .out
            .contains("+ shop/Deployment/web -> data/StatefulSet/postgres: 5432\n"),
        "{}",
        opened.out
    );
    assert!(!opened.out.contains("\n- "), "{}", opened.out);

    // The other way round the same link is closed; a change of one port is printed as that port.
    let closed = ran(&mut watertight([
        "predict",
        "--diff",
        &mistaken,
        MANIFESTS,
        "--exit-code",
    ]));
    closed.ends(3);
    assert!(
        closed
            .out
            .contains("- shop/Deployment/web -> data/StatefulSet/postgres: 5432\n"),
        "{}",
        closed.out
    );

    let same = ran(&mut watertight([
        "predict",
        "--diff",
        MANIFESTS,
        MANIFESTS,
        "--exit-code",
    ]));
    assert_eq!(
        same.ends(0)
            .complains("0 became reachable, 0 became unreachable")
            .out,
        ""
    );

    let json = ran(&mut watertight([
        "predict", "--diff", &mistaken, MANIFESTS, "-o", "json",
    ]));
    let json: serde_json::Value = serde_json::from_str(&json.ends(0).out).unwrap();
    let closed = json["closed"].as_array().unwrap();
    assert_eq!(json["opened"], serde_json::json!([]), "{json}");
    assert!(
        closed
            .iter()
            .any(|link| link["from"] == "shop/Deployment/web"),
        "{json}"
    );

    let none = ran(&mut watertight([
        "predict", "--diff", MANIFESTS, MANIFESTS, "-o", "json",
    ]));
    let none: serde_json::Value = serde_json::from_str(&none.ends(0).out).unwrap();
    assert_eq!(none, serde_json::json!({ "opened": [], "closed": [] }));
    let csv = ran(&mut watertight([
        "predict", "--diff", &mistaken, MANIFESTS, "-o", "csv",
    ]));
    assert!(
        csv.ends(0)
            .out
            .starts_with("change,from,to,family,ports,unknown\r\nclosed,"),
        "{}",
        csv.out
    );

    let markdown = ran(&mut watertight([
        "predict", "--diff", &mistaken, MANIFESTS, "-o", "markdown",
    ]));
    assert!(
        markdown
            .ends(0)
            .out
            .contains("| closed | shop/Deployment/web |"),
        "{}",
        markdown.out
    );

    let dot = ran(&mut watertight([
        "predict", "--diff", MANIFESTS, &mistaken, "-o", "dot",
    ]));
    assert!(dot.ends(0).out.contains("color=red"), "{}", dot.out);
}

#[test]
fn lines_of_a_suite_are_predicted_and_contradictions_end_with_3() {
    let files = Files::new();
    let mistaken = mistaken(&files);
    let fits = ran(&mut watertight(["predict", MANIFESTS, "--suite", SUITE]));
    fits.ends(0);
    assert_eq!(fits.out.lines().count(), 18, "{}", fits.out);
    assert!(
        fits.out
            .contains("denied       web-tier -> postgres:5432 denied [tier-isolation]"),
        "{}",
        fits.out
    );

    let differs = ran(&mut watertight(["predict", &mistaken, "--suite", SUITE]));
    differs.ends(3);
    let at = differs
        .out
        .find("allowed!     web-tier -> postgres:5432 denied")
        .expect("the contradiction");
    assert!(
        differs.out[at..].contains("the policies cannot do what the suite expects"),
        "{}",
        differs.out
    );

    let json = ran(&mut watertight([
        "predict", &mistaken, "--suite", SUITE, "-o", "json",
    ]));
    let json: serde_json::Value = serde_json::from_str(&json.ends(3).out).unwrap();
    let contradicted: Vec<&serde_json::Value> = json
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| !check["contradiction"].is_null())
        .collect();
    assert_eq!(contradicted.len(), 1, "{json}");
    assert_eq!(
        (&contradicted[0]["predicted"], &contradicted[0]["expected"]),
        (&"allowed".into(), &"denied".into())
    );
    for (format, words) in [
        ("csv", "check,expected,predicted,contradiction,line\r\n"),
        (
            "markdown",
            "| check | expected | predicted | contradiction | line |",
        ),
        (
            "dot",
            "\"web-tier\" -> \"postgres:5432\" [label=\"allowed\", color=red];",
        ),
    ] {
        let ran = ran(&mut watertight([
            "predict", &mistaken, "--suite", SUITE, "-o", format,
        ]));
        assert!(
            ran.ends(3).out.contains(words),
            "{words:?} is not in:\n{}",
            ran.out
        );
    }
}

#[test]
fn invalid_prediction_requests_are_refused() {
    let files = Files::new();
    let absent = files.name("absent.yaml");
    let kubeconfig = files.name("kubeconfig");
    let calls: [(&[&str], i32, &str); 13] = [
        (&["predict", &absent], 2, "it does not exist"),
        (
            &["predict", MANIFESTS, "--from", "shop/Deployment/wbe"],
            2,
            "did you mean shop/Deployment/web?",
        ),
        (
            &["predict", MANIFESTS, "--to", "missing"],
            2,
            "no workload or pod is called missing",
        ),
        (
            &["predict", MANIFESTS, "-o", "xml"],
            2,
            "invalid value 'xml'",
        ),
        (
            &[
                "predict",
                MANIFESTS,
                "--suite",
                SUITE,
                "--from",
                "shop/Deployment/web",
            ],
            2,
            "cannot be used with",
        ),
        (&["predict", "--diff", MANIFESTS], 2, "2 values required"),
        (
            &["predict", "--diff", MANIFESTS, &absent],
            2,
            "it does not exist",
        ),
        (&["predict", "--kubeconfig", &kubeconfig], 5, "kubeconfig"),
        (
            &["predict", MANIFESTS, "--exit-code"],
            2,
            "--exit-code goes with --diff or --apply",
        ),
        (
            &["predict", MANIFESTS, "--apply", MANIFESTS],
            2,
            "cannot be used with",
        ),
        (
            &["predict", "--apply", &absent, "--kubeconfig", &kubeconfig],
            2,
            "it does not exist",
        ),
        (
            &["predict", "--apply", MANIFESTS, "--kubeconfig", &kubeconfig],
            5,
            "kubeconfig",
        ),
        (
            &["predict", "--suite", SUITE, "--kubeconfig", &kubeconfig],
            5,
            "kubeconfig",
        ),
    ];

    for (call, code, words) in calls {
        let ran = ran(&mut watertight(call));
        ran.ends(code).complains(words);
        assert_eq!(ran.out, "", "{call:?}");
    }
}

fn explained(flow: &str) -> Ran {
    ran(&mut watertight(["explain", flow, "--lab", MANIFESTS]))
}

#[test]
fn an_allowed_flow_is_explained_by_the_rules_that_admit_it() {
    let why = explained("shop/Deployment/web -> shop/Deployment/api:8080");
    why.ends(0);
    for words in [
        "shop/web-0 -> shop/api-0:8080 is allowed by the policies",
        "Egress of shop/web-0 allows it: rule 1 of NetworkPolicy shop/web (suites/shop/manifests/policies-shop.yaml:21) admits it",
        "Ingress of shop/api-0 allows it: rule 1 of NetworkPolicy shop/api (suites/shop/manifests/policies-shop.yaml:34) admits it",
        "rule 1 (suites/shop/manifests/policies-shop.yaml:28) admits: decides",
        "for it to be denied, the smallest change first (each was tried):",
    ] {
        assert!(why.out.contains(words), "{words:?} is not in:\n{}", why.out);
    }
}

#[test]
fn a_denied_flow_is_explained_by_the_side_that_denies_it() {
    let ingress = explained("shop/Deployment/web -> data/StatefulSet/postgres:5432");
    ingress.ends(0);
    for words in [
        "is denied by the policies",
        "Egress of shop/web-0 allows it: rule 2 of NetworkPolicy shop/web",
        "Ingress of data/postgres-0 denies it: NetworkPolicy data/postgres (suites/shop/manifests/policies-data.yaml:1) isolates",
        "peer no: pods with app=api in namespaces with tier=frontend: the pod has app=web, not app=api",
        "port yes: 5432",
    ] {
        assert!(
            ingress.out.contains(words),
            "{words:?} is not in:\n{}",
            ingress.out
        );
    }

    let egress = explained("shop/Deployment/web -> 203.0.113.66:443");
    egress.ends(0);
    for words in [
        "Egress of shop/web-0 denies it:",
        "Ingress of 203.0.113.66 allows it: policies select pods, and this address is outside the cluster",
        "ipBlock 203.0.113.66/32 on port 443",
    ] {
        assert!(
            egress.out.contains(words),
            "{words:?} is not in:\n{}",
            egress.out
        );
    }
}

#[test]
fn a_wrong_port_is_explained_by_the_rule_for_another_port() {
    let why = explained("shop/Deployment/web -> shop/Deployment/api:81");
    why.ends(0);
    assert!(why.out.contains("port no: \"http\", not 81"), "{}", why.out);
    assert!(
        why.out
            .contains("add port 81 to rule 1 of NetworkPolicy shop/web"),
        "{}",
        why.out
    );

    let json = ran(&mut watertight([
        "explain",
        "shop/Deployment/web -> shop/Deployment/api:81",
        "--lab",
        MANIFESTS,
        "-o",
        "json",
    ]));
    let json: serde_json::Value = serde_json::from_str(&json.ends(0).out).unwrap();
    assert_eq!(json[0]["allowed"], false, "{json}");
    assert_eq!(json[0]["sides"][0]["direction"], "Egress", "{json}");
}

#[test]
fn flows_that_cannot_be_explained_are_refused() {
    let unknown = explained("shop/Deployment/wbe -> shop/Deployment/api:8080");
    unknown.ends(2).complains(
        "there are no pods of Deployment/wbe in namespace shop (there are pods of Deployment/api, Deployment/web)",
    );
    let nonsense = explained("nonsense");
    nonsense.ends(2).complains("the line has no arrow");
    let port = explained("shop/Deployment/web -> shop/Deployment/api:70000");
    port.ends(2).complains("70000");
    let files = Files::new();
    let absent = files.name("absent.yaml");
    let manifests = ran(&mut watertight([
        "explain",
        "a/Pod/b -> a/Pod/c:1",
        "--lab",
        &absent,
    ]));
    manifests.ends(2).complains("it does not exist");
    let kubeconfig = files.name("kubeconfig");
    let cluster = ran(&mut watertight([
        "explain",
        "a/Pod/b -> a/Pod/c:1",
        "--kubeconfig",
        &kubeconfig,
    ]));
    cluster.ends(5).complains("kubeconfig");
    let both = ran(&mut watertight([
        "explain",
        "a/Pod/b -> a/Pod/c:1",
        "--lab",
        MANIFESTS,
        "--apply",
        MANIFESTS,
    ]));
    both.ends(2).complains("cannot be used with");
    for ran in [unknown, nonsense, port, manifests, cluster, both] {
        assert_eq!(ran.out, "");
    }
}

const TENANTS: &str = "tests/cli/tenants.yaml";

fn check_tenants(line: &str) -> Ran {
    ran(&mut watertight(["check", line, "--lab", TENANTS]))
}

#[test]
fn cluster_wide_policies_are_enforced_by_the_lab() {
    check_tenants("blue/Pod/client -> red/Pod/web:8080 denied").ends(0);

    // An allowed line that a policy denies is violated.
    check_tenants("blue/Pod/client -> red/Pod/web:8080 allowed")
        .ends(3)
        .complains("rule 2 of ClusterNetworkPolicy tenants");
    let closed = check_tenants("red/Pod/client -> blue/Pod/client:8080 denied");
    closed.ends(0).complains(
        "Egress rule 2 of ClusterNetworkPolicy later (tests/cli/tenants.yaml:36) at tests/cli/tenants.yaml:45: this \
         version does not know to[0].gateways, so the rule fails closed",
    );
}

#[test]
fn tiers_are_explained_and_unresolved_domains_are_noted() {
    let why = ran(&mut watertight([
        "explain",
        "blue/Pod/client -> red/Pod/web:8080",
        "--lab",
        TENANTS,
    ]));
    why.ends(0).complains(
        "the addresses of updates.example are unknown, so the rule matches none of them",
    );
    for words in [
        "Ingress of red/web denies it: rule 2 of ClusterNetworkPolicy tenants (tests/cli/tenants.yaml:25) denies it",
        "rule 1 \"own\" (tests/cli/tenants.yaml:33) Pass: does not match",
        "rule 2 \"others\" (tests/cli/tenants.yaml:34) Deny: decides",
    ] {
        assert!(why.out.contains(words), "{words:?} is not in:\n{}", why.out);
    }

    let own = ran(&mut watertight([
        "explain",
        "red/Pod/client -> red/Pod/web:8080",
        "--lab",
        TENANTS,
    ]));
    let own = &own.ends(0).out;
    assert!(
        own.contains(
            "ClusterNetworkPolicy closed (tests/cli/tenants.yaml:47) selects it and is not evaluated"
        ),
        "{own}"
    );
    assert!(
        own.contains("note: red/client may not ask cluster DNS"),
        "{own}"
    );
}

#[test]
fn the_map_notes_policies_that_select_no_pod() {
    let map = ran(&mut watertight(["predict", TENANTS]));
    map.ends(0).complains(
        "NetworkPolicy red/wbe (tests/cli/tenants.yaml:57) selects no pod: it wants app=wbe",
    );
}
