//! Tests of cluster-wide policies, and of kinds and groups that are nearly those of policies.

use super::{faults, good};
use crate::inventory::Policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A policy of each kind with the same subject and one rule of each direction.
fn policies(subject: &str, peer: &str) -> [(&'static str, String); 3] {
    let object = |version: &str, kind: &str, fields: &str, accept: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{ name: default }}\nspec: {{ {fields} subject: {subject},\n  \
             ingress: [{{ action: Deny, from: [{peer}] }}],\n  egress: [{{ action: {accept}, to: [{peer}] }}] }}\n"
        )
    };
    [
        (
            "a ClusterNetworkPolicy",
            object(
                "v1alpha2",
                "ClusterNetworkPolicy",
                "tier: Admin, priority: 1,",
                "Accept",
            ),
        ),
        (
            "an AdminNetworkPolicy",
            object("v1alpha1", "AdminNetworkPolicy", "priority: 1,", "Allow"),
        ),
        (
            "a BaselineAdminNetworkPolicy",
            object("v1alpha1", "BaselineAdminNetworkPolicy", "", "Allow"),
        ),
    ]
}

#[test]
fn misspelt_selectors_of_cluster_policies_are_problems_in_the_subject_and_in_peers() {
    let whole = "{ namespaces: {} }";
    let cases = [
        (
            "{ namespaces: { matchlabels: { a: b } } }",
            "matchlabels",
            "matchLabels",
        ),
        (
            "{ namespaces: { matchExpresions: [] } }",
            "matchExpresions",
            "matchExpressions",
        ),
        (
            "{ pods: { namespaceSelector: {}, podSelector: { matchLabel: { a: b } } } }",
            "matchLabel",
            "matchLabels",
        ),
        (
            "{ pods: { namespaceSelector: {}, podSelector: {}, podselector: { matchLabels: { a: b } } } }",
            "podselector",
            "podSelector",
        ),
    ];
    for (selector, field, meant) in cases {
        for (kind, text) in policies(selector, whole) {
            let found = faults(&text);
            let expected = format!(
                "{kind} has no field \"{field}\" here; the API server would silently drop it [did you mean {meant}?]"
            );
            assert!(
                found[0].starts_with("4:") && found[0].ends_with(&expected),
                "{found:?}"
            );
        }
        for (_, text) in policies(whole, selector) {
            let found = faults(&text);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().all(|fault| fault.contains(field)), "{found:?}");
        }
    }
    for (kind, text) in policies(whole, whole) {
        assert_eq!(good(&text).policies.len(), 1, "{kind}");
    }
}

#[test]
fn misspelt_fields_of_cluster_policies_are_problems_on_every_level() {
    let text = |spec: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{ name: p }}\nspec: {{ tier: Admin, priority: 1, subject: {{ namespaces: {{}} }}, {spec} }}\n"
        )
    };
    let cases = [
        ("ingres: []", "\"ingres\""),
        (
            "ingress: [{ action: Deny, form: [], from: [{ namespaces: {} }] }]",
            "\"form\"",
        ),
        (
            "ingress: [{ action: Deny, from: [{ namespaces: {}, podSelector: {} }] }]",
            "\"podSelector\"",
        ),
        (
            "ingress: [{ action: Deny, from: [{ namespaces: {} }], protocol: [{ tcp: { destinationPort: { number: 80 } } }] }]",
            "\"protocol\"",
        ),
        (
            "ingress: [{ action: Deny, from: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { number: 80, endPort: 90 } } }] }]",
            "\"endPort\"",
        ),
    ];
    for (spec, field) in cases {
        let found = faults(&text(spec));
        assert!(found[0].contains(field), "{spec}: {found:?}");
    }
    let moved = text("ingress: []").replace("{ name: p }", "{ name: p, lables: { a: b } }");
    assert!(faults(&moved)[0].contains("did you mean labels?"));
    // A field of a newer version is none of these: its rule fails closed.
    let newer = text("ingress: [{ action: Deny, from: [{ namespaces: {} }], schedule: nights }]");
    let Policy::Cluster(policy) = &good(&newer).policies[0] else {
        panic!("a cluster-wide policy")
    };
    assert_eq!(policy.ingress[0].unknown, ["schedule"]);
}

#[test]
fn pods_without_a_namespace_selector_are_those_of_every_namespace_in_v1alpha2_only() {
    let [cluster, admin, baseline] = policies(
        "{ pods: { podSelector: { matchLabels: { a: b } } } }",
        "{ pods: { podSelector: {} } }",
    );
    let Policy::Cluster(policy) = &good(&cluster.1).policies[0] else {
        panic!("a cluster-wide policy")
    };
    assert_eq!(policy.subject.namespaces, LabelSelector::default());
    assert_ne!(policy.subject.pods, LabelSelector::default());
    for (_, text) in [admin, baseline] {
        assert!(faults(&text)[0].contains("pods needs a namespaceSelector and a podSelector"));
    }
    let [cluster, ..] = policies("{ pods: { namespaceSelector: {} } }", "{ namespaces: {} }");
    assert!(faults(&cluster.1)[0].contains("pods needs a podSelector"));
}

