//! ICMP messages of a router, and routes without one: two network namespaces, real packets.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{Probe, error, flow, once, plan, skipped, stop, udp};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use watertight_probe::encode_plan;
use watertight_probe::wire::{
    Body, ByeReason, Flow, Icmp, Request, Stage, Stop, StopCause, Target,
};

/// A thread in a new network namespace that runs `ip` commands.
struct Namespace {
    commands: Sender<(String, Sender<bool>)>,
    netns: File,
    thread: i32,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let (commands, inbox) = channel::<(String, Sender<bool>)>();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare: {e}"));
            let made = made
                .and_then(|()| File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string()));
            sender
                .send(made.map(|netns| (netns, nix::unistd::gettid().as_raw())))
                .unwrap();
            for (command, result) in inbox {
                let status = Command::new("sh").args(["-c", &command]).status();
                result
                    .send(status.is_ok_and(|status| status.success()))
                    .unwrap();
            }
        });
        let (netns, thread) = receiver.recv().unwrap()?;
        Ok(Self {
            commands,
            netns,
            thread,
        })
    }

    fn run(&self, command: &str) -> Result<(), String> {
        let (sender, result) = channel();
        self.commands.send((command.to_owned(), sender)).unwrap();
        if result.recv().unwrap() {
            Ok(())
        } else {
            Err(command.to_owned())
        }
    }
}

/// A source behind a router that prohibits packets, has no route, or drops silently, by
/// destination.
fn routed() -> Result<Namespace, String> {
    let (source, router) = (Namespace::new()?, Namespace::new()?);
    source.run(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}",
        router.thread
    ))?;
    source.run("ip link set lo up && ip addr add 10.91.0.2/24 dev eth0 && ip link set eth0 up")?;
    source.run("ip -6 addr add fd91::2/64 dev eth0 nodad")?;
    router.run("ip link set lo up && ip addr add 10.91.0.1/24 dev eth0 && ip link set eth0 up")?;
    router.run("ip -6 addr add fd91::1/64 dev eth0 nodad")?;
    router.run(
        "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 0 > /proc/sys/net/ipv4/icmp_ratelimit",
    )?;
    router.run("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding && echo 0 > /proc/sys/net/ipv6/icmp/ratelimit")?;
    for (what, net) in [("prohibit", 1), ("unreachable", 2), ("blackhole", 3)] {
        router.run(&format!("ip route add {what} 10.92.{net}.0/24"))?;
        router.run(&format!("ip -6 route add {what} fd92:{net}::/64"))?;
    }
    source.run("ip route add default via 10.91.0.1 && ip -6 route add default via fd91::1")?;
    // Kept as long as the test runs: the namespace ends with its last thread.
    std::mem::forget(router);
    Ok(source)
}

/// One attempt to port 9000 of an address.
fn to(id: u32, address: &str, request: Request) -> Flow {
    let mut flow = once(flow(id, 9_000, request));
    flow.target = Target::Address(address.parse().unwrap());
    flow
}

/// A stop by an ICMP message of the router; type 1 is `ICMPv6`.
fn refused(stage: Stage, errno: i32, ty: u8, code: u8) -> Option<Stop> {
    let v6 = ty == 1;
    let offender: IpAddr = if v6 { "fd91::1" } else { "10.91.0.1" }.parse().unwrap();
    let icmp = Some(Icmp {
        v6,
        ty,
        code,
        offender: Some(offender),
    });
    stop(stage, StopCause::Error { errno, icmp })
}

#[test]
fn icmp_messages_of_a_router_are_reported_with_type_code_and_sender() {
    let source = match routed() {
        Ok(source) => source,
        Err(error) => return skipped(&error),
    };
    let connect = Request::Connect { linger_ms: 0 };
    let plan = plan(vec![
        to(1, "10.92.1.1", connect.clone()),
        to(2, "10.92.2.1", connect.clone()),
        to(3, "10.92.3.1", connect.clone()),
        udp(to(4, "10.92.1.1", Request::Nonce)),
        udp(to(5, "10.92.3.1", Request::Nonce)),
        to(6, "fd92:1::1", connect.clone()),
        to(7, "fd92:2::1", connect),
        udp(to(8, "fd92:1::1", Request::Nonce)),
    ]);
    let inherited = nix::unistd::dup(&source.netns).unwrap();
    let mut probe = Probe::start_with(
        encode_plan(&plan).unwrap(),
        &[&inherited.as_raw_fd().to_string()],
    );
    assert_eq!(probe.bye(), ByeReason::Done);

    let Body::Hello(hello) = &probe.read[0].body else {
        unreachable!()
    };
    let address: IpAddr = "10.91.0.2".parse().unwrap();
    assert!(hello.addresses.contains(&address), "{hello:?}");

    let expected = [
        (1, refused(Stage::Connect, libc::EHOSTUNREACH, 3, 13)),
        (2, refused(Stage::Connect, libc::EHOSTUNREACH, 3, 1)),
        (3, stop(Stage::Connect, StopCause::Silence)),
        (4, refused(Stage::FirstBytes, libc::EHOSTUNREACH, 3, 13)),
        (5, stop(Stage::FirstBytes, StopCause::Silence)),
        (6, refused(Stage::Connect, libc::EACCES, 1, 1)),
        (7, refused(Stage::Connect, libc::ENETUNREACH, 1, 0)),
        (8, refused(Stage::FirstBytes, libc::EACCES, 1, 1)),
    ];
    for (flow, stop) in expected {
        let sample = probe.samples().find(|sample| sample.flow == flow);
        assert_eq!(sample.unwrap().observation.stop, stop, "flow {flow}");
    }
}

#[test]
fn no_route_is_an_error_without_icmp() {
    let source = match Namespace::new() {
        Ok(source) => source,
        Err(error) => return skipped(&error),
    };
    let mut plan = plan(vec![once(flow(1, 9_000, Request::Nonce))]);
    plan.flows[0].target = Target::Address("192.0.2.1".parse().unwrap());
    let inherited = nix::unistd::dup(&source.netns).unwrap();
    let mut probe = Probe::start_with(
        encode_plan(&plan).unwrap(),
        &[&inherited.as_raw_fd().to_string()],
    );
    assert_eq!(
        probe.sample(1).observation.stop,
        stop(Stage::Connect, error(libc::ENETUNREACH))
    );
}
