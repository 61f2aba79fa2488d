//! The same of AlertPolicies and ClusterAlertPolicies.

use gatehouse_crds::alert::AlertPolicy;
use gatehouse_tests::Receiver;
use gatehouse_tests::operator;
use gatehouse_tests::shared_operator::SOON;
use serde_json::{Value, json};

use super::{kept, manifest, plane, refused};

const KINDS: [&str; 2] = ["AlertPolicy", "ClusterAlertPolicy"];

/// Invalid fields beside a valid receiver, and parts of the message.
const BAD_POLICIES: &[(&str, &str)] = &[
    ("{receivers: []}", "spec.receivers in body should have at least 1 items"),
    ("{receivers: null}", "spec.receivers: Required value"),
    ("{repeatInterval: 4}", ".spec.repeatInterval: expected string"),
    (
        "{repeatInterval: 1d}",
        "write hours, minutes and seconds, such as 2160h",
    ),
    ("{repeatInterval: 0s}", "repeatInterval must be 1s or more"),
    ("{heartbeatInterval: 1w}", "there are no units above h"),
    ("{heartbeatInterval: 10ms}", "heartbeatInterval must be 1s or more"),
    ("{selector: {matchExpressions: [{key: a}]}}", "operator: Required value"),
    (
        "{rules: {expiring: {warning: 1w}}}",
        "write a share of the lifetime, 1% to 99%, or a time such as 21d, 36h or 90s",
    ),
    (
        "{rules: {expiring: {critical: 0%}}}",
        "write a share of the lifetime, 1% to 99%",
    ),
    (
        "{rules: {expiring: {critical: 100%}}}",
        "write a share of the lifetime, 1% to 99%",
    ),
    (
        "{rules: {expiring: {warning: 25}}}",
        ".spec.rules.expiring.warning: expected string",
    ),
    (
        "{rules: {expiring: {warning: 10%, critical: 25%}}}",
        "critical must be less than warning: less is left of the certificate by then",
    ),
    (
        "{rules: {expiring: {warning: 10%, critical: 10%}}}",
        "critical must be less than warning",
    ),
    (
        "{rules: {expiring: {warning: 7d, critical: 21d}}}",
        "critical must be less than warning",
    ),
    (
        "{rules: {expiring: {warning: 90m, critical: 36h}}}",
        "critical must be less than warning",
    ),
    (
        "{rules: {notReady: {after: 1 hour}}}",
        "write hours, minutes and seconds, such as 2160h",
    ),
    (
        "{rules: {renewalFailed: {afterAttempts: 3, criticalAfterAttempts: 2}}}",
        "criticalAfterAttempts must not be less than afterAttempts",
    ),
    (
        "{rules: {renewalFailed: {afterAttempts: 0}}}",
        "should be greater than or equal to 1",
    ),
    (
        "{rules: {renewalFailed: {criticalAfterAttempts: 1001}}}",
        "should be less than or equal to 1000",
    ),
    ("{rules: {expired: true}}", ".spec.rules.expired: expected map"),
    (
        "{rules: {renewed: {enabled: yes please}}}",
        ".spec.rules.renewed.enabled: expected boolean",
    ),
];

