//! `cargo dev bench --gateways`: what 1,000 Gateways cost that are made at once, while nothing happens, and at a restart.
//!
//! Each is Internal, in front of the Pods of its namespace, and has its address from a cloud that is played here. The
//! controller manager makes the `EndpointSlices`, as fast as its defaults let it. Before them a script creates the same Gateways
//! and Services with as many clients: what the API server needs for itself, in the same run.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_crds::gateway::{Gateway, Provider};
use gatehouse_tests::cloud::{Answer, Habits};
use gatehouse_tests::process::eventually;
use gatehouse_tests::shared_operator::SOON;
use gatehouse_tests::{Cloud, Error, Operator};
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::lab::{Lab, Subject, create};
use super::measure::{Requests, Seen, cpu, memory};
use super::report::Measured;
use super::{CLIENTS, NAMESPACES, REST, count, step};

const GATEWAYS: usize = 1_000;
/// Further ones, for what each takes beside the code and buffers that the first bring.
const FURTHER: usize = 1_000;
/// All of them with `--large`.
const LARGE: usize = 10_000;
/// Clients of the script: as many writes as the operator has on its way.
const SCRIPT: usize = 64;
/// Delay of the cloud for an address.
const CLOUD: Duration = Duration::from_millis(50);
/// Long enough for a look at what is amiss, which is taken every half a minute.
const MINUTE: Duration = Duration::from_mins(1);
const NODE: &str = "bench";
/// Time for the cloud and the controller manager to clean up.
const TIMEOUT: Duration = Duration::from_mins(5);

/// All of it.
pub(super) async fn gateways(binary: &Path, large: bool, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, Subject::Gateways).await?;
    let mut note = |id: &str, value: f64| measured.insert(format!("gateways.{id}"), value);
    let _clouds = surroundings(&lab).await?;
    step(&format!(
        "{GATEWAYS} Gateways and their Services by a script, {SCRIPT} clients"
    ));
    let script = script(&mut lab).await?;
    note("script", script);
    let [services, programmed, served] = watch(&lab);
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    let without = memory(&lab.operator, "VmRSS")?;

    step(&format!("{GATEWAYS} Gateways at once"));
    let (mark, used, began) = (lab.audit.mark(), cpu(&lab.operator)?, Instant::now());
    let names = apply(&lab, 0..GATEWAYS).await?;
    note("created", began.elapsed().as_secs_f64());
    let last = |seen: Vec<Instant>| seen.into_iter().max().map_or(f64::NAN, |at| (at - began).as_secs_f64());
    let made = last(services.all(&names).await?);
    note("services", made);
    note("ratio", made / script);
    note("programmed", last(programmed.all(&names).await?));
    let requests = lab.audit.since(mark);
    say("until all are Programmed", &requests);
    note("requests", each(&requests));
    note("endpoints", last(served.all(&names).await?));
    lab.audit.quiet().await;
    let requests = lab.audit.since(mark);
    say("until the endpoints of all are reported", &requests);
    note("requestsLater", each(&requests));
    note("cpu", 1000.0 * (cpu(&lab.operator)? - used) / count(GATEWAYS));

    step("rest");
    tokio::time::sleep(REST).await;
    let held = memory(&lab.operator, "VmRSS")?;
    note("memory", 1024.0 * (held - without) / count(GATEWAYS));
    note("peak", memory(&lab.operator, "VmHWM")?);
    let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
    tokio::time::sleep(REST).await;
    note("idle.cpu", percent(cpu(&lab.operator)? - used, REST));
    note("idle.requests", count(lab.audit.since(mark).values().sum()));

    step(&format!("{FURTHER} further ones"));
    let names = apply(&lab, GATEWAYS..GATEWAYS + FURTHER).await?;
    programmed.all(&names).await?;
    served.all(&names).await?;
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    note(
        "slope",
        1024.0 * (memory(&lab.operator, "VmRSS")? - held) / count(FURTHER),
    );

    step("restart");
    lab.operator.terminate(SOON).await;
    let mark = lab.audit.mark();
    lab.operator = Operator::start(lab.test_cluster.folder(), &lab.options)?;
    lab.operator.wait_ready().await?;
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    let requests = lab.audit.since(mark);
    say("after the restart", &requests);
    note("restart.writes", count(writes(&requests)));
    note("restart.requests", count(requests.values().sum()));
    note("restart.cpu", cpu(&lab.operator)?);
    note(
        "restart.memory",
        1024.0 * (memory(&lab.operator, "VmRSS")? - without) / count(GATEWAYS + FURTHER),
    );

    step("Pods that are not ready");
    pod_ready(&lab, "bench-0", false).await?;
    lab.audit.quiet().await;
    let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
    tokio::time::sleep(MINUTE).await;
    note("lost.cpu", percent(cpu(&lab.operator)? - used, MINUTE));
    note("lost.requests", count(lab.audit.since(mark).values().sum()));

    if large {
        step(&format!("{LARGE} Gateways"));
        let names = apply(&lab, GATEWAYS + FURTHER..LARGE).await?;
        programmed.all(&names).await?;
        lab.audit.quiet().await;
        tokio::time::sleep(REST).await;
        note("large.memory", memory(&lab.operator, "VmRSS")?);
        note("large.peak", memory(&lab.operator, "VmHWM")?);
        let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
        tokio::time::sleep(REST).await;
        note("large.idle.cpu", percent(cpu(&lab.operator)? - used, REST));
        note("large.idle.requests", count(lab.audit.since(mark).values().sum()));
    }
    Ok(())
}

