//! The lab: a world of network namespaces with real sockets, real routes and real drops.
//!
//! ```text
//! enter ────────────────▶ the right to make namespaces, before any thread
//! Manifests ── world ───▶ World      every pod, Service and outside host with its place and addresses; pure
//! World ── network ─────▶ namespaces, links, routes, by netlink
//!       ── services, nat ──▶ Services, by nftables on every node
//!       ── ruleset, nft ───▶ policies, by nftables on every node
//!       ── responder ───▶ sockets: one process listens for all
//! Launch ── probes ─────▶ lines: one process a source, in the source's own network
//! ```
//!
//! Everything belongs to namespaces that only this process and its children hold: when they are
//! gone, all of it is. No other program is started and nothing outside is changed.
//!
//! # Limitations
//!
//! - Containers are not run: a responder answers on every declared port of every ready pod. What a
//!   workload would do itself, a dead listener or a port that it forgot to declare, does not show.
//! - Between nodes packets are routed, not tunnelled; there is no overlay, no MTU below 1,500, no
//!   cloud.
//! - Services: `ClusterIP`, `NodePort` (also of `LoadBalancer`) and headless. No session affinity,
//!   no traffic policies, no external IPs, no topology; a Service without selector has no pods.
//! - `default/kubernetes` and the API server do not exist.
//! - DNS answers A and AAAA. Every pod of a `StatefulSet` has a name below each headless Service
//!   that selects it, as if that were its `serviceName`; pods' `hostname`, `subdomain` and
//!   `dnsPolicy` are not read. Outside the cluster the same names are known.
//! - Pods reach outside hosts with their own addresses: nothing is masqueraded on the way out.
//! - SCTP is never sent.
//! - Two packets that only the lab's own bookkeeping sets apart differ from real ones: what a node
//!   sends on for a Service leaves it with fewer hops, so that records can tell, and what leaks on
//!   purpose with more.
//! - [`CONTROL_PORT`] is taken on every pod, [`KUBELET_PORT`] on every node, and 169.254.1.1 is
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
mod nat;
mod netlink;
mod netns;
mod network;
mod nft;
mod obstacle;
mod probes;
mod responder;
pub mod ruleset;
mod running;
mod sabotage;
mod services;
mod spawn;
mod table_builder;
mod world;

use super::{Arrival, Backend, Change, EnforcerCounts, Launch};
use crate::inventory::{EnvironmentInfo, Inventory};
use probes::Probes;
use responder::Responder;
use running::Running;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

pub use super::{CONTROL_PORT, KUBELET_PORT};
pub use addresses::usable_outside;
pub use dns::resolver;
pub use enter::{Entered, enter};
pub use error::Error;
pub use leak::Leak;
pub use netlink::Error as NetlinkError;
pub use obstacle::{Facts, Obstacle, Operation, diagnose};
pub use running::Count;
pub use sabotage::{Listener, Sabotage};
pub use world::{Layout, Outside, PlaceError, World};

/// Changes that wait for their reader at most.
const CHANGES: usize = 4_096;

/// How a denied packet is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deny {
    /// It disappears.
    #[default]
    Drop,
    /// TCP is reset, the rest is answered by ICMP.
    Reset,
    /// It is answered by ICMP, administratively prohibited.
    Icmp,
}

impl Deny {
    /// The word for it on the command line.
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

/// How a lab behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How denied packets are treated.
    pub deny: Deny,
}

/// A running lab. Everything is gone when it is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct Lab {
    handle: Sabotage,
    authority: String,
    started: Instant,
    changes: Option<mpsc::Receiver<Change>>,
}

impl Lab {
    /// Makes the world. To be called in a process that [`enter`]ed, on a thread that outlives the
    /// lab.
    ///
    /// # Errors
    /// The obstacle, or the step that failed.
    pub async fn up(world: World, options: Options) -> Result<Self, Error> {
        let started = Instant::now();
        let (needed, hard) = (responder::open_files(&world), Facts::of_machine().files);
        if needed > hard {
            return Err(Obstacle::FileLimit { needed, hard }.into());
        }
        let responder = Responder::start()?;
        let (notice, changes) = mpsc::channel(CHANGES);
        let running =
            blocking(move || Running::bring_up(world, options, responder, started, notice)).await?;
        let authority = running.certificates.authority().to_owned();
        let handle = Sabotage {
            running: Arc::new(Mutex::new(Some(running))),
            probes: Arc::new(Mutex::new(Probes::default())),
        };
        Ok(Self {
            handle,
            authority,
            started,
            changes: Some(changes),
        })
    }

    /// What arrivals and changes are timed from.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The certificate of the authority that signed for every listener, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A handle to break the lab with while it runs.
    pub fn sabotage(&self) -> Sabotage {
        self.handle.clone()
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, Probes> {
        self.handle
            .probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Lab {
    type Error = Error;

    async fn inventory(&mut self) -> Result<Inventory, Error> {
        self.handle.inventory().await
    }

    /// The lab has no cluster name, server or version; the policies are those that are loaded.
    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Error> {
        let policies = self.handle.inventory().await?.policy_states();
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
        let (probes, places) = self
            .handle
            .with(move |running| {
                running.enter_flows(&probes)?;
                let places: Vec<_> = probes
                    .iter()
                    .map(|launch| running.netns(&launch.source).map_err(|e| e.to_string()))
                    .collect();
                Ok((probes, places))
            })
            .await?;
        for (launch, netns) in probes.into_iter().zip(places) {
            let fault = netns
                .and_then(|netns| self.probes().launch(&launch, netns, self.started, &lines))
                .err();
            if let Some(why) = fault {
                probes::not_started(launch.probe, why, self.started, &lines).await;
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        let running = self.probes().take();
        probes::stop(running).await;
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, Error> {
        self.handle.with(|running| running.counters()).await
    }

    async fn teardown(mut self) -> Vec<Error> {
        self.stop().await;
        let running = self
            .handle
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // The namespaces go with their last descriptor, which takes the kernel a moment and us
        // none.
        match blocking(move || {
            drop(running);
            Ok(())
        })
        .await
        {
            Ok(()) => Vec::new(),
            Err(error) => vec![error],
        }
    }
}

/// Runs something that blocks for long beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::Thread(error.into())),
    }
}
