//! Fields of an object that do not exist.
//!
//! The API server drops unknown fields unless it is asked to validate, and the types here ignore
//! them. In a policy that is dangerous: `podSelectors` is ignored, the absent `podSelector` counts
//! as an empty one, and an empty selector selects every pod. So each field is compared with the
//! API's names. In objects of other kinds only a misspelt field that is read is a problem: dumps of
//! newer versions of Kubernetes have fields that are not known here.

use super::problem::{FieldPath, Problems, nearest};
use crate::model::PolicyKind;
use serde_json::Value;

/// The fields of one API type.
struct Fields {
    unknown: Unknown,
    fields: &'static [(&'static str, FieldType)],
}

/// Which unknown fields of a type are problems.
enum Unknown {
    All,
    /// Those that are nearly a known one, or a field of NetworkPolicy. Others may be of a newer
    /// version: a rule with such a field fails closed.
    Misspelt,
    /// Those that differ from a known one by upper and lower case only. The list is not complete.
    OtherCase,
}

/// The type of a field.
enum FieldType {
    /// A scalar, or a map whose keys the author chooses: not checked further.
    Free,
    Object(&'static Fields),
    List(&'static Fields),
}

use FieldType::{Free, List, Object};

/// Fields of NetworkPolicy that cluster-wide policies have under other names.
const OF_NETWORK_POLICY: [&str; 4] = ["podSelector", "namespaceSelector", "ipBlock", "endPort"];

impl Fields {
    const fn all(fields: &'static [(&'static str, FieldType)]) -> Self {
        Self {
            unknown: Unknown::All,
            fields,
        }
    }

    const fn of_versions(fields: &'static [(&'static str, FieldType)]) -> Self {
        Self {
            unknown: Unknown::Misspelt,
            fields,
        }
    }

    const fn some(fields: &'static [(&'static str, FieldType)]) -> Self {
        Self {
            unknown: Unknown::OtherCase,
            fields,
        }
    }
}

static NETWORK_POLICY: Fields = Fields::all(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&NETWORK_POLICY_SPEC)),
    // Alpha from 1.24 to 1.27, and still in dumps of those versions.
    ("status", Free),
]);
/// ObjectMeta.
const OBJECT_META: &[(&str, FieldType)] = &[
    ("annotations", Free),
    ("creationTimestamp", Free),
    ("deletionGracePeriodSeconds", Free),
    ("deletionTimestamp", Free),
    ("finalizers", Free),
    ("generateName", Free),
    ("generation", Free),
    ("labels", Free),
    ("managedFields", Free),
    ("name", Free),
    ("namespace", Free),
    ("ownerReferences", Free),
    ("resourceVersion", Free),
    ("selfLink", Free),
    ("uid", Free),
];
/// A misspelt `namespace` would move the policy to another namespace.
static METADATA: Fields = Fields::all(OBJECT_META);
static OBJECT_METADATA: Fields = Fields::of_versions(OBJECT_META);
static NETWORK_POLICY_SPEC: Fields = Fields::all(&[
    ("podSelector", Object(&SELECTOR)),
    ("policyTypes", Free),
    ("ingress", List(&INGRESS)),
    ("egress", List(&EGRESS)),
]);
static INGRESS: Fields = Fields::all(&[("from", List(&PEER)), ("ports", List(&PORT))]);
static EGRESS: Fields = Fields::all(&[("to", List(&PEER)), ("ports", List(&PORT))]);
static PEER: Fields = Fields::all(&[
    ("podSelector", Object(&SELECTOR)),
    ("namespaceSelector", Object(&SELECTOR)),
    ("ipBlock", Object(&BLOCK)),
]);
static PORT: Fields = Fields::all(&[("protocol", Free), ("port", Free), ("endPort", Free)]);
static BLOCK: Fields = Fields::all(&[("cidr", Free), ("except", Free)]);
static SELECTOR: Fields = Fields::all(&[
    ("matchLabels", Free),
    ("matchExpressions", List(&EXPRESSION)),
]);
static EXPRESSION: Fields = Fields::all(&[("key", Free), ("operator", Free), ("values", Free)]);

