//! Deliberate faults in a running lab, made with the same kernel objects that handle its packets.
//!
//! A changed API object (a pod, a policy, a namespace) is reported as a
//! [`Change`](super::Change). A changed listener, path, packet or process is not: no API server
//! reports it either.

use super::error::Error;
use super::leak::Leak;
use super::loss::Loss;
use super::netns::Netns;
use super::network::Cuts;
use super::probes::Probes;
use super::responder::{Group, dns_ports, groups, pod_group};
use super::running::{Count, Running};
use super::shared::{SharedWorld, blocking};
use super::{dns, network};
use crate::inventory::{Inventory, Labels, Policy};
use crate::model::ClusterChange;
use crate::plan::{ProbeId, Source};
use crate::wire::Transport;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use watertight_probe::responder::control::{Behaviour, Command};

/// A handle with which a test breaks and repairs a lab while an engine runs in it.
#[derive(Debug, Clone)]
pub struct Sabotage {
    world: SharedWorld,
    probes: Arc<Mutex<Probes>>,
}

/// An endpoint for which the responder listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    Pod {
        namespace: String,
        name: String,
    },
    Node(String),
    /// An outside host by its name; by its address if it has no name.
    Host(String),
}

/// Whose routing table a sabotage changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteHolder {
    Node(String),
    /// The router between the nodes and in front of the outside hosts.
    Router,
}

/// Transport and port of a listening socket.
type ListenPort = (Transport, u16);

impl Sabotage {
    /// A handle to the world and the probes of a lab.
    pub(super) fn new(world: SharedWorld, probes: Arc<Mutex<Probes>>) -> Self {
        Self { world, probes }
    }

