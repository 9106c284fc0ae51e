//! Probes of a run: created together, read by their logs. How they end is in `farewell`.

use super::created_objects::{Created, CreatedObject, PodRef};
use super::ephemeral;
use super::error::{Error, describe};
use super::logs::Log;
use super::names::{self, CONTAINER};
use super::objects::Shared;
use super::owner;
use super::peer_addresses::{self, AddressMap, Digests};
use super::preflight::objection;
use super::probe_pod::{self, Common, Wanted};
use super::runner::RunnerProbe;
use super::teardown::delete;
use crate::backend::{Arrival, Launch, ProbeFault};
use crate::inventory::{Labels, identity_labels};
use crate::plan::{ControlEndpoints, ProbeId, Source};
use crate::wire;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Requests under way at a time.
pub(super) const AT_ONCE: usize = 32;

/// How long a node's probe waits for the addresses of those that it shall reach.
const MEETING: Duration = Duration::from_secs(10);

/// Everything that is needed to create and remove.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    /// The namespace of what belongs to no workload.
    pub(super) namespace: String,
    pub(super) common: Common,
    /// What plans were told of this cluster.
    pub(super) control_endpoints: ControlEndpoints,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// What arrivals are timed from.
    pub(super) started: std::time::Instant,
}

/// What a run has created.
#[derive(Default)]
pub(super) struct Run {
    pub(super) owners: BTreeMap<String, OwnerReference>,
    pub(super) created: Arc<Created>,
    /// The pods of probes that others reach, by the addresses that plans give them.
    peers: BTreeMap<IpAddr, Peer>,
    pub(super) readers: Vec<JoinHandle<()>>,
    /// Of those within other people's pods, which go on when they are told nothing.
    pub(super) readers_within: Vec<JoinHandle<()>>,
    /// The uids of those pods.
    entered: BTreeSet<Option<String>>,
    /// Tells readers that nothing more is waited for.
    pub(super) enough: watch::Sender<bool>,
    /// When the cluster removes everything by itself, from the creation of the first owner on.
    pub(super) gone_by: Option<jiff::Timestamp>,
    /// Until when deletions are tried again.
    pub(super) farewell: Option<Instant>,
}

/// Namespace and name of a probe's pod.
type Peer = (String, String);

impl Run {
    /// Creates probes; returns when all are created or refused, but for those of nodes that wait
    /// for the addresses of others. What becomes of each arrives on the channel.
    ///
    /// # Errors
    /// When not one could be created.
    pub(super) async fn launch(
        &mut self,
        place: &RunContext,
        probes: Vec<Launch>,
        lines: &mpsc::Sender<Arrival>,
    ) -> Result<(), Error> {
        let reference_pods = self.reference_pods_for(place, &probes);
        let owners = self
            .owners_for(place, probes.iter().chain(&reference_pods))
            .await;
        self.peers.extend(peers(place, &probes));
        let mut refusals = Vec::new();
        let mut created = 0;
        let mut creations = Vec::new();
        for launch in reference_pods {
            // It only listens: what it says is nobody's evidence, and where it is missing nothing
            // crosses to it.
            let owner = owners
                .get(&place.namespace)
                .cloned()
                .unwrap_or_else(|| Err("there is no owner".into()));
            let place = place.clone();
            let created = async move { make(&place, &launch, &launch.plan, Some(owner?)).await };
            creations.push((None, created.boxed()));
        }
        for launch in probes {
            let probe = launch.probe;
            if let Some((namespace, name)) = launch.entered()
                && let Ok(pod) = source_pod(place, namespace, name)
                && !self.entered.insert(pod.metadata.uid.clone())
            {
                refusals.push((
                    probe,
                    "this run has its one container in that pod already".into(),
                ));
                continue;
            }
            let owner =
                match namespace_of(&launch, &place.namespace).map(|of| owners.get(&of).cloned()) {
                    Some(Some(Ok(owner))) => Some(owner),
                    Some(Some(Err(why))) => {
                        refusals.push((probe, why));
                        continue;
                    }
                    Some(None) | None => None,
                };
            let wanted = peer_addresses::wanted(&launch.source, &launch.plan);
            match owner {
                owner if wanted.is_empty() && !matches!(launch.source, Source::Runner) => {
                    let place = place.clone();
                    let created = async move { make(&place, &launch, &launch.plan, owner).await };
                    creations.push((Some(probe), created.boxed()));
                }
                owner => {
                    created += 1;
                    let known =
                        |address: &IpAddr| Some((*address, self.peers.get(address)?.clone()));
                    let wanted = wanted.iter().filter_map(known).collect();
                    let created = Arc::clone(&self.created);
                    let within = launch.inside;
                    let enough = self.enough.subscribe();
                    let meeting = PendingLaunch {
                        place: place.clone(),
                        launch,
                        owner,
                        wanted,
                        created,
                        enough,
                    };
                    let reader = tokio::spawn(meeting.hold(lines.clone()));
                    if within {
                        &mut self.readers_within
                    } else {
                        &mut self.readers
                    }
                    .push(reader);
                }
            }
        }
        let creations = creations
            .into_iter()
            .map(|(probe, created)| async move { (probe, created.await) });
        let outcomes: Vec<_> = futures::stream::iter(creations)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (probe, outcome) in outcomes {
            match (probe, outcome) {
                (Some(probe), Ok(made)) => {
                    created += 1;
                    self.created.note(&made);
                    let readers = match made {
                        CreatedObject::Pod(_) => &mut self.readers,
                        CreatedObject::Within(_) => &mut self.readers_within,
                    };
                    let created = Arc::clone(&self.created);
                    let reading = Reading {
                        probe,
                        digests: None,
                        enough: self.enough.subscribe(),
                    };
                    readers.push(tokio::spawn(follow(
                        place.clone(),
                        made,
                        reading,
                        created,
                        lines.clone(),
                    )));
                }
                (Some(probe), Err(why)) => refusals.push((probe, why)),
                (None, Ok(made)) => self.created.note(&made),
                (None, Err(_)) => {}
            }
        }
        let first = refusals.first().map(|(_, why)| why.clone());
        for (probe, why) in refusals {
            not_started(place, probe, why, lines).await;
        }
        match first {
            Some(why) if created == 0 => Err(Error::NoProbe(why)),
            Some(_) | None => Ok(()),
        }
    }

