//! Re-planning: a plan of the same suites, made because pods or Services changed during the run, is
//! merged into the plan that runs.
//!
//! Probes and flows keep their numbers, and new ones are added behind them. Flows that are in both
//! plans keep running; flows from a replaced pod are tried by a new probe; flows that the new plan
//! lacks are retired.

use super::{
    Check, Composite, FlowId, Plan, ProbeId, Provability, Source, SourceControls, TargetKey,
    TargetKind, Waits,
};
use crate::model::Family;
use crate::wire::{MAX_FLOWS, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Allowed flows of a source that a new probe of it tries again, to show that the source can send.
const MAX_ALLOWED_AGAIN: usize = 2;

/// What merging a new plan changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replanned {
    /// Flows whose address now belongs to another pod.
    pub replaced: BTreeSet<FlowId>,
    /// Flows whose pods are the same, but whose readiness or membership of a Service changed.
    pub altered: BTreeSet<FlowId>,
    /// Flows that are no longer tried.
    pub retired: BTreeSet<FlowId>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Plan {
    /// Merges a new plan of the same suites into this one. New probes come after the present ones.
    pub fn merge_replanned(&mut self, fresh: &Plan) -> Replanned {
        let mut merge = Merge::of(self, fresh);
        merge.flows();
        merge.controls();
        merge.checks();
        let replanned = merge.replanned;

        self.parts.pod_uids.clone_from(fresh.pod_uids());
        self.parts.source_kinds.clone_from(fresh.source_kinds());
        replanned
    }

    /// Adds a copy of a flow with longer deadlines, on a new probe, and retires the flow. A probe
    /// of the same source with a number from `launched` on takes the copy, since it has not been
    /// launched yet.
    pub fn retry_with_longer_waits(&mut self, id: FlowId, waits: Waits, launched: usize) -> FlowId {
        let of = self.flow(id).clone();
        let source = self.source(of.probe).clone();
        let mut added = (launched..self.probes().len()).map(|probe| ProbeId(probe as u32));
        let room = |probe: &ProbeId| {
            self.flows()
                .iter()
                .filter(|flow| flow.probe == *probe)
                .count()
                < MAX_FLOWS / 2
        };
        let probe = added.find(|probe| *self.source(*probe) == source && room(probe));
        let probe = probe.unwrap_or_else(|| self.add_probe(source, of.probe));
        let new = self.add_flow(super::Flow {
            probe,
            waits: of.waits.max(waits),
            ..of.clone()
        });
        let (family, transport) = (of.family(), of.to.transport);
        let source_controls = self
            .source_controls()
            .get(&(of.probe, family, transport))
            .cloned()
            .unwrap_or_default();
        self.copy_source_controls(probe, (family, transport), &source_controls);
        if let Some(weaker) = self.parts.weaker_controls.get(&id).cloned() {
            self.parts.weaker_controls.insert(new, weaker);
        }
        for check in &mut self.parts.checks {
            if let Some(place) = check.flows.iter_mut().find(|flow| **flow == id) {
                *place = new;
                check.retired.push(id);
            }
        }
        new
    }

    fn add_probe(&mut self, source: Source, like: ProbeId) -> ProbeId {
        let probe = ProbeId(self.probes().len() as u32);
        self.parts.probes.push(source);
        self.parts.rates.push(self.rates()[like.0 as usize]);
        self.parts
            .resolvers
            .push(self.resolvers()[like.0 as usize].clone());
        for marked in [
            &mut self.parts.created_probes,
            &mut self.parts.ephemeral_probes,
        ] {
            if marked.contains(&like) {
                marked.insert(probe);
            }
        }
        probe
    }

    fn add_flow(&mut self, flow: super::Flow) -> FlowId {
        let id = FlowId(self.flows().len() as u32);
        self.parts.flows.push(flow);
        id
    }

    /// Lets a new probe try the source controls of another one again, since a source control is a
    /// flow of the same probe.
    fn copy_source_controls(
        &mut self,
        probe: ProbeId,
        (family, transport): (Family, Transport),
        of: &SourceControls,
    ) {
        if self
            .source_controls()
            .contains_key(&(probe, family, transport))
        {
            return;
        }
        let allowed = self.copy_flows(probe, of.allowed.iter().take(MAX_ALLOWED_AGAIN));
        let tried = self.copy_flows(probe, of.tried.iter());
        let source_controls = SourceControls {
            allowed,
            tried,
            reached: of.reached.clone(),
        };
        self.parts
            .source_controls
            .insert((probe, family, transport), source_controls);
    }

    /// The flows of a probe to the same targets as some other flows; those that it lacks are added.
    fn copy_flows<'f>(
        &mut self,
        probe: ProbeId,
        flows: impl Iterator<Item = &'f FlowId>,
    ) -> Vec<FlowId> {
        flows
            .map(|id| {
                let original = self.flow(*id).clone();
                let known = self
                    .flows()
                    .iter()
                    .position(|flow| flow.probe == probe && *flow.to == *original.to);
                match known {
                    Some(index) => FlowId(index as u32),
                    None => self.add_flow(super::Flow { probe, ..original }),
                }
            })
            .collect()
    }

    /// The uids of the pods behind an address.
    fn pod_uids_of(&self, target_kind: &TargetKind) -> Vec<Option<&String>> {
        match target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } => vec![self.pod_uids().get(&format!("{namespace}/{name}"))],
            TargetKind::Service { pods, .. } => {
                pods.iter().map(|pod| self.pod_uids().get(pod)).collect()
            }
            TargetKind::Node { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => Vec::new(),
        }
    }
}

