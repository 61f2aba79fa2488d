//! Servers on 127.0.0.1 with set answers, with and without TLS.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Requests that a server received: the head of each as text, and its body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub(super) struct Server {
    pub(super) port: u16,
    seen: Seen,
}

impl Server {
    /// Answers every request with `answer`, and closes the connection.
    pub(super) async fn start(answer: impl Into<Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        Self::at("127.0.0.1:0", answer, tls).await
    }

    pub(super) async fn at(address: &str, answer: impl Into<Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, answer) = (Seen::default(), Arc::new(answer.into()));
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer, tls) = (shared.clone(), answer.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &seen, &answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, seen }
    }

    pub(super) async fn plain(answer: &str) -> Self {
        Self::start(answer, None).await
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?token=hunter2", self.port)
    }

    pub(super) fn https(&self) -> String {
        format!("https://127.0.0.1:{}/hook", self.port)
    }

    pub(super) fn seen(&self) -> Vec<(String, Vec<u8>)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, answer: &[u8]) {
    let mut read = Vec::new();
    let head = loop {
        let end = read.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            break String::from_utf8(read.drain(..end + 4).collect()).unwrap();
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap_or("0").parse().unwrap();
    while read.len() < length {
        stream.read_buf(&mut read).await.unwrap();
    }
    seen.lock().unwrap().push((head, read));
    if stream.write_all(answer).await.is_ok() {
        stream.shutdown().await.ok();
    }
}

/// A certificate that is its own root, for 127.0.0.1.
pub(super) struct Ca {
    pub(super) pem: String,
    pub(super) key: String,
}

impl Ca {
    pub(super) fn new() -> Self {
        Self::of("127.0.0.1")
    }

    pub(super) fn of(name: &str) -> Self {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            pem: pair.cert.pem(),
            key: pair.signing_key.serialize_pem(),
        }
    }

    pub(super) fn bundle(&self) -> String {
        STANDARD.encode(&self.pem)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        Arc::new(roots)
    }

    /// A server's TLS that demands a certificate of `clients`, where there are any.
    pub(super) fn acceptor(&self, clients: Option<&Ca>, alpn: &[&[u8]]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(clients.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let chain = vec![CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
