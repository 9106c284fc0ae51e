//! Servers of the test's own, in a pod's network: for what the lab's responder does not do, such as
//! to answer one client otherwise than another, or to show any certificate.

use crate::scene::Stage;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watertight::wire::Transport;

/// How long a connection is kept at most.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server says to a client's first bytes; `None`: nothing, until the client goes.
pub(crate) type Says = dyn Fn(IpAddr, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// Puts a server in the place of the responder's listener at a port of the target.
///
/// Its threads end with the process: the network namespace that they listen in is the lab's.
pub(crate) async fn serve(
    stage: &Stage,
    port: u16,
    says: impl Fn(IpAddr, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
) {
    let listener = listen(stage, port).await;
    let says: Arc<Says> = Arc::new(says);
    accept(listener, move |stream, from| converse(stream, from, &*says));
}

/// Puts a TLS server with this certificate in the place of the responder's listener at a port of
/// the target.
pub(crate) async fn serve_tls(stage: &Stage, port: u16, certificate: &rcgen::CertificateParams) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = certificate.self_signed(&key).expect("a certificate");
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key");
    let config = Arc::new(config);
    let listener = listen(stage, port).await;
    accept(listener, move |mut stream, _| {
        let mut session =
            rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        // A client that only shook hands sends nothing more.
        tls.read(&mut [0; 4096]).map(drop)
    });
}

async fn listen(stage: &Stage, port: u16) -> TcpListener {
    let target = Stage::pod("target");
    stage
        .sabotage
        .stop_listener(target, Some((Transport::Tcp, port)))
        .await
        .expect("a listener to stop");
    let bound = stage
        .sabotage
        .within(Stage::source("target"), move || {
            TcpListener::bind(("::", port))
        })
        .await;
    bound
        .expect("the target's network")
        .expect("a port that is free now")
}

fn accept(
    listener: TcpListener,
    serve: impl Fn(TcpStream, IpAddr) -> io::Result<()> + Send + Sync + 'static,
) {
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        while let Ok((stream, from)) = listener.accept() {
            let serve = Arc::clone(&serve);
            // How a client ends its connection is its own affair.
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(CONNECTION_TIMEOUT))?;
                stream.set_write_timeout(Some(CONNECTION_TIMEOUT))?;
                serve(stream, from.ip().to_canonical())
            });
        }
    });
}

fn converse(mut stream: TcpStream, from: IpAddr, says: &Says) -> io::Result<()> {
    let mut first = vec![0; 8192];
    let length = stream.read(&mut first)?;
    if let Some(answer) = says(from, &first[..length]) {
        stream.write_all(&answer)?;
        stream.shutdown(Shutdown::Write)?;
    }
    let deadline = Instant::now() + CONNECTION_TIMEOUT;

    loop {
        match stream.read(&mut first) {
            Ok(0) => return Ok(()),
            Ok(_) if Instant::now() < deadline => {}
            Ok(_) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
}

/// The nonce of a question, of either form.
pub(crate) fn nonce(question: &[u8]) -> String {
    let text = String::from_utf8_lossy(question);
    let headers: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let header = headers.get("x-watertight-nonce").copied();
    header
        .or_else(|| text.trim_end().strip_prefix("watertight/1 "))
        .unwrap_or_default()
        .to_owned()
}
