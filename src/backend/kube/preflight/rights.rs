//! The rights that a run needs, those that are missing, and the Role that grants them.
//!
//! A run needs no exec, no secrets and no patch: a probe gets its plan when it is created, and
//! reports in its log. Only suites that take credentials from the environment need the right to
//! create Secrets, and none needs to read one. Only ephemeral containers need the right to patch, for the pods' subresource
//! `ephemeralcontainers`.

use k8s_openapi::api::authorization::v1::{ResourceRule, SubjectRulesReviewStatus};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `None` for the cluster.
    pub namespace: Option<String>,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource, with its subresource: `pods/log`.
    pub resource: &'static str,
    pub verb: &'static str,
}

impl Right {
    /// The resource with its group, as kubectl writes it: `jobs.batch`.
    pub fn full_resource(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.resource, self.group)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.full_resource())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => write!(f, " in the cluster"),
        }
    }
}

/// API group, resource, verbs.
type Rule = (&'static str, &'static str, &'static [&'static str]);

/// Rights in every namespace that a suite names: to list and watch the inventory.
const INVENTORY_RULES: [Rule; 4] = [
    ("", "pods", &["list", "watch"]),
    ("", "services", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
    ("networking.k8s.io", "networkpolicies", &["list", "watch"]),
];

/// Rights of preflight in every namespace that gets a probe pod.
const PREFLIGHT_RULES: [Rule; 10] = [
    ("", "limitranges", &["list"]),
    ("", "replicationcontrollers", &["list"]),
    ("", "resourcequotas", &["list"]),
    ("apps", "daemonsets", &["list"]),
    ("apps", "deployments", &["list"]),
    ("apps", "replicasets", &["list"]),
    ("apps", "statefulsets", &["list"]),
    ("autoscaling", "horizontalpodautoscalers", &["list"]),
    ("batch", "jobs", &["list"]),
    ("policy", "poddisruptionbudgets", &["list"]),
];

/// Rights to create, read and delete probe pods, in every namespace that gets one.
const PROBE_POD_RULES: [Rule; 3] = [
    ("", "pods", &["create", "delete"]),
    ("", "pods/log", &["get"]),
    ("batch", "jobs", &["create", "delete"]),
];

/// Rights in every namespace with a pod that gets an ephemeral container.
const EPHEMERAL_RULES: [Rule; 2] = [
    ("", "pods/log", &["get"]),
    ("", "pods/ephemeralcontainers", &["patch"]),
];

/// Rights in every namespace with a probe that sends what a suite takes from the environment.
const SECRET_RULES: [Rule; 2] = [
    ("", "secrets", &["create"]),
    ("batch", "jobs", &["create", "delete"]),
];

/// Optional rights in the cluster: without them, a run knows less.
const CLUSTER_RULES: [Rule; 2] = [
    ("", "namespaces", &["list", "watch"]),
    ("", "nodes", &["list", "watch"]),
];

/// The rights that a run needs, sorted: `read` are the namespaces that suites name, `pods` those
/// that get probe pods, `ephemeral` those with pods that get ephemeral containers.
pub fn needed(
    read: &BTreeSet<String>,
    pods: &BTreeSet<String>,
    ephemeral: &BTreeSet<String>,
) -> Vec<Right> {
    let rules: [(&BTreeSet<String>, &[Rule]); 6] = [
        (read, &INVENTORY_RULES),
        (pods, &INVENTORY_RULES),
        (pods, &PREFLIGHT_RULES),
        (pods, &PROBE_POD_RULES),
        (ephemeral, &INVENTORY_RULES),
        (ephemeral, &EPHEMERAL_RULES),
    ];
    let mut rights = BTreeSet::new();
    for (namespaces, rules) in rules {
        for namespace in namespaces {
            rights.extend(
                rules
                    .iter()
                    .flat_map(|rule| rights_of(Some(namespace), rule)),
            );
        }
    }
    rights.into_iter().collect()
}

/// The rights that a suite needs that takes credentials from the environment, in the namespaces of
/// the probes that send them: to create Secrets, and the owner Jobs with which they go.
pub fn needed_for_secrets(namespaces: &BTreeSet<String>) -> Vec<Right> {
    let rules = SECRET_RULES.iter();
    rules
        .flat_map(|rule| {
            namespaces
                .iter()
                .flat_map(|namespace| rights_of(Some(namespace), rule))
        })
        .collect()
}

/// The optional rights, without which a run knows less.
pub fn optional() -> Vec<Right> {
    CLUSTER_RULES
        .iter()
        .flat_map(|rule| rights_of(None, rule))
        .collect()
}

fn rights_of(namespace: Option<&String>, rule: &Rule) -> Vec<Right> {
    let (group, resource, verbs) = *rule;
    verbs
        .iter()
        .map(|&verb| Right {
            namespace: namespace.cloned(),
            group,
            resource,
            verb,
        })
        .collect()
}

/// The rights that the API server's rules for a namespace do not grant.
///
/// Rules for objects with certain names grant none of them, since the names of probe pods are new
/// in each run.
pub fn not_granted<'a>(
    rights: impl IntoIterator<Item = &'a Right>,
    rules: &SubjectRulesReviewStatus,
) -> Vec<&'a Right> {
    rights
        .into_iter()
        .filter(|right| !rules.resource_rules.iter().any(|rule| grants(rule, right)))
        .collect()
}

