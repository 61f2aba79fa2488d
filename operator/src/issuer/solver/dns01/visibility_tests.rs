#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::sync::{Arc, Mutex};

use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, providers::route53::Route53Config};
use dns_update_http::Transport;
use futures::future::BoxFuture;
use serde_json::json;

use super::*;

const RECORD: &str = "_acme-challenge.www.example.com";

/// Route 53's list of zones: id, name, private.
fn route53(zones: &[(&str, &str, bool)]) -> Bytes {
    let zones: Vec<String> = zones
        .iter()
        .map(|(id, name, private)| {
            format!(
                "<HostedZone><Id>/hostedzone/{id}</Id><Name>{name}</Name><CallerReference>r</CallerReference>\
                 <Config><PrivateZone>{private}</PrivateZone></Config></HostedZone>"
            )
        })
        .collect();
    let zones = zones.concat();
    let answer = format!(
        "<?xml version=\"1.0\"?><ListHostedZonesByNameResponse><HostedZones>{zones}</HostedZones>\
         <IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListHostedZonesByNameResponse>"
    );
    Bytes::from(answer)
}

const LIST: &str = "/2013-04-01/hostedzonesbyname";
const RECORDS: &str = "/2013-04-01/hostedzone/Z1/rrset";

fn zones(wanted: Visibility) -> Zones {
    Zones::new(ProviderType::Route53, RECORD, wanted)
}

#[test]
fn of_a_public_and_a_private_zone_of_one_name_the_wanted_one_is_shown() {
    let answer = route53(&[
        ("ZPRIVATE", "example.com.", true),
        ("ZPUBLIC", "example.com.", false),
        ("ZOTHER", "notexample.com.", false),
    ]);
    for (wanted, shown) in [
        (Visibility::Public, route53(&[("ZPUBLIC", "example.com.", false)])),
        (Visibility::Private, route53(&[("ZPRIVATE", "example.com.", true)])),
    ] {
        let mut zones = zones(wanted);
        assert_eq!(zones.filter(LIST, answer.clone()), shown, "{wanted:?}");
        assert_eq!((zones.ambiguous(RECORDS), zones.hint()), (None, None));
    }
}

#[test]
fn two_zones_that_could_be_meant_are_both_named_also_across_pages() {
    let mut zones = zones(Visibility::Public);
    zones.filter(LIST, route53(&[("Z1", "example.com.", false)]));
    assert_eq!(zones.ambiguous(RECORDS), None);
    zones.filter(LIST, route53(&[("Z2", "EXAMPLE.com.", false), ("Z3", "com.", false)]));
    assert_eq!(zones.ambiguous(LIST), None, "there may be a longer one");
    assert_eq!(
        zones.ambiguous(RECORDS).unwrap(),
        "route53 has two public zones example.com, Z1 and Z2: choose one by hostedZoneID"
    );
    zones.filter(LIST, route53(&[("Z4", "www.example.com.", false)]));
    assert_eq!(zones.ambiguous(RECORDS), None);
}

#[test]
fn a_zone_of_the_other_kind_alone_is_named() {
    let mut zones = zones(Visibility::Public);
    zones.filter(LIST, route53(&[("Z1", "example.com.", true)]));
    assert_eq!(
        zones.hint().unwrap(),
        "the zone example.com (Z1) is private, and a CA cannot see it; to write it all the same, name it by hostedZoneID"
    );
}

#[test]
fn every_cloud_that_lists_both_kinds_together_is_read() {
    for (kind, path, answer, shown) in [
        (
            ProviderType::GoogleCloudDns,
            "/dns/v1/projects/p/managedZones",
            json!({"managedZones": [
                {"name": "in", "dnsName": "example.com.", "visibility": "private"},
                {"name": "out", "dnsName": "example.com.", "visibility": "public"},
                {"name": "old", "dnsName": "com."},
                {"name": "tail", "dnsName": "ample.com."}]}),
            json!({"managedZones": [
                {"name": "out", "dnsName": "example.com.", "visibility": "public"},
                {"name": "old", "dnsName": "com."}]}),
        ),
        (
            ProviderType::YandexCloud,
            "/dns/v1/zones",
            json!({"dnsZones": [
                {"id": "a", "zone": "example.com.", "privateVisibility": {"networkIds": ["n"]}},
                {"id": "b", "zone": "example.com.", "publicVisibility": {}}]}),
            json!({"dnsZones": [{"id": "b", "zone": "example.com.", "publicVisibility": {}}]}),
        ),
        (
            ProviderType::OracleCloud,
            "/20180115/zones",
            json!([{"id": "a", "name": "example.com", "scope": "PRIVATE"}, {"id": "b", "name": "example.com", "scope": null}]),
            json!([{"id": "b", "name": "example.com", "scope": null}]),
        ),
        (
            ProviderType::HuaweiCloud,
            "/v2/zones",
            json!({"zones": [
                {"id": "a", "name": "example.com.", "zone_type": "private"},
                {"id": "b", "name": "example.com.", "zone_type": "public"}]}),
            json!({"zones": [{"id": "b", "name": "example.com.", "zone_type": "public"}]}),
        ),
    ] {
        let mut zones = Zones::new(kind, RECORD, Visibility::Public);
        let got = zones.filter(path, Bytes::from(answer.to_string()));
        assert_eq!(serde_json::from_slice::<Value>(&got).unwrap(), shown, "{kind:?}");
        assert_eq!(zones.ambiguous("/elsewhere"), None, "{kind:?}");
        let other = Bytes::from_static(b"{\"zones\": 1}");
        assert_eq!(zones.filter("/elsewhere", other.clone()), other);
        assert_eq!(
            zones.filter(path, other.clone()),
            other,
            "what cannot be read is the library's"
        );
    }
}

