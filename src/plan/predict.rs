//! What the policies say of each flow and each check, before any packet is sent.
//!
//! A prediction is shown beside what is expected and what is observed, and it may choose which
//! controls are tried. It never enters a verdict: nothing in `verdict` can reach it.

use super::builder::Builder;
use super::endpoints::PodsByNamespace;
use super::transport::model_transport;
use super::{Check, Flow, FlowId, Plan, Prediction, Source, TargetKind};
use crate::inventory::{Inventory, Service};
use crate::model::{Families, Family, ObjectRef, Port, Transport};
use crate::policy::{
    BothSides, Direction, EndpointRef, Explainer, Explanation, InvalidPolicy, MatchedPolicy,
    PolicyName, PortSet, Predictor,
};
use crate::suite::Expected;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// Predicts every flow and every check of a plan in the making, and notes what contradicts the
/// suites.
pub(super) fn add(builder: &mut Builder, predictions: &mut Predictions<'_>) {
    predict(builder, predictions);
    builder.notes.extend(contradictions(&builder.checks));
    builder.notes.extend(unknown_predictions(&builder.checks));
}

/// Predicts every flow and every check of a plan in the making.
pub(super) fn predict(builder: &mut Builder, predictions: &mut Predictions<'_>) {
    let mut predicted = BTreeMap::new();
    let mut unknown = BTreeMap::new();
    for (index, flow) in builder.flows.iter().enumerate() {
        let id = FlowId(index as u32);
        let source = &builder.probes[flow.probe.0 as usize];
        if let Some(why) = predictions.why_unknown(source, flow) {
            unknown.insert(id, why);
        } else if let Some(answer) = predictions.flow(source, flow) {
            predicted.insert(id, answer);
        }
    }

    for check in builder.checks.iter_mut().chain(&mut builder.swept) {
        let answers: Vec<Option<Expected>> = check
            .flows
            .iter()
            .map(|flow| predicted.get(flow).copied())
            .collect();
        let Some(answer) = common_answer(&answers) else {
            let mut flows = check.flows.iter();
            check.prediction_unknown = flows.find_map(|flow| unknown.get(flow).cloned());
            continue;
        };
        let mut prediction = Prediction {
            answer,
            because: None,
            change: None,
        };

        let contradicting = check.flows.iter().find(|flow| {
            predicted
                .get(flow)
                .is_some_and(|one| *one != check.expected)
        });
        if answer != Some(check.expected)
            && let Some(flow) = contradicting
        {
            let flow = &builder.flows[flow.0 as usize];
            let source = &builder.probes[flow.probe.0 as usize];
            let (because, change) = predictions.why(source, flow, check.expected);
            let family = contradicting_family(check, &builder.flows, &predicted);
            let over = family.map_or(String::new(), |family| format!("over {family}, "));
            prediction.because = Some(format!("{over}{because}"));
            prediction.change = change;
        }
        check.prediction = Some(prediction);
    }

    builder.predicted = predicted;
}

/// The family of all flows that are predicted otherwise than a check expects, where it has flows of
/// the other family too.
fn contradicting_family(
    check: &Check,
    flows: &[Flow],
    predicted: &BTreeMap<FlowId, Expected>,
) -> Option<Families> {
    let family = |flow: &FlowId| flows[flow.0 as usize].family();
    let contradicts = |flow: &&FlowId| {
        predicted
            .get(flow)
            .is_some_and(|answer| *answer != check.expected)
    };
    let of_contradicting = Families::of(check.flows.iter().filter(contradicts).map(family));
    let of_check = Families::of(check.flows.iter().map(family));
    of_contradicting.filter(|_| of_contradicting != of_check)
}

/// The answer that all flows share, or `Some(None)` where they differ. `None` where some flow has
/// no answer, unless the others differ already.
#[expect(clippy::option_option, reason = "no answer, or different answers")]
fn common_answer(flows: &[Option<Expected>]) -> Option<Option<Expected>> {
    let mut known = flows.iter().flatten();
    let first = known.next()?;
    if known.any(|other| other != first) {
        return Some(None);
    }
    flows.iter().all(Option::is_some).then_some(Some(*first))
}

/// Evaluates the policies for flows of a plan.
pub(super) struct Predictions<'a> {
    inventory: &'a Inventory,
    predictor: Predictor<'a>,
    explainer: Explainer<'a>,
    pods: HashMap<(&'a str, &'a str), usize>,
    /// Services by namespace and name, with the indexes of the pods that they select.
    services: HashMap<(&'a str, &'a str), (&'a Service, Vec<usize>)>,
}