fn grants(rule: &ResourceRule, right: &Right) -> bool {
    let any_with_subresource = right
        .resource
        .split_once('/')
        .map_or_else(String::new, |(_, subresource)| format!("*/{subresource}"));
    let resources = ["*", right.resource, &any_with_subresource];
    rule.resource_names.as_ref().is_none_or(Vec::is_empty)
        && contains_any(Some(&rule.verbs), &["*", right.verb])
        && contains_any(rule.api_groups.as_ref(), &["*", right.group])
        && contains_any(rule.resources.as_ref(), &resources)
}

fn contains_any(list: Option<&Vec<String>>, values: &[&str]) -> bool {
    list.is_some_and(|list| list.iter().any(|item| values.contains(&item.as_str())))
}

/// The Roles and bindings that grant these rights, as YAML documents. `user` is the user name that
/// the API server knows us by.
pub fn role_yaml(missing: &[Right], user: Option<&str>) -> String {
    let mut by_namespace: BTreeMap<Option<&str>, Vec<&Right>> = BTreeMap::new();
    for right in missing {
        by_namespace
            .entry(right.namespace.as_deref())
            .or_default()
            .push(right);
    }
    let documents: Vec<String> = by_namespace
        .into_iter()
        .map(|(namespace, rights)| documents(namespace, &rights, user))
        .collect();
    documents.join("---\n")
}

/// The Role for one namespace, or the `ClusterRole`, with its binding.
fn documents(namespace: Option<&str>, rights: &[&Right], user: Option<&str>) -> String {
    let prefix = if namespace.is_some() { "" } else { "Cluster" };
    let namespace_field = namespace.map_or_else(String::new, |namespace| {
        format!(", namespace: {}", quoted(namespace))
    });
    let mut verbs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for right in rights {
        verbs
            .entry((right.group, right.resource))
            .or_default()
            .push(right.verb);
    }
    let mut resources: BTreeMap<(&str, Vec<&str>), Vec<&str>> = BTreeMap::new();
    for ((group, resource), verbs) in verbs {
        resources.entry((group, verbs)).or_default().push(resource);
    }
    let rules: String = resources
        .into_iter()
        .map(|((group, verbs), resources)| {
            let (resources, verbs) = (resources.join(", "), verbs.join(", "));
            format!(
                "  - {{ apiGroups: [{}], resources: [{resources}], verbs: [{verbs}] }}\n",
                quoted(group)
            )
        })
        .collect();

    // The name depends on the rules, so that applying a Role never replaces one with other rules.
    let digest: String = Sha256::digest(&rules)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("watertight-{digest}");
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: {prefix}Role\n\
         metadata: {{ name: {name}{namespace_field} }}\n\
         rules:\n{rules}\
         ---\n\
         apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: {prefix}RoleBinding\n\
         metadata: {{ name: {name}{namespace_field} }}\n\
         roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: {prefix}Role, name: {name} }}\n\
         subjects:\n  - {}\n",
        subject(user)
    )
}

