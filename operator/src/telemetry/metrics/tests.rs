#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use prometheus_client::encoding::text::encode;

use super::*;

#[derive(Debug)]
struct Two;

impl Snapshot for Two {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateSample<'_>)) {
        let at = |seconds| jiff::Timestamp::from_second(seconds).ok();
        visit(&CertificateSample {
            namespace: "app",
            name: "catalog",
            ready: Some(true),
            not_before: at(1_700_000_000),
            not_after: at(1_707_776_000),
            renewal: at(1_705_184_000),
            failed_attempts: 0,
        });
        visit(&CertificateSample {
            namespace: "app",
            name: "new",
            ready: None,
            not_before: None,
            not_after: None,
            renewal: None,
            failed_attempts: 2,
        });
    }

    fn gateways(&self, _: &mut dyn FnMut(&GatewaySample<'_>)) {}

    fn challenges_in_flight(&self) -> Vec<(&'static str, u64)> {
        vec![("dns-01", 3), ("http-01", 0)]
    }
}

/// The series of a counter come in the order of a hash map.
fn in_order(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for run in lines.chunk_by_mut(|one, other| one.contains("_total{") && other.contains("_total{")) {
        run.sort_unstable();
    }
    lines.join("\n")
}

#[test]
fn the_exposition_has_the_names_and_labels_of_the_reference() {
    let metrics = Metrics::default();
    metrics.issuance(Issuance {
        issuer_kind: "ClusterIssuer",
        issuer: "letsencrypt",
        reason: "Issued",
        took: Some(Duration::from_millis(20)),
    });
    metrics.issuance(Issuance {
        issuer_kind: "Issuer",
        issuer: "internal",
        reason: "RateLimited",
        took: None,
    });
    metrics.acme_request("acme.example.com", "newOrder", Some(201), Duration::from_millis(3));
    metrics.acme_request("acme.example.com", "newNonce", None, Duration::from_secs(30));
    metrics.reconciled("Certificate", Duration::from_micros(1_500), true);
    metrics.reissue_held(7);
    metrics.event_dropped();
    metrics.kubernetes_write("apply", "Secret", "Ok");
    let mut text = String::new();
    encode(&mut text, &registry(&metrics, || true, Two)).unwrap();
    let version = format!(
        "version=\"{}\",architecture=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    insta::assert_snapshot!(in_order(&text).replace(&version, "version=\"VERSION\",architecture=\"ARCHITECTURE\""));
}