/// Pairs of classes that policies treat in the same way, with port and family.
pub(super) type SeenClasses = HashSet<(usize, usize, Port, Family)>;

/// Where the packets of a flow arrive, and at what port.
struct Arrival<'e> {
    end: EndpointRef<'e>,
    port: Port,
}

impl<'a> Predictions<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let pods = inventory.pods.iter().enumerate();
        let by_namespace = PodsByNamespace::of(inventory);
        Ok(Self {
            inventory,
            predictor: Predictor::new(inventory)?,
            explainer: Explainer::new(inventory)?,
            pods: pods
                .map(|(number, pod)| ((pod.namespace.as_str(), pod.name.as_str()), number))
                .collect(),
            services: inventory
                .services
                .iter()
                .map(|service| {
                    let name = (service.namespace.as_str(), service.name.as_str());
                    (name, (service, by_namespace.behind(service)))
                })
                .collect(),
        })
    }

    /// The explainer of the same policies.
    pub(super) fn explainer(&self) -> &Explainer<'a> {
        &self.explainer
    }

    /// What the policies say of a flow; `None` where they do not give one answer, or where an end
    /// is not known.
    pub(super) fn flow(&mut self, source: &Source, flow: &Flow) -> Option<Expected> {
        let from = self.from(source, flow.family())?;
        let arrivals = self.arrivals(flow)?;
        let family = flow.family();
        let mut answers = arrivals.iter().map(|arrival| {
            self.predictor
                .allowed(from, arrival.end, family)
                .contains(arrival.port)
        });
        let first = answers.next()?;
        if answers.any(|other| other != first) {
            return None;
        }
        Some(if first && !self.is_stopped_at_dns(from, flow) {
            Expected::Allowed
        } else {
            Expected::Denied
        })
    }

    /// Why what the policies say of a flow depends on addresses that are not known; `None` where it
    /// does not. [`Predictions::flow`] gives the answer for the addresses that the lab invented.
    fn why_unknown(&mut self, source: &Source, flow: &Flow) -> Option<String> {
        let family = flow.family();
        let from = self.from(source, family)?;
        let arrivals = self.arrivals(flow)?;
        let arrival = arrivals.iter().find(|arrival| {
            let unknown = self.predictor.unknown(from, arrival.end, family);
            unknown.contains(arrival.port)
        })?;
        Some(self.unknown_because(from, arrival.end))
    }

    /// The sentence that an answer depends on addresses that are not known, with the rule.
    fn unknown_because(&self, from: EndpointRef<'_>, to: EndpointRef<'_>) -> String {
        let rule = self.explainer.rule_by_unknown_address(from, to);
        let rule = rule.map_or(String::new(), |rule| format!(": {rule}"));
        format!("the answer depends on addresses of pods or nodes, which are not given{rule}")
    }

    /// The class of a source that sends in a family: policies treat sources of one class in the same
    /// way. `None` for a source of which no policy speaks.
    pub(super) fn source_class(&self, source: &Source, family: Family) -> Option<usize> {
        self.predictor.class_of(self.from(source, family)?)
    }

    /// The class of a target at an address; `None` for one that is more than one place.
    pub(super) fn target_class(&self, target_kind: &TargetKind, address: IpAddr) -> Option<usize> {
        self.predictor.class_of(self.end_at(target_kind, address)?)
    }

    /// The class of a pod, by its index into the inventory.
    pub(super) fn class_of_pod(&self, pod: usize) -> Option<usize> {
        self.predictor.class_of(EndpointRef::Pod(pod))
    }

    /// Every port that policies admit from a class of sources to a class of targets.
    pub(super) fn admitted(&mut self, from: usize, to: usize, family: Family) -> PortSet {
        self.predictor.allowed_between(from, to, family)
    }

    /// Why policies admit a port from a source to a target, in one sentence.
    pub(super) fn why_admitted(
        &self,
        source: &Source,
        (target_kind, address): (&TargetKind, IpAddr),
        port: Port,
    ) -> Option<String> {
        let family = Family::of(address);
        let from = self.from(source, family)?;
        let to = self.end_at(target_kind, address)?;
        Some(
            self.explainer
                .explain(from, to, port, Some(family))
                .because(),
        )
    }

    fn end_at<'e>(&self, target_kind: &'e TargetKind, address: IpAddr) -> Option<EndpointRef<'e>> {
        match target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } => Some(EndpointRef::Pod(self.number_of(namespace, name)?)),
            TargetKind::Node { name } => Some(EndpointRef::Node(name)),
            TargetKind::Outside { .. } => Some(EndpointRef::Address(address)),
            TargetKind::Service { .. } | TargetKind::ReferencePod { .. } => None,
        }
    }

    /// Why, for every place where the packets of a flow may arrive.
    pub(super) fn explain(&self, source: &Source, flow: &Flow) -> Vec<Explanation> {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return Vec::new();
        };

        arrivals
            .iter()
            .map(|arrival| {
                self.explainer
                    .explain(from, arrival.end, arrival.port, Some(family))
            })
            .collect()
    }

    /// The policies and rules that match a flow, for every place where its packets may arrive;
    /// without pairs that policies treat like others in `seen`.
    pub(super) fn new_matches(
        &self,
        source: &Source,
        flow: &Flow,
        seen: &mut SeenClasses,
    ) -> Vec<MatchedPolicy> {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return Vec::new();
        };
        let source = self.predictor.class_of(from);
        let mut unseen = Vec::new();
        for Arrival { end, port } in arrivals {
            // A node always reaches its own pods: which node it is matters too.
            let known = matches!(from, EndpointRef::Pod(_) | EndpointRef::Address(_))
                .then(|| Some((source?, self.predictor.class_of(end)?, port, family)))
                .flatten();
            if known.is_none_or(|pair| seen.insert(pair)) {
                unseen.extend(self.predictor.matched_policies(from, end, port, family));
            }
        }
        unseen
    }

    /// Policies that are in force, by direction, with the places of their rules.
    pub(super) fn rules(
        &self,
    ) -> impl Iterator<Item = (&PolicyName, Direction, impl Iterator<Item = &str>)> {
        self.explainer.rules()
    }

    /// What is not certain about the policies of the whole cluster.
    pub(super) fn caveats(&self) -> Vec<String> {
        self.explainer.caveats()
    }

    /// What each side of a flow lets through by itself; `None` where no policy applies.
    pub(super) fn sides(
        &mut self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        family: Family,
    ) -> Option<BothSides> {
        self.predictor.sides(from, to, family)
    }

    /// The policies in force that select a pod.
    pub(super) fn selecting(&self, pod: usize, direction: Direction) -> Vec<&PolicyName> {
        self.explainer.selecting(pod, direction)
    }

    /// Whether any policy in force selects a pod for a direction; `None` for a pod that is not known.
    pub(super) fn is_isolated(
        &self,
        (namespace, name): (&str, &str),
        direction: Direction,
    ) -> Option<bool> {
        let pod = self.number_of(namespace, name)?;
        Some(!self.selecting(pod, direction).is_empty())
    }

    /// The number of a pod, its index in the inventory.
    pub(super) fn number_of(&self, namespace: &str, name: &str) -> Option<usize> {
        self.pods.get(&(namespace, name)).copied()
    }

    /// Why the answer for the first place where the packets of a flow may arrive is not as
    /// expected, and what would change it.
    fn why(
        &mut self,
        source: &Source,
        flow: &Flow,
        expected: Expected,
    ) -> (String, Option<String>) {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return (String::new(), None);
        };
        let expects_allowed = expected == Expected::Allowed;
        let first = arrivals.iter().find(|arrival| {
            let answer = self
                .explainer
                .explain(from, arrival.end, arrival.port, Some(family));
            answer.allowed != expects_allowed
        });
        if let Some(arrival) = first {
            let mut advised = self
                .explainer
                .advise(from, arrival.end, arrival.port, Some(family));
            hide_invented_address(&mut advised, arrival.end, self.inventory);
            (
                advised.because(),
                advised.changes.first().map(|change| change.text.clone()),
            )
        } else {
            let name = flow
                .to
                .name
                .as_deref()
                .unwrap_or_default()
                .trim_end_matches('.');
            (
                format!("{source} may not ask cluster DNS, so it cannot look up {name}"),
                None,
            )
        }
    }

    fn from<'e>(&self, source: &'e Source, family: Family) -> Option<EndpointRef<'e>> {
        match source {
            Source::Pod {
                namespace, name, ..
            } => Some(EndpointRef::Pod(self.number_of(namespace, name)?)),
            Source::Node { name } => Some(EndpointRef::Node(name)),
            Source::ReferencePod { .. } => None,
            Source::Runner => self
                .inventory
                .runner
                .iter()
                .find(|address| Family::of(**address) == family)
                .map(|address| EndpointRef::Address(*address)),
        }
    }

    /// Whether policies keep a flow's source from resolving the flow's name: it must be allowed to
    /// reach the pods of cluster DNS.
    fn is_stopped_at_dns(&mut self, from: EndpointRef<'_>, flow: &Flow) -> bool {
        flow.to.name.is_some() && self.is_kept_from_dns(from)
    }

    /// Whether a source is a pod that policies keep from cluster DNS.
    fn is_kept_from_dns(&mut self, from: EndpointRef<'_>) -> bool {
        if !matches!(from, EndpointRef::Pod(_)) {
            return false;
        }
        let Some((dns, pods)) = self.services.get(&("kube-system", "kube-dns")) else {
            return false;
        };
        let asked = Port::new(53, Transport::Udp);
        let arrivals = asked
            .and_then(|port| self.behind(dns, pods, port))
            .unwrap_or_default();
        // A name server may be asked in either family: the pod asks in whichever its resolv.conf
        // names first.
        let family = dns
            .addresses
            .first()
            .map_or(Family::V4, |address| Family::of(*address));
        !arrivals.is_empty()
            && arrivals.iter().all(|arrival| {
                !self
                    .predictor
                    .allowed(from, arrival.end, family)
                    .contains(arrival.port)
            })
    }

    fn arrivals<'f>(&self, flow: &'f Flow) -> Option<Vec<Arrival<'f>>> {
        let port = Port::new(flow.to.port, model_transport(flow.to.transport))?;
        match &*flow.target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } => Some(vec![Arrival {
                end: EndpointRef::Pod(self.number_of(namespace, name)?),
                port,
            }]),
            TargetKind::Service {
                service: ObjectRef {
                    namespace, name, ..
                },
                ..
            } => {
                let (service, pods) = self.services.get(&(namespace.as_str(), name.as_str()))?;
                self.behind(service, pods, port)
            }
            TargetKind::Node { name } => Some(vec![Arrival {
                end: EndpointRef::Node(name),
                port,
            }]),
            // No policy selects a reference pod, and no check's target is one.
            TargetKind::ReferencePod { .. } => None,
            TargetKind::Outside { .. } => Some(vec![Arrival {
                end: EndpointRef::Address(flow.to.address),
                port,
            }]),
        }
    }

    /// The pods behind a Service's port, and their own port: policies see packets after
    /// translation.
    fn behind<'e>(
        &self,
        service: &Service,
        selected: &[usize],
        port: Port,
    ) -> Option<Vec<Arrival<'e>>> {
        let service_port = service.ports.iter().find(|known| known.port == port)?;
        let mut arrivals = Vec::new();
        for number in selected.iter().copied() {
            let pod = &self.inventory.pods[number];
            if !(pod.ready || service.publish_not_ready) {
                continue;
            }
            let target = service_port
                .target
                .number_on(pod, port.transport())
                .and_then(|target| Port::new(target, port.transport()));
            arrivals.extend(target.map(|port| Arrival {
                end: EndpointRef::ServicePod(number),
                port,
            }));
        }
        Some(arrivals)
    }
}

