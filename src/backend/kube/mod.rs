//! The backend for a cluster: probe pods with the identity of workloads' pods, which harm nothing
//! and are always removed.
//!
//! ```text
//! Access ── connect ──────▶ a client
//!        ── watches ──────▶ objects     each kind is listed once and watched from then on
//! objects ── read_api_objects ▶ Inventory  what exists
//!         ── fingerprint ─▶ Change      changes that matter to verdicts
//! Launch ── probe_pod ────▶ pods        never ready, restricted, owned by a Job that expires (`owner`)
//!        ── logs ─────────▶ lines
//! ```
//!
//! The decisions are pure functions of objects, in modules apart from those that call the API
//! server.
//!
//! # Limitations
//!
//! - For a Service that no source may reach and whose pods are on several nodes, those nodes
//!   together are the target control ([`crate::plan::Composite`]); with more than about twenty
//!   nodes they get through too seldom.
//! - A probe pod has none of the original pod's annotations: network settings that a plugin derives
//!   from those (bandwidth, additional networks) do not apply to it.
//! - Where the whole cluster may not be read, only the namespaces that the suites name are read;
//!   objects in others, cluster DNS included, are unknown, and changes of a namespace's labels go
//!   unnoticed.
//! - A probe inside a workload's pod (`source: ephemeral`) is one container for each pod and run: a
//!   check that would need a second one, because pods changed during the run or there are more
//!   flows than one probe takes, is unproven. Where its node cannot reach it, the container ends
//!   when the longest possible run would be over, even if this run ends earlier.
//! - Only Kubernetes' own policies are watched (NetworkPolicy, ClusterNetworkPolicy v1alpha2):
//!   changes of other vendors' policies during a run go unnoticed.
//! - Node probes need host networking in the namespace of `--namespace`; where Pod Security forbids
//!   it, checks that only they can control are unproven. The reference pod of each node is in that
//!   namespace too: where its policies isolate the pod, it is no control.

mod canary;
mod clean;
mod cluster_policy;
mod connect;
mod control_endpoints;
mod create_probe;
mod created_objects;
mod ephemeral;
mod error;
mod final_list;
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
mod read_probe;
mod resolve;
mod runner;
mod secrets;
mod state;
mod teardown;
mod tls;
mod watched_kinds;
mod watches;

use super::{Arrival, Backend, Change, EnforcerCounts, Launch, WatchGap};
use crate::inventory::{EnvironmentInfo, Inventory, read_api_objects};
use crate::model::Secrets;
use crate::plan::ProbeId;
use ::kube::Api;
use ::kube::api::PostParams;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use launch::{Run, RunContext};
use objects::SharedStore;
use preflight::Allowances;
use probe_pod::RunSettings;
use read_probe::report_not_started;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use watches::Watches;

pub use canary::{Canaries, CanaryError, Enforcement};
pub use clean::{Cleaned, Leftover, Runs, clean};
pub use connect::Access;
pub use control_endpoints::{control_endpoints, properties};
pub use error::Error;
pub use preflight::Code as PreflightCode;
pub use preview::LaunchPreview;

/// The probe image that is used by default.
pub const PROBE_IMAGE: &str = concat!("localhost/watertight-probe:", env!("CARGO_PKG_VERSION"));

/// The capacity of the channel of changes.
const CHANGES: usize = 4_096;

/// How many objects a sentence names.
const OBJECTS_NAMED: usize = 5;

/// How long one request may take, unless `--request-timeout` says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How much longer than its plan a probe pod may live: it has to be scheduled, and its image to be
/// pulled.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(90);

/// The image of the probe and its pull policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// A connected cluster.
pub struct Kube {
    context: RunContext,
    server: String,
    watches: Watches,
    run: Run,
    /// The probes that preflight has judged.
    judged: BTreeSet<ProbeId>,
    /// The probes that preflight refused, with the reason: they are never created.
    refused: BTreeMap<ProbeId, String>,
    allowances: Allowances,
    /// The removals of probes that were launched before the run.
    earlier_removals: Vec<JoinHandle<Vec<Error>>>,
    changes: Option<mpsc::Receiver<Change>>,
    started: Instant,
    version: Option<String>,
    operator: Option<String>,
    /// How long enforcement took to act on canaries.
    policy_latency: Option<Duration>,
}

