//! How strong the controls of a denied flow must be.
//!
//! A node's packets have another source address than those of its pods, another way back, no
//! forwarding on their own node and no masquerading: what a node can do says little about a pod.
//! So for a source that is a pod the strongest control that the policies admit is required, and a
//! weaker one is enough only where they admit no stronger one.

use super::{FlowId, Path, PathEnd, Plan, Source, TargetKind};
use std::collections::BTreeMap;

/// How much a target control says about a pod that sends from the source's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlStrength {
    /// It is sent from a node's own network, or by the runner.
    Node,
    /// It is sent from a pod on the target's node, and the source is on another one.
    NearbyPod,
    /// It is sent from a pod, and from off the target's node where the source is.
    Pod,
}

impl ControlStrength {
    /// The strength of a control from `control` for a denied flow from `source` to a target.
    pub fn of(control: &Source, source: &Source, target_kind: &TargetKind) -> Self {
        let node = match control {
            Source::Pod { node, .. } | Source::ReferencePod { node } => node.as_str(),
            Source::Node { .. } | Source::Runner => return Self::Node,
        };
        let target_nodes = nodes_of(target_kind);
        let is_as_far = source.node() == Some(node)
            || !target_nodes.contains(&node)
            || target_nodes
                .iter()
                .all(|target| source.node() == Some(target));

        if is_as_far {
            Self::Pod
        } else {
            Self::NearbyPod
        }
    }
}

/// The nodes where packets to a target may arrive; none for a target outside.
fn nodes_of(target_kind: &TargetKind) -> Vec<&str> {
    match target_kind {
        TargetKind::Pod { node, .. } | TargetKind::ReferencePod { node } => vec![node],
        TargetKind::Service { nodes, .. } => nodes.iter().map(String::as_str).collect(),
        TargetKind::Node { name } => vec![name],
        TargetKind::Outside { .. } => Vec::new(),
    }
}

/// The weaker controls that are enough for a denied flow, each with the reason; nothing is weaker
/// by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeakerControls {
    /// The strongest target control that the policies admit.
    pub target: Option<(ControlStrength, String)>,
    /// The ends of paths that the policies let no pod on the source's node reach.
    pub paths: BTreeMap<PathEnd, String>,
    /// Why the source itself can open nothing.
    pub source: Option<String>,
}

impl WeakerControls {
    /// Whether every control must be the strongest.
    pub fn is_empty(&self) -> bool {
        self.target.is_none() && self.paths.is_empty() && self.source.is_none()
    }
}

impl Source {
    /// Whether its packets take the way of a pod's: it is a pod, or the reference pod of a node.
    pub fn is_on_pod_network(&self) -> bool {
        match self {
            Self::Pod { .. } | Self::ReferencePod { .. } => true,
            Self::Node { .. } | Self::Runner => false,
        }
    }
}

impl Plan {
    /// The weaker controls that are enough for a flow, where there are any.
    pub fn weaker_controls(&self, flow: FlowId) -> Option<&WeakerControls> {
        self.parts.weaker_controls.get(&flow)
    }

    /// The strength that a target control of a denied flow must have.
    pub fn required_strength(&self, flow: FlowId) -> ControlStrength {
        if !self.is_from_pod_network(flow) {
            return ControlStrength::Node;
        }
        self.weaker_controls(flow)
            .and_then(|weaker| weaker.target.as_ref())
            .map_or(ControlStrength::Pod, |(strength, _)| *strength)
    }

    /// Whether a path control of a denied flow must be sent from a pod.
    pub fn requires_path_of_pod(&self, flow: FlowId, path: &Path) -> bool {
        self.is_from_pod_network(flow)
            && self
                .weaker_controls(flow)
                .is_none_or(|weaker| !weaker.paths.contains_key(&path.to))
    }

    /// Whether the source of a denied flow must have opened something itself.
    pub fn requires_own_success(&self, flow: FlowId) -> bool {
        self.is_from_pod_network(flow)
            && self
                .weaker_controls(flow)
                .is_none_or(|weaker| weaker.source.is_none())
    }

    fn is_from_pod_network(&self, flow: FlowId) -> bool {
        self.source(self.flow(flow).probe).is_on_pod_network()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str) -> Source {
        Source::Pod {
            namespace: "n".into(),
            name: format!("on-{node}"),
            node: node.into(),
        }
    }

    #[test]
    fn control_is_strongest_from_off_the_targets_node_where_the_source_is() {
        let target = TargetKind::Pod {
            namespace: "n".into(),
            name: "db".into(),
            node: "b".into(),
            ready: true,
            host_network: false,
        };
        let from = |control: &Source, source| ControlStrength::of(control, &pod(source), &target);

        assert_eq!(from(&pod("a"), "a"), ControlStrength::Pod);
        assert_eq!(from(&pod("c"), "a"), ControlStrength::Pod);
        assert_eq!(from(&pod("b"), "a"), ControlStrength::NearbyPod);
        assert_eq!(from(&pod("b"), "b"), ControlStrength::Pod);
        assert_eq!(
            from(&Source::Node { name: "a".into() }, "a"),
            ControlStrength::Node
        );
        assert_eq!(from(&Source::Runner, "b"), ControlStrength::Node);
    }

    #[test]
    fn control_of_a_service_on_several_nodes_is_as_far_from_the_sources_own_node() {
        let service = TargetKind::Service {
            service: crate::model::ObjectRef {
                kind: "Service".into(),
                namespace: "n".into(),
                name: "db".into(),
            },
            nodes: vec!["a".into(), "b".into()],
            pods: vec![],
        };
        let from = |control| ControlStrength::of(&pod(control), &pod("a"), &service);

        assert_eq!(
            [from("a"), from("b"), from("c")],
            [
                ControlStrength::Pod,
                ControlStrength::NearbyPod,
                ControlStrength::Pod
            ]
        );
    }
}
