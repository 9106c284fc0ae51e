//! Tasks that read one probe to its end; for a probe that sends to other probes, they first wait
//! for the addresses of those and create it.

use super::create_probe::create_probe;
use super::created_objects::{CreatedObject, CreatedObjects};
use super::launch::{PodName, RunContext};
use super::logs::{Log, StartError};
use super::names::{self, CONTAINER};
use super::peer_addresses::{self, AddressMap, Digests};
use super::runner::RunnerProbe;
use super::teardown::delete;
use crate::backend::{Arrival, Launch, ProbeFault};
use crate::plan::{ProbeId, Source};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a probe waits for the addresses of the probe pods that it sends to.
const PEER_ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// A probe that is created once the addresses of its peers are known. The runner's probe may have
/// no peers.
pub(super) struct PendingLaunch {
    pub(super) context: RunContext,
    pub(super) launch: Launch,
    /// `None` for the runner's probe and ephemeral containers.
    pub(super) owner: Option<OwnerReference>,
    /// The probe pods that it sends to, by the addresses that its plan names.
    pub(super) peers: BTreeMap<IpAddr, PodName>,
    pub(super) created: Arc<CreatedObjects>,
    pub(super) stop_reading: watch::Receiver<bool>,
}

impl PendingLaunch {
    /// Waits for the addresses, creates the probe and reads it to its end.
    pub(super) async fn run(self, lines: mpsc::Sender<Arrival>) {
        // No flow is sent to a peer that gets no address in time, which proves nothing about it.
        self.context
            .shared
            .wait_while(PEER_ADDRESS_TIMEOUT, || {
                self.peer_addresses().len() < self.peers.len()
            })
            .await;

        if let Err(why) = self.start(&lines).await {
            report_not_started(&self.context, self.launch.probe, why, &lines).await;
        }
    }

    async fn start(&self, lines: &mpsc::Sender<Arrival>) -> Result<(), String> {
        let Self {
            context,
            launch,
            created,
            ..
        } = self;
        let plan = peer_addresses::replace(&launch.plan, &self.peer_addresses());
        let digests = Some(Digests::new(&launch.plan, &plan));
        if matches!(launch.source, Source::Runner) {
            let (secrets, started) = (&context.secrets, context.started);
            let runner = RunnerProbe::start(launch.probe, &plan, secrets, digests, started, lines)?;
            created.add_runner_probe(runner);
            return Ok(());
        }

        let object = create_probe(context, launch, &plan, self.owner.clone()).await?;
        created.add(&object);
        let settings = ReaderSettings {
            probe: launch.probe,
            digests,
            stop_reading: self.stop_reading.clone(),
        };
        read_probe(
            context.clone(),
            object,
            settings,
            Arc::clone(created),
            lines.clone(),
        )
        .await;
        Ok(())
    }

    /// The addresses of the peers that have one, of the same address family as in the plan.
    fn peer_addresses(&self) -> AddressMap {
        let store = self.context.shared.store();
        self.peers
            .iter()
            .filter_map(|(planned, (namespace, name))| {
                let pod = store.pod(namespace, name)?;
                let address = pod_addresses(&pod)
                    .into_iter()
                    .find(|address| address.is_ipv4() == planned.is_ipv4())?;
                Some((*planned, address))
            })
            .collect()
    }
}

/// The addresses of a pod; none before it has a network.
pub(super) fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let addresses = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    addresses
        .iter()
        .filter_map(|address| address.ip.parse().ok())
        .collect()
}

/// The settings of a probe's reader.
pub(super) struct ReaderSettings {
    pub(super) probe: ProbeId,
    /// The digests of the probe's plan, where it was sent one with other addresses than planned.
    pub(super) digests: Option<Digests>,
    /// Becomes true when reading has to stop.
    pub(super) stop_reading: watch::Receiver<bool>,
}

/// Reads one probe to its end. A pod that never runs is deleted at once, so that it neither starts
/// later nor occupies its node.
pub(super) async fn read_probe(
    context: RunContext,
    object: CreatedObject,
    settings: ReaderSettings,
    created: Arc<CreatedObjects>,
    lines: mpsc::Sender<Arrival>,
) {
    let (namespace, pod, container) = match &object {
        CreatedObject::Pod(pod) => (&pod.namespace, &pod.name, CONTAINER.into()),
        CreatedObject::EphemeralContainer(container) => (
            &container.namespace,
            &container.name,
            names::run_object(&context.settings.run),
        ),
    };
    let log = Log {
        client: context.client.clone(),
        shared: Arc::clone(&context.shared),
        namespace: namespace.clone(),
        pod: pod.clone(),
        container,
        probe: settings.probe,
        digests: settings.digests,
        lines,
        stop_reading: settings.stop_reading,
    };

    if let Err(why) = log.follow().await {
        if let CreatedObject::Pod(pod) = &object {
            created.set_deletion(pod, delete(&context, pod).await);
        }
        if let StartError::Image(error) = &why {
            created.add_image_error(error.clone());
        }
        log.send(Err(ProbeFault::NotStarted(why.to_string()))).await;
    }
}

/// Reports a probe that did not start.
pub(super) async fn report_not_started(
    context: &RunContext,
    probe: ProbeId,
    why: String,
    lines: &mpsc::Sender<Arrival>,
) {
    // Without a receiver there is no run to report to.
    let _ = lines
        .send(Arrival {
            probe,
            at: context.shared.now(),
            line: Err(ProbeFault::NotStarted(why)),
        })
        .await;
}
