//! A watch that hangs: the API server is reached through a proxy that at some time forwards nothing
//! more of the watch of policies, and does not end it either.

use super::run::{Said, TRIES, disturbed};
use super::world::{kubectl, kubectl_child, put, suite};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;

/// A proxy between a run and the API server, in plain HTTP.
struct Proxy {
    kubectl: Child,
    address: String,
    hangs: Arc<AtomicBool>,
}

impl Proxy {
    fn new() -> Self {
        let mut kubectl = kubectl_child(&["proxy", "--port=0"]);
        let mut line = String::new();
        let mut output = BufReader::new(kubectl.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let upstream = line.trim().rsplit(' ').next().unwrap().to_owned();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let hangs = Arc::new(AtomicBool::new(false));
        let hanging = Arc::clone(&hangs);
        spawn(move || {
            for client in listener.incoming() {
                let server = TcpStream::connect(&upstream).unwrap();
                forward(client.unwrap(), server, &hanging);
            }
        });
        Self {
            kubectl,
            address,
            hangs,
        }
    }

    fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{}", self.address) } }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "" } }],
        })
        .to_string()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.kubectl.kill();
        let _status = self.kubectl.wait();
    }
}

/// Whether what a client sent is a watch of policies.
fn is_watch_of_policies(request: &[u8]) -> bool {
    let request = String::from_utf8_lossy(request);
    let line = request.lines().next().unwrap_or_default();
    line.contains("/networkpolicies") && line.contains("watch=")
}

/// Copies in both directions; nothing of a watch of policies while it hangs.
fn forward(client: TcpStream, server: TcpStream, hangs: &Arc<AtomicBool>) {
    let is_watch = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(hangs);
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let noted = Arc::clone(&is_watch);
    spawn(move || {
        copy(&mut from, &mut to, |bytes| {
            // The answer to another request of this connection is no watch.
            if bytes.starts_with(b"GET ") {
                noted.store(is_watch_of_policies(bytes), Ordering::SeqCst);
            }
            true
        });
    });
    let (mut from, mut to) = (server, client);
    spawn(move || {
        copy(&mut from, &mut to, |_| {
            !(is_watch.load(Ordering::SeqCst) && hangs.load(Ordering::SeqCst))
        });
    });
}

/// Copies what passes the filter, until either end closes.
fn copy(from: &mut TcpStream, to: &mut TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if passes(&buffer[..read]) && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(Shutdown::Both);
}

/// A run during which the database's policy changes, without an effect on any packet of the run.
fn run() -> Said {
    put();
    let proxy = Proxy::new();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, proxy.kubeconfig()).unwrap();
    let hangs = Arc::clone(&proxy.hangs);
    let arguments = [
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--only",
        "tier-isolation|api -> postgres|web-tier -> api",
        "--hold",
        "9s",
        "--timeout",
        "25s",
    ];
    disturbed(&suite(), &arguments, move || {
        hangs.store(true, Ordering::SeqCst);
        let rule = r#"[{"op":"add","path":"/spec/ingress/-","value":{"from":[{"podSelector":{"matchLabels":{"app":"nothing"}}}]}}]"#;
        kubectl(&[
            "-n",
            "wt-test-data",
            "patch",
            "networkpolicy",
            "postgres",
            "--type=json",
            "-p",
            rule,
        ]);
    })
}

/// The change is found by the list at the end: what else the watch did not show in between is not
/// known, so nothing is proven, and the run is incomplete.
pub(super) fn hides_nothing() {
    for attempt in 1.. {
        let said = run();
        if said.is_busy() && attempt < TRIES {
            continue;
        }
        let tiers = said.of(super::cases::TIERS);
        assert_eq!(
            (tiers, said.code),
            (("unproven", Some("not-finished")), 5),
            "{}",
            said.text
        );
        assert!(
            said.text.contains("differ from their list at the end"),
            "{}",
            said.text
        );
        return;
    }
}
