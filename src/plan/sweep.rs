//! Sweep of a workload: everything that is known and that no line names is tried once.
//!
//! Tried are the declared ports of all other pods and of siblings, all Services at their ports,
//! nodes at the ports that clusters use themselves and at `NodePorts`, addresses at which clouds
//! answer about a machine, and whatever outside the suites name. What a check of this
//! workload covers is left to that check. A success violates; silence says only "closed or denied"
//! and is no check.
//!
//! # Limitations
//! - One pod of the workload sends, the first that is ready; each target is tried once.
//! - UDP is tried where something is known to answer; SCTP is not.
//! - A port that nothing declares is not known, and not tried: a line with a range sweeps those.

use super::addresses::{Addressing, may_come_back, source_of};
use super::builder::Builder;
use super::endpoints::{
    EndpointKind, ResolvedEndpoint, ResolvedPort, cluster_addresses, resolve_endpoint,
};
use super::outside::rule_by_address;
use super::request::{RequestSpec, request_spec};
use super::resolve::PlanError;
use super::{BackendKind, CheckSettings};
use super::{Check, LineRef, Provability, Scope, Source, TargetKey, TargetKind};
use crate::inventory::{Inventory, Pod};
use crate::model::{ObjectRef, Port, Transport, WorkloadKind, WorkloadRef};
use crate::policy::Explainer;
use crate::source::Place;
use crate::suite::{
    Endpoint, Expected, INSTANCE_METADATA, Locator, PortItem, Settings, Spread, WIRE_SERVER,
};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which clouds serve a machine's metadata, with its credentials: most clouds,
/// Alibaba Cloud, Azure's host agent, AWS over IPv6 (each cloud's documentation of its instance
/// metadata).
pub const METADATA: [IpAddr; 4] = [
    INSTANCE_METADATA,
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    WIRE_SERVER,
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Their port.
pub const METADATA_PORT: u16 = 80;

/// Ports on which nodes listen: etcd, the API server, the kubelet, and the kubelet without
/// authentication (Kubernetes, "Ports and Protocols").
const ON_NODES: [u16; 4] = [2379, 6443, 10_250, 10_255];

/// Addresses and ports that a check of the workload covers.
type Covered = BTreeSet<(IpAddr, u16, wire::Transport)>;

/// Adds the sweep of one workload.
///
/// # Errors
/// [`PlanError::NoWorkload`].
pub(super) fn add(
    builder: &mut Builder,
    addressing: &Addressing<'_>,
    backend: BackendKind,
    workload: &ObjectRef,
    explainer: Option<&Explainer<'_>>,
) -> Result<(), PlanError> {
    let source = Endpoint::of(&workload.to_string(), locator(workload)?);
    let found = resolve_endpoint(&source, addressing.inventory);
    let Some(source) = addressing
        .sources(&found, Some(Spread::One))
        .into_iter()
        .next()
    else {
        return Err(PlanError::NoWorkload(found.absence(addressing.inventory)));
    };
    let own: BTreeSet<Source> = found.pods.iter().map(|pod| source_of(pod)).collect();
    let covered = covered(builder, &own);
    let outside = named_outside(builder);
    let mut sweep = Sweep {
        builder,
        addressing,
        backend,
        workload,
        source: &source,
        covered,
    };
    for known in targets(addressing.inventory) {
        sweep.endpoint(&known);
    }
    for (key, target_kind, opens_at) in outside {
        // What opens at an invented address says nothing of the host's own.
        let host = addressing.inventory.invented_at(key.address);
        if host.is_some_and(|host| rule_by_address(&found, host, explainer).is_some()) {
            continue;
        }
        let label = format!("{target_kind}:{}", key.port);
        sweep.port(
            &label,
            vec![(key, target_kind)],
            opens_at,
            allow_tier(backend),
        );
    }
    Ok(())
}

fn locator(workload: &ObjectRef) -> Result<Locator, PlanError> {
    let kind = WorkloadKind::parse(&workload.kind).ok_or_else(|| {
        PlanError::NoWorkload(format!("{:?} is not a kind that has pods", workload.kind))
    })?;
    let name = workload.name.clone();
    Ok(Locator::Workload {
        namespace: workload.namespace.clone(),
        workload: WorkloadRef { kind, name },
    })
}

/// The tier that an allow would need; no swept target is expected to be allowed.
fn allow_tier(backend: BackendKind) -> crate::suite::RequiredTier {
    match backend {
        BackendKind::Lab => crate::suite::RequiredTier::A2,
        BackendKind::Cluster => crate::suite::RequiredTier::A0,
    }
}

fn place() -> Place {
    Place {
        file: "command line".to_owned(),
        line: 1,
        column: 1,
    }
}

/// What the checks of this workload go to, from any of its pods.
fn covered(builder: &Builder, own: &BTreeSet<Source>) -> Covered {
    let flows = builder
        .checks
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| &builder.flows[flow.0 as usize]);
    let of_own = flows.filter(|flow| own.contains(&builder.probes[flow.probe.0 as usize]));
    of_own
        .map(|flow| (flow.to.address, flow.to.port, flow.to.transport))
        .collect()
}

/// Targets outside that the suites name, with the requests of their checks.
fn named_outside(builder: &Builder) -> Vec<(TargetKey, TargetKind, wire::Stage)> {
    let mut named: BTreeMap<TargetKey, (TargetKind, wire::Stage)> = BTreeMap::new();
    for flow in builder
        .checks
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| &builder.flows[flow.0 as usize])
    {
        if let (TargetKind::Outside { .. }, None) = (&*flow.target_kind, &flow.to.name) {
            named.insert(
                (*flow.to).clone(),
                ((*flow.target_kind).clone(), flow.opens_at),
            );
        }
    }
    named
        .into_iter()
        .map(|(key, (target_kind, opens_at))| (key, target_kind, opens_at))
        .collect()
}