/// Notes when each has its Service, is Programmed, and has endpoints.
fn watch(lab: &Lab) -> [Seen; 3] {
    let client = lab.cluster.client();
    [
        Seen::watch(Api::<Service>::all(client.clone()), |_| true),
        Seen::watch(Api::<Gateway>::all(client.clone()), is_programmed),
        Seen::watch(Api::<Gateway>::all(client), has_endpoints),
    ]
}

/// Creates the same Gateways and the Services that the operator makes of them, by the same kinds of requests, while no
/// operator runs. Returns the time until the last was created. Nothing is left of them.
async fn script(lab: &mut Lab) -> Result<f64, Error> {
    lab.operator.terminate(SOON).await;
    // As many watches as when the operator is measured.
    let _watches = watch(lab);
    let params = PatchParams::apply("script");
    let began = Instant::now();
    let services = stream::iter(0..GATEWAYS)
        .map(|number| {
            let api: Api<Service> = lab.cluster.api(&format!("bench-{}", number % NAMESPACES));
            let name = format!("script-{number}");
            let service = json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "script"},
                    "annotations": {"networking.gke.io/load-balancer-type": "Internal"}},
                "spec": {"type": "LoadBalancer", "selector": {"app": "shop"}, "allocateLoadBalancerNodePorts": false,
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}});
            let params = &params;
            async move { api.patch(&name, params, &Patch::Apply(&service)).await.map(drop) }
        })
        .buffer_unordered(SCRIPT)
        .try_collect::<Vec<()>>();
    let services = async { Ok::<_, Error>(services.await?) };
    tokio::try_join!(services, apply(lab, 0..GATEWAYS))?;
    let took = began.elapsed().as_secs_f64();
    for number in 0..NAMESPACES {
        let namespace = format!("bench-{number}");
        remove::<Gateway>(lab, &namespace, &ListParams::default()).await?;
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=script");
        remove::<Service>(lab, &namespace, &ours).await?;
    }
    lab.operator = Operator::start(lab.test_cluster.folder(), &lab.options)?;
    lab.operator.wait_ready().await?;
    Ok(took)
}

/// Deletes the objects of a namespace, and waits until they are gone.
async fn remove<K>(lab: &Lab, namespace: &str, which: &ListParams) -> Result<(), Error>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = lab.cluster.api(namespace);
    api.delete_collection(&DeleteParams::default(), which).await?;
    eventually("what the script has created is gone", TIMEOUT, || async {
        api.list(which).await.ok().filter(|left| left.items.is_empty())
    })
    .await;
    Ok(())
}