struct Merge<'p> {
    plan: &'p mut Plan,
    fresh: &'p Plan,
    /// The id in the plan of each flow of the fresh plan.
    ids: Vec<FlowId>,
    replanned: Replanned,
}

impl<'p> Merge<'p> {
    fn of(plan: &'p mut Plan, fresh: &'p Plan) -> Self {
        Self {
            plan,
            fresh,
            ids: Vec::with_capacity(fresh.flows().len()),
            replanned: Replanned::default(),
        }
    }

    /// Whether a source is a pod that another one of the same name has replaced.
    fn is_replaced(&self, source: &Source) -> bool {
        let Source::Pod {
            namespace, name, ..
        } = source
        else {
            return false;
        };
        let pod = format!("{namespace}/{name}");
        self.plan.pod_uids().get(&pod) != self.fresh.pod_uids().get(&pod)
    }

    fn flows(&mut self) {
        let retired: BTreeSet<FlowId> = self
            .plan
            .checks()
            .iter()
            .flat_map(|check| check.retired.iter().copied())
            .collect();

        let mut known: HashMap<(Source, Arc<TargetKey>), FlowId> = HashMap::new();
        for (index, flow) in self.plan.flows().iter().enumerate() {
            let (id, source) = (FlowId(index as u32), self.plan.source(flow.probe));
            if !retired.contains(&id) && !self.is_replaced(source) {
                known.entry((source.clone(), flow.to.clone())).or_insert(id);
            }
        }

        let mut probes: BTreeMap<ProbeId, ProbeId> = BTreeMap::new();
        for flow in self.fresh.flows() {
            let source = self.fresh.source(flow.probe).clone();
            if let Some(id) = known.get(&(source.clone(), flow.to.clone())) {
                let before = &self.plan.flow(*id).target_kind;
                if self.plan.pod_uids_of(before) != self.fresh.pod_uids_of(&flow.target_kind) {
                    self.replanned.replaced.insert(*id);
                } else if *before != flow.target_kind {
                    self.replanned.altered.insert(*id);
                }
                self.plan.parts.flows[id.0 as usize].target_kind = flow.target_kind.clone();
                self.ids.push(*id);
                continue;
            }
            let probe = *probes.entry(flow.probe).or_insert_with(|| {
                let probe = ProbeId(self.plan.probes().len() as u32);
                self.plan.parts.probes.push(source);
                self.plan
                    .parts
                    .rates
                    .push(self.fresh.rates()[flow.probe.0 as usize]);
                self.plan
                    .parts
                    .resolvers
                    .push(self.fresh.resolvers()[flow.probe.0 as usize].clone());
                probe
            });
            let id = self.plan.add_flow(super::Flow {
                probe,
                ..flow.clone()
            });
            self.ids.push(id);
        }
    }

    fn ids_of(&self, fresh: &[FlowId]) -> Vec<FlowId> {
        fresh.iter().map(|id| self.ids[id.0 as usize]).collect()
    }

    /// Source controls of the fresh plan, by the ids of this one.
    fn source_controls_of(&self, fresh: &SourceControls) -> SourceControls {
        SourceControls {
            allowed: self.ids_of(&fresh.allowed),
            tried: self.ids_of(&fresh.tried),
            reached: self.ids_of(&fresh.reached),
        }
    }

