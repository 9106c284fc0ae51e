//! The lines of a suite → checks: sources × targets × ports, and what no line speaks of.

use super::addresses::Addressing;
use super::builder::Builder;
use super::endpoints::{FoundPort, OnPods, Place, ResolvedEndpoint, find};
use super::request::{RequestSpec, request_spec, url_port};
use super::resolve::{PlanDiagnostic, Selection};
use super::{BackendKind, CheckSettings};
use super::{Check, FlowId, LineRef, Provability, Scope, Source, TargetKey, TargetKind};
use crate::model::{Port, Transport};
use crate::source::Place as FilePlace;
use crate::suite::{
    EndpointId, Expected, Line, Locator, PortRef, Settings, Spread, Subject, Suite, TargetItem,
    TargetWhat,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At most so many unknown ports of a range are swept.
const MAX_SWEPT: usize = 1_024;

/// One source, one target, one port, before it is known which pods are used.
struct CheckSpec<'f> {
    source: EndpointId,
    target: EndpointId,
    port: FoundPort,
    request_spec: RequestSpec,
    expected: Expected,
    line: Option<&'f Line>,
    /// The line's, over the suite's.
    settings: Settings,
    place: FilePlace,
}

/// What tells two lines about the same packets apart: from whom, to what address and port, saying
/// what.
type Said = (Source, TargetKey);

/// The lines of one suite on their way into a plan.
pub(super) struct SuiteExpander<'a, 'b> {
    index: usize,
    suite: &'a Suite,
    environment: BackendKind,
    selection: &'a Selection,
    found: Vec<ResolvedEndpoint<'a>>,
    /// What lines say of each pair of pods, whatever pods are sampled.
    said: HashMap<Said, (Expected, FilePlace)>,
    /// Hosts outside that some line allows.
    allowed_hosts: BTreeSet<String>,
    /// Checks by name: where each comes from, and its line's settings.
    names: BTreeMap<String, (FilePlace, Option<&'a Settings>)>,
    ends: &'b Addressing<'a>,
    builder: &'b mut Builder,
    mistakes: Vec<PlanDiagnostic>,
}

impl<'a, 'b> SuiteExpander<'a, 'b> {
    pub(super) fn new(
        index: usize,
        suite: &'a Suite,
        environment: BackendKind,
        selection: &'a Selection,
        ends: &'b Addressing<'a>,
        builder: &'b mut Builder,
    ) -> Self {
        Self {
            index,
            suite,
            environment,
            selection,
            found: suite
                .endpoints
                .iter()
                .map(|endpoint| find(endpoint, ends.inventory))
                .collect(),
            said: HashMap::new(),
            allowed_hosts: BTreeSet::new(),
            names: BTreeMap::new(),
            ends,
            builder,
            mistakes: Vec::new(),
        }
    }

    /// Adds every check of the suite. What is wrong with its lines is returned.
    pub(super) fn run(mut self) -> Vec<PlanDiagnostic> {
        self.note_mentioned_ports();
        self.note_allowed_hosts();
        for line in &self.suite.lines {
            self.line(line);
        }
        self.everything_else();
        self.mistakes
    }

