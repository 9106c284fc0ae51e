//! Whether nodes enforce policies on pods such as our probes, and how fast: two pods of our own on
//! each node.
//!
//! One answers, the other tries it: allowed at first, then denied by default, then allowed again.
//! Nothing crosses nodes, so a node that lets through what is denied is the one that does not
//! enforce. They have the exact shape of other probes and one label more, which nothing else in the
//! cluster carries and which the two policies select; and they are made only in a namespace that
//! was named for it and that holds no other pods.
//!
//! # Limitations
//!
//! Only nodes that take pods without a toleration are tried, and one family: the first of each
//! pod's addresses.

mod watch;

pub use watch::{Canaries, Enforcement};

use super::error::Error;
use super::launch::RunContext;
use super::logs::Log;
use super::names::{CONTAINER, annotations};
use super::probe_pod::{self, Common, Wanted};
use super::{CONTROL_PORT, owner};
use crate::backend::Arrival;
use crate::plan::ProbeId;
use crate::wire::{self, Deadlines, Flow, Pace, Request, Target, Transport};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch as told};
use tokio::time::{Instant, timeout_at};
use watch::Track;

/// The label that only canaries carry; its value is the run's id.
const LABEL: &str = "watertight.dev/canary";

/// Numbers of canaries; those of a run's probes begin at 0.
const FIRST_PROBE: u32 = 0x8000_0000;

/// How long pods may take to run, and then to reach each other.
const STARTUP: Duration = Duration::from_secs(45);

/// How long a policy may take to act. Plugins under load are known to need longer than this; then
/// they are called leaking, which is what they are to a pod that starts meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the cluster may take to remove what was deleted.
const REMOVAL: Duration = Duration::from_secs(20);

/// Milliseconds between two attempts: what latencies are measured to.
const INTERVAL_MS: u32 = 250;

/// How long an attempt may take: nothing leaves the node.
const DEADLINE_MS: u32 = 500;

/// Why canaries were not made, or could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The namespace is not there.
    #[error("make canaries: there is no namespace {0}; it has to be made for them alone")]
    NoNamespace(String),
    /// It is not theirs alone.
    #[error(
        "make canaries: namespace {namespace} holds other pods ({pod}, ...); name one that is theirs alone"
    )]
    NotAlone {
        /// The namespace.
        namespace: String,
        /// One of its pods.
        pod: String,
    },
    /// The cluster refused something.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// Makes canaries, watches them, removes them.
///
/// # Errors
/// [`CanaryError`]. What a single node does is no error.
pub(super) async fn run(place: &RunContext, namespace: &str) -> Result<Canaries, CanaryError> {
    let nodes = {
        let store = place.shared.store();
        let objects = store.objects();
        if !objects
            .namespaces
            .iter()
            .any(|it| it.metadata.name.as_deref() == Some(namespace))
        {
            return Err(CanaryError::NoNamespace(namespace.to_owned()));
        }
        if let Some(pod) = objects
            .pods
            .iter()
            .find(|pod| pod.metadata.namespace.as_deref() == Some(namespace))
        {
            let pod = pod.metadata.name.clone().unwrap_or_default();
            return Err(CanaryError::NotAlone {
                namespace: namespace.to_owned(),
                pod,
            });
        }
        objects
            .nodes
            .into_iter()
            .filter(|node| takes_pods(node))
            .filter_map(|node| node.metadata.name.clone())
            .collect()
    };
    // An owner of their own, since they are gone long before the run is.
    let mut common = place.common.clone();
    common.run.push('c');
    common.deadline = 2 * STARTUP + 2 * PATIENCE + REMOVAL;
    let owner = owner::create(&place.client, namespace, &common).await?;
    let flight = CanaryRun {
        place,
        namespace,
        common: &common,
        owner: &owner,
    };
    let seen = flight.run(nodes).await;
    flight.remove().await?;
    Ok(seen?)
}

/// Whether a node takes pods that tolerate nothing.
fn takes_pods(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let taints = spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let linux = node
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/os"));
    spec.is_none_or(|spec| spec.unschedulable != Some(true))
        && !taints
            .iter()
            .any(|taint| taint.effect != "PreferNoSchedule")
        && linux.is_none_or(|os| os == "linux")
}

struct CanaryRun<'a> {
    place: &'a RunContext,
    namespace: &'a str,
    common: &'a Common,
    owner: &'a OwnerReference,
}

