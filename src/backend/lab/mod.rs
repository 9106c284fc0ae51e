//! The lab: network namespaces with real sockets, routes and dropped packets.
//!
//! ```text
//! enter ────────────────▶ the right to create namespaces, before any thread
//! Manifests ── world ───▶ World      every pod, Service and outside host with its node and addresses; pure
//! World ── network ─────▶ namespaces, links, routes, by netlink
//!       ── services, nat ──▶ Services, by nftables on every node
//!       ── ruleset, nft ───▶ policies, by nftables on every node
//!       ── responder ───▶ sockets: one process listens for all
//! Launch ── probes ─────▶ lines: one process a source, in the source's network namespace
//! ```
//!
//! Only this process and its children hold the namespaces: when they end, all of it is gone. The
//! lab starts no other program and changes nothing outside.
//!
//! # Limitations
//!
//! - Containers are not run: a responder answers on every port of every ready pod that a container
//!   declares, a Service leads to or a probe asks. Faults of a workload itself, such as a dead
//!   listener, do not show.
//! - Between nodes packets are routed, not tunnelled; there is no overlay, no MTU below 1,500, no
//!   cloud.
//! - Services: `ClusterIP`, `NodePort` (also of `LoadBalancer`) and headless. No session affinity,
//!   no traffic policies, no external IPs, no topology; a Service without selector has no pods.
//! - `default/kubernetes` and the API server do not exist.
//! - DNS answers A and AAAA. Every pod of a `StatefulSet` has a name below each headless Service
//!   that selects it, as if that were its `serviceName`; pods' `hostname`, `subdomain` and
//!   `dnsPolicy` are not read. Outside the cluster the same names resolve.
//! - Pods reach outside hosts with their pod addresses: outgoing traffic is not masqueraded.
//! - SCTP is never sent.
//! - Two kinds of packets have another hop limit than real ones: a node lowers it in what it
//!   forwards for a Service, so that the per-flow counters can tell, and a deliberate leak raises
//!   it.
//! - [`CONTROL_PORT`] is in use on every pod, [`KUBELET_PORT`] on every node, and 169.254.1.1 is
//!   every pod's gateway.

mod addresses;
mod authority;
mod control;
mod dns;
mod enter;
mod error;
mod flow_counters;
mod leak;
mod link;
mod loss;
mod nat;
mod netlink;
mod netns;
mod network;
mod nft;
mod nodes;
mod obstacle;
mod probes;
mod responder;
pub mod ruleset;
mod running;
mod sabotage;
mod services;
mod shared;
mod spawn;
mod table_builder;
mod world;

use super::{Arrival, Backend, Change, EnforcerCounts, Launch};
use crate::inventory::{EnvironmentInfo, Inventory};
use crate::model::Secrets;
use probes::Probes;
use responder::Responder;
use running::Running;
use shared::{SharedWorld, blocking};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

pub use super::{CONTROL_PORT, KUBELET_PORT};
pub use addresses::usable_outside;
pub use dns::resolver;
pub use enter::{Entered, enter};
pub use error::Error;
pub use leak::Leak;
pub use loss::Loss;
pub use netlink::Error as NetlinkError;
pub use obstacle::{Facts, Obstacle, Operation, diagnose};
pub use running::Count;
pub use sabotage::{Listener, RouteHolder, Sabotage};
pub use world::{Layout, Outside, PlaceError, World, shown_families};

/// Capacity of the channel of changes.
const CHANGES: usize = 4_096;

/// How the lab denies a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deny {
    /// Drops it silently.
    #[default]
    Drop,
    /// Resets TCP connections and rejects the rest with ICMP.
    Reset,
    /// Rejects it with ICMP "administratively prohibited".
    Icmp,
}

impl Deny {
    /// The value of the command line's option.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Icmp => "icmp",
        }
    }
}

impl From<Deny> for ruleset::Deny {
    fn from(deny: Deny) -> Self {
        match deny {
            Deny::Drop => Self::Drop,
            Deny::Reset => Self::RejectTcpReset,
            Deny::Icmp => Self::RejectIcmpAdmin,
        }
    }
}

/// Options of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub deny: Deny,
}

/// A running lab. The kernel removes its namespaces when it is dropped and when the process ends.
#[derive(Debug)]
pub struct Lab {
    world: SharedWorld,
    probes: Arc<Mutex<Probes>>,
    authority: String,
    started: Instant,
    changes: Option<mpsc::Receiver<Change>>,
    /// What requests take from the environment.
    secrets: Secrets,
}

impl Lab {
    /// Brings a world up. The process must have called [`enter`], and the calling thread must
    /// outlive the lab.
    ///
    /// # Errors
    /// The obstacle, or the step that failed.
    pub async fn up(world: World, options: Options) -> Result<Self, Error> {
        let started = Instant::now();
        let (needed, hard) = (
            responder::open_files(&world),
            Facts::of_machine().open_files,
        );
        if needed > hard {
            return Err(Obstacle::FileLimit { needed, hard }.into());
        }

        let responder = Responder::start()?;
        let (sender, changes) = mpsc::channel(CHANGES);
        let running =
            blocking(move || Running::bring_up(world, options, responder, started, sender)).await?;

        Ok(Self {
            authority: running.certificates.authority().to_owned(),
            world: SharedWorld::new(running),
            probes: Arc::new(Mutex::new(Probes::default())),
            started,
            changes: Some(changes),
            secrets: Secrets::default(),
        })
    }

    /// Zero of the times of arrivals and changes.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The certificate of the authority that signed the certificates of all listeners, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Provides what requests take from the environment, before probes are launched.
    pub fn provide(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// A handle with which a test breaks the lab while it runs.
    pub fn sabotage(&self) -> Sabotage {
        Sabotage::new(self.world.clone(), Arc::clone(&self.probes))
    }

    fn probes(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Lab {
    type Error = Error;

    async fn inventory(&mut self) -> Result<Inventory, Error> {
        self.world
            .with(|running| Ok(running.world.inventory.clone()))
            .await
    }

    /// A lab has no cluster name, server or version; the policies are those that are loaded.
    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Error> {
        let policies = self.inventory().await?.policy_states();
        Ok(EnvironmentInfo {
            policies,
            ..EnvironmentInfo::default()
        })
    }

    fn changes(&mut self) -> mpsc::Receiver<Change> {
        self.changes.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Error> {
        let (probes, namespaces) = self
            .world
            .with(move |running| {
                running.enter_flows(&probes)?;
                let namespaces: Vec<_> = probes
                    .iter()
                    .map(|launch| running.netns(&launch.source).map_err(|e| e.to_string()))
                    .collect();
                Ok((probes, namespaces))
            })
            .await?;

        for (launch, netns) in probes.into_iter().zip(namespaces) {
            let launched = netns.and_then(|netns| {
                self.probes()
                    .launch(&launch, netns, &self.secrets, self.started, &lines)
            });
            if let Err(why) = launched {
                probes::not_started(launch.probe, why, self.started, &lines).await;
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        let probes = self.probes().take();
        probes::stop(probes).await;
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, Error> {
        self.world.with(|running| running.counters()).await
    }

    async fn teardown(mut self) -> Vec<Error> {
        self.stop().await;
        let running = self.world.take();

        // The kernel removes a namespace after its last descriptor is closed, without blocking the
        // caller.
        let dropped = blocking(move || {
            drop(running);
            Ok(())
        });
        dropped.await.err().into_iter().collect()
    }
}