    /// The objects that exist now.
    ///
    /// # Errors
    /// When the lab is down.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        self.world
            .with(|running| Ok(running.world.inventory.clone()))
            .await
    }

    /// Replaces all policies of every kind, in one transaction per node.
    ///
    /// # Errors
    /// An invalid policy, or a rule set that the kernel refused.
    pub async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), Error> {
        self.world
            .with(move |running| {
                let before = std::mem::replace(&mut running.world.inventory.policies, policies);
                if let Err(error) = running.load_policies() {
                    running.world.inventory.policies = before;
                    return Err(error);
                }

                for policy in changed(&before, &running.world.inventory.policies) {
                    running.announce(ClusterChange::Policy(policy.reference()));
                }
                Ok(())
            })
            .await
    }

    /// Replaces the labels of a pod and updates Services and policies.
    ///
    /// # Errors
    /// An unknown pod, or a rule set that the kernel refused.
    pub async fn relabel_pod(
        &self,
        namespace: &str,
        name: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.world
            .with(move |running| {
                let number = running.pod(&namespace, &name)?;
                running.world.inventory.pods[number].labels = labels;
                reload(running)?;
                running.announce(ClusterChange::Pod(namespace, name));
                Ok(())
            })
            .await
    }

    /// Replaces the labels of a namespace and updates the policies.
    ///
    /// # Errors
    /// An unknown namespace, or a rule set that the kernel refused.
    pub async fn relabel_namespace(&self, name: &str, labels: Labels) -> Result<(), Error> {
        let name = name.to_owned();
        self.world
            .with(move |running| {
                let namespace = running.world.inventory.namespaces.get_mut(&name);
                namespace
                    .ok_or_else(|| Error::Unknown(format!("namespace {name}")))?
                    .labels = labels;
                running.load_policies()?;
                running.announce(ClusterChange::Namespace(name));
                Ok(())
            })
            .await
    }

    /// Replaces a pod by another: new uid, new network namespace, the same addresses. Probes of the
    /// old pod stay in the old namespace, which has no link any more.
    ///
    /// # Errors
    /// An unknown pod, a pod in its node's network, or a request that the kernel refused.
    pub async fn replace_pod(
        &self,
        namespace: &str,
        name: &str,
        new_name: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        let (namespace, name, new_name) =
            (namespace.to_owned(), name.to_owned(), new_name.to_owned());
        self.world
            .with(move |running| {
                let number = running.pod(&namespace, &name)?;
                replace_pod(running, number, &new_name, labels)?;

                running.announce(ClusterChange::Pod(namespace.clone(), name.clone()));
                if new_name != name {
                    running.announce(ClusterChange::Pod(namespace, new_name));
                }
                Ok(())
            })
            .await
    }

    /// Closes a listener's port, or all of its ports.
    ///
    /// # Errors
    /// An unknown listener.
    pub async fn stop_listener(
        &self,
        listener: Listener,
        port: Option<ListenPort>,
    ) -> Result<(), Error> {
        self.world
            .with(move |running| close(running, &listener, port))
            .await
    }

    /// Opens the port, or all ports, that [`Sabotage::stop_listener`] closed.
    ///
    /// # Errors
    /// An unknown listener, or a port that is open.
    pub async fn start_listener(
        &self,
        listener: Listener,
        port: Option<ListenPort>,
    ) -> Result<(), Error> {
        self.world
            .with(move |running| open(running, &listener, port, None))
            .await
    }

    /// Changes how a port behaves: never answer, answer one byte per second, close the connection.
    ///
    /// # Errors
    /// An unknown listener.
    pub async fn behave(
        &self,
        listener: Listener,
        port: ListenPort,
        behaviour: Behaviour,
    ) -> Result<(), Error> {
        self.world
            .with(move |running| {
                close(running, &listener, Some(port))?;
                open(running, &listener, Some(port), Some(&behaviour))
            })
            .await
    }

    /// Stops cluster DNS.
    ///
    /// # Errors
    /// When the lab is down.
    pub async fn stop_dns(&self) -> Result<(), Error> {
        self.world
            .with(|running| {
                for (listener, port) in dns_listeners(running) {
                    close(running, &listener, Some(port))?;
                }
                Ok(())
            })
            .await
    }

    /// Starts cluster DNS again.
    ///
    /// # Errors
    /// When the lab is down.
    pub async fn start_dns(&self) -> Result<(), Error> {
        self.world
            .with(|running| {
                for (listener, port) in dns_listeners(running) {
                    open(running, &listener, Some(port), None)?;
                }
                Ok(())
            })
            .await
    }

    /// Drops every packet between two nodes.
    ///
    /// # Errors
    /// An unknown node.
    pub async fn cut(&self, a: &str, b: &str) -> Result<(), Error> {
        self.change_cuts(a, b, |cuts, pair| {
            cuts.insert(pair);
        })
        .await
    }

    /// Undoes [`Sabotage::cut`].
    ///
    /// # Errors
    /// An unknown node.
    pub async fn heal(&self, a: &str, b: &str) -> Result<(), Error> {
        self.change_cuts(a, b, |cuts, pair| {
            cuts.remove(&pair);
        })
        .await
    }

    async fn change_cuts(
        &self,
        a: &str,
        b: &str,
        change: fn(&mut Cuts, (usize, usize)),
    ) -> Result<(), Error> {
        let (a, b) = (a.to_owned(), b.to_owned());
        self.world
            .with(move |running| {
                let (a, b) = (running.node(&a)?, running.node(&b)?);
                change(&mut running.cuts, (a.min(b), a.max(b)));
                running.load_cuts()
            })
            .await
    }

    /// Makes a node or the router drop whatever it would send to a range of addresses. It must be
    /// smaller than the range that the holder has a route to.
    ///
    /// # Errors
    /// An unknown node, or a request that the kernel refused.
    pub async fn lose_route(
        &self,
        holder: RouteHolder,
        to: IpAddr,
        prefix: u8,
    ) -> Result<(), Error> {
        self.world
            .with(move |running| {
                let (netns, name) = match &holder {
                    RouteHolder::Node(name) => {
                        (&running.wired.nodes[running.node(name)?], name.as_str())
                    }
                    RouteHolder::Router => (&running.wired.router, "the router"),
                };
                network::lose_route(netns, name, to, prefix)
            })
            .await
    }

    /// Makes a node forward nothing, as with a FORWARD policy of DROP: its own packets still leave
    /// it.
    ///
    /// # Errors
    /// An unknown node, or a setting that the kernel refused.
    pub async fn stop_forwarding(&self, node: &str) -> Result<(), Error> {
        let node = node.to_owned();
        self.world
            .with(move |running| {
                network::stop_forwarding(&running.wired.nodes[running.node(&node)?])
            })
            .await
    }

    /// Makes a node lose some of the packets that it forwards, for good.
    ///
    /// # Errors
    /// An unknown node, or a request that the kernel refused.
    pub async fn lose_packets(&self, node: &str, loss: Loss) -> Result<(), Error> {
        let node = node.to_owned();
        self.world
            .with(move |running| running.load_loss(running.node(&node)?, loss))
            .await
    }

    /// Lets flows leak past the policies; replaces all earlier leaks, and an empty list ends them.
    /// Established connections stay up.
    ///
    /// # Errors
    /// A request that the kernel refused.
    pub async fn leak(&self, leaks: Vec<Leak>) -> Result<(), Error> {
        self.world
            .with(move |running| {
                running.leaks = leaks;
                running.load_policies()
            })
            .await
    }

    /// Makes every node forget the connections that it tracks, as an enforcer does that cuts what a
    /// policy denies: their next packets are judged as those of new ones.
    ///
    /// # Errors
    /// A request that the kernel refused.
    pub async fn forget_connections(&self) -> Result<(), Error> {
        self.world
            .with(|running| {
                running
                    .wired
                    .nodes
                    .iter()
                    .try_for_each(|node| node.run(network::forget_connections))
            })
            .await
    }

    /// Sends a signal to a probe: SIGSTOP, SIGCONT, SIGKILL.
    ///
    /// # Errors
    /// An unknown probe, or one that has ended.
    pub fn signal(&self, probe: ProbeId, signal: Signal) -> Result<(), Error> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.signal(probe, signal) {
            Ok(())
        } else {
            Err(Error::Unknown(format!("probe {}", probe.0)))
        }
    }

    /// Reads the counters of all policies.
    ///
    /// # Errors
    /// A request that the kernel refused.
    pub async fn counts(&self) -> Result<Vec<Count>, Error> {
        self.world.with(|running| running.counts()).await
    }

    /// Runs a function in a source's network namespace, on a separate thread.
    ///
    /// # Errors
    /// An unknown source.
    pub async fn within<T: Send + 'static>(
        &self,
        source: Source,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let netns = self
            .world
            .with(move |running| running.netns(&source))
            .await?;
        blocking(move || netns.run(|| Ok(work()))).await
    }
}

