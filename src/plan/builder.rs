//! A plan in the making: probes and flows, each once.

use super::addresses::is_hairpin;
use super::mesh::require_bytes;
use super::policy_delay;
use super::rates::{rates, target_rates};
use super::{
    BackendKind, BackendProperties, Check, Composite, Flow, FlowId, Path, Plan, PlanParts, ProbeId,
    Source, SourceControls, SuiteRef, TargetKey, TargetKind, Waits, WeakerControls,
};
use crate::inventory::Inventory;
use crate::model::Family;
use crate::policy::notes_on_unmatched;
use crate::suite::Expected;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The most flows of one probe; the rest of the protocol's limit is for flows that a re-planned
/// probe tries again.
const MAX_FLOWS: usize = wire::MAX_FLOWS - 16;

/// The shortest deadline of a handshake from an ephemeral container, so that controls may take up
/// to a tenth of it: no second probe with a longer deadline can be started there.
const EPHEMERAL_WAIT: Duration = Duration::from_secs(6);

/// Probes and flows are added as they are needed and never twice.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) suites: Vec<SuiteRef>,
    pub(super) checks: Vec<Check>,
    pub(super) swept: Vec<Check>,
    pub(super) probes: Vec<Source>,
    pub(super) flows: Vec<Flow>,
    pub(super) target_controls: BTreeMap<TargetKey, Vec<FlowId>>,
    pub(super) composites: BTreeMap<TargetKey, Composite>,
    pub(super) source_controls: BTreeMap<(ProbeId, Family, wire::Transport), SourceControls>,
    /// Pods whose flows are sent from an ephemeral container: once any line asks for that, every
    /// flow of the pod is.
    pub(super) ephemeral: BTreeSet<Source>,
    /// Denied flows for which weaker controls are enough.
    pub(super) weaker_controls: BTreeMap<FlowId, WeakerControls>,
    pub(super) predicted: BTreeMap<FlowId, Expected>,
    pub(super) notes: Vec<String>,
    /// The probe of a source that still has room, and how many flows it has.
    open_probes: HashMap<Source, (ProbeId, usize)>,
    /// Flows by number of the source and of the target.
    known: HashMap<(u32, u32), FlowId>,
    sources: HashMap<Source, u32>,
    /// A target is shared by all flows to it, and so is its kind.
    targets: HashMap<Arc<TargetKey>, u32>,
    target_kinds: BTreeSet<Arc<TargetKind>>,
}

impl Builder {
    /// The flow from a source to a target; added if it is new.
    pub(super) fn flow(
        &mut self,
        source: &Source,
        to: TargetKey,
        target_kind: TargetKind,
        opens_at: wire::Stage,
    ) -> FlowId {
        let from = if let Some(number) = self.sources.get(source) {
            *number
        } else {
            let number = self.sources.len() as u32;
            *self.sources.entry(source.clone()).or_insert(number)
        };
        let (to, number) = if let Some((to, number)) = self.targets.get_key_value(&to) {
            (Arc::clone(to), *number)
        } else {
            let (to, number) = (Arc::new(to), self.targets.len() as u32);
            self.targets.insert(Arc::clone(&to), number);
            (to, number)
        };
        if let Some(id) = self.known.get(&(from, number)) {
            return *id;
        }
        let target_kind = if let Some(target_kind) = self.target_kinds.get(&target_kind) {
            Arc::clone(target_kind)
        } else {
            let target_kind = Arc::new(target_kind);
            self.target_kinds.insert(Arc::clone(&target_kind));
            target_kind
        };
        let probe = self.probe(source);
        let id = FlowId(self.flows.len() as u32);
        self.flows.push(Flow {
            probe,
            to,
            target_kind,
            opens_at,
            waits: Waits::default(),
        });
        self.known.insert((from, number), id);
        id
    }

    /// A probe of a source with room for one more flow.
    fn probe(&mut self, source: &Source) -> ProbeId {
        if let Some((probe, flows)) = self.open_probes.get_mut(source)
            && *flows < MAX_FLOWS
        {
            *flows += 1;
            return *probe;
        }
        let probe = ProbeId(self.probes.len() as u32);
        self.probes.push(source.clone());
        self.open_probes.insert(source.clone(), (probe, 1));
        probe
    }

    /// Takes the checks out, and forgets their flows.
    pub(super) fn take_checks(&mut self) -> Vec<Check> {
        self.flows.clear();
        self.predicted.clear();
        self.probes.clear();
        self.open_probes.clear();
        self.known.clear();
        self.sources.clear();
        self.targets.clear();
        self.target_kinds.clear();
        std::mem::take(&mut self.checks)
    }

    /// The flows of checks with an expectation.
    pub(super) fn flows_expected(&self, expected: Expected) -> BTreeSet<FlowId> {
        self.checks
            .iter()
            .filter(|check| check.expected == expected)
            .flat_map(|check| check.flows.iter().copied())
            .collect()
    }

    /// The flows that take each path. A flow that is expected to be denied is no path control, nor
    /// is one that may not have left its pod, nor a connection that is kept open: it says nothing
    /// of new ones.
    pub(super) fn path_controls(&self, hairpins: &BTreeSet<FlowId>) -> BTreeMap<Path, Vec<FlowId>> {
        let allowed = self.flows_expected(Expected::Allowed);
        let denied = self.flows_expected(Expected::Denied);
        let mut path_controls: BTreeMap<Path, Vec<FlowId>> = BTreeMap::new();
        for (index, flow) in self.flows.iter().enumerate() {
            let id = FlowId(index as u32);
            let is_denied = denied.contains(&id) && !allowed.contains(&id);
            if is_denied || hairpins.contains(&id) || flow.to.request.is_kept_open() {
                continue;
            }
            let from = self.probes[flow.probe.0 as usize].node();
            for to in flow.target_kind.proven_path_ends(flow) {
                let path = Path {
                    from: from.map(str::to_owned),
                    to,
                    family: flow.family(),
                };
                path_controls.entry(path).or_default().push(id);
            }
        }
        path_controls
    }

