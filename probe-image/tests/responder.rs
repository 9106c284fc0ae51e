//! The responder as a process: its control socket, other namespaces, many sockets.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{LOCALHOST, Probe, Responder, error, flow, free_port, once, plan, skipped, stop};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use watertight_probe::encode_plan;
use watertight_probe::responder::control::{Behaviour, Command, Listen, Reply};
use watertight_probe::wire::{Request, Stage, Transport};

fn tcp(address: SocketAddr) -> Listen {
    Listen {
        address,
        transport: Transport::Tcp,
        behaviour: Behaviour::Answer,
        certificate: None,
    }
}

fn serve(group: u32, who: &str, listen: Vec<Listen>) -> Command {
    Command::Serve {
        group,
        who: who.into(),
        listen,
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.write_all(b"watertight/1 ab\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A fresh network namespace with its loopback up, or why there is none.
fn netns() -> Result<File, String> {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare: {e}"))?;
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        if !up.map_err(|e| format!("ip: {e}"))?.success() {
            return Err("ip link set lo up".into());
        }
        File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string())
    })
    .join()
    .unwrap()
}

#[test]
fn sockets_are_bound_after_serve_and_gone_after_close() {
    let responder = Responder::start();
    let addresses: Vec<SocketAddr> = (0..2)
        .map(|_| (LOCALHOST, free_port(Transport::Tcp)).into())
        .collect();
    let listen = addresses.iter().copied().map(tcp).collect();
    assert_eq!(responder.send(&serve(1, "a b", listen), None), Reply::Done);
    assert_eq!(ask(addresses[0]).unwrap(), "watertight/1 ab a b\n");
    let mut held = TcpStream::connect(addresses[0]).unwrap();
    let port = Some((Transport::Tcp, addresses[0].port()));
    assert_eq!(
        responder.send(&Command::Close { group: 1, port }, None),
        Reply::Done
    );
    assert_eq!(
        ask(addresses[0]).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    held.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // FIN, or RST if the responder had not accepted the connection yet.
    assert!(held.read(&mut [0]).map_or_else(
        |e| e.kind() == std::io::ErrorKind::ConnectionReset,
        |n| n == 0
    ));
    assert!(ask(addresses[1]).is_ok(), "the other port stays open");
    assert_eq!(
        responder.send(&serve(1, "again", vec![tcp(addresses[0])]), None),
        Reply::Done
    );
    assert_eq!(ask(addresses[0]).unwrap(), "watertight/1 ab again\n");
    assert_eq!(
        responder.send(
            &Command::Close {
                group: 1,
                port: None
            },
            None
        ),
        Reply::Done
    );
    assert!(addresses.iter().all(|&a| ask(a).is_err()));
}

#[test]
fn command_that_fails_names_the_address_and_binds_nothing() {
    let responder = Responder::start();
    let free = SocketAddr::new(LOCALHOST, free_port(Transport::Tcp));
    let taken = std::net::TcpListener::bind((LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let Reply::Failed { what, errno } =
        responder.send(&serve(1, "x", vec![tcp(free), tcp(taken)]), None)
    else {
        panic!("bound twice");
    };
    assert_eq!(errno, libc::EADDRINUSE);
    assert!(what.contains(&taken.to_string()), "{what}");
    assert!(ask(free).is_err());
    assert!(matches!(
        responder.send_text(b"{\"nonsense\":1}", None),
        Reply::Failed { errno: 0, .. }
    ));
    assert_eq!(
        responder.send(&serve(1, "x", vec![tcp(free)]), None),
        Reply::Done
    );
}

#[test]
fn responder_ends_with_its_control_socket() {
    let mut responder = Responder::start();
    let (fresh, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut responder.control, fresh.into()));
    let deadline = Instant::now() + Duration::from_secs(2);
    while responder.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the responder still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ipv6_socket_does_not_answer_over_ipv4() {
    let responder = Responder::start();
    let port = free_port(Transport::Tcp);
    let six = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let six_local = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
    if std::net::TcpListener::bind(six_local).is_err() {
        return skipped("no IPv6 loopback here");
    }
    assert_eq!(
        responder.send(&serve(1, "six", vec![tcp(six)]), None),
        Reply::Done
    );
    assert!(ask((LOCALHOST, port).into()).is_err());
    assert_eq!(ask(six_local).unwrap(), "watertight/1 ab six\n");
}

#[test]
fn responder_serves_probes_in_other_namespaces() {
    let (one, two) = match (netns(), netns()) {
        (Ok(one), Ok(two)) => (one, two),
        (Err(error), _) | (_, Err(error)) => return skipped(&error),
    };
    let responder = Responder::start();
    let port = free_port(Transport::Tcp);
    let address = SocketAddr::new(LOCALHOST, port);
    // The same address in two namespaces and at home: three sockets.
    assert_eq!(
        responder.send(&serve(1, "one", vec![tcp(address)]), Some(one.as_fd())),
        Reply::Done
    );
    assert_eq!(
        responder.send(&serve(2, "two", vec![tcp(address)]), Some(two.as_fd())),
        Reply::Done
    );
    assert!(ask(address).is_err(), "no socket is bound at home");
    let plan = plan(vec![once(flow(1, port, Request::Nonce))]);
    for (netns, who) in [(&one, "one"), (&two, "two")] {
        // A duplicate without close-on-exec, as the runner passes it.
        let inherited = nix::unistd::dup(netns).unwrap();
        let number = inherited.as_raw_fd().to_string();
        let mut probe = Probe::start_with(encode_plan(&plan).unwrap(), &[&number]);
        assert_eq!(probe.sample(1).observation.answer.unwrap().who, who);
    }
    let home = Probe::start(&plan).sample(1).observation;
    assert_eq!(home.stop, stop(Stage::Connect, error(libc::ECONNREFUSED)));
}

/// Address of a pod, on 127.1.0.0/16.
fn pod_address(n: u32) -> IpAddr {
    (0x7f01_0000_u32 + n + 1).to_be_bytes().into()
}

#[test]
fn thousands_of_sockets_are_served_at_the_same_time() {
    let responder = Responder::start();
    // 1,000 pods with 3 TCP sockets and 1 UDP socket each.
    let began = Instant::now();
    for n in 0..1_000 {
        let mut listen: Vec<Listen> = (0..3)
            .map(|p| tcp((pod_address(n), 9_000 + p).into()))
            .collect();
        listen.push(Listen {
            transport: Transport::Udp,
            ..tcp((pod_address(n), 9_000).into())
        });
        assert_eq!(
            responder.send(&serve(n, &format!("pod-{n}"), listen), None),
            Reply::Done
        );
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    for n in [0, 500, 999] {
        assert_eq!(
            ask((pod_address(n), 9_002).into()).unwrap(),
            format!("watertight/1 ab pod-{n}\n")
        );
    }
    // Silent connections do not delay others.
    let held: Vec<TcpStream> = (0..300)
        .map(|n| TcpStream::connect((pod_address(n), 9_001)).unwrap())
        .collect();
    assert!(ask((pod_address(7), 9_001).into()).is_ok());
    drop(held);
}
