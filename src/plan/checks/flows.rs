//! The flows of a check: from which instances to which addresses, and what of both ends they leave
//! out.

use super::super::addresses::{is_same, may_come_back};
use super::super::endpoints::{EndpointKind, PodPort, ResolvedEndpoint};
use super::super::request::{handshake_instead, kept_open_instead};
use super::super::{BackendKind, FlowId, Source, TargetKey, TargetKind};
use super::SuiteExpander;
use super::spec::CheckSpec;
use crate::inventory::Pod;
use crate::suite::{Expected, Spread};
use std::collections::BTreeSet;

/// A pod by namespace and name.
type PodName<'k> = (&'k str, &'k str);

/// The flows of a check.
#[derive(Debug, Default)]
pub(super) struct CheckFlows {
    pub(super) flows: Vec<FlowId>,
    /// What of the two ends no flow tests although it should be tested, as a sentence.
    pub(super) untested: Option<String>,
    /// The kinds of sources from which packets are sent, or should be.
    pub(super) source_kinds: usize,
    /// The target's pods that are tested or should be.
    pub(super) target_pods: usize,
}

/// Whether packets from a source to a target belong to a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairing {
    Tested,
    /// A line speaks of them.
    InALine,
    /// Source and target are one pod or one node.
    Itself,
    /// A Service that may lead back to the pod that sends.
    ComesBack,
    /// They have no family in common, or the Service serves other nodes only.
    Apart,
}

impl<'a> SuiteExpander<'a, '_> {
    /// Adds the flows of a check to the plan.
    pub(super) fn check_flows(&mut self, spec: &CheckSpec<'a>, spread: Spread) -> CheckFlows {
        let targets = self.targets(spec);
        let sources = self
            .addressing
            .sources(&self.endpoints[spec.source.0], Some(spread));
        let mut flows = CheckFlows::default();
        let mut reached: BTreeSet<PodName<'_>> = BTreeSet::new();
        let mut in_lines: BTreeSet<PodName<'_>> = BTreeSet::new();
        let mut kinds: BTreeSet<u32> = BTreeSet::new();
        let mut apart = None;

        for source in &sources {
            let mut may_send = false;
            let mut is_apart = false;
            let kind = self.addressing.kind_of_source(source);
            for (key, target_kind) in &targets {
                match self.pairing(spec, source, key, target_kind) {
                    Pairing::Tested => {
                        self.add_flow(spec, source, key, target_kind, &mut flows.flows);
                        reached.extend(ready_pod(target_kind));
                        kinds.extend(kind);
                        may_send = true;
                    }
                    Pairing::InALine => {
                        in_lines.extend(ready_pod(target_kind));
                        may_send = true;
                    }
                    Pairing::Itself => {}
                    Pairing::ComesBack => self.note_untried_service(spec, target_kind),
                    Pairing::Apart => is_apart = true,
                }
            }
            if is_apart && !may_send {
                kinds.extend(kind);
                apart = apart.or(Some(source));
            }
        }

        let unreached: BTreeSet<PodName<'_>> = targets
            .iter()
            .filter_map(|(_, target_kind)| ready_pod(target_kind))
            .filter(|pod| !reached.contains(pod) && !in_lines.contains(pod))
            .collect();
        let mut missed = Vec::new();
        for pod in unreached {
            match self.reach_from_another(spec, pod, &targets, &mut flows.flows) {
                Reached::Yes => drop(reached.insert(pod)),
                Reached::No => missed.push(pod),
                Reached::OnlyItself => {}
            }
        }

        flows.source_kinds = match spread {
            // The line says that one source is enough.
            Spread::One => self.source_kinds[spec.source.0],
            Spread::Nodes | Spread::Replicas => kinds.len(),
        };
        flows.target_pods = reached.len() + missed.len();
        flows.untested = self.untested(spec, missed.first().copied(), apart);
        flows
    }

    /// Notes a Service that is not tried from its own pods, unless each of its pods is tried by its
    /// own address.
    fn note_untried_service(&mut self, spec: &CheckSpec<'_>, target_kind: &TargetKind) {
        let TargetKind::Service { pods, .. } = target_kind else {
            return;
        };
        let own = &self.endpoints[spec.target.0].pods;
        let are_tried = pods
            .iter()
            .all(|name| own.iter().any(|pod| pod.full_name() == *name));
        if !are_tried {
            self.services_that_come_back.insert(target_kind.to_string());
        }
    }

    fn pairing(
        &self,
        spec: &CheckSpec<'_>,
        source: &Source,
        key: &TargetKey,
        target_kind: &TargetKind,
    ) -> Pairing {
        if is_same(source, target_kind) {
            return Pairing::Itself;
        }
        if !self.addressing.can_connect(source, key, target_kind) {
            return Pairing::Apart;
        }
        if spec.line.is_none() && self.expectations.speaks_of(source, key) {
            return Pairing::InALine;
        }
        if spec.expected == Expected::Denied && may_come_back(source, target_kind) {
            return Pairing::ComesBack;
        }
        Pairing::Tested
    }

    fn add_flow(
        &mut self,
        spec: &CheckSpec<'_>,
        source: &Source,
        key: &TargetKey,
        target_kind: &TargetKind,
        flows: &mut Vec<FlowId>,
    ) {
        let opens_at = spec.request_spec.opens_at;
        for other in self.with_other_server_names(spec, key) {
            let flow = self
                .builder
                .flow(source, other, target_kind.clone(), opens_at);
            flows.push(flow);
        }
        if spec.is_established() {
            let kept = kept_open_instead(key);
            let stage = kept.request.opens_at(kept.transport);
            let flow = self.builder.flow(source, kept, target_kind.clone(), stage);
            flows.push(flow);
        }
        if spec.expected == Expected::Denied && key.once {
            let (handshake, stage) = handshake_instead(key);
            let flow = self
                .builder
                .flow(source, handshake, target_kind.clone(), stage);
            flows.push(flow);
        }
        let flow = self
            .builder
            .flow(source, key.clone(), target_kind.clone(), opens_at);
        flows.push(flow);
    }

    /// Adds flows to a pod of the target from a further pod of the source: for a pod that is the
    /// only chosen source itself, or that no chosen source has a family in common with.
    fn reach_from_another(
        &mut self,
        spec: &CheckSpec<'a>,
        pod: PodName<'_>,
        targets: &[(TargetKey, TargetKind)],
        flows: &mut Vec<FlowId>,
    ) -> Reached {
        let all = self
            .addressing
            .sources(&self.endpoints[spec.source.0], None);
        let keys: Vec<&(TargetKey, TargetKind)> = targets
            .iter()
            .filter(|(_, target_kind)| ready_pod(target_kind) == Some(pod))
            .collect();
        let mut is_only_itself = true;

        for source in &all {
            let pairings: Vec<Pairing> = keys
                .iter()
                .map(|(key, target_kind)| self.pairing(spec, source, key, target_kind))
                .collect();
            is_only_itself &= pairings.iter().all(|pairing| *pairing == Pairing::Itself);
            if !pairings.contains(&Pairing::Tested) {
                continue;
            }
            for ((key, target_kind), pairing) in keys.iter().zip(pairings) {
                if pairing == Pairing::Tested {
                    self.add_flow(spec, source, key, target_kind, flows);
                }
            }
            return Reached::Yes;
        }
        if is_only_itself {
            Reached::OnlyItself
        } else {
            Reached::No
        }
    }

    /// What of the two ends is not tested, as a sentence.
    fn untested(
        &self,
        spec: &CheckSpec<'_>,
        missed: Option<PodName<'_>>,
        apart: Option<&Source>,
    ) -> Option<String> {
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        if let Some((namespace, name)) = missed {
            return Some(format!(
                "pod {namespace}/{name} has no address family in common with any source of {}, so nothing can be sent to it{}",
                source.endpoint.label,
                self.give_both_families()
            ));
        }
        if let Some(pod) = lacks_port(target, spec) {
            return Some(pod);
        }
        apart
            .filter(|source| self.shares_no_family(spec, source))
            .map(|source| {
                format!(
                    "{source} has no address family in common with {}, so it can send nothing there{}",
                    target.endpoint.label,
                    self.give_both_families()
                )
            })
    }

    /// How the two ends of a flow get a family in common; nothing in a cluster.
    fn give_both_families(&self) -> &'static str {
        match self.backend {
            BackendKind::Lab => ": `--lab-families ipv4,ipv6` gives the lab both",
            BackendKind::Cluster => "",
        }
    }

    fn shares_no_family(&self, spec: &CheckSpec<'_>, source: &Source) -> bool {
        let targets = self.targets(spec);
        !targets
            .iter()
            .any(|(key, _)| self.addressing.has_family_of(source, key.address))
    }

    /// The target of a denied address outside that speaks TLS on 443, without a server name and
    /// with the name of each allowed host: a firewall that decides by server names lets through
    /// every client that sends an allowed one.
    fn with_other_server_names(&self, spec: &CheckSpec<'_>, key: &TargetKey) -> Vec<TargetKey> {
        let is_outside = matches!(self.endpoints[spec.target.0].kind, EndpointKind::Outside(_));
        let is_address = key.name.is_none() && key.port == 443;
        let has_chosen_name = spec.settings.server_name.is_some();
        if spec.expected != Expected::Denied || !is_outside || !is_address || has_chosen_name {
            return Vec::new();
        }

        let allowed_names = self.allowed_hosts.iter().cloned().map(Some);
        std::iter::once(None)
            .chain(allowed_names)
            .filter_map(|name| key.request.with_server_name(name))
            .filter(|request| *request != key.request)
            .map(|request| TargetKey {
                request,
                ..key.clone()
            })
            .collect()
    }
}

