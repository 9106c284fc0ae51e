//! What an answer counts as: refusals by DNS and HTTP, and the same yardstick for controls.

use crate::Job;
use crate::runner::{Hand, How, Wanted};
use crate::scenes::{Play, addresses, listener, source, unproven};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use watertight::backend::lab;
use watertight::plan::ProbeId;
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;

/// Response codes (RFC 1035 section 4.1.1).
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// Queries for each that stops the probes, with an attempt in flight, for longer than a lag that
/// makes an attempt a fault.
const QUERIES_BETWEEN_STALLS: u32 = 8;
const STALL: Duration = Duration::from_millis(250);

/// At most so many probes are stopped.
const PROBES: usize = 16;

const EVIL_DENIED: &str = "s/Pod/other -> dns://site:81/evil.example denied";
const PAY_ALLOWED: &str = "s/Pod/other -> dns://site:81/pay.example allowed";
const FAR_PAY_ALLOWED: &str = "s/Pod/far -> dns://site:81/pay.example allowed";
const ADMIN_DENIED: &str = "s/Pod/other -> http://site:82/admin denied";
const FAR_ADMIN_ALLOWED: &str = "s/Pod/far -> http://site:82/admin allowed";
const HEALTH_ALLOWED: &str = "s/Pod/other -> http://site:82/health allowed";
const FAR_HEALTH_ALLOWED: &str = "s/Pod/far -> http://site:82/health allowed";

/// An answer that no enforcer is known to give.
const FORBIDDEN: &str =
    "HTTP/1.1 403 Forbidden\r\nx-denied-by: edge-7\r\ncontent-length: 11\r\n\r\nnot allowed";
const WELCOME: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwelcome";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// All scenes.
pub(crate) fn all() -> Vec<Job> {
    let mut jobs = by_dns();
    jobs.extend(by_http());
    jobs
}

fn by_dns() -> Vec<Job> {
    let one_refused = Play::new(
        "a resolver that refuses one source",
        How::BEFORE,
        &[
            (EVIL_DENIED, "mechanism: signature", Wanted::Proven),
            (PAY_ALLOWED, "", Wanted::Violated),
            (FAR_PAY_ALLOWED, "", Wanted::Proven),
        ],
    );
    let all_refused = Play::new(
        "a resolver that refuses everyone",
        How::BEFORE,
        &[
            (EVIL_DENIED, "", unproven(Reason::AllControlsRefused)),
            (PAY_ALLOWED, "", unproven(Reason::TargetUnreachable)),
        ],
    );
    let refused_in_a_stall = Play::new(
        "a resolver that refuses stopped probes",
        How {
            starves: true,
            ..How::BEFORE
        },
        &[
            (EVIL_DENIED, "", unproven(Reason::AllControlsRefused)),
            (PAY_ALLOWED, "", unproven(Reason::TargetUnreachable)),
        ],
    );
    let nothing_known = Play::new(
        "a resolver that knows no name",
        How::BEFORE,
        &[
            (EVIL_DENIED, "", Wanted::Violated),
            (PAY_ALLOWED, "", Wanted::Proven),
        ],
    );
    vec![
        one_refused.job(async |hand| {
            let refused = addresses(&hand.sabotage.inventory().await?.pods, "other");
            resolve(&hand, move |from| {
                if refused.contains(&from) {
                    REFUSED
                } else {
                    NXDOMAIN
                }
            })
            .await
        }),
        all_refused.job(async |hand| resolve(&hand, |_| REFUSED).await),
        refused_in_a_stall.job(async |hand| {
            let sabotage = hand.sabotage.clone();
            let queries = AtomicU32::new(0);
            resolve(&hand, move |_| {
                if queries
                    .fetch_add(1, Relaxed)
                    .is_multiple_of(QUERIES_BETWEEN_STALLS)
                {
                    for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                        for probe in (0..).map(ProbeId).take(PROBES) {
                            // Not every one of them has started, and some have ended.
                            let _ = sabotage.signal(probe, signal);
                        }
                        std::thread::sleep(STALL);
                    }
                }
                REFUSED
            })
            .await
        }),
        nothing_known.job(async |hand| resolve(&hand, |_| NXDOMAIN).await),
    ]
}

