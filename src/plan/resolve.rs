//! Suites and an inventory → a [`Plan`].

use super::FlowId;
use super::builder::Builder;
use super::controls::{self, Landmarks};
use super::expand::{Found, FoundPort, Place, cluster_addresses, find};
use super::notes::notes;
use super::request::{Ask, ask};
use super::terms::{Environment, Terms};
use super::{Check, LineRef, Party, Plan, Scope, Standing, SuiteRef, TargetKey, Vantage};
use crate::inventory::{Inventory, Pod};
use crate::model::{Family, Port, Transport};
use crate::source::Place as FilePlace;
use crate::suite::{EndpointId, Expected, Line, Locator, PortRef, Spread, Subject, Suite, TargetItem, TargetWhat};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// At most so many addresses of an outside name are dialled in each family.
const MAX_ADDRESSES: usize = 4;

/// At most so many unknown ports of a range are swept.
const MAX_SWEPT: usize = 1_024;

/// At most so many nodes are used of a source, unless the suite says otherwise.
const MAX_SPREAD: usize = 3;

/// Something in a suite that shows to be wrong only once names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What.
    pub message: String,
    /// Where.
    pub place: FilePlace,
    /// Another place that it contradicts.
    pub other: Option<FilePlace>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The suites must be changed: all mistakes at once.
    #[error("{} mistakes show once names are resolved", .0.len())]
    Mistakes(Vec<Mistake>),
    /// Nothing is left to check.
    #[error("no check is selected")]
    NothingSelected,
    /// Not one check can be proven.
    #[error("not one of {0} checks can ever be proven; the first: {1}")]
    AllUnprovable(usize, String),
}

/// Which checks are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Keep checks whose `SUITE / NAME` matches.
    pub only: Option<regex::Regex>,
    /// Keep checks with one of these tags.
    pub tags: Vec<String>,
    /// Leave out checks with one of these tags.
    pub skip_tags: Vec<String>,
}

impl Selection {
    fn wants(&self, suite: &str, name: &str, tags: &[String]) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(&format!("{suite} / {name}")))
            && (self.tags.is_empty() || tags.iter().any(|tag| self.tags.contains(tag)))
            && !tags.iter().any(|tag| self.skip_tags.contains(tag))
    }
}

/// Makes the plan.
///
/// # Errors
/// [`PlanError`]. A check that can never be proven, or that matches nothing, is no error: it is in the plan and
/// says so.
pub fn resolve(
    suites: &[Suite],
    inventory: &Inventory,
    environment: Environment,
    landmarks: Landmarks,
    selection: &Selection,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::default();
    let mut mistakes = Vec::new();
    let one_family = OneFamily::of(inventory);
    for (index, suite) in suites.iter().enumerate() {
        builder.suites.push(SuiteRef {
            name: suite.name.clone(),
            file: suite.file.clone(),
            sha256: suite.sha256.clone(),
        });
        let mut pass = Pass {
            index,
            suite,
            inventory,
            environment,
            selection,
            found: suite.endpoints.iter().map(|endpoint| find(endpoint, inventory)).collect(),
            said: HashMap::new(),
            names: BTreeMap::new(),
            one_family: &one_family,
            builder: &mut builder,
            mistakes: &mut mistakes,
        };
        pass.note_mentioned_ports();
        for line in &suite.lines {
            pass.line(line);
        }
        pass.everything_else();
    }
    if !mistakes.is_empty() {
        return Err(PlanError::Mistakes(mistakes));
    }
    if builder.checks.is_empty() {
        return Err(PlanError::NothingSelected);
    }
    let hopeless = builder.checks.iter().find_map(|check| match &check.standing {
        Standing::Unprovable(why) => Some(why.clone()),
        Standing::Provable | Standing::MatchesNothing(_) => None,
    });
    if let Some(why) = hopeless
        && builder.checks.iter().all(|check| matches!(check.standing, Standing::Unprovable(_)))
    {
        return Err(PlanError::AllUnprovable(builder.checks.len(), why));
    }
    controls::add(&mut builder, suites, inventory, &one_family, landmarks);
    Ok(builder.finish(environment, notes(inventory)))
}

/// One source, one target, one port, before it is known which pods are used.
struct Wanted<'f> {
    source: EndpointId,
    target: EndpointId,
    port: FoundPort,
    ask: Ask,
    expected: Expected,
    line: Option<&'f Line>,
    place: FilePlace,
}

