#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines
)]
use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;

/// Secrets by name and key; one called `broken` cannot be read.
pub(in crate::alert) struct Shelf(pub(in crate::alert) Value);

#[async_trait]
impl SecretReader for Shelf {
    async fn read(&self, name: &str) -> Result<SecretData, SecretReadError> {
        if name == "broken" {
            return Err(SecretReadError::Failed("the API server is away".into()));
        }
        let secret = self.0[name].as_object().ok_or(SecretReadError::NotFound)?;
        let text = |value: &Value| Zeroizing::new(value.as_str().unwrap().as_bytes().to_vec());
        Ok(secret.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }
}

pub(in crate::alert) async fn read(webhook: Value, secrets: Value) -> Result<Target, TargetError> {
    let webhook: Webhook = serde_json::from_value(webhook).unwrap();
    Target::read(&webhook, &Shelf(secrets)).await
}

fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

#[tokio::test]
async fn everything_that_a_webhook_can_say_is_read() {
    let (chain, key) = pair();
    let target = read(
        json!({
            "urlSecretRef": {"name": "hooks", "key": "url"},
            "signingSecretRef": {"name": "hooks", "key": "signing"},
            "headersSecretRef": {"name": "headers"},
            "caBundle": STANDARD.encode(&chain),
            "clientCertificateRef": {"name": "client"},
            "timeout": "3s",
        }),
        json!({
            "hooks": {
                "url": "https://hooks.example.com/services/hunter2\n",
                "signing": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            },
            "headers": {"Authorization": "Bearer hunter2\n", "X-Team": "ops"},
            "client": {"tls.crt": chain, "tls.key": key},
        }),
    )
    .await
    .unwrap();
    assert_eq!(target.url, "https://hooks.example.com/services/hunter2");
    assert_eq!(target.format, Format::CloudEvents);
    assert!(target.signing.is_some() && target.trust.is_some() && target.identity.is_some());
    assert_eq!(target.headers["authorization"], "Bearer hunter2");
    assert_eq!(target.headers["x-team"], "ops");
    assert_eq!(target.timeout, Duration::from_secs(3));
    let shown = format!("{target:?} {:?} {:?}", target.headers, target.signing);
    assert!(!shown.contains("hunter2") && !shown.contains("MfKQ"), "{shown}");
    assert_eq!(target.name(), "the receiver of the Secret hooks, key url");
}

#[tokio::test]
async fn what_is_not_said_has_its_default() {
    let target = read(json!({"url": "http://hooks.app.svc:8080/x?token=y"}), json!({}))
        .await
        .unwrap();
    assert_eq!(target.timeout, Duration::from_secs(15));
    assert!(target.signing.is_none() && target.trust.is_none() && target.identity.is_none());
    assert_eq!(target.name(), "http://hooks.app.svc:8080");
    let name = format!("{target:?}");
    assert_eq!(name, "Target { name: \"http://hooks.app.svc:8080\", .. }");
}

#[tokio::test]
async fn an_alertmanager_is_known_by_its_base_url() {
    let table = [
        ("http://am:9093", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/am/", "http://am:9093/am/api/v2/alerts"),
        ("http://am:9093/am?x=1", "http://am:9093/am/api/v2/alerts?x=1"),
        ("http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts"),
        (
            "http://am:9093/am/api/v2/alerts/?x=1",
            "http://am:9093/am/api/v2/alerts/?x=1",
        ),
    ];
    for (url, expected) in table {
        let target = read(json!({"url": url, "format": "Alertmanager"}), json!({}))
            .await
            .unwrap();
        assert_eq!(target.url, expected, "{url}");
    }
}

#[tokio::test]
async fn pagerduty_needs_no_url_and_takes_its_key_from_either_place() {
    let secrets = json!({
        "pd": {"key": "R0UT1NGKEY\n"},
        "headers": {"X-Routing-Key": "0THERKEY", "X-Team": "ops"},
    });
    let own = json!({"format": "PagerDuty", "routingKeySecretRef": {"name": "pd", "key": "key"}});
    let target = read(own, secrets.clone()).await.unwrap();
    assert_eq!(target.url, "https://events.pagerduty.com/v2/enqueue");
    assert_eq!(target.routing_key.unwrap().as_str(), "R0UT1NGKEY");
    let header = json!({"format": "PagerDuty", "headersSecretRef": {"name": "headers"}});
    let target = read(header, secrets).await.unwrap();
    assert_eq!(target.routing_key.unwrap().as_str(), "0THERKEY");
    assert_eq!(
        target.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["x-team"]
    );
}

#[tokio::test]
async fn each_mistake_is_told_with_its_place_and_without_its_value() {
    let (chain, key) = pair();
    let (_, other_key) = pair();
    let secrets = || {
        json!({
            "hooks": {"url": "hunter2 is no url", "user": "https://hunter2@x.test/", "signing": "hunter2", "key": "hunter-2"},
            "host": {"Host": "hunter2"},
            "length": {"content-length": "7"},
            "id": {"Webhook-Id": "hunter2"},
            "name": {"a..b": "fine", "Ok": "hunter2\r\nX-Evil: 1"},
            "long": {"X-Long": "hunter2".repeat(2000)},
            "empty": {},
            "mixed": {"tls.crt": &chain, "tls.key": &other_key},
            "no-key": {"tls.crt": &chain, "tls.key": "hunter2"},
            "no-chain": {"tls.crt": "hunter2", "tls.key": &key},
        })
    };
    let url = "https://x.test/hunter2";
    let at = |key: &str| json!({"name": "hooks", "key": key});
    let table = [
        (
            json!({"urlSecretRef": {"name": "gone", "key": "url"}}),
            "SecretMissing",
            "urlSecretRef: there is no Secret gone",
        ),
        (
            json!({"urlSecretRef": at("uri")}),
            "SecretKeyMissing",
            "urlSecretRef: the Secret hooks has no key uri",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "broken"}}),
            "SecretUnreadable",
            "headersSecretRef: the Secret broken cannot be read: the API server is away",
        ),
        (
            json!({"urlSecretRef": at("url")}),
            "InvalidReceiver",
            "urlSecretRef: Secret hooks, key url, is not a URL: write https://<host>/<path>, or http:// within the cluster",
        ),
        (
            json!({"urlSecretRef": at("user")}),
            "InvalidReceiver",
            "urlSecretRef: Secret hooks, key user, has a user or password before the host: put it as Authorization into a \
             Secret and name that in headersSecretRef",
        ),
        (
            json!({"url": "ftp://hunter2/"}),
            "InvalidReceiver",
            "url is not a URL: write https://<host>/<path>, or http:// within the cluster",
        ),
        (
            json!({}),
            "InvalidReceiver",
            "url is missing: write url or urlSecretRef",
        ),
        (
            json!({"url": url, "signingSecretRef": at("signing")}),
            "InvalidReceiver",
            "signingSecretRef: Secret hooks, key signing, is refused: key 1 does not begin with whsec_; write \
             whsec_<base64 of 24 to 64 bytes>",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "host"}}),
            "InvalidReceiver",
            "headersSecretRef: Secret host, key Host, is a header that Gatehouse sets itself: remove the key",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "length"}}),
            "InvalidReceiver",
            "headersSecretRef: Secret length, key content-length, is a header that Gatehouse sets itself: remove the key",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "id"}}),
            "InvalidReceiver",
            "headersSecretRef: Secret id, key Webhook-Id, is a header that Gatehouse sets itself: remove the key",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "name"}}),
            "InvalidReceiver",
            "headersSecretRef: Secret name, key Ok, is no value of a header: write one line without control characters",
        ),
        (
            json!({"url": url, "headersSecretRef": {"name": "long"}}),
            "InvalidReceiver",
            "headersSecretRef: Secret long has 14006 bytes of headers: write 8192 at most",
        ),
        (
            json!({"format": "PagerDuty", "headersSecretRef": {"name": "empty"}}),
            "InvalidReceiver",
            "routingKeySecretRef is missing: name the Secret and key with the service's integration key (Events API v2)",
        ),
        (
            json!({"format": "PagerDuty", "routingKeySecretRef": at("key")}),
            "InvalidReceiver",
            "routingKeySecretRef: Secret hooks, key key, is no integration key: write the 32 letters and digits that \
             PagerDuty shows for an Events API v2 integration of the service",
        ),
        (
            json!({"url": url, "caBundle": "hunter2!"}),
            "InvalidReceiver",
            "caBundle is not base64: write the PEM file's base64",
        ),
        (
            json!({"url": url, "caBundle": STANDARD.encode("hunter2")}),
            "InvalidReceiver",
            "caBundle cannot be used: it holds no PEM section; one starts with a line like -----BEGIN CERTIFICATE-----",
        ),
        (
            json!({"url": url, "clientCertificateRef": {"name": "hooks"}}),
            "SecretKeyMissing",
            "clientCertificateRef: the Secret hooks has no key tls.crt",
        ),
        (
            json!({"url": url, "clientCertificateRef": {"name": "mixed"}}),
            "InvalidReceiver",
            "clientCertificateRef: Secret mixed, keys tls.crt and tls.key, cannot be used: the first certificate is not \
             the private key's",
        ),
        (
            json!({"url": url, "clientCertificateRef": {"name": "no-key"}}),
            "InvalidReceiver",
            "clientCertificateRef: Secret no-key, keys tls.crt and tls.key, cannot be used: it holds no PEM section; one starts with a line like -----BEGIN CERTIFICATE-----",
        ),
        (
            json!({"url": url, "clientCertificateRef": {"name": "no-chain"}}),
            "InvalidReceiver",
            "clientCertificateRef: Secret no-chain, keys tls.crt and tls.key, cannot be used: it holds no PEM section; one starts with a line like -----BEGIN CERTIFICATE-----",
        ),
        (
            json!({"url": "http://x.test/", "caBundle": STANDARD.encode(&chain)}),
            "InvalidReceiver",
            "caBundle and clientCertificateRef are for https://, but the URL begins with http://: write https://, or leave \
             them out",
        ),
    ];
    for (webhook, reason, message) in table {
        let error = read(webhook.clone(), secrets()).await.expect_err(message);
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            (reason, message),
            "{webhook}"
        );
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
}
