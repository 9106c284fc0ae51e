//! What policies answer for each source, target and port.

use super::super::addresses::Addressing;
use super::super::endpoints::{EndpointKind, ResolvedEndpoint, ResolvedPort, resolve_endpoint};
use super::super::predict::Predictions;
use super::super::request::request_spec;
use super::super::{BackendKind, Flow, ProbeId, Source, TargetKey, Waits};
use super::DraftError;
use super::endpoints::{DraftEndpoint, DraftEndpoints};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use crate::policy::{BothSides, EndpointRef, Explanation};
use crate::suite::{Expected, Settings, Spread};
use std::net::IpAddr;
use std::sync::Arc;

/// An index into [`DraftEndpoints::endpoints`].
pub(super) type EndpointIndex = usize;

/// What policies say of a pair at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// The same for every flow.
    One(Expected),
    /// Different answers, or none for some flow.
    Several,
    /// There is no flow: the two ends are one pod, or share no address family.
    NoFlow,
}

/// All endpoints, resolved, with all answers.
pub(super) struct Table<'a> {
    pub(super) draft_endpoints: &'a DraftEndpoints,
    inventory: &'a Inventory,
    backend: BackendKind,
    addressing: Addressing<'a>,
    found: Vec<ResolvedEndpoint<'a>>,
    pub(super) ports: Vec<Vec<ResolvedPort>>,
    sources: Vec<Vec<Source>>,
    pub(super) predictions: Predictions<'a>,
    /// By target, source and port.
    answers: Vec<Vec<Vec<Answer>>>,
}

impl<'a> Table<'a> {
    pub(super) fn fill(
        draft_endpoints: &'a DraftEndpoints,
        inventory: &'a Inventory,
        backend: BackendKind,
    ) -> Result<Self, DraftError> {
        let addressing = Addressing::of(inventory);
        let found: Vec<ResolvedEndpoint<'a>> = draft_endpoints
            .endpoints
            .iter()
            .map(|draft_endpoint| resolve_endpoint(&draft_endpoint.endpoint, inventory))
            .collect();
        // Where a Service would make a port mean two things, the endpoint has none.
        let ports = found
            .iter()
            .map(|found| found.known_ports(None).unwrap_or_default())
            .collect();
        let sources = found
            .iter()
            .map(|found| addressing.sources(found, Some(Spread::Nodes)))
            .collect();
        let predictions = Predictions::new(inventory)?;
        let mut table = Self {
            draft_endpoints,
            inventory,
            backend,
            addressing,
            found,
            ports,
            sources,
            predictions,
            answers: Vec::new(),
        };
        for target in 0..table.found.len() {
            let rows = (0..table.found.len())
                .map(|source| table.row(source, target))
                .collect();
            table.answers.push(rows);
        }
        Ok(table)
    }

