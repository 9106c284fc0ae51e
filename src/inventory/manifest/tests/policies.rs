//! Tests of NetworkPolicies, with and without problems.

use super::{faults, good};
use crate::inventory::Policy;

/// A policy whose spec is `spec`, in flow style on line 4.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p, namespace: shop }}\nspec: {spec}\n"
    )
}

#[test]
fn specs_that_the_api_server_accepts_have_no_problem() {
    for spec in [
        "{}",
        "{ podSelector: {} }",
        "{ podSelector: {}, policyTypes: [Egress], egress: [] }",
        "{ podSelector: { matchLabels: { app: web, \"x.io/y\": \"\" } }, ingress: [{}] }",
        "{ podSelector: { matchExpressions: [{ key: a, operator: In, values: [b] }, { key: c, operator: DoesNotExist }] } }",
        "{ podSelector: {}, ingress: [{ from: [], ports: [] }] }",
        "{ podSelector: {}, ingress: [{ from: [{ podSelector: {}, namespaceSelector: {} }], ports: [{ port: 80 }, { protocol: UDP }] }] }",
        "{ podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: 10.0.0.1/8, except: [10.1.0.0/16] } }], ports: [{ port: 80, endPort: 80 }] }] }",
        "{ podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: \"::/0\", except: [\"fd00::/8\"] } }], ports: [{ port: http-2, protocol: SCTP }] }] }",
    ] {
        assert_eq!(good(&policy(spec)).policies.len(), 1, "{spec}");
    }
}

#[test]
fn each_problem_of_a_spec_is_reported_once_on_its_line() {
    let cases = [
        // Selectors.
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: in, values: [b] }] } }",
            "unknown operator \"in\" [did you mean In?]",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: In }] } }",
            "operator In needs at least one value",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: NotIn, values: [] }] } }",
            "operator NotIn needs at least one value",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: Exists, values: [b] }] } }",
            "operator Exists takes no values",
        ),
        (
            "{ podSelector: { matchLabels: { -a: b } } }",
            "label key \"-a\" must be",
        ),
        (
            "{ podSelector: { matchLabels: { a: \"b c\" } } }",
            "label value \"b c\" must be",
        ),
        (
            "{ podSelector: { matchLabels: { a: true } } }",
            "invalid type: boolean `true`, expected a string [quote it",
        ),
        // Peers.
        (
            "{ ingress: [{ from: [{}] }] }",
            "a peer needs a podSelector",
        ),
        (
            "{ egress: [{ to: [{ podSelector: {}, ipBlock: { cidr: 10.0.0.0/8 } }] }] }",
            "a peer with an ipBlock can have no",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0 } }] }] }",
            "is an address, not a block",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/33 } }] }] }",
            "is not an address block",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { except: [10.0.0.0/8] } }] }] }",
            "an ipBlock needs a cidr",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8, except: [11.0.0.0/16] } }] }] }",
            "11.0.0.0/16 must lie inside 10.0.0.0/8",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/8] } }] }] }",
            "must lie inside 10.0.0.0/8 and be smaller",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8, except: [0.0.0.0/0] } }] }] }",
            "must lie inside 10.0.0.0/8 and be smaller",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 0.0.0.0/0, except: [\"fd00::/8\"] } }] }] }",
            "fd00::/8 must lie inside 0.0.0.0/0",
        ),
        // Ports.
        ("{ ingress: [{ ports: [{ port: 0 }] }] }", "0 is not a port"),
        (
            "{ ingress: [{ ports: [{ port: 65536 }] }] }",
            "65536 is not a port",
        ),
        (
            "{ ingress: [{ ports: [{ port: \"80\" }] }] }",
            "port name \"80\" must contain a letter",
        ),
        (
            "{ ingress: [{ ports: [{ port: HTTP }] }] }",
            "port name \"HTTP\" must be",
        ),
        (
            "{ ingress: [{ ports: [{ port: 90, endPort: 80 }] }] }",
            "endPort 80 is below port 90",
        ),
        (
            "{ ingress: [{ ports: [{ port: 90, endPort: 70000 }] }] }",
            "70000 is not a port",
        ),
        (
            "{ ingress: [{ ports: [{ port: http, endPort: 80 }] }] }",
            "endPort needs a port that is a number",
        ),
        (
            "{ ingress: [{ ports: [{ endPort: 80 }] }] }",
            "endPort needs a port",
        ),
        (
            "{ ingress: [{ ports: [{ protocol: tcp, port: 80 }] }] }",
            "unknown protocol \"tcp\" [did you mean TCP?]",
        ),
        (
            "{ ingress: [{ ports: [{ protocol: ICMP }] }] }",
            "unknown protocol \"ICMP\" [one of",
        ),
        (
            "{ ingress: [{ ports: [{ port: 1.5 }] }] }",
            "expected IntOrString",
        ),
        // Types.
        (
            "{ policyTypes: [ingress] }",
            "unknown policy type \"ingress\" [did you mean Ingress?]",
        ),
        (
            "{ policyTypes: [Ingress, Egress, Ingress] }",
            "at most two policyTypes",
        ),
        (
            "{ ingress: {} }",
            "ingress must be a list, and is a mapping",
        ),
        // Fields that do not exist.
        (
            "{ podSelectors: {} }",
            "no field \"podSelectors\" here; the API server would silently drop it [did you mean podSelector?]",
        ),
        (
            "{ ingress: [{ form: [] }] }",
            "no field \"form\" here; the API server would silently drop it [did you mean from?]",
        ),
        (
            "{ egress: [{ from: [] }] }",
            "no field \"from\" here; the API server would silently drop it [the fields here are to, ports]",
        ),
        (
            "{ ingress: [{ from: [{ podSelector: { app: web } }] }] }",
            "no field \"app\" here",
        ),
        (
            "{ ingress: [{ ports: [{ targetPort: 80 }] }] }",
            "no field \"targetPort\" here",
        ),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8, exclude: [] } }] }] }",
            "no field \"exclude\" here",
        ),
    ];
    for (spec, message) in cases {
        let found = faults(&policy(spec));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(
            found[0].starts_with("4:") && found[0].contains(message),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn a_problem_has_the_exact_column_of_its_field() {
    let spec = "{ ingress: [{ ports: [{ port: 90, endPort: 80 }] }] }";
    assert_eq!(faults(&policy(spec)), ["4:50 endPort 80 is below port 90"]);
    assert_eq!(
        faults(&policy("{ podSelectors: {} }"))
            .first()
            .map(|fault| &fault[..4]),
        Some("4:9 ")
    );
}

#[test]
fn unknown_fields_outside_the_spec_are_reported() {
    let misplaced = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p }\npodSelector: {}\n";
    let found = faults(misplaced);
    assert!(
        found.iter().any(|fault| fault.starts_with("4:1 a NetworkPolicy has no field \"podSelector\" here")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|fault| fault.contains("this NetworkPolicy has no spec")),
        "{found:?}"
    );
    let elsewhere = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p, namespce: shop }\nspec: {}\n";
    assert!(
        faults(elsewhere)[0]
            .contains("no field \"namespce\" here; the API server would silently drop it [did you mean namespace?]")
    );
}