/// The subject of a binding: a service account, or else a user.
fn subject(user: Option<&str>) -> String {
    let account =
        user.and_then(|user| user.strip_prefix("system:serviceaccount:")?.split_once(':'));
    match (account, user) {
        (Some((namespace, name)), _) => {
            format!(
                "{{ kind: ServiceAccount, namespace: {}, name: {} }}",
                quoted(namespace),
                quoted(name)
            )
        }
        (None, user) => {
            let name = quoted(user.unwrap_or("YOUR-USER"));
            format!("{{ apiGroup: rbac.authorization.k8s.io, kind: User, name: {name} }}")
        }
    }
}

/// A text as a double-quoted YAML string, which a JSON string is too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn rules(rules: &serde_json::Value) -> SubjectRulesReviewStatus {
        serde_json::from_value(
            json!({ "incomplete": false, "nonResourceRules": [], "resourceRules": rules }),
        )
        .unwrap()
    }

    #[test]
    fn a_run_needs_neither_exec_nor_secrets_nor_patch() {
        let none = BTreeSet::new();
        for right in needed(&names(&["shop", "data"]), &names(&["shop"]), &none)
            .into_iter()
            .chain(optional())
        {
            assert!(
                !["patch", "update", "deletecollection", "impersonate", "*"].contains(&right.verb),
                "{right}"
            );
            assert!(
                !right.resource.contains("secrets") && !right.resource.contains("exec"),
                "{right}"
            );
        }
    }

    #[test]
    fn credentials_need_the_right_to_create_secrets_and_none_to_read_them() {
        let rights = needed_for_secrets(&names(&["shop"]));
        let secrets = rights.iter().filter(|right| right.resource == "secrets");
        assert_eq!(
            secrets.map(|right| right.verb).collect::<Vec<_>>(),
            ["create"]
        );
        assert!(needed_for_secrets(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn namespaces_without_probes_need_only_read_rights() {
        let rights = needed(&names(&["data"]), &names(&["shop"]), &BTreeSet::new());
        let of = |namespace: &str, verb: &str| {
            rights
                .iter()
                .filter(|right| right.namespace.as_deref() == Some(namespace) && right.verb == verb)
                .count()
        };
        assert_eq!(
            (
                of("data", "create"),
                of("data", "delete"),
                of("data", "list")
            ),
            (0, 0, 4)
        );
        assert_eq!(
            (
                of("shop", "create"),
                of("shop", "delete"),
                of("shop", "get")
            ),
            (2, 2, 1)
        );
    }

    #[test]
    fn rules_grant_by_verb_group_and_resource_unless_restricted_to_names() {
        let right = Right {
            namespace: Some("shop".into()),
            group: "",
            resource: "pods/log",
            verb: "get",
        };
        for (rule, granted) in [
            (
                json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"] }),
                true,
            ),
            (
                json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }),
                true,
            ),
            (
                json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["*/log"] }),
                true,
            ),
            (
                json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }),
                false,
            ),
            (
                json!({ "verbs": ["list"], "apiGroups": [""], "resources": ["pods/log"] }),
                false,
            ),
            (
                json!({ "verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods/log"] }),
                false,
            ),
            (
                json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["a"] }),
                false,
            ),
        ] {
            assert_eq!(
                not_granted([&right], &rules(&json!([rule]))).is_empty(),
                granted,
                "{rule}"
            );
        }
        assert_eq!(not_granted([&right], &rules(&json!([]))).len(), 1);
    }

    #[test]
    fn the_role_yaml_grants_exactly_the_missing_rights() {
        let missing = needed(&names(&["data"]), &names(&["shop"]), &names(&["shop"]));
        let yaml = role_yaml(&missing, Some("system:serviceaccount:ci:runner"));
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(documents.len(), 4, "{yaml}");
        let mut granted = 0;
        for role in documents
            .iter()
            .filter(|document| document["kind"] == "Role")
        {
            let namespace = role["metadata"]["namespace"].as_str().unwrap();
            let here: Vec<&Right> = missing
                .iter()
                .filter(|right| right.namespace.as_deref() == Some(namespace))
                .collect();
            assert_eq!(
                not_granted(here.iter().copied(), &rules(&role["rules"])),
                Vec::<&Right>::new(),
                "{yaml}"
            );
            let count = |rule: &serde_json::Value, key: &str| rule[key].as_array().unwrap().len();
            granted += role["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rule| count(rule, "resources") * count(rule, "verbs"))
                .sum::<usize>();
        }
        assert_eq!(granted, missing.len(), "nothing more is granted");
        let binding = &documents[1];
        assert_eq!(binding["roleRef"]["name"], documents[0]["metadata"]["name"]);
        let others = role_yaml(&missing[1..], None);
        assert!(
            !others.contains(binding["roleRef"]["name"].as_str().unwrap()),
            "it would replace the first"
        );
        assert_eq!(binding["kind"], "RoleBinding");
        assert_eq!(
            binding["subjects"][0],
            json!({ "kind": "ServiceAccount", "namespace": "ci", "name": "runner" })
        );
    }

    #[test]
    fn the_documented_roles_grant_the_needed_rights_and_else_only_reads() {
        let needed = needed(&names(&["shop"]), &names(&["shop"]), &BTreeSet::new());
        for file in ["cluster", "namespaced"] {
            let path = format!(
                "{}/ci/kustomize/rbac/{file}/role.yaml",
                env!("CARGO_MANIFEST_DIR")
            );
            let role: serde_json::Value =
                serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            assert_eq!(
                not_granted(&needed, &rules(&role["rules"])),
                Vec::<&Right>::new(),
                "{file}"
            );
            let verbs = |rule: &serde_json::Value| rule["verbs"].as_array().unwrap().clone();
            for rule in role["rules"].as_array().unwrap() {
                for verb in verbs(rule).iter().map(|verb| verb.as_str().unwrap()) {
                    let writes = !["get", "list", "watch"].contains(&verb);
                    let done = needed.iter().any(|right| {
                        right.verb == verb && rule["resources"].to_string().contains(right.resource)
                    });
                    assert!(
                        !writes || done,
                        "{file} grants {verb} on {}",
                        rule["resources"]
                    );
                }
            }
            if file == "cluster" {
                assert_eq!(
                    not_granted(&optional(), &rules(&role["rules"])),
                    Vec::<&Right>::new()
                );
            }
        }
    }

    #[test]
    fn the_documented_role_for_ephemeral_containers_grants_only_their_patch() {
        let needed = needed(&BTreeSet::new(), &BTreeSet::new(), &names(&["shop"]));
        let path = format!(
            "{}/ci/kustomize/rbac/ephemeral/role.yaml",
            env!("CARGO_MANIFEST_DIR")
        );
        let role: serde_json::Value =
            serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(role["rules"].as_array().unwrap().len(), 1);
        let lacking = not_granted(&needed, &rules(&role["rules"]));
        assert!(
            lacking.iter().all(|right| right.verb != "patch"),
            "{lacking:?}"
        );
        let only = json!({ "apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"] });
        assert_eq!(role["rules"][0], only);
    }

    #[test]
    fn rights_in_the_cluster_become_a_cluster_role() {
        let yaml = role_yaml(&optional(), Some("jane \"j\""));
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(documents[0]["kind"], "ClusterRole");
        assert_eq!(documents[1]["subjects"][0]["name"], "jane \"j\"");
    }
}