impl CanaryRun<'_> {
    async fn run(&self, nodes: Vec<String>) -> Result<Canaries, Error> {
        let (sender, mut lines) = mpsc::channel(1_024);
        let mut canaries = Canaries::default();
        let mut targets = BTreeMap::new();
        for (node, number) in nodes.into_iter().zip(FIRST_PROBE..) {
            let name = self
                .create(&node, ProbeId(number), &self.plan(None))
                .await?;
            targets.insert(node, (number, name));
        }
        let addresses = self.addresses(&targets).await;
        let mut tracks = BTreeMap::new();
        let mut readers = Vec::new();
        let count = targets.len() as u32;
        for (node, (number, _)) in targets {
            let Some(address) = addresses.get(&node) else {
                let why = format!("its canary does not run after {} s", STARTUP.as_secs());
                canaries.nodes.insert(node, Enforcement::Untried(why));
                continue;
            };
            let probe = ProbeId(number + count);
            let pod = self
                .create(&node, probe, &self.plan(Some(*address)))
                .await?;
            let log = Log {
                client: self.place.client.clone(),
                shared: self.place.shared.clone(),
                namespace: self.namespace.to_owned(),
                pod,
                container: CONTAINER.into(),
                probe,
                digests: None,
                lines: sender.clone(),
                // Their logs are read until their pods are gone.
                enough: told::channel(false).1,
            };
            readers.push(tokio::spawn(async move {
                if let Err(why) = log.follow().await {
                    log.tell(Err(crate::backend::ProbeFault::NotStarted(why)))
                        .await;
                }
            }));
            tracks.insert(probe, (node, Track::default()));
        }
        drop(sender);
        let judged = self.judge(&mut tracks, &mut lines).await;
        for reader in readers {
            reader.abort();
        }
        canaries.nodes.extend(judged?);
        Ok(canaries)
    }

    /// Allowed, denied, allowed again.
    async fn judge(
        &self,
        tracks: &mut BTreeMap<ProbeId, (String, Track)>,
        lines: &mut mpsc::Receiver<Arrival>,
    ) -> Result<BTreeMap<String, Enforcement>, Error> {
        let mut seen = BTreeMap::new();
        watch(tracks, lines, STARTUP, |track| {
            track.opened_after(Duration::ZERO).is_some()
        })
        .await;
        tracks.retain(|_, (node, track)| {
            let reached = track.opened_after(Duration::ZERO).is_some();
            if !reached {
                let why = track.fault.clone().unwrap_or_else(|| {
                    "its canaries did not reach each other before any policy".into()
                });
                seen.insert(node.clone(), Enforcement::Untried(why));
            }
            reached
        });
        if tracks.is_empty() {
            return Ok(seen);
        }
        self.policy("deny", json!({ "policyTypes": ["Ingress", "Egress"] }))
            .await?;
        let denied = self.place.shared.now();
        watch(tracks, lines, PATIENCE, |track| {
            track.blocked_since(denied).is_some()
        })
        .await;
        let mut blocked = BTreeMap::new();
        tracks.retain(
            |probe, (node, track)| match (track.blocked_since(denied), &track.fault) {
                (Some(since), _) => {
                    blocked.insert(*probe, since.saturating_sub(denied));
                    true
                }
                (None, Some(why)) => {
                    seen.insert(node.clone(), Enforcement::Untried(why.clone()));
                    false
                }
                (None, None) => {
                    seen.insert(node.clone(), Enforcement::Leaks);
                    false
                }
            },
        );
        if tracks.is_empty() {
            return Ok(seen);
        }
        let peers = json!([{ "podSelector": { "matchLabels": self.labels() } }]);
        let allow = json!({ "policyTypes": ["Ingress", "Egress"], "ingress": [{ "from": peers }], "egress": [{ "to": peers }] });
        self.policy("allow", allow).await?;
        let allowed = self.place.shared.now();
        watch(tracks, lines, PATIENCE, |track| {
            track.opened_after(allowed).is_some()
        })
        .await;
        for (probe, (node, track)) in tracks {
            let enforcement = match (track.opened_after(allowed), &track.fault) {
                (Some(at), _) => Enforcement::Enforced {
                    deny: blocked[probe],
                    allow: at.saturating_sub(allowed),
                },
                (None, Some(why)) => Enforcement::Untried(why.clone()),
                (None, None) => Enforcement::Stuck,
            };
            seen.insert(node.clone(), enforcement);
        }
        Ok(seen)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.common.run.clone())])
    }

    /// A canary's plan: to answer, and to try an address if there is one.
    fn plan(&self, target: Option<IpAddr>) -> wire::Plan {
        let flow = |(id, address)| Flow {
            id,
            target: Target::Address(address),
            port: CONTROL_PORT,
            transport: Transport::Tcp,
            request: Request::Nonce,
            deadlines: Deadlines {
                resolve_ms: DEADLINE_MS,
                connect_ms: DEADLINE_MS,
                tls_ms: DEADLINE_MS,
                request_ms: DEADLINE_MS,
            },
            pace: Pace {
                bursts_ms: vec![0],
                interval_ms: INTERVAL_MS,
                attempts: None,
                single: true,
                accepted: None,
            },
        };
        // One that only answers tries itself, which never leaves it: a plan without a flow would be
        // over at once.
        let target = target.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        wire::Plan {
            v: wire::VERSION,
            run: self.common.run.clone(),
            seed: 0,
            ttl_ms: self.common.deadline.as_millis() as u64,
            heartbeat_ms: INTERVAL_MS,
            trust: Vec::new(),
            resolver: None,
            listen: Some(CONTROL_PORT),
            idle_timeout: None,
            flows: vec![flow((0, target))],
        }
    }

    async fn create(&self, node: &str, probe: ProbeId, plan: &wire::Plan) -> Result<String, Error> {
        let doing = || format!("create a canary in namespace {}", self.namespace);
        let environment = watertight_probe::encode_plan(plan).unwrap_or_default();
        let wanted = Wanted {
            probe,
            owner: self.owner.clone(),
            environment: &environment,
        };
        let mut pod = probe_pod::unlabelled(Some(node), self.namespace, self.common, &wanted);
        pod.metadata.labels = Some(self.labels());
        let api: Api<Pod> = Api::namespaced(self.place.client.clone(), self.namespace);
        let created = api
            .create(&PostParams::default(), &pod)
            .await
            .map_err(|error| Error::api(doing(), error))?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    async fn policy(&self, name: &str, rules: serde_json::Value) -> Result<(), Error> {
        let doing = format!(
            "create a policy that {name}s canaries in namespace {}",
            self.namespace
        );
        let mut spec = json!({ "podSelector": { "matchLabels": self.labels() } });
        if let (Some(spec), serde_json::Value::Object(rules)) = (spec.as_object_mut(), rules) {
            spec.extend(rules);
        }
        let policy = NetworkPolicy {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(format!("watertight-canary-{name}-{}", self.common.run)),
                annotations: Some(annotations(&self.common.run, "canaries")),
                owner_references: Some(vec![self.owner.clone()]),
                ..Default::default()
            },
            spec: serde_json::from_value(spec).unwrap_or_default(),
        };
        let api: Api<NetworkPolicy> = Api::namespaced(self.place.client.clone(), self.namespace);
        api.create(&PostParams::default(), &policy)
            .await
            .map_err(|error| Error::api(doing, error))?;
        Ok(())
    }

    /// The first address of each pod, as far as they come in time.
    async fn addresses(&self, pods: &BTreeMap<String, (u32, String)>) -> BTreeMap<String, IpAddr> {
        let known = || -> BTreeMap<String, IpAddr> {
            let store = self.place.shared.store();
            let address = |name: &str| {
                let pod = store.pod(self.namespace, name)?;
                pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
            };
            pods.iter()
                .filter_map(|(node, (_, name))| Some((node.clone(), address(name)?)))
                .collect()
        };
        self.place
            .shared
            .wait_while(STARTUP, || known().len() < pods.len())
            .await;
        known()
    }

    /// Deletes the owner, and with it everything; returns once the pods are gone.
    async fn remove(&self) -> Result<(), Error> {
        let what = format!("Job {}/{}", self.namespace, self.owner.name);
        let api: Api<Job> = Api::namespaced(self.place.client.clone(), self.namespace);
        api.delete(&self.owner.name, &DeleteParams::background())
            .await
            .map_err(|error| Error::api(format!("remove {what}"), error))?;
        let there = || {
            let store = self.place.shared.store();
            store.has_pods_of(&self.common.run)
        };
        self.place.shared.wait_while(REMOVAL, there).await;
        if there() {
            Err(Error::Lingering {
                what: format!("canaries in namespace {}", self.namespace),
            })
        } else {
            Ok(())
        }
    }
}

/// Reads lines until every track that is not at fault has what it waits for, or time is up.
async fn watch(
    tracks: &mut BTreeMap<ProbeId, (String, Track)>,
    lines: &mut mpsc::Receiver<Arrival>,
    timeout: Duration,
    has: impl Fn(&Track) -> bool,
) {
    let deadline = Instant::now() + timeout;
    while !tracks
        .values()
        .all(|(_, track)| has(track) || track.fault.is_some())
    {
        let Ok(Some(arrival)) = timeout_at(deadline, lines.recv()).await else {
            return;
        };
        let Some((_, track)) = tracks.get_mut(&arrival.probe) else {
            continue;
        };
        match arrival.line {
            Ok(line) => track.take(arrival.at, &line, 0),
            Err(fault) => track.fault = Some(fault.to_string()),
        }
    }
}
