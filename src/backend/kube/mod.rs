//! A cluster: probes that have the workload's identity, harm nothing, and vanish.
//!
//! ```text
//! Access ── connect ──────▶ a client
//!        ── watches ──────▶ objects     everything that matters, listed once and watched from then on
//! objects ── observe ─────▶ Inventory   what exists
//!         ── fingerprint ─▶ Change      what of a change matters
//! Launch ── probe_pod ────▶ pods        never ready, restricted, owned by `owner`, which the cluster removes by itself
//!        ── logs ─────────▶ lines
//! ```
//!
//! The decisions are pure functions of objects; what asks the API server is apart from them.
//!
//! # Limitations
//!
//! - A Service that nobody may reach and whose pods are on several nodes is vouched for by those
//!   nodes together ([`crate::plan::Composite`]); with more than some twenty nodes they get through
//!   too seldom.
//! - A probe's pod has none of the original's annotations: what a plugin derives from those
//!   (bandwidth, further networks) it lacks.
//! - Where a whole cluster may not be read, the namespaces that suites name are; what other
//!   namespaces hold is unknown, cluster DNS included, and a change of a namespace's labels is not
//!   noticed.
//! - A probe within a workload's pod (`source: ephemeral`) is one container for each pod and run:
//!   what would need a second one, since pods changed during the run or there are more flows than
//!   one probe takes, is unproven. Where its node cannot reach it, it ends when a run would be over
//!   that takes as long as one may, whether this one is or not.
//! - Of policies those of Kubernetes are watched (NetworkPolicy, ClusterNetworkPolicy v1alpha2):
//!   that another vendor's kind changes during a run is not noticed.
//! - Nodes' probes need host networking in the namespace of `--namespace`; where Pod Security
//!   forbids it, what only they can vouch for is unproven. The witness of each node is a pod of
//!   that namespace: where its policies isolate it, it vouches for nothing.

mod canary;
mod clean;
mod cluster_policy;
mod connect;
mod control_endpoints;
mod created_objects;
mod ephemeral;
mod error;
mod fingerprint;
mod launch;
mod logs;
mod names;
mod objects;
mod owner;
mod peer_addresses;
pub mod preflight;
mod preview;
mod probe_pod;
mod resolve;
mod runner;
mod state;
mod teardown;
mod tls;
mod watches;

use super::{Arrival, Backend, Change, EnforcerCounts, Launch, WatchGap};
use crate::inventory::{EnvironmentInfo, Inventory, PolicyState, observe, spec_digest};
use crate::plan::ProbeId;
use ::kube::Api;
use ::kube::api::PostParams;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use launch::{Run, RunContext};
use objects::Shared;
use preflight::Allowances;
use probe_pod::Common;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use watches::Watches;

pub use canary::{Canaries, CanaryError, Enforcement};
pub use clean::{Cleaned, Left, Runs, clean};
pub use connect::Access;
pub use control_endpoints::{CONTROL_PORT, KUBELET_PORT, control_endpoints, properties};
pub use error::Error;
pub use preview::LaunchPreview;

/// The image of the probe, unless another is named.
pub const PROBE_IMAGE: &str = concat!("localhost/watertight-probe:", env!("CARGO_PKG_VERSION"));

/// Changes that wait for their reader at most.
const CHANGES: usize = 4_096;

/// How long one request may take, unless kubectl's flag says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How much longer than its plan a probe may live: it may have to be scheduled, and its image to be
/// pulled.
const STARTUP: Duration = Duration::from_secs(90);

/// The image of the probe, and how it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// A cluster that is connected.
pub struct Kube {
    place: RunContext,
    server: String,
    watches: Watches,
    launched: Run,
    /// The probes that preflight has judged.
    judged: BTreeSet<ProbeId>,
    /// Those that it refused, and why: they are never created.
    refused: BTreeMap<ProbeId, String>,
    allowances: Allowances,
    /// What was launched and removed before the run.
    earlier: Vec<JoinHandle<Vec<Error>>>,
    changes: Option<mpsc::Receiver<Change>>,
    started: Instant,
    version: Option<String>,
    operator: Option<String>,
    /// How long enforcement took, by canaries.
    latency: Option<Duration>,
}

impl Kube {
    /// Connects, and lists everything that matters. `namespaces` are those without which nothing
    /// can be said; where the whole cluster may be read, all are.
    ///
    /// # Errors
    /// When there is no cluster, or it may not be read.
    pub async fn connect(
        access: &Access,
        image: Image,
        run: String,
        namespaces: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let (notice, changes) = mpsc::channel(CHANGES);
        let shared = Arc::new(Shared::new(started, notice));
        let connection = connect::connect(access).await?;
        let timeout = access
            .request_timeout
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(REQUEST_TIMEOUT);
        let mut needed = namespaces.clone();
        needed.insert(connection.namespace.clone());
        let watches = watches::start(&connection, &shared, &needed, timeout).await?;
        let common = Common {
            run,
            image: image.name,
            pull_policy: image.pull_policy,
            deadline: STARTUP,
        };
        let place = RunContext {
            client: connection.client,
            shared,
            namespace: connection.namespace,
            common,
            control_endpoints: control_endpoints(&Inventory::default()),
            timeout,
            started,
        };
        Ok(Self {
            place,
            server: connection.server,
            watches,
            launched: Run::default(),
            judged: BTreeSet::new(),
            refused: BTreeMap::new(),
            allowances: Allowances::default(),
            earlier: Vec::new(),
            changes: Some(changes),
            started,
            version: None,
            operator: None,
            latency: None,
        })
    }

