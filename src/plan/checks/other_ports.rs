//! What policies admit to a pair of endpoints beyond the ports of which lines and checks speak: a
//! rule without ports, a range, a pod that no policy isolates.
//!
//! A closed world (`everythingElse: denied`) speaks of known ports only. Where policies admit
//! others, one check `a -> b:other ports denied` stands for them. No number of silent ports proves
//! it; a sample of them is tried once, and one that opens violates it.

use super::super::addresses::is_same;
use super::super::endpoints::{EndpointKind, PodPort, ResolvedPort};
use super::super::transport::model_transport;
use super::super::{Provability, Source, TargetKey, TargetKind};
use super::SuiteExpander;
use super::expectations::WirePort;
use super::spec::{CheckSpec, SpecPort, unresolved_port};
use crate::model::{Family, Port, Transport};
use crate::policy::PortSet;
use crate::source::Place;
use crate::suite::{EndpointId, PortRef, Spread};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How the ports beyond those that lines name are called in a check's name.
const LABEL: &str = "other ports";

/// At most so many ports of one pair are tried.
const SAMPLED_PORTS: usize = 24;

/// At most so many packets of one pair are tried.
const SAMPLED_OF_PAIR: usize = 96;

/// At most so many packets of one suite are tried.
const SAMPLED_OF_SUITE: usize = 4_000;

/// At most so many reasons are looked up for one pair.
const NAMED_REASONS: usize = 3;

/// Ports on which servers, databases, debuggers and agents of clusters usually listen.
const USUAL_PORTS: [u16; 32] = [
    8080, 9229, 5005, 6060, 22, 80, 443, 8443, 3000, 5000, 8000, 8081, 9000, 9090, 9100, 5432,
    3306, 6379, 27017, 9200, 11211, 5672, 9092, 2181, 2379, 4040, 8500, 8888, 10_250, 15_672, 1433,
    53,
];

/// How policies see an endpoint, in each family: the classes of its sources and of its targets, with
/// how many instances are of each.
#[derive(Debug, Default)]
pub(super) struct EndpointClasses {
    sources: BTreeMap<(Family, usize), usize>,
    targets: BTreeMap<(Family, usize), usize>,
    /// The ports of which checks speak.
    known: PortSet,
}

/// The ports that policies admit to a pair beyond its lines, and where to try some of them.
#[derive(Debug)]
pub(super) struct OtherPorts<'s> {
    spec: CheckSpec<'s>,
    /// The check's index among those of the plan.
    check: usize,
    /// One source for each pod or address of the target, with the ports that are admitted to it.
    places: Vec<Admitted>,
}

/// Ports that are admitted from a source to an address.
#[derive(Debug, Clone)]
struct Admitted {
    source: Source,
    target_kind: TargetKind,
    address: IpAddr,
    ports: PortSet,
}

