//! The launch of a run's probes: owner Jobs first, then all probes together.
//!
//! Their lines are read in `read_probe`; how they end is in `teardown`.

use super::create_probe::{create_probe, source_pod, with_timeout};
use super::created_objects::{CreatedObject, CreatedObjects};
use super::error::Error;
use super::names;
use super::objects::SharedStore;
use super::owner;
use super::peer_addresses::to_replace;
use super::probe_pod::RunSettings;
use super::read_probe::{
    PendingLaunch, ReaderSettings, pod_addresses, read_probe, report_not_started,
};
use crate::backend::{Arrival, Launch};
use crate::inventory::{Labels, identity_labels};
use crate::model::Secrets;
use crate::plan::{ControlEndpoints, ProbeId, ReferencePodAddress, Source};
use crate::wire;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The number of concurrent requests.
pub(super) const CONCURRENT_REQUESTS: usize = 32;

/// The cluster and the settings that a run uses to create, read and remove probes.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) client: Client,
    pub(super) shared: Arc<SharedStore>,
    /// The namespace of node probes and reference pods.
    pub(super) namespace: String,
    pub(super) settings: RunSettings,
    /// What requests take from the runner's environment.
    pub(super) secrets: Secrets,
    /// The control endpoints that the current plan uses.
    pub(super) control_endpoints: ControlEndpoints,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// The start of the clock that arrivals are timed by.
    pub(super) started: std::time::Instant,
}

/// The probes of a run, with the tasks that read them.
#[derive(Default)]
pub(super) struct Run {
    /// The owner Jobs, by namespace.
    pub(super) owners: BTreeMap<String, OwnerReference>,
    pub(super) created: Arc<CreatedObjects>,
    /// The probe pods that other probes send to, by the addresses that plans name.
    peers: BTreeMap<IpAddr, PodName>,
    pub(super) readers: Vec<JoinHandle<()>>,
    /// The readers of ephemeral containers, which cannot be stopped.
    pub(super) ephemeral_readers: Vec<JoinHandle<()>>,
    /// The uids of the pods that have an ephemeral container of this run.
    pods_with_ephemeral_container: BTreeSet<Option<String>>,
    /// Becomes true when readers have to stop.
    pub(super) stop_reading: watch::Sender<bool>,
    /// When the cluster removes the run's objects by itself; known once an owner was created.
    pub(super) expires: Option<jiff::Timestamp>,
    /// Until when unanswered deletions are retried.
    pub(super) deletion_deadline: Option<Instant>,
}

/// Namespace and name of a pod.
pub(super) type PodName = (String, String);

/// An owner Job by namespace, or why it could not be created.
type Owners = BTreeMap<String, Result<OwnerReference, String>>;

/// A probe to create at once.
struct Creation {
    launch: Launch,
    owner: Option<OwnerReference>,
    /// Whether its lines are read; those of a reference pod that only listens are not.
    is_read: bool,
}

/// The probes of one launch that were started, and those that were not, with the reason.
#[derive(Default)]
struct LaunchOutcome {
    started: usize,
    refusals: Vec<(ProbeId, String)>,
}

impl Run {
    /// Creates probes; returns when each is created or refused, except those that wait for the
    /// addresses of others. Lines and faults of the probes arrive on the channel.
    ///
    /// # Errors
    /// [`Error::NoProbe`] when none could be created.
    pub(super) async fn launch(
        &mut self,
        context: &RunContext,
        probes: Vec<Launch>,
        lines: &mpsc::Sender<Arrival>,
    ) -> Result<(), Error> {
        let reference_pods = self.reference_pods_for(context, &probes);
        let owners = self
            .create_owners(context, probes.iter().chain(&reference_pods))
            .await;
        self.peers.extend(probe_pods_by_address(context, &probes));

        let mut outcome = LaunchOutcome::default();
        let mut creations = listening_creations(context, reference_pods, &owners);
        for launch in probes {
            let probe = launch.probe;
            match self.owner_of(context, &launch, &owners) {
                Err(why) => outcome.refusals.push((probe, why)),
                Ok(owner) if is_started_by_task(&launch) => {
                    self.spawn_pending(context, launch, owner, lines);
                    outcome.started += 1;
                }
                Ok(owner) => creations.push(Creation {
                    launch,
                    owner,
                    is_read: true,
                }),
            }
        }
        self.create_all(context, creations, lines, &mut outcome)
            .await;

        let first_refusal = outcome.refusals.first().map(|(_, why)| why.clone());
        for (probe, why) in outcome.refusals {
            report_not_started(context, probe, why, lines).await;
        }
        match first_refusal {
            Some(why) if outcome.started == 0 => Err(Error::NoProbe(why)),
            Some(_) | None => Ok(()),
        }
    }

