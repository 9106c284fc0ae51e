//! What policies answer for each source, target and port.

use super::super::addresses::Addressing;
use super::super::endpoints::{EndpointKind, ResolvedEndpoint, ResolvedPort, resolve_endpoint};
use super::super::predict::Predictions;
use super::super::request::request_spec;
use super::super::{BackendKind, Flow, ProbeId, Source, TargetKey, Waits};
use super::DraftError;
use super::endpoints::{Actor, Cast};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use crate::policy::{BothSides, EndpointRef, Explanation};
use crate::suite::{Expected, Settings, Spread};
use std::net::IpAddr;
use std::sync::Arc;

/// One of a cast, by its place in it.
pub(super) type Who = usize;

/// What policies say of a pair at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// The same of every flow.
    One(Expected),
    /// Not the same of every flow, or nothing of some.
    Several,
    /// There is no flow: the two ends are one pod, or share no address family.
    NoFlow,
}

/// Everyone of a cast, found, with all answers.
pub(super) struct Table<'a> {
    pub(super) cast: &'a Cast,
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
        cast: &'a Cast,
        inventory: &'a Inventory,
        backend: BackendKind,
    ) -> Result<Self, DraftError> {
        let addressing = Addressing::of(inventory);
        let found: Vec<ResolvedEndpoint<'a>> = cast
            .actors
            .iter()
            .map(|actor| resolve_endpoint(&actor.endpoint, inventory))
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
            cast,
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

    pub(super) fn actor(&self, who: Who) -> &'a Actor {
        &self.cast.actors[who]
    }

    /// Those that `*` means as sources.
    pub(super) fn is_sender(&self, who: Who) -> bool {
        self.found[who].is_source_by_wildcard()
    }

    pub(super) fn is_runner(&self, who: Who) -> bool {
        self.found[who].kind == EndpointKind::Runner
    }

    pub(super) fn is_outside(&self, who: Who) -> bool {
        matches!(self.found[who].kind, EndpointKind::Outside(_))
    }

    /// Whether it has no replica to talk to.
    pub(super) fn is_single(&self, who: Who) -> bool {
        self.found[who].pods.len() < 2
    }

    /// Where the runner is.
    pub(super) fn runner(&self) -> Option<IpAddr> {
        self.inventory.runner.first().copied()
    }

    pub(super) fn length(&self) -> usize {
        self.found.len()
    }

    /// The answers at each known port of the target.
    pub(super) fn answers(&self, source: Who, target: Who) -> &[Answer] {
        &self.answers[target][source]
    }

    fn row(&mut self, source: Who, target: Who) -> Vec<Answer> {
        (0..self.ports[target].len())
            .map(|port| self.answer(source, target, port))
            .collect()
    }

    fn answer(&mut self, source: Who, target: Who, port: usize) -> Answer {
        // From one outside host to another nobody's policies are asked, and nothing is tested.
        if self.sources[source].is_empty() || (self.is_runner(source) && self.is_outside(target)) {
            return Answer::NoFlow;
        }
        let mut said = None;
        for (source, flow) in self.flows(source, target, port) {
            match (self.predictions.flow(&source, &flow), said) {
                (Some(answer), None) => said = Some(answer),
                (Some(answer), Some(known)) if answer == known => {}
                _ => return Answer::Several,
            }
        }
        said.map_or(Answer::NoFlow, Answer::One)
    }

    /// The flows that a plan would have.
    fn flows(&self, source: Who, target: Who, port: usize) -> Vec<(Source, Flow)> {
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
    pub(super) fn explain(&self, source: Who, target: Who, port: usize) -> Option<Explanation> {
        let (source, flow) = self.flows(source, target, port).into_iter().next()?;
        self.predictions.explain(&source, &flow).into_iter().next()
    }

    /// Who a pair's flows are between, as policies are asked, and at what port.
    fn first_ends(
        &self,
        source: Who,
        target: Who,
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
        source: Who,
        target: Who,
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
    pub(super) fn pod(&self, who: Who) -> Option<usize> {
        let first = self.found[who].pods.first()?;
        self.inventory
            .pods
            .iter()
            .position(|pod| std::ptr::eq(pod, *first))
    }
}