    /// One owner in each namespace that has none of this run yet.
    async fn owners_for(
        &mut self,
        place: &RunContext,
        probes: impl Iterator<Item = &Launch>,
    ) -> BTreeMap<String, Result<OwnerReference, String>> {
        let namespaces: BTreeSet<String> = probes
            .filter_map(|launch| namespace_of(launch, &place.namespace))
            .collect();
        let known = self.owners.clone();
        let creations = namespaces.into_iter().map(|namespace| {
            let known = known.get(&namespace).cloned();
            async move {
                let owner = match known {
                    Some(owner) => Ok(owner),
                    None => {
                        within(
                            place,
                            owner::create(&place.client, &namespace, &place.common),
                        )
                        .await
                    }
                };
                (namespace, owner)
            }
        });
        let owners: BTreeMap<_, _> = futures::stream::iter(creations)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (namespace, owner) in &owners {
            if let Ok(owner) = owner {
                let expiry = jiff::Timestamp::now() + place.common.deadline;
                self.gone_by = self.gone_by.max(Some(expiry));
                self.owners.insert(namespace.clone(), owner.clone());
            }
        }
        owners
    }

    /// Witnesses that are sent to and do not send: those that send are among the probes themselves.
    fn reference_pods_for(&mut self, place: &RunContext, probes: &[Launch]) -> Vec<Launch> {
        let mut peers = Vec::new();
        let mut launches = Vec::new();
        for reference_pod in &place.control_endpoints.reference_pods {
            let sends = |launch: &Launch| matches!(&launch.source, Source::ReferencePod { node } if *node == reference_pod.node);
            let sender = probes
                .iter()
                .find(|launch| sends(launch))
                .map(|launch| launch.probe);
            let is_sent_to = |launch: &Launch| {
                peer_addresses::wanted(&launch.source, &launch.plan)
                    .iter()
                    .any(|address| reference_pod.addresses.contains(address))
            };
            let known = reference_pod
                .addresses
                .iter()
                .any(|address| self.peers.contains_key(address));
            let probe = match (sender, probes.iter().find(|launch| is_sent_to(launch))) {
                _ if known => continue,
                (Some(sender), _) => sender,
                (None, None) => continue,
                (None, Some(of)) => {
                    let probe = ProbeId(u32::MAX - self.peers.len() as u32 - launches.len() as u32);
                    let plan = wire::Plan {
                        listen: Some(reference_pod.port),
                        flows: Vec::new(),
                        ..of.plan.clone()
                    };
                    let source = Source::ReferencePod {
                        node: reference_pod.node.clone(),
                    };
                    launches.push(Launch {
                        probe,
                        source,
                        inside: false,
                        plan,
                    });
                    probe
                }
            };
            let peer = (
                place.namespace.clone(),
                names::probe(&Labels::new(), &place.common.run, probe),
            );
            peers.extend(
                reference_pod
                    .addresses
                    .iter()
                    .map(|address| (*address, peer.clone())),
            );
        }
        self.peers.extend(peers);
        launches
    }