#[test]
fn a_baseline_policy_has_the_one_name_that_the_api_accepts() {
    let [_, _, (_, baseline)] = policies("{ namespaces: {} }", "{ namespaces: {} }");
    let found = faults(&baseline.replace("name: default", "name: base"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(
            "3:19 a BaselineAdminNetworkPolicy called \"base\"; the API accepts one, called default"
        ),
        "{found:?}"
    );
}

#[test]
fn policies_under_a_wrong_group_or_a_misspelt_kind_are_problems() {
    let object = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: p }}\nspec: {{}}\n")
    };
    let meant = "[did you mean NetworkPolicy, with apiVersion: networking.k8s.io/v1?]";
    for (version, kind) in [
        ("v1", "NetworkPolicy"),
        ("apps/v1", "NetworkPolicy"),
        ("policy/v1", "NetworkPolicy"),
        ("v1", "networkpolicy"),
        ("networking.k8.io/v1", "NetworkPolicy"),
        ("Networking.k8s.io/v1", "NetworkPolcy"),
        ("policy.networking.k8s.io/v1alpha2", "NetworkPolicy"),
    ] {
        let found = faults(&object(version, kind));
        assert!(found[0].ends_with(meant), "{version} {kind}: {found:?}");
    }
    let found = faults(&object("networking.k8s.io/v1", "AdminNetworkPolicy"));
    assert!(
        found[0].contains("apiVersion: policy.networking.k8s.io/v1alpha1"),
        "{found:?}"
    );
    assert!(faults(&object("v1", "Deployment"))[0].contains("apiVersion: apps/v1"));

    // Kinds of other projects, and Kubernetes' own that are not read, are no misspelling.
    for (version, kind) in [
        ("networking.k8s.aws/v1alpha1", "ClusterNetworkPolicy"),
        ("crd.projectcalico.org/v1", "NetworkPolicy"),
        ("serving.knative.dev/v1", "Service"),
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("v1", "Secret"),
        ("v1", "Endpoints"),
        ("v1", "ServiceAccount"),
        ("v1", "ReplicationController"),
        ("apps/v1", "ControllerRevision"),
        ("networking.k8s.io/v1", "Ingress"),
        ("policy/v1", "PodDisruptionBudget"),
    ] {
        let manifests = good(&object(version, kind));
        let not_read = manifests.ignored.len() + manifests.unread_policies.len();
        assert_eq!(not_read, 1, "{version} {kind}");
    }
}

#[test]
fn a_mapping_where_a_list_belongs_is_described_in_words_of_yaml() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p }}\nspec: {spec}\n"
        )
    };
    for (spec, expected) in [
        (
            "{ podSelector: {}, ingress: [{ from: { podSelector: {} } }] }",
            "from must be a list, and is a mapping [begin each item with '- ']",
        ),
        (
            "{ podSelector: {}, ingress: { from: [] } }",
            "ingress must be a list, and is a mapping [begin each item with '- ']",
        ),
        (
            "{ podSelector: {}, ingress: [{ ports: { port: 80 } }] }",
            "ports must be a list, and is a mapping [begin each item with '- ']",
        ),
        (
            "{ podSelector: [] }",
            "podSelector must be a mapping, and is a list [leave out the '- ' or the brackets]",
        ),
        (
            "{ podSelector: { matchLabels: [{ a: b }] } }",
            "matchLabels must be a mapping, and is a list [leave out the '- ' or the brackets]",
        ),
        (
            "{ podSelector: { matchLabels: { a: { b: c } } } }",
            "a must be a text, and is a mapping",
        ),
    ] {
        let found = faults(&policy(spec));
        assert!(found[0].ends_with(expected), "{spec}: {found:?}");
    }
    let cluster = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: p }\nspec: { tier: Admin, priority: 1, \
                   subject: { namespaces: {} }, ingress: [{ action: Deny, from: { namespaces: {} } }] }\n";
    assert!(faults(cluster)[0].contains("from must be a list, and is a mapping"));
}

#[test]
fn misspelt_fields_of_pods_workloads_and_services_are_problems() {
    let pod =
        |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: p }}\nspec: {spec}\n");
    let service = |spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: s }}\nspec: {spec}\n")
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: d }\nspec: { selector: { matchLabels: { a: b } }, template: { metadata: { labels: { a: b } }, \
                      spec: { containers: [{ name: c, ports: [{ containerport: 80 }] }] } } }\n";
    for (text, expected) in [
        (
            pod("{ containers: [{ name: c, ports: [{ containerport: 80 }] }] }"),
            "4:43 a Pod has no field \"containerport\" here; the API server would silently drop it [did you mean containerPort?]",
        ),
        (
            pod("{ containers: [{ name: c, Ports: [] }] }"),
            "[did you mean ports?]",
        ),
        (
            pod("{ hostnetwork: true, containers: [{ name: c }] }"),
            "[did you mean hostNetwork?]",
        ),
        (
            deployment.to_owned(),
            "a Deployment has no field \"containerport\" here; the API server would silently drop it [did you mean containerPort?]",
        ),
        (
            service("{ selector: { a: b }, ports: [{ port: 80, targetport: 8080 }] }"),
            "[did you mean targetPort?]",
        ),
    ] {
        let found = faults(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(expected), "{found:?}");
    }
    // Fields that are not read, and those of other versions, are none.
    let older =
        pod("{ containers: [{ name: c }] }").replace("name: p }", "name: p, clusterName: x }");
    good(&older);
    good(&pod(
        "{ hostPID: true, hostUsers: false, hostname: x, future: 1, containers: [{ name: c, ports: [{ containerPort: 80, family: x }] }] }",
    ));
}
