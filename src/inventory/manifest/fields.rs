//! Fields of a NetworkPolicy that do not exist.
//!
//! The API server drops unknown fields unless it is asked to validate, and the types here ignore
//! them. In a policy that is dangerous: `podSelectors` is ignored, the absent `podSelector` counts
//! as an empty one, and an empty selector selects every pod. So each field is compared with the
//! API's names.

use super::problem::{FieldPath, Problems, nearest};
use serde_json::Value;

/// The fields of one API type.
struct Fields(&'static [(&'static str, FieldType)]);

/// The type of a field.
enum FieldType {
    /// A scalar, or a map whose keys the author chooses: not checked further.
    Free,
    Object(&'static Fields),
    List(&'static Fields),
}

use FieldType::{Free, List, Object};

static POLICY: Fields = Fields(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&SPEC)),
    // Alpha from 1.24 to 1.27, and still in dumps of those versions.
    ("status", Free),
]);
/// ObjectMeta: a misspelt `namespace` would move the policy to another namespace.
static METADATA: Fields = Fields(&[
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
]);
static SPEC: Fields = Fields(&[
    ("podSelector", Object(&SELECTOR)),
    ("policyTypes", Free),
    ("ingress", List(&INGRESS)),
    ("egress", List(&EGRESS)),
]);
static INGRESS: Fields = Fields(&[("from", List(&PEER)), ("ports", List(&PORT))]);
static EGRESS: Fields = Fields(&[("to", List(&PEER)), ("ports", List(&PORT))]);
static PEER: Fields = Fields(&[
    ("podSelector", Object(&SELECTOR)),
    ("namespaceSelector", Object(&SELECTOR)),
    ("ipBlock", Object(&BLOCK)),
]);
static PORT: Fields = Fields(&[("protocol", Free), ("port", Free), ("endPort", Free)]);
static BLOCK: Fields = Fields(&[("cidr", Free), ("except", Free)]);
static SELECTOR: Fields = Fields(&[
    ("matchLabels", Free),
    ("matchExpressions", List(&EXPRESSION)),
]);
static EXPRESSION: Fields = Fields(&[("key", Free), ("operator", Free), ("values", Free)]);

/// Adds a problem for every field of a NetworkPolicy that the API does not have.
pub(super) fn check_fields(policy: &Value, path: &FieldPath, problems: &mut Problems) {
    POLICY.check(policy, path, problems);
}

impl Fields {
    fn check(&self, value: &Value, path: &FieldPath, problems: &mut Problems) {
        // Decoding reports a value of a wrong type.
        let Value::Object(map) = value else { return };

        for (key, inner) in map {
            let path = path.key(key.clone());
            match self.0.iter().find(|(name, _)| name == key) {
                None => self.add_unknown(key, path, problems),
                Some((_, Free)) => {}
                Some((_, Object(fields))) => fields.check(inner, &path, problems),
                Some((_, List(fields))) => {
                    for (index, item) in inner.as_array().into_iter().flatten().enumerate() {
                        fields.check(item, &path.index(index), problems);
                    }
                }
            }
        }
    }

    fn add_unknown(&self, key: &str, path: FieldPath, problems: &mut Problems) {
        let names = self.0.iter().map(|(name, _)| *name);
        let help = match nearest(key, names.clone()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!(
                "the fields here are {}",
                names.collect::<Vec<_>>().join(", ")
            ),
        };
        let message = format!(
            "a NetworkPolicy has no field {key:?} here; the API server would silently drop it"
        );
        problems.error(path, message).on_key().help(help);
    }
}