/// An explanation, and the flows that it fits.
#[derive(Debug, serde::Serialize)]
pub struct FlowExplanation {
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The family of these flows, where flows of the other family are explained otherwise.
    pub family: Option<Family>,
    /// How many more flows it fits.
    #[serde(skip)]
    pub others: usize,
}

/// Why policies allow or deny the flows of all checks, and what would change the answer: one
/// explanation for all flows that it fits.
///
/// # Errors
/// [`InvalidPolicy`]: the first policy that no API server would have taken.
pub fn explain_flows(
    plan: &Plan,
    inventory: &Inventory,
) -> Result<Vec<FlowExplanation>, InvalidPolicy> {
    let mut predictions = Predictions::new(inventory)?;
    let mut explanations: Vec<FlowExplanation> = Vec::new();
    // Of the flows of each explanation, one family each.
    let mut families: Vec<Vec<Family>> = Vec::new();
    for flow in plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow))
    {
        let (family, arrivals) = (flow.family(), predictions.arrivals(flow));
        let Some(from) = predictions.from(plan.source(flow.probe), family) else {
            continue;
        };
        for Arrival { end, port } in arrivals.unwrap_or_default() {
            let explanation = predictions.explainer.explain(from, end, port, Some(family));
            let known = explanations
                .iter_mut()
                .zip(&mut families)
                .find(|(known, _)| known.explanation.is_like(&explanation));
            if let Some((known, families)) = known {
                known.others += 1;
                families.push(family);
                continue;
            }
            let mut advised = predictions.explainer.advise(from, end, port, Some(family));
            hide_invented_address(&mut advised, end, inventory);
            let unknown = predictions.predictor.unknown(from, end, family);
            advised.depends_on_addresses = unknown
                .contains(port)
                .then(|| predictions.unknown_because(from, end));
            if predictions.is_kept_from_dns(from) {
                let only =
                    "(53/udp of kube-system/kube-dns): it reaches nothing by name, only by address";
                advised
                    .notes
                    .push(format!("{} may not ask cluster DNS {only}", advised.from));
            }
            if let (EndpointRef::Pod(pod), EndpointRef::ServicePod(itself)) = (from, end)
                && pod == itself
            {
                let differ =
                    "network plugins differ about a pod that reaches itself through a Service";
                advised.notes.push(format!(
                    "{differ}: some let it through, whatever the policies say"
                ));
            }
            for change in &mut advised.changes {
                change.side_effects = Some(
                    predictions
                        .explainer
                        .side_effects(change, from, end, port)?,
                );
            }
            explanations.push(FlowExplanation {
                explanation: advised,
                family: None,
                others: 0,
            });
            families.push(vec![family]);
        }
    }
    name_families(&mut explanations, &families);
    Ok(explanations)
}

