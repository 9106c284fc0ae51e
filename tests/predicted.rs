//! Random worlds: every flow that the predictor speaks of is sent through the lab with real
//! packets. The lab's compiler and the predictor share nothing, so a difference is a defect in one
//! of them.
//!
//! `WATERTIGHT_SEED` chooses the worlds, `WATERTIGHT_WORLDS` how many; both are printed. A world in
//! which a flow differs is made smaller as long as any still does, and shown.

#[path = "predicted/generate.rs"]
mod generate;
#[path = "lab/support.rs"]
#[expect(dead_code, reason = "what the lab's own checks need besides")]
mod support;
#[path = "common/worlds.rs"]
#[expect(dead_code, reason = "these tests plan no suite")]
mod worlds;

use generate::Sketch;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use support::{Check, Flow, Lab, Seen, say};
use watertight::backend::lab::{Deny, World};
use watertight::model::{Family, Port, Transport};
use watertight::plan::{NodeEndpoint, Source};
use watertight::policy::{EndpointRef, Explainer, Explanation, Predictor};
use watertight::wire;

/// Worlds of a run, unless `WATERTIGHT_WORLDS` says otherwise.
const WORLDS: u32 = 64;
/// How often a flow that should open is tried.
const TRIES: u32 = 4;
/// How often all flows of a world are tried again when a probe was starved of CPU time.
const STARVED_TRIES: u32 = 100;
/// How often a world that differs is made smaller, at the most.
const SHRINKS: u32 = 150;

fn main() -> ExitCode {
    support::main(&[], &[check!(policies_do_with_packets_what_is_predicted)])
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// A flow, and whether policies allow it.
struct Predicted {
    flow: Flow,
    allowed: bool,
    name: String,
    /// What rules of cluster-wide policies did with it.
    by_cluster_policies: BTreeSet<String>,
}

/// How many flows did as predicted.
#[derive(Default)]
struct Tally {
    flows: usize,
    denied: usize,
    /// Those of them with which a rule of a cluster-wide policy did something, by what it did.
    by_cluster_policies: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, one: &Predicted) {
        self.flows += 1;
        self.denied += usize::from(!one.allowed);
        for action in &one.by_cluster_policies {
            *self.by_cluster_policies.entry(action.clone()).or_default() += 1;
        }
    }
}

