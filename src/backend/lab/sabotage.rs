//! Breaking a running lab on purpose, through the same kernel objects that the packets meet.
//!
//! What is an object of the API (a pod, a policy, a namespace) is announced as a
//! [`Change`](super::Change) when it changes; what is not (a listener, a path, a packet, a process)
//! is not, as no API would tell.

use super::error::Error;
use super::leak::Leak;
use super::network::Cuts;
use super::probes::Probes;
use super::responder::{Group, groups, pod_group};
use super::running::{Count, Running};
use super::{blocking, dns, network};
use crate::inventory::{Inventory, Labels, Policy};
use crate::model::ClusterChange;
use crate::plan::{ProbeId, Source};
use crate::wire::Transport;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use watertight_probe::responder::control::{Behaviour, Command};

/// A handle that breaks and repairs a lab while an engine runs in it.
#[derive(Debug, Clone)]
pub struct Sabotage {
    pub(super) running: Arc<Mutex<Option<Running>>>,
    pub(super) probes: Arc<Mutex<Probes>>,
}

/// A listener of the responder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// A pod.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A node.
    Node(String),
    /// An outside host, by its name, or by its address where it has none.
    Host(String),
}

impl Sabotage {
    /// What exists now.
    ///
    /// # Errors
    /// When the lab is down.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        self.with(|running| Ok(running.world.inventory.clone()))
            .await
    }

    /// Replaces all policies of every kind, in one transaction a node.
    ///
    /// # Errors
    /// An invalid policy, or what the kernel refused.
    pub async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), Error> {
        self.with(move |running| {
            let before = std::mem::replace(&mut running.world.inventory.policies, policies);
            if let Err(error) = running.load_policies() {
                running.world.inventory.policies = before;
                return Err(error);
            }

            for policy in differing(&before, &running.world.inventory.policies, is_unchanged) {
                running.announce(ClusterChange::Policy(policy.reference()));
            }
            Ok(())
        })
        .await
    }

    /// Gives a pod other labels; Services and policies follow.
    ///
    /// # Errors
    /// An unknown pod, or what the kernel refused.
    pub async fn relabel_pod(
        &self,
        namespace: &str,
        name: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.with(move |running| {
            let number = running.pod(&namespace, &name)?;
            running.world.inventory.pods[number].labels = labels;
            follow(running)?;
            running.announce(ClusterChange::Pod(namespace, name));
            Ok(())
        })
        .await
    }

    /// Gives a namespace other labels; policies follow.
    ///
    /// # Errors
    /// An unknown namespace, or what the kernel refused.
    pub async fn relabel_namespace(&self, name: &str, labels: Labels) -> Result<(), Error> {
        let name = name.to_owned();
        self.with(move |running| {
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

    /// Puts another pod into a pod's place: new uid, new network, the same addresses. A probe of
    /// the old pod stays in the old network, which leads nowhere any more.
    ///
    /// # Errors
    /// An unknown pod, one of the host's network, or what the kernel refused.
    pub async fn replace_pod(
        &self,
        namespace: &str,
        name: &str,
        by: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        let (namespace, name, by) = (namespace.to_owned(), name.to_owned(), by.to_owned());
        self.with(move |running| {
            let number = running.pod(&namespace, &name)?;
            let old = running.world.inventory.pods[number].clone();
            if old.host_network {
                return Err(Error::Unknown(format!(
                    "a network of its own of {}",
                    old.full_name()
                )));
            }
            let node = running.node(&old.node)?;
            running.responder.order(
                &Command::Close {
                    group: number as u32,
                    port: None,
                },
                None,
                &old.full_name(),
            )?;
            network::unwire_pod(&running.wired.nodes[node], number, &old.full_name())?;
            let pod = &mut running.world.inventory.pods[number];
            pod.uid = next_incarnation(&old.uid);
            pod.labels = labels;
            pod.name.clone_from(&by);
            let (whose, own) = (pod.full_name(), pod.addresses.clone());
            let from = running.world.inventory.nodes[node].addresses.clone();
            running.wired.pods[number] =
                network::wire_pod(&running.wired.nodes[node], &from, number, &whose, &own)?;
            follow(running)?;
            let group = pod_group(
                &running.world.inventory,
                number,
                &running.world.inventory.pods[number],
                &running.certificates,
                &mut BTreeSet::new(),
            );
            running
                .responder
                .serve(&group, &running.wired.pods[number])?;
            running.announce(ClusterChange::Pod(namespace.clone(), name.clone()));
            if by != name {
                running.announce(ClusterChange::Pod(namespace, by));
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
        port: Option<(Transport, u16)>,
    ) -> Result<(), Error> {
        self.with(move |running| close(running, &listener, port))
            .await
    }

    /// Opens what [`Sabotage::stop_listener`] closed.
    ///
    /// # Errors
    /// An unknown listener, or a port that is open.
    pub async fn start_listener(
        &self,
        listener: Listener,
        port: Option<(Transport, u16)>,
    ) -> Result<(), Error> {
        self.with(move |running| open(running, &listener, port, None))
            .await
    }

    /// Lets a port do something else with what arrives: never answer, answer a byte a second, hang
    /// up.
    ///
    /// # Errors
    /// An unknown listener.
    pub async fn behave(
        &self,
        listener: Listener,
        port: (Transport, u16),
        behaviour: Behaviour,
    ) -> Result<(), Error> {
        self.with(move |running| {
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
        self.with(|running| {
            each_dns(running, |running, listener, port| {
                close(running, listener, Some(port))
            })
        })
        .await
    }

    /// Starts cluster DNS again.
    ///
    /// # Errors
    /// When the lab is down.
    pub async fn start_dns(&self) -> Result<(), Error> {
        self.with(|running| {
            each_dns(running, |running, listener, port| {
                open(running, listener, Some(port), None)
            })
        })
        .await
    }

    /// Lets nothing pass between two nodes.
    ///
    /// # Errors
    /// An unknown node.
    pub async fn cut(&self, a: &str, b: &str) -> Result<(), Error> {
        self.path(a, b, |cuts, pair| {
            cuts.insert(pair);
        })
        .await
    }

    /// Undoes [`Sabotage::cut`].
    ///
    /// # Errors
    /// An unknown node.
    pub async fn heal(&self, a: &str, b: &str) -> Result<(), Error> {
        self.path(a, b, |cuts, pair| {
            cuts.remove(&pair);
        })
        .await
    }

    async fn path(
        &self,
        a: &str,
        b: &str,
        change: fn(&mut Cuts, (usize, usize)),
    ) -> Result<(), Error> {
        let (a, b) = (a.to_owned(), b.to_owned());
        self.with(move |running| {
            let (a, b) = (running.node(&a)?, running.node(&b)?);
            change(&mut running.cuts, (a.min(b), a.max(b)));
            running.load_cuts()
        })
        .await
    }

    /// Lets flows leak past the policies; replaces the leaks before, none ends them. Connections
    /// that are up stay up.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn leak(&self, leaks: Vec<Leak>) -> Result<(), Error> {
        self.with(move |running| {
            running.leaks = leaks;
            running.load_policies()
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

    /// What the policies' counters stand at.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn counts(&self) -> Result<Vec<Count>, Error> {
        self.with(|running| running.counts()).await
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
        let netns = self.with(move |running| running.netns(&source)).await?;
        blocking(move || netns.run(|| Ok(work()))).await
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Running) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let running = Arc::clone(&self.running);
        blocking(move || {
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            work(
                running
                    .as_mut()
                    .ok_or_else(|| Error::Unknown("anything that is up".to_owned()))?,
            )
        })
        .await
    }
}

/// Brings everything that follows from pods' labels up to date.
fn follow(running: &mut Running) -> Result<(), Error> {
    running.load_services()?;
    running.load_policies()?;
    running
        .responder
        .teach(&dns::zone(&running.world.inventory))
}

/// `lab-7-1` becomes `lab-7-2`.
fn next_incarnation(uid: &str) -> String {
    let (pod, number) = uid.rsplit_once('-').unwrap_or((uid, "0"));
    format!("{pod}-{}", number.parse::<u64>().unwrap_or(0) + 1)
}

/// Whether two readings of a policy have the same name and the same rules.
fn is_unchanged(before: &Policy, after: &Policy) -> bool {
    match (before, after) {
        (Policy::Network(a), Policy::Network(b)) => {
            a.namespace == b.namespace && a.name == b.name && a.spec == b.spec
        }
        _ => before == after,
    }
}

/// What is in one list only.
fn differing<'a, T>(
    before: &'a [T],
    after: &'a [T],
    same: impl Fn(&T, &T) -> bool + Copy,
) -> impl Iterator<Item = &'a T> {
    let only = move |here: &'a [T], there: &'a [T]| {
        here.iter()
            .filter(move |one| !there.iter().any(|other| same(one, other)))
    };
    only(before, after).chain(only(after, before))
}

/// A listener's group, with the namespace that it is in.
fn group_of(running: &Running, listener: &Listener) -> Result<(Group, super::netns::Netns), Error> {
    let who = match listener {
        Listener::Pod { namespace, name } => {
            let pod = &running.world.inventory.pods[running.pod(namespace, name)?];
            format!("{} {}", pod.full_name(), pod.uid)
        }
        Listener::Node(name) => format!("node {name}"),
        Listener::Host(label) => label.clone(),
    };
    let found = groups(&running.world, &running.wired, &running.certificates)
        .into_iter()
        .find(|(group, _)| group.who == who);
    let (group, netns) = found.ok_or_else(|| Error::Unknown(format!("a listener of {who}")))?;
    Ok((group, netns.clone()))
}

fn close(
    running: &Running,
    listener: &Listener,
    port: Option<(Transport, u16)>,
) -> Result<(), Error> {
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

fn open(
    running: &Running,
    listener: &Listener,
    port: Option<(Transport, u16)>,
    other: Option<&Behaviour>,
) -> Result<(), Error> {
    let (mut group, netns) = group_of(running, listener)?;
    group
        .listen
        .retain(|listen| port.is_none_or(|port| port == (listen.transport, listen.address.port())));
    if group.listen.is_empty() {
        return Err(Error::Unknown(format!("that port of {}", group.who)));
    }
    for listen in &mut group.listen {
        if let Some(other) = other {
            listen.behaviour = other.clone();
        }
    }
    running.responder.serve(&group, &netns)
}

fn each_dns(
    running: &Running,
    act: impl Fn(&Running, &Listener, (Transport, u16)) -> Result<(), Error>,
) -> Result<(), Error> {
    for pod in &running.world.inventory.pods {
        for (port, transport) in super::responder::dns_ports(&running.world.inventory, pod) {
            let listener = Listener::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
            };
            act(running, &listener, (transport, port))?;
        }
    }
    Ok(())
}