/// The version with `protocols` (v1alpha2).
static CLUSTER_POLICY: Fields = Fields::all(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&CLUSTER_SPEC)),
    ("status", Free),
]);
static CLUSTER_SPEC: Fields = Fields::all(&[
    ("tier", Free),
    ("priority", Free),
    ("subject", Object(&SUBJECT)),
    ("ingress", List(&CLUSTER_RULE)),
    ("egress", List(&CLUSTER_RULE)),
]);
/// The versions with `ports` (v1alpha1).
static ADMIN_POLICY: Fields = Fields::all(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&ADMIN_SPEC)),
    ("status", Free),
]);
static ADMIN_SPEC: Fields = Fields::all(&[
    ("priority", Free),
    ("subject", Object(&SUBJECT)),
    ("ingress", List(&ADMIN_RULE)),
    ("egress", List(&ADMIN_RULE)),
]);
static BASELINE_POLICY: Fields = Fields::all(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&BASELINE_SPEC)),
    ("status", Free),
]);
static BASELINE_SPEC: Fields = Fields::all(&[
    ("subject", Object(&SUBJECT)),
    ("ingress", List(&ADMIN_RULE)),
    ("egress", List(&ADMIN_RULE)),
]);
static SUBJECT: Fields = Fields::all(&[
    ("namespaces", Object(&SELECTOR)),
    ("pods", Object(&NAMESPACED_POD)),
]);
static NAMESPACED_POD: Fields = Fields::all(&[
    ("namespaceSelector", Object(&SELECTOR)),
    ("podSelector", Object(&SELECTOR)),
]);
static CLUSTER_RULE: Fields = Fields::of_versions(&[
    ("name", Free),
    ("action", Free),
    ("from", List(&CLUSTER_PEER)),
    ("to", List(&CLUSTER_PEER)),
    ("protocols", List(&PROTOCOL)),
]);
static ADMIN_RULE: Fields = Fields::of_versions(&[
    ("name", Free),
    ("action", Free),
    ("from", List(&CLUSTER_PEER)),
    ("to", List(&CLUSTER_PEER)),
    ("ports", List(&ADMIN_PORT)),
]);
static CLUSTER_PEER: Fields = Fields::of_versions(&[
    ("namespaces", Object(&SELECTOR)),
    ("pods", Object(&NAMESPACED_POD)),
    ("nodes", Object(&SELECTOR)),
    ("networks", Free),
    ("domainNames", Free),
]);
static PROTOCOL: Fields = Fields::of_versions(&[
    ("tcp", Object(&DESTINATION)),
    ("udp", Object(&DESTINATION)),
    ("sctp", Object(&DESTINATION)),
    ("destinationNamedPort", Free),
]);
static DESTINATION: Fields = Fields::all(&[("destinationPort", Object(&NUMBER_OR_RANGE))]);
static NUMBER_OR_RANGE: Fields = Fields::all(&[("number", Free), ("range", Object(&RANGE))]);
static ADMIN_PORT: Fields = Fields::of_versions(&[
    ("portNumber", Object(&PORT_NUMBER)),
    ("namedPort", Free),
    ("portRange", Object(&RANGE)),
]);
static PORT_NUMBER: Fields = Fields::all(&[("protocol", Free), ("port", Free)]);
static RANGE: Fields = Fields::all(&[("protocol", Free), ("start", Free), ("end", Free)]);