/// Invalid receivers, with a name unless they have one themselves.
const BAD_RECEIVERS: &[(&str, &str)] = &[
    ("{}", "webhook: Required value"),
    (
        "{name: My Pager, webhook: {url: 'https://a.test'}}",
        "write lower-case letters, digits and -, beginning and ending with a letter or digit",
    ),
    (
        "{name: '', webhook: {url: 'https://a.test'}}",
        "should be at least 1 chars long",
    ),
    (
        "{minSeverity: fatal, webhook: {url: 'https://a.test'}}",
        "supported values: \"info\", \"warning\", \"critical\"",
    ),
    (
        "{webhook: {}}",
        "write url, or urlSecretRef for a URL that is itself a secret",
    ),
    (
        "{webhook: {format: Slack}}",
        "write url, or urlSecretRef for a URL that is itself a secret",
    ),
    (
        "{webhook: {url: 'https://a.test', urlSecretRef: {name: s, key: k}}}",
        "write url or urlSecretRef, not both",
    ),
    (
        "{webhook: {url: hooks.a.test}}",
        "url must be an http:// or https:// URL",
    ),
    (
        "{webhook: {url: 'ftp://hooks.a.test/x'}}",
        "url must be an http:// or https:// URL",
    ),
    ("{webhook: {urlSecretRef: {name: s}}}", "key: Required value"),
    (
        "{webhook: {url: 'https://a.test', format: Email}}",
        "supported values: \"CloudEvents\", \"Alertmanager\", \"Slack\", \"Teams\", \"PagerDuty\"",
    ),
    (
        "{webhook: {format: PagerDuty}}",
        "format PagerDuty needs routingKeySecretRef: the integration key of the service",
    ),
    (
        "{webhook: {url: 'https://a.test', routingKeySecretRef: {name: s, key: k}}}",
        "routingKeySecretRef is for format PagerDuty only",
    ),
    (
        "{webhook: {url: 'https://a.test', timeout: 0s}}",
        "timeout must be between 1s and 60s",
    ),
    (
        "{webhook: {url: 'https://a.test', timeout: 2m}}",
        "timeout must be between 1s and 60s",
    ),
    (
        "{webhook: {url: 'https://a.test', timeout: soon}}",
        "write hours, minutes and seconds, such as 2160h",
    ),
    (
        "{webhook: {url: 'https://a.test', caBundle: 'no base64!'}}",
        "must be of type byte",
    ),
    (
        "{webhook: {url: 'https://a.test', headersSecretRef: {}}}",
        "name: Required value",
    ),
    (
        "{webhook: {url: 'https://a.test', clientCertificateRef: {}}}",
        "name: Required value",
    ),
    (
        "{webhook: {url: 'https://a.test', signingSecretRef: {key: k}}}",
        "name: Required value",
    ),
];

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// `base` with the fields of `own` in their place, and without those that are null.
fn with(mut base: Value, own: &str) -> Value {
    base.as_object_mut()
        .unwrap()
        .extend(yaml(own).as_object().unwrap().clone());
    base.as_object_mut().unwrap().retain(|_, field| !field.is_null());
    base
}

fn good_receiver() -> Value {
    json!({"name": "ops", "webhook": {"url": "https://a.test"}})
}

#[tokio::test]
async fn policies_that_can_never_work_are_refused_with_what_to_write_instead() {
    let (_world, cluster, namespace) = plane().await;
    let whole = |(spec, words): &(&str, &'static str)| (with(json!({"receivers": [good_receiver()]}), spec), *words);
    let receiver = |(receiver, words): &(&str, &'static str)| {
        (json!({"receivers": [with(json!({"name": "ops"}), receiver)]}), *words)
    };
    let mut specs: Vec<(Value, &str)> = BAD_POLICIES.iter().map(whole).collect();
    specs.extend(BAD_RECEIVERS.iter().map(receiver));
    specs.push((
        json!({"receivers": [good_receiver(), good_receiver()]}),
        "spec.receivers: duplicate entries",
    ));
    let many: Vec<Value> = (0..17)
        .map(|number| with(good_receiver(), &format!("{{name: r{number}}}")))
        .collect();
    specs.push((json!({"receivers": many}), "must have at most 16 items"));
    let manifests = specs
        .iter()
        .flat_map(|(spec, words)| KINDS.map(|kind| (manifest(kind, &spec.to_string()), *words)));
    refused(&cluster, &namespace, manifests).await;
    // Namespaces are for those who see more than one.
    let selecting = json!({"receivers": [good_receiver()], "namespaceSelector": {"matchLabels": {"env": "prod"}}});
    let words = "field not declared in schema";
    let manifest = manifest("AlertPolicy", &selecting.to_string());
    refused(&cluster, &namespace, [(manifest, words)].into_iter()).await;
}

/// Every field of the contract, some of them in several forms.
fn good() -> Vec<(&'static str, Value)> {
    let whole = json!({
        "selector": {"matchLabels": {"team": "shop"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]},
        "rules": {
            "expiring": {"warning": "25%", "critical": "10%"},
            "expired": {},
            "renewalFailed": {"afterAttempts": 1, "criticalAfterAttempts": 3},
            "notReady": {"after": "10m"},
            "reissueHeld": {"enabled": false},
            "renewed": {"enabled": true}
        },
        "receivers": [
            {
                "name": "ops",
                "minSeverity": "info",
                "webhook": {
                    "urlSecretRef": {"name": "hooks", "key": "url"},
                    "format": "CloudEvents",
                    "signingSecretRef": {"name": "hooks", "key": "signing"},
                    "headersSecretRef": {"name": "hooks-headers"},
                    "caBundle": "LS0tLQ==",
                    "clientCertificateRef": {"name": "client"},
                    "timeout": "15s"
                }
            },
            {"name": "alertmanager", "webhook": {"url": "http://alertmanager.monitoring.svc:9093", "format": "Alertmanager"}},
            {"name": "slack", "webhook": {"urlSecretRef": {"name": "slack", "key": "url"}, "format": "Slack"}},
            {"name": "teams", "webhook": {"urlSecretRef": {"name": "teams", "key": "url"}, "format": "Teams"}},
            {
                "name": "pager",
                "minSeverity": "critical",
                "webhook": {"format": "PagerDuty", "routingKeySecretRef": {"name": "pagerduty", "key": "routing-key"}}
            }
        ],
        "repeatInterval": "4h",
        "heartbeatInterval": "24h"
    });
    let with_rules = |expiring: Value| json!({"rules": {"expiring": expiring}, "receivers": [good_receiver()]});
    let mut all: Vec<_> = KINDS.map(|kind| (kind, whole.clone())).into();
    all.extend([
        ("AlertPolicy", json!({"receivers": [good_receiver()]})),
        ("AlertPolicy", json!({"rules": {}, "receivers": [good_receiver()]})),
        ("AlertPolicy", with_rules(json!({"warning": "21d", "critical": "7d"}))),
        ("AlertPolicy", with_rules(json!({"warning": "36h", "critical": "90m"}))),
        // Which is less depends on the certificate.
        (
            "AlertPolicy",
            with_rules(json!({"warning": "50%", "critical": "7d12h"})),
        ),
        (
            "ClusterAlertPolicy",
            json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}, "receivers": [good_receiver()]}),
        ),
    ]);
    all
}

