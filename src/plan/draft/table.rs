//! What policies answer for each source, target and port.
//!
//! Endpoints of one namespace that policies treat in the same way, with the same ports, count as
//! one: a table of their first members has the answers of all.

use super::super::addresses::Addressing;
use super::super::endpoints::{EndpointKind, ResolvedEndpoint, ResolvedPort, resolve_endpoint};
use super::super::predict::Predictions;
use super::super::request::request_spec;
use super::super::{BackendKind, Flow, ProbeId, Source, TargetKey, TargetKind, Waits};
use super::DraftError;
use super::endpoints::{DraftEndpoint, DraftEndpoints};
use crate::inventory::Inventory;
use crate::model::{Family, Port};
use crate::policy::{BothSides, EndpointRef, Explanation};
use crate::suite::{Expected, Settings, Spread};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// An index into [`DraftEndpoints::endpoints`].
type Member = usize;

/// An index of endpoints that count as one.
pub(super) type EndpointIndex = usize;

/// At least so many equal endpoints count as one: two are written out.
const EQUAL: usize = 3;

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

/// Which two endpoints a pair is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// Different endpoints, which may be equal.
    Different,
    /// An endpoint and itself.
    Itself,
}

/// An endpoint with everything that its flows need.
struct Resolved<'a> {
    found: ResolvedEndpoint<'a>,
    ports: Vec<ResolvedPort>,
    /// Who sends to its own other pods, and who to others: of sources that policies cannot tell
    /// apart, the first.
    all_sources: Vec<Source>,
    sources: Vec<Source>,
    /// Where packets to each port go, and the first of those that policies cannot tell apart.
    all_dials: Vec<Vec<Dial>>,
    dials: Vec<Vec<Dial>>,
    /// The indexes of its pods in the inventory.
    pods: Vec<usize>,
    /// Whether its Service leads to pods of the sender's node only.
    is_local: bool,
}

/// One address that is dialled.
#[derive(Clone)]
struct Dial {
    key: Arc<TargetKey>,
    kind: Arc<TargetKind>,
    opens_at: wire::Stage,
}

/// All endpoints, resolved, with all answers.
pub(super) struct Table<'a> {
    pub(super) draft_endpoints: &'a DraftEndpoints,
    inventory: &'a Inventory,
    addressing: Addressing<'a>,
    resolved: Vec<Resolved<'a>>,
    /// The endpoints that count as one, in order of the first.
    equal: Vec<Vec<Member>>,
    pub(super) predictions: Predictions<'a>,
    /// By target, source and port, of different endpoints.
    answers: Vec<Vec<Vec<Answer>>>,
    /// By endpoint and port, from one of its pods to another.
    of_itself: Vec<Vec<Answer>>,
    /// The senders of each namespace.
    senders: BTreeMap<&'a str, BTreeSet<EndpointIndex>>,
}

impl<'a> Table<'a> {
    pub(super) fn fill(
        draft_endpoints: &'a DraftEndpoints,
        inventory: &'a Inventory,
        backend: BackendKind,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, DraftError> {
        let addressing = Addressing::of(inventory);
        let predictions = Predictions::new(inventory)?;
        let resolved: Vec<Resolved<'a>> = draft_endpoints
            .endpoints
            .iter()
            .map(|endpoint| {
                let found = resolve_endpoint(&endpoint.endpoint, inventory);
                Resolved::of(found, &addressing, &predictions, backend)
            })
            .collect();
        let mut table = Self {
            draft_endpoints,
            inventory,
            addressing,
            equal: equal_endpoints(draft_endpoints, &resolved, &predictions),
            resolved,
            predictions,
            answers: Vec::new(),
            of_itself: Vec::new(),
            senders: BTreeMap::new(),
        };
        for index in 0..table.length() {
            if let Some(namespace) = &table.endpoint(index).namespace
                && table.is_sender(index)
            {
                table.senders.entry(namespace).or_default().insert(index);
            }
        }
        for target in 0..table.length() {
            progress(target, table.length());
            let rows = (0..table.length())
                .map(|source| table.row(source, target, Pair::Different))
                .collect();
            table.answers.push(rows);
            let of_itself = table.row(target, target, Pair::Itself);
            table.of_itself.push(of_itself);
        }
        Ok(table)
    }

    /// The first of the endpoints that count as one.
    pub(super) fn endpoint(&self, index: EndpointIndex) -> &'a DraftEndpoint {
        &self.draft_endpoints.endpoints[self.equal[index][0]]
    }

