//! Fields of a NetworkPolicy that do not exist.
//!
//! The API server drops unknown fields unless it is asked to validate, and the types here ignore
//! them. In a policy that is dangerous: `podSelectors` would be no selector at all, and an empty
//! selector selects every pod. So each field is held against the API's own names.

use super::problem::{At, Problems, nearest};
use serde_json::Value;

/// The fields of one type of the API.
struct Fields(&'static [(&'static str, Inner)]);

/// What a field holds.
enum Inner {
    /// A scalar, or a map whose keys are the author's: not looked into.
    Free,
    /// An object.
    Object(&'static Fields),
    /// A list of objects.
    List(&'static Fields),
}

use Inner::{Free, List, Object};

static POLICY: Fields = Fields(&[
    ("apiVersion", Free),
    ("kind", Free),
    ("metadata", Object(&METADATA)),
    ("spec", Object(&SPEC)),
    // Alpha from 1.24 to 1.27; still in dumps of that time.
    ("status", Free),
]);
/// ObjectMeta, since a misspelt `namespace` moves the policy to another one.
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

/// Notes every field of a NetworkPolicy that the API does not have.
pub(super) fn check_fields(policy: &Value, at: &At, problems: &mut Problems) {
    POLICY.check(policy, at, problems);
}

impl Fields {
    fn check(&self, value: &Value, at: &At, problems: &mut Problems) {
        // Another type than an object is a wrong type, which decoding reports.
        let Value::Object(map) = value else { return };
        for (key, inner) in map {
            let at = at.key(key.clone());
            match self.0.iter().find(|(name, _)| name == key) {
                None => self.unknown(key, at, problems),
                Some((_, Free)) => {}
                Some((_, Object(fields))) => fields.check(inner, &at, problems),
                Some((_, List(fields))) => {
                    for (number, item) in inner.as_array().into_iter().flatten().enumerate() {
                        fields.check(item, &at.index(number), problems);
                    }
                }
            }
        }
    }

    fn unknown(&self, key: &str, at: At, problems: &mut Problems) {
        let names = self.0.iter().map(|(name, _)| *name);
        let help = match nearest(key, names.clone()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!(
                "the fields here are {}",
                names.collect::<Vec<_>>().join(", ")
            ),
        };
        problems
            .error(at, format!("a NetworkPolicy has no field {key:?} here; a cluster would drop it without a word"))
            .on_key()
            .help(help);
    }
}
