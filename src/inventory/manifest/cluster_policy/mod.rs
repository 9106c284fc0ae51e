//! Reads `ClusterNetworkPolicy`, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` into one
//! type, checked as the schemas of their CRDs check them (`apis/v1alpha2`, `apis/v1alpha1` of
//! sigs.k8s.io/network-policy-api v0.2.0).
//!
//! Unknown fields of a rule are kept by name: such a rule fails closed.

mod rule;
mod schema;

use super::decode::decode;
use super::fields::check_policy_fields;
use super::object::{Metadata, Origin};
use super::policy::one_of;
use super::problem::{FieldPath, Problems};
use super::selector::check_selector;
use crate::inventory::{
    ClusterPolicy, ClusterPolicyKind, ClusterRule, PodScope, PolicyTier, spec_digest,
};
use crate::model::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rule::RuleReader;
use schema::{NamespacedPod, Peer, Rule, Spec};
use serde_json::Value;

/// The most items of most lists: rules in a direction, peers and ports of a rule, networks of a
/// peer.
const MAX_ITEMS: usize = 25;

/// The most rules in a direction, peers and ports of a rule in v1alpha1.
const MAX_ITEMS_V1ALPHA1: usize = 100;

/// The highest priority; the lowest is 0.
const MAX_PRIORITY: i64 = 1_000;

/// Reads an object as a cluster's API gives it.
///
/// # Errors
/// The problems of the object, each with its field path.
pub fn read_cluster_policy(object: &Value) -> Result<ClusterPolicy, Vec<String>> {
    let kind = PolicyKind::parse(text_at(object, "/kind"))
        .and_then(ClusterPolicyKind::of)
        .unwrap_or(ClusterPolicyKind::ClusterNetworkPolicy);
    let meta = Metadata {
        name: text_at(object, "/metadata/name").to_owned(),
        ..Metadata::default()
    };

    let mut problems = Problems::default();
    let path = FieldPath::root(0);
    check_policy_fields(kind.into(), object, &path, &mut problems);
    let policy = read(
        kind,
        &meta,
        object,
        &path,
        &|_| String::new(),
        &mut problems,
    );
    let problems = problems.into_vec();
    policy.filter(|_| problems.is_empty()).ok_or_else(|| {
        problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    })
}

/// The text at a JSON pointer; empty where there is none.
fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Reads a policy; `None` after a wrong type.
pub(super) fn read(
    kind: ClusterPolicyKind,
    meta: &Metadata,
    object: &Value,
    path: &FieldPath,
    origin: Origin<'_>,
    problems: &mut Problems,
) -> Option<ClusterPolicy> {
    let spec_path = path.key("spec");
    let raw_spec = object.get("spec");
    let spec: Spec = decode(raw_spec, &spec_path, problems)?;
    check_name(kind, &meta.name, path, problems);

    let tier = match kind {
        ClusterPolicyKind::AdminNetworkPolicy => PolicyTier::Admin,
        ClusterPolicyKind::BaselineAdminNetworkPolicy => PolicyTier::Baseline,
        ClusterPolicyKind::ClusterNetworkPolicy => {
            read_tier(spec.tier.as_deref(), &spec_path, problems)
        }
    };
    let priority = match kind {
        ClusterPolicyKind::BaselineAdminNetworkPolicy => 0,
        ClusterPolicyKind::ClusterNetworkPolicy | ClusterPolicyKind::AdminNetworkPolicy => {
            read_priority(kind, spec.priority, &spec_path, problems)
        }
    };
    let subject = read_subject(kind, spec.subject.as_ref(), &spec_path, problems);

    let mut context = SpecContext {
        kind,
        raw_spec,
        path: &spec_path,
        origin,
        problems,
    };
    let ingress = context.read_rules(Direction::Ingress, spec.ingress.as_deref());
    let egress = context.read_rules(Direction::Egress, spec.egress.as_deref());

    Some(ClusterPolicy {
        kind,
        name: meta.name.clone(),
        tier,
        priority,
        subject,
        ingress,
        egress,
        origin: origin(path),
        sha256: spec_digest(&raw_spec),
    })
}

/// Adds a problem for a second `BaselineAdminNetworkPolicy`: a cluster takes one, called default (a
/// rule of its CRD).
fn check_name(kind: ClusterPolicyKind, name: &str, path: &FieldPath, problems: &mut Problems) {
    let is_baseline = kind == ClusterPolicyKind::BaselineAdminNetworkPolicy;
    if is_baseline && !name.is_empty() && name != "default" {
        problems
            .error(
                path.keys(["metadata", "name"]),
                format!("a BaselineAdminNetworkPolicy called {name:?}; the API accepts one, called default"),
            )
            .help("write name: default, or a ClusterNetworkPolicy of the Baseline tier");
    }
}

/// The tier of a `ClusterNetworkPolicy`; any one after a problem.
fn read_tier(tier: Option<&str>, path: &FieldPath, problems: &mut Problems) -> PolicyTier {
    match tier {
        Some("Admin") => return PolicyTier::Admin,
        Some("Baseline") => return PolicyTier::Baseline,
        Some(unknown) => {
            let tiers = ["Admin", "Baseline"];
            one_of(unknown, "tier", &tiers, path.key("tier"), problems);
        }
        None => {
            problems.error(
                path.clone(),
                "a ClusterNetworkPolicy needs a tier: Admin or Baseline",
            );
        }
    }
    PolicyTier::Admin
}