static POD: Fields = Fields::some(&[
    ("metadata", Object(&OBJECT_METADATA)),
    ("spec", Object(&POD_SPEC)),
]);
static POD_SPEC: Fields = Fields::some(&[
    ("containers", List(&CONTAINER)),
    ("initContainers", List(&CONTAINER)),
    ("hostNetwork", Free),
    ("nodeName", Free),
]);
static CONTAINER: Fields = Fields::some(&[
    ("name", Free),
    ("ports", List(&CONTAINER_PORT)),
    ("restartPolicy", Free),
]);
static CONTAINER_PORT: Fields = Fields::of_versions(&[
    ("name", Free),
    ("containerPort", Free),
    ("protocol", Free),
    ("hostPort", Free),
    ("hostIP", Free),
]);
static WORKLOAD: Fields = Fields::some(&[
    ("metadata", Object(&OBJECT_METADATA)),
    ("spec", Object(&WORKLOAD_SPEC)),
]);
/// The fields of all kinds of workloads that are read.
static WORKLOAD_SPEC: Fields = Fields::some(&[
    ("replicas", Free),
    ("selector", Object(&SELECTOR)),
    ("template", Object(&POD)),
    ("parallelism", Free),
    ("completions", Free),
    ("suspend", Free),
    ("jobTemplate", Object(&WORKLOAD)),
]);
static SERVICE: Fields = Fields::some(&[
    ("metadata", Object(&OBJECT_METADATA)),
    ("spec", Object(&SERVICE_SPEC)),
]);
static SERVICE_SPEC: Fields = Fields::some(&[
    ("selector", Free),
    ("type", Free),
    ("clusterIP", Free),
    ("clusterIPs", Free),
    ("externalName", Free),
    ("ports", List(&SERVICE_PORT)),
    ("ipFamilies", Free),
    ("publishNotReadyAddresses", Free),
    ("internalTrafficPolicy", Free),
]);
static SERVICE_PORT: Fields = Fields::of_versions(&[
    ("name", Free),
    ("protocol", Free),
    ("appProtocol", Free),
    ("port", Free),
    ("targetPort", Free),
    ("nodePort", Free),
]);

/// Adds a problem for every field of a policy that the API does not have.
pub(super) fn check_policy_fields(
    kind: PolicyKind,
    policy: &Value,
    path: &FieldPath,
    problems: &mut Problems,
) {
    let fields = match kind {
        PolicyKind::NetworkPolicy => &NETWORK_POLICY,
        PolicyKind::ClusterNetworkPolicy => &CLUSTER_POLICY,
        PolicyKind::AdminNetworkPolicy => &ADMIN_POLICY,
        PolicyKind::BaselineAdminNetworkPolicy => &BASELINE_POLICY,
    };
    fields.check(kind.as_str(), policy, path, problems);
}

/// Adds a problem for every misspelt field of a pod, a workload or a Service that would be read.
pub(super) fn check_object_fields(
    kind: &str,
    object: &Value,
    path: &FieldPath,
    problems: &mut Problems,
) {
    let fields = match kind {
        "Pod" => &POD,
        "Service" => &SERVICE,
        "Namespace" | "Node" => return,
        _ => &WORKLOAD,
    };
    fields.check(kind, object, path, problems);
}

impl Fields {
    fn check(&self, kind: &str, value: &Value, path: &FieldPath, problems: &mut Problems) {
        // Decoding reports a value of a wrong type.
        let Value::Object(map) = value else { return };

        for (key, inner) in map {
            let path = path.key(key.clone());
            match self.fields.iter().find(|(name, _)| name == key) {
                None => self.check_unknown(kind, key, path, problems),
                Some((_, Free)) => {}
                Some((_, Object(fields))) => fields.check(kind, inner, &path, problems),
                Some((_, List(fields))) => {
                    for (index, item) in inner.as_array().into_iter().flatten().enumerate() {
                        fields.check(kind, item, &path.index(index), problems);
                    }
                }
            }
        }
    }

    fn check_unknown(&self, kind: &str, key: &str, path: FieldPath, problems: &mut Problems) {
        let names = self.fields.iter().map(|(name, _)| *name);
        let nearest = nearest(key, names.clone());
        let is_problem = match self.unknown {
            Unknown::All => true,
            Unknown::Misspelt => nearest.is_some() || OF_NETWORK_POLICY.contains(&key),
            Unknown::OtherCase => names.clone().any(|name| name.eq_ignore_ascii_case(key)),
        };
        if !is_problem {
            return;
        }

        let help = match nearest {
            Some(name) => format!("did you mean {name}?"),
            None => format!(
                "the fields here are {}",
                names.collect::<Vec<_>>().join(", ")
            ),
        };
        let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
            "an"
        } else {
            "a"
        };
        let message = format!(
            "{article} {kind} has no field {key:?} here; the API server would silently drop it"
        );
        problems.error(path, message).on_key().help(help);
    }
}
