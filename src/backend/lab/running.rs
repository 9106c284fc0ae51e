//! A world that is up: what it consists of, and how it is brought from one state to the next.

use super::authority::Certificates;
use super::error::Error;
use super::flow_counters::{self, Counted, FlowCounters};
use super::leak::Leak;
use super::netns::Netns;
use super::network::{self, Cuts, Wired};
use super::responder::{self, Responder};
use super::ruleset::{Compiler, Counts, Direction, NodeRuleset, Packet, Payload};
use super::table_builder::{self, Draft, Place};
use super::world::World;
use super::{Options, addresses, control, dns, nat, services};
use crate::backend::{Change, EnforcerCounts, Launch};
use crate::model::ClusterChange;
use crate::plan::{Source, off_the_wire};
use nlink::netlink::nftables::Family;
use nlink::netlink::nftables::object::ObjectState;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::sync::mpsc;

/// A world that is up.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) world: World,
    pub(super) options: Options,
    pub(super) wired: Wired,
    pub(super) responder: Responder,
    pub(super) certificates: Certificates,
    pub(super) started: Instant,
    pub(super) notice: mpsc::Sender<Change>,
    pub(super) leaks: Vec<Leak>,
    /// Nodes between which nothing passes.
    pub(super) cuts: Cuts,
    ledger: FlowCounters,
    /// Of each node, as loaded.
    rules: Vec<NodeRuleset>,
    /// Numbers the tables, so that a new one never has the name of the one that it replaces.
    generation: u64,
    tables: Tables,
}

/// Names of the tables in force.
#[derive(Debug, Default)]
struct Tables {
    services: Option<String>,
    policies: Option<String>,
    cuts: Option<String>,
}

/// What one of a policy's counters, or a deny's, stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The node's name.
    pub node: String,
    /// What is counted.
    pub counts: Counts,
    /// Packets since the policies were loaded last.
    pub packets: u64,
}

impl Running {
    /// Brings a world up. This takes seconds for a thousand pods and blocks.
    ///
    /// # Errors
    /// The obstacle, or the step that failed.
    pub(super) fn bring_up(
        world: World,
        options: Options,
        responder: Responder,
        started: Instant,
        notice: mpsc::Sender<Change>,
    ) -> Result<Self, Error> {
        let wired = network::wire(&world)?;
        let certificates = Certificates::of(&world)?;
        let mut running = Self {
            world,
            options,
            wired,
            responder,
            certificates,
            started,
            notice,
            leaks: Vec::new(),
            cuts: Cuts::new(),
            ledger: FlowCounters::default(),
            rules: Vec::new(),
            generation: 0,
            tables: Tables::default(),
        };
        running.load_services()?;
        running.load_policies()?;
        network::track_briefly(&running.wired.nodes)?;
        for (group, netns) in
            responder::groups(&running.world, &running.wired, &running.certificates)
        {
            running.responder.serve(&group, netns)?;
        }
        running
            .responder
            .teach(&dns::zone(&running.world.inventory))?;
        Ok(running)
    }

    /// The network of a vantage.
    ///
    /// # Errors
    /// When the world has no such vantage.
    pub(super) fn netns(&self, source: &Source) -> Result<Netns, Error> {
        match source {
            Source::Pod {
                namespace, name, ..
            } => Ok(self.wired.pods[self.pod(namespace, name)?].clone()),
            Source::Node { name } => Ok(self.wired.nodes[self.node(name)?].clone()),
            Source::ReferencePod { node } => {
                Ok(self.wired.reference_pods[self.node(node)?].clone())
            }
            Source::Runner => Ok(self.wired.runner.clone()),
        }
    }