/// Replaces pod number `number`: closes its sockets, removes its link, and wires a new pod.
fn replace_pod(
    running: &mut Running,
    number: usize,
    new_name: &str,
    labels: Labels,
) -> Result<(), Error> {
    let old = running.world.inventory.pods[number].clone();
    if old.host_network {
        let missing = format!("a separate network namespace of {}", old.full_name());
        return Err(Error::Unknown(missing));
    }
    let node = running.node(&old.node)?;
    let close_all = Command::Close {
        group: number as u32,
        port: None,
    };
    running
        .responder
        .order(&close_all, None, &old.full_name())?;
    network::unwire_pod(&running.wired.nodes[node], number, &old.full_name())?;

    let pod = &mut running.world.inventory.pods[number];
    pod.uid = next_uid(&old.uid);
    pod.labels = labels;
    new_name.clone_into(&mut pod.name);
    let (full_name, addresses) = (pod.full_name(), pod.addresses.clone());
    running.wired.pods[number] = network::wire_pod(
        &running.wired.nodes[node],
        &network::routed_addresses(node, &running.world.inventory.nodes[node]),
        number,
        &full_name,
        &addresses,
    )?;

    reload(running)?;
    let group = pod_group(
        &running.world,
        number,
        &running.certificates,
        &mut BTreeSet::new(),
    );
    running.responder.serve(&group, &running.wired.pods[number])
}