#[test]
fn all_problems_of_all_policies_are_reported_at_once() {
    let first = policy(
        "{ policyTypes: [In], ingress: [{ ports: [{ port: 0 }, { protocol: X }] }], egress: [{ to: [{}] }] }",
    );
    let second = policy("{ podSelektor: {} }").replace("name: p", "name: Q");
    assert_eq!(faults(&format!("{first}---\n{second}")).len(), 6);
}

#[test]
fn a_policy_keeps_its_spec_and_its_origin() {
    let text = format!(
        "# a comment\n---\n{}",
        policy("{ podSelector: {}, egress: [] }")
    );
    let manifests = good(&text);
    let [Policy::Network(policy)] = manifests.policies.as_slice() else {
        panic!("one NetworkPolicy")
    };
    assert_eq!(
        (
            policy.namespace.as_str(),
            policy.name.as_str(),
            policy.origin.as_str()
        ),
        ("shop", "p", "m.yaml:3")
    );
    assert_eq!(policy.spec.egress, Some(Vec::new()));
    assert_eq!(policy.spec.ingress, None);
    assert_eq!(policy.spec.policy_types, None);
}

#[test]
fn kinds_of_other_groups_are_ignored_and_misspelt_kinds_are_reported() {
    let manifests = good(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: { name: p }\nspec: { selector: all() }\n",
    );
    assert!(manifests.policies.is_empty());
    assert!(manifests.ignored.is_empty());
    let unread: Vec<String> = manifests
        .unread_policies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(unread, ["NetworkPolicy (projectcalico.org) p (m.yaml:1)"]);
    let old = faults(
        "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: { name: p }\nspec: {}\n",
    );
    assert_eq!(
        old,
        [
            "1:13 NetworkPolicy is no longer served as extensions/v1beta1 [write apiVersion: networking.k8s.io/v1]"
        ]
    );
    let misspelt = faults(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy\nmetadata: { name: p }\nspec: {}\n",
    );
    assert_eq!(
        misspelt,
        [
            "2:7 there is no kind \"NetworkPolcy\" in networking.k8s.io/v1 [did you mean NetworkPolicy?]"
        ]
    );
}
