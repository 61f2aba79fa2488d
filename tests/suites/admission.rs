//! The CRDs on a real API server: what is refused, with the word that says what to write instead; what is accepted, whole;
//! and what kubectl shows of it.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(
    clippy::too_many_lines,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::type_complexity,
    clippy::needless_pass_by_value,
    clippy::borrow_as_ptr
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

#[path = "admission/alerts.rs"]
mod alerts;
#[path = "admission/gateways.rs"]
mod gateways;

use std::sync::Arc;

use gatehouse_tests::shared_operator::SOON;
use gatehouse_tests::{Cluster, TestCluster, operator, test_cluster};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// An API server with the CRDs, and nothing that acts on them.
async fn plane() -> (Arc<TestCluster>, Cluster, String) {
    static WORLD: OnceCell<Arc<TestCluster>> = OnceCell::const_new();
    let test_cluster = WORLD
        .get_or_init(|| async {
            let test_cluster = TestCluster::start(test_cluster::Options::default()).await.unwrap();
            test_cluster.cluster().await.install_crds().await.unwrap();
            Arc::new(test_cluster)
        })
        .await;
    let cluster = test_cluster.cluster().await;
    let namespace = cluster.namespace("admission").await;
    (Arc::clone(test_cluster), cluster, namespace)
}

fn manifest(kind: &str, spec: &str) -> String {
    format!("apiVersion: gatehouse.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: thing}}\nspec: {spec}\n")
}