#[tokio::test]
async fn every_field_of_a_policy_is_accepted_and_kept() {
    let (_world, cluster, namespace) = plane().await;
    kept(&cluster, &namespace, good()).await;
}

#[tokio::test]
async fn kubectl_shows_how_a_policy_does() {
    let (test_cluster, cluster, namespace) = plane().await;
    let options = operator::Options::new(&test_cluster.plane.kubeconfig())
        .arg("--namespace")
        .arg(&namespace);
    let _operator = test_cluster.operator(&options).await;
    let receiver = Receiver::start().await;
    let spec = json!({"receivers": [{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]});
    cluster
        .apply(&namespace, &manifest("AlertPolicy", &spec.to_string()))
        .await;
    let policies = cluster.api::<AlertPolicy>(&namespace);
    cluster
        .wait_condition(&policies, "thing", "Delivering", "True", SOON)
        .await;
    let kubectl = |args: &[&str]| {
        test_cluster
            .plane
            .kubectl(&[args, &["-n", &namespace]].concat())
            .unwrap()
    };
    let rows = |table: &str| -> Vec<Vec<String>> {
        table
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };

    let short = rows(&kubectl(&["get", "ghalert"]));
    assert_eq!(short[0], ["NAME", "READY", "DELIVERING", "FIRING", "AGE"]);
    assert_eq!(short[1][..4], ["thing", "True", "True", "0"]);
    let wide = kubectl(&["get", "alertpolicy", "-o", "wide"]);
    assert_eq!(
        rows(&wide)[0],
        ["NAME", "READY", "DELIVERING", "FIRING", "STATUS", "AGE"]
    );
    assert!(wide.contains("Every receiver took what was sent."), "{wide}");
    let category = kubectl(&["get", "gatehouse", "-o", "name"]);
    assert!(category.contains("alertpolicy.gatehouse.dev/thing"), "{category}");

    cluster
        .apply(&namespace, &manifest("ClusterAlertPolicy", &spec.to_string()))
        .await;
    let cluster_wide = rows(&kubectl(&["get", "ghcalert", "thing"]));
    assert_eq!(cluster_wide[0][..4], ["NAME", "READY", "DELIVERING", "FIRING"]);

    let explained = kubectl(&["explain", "alertpolicy.spec.receivers.webhook"]);
    for words in [
        "format\t<string>",
        "enum: CloudEvents, Alertmanager, Slack",
        "each of which signs",
        "Default: 15s",
    ] {
        assert!(explained.contains(words), "{words:?} is not in:\n{explained}");
    }
    let explained = kubectl(&["explain", "clusteralertpolicy.spec"]);
    assert!(explained.contains("namespaceSelector"), "{explained}");
}
