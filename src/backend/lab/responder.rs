//! The responder process, which listens for every pod, node and outside host.

use super::addresses::{OUTSIDE_DNS, reference_pod};
use super::authority::Certificates;
use super::dns::Zone;
use super::error::Error;
use super::netns::Netns;
use super::network::Wired;
use super::services::endpoints;
use super::spawn::{SELF, prepare};
use super::world::{World, is_dns};
use super::{CONTROL_PORT, KUBELET_PORT};
use crate::inventory::{Inventory, Pod, Service, ServicePort};
use crate::model::Port;
use crate::plan::wire_transport;
use crate::wire::Transport;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt,
    socketpair, sockopt,
};
use std::collections::BTreeSet;
use std::io::{Error as IoError, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command as Process, Stdio};
use watertight_probe::responder::control::{Behaviour, Certificate, Command, Listen, Reply};

/// Sockets in one command: the message, certificates included, stays far below the default send
/// buffer of 212,992 bytes.
const SOCKETS_PER_COMMAND: usize = 40;
/// DNS names in one command, with the same limit as [`SOCKETS_PER_COMMAND`].
const NAMES_PER_COMMAND: usize = 200;

/// The running responder process. It ends when this value is dropped, or with this process.
#[derive(Debug)]
pub(super) struct Responder {
    child: Child,
    control: OwnedFd,
}