    pub(super) fn endpoint(&self, index: EndpointIndex) -> &'a DraftEndpoint {
        &self.draft_endpoints.endpoints[index]
    }

    /// Whether `*` includes it as a source.
    pub(super) fn is_sender(&self, index: EndpointIndex) -> bool {
        self.found[index].is_source_by_wildcard()
    }

    pub(super) fn is_runner(&self, index: EndpointIndex) -> bool {
        self.found[index].kind == EndpointKind::Runner
    }

    pub(super) fn is_outside(&self, index: EndpointIndex) -> bool {
        matches!(self.found[index].kind, EndpointKind::Outside(_))
    }

    /// Whether it has fewer than two pods.
    pub(super) fn is_single(&self, index: EndpointIndex) -> bool {
        self.found[index].pods.len() < 2
    }

    /// The address of the runner.
    pub(super) fn runner(&self) -> Option<IpAddr> {
        self.inventory.runner.first().copied()
    }

    pub(super) fn length(&self) -> usize {
        self.found.len()
    }

    /// The answers at each known port of the target.
    pub(super) fn answers(&self, source: EndpointIndex, target: EndpointIndex) -> &[Answer] {
        &self.answers[target][source]
    }

    fn row(&mut self, source: EndpointIndex, target: EndpointIndex) -> Vec<Answer> {
        (0..self.ports[target].len())
            .map(|port| self.answer(source, target, port))
            .collect()
    }

    fn answer(&mut self, source: EndpointIndex, target: EndpointIndex, port: usize) -> Answer {
        // No policy applies between two hosts outside, and nothing is tested.
        if self.sources[source].is_empty() || (self.is_runner(source) && self.is_outside(target)) {
            return Answer::NoFlow;
        }
        let mut common = None;
        for (source, flow) in self.flows(source, target, port) {
            match (self.predictions.flow(&source, &flow), common) {
                (Some(answer), None) => common = Some(answer),
                (Some(answer), Some(known)) if answer == known => {}
                _ => return Answer::Several,
            }
        }
        common.map_or(Answer::NoFlow, Answer::One)
    }

    /// The flows that a plan would have.
    fn flows(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
    ) -> Vec<(Source, Flow)> {
        let (found, at) = (&self.found[target], &self.ports[target][port]);
        let none = Settings::default();
        let request_spec = request_spec(found, at, None, &none, self.backend);
        let targets: Vec<(Arc<TargetKey>, Arc<_>)> = self
            .addressing
            .targets(found, at, &request_spec)
            .into_iter()
            .map(|(key, target_kind)| (Arc::new(key), Arc::new(target_kind)))
            .collect();
        let mut flows = Vec::new();
        for source in &self.sources[source] {
            for (to, target_kind) in targets
                .iter()
                .filter(|(to, target_kind)| self.addressing.can_connect(source, to, target_kind))
            {
                let flow = Flow {
                    probe: ProbeId(0),
                    to: Arc::clone(to),
                    target_kind: Arc::clone(target_kind),
                    opens_at: request_spec.opens_at,
                    waits: Waits::default(),
                };
                flows.push((source.clone(), flow));
            }
        }
        flows
    }

    /// Why, of one flow of a pair.
    pub(super) fn explain(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
    ) -> Option<Explanation> {
        let (source, flow) = self.flows(source, target, port).into_iter().next()?;
        self.predictions.explain(&source, &flow).into_iter().next()
    }

    /// The ends of a pair's first flow, as policies are evaluated, and its port.
    fn first_ends(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
    ) -> Option<(EndpointRef<'a>, EndpointRef<'a>, Port)> {
        let at = &self.ports[target][port];
        let (from, to) = (&self.found[source], &self.found[target]);
        let pod = |of: &ResolvedEndpoint<'a>, not: Option<usize>| {
            let number = |pod: &crate::inventory::Pod| {
                self.inventory
                    .pods
                    .iter()
                    .position(|one| std::ptr::eq(one, pod))
            };
            of.pods
                .iter()
                .filter_map(|pod| number(pod))
                .find(|number| Some(*number) != not)
        };
        let end_of = |of: &ResolvedEndpoint<'a>, not: Option<usize>| match &of.kind {
            EndpointKind::Pods => pod(of, not).map(EndpointRef::Pod),
            EndpointKind::Outside(addresses) => addresses
                .first()
                .map(|address| EndpointRef::Address(*address)),
            EndpointKind::Runner => self
                .inventory
                .runner
                .first()
                .map(|address| EndpointRef::Address(*address)),
            EndpointKind::Nodes => None,
        };
        let start = end_of(from, None)?;
        let first = if let EndpointRef::Pod(number) = start {
            Some(number)
        } else {
            None
        };
        let end = end_of(to, first)?;
        let number = match end {
            EndpointRef::Pod(pod) | EndpointRef::ServicePod(pod) => at
                .on_pods
                .number_on(&self.inventory.pods[pod], at.transport)?,
            EndpointRef::Node(_) | EndpointRef::Address(_) => at.number,
        };
        Some((start, end, Port::new(number, at.transport)?))
    }

    /// What each side of a pair lets through by itself.
    pub(super) fn sides(
        &mut self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
    ) -> Option<(BothSides, Port)> {
        let (from, to, port) = self.first_ends(source, target, port)?;
        let family = match to {
            EndpointRef::Address(address) => Family::of(address),
            EndpointRef::Pod(_) | EndpointRef::ServicePod(_) | EndpointRef::Node(_) => Family::V4,
        };
        self.predictions
            .sides(from, to, family)
            .map(|sides| (sides, port))
    }

    /// One pod of an endpoint, by its index into the inventory.
    pub(super) fn pod(&self, index: EndpointIndex) -> Option<usize> {
        let first = self.found[index].pods.first()?;
        self.inventory
            .pods
            .iter()
            .position(|pod| std::ptr::eq(pod, *first))
    }
}