/// Invalid Certificates (beside a secretName and an issuerRef), and parts of the message.
const BAD_CERTIFICATES: &[(&str, &str)] = &[
    (
        "{}",
        "write at least one of dnsNames, ipAddresses, uris, emailAddresses or commonName",
    ),
    ("{dnsNames: [], uris: []}", "write at least one of dnsNames"),
    (
        "{dnsNames: [a.test], renewBefore: 1h, renewBeforePercentage: 30}",
        "write renewBefore or renewBeforePercentage, not both",
    ),
    (
        "{dnsNames: [a.test], duration: 24h, renewBefore: 24h}",
        "renewBefore must be less than duration",
    ),
    (
        "{dnsNames: [a.test], duration: 24h, renewBefore: 25h}",
        "renewBefore must be less than duration",
    ),
    (
        "{dnsNames: [a.test], renewBefore: 0s}",
        "renewBefore must be more than 0s",
    ),
    (
        "{dnsNames: [a.test], renewBeforePercentage: 0}",
        "should be greater than or equal to 1",
    ),
    (
        "{dnsNames: [a.test], renewBeforePercentage: 100}",
        "should be less than or equal to 99",
    ),
    ("{dnsNames: [a.test], duration: 29s}", "duration must be at least 30s"),
    (
        "{dnsNames: [a.test], duration: 1 day}",
        "write hours, minutes and seconds, such as 2160h",
    ),
    ("{dnsNames: [a.test], renewBefore: 30d}", "there are no units above h"),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: RSA, size: 1024}}",
        "2048, 3072 or 4096 for RSA",
    ),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: RSA, size: 256}}",
        "2048, 3072 or 4096 for RSA",
    ),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: ECDSA, size: 512}}",
        "256, 384 or 521 for ECDSA",
    ),
    (
        "{dnsNames: [a.test], privateKey: {size: 2048}}",
        "256, 384 or 521 for ECDSA (the default algorithm)",
    ),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: Ed25519, size: 256}}",
        "left out for Ed25519",
    ),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: Ed25519, encoding: PKCS1}}",
        "leave encoding out or write PKCS8",
    ),
    (
        "{dnsNames: [a.test], privateKey: {algorithm: DSA}}",
        "supported values: \"ECDSA\", \"RSA\", \"Ed25519\"",
    ),
    ("{dnsNames: [192.0.2.7]}", "an IP address goes into ipAddresses"),
    (
        "{dnsNames: ['https://www.a.test/']}",
        "without scheme, port, path or empty labels",
    ),
    (
        "{dnsNames: ['a.test:443']}",
        "without scheme, port, path or empty labels",
    ),
    ("{dnsNames: ['a..test']}", "without scheme, port, path or empty labels"),
    (
        "{dnsNames: ['www.*.a.test']}",
        "a wildcard is one * as the whole first label",
    ),
    (
        "{dnsNames: ['w*.a.test']}",
        "a wildcard is one * as the whole first label",
    ),
    (
        "{dnsNames: ['*.*.a.test']}",
        "a wildcard is one * as the whole first label",
    ),
    ("{ipAddresses: [192.0.2.256]}", "such as 192.0.2.7 or 2001:db8::7"),
    ("{ipAddresses: [192.0.2.0/24]}", "such as 192.0.2.7 or 2001:db8::7"),
    ("{uris: [ns/app]}", "uris must be absolute, such as spiffe://"),
    ("{emailAddresses: [absent]}", "plain addresses such as ops@example.com"),
    (
        "{dnsNames: [a.test], usages: [serve]}",
        "supported values: \"signing\", \"digital signature\"",
    ),
    (
        "{dnsNames: [a.test], nameConstraints: {permitted: {dnsDomains: [a.test]}}}",
        "add isCA: true or leave them out",
    ),
    (
        "{dnsNames: [a.test], fallbackIssuerRefs: [{name: i}]}",
        "must name other issuers than issuerRef",
    ),
    (
        "{dnsNames: [a.test], fallbackIssuerRefs: [{name: i, kind: Issuer}]}",
        "must name other issuers than issuerRef",
    ),
    (
        "{dnsNames: [a.test], secretTemplate: {labels: {gatehouse.dev/managed: 'no'}}}",
        "choose another prefix",
    ),
    (
        "{dnsNames: [a.test], secretTemplate: {annotations: {gatehouse.dev/x: 'yes'}}}",
        "choose another prefix",
    ),
    (
        "{dnsNames: [a.test], rollout: [{kind: CronJob, name: a}]}",
        "supported values: \"Deployment\", \"StatefulSet\", \"DaemonSet\"",
    ),
    (
        "{dnsNames: [a.test], additionalOutputFormats: [{type: PEM}]}",
        "supported values: \"CombinedPEM\", \"DER\"",
    ),
    (
        "{dnsNames: [a.test], keystores: {jks: {create: true}}}",
        "spec.keystores.jks.passwordSecretRef: Required value",
    ),
    (
        "{dnsNames: [a.test], keystores: {pkcs12: {create: true, profile: Ancient, passwordSecretRef: {name: k, key: p}}}}",
        "supported values: \"Modern2023\"",
    ),
    (
        "{dnsNames: [a.test], secretDeletionPolicy: Keep}",
        "supported values: \"Retain\", \"Delete\"",
    ),
    (
        "{dnsNames: [a.test], subject: {countries: [Germany]}}",
        "may not be more than 2",
    ),
    (
        "{dnsNames: [a.test], secretName: Catalog_TLS}",
        "secretName must be a name that a Secret can have",
    ),
    (
        "{dnsNames: [a.test], secretName: ''}",
        "secretName must be a name that a Secret can have",
    ),
    (
        "{dnsNames: [a.test], secretName: -a}",
        "secretName must be a name that a Secret can have",
    ),
    (
        "{dnsNames: [a.test], issuerRef: {name: i, kind: Vault}}",
        "supported values: \"Issuer\", \"ClusterIssuer\"",
    ),
];