    /// Takes the controls of the fresh plan, and keeps those that a probe that still runs tried
    /// again.
    fn controls(&mut self) {
        self.plan.parts.target_controls = self
            .fresh
            .target_controls()
            .iter()
            .map(|(key, flows)| (key.clone(), self.ids_of(flows)))
            .collect();
        let composites = self.fresh.composites().iter().map(|(key, of)| {
            let here = Composite {
                through: self.ids_of(&of.through),
                backends: self.ids_of(&of.backends),
            };
            (key.clone(), here)
        });
        self.plan.parts.composites = composites.collect();
        self.plan.parts.path_controls = self
            .fresh
            .path_controls()
            .iter()
            .map(|(path, flows)| (path.clone(), self.ids_of(flows)))
            .collect();

        for (flow, weaker) in &self.fresh.parts.weaker_controls {
            let id = self.ids[flow.0 as usize];
            self.plan.parts.weaker_controls.insert(id, weaker.clone());
        }
        for (flow, id) in self.ids.iter().enumerate() {
            let flow = FlowId(flow as u32);
            if !self.fresh.parts.weaker_controls.contains_key(&flow) {
                self.plan.parts.weaker_controls.remove(id);
            }
        }
        for (flow, expected) in self.fresh.predicted() {
            self.plan
                .parts
                .predicted
                .insert(self.ids[flow.0 as usize], *expected);
        }

        self.plan.parts.policy_delay_flows.clear();
        for ((_, node), flows) in self.fresh.policy_delay_flows() {
            for flow in self.ids_of(flows) {
                let probe = self.plan.flow(flow).probe;
                self.plan
                    .parts
                    .policy_delay_flows
                    .entry((probe, node.clone()))
                    .or_default()
                    .push(flow);
            }
        }
        for (flow, id) in self.fresh.flows().iter().zip(&self.ids) {
            let probe = self.plan.flows()[id.0 as usize].probe;
            for (fresh, marked) in [
                (
                    self.fresh.created_probes(),
                    &mut self.plan.parts.created_probes,
                ),
                (
                    self.fresh.ephemeral_probes(),
                    &mut self.plan.parts.ephemeral_probes,
                ),
            ] {
                if fresh.contains(&flow.probe) {
                    marked.insert(probe);
                }
            }
        }

        for ((_, family, transport), source_controls) in self.fresh.source_controls() {
            let of = self.source_controls_of(source_controls);
            let probes: BTreeSet<ProbeId> = of
                .allowed
                .iter()
                .chain(&of.tried)
                .map(|flow| self.plan.flow(*flow).probe)
                .collect();

            for probe in probes {
                let allowed = self.flows_of_probe(&of.allowed, probe);
                let tried = self.flows_of_probe(&of.tried, probe);
                let known = self
                    .plan
                    .parts
                    .source_controls
                    .entry((probe, *family, *transport))
                    .or_default();
                merge(&mut known.allowed, allowed);
                merge(&mut known.tried, tried);
                known.reached.clone_from(&of.reached);
            }
        }
        for (flow, id) in self.fresh.flows().iter().zip(self.ids.clone()) {
            let probe = self.plan.flow(id).probe;
            let way = (flow.family(), flow.to.transport);
            if let Some(source_controls) = self
                .fresh
                .source_controls()
                .get(&(flow.probe, way.0, way.1))
            {
                let of = self.source_controls_of(source_controls);
                self.plan.copy_source_controls(probe, way, &of);
            }
        }
    }

    fn flows_of_probe(&self, flows: &[FlowId], probe: ProbeId) -> Vec<FlowId> {
        flows
            .iter()
            .copied()
            .filter(|flow| self.plan.flow(*flow).probe == probe)
            .collect()
    }

    fn checks(&mut self) {
        let mut fresh: HashMap<(usize, &str), &Check> = self
            .fresh
            .checks()
            .iter()
            .map(|check| ((check.suite, check.name.as_str()), check))
            .collect();

        let mut checks = std::mem::take(&mut self.plan.parts.checks);
        for check in &mut checks {
            let now = fresh.remove(&(check.suite, check.name.as_str()));
            let flows = now.map_or(Vec::new(), |now| self.ids_of(&now.flows));
            let gone = check
                .flows
                .iter()
                .copied()
                .filter(|flow| !flows.contains(flow));
            let gone: Vec<FlowId> = gone.collect();
            check.retired.extend(&gone);
            self.replanned.retired.extend(gone);
            check.flows = flows;
            match now {
                Some(now) => {
                    check.scope = now.scope;
                    check.provability = now.provability.clone();
                    check.settings = now.settings.clone();
                }
                None => {
                    check.provability = Provability::MatchesNothing(
                        "what it names is gone since the run began".into(),
                    );
                }
            }
        }
        if !fresh.is_empty() {
            let mut names: Vec<&str> = fresh.into_keys().map(|(_, name)| name).collect();
            names.sort_unstable();
            self.replanned.notes.push(format!(
                "not tested, since it appeared during the run: {}",
                names.join(", ")
            ));
        }
        self.plan.parts.checks = checks;
    }
}

fn merge(into: &mut Vec<FlowId>, flows: Vec<FlowId>) {
    for flow in flows {
        if !into.contains(&flow) {
            into.push(flow);
        }
    }
}