/// Names the family of each explanation that fits flows of one family only, where both families
/// are explained.
fn name_families(explanations: &mut [FlowExplanation], families: &[Vec<Family>]) {
    let of_all = Families::of(families.iter().flatten().copied());
    for (explanation, families) in explanations.iter_mut().zip(families) {
        if Families::of(families.iter().copied()) != of_all {
            explanation.family = families.first().copied();
        }
    }
}

/// Replaces an address that the lab invented in advice by the host's name: no policy should admit an
/// address that does not exist.
fn hide_invented_address(advised: &mut Explanation, end: EndpointRef<'_>, inventory: &Inventory) {
    let EndpointRef::Address(address) = end else {
        return;
    };
    let Some(host) = inventory.invented_at(address) else {
        return;
    };

    let block = match Family::of(address) {
        Family::V4 => format!("{address}/32"),
        Family::V6 => format!("{address}/128"),
    };
    let hidden = format!("ADDRESS-OF-{host}");
    for change in &mut advised.changes {
        change.text = change
            .text
            .replace(&block, &hidden)
            .replace(&address.to_string(), &hidden);
    }
    advised.notes.push(format!(
        "no address of {host} is given: {address} is invented, and stands for whatever it has"
    ));
}

/// At most so many checks are named in notes of one kind.
const SHOWN: usize = 5;

/// Notes on checks whose prediction depends on addresses that are not known; the first few.
fn unknown_predictions(checks: &[Check]) -> Vec<String> {
    let notes = checks.iter().filter_map(|check| {
        let why = check.prediction_unknown.as_ref()?;
        Some(format!("{} is not predicted: {why}", check.name))
    });
    first_few(notes, |more| {
        format!("and {more} more checks are not predicted, for the same reason")
    })
}

/// Notes on checks that the policies contradict; the first few.
fn contradictions(checks: &[Check]) -> Vec<String> {
    let notes = checks
        .iter()
        .filter_map(|check| Some(format!("{}: {}", check.name, check.contradiction()?)));
    first_few(notes, |more| {
        format!("the policies contradict {more} more checks: watertight plan shows each")
    })
}

/// The first of some notes, and a last one on how many more there are.
fn first_few(
    mut notes: impl Iterator<Item = String>,
    on_more: impl FnOnce(usize) -> String,
) -> Vec<String> {
    let mut shown: Vec<String> = notes.by_ref().take(SHOWN).collect();
    let more = notes.count();
    if more > 0 {
        shown.push(on_more(more));
    }
    shown
}
