//! A world that is up: what it consists of, and how it changes from one state to the next.

use super::authority::Certificates;
use super::error::Error;
use super::flow_counters::{self, Counted, FlowCounters};
use super::leak::Leak;
use super::loss::{self, Loss};
use super::netns::Netns;
use super::network::{self, Cuts, Wired};
use super::responder::{self, Responder};
use super::ruleset::{Compiler, Counts, Direction, NodeRuleset, Packet, Payload};
use super::table_builder::{self, Location, TableBuilder};
use super::world::World;
use super::{Options, addresses, control, dns, nat, nft, services};
use crate::backend::{Change, EnforcerCounts, Launch};
use crate::model::ClusterChange;
use crate::plan::{Source, model_transport};
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
    flow_counters: FlowCounters,
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

/// The value of one counter of a policy's rule or of a deny.
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
            flow_counters: FlowCounters::default(),
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

    /// The network of a source.
    ///
    /// # Errors
    /// When the world has no such source.
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
        let number = pods
            .iter()
            .position(|pod| pod.namespace == namespace && pod.name == name);
        number.ok_or_else(|| Error::Unknown(format!("pod {namespace}/{name}")))
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

    /// Sends a change of an object of the API. Blocks while the channel is full.
    pub(super) fn announce(&self, what: ClusterChange) {
        let now = self.started.elapsed();
        let change = Change {
            earliest: now,
            latest: now,
            object: what,
        };

        // Without a reader, no verdict depends on it either.
        let _ = self.notice.blocking_send(change);
    }

    /// A name that no table had before.
    fn next_name(&mut self, kind: &str) -> String {
        self.generation += 1;
        format!("{kind}-{}", self.generation)
    }

    /// Loads the Services of the inventory as it is now, on every node.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_services(&mut self) -> Result<(), Error> {
        let name = self.next_name("services");
        let ports = services::virtual_ports(&self.world.inventory);
        let nodes = &self.world.inventory.nodes;

        let tables = nodes.iter().map(|node| {
            let mut table = nat::table(name.clone(), &ports, &node.addresses);
            control::keep_to_the_node(&mut table);
            flow_counters::mark_served(&mut table);
            table
        });
        let replaces = self.tables.services.as_deref();
        self.on_every_node("Services", tables.collect(), |location, table, _| {
            table_builder::switch(location, table, replaces, |_, _| Ok(()))
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
        let name = self.next_name("policies");
        let compiler = Compiler::new(&self.world.inventory)
            .map_err(|invalid| Error::Compile(invalid.to_string()))?;
        let nodes = &self.world.inventory.nodes;
        let rules: Vec<_> = nodes
            .iter()
            .map(|node| compiler.node(&node.name, self.options.deny.into()))
            .collect();

        let tables = rules
            .iter()
            .enumerate()
            .map(|(n, rules)| self.policy_table(name.clone(), n, rules))
            .collect();
        let flows = &self.flow_counters;
        let replaces = self.tables.policies.as_deref();
        let counted = self.on_every_node("policies", tables, |location, table, n| {
            table_builder::switch(location, table, replaces, |nftables, old| {
                flow_counters::read(nftables, old, n, flows)
            })
        })?;

        for counted in counted.into_iter().flatten() {
            self.flow_counters.keep(counted);
        }
        self.rules = rules;
        self.tables.policies = Some(name);
        Ok(())
    }

    /// The table with the policies of node number `n`.
    fn policy_table(&self, name: String, n: usize, rules: &NodeRuleset) -> TableBuilder {
        let leaks: Vec<_> = self
            .leaks
            .iter()
            .filter(|leak| self.marks(n, leak))
            .cloned()
            .collect();
        let reference_pods: Vec<_> = (0..self.world.inventory.nodes.len())
            .flat_map(addresses::reference_pod)
            .collect();
        let extras = nft::Extras {
            reference_pods: &reference_pods,
            leaks: &leaks,
            pass_leaks: !self.leaks.is_empty(),
        };
        nft::table(name, rules, &self.flow_counters.keys(), &extras)
    }

    /// Loads the cuts as they are now, in the router.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_cuts(&mut self) -> Result<(), Error> {
        let name = self.next_name("cuts");
        let table = network::cut_table(name.clone(), &self.cuts);
        let location = Location {
            netns: &self.wired.router,
            node: "the router",
            rules: "cuts",
        };
        let replaces = self.tables.cuts.as_deref();
        table_builder::switch(&location, &table, replaces, |_, _| Ok(()))?;
        self.tables.cuts = Some(name);
        Ok(())
    }

    /// Makes a node lose packets from now on, besides those that it loses already.
    ///
    /// # Errors
    /// Rules that the kernel refused.
    pub(super) fn load_loss(&mut self, node: usize, loss: Loss) -> Result<(), Error> {
        let table = loss::table(self.next_name("loss"), loss);
        let location = Location {
            netns: &self.wired.nodes[node],
            node: &self.world.inventory.nodes[node].name,
            rules: "losses",
        };
        table_builder::switch(&location, &table, None, |_, _| Ok(()))?;
        Ok(())
    }

    /// Whether a leak's packets are marked on this node: the source's, or where they enter the
    /// cluster.
    fn marks(&self, n: usize, leak: &Leak) -> bool {
        let source = self.node_of(leak.from);
        source.or_else(|| self.node_of(leak.to)) == Some(n)
    }

    /// The number of the node of the pod with this address.
    fn node_of(&self, address: IpAddr) -> Option<usize> {
        let mut pods = self.world.inventory.pods.iter();
        let pod = pods.find(|pod| !pod.host_network && pod.addresses.contains(&address))?;
        self.world.node_index(&pod.node)
    }

    /// Adds counters for the flows of launches.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn enter_flows(&mut self, launches: &[Launch]) -> Result<(), Error> {
        let mut new = Vec::new();
        for launch in launches {
            new.extend(self.flow_counters.add_flows(&self.world, launch));
        }
        let Some(table) = self.tables.policies.as_deref().filter(|_| !new.is_empty()) else {
            return Ok(());
        };

        for (location, _) in self.locations("flow counters") {
            table_builder::with_nftables(&location, |nftables| {
                flow_counters::add(nftables, table, &new)
            })?;
        }
        Ok(())
    }

    /// The flows' counters as they are now.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn counters(&self) -> Result<EnforcerCounts, Error> {
        let Some(table) = self.tables.policies.as_deref() else {
            return Ok(EnforcerCounts::new());
        };

        let mut now = Counted::new();
        for (location, n) in self.locations("flow counters") {
            let on_node = table_builder::with_nftables(&location, |nftables| {
                flow_counters::read(nftables, table, n, &self.flow_counters)
            })?;
            for (key, hits) in on_node {
                now.entry(key).or_default().extend(hits);
            }
        }

        let services = services::by_address(&self.world.inventory);
        let counters = self.flow_counters.counters(&now, |n, direction, key| {
            self.denying(n, direction, key, &services)
        });
        Ok(counters)
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
        let target = SocketAddr::new(key.to, key.port);
        let service = services.get(&(key.transport, target));
        let backends = service.map_or(&[][..], |service| &service.backends);
        let mut packets = std::iter::once(target)
            .chain(backends.iter().copied())
            .filter(|to| to.is_ipv4() == key.from.is_ipv4())
            .map(|to| Packet {
                source: key.from,
                destination: to.ip(),
                payload: Payload::Ports(model_transport(key.transport), to.port()),
                established: false,
            });

        let counter = packets.find_map(|packet| self.rules.get(n)?.denier(direction, &packet));
        counter.map_or_else(
            || format!("{direction} of an earlier policy"),
            |counter| counter.counts.to_string(),
        )
    }

    /// The values of the policies' counters.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn counts(&self) -> Result<Vec<Count>, Error> {
        let Some(table) = self.tables.policies.as_deref() else {
            return Ok(Vec::new());
        };

        let mut counts = Vec::new();
        for (location, n) in self.locations("counters") {
            let counters =
                table_builder::with_nftables(&location, |nftables| nftables.counters(table))?;
            for counter in &self.rules[n].counters {
                if let Some(packets) = counters.get(&counter.name) {
                    counts.push(Count {
                        node: location.node.to_owned(),
                        counts: counter.counts.clone(),
                        packets: *packets,
                    });
                }
            }
        }
        Ok(counts)
    }

    /// Every node's namespace, with the node's number.
    fn locations<'a>(&'a self, rules: &'static str) -> impl Iterator<Item = (Location<'a>, usize)> {
        let nodes = self.world.inventory.nodes.iter().zip(&self.wired.nodes);
        nodes.enumerate().map(move |(n, (node, netns))| {
            let location = Location {
                netns,
                node: &node.name,
                rules,
            };
            (location, n)
        })
    }

    /// Calls `work` with one table on each node, at the same time.
    fn on_every_node<T: Send>(
        &self,
        rules: &'static str,
        tables: Vec<TableBuilder>,
        work: impl Fn(&Location<'_>, &TableBuilder, usize) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .locations(rules)
                .zip(tables)
                .map(|((location, n), table)| {
                    std::thread::Builder::new()
                        .spawn_scoped(scope, move || work(&location, &table, n))
                })
                .collect();

            let mut results = Vec::with_capacity(threads.len());
            for thread in threads {
                let result = thread.map_err(Error::Thread)?.join();
                results.push(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(results)
        })
    }
}
