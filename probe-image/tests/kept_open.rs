//! One connection that is kept open for all attempts of a flow.

#![expect(clippy::unwrap_used, reason = "a failed precondition ends the test")]

mod common;

use common::{Probe, error, flow, plan, server, stages, stop};
use nix::libc;
use socket2::SockRef;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use watertight_probe::wire::{Flow, Request, Stage, StopCause};

/// A server that keeps every connection until it gets a word, and then ends it by `end`; the
/// connections that it accepted.
fn keeping_server(end: fn(TcpStream)) -> (u16, Sender<()>, Arc<AtomicU32>) {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    let receiver = Arc::new(std::sync::Mutex::new(receiver));
    let accepted = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&accepted);
    let port = server(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = receiver.lock().unwrap().recv();
        end(stream);
    });
    (port, sender, accepted)
}

fn kept(port: u16) -> Flow {
    let mut flow = flow(1, port, Request::KeptOpen);
    flow.deadlines.connect_ms = 2_500;
    // Attempts one after the other, so that no second connection is opened before the first is.
    flow.pace.single = true;
    flow.pace.interval_ms = 500;
    flow
}

/// The probe opens one connection, and its peer acknowledges it again and again.
fn opened(port: u16) -> Probe {
    let mut probe = Probe::start(&plan(vec![kept(port)]));
    let sample = probe.sample(1);
    assert_eq!(
        (stages(&sample.observation), &sample.observation.stop),
        (vec![Stage::Connect], &None)
    );
    let mut attempts = 0;
    while attempts < 4 {
        attempts = probe.heartbeat_of(1).flows[0].1;
    }
    assert_eq!(probe.samples().count(), 1, "{:#?}", probe.read);
    probe
}

#[test]
fn connection_that_is_acknowledged_passes_every_attempt_and_is_the_only_one() {
    let (port, _sender, accepted) = keeping_server(drop);
    let _probe = opened(port);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn connection_that_the_peer_closes_is_reported_and_not_opened_again() {
    let (port, sender, accepted) = keeping_server(drop);
    let mut probe = opened(port);
    sender.send(()).unwrap();

    let sample = probe.sample(1);
    assert!(sample.observation.passed.is_empty());
    assert_eq!(
        sample.observation.stop,
        stop(Stage::Connect, StopCause::Closed)
    );
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn connection_that_the_peer_resets_is_reported() {
    let (port, sender, _accepted) = keeping_server(|stream| {
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
    });
    let mut probe = opened(port);
    sender.send(()).unwrap();

    let sample = probe.sample(1);
    assert_eq!(
        sample.observation.stop,
        stop(Stage::Connect, error(libc::ECONNRESET))
    );
}

#[test]
fn peer_receives_no_byte() {
    let (sender, receiver) = channel();
    let port = server(move |mut stream| {
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut byte = [0_u8; 1];
        let read = stream.read(&mut byte).map_err(|error| error.kind());
        sender.send(read).unwrap();
    });
    let probe = opened(port);
    drop(probe);
    // The FIN of the probe's end, or nothing at all.
    let read = receiver.recv().unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}