/// Invalid Issuers and ClusterIssuers. `ACME` means what an `acme` block needs beside.
const BAD_ISSUERS: &[(&str, &str)] = &[
    ("{}", "write exactly one of acme, ca and selfSigned"),
    (
        "{selfSigned: {}, ca: {secretName: s}}",
        "write exactly one of acme, ca and selfSigned",
    ),
    (
        "{acme: {ACME, solvers: [HTTP]}, selfSigned: {}}",
        "write exactly one of acme, ca and selfSigned",
    ),
    (
        "{acme: {server: 'http://ca.test/dir', KEY, solvers: [HTTP]}}",
        "server must be the https:// URL of the ACME directory",
    ),
    (
        "{acme: {server: ca.test, KEY, solvers: [HTTP]}}",
        "server must be the https:// URL of the ACME directory",
    ),
    (
        "{acme: {server: 'https://ca.test/dir', solvers: [HTTP]}}",
        "spec.acme.privateKeySecretRef: Required value",
    ),
    (
        "{acme: {ACME, email: absent, solvers: [HTTP]}}",
        "email must be a plain address such as ops@example.com",
    ),
    (
        "{acme: {ACME, caBundle: QQ==, caBundleSecretRef: {name: a, key: b}, solvers: [HTTP]}}",
        "write caBundle or caBundleSecretRef, not both",
    ),
    ("{acme: {ACME, solvers: []}}", "should have at least 1 items"),
    ("{acme: {ACME}}", "spec.acme.solvers: Required value"),
    ("{acme: {ACME, solvers: [{}]}}", "a solver is either http01 or dns01"),
    (
        "{acme: {ACME, solvers: [{http01: {ingress: {ingressClassName: a}}, dns01: {RFC}}]}}",
        "a solver is either http01 or dns01",
    ),
    (
        "{acme: {ACME, solvers: [{http01: {ingress: {ingressClassName: ''}}}]}}",
        "write the name of an IngressClass",
    ),
    (
        "{acme: {ACME, solvers: [{http01: {ingress: {ingressClassName: 'a b'}}}]}}",
        "ingressClassName is the name of an IngressClass",
    ),
    (
        "{acme: {ACME, solvers: [{http01: {ingress: {ingressClassName: a}, selfCheck: {timeout: 1h}}}]}}",
        "timeout is between 0s and 15m",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {route53: {region: 'evil.example/', accessKeyID: A, secretAccessKeySecretRef: {name: a, key: b}}}}]}}",
        "region is lower-case letters, digits and hyphens",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {route53: {hostedZoneID: '../Z1', accessKeyID: A, secretAccessKeySecretRef: {name: a, key: b}}}}]}}",
        "hostedZoneID is the id that Route 53 shows",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {cloudDNS: {project: 'p/../q', serviceAccountSecretRef: {name: a, key: b}}}}]}}",
        "project is the id of a project",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {cloudDNS: {project: p, hostedZoneName: example.com, serviceAccountSecretRef: {name: a, key: b}}}}]}}",
        "hostedZoneName is the managed zone's name in Google, not its DNS name",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {azureDNS: {clientID: c, clientSecretSecretRef: {name: a, key: b}, subscriptionID: s, tenantID: 't@x', resourceGroupName: g}}}]}}",
        "tenantID is the id that Azure shows",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {azureDNS: {clientID: c, clientSecretSecretRef: {name: a, key: b}, subscriptionID: s, tenantID: t, resourceGroupName: 'g/h'}}}]}}",
        "resourceGroupName is letters, digits",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {azureDNS: {clientID: c, clientSecretSecretRef: {name: a, key: b}, subscriptionID: s, tenantID: t, resourceGroupName: g, hostedZoneName: 'a/b'}}}]}}",
        "hostedZoneName is a DNS name",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {acmeDNS: {host: 'https://a@b.test', accountSecretRef: {name: a, key: b}}}}]}}",
        "host is a URL without user name, query and fragment",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {provider: {type: alidns, config: {region: 'x@evil.example'}, credentialsSecretRef: {name: a}}}}]}}",
        "region is lower-case letters, digits and hyphens",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {provider: {type: vercel, config: {teamID: \"a\\nb\"}, credentialsSecretRef: {name: a}}}}]}}",
        "a setting has a line break or another control character in it",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {}}]}}",
        "dns01 takes exactly one provider",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {RFC, cloudflare: {apiTokenSecretRef: {name: a, key: b}}}}]}}",
        "write a solver for each",
    ),
    (
        "{acme: {ACME, solvers: [{selector: {dnsNames: [a.test, 192.0.2.7]}, dns01: {RFC}}]}}",
        "dns01 cannot prove an IP address: give the addresses of this selector to a solver with http01",
    ),
    (
        "{acme: {ACME, solvers: [{selector: {dnsNames: ['2001:db8::7']}, dns01: {RFC}}]}}",
        "dns01 cannot prove an IP address",
    ),
    (
        "{acme: {ACME, solvers: [{selector: {dnsZones: ['*.a.test']}, dns01: {RFC}}]}}",
        "write example.com, not *.example.com",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {rfc2136: {nameserver: '10.0.0.53:53/x', tsigKeyName: k, tsigSecretSecretRef: {name: t, key: s}}}}]}}",
        "nameserver is written host or host:port",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {rfc2136: {nameserver: 10.0.0.53, tsigKeyName: k, tsigAlgorithm: HMACMD5, tsigSecretSecretRef: {name: t, key: s}}}}]}}",
        "supported values: \"HMACSHA256\"",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {RFC, cnameStrategy: Chase}}]}}",
        "supported values: \"None\", \"Follow\"",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {RFC, propagation: {timeout: 2h}}}]}}",
        "timeout is between 1s and 1h: write for example 2m",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {RFC, propagation: {nameservers: ['a b']}}}]}}",
        "a name server is written host or host:port",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {acmeDNS: {host: auth.test, accountSecretRef: {name: a, key: b}}}}]}}",
        "host is a URL: write for example https://auth.acme-dns.io",
    ),
    (
        "{acme: {ACME, solvers: [{dns01: {provider: {type: homemade, credentialsSecretRef: {name: a}}}}]}}",
        "supported values:",
    ),
    (
        "{acme: {ACME, externalAccountBinding: {keyID: kid-1}, solvers: [HTTP]}}",
        "externalAccountBinding.keySecretRef: Required value",
    ),
    ("{ca: {}}", "spec.ca.secretName: Required value"),
];

