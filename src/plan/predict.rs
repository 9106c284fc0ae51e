//! What the policies say of each flow and each check, before any packet.
//!
//! A prediction is shown beside what is expected and what is observed, and it may choose what is
//! tried. It never enters a verdict: nothing in `verdict` can reach it.

use super::builder::Builder;
use super::endpoints::{selects, target_on};
use super::transport::model_transport;
use super::{Check, Flow, FlowId, Plan, Prediction, Source, TargetKind};
use crate::inventory::{Inventory, Pod, Service};
use crate::model::{Family, ObjectRef, Port, Transport};
use crate::policy::{
    BothSides, Direction, EndpointRef, Explainer, Explanation, InvalidPolicy, MatchedPolicy,
    PolicyName, Predictor,
};
use crate::suite::Expected;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// Predicts every flow that is planned, and every check.
pub(super) fn add(builder: &mut Builder, this: &mut Predictions<'_>) {
    let mut predicted = BTreeMap::new();
    for (index, flow) in builder.flows.iter().enumerate() {
        let source = &builder.probes[flow.probe.0 as usize];
        if let Some(answer) = this.flow(source, flow) {
            predicted.insert(FlowId(index as u32), answer);
        }
    }
    for check in builder.checks.iter_mut().chain(&mut builder.swept) {
        let known = check
            .flows
            .iter()
            .map(|flow| predicted.get(flow).copied())
            .collect::<Vec<_>>();
        let Some(answer) = sum(&known) else { continue };
        check.prediction = Some(Prediction {
            answer,
            because: None,
            change: None,
        });
        if answer != Some(check.expected)
            && let Some(flow) = check.flows.iter().find(|flow| {
                predicted
                    .get(flow)
                    .is_some_and(|one| *one != check.expected)
            })
        {
            let of = &builder.flows[flow.0 as usize];
            let (because, change) = this.why(&builder.probes[of.probe.0 as usize], of, check);
            check.prediction = Some(Prediction {
                answer,
                because: Some(because),
                change,
            });
        }
    }
    builder.predicted = predicted;
    let told = contradictions(&builder.checks);
    builder.notes.extend(told);
}

/// The answer of all flows: one that they share, or none where they differ (`Some(None)`). Nothing
/// is said of a check of which any flow is not known, unless the known ones differ already.
#[expect(clippy::option_option, reason = "nothing to say, or that they differ")]
fn sum(flows: &[Option<Expected>]) -> Option<Option<Expected>> {
    let mut known = flows.iter().flatten();
    let first = known.next()?;
    if known.any(|other| other != first) {
        return Some(None);
    }
    flows.iter().all(Option::is_some).then_some(Some(*first))
}

/// The policies, asked about flows of a plan.
pub(super) struct Predictions<'a> {
    inventory: &'a Inventory,
    predictor: Predictor<'a>,
    explainer: Explainer<'a>,
    pods: HashMap<(&'a str, &'a str), usize>,
    services: HashMap<(&'a str, &'a str), &'a Service>,
}

/// Pairs of those that policies treat alike, with port and family.
pub(super) type Seen = HashSet<(usize, usize, Port, Family)>;

/// Where the packets of a flow end, and at what port.
struct Arrival<'e> {
    end: EndpointRef<'e>,
    port: Port,
}