/// A node of a cloud, a Pod in each namespace, and its load balancer controller. Their own requests are not the operator's.
async fn surroundings(lab: &Lab) -> Result<Vec<Cloud>, Error> {
    let nodes: Api<Node> = Api::all(lab.cluster.client());
    create(
        &nodes,
        json!({"metadata": {"name": NODE}, "spec": {"providerID": "gce://bench/zone/bench"}}),
    )
    .await?;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&ready))
        .await?;
    let mut clouds = Vec::new();
    for number in 0..NAMESPACES {
        let namespace = format!("bench-{number}");
        let accounts: Api<ServiceAccount> = lab.cluster.api(&namespace);
        // Admission wants it, and its controller makes it a moment after the namespace.
        eventually("the default service account", SOON, || async {
            accounts.get_opt("default").await.ok().flatten()
        })
        .await;
        let ports = json!([{"name": "web", "containerPort": 8080}]);
        let pod = json!({"metadata": {"name": "shop", "labels": {"app": "shop"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "app", "ports": ports}]}});
        create(&lab.cluster.api::<Pod>(&namespace), pod).await?;
        pod_ready(lab, &namespace, true).await?;
        let mut habits = Habits::of(Answer::AsTold(Provider::Gke));
        habits.delay = CLOUD;
        clouds.push(Cloud::start(lab.cluster.client(), &namespace, habits).await);
    }
    Ok(clouds)
}

/// Returns a kubelet's status of the Pod of a namespace.
async fn pod_ready(lab: &Lab, namespace: &str, ready: bool) -> Result<(), Error> {
    let ip = "10.244.0.1";
    let status = if ready { "True" } else { "False" };
    let patch = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": status}]}});
    let pods: Api<Pod> = lab.cluster.api(namespace);
    pods.patch_status("shop", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

/// Creates the Gateways, and says what they are called.
async fn apply(lab: &Lab, numbers: std::ops::Range<usize>) -> Result<Vec<String>, Error> {
    stream::iter(numbers)
        .map(|number| {
            let api: Api<Gateway> = lab.cluster.api(&format!("bench-{}", number % NAMESPACES));
            let name = format!("gateway-{number}");
            let gateway = json!({"metadata": {"name": name}, "spec": {
                "service": {"scope": "Internal"}, "target": {"selector": {"app": "shop"}},
                "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}});
            async move { create(&api, gateway).await.map(|()| name) }
        })
        .buffer_unordered(CLIENTS)
        .try_collect()
        .await
}

fn is_programmed(gateway: &Gateway) -> bool {
    let Some(status) = &gateway.status else { return false };
    let is_true = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        condition.type_ == "Programmed" && condition.status == "True"
    };
    !status.addresses.is_empty() && status.conditions.iter().any(is_true)
}

fn has_endpoints(gateway: &Gateway) -> bool {
    let mut listeners = gateway.status.iter().flat_map(|status| &status.listeners);
    listeners.any(|listener| listener.ready_endpoints > 0)
}

fn each(requests: &Requests) -> f64 {
    count(requests.values().sum()) / count(GATEWAYS)
}

fn writes(requests: &Requests) -> usize {
    let reads = |what: &str| ["get ", "list ", "watch "].iter().any(|verb| what.starts_with(verb));
    let writes = requests.iter().filter(|(what, _)| !reads(what));
    writes.map(|(_, count)| count).sum()
}

fn percent(used: f64, of: Duration) -> f64 {
    100.0 * used / of.as_secs_f64()
}

/// The requests one by one, for who wants to know what they were.
fn say(when: &str, requests: &Requests) {
    let words: Vec<String> = requests.iter().map(|(what, count)| format!("{what} {count}")).collect();
    eprintln!("  {when}: {}", words.join(", "));
}
