//! Expansion of a suite into checks: sources × targets × ports, and the pairs that no line names.

use super::addresses::Addressing;
use super::builder::Builder;
use super::endpoints::{
    EndpointKind, PodPort, ResolvedEndpoint, ResolvedPort, resolve_endpoint, suffix,
};
use super::outside::{self, OutsideHosts};
use super::request::{RequestSpec, request_spec, url_port};
use super::resolve::{PlanDiagnostic, Selection};
use super::{
    BackendKind, Check, CheckSettings, FlowId, LineRef, Provability, Scope, Source, TargetKey,
    TargetKind,
};
use crate::model::{Port, Transport};
use crate::policy::Explainer;
use crate::source::Place;
use crate::suite::{
    EndpointId, Expected, Line, Locator, PortItem, PortRef, RequiredTier, Settings, Spread,
    Subject, Suite, TargetItem, TargetWhat,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At most so many ports of a range that are not known are swept.
const MAX_SWEPT: usize = 1_024;

/// One source, one target, one port, before it is known which pods are used.
struct CheckSpec<'s> {
    source: EndpointId,
    target: EndpointId,
    port: ResolvedPort,
    request_spec: RequestSpec,
    expected: Expected,
    /// `None` for a pair that only `everythingElse` covers.
    line: Option<&'s Line>,
    /// The line's settings over the suite's.
    settings: Settings,
    place: Place,
}

/// What two lines about the same packets have in common: the source, the address, the port and the
/// request.
type PacketKey = (Source, TargetKey);

/// Expands the lines of one suite into checks of a plan.
pub(super) struct SuiteExpander<'a, 'b> {
    index: usize,
    suite: &'a Suite,
    backend: BackendKind,
    selection: &'a Selection,
    endpoints: Vec<ResolvedEndpoint<'a>>,
    /// What lines expect of each pair of pods, whichever pods are sampled.
    expectations: HashMap<PacketKey, (Expected, Place)>,
    /// Hosts outside that some line allows.
    allowed_hosts: BTreeSet<String>,
    /// Checks by name: the place of each, and its line's settings.
    names: BTreeMap<String, (Place, Option<&'a Settings>)>,
    addressing: &'b Addressing<'a>,
    outside: OutsideHosts<'b, 'a>,
    builder: &'b mut Builder,
    diagnostics: Vec<PlanDiagnostic>,
}

impl<'a, 'b> SuiteExpander<'a, 'b> {
    pub(super) fn new(
        index: usize,
        suite: &'a Suite,
        backend: BackendKind,
        selection: &'a Selection,
        addressing: &'b Addressing<'a>,
        explainer: Option<&'b Explainer<'a>>,
        builder: &'b mut Builder,
    ) -> Self {
        Self {
            index,
            suite,
            backend,
            selection,
            endpoints: suite
                .endpoints
                .iter()
                .map(|endpoint| resolve_endpoint(endpoint, addressing.inventory))
                .collect(),
            expectations: HashMap::new(),
            allowed_hosts: BTreeSet::new(),
            names: BTreeMap::new(),
            addressing,
            outside: OutsideHosts {
                inventory: addressing.inventory,
                backend,
                explainer,
            },
            builder,
            diagnostics: Vec::new(),
        }
    }

    /// Adds every check of the suite to the builder, and returns what is wrong with its lines.
    pub(super) fn run(mut self) -> Vec<PlanDiagnostic> {
        self.collect_mentioned_ports();
        self.collect_allowed_hosts();

        for line in &self.suite.lines {
            self.expand_line(line);
        }
        self.expand_everything_else();

        self.diagnostics
    }

    fn report(&mut self, place: &Place, message: String, other: Option<Place>) {
        self.diagnostics.push(PlanDiagnostic {
            message,
            place: place.clone(),
            other,
        });
    }