/// Whether a further source reaches a pod of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Yes,
    No,
    /// The pod is the only source, and what it sends to itself never leaves it.
    OnlyItself,
}

/// The pod at an address, if it is ready.
fn ready_pod(target_kind: &TargetKind) -> Option<PodName<'_>> {
    match target_kind {
        TargetKind::Pod {
            namespace,
            name,
            ready: true,
            ..
        } => Some((namespace, name)),
        TargetKind::Pod { ready: false, .. }
        | TargetKind::Service { .. }
        | TargetKind::Node { .. }
        | TargetKind::ReferencePod { .. }
        | TargetKind::Outside { .. } => None,
    }
}

/// The first ready pod of a target that lacks the named port of its siblings, as a sentence.
fn lacks_port(target: &ResolvedEndpoint<'_>, spec: &CheckSpec<'_>) -> Option<String> {
    let PodPort::Name { name, numbers } = &spec.port.on_pods else {
        return None;
    };
    let transport = spec.port.transport;
    let lacking = |pod: &&&Pod| pod.ready && spec.port.on_pods.number_on(pod, transport).is_none();
    let pod = target.pods.iter().find(lacking)?;

    let label = &target.endpoint.label;
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Some(if numbers.is_empty() {
        format!(
            "pod {} declares no {transport} port named {name:?}, nor does any pod of {label}",
            pod.full_name()
        )
    } else {
        format!(
            "pod {} declares no {transport} port named {name:?} as other pods of {label} do: it is dialled at their {}, and whether it serves there is not known",
            pod.full_name(),
            numbers.join(", ")
        )
    })
}