    /// The owner Job of a probe; `None` for a probe that is not a pod of the run.
    ///
    /// # Errors
    /// The reason why the probe cannot be created.
    fn owner_of(
        &mut self,
        context: &RunContext,
        launch: &Launch,
        owners: &Owners,
    ) -> Result<Option<OwnerReference>, String> {
        if let Some((namespace, name)) = launch.ephemeral_target()
            && let Ok(pod) = source_pod(context, namespace, name)
            && !self
                .pods_with_ephemeral_container
                .insert(pod.metadata.uid.clone())
        {
            return Err("the pod already has the ephemeral container of this run".into());
        }
        namespace_of(launch, &context.namespace)
            .and_then(|namespace| owners.get(&namespace).cloned())
            .transpose()
    }

    /// Starts a task that waits for the addresses of other probes, then creates and reads a probe.
    fn spawn_pending(
        &mut self,
        context: &RunContext,
        launch: Launch,
        owner: Option<OwnerReference>,
        lines: &mpsc::Sender<Arrival>,
    ) {
        let peers = to_replace(&launch.source, &launch.plan)
            .into_iter()
            .filter_map(|address| Some((address, self.peers.get(&address)?.clone())))
            .collect();
        let is_ephemeral = launch.ephemeral;
        let pending = PendingLaunch {
            context: context.clone(),
            launch,
            owner,
            peers,
            created: Arc::clone(&self.created),
            stop_reading: self.stop_reading.subscribe(),
        };

        let reader = tokio::spawn(pending.run(lines.clone()));
        if is_ephemeral {
            self.ephemeral_readers.push(reader);
        } else {
            self.readers.push(reader);
        }
    }

    /// Creates probes, and starts a task for each that reads it.
    async fn create_all(
        &mut self,
        context: &RunContext,
        creations: Vec<Creation>,
        lines: &mpsc::Sender<Arrival>,
        outcome: &mut LaunchOutcome,
    ) {
        let requests = creations.into_iter().map(|creation| async move {
            let Creation {
                launch,
                owner,
                is_read,
            } = creation;
            let object = create_probe(context, &launch, &launch.plan, owner).await;
            (launch.probe, is_read, object)
        });
        let created: Vec<_> = futures::stream::iter(requests)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .collect()
            .await;

        for (probe, is_read, object) in created {
            match object {
                Ok(object) => {
                    self.created.add(&object);
                    if is_read {
                        outcome.started += 1;
                        self.spawn_reader(context, probe, object, lines);
                    }
                }
                Err(why) if is_read => outcome.refusals.push((probe, why)),
                // Without this reference pod no flow to it is sent, which proves nothing.
                Err(_) => {}
            }
        }
    }

    fn spawn_reader(
        &mut self,
        context: &RunContext,
        probe: ProbeId,
        object: CreatedObject,
        lines: &mpsc::Sender<Arrival>,
    ) {
        let readers = match object {
            CreatedObject::Pod(_) => &mut self.readers,
            CreatedObject::EphemeralContainer(_) => &mut self.ephemeral_readers,
        };
        let settings = ReaderSettings {
            probe,
            digests: None,
            stop_reading: self.stop_reading.subscribe(),
        };
        readers.push(tokio::spawn(read_probe(
            context.clone(),
            object,
            settings,
            Arc::clone(&self.created),
            lines.clone(),
        )));
    }

    /// The owner Jobs for probes: those that exist, and a new one in every other namespace.
    async fn create_owners(
        &mut self,
        context: &RunContext,
        probes: impl Iterator<Item = &Launch>,
    ) -> Owners {
        let namespaces: BTreeSet<String> = probes
            .filter_map(|launch| namespace_of(launch, &context.namespace))
            .collect();
        let existing = self.owners.clone();
        let requests = namespaces.into_iter().map(|namespace| {
            let existing = existing.get(&namespace).cloned();
            async move {
                let owner = if let Some(owner) = existing {
                    Ok(owner)
                } else {
                    let request = owner::create(context, &namespace, &context.settings);
                    with_timeout(context, request).await
                };
                (namespace, owner)
            }
        });
        let owners: Owners = futures::stream::iter(requests)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .collect()
            .await;

        for (namespace, owner) in &owners {
            if let Ok(owner) = owner {
                let expires = jiff::Timestamp::now() + context.settings.active_deadline;
                self.expires = self.expires.max(Some(expires));
                self.owners.insert(namespace.clone(), owner.clone());
            }
        }
        owners
    }