    /// Gives hosts, addresses and nodes the ports that any line names.
    fn collect_mentioned_ports(&mut self) {
        for line in &self.suite.lines {
            for item in &line.targets {
                let Some(port) = mentioned_port(&item.what) else {
                    continue;
                };
                for id in self.members(&item.subject) {
                    let endpoint = &mut self.endpoints[id.0];
                    match endpoint.kind {
                        EndpointKind::Outside(_) | EndpointKind::Nodes => {
                            endpoint.mentioned.insert(port);
                        }
                        EndpointKind::Pods | EndpointKind::Runner => {}
                    }
                }
            }
        }
    }

    fn collect_allowed_hosts(&mut self) {
        let allowed_lines = self
            .suite
            .lines
            .iter()
            .filter(|line| line.expected == Expected::Allowed);
        let targets = allowed_lines
            .flat_map(|line| &line.targets)
            .flat_map(|item| self.members(&item.subject));
        let hosts: BTreeSet<String> = targets
            .filter_map(|id| match &self.endpoints[id.0].endpoint.locator {
                Locator::Host(name) => Some(name.as_str().to_owned()),
                Locator::Workload { .. }
                | Locator::Pods { .. }
                | Locator::Service { .. }
                | Locator::Address(_)
                | Locator::Runner
                | Locator::Nodes => None,
            })
            .collect();

        self.allowed_hosts = hosts;
    }

    fn members(&self, subject: &Subject) -> Vec<EndpointId> {
        match subject {
            Subject::Endpoint(id) => vec![*id],
            Subject::Group(ids) => ids.clone(),
            Subject::All => (0..self.endpoints.len()).map(EndpointId).collect(),
        }
    }

    /// The sources of a line, and whether each is written by its own name.
    fn sources(&self, line: &Line) -> Vec<(EndpointId, bool)> {
        let mut sources: Vec<(EndpointId, bool)> = Vec::new();
        for subject in &line.sources {
            let is_wildcard = matches!(subject, Subject::All);
            let by_name = matches!(subject, Subject::Endpoint(_));

            for id in self.members(subject) {
                let is_meant = !is_wildcard || self.endpoints[id.0].is_source_by_wildcard();
                if is_meant && !sources.iter().any(|(known, _)| *known == id) {
                    sources.push((id, by_name));
                }
            }
        }
        sources
    }

    fn expand_line(&mut self, line: &'a Line) {
        for (source, source_by_name) in self.sources(line) {
            for item in &line.targets {
                let is_wildcard = matches!(item.subject, Subject::All);
                let by_name = source_by_name && matches!(item.subject, Subject::Endpoint(_));

                for target in self.members(&item.subject) {
                    let is_meant = !is_wildcard || self.endpoints[target.0].is_target_by_wildcard();
                    if is_meant && (source != target || by_name) {
                        self.expand_item(line, source, target, item);
                    }
                }
            }
        }
    }

    /// Adds the checks of one target item of a line, between two endpoints.
    fn expand_item(
        &mut self,
        line: &'a Line,
        source: EndpointId,
        target: EndpointId,
        item: &TargetItem,
    ) {
        for spec in self.check_specs(line, source, target, item) {
            self.record_expectation(&spec);
            self.add_check(&spec, false);
        }

        if let TargetWhat::Range {
            from,
            to,
            transport,
        } = &item.what
            && line.expected == Expected::Denied
        {
            self.sweep_range(line, source, target, (*from, *to, *transport));
        }
    }

    /// One spec for each port of a target item; none for a wildcard's target without known ports.
    fn check_specs(
        &mut self,
        line: &'a Line,
        source: EndpointId,
        target: EndpointId,
        item: &TargetItem,
    ) -> Vec<CheckSpec<'a>> {
        let ports = match item_ports(&self.endpoints[target.0], item) {
            Ok(ports) => ports,
            Err(message) => {
                self.report(&line.place, message, None);
                return Vec::new();
            }
        };

