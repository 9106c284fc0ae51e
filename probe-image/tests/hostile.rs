//! Malicious targets: limited time, limited memory, printable text.
//!
//! A separate file, so that no other test competes with the probe for the processor.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{Probe, Responder, flow, http, is_garbled, plan, server, stop, tls, udp};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;
use watertight_probe::responder::control::Behaviour;
use watertight_probe::wire::{Body, Observation, Pace, Request, Stage, Stop, StopCause, Transport};

#[test]
fn malicious_targets_cost_limited_time_and_memory() {
    let responder = Responder::start();
    let flood = responder.listen("x", Transport::Tcp, Behaviour::Flood);
    let drip = responder.listen("x", Transport::Tcp, Behaviour::Drip);
    let flood_udp = responder.listen("x", Transport::Udp, Behaviour::Flood);
    let headers = server(|mut stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n"));
        while stream
            .write_all(b"x-more: and more and more and more and more\r\n")
            .is_ok()
        {}
    });
    let interim = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        let hint = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n",
            "x".repeat(1_000)
        );
        while stream.write_all(hint.as_bytes()).is_ok() {}
    });
    let huge = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n<b>\x1b[31m"),
        );
        let block = vec![b'x'; 65536];
        while stream.write_all(&block).is_ok() {}
    });
    let slow_body = server(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(b"HTTP/1.1 403 Forbidden\r\nserver: <a href=\"\xff\">\r\n\r\nno"));
        std::thread::sleep(Duration::from_secs(5));
    });
    let mut flows = vec![
        http(1, flood),
        http(2, drip),
        http(3, headers),
        http(4, huge),
        http(5, slow_body),
        flow(6, flood, Request::Nonce),
        tls(7, flood, None, &[]),
        tls(8, drip, None, &[]),
        udp(flow(9, flood_udp, Request::Nonce)),
        http(10, interim),
    ];
    for flow in &mut flows {
        // One after the other, and repeatedly: an attempt during which the probe got no processor
        // time is a fault.
        flow.pace = Pace {
            bursts_ms: vec![100 * flow.id],
            interval_ms: 2_000,
            attempts: Some(5),
            single: false,
            accepted: None,
        };
    }

    let mut probe = Probe::start(&plan(flows));
    let mut observations: BTreeMap<u32, Observation> = BTreeMap::new();
    while observations.len() < 10 {
        let line = probe.until(|body| matches!(body, Body::Sample(_)));
        if let Body::Sample(sample) = line.body {
            assert!(
                line.t - sample.start < 3_000_000,
                "{sample:?} at {}",
                line.t
            );
            observations.insert(sample.flow, sample.observation);
        }
    }

    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", probe.child.id())) {
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let peak: u64 = peak.map_or(0, |kb| kb.trim().parse().unwrap());
        assert!(peak < 64 * 1024, "{peak} KiB");
    }
    assert_eq!(
        observations[&1].http.as_ref().unwrap().body_bytes,
        1_000_000
    );
    assert_eq!(
        observations[&2].stop,
        stop(Stage::Request, StopCause::Silence)
    );
    assert!(
        is_garbled(&observations[&3], Stage::Request),
        "{:?}",
        observations[&3]
    );
    let http = observations[&4].http.as_ref().unwrap();
    assert_eq!(http.body_bytes, 1_000_000);
    let http = observations[&5].http.as_ref().unwrap();
    assert_eq!((http.status, http.body_bytes), (403, 2));
    assert!(is_garbled(&observations[&6], Stage::Request));
    assert!(
        is_garbled(&observations[&7], Stage::Tls),
        "{:?}",
        observations[&7]
    );
    assert!(
        matches!(
            observations[&8].stop,
            Some(Stop {
                stage: Stage::Tls,
                ..
            })
        ),
        "{:?}",
        observations[&8]
    );
    assert!(is_garbled(&observations[&9], Stage::Request));
    assert!(
        matches!(&observations[&10].stop, Some(Stop { stage: Stage::Request, how: StopCause::Garbled { what } }) if what.contains("2 MiB")),
        "{:?}",
        observations[&10]
    );
}
