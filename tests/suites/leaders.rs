//! Two replicas, of which one works: what the other does meanwhile, and how soon it takes over.
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

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_tests::isolated_operator::{SOON, through};
use gatehouse_tests::operator::Options;
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{Gate, Operator, Proxy, TestCluster, chain, cluster::Cluster, manifests};
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

/// Longest cost of a killed leader, from its end to a new certificate.
const TAKE_OVER: Duration = Duration::from_secs(17);

struct Replica {
    operator: Operator,
    /// Between the replica and the gate: the network.
    network: Proxy,
    /// Reads what the replica asks of the API server.
    gate: Gate,
}

impl Replica {
    async fn leads(&self) -> bool {
        self.operator
            .metric("gatehouse_leader")
            .await
            .is_ok_and(|value| value == Some(1.0))
    }

    /// Times and paths of all that it wrote, its attempts at the Lease left out.
    fn writes(&self) -> Vec<(Instant, String)> {
        let seen = self.gate.seen().into_iter();
        seen.filter(|seen| seen.method != Method::GET && !seen.path.contains("/leases"))
            .map(|seen| (seen.at, format!("{} {}", seen.method, seen.path)))
            .collect()
    }
}

struct Pair {
    cluster: Cluster,
    namespace: String,
    ca: Ca,
    leases: Api<Lease>,
    leader: Replica,
    standby: Replica,
}

async fn replica(test_cluster: &Arc<TestCluster>, namespace: &str, number: usize) -> Replica {
    let gate = Gate::start(test_cluster.plane.address(), test_cluster.plane.ca_pem()).unwrap();
    let network = Proxy::start(gate.address()).unwrap();
    let name = format!("{namespace}-{number}");
    let kubeconfig = through(test_cluster, &gate, &name).unwrap();
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let text = text.replace(&gate.address().to_string(), &network.address().to_string());
    std::fs::write(&kubeconfig, text).unwrap();
    let options = Options::new(&kubeconfig)
        .arg("--leader-elect")
        .arg(format!("--namespace={namespace}"))
        .arg(format!("--cluster-resource-namespace={namespace}"));
    let operator = test_cluster.operator(&options).await;
    Replica {
        operator,
        network,
        gate,
    }
}

/// Two replicas that are ready, and an issuer whose certificates cost no time.
async fn pair(name: &str) -> Pair {
    let test_cluster = TestCluster::shared().await;
    let cluster = test_cluster.cluster().await;
    cluster.install_crds().await.unwrap();
    let namespace = cluster.namespace(name).await;
    let ca = Ca::new("leaders").unwrap();
    cluster.apply(&namespace, &manifests::ca("internal", &ca)).await;
    let leader = replica(&test_cluster, &namespace, 1).await;
    eventually("the first replica leads", SOON, || async {
        leader.leads().await.then_some(())
    })
    .await;
    let standby = replica(&test_cluster, &namespace, 2).await;
    let pair = Pair {
        leases: cluster.api(&namespace),
        cluster,
        namespace,
        ca,
        leader,
        standby,
    };
    pair.issue("before", SOON).await;
    pair
}

impl Pair {
    /// Asks for a certificate and waits for it; how long that took.
    async fn issue(&self, name: &str, within: Duration) -> Duration {
        let began = Instant::now();
        let host = format!("{name}.example.test");
        let yaml = manifests::certificate(name, "internal", &[&host]);
        self.cluster.apply(&self.namespace, &yaml).await;
        let certificates = self
            .cluster
            .api::<gatehouse_crds::certificate::Certificate>(&self.namespace);
        self.cluster
            .wait_condition(&certificates, name, "Ready", "True", within)
            .await;
        let secret = self
            .cluster
            .secret(&self.namespace, &format!("{name}-tls"))
            .await
            .unwrap();
        chain::assert_chain(&secret, &self.ca.pem(), &[&host]);
        began.elapsed()
    }

    async fn lease(&self) -> (String, i32) {
        let spec = self.leases.get("gatehouse-operator").await.unwrap().spec.unwrap();
        (
            spec.holder_identity.unwrap_or_default(),
            spec.lease_transitions.unwrap_or_default(),
        )
    }

    /// Waits until a process other than `before` holds the Lease.
    async fn taken_over(&self, before: &str, within: Duration) {
        self.cluster
            .wait(&self.leases, "gatehouse-operator", "taken over", within, |lease| {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                holder.is_some_and(|holder| !holder.is_empty() && holder != before)
            })
            .await;
    }
}