    /// A pod's number.
    ///
    /// # Errors
    /// When the world has no such pod.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Result<usize, Error> {
        let pods = &self.world.inventory.pods;
        let found = pods
            .iter()
            .position(|pod| pod.namespace == namespace && pod.name == name);
        found.ok_or_else(|| Error::Unknown(format!("pod {namespace}/{name}")))
    }

    /// A node's number.
    ///
    /// # Errors
    /// When the world has no such node.
    pub(super) fn node(&self, name: &str) -> Result<usize, Error> {
        self.world
            .node_index(name)
            .ok_or_else(|| Error::Unknown(format!("node {name}")))
    }

    /// Says that an object of the API changed. Blocks while nobody reads.
    pub(super) fn announce(&self, what: ClusterChange) {
        let now = self.started.elapsed();
        let change = Change {
            earliest: now,
            latest: now,
            object: what,
        };
        // Nobody listens: then nobody judges by it either.
        let _ = self.notice.blocking_send(change);
    }

    fn next_table(&mut self, what: &str) -> String {
        self.generation += 1;
        format!("{what}-{}", self.generation)
    }

    /// Loads the Services of the inventory as it is now, on every node.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_services(&mut self) -> Result<(), Error> {
        let name = self.next_table("services");
        let ports = services::virtual_ports(&self.world.inventory);
        let nodes = &self.world.inventory.nodes;
        let drafts = nodes.iter().map(|node| {
            let mut draft = nat::table(name.clone(), &ports, &node.addresses)?;
            control::keep_to_the_node(&mut draft)?;
            flow_counters::mark_served(&mut draft)?;
            Ok(draft)
        });
        let drafts = drafts.collect::<nlink::Result<Vec<_>>>();
        let replaces = self.tables.services.as_deref();
        self.on_every_node("Services", drafts, |place, draft, _| {
            table_builder::switch(place, draft, replaces, async |_, _| Ok(())).map(drop)
        })?;
        self.tables.services = Some(name);
        Ok(())
    }

    /// Compiles and loads the policies of the inventory as it is now, on every node.
    ///
    /// # Errors
    /// A policy that is invalid, or what the kernel refused. The rules before stay in force on the
    /// node that refused.
    pub(super) fn load_policies(&mut self) -> Result<(), Error> {
        let name = self.next_table("policies");
        let compiler = Compiler::new(&self.world.inventory)
            .map_err(|invalid| Error::Compile(invalid.to_string()))?;
        let nodes = &self.world.inventory.nodes;
        let rules: Vec<_> = nodes
            .iter()
            .map(|node| compiler.node(&node.name, self.options.deny.into()))
            .collect();
        let drafts = rules.iter().enumerate().map(|(n, rules)| {
            let leaks: Vec<_> = self
                .leaks
                .iter()
                .filter(|leak| self.chooses(n, leak))
                .cloned()
                .collect();
            let reference_pods: Vec<_> = (0..nodes.len())
                .flat_map(addresses::reference_pod)
                .collect();
            let extras = super::nft::Extras {
                reference_pods: &reference_pods,
                leaks: &leaks,
                through: !self.leaks.is_empty(),
            };
            super::nft::table(name.clone(), rules, &self.ledger.keys(), &extras)
        });
        let drafts = drafts.collect::<nlink::Result<Vec<_>>>();
        let ledger = &self.ledger;
        let replaces = self.tables.policies.as_deref();
        let counted = self.on_every_node("policies", drafts, |place, draft, n| {
            let settle =
                async |conn: &_, old: &str| flow_counters::read(conn, old, n, ledger).await;
            table_builder::switch(place, draft, replaces, settle)
        })?;
        for counted in counted.into_iter().flatten() {
            self.ledger.keep(counted);
        }
        self.rules = rules;
        self.tables.policies = Some(name);
        Ok(())
    }

    /// Loads the cuts as they are now, in the router.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_cuts(&mut self) -> Result<(), Error> {
        let name = self.next_table("cuts");
        let failed = |source| Error::Rules {
            what: "cuts",
            node: "the router".to_owned(),
            source,
        };
        let draft = network::cut_table(name.clone(), &self.cuts).map_err(failed)?;
        let place = Place {
            netns: &self.wired.router,
            node: "the router",
            what: "cuts",
        };
        table_builder::switch(&place, draft, self.tables.cuts.as_deref(), async |_, _| {
            Ok(())
        })?;
        self.tables.cuts = Some(name);
        Ok(())
    }

    /// Whether a leak's packets are chosen on this node: on the source's, or where they enter the
    /// cluster.
    fn chooses(&self, n: usize, leak: &Leak) -> bool {
        let on = |address: IpAddr| {
            let mut pods = self
                .world
                .inventory
                .pods
                .iter()
                .filter(|pod| !pod.host_network);
            pods.find(|pod| pod.addresses.contains(&address))
                .and_then(|pod| self.world.node_index(&pod.node))
        };
        on(leak.from).or_else(|| on(leak.to)) == Some(n)
    }

    /// Takes the flows of launches into the record.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn enter_flows(&mut self, launches: &[Launch]) -> Result<(), Error> {
        let mut new = Vec::new();
        for launch in launches {
            new.extend(self.ledger.enter(&self.world, launch));
        }
        let Some(table) = self.tables.policies.as_deref().filter(|_| !new.is_empty()) else {
            return Ok(());
        };
        for (place, _) in self.places("records") {
            table_builder::with_nftables(&place, async |conn| {
                flow_counters::add(conn, table, &new).await
            })?;
        }
        Ok(())
    }

    /// The records as they stand.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn counters(&self) -> Result<EnforcerCounts, Error> {
        let Some(table) = self.tables.policies.as_deref() else {
            return Ok(EnforcerCounts::new());
        };
        let mut now = Counted::new();
        for (place, n) in self.places("records") {
            let here = table_builder::with_nftables(&place, async |conn| {
                flow_counters::read(conn, table, n, &self.ledger).await
            })?;
            for (key, hits) in here {
                now.entry(key).or_default().extend(hits);
            }
        }
        let services = services::by_address(&self.world.inventory);
        Ok(self.ledger.counters(&now, |n, direction, key| {
            self.denying(n, direction, key, &services)
        }))
    }

    /// What denies a flow on a node, by the policies' names.
    fn denying(
        &self,
        n: usize,
        direction: Direction,
        key: &flow_counters::Key,
        services: &services::ByAddress,
    ) -> String {
        // Policies see what is behind a Service; one of its pods is named.
        let dialled = SocketAddr::new(key.to, key.port);
        let served = services.get(&(key.transport, dialled));
        let mut packets = std::iter::once(dialled)
            .chain(
                served
                    .into_iter()
                    .flat_map(|served| served.backends.iter().copied()),
            )
            .filter(|to| to.is_ipv4() == key.from.is_ipv4())
            .map(|to| Packet {
                source: key.from,
                destination: to.ip(),
                payload: Payload::Ports(off_the_wire(key.transport), to.port()),
                established: false,
            });
        let counter = packets.find_map(|packet| self.rules.get(n)?.denier(direction, &packet));
        counter.map_or_else(
            || format!("{direction} of an earlier policy"),
            |counter| counter.counts.to_string(),
        )
    }

    /// What the policies' counters stand at.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn counts(&self) -> Result<Vec<Count>, Error> {
        let Some(table) = self.tables.policies.as_deref() else {
            return Ok(Vec::new());
        };
        let mut counts = Vec::new();
        for (place, n) in self.places("counters") {
            let objects = table_builder::with_nftables(&place, async |conn| {
                conn.list_objects_in(table, Family::Inet).await
            })?;
            for counter in &self.rules[n].counters {
                let object = objects.iter().find(|object| object.name == counter.name);
                if let Some(ObjectState::Counter { packets, .. }) =
                    object.map(|object| &object.state)
                {
                    counts.push(Count {
                        node: place.node.to_owned(),
                        counts: counter.counts.clone(),
                        packets: *packets,
                    });
                }
            }
        }
        Ok(counts)
    }

    fn places<'a>(&'a self, what: &'static str) -> impl Iterator<Item = (Place<'a>, usize)> {
        let nodes = self
            .world
            .inventory
            .nodes
            .iter()
            .zip(&self.wired.nodes)
            .enumerate();
        nodes.map(move |(n, (node, netns))| {
            (
                Place {
                    netns,
                    node: &node.name,
                    what,
                },
                n,
            )
        })
    }

    /// Does something with one draft on each node, at the same time.
    fn on_every_node<T: Send>(
        &self,
        what: &'static str,
        drafts: nlink::Result<Vec<Draft>>,
        work: impl Fn(&Place<'_>, Draft, usize) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let drafts = drafts.map_err(|source| Error::Rules {
            what,
            node: "the nodes".to_owned(),
            source,
        })?;
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .places(what)
                .zip(drafts)
                .map(|((place, n), draft)| {
                    std::thread::Builder::new().spawn_scoped(scope, move || work(&place, draft, n))
                })
                .collect();
            let mut done = Vec::with_capacity(threads.len());
            for thread in threads {
                let thread = thread.map_err(Error::Thread)?;
                done.push(
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                );
            }
            Ok(done)
        })
    }
}
