//! The rights that a run needs, which of them are there, and the Role for those that are missing.
//!
//! No exec, no secrets, no patch: a probe is told everything when it is created, and says
//! everything in its log. Only probes within other people's pods need one, of pods' ephemeral
//! containers and nothing else of them.

use k8s_openapi::api::authorization::v1::{ResourceRule, SubjectRulesReviewStatus};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The namespace it is needed in; `None` for the cluster.
    pub namespace: Option<String>,
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resource, with its subresource: `pods/log`.
    pub resource: &'static str,
    /// Verb.
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

/// Group, resource, verbs.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// What is read of every namespace that a suite names: the inventory, by list and watch.
const WATCHED: [Row; 4] = [
    ("", "pods", &["list", "watch"]),
    ("", "services", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
    ("networking.k8s.io", "networkpolicies", &["list", "watch"]),
];

/// What preflight reads of every namespace that gets a probe.
const LOOKED_AT: [Row; 10] = [
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

/// What is done in every namespace that gets a probe.
const DONE: [Row; 3] = [
    ("", "pods", &["create", "delete"]),
    ("", "pods/log", &["get"]),
    ("batch", "jobs", &["create", "delete"]),
];

/// What is done in every namespace with a pod that gets a probe within.
const ENTERED: [Row; 2] = [
    ("", "pods/log", &["get"]),
    ("", "pods/ephemeralcontainers", &["patch"]),
];

/// What is read of the cluster where that is allowed. A run does without, and knows less.
const OF_THE_CLUSTER: [Row; 2] = [
    ("", "namespaces", &["list", "watch"]),
    ("", "nodes", &["list", "watch"]),
];

/// The rights that a run needs: `read` are the namespaces that suites name, `written` those that
/// get probes, `entered` those with pods that get probes within.
pub fn needed(
    read: &BTreeSet<String>,
    written: &BTreeSet<String>,
    entered: &BTreeSet<String>,
) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    let mut add = |namespaces: &BTreeSet<String>, rows: &[Row]| {
        for namespace in namespaces {
            rights.extend(rows.iter().flat_map(|row| rights_of(Some(namespace), row)));
        }
    };
    add(read, &WATCHED);
    add(written, &WATCHED);
    add(written, &LOOKED_AT);
    add(written, &DONE);
    add(entered, &WATCHED);
    add(entered, &ENTERED);
    rights.into_iter().collect()
}

/// The rights without which a run knows less.
pub fn helpful() -> Vec<Right> {
    OF_THE_CLUSTER
        .iter()
        .flat_map(|row| rights_of(None, row))
        .collect()
}

fn rights_of(namespace: Option<&String>, row: &Row) -> Vec<Right> {
    let (group, resource, verbs) = *row;
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

/// What the API server's rules for one namespace leave open of these rights.
///
/// Rules for objects of certain names grant nothing here: the names of probes are made up.
pub fn not_granted<'a>(
    rights: impl IntoIterator<Item = &'a Right>,
    rules: &SubjectRulesReviewStatus,
) -> Vec<&'a Right> {
    let granted = |right: &Right| rules.resource_rules.iter().any(|rule| grants(rule, right));
    rights.into_iter().filter(|right| !granted(right)).collect()
}

fn grants(rule: &ResourceRule, right: &Right) -> bool {
    let has = |list: Option<&Vec<String>>, wanted: &[&str]| {
        list.is_some_and(|list| list.iter().any(|item| wanted.contains(&item.as_str())))
    };
    let of_any = right
        .resource
        .split_once('/')
        .map_or_else(String::new, |(_, sub)| format!("*/{sub}"));
    rule.resource_names.as_ref().is_none_or(Vec::is_empty)
        && has(Some(&rule.verbs), &["*", right.verb])
        && has(rule.api_groups.as_ref(), &["*", right.group])
        && has(rule.resources.as_ref(), &["*", right.resource, &of_any])
}

/// The Roles and bindings that grant these rights, to be pasted. `user` is who we are to the API
/// server.
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

fn documents(namespace: Option<&str>, rights: &[&Right], user: Option<&str>) -> String {
    let prefix = if namespace.is_some() { "" } else { "Cluster" };
    let place = namespace.map_or_else(String::new, |namespace| {
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
    // Named by what it grants: one that is there already keeps what it granted.
    let digest: String = Sha256::digest(&rules)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("watertight-{digest}");
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: {prefix}Role\n\
         metadata: {{ name: {name}{place} }}\n\
         rules:\n{rules}\
         ---\n\
         apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: {prefix}RoleBinding\n\
         metadata: {{ name: {name}{place} }}\n\
         roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: {prefix}Role, name: {name} }}\n\
         subjects:\n  - {}\n",
        subject(user)
    )
}

/// Who is bound: a service account is named as such.
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
            let name = quoted(user.unwrap_or("WHOEVER-RUNS-WATERTIGHT"));
            format!("{{ apiGroup: rbac.authorization.k8s.io, kind: User, name: {name} }}")
        }
    }
}

/// A text in double quotes: JSON's are YAML's.
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
        let nobody = BTreeSet::new();
        for right in needed(&names(&["shop", "data"]), &names(&["shop"]), &nobody)
            .into_iter()
            .chain(helpful())
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
    fn a_namespace_that_is_only_read_needs_no_right_to_write() {
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
    fn rules_grant_by_verb_group_and_resource_and_not_by_name() {
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

    /// The pasted text grants what was missing, read back by the same rules.
    #[test]
    fn the_role_to_paste_grants_exactly_what_is_missing() {
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
    fn the_documented_roles_grant_what_a_run_needs_and_no_right_beyond_reading() {
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
                    not_granted(&helpful(), &rules(&role["rules"])),
                    Vec::<&Right>::new()
                );
            }
        }
    }

    #[test]
    fn the_documented_role_for_probes_within_pods_grants_that_and_no_more() {
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
    fn rights_of_the_cluster_are_a_cluster_role() {
        let yaml = role_yaml(&helpful(), Some("jane \"j\""));
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(documents[0]["kind"], "ClusterRole");
        assert_eq!(documents[1]["subjects"][0]["name"], "jane \"j\"");
    }
}