#[tokio::test]
async fn the_standby_is_ready_writes_nothing_and_takes_over_within_17_s() {
    let mut pair = pair("killed").await;
    let (status, text) = pair.standby.operator.health("/readyz").await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    assert!(!pair.standby.leads().await);
    assert!(!pair.leader.writes().is_empty());
    assert_eq!(pair.standby.writes(), [], "a standby writes nothing");
    let (holder, transitions) = pair.lease().await;

    pair.leader.operator.kill9();
    let took = pair.issue("after", SOON).await;
    assert!(took < TAKE_OVER, "{took:?}");
    let (next, more) = pair.lease().await;
    assert_ne!(holder, next);
    assert_eq!(more, transitions + 1);
    assert!(pair.standby.leads().await);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_has_ended_before_the_other_begins() {
    let mut pair = pair("cut").await;
    let (holder, transitions) = pair.lease().await;
    // As a lost route does it: nothing is refused, nothing arrives. What the leader writes is lost, too.
    pair.leader.network.hold();
    let cut = Instant::now();
    let ended = eventually("the leader that is cut off ends", Duration::from_secs(15), || {
        let ended = pair.leader.operator.exited();
        async move { ended }
    })
    .await;
    assert!(!ended.success(), "{ended}: it did not end in order");
    assert_eq!(
        pair.lease().await.0,
        holder,
        "the other took over before the leader had ended, {:?} after the cut",
        cut.elapsed()
    );
    pair.taken_over(&holder, Duration::from_secs(20)).await;
    assert_eq!(pair.lease().await.1, transitions + 1);
    let took = pair.issue("after", SOON).await;
    assert!(took < Duration::from_secs(10), "{took:?}");

    // What was on its way is let through now; it comes from a process that is gone, and changes nothing.
    pair.leader.network.heal();
    let last = pair.leader.writes().last().map(|(at, _)| *at);
    let first = pair.standby.writes().first().map(|(at, _)| *at);
    assert!(last < first, "the writes of the two do not overlap");
}

/// As a firewall that refuses does it: every connection is closed.
#[tokio::test]
async fn a_leader_whose_connections_are_closed_ends_too() {
    let mut pair = pair("closed").await;
    let (holder, _) = pair.lease().await;
    pair.leader.network.cut();
    eventually("the leader that is cut off ends", Duration::from_secs(15), || {
        let ended = pair.leader.operator.exited();
        async move { ended }
    })
    .await;
    assert_eq!(pair.lease().await.0, holder);
    pair.taken_over(&holder, Duration::from_secs(20)).await;
    pair.issue("after", SOON).await;
    let last = pair.leader.writes().last().map(|(at, _)| *at);
    let first = pair.standby.writes().first().map(|(at, _)| *at);
    assert!(last < first, "the writes of the two do not overlap");
}

/// A CA that takes the request and says nothing holds up no shutdown.
#[tokio::test]
async fn a_leader_whose_ca_hangs_hands_over_within_three_seconds() {
    let mut pair = pair("hanging").await;
    let test_cluster = TestCluster::shared().await;
    let pebble = test_cluster.pebble();
    let ca = Proxy::start(pebble.address()).unwrap();
    let yaml = manifests::acme_dns01(
        "acme",
        &pebble.directory_through(&ca),
        pebble.ca_pem(),
        test_cluster.knot(),
    );
    pair.cluster.apply(&pair.namespace, &yaml).await;
    let issuers = pair.cluster.api::<gatehouse_crds::issuer::Issuer>(&pair.namespace);
    pair.cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    ca.hold();
    for number in 0..5 {
        let (name, host) = (format!("hangs{number}"), format!("hangs{number}.example.test"));
        pair.cluster
            .apply(&pair.namespace, &manifests::certificate(&name, "acme", &[&host]))
            .await;
    }
    eventually("requests hang at the CA", SOON, || async {
        (ca.connections() > 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (holder, transitions) = pair.lease().await;
    let began = Instant::now();
    let (status, ()) = tokio::join!(pair.leader.operator.terminate(Duration::from_secs(30)), async {
        let leads = || async { pair.standby.leads().await.then_some(()) };
        eventually("the standby leads", SOON, leads).await;
    });
    let took = began.elapsed();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let (next, more) = pair.lease().await;
    assert_ne!(holder, next);
    assert_eq!(more, transitions + 1);
    pair.issue("after", SOON).await;
    let last = pair.leader.writes().last().map(|(at, _)| *at);
    let first = pair.standby.writes().first().map(|(at, _)| *at);
    assert!(last < first, "the writes of the two do not overlap");
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_within_two_seconds() {
    let mut pair = pair("handover").await;
    let (holder, transitions) = pair.lease().await;
    let began = Instant::now();
    let status = pair.leader.operator.terminate(Duration::from_secs(30)).await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    pair.taken_over(&holder, SOON).await;
    let took = began.elapsed();
    // Two busy cores may cost a second more.
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(pair.lease().await.1, transitions + 1);
    pair.issue("after", SOON).await;
    let last = pair.leader.writes().last().map(|(at, _)| *at);
    let first = pair.standby.writes().first().map(|(at, _)| *at);
    assert!(last < first, "the writes of the two do not overlap");
}