        let url = match &item.what {
            TargetWhat::Url(url) => Some(url),
            TargetWhat::KnownPorts(_) | TargetWhat::Port(_) | TargetWhat::Range { .. } => None,
        };
        let settings = line.settings.over(&self.suite.settings);
        ports
            .into_iter()
            .map(|port| CheckSpec {
                source,
                target,
                request_spec: request_spec(
                    &self.endpoints[target.0],
                    &port,
                    url,
                    &settings,
                    self.backend,
                ),
                port,
                expected: line.expected,
                line: Some(line),
                settings: settings.clone(),
                place: line.place.clone(),
            })
            .collect()
    }

    /// Adds the ports of a denied range that are not known: each is tried once, from one instance
    /// of the source to one address of each pod.
    fn sweep_range(
        &mut self,
        line: &'a Line,
        source: EndpointId,
        target: EndpointId,
        range: (u16, u16, Transport),
    ) {
        let (from, to, transport) = range;
        let Ok(known) = self.endpoints[target.0].known_ports(Some(transport)) else {
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
            self.report(&line.place, message, None);
            return;
        }

        let sources = self
            .addressing
            .sources(&self.endpoints[source.0], Some(Spread::One));
        let Some(instance) = sources.into_iter().next() else {
            return;
        };

        let settings = line.settings.over(&self.suite.settings);
        for number in unknown {
            let port = unresolved_port(&PortRef::Number(number), transport);
            let spec = CheckSpec {
                source,
                target,
                request_spec: request_spec(
                    &self.endpoints[target.0],
                    &port,
                    None,
                    &settings,
                    self.backend,
                ),
                port,
                expected: Expected::Denied,
                line: Some(line),
                settings: settings.clone(),
                place: line.place.clone(),
            };
            self.add_swept(&spec, &instance);
        }
    }

