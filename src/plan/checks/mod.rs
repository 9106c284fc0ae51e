//! Expansion of a suite into checks: sources × targets × ports, and the pairs that no line names.
//!
//! Nothing that a suite names is left out in silence: what matches nothing, what has no known port
//! and what cannot be probed each becomes a check that says so.

mod everything_else;
mod expectations;
mod flows;
mod other_ports;
mod provability;
mod ranges;
mod spec;

use super::addresses::Addressing;
use super::builder::Builder;
use super::endpoints::{EndpointKind, ResolvedEndpoint, resolve_endpoint};
use super::outside::addresses_in_reach;
use super::predict::{self, Predictions};
use super::request::request_spec;
use super::resolve::{PlanDiagnostic, Selection};
use super::{
    BackendKind, BackendProperties, Check, CheckSettings, FlowId, Provability, Scope, TargetKey,
    TargetKind,
};
use crate::source::Place;
use crate::suite::{
    EndpointId, Expected, Line, Locator, Settings, Spread, Subject, Suite, TargetItem, TargetWhat,
    Url,
};
use expectations::Expectations;
use other_ports::{EndpointClasses, OtherPorts};
use spec::{CheckSpec, SpecPort, item_ports, line_ref, mentioned_port};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A survey keeps so many checks at a time.
const SURVEYED: usize = 1_000;

/// Expands the lines of one suite into checks of a plan.
pub(super) struct SuiteExpander<'a, 'b> {
    index: usize,
    suite: &'a Suite,
    backend: BackendKind,
    /// A port on which every pod answers that is none of the pod's own.
    reserved_port: Option<u16>,
    selection: &'a Selection,
    endpoints: Vec<ResolvedEndpoint<'a>>,
    /// How many kinds of sources each endpoint has.
    source_kinds: Vec<usize>,
    expectations: Expectations,
    /// Hosts outside that some line allows.
    allowed_hosts: BTreeSet<String>,
    /// Checks by name: the place of each, and its line's settings.
    names: BTreeMap<String, (Place, Option<&'a Settings>)>,
    addressing: &'b Addressing<'a>,
    predictions: Option<&'b mut Predictions<'a>>,
    builder: &'b mut Builder,
    /// Takes each check with its prediction, where no plan is made of them.
    survey: Option<&'b mut dyn FnMut(&Check)>,
    /// How policies see each endpoint, once that is asked.
    endpoint_classes: HashMap<EndpointId, EndpointClasses>,
    /// What policies admit beyond the lines.
    other_ports: Vec<OtherPorts<'a>>,
    /// Endpoints that `*` or `everythingElse` leaves out, with the reason.
    left_out: BTreeSet<String>,
    /// Services that are not tried from their own pods.
    services_that_come_back: BTreeSet<String>,
    /// Checks so far, whatever is selected.
    count: usize,
    diagnostics: Vec<PlanDiagnostic>,
}

/// What the expansion of a suite found.
pub(super) struct Expansion {
    /// What is wrong with its lines.
    pub(super) diagnostics: Vec<PlanDiagnostic>,
    /// Whether it makes any check, whatever is selected.
    pub(super) has_checks: bool,
}

impl<'a, 'b> SuiteExpander<'a, 'b> {
    pub(super) fn new(
        index: usize,
        suite: &'a Suite,
        backend: &BackendProperties,
        selection: &'a Selection,
        addressing: &'b Addressing<'a>,
        predictions: Option<&'b mut Predictions<'a>>,
        builder: &'b mut Builder,
    ) -> Self {
        let endpoints: Vec<ResolvedEndpoint<'a>> = suite
            .endpoints
            .iter()
            .map(|endpoint| resolve_endpoint(endpoint, addressing.inventory))
            .collect();
        let source_kinds = endpoints
            .iter()
            .map(|endpoint| addressing.source_kinds(endpoint))
            .collect();
        let reserved_port = match backend.kind {
            BackendKind::Lab => backend.control_endpoints.on_pods,
            // There only pods of ours answer on the control port.
            BackendKind::Cluster => None,
        };

        Self {
            index,
            suite,
            backend: backend.kind,
            reserved_port,
            selection,
            endpoints,
            source_kinds,
            expectations: Expectations::default(),
            allowed_hosts: BTreeSet::new(),
            names: BTreeMap::new(),
            addressing,
            predictions,
            builder,
            survey: None,
            endpoint_classes: HashMap::new(),
            other_ports: Vec::new(),
            left_out: BTreeSet::new(),
            services_that_come_back: BTreeSet::new(),
            count: 0,
            diagnostics: Vec::new(),
        }
    }