impl<'a> Predictions<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let pods = inventory.pods.iter().enumerate();
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
                .map(|service| ((service.namespace.as_str(), service.name.as_str()), service))
                .collect(),
        })
    }

    /// What the policies say of a flow; nothing where they do not say one thing, or where an end is
    /// not known.
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
        Some(if first && !self.is_stopped_at_names(from, flow) {
            Expected::Allowed
        } else {
            Expected::Denied
        })
    }

    /// Why, for every place where the packets of a flow may end.
    pub(super) fn explain(&self, source: &Source, flow: &Flow) -> Vec<Explanation> {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return Vec::new();
        };
        let walk = |arrival: &Arrival<'_>| {
            self.explainer
                .explain(from, arrival.end, arrival.port, Some(family))
        };
        arrivals.iter().map(walk).collect()
    }

    /// Which policies and rules a flow meets, for every place where its packets may end; nothing
    /// between those that policies treat like others that were seen.
    pub(super) fn met_unseen(
        &self,
        source: &Source,
        flow: &Flow,
        seen: &mut Seen,
    ) -> Vec<MatchedPolicy> {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return Vec::new();
        };
        let source = self.predictor.class_of(from);
        let mut unseen = Vec::new();
        for Arrival { end, port } in arrivals {
            // A node reaches its own pods, whatever policies say: which node it is counts too.
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

    /// What each side of a flow lets through by itself; nothing where no policy is asked.
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

    /// Why, for the first place where the packets of a flow may end that is not as expected; and
    /// what would change it.
    fn why(&mut self, source: &Source, flow: &Flow, check: &Check) -> (String, Option<String>) {
        let family = flow.family();
        let (Some(from), Some(arrivals)) = (self.from(source, family), self.arrivals(flow)) else {
            return (String::new(), None);
        };
        let expected = check.expected == Expected::Allowed;
        let explain = |end, port| self.explainer.explain(from, end, port, Some(family));
        let advise = |end, port| self.explainer.advise(from, end, port, Some(family));
        let first = arrivals
            .iter()
            .find(|arrival| explain(arrival.end, arrival.port).allowed != expected);
        if let Some(arrival) = first {
            let walk = advise(arrival.end, arrival.port);
            (
                walk.because(),
                walk.changes.first().map(|change| change.text.clone()),
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
            } => Some(EndpointRef::Pod(
                *self.pods.get(&(namespace.as_str(), name.as_str()))?,
            )),
            Source::Node { name } => Some(EndpointRef::Node(name)),
            Source::ReferencePod { .. } => None,
            Source::Runner => {
                let fits = |address: &&IpAddr| Family::of(**address) == family;
                self.inventory
                    .runner
                    .iter()
                    .find(fits)
                    .map(|address| EndpointRef::Address(*address))
            }
        }
    }

    /// A name is asked of cluster DNS, whose pods the source must be allowed to reach.
    fn is_stopped_at_names(&mut self, from: EndpointRef<'_>, flow: &Flow) -> bool {
        flow.to.name.is_some() && self.may_not_ask_names(from)
    }

    /// Whether a source is a pod that policies keep from cluster DNS.
    fn may_not_ask_names(&mut self, from: EndpointRef<'_>) -> bool {
        if !matches!(from, EndpointRef::Pod(_)) {
            return false;
        }
        let Some(dns) = self.services.get(&("kube-system", "kube-dns")).copied() else {
            return false;
        };
        let asked = Port::new(53, Transport::Udp);
        let arrivals = asked
            .and_then(|port| self.behind(dns, port))
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
            } => {
                let number = self.pods.get(&(namespace.as_str(), name.as_str()))?;
                Some(vec![Arrival {
                    end: EndpointRef::Pod(*number),
                    port,
                }])
            }
            TargetKind::Service {
                service: ObjectRef {
                    namespace, name, ..
                },
                ..
            } => self.behind(
                self.services.get(&(namespace.as_str(), name.as_str()))?,
                port,
            ),
            TargetKind::Node { name } => Some(vec![Arrival {
                end: EndpointRef::Node(name),
                port,
            }]),
            // A witness is past all policies, and no check's target.
            TargetKind::ReferencePod { .. } => None,
            TargetKind::Outside { .. } => Some(vec![Arrival {
                end: EndpointRef::Address(flow.to.address),
                port,
            }]),
        }
    }

    /// The pods behind a Service's port, and their own port: policies see packets after
    /// translation.
    fn behind<'e>(&self, service: &Service, port: Port) -> Option<Vec<Arrival<'e>>> {
        let of = service.ports.iter().find(|of| of.port == port)?;
        let target = |pod: &Pod| {
            Port::new(
                target_on(&of.target, port.transport(), pod)?,
                port.transport(),
            )
        };
        let backends =
            self.inventory.pods.iter().enumerate().filter(|(_, pod)| {
                selects(service, pod) && (pod.ready || service.publish_not_ready)
            });
        Some(
            backends
                .filter_map(|(number, pod)| {
                    Some(Arrival {
                        end: EndpointRef::ServicePod(number),
                        port: target(pod)?,
                    })
                })
                .collect(),
        )
    }
}

/// Why policies allow or deny the flows of all checks, and what would turn the answer: one
/// explanation for all that are alike, and how many more there are.
///
/// # Errors
/// [`InvalidPolicy`]: the first policy that no API server would have taken.
pub fn explain_flows(
    plan: &Plan,
    inventory: &Inventory,
) -> Result<Vec<(Explanation, usize)>, InvalidPolicy> {
    let mut this = Predictions::new(inventory)?;
    let mut told: Vec<(Explanation, usize)> = Vec::new();
    for flow in plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow))
    {
        let (family, arrivals) = (flow.family(), this.arrivals(flow));
        let Some(from) = this.from(plan.source(flow.probe), family) else {
            continue;
        };
        for Arrival { end, port } in arrivals.unwrap_or_default() {
            let walk = this.explainer.explain(from, end, port, Some(family));
            if let Some((_, alike)) = told.iter_mut().find(|(known, _)| known.is_like(&walk)) {
                *alike += 1;
                continue;
            }
            let mut advised = this.explainer.advise(from, end, port, Some(family));
            if this.may_not_ask_names(from) {
                let only =
                    "(53/udp of kube-system/kube-dns): it reaches nobody by name, only by address";
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
                change.side_effects = Some(this.explainer.side_effects(change, from, end, port)?);
            }
            told.push((advised, 0));
        }
    }
    Ok(told)
}

/// What the suite expects and the policies cannot do, for people; the first few.
fn contradictions(checks: &[Check]) -> Vec<String> {
    const TOLD: usize = 5;
    let told = checks
        .iter()
        .filter_map(|check| Some(format!("{}: {}", check.name, check.contradiction()?)));
    let mut notes: Vec<String> = told.clone().take(TOLD).collect();
    let more = told.count().saturating_sub(TOLD);
    if more > 0 {
        notes.push(format!(
            "the policies contradict {more} more checks: watertight plan shows each"
        ));
    }
    notes
}