/// Reloads everything that depends on the labels of pods: Services, policies and DNS names.
fn reload(running: &mut Running) -> Result<(), Error> {
    running.load_services()?;
    running.load_policies()?;
    running
        .responder
        .teach(&dns::zone(&running.world.inventory))
}

/// The uid of the pod that replaces a pod: `lab-7-2` after `lab-7-1`.
fn next_uid(uid: &str) -> String {
    let (pod, number) = uid.rsplit_once('-').unwrap_or((uid, "0"));
    format!("{pod}-{}", number.parse::<u64>().unwrap_or(0) + 1)
}

/// Whether two versions of a policy have the same name and the same rules.
fn is_unchanged(before: &Policy, after: &Policy) -> bool {
    match (before, after) {
        (Policy::Network(a), Policy::Network(b)) => {
            a.namespace == b.namespace && a.name == b.name && a.spec == b.spec
        }
        _ => before == after,
    }
}

/// The policies that only one of two lists contains.
fn changed<'a>(before: &'a [Policy], after: &'a [Policy]) -> impl Iterator<Item = &'a Policy> {
    missing_in(before, after).chain(missing_in(after, before))
}

/// The policies of a list that another list does not contain unchanged.
fn missing_in<'a>(
    policies: &'a [Policy],
    others: &'a [Policy],
) -> impl Iterator<Item = &'a Policy> {
    policies
        .iter()
        .filter(|policy| !others.iter().any(|other| is_unchanged(policy, other)))
}

/// The group of a listener and its network namespace.
fn group_of(running: &Running, listener: &Listener) -> Result<(Group, Netns), Error> {
    let who = match listener {
        Listener::Pod { namespace, name } => {
            let pod = &running.world.inventory.pods[running.pod(namespace, name)?];
            format!("{} {}", pod.full_name(), pod.uid)
        }
        Listener::Node(name) => format!("node {name}"),
        Listener::Host(label) => label.clone(),
    };
    let (group, netns) = groups(&running.world, &running.wired, &running.certificates)
        .into_iter()
        .find(|(group, _)| group.who == who)
        .ok_or_else(|| Error::Unknown(format!("a listener of {who}")))?;
    Ok((group, netns.clone()))
}

/// Closes one port of a listener, or all.
fn close(running: &Running, listener: &Listener, port: Option<ListenPort>) -> Result<(), Error> {
    let (group, _) = group_of(running, listener)?;
    running.responder.order(
        &Command::Close {
            group: group.number,
            port,
        },
        None,
        &group.who,
    )
}

/// Opens one port of a listener, or all, with another behaviour where one is given.
fn open(
    running: &Running,
    listener: &Listener,
    port: Option<ListenPort>,
    behaviour: Option<&Behaviour>,
) -> Result<(), Error> {
    let (mut group, netns) = group_of(running, listener)?;
    group
        .listen
        .retain(|listen| port.is_none_or(|port| port == (listen.transport, listen.address.port())));
    if group.listen.is_empty() {
        return Err(Error::Unknown(format!("that port of {}", group.who)));
    }
    if let Some(behaviour) = behaviour {
        for listen in &mut group.listen {
            listen.behaviour = behaviour.clone();
        }
    }
    running.responder.serve(&group, &netns)
}

/// The listeners of cluster DNS, with their ports.
fn dns_listeners(running: &Running) -> Vec<(Listener, ListenPort)> {
    let inventory = &running.world.inventory;
    let mut listeners = Vec::new();
    for pod in &inventory.pods {
        for (port, transport) in dns_ports(inventory, pod) {
            let listener = Listener::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
            };
            listeners.push((listener, (transport, port)));
        }
    }
    listeners
}