impl<'a> SuiteExpander<'a, '_> {
    /// Adds the check that stands for the ports that policies admit to a pair and no line allows,
    /// if there are any.
    pub(super) fn add_other_ports(
        &mut self,
        source: EndpointId,
        target: EndpointId,
        place: &Place,
    ) {
        let (from, to) = (&self.endpoints[source.0], &self.endpoints[target.0]);
        if from.lacks_pods() || !to.exists() || self.predictions.is_none() {
            return;
        }
        self.classify(source);
        self.classify(target);
        if self.endpoint_classes[&target].known == PortSet::none() {
            // A check for the whole endpoint says so.
            return;
        }
        if self.admitted_to_pair(source, target).is_empty() {
            return;
        }

        let places = self.admitted_places(source, target);
        let ports = places
            .iter()
            .fold(PortSet::none(), |all, place| all.union(&place.ports));
        if ports.is_empty() {
            return;
        }

        let why = self.why_admitted(source, target, &ports, &places);
        let port = SpecPort {
            port: ResolvedPort {
                label: LABEL.to_owned(),
                ..unresolved_port(&PortRef::Number(0), Transport::Tcp)
            },
            unsampled: Some(Provability::PoliciesAdmitMore(why)),
        };
        let spec = self.spec((source, target), port, None, None, place);
        let check = self.builder.checks.len();
        self.add_check(&spec);
        if self.builder.checks.len() > check {
            self.other_ports.push(OtherPorts {
                spec,
                check,
                places,
            });
        }
    }

    /// Finds out how policies see an endpoint.
    fn classify(&mut self, id: EndpointId) {
        if self.endpoint_classes.contains_key(&id) {
            return;
        }
        let mut classes = EndpointClasses::default();
        let endpoint = &self.endpoints[id.0];
        let Some(predictions) = self.predictions.as_deref() else {
            return;
        };

        for source in self.addressing.sources(endpoint, None) {
            for family in self.addressing.families(&source) {
                if let Some(class) = predictions.source_class(&source, family) {
                    *classes.sources.entry((family, class)).or_default() += 1;
                }
            }
        }
        for (target_kind, address) in self.addressing.places(endpoint) {
            if let Some(class) = predictions.target_class(&target_kind, address) {
                let family = Family::of(address);
                *classes.targets.entry((family, class)).or_default() += 1;
            }
        }
        classes.known = self.known_numbers(id);
        self.endpoint_classes.insert(id, classes);
    }

    /// The numbers of an endpoint's known ports.
    fn known_numbers(&self, id: EndpointId) -> PortSet {
        let endpoint = &self.endpoints[id.0];
        let known = endpoint.known_ports(None).unwrap_or_default();
        let sctp = endpoint.sctp_ports().unwrap_or_default();
        let mut set = PortSet::none();
        for port in known.iter().chain(&sctp) {
            let numbers: BTreeSet<u16> = match (&port.on_pods, &endpoint.kind) {
                (PodPort::Number(number), EndpointKind::Pods) => BTreeSet::from([*number]),
                (PodPort::Name { numbers, .. }, _) => numbers.clone(),
                (
                    PodPort::Number(_),
                    EndpointKind::Outside(_) | EndpointKind::Runner | EndpointKind::Nodes,
                ) => BTreeSet::from([port.number]),
            };
            for number in numbers {
                set = set.union(&PortSet::range(port.transport, number, number));
            }
        }
        set
    }

    /// The ports that policies admit from any class of a source to any class of a target, without
    /// those of which checks speak.
    fn admitted_to_pair(&mut self, source: EndpointId, target: EndpointId) -> PortSet {
        let (from, to) = (
            &self.endpoint_classes[&source],
            &self.endpoint_classes[&target],
        );
        let mut admitted = PortSet::none();
        let Some(predictions) = self.predictions.as_deref_mut() else {
            return admitted;
        };
        for (family, from) in from.sources.keys() {
            for (_, to) in to.targets.keys().filter(|(other, _)| other == family) {
                admitted = admitted.union(&predictions.admitted(*from, *to, *family));
            }
        }
        admitted.minus(&to.known)
    }

    /// The pods and addresses of a target to which policies admit ports that no line names, each
    /// with the first source from which they do.
    fn admitted_places(&mut self, source: EndpointId, target: EndpointId) -> Vec<Admitted> {
        let sources = self.sources_by_preference(source);
        let targets = self.addressing.places(&self.endpoints[target.0]);
        let known = self.endpoint_classes[&target].known.clone();
        let mut cache: BTreeMap<(Family, usize, usize), PortSet> = BTreeMap::new();
        let mut places = Vec::new();
        let Some(predictions) = self.predictions.as_deref_mut() else {
            return places;
        };

        for (target_kind, address) in targets {
            let family = Family::of(address);
            let Some(to) = predictions.target_class(&target_kind, address) else {
                continue;
            };
            let mut seen = PortSet::none();
            for source in &sources {
                if is_same(source, &target_kind) || !self.addressing.has_family_of(source, address)
                {
                    continue;
                }
                let Some(from) = predictions.source_class(source, family) else {
                    continue;
                };
                let admitted = cache
                    .entry((family, from, to))
                    .or_insert_with(|| predictions.admitted(from, to, family).minus(&known));
                if admitted.minus(&seen).is_empty() {
                    continue;
                }
                let ports = match self.expectations.ports(source, address) {
                    Some(named) => admitted.minus(&port_set(named)),
                    None => admitted.clone(),
                };
                if ports.minus(&seen).is_empty() {
                    continue;
                }
                seen = seen.union(&ports);
                places.push(Admitted {
                    source: source.clone(),
                    target_kind: target_kind.clone(),
                    address,
                    ports,
                });
            }
        }
        places
    }

    /// All sources of an endpoint, first those that send for its checks.
    fn sources_by_preference(&self, id: EndpointId) -> Vec<Source> {
        let endpoint = &self.endpoints[id.0];
        let mut sources = self.addressing.sources(endpoint, Some(Spread::Nodes));
        let others = self.addressing.sources(endpoint, None);
        for source in others {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    /// Which ports policies admit beyond the lines, and by which rules, as a sentence.
    fn why_admitted(
        &self,
        source: EndpointId,
        target: EndpointId,
        ports: &PortSet,
        places: &[Admitted],
    ) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let mut asked = 0;
        if let Some(predictions) = self.predictions.as_deref() {
            for place in places {
                for port in explained_ports(&place.ports) {
                    if asked == NAMED_REASONS {
                        break;
                    }
                    asked += 1;
                    let to = (&place.target_kind, place.address);
                    let reason = predictions.why_admitted(&place.source, to, port);
                    reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
                }
            }
        }
        format!(
            "the policies admit {} -> {} at {ports}, which no line allows: {}",
            self.endpoints[source.0].endpoint.label,
            self.endpoints[target.0].endpoint.label,
            reasons.join("; ")
        )
    }

    /// Adds a sample of the ports that policies admit beyond the lines: each is tried once.
    pub(super) fn sweep_other_ports(&mut self) {
        let pairs = std::mem::take(&mut self.other_ports);
        let of_pair = SAMPLED_OF_SUITE
            .checked_div(pairs.len())
            .unwrap_or_default()
            .min(SAMPLED_OF_PAIR);
        for pair in &pairs {
            self.sweep_pair(pair, of_pair);
        }
    }

    fn sweep_pair(&mut self, pair: &OtherPorts<'a>, most: usize) {
        let mut sample = self.builder.checks[pair.check].clone();
        let mut tried: BTreeSet<(TargetKind, u16)> = BTreeSet::new();
        // Hosts outside belong to others, who may take many ports for an attack.
        let is_inside =
            |place: &&Admitted| !matches!(place.target_kind, TargetKind::Outside { .. });
        for place in pair.places.iter().filter(is_inside) {
            for number in sampled(&place.ports) {
                let is_reserved = Some(number) == self.reserved_port;
                let of_target = (place.target_kind.clone(), number);
                if is_reserved || sample.flows.len() >= most || !tried.insert(of_target) {
                    continue;
                }
                let port = unresolved_port(&PortRef::Number(number), Transport::Tcp).into();
                let ends = (pair.spec.source, pair.spec.target);
                let spec = self.spec(ends, port, None, None, &pair.spec.place);
                sample.flows.extend(self.sampled_flow(&spec, place));
            }
        }
        if sample.flows.is_empty() {
            return;
        }

        let flows = sample.flows.iter();
        let numbers: BTreeSet<u16> = flows
            .map(|flow| self.builder.flows[flow.0 as usize].to.port)
            .collect();
        let provability = &mut self.builder.checks[pair.check].provability;
        if let Provability::PoliciesAdmitMore(why) = provability {
            *why = format!(
                "{why}; {} of these ports are tried once, and silence says closed or denied",
                numbers.len()
            );
        }
        self.builder.swept.push(sample);
    }

    fn sampled_flow(
        &mut self,
        spec: &CheckSpec<'a>,
        place: &Admitted,
    ) -> Option<super::super::FlowId> {
        let targets = self.targets(spec);
        let (key, target_kind) = targets
            .into_iter()
            .find(|(key, _)| key.address == place.address && key.name.is_none())?;
        let is_possible = spec.request_spec.unprovable.is_none()
            && self.may_sweep(&place.source, &key, &target_kind);
        is_possible.then(|| {
            let key = TargetKey { once: true, ..key };
            let opens_at = spec.request_spec.opens_at;
            self.builder.flow(&place.source, key, target_kind, opens_at)
        })
    }
}