/// What tells two lines about the same packets apart: from whom, to what address and port, saying what.
type Said = (Vantage, TargetKey);

struct Pass<'a, 'b> {
    index: usize,
    suite: &'a Suite,
    inventory: &'a Inventory,
    environment: Environment,
    selection: &'a Selection,
    found: Vec<Found<'a>>,
    /// What lines say of each pair of pods, whatever pods are sampled.
    said: HashMap<Said, (Expected, FilePlace)>,
    names: BTreeMap<String, FilePlace>,
    one_family: &'b OneFamily,
    builder: &'b mut Builder,
    mistakes: &'b mut Vec<Mistake>,
}

impl<'a> Pass<'a, '_> {
    fn mistake(&mut self, place: &FilePlace, message: String) {
        self.mistakes.push(Mistake { message, place: place.clone(), other: None });
    }

    /// Hosts and addresses have the ports that any line names.
    fn note_mentioned_ports(&mut self) {
        for line in &self.suite.lines {
            for item in &line.targets {
                for id in self.members(&item.subject) {
                    let found = &mut self.found[id.0];
                    if !matches!(found.place, Place::Outside(_) | Place::Nodes) {
                        continue;
                    }
                    match &item.what {
                        TargetWhat::Port(port) => {
                            if let PortRef::Number(number) = port.port {
                                found.mentioned.extend(Port::new(number, port.transport));
                            }
                        }
                        TargetWhat::Url(url) => {
                            let (number, transport) = super::request::url_port(url);
                            found.mentioned.extend(number.and_then(|number| Port::new(number, transport)));
                        }
                        TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => {}
                    }
                }
            }
        }
    }

    fn members(&self, subject: &Subject) -> Vec<EndpointId> {
        match subject {
            Subject::Endpoint(id) => vec![*id],
            Subject::Group(ids) => ids.clone(),
            Subject::All => (0..self.found.len()).map(EndpointId).collect(),
        }
    }

    fn sources(&self, line: &Line) -> Vec<(EndpointId, bool)> {
        let mut sources = Vec::new();
        for subject in &line.sources {
            let by_name = matches!(subject, Subject::Endpoint(_));
            for id in self.members(subject) {
                let wanted = !matches!(subject, Subject::All) || self.found[id.0].is_source_by_wildcard();
                if wanted && !sources.iter().any(|(known, _)| *known == id) {
                    sources.push((id, by_name));
                }
            }
        }
        sources
    }

    fn line(&mut self, line: &'a Line) {
        for (source, source_by_name) in self.sources(line) {
            for item in &line.targets {
                for target in self.members(&item.subject) {
                    let by_name = source_by_name && matches!(item.subject, Subject::Endpoint(_));
                    if source == target && !by_name {
                        continue;
                    }
                    if matches!(item.subject, Subject::All) && !self.found[target.0].is_target_by_wildcard() {
                        continue;
                    }
                    for wanted in self.ports(line, source, target, item) {
                        self.remember(&wanted);
                        self.check(wanted, false);
                    }
                    if let (TargetWhat::Range { from, to, transport }, Expected::Denied) = (&item.what, line.expected) {
                        self.sweep(line, source, target, (*from, *to, *transport));
                    }
                }
            }
        }
    }

    /// The ports that a target item stands for; a wildcard's targets without known ports stand for none.
    fn ports(&mut self, line: &'a Line, source: EndpointId, target: EndpointId, item: &TargetItem) -> Vec<Wanted<'a>> {
        let found = &self.found[target.0];
        let label = &found.endpoint.label;
        let found_ports = match &item.what {
            TargetWhat::KnownPorts(transport) => match found.known_ports(*transport) {
                Ok(ports) if ports.is_empty() && found.exists() && !matches!(item.subject, Subject::All) => {
                    Err(format!("{label} has no known port; write one: {label}:PORT, or give the endpoint `ports:`"))
                }
                other => other,
            },
            TargetWhat::Port(port) if !found.exists() => Ok(vec![absent_port(&port.port, port.transport)]),
            TargetWhat::Port(port) => found.port(port).map(|port| vec![port]),
            TargetWhat::Range { from, to, transport } => found.known_ports(Some(*transport)).and_then(|ports| {
                let inside: Vec<FoundPort> =
                    ports.into_iter().filter(|port| (*from..=*to).contains(&port.number)).collect();
                if inside.is_empty() && found.exists() {
                    Err(format!(
                        "{label} has no known port from {from} to {to}; name the ports, or give the endpoint `ports:`"
                    ))
                } else {
                    Ok(inside)
                }
            }),
            TargetWhat::Url(url) => {
                let (number, transport) = super::request::url_port(url);
                let port = match (&url.port, number) {
                    (Some(PortRef::Name(name)), _) => PortRef::Name(name.clone()),
                    (_, number) => PortRef::Number(number.unwrap_or(0)),
                };
                if found.exists() {
                    found.port(&crate::suite::PortItem { port, transport }).map(|port| vec![port])
                } else {
                    Ok(vec![absent_port(&port, transport)])
                }
            }
        };
        let found_ports = match found_ports {
            Ok(ports) if ports.is_empty() && !found.exists() && !matches!(item.subject, Subject::All) => {
                vec![absent_port(&PortRef::Name("*".into()), Transport::Tcp)]
            }
            Ok(ports) => ports,
            Err(message) => {
                self.mistake(&line.place, message);
                return Vec::new();
            }
        };
        let url = match &item.what {
            TargetWhat::Url(url) => Some(url),
            TargetWhat::KnownPorts(_) | TargetWhat::Port(_) | TargetWhat::Range { .. } => None,
        };
        found_ports
            .into_iter()
            .map(|port| Wanted {
                source,
                target,
                ask: ask(&self.found[target.0], &port, url, &line.settings, &self.suite.settings, self.environment),
                port,
                expected: line.expected,
                line: Some(line),
                place: line.place.clone(),
            })
            .collect()
    }

    /// The ports of a denied range that are not known: each is tried once, from one instance of the source to one
    /// address of each pod.
    fn sweep(&mut self, line: &'a Line, source: EndpointId, target: EndpointId, range: (u16, u16, Transport)) {
        let (from, to, transport) = range;
        let Ok(known) = self.found[target.0].known_ports(Some(transport)) else { return };
        let known: BTreeSet<u16> = known.into_iter().map(|port| port.number).collect();
        let unknown: Vec<u16> = (from..=to).filter(|number| !known.contains(number)).collect();
        if unknown.len() > MAX_SWEPT {
            let message =
                format!("a range is swept at {MAX_SWEPT} unknown ports at the most; {from}-{to} has {}", unknown.len());
            self.mistake(&line.place, message);
            return;
        }
        let Some(vantage) = self.vantages(source, Some(Spread::One)).into_iter().next() else { return };
        for number in unknown {
            let port = absent_port(&PortRef::Number(number), transport);
            let ask = ask(&self.found[target.0], &port, None, &line.settings, &self.suite.settings, self.environment);
            let wanted = Wanted {
                source,
                target,
                port,
                ask,
                expected: Expected::Denied,
                line: Some(line),
                place: line.place.clone(),
            };
            let mut parties = BTreeSet::new();
            let mut flows = Vec::new();
            for (key, party) in self.targets(&wanted) {
                if self.can_meet(&vantage, &key, &party) && parties.insert(party.clone()) {
                    flows.push(self.builder.flow(
                        &vantage,
                        TargetKey { once: true, ..key },
                        party,
                        wanted.ask.opens_at,
                    ));
                }
            }
            let check = self.describe(&wanted, flows, Standing::Unprovable("swept once: closed or denied".into()));
            if self.selection.wants(&self.suite.name, &check.name, &check.line.tags) {
                self.builder.swept.push(check);
            }
        }
    }

    /// `everythingElse: denied`: every ordered pair of endpoints and every known port that no line speaks of.
    fn everything_else(&mut self) {
        let Some(place) = self.suite.everything_else.clone() else { return };
        for source in 0..self.found.len() {
            if !self.found[source].is_source_by_wildcard() {
                continue;
            }
            for target in 0..self.found.len() {
                if source == target || !self.found[target].is_target_by_wildcard() {
                    continue;
                }
                let ports = match self.found[target].known_ports(None) {
                    Ok(ports) => ports,
                    Err(message) => {
                        self.mistake(&place, message);
                        continue;
                    }
                };
                for port in ports {
                    let none = crate::suite::Settings::default();
                    let ask = ask(&self.found[target], &port, None, &none, &self.suite.settings, self.environment);
                    let wanted = Wanted {
                        source: EndpointId(source),
                        target: EndpointId(target),
                        port,
                        ask,
                        expected: Expected::Denied,
                        line: None,
                        place: place.clone(),
                    };
                    self.check(wanted, true);
                }
            }
        }
    }

    /// Remembers what a line says of every pair of pods, and finds lines that contradict each other.
    fn remember(&mut self, wanted: &Wanted<'_>) {
        let mut contradiction = None;
        let everyone = self.vantages(wanted.source, None);
        for (key, party) in self.targets(wanted) {
            for vantage in &everyone {
                if !self.can_meet(vantage, &key, &party) {
                    continue;
                }
                let said = self
                    .said
                    .entry((vantage.clone(), key.clone()))
                    .or_insert_with(|| (wanted.expected, wanted.place.clone()));
                if said.0 != wanted.expected {
                    contradiction = Some((vantage.clone(), party.clone(), said.1.clone()));
                }
            }
        }
        if let Some((vantage, party, other)) = contradiction {
            self.mistakes.push(Mistake {
                message: format!("two lines contradict each other: one expects {vantage} -> {party} to be allowed, the other to be denied"),
                place: wanted.place.clone(),
                other: Some(other),
            });
        }
    }

    fn check(&mut self, wanted: Wanted<'_>, gives_way: bool) {
        if gives_way && self.all_spoken_of(&wanted) {
            return;
        }
        let mut check = self.describe(&wanted, Vec::new(), self.standing(&wanted));
        if let Some(first) = self.names.get(&check.name) {
            // The same line written twice is one check; the suite's reader has warned.
            let none = crate::suite::Settings::default();
            if gives_way || wanted.line.is_none_or(|line| line.settings == none) {
                return;
            }
            let other = Some(first.clone());
            self.mistakes.push(Mistake {
                message: format!("two checks are named {:?}; give one of the lines an `id:`", check.name),
                place: wanted.place.clone(),
                other,
            });
            return;
        }
        self.names.insert(check.name.clone(), wanted.place.clone());
        if !self.selection.wants(&self.suite.name, &check.name, &check.line.tags) {
            return;
        }
        for vantage in self.vantages(wanted.source, Some(check.terms.spread)) {
            for (key, party) in self.targets(&wanted) {
                let spoken_of = gives_way && self.said.contains_key(&(vantage.clone(), key.clone()));
                if self.can_meet(&vantage, &key, &party) && !spoken_of {
                    check.flows.push(self.builder.flow(&vantage, key, party, wanted.ask.opens_at));
                }
            }
        }
        if check.flows.is_empty() && check.standing == Standing::Provable {
            check.standing = Standing::MatchesNothing(
                "there is no pair of addresses of one family to test: the two ends are one pod, or share no address family".into(),
            );
        }
        self.builder.checks.push(check);
    }

    /// A check with its name, its line and its terms.
    fn describe(&self, wanted: &Wanted<'_>, flows: Vec<FlowId>, standing: Standing) -> Check {
        let none = crate::suite::Settings::default();
        let settings = wanted.line.map_or(&none, |line| &line.settings);
        let (source, target) = (&self.found[wanted.source.0], &self.found[wanted.target.0]);
        let target_label = match &wanted.ask.label {
            Some(url) => url.clone(),
            None => format!("{}:{}", target.endpoint.label, wanted.port.label),
        };
        let id = wanted.line.and_then(|line| line.id.as_ref());
        let name = format!(
            "{} -> {target_label} {}{}",
            source.endpoint.label,
            wanted.expected,
            id.map_or(String::new(), |id| format!(" [{id}]")),
        );
        let source_nodes: BTreeSet<&str> = source.pods.iter().map(|pod| pod.node.as_str()).collect();
        Check {
            name,
            suite: self.index,
            source: source.endpoint.label.clone(),
            target: target_label,
            expected: wanted.expected,
            line: LineRef {
                file: wanted.place.file.clone(),
                line: wanted.place.line,
                text: wanted.line.map_or_else(|| "everythingElse: denied".to_owned(), |line| line.text.clone()),
                because: wanted.line.and_then(|line| line.because.clone()),
                tags: wanted.line.map_or(Vec::new(), |line| line.tags.clone()),
                id: id.cloned(),
            },
            terms: Terms::of(wanted.expected, settings, &self.suite.settings, self.environment, wanted.ask.demand),
            flows,
            scope: Scope { source_nodes: source_nodes.len(), target_pods: target.pods.len() },
            standing,
        }
    }

    fn standing(&self, wanted: &Wanted<'_>) -> Standing {
        let (source, target) = (&self.found[wanted.source.0], &self.found[wanted.target.0]);
        if !source.exists() {
            return Standing::MatchesNothing(source.absence(self.inventory));
        }
        if !target.exists() {
            return Standing::MatchesNothing(target.absence(self.inventory));
        }
        if let Some(why) = &wanted.ask.unprovable {
            return Standing::Unprovable(why.clone());
        }
        let demand = wanted.line.and_then(|line| line.settings.demand).or(self.suite.settings.demand);
        if demand == Some(crate::suite::Demand::A3) && wanted.expected == Expected::Allowed {
            return Standing::Unprovable("A3 needs a mesh identity, which is not observed here".into());
        }
        Standing::Provable
    }

    fn all_spoken_of(&self, wanted: &Wanted<'_>) -> bool {
        let everyone = self.vantages(wanted.source, None);
        let mut pairs = 0;
        let targets = self.targets(wanted);
        for (key, party) in &targets {
            for vantage in everyone.iter().filter(|vantage| self.can_meet(vantage, key, party)) {
                pairs += 1;
                if !self.said.contains_key(&(vantage.clone(), key.clone())) {
                    return false;
                }
            }
        }
        pairs > 0
    }

    /// From where an endpoint's packets are sent: with a spread those used, else all.
    fn vantages(&self, id: EndpointId, spread: Option<Spread>) -> Vec<Vantage> {
        let found = &self.found[id.0];
        match found.place {
            Place::Runner => return vec![Vantage::Runner],
            Place::Nodes => {
                return self.inventory.nodes.iter().map(|node| Vantage::Node { name: node.name.clone() }).collect();
            }
            Place::Outside(_) => return Vec::new(),
            Place::Pods => {}
        }
        let mut chosen: Vec<&Pod> = found.pods.clone();
        match spread {
            None | Some(Spread::Replicas) => {}
            Some(Spread::One) => {
                chosen.sort_by_key(|pod| !pod.ready);
                chosen.truncate(1);
            }
            Some(Spread::Nodes) => {
                chosen.sort_by_key(|pod| !pod.ready);
                let mut nodes = BTreeSet::new();
                chosen.retain(|pod| nodes.insert(pod.node.clone()));
                chosen.sort_by(|a, b| a.name.cmp(&b.name));
                chosen.truncate(MAX_SPREAD);
            }
        }
        let mut vantages: Vec<Vantage> = chosen.into_iter().map(vantage_of).collect();
        vantages.dedup();
        vantages
    }

    /// Whether a packet can go there at all: between two ends that are not one pod, in a family that the source has.
    fn can_meet(&self, vantage: &Vantage, key: &TargetKey, party: &Party) -> bool {
        !is_same_pod(vantage, party) && self.one_family.lets(vantage, key.address)
    }

    /// Who has an address inside the cluster.
    fn inside(&self, address: IpAddr) -> Option<Party> {
        let pods = self.inventory.pods.iter().find(|pod| !pod.host_network && pod.addresses.contains(&address));
        let services = || self.inventory.services.iter().find(|service| cluster_addresses(service).contains(&address));
        let nodes = || self.inventory.nodes.iter().find(|node| node.addresses.contains(&address));
        pods.map(party_of)
            .or_else(|| services().map(|service| controls::service_party(service, self.inventory)))
            .or_else(|| nodes().map(|node| Party::Node { name: node.name.clone() }))
    }

    /// Every address that a wanted check dials.
    fn targets(&self, wanted: &Wanted<'_>) -> Vec<(TargetKey, Party)> {
        let found = &self.found[wanted.target.0];
        let Some(transport) = probed(wanted.port.transport) else { return Vec::new() };
        let key = |address: IpAddr, port: u16| TargetKey {
            address,
            name: None,
            port,
            transport,
            request: wanted.ask.request(address),
            once: wanted.ask.once,
        };
        let mut targets = Vec::new();
        match &found.place {
            Place::Outside(addresses) => {
                let party = Party::Outside { name: found.endpoint.label.clone() };
                for family in Family::ALL {
                    let mut of_family = addresses.iter().filter(|address| Family::of(**address) == family);
                    let known: Vec<TargetKey> = of_family
                        .by_ref()
                        .take(MAX_ADDRESSES)
                        .map(|address| key(*address, wanted.port.number))
                        .collect();
                    // Each probe dials what others got for the name, and what it resolves itself.
                    if let (Some(first), Locator::Host(host)) = (known.first(), &found.endpoint.locator) {
                        targets.push((TargetKey { name: Some(format!("{host}.")), ..first.clone() }, party.clone()));
                    }
                    targets.extend(known.into_iter().map(|key| {
                        let there = self.inside(key.address).unwrap_or_else(|| party.clone());
                        (key, there)
                    }));
                }
            }
            Place::Nodes => {
                for node in &self.inventory.nodes {
                    let party = Party::Node { name: node.name.clone() };
                    targets.extend(
                        node.addresses.iter().map(|address| (key(*address, wanted.port.number), party.clone())),
                    );
                }
            }
            Place::Runner => {}
            Place::Pods => {
                for pod in &found.pods {
                    let Some(number) = wanted.port.on_pods.of(pod, wanted.port.transport) else { continue };
                    for family in Family::ALL {
                        let Some(address) = pod.address(family) else { continue };
                        targets.push((key(address, number), party_of(pod)));
                    }
                }
                if let Some(service) = found.service {
                    let party = controls::service_party(service, self.inventory);
                    for port in &wanted.port.on_service {
                        targets.extend(
                            cluster_addresses(service).iter().map(|address| (key(*address, *port), party.clone())),
                        );
                    }
                }
            }
        }
        targets
    }
}

