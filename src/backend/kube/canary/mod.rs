//! Canaries: two pods on each node that show whether the node enforces policies on pods such as
//! probes, and how fast.
//!
//! One pod answers and the other sends to it: allowed at first, then denied by default, then
//! allowed again. No packet crosses nodes, so a flow that opens while it is denied shows that its
//! node does not enforce. Canaries have the shape of probe pods, and one additional label that no
//! other pod has and that the two policies select. They are only created in a namespace that the
//! user named for them and that holds no other pods.
//!
//! # Limitations
//!
//! Only nodes that accept pods without tolerations are tested, and only the first address of each
//! pod, that is one address family.

mod history;

pub use history::{Canaries, Enforcement};

use super::error::Error;
use super::launch::RunContext;
use super::logs::Log;
use super::names::{CONTAINER, annotations, canary_policy};
use super::owner;
use super::probe_pod::{self, PodRequest, RunSettings};
use crate::backend::{Arrival, CONTROL_PORT, ProbeFault};
use crate::plan::ProbeId;
use crate::wire::{self, Deadlines, Flow, Pace, Request, Target, Transport};
use history::FlowHistory;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// The label that only canaries have; its value is the run's id.
const LABEL: &str = "watertight.dev/canary";

/// The id of the first canary; those of a run's probes begin at 0.
const FIRST_PROBE: u32 = 0x8000_0000;

/// How long pods may take to run, and then to reach each other.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a policy may take to act. Network plugins under load may need longer; then they are
/// reported as not enforcing, which is true for a pod that starts in that time.
const POLICY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the cluster may take to remove deleted pods.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause between two attempts in milliseconds, which is the resolution of the measured times.
const INTERVAL_MS: u32 = 250;

/// How long an attempt may take in milliseconds: packets do not leave the node.
const ATTEMPT_TIMEOUT_MS: u32 = 500;

/// Why no canary was tested.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The namespace does not exist.
    #[error("create canaries: there is no namespace {0}; create one that holds no other pods")]
    NoNamespace(String),
    /// The namespace holds pods.
    #[error(
        "create canaries: namespace {namespace} holds other pods ({pod}, ...); name one that holds none"
    )]
    OtherPods {
        namespace: String,
        /// One of its pods.
        pod: String,
    },
    /// A request failed.
    #[error(transparent)]
    Request(#[from] Error),
}

/// The flow of a node's sending canary, by its probe.
type Histories = BTreeMap<ProbeId, (String, FlowHistory)>;

/// Creates canaries on each node, tests enforcement, and removes them.
///
/// # Errors
/// [`CanaryError`]. A node that fails the test is no error.
pub(super) async fn run(context: &RunContext, namespace: &str) -> Result<Canaries, CanaryError> {
    let nodes = testable_nodes(context, namespace)?;
    // A run id with its own owner Job, which is deleted long before the run ends.
    let mut settings = context.settings.clone();
    settings.run.push('c');
    settings.active_deadline = 2 * STARTUP_TIMEOUT + 2 * POLICY_TIMEOUT + REMOVAL_TIMEOUT;
    let owner = owner::create(context, namespace, &settings).await?;

    let run = CanaryRun {
        context,
        namespace,
        settings: &settings,
        owner: &owner,
    };
    let canaries = run.run(nodes).await;
    run.remove().await?;
    Ok(canaries?)
}

/// The nodes that accept canaries.
///
/// # Errors
/// When the namespace does not exist, or holds pods.
fn testable_nodes(context: &RunContext, namespace: &str) -> Result<Vec<String>, CanaryError> {
    let store = context.shared.store();
    let objects = store.objects();
    if !objects
        .namespaces
        .iter()
        .any(|object| object.metadata.name.as_deref() == Some(namespace))
    {
        return Err(CanaryError::NoNamespace(namespace.to_owned()));
    }
    if let Some(pod) = objects
        .pods
        .iter()
        .find(|pod| pod.metadata.namespace.as_deref() == Some(namespace))
    {
        return Err(CanaryError::OtherPods {
            namespace: namespace.to_owned(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
        });
    }

    Ok(objects
        .nodes
        .into_iter()
        .filter(|node| accepts_pods(node))
        .filter_map(|node| node.metadata.name.clone())
        .collect())
}

/// Whether a node runs Linux and accepts pods without tolerations.
fn accepts_pods(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let taints = spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let os = node
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/os"));

    spec.is_none_or(|spec| spec.unschedulable != Some(true))
        && taints
            .iter()
            .all(|taint| taint.effect == "PreferNoSchedule")
        && os.is_none_or(|os| os == "linux")
}

/// The canaries of one run.
struct CanaryRun<'a> {
    context: &'a RunContext,
    namespace: &'a str,
    settings: &'a RunSettings,
    owner: &'a OwnerReference,
}