    fn mistake(&mut self, place: &FilePlace, message: String) {
        self.mistakes.push(PlanDiagnostic {
            message,
            place: place.clone(),
            other: None,
        });
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
                            let (number, transport) = url_port(url);
                            found
                                .mentioned
                                .extend(number.and_then(|number| Port::new(number, transport)));
                        }
                        TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => {}
                    }
                }
            }
        }
    }

    fn note_allowed_hosts(&mut self) {
        for line in self
            .suite
            .lines
            .iter()
            .filter(|line| line.expected == Expected::Allowed)
        {
            let targets = line
                .targets
                .iter()
                .flat_map(|item| self.members(&item.subject));
            let hosts = targets.filter_map(|id| match &self.found[id.0].endpoint.locator {
                Locator::Host(name) => Some(name.as_str().to_owned()),
                _ => None,
            });
            let hosts: Vec<String> = hosts.collect();
            self.allowed_hosts.extend(hosts);
        }
    }

    /// A denied address outside that speaks TLS on 443 is also tried without a server name and with
    /// the name of each host that is allowed: a firewall that goes by names lets through who says
    /// the right one.
    fn disguised(&self, wanted: &CheckSpec<'_>, key: &TargetKey) -> Vec<TargetKey> {
        let outside = matches!(self.found[wanted.target.0].place, Place::Outside(_));
        let chosen = wanted.settings.server_name.is_some();
        let is_address = key.name.is_none() && key.port == 443;
        if wanted.expected != Expected::Denied || !outside || !is_address || chosen {
            return Vec::new();
        }
        let names =
            std::iter::once(None).chain(self.allowed_hosts.iter().map(|name| Some(name.clone())));
        let keys = names
            .filter_map(|name| key.request.with_server_name(name))
            .map(|request| TargetKey {
                request,
                ..key.clone()
            });
        keys.filter(|other| other != key).collect()
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
                let wanted =
                    !matches!(subject, Subject::All) || self.found[id.0].is_source_by_wildcard();
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
                    if matches!(item.subject, Subject::All)
                        && !self.found[target.0].is_target_by_wildcard()
                    {
                        continue;
                    }
                    for wanted in self.ports(line, source, target, item) {
                        self.remember(&wanted);
                        self.check(&wanted, false);
                    }
                    if let (
                        TargetWhat::Range {
                            from,
                            to,
                            transport,
                        },
                        Expected::Denied,
                    ) = (&item.what, line.expected)
                    {
                        self.sweep(line, source, target, (*from, *to, *transport));
                    }
                }
            }
        }
    }

    /// The ports that a target item stands for; a wildcard's targets without known ports stand for
    /// none.
    fn ports(
        &mut self,
        line: &'a Line,
        source: EndpointId,
        target: EndpointId,
        item: &TargetItem,
    ) -> Vec<CheckSpec<'a>> {
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
                let (number, transport) = url_port(url);
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
            Ok(ports)
                if ports.is_empty() && !found.exists() && !matches!(item.subject, Subject::All) =>
            {
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
        let settings = line.settings.over(&self.suite.settings);
        found_ports
            .into_iter()
            .map(|port| CheckSpec {
                source,
                target,
                request_spec: request_spec(
                    &self.found[target.0],
                    &port,
                    url,
                    &settings,
                    self.environment,
                ),
                port,
                expected: line.expected,
                line: Some(line),
                settings: settings.clone(),
                place: line.place.clone(),
            })
            .collect()
    }

    /// The ports of a denied range that are not known: each is tried once, from one instance of the
    /// source to one address of each pod.
    fn sweep(
        &mut self,
        line: &'a Line,
        source: EndpointId,
        target: EndpointId,
        range: (u16, u16, Transport),
    ) {
        let (from, to, transport) = range;
        let Ok(known) = self.found[target.0].known_ports(Some(transport)) else {
            return;
        };
        let known: BTreeSet<u16> = known.into_iter().map(|port| port.number).collect();
        let unknown: Vec<u16> = (from..=to)
            .filter(|number| !known.contains(number))
            .collect();
        if unknown.len() > MAX_SWEPT {
            let message = format!(
                "a range is swept at {MAX_SWEPT} unknown ports at the most; {from}-{to} has {}",
                unknown.len()
            );
            self.mistake(&line.place, message);
            return;
        }
        let Some(instance) = self
            .ends
            .sources(&self.found[source.0], Some(Spread::One))
            .into_iter()
            .next()
        else {
            return;
        };
        let settings = line.settings.over(&self.suite.settings);
        for number in unknown {
            let port = absent_port(&PortRef::Number(number), transport);
            let request_spec = request_spec(
                &self.found[target.0],
                &port,
                None,
                &settings,
                self.environment,
            );
            let wanted = CheckSpec {
                source,
                target,
                port,
                request_spec,
                expected: Expected::Denied,
                line: Some(line),
                settings: settings.clone(),
                place: line.place.clone(),
            };
            let mut target_kinds = BTreeSet::new();
            let mut flows = Vec::new();
            for (key, target_kind) in self.targets(&wanted) {
                if self.ends.can_meet(&instance, &key, &target_kind)
                    && target_kinds.insert(target_kind.clone())
                {
                    flows.push(self.builder.flow(
                        &instance,
                        TargetKey { once: true, ..key },
                        target_kind,
                        wanted.request_spec.opens_at,
                    ));
                }
            }
            let check = self.describe(
                &wanted,
                flows,
                Provability::Unprovable("swept once: closed or denied".into()),
            );
            if self
                .selection
                .wants(&self.suite.name, &check.name, &check.line.tags)
            {
                self.builder.swept.push(check);
            }
        }
    }

    /// `everythingElse: denied`: every ordered pair of endpoints and every known port that no line
    /// speaks of.
    fn everything_else(&mut self) {
        let Some(place) = self.suite.everything_else.clone() else {
            return;
        };
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
                    let request_spec = request_spec(
                        &self.found[target],
                        &port,
                        None,
                        &self.suite.settings,
                        self.environment,
                    );
                    let wanted = CheckSpec {
                        source: EndpointId(source),
                        target: EndpointId(target),
                        port,
                        request_spec,
                        expected: Expected::Denied,
                        line: None,
                        settings: self.suite.settings.clone(),
                        place: place.clone(),
                    };
                    self.check(&wanted, true);
                }
            }
        }
    }

    /// Remembers what a line says of every pair of pods, and finds lines that contradict each
    /// other.
    fn remember(&mut self, wanted: &CheckSpec<'_>) {
        let mut contradiction = None;
        let everyone = self.ends.sources(&self.found[wanted.source.0], None);
        for (key, target_kind) in self.targets(wanted) {
            for source in &everyone {
                if !self.ends.can_meet(source, &key, &target_kind) {
                    continue;
                }
                let said = self
                    .said
                    .entry((source.clone(), key.clone()))
                    .or_insert_with(|| (wanted.expected, wanted.place.clone()));
                if said.0 != wanted.expected {
                    contradiction = Some((source.clone(), target_kind.clone(), said.1.clone()));
                }
            }
        }
        if let Some((source, target_kind, other)) = contradiction {
            self.mistakes.push(PlanDiagnostic {
                message: format!("two lines contradict each other: one expects {source} -> {target_kind} to be allowed, the other to be denied"),
                place: wanted.place.clone(),
                other: Some(other),
            });
        }
    }

    fn check(&mut self, wanted: &CheckSpec<'a>, gives_way: bool) {
        if gives_way && self.all_spoken_of(wanted) {
            return;
        }
        let mut check = self.describe(wanted, Vec::new(), self.provability(wanted));
        let settings = wanted.line.map(|line| &line.settings);
        if let Some((first, known)) = self.names.get(&check.name) {
            // The same line written twice is one check; the suite's reader has warned.
            if gives_way || *known == settings {
                return;
            }
            let other = Some(first.clone());
            self.mistakes.push(PlanDiagnostic {
                message: format!(
                    "two checks are named {:?}; give one of the lines an `id:`",
                    check.name
                ),
                place: wanted.place.clone(),
                other,
            });
            return;
        }
        self.names
            .insert(check.name.clone(), (wanted.place.clone(), settings));
        if !self
            .selection
            .wants(&self.suite.name, &check.name, &check.line.tags)
        {
            return;
        }
        for source in self
            .ends
            .sources(&self.found[wanted.source.0], Some(check.settings.spread))
        {
            for (key, target_kind) in self.targets(wanted) {
                let spoken_of = gives_way && self.said.contains_key(&(source.clone(), key.clone()));
                if self.ends.can_meet(&source, &key, &target_kind) && !spoken_of {
                    for other in self.disguised(wanted, &key) {
                        check.flows.push(self.builder.flow(
                            &source,
                            other,
                            target_kind.clone(),
                            wanted.request_spec.opens_at,
                        ));
                    }
                    check.flows.push(self.builder.flow(
                        &source,
                        key,
                        target_kind,
                        wanted.request_spec.opens_at,
                    ));
                }
            }
        }
        if check.flows.is_empty() && check.provability == Provability::Provable {
            check.provability = Provability::MatchesNothing(
                "there is no pair of addresses of one family to test: the two ends are one pod, or share no address family".into(),
            );
        }
        self.builder.checks.push(check);
    }

    /// A check with its name, its line and its terms.
    fn describe(
        &self,
        wanted: &CheckSpec<'_>,
        flows: Vec<FlowId>,
        provability: Provability,
    ) -> Check {
        let (source, target) = (&self.found[wanted.source.0], &self.found[wanted.target.0]);
        let target_label = match &wanted.request_spec.label {
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
        let source_nodes: BTreeSet<&str> =
            source.pods.iter().map(|pod| pod.node.as_str()).collect();
        Check {
            name,
            suite: self.index,
            source: source.endpoint.label.clone(),
            target: target_label,
            expected: wanted.expected,
            line: LineRef {
                file: wanted.place.file.clone(),
                line: wanted.place.line,
                column: wanted.place.column,
                text: wanted.line.map_or_else(
                    || "everythingElse: denied".to_owned(),
                    |line| line.text.clone(),
                ),
                because: wanted.line.and_then(|line| line.because.clone()),
                tags: wanted.line.map_or(Vec::new(), |line| line.tags.clone()),
                id: id.cloned(),
            },
            settings: CheckSettings::of(
                wanted.expected,
                &wanted.settings,
                self.environment,
                wanted.request_spec.required_tier,
            ),
            flows,
            retired: Vec::new(),
            scope: Scope {
                source_nodes: source_nodes.len(),
                target_pods: target.pods.len(),
            },
            provability,
            prediction: None,
        }
    }

    fn provability(&self, wanted: &CheckSpec<'_>) -> Provability {
        let (source, target) = (&self.found[wanted.source.0], &self.found[wanted.target.0]);
        if !source.exists() {
            return Provability::MatchesNothing(source.absence(self.ends.inventory));
        }
        if !target.exists() {
            return Provability::MatchesNothing(target.absence(self.ends.inventory));
        }
        let mut pods = source.pods.iter().chain(&target.pods);
        if let Some(pod) = pods.find(|pod| self.ends.inventory.runs_windows(&pod.node)) {
            let name = pod.full_name();
            return Provability::Unprovable(format!(
                "{name} runs on node {}, which runs Windows: no probe runs there",
                pod.node
            ));
        }
        if let Some(why) = &wanted.request_spec.unprovable {
            return Provability::Unprovable(why.clone());
        }
        if wanted.settings.required_tier == Some(crate::suite::RequiredTier::A3)
            && wanted.expected == Expected::Allowed
        {
            return Provability::Unprovable(
                "A3 needs a mesh identity, which is not observed here".into(),
            );
        }
        Provability::Provable
    }

    fn all_spoken_of(&self, wanted: &CheckSpec<'_>) -> bool {
        let everyone = self.ends.sources(&self.found[wanted.source.0], None);
        let mut pairs = 0;
        let targets = self.targets(wanted);
        for (key, target_kind) in &targets {
            for source in everyone
                .iter()
                .filter(|source| self.ends.can_meet(source, key, target_kind))
            {
                pairs += 1;
                if !self.said.contains_key(&(source.clone(), key.clone())) {
                    return false;
                }
            }
        }
        pairs > 0
    }

    fn targets(&self, wanted: &CheckSpec<'_>) -> Vec<(TargetKey, TargetKind)> {
        self.ends.targets(
            &self.found[wanted.target.0],
            &wanted.port,
            &wanted.request_spec,
        )
    }
}

fn absent_port(port: &PortRef, transport: Transport) -> FoundPort {
    let (label, number) = match port {
        PortRef::Number(number) => (number.to_string(), *number),
        PortRef::Name(name) => (name.clone(), 0),
    };
    let suffix = if transport == Transport::Tcp {
        String::new()
    } else {
        format!("/{transport}")
    };
    FoundPort {
        label: format!("{label}{suffix}"),
        transport,
        number,
        on_pods: OnPods::Number(number),
        on_service: Vec::new(),
    }
}