    /// The reference pods that probes send to and that are not among the probes themselves.
    fn reference_pods_for(&mut self, context: &RunContext, probes: &[Launch]) -> Vec<Launch> {
        let mut peers = Vec::new();
        let mut launches = Vec::new();
        for reference_pod in &context.control_endpoints.reference_pods {
            let mut addresses = reference_pod.addresses.iter();
            if addresses.any(|address| self.peers.contains_key(address)) {
                continue;
            }

            let sending = probes
                .iter()
                .find(|launch| is_reference_pod_on(launch, &reference_pod.node));
            let probe = if let Some(launch) = sending {
                launch.probe
            } else if let Some(sender) =
                probes.iter().find(|launch| sends_to(launch, reference_pod))
            {
                let probe = ProbeId(u32::MAX - self.peers.len() as u32 - launches.len() as u32);
                launches.push(listening_launch(probe, reference_pod, &sender.plan));
                probe
            } else {
                continue;
            };

            let name = names::probe_pod(&Labels::new(), &context.settings.run, probe);
            for address in &reference_pod.addresses {
                peers.push((*address, (context.namespace.clone(), name.clone())));
            }
        }
        self.peers.extend(peers);
        launches
    }

    /// The images that probes ran, as recorded before they were stopped.
    pub(super) fn images(&self) -> Vec<String> {
        self.created.images()
    }
}

/// Whether a task has to start a probe: it waits for the addresses of other probes, or is the
/// runner's, which is no object of the API.
fn is_started_by_task(launch: &Launch) -> bool {
    matches!(launch.source, Source::Runner) || !to_replace(&launch.source, &launch.plan).is_empty()
}

fn is_reference_pod_on(launch: &Launch, node: &str) -> bool {
    matches!(&launch.source, Source::ReferencePod { node: own_node } if own_node == node)
}

fn sends_to(launch: &Launch, reference_pod: &ReferencePodAddress) -> bool {
    to_replace(&launch.source, &launch.plan)
        .iter()
        .any(|address| reference_pod.addresses.contains(address))
}

/// A reference pod that listens and sends nothing. Times and trust are those of a sender's plan.
fn listening_launch(
    probe: ProbeId,
    reference_pod: &ReferencePodAddress,
    sender: &wire::Plan,
) -> Launch {
    Launch {
        probe,
        source: Source::ReferencePod {
            node: reference_pod.node.clone(),
        },
        ephemeral: false,
        plan: wire::Plan {
            listen: Some(reference_pod.port),
            flows: Vec::new(),
            ..sender.clone()
        },
    }
}

/// The reference pods that only listen, as far as their namespace has an owner Job.
fn listening_creations(
    context: &RunContext,
    reference_pods: Vec<Launch>,
    owners: &Owners,
) -> Vec<Creation> {
    let Some(Ok(owner)) = owners.get(&context.namespace) else {
        return Vec::new();
    };
    reference_pods
        .into_iter()
        .map(|launch| Creation {
            launch,
            owner: Some(owner.clone()),
            is_read: false,
        })
        .collect()
}

/// The namespace in which a probe needs an owner Job; `None` for the runner's probe and for
/// ephemeral containers that need no Secret.
fn namespace_of(launch: &Launch, run_namespace: &str) -> Option<String> {
    if launch.ephemeral && launch.plan.secret_names().is_empty() {
        return None;
    }
    launch.namespace(run_namespace).map(str::to_owned)
}

/// The pods in which probes with a pod's identity run, by the addresses of the original pods.
fn probe_pods_by_address(context: &RunContext, probes: &[Launch]) -> BTreeMap<IpAddr, PodName> {
    let store = context.shared.store();
    let mut pods = BTreeMap::new();
    for launch in probes {
        let Source::Pod {
            namespace, name, ..
        } = &launch.source
        else {
            continue;
        };
        let Some(original) = store.pod(namespace, name) else {
            continue;
        };

        let probe_pod = if launch.ephemeral {
            name.clone()
        } else {
            let no_labels = Labels::new();
            let labels = original.metadata.labels.as_ref().unwrap_or(&no_labels);
            let labels = identity_labels(labels);
            names::probe_pod(&labels, &context.settings.run, launch.probe)
        };
        for address in pod_addresses(&original) {
            pods.entry(address)
                .or_insert_with(|| (namespace.clone(), probe_pod.clone()));
        }
    }
    pods
}
