//! Nodes that lose packets which no policy denies: large ones, those that open connections, some of
//! all.
//!
//! A handshake's packets are small. A path that carries them and loses larger ones is silent to a
//! request just as an enforcer is that drops it.

use crate::Job;
use crate::runner::{Hand, How, Wanted};
use crate::scene::Scene;
use crate::scenes::{addresses, listener, source, unproven};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::spawn;
use watertight::backend::lab::{self, Loss};
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;

/// Less than a TCP segment of the usual size, more than a small one.
const BELOW_USUAL: Loss = Loss::LargerThan(1_000);

/// Less than a small TCP segment, and more than a handshake.
const BELOW_SMALL: Loss = Loss::LargerThan(300);

/// Octets of a request that fits no small segment, and of one that fits one Ethernet frame.
const LARGE: usize = 3_000;
const ONE_FRAME: usize = 1_300;

const DENIED: &str = "s/Pod/web -> s/Pod/api:80 denied";
const ALLOWED: &str = "s/Pod/third -> s/Pod/api:80 allowed";
const DATAGRAM_DENIED: &str = "s/Pod/web -> s/Pod/api:81/udp denied";
const DATAGRAM_ALLOWED: &str = "s/Pod/third -> s/Pod/api:81/udp allowed";
const PAGE_DENIED: &str = "s/Pod/web -> http://site:82/ denied";
const PAGE_ALLOWED: &str = "s/Pod/third -> http://site:82/ allowed";

/// Every scene. The source's node is `node-1`, the target's `node-2`, and `third` is on another.
pub(crate) fn all() -> Vec<Job> {
    vec![
        scene(
            "large packets to the target",
            &[
                (DENIED, sends(LARGE), Wanted::Violated),
                (ALLOWED, sends(LARGE), Wanted::Proven),
            ],
            async |hand| lose(&hand, BELOW_USUAL).await,
        ),
        scene(
            "large packets from the target",
            &[
                (PAGE_DENIED, String::new(), Wanted::Violated),
                (PAGE_ALLOWED, "tier: A1".into(), Wanted::Proven),
            ],
            async |hand| {
                converse(&hand, |_| Some(LARGE)).await?;
                lose(&hand, BELOW_USUAL).await
            },
        ),
        scene(
            "all packets larger than a handshake",
            &[
                (DENIED, sends(LARGE), unproven(Reason::PathNotVerified)),
                (ALLOWED, sends(LARGE), Wanted::Proven),
            ],
            async |hand| lose(&hand, BELOW_SMALL).await,
        ),
        scene(
            "large datagrams",
            &[
                (
                    DATAGRAM_DENIED,
                    sends(ONE_FRAME),
                    unproven(Reason::PathNotVerified),
                ),
                (DATAGRAM_ALLOWED, sends(ONE_FRAME), Wanted::Proven),
            ],
            async |hand| lose(&hand, BELOW_USUAL).await,
        ),
        scene(
            "nothing, and the target is silent to one source",
            &[
                (DENIED, sends(LARGE), Wanted::Proven),
                (ALLOWED, sends(LARGE), Wanted::Proven),
            ],
            async |hand| {
                let web = addresses(&hand.sabotage.inventory().await?.pods, "web");
                converse(&hand, move |from| (!web.contains(&from)).then_some(1)).await
            },
        ),
        scene(
            "what opens a connection",
            &[
                (
                    DENIED,
                    String::new(),
                    Wanted::Unproven(vec![Reason::SourceNotVerified, Reason::PathNotVerified]),
                ),
                (ALLOWED, String::new(), Wanted::Proven),
            ],
            async |hand| lose(&hand, Loss::NewConnections).await,
        ),
        scene(
            "every third packet",
            &[
                (DENIED, String::new(), Wanted::Violated),
                (ALLOWED, String::new(), Wanted::Proven),
            ],
            async |hand| lose(&hand, Loss::OneIn(3)).await,
        ),
    ]
}

/// The source's node loses packets.
async fn lose(hand: &Hand, loss: Loss) -> Result<(), lab::Error> {
    hand.sabotage.lose_packets("node-1", loss).await
}

/// `api` reads what it is sent, and answers with so many octets, or not at all, by the client's
/// address: on port 80 and, as HTTP, on port 82.
async fn converse(
    hand: &Hand,
    octets: impl Fn(IpAddr) -> Option<usize> + Send + Sync + 'static,
) -> Result<(), lab::Error> {
    let octets = Arc::new(octets);
    for port in [80, 82] {
        hand.sabotage
            .stop_listener(listener("api"), Some((Tcp, port)))
            .await?;
        let octets = Arc::clone(&octets);
        let listen = move || {
            let listener = TcpListener::bind(("::", port)).expect("the port is free");
            spawn(move || {
                while let Ok((stream, from)) = listener.accept() {
                    let octets = octets(from.ip().to_canonical());
                    spawn(move || answer(stream, octets));
                }
            });
        };
        hand.sabotage.within(source("api"), listen).await?;
    }
    Ok(())
}

/// Answers once, and reads on until the client closes.
fn answer(mut stream: TcpStream, octets: Option<usize>) {
    let mut buffer = [0; 8_192];
    let mut answer = octets.map(|octets| {
        let body = "x".repeat(octets);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\nX-Filler: {body}\r\n\r\n{body}")
    });
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        if let Some(text) = answer.take() {
            // A client that is gone needs no answer.
            let _ = stream.write_all(text.as_bytes());
        }
    }
}

/// A world without policies: `web` and `near` on the first node, `api` on the second, `third` on
/// the third.
fn world() -> Scene {
    let mut scene = Scene::default();
    scene.namespace("s", "team: s");
    for (pod, node) in [("web", "node-1"), ("near", "node-1"), ("third", "node-3")] {
        scene.app(pod, "80", node);
    }
    scene.app("api", "80 81/udp 82", "node-2");
    scene
}

/// The setting of a line that sends so many octets.
fn sends(octets: usize) -> String {
    format!("send: \"{}\"", "x".repeat(octets))
}

/// A scene: its lines, each with its settings.
fn scene(
    lost: &'static str,
    lines: &[(&'static str, String, Wanted)],
    act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
) -> Job {
    let mut world = world();
    if lines.iter().any(|(line, ..)| line.contains("site")) {
        world.endpoint("site", "namespace: s, workload: Pod/api");
    }
    for (line, settings, _) in lines {
        world.line(line, settings);
    }
    Job::of_checks(
        format!("losses / {lost}"),
        How::BEFORE,
        lines.iter().map(|(.., wanted)| wanted.clone()).collect(),
        move || world.case(&format!("losses-{}", lost.replace([' ', ','], "-"))),
        act,
    )
}