impl Responder {
    /// Starts the responder, which ends with the calling thread.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(super) fn start() -> Result<Self, Error> {
        Self::spawn().map_err(|source| Error::Responder {
            what: "start",
            source,
        })
    }

    fn spawn() -> Result<Self, IoError> {
        let (control, child_end) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // The default send buffer is enough; a larger one only saves waiting.
        let _ = setsockopt(&control, sockopt::SndBuf, &1_000_000);
        let mut process = Process::new(SELF);
        process
            .arg("__responder")
            .env_clear()
            .stdin(Stdio::from(child_end))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        prepare(&mut process, None);

        let child = process.spawn()?;
        Ok(Self { child, control })
    }

    /// Sends one command to the responder and waits for its reply.
    ///
    /// # Errors
    /// A responder that has ended, or a command that it could not carry out.
    pub(super) fn order(
        &self,
        command: &Command,
        netns: Option<&Netns>,
        who: &str,
    ) -> Result<(), Error> {
        let reply = self
            .exchange(command, netns)
            .map_err(|source| Error::Responder {
                what: "order",
                source,
            })?;
        match reply {
            Reply::Done => Ok(()),
            Reply::Failed { what, errno } => Err(Error::Listen {
                who: who.to_owned(),
                what,
                errno,
            }),
        }
    }

    /// Sends a command, with the descriptor of a namespace, and receives the reply.
    fn exchange(&self, command: &Command, netns: Option<&Netns>) -> Result<Reply, IoError> {
        let message = serde_json::to_vec(command)?;
        let descriptors: Vec<i32> = netns
            .iter()
            .map(|netns| netns.as_fd().as_raw_fd())
            .collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        sendmsg::<()>(
            self.control.as_raw_fd(),
            &[IoSlice::new(&message)],
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;

        let mut reply = vec![0; 65_536];
        let length = recv(self.control.as_raw_fd(), &mut reply, MsgFlags::empty())?;
        if length == 0 {
            return Err(IoError::new(ErrorKind::UnexpectedEof, "it ended"));
        }
        Ok(serde_json::from_slice(&reply[..length])?)
    }

    /// Opens the sockets of a group in its namespace.
    ///
    /// # Errors
    /// As [`Responder::order`].
    pub(super) fn serve(&self, group: &Group, netns: &Netns) -> Result<(), Error> {
        for listen in group.listen.chunks(SOCKETS_PER_COMMAND) {
            let command = Command::Serve {
                group: group.number,
                who: group.who.clone(),
                listen: listen.to_vec(),
            };
            self.order(&command, Some(netns), &group.who)?;
        }
        Ok(())
    }

    /// Adds names to the zone that the responder answers.
    ///
    /// # Errors
    /// As [`Responder::order`].
    pub(super) fn teach(&self, zone: &Zone) -> Result<(), Error> {
        let names: Vec<_> = zone.iter().collect();
        for names in names.chunks(NAMES_PER_COMMAND) {
            let records = names
                .iter()
                .map(|(name, addresses)| ((*name).clone(), (*addresses).clone()))
                .collect();
            self.order(&Command::Zone { records }, None, "the name servers")?;
        }
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // Errors mean that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Open files that a world needs in the process with the most. The responder has a socket per
/// listener, and connections; this process has a namespace per pod, and a few files per probe.
pub(super) fn open_files(world: &World) -> u64 {
    let inventory = &world.inventory;
    let pod_listeners = inventory
        .pods
        .iter()
        .zip(&world.probe_ports)
        .map(|(pod, probed)| {
            let ports = workload_ports(inventory, pod, probed).len();
            pod.addresses.len() * (ports + 2)
        });
    let host_listeners = world
        .hosts
        .iter()
        .map(|host| host.addresses.len() * host.ports.len());
    let listeners: usize = pod_listeners.chain(host_listeners).sum();
    let pod_files = inventory.pods.len() * 3;
    (listeners.max(pod_files) + inventory.nodes.len() * 8 + 256) as u64
}

/// The sockets of one pod, node or outside host.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) who: String,
    pub(super) listen: Vec<Listen>,
}

/// Group number of the first node. Groups of pods have the index of the pod.
const FIRST_NODE: u32 = 1_000_000;
const FIRST_HOST: u32 = 2_000_000;
const OUTSIDE_DNS_GROUP: u32 = 3_000_000;
const FIRST_REFERENCE_POD: u32 = 4_000_000;

/// All groups of a world, each with the namespace in which it listens.
pub(super) fn groups<'a>(
    world: &World,
    wired: &'a Wired,
    certificates: &Certificates,
) -> Vec<(Group, &'a Netns)> {
    let inventory = &world.inventory;
    // Pods in the same node's network share its ports; each port belongs to the first pod. In a
    // cluster the scheduler prevents the conflict.
    let mut taken: BTreeSet<(SocketAddr, Transport)> = BTreeSet::new();
    let mut groups = Vec::new();

    for (n, node) in inventory.nodes.iter().enumerate() {
        let ports = [KUBELET_PORT, CONTROL_PORT];
        let ports = ports
            .into_iter()
            .flat_map(|port| [(port, Transport::Tcp), (port, Transport::Udp)]);
        let listen = listeners(&node.addresses, ports, |_| Behaviour::Answer, &mut taken);
        groups.push((
            Group {
                number: FIRST_NODE + n as u32,
                who: format!("node {}", node.name),
                listen,
            },
            &wired.nodes[n],
        ));
    }

    for (n, node) in inventory.nodes.iter().enumerate() {
        let listen = listeners(
            &reference_pod(n),
            [(KUBELET_PORT, Transport::Tcp)],
            |_| Behaviour::Answer,
            &mut taken,
        );
        let who = format!("the reference pod on {}", node.name);
        groups.push((
            Group {
                number: FIRST_REFERENCE_POD + n as u32,
                who,
                listen,
            },
            &wired.reference_pods[n],
        ));
    }

    for number in 0..inventory.pods.len() {
        groups.push((
            pod_group(world, number, certificates, &mut taken),
            &wired.pods[number],
        ));
    }

    for (h, host) in world.hosts.iter().enumerate() {
        let ports = host.ports.iter().copied();
        let mut listen = listeners(&host.addresses, ports, |_| Behaviour::Answer, &mut taken);
        certify(&mut listen, certificates.host(h));
        groups.push((
            Group {
                number: FIRST_HOST + h as u32,
                who: host.label(),
                listen,
            },
            &wired.router,
        ));
    }

    let dns = [(53, Transport::Udp), (53, Transport::Tcp)];
    let listen = listeners(&OUTSIDE_DNS, dns, |_| Behaviour::Dns, &mut taken);
    groups.push((
        Group {
            number: OUTSIDE_DNS_GROUP,
            who: "the outside name server".to_owned(),
            listen,
        },
        &wired.router,
    ));
    groups.retain(|(group, _)| !group.listen.is_empty());
    groups
}

/// The group of one pod: its workload's ports if it is ready, and the control port.
pub(super) fn pod_group(
    world: &World,
    number: usize,
    certificates: &Certificates,
    taken: &mut BTreeSet<(SocketAddr, Transport)>,
) -> Group {
    let inventory = &world.inventory;
    let pod = &inventory.pods[number];
    let dns: BTreeSet<(u16, Transport)> = dns_ports(inventory, pod);
    let mut ports: Vec<(u16, Transport)> = Vec::new();
    if pod.ready {
        ports.extend(workload_ports(inventory, pod, &world.probe_ports[number]));
    }
    // A node's network has the node's own listener on the control port.
    if !pod.host_network {
        ports.extend([
            (CONTROL_PORT, Transport::Tcp),
            (CONTROL_PORT, Transport::Udp),
        ]);
    }

    let behaviour = |port| {
        if dns.contains(&port) {
            Behaviour::Dns
        } else {
            Behaviour::Answer
        }
    };
    let mut listen = listeners(&pod.addresses, ports, behaviour, taken);
    certify(&mut listen, certificates.cluster());
    Group {
        number: number as u32,
        who: format!("{} {}", pod.full_name(), pod.uid),
        listen,
    }
}