/// Endpoints for everything that is known, as a suite would define them.
fn targets(inventory: &Inventory) -> Vec<Endpoint> {
    let mut workloads: BTreeMap<String, Locator> = BTreeMap::new();
    for pod in &inventory.pods {
        let (label, locator) = owner(pod);
        workloads.insert(label, locator);
    }
    let mut targets: Vec<Endpoint> = workloads
        .into_iter()
        .map(|(label, locator)| Endpoint::of(&label, locator))
        .collect();
    for service in inventory
        .services
        .iter()
        .filter(|service| !cluster_addresses(service).is_empty())
    {
        let object = service.object();
        let mut target = Endpoint::of(&object.to_string(), Locator::Service { service: object });
        target.ports = Some(service.ports.iter().map(|port| port.port.into()).collect());
        targets.push(target);
    }
    let node_ports = inventory
        .services
        .iter()
        .flat_map(|service| &service.ports)
        .filter_map(|port| Port::new(port.node_port?, port.port.transport()));
    let on_nodes = ON_NODES
        .into_iter()
        .filter_map(|number| Port::new(number, Transport::Tcp));
    let on_nodes: BTreeSet<Port> = on_nodes.chain(node_ports).collect();
    let mut nodes = Endpoint::of("nodes", Locator::Nodes);
    nodes.ports = Some(on_nodes.into_iter().map(PortItem::from).collect());
    targets.push(nodes);
    for address in METADATA {
        let mut target = Endpoint::of(&address.to_string(), Locator::Address(address));
        target.ports = Port::new(METADATA_PORT, Transport::Tcp).map(|port| vec![port.into()]);
        targets.push(target);
    }
    targets
}

/// The outermost workload of a pod, or the pod itself.
fn owner(pod: &Pod) -> (String, Locator) {
    let workload = pod.outermost_workload();
    (
        format!("{}/{workload}", pod.namespace),
        Locator::Workload {
            namespace: pod.namespace.clone(),
            workload,
        },
    )
}

struct Sweep<'s, 'a> {
    builder: &'s mut Builder,
    addressing: &'s Addressing<'a>,
    backend: BackendKind,
    workload: &'s ObjectRef,
    source: &'s Source,
    /// Includes what is swept already.
    covered: Covered,
}

impl Sweep<'_, '_> {
    fn endpoint(&mut self, target: &Endpoint) {
        let found = resolve_endpoint(target, self.addressing.inventory);
        // Each port is resolved by itself: one that is ambiguous is left out.
        let ports: Vec<ResolvedPort> = match &target.ports {
            Some(items) => items
                .iter()
                .filter(|item| item.transport != Transport::Sctp)
                .filter_map(|item| found.port(item).ok())
                .collect(),
            None => found.known_ports(None).unwrap_or_default(),
        };
        for port in ports {
            let none = Settings::default();
            let request_spec = request_spec(&found, &port, None, &none, self.backend);
            if request_spec.unprovable.is_some() {
                continue;
            }
            let keys = self.keys(&found, &port, &request_spec);
            self.port(
                &format!("{}:{}", target.label, port.label),
                keys,
                request_spec.opens_at,
                request_spec.required_tier,
            );
        }
    }

    /// The addresses to dial: of a Service its cluster addresses, since its pods are swept apart.
    fn keys(
        &self,
        found: &ResolvedEndpoint<'_>,
        port: &ResolvedPort,
        request_spec: &RequestSpec,
    ) -> Vec<(TargetKey, TargetKind)> {
        let mut keys = self.addressing.targets(found, port, request_spec);
        if matches!(found.endpoint.locator, Locator::Service { .. }) {
            keys.retain(|(_, target_kind)| matches!(target_kind, TargetKind::Service { .. }));
        } else if matches!(found.kind, EndpointKind::Outside(_)) {
            // An address inside the cluster is swept as a pod, Service or node.
            keys.retain(|(_, target_kind)| matches!(target_kind, TargetKind::Outside { .. }));
        }
        keys
    }

    fn port(
        &mut self,
        label: &str,
        keys: Vec<(TargetKey, TargetKind)>,
        opens_at: wire::Stage,
        required_tier: crate::suite::RequiredTier,
    ) {
        let mut flows = Vec::new();
        for (key, target_kind) in keys {
            let new = self.addressing.can_connect(self.source, &key, &target_kind)
                && !may_come_back(self.source, &target_kind)
                && self.covered.insert((key.address, key.port, key.transport));
            if new {
                flows.push(self.builder.flow(
                    self.source,
                    TargetKey { once: true, ..key },
                    target_kind,
                    opens_at,
                ));
            }
        }
        if flows.is_empty() {
            return;
        }
        let none = Settings::default();
        let place = place();
        self.builder.swept.push(Check {
            name: format!("{} -> {label} denied [sweep]", self.workload),
            suite: 0,
            source: self.workload.to_string(),
            target: label.to_owned(),
            expected: Expected::Denied,
            line: LineRef {
                file: place.file,
                line: place.line,
                column: place.column,
                text: format!("--sweep {}", self.workload),
                because: Some("no line expects it to be allowed".to_owned()),
                tags: Vec::new(),
                id: Some("sweep".to_owned()),
            },
            settings: CheckSettings::of(Expected::Denied, &none, self.backend, required_tier),
            flows,
            retired: Vec::new(),
            scope: Scope {
                source_nodes: 1,
                source_kinds: 0,
                target_pods: 0,
                target_addresses: 0,
            },
            provability: Provability::Unprovable("swept once: closed or denied".into()),
            prediction: None,
            prediction_unknown: None,
        });
    }
}