async fn policies_do_with_packets_what_is_predicted() {
    let seed = number("WATERTIGHT_SEED", 20_261_125);
    let worlds = number("WATERTIGHT_WORLDS", u64::from(WORLDS));
    say(&format!("seed {seed}, {worlds} worlds"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(
        Config {
            failure_persistence: None,
            ..Config::default()
        },
        rng,
    );
    let mut tally = Tally::default();

    for _ in 0..worlds {
        let mut tree = generate::world().new_tree(&mut runner).expect("a world");
        match differences(&tree.current()).await {
            Ok(predicted) => predicted.iter().for_each(|one| tally.count(one)),
            Err(mut differing) => {
                let mut smallest = tree.current();
                for _ in 0..SHRINKS {
                    if !tree.simplify() {
                        break;
                    }
                    while let Err(found) = differences(&tree.current()).await {
                        (differing, smallest) = (found, tree.current());
                        if !tree.simplify() {
                            break;
                        }
                    }
                    if !tree.complicate() {
                        break;
                    }
                }
                panic!(
                    "seed {seed}: packets and prediction differ in this world:\n{}\n{differing}",
                    smallest.manifests()
                );
            }
        }
    }
    let Tally {
        flows,
        denied,
        by_cluster_policies,
    } = tally;
    say(&format!(
        "{flows} flows as predicted, {denied} of them denied; by cluster-wide rules: {by_cluster_policies:?}"
    ));

    assert!(
        denied * 10 > flows && denied * 10 < flows * 9,
        "such worlds show little: {denied} of {flows} are denied"
    );

    for action in ["Accept", "Deny", "Pass"] {
        let hit = by_cluster_policies.get(action).copied().unwrap_or_default();
        assert!(
            hit * 100 > flows,
            "such worlds show little of {action}: {hit} of {flows}"
        );
    }
}

/// The flows, if all did as predicted; or what differs.
async fn differences(sketch: &Sketch) -> Result<Vec<Predicted>, String> {
    let world = sketch.world();
    let predicted = predict(&world);
    let mut lab = Lab::of(world, Deny::Reset).await;
    let mut differing: Vec<(&Predicted, Seen)> = Vec::new();
    // A success is final. A flow that should open and did not may have hit a busy machine: it is
    // tried again.
    let mut open: Vec<&Predicted> = predicted.iter().collect();

    for _ in 0..TRIES {
        let flows: Vec<Flow> = open.iter().map(|one| one.flow.clone()).collect();
        let seen = observe_until_not_starved(&mut lab, &flows).await;
        let differs = open
            .into_iter()
            .zip(seen)
            .filter(|(predicted, seen)| predicted.allowed != seen.is_open());
        let (leaks, blocked): (Vec<_>, Vec<_>) = differs.partition(|(_, seen)| seen.is_open());
        differing.extend(leaks);
        open = blocked.iter().map(|(predicted, _)| *predicted).collect();
        if open.is_empty() {
            break;
        }
    }
    lab.down().await;
    let mut lines: Vec<String> = differing
        .iter()
        .map(|(one, seen)| format!("OPEN: {}; {seen:?}", one.name))
        .collect();
    lines.extend(open.iter().map(|one| format!("BLOCKED: {}", one.name)));
    if lines.is_empty() {
        Ok(predicted)
    } else {
        Err(lines.join("\n"))
    }
}

/// The observation of each flow, repeated as long as a busy machine starves the probes.
async fn observe_until_not_starved(lab: &mut Lab, flows: &[Flow]) -> Vec<Seen> {
    for _ in 0..STARVED_TRIES {
        if let Some(seen) = lab.observe_once(flows).await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("the machine is too busy for any probe");
}

/// Every flow of a world to an address and port with a listener, with the prediction of its
/// policies. The predictor and the explainer must agree.
fn predict(world: &World) -> Vec<Predicted> {
    let inventory = world.inventory();
    let mut predictor = Predictor::new(inventory).expect("valid");
    let explainer = Explainer::new(inventory).expect("valid");
    let mut sources: Vec<(Source, EndpointRef<'_>)> = Vec::new();

    for (index, pod) in inventory
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| pod.namespace != "kube-system")
    {
        // A pod of its node's network sends from there.
        if !pod.host_network {
            let (namespace, name, node) = (pod.namespace.clone(), pod.name.clone(), String::new());
            sources.push((
                Source::Pod {
                    namespace,
                    name,
                    node,
                },
                EndpointRef::Pod(index),
            ));
        }
    }

    for node in &inventory.nodes {
        sources.push((
            Source::Node {
                name: node.name.clone(),
            },
            EndpointRef::Node(&node.name),
        ));
    }
    let mut targets: Vec<(EndpointRef<'_>, SocketAddr, Port)> = Vec::new();

    for (index, pod) in inventory
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| pod.namespace != "kube-system")
    {
        for declared in pod
            .ports
            .iter()
            .filter(|declared| declared.port.transport() != Transport::Sctp)
        {
            for address in &pod.addresses {
                targets.push((
                    EndpointRef::Pod(index),
                    SocketAddr::new(*address, declared.port.number()),
                    declared.port,
                ));
            }
        }
    }
    let first = inventory
        .pods
        .iter()
        .position(|pod| pod.name == "p0")
        .expect("the first pod");
    let http = inventory.pods[first]
        .named_port("http", Transport::Tcp)
        .expect("its port");
    let service = inventory
        .services
        .iter()
        .find(|service| service.name == generate::SERVICE)
        .expect("its Service");
    let addresses = service
        .addresses
        .iter()
        .map(|address| SocketAddr::new(*address, generate::SERVICE_PORT));
    targets.extend(addresses.map(|address| (EndpointRef::ServicePod(first), address, http)));

    for address in inventory.hosts.values().flatten() {
        for number in generate::OUTSIDE_PORTS {
            let port = Port::new(number, Transport::Tcp).expect("a port");
            targets.push((
                EndpointRef::Address(*address),
                SocketAddr::new(*address, number),
                port,
            ));
        }
    }
    let Some(NodeEndpoint::Responder(on_nodes)) = world.control_endpoints().on_nodes else {
        panic!("nodes answer")
    };

    for node in &inventory.nodes {
        let port = Port::new(on_nodes, Transport::Tcp).expect("a port");
        let addresses = node
            .addresses
            .iter()
            .map(|address| SocketAddr::new(*address, on_nodes));
        targets.extend(
            addresses.map(|address| (EndpointRef::Node(node.name.as_str()), address, port)),
        );
    }
    let mut predicted = Vec::new();

    for family in Family::ALL {
        let runner = inventory
            .runner
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family);
        let outside = runner.map(|address| (Source::Runner, EndpointRef::Address(address)));
        for (source, from) in sources.iter().cloned().chain(outside) {
            for (to, address, port) in targets
                .iter()
                .filter(|(_, address, _)| Family::of(address.ip()) == family)
            {
                let from_outside = matches!(from, EndpointRef::Address(_) | EndpointRef::Node(_));
                // No policy applies to traffic from outside to outside, or from a node to itself.
                let to_pods = |index: &usize| !inventory.pods[*index].host_network;
                if from_outside
                    && !matches!(to, EndpointRef::Pod(index) | EndpointRef::ServicePod(index) if to_pods(index))
                {
                    continue;
                }
                // A Service's address is one inside the cluster only.
                if matches!(
                    (from, to),
                    (EndpointRef::Address(_), EndpointRef::ServicePod(_))
                ) {
                    continue;
                }
                let allowed = predictor.allowed(from, *to, family).contains(*port);
                let explanation = explainer.explain(from, *to, *port, Some(family));
                assert_eq!(
                    allowed, explanation.allowed,
                    "predictor and explainer: {explanation:#?}"
                );
                let transport = match port.transport() {
                    Transport::Udp => wire::Transport::Udp,
                    Transport::Tcp | Transport::Sctp => wire::Transport::Tcp,
                };
                let name = format!(
                    "{} -> {} ({address}) {port}, since {}",
                    explanation.from,
                    explanation.to,
                    explanation.because()
                );
                let flow = (source.clone(), transport, *address);
                predicted.push(Predicted {
                    flow,
                    allowed,
                    name,
                    by_cluster_policies: deciding(&explanation),
                });
            }
        }
    }
    predicted
}

/// The actions of those rules of cluster-wide policies that decide about a flow.
fn deciding(explanation: &Explanation) -> BTreeSet<String> {
    let steps = explanation
        .sides
        .iter()
        .flat_map(|side| &side.policies)
        .filter(|step| step.policy.reference.namespace.is_none());
    let rules = steps
        .flat_map(|step| &step.rules)
        .filter(|rule| rule.decides);
    rules.map(|rule| rule.action.clone()).collect()
}
