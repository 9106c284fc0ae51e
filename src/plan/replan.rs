//! A plan made again, because pods or Services changed while it ran, joined to the one that runs.
//!
//! Nothing that was planned is forgotten: probes and flows keep their numbers, and new ones are
//! added behind them. What still stands keeps running; a pod in another's place is tried anew; what
//! is gone is retired.

use super::{
    Check, Composite, FlowId, Plan, ProbeId, Provability, Source, SourceControls, TargetKey,
    TargetKind, Waits,
};
use crate::model::Family;
use crate::wire::{MAX_FLOWS, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Flows that the suite allows to a source, tried again beside new ones of it: they show that the
/// source can send.
const MAX_ALLOWED_AGAIN: usize = 2;

/// What joining a fresh plan changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replanned {
    /// Flows whose address now has another pod behind it.
    pub replaced: BTreeSet<FlowId>,
    /// Flows whose pods are the same, in another way: ready by now, or as members of a Service.
    pub altered: BTreeSet<FlowId>,
    /// Flows that were given up.
    pub retired: BTreeSet<FlowId>,
    /// What is worth telling.
    pub notes: Vec<String>,
}

impl Plan {
    /// Joins a fresh plan of the same suites to this one. Probes that are new stand behind those
    /// that were there.
    pub fn merge_replanned(&mut self, fresh: &Plan) -> Replanned {
        let mut joining = Joining::of(self, fresh);
        joining.flows();
        joining.relations();
        joining.checks();
        let renewal = joining.renewal;
        self.parts.pod_uids.clone_from(fresh.pod_uids());
        renewal
    }

    /// A flow again, from a probe of its own, with more time for its stages; the flow itself is
    /// retired. A probe of the same vantage with a number from `launched` on takes it in, since it
    /// has not been launched yet.
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
        let way = (of.family(), of.to.transport);
        let source_controls = self
            .source_controls()
            .get(&(of.probe, way.0, way.1))
            .cloned()
            .unwrap_or_default();
        self.source_controls_again(probe, way, &source_controls);
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

    /// Lets a new probe try again what shows that its source can send: only the same probe vouches
    /// for itself.
    fn source_controls_again(
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
        let mut again = |flows: &[FlowId], most: usize| -> Vec<FlowId> {
            let flows: Vec<_> = flows
                .iter()
                .take(most)
                .map(|flow| self.flow(*flow).clone())
                .collect();
            let own = |this: &Self, to: &TargetKey| {
                this.flows()
                    .iter()
                    .position(|flow| flow.probe == probe && *flow.to == *to)
                    .map(|index| FlowId(index as u32))
            };
            let again = flows.into_iter().map(|flow| {
                own(self, &flow.to).unwrap_or_else(|| self.add_flow(super::Flow { probe, ..flow }))
            });
            again.collect()
        };
        let allowed = again(&of.allowed, MAX_ALLOWED_AGAIN);
        let tried = again(&of.tried, usize::MAX);
        let source_controls = SourceControls {
            allowed,
            tried,
            reached: of.reached.clone(),
        };
        self.parts
            .source_controls
            .insert((probe, family, transport), source_controls);
    }

    /// Which incarnations of pods are behind an address.
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

struct Joining<'p> {
    plan: &'p mut Plan,
    fresh: &'p Plan,
    /// The flows of the fresh plan, by their numbers here.
    ids: Vec<FlowId>,
    renewal: Replanned,
}

impl<'p> Joining<'p> {
    fn of(plan: &'p mut Plan, fresh: &'p Plan) -> Self {
        Self {
            plan,
            fresh,
            ids: Vec::with_capacity(fresh.flows().len()),
            renewal: Replanned::default(),
        }
    }

    /// Whether a source is another pod than the one of its name that the plan was made for.
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
                    self.renewal.replaced.insert(*id);
                } else if *before != flow.target_kind {
                    self.renewal.altered.insert(*id);
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

    fn here(&self, fresh: &[FlowId]) -> Vec<FlowId> {
        fresh.iter().map(|id| self.ids[id.0 as usize]).collect()
    }

    /// Who vouches for whom: as the fresh plan has it, and what was tried again for the sake of a
    /// probe that still runs.
    fn relations(&mut self) {
        self.plan.parts.target_controls = self
            .fresh
            .target_controls()
            .iter()
            .map(|(key, flows)| (key.clone(), self.here(flows)))
            .collect();
        let composites = self.fresh.composites().iter().map(|(key, of)| {
            let here = Composite {
                through: self.here(&of.through),
                backends: self.here(&of.backends),
            };
            (key.clone(), here)
        });
        self.plan.parts.composites = composites.collect();
        self.plan.parts.path_controls = self
            .fresh
            .path_controls()
            .iter()
            .map(|(path, flows)| (path.clone(), self.here(flows)))
            .collect();
        for (flow, expected) in self.fresh.predicted() {
            self.plan
                .parts
                .predicted
                .insert(self.ids[flow.0 as usize], *expected);
        }
        self.plan.parts.policy_delay_flows.clear();
        for ((_, node), flows) in self.fresh.policy_delay_flows() {
            for flow in self.here(flows) {
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
            let of = SourceControls {
                allowed: self.here(&source_controls.allowed),
                tried: self.here(&source_controls.tried),
                reached: self.here(&source_controls.reached),
            };
            let own = of
                .allowed
                .iter()
                .chain(&of.tried)
                .map(|flow| self.plan.flow(*flow).probe);
            for probe in own.collect::<BTreeSet<_>>() {
                let at = |flows: &[FlowId]| {
                    flows
                        .iter()
                        .copied()
                        .filter(|flow| self.plan.flow(*flow).probe == probe)
                        .collect::<Vec<_>>()
                };
                let here = SourceControls {
                    allowed: at(&of.allowed),
                    tried: at(&of.tried),
                    reached: of.reached.clone(),
                };
                let known = self
                    .plan
                    .parts
                    .source_controls
                    .entry((probe, *family, *transport))
                    .or_default();
                merge(&mut known.allowed, here.allowed);
                merge(&mut known.tried, here.tried);
                known.reached = here.reached;
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
                let of = SourceControls {
                    allowed: self.here(&source_controls.allowed),
                    tried: self.here(&source_controls.tried),
                    reached: self.here(&source_controls.reached),
                };
                self.plan.source_controls_again(probe, way, &of);
            }
        }
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
            let flows = now.map_or(Vec::new(), |now| self.here(&now.flows));
            let gone = check
                .flows
                .iter()
                .copied()
                .filter(|flow| !flows.contains(flow));
            let gone: Vec<FlowId> = gone.collect();
            check.retired.extend(&gone);
            self.renewal.retired.extend(gone);
            check.flows = flows;
            match now {
                Some(now) => {
                    check.scope = now.scope;
                    check.provability = now.provability.clone();
                    check.settings = now.settings.clone();
                }
                None => {
                    check.provability = Provability::MatchesNothing(
                        "what it speaks of is gone since the run began".into(),
                    );
                }
            }
        }
        if !fresh.is_empty() {
            let mut names: Vec<&str> = fresh.into_keys().map(|(_, name)| name).collect();
            names.sort_unstable();
            self.renewal.notes.push(format!(
                "not tested, since it came only with what changed during the run: {}",
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