/// The priority; any number after a problem.
fn read_priority(
    kind: ClusterPolicyKind,
    priority: Option<i64>,
    path: &FieldPath,
    problems: &mut Problems,
) -> u16 {
    let Some(priority) = priority else {
        let kind = PolicyKind::from(kind);
        problems.error(
            path.clone(),
            format!("a {kind} needs a priority from 0 to {MAX_PRIORITY}"),
        );
        return 0;
    };
    if !(0..=MAX_PRIORITY).contains(&priority) {
        problems.error(
            path.key("priority"),
            format!("{priority} is not a priority: a number from 0 to {MAX_PRIORITY}"),
        );
    }
    priority as u16
}

fn read_subject(
    kind: ClusterPolicyKind,
    subject: Option<&Peer>,
    path: &FieldPath,
    problems: &mut Problems,
) -> PodScope {
    let path = path.key("subject");
    let subject = subject.map(|subject| (&subject.namespaces, &subject.pods));
    match subject {
        Some((Some(namespaces), None)) => {
            read_namespaces(namespaces, &path.key("namespaces"), problems)
        }
        Some((None, Some(pods))) => {
            read_namespaced_pods(kind, pods, &path.key("pods"), problems).unwrap_or_default()
        }
        Some((Some(_), Some(_)) | (None, None)) | None => {
            problems
                .error(path, "the subject needs one of namespaces and pods")
                .help("namespaces: {} means every pod");
            PodScope::default()
        }
    }
}

/// All pods of the selected namespaces.
fn read_namespaces(
    namespaces: &LabelSelector,
    path: &FieldPath,
    problems: &mut Problems,
) -> PodScope {
    check_selector(namespaces, path, problems);
    PodScope {
        namespaces: namespaces.clone(),
        pods: LabelSelector::default(),
    }
}

/// The selected pods of the selected namespaces. In v1alpha2 an absent namespaceSelector selects
/// every namespace; in v1alpha1 both selectors are required.
fn read_namespaced_pods(
    kind: ClusterPolicyKind,
    pods: &NamespacedPod,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<PodScope> {
    let every = LabelSelector::default();
    let namespaces = match (&pods.namespace_selector, kind) {
        (None, ClusterPolicyKind::ClusterNetworkPolicy) => Some(&every),
        (namespaces, _) => namespaces.as_ref(),
    };
    let (Some(namespaces), Some(selector)) = (namespaces, &pods.pod_selector) else {
        let message = match kind {
            ClusterPolicyKind::ClusterNetworkPolicy => "pods needs a podSelector",
            ClusterPolicyKind::AdminNetworkPolicy
            | ClusterPolicyKind::BaselineAdminNetworkPolicy => {
                "pods needs a namespaceSelector and a podSelector"
            }
        };
        problems.error(path.clone(), message).help("{} selects all");
        return None;
    };
    check_selector(namespaces, &path.key("namespaceSelector"), problems);
    check_selector(selector, &path.key("podSelector"), problems);
    Some(PodScope {
        namespaces: namespaces.clone(),
        pods: selector.clone(),
    })
}

/// A direction of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// A spec while its rules are read.
struct SpecContext<'a> {
    kind: ClusterPolicyKind,
    raw_spec: Option<&'a Value>,
    path: &'a FieldPath,
    origin: Origin<'a>,
    problems: &'a mut Problems,
}

impl SpecContext<'_> {
    /// Reads the rules of a direction.
    fn read_rules(&mut self, direction: Direction, rules: Option<&[Rule]>) -> Vec<ClusterRule> {
        let field = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let rules = rules.unwrap_or_default();
        let raw_rules = self.raw_spec.and_then(|spec| spec.get(field));
        let path = self.path.key(field);
        check_length(
            rules.len(),
            max_items(self.kind),
            "rules",
            &path,
            self.problems,
        );

        let mut read_rules = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let path = path.index(index);
            let origin = (self.origin)(&path);
            let reader = RuleReader {
                kind: self.kind,
                direction,
                path,
                problems: self.problems,
            };
            read_rules.push(reader.read(rule, raw_item(raw_rules, index), origin));
        }
        read_rules
    }
}

/// The most rules of a direction, and the most peers and ports of a rule.
fn max_items(kind: ClusterPolicyKind) -> usize {
    match kind {
        ClusterPolicyKind::ClusterNetworkPolicy => MAX_ITEMS,
        ClusterPolicyKind::AdminNetworkPolicy | ClusterPolicyKind::BaselineAdminNetworkPolicy => {
            MAX_ITEMS_V1ALPHA1
        }
    }
}

/// An item of a list as it is written; null where there is none.
fn raw_item(list: Option<&Value>, index: usize) -> &Value {
    list.and_then(|list| list.get(index))
        .unwrap_or(&Value::Null)
}

/// Adds a problem if a list is too long; `items` names what it holds.
fn check_length(length: usize, max: usize, items: &str, path: &FieldPath, problems: &mut Problems) {
    if length > max {
        problems.error(
            path.clone(),
            format!("{length} {items}; the API accepts at most {max}"),
        );
    }
}
