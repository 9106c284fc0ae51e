//! The one process that listens for every pod, node and outside host.

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
use crate::inventory::{Inventory, Pod, TargetPort};
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

/// Sockets in one order and names in one order: a packet of either, certificates included, stays
/// far under the send buffer's default of 212,992 bytes.
const LISTEN_AT_ONCE: usize = 40;
/// See [`LISTEN_AT_ONCE`].
const NAMES_AT_ONCE: usize = 200;

/// The running responder. It ends when this is dropped, or with this process.
#[derive(Debug)]
pub(super) struct Responder {
    child: Child,
    control: OwnedFd,
}

impl Responder {
    /// Starts it. The calling thread must live as long as the responder shall.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start() -> Result<Self, Error> {
        let failed = |source| Error::Responder {
            what: "start",
            source,
        };
        let (control, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|e| failed(e.into()))?;
        // What the kernel does not give beyond its default is not needed either.
        let _ = setsockopt(&control, sockopt::SndBuf, &1_000_000);
        let mut process = Process::new(SELF);
        process
            .arg("__responder")
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        prepare(&mut process, None);
        let child = process.spawn().map_err(failed)?;
        Ok(Self { child, control })
    }

    /// Carries out one order; it is done when this returns.
    ///
    /// # Errors
    /// When the responder is gone, or could not do it.
    pub(super) fn order(
        &self,
        command: &Command,
        netns: Option<&Netns>,
        who: &str,
    ) -> Result<(), Error> {
        let failed = |source| Error::Responder {
            what: "order",
            source,
        };
        let message = serde_json::to_vec(command).map_err(|e| failed(e.into()))?;
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
        )
        .map_err(|e| failed(e.into()))?;
        let mut answer = vec![0; 65_536];
        let length = recv(self.control.as_raw_fd(), &mut answer, MsgFlags::empty())
            .map_err(|e| failed(e.into()))?;
        if length == 0 {
            return Err(failed(IoError::new(ErrorKind::UnexpectedEof, "it ended")));
        }
        match serde_json::from_slice(&answer[..length]).map_err(|e| failed(e.into()))? {
            Reply::Done => Ok(()),
            Reply::Failed { what, errno } => Err(Error::Listen {
                who: who.to_owned(),
                what,
                errno,
            }),
        }
    }

    /// Listens in a namespace.
    ///
    /// # Errors
    /// As [`Responder::order`].
    pub(super) fn serve(&self, group: &Group, netns: &Netns) -> Result<(), Error> {
        for listen in group.listen.chunks(LISTEN_AT_ONCE) {
            let command = Command::Serve {
                group: group.number,
                who: group.who.clone(),
                listen: listen.to_vec(),
            };
            self.order(&command, Some(netns), &group.who)?;
        }
        Ok(())
    }

    /// Teaches names.
    ///
    /// # Errors
    /// As [`Responder::order`].
    pub(super) fn teach(&self, zone: &Zone) -> Result<(), Error> {
        let names: Vec<_> = zone.iter().collect();
        for some in names.chunks(NAMES_AT_ONCE) {
            let records = some
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
        // It has exited already, or is killed here: an error changes nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Open files that a world needs in the process that has the most: the responder, with a socket for
/// each listener and connections on top; this one has a namespace for each pod and a few for each
/// probe.
pub(super) fn open_files(world: &World) -> u64 {
    let inventory = &world.inventory;
    let of_pods = inventory
        .pods
        .iter()
        .map(|pod| pod.addresses.len() * (pod.ports.len() + 2));
    let of_hosts = world
        .hosts
        .iter()
        .map(|host| host.addresses.len() * host.ports.len());
    let listeners: usize = of_pods.chain(of_hosts).sum();
    let pods = inventory.pods.len() * 3;
    (listeners.max(pods) + inventory.nodes.len() * 8 + 256) as u64
}

/// The sockets of one pod, node or outside host.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) who: String,
    pub(super) listen: Vec<Listen>,
}

/// Numbers of groups: pods by their index, the others above.
const FIRST_NODE: u32 = 1_000_000;
const FIRST_HOST: u32 = 2_000_000;
const OUTSIDE_DNS_GROUP: u32 = 3_000_000;
const FIRST_REFERENCE_POD: u32 = 4_000_000;

/// Everything that listens in a world, with the namespace that it listens in.
pub(super) fn groups<'a>(
    world: &World,
    wired: &'a Wired,
    certificates: &Certificates,
) -> Vec<(Group, &'a Netns)> {
    let inventory = &world.inventory;
    // Pods that share a node's network share its ports: the first one has each, as the scheduler
    // sees to.
    let mut taken: BTreeSet<(SocketAddr, Transport)> = BTreeSet::new();
    let mut groups = Vec::new();
    for (n, node) in inventory.nodes.iter().enumerate() {
        let ports = [KUBELET_PORT, CONTROL_PORT];
        let wanted = ports
            .into_iter()
            .flat_map(|port| [(port, Transport::Tcp), (port, Transport::Udp)]);
        let listen = listeners(&node.addresses, wanted, |_| Behaviour::Answer, &mut taken);
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
    for (number, pod) in inventory.pods.iter().enumerate() {
        groups.push((
            pod_group(inventory, number, pod, certificates, &mut taken),
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
    let wanted = [(53, Transport::Udp), (53, Transport::Tcp)];
    let listen = listeners(&OUTSIDE_DNS, wanted, |_| Behaviour::Dns, &mut taken);
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

/// What one pod listens on: its declared ports when it is ready, and the control port always.
pub(super) fn pod_group(
    inventory: &Inventory,
    number: usize,
    pod: &Pod,
    certificates: &Certificates,
    taken: &mut BTreeSet<(SocketAddr, Transport)>,
) -> Group {
    let names: BTreeSet<(u16, Transport)> = dns_ports(inventory, pod);
    let declared = pod.ports.iter().filter(|_| pod.ready);
    let declared = declared
        .filter_map(|port| Some((port.port.number(), wire_transport(port.port.transport())?)));
    let control = [Transport::Tcp, Transport::Udp]
        .into_iter()
        .filter(|_| !pod.host_network)
        .map(|t| (CONTROL_PORT, t));
    let behaviour = |at| {
        if names.contains(&at) {
            Behaviour::Dns
        } else {
            Behaviour::Answer
        }
    };
    let mut listen = listeners(&pod.addresses, declared.chain(control), behaviour, taken);
    certify(&mut listen, certificates.cluster());
    Group {
        number: number as u32,
        who: format!("{} {}", pod.full_name(), pod.uid),
        listen,
    }
}

/// The ports on which a pod answers DNS: those behind the cluster's DNS Service.
pub(super) fn dns_ports(inventory: &Inventory, pod: &Pod) -> BTreeSet<(u16, Transport)> {
    let services = inventory
        .services
        .iter()
        .filter(|service| is_dns(&service.namespace, &service.name));
    services
        .filter(|service| endpoints(service, std::slice::from_ref(pod)).len() == 1)
        .flat_map(|service| &service.ports)
        .filter(|port| port.port.number() == 53)
        .filter_map(|port| {
            let number = match &port.target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => pod.named_port(name, port.port.transport())?.number(),
            };
            Some((number, wire_transport(port.port.transport())?))
        })
        .collect()
}

/// Gives every TCP listener a certificate: what it speaks is decided by the first bytes.
fn certify(listen: &mut [Listen], certificate: &Certificate) {
    for listen in listen
        .iter_mut()
        .filter(|listen| listen.transport == Transport::Tcp)
    {
        listen.certificate = Some(certificate.clone());
    }
}

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