    /// Removes from the controls what a pod may have sent to itself, through its own Service, and
    /// returns those flows.
    fn leave_out_hairpins(&mut self) -> BTreeSet<FlowId> {
        let hairpins: BTreeSet<FlowId> = (0..)
            .map(FlowId)
            .zip(&self.flows)
            .filter(|(_, flow)| {
                let source = &self.probes[flow.probe.0 as usize];
                is_hairpin(&self.ephemeral, source, &flow.target_kind)
            })
            .map(|(id, _)| id)
            .collect();
        for flows in self.target_controls.values_mut() {
            flows.retain(|flow| !hairpins.contains(flow));
        }
        for controls in self.source_controls.values_mut() {
            controls.allowed.retain(|flow| !hairpins.contains(flow));
            controls.tried.retain(|flow| !hairpins.contains(flow));
        }
        hairpins
    }

    /// The uids of pods that flows start from or go to.
    fn pod_uids(&self, inventory: &Inventory) -> BTreeMap<String, String> {
        let mut pods: BTreeSet<String> = BTreeSet::new();
        for source in &self.probes {
            if let Source::Pod {
                namespace, name, ..
            } = source
            {
                pods.insert(format!("{namespace}/{name}"));
            }
        }
        for flow in &self.flows {
            match &*flow.target_kind {
                TargetKind::Pod {
                    namespace, name, ..
                } => drop(pods.insert(format!("{namespace}/{name}"))),
                TargetKind::Service { pods: members, .. } => pods.extend(members.iter().cloned()),
                TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. } => {}
            }
        }
        let uids = inventory
            .pods
            .iter()
            .map(|pod| (pod.full_name(), pod.uid.clone()));
        uids.filter(|(name, _)| pods.contains(name)).collect()
    }

    /// Leaves pods that only serve as controls without an ephemeral container, which would stay in
    /// them: a clone does as well.
    fn enter_only_pods_of_checks(&mut self) {
        let checks = self.checks.iter().chain(&self.swept);
        let senders: BTreeSet<&Source> = checks
            .flat_map(|check| &check.flows)
            .map(|flow| self.flows[flow.0 as usize].probe)
            .map(|probe| &self.probes[probe.0 as usize])
            .collect();
        self.ephemeral.retain(|source| senders.contains(source));
    }

    /// The plan, without its coverage.
    pub(super) fn finish(mut self, backend: &BackendProperties, inventory: &Inventory) -> Plan {
        self.flows.shrink_to_fit();
        self.enter_only_pods_of_checks();
        let hairpins = match backend.kind {
            BackendKind::Lab => BTreeSet::new(),
            BackendKind::Cluster => self.leave_out_hairpins(),
        };
        let path_controls = self.path_controls(&hairpins);
        let pod_uids = self.pod_uids(inventory);

        // In a cluster a pod's identity is that of a clone, unless its probe runs within the pod;
        // every other source exists before the run.
        let (mut created, mut ephemeral) = (BTreeSet::new(), BTreeSet::new());
        if backend.kind == BackendKind::Cluster {
            for (index, source) in self.probes.iter().enumerate() {
                let probe = ProbeId(index as u32);
                match source {
                    Source::Pod { .. } if self.ephemeral.contains(source) => {
                        ephemeral.insert(probe);
                    }
                    Source::Pod { .. } => {
                        created.insert(probe);
                    }
                    Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => {}
                }
            }
        }
        for flow in &mut self.flows {
            if ephemeral.contains(&flow.probe) {
                flow.waits.connect = flow.waits.connect.max(EPHEMERAL_WAIT);
            }
        }

        let meshed = match backend.kind {
            // No mesh runs in the lab.
            BackendKind::Lab => None,
            BackendKind::Cluster => require_bytes(inventory, &self.probes, &mut self.flows),
        };

        let checked: BTreeSet<FlowId> = self
            .checks
            .iter()
            .flat_map(|check| check.flows.iter().copied())
            .collect();
        let rates = rates(backend.kind, &self.probes, &self.flows, &checked);
        let target_rates = target_rates(backend.kind, &self.flows, &checked);
        let resolver_of = |source| (backend.resolver_of)(inventory, source);

        let mut plan = Plan::from_parts(PlanParts {
            suites: self.suites,
            checks: self.checks,
            swept: self.swept,
            rates,
            target_rates,
            resolvers: self.probes.iter().map(resolver_of).collect(),
            control_port: backend.control_port,
            foreign_targets: backend.kind == BackendKind::Cluster,
            probes: self.probes,
            flows: self.flows,
            target_controls: self.target_controls,
            composites: self.composites,
            source_controls: self.source_controls,
            path_controls,
            weaker_controls: self.weaker_controls,
            created_probes: created,
            ephemeral_probes: ephemeral,
            policy_delay_flows: BTreeMap::new(),
            pod_uids,
            source_kinds: BTreeMap::new(),
            predicted: self.predicted,
            coverage: None,
            notes: inventory
                .unread_policies_warning()
                .into_iter()
                .chain(notes_on_unmatched(inventory))
                .chain(self.notes)
                .chain(meshed)
                .collect(),
        });

        policy_delay::add(&mut plan, inventory);
        plan
    }
}