    /// What arrivals and changes are timed from.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The addresses of outside hosts, as the pods of the cluster resolve them: at the price of one
    /// probe.
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn resolve(
        &mut self,
        inventory: &Inventory,
        names: &[String],
    ) -> Result<BTreeMap<String, Vec<IpAddr>>, String> {
        let server = inventory
            .cluster_dns()
            .and_then(|service| service.addresses.first().copied());
        let server = server.ok_or("there is no Service kube-system/kube-dns to ask")?;
        let mut place = self.place.clone();
        // An owner of its own, since this one is over long before the run.
        place.common.run.push('n');
        place.common.deadline = STARTUP;
        let mut launched = Run::default();
        let found = resolve::resolve(&place, &mut launched, names, server).await;
        self.earlier
            .push(tokio::spawn(async move { launched.remove(&place).await }));
        found
    }

    /// Whether nodes enforce policies on probe pods, and how fast: by canaries in a namespace that
    /// is theirs alone.
    ///
    /// # Errors
    /// [`CanaryError`].
    pub async fn canaries(&mut self, namespace: &str) -> Result<Canaries, CanaryError> {
        let canaries = canary::run(&self.place, namespace).await?;
        self.latency = canaries.latency();
        Ok(canaries)
    }

    /// What is worth telling of the connection itself.
    pub fn notes(&self) -> &[String] {
        &self.watches.notes
    }
}

impl Kube {
    /// The API server's version; asked for once.
    async fn version(&mut self) -> Option<String> {
        if self.version.is_none() {
            let asked =
                tokio::time::timeout(self.place.timeout, self.place.client.apiserver_version())
                    .await;
            self.version = asked.ok().and_then(Result::ok).map(|info| info.git_version);
        }
        self.version.clone()
    }

    /// Who we are to the API server; asked for once. Everybody may ask that, but an old server does
    /// not know it.
    async fn operator(&mut self) -> Option<String> {
        if self.operator.is_none() {
            let api: Api<SelfSubjectReview> = Api::all(self.place.client.clone());
            let review = SelfSubjectReview::default();
            let (parameters, asked) = (PostParams::default(), self.place.timeout);
            let answer = tokio::time::timeout(asked, api.create(&parameters, &review)).await;
            let status = answer
                .ok()
                .and_then(Result::ok)
                .and_then(|review| review.status);
            self.operator = status
                .and_then(|status| status.user_info)
                .and_then(|user| user.username);
        }
        self.operator.clone()
    }
}

fn policy_state(policy: &NetworkPolicy) -> PolicyState {
    PolicyState {
        kind: "NetworkPolicy".into(),
        namespace: policy.metadata.namespace.clone(),
        name: policy.metadata.name.clone().unwrap_or_default(),
        uid: policy.metadata.uid.clone(),
        resource_version: policy.metadata.resource_version.clone(),
        sha256: spec_digest(&policy.spec),
    }
}

impl Backend for Kube {
    type Error = Error;

    async fn inventory(&mut self) -> Result<Inventory, Error> {
        let (inventory, unread) = {
            let store = self.place.shared.store();
            observe(&store.objects())
        };
        // Between the look and this nothing can have changed: the watches run on this thread.
        self.place.shared.tell();
        self.place.control_endpoints = control_endpoints(&inventory);
        if unread.is_empty() {
            Ok(inventory)
        } else {
            Err(Error::Unreadable(unread))
        }
    }

    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Error> {
        let version = self.version().await;
        let operator = self.operator().await;
        let store = self.place.shared.store();
        let cluster = store.namespace("kube-system");
        let of_namespaces = store
            .objects()
            .policies
            .into_iter()
            .map(policy_state)
            .collect::<Vec<_>>();
        let mut policies: Vec<PolicyState> = of_namespaces
            .into_iter()
            .chain(store.cluster_policy_states())
            .collect();
        policies.sort();
        Ok(EnvironmentInfo {
            cluster_uid: cluster.and_then(|namespace| namespace.metadata.uid.clone()),
            server: Some(self.server.clone()),
            version,
            operator,
            probe_images: self.launched.images(),
            policies,
        })
    }

    fn changes(&mut self) -> mpsc::Receiver<Change> {
        self.changes.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn canary(&self) -> Option<Duration> {
        self.latency
    }

    /// Also where a connection only hangs: then requests get no answer, and watches do not know it.
    fn unseen(&self) -> Option<WatchGap> {
        let hangs = |why| WatchGap {
            since: self.place.shared.now(),
            what: "the cluster".into(),
            why,
        };
        self.place
            .shared
            .unseen()
            .or_else(|| self.launched.created.unanswered().map(hangs))
    }

    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Error> {
        let longest = probes
            .iter()
            .map(|launch| launch.plan.ttl_ms)
            .max()
            .unwrap_or_default();
        self.place.common.deadline = Duration::from_millis(longest) + STARTUP;
        self.judge_later(&probes).await;
        let (refused, probes): (Vec<Launch>, Vec<Launch>) = probes
            .into_iter()
            .partition(|launch| self.refused.contains_key(&launch.probe));
        for Launch { probe, .. } in refused {
            launch::not_started(&self.place, probe, self.refused[&probe].clone(), &lines).await;
        }
        self.launched.launch(&self.place, probes, &lines).await
    }

    async fn stop(&mut self) {
        self.launched.stop(&self.place).await;
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, Error> {
        // What enforces policies here is unknown, so nothing is known of its counts.
        Ok(EnforcerCounts::new())
    }

    async fn teardown(self) -> Vec<Error> {
        let mut errors = self.launched.remove(&self.place).await;
        for earlier in self.earlier {
            // A panic of it is a defect of ours, and what it left goes by itself.
            errors.extend(earlier.await.unwrap_or_default());
        }
        errors
    }
}