/// Writes out what the tables above abbreviate.
fn written_out(spec: &str) -> String {
    spec.replace("ACME", "server: 'https://ca.test/dir', KEY")
        .replace("KEY", "privateKeySecretRef: {name: account}")
        .replace("HTTP]", "{http01: {ingress: {ingressClassName: nginx}}}]")
        .replace(
            "RFC",
            "rfc2136: {nameserver: '10.0.0.53:53', tsigKeyName: k, tsigSecretSecretRef: {name: t, key: s}}",
        )
}

/// A Certificate's spec with what every one needs, unless it says otherwise itself.
fn certificate(spec: &str) -> String {
    let mut whole = json!({"secretName": "s", "issuerRef": {"name": "i"}});
    let own: Value = serde_saphyr::from_str(spec).unwrap();
    whole.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    manifest("Certificate", &whole.to_string())
}

#[tokio::test]
async fn what_can_never_work_is_refused_with_what_to_write_instead() {
    let (_world, cluster, namespace) = plane().await;
    let certificates = BAD_CERTIFICATES.iter().map(|(spec, words)| (certificate(spec), *words));
    let issuers = BAD_ISSUERS
        .iter()
        .flat_map(|(spec, words)| ["Issuer", "ClusterIssuer"].map(|kind| (manifest(kind, &written_out(spec)), *words)));
    refused(&cluster, &namespace, certificates.chain(issuers)).await;
}