    /// The labels of all endpoints that count as one.
    pub(super) fn labels(&self, index: EndpointIndex) -> impl Iterator<Item = &'a str> {
        let endpoints = &self.draft_endpoints.endpoints;
        let members = self.equal[index].iter();
        members.map(|member| endpoints[*member].endpoint.label.as_str())
    }

    /// Whether several endpoints count as one.
    pub(super) fn is_several(&self, index: EndpointIndex) -> bool {
        self.equal[index].len() > 1
    }

    /// The index of cluster DNS.
    pub(super) fn dns(&self) -> Option<EndpointIndex> {
        let dns = self.draft_endpoints.dns?;
        self.equal.iter().position(|members| members[0] == dns)
    }

    pub(super) fn ports(&self, index: EndpointIndex) -> &[ResolvedPort] {
        &self.first(index).ports
    }

    /// The senders of each namespace.
    pub(super) fn senders(&self) -> &BTreeMap<&'a str, BTreeSet<EndpointIndex>> {
        &self.senders
    }

    fn first(&self, index: EndpointIndex) -> &Resolved<'a> {
        &self.resolved[self.equal[index][0]]
    }

    /// Whether `*` includes it as a source.
    pub(super) fn is_sender(&self, index: EndpointIndex) -> bool {
        self.first(index).found.is_source_by_wildcard()
    }

    /// Whether it sends to some target other than itself: another one, or one that is equal.
    pub(super) fn sends_to(&self, source: EndpointIndex, target: EndpointIndex) -> bool {
        self.is_sender(source) && (source != target || self.is_several(source))
    }

    pub(super) fn is_runner(&self, index: EndpointIndex) -> bool {
        self.first(index).found.kind == EndpointKind::Runner
    }

    pub(super) fn is_outside(&self, index: EndpointIndex) -> bool {
        matches!(self.first(index).found.kind, EndpointKind::Outside(_))
    }

    /// Whether it has fewer than two pods.
    pub(super) fn is_single(&self, index: EndpointIndex) -> bool {
        self.first(index).found.pods.len() < 2
    }

    /// The address of the runner.
    pub(super) fn runner(&self) -> Option<IpAddr> {
        self.inventory.runner.first().copied()
    }

    /// How many endpoints there are, where those that are equal count as one.
    pub(super) fn length(&self) -> usize {
        self.equal.len()
    }

    /// The answers at each known port of the target.
    pub(super) fn answers(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        pair: Pair,
    ) -> &[Answer] {
        match pair {
            Pair::Different => &self.answers[target][source],
            Pair::Itself => &self.of_itself[target],
        }
    }

    fn row(&mut self, source: EndpointIndex, target: EndpointIndex, pair: Pair) -> Vec<Answer> {
        (0..self.ports(target).len())
            .map(|port| self.answer(source, target, port, pair))
            .collect()
    }

    fn answer(
        &mut self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
        pair: Pair,
    ) -> Answer {
        // No policy applies between two hosts outside, and nothing is tested.
        if self.is_runner(source) && self.is_outside(target) {
            return Answer::NoFlow;
        }
        let Some((from, to)) = self.members(source, target, pair) else {
            return Answer::NoFlow;
        };
        let mut common = None;
        for (source, flow) in flows(
            &self.addressing,
            &self.resolved[from],
            &self.resolved[to],
            port,
            pair,
        ) {
            match (self.predictions.flow(source, &flow), common) {
                (Some(answer), None) => common = Some(answer),
                (Some(answer), Some(known)) if answer == known => {}
                _ => return Answer::Several,
            }
        }
        common.map_or(Answer::NoFlow, Answer::One)
    }

    /// Two endpoints that a pair is of; `None` where there are none.
    fn members(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        pair: Pair,
    ) -> Option<(Member, Member)> {
        let (from, to) = (&self.equal[source], &self.equal[target]);
        match pair {
            Pair::Itself => Some((from[0], from[0])),
            Pair::Different if source == target => Some((from[0], *from.get(1)?)),
            Pair::Different => Some((from[0], to[0])),
        }
    }

    /// Why, of one flow of a pair.
    pub(super) fn explain(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
        pair: Pair,
    ) -> Option<Explanation> {
        let (from, to) = self.members(source, target, pair)?;
        let (from, to) = (&self.resolved[from], &self.resolved[to]);
        let (source, flow) = flows(&self.addressing, from, to, port, pair).next()?;
        self.predictions.explain(source, &flow).into_iter().next()
    }

    /// The ends of a pair's first flow, as policies are evaluated, and its port.
    fn first_ends(
        &self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
        pair: Pair,
    ) -> Option<(EndpointRef<'a>, EndpointRef<'a>, Port)> {
        let (from, to) = self.members(source, target, pair)?;
        let (from, to) = (&self.resolved[from], &self.resolved[to]);
        let at = &to.ports[port];
        let start = self.end_of(from, None)?;
        let first = if let EndpointRef::Pod(number) = start {
            Some(number)
        } else {
            None
        };
        let end = self.end_of(to, first)?;
        let number = match end {
            EndpointRef::Pod(pod) | EndpointRef::ServicePod(pod) => at
                .on_pods
                .number_on(&self.inventory.pods[pod], at.transport)?,
            EndpointRef::Node(_) | EndpointRef::Address(_) => at.number,
        };
        Some((start, end, Port::new(number, at.transport)?))
    }

    /// The first pod of an endpoint that is not a given one, or its address.
    fn end_of(&self, of: &Resolved<'a>, not: Option<usize>) -> Option<EndpointRef<'a>> {
        match &of.found.kind {
            EndpointKind::Pods => {
                let mut pods = of.pods.iter();
                let other = pods.find(|number| Some(**number) != not)?;
                Some(EndpointRef::Pod(*other))
            }
            EndpointKind::Outside(addresses) => addresses
                .first()
                .map(|address| EndpointRef::Address(*address)),
            EndpointKind::Runner => self.runner().map(EndpointRef::Address),
            EndpointKind::Nodes => None,
        }
    }

    /// What each side of a pair lets through by itself.
    pub(super) fn sides(
        &mut self,
        source: EndpointIndex,
        target: EndpointIndex,
        port: usize,
        pair: Pair,
    ) -> Option<(BothSides, Port)> {
        let (from, to, port) = self.first_ends(source, target, port, pair)?;
        let family = match to {
            EndpointRef::Address(address) => Family::of(address),
            EndpointRef::Pod(pod) | EndpointRef::ServicePod(pod) => {
                let mut addresses = self.inventory.pods[pod].addresses.iter();
                addresses
                    .next()
                    .map_or(Family::V4, |address| Family::of(*address))
            }
            EndpointRef::Node(_) => Family::V4,
        };
        self.predictions
            .sides(from, to, family)
            .map(|sides| (sides, port))
    }

    /// One pod of an endpoint, by its index into the inventory.
    pub(super) fn pod(&self, index: EndpointIndex) -> Option<usize> {
        self.first(index).pods.first().copied()
    }
}