/// The ports on which a workload listens, as far as its manifests show it: those that its containers
/// declare, those that a Service leads to, and those that a probe of the kubelet asks. A declaration
/// alone is information, and a container listens without it too (core/v1 `Container.ports`).
fn workload_ports(inventory: &Inventory, pod: &Pod, probed: &[Port]) -> BTreeSet<(u16, Transport)> {
    let declared = pod.ports.iter().map(|port| port.port);
    let mut ports: BTreeSet<(u16, Transport)> = declared
        .chain(probed.iter().copied())
        .filter_map(|port| Some((port.number(), wire_transport(port.transport())?)))
        .collect();
    ports.extend(inventory.services.iter().flat_map(|service| {
        let all = service.ports.iter();
        targets_on(pod, service, all)
    }));
    ports
}

/// The ports on which a pod answers DNS: the targets of port 53 of the DNS Service.
pub(super) fn dns_ports(inventory: &Inventory, pod: &Pod) -> BTreeSet<(u16, Transport)> {
    let services = inventory
        .services
        .iter()
        .filter(|service| is_dns(&service.namespace, &service.name));
    services
        .flat_map(|service| {
            let dns = service.ports.iter();
            targets_on(pod, service, dns.filter(|port| port.port.number() == 53))
        })
        .collect()
}

/// The ports of a pod to which ports of a Service lead; none for a pod that is not behind it.
fn targets_on<'s>(
    pod: &Pod,
    service: &Service,
    ports: impl Iterator<Item = &'s ServicePort>,
) -> Vec<(u16, Transport)> {
    if endpoints(service, std::slice::from_ref(pod)).is_empty() {
        return Vec::new();
    }
    let target = |port: &ServicePort| {
        let transport = port.port.transport();
        Some((
            port.target.number_on(pod, transport)?,
            wire_transport(transport)?,
        ))
    };
    ports.filter_map(target).collect()
}

/// Sets the certificate of every TCP listener; the first bytes of a connection decide whether it
/// speaks TLS.
fn certify(listen: &mut [Listen], certificate: &Certificate) {
    for listen in listen
        .iter_mut()
        .filter(|listen| listen.transport == Transport::Tcp)
    {
        listen.certificate = Some(certificate.clone());
    }
}

/// A listener for each address and each port that is not taken.
fn listeners(
    addresses: &[IpAddr],
    ports: impl IntoIterator<Item = (u16, Transport)>,
    behaviour: impl Fn((u16, Transport)) -> Behaviour,
    taken: &mut BTreeSet<(SocketAddr, Transport)>,
) -> Vec<Listen> {
    let mut listen = Vec::new();
    for (port, transport) in ports {
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            if taken.insert((address, transport)) {
                listen.push(Listen {
                    address,
                    transport,
                    behaviour: behaviour((port, transport)),
                    certificate: None,
                });
            }
        }
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::super::world::Layout;
    use super::*;
    use crate::inventory::read_manifests;
    use crate::source::Sources;

    #[test]
    fn workload_listens_where_it_declares_where_services_lead_and_where_probes_ask() {
        let text = "\
apiVersion: v1
kind: Pod
metadata: { name: a, namespace: 'n', labels: { app: a } }
spec:
  containers:
    - name: c
      image: i
      ports: [{ containerPort: 1, name: web }, { containerPort: 2, protocol: UDP }]
      livenessProbe: { httpGet: { port: 3 } }
      readinessProbe: { tcpSocket: { port: web } }
      startupProbe: { grpc: { port: 4 } }
---
apiVersion: v1
kind: Service
metadata: { name: s, namespace: 'n' }
spec:
  selector: { app: a }
  ports: [{ name: x, port: 80, targetPort: 5 }, { name: 'y', port: 6, protocol: UDP }, { name: z, port: 81, targetPort: web }]
---
apiVersion: v1
kind: Service
metadata: { name: of-others, namespace: 'n' }
spec: { selector: { app: b }, ports: [{ port: 7 }] }
";
        let mut sources = Sources::new();
        let file = sources.add("test.yaml", text);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        let world = World::place(&manifests, &[], Layout::default()).expect("placed");

        let pod = &world.inventory.pods[0];
        let ports = workload_ports(&world.inventory, pod, &world.probe_ports[0]);
        let (tcp, udp): (Vec<_>, Vec<_>) = ports
            .into_iter()
            .partition(|(_, transport)| *transport == Transport::Tcp);
        let numbers = |ports: Vec<(u16, Transport)>| -> Vec<u16> {
            ports.into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!((numbers(tcp), numbers(udp)), (vec![1, 3, 4, 5], vec![2, 6]));
    }
}
