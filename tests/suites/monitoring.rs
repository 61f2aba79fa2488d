//! Monitoring of Gatehouse: the rules, the dashboard and the ServiceMonitor of `config/monitoring`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use gatehouse_crds::alert::Rule;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{Assets, IsolatedOperator, Receiver, TestCluster, Tool, assets, manifests, workspace};
use serde_json::{Value, json};

/// Every object that `kubectl kustomize config/monitoring` gives.
fn built() -> Vec<Value> {
    let output = Command::new(Assets::find().unwrap().path(Tool::Kubectl))
        .arg("kustomize")
        .arg(workspace::root().join("config/monitoring"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn of_kind(kind: &str) -> Value {
    let mut found = built().into_iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

fn dashboard() -> Value {
    let map = of_kind("ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    serde_json::from_str(map["data"]["gatehouse.json"].as_str().expect("the dashboard")).unwrap()
}

/// Every rule of every group.
fn rules() -> Vec<Value> {
    let rule = of_kind("PrometheusRule");
    let groups = rule["spec"]["groups"].as_array().expect("groups").clone();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new(assets::promtool().unwrap())
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool {}:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn promtool_accepts_the_rules_and_their_unit_tests_pass() {
    let folder = tempfile::tempdir().unwrap();
    // A PrometheusRule's spec is a rule file; JSON is YAML.
    std::fs::write(
        folder.path().join("rules.yaml"),
        of_kind("PrometheusRule")["spec"].to_string(),
    )
    .unwrap();
    promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(workspace::root().join("tests/monitoring")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        tests.push(entry.file_name().into_string().unwrap());
    }
    assert!(!tests.is_empty());
    let arguments: Vec<&str> = ["test", "rules"]
        .into_iter()
        .chain(tests.iter().map(String::as_str))
        .collect();
    promtool(folder.path(), &arguments);
}

#[test]
fn every_alert_is_tested_and_says_how_bad_it_is_what_happened_and_what_to_do() {
    let folder = workspace::root();
    let mut tests = String::new();
    for entry in std::fs::read_dir(folder.join("tests/monitoring")).unwrap() {
        tests.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    for rule in rules().iter().filter(|rule| !rule["alert"].is_null()) {
        let name = rule["alert"].as_str().unwrap();
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        assert!(
            ["warning", "critical"].contains(&text(&rule["labels"]["severity"]).as_str()),
            "{name}: severity"
        );
        let annotations = &rule["annotations"];
        assert!(!text(&annotations["summary"]).is_empty(), "{name}: summary");
        assert!(!text(&annotations["description"]).is_empty(), "{name}: description");
        let url = text(&annotations["runbook_url"]);
        let file = url
            .strip_prefix("https://github.com/gatehouse-dev/gatehouse/blob/main/")
            .unwrap_or_else(|| panic!("{name}: {url}"));
        assert!(folder.join(file).is_file(), "{name}: {file} is not there");
        assert!(
            tests.contains(&format!("alertname: {name}\n    exp_alerts:")),
            "{name} has no unit test in which it fires"
        );
    }
}

/// Returns every runbook that an alert's message links to, from the golden files of its formats.
fn linked(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            linked(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            let rest = text.split("docs/runbooks/").skip(1);
            found.extend(rest.filter_map(|rest| Some(rest.split_once(".md")?.0.to_owned())));
        }
    }
}

#[test]
fn every_message_of_the_alarm_links_to_a_runbook_that_is_there() {
    let mut names = BTreeSet::new();
    linked(
        &workspace::root().join("operator/src/alert/format/snapshots"),
        &mut names,
    );
    for rule in Rule::ALL {
        let name = rule.as_snake().replace('_', "-");
        assert!(names.contains(&name), "{name} is in no golden file: {names:?}");
    }
    for name in names {
        let file = workspace::root().join(format!("docs/runbooks/{name}.md"));
        assert!(file.is_file(), "{} is not there", file.display());
    }
}

/// The metrics that an expression names: a recorded one has a colon.
fn named(expression: &str) -> impl Iterator<Item = String> {
    expression
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':')
        .filter(|word| word.starts_with("gatehouse_"))
        .map(str::to_owned)
}

/// Every expression of the dashboard, wherever it is.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(text) if name == "expr" || name == "query" => found.push(text.to_owned()),
                    _ => expressions(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// Returns the metrics of a running operator, from the `# TYPE` lines of its `/metrics`.
fn exposed(metrics: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    names
}

/// The metrics that the reference has in its tables.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(workspace::root().join("docs/reference/metrics.md")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| `gatehouse_"))
        .filter_map(|rest| Some(format!("gatehouse_{}", rest.split_once('`')?.0)))
        .collect()
}

/// A family without a label set is not in `/metrics` until something is counted: so one Certificate is issued, one fails, and
/// both are reported; and a Gateway exists, without Pods behind it.
#[tokio::test]
async fn every_metric_of_rules_dashboard_and_reference_exists() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "watched").await;
    let operator = isolated.operator().await;
    let receiver = Receiver::start().await;
    let policy = json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy", "metadata": {"name": "ops"},
        "spec": {
            "rules": {"notReady": {"after": "1s"}},
            "receivers": [{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]
        }
    });
    isolated.apply(&policy.to_string()).await;
    isolated.acme_issuer().await;
    let host = isolated.host("web");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    isolated.verified("web", &[&host]).await;
    isolated
        .apply(&manifests::certificate("lost", "absent", &[&host]))
        .await;
    eventually("reported", SOON, || async {
        receiver
            .reported()
            .contains(&"firing notReady lost".to_owned())
            .then_some(())
    })
    .await;
    let gateway = json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "metadata": {"name": "shop"},
        "spec": {
            "service": {"type": "ClusterIP", "scope": "Internal"},
            "target": {"selector": {"app": "shop"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]
        }
    });
    isolated.apply(&gateway.to_string()).await;
    let of_gateway = format!("{{namespace=\"{}\",name=\"shop\"", isolated.namespace);
    let of_gateway = [
        format!("gatehouse_gateway_programmed{of_gateway}}} 1"),
        format!("gatehouse_gateway_exposure_verified{of_gateway}}} 1"),
        format!("gatehouse_gateway_ready_endpoints{of_gateway},listener=\"http\"}} 0"),
    ];
    eventually("the metrics of a Gateway", SOON, || async {
        let metrics = operator.metrics().await.unwrap();
        let has = |line: &String| metrics.lines().any(|found| found == line);
        of_gateway.iter().all(has).then_some(())
    })
    .await;
    let metrics = operator.metrics().await.unwrap();
    let deliveries = |result: &str| {
        let policy = format!(
            "policy_kind=\"AlertPolicy\",namespace=\"{}\",policy=\"ops\"",
            isolated.namespace
        );
        format!("gatehouse_alert_deliveries_total{{{policy},receiver=\"ops\",result=\"{result}\"}} 0")
    };
    for line in [
        "gatehouse_alerts_firing{rule=\"notReady\",severity=\"critical\"} 1".to_owned(),
        "gatehouse_alerts_firing{rule=\"expired\",severity=\"critical\"} 0".to_owned(),
        deliveries("failure"),
        deliveries("dropped"),
        deliveries("shed"),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    let exposed = exposed(&metrics);

    let mut used: Vec<String> = rules()
        .iter()
        .filter_map(|rule| Some(rule["expr"].as_str()?.to_owned()))
        .collect();
    expressions(&dashboard(), &mut used);
    let used: BTreeSet<String> = used.iter().flat_map(|expression| named(expression)).collect();
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<_> = used.difference(&exposed).collect();
    assert!(unknown.is_empty(), "not in /metrics: {unknown:?}");

    let bare = |name: &String| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name)
            .to_owned()
    };
    assert_eq!(
        documented(),
        exposed.iter().map(bare).collect(),
        "in docs/reference/metrics.md and in /metrics"
    );
}

#[test]
fn the_service_monitor_finds_the_port_and_keeps_the_namespace_label() {
    let monitor = of_kind("ServiceMonitor");
    let text = std::fs::read_to_string(workspace::root().join("config/manager/service.yaml")).unwrap();
    let service: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(monitor["metadata"]["namespace"], service["metadata"]["namespace"]);
    assert_eq!(
        monitor["spec"]["selector"]["matchLabels"],
        service["metadata"]["labels"]
    );
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(endpoint["honorLabels"], true);
}