    fn add_swept(&mut self, spec: &CheckSpec<'_>, source: &Source) {
        let (sender, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        if self.outside.unknown_address(sender, target).is_some() {
            return;
        }
        let mut target_kinds = BTreeSet::new();
        let mut flows = Vec::new();
        for (key, target_kind) in self.targets(spec) {
            if self.addressing.can_connect(source, &key, &target_kind)
                && target_kinds.insert(target_kind.clone())
            {
                flows.push(self.builder.flow(
                    source,
                    TargetKey { once: true, ..key },
                    target_kind,
                    spec.request_spec.opens_at,
                ));
            }
        }

        let provability = Provability::Unprovable("swept once: closed or denied".into());
        let check = self.new_check(spec, flows, provability);
        if self.is_selected(&check) {
            self.builder.swept.push(check);
        }
    }

    /// Adds the checks of `everythingElse: denied`: every ordered pair of endpoints at every known
    /// port that no line names.
    fn expand_everything_else(&mut self) {
        let Some(place) = self.suite.everything_else.clone() else {
            return;
        };
        for source in 0..self.endpoints.len() {
            if !self.endpoints[source].is_source_by_wildcard() {
                continue;
            }

            for target in 0..self.endpoints.len() {
                if source == target || !self.endpoints[target].is_target_by_wildcard() {
                    continue;
                }
                match self.endpoints[target].known_ports(None) {
                    Ok(ports) => {
                        for port in ports {
                            self.add_everything_else(source, target, port, &place);
                        }
                    }
                    Err(message) => self.report(&place, message, None),
                }
            }
        }
    }

    fn add_everything_else(
        &mut self,
        source: usize,
        target: usize,
        port: ResolvedPort,
        place: &Place,
    ) {
        let spec = CheckSpec {
            source: EndpointId(source),
            target: EndpointId(target),
            request_spec: request_spec(
                &self.endpoints[target],
                &port,
                None,
                &self.suite.settings,
                self.backend,
            ),
            port,
            expected: Expected::Denied,
            line: None,
            settings: self.suite.settings.clone(),
            place: place.clone(),
        };
        self.add_check(&spec, true);
    }

    /// Records what a line expects of every pair of pods, and reports lines that contradict each
    /// other.
    fn record_expectation(&mut self, spec: &CheckSpec<'_>) {
        let mut contradiction = None;
        let sources = self
            .addressing
            .sources(&self.endpoints[spec.source.0], None);
        for (key, target_kind) in self.targets(spec) {
            for source in &sources {
                if !self.addressing.can_connect(source, &key, &target_kind) {
                    continue;
                }
                let (expected, place) = self
                    .expectations
                    .entry((source.clone(), key.clone()))
                    .or_insert_with(|| (spec.expected, spec.place.clone()));
                if *expected != spec.expected {
                    contradiction = Some((source.clone(), target_kind.clone(), place.clone()));
                }
            }
        }

        if let Some((source, target_kind, other)) = contradiction {
            let message = format!(
                "two lines contradict each other: one expects {source} -> {target_kind} to be allowed, the other to be denied"
            );
            self.report(&spec.place, message, Some(other));
        }
    }

    /// Adds a check and its flows. One that comes from `everythingElse` leaves to lines what they
    /// name.
    fn add_check(&mut self, spec: &CheckSpec<'a>, from_everything_else: bool) {
        if from_everything_else && self.is_covered_by_lines(spec) {
            return;
        }
        let mut check = self.new_check(spec, Vec::new(), self.provability(spec));

        let settings = spec.line.map(|line| &line.settings);
        if let Some((first, known)) = self.names.get(&check.name) {
            // The same line written twice is one check; reading the suite has warned of it.
            if from_everything_else || *known == settings {
                return;
            }
            let message = format!(
                "two checks are named {:?}; give one of the lines an `id:`",
                check.name
            );
            let other = Some(first.clone());
            self.report(&spec.place, message, other);
            return;
        }
        self.names
            .insert(check.name.clone(), (spec.place.clone(), settings));
        if !self.is_selected(&check) {
            return;
        }

        check.flows = match check.provability {
            Provability::AddressUnknown(_) => Vec::new(),
            Provability::Provable | Provability::Unprovable(_) | Provability::MatchesNothing(_) => {
                self.add_flows(spec, check.settings.spread, from_everything_else)
            }
        };
        if check.flows.is_empty() && check.provability == Provability::Provable {
            check.provability = Provability::MatchesNothing(
                "there is no pair of addresses of one family to test: the two ends are one pod, or share no address family".into(),
            );
        }
        self.builder.checks.push(check);
    }

    fn add_flows(
        &mut self,
        spec: &CheckSpec<'_>,
        spread: Spread,
        from_everything_else: bool,
    ) -> Vec<FlowId> {
        let opens_at = spec.request_spec.opens_at;
        let mut flows = Vec::new();
        for source in self
            .addressing
            .sources(&self.endpoints[spec.source.0], Some(spread))
        {
            for (key, target_kind) in self.targets(spec) {
                let is_in_a_line = from_everything_else
                    && self
                        .expectations
                        .contains_key(&(source.clone(), key.clone()));
                if is_in_a_line || !self.addressing.can_connect(&source, &key, &target_kind) {
                    continue;
                }
                for other in self.with_other_server_names(spec, &key) {
                    let flow = self
                        .builder
                        .flow(&source, other, target_kind.clone(), opens_at);
                    flows.push(flow);
                }
                flows.push(self.builder.flow(&source, key, target_kind, opens_at));
            }
        }
        flows
    }

    /// The target of a denied address outside that speaks TLS on 443, without a server name and
    /// with the name of each allowed host: a firewall that decides by server names lets through
    /// every client that sends an allowed one.
    fn with_other_server_names(&self, spec: &CheckSpec<'_>, key: &TargetKey) -> Vec<TargetKey> {
        let is_outside = matches!(self.endpoints[spec.target.0].kind, EndpointKind::Outside(_));
        let is_address = key.name.is_none() && key.port == 443;
        let has_chosen_name = spec.settings.server_name.is_some();
        if spec.expected != Expected::Denied || !is_outside || !is_address || has_chosen_name {
            return Vec::new();
        }

        let allowed_names = self.allowed_hosts.iter().cloned().map(Some);
        std::iter::once(None)
            .chain(allowed_names)
            .filter_map(|name| key.request.with_server_name(name))
            .filter(|request| *request != key.request)
            .map(|request| TargetKey {
                request,
                ..key.clone()
            })
            .collect()
    }

    fn is_selected(&self, check: &Check) -> bool {
        self.selection
            .wants(&self.suite.name, &check.name, &check.line.tags)
    }

    fn new_check(
        &self,
        spec: &CheckSpec<'_>,
        flows: Vec<FlowId>,
        provability: Provability,
    ) -> Check {
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        let target_label = match &spec.request_spec.label {
            Some(url) => url.clone(),
            None => format!("{}:{}", target.endpoint.label, spec.port.label),
        };
        let id = spec.line.and_then(|line| line.id.as_ref());
        let suffix = id.map_or(String::new(), |id| format!(" [{id}]"));
        let source_nodes: BTreeSet<&str> =
            source.pods.iter().map(|pod| pod.node.as_str()).collect();

        Check {
            name: format!(
                "{} -> {target_label} {}{suffix}",
                source.endpoint.label, spec.expected,
            ),
            suite: self.index,
            source: source.endpoint.label.clone(),
            target: target_label,
            expected: spec.expected,
            line: line_ref(spec.line, &spec.place),
            settings: CheckSettings::of(
                spec.expected,
                &spec.settings,
                self.backend,
                spec.request_spec.required_tier,
            ),
            flows,
            retired: Vec::new(),
            scope: Scope {
                source_nodes: source_nodes.len(),
                target_pods: target.pods.len(),
                target_addresses: outside::addresses_in_reach(self.addressing, source, target),
            },
            provability,
            prediction: None,
        }
    }

    fn provability(&self, spec: &CheckSpec<'_>) -> Provability {
        let inventory = self.addressing.inventory;
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        if !source.exists() {
            return Provability::MatchesNothing(source.absence(inventory));
        }
        if let Some(why) = self.outside.unknown_address(source, target) {
            return Provability::AddressUnknown(why);
        }
        if !target.exists() {
            return Provability::MatchesNothing(target.absence(inventory));
        }
        if let Some(why) = self.outside.unprovable(source, target, spec.expected) {
            return Provability::Unprovable(why);
        }

        let mut pods = source.pods.iter().chain(&target.pods);
        if let Some(pod) = pods.find(|pod| inventory.runs_windows(&pod.node)) {
            return Provability::Unprovable(format!(
                "{} runs on node {}, which runs Windows: no probe runs there",
                pod.full_name(),
                pod.node
            ));
        }
        if let Some(why) = &spec.request_spec.unprovable {
            return Provability::Unprovable(why.clone());
        }
        if spec.settings.required_tier == Some(RequiredTier::A3)
            && spec.expected == Expected::Allowed
        {
            return Provability::Unprovable(
                "A3 needs a mesh identity, which is not observed here".into(),
            );
        }
        Provability::Provable
    }

    /// Whether lines name every pair of pods of a check, of which there is at least one.
    fn is_covered_by_lines(&self, spec: &CheckSpec<'_>) -> bool {
        let sources = self
            .addressing
            .sources(&self.endpoints[spec.source.0], None);
        let mut pairs = 0;
        for (key, target_kind) in self.targets(spec) {
            for source in &sources {
                if !self.addressing.can_connect(source, &key, &target_kind) {
                    continue;
                }
                pairs += 1;
                if !self
                    .expectations
                    .contains_key(&(source.clone(), key.clone()))
                {
                    return false;
                }
            }
        }
        pairs > 0
    }

    fn targets(&self, spec: &CheckSpec<'_>) -> Vec<(TargetKey, TargetKind)> {
        self.addressing.targets(
            &self.endpoints[spec.target.0],
            &spec.port,
            &spec.request_spec,
        )
    }
}

fn line_ref(line: Option<&Line>, place: &Place) -> LineRef {
    let text = match line {
        Some(line) => line.text.clone(),
        None => "everythingElse: denied".to_owned(),
    };
    LineRef {
        file: place.file.clone(),
        line: place.line,
        column: place.column,
        text,
        because: line.and_then(|line| line.because.clone()),
        tags: line.map_or(Vec::new(), |line| line.tags.clone()),
        id: line.and_then(|line| line.id.clone()),
    }
}

/// The port that a target item names by number.
fn mentioned_port(what: &TargetWhat) -> Option<Port> {
    match what {
        TargetWhat::Port(item) => match item.port {
            PortRef::Number(number) => Port::new(number, item.transport),
            PortRef::Name(_) => None,
        },
        TargetWhat::Url(url) => {
            let (number, transport) = url_port(url);
            Port::new(number?, transport)
        }
        TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => None,
    }
}

/// The ports of an endpoint that a target item means. An endpoint that does not exist has the ports
/// that the item names, so that a check says that it does not.
///
/// # Errors
/// A sentence that names what to write instead.
fn item_ports(
    endpoint: &ResolvedEndpoint<'_>,
    item: &TargetItem,
) -> Result<Vec<ResolvedPort>, String> {
    let label = &endpoint.endpoint.label;
    let is_wildcard = matches!(item.subject, Subject::All);
    let ports = match &item.what {
        TargetWhat::KnownPorts(transport) => {
            let ports = endpoint.known_ports(*transport)?;
            if ports.is_empty() && endpoint.exists() && !is_wildcard {
                return Err(format!(
                    "{label} has no known port; write one: {label}:PORT, or give the endpoint `ports:`"
                ));
            }
            ports
        }
        TargetWhat::Port(item) => vec![port_or_unresolved(endpoint, item)?],
        TargetWhat::Range {
            from,
            to,
            transport,
        } => {
            let mut ports = endpoint.known_ports(Some(*transport))?;
            ports.retain(|port| (*from..=*to).contains(&port.number));
            if ports.is_empty() && endpoint.exists() {
                return Err(format!(
                    "{label} has no known port from {from} to {to}; name the ports, or give the endpoint `ports:`"
                ));
            }
            ports
        }
        TargetWhat::Url(url) => {
            let (number, transport) = url_port(url);
            let port = match &url.port {
                Some(PortRef::Name(name)) => PortRef::Name(name.clone()),
                Some(PortRef::Number(_)) | None => PortRef::Number(number.unwrap_or(0)),
            };
            vec![port_or_unresolved(endpoint, &PortItem { port, transport })?]
        }
    };

    if ports.is_empty() && !endpoint.exists() && !is_wildcard {
        let any_port = PortRef::Name("*".into());
        return Ok(vec![unresolved_port(&any_port, Transport::Tcp)]);
    }
    Ok(ports)
}

fn port_or_unresolved(
    endpoint: &ResolvedEndpoint<'_>,
    item: &PortItem,
) -> Result<ResolvedPort, String> {
    if endpoint.exists() {
        endpoint.port(item)
    } else {
        Ok(unresolved_port(&item.port, item.transport))
    }
}

/// A port as it is written, without an endpoint that has it.
fn unresolved_port(port: &PortRef, transport: Transport) -> ResolvedPort {
    let (label, number) = match port {
        PortRef::Number(number) => (number.to_string(), *number),
        PortRef::Name(name) => (name.clone(), 0),
    };
    ResolvedPort {
        label: format!("{label}{}", suffix(transport)),
        transport,
        number,
        on_pods: PodPort::Number(number),
        on_service: Vec::new(),
    }
}