impl CanaryRun<'_> {
    async fn run(&self, nodes: Vec<String>) -> Result<Canaries, Error> {
        let (sender, mut lines) = mpsc::channel(1_024);
        let mut canaries = Canaries::default();
        let mut targets = BTreeMap::new();
        for (node, number) in nodes.into_iter().zip(FIRST_PROBE..) {
            let plan = self.plan(None);
            let pod = self.create(&node, ProbeId(number), &plan).await?;
            targets.insert(node, (number, pod));
        }

        let addresses = self.wait_for_addresses(&targets).await;
        let mut histories = Histories::new();
        let mut readers = Vec::new();
        let count = targets.len() as u32;
        for (node, (number, _)) in targets {
            let Some(address) = addresses.get(&node) else {
                let why = format!(
                    "its canary does not run after {} s",
                    STARTUP_TIMEOUT.as_secs()
                );
                canaries.nodes.insert(node, Enforcement::NotTested(why));
                continue;
            };
            let probe = ProbeId(number + count);
            let plan = self.plan(Some(*address));
            let pod = self.create(&node, probe, &plan).await?;
            readers.push(self.spawn_reader(probe, pod, sender.clone()));
            histories.insert(probe, (node, FlowHistory::default()));
        }
        drop(sender);

        let tested = self.test(&mut histories, &mut lines).await;
        for reader in readers {
            reader.abort();
        }
        canaries.nodes.extend(tested?);
        Ok(canaries)
    }

    fn spawn_reader(
        &self,
        probe: ProbeId,
        pod: String,
        lines: mpsc::Sender<Arrival>,
    ) -> JoinHandle<()> {
        let log = Log {
            client: self.context.client.clone(),
            shared: self.context.shared.clone(),
            namespace: self.namespace.to_owned(),
            pod,
            container: CONTAINER.into(),
            probe,
            digests: None,
            lines,
            // Never set: the log is read until the task is aborted.
            stop_reading: watch::channel(false).1,
        };
        tokio::spawn(async move {
            if let Err(why) = log.follow().await {
                log.send(Err(ProbeFault::NotStarted(why.to_string()))).await;
            }
        })
    }

    /// Tests each node in three steps: allowed without policies, denied, allowed by a policy.
    async fn test(
        &self,
        histories: &mut Histories,
        lines: &mut mpsc::Receiver<Arrival>,
    ) -> Result<BTreeMap<String, Enforcement>, Error> {
        let mut results = BTreeMap::new();
        read_until(histories, lines, STARTUP_TIMEOUT, |history| {
            history.opened_after(Duration::ZERO).is_some()
        })
        .await;
        histories.retain(|_, (node, history)| {
            let is_open = history.opened_after(Duration::ZERO).is_some();
            if !is_open {
                let why = history.fault.clone().unwrap_or_else(|| {
                    "its canaries did not reach each other before any policy".into()
                });
                results.insert(node.clone(), Enforcement::NotTested(why));
            }
            is_open
        });
        if histories.is_empty() {
            return Ok(results);
        }

        self.create_policy("deny", json!({ "policyTypes": ["Ingress", "Egress"] }))
            .await?;
        let denied = self.context.shared.now();
        read_until(histories, lines, POLICY_TIMEOUT, |history| {
            history.blocked_since(denied).is_some()
        })
        .await;
        let mut deny_latencies = BTreeMap::new();
        histories.retain(|probe, (node, history)| {
            if let Some(since) = history.blocked_since(denied) {
                deny_latencies.insert(*probe, since.saturating_sub(denied));
                return true;
            }
            let result = match &history.fault {
                Some(why) => Enforcement::NotTested(why.clone()),
                None => Enforcement::NotEnforced,
            };
            results.insert(node.clone(), result);
            false
        });
        if histories.is_empty() {
            return Ok(results);
        }

        let peers = json!([{ "podSelector": { "matchLabels": self.labels() } }]);
        let rules = json!({
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": peers }],
            "egress": [{ "to": peers }],
        });
        self.create_policy("allow", rules).await?;
        let allowed = self.context.shared.now();
        read_until(histories, lines, POLICY_TIMEOUT, |history| {
            history.opened_after(allowed).is_some()
        })
        .await;
        for (probe, (node, history)) in histories {
            let result = match (history.opened_after(allowed), &history.fault) {
                (Some(at), _) => Enforcement::Enforced {
                    deny: deny_latencies[probe],
                    allow: at.saturating_sub(allowed),
                },
                (None, Some(why)) => Enforcement::NotTested(why.clone()),
                (None, None) => Enforcement::StaysBlocked,
            };
            results.insert(node.clone(), result);
        }
        Ok(results)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.settings.run.clone())])
    }

    /// A canary's plan: it answers on the control port, and sends to the target if there is one.
    fn plan(&self, target: Option<IpAddr>) -> wire::Plan {
        // A canary that only answers sends to its loopback address: a plan without flows would end
        // at once.
        let target = target.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let flow = Flow {
            id: 0,
            target: Target::Address(target),
            port: CONTROL_PORT,
            transport: Transport::Tcp,
            request: Request::Nonce,
            deadlines: Deadlines {
                resolve_ms: ATTEMPT_TIMEOUT_MS,
                connect_ms: ATTEMPT_TIMEOUT_MS,
                tls_ms: ATTEMPT_TIMEOUT_MS,
                request_ms: ATTEMPT_TIMEOUT_MS,
            },
            pace: Pace {
                bursts_ms: vec![0],
                interval_ms: INTERVAL_MS,
                attempts: None,
                single: true,
                accepted: None,
            },
            small_segments: false,
        };
        wire::Plan {
            v: wire::VERSION,
            run: self.settings.run.clone(),
            seed: 0,
            ttl_ms: self.settings.active_deadline.as_millis() as u64,
            heartbeat_ms: INTERVAL_MS,
            trust: Vec::new(),
            resolver: None,
            listen: Some(CONTROL_PORT),
            idle_timeout: None,
            flows: vec![flow],
        }
    }

    /// Creates a canary and returns its pod's name.
    async fn create(&self, node: &str, probe: ProbeId, plan: &wire::Plan) -> Result<String, Error> {
        let environment = watertight_probe::encode_plan(plan).unwrap_or_default();
        let request = PodRequest {
            probe,
            owner: self.owner.clone(),
            environment: &environment,
        };
        let mut pod = probe_pod::unlabelled(Some(node), self.namespace, self.settings, &request);
        pod.metadata.labels = Some(self.labels());

        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), self.namespace);
        let created = api.create(&PostParams::default(), &pod).await;
        let created = created.map_err(|error| {
            let doing = format!("create a canary in namespace {}", self.namespace);
            Error::api(doing, error)
        })?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    /// Creates a policy that selects the canaries. `name` is `allow` or `deny`.
    async fn create_policy(&self, name: &str, rules: serde_json::Value) -> Result<(), Error> {
        let mut spec = rules;
        spec["podSelector"] = json!({ "matchLabels": self.labels() });
        let policy = NetworkPolicy {
            metadata: ObjectMeta {
                name: Some(canary_policy(name, &self.settings.run)),
                annotations: Some(annotations(&self.settings.run, "canaries")),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: serde_json::from_value(spec).unwrap_or_default(),
        };

        let api: Api<NetworkPolicy> = Api::namespaced(self.context.client.clone(), self.namespace);
        let created = api.create(&PostParams::default(), &policy).await;
        created.map(drop).map_err(|error| {
            let doing = format!(
                "create a policy that {name}s canaries in namespace {}",
                self.namespace
            );
            Error::api(doing, error)
        })
    }

    /// The first address of each node's pod, as far as the pods start in time.
    async fn wait_for_addresses(
        &self,
        pods: &BTreeMap<String, (u32, String)>,
    ) -> BTreeMap<String, IpAddr> {
        self.context
            .shared
            .wait_while(STARTUP_TIMEOUT, || self.addresses(pods).len() < pods.len())
            .await;
        self.addresses(pods)
    }

    fn addresses(&self, pods: &BTreeMap<String, (u32, String)>) -> BTreeMap<String, IpAddr> {
        let store = self.context.shared.store();
        pods.iter()
            .filter_map(|(node, (_, name))| {
                let pod = store.pod(self.namespace, name)?;
                let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
                Some((node.clone(), address))
            })
            .collect()
    }

    /// Deletes the owner Job and with it all canaries; returns once the pods are gone.
    async fn remove(&self) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), self.namespace);
        api.delete(&self.owner.name, &DeleteParams::background())
            .await
            .map_err(|error| {
                let doing = format!("remove Job {}/{}", self.namespace, self.owner.name);
                Error::api(doing, error)
            })?;

        self.context
            .shared
            .wait_while(REMOVAL_TIMEOUT, || self.has_pods())
            .await;
        if self.has_pods() {
            return Err(Error::StillTerminating {
                what: format!("canaries in namespace {}", self.namespace),
            });
        }
        Ok(())
    }

    fn has_pods(&self) -> bool {
        let store = self.context.shared.store();
        store.has_pods_of(&self.settings.run)
    }
}

/// Reads lines until the condition holds for every canary without a fault, at most for `timeout`.
async fn read_until(
    histories: &mut Histories,
    lines: &mut mpsc::Receiver<Arrival>,
    timeout: Duration,
    condition: impl Fn(&FlowHistory) -> bool,
) {
    let deadline = Instant::now() + timeout;
    while !histories
        .values()
        .all(|(_, history)| condition(history) || history.fault.is_some())
    {
        let Ok(Some(arrival)) = timeout_at(deadline, lines.recv()).await else {
            return;
        };
        let Some((_, history)) = histories.get_mut(&arrival.probe) else {
            continue;
        };
        match arrival.line {
            Ok(line) => history.add_line(arrival.at, &line, 0),
            Err(fault) => history.fault = Some(fault.to_string()),
        }
    }
}
