//! Trust of the sender, and its identity.

use hyper_util::rt::TokioIo;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_certificate_must_chain_to_the_bundle_and_be_for_the_host() {
    let ca = Ca::new();
    let server = Server::start(OK, Some(ca.acceptor(None, &[b"http/1.1"]))).await;
    let good = target(json!({"url": server.https(), "caBundle": ca.bundle()})).await;
    assert_eq!(send(&good).await.unwrap().status, Some(StatusCode::OK));
    let other = target(json!({"url": server.https(), "caBundle": Ca::new().bundle()})).await;
    let name = format!("https://127.0.0.1:{}", server.port);
    let failed = |words: &str| {
        Failure::new(
            FailureKind::Unavailable,
            "Tls",
            format!("TLS with {name} failed: {words}"),
        )
    };
    assert_eq!(
        refusal(&other).await,
        failed("its certificate does not chain to a certificate of caBundle")
    );
    let sender = Sender::new("", true);
    sender
        .platform
        .set(Trust::bundle(Ca::new().pem.as_bytes()).unwrap())
        .unwrap();
    let unnamed = target(json!({"url": server.https()})).await;
    assert_eq!(
        sender.send(&unnamed, &alert(), now()).await.unwrap_err(),
        failed("its certificate is of a CA that is not trusted here; write that CA's certificate into caBundle")
    );
    assert_eq!(server.seen().len(), 1, "the others saw nothing of the alert");

    let elsewhere = Ca::of("elsewhere.test");
    let server = Server::start(OK, Some(elsewhere.acceptor(None, &[]))).await;
    let failure = refusal(&target(json!({"url": server.https(), "caBundle": elsewhere.bundle()})).await).await;
    assert!(
        failure
            .message
            .ends_with("its certificate is for other names than the URL's host"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_port_without_tls_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let failure = refusal(&target(json!({"url": url, "caBundle": Ca::new().bundle()})).await).await;
    assert!(
        failure
            .message
            .ends_with("no TLS is spoken there; write http://, or another port"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_demand_one() {
    let (ca, client) = (Ca::new(), Ca::of("gatehouse.test"));
    let server = Server::start(OK, Some(ca.acceptor(Some(&client), &[]))).await;
    let failure = refusal(&target(json!({"url": server.https(), "caBundle": ca.bundle()})).await).await;
    assert_eq!(
        (failure.kind, failure.reason),
        (FailureKind::Unavailable, "Tls"),
        "{failure}"
    );
    assert!(
        failure.message.ends_with(
            "it demands a client certificate; name a Secret with tls.crt and tls.key in clientCertificateRef"
        ),
        "{failure}"
    );
    let shown = |pair: &Ca| {
        let secrets = json!({"client": {"tls.crt": pair.pem, "tls.key": pair.key}});
        let webhook =
            json!({"url": server.https(), "caBundle": ca.bundle(), "clientCertificateRef": {"name": "client"}});
        read(webhook, secrets)
    };
    assert!(send(&shown(&client).await.unwrap()).await.is_ok());
    let failure = refusal(&shown(&Ca::of("stranger.test")).await.unwrap()).await;
    assert!(
        failure
            .message
            .ends_with("check that it knows the certificate of clientCertificateRef"),
        "{failure}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_does() {
    let ca = Ca::new();
    let acceptor = ca.acceptor(None, &[b"h2", b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let answer = hyper::service::service_fn(async |request: Request<Incoming>| {
            let status = match (request.version(), request.uri().path()) {
                (http::Version::HTTP_2, "/hook") => 201,
                _ => 500,
            };
            http::Response::builder().status(status).body(Full::<Bytes>::default())
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer)
            .await
    });
    let accepted = send(&target(json!({"url": url, "caBundle": ca.bundle()})).await)
        .await
        .unwrap();
    assert_eq!(accepted.status, Some(StatusCode::CREATED));
    // The connection ends with the delivery.
    server.await.unwrap().unwrap();
}