fn by_http() -> Vec<Job> {
    let by_status = Play::new(
        "an enforcer that says no by a status",
        How::BEFORE,
        &[
            (
                ADMIN_DENIED,
                "refusal: {status: [401, 403]}, mechanism: signature",
                Wanted::Proven,
            ),
            // Any answer opens, and the status of this one is not looked at elsewhere.
            (FAR_ADMIN_ALLOWED, "tier: A1", Wanted::Proven),
            (HEALTH_ALLOWED, "status: 200", Wanted::Violated),
            (
                FAR_HEALTH_ALLOWED,
                "status: [200, 204], tier: A1",
                Wanted::Proven,
            ),
        ],
    );
    let by_text = Play::new(
        "an enforcer that says no by a header and a body",
        How::BEFORE,
        &[(
            ADMIN_DENIED,
            "refusal: {header: {X-Denied-By: '^edge-[0-9]+$'}, body: '(?i)not allowed'}",
            Wanted::Proven,
        )],
    );
    let welcome = Play::new(
        "a refusal that no target gives",
        How::BEFORE,
        &[(ADMIN_DENIED, "refusal: {status: 403}", Wanted::Violated)],
    );
    let all_refused = Play::new(
        "a refusal that everyone gets",
        How::BEFORE,
        &[
            (
                ADMIN_DENIED,
                "refusal: {status: 403}",
                unproven(Reason::AllControlsRefused),
            ),
            // An answer is an answer, whatever it says.
            (FAR_ADMIN_ALLOWED, "tier: A1", Wanted::Proven),
            (
                HEALTH_ALLOWED,
                "status: 204",
                unproven(Reason::TargetUnreachable),
            ),
        ],
    );
    vec![
        by_status.job(async |hand| {
            let refused = addresses(&hand.sabotage.inventory().await?.pods, "other");
            serve(&hand, move |from| {
                if refused.contains(&from) {
                    FORBIDDEN
                } else {
                    WELCOME
                }
            })
            .await
        }),
        by_text.job(async |hand| {
            let refused = addresses(&hand.sabotage.inventory().await?.pods, "other");
            serve(&hand, move |from| {
                if refused.contains(&from) {
                    FORBIDDEN
                } else {
                    EMPTY
                }
            })
            .await
        }),
        welcome.job(async |hand| serve(&hand, |_| WELCOME).await),
        all_refused.job(async |hand| serve(&hand, |_| FORBIDDEN).await),
    ]
}

/// Answers DNS over UDP on port 81 of the target, by the client's address, without a record.
async fn resolve(
    hand: &Hand,
    code: impl Fn(IpAddr) -> u8 + Send + 'static,
) -> Result<(), lab::Error> {
    let listen = move || {
        let socket = UdpSocket::bind("[::]:81").expect("the port is free");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // The query, as a response with this code.
                buffer[2] |= 0x80;
                buffer[3] = 0x80 | code(from.ip().to_canonical());
                // A client that is gone needs no answer.
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    };
    hand.sabotage.within(source("target"), listen).await
}

/// Answers HTTP on port 82 of the target, by the client's address.
async fn serve(
    hand: &Hand,
    answer: impl Fn(IpAddr) -> &'static str + Send + Sync + 'static,
) -> Result<(), lab::Error> {
    hand.sabotage
        .stop_listener(listener("target"), Some((Tcp, 82)))
        .await?;
    let answer = Arc::new(answer);
    let converse = |mut stream: TcpStream, text: &str| {
        // A client that has closed the connection by now needs no answer.
        let _ = stream
            .read(&mut [0; 4_096])
            .and_then(|_| stream.write_all(text.as_bytes()));
    };
    let listen = move || {
        let listener = TcpListener::bind("[::]:82").expect("the port is free");
        std::thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    converse(stream, answer(from.ip().to_canonical()));
                });
            }
        });
    };
    hand.sabotage.within(source("target"), listen).await
}