impl<'a> Resolved<'a> {
    fn of(
        found: ResolvedEndpoint<'a>,
        addressing: &Addressing<'a>,
        predictions: &Predictions<'a>,
        backend: BackendKind,
    ) -> Self {
        // Where a Service would make a port mean two things, the endpoint has none.
        let ports = found.known_ports(None).unwrap_or_default();
        let all_dials: Vec<Vec<Dial>> = ports
            .iter()
            .map(|port| {
                let request_spec = request_spec(&found, port, None, &Settings::default(), backend);
                let targets = addressing.targets(&found, port, &request_spec);
                targets
                    .into_iter()
                    .map(|(key, kind)| Dial {
                        key: Arc::new(key),
                        kind: Arc::new(kind),
                        opens_at: request_spec.opens_at,
                    })
                    .collect()
            })
            .collect();
        let all_sources = addressing.sources(&found, Some(Spread::Nodes));
        // Who reaches such a Service depends on the node.
        let is_local = found.service.is_some_and(|service| service.local_only);
        Self {
            sources: distinct(&all_sources, |source| {
                let class = predictions.source_class(source, Family::V4)?;
                Some((class, addressing.families(source)))
            }),
            dials: all_dials
                .iter()
                .map(|dials| {
                    distinct(dials, |dial| {
                        let class = predictions.target_class(&dial.kind, dial.key.address)?;
                        Some((class, Family::of(dial.key.address), dial.key.port))
                    })
                })
                .collect(),
            pods: found
                .pods
                .iter()
                .filter_map(|pod| predictions.number_of(&pod.namespace, &pod.name))
                .collect(),
            ports,
            all_sources,
            all_dials,
            is_local,
            found,
        }
    }
}