    /// The images that probes ran, as far as they were seen before they were stopped.
    pub(super) fn images(&self) -> Vec<String> {
        self.created.images()
    }
}

/// The namespace in which a probe needs an owner; `None` for those that are no pods of ours: the
/// runner's, and those within other people's pods.
fn namespace_of(launch: &Launch, own: &str) -> Option<String> {
    match &launch.source {
        Source::Pod { .. } if launch.inside => None,
        Source::Pod { namespace, .. } => Some(namespace.clone()),
        Source::Node { .. } | Source::ReferencePod { .. } => Some(own.to_owned()),
        Source::Runner => None,
    }
}

/// One request, with its limit; the answer's words where it failed.
async fn within<T>(
    place: &RunContext,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, String> {
    match timeout(place.timeout, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::Api { source, doing })) => {
            Err(format!("failed to {doing}: {}", describe(&source)))
        }
        Ok(Err(error)) => Err(format!("failed to {error}")),
        Err(_) => Err(format!(
            "the API server gave no answer within {} s",
            place.timeout.as_secs()
        )),
    }
}

/// Creates one probe, with a plan that may differ from the launch's in addresses: within the pod,
/// or as a pod of its own, for which there must be an owner.
async fn make(
    place: &RunContext,
    launch: &Launch,
    plan: &wire::Plan,
    owner: Option<OwnerReference>,
) -> Result<CreatedObject, String> {
    let environment = watertight_probe::encode_plan(plan).map_err(|error| error.to_string())?;
    if let Some((namespace, name)) = launch.entered() {
        let pod = source_pod(place, namespace, name)?;
        let alone = ephemeral::alone(&pod, &place.common, &environment);
        return within(place, ephemeral::enter(&place.client, &pod, &alone))
            .await
            .map(CreatedObject::Within);
    }
    let owner = owner.ok_or("there is no owner")?;
    let wanted = Wanted {
        probe: launch.probe,
        owner,
        environment: &environment,
    };
    let pod = pod_of(place, &launch.source, &wanted)?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &namespace);
    let created = within(place, async {
        api.create(&PostParams::default(), &pod)
            .await
            .map_err(|error| Error::api(format!("create a probe in namespace {namespace}"), error))
    })
    .await?;
    let original = match &launch.source {
        Source::Pod {
            namespace, name, ..
        } => place.shared.store().pod(namespace, name),
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    };
    let objection = objection(&pod, original.as_deref(), &created);
    let Pod {
        metadata: ObjectMeta { name, uid, .. },
        ..
    } = created;
    let ours = PodRef {
        namespace,
        name: name.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
    };
    match objection {
        None => Ok(CreatedObject::Pod(ours)),
        Some(why) => {
            // What cannot be deleted now goes with its owner.
            let _deletion = delete(place, &ours).await;
            Err(format!(
                "it was not what was asked for, and was removed at once: {why}"
            ))
        }
    }
}

/// The pod of a source, as it is now.
fn source_pod(place: &RunContext, namespace: &str, name: &str) -> Result<Arc<Pod>, String> {
    let pod = place.shared.store().pod(namespace, name);
    pod.ok_or_else(|| format!("pod {namespace}/{name} is gone"))
}

/// The pod of a probe.
pub(super) fn pod_of(
    place: &RunContext,
    source: &Source,
    wanted: &Wanted<'_>,
) -> Result<Pod, String> {
    match source {
        Source::Pod {
            namespace, name, ..
        } => {
            let source = source_pod(place, namespace, name)?;
            Ok(probe_pod::clone_of(&source, &place.common, wanted))
        }
        Source::Node { name } => Ok(probe_pod::of_node(
            name,
            &place.namespace,
            &place.common,
            wanted,
        )),
        Source::ReferencePod { node } => {
            let node = Some(node.as_str()).filter(|node| !node.is_empty());
            Ok(probe_pod::unlabelled(
                node,
                &place.namespace,
                &place.common,
                wanted,
            ))
        }
        Source::Runner => Err("the runner's probe is no pod".into()),
    }
}