/// Route 53 with a private and a public zone, in this order.
struct Aws {
    zones: Mutex<Zones>,
    written: Mutex<Vec<String>>,
}

impl Transport for Aws {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, String>> {
        let path = request.uri().path().to_owned();
        let body = if path == LIST {
            let both = route53(&[("ZPRIVATE", "example.com.", true), ("ZPUBLIC", "example.com.", false)]);
            self.zones.lock().unwrap().filter(&path, both)
        } else if request.method() == http::Method::POST {
            self.written.lock().unwrap().push(path);
            Bytes::from_static(b"<ChangeResourceRecordSetsResponse/>")
        } else {
            Bytes::from_static(
                b"<ListResourceRecordSetsResponse><ResourceRecordSets/><IsTruncated>false</IsTruncated>\
                  <MaxItems>1</MaxItems></ListResourceRecordSetsResponse>",
            )
        };
        Box::pin(async move { Ok(http::Response::new(body)) })
    }
}

#[tokio::test]
async fn the_library_writes_the_public_zone_of_the_two() {
    for (wanted, zone) in [(Visibility::Public, "ZPUBLIC"), (Visibility::Private, "ZPRIVATE")] {
        let updater = DnsUpdater::new_route53(Route53Config {
            access_key_id: "id".into(),
            secret_access_key: "key".into(),
            session_token: None,
            region: None,
            hosted_zone_id: None,
            private_zone_only: Some(false),
            endpoint: Some("https://route53.test".into()),
        })
        .unwrap();
        let aws = Arc::new(Aws {
            zones: Mutex::new(zones(wanted)),
            written: Mutex::default(),
        });
        let values = vec![DnsRecord::TXT("v".into())];
        let call = updater.add_to_rrset(RECORD, DnsRecordType::TXT, 60, values, "example.com");
        dns_update_http::scope(aws.clone(), call).await.unwrap();
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset/");
        let written = aws.written.lock().unwrap();
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].trim_end_matches('/'), path.trim_end_matches('/'));
    }
}

#[test]
fn of_cloudflares_zones_of_one_name_the_active_one_is_written() {
    const LIST: &str = "/client/v4/zones";
    let list = |zones: &[(&str, &str)]| {
        let zones: Vec<Value> = zones
            .iter()
            .map(|(id, status)| json!({"id": id, "name": "example.com", "status": status}))
            .collect();
        Bytes::from(json!({"result": zones, "success": true}).to_string())
    };
    let ids = |body: &Bytes| -> Vec<String> {
        let answer: Value = serde_json::from_slice(body).unwrap();
        let zones = answer["result"].as_array().unwrap();
        zones
            .iter()
            .map(|zone| zone["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let new = || Zones::new(ProviderType::Cloudflare, RECORD, Visibility::Public);
    let mut zones = new();
    let seen = zones.filter(
        LIST,
        list(&[("old", "moved"), ("new", "active"), ("theirs", "pending")]),
    );
    assert_eq!(ids(&seen), ["new"]);
    assert_eq!(
        (zones.ambiguous("/client/v4/zones/new/dns_records"), zones.hint()),
        (None, None)
    );

    let mut zones = new();
    assert!(ids(&zones.filter(LIST, list(&[("new", "pending")]))).is_empty());
    let hint = zones.hint().unwrap();
    assert!(hint.contains("example.com (new) is not active"), "{hint}");

    let mut zones = new();
    zones.filter(LIST, list(&[("one", "active"), ("two", "active")]));
    let both = zones.ambiguous("/client/v4/zones/one/dns_records").unwrap();
    assert!(both.contains("one and two"), "{both}");
}
