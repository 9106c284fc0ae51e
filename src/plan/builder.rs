//! A plan in the making: probes and flows, each once.

use super::rates::rates;
use super::{Able, Check, Environment, Flow, FlowId, Party, Path, Plan, ProbeId, SuiteRef, TargetKey, Vantage};
use crate::model::Family;
use crate::wire;
use std::collections::{BTreeMap, HashMap};

/// Probes and flows are added as they are needed and never twice.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) suites: Vec<SuiteRef>,
    pub(super) checks: Vec<Check>,
    pub(super) swept: Vec<Check>,
    pub(super) probes: Vec<Vantage>,
    pub(super) flows: Vec<Flow>,
    pub(super) vouchers: BTreeMap<TargetKey, Vec<FlowId>>,
    pub(super) able: BTreeMap<(ProbeId, Family, wire::Transport), Able>,
    /// The probe of a vantage that still has room, and how many flows it has.
    open_probes: HashMap<Vantage, (ProbeId, usize)>,
    known: HashMap<(Vantage, TargetKey), FlowId>,
}

impl Builder {
    /// The flow from a vantage to a target; added if it is new.
    pub(super) fn flow(&mut self, vantage: &Vantage, to: TargetKey, party: Party, opens_at: wire::Stage) -> FlowId {
        let key = (vantage.clone(), to);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let probe = self.probe(vantage);
        let id = FlowId(self.flows.len() as u32);
        self.flows.push(Flow { probe, to: key.1.clone(), party, opens_at });
        self.known.insert(key, id);
        id
    }

    /// A probe of a vantage with room for one more flow.
    fn probe(&mut self, vantage: &Vantage) -> ProbeId {
        if let Some((probe, flows)) = self.open_probes.get_mut(vantage)
            && *flows < wire::MAX_FLOWS
        {
            *flows += 1;
            return *probe;
        }
        let probe = ProbeId(self.probes.len() as u32);
        self.probes.push(vantage.clone());
        self.open_probes.insert(vantage.clone(), (probe, 1));
        probe
    }

    pub(super) fn finish(self, environment: Environment, notes: Vec<String>) -> Plan {
        let mut paths: BTreeMap<Path, Vec<FlowId>> = BTreeMap::new();
        for (index, flow) in self.flows.iter().enumerate() {
            // A Service's flow may go to any of its nodes, so it shows nothing about the path to one of them unless
            // there is only one.
            let ends = flow.party.ends(flow);
            let [end] = ends.as_slice() else { continue };
            let from = self.probes[flow.probe.0 as usize].node().map(str::to_owned);
            let path = Path { from, to: end.clone(), family: flow.family() };
            paths.entry(path).or_default().push(FlowId(index as u32));
        }
        let rates = rates(environment, self.probes.len(), &self.flows, &self.checks);
        Plan {
            suites: self.suites,
            checks: self.checks,
            swept: self.swept,
            rates,
            resolvers: vec![None; self.probes.len()],
            probes: self.probes,
            flows: self.flows,
            vouchers: self.vouchers,
            able: self.able,
            paths,
            notes,
        }
    }
}