impl Kube {
    /// Connects, and lists and watches the whole cluster, or where that is forbidden, the given
    /// `namespaces` and the one of the run.
    ///
    /// # Errors
    /// When there is no cluster, or the namespaces may not be read.
    pub async fn connect(
        access: &Access,
        image: Image,
        run: String,
        namespaces: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let (sender, changes) = mpsc::channel(CHANGES);
        let shared = Arc::new(SharedStore::new(started, sender));
        let connection = connect::connect(access).await?;
        let timeout = access
            .request_timeout
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(REQUEST_TIMEOUT);
        let mut namespaces = namespaces.clone();
        namespaces.insert(connection.namespace.clone());
        let watches = watches::start(&connection, &shared, &namespaces, timeout).await?;

        let settings = RunSettings {
            run,
            image: image.name,
            pull_policy: image.pull_policy,
            active_deadline: STARTUP_TIMEOUT,
        };
        let context = RunContext {
            client: connection.client,
            shared,
            namespace: connection.namespace,
            settings,
            secrets: Secrets::default(),
            control_endpoints: control_endpoints(&Inventory::default()),
            timeout,
            started,
        };
        Ok(Self {
            context,
            server: connection.server,
            watches,
            run: Run::default(),
            judged: BTreeSet::new(),
            refused: BTreeMap::new(),
            allowances: Allowances::default(),
            earlier_removals: Vec::new(),
            changes: Some(changes),
            started,
            version: None,
            operator: None,
            policy_latency: None,
        })
    }

    /// Provides what requests take from the runner's environment, before probes are launched.
    pub fn provide(&mut self, secrets: Secrets) {
        self.context.secrets = secrets;
    }

    /// The start of the clock that arrivals and changes are timed by.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The addresses of outside hosts as the cluster's pods resolve them. Launches one probe for
    /// it.
    ///
    /// # Errors
    /// The reason why the cluster's name server gave no answer.
    pub async fn resolve(
        &mut self,
        inventory: &Inventory,
        names: &[String],
    ) -> Result<BTreeMap<String, Vec<IpAddr>>, String> {
        let server = inventory
            .cluster_dns()
            .and_then(|service| service.addresses.first().copied());
        let server = server.ok_or("there is no Service kube-system/kube-dns to ask")?;
        let mut context = self.context.clone();
        // A run id with its own owner Job, which is deleted long before the run ends.
        context.settings.run.push('n');
        context.settings.active_deadline = STARTUP_TIMEOUT;

        let mut run = Run::default();
        let addresses = resolve::resolve(&context, &mut run, names, server).await;
        let removal = tokio::spawn(async move { run.remove(&context).await });
        self.earlier_removals.push(removal);
        addresses
    }

    /// Tests with canaries, in a namespace without other pods, whether each node enforces policies
    /// on probe pods, and how fast.
    ///
    /// # Errors
    /// [`CanaryError`].
    pub async fn canaries(&mut self, namespace: &str) -> Result<Canaries, CanaryError> {
        let canaries = canary::run(&self.context, namespace).await?;
        self.policy_latency = canaries.latency();
        Ok(canaries)
    }

    /// A sentence about the objects that carry the annotation of runs and that this run has not
    /// made; `None` where there is none.
    pub fn annotated_by_others(&self) -> Option<String> {
        let objects = self.context.shared.store().annotated_by_others();
        if objects.is_empty() {
            return None;
        }
        let more = match objects.len().saturating_sub(OBJECTS_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named: Vec<&str> = objects
            .iter()
            .take(OBJECTS_NAMED)
            .map(String::as_str)
            .collect();
        Some(format!(
            "these carry the annotation {}, but this run has not made them, so they are tested and watched like any other object: {}{more}",
            names::RUN,
            named.join(", ")
        ))
    }

    /// Sentences about objects of the cluster that may not be read.
    pub fn notes(&self) -> &[String] {
        &self.watches.notes
    }
}

impl Kube {
    /// The API server's version; requested once.
    async fn version(&mut self) -> Option<String> {
        if self.version.is_none() {
            let request = self.context.client.apiserver_version();
            let answer = tokio::time::timeout(self.context.timeout, request).await;
            self.version = answer
                .ok()
                .and_then(Result::ok)
                .map(|info| info.git_version);
        }
        self.version.clone()
    }