/// The pods of the probes that have pods' identities, by the addresses of those pods.
fn peers(place: &RunContext, probes: &[Launch]) -> BTreeMap<IpAddr, Peer> {
    let store = place.shared.store();
    let mut pods = BTreeMap::new();
    for launch in probes {
        let Source::Pod {
            namespace, name, ..
        } = &launch.source
        else {
            continue;
        };
        let Some(source) = store.pod(namespace, name) else {
            continue;
        };
        let own = if launch.inside {
            name.clone()
        } else {
            let labels = identity_labels(source.metadata.labels.as_ref().unwrap_or(&Labels::new()));
            names::probe(&labels, &place.common.run, launch.probe)
        };
        for address in addresses(&source) {
            pods.entry(address)
                .or_insert_with(|| (namespace.clone(), own.clone()));
        }
    }
    pods
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let all = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    all.iter()
        .filter_map(|address| address.ip.parse().ok())
        .collect()
}

/// A probe that is to reach others; the runner's in any case.
struct PendingLaunch {
    place: RunContext,
    launch: Launch,
    /// `None` for what is no pod of ours.
    owner: Option<OwnerReference>,
    /// Whom it wants to reach, by the address that its plan gives.
    wanted: BTreeMap<IpAddr, Peer>,
    created: Arc<Created>,
    enough: watch::Receiver<bool>,
}

impl PendingLaunch {
    /// Waits for the others' addresses, creates the probe and reads it to its end.
    async fn hold(self, lines: mpsc::Sender<Arrival>) {
        // Those that never come are not reached, which proves nothing of them.
        self.place
            .shared
            .wait_while(MEETING, || self.known().len() < self.wanted.len())
            .await;
        let Self {
            place,
            launch,
            owner,
            created,
            enough,
            ..
        } = &self;
        let given = peer_addresses::exchange(&launch.plan, &self.known());
        let digests = Some(Digests::of(&launch.plan, &given));
        let outcome = match &launch.source {
            Source::Runner => {
                RunnerProbe::start(launch.probe, &given, digests, place.started, &lines)
                    .map(|runner| created.note_runner(runner))
            }
            _ => match make(place, launch, &given, owner.clone()).await {
                Ok(made) => {
                    created.note(&made);
                    let reading = Reading {
                        probe: launch.probe,
                        digests,
                        enough: enough.clone(),
                    };
                    follow(
                        place.clone(),
                        made,
                        reading,
                        Arc::clone(created),
                        lines.clone(),
                    )
                    .await;
                    Ok(())
                }
                Err(why) => Err(why),
            },
        };
        if let Err(why) = outcome {
            not_started(place, launch.probe, why, &lines).await;
        }
    }

    fn known(&self) -> AddressMap {
        let store = self.place.shared.store();
        let own = |(of, (namespace, name)): (&IpAddr, &Peer)| {
            let pod = store.pod(namespace, name)?;
            let own = addresses(&pod)
                .into_iter()
                .find(|own| own.is_ipv4() == of.is_ipv4())?;
            Some((*of, own))
        };
        self.wanted.iter().filter_map(own).collect()
    }
}

/// What a reader is told beside whose log it reads.
struct Reading {
    probe: ProbeId,
    digests: Option<Digests>,
    enough: watch::Receiver<bool>,
}

/// Reads one probe to its end. One that never runs is deleted at once: it must not begin later, nor
/// keep a node busy.
async fn follow(
    place: RunContext,
    made: CreatedObject,
    reading: Reading,
    created: Arc<Created>,
    lines: mpsc::Sender<Arrival>,
) {
    let Reading {
        probe,
        digests,
        enough,
    } = reading;
    let (namespace, pod, container) = match &made {
        CreatedObject::Pod(ours) => (&ours.namespace, &ours.name, CONTAINER.into()),
        CreatedObject::Within(entered) => (
            &entered.namespace,
            &entered.name,
            names::of_run(&place.common.run),
        ),
    };
    let log = Log {
        client: place.client.clone(),
        shared: Arc::clone(&place.shared),
        namespace: namespace.clone(),
        pod: pod.clone(),
        container,
        probe,
        digests,
        lines,
        enough,
    };
    if let Err(why) = log.follow().await {
        if let CreatedObject::Pod(ours) = &made {
            created.note_deletion(ours, delete(&place, ours).await);
        }
        log.tell(Err(ProbeFault::NotStarted(why))).await;
    }
}

/// Reports a probe that did not start.
pub(super) async fn not_started(
    place: &RunContext,
    probe: ProbeId,
    why: String,
    lines: &mpsc::Sender<Arrival>,
) {
    // Nobody reads any more: then nobody wants to know.
    let _ = lines
        .send(Arrival {
            probe,
            at: place.shared.now(),
            line: Err(ProbeFault::NotStarted(why)),
        })
        .await;
}
