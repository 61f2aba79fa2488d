#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::sync::Mutex;

use super::*;

/// Keeps what it is given, and answers always the same.
#[derive(Default)]
struct Kept(Mutex<Vec<http::Request<Bytes>>>);

impl Transport for Kept {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, String>> {
        self.0.lock().unwrap().push(request);
        let answer = http::Response::builder()
            .status(201)
            .body(Bytes::from_static(b"{\"a\": 1}"));
        Box::pin(async move { answer.map_err(|error| error.to_string()) })
    }
}

struct Silent;

impl Transport for Silent {
    fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, String>> {
        Box::pin(std::future::pending())
    }
}

fn client() -> Client {
    let builder = Client::builder().redirect(redirect::Policy::none());
    builder.timeout(Duration::from_secs(7)).build().unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_transport_in_scope_as_it_was_made() {
    let kept = Arc::new(Kept::default());
    let mut headers = header::HeaderMap::new();
    headers.append(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    headers.append(header::HOST, header::HeaderValue::from_static("elsewhere.test"));
    let call = async {
        let request = client().request(Method::PUT, "https://api.test:8443/a?b=c");
        request
            .headers(headers)
            .header("X-Key", "k")
            .body("body".to_owned())
            .send()
            .await
    };
    let response = scope(kept.clone(), call).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.text().await.unwrap(), "{\"a\": 1}");
    let request = kept.0.lock().unwrap().remove(0);
    assert_eq!(
        (request.method(), request.uri().to_string(), request.body().as_ref()),
        (&Method::PUT, "https://api.test:8443/a?b=c".to_owned(), &b"body"[..])
    );
    let mut shown: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    shown.sort();
    assert_eq!(shown, ["accept: */*", "content-type: text/plain", "x-key: k"]);
}

#[tokio::test]
async fn nothing_is_sent_without_a_scope_or_to_a_url_that_is_none() {
    assert_eq!(
        client().post("https://a.test").send().await.unwrap_err(),
        Error::NoTransport
    );
    let kept = Arc::new(Kept::default());
    for url in [
        "https://api.test@elsewhere.test/",
        "file:///etc/passwd",
        "a.test",
        "https://a b/",
    ] {
        let sent = scope(kept.clone(), client().post(url).send()).await;
        assert!(matches!(sent, Err(Error::Url(_))), "{url}: {sent:?}");
    }
    let sent = scope(kept.clone(), client().post("https://a.test").header("x", "a\nb").send()).await;
    assert!(matches!(sent, Err(Error::Request(_))));
    assert!(kept.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_ends_with_the_timeout() {
    let sent = scope(Arc::new(Silent), client().post("https://a.test").send()).await;
    assert_eq!(sent.unwrap_err(), Error::TimedOut(Duration::from_secs(7)));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_quoted() {
    let kept = Arc::new(Kept::default());
    let response = scope(kept, client().post("https://a.test").send()).await.unwrap();
    let error = response.json::<Vec<String>>().await.unwrap_err().to_string();
    assert!(error.contains("HTTP 201") && !error.contains('"'), "{error}");
}
