//! `watertight predict` on manifests without addresses, without pods, of many pods, of parts of a
//! suite and of policies that others defeat.

use crate::support::{Files, ran, watertight};

/// A web that may send to a block, a database, and a job whose namespace may send nowhere.
fn blocks(cidr: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: app}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: app, labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: db, namespace: app, labels: {{app: db}}}}, spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 5432}}]}}]}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web-out, namespace: app}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  policyTypes: [Egress]
  egress:
    - to: [{{ipBlock: {{cidr: {cidr}}}}}, {{ipBlock: {{cidr: \"::/0\"}}}}]
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: locked, labels: {{locked: \"yes\"}}}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: job, namespace: locked, labels: {{app: job}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: no-network}}
spec:
  tier: Admin
  priority: 1
  subject: {{namespaces: {{matchLabels: {{locked: \"yes\"}}}}}}
  egress: [{{name: deny, action: Deny, to: [{{networks: [0.0.0.0/0, \"::/0\"]}}]}}]
"
    )
}

const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: blocks }
spec:
  endpoints:
    web: { namespace: app, workload: Pod/web }
    db: { namespace: app, workload: Pod/db }
    job: { namespace: locked, workload: Pod/job }
  expect:
    - { check: web -> db:5432 allowed, tags: [web] }
    - { check: job -> db:5432 denied, tags: [job] }
";

const WEB_TO_DB: &str = "app/Pod/web -> app/Pod/db";

/// The output of a command that ends with a code, and what it says beside.
fn output(arguments: &[&str], code: i32) -> (String, String) {
    let mut ran = ran(&mut watertight(arguments));
    ran.ends(code);
    (std::mem::take(&mut ran.out), std::mem::take(&mut ran.err))
}

#[test]
fn a_block_of_every_address_has_pods_whose_addresses_are_not_given() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", blocks("0.0.0.0/0"));
    let suite = files.with("suite.yaml", SUITE);

    let (map, _) = output(&["predict", &manifests], 0);
    assert!(map.contains(&format!("{WEB_TO_DB}: everything\n")), "{map}");
    assert!(!map.contains("locked/Pod/job -> app"), "{map}");
    for format in ["csv", "json", "dot", "markdown"] {
        let (map, _) = output(
            &["predict", &manifests, "-o", format, "--from", "app/Pod/web"],
            0,
        );
        assert!(map.contains("app/Pod/db"), "{format}: {map}");
    }
    let from = ["predict", &manifests, "--from", "locked/Pod/job"];
    assert_eq!(output(&from, 0).0, "");

    let (lines, _) = output(&["predict", &manifests, "--suite", &suite], 0);
    assert!(
        lines.starts_with("allowed      web -> db:5432") && lines.contains("\ndenied       job"),
        "{lines}"
    );
    let flow = [
        "explain",
        "app/Pod/web -> app/Pod/db:5432",
        "--lab",
        &manifests,
    ];
    let (why, _) = output(&flow, 0);
    assert!(
        why.starts_with("app/web -> app/db:5432 is allowed"),
        "{why}"
    );
}

#[test]
fn what_depends_on_addresses_that_are_not_given_is_unknown_everywhere() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", blocks("10.0.0.0/8"));
    let suite = files.with("suite.yaml", SUITE);
    let rule = "rule 1 of NetworkPolicy app/web-out";

    let (map, notes) = output(&["predict", &manifests], 0);
    assert!(
        map.contains(&format!("{WEB_TO_DB}: unknown for everything\n")),
        "{map}"
    );
    assert!(
        notes.contains(rule) && notes.contains("names 10.0.0.0/8"),
        "{notes}"
    );
    let (csv, _) = output(&["predict", &manifests, "-o", "csv"], 0);
    assert!(
        csv.contains("app/Pod/web,app/Pod/db,,,everything\r\n"),
        "{csv}"
    );
    let (json, _) = output(&["predict", &manifests, "-o", "json"], 0);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let all = json["links"].as_array().expect("links");
    let link = all
        .iter()
        .find(|link| link["from"] == "app/Pod/web" && link["to"] == "app/Pod/db")
        .expect("the link");
    assert_eq!(link["ports"]["tcp"], serde_json::json!([]), "{link}");
    assert_eq!(
        link["unknown"]["tcp"],
        serde_json::json!([[1, 65_535]]),
        "{link}"
    );

    let (lines, _) = output(&["predict", &manifests, "--suite", &suite], 0);
    assert!(
        lines.starts_with("unknown      web -> db:5432") && lines.contains(rule),
        "{lines}"
    );
    let flow = [
        "explain",
        "app/Pod/web -> app/Pod/db:5432",
        "--lab",
        &manifests,
    ];
    let (why, _) = output(&flow, 0);
    assert!(
        why.starts_with("app/web -> app/db:5432 is unknown (allowed in the lab)")
            && why.contains(rule),
        "{why}"
    );
    let (plan, _) = output(&["plan", &suite, "--lab", &manifests], 0);
    assert!(
        plan.contains("is not predicted: the answer depends on addresses"),
        "{plan}"
    );

    let open = files.with("open.yaml", blocks("0.0.0.0/0"));
    let (changes, notes) = output(&["predict", "--diff", &manifests, &open], 0);
    assert!(
        changes.contains(&format!("+ {WEB_TO_DB}: unknown for everything\n")),
        "{changes}"
    );
    assert!(notes.contains(rule), "{notes}");
}

#[test]
fn nothing_is_neither_predicted_nor_compared() {
    let files = Files::new();
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: 'n'}, spec: {podSelector: {}}}\n";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n'}, spec: {containers: [{name: c, image: i}]}}\n";
    let host = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: 'n'}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}\n";
    let policies = files.with("policies.yaml", policy);
    let namespace = files.with(
        "namespace.yaml",
        "{apiVersion: v1, kind: Namespace, metadata: {name: 'n'}}\n",
    );
    let pods = files.with("pods.yaml", pod);
    let hosts = files.with("hosts.yaml", format!("{host}---\n{policy}"));
    let both = files.with("both.yaml", format!("{pod}---\n{policy}"));

    for (arguments, why) in [
        (vec!["predict", &policies], "there is no pod, and 1 policy"),
        (vec!["predict", &namespace], "there is no pod and no policy"),
        (
            vec!["predict", &hosts],
            "every pod shares its node's network",
        ),
        (
            vec!["predict", "--diff", &policies, &policies],
            "nothing to compare: in BEFORE, there is no pod, and 1 policy",
        ),
        (
            vec!["predict", "--diff", &policies, &namespace],
            "in AFTER, there is no pod and no policy",
        ),
    ] {
        let (data, said) = output(&arguments, 2);
        assert!(
            data.is_empty() && said.contains(why),
            "{arguments:?}: {said}"
        );
    }

    let suite = files.with("suite.yaml", SUITE);
    let (lines, said) = output(&["predict", &policies, "--suite", &suite], 2);
    assert!(
        lines.starts_with("unknown      web -> db:5432") && said.contains("nothing to predict"),
        "{lines}{said}"
    );

    let (map, said) = output(&["predict", &pods], 0);
    assert!(
        map.contains("n/Pod/a -> 0.0.0.0/0: everything") && said.contains("there is no policy"),
        "{said}"
    );
    let (_, said) = output(&["predict", "--diff", &both, &policies], 0);
    assert!(
        said.contains("in AFTER, there is no pod, and 1 policy")
            && said.contains("every connection became unreachable"),
        "{said}"
    );
}

#[test]
fn only_checks_with_a_tag_are_predicted() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", blocks("0.0.0.0/0"));
    let suite = files.with("suite.yaml", SUITE);
    let tagged = ["predict", &manifests, "--suite", &suite, "--tag", "job"];
    let (lines, _) = output(&tagged, 0);
    assert!(
        lines.starts_with("denied       job -> db:5432") && lines.lines().count() == 1,
        "{lines}"
    );
    let others = [
        "predict",
        &manifests,
        "--suite",
        &suite,
        "--skip-tag",
        "job",
    ];
    assert!(!output(&others, 0).0.contains("job"));
    let (_, said) = output(&["predict", &manifests, "--tag", "job"], 2);
    assert!(said.contains("go with --suite"), "{said}");
}

/// A Deployment that another one's policy admits.
const WEB: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: webhook, namespace: shop}, spec: {selector: {matchLabels: {app: webhook}}, template: {metadata: {labels: {app: webhook}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow-web, namespace: shop}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}}
";

#[test]
fn a_pod_of_a_workload_is_a_name_for_it() {
    let files = Files::new();
    let manifests = files.with("manifests.yaml", WEB);
    let of_workload = ["predict", &manifests, "--from", "shop/Deployment/webhook"];
    let of_pod = ["predict", &manifests, "--from", "shop/Pod/webhook-0"];
    let (links, _) = output(&of_pod, 0);
    assert!(
        links.contains("shop/Deployment/webhook -> shop/Deployment/web: 80\n"),
        "{links}"
    );
    assert_eq!(links, output(&of_workload, 0).0);

    let unknown = [
        "predict",
        &manifests,
        "--from",
        "shop/Pod/web-7d4b9c5f6-x2x4z",
    ];
    let (_, said) = output(&unknown, 2);
    assert!(
        said.contains("did you mean shop/Deployment/web, whose pods are named like this?"),
        "{said}"
    );
}

#[test]
fn a_quarantine_that_another_policy_defeats_names_it() {
    let files = Files::new();
    let before = files.with("before.yaml", WEB);
    let quarantine = |rules: &str| {
        format!(
            "{WEB}---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: quarantine, namespace: shop}}, spec: {{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress, Egress]{rules}}}}}\n"
        )
    };
    let after = files.with("after.yaml", quarantine(""));
    let (changes, said) = output(&["predict", "--diff", &before, &after], 0);
    assert!(
        changes.contains("- shop/Deployment/web -> 0.0.0.0/0"),
        "{changes}"
    );
    assert!(
        said.contains("NetworkPolicy shop/quarantine")
            && said.contains("isolates shop/Deployment/web for Ingress")
            && said.contains("NetworkPolicy shop/allow-web")
            && !said.contains("for Egress"),
        "{said}"
    );

    // One that admits something is a quarantine only if it has no effect at all.
    let admitting = quarantine(", ingress: [{ports: [{port: 9000}]}]");
    let effective = files.with("effective.yaml", admitting);
    let (_, said) = output(&["predict", "--diff", &before, &effective], 0);
    assert!(!said.contains("takes nothing away"), "{said}");
}

#[test]
fn many_equal_pods_are_one_line_of_the_text_and_each_a_record() {
    let files = Files::new();
    let mut text = String::from(WEB);
    for number in 0..12 {
        text.push_str(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{number:02}, namespace: shop, labels: {{app: p{number:02}}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n"
        ));
    }
    let manifests = files.with("manifests.yaml", text);
    let to = ["predict", &manifests, "--to", "shop/Deployment/web"];
    let (links, notes) = output(&to, 0);
    assert!(
        links.contains("shop/Pod/p00 (and 11 equal to it) -> shop/Deployment/web: 80\n"),
        "{links}"
    );
    assert!(!links.contains("shop/Pod/p01"), "{links}");
    assert!(
        notes.contains("shop/Pod/p00: shop/Pod/p01, ") && notes.contains(" and 6 more"),
        "{notes}"
    );
    let (records, _) = output(&[&to[..], &["-o", "csv"]].concat(), 0);
    for number in 0..12 {
        let record = format!("shop/Pod/p{number:02},shop/Deployment/web,,80,\r\n");
        assert!(records.contains(&record), "{records}");
    }
}