    /// Gives every check with its prediction to `each` instead of keeping it, in order.
    pub(super) fn survey(mut self, each: &'b mut dyn FnMut(&Check)) -> Expansion {
        self.survey = Some(each);
        self.run()
    }

    /// Adds every check of the suite to the builder.
    pub(super) fn run(mut self) -> Expansion {
        self.collect_mentioned_ports();
        self.collect_allowed_hosts();

        for line in &self.suite.lines {
            self.expand_line(line);
        }
        self.expand_everything_else();
        if self.survey.is_some() {
            self.give_checks();
        } else {
            self.sweep_other_ports();
            self.add_notes();
        }

        Expansion {
            has_checks: self.count > 0 || !self.diagnostics.is_empty(),
            diagnostics: self.diagnostics,
        }
    }

    fn report(&mut self, place: &Place, message: String, other: Option<Place>) {
        self.diagnostics.push(PlanDiagnostic {
            message,
            place: place.clone(),
            other,
        });
    }

    fn add_notes(&mut self) {
        let suite = &self.suite.name;
        let left_out = self.left_out.iter().map(|text| format!("{suite}: {text}"));
        let come_back = self.services_that_come_back.iter().map(|service| {
            format!("{suite}: a pod of {service} does not try that Service, which may lead back to it; it tries the other pods by their addresses")
        });
        self.builder.notes.extend(left_out.chain(come_back));
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
        let before = self.count + self.diagnostics.len();
        self.note_node_identities(line);
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

        if self.count + self.diagnostics.len() == before {
            self.left_out.insert(format!(
                "line {} makes no check: {}",
                line.place.line, line.text
            ));
        }
    }

    /// Notes endpoints that a line's `*` leaves out because their pods have their node's identity.
    fn note_node_identities(&mut self, line: &Line) {
        let has_wildcard = line.sources.contains(&Subject::All)
            || line.targets.iter().any(|item| item.subject == Subject::All);
        if has_wildcard {
            self.note_all_node_identities();
        }
    }

    fn note_all_node_identities(&mut self) {
        let labels = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.has_node_identity())
            .map(|endpoint| {
                format!(
                    "{} is left out of * and everythingElse: its pods share their node's network and have its identity",
                    endpoint.endpoint.label
                )
            });
        self.left_out.extend(labels);
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
            self.add_check(&spec);
        }

        if let TargetWhat::Range {
            from,
            to,
            transport,
        } = &item.what
            && line.expected == Expected::Denied
        {
            self.sweep_range(line, (source, target), (*from, *to, *transport));
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
        let endpoint = &self.endpoints[target.0];
        let ports = match item_ports(endpoint, item, line.expected) {
            Ok(ports) => ports,
            Err(message) => {
                self.report(&line.place, message, None);
                return Vec::new();
            }
        };
        if ports.is_empty() {
            let label = &endpoint.endpoint.label;
            self.left_out.insert(format!(
                "* does not mean {label} as a target: no port of it is known; give it `ports:`"
            ));
        }

        ports
            .into_iter()
            .map(|port| self.spec_of_line(line, (source, target), port, &item.what))
            .collect()
    }