fn port_set(ports: &BTreeSet<WirePort>) -> PortSet {
    ports
        .iter()
        .fold(PortSet::none(), |all, (number, transport)| {
            all.union(&PortSet::range(
                model_transport(*transport),
                *number,
                *number,
            ))
        })
}

/// Ports that stand for a set in an explanation: one of each range of TCP, and of the other
/// transports one where TCP does not stand for it, as it does for a rule without ports.
fn explained_ports(ports: &PortSet) -> Vec<Port> {
    let tcp = firsts(ports.ranges(Transport::Tcp));
    let udp = firsts(ports.ranges(Transport::Udp));
    let sctp = firsts(ports.ranges(Transport::Sctp));
    let every_port = [1];

    let mut explained: Vec<Option<Port>> = Vec::new();
    let tcp_ports = tcp.iter().map(|number| Port::new(*number, Transport::Tcp));
    explained.extend(tcp_ports);
    if tcp.is_empty() || udp != every_port {
        let udp_ports = udp.iter().map(|number| Port::new(*number, Transport::Udp));
        explained.extend(udp_ports);
    }
    if tcp.is_empty() || sctp != every_port {
        let sctp_ports = sctp
            .iter()
            .map(|number| Port::new(*number, Transport::Sctp));
        explained.extend(sctp_ports);
    }
    explained.into_iter().flatten().collect()
}

/// The first port of each range; ranges with one port between them, of which a check speaks, count
/// as one.
fn firsts(ranges: &[(u16, u16)]) -> Vec<u16> {
    let mut firsts = Vec::new();
    let mut end: Option<u16> = None;
    for (first, last) in ranges {
        let continues = end.is_some_and(|end| first.saturating_sub(end) == 2);
        if !continues {
            firsts.push(*first);
        }
        end = Some(*last);
    }
    firsts
}

/// The TCP ports of a set that are tried: those that are usually served, and the ends of ranges.
fn sampled(ports: &PortSet) -> Vec<u16> {
    let contains =
        |number: u16| Port::new(number, Transport::Tcp).is_some_and(|port| ports.contains(port));
    let ends = ports
        .ranges(Transport::Tcp)
        .iter()
        .flat_map(|(first, last)| [*first, *last]);
    let mut sampled: Vec<u16> = Vec::new();
    for number in USUAL_PORTS
        .into_iter()
        .filter(|number| contains(*number))
        .chain(ends)
    {
        if sampled.len() < SAMPLED_PORTS && !sampled.contains(&number) {
            sampled.push(number);
        }
    }
    sampled
}
