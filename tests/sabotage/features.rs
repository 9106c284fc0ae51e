//! What NetworkPolicies and cluster-wide policies can say and what follows from it, point by point.

use Direction::{Egress, Ingress};
use watertight::event::Expected::{self, Allowed, Denied};

/// Which end's policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// The target's.
    Ingress,
    /// The source's.
    Egress,
}

/// Defines the features with their tags and what must be shown of each.
macro_rules! features {
    ($($(#[$about:meta])* $name:ident $code:literal $shows:ident;)+) => {
        /// A point of the semantics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Feature {
            $($(#[$about])* $name,)+
        }

        impl Feature {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// Its tag in the generated suites.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What must be proven of it.
            pub(crate) fn shows(self) -> &'static [(Direction, Expected)] {
                match self { $(Self::$name => $shows,)+ }
            }
        }
    };
}

type Shows = &'static [(Direction, Expected)];
/// An allow and a deny in both directions.
const ALL_FOUR: Shows = &[
    (Ingress, Allowed),
    (Ingress, Denied),
    (Egress, Allowed),
    (Egress, Denied),
];
const INGRESS: Shows = &[(Ingress, Allowed), (Ingress, Denied)];
const EGRESS: Shows = &[(Egress, Allowed), (Egress, Denied)];
/// Nothing is isolated by it in the other direction.
const INGRESS_ISOLATES: Shows = &[(Ingress, Allowed), (Ingress, Denied), (Egress, Allowed)];
const EGRESS_ISOLATES: Shows = &[(Ingress, Allowed), (Egress, Allowed), (Egress, Denied)];
/// With rules for egress and no types, ingress is isolated without a rule.
const EGRESS_RULES: Shows = &[(Ingress, Denied), (Egress, Allowed), (Egress, Denied)];
const DENIED: Shows = &[(Ingress, Denied), (Egress, Denied)];
const ALLOWED: Shows = &[(Ingress, Allowed), (Egress, Allowed)];
const REPLIES: Shows = &[(Ingress, Allowed), (Egress, Denied)];

features! {
    /// `policyTypes` absent, no egress rule.
    TypesAbsent "types-absent" INGRESS_ISOLATES;
    /// `policyTypes` absent, an egress rule.
    TypesAbsentWithEgress "types-absent-with-egress" EGRESS_RULES;
    /// `policyTypes` absent, `egress: []`: egress is not isolated.
    TypesAbsentEmptyEgress "types-absent-empty-egress" INGRESS_ISOLATES;
    /// `[Ingress]`: egress rules mean nothing.
    TypesIngress "types-ingress" INGRESS_ISOLATES;
    /// `[Egress]`.
    TypesEgress "types-egress" EGRESS_ISOLATES;
    /// `ingress: []`, `egress: []`.
    EmptyRules "empty-rules" DENIED;
    /// Both types and no rules written.
    MissingRules "missing-rules" DENIED;
    /// `ingress: [{}]`, `egress: [{}]`.
    OpenRule "open-rule" ALLOWED;
    /// `from: []`, `to: []`: every peer.
    EmptyPeers "empty-peers" ALL_FOUR;
    /// A rule without `from` or `to`: every peer.
    MissingPeers "missing-peers" ALL_FOUR;
    /// `ports: []`: all ports and protocols.
    EmptyPorts "empty-ports" ALL_FOUR;
    /// A rule without `ports`.
    MissingPorts "missing-ports" ALL_FOUR;
    /// `spec.podSelector: {}`.
    SelectsAll "selects-all" ALL_FOUR;
    /// Pods of the policy's own namespace.
    PodSelector "pod-selector" ALL_FOUR;
    /// All pods of some namespaces.
    NamespaceSelector "namespace-selector" ALL_FOUR;
    /// Both in one item.
    BothInOneItem "both-in-one-item" ALL_FOUR;
    /// Two items.
    TwoItems "two-items" ALL_FOUR;
    /// `namespaceSelector: {}`: all namespaces.
    EveryNamespace "every-namespace" ALL_FOUR;
    /// `podSelector: {}` in a peer, alone and beside a namespaceSelector.
    EmptyPodSelector "empty-pod-selector" ALL_FOUR;
    /// `In` on pods.
    PodIn "pod-in" ALL_FOUR;
    /// `NotIn` on pods, also without the label.
    PodNotIn "pod-not-in" ALL_FOUR;
    /// `Exists` on pods.
    PodExists "pod-exists" ALL_FOUR;
    /// `DoesNotExist` on pods.
    PodDoesNotExist "pod-does-not-exist" ALL_FOUR;
    /// `In` on namespaces.
    NamespaceIn "namespace-in" ALL_FOUR;
    /// `NotIn` on namespaces.
    NamespaceNotIn "namespace-not-in" ALL_FOUR;
    /// `Exists` on namespaces.
    NamespaceExists "namespace-exists" ALL_FOUR;
    /// `DoesNotExist` on namespaces.
    NamespaceDoesNotExist "namespace-does-not-exist" ALL_FOUR;
    /// `kubernetes.io/metadata.name`, which the API server sets.
    NamespaceName "namespace-name" ALL_FOUR;
    /// A port without protocol is TCP.
    PortIsTcp "port-is-tcp" ALL_FOUR;
    /// `protocol: UDP`.
    PortUdp "port-udp" ALL_FOUR;
    /// A port entry without `port`.
    PortOfAnyNumber "port-of-any-number" ALL_FOUR;
    /// `endPort`.
    EndPort "end-port" ALL_FOUR;
    /// A named port, of another number on each pod.
    NamedPort "named-port" ALL_FOUR;
    /// SCTP rules are taken, and admit nothing else.
    Sctp "sctp" ALL_FOUR;
    /// `ipBlock` with `except` and hosts outside.
    BlockOutside "block-outside" ALL_FOUR;
    /// `ipBlock` with `except` and pods.
    BlockPods "block-pods" ALL_FOUR;
    /// A block of one family says nothing of the other.
    BlockOfOneFamily "block-of-one-family" ALL_FOUR;
    /// What answers was asked.
    Replies "replies" REPLIES;
    /// A node reaches its own pods, and the pods of others only where admitted.
    OwnNode "own-node" INGRESS;
    /// A pod in its node's network is not what selectors select.
    HostNetwork "host-network" INGRESS;
    /// Policies add up.
    Union "union" ALL_FOUR;
    /// A pod that is not ready is selected like any other.
    NotReady "not-ready" EGRESS;
    /// Policies see what is behind a Service's address, at the target port.
    ClusterIp "cluster-ip" ALL_FOUR;
    /// The same, by the target port's name.
    NamedTargetPort "named-target-port" ALL_FOUR;
    /// A Service without an address.
    Headless "headless" ALL_FOUR;
    /// Pods of a Deployment.
    Deployment "deployment" ALL_FOUR;
    /// Pods of a StatefulSet.
    StatefulSet "stateful-set" ALL_FOUR;
    /// Pods of a DaemonSet.
    DaemonSet "daemon-set" ALL_FOUR;
    /// Pods of a Job.
    Job "job" ALL_FOUR;
    /// A tier Admin accepts what a NetworkPolicy does not.
    AdminAccept "admin-accept" ALL_FOUR;
    /// It denies what a NetworkPolicy admits.
    AdminDeny "admin-deny" ALL_FOUR;
    /// It passes to the NetworkPolicies what its next rule denies.
    AdminPass "admin-pass" ALL_FOUR;
    /// The first rule that matches decides.
    RulesInOrder "rules-in-order" ALL_FOUR;
    /// The lowest priority is asked first.
    Priority "priority" ALL_FOUR;
    /// Baseline decides about pods without NetworkPolicies.
    BaselineDeny "baseline-deny" ALL_FOUR;
    /// About others it is not asked.
    BaselineUnasked "baseline-unasked" ALLOWED;
    /// The older kind of tier Admin.
    AdminNetworkPolicy "admin-network-policy" ALL_FOUR;
    /// The older kind of tier Baseline.
    BaselineAdminNetworkPolicy "baseline-admin-network-policy" ALL_FOUR;
    /// A rule with a field that is not known.
    FailsClosed "fails-closed" DENIED;
    /// Blocks that overlap, of both families.
    Networks "networks" EGRESS;
    /// Nodes by their labels.
    Nodes "nodes" EGRESS;
    /// Whole namespaces.
    Namespaces "namespaces" ALL_FOUR;
    /// A port's number in a cluster-wide rule.
    PortNumbers "port-numbers" ALL_FOUR;
    /// A range of ports there.
    PortRange "port-range" ALL_FOUR;
    /// A port's name there.
    PortOfName "port-of-name" ALL_FOUR;
}

/// Whether tags contain a tag.
fn has(tags: &[String], tag: &str) -> bool {
    tags.iter().any(|one| one == tag)
}

impl Feature {
    /// The feature and direction that a check's tags name.
    pub(crate) fn of(tags: &[String]) -> Option<(Self, Direction)> {
        let feature = Self::ALL
            .iter()
            .copied()
            .find(|feature| has(tags, feature.code()))?;
        Some((
            feature,
            if has(tags, Ingress.tag()) {
                Ingress
            } else {
                Egress
            },
        ))
    }
}

impl Direction {
    /// Its tag in the generated suites.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}