    fn spec_of_line(
        &self,
        line: &'a Line,
        ends: (EndpointId, EndpointId),
        port: SpecPort,
        what: &TargetWhat,
    ) -> CheckSpec<'a> {
        let url = match what {
            TargetWhat::Url(url) => Some(url),
            TargetWhat::KnownPorts(_) | TargetWhat::Port(_) | TargetWhat::Range { .. } => None,
        };
        let mut spec = self.spec(ends, port, url, Some(line), &line.place);
        spec.request_spec = spec.request_spec.judged_by(&spec.settings, line.expected);
        spec
    }

    /// What a check is made of; without a line, `everythingElse` denies it.
    fn spec(
        &self,
        (source, target): (EndpointId, EndpointId),
        SpecPort { port, unsampled }: SpecPort,
        url: Option<&Url>,
        line: Option<&'a Line>,
        place: &Place,
    ) -> CheckSpec<'a> {
        let (expected, settings) = match line {
            Some(line) => (line.expected, line.settings.over(&self.suite.settings)),
            None => (Expected::Denied, self.suite.settings.clone()),
        };
        CheckSpec {
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
            expected,
            line,
            settings,
            place: place.clone(),
            unsampled,
        }
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
                let other = self
                    .expectations
                    .record(source, &key, spec.expected, &spec.place);
                if let Some(other) = other {
                    contradiction = Some((source.clone(), target_kind.clone(), other));
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

    /// Adds a check and its flows.
    fn add_check(&mut self, spec: &CheckSpec<'a>) {
        let mut check = self.new_check(spec, Vec::new(), self.provability(spec));

        let settings = spec.line.map(|line| &line.settings);
        if let Some((first, known)) = self.names.get(&check.name) {
            // The same line written twice is one check; reading the suite has warned of it.
            if spec.line.is_none() || *known == settings {
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
        self.count += 1;
        if !self.is_selected(&check) {
            return;
        }

        let is_sampled = match check.provability {
            Provability::AddressUnknown(_) => false,
            Provability::Provable
            | Provability::Unprovable(_)
            | Provability::MatchesNothing(_)
            | Provability::NothingReady(_)
            | Provability::Incomplete(_)
            | Provability::PoliciesAdmitMore(_) => spec.unsampled.is_none(),
        };
        if is_sampled {
            self.add_flows(spec, &mut check);
        }
        self.builder.checks.push(check);
        if self.survey.is_some() && self.builder.checks.len() >= SURVEYED {
            self.give_checks();
        }
    }

    /// Predicts the checks so far, gives them to the survey and forgets them. What is swept is not
    /// predicted: its flows may be forgotten already.
    fn give_checks(&mut self) {
        let swept = std::mem::take(&mut self.builder.swept);
        if let Some(predictions) = &mut self.predictions {
            predict::predict(self.builder, predictions);
        }
        self.builder.swept = swept;
        let checks = self.builder.take_checks();
        if let Some(each) = &mut self.survey {
            for check in &checks {
                each(check);
            }
        }
    }

    /// Adds the flows of a check, and what they say of its provability.
    fn add_flows(&mut self, spec: &CheckSpec<'a>, check: &mut Check) {
        let sent = self.check_flows(spec, check.settings.spread);
        check.flows = sent.flows;
        check.scope.source_kinds = sent.source_kinds;
        check.scope.target_pods = sent.target_pods;
        if check.provability != Provability::Provable {
            return;
        }

        if let Some(why) = self.hairpin(spec, check.settings.spread) {
            check.provability = Provability::Unprovable(why);
        } else if check.flows.is_empty() {
            check.provability = Provability::MatchesNothing(sent.untested.unwrap_or_else(|| {
                "there is no pair of addresses of one family to test: the two ends are one pod, or share no address family".into()
            }));
        } else if spec.expected == Expected::Denied && self.has_no_ready_target(&check.flows) {
            check.provability = Provability::NothingReady(format!(
                "no pod of {} is ready, and the silence of one that is not says nothing",
                self.endpoints[spec.target.0].endpoint.label
            ));
        } else if let Some(untested) = sent.untested {
            check.provability = Provability::Incomplete(untested);
        }
    }

    /// Why flows of a check are left out, where a pod would dial its own Service.
    fn hairpin(&self, spec: &CheckSpec<'_>, spread: Spread) -> Option<String> {
        if !self.addressing.has_hairpins() {
            return None;
        }
        let source = &self.endpoints[spec.source.0];
        let sources = self.addressing.sources(source, Some(spread));
        self.addressing.hairpin(&sources, &self.targets(spec))
    }

    /// Whether all of some flows go to pods that are not ready.
    fn has_no_ready_target(&self, flows: &[FlowId]) -> bool {
        flows.iter().all(|flow| {
            let target_kind = &self.builder.flows[flow.0 as usize].target_kind;
            matches!(**target_kind, TargetKind::Pod { ready: false, .. })
        })
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
                source_kinds: self.source_kinds[spec.source.0],
                target_pods: target.pods.len(),
                target_addresses: addresses_in_reach(self.addressing, source, target),
            },
            provability,
            prediction: None,
            prediction_unknown: None,
        }
    }

    fn targets(&self, spec: &CheckSpec<'_>) -> Vec<(TargetKey, TargetKind)> {
        self.addressing.targets(
            &self.endpoints[spec.target.0],
            &spec.port,
            &spec.request_spec,
        )
    }
}