fn absent_port(port: &PortRef, transport: Transport) -> FoundPort {
    let (label, number) = match port {
        PortRef::Number(number) => (number.to_string(), *number),
        PortRef::Name(name) => (name.clone(), 0),
    };
    let suffix = if transport == Transport::Tcp { String::new() } else { format!("/{transport}") };
    FoundPort {
        label: format!("{label}{suffix}"),
        transport,
        number,
        on_pods: super::expand::OnPods::Number(number),
        on_service: Vec::new(),
    }
}

/// The transport on the wire; SCTP cannot be probed.
fn probed(transport: Transport) -> Option<wire::Transport> {
    match transport {
        Transport::Tcp => Some(wire::Transport::Tcp),
        Transport::Udp => Some(wire::Transport::Udp),
        Transport::Sctp => None,
    }
}

/// A pod that shares its node's network has the node's identity.
pub(super) fn vantage_of(pod: &Pod) -> Vantage {
    if pod.host_network {
        Vantage::Node { name: pod.node.clone() }
    } else {
        Vantage::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), node: pod.node.clone() }
    }
}

pub(super) fn party_of(pod: &Pod) -> Party {
    Party::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), node: pod.node.clone(), ready: pod.ready }
}

/// Pods and nodes with addresses of one family only, and which it is. Mostly there is none.
#[derive(Debug)]
pub(super) struct OneFamily(HashMap<Vantage, Family>);

impl OneFamily {
    pub(super) fn of(inventory: &Inventory) -> Self {
        let pods = inventory.pods.iter().map(|pod| (vantage_of(pod), &pod.addresses));
        let nodes = inventory.nodes.iter().map(|node| (Vantage::Node { name: node.name.clone() }, &node.addresses));
        let only = |addresses: &[IpAddr]| {
            let first = Family::of(*addresses.first()?);
            addresses.iter().all(|address| Family::of(*address) == first).then_some(first)
        };
        Self(pods.chain(nodes).filter_map(|(vantage, addresses)| Some((vantage, only(addresses)?))).collect())
    }

    /// Whether packets to an address can be sent from a vantage at all: a family is tested where both ends have it.
    pub(super) fn lets(&self, vantage: &Vantage, address: IpAddr) -> bool {
        self.0.get(vantage).is_none_or(|family| *family == Family::of(address))
    }
}

fn is_same_pod(vantage: &Vantage, party: &Party) -> bool {
    match (vantage, party) {
        (Vantage::Pod { namespace, name, .. }, Party::Pod { namespace: of, name: target, .. }) => {
            namespace == of && name == target
        }
        (Vantage::Node { name }, Party::Node { name: target }) => name == target,
        _ => false,
    }
}