/// The first of those that have the same key, and all that have none.
fn distinct<T: Clone, K: Ord>(all: &[T], key: impl Fn(&T) -> Option<K>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    all.iter()
        .filter(|item| key(item).is_none_or(|key| seen.insert(key)))
        .cloned()
        .collect()
}

/// The flows that a plan would have; between different endpoints, without those that policies cannot
/// tell from others.
fn flows<'t>(
    addressing: &'t Addressing<'_>,
    from: &'t Resolved<'_>,
    to: &'t Resolved<'_>,
    port: usize,
    pair: Pair,
) -> impl Iterator<Item = (&'t Source, Flow)> {
    let (sources, dials) = match pair {
        Pair::Different if !to.is_local => (&from.sources, &to.dials[port]),
        Pair::Different | Pair::Itself => (&from.all_sources, &to.all_dials[port]),
    };
    sources.iter().flat_map(move |source| {
        dials
            .iter()
            .filter(move |dial| addressing.can_connect(source, &dial.key, &dial.kind))
            .map(move |dial| {
                let flow = Flow {
                    probe: ProbeId(0),
                    to: Arc::clone(&dial.key),
                    target_kind: Arc::clone(&dial.kind),
                    opens_at: dial.opens_at,
                    waits: Waits::default(),
                };
                (source, flow)
            })
    })
}

/// By what endpoints differ: those with the same of all are equal as sources and as
/// targets.
#[derive(PartialEq, Eq, Hash)]
struct Likeness<'a> {
    namespace: &'a str,
    /// The classes of its pods, and which of them is ready and has which families.
    pods: BTreeSet<(usize, bool, Vec<Family>)>,
    is_single: bool,
    sends: bool,
    /// As suites write them, with the port on pods and on the Service.
    ports: String,
    /// The families of its Service's addresses.
    service: Option<Vec<Family>>,
}

/// Endpoints that count as one, in order of the first.
fn equal_endpoints(
    draft_endpoints: &DraftEndpoints,
    resolved: &[Resolved<'_>],
    predictions: &Predictions<'_>,
) -> Vec<Vec<Member>> {
    let mut members: HashMap<Likeness<'_>, Vec<Member>> = HashMap::new();
    let mut apart: Vec<Vec<Member>> = Vec::new();
    for (member, (endpoint, resolved)) in draft_endpoints.endpoints.iter().zip(resolved).enumerate()
    {
        let is_dns = draft_endpoints.dns == Some(member);
        match likeness(endpoint, resolved, predictions).filter(|_| !is_dns) {
            Some(likeness) => members.entry(likeness).or_default().push(member),
            None => apart.push(vec![member]),
        }
    }
    for members in members.into_values() {
        if members.len() < EQUAL {
            apart.extend(members.into_iter().map(|member| vec![member]));
        } else {
            apart.push(members);
        }
    }
    apart.sort();
    apart
}

/// By what an endpoint may differ from others; `None` for one that is like no other.
fn likeness<'e>(
    endpoint: &'e DraftEndpoint,
    resolved: &Resolved<'_>,
    predictions: &Predictions<'_>,
) -> Option<Likeness<'e>> {
    let service = resolved.found.service;
    // Who reaches such a Service depends on the nodes of its pods.
    if resolved.is_local {
        return None;
    }
    let families = |addresses: &[IpAddr]| -> Vec<Family> {
        addresses
            .iter()
            .map(|address| Family::of(*address))
            .collect()
    };
    let pods = resolved
        .pods
        .iter()
        .zip(&resolved.found.pods)
        .map(|(number, pod)| {
            let class = predictions.class_of_pod(*number)?;
            Some((class, pod.ready, families(&pod.addresses)))
        })
        .collect::<Option<_>>()?;
    Some(Likeness {
        namespace: endpoint.namespace.as_deref()?,
        pods,
        is_single: resolved.found.pods.len() < 2,
        sends: !resolved.sources.is_empty(),
        ports: format!("{:?}", resolved.ports),
        service: service.map(|service| families(&service.addresses)),
    })
}