/// Each manifest is refused, and each message has its words.
async fn refused(cluster: &Cluster, namespace: &str, manifests: impl Iterator<Item = (String, &str)>) {
    let mut wrong = Vec::new();
    for (manifest, words) in manifests {
        match cluster.try_apply(namespace, &manifest).await {
            Err(error) if error.to_string().contains(words) => {}
            Err(error) => wrong.push(format!("lacks {words:?}: {error}\n{manifest}")),
            Ok(_) => {
                wrong.push(format!("was accepted:\n{manifest}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the manifests:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every field of the contract, some of them in several forms.
fn good() -> Vec<(&'static str, Value)> {
    let key = json!({"name": "s", "key": "k"});
    let selected = |selector: Value, dns01: Value| json!({"selector": selector, "dns01": dns01});
    let acme = json!({"acme": {
        "server": "https://acme-v02.api.letsencrypt.org/directory",
        "email": "ops@example.com",
        "caBundle": "QQ==",
        "privateKeySecretRef": {"name": "account"},
        "externalAccountBinding": {"keyID": "kid-1", "keySecretRef": key},
        "profile": "shortlived",
        "preferredChain": "ISRG Root X1",
        "solvers": [
            {"http01": {"ingress": {"ingressClassName": "nginx", "ingressTemplate": {"metadata": {
                "labels": {"a": "b"}, "annotations": {"nginx.ingress.kubernetes.io/ssl-redirect": "false"}}}}}},
            {"selector": {"dnsNames": ["192.0.2.7", "2001:db8::7"]}, "http01": {"ingress": {"ingressClassName": "nginx"}}},
            selected(json!({"dnsZones": ["example.com"], "dnsNames": ["a.test", "*.a.test"], "matchLabels": {"team": "a"}}), json!({
                "rfc2136": {"nameserver": "10.0.0.53:53", "tsigKeyName": "k", "tsigAlgorithm": "HMACSHA512", "tsigSecretSecretRef": key},
                "cnameStrategy": "Follow",
                "propagation": {"nameservers": ["10.0.0.53", "[2001:db8::53]:5353", "ns1.example.com:53"], "timeout": "2m"}})),
            {"dns01": {"cloudflare": {"apiTokenSecretRef": key}}},
            {"dns01": {"route53": {"region": "eu-central-1", "accessKeyID": "AK", "secretAccessKeySecretRef": key, "hostedZoneID": "Z1"}}},
            {"dns01": {"cloudDNS": {"project": "p", "serviceAccountSecretRef": key, "hostedZoneName": "z"}}},
            {"dns01": {"azureDNS": {"clientID": "c", "clientSecretSecretRef": key, "subscriptionID": "s", "tenantID": "t",
                "resourceGroupName": "g", "hostedZoneName": "example.com", "environment": "AzureChinaCloud"}}},
            {"dns01": {"digitalocean": {"tokenSecretRef": key}}},
            {"dns01": {"acmeDNS": {"host": "https://auth.test", "accountSecretRef": key}}},
            {"dns01": {"provider": {"type": "hetzner", "config": {"a": "b"}, "credentialsSecretRef": {"name": "s"}}}},
        ],
    }});
    let mut from_secret = acme.clone();
    let block = from_secret["acme"].as_object_mut().unwrap();
    block.remove("caBundle");
    block.insert("caBundleSecretRef".to_owned(), key.clone());
    let certificate = json!({
        "secretName": "catalog-tls.app",
        "issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"},
        "fallbackIssuerRefs": [{"name": "letsencrypt"}, {"name": "other", "kind": "ClusterIssuer"}],
        "commonName": "catalog.example.com",
        "dnsNames": ["catalog.example.com", "*.example.com", "bücher.example.com"],
        "ipAddresses": ["192.0.2.7", "2001:db8::7"],
        "uris": ["spiffe://cluster.local/ns/app/sa/catalog", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
        "emailAddresses": ["ops@example.com"],
        "subject": {"organizations": ["A", "B"], "organizationalUnits": ["C"], "countries": ["DE"], "provinces": ["P"],
            "localities": ["L"], "streetAddresses": ["S 1"], "postalCodes": ["1"], "serialNumber": "7"},
        "duration": "2160h",
        "renewBefore": "720h30m",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
        "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
        "isCA": true,
        "nameConstraints": {"critical": true,
            "permitted": {"dnsDomains": ["example.com"], "ipRanges": ["10.0.0.0/8"], "emailAddresses": ["example.com"], "uriDomains": ["cluster.local"]},
            "excluded": {"dnsDomains": ["x.example.com"], "ipRanges": ["10.1.0.0/16"], "emailAddresses": ["a@example.com"], "uriDomains": [".b.test"]}},
        "secretTemplate": {"labels": {"team": "a"}, "annotations": {"example.com/note": "b"}},
        "additionalOutputFormats": [{"type": "CombinedPEM"}, {"type": "DER"}],
        "keystores": {"pkcs12": {"create": true, "passwordSecretRef": key, "profile": "Modern2023"},
            "jks": {"create": true, "passwordSecretRef": key}},
        "secretDeletionPolicy": "Retain",
        "rollout": [{"kind": "Deployment", "name": "a"}, {"kind": "StatefulSet", "name": "b"}, {"kind": "DaemonSet", "name": "c"}],
        "suspend": false,
    });
    let minimal = |extra: Value| {
        let mut spec = json!({"secretName": "s", "issuerRef": {"name": "i"}, "dnsNames": ["a.test"]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    let mut all = vec![
        ("Issuer", acme.clone()),
        ("ClusterIssuer", acme),
        ("Issuer", from_secret.clone()),
        ("ClusterIssuer", from_secret),
        ("Issuer", json!({"selfSigned": {}})),
        ("ClusterIssuer", json!({"selfSigned": {}})),
        (
            "Issuer",
            json!({"ca": {"secretName": "ca", "crlDistributionPoints": ["http://crl.test/a"],
                "ocspServers": ["http://ocsp.test"], "issuingCertificateURLs": ["http://ca.test/a.crt"]}}),
        ),
        ("Certificate", certificate),
        ("Certificate", minimal(json!({}))),
        (
            "Certificate",
            minimal(json!({"duration": "30s", "renewBeforePercentage": 99})),
        ),
        (
            "Certificate",
            minimal(json!({"privateKey": {"algorithm": "Ed25519", "rotationPolicy": "Never"}})),
        ),
        (
            "Certificate",
            json!({"secretName": "s", "issuerRef": {"name": "i"}, "commonName": "just a name"}),
        ),
        (
            "Certificate",
            json!({"secretName": "s", "issuerRef": {"name": "i"}, "emailAddresses": ["a@b.test"]}),
        ),
    ];
    for (algorithm, size) in [
        ("RSA", 2048),
        ("RSA", 3072),
        ("RSA", 4096),
        ("ECDSA", 384),
        ("ECDSA", 521),
    ] {
        let key = json!({"algorithm": algorithm, "size": size, "encoding": "PKCS1"});
        all.push(("Certificate", minimal(json!({"privateKey": key}))));
    }
    for profile in ["LegacyDES", "LegacyRC2"] {
        let store = json!({"create": false, "passwordSecretRef": {"name": "a", "key": "b"}, "profile": profile});
        all.push(("Certificate", minimal(json!({"keystores": {"pkcs12": store}}))));
    }
    all
}

#[tokio::test]
async fn every_field_of_the_contract_is_accepted_and_kept() {
    let (_world, cluster, namespace) = plane().await;
    kept(&cluster, &namespace, good()).await;
}

/// Each spec is accepted, with nothing pruned and nothing defaulted: what a user wrote is what a user reads.
async fn kept(cluster: &Cluster, namespace: &str, specs: Vec<(&'static str, Value)>) {
    for (number, (kind, spec)) in specs.into_iter().enumerate() {
        let manifest = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": kind,
            "metadata": {"name": format!("good-{number}")}, "spec": spec});
        let applied = cluster.apply(namespace, &manifest.to_string()).await;
        assert_eq!(applied[0].data["spec"], spec, "{kind} good-{number}");
    }
}

#[tokio::test]
async fn kubectl_shows_columns_short_names_the_category_and_explanations() {
    let (test_cluster, cluster, namespace) = plane().await;
    let options = operator::Options::new(&test_cluster.plane.kubeconfig())
        .arg("--namespace")
        .arg(&namespace);
    let _operator = test_cluster.operator(&options).await;
    cluster
        .apply(
            &namespace,
            "apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n---\n\
             apiVersion: gatehouse.dev/v1alpha1\nkind: Certificate\nmetadata: {name: shown}\nspec: {secretName: shown-tls, \
             issuerRef: {name: own}, dnsNames: [shown.test]}\n",
        )
        .await;
    let certificates = cluster.api::<gatehouse_crds::certificate::Certificate>(&namespace);
    let shown = cluster
        .wait_condition(&certificates, "shown", "Ready", "True", SOON)
        .await;
    let status = shown.status.unwrap();
    let kubectl = |args: &[&str]| {
        test_cluster
            .plane
            .kubectl(&[args, &["-n", &namespace]].concat())
            .unwrap()
    };

    let table = kubectl(&["get", "certificate", "shown"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        ["NAME", "READY", "SECRET", "ISSUER", "EXPIRES", "RENEWS", "AGE"]
    );
    let (end, renewal) = (
        status.not_after.unwrap().to_string(),
        status.renewal_time.unwrap().to_string(),
    );
    assert_eq!(lines[1][..6], ["shown", "True", "shown-tls", "own", &end, &renewal]);

    let wide = kubectl(&["get", "ghcert", "shown", "-o", "wide"]);
    let lines: Vec<Vec<&str>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][7..], ["SERIAL", "FAILURES"]);
    assert_eq!(lines[1][7..], [status.serial_number.as_deref().unwrap(), "0"]);

    let category = kubectl(&["get", "gatehouse", "-o", "name"]);
    for line in ["certificate.gatehouse.dev/shown", "issuer.gatehouse.dev/own"] {
        assert!(
            category.lines().any(|found| found == line),
            "{line} is not in:\n{category}"
        );
    }
    assert!(
        kubectl(&["get", "ghiss", "own"])
            .lines()
            .next()
            .unwrap()
            .starts_with("NAME")
    );
    assert!(kubectl(&["get", "ghiss", "own"]).contains("True"));
    kubectl(&["get", "ghciss"]);

    let explained = kubectl(&["explain", "certificate.spec.privateKey"]);
    for words in [
        "The private key. Default: ECDSA P-256",
        "algorithm\t<string>",
        "enum: ECDSA, RSA, Ed25519",
        "Public CAs do not sign Ed25519",
        "rotationPolicy",
    ] {
        assert!(explained.contains(words), "{words:?} is not in:\n{explained}");
    }
    let explained = kubectl(&["explain", "issuer.spec.acme.solvers.dns01"]);
    assert!(
        explained.contains("Any server that takes dynamic updates"),
        "{explained}"
    );
}