    /// The user name that the API server knows us by; requested once. Every user may ask, but API
    /// servers before Kubernetes 1.28 cannot answer.
    async fn operator(&mut self) -> Option<String> {
        if self.operator.is_none() {
            let api: Api<SelfSubjectReview> = Api::all(self.context.client.clone());
            let review = SelfSubjectReview::default();
            let parameters = PostParams::default();
            let request = api.create(&parameters, &review);
            let answer = tokio::time::timeout(self.context.timeout, request).await;
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

impl Backend for Kube {
    type Error = Error;

    async fn inventory(&mut self) -> Result<Inventory, Error> {
        let (inventory, unreadable) = {
            let store = self.context.shared.store();
            read_api_objects(&store.objects())
        };
        // No change is lost in between: the watches run on this thread.
        self.context.shared.start_reporting_changes();
        self.context.control_endpoints = control_endpoints(&inventory);

        if unreadable.is_empty() {
            Ok(inventory)
        } else {
            Err(Error::Unreadable(unreadable))
        }
    }

    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Error> {
        let version = self.version().await;
        let operator = self.operator().await;
        let store = self.context.shared.store();

        // The uid of this namespace identifies a cluster.
        let kube_system = store.namespace("kube-system");
        Ok(EnvironmentInfo {
            cluster_uid: kube_system.and_then(|namespace| namespace.metadata.uid.clone()),
            server: Some(self.server.clone()),
            version,
            operator,
            probe_images: self.run.images(),
            policies: store.policy_states(),
        })
    }

    fn changes(&mut self) -> mpsc::Receiver<Change> {
        self.changes.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn canary(&self) -> Option<Duration> {
        self.policy_latency
    }

    /// Also where the connection hangs: watches do not notice that, but a deletion gets no answer.
    fn watch_gap(&self) -> Option<WatchGap> {
        self.context.shared.watch_gap().or_else(|| {
            let why = self.run.created.unanswered_deletion()?;
            Some(WatchGap {
                since: self.context.shared.now(),
                what: "the cluster".into(),
                why,
            })
        })
    }

    fn start_failure(&self) -> Option<String> {
        self.run.created.image_failure()
    }

    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Error> {
        let longest_ms = probes
            .iter()
            .map(|launch| launch.plan.ttl_ms)
            .max()
            .unwrap_or_default();
        self.context.settings.active_deadline = Duration::from_millis(longest_ms) + STARTUP_TIMEOUT;
        self.judge_new_probes(&probes).await;

        let (refused, probes): (Vec<Launch>, Vec<Launch>) = probes
            .into_iter()
            .partition(|launch| self.refused.contains_key(&launch.probe));
        for Launch { probe, .. } in refused {
            let why = self.refused[&probe].clone();
            report_not_started(&self.context, probe, why, &lines).await;
        }
        self.run.launch(&self.context, probes, &lines).await
    }

    async fn stop(&mut self) {
        self.run.stop(&self.context).await;
        let RunContext {
            shared, timeout, ..
        } = &self.context;
        self.watches.confirm(shared, *timeout).await;
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, Error> {
        // The cluster's enforcer is unknown, so its counters cannot be read.
        Ok(EnforcerCounts::new())
    }

    async fn teardown(self) -> Vec<Error> {
        let mut errors = self.run.remove(&self.context).await;
        for removal in self.earlier_removals {
            // If the task panicked, the cluster removes its objects when their owner expires.
            errors.extend(removal.await.unwrap_or_default());
        }
        errors
    }
}
