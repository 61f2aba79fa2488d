//! The harness itself: each component comes up, does what the suites rely on, and can be broken on purpose.
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

use std::collections::BTreeMap;
use std::time::Duration;

use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::test_cluster::Options;
use gatehouse_tests::web::Web;
use gatehouse_tests::{Proxy, TestCluster, control_plane, revocation};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, Secret};
use kube::api::{Api, DeleteParams, ListParams};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_plane_applies_reports_refusals_and_collects_a_deleted_namespace() {
    let test_cluster = TestCluster::shared().await;
    let cluster = test_cluster.cluster().await;
    let version = cluster.client().apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "36"),
        "{version:?}"
    );
    assert!(
        test_cluster
            .plane
            .kubectl(&["version"])
            .unwrap()
            .contains("Server Version: v1.36.")
    );

    let namespace = cluster.namespace("plane").await;
    let applied = cluster
        .apply(
            &namespace,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {secrets: '0'}}\n",
        )
        .await;
    assert_eq!(applied.len(), 2);
    let refusal = cluster
        .refusal(&namespace, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_}\n")
        .await;
    assert!(refusal.contains("RFC 1123"), "{refusal}");
    // The controller manager counts quotas, so that a test may forbid a Secret by one.
    let quotas = cluster.api::<ResourceQuota>(&namespace);
    cluster
        .wait(&quotas, "q", "counted", SOON, |quota| {
            quota.status.as_ref().is_some_and(|s| s.used.is_some())
        })
        .await;

    let namespaces = Api::<Namespace>::all(cluster.client());
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    cluster.wait_gone(&namespaces, &namespace, SOON).await;
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let test_cluster = TestCluster::shared().await;
    let cluster = test_cluster.cluster().await;
    let namespace = cluster.namespace("rbac").await;
    cluster
        .apply(
            &namespace,
            r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
"#,
        )
        .await;
    let kubeconfig = test_cluster.plane.kubeconfig_for(&namespace, "reader").await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kubeconfig).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let client = control_plane::client(&kubeconfig).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    eventually("the role is known", SOON, || async {
        config_maps.list(&ListParams::default()).await.ok()
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let denied = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&denied, kube::Error::Api(status) if status.is_forbidden()),
        "{denied}"
    );
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "default");
    assert!(elsewhere.list(&ListParams::default()).await.is_err());
}

#[tokio::test]
async fn a_cut_and_a_hold_are_felt_and_healed() {
    let test_cluster = TestCluster::shared().await;
    let proxy = Proxy::start(test_cluster.plane.address()).unwrap();
    let identity = test_cluster.plane.admin().through(proxy.address());
    let kubeconfig = identity
        .write(&test_cluster.folder().join("through-proxy.kubeconfig"))
        .unwrap();
    let client = control_plane::client(&kubeconfig).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.get("default").await.unwrap();
    assert!(proxy.connections() > 0);

    proxy.cut();
    assert!(namespaces.get("default").await.is_err(), "a cut connection answered");
    proxy.heal();
    eventually("the cut is healed", SOON, || async {
        namespaces.get("default").await.ok()
    })
    .await;

    proxy.hold();
    let held = tokio::time::timeout(Duration::from_millis(300), namespaces.get("default")).await;
    assert!(held.is_err(), "a held connection answered");
    proxy.heal();
    eventually("the hold is healed", SOON, || async {
        namespaces.get("default").await.ok()
    })
    .await;

    proxy.slow(Duration::from_millis(200));
    let began = std::time::Instant::now();
    namespaces.get("default").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn objects_survive_a_crash_a_freeze_and_an_orderly_restart_of_the_api_server() {
    let test_cluster = TestCluster::start(Options::default()).await.unwrap();
    let cluster = test_cluster.cluster().await;
    let config_maps = cluster.api::<ConfigMap>("default");
    cluster
        .apply(
            "default",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {x: '1'}\n",
        )
        .await;
    let kept = Some(BTreeMap::from([("x".to_owned(), "1".to_owned())]));

    test_cluster.plane.kill_api_server();
    assert!(config_maps.get("kept").await.is_err(), "a killed API server answered");
    test_cluster.plane.start_api_server().await.unwrap();
    assert_eq!(
        cluster.wait(&config_maps, "kept", "there", SOON, |_| true).await.data,
        kept
    );

    test_cluster.plane.freeze_api_server();
    let frozen = tokio::time::timeout(Duration::from_millis(300), config_maps.get("kept")).await;
    assert!(frozen.is_err(), "a frozen API server answered");
    test_cluster.plane.thaw_api_server();
    assert_eq!(
        cluster.wait(&config_maps, "kept", "there", SOON, |_| true).await.data,
        kept
    );

    test_cluster.plane.terminate_api_server().await;
    test_cluster.plane.start_api_server().await.unwrap();
    assert_eq!(
        cluster.wait(&config_maps, "kept", "there", SOON, |_| true).await.data,
        kept
    );
}

#[tokio::test]
async fn pebble_answers_counts_and_forgets() {
    let test_cluster = TestCluster::shared().await;
    let pebble = test_cluster
        .another_pebble(gatehouse_tests::pebble::Options::default())
        .await;
    let web = Web::trusting(pebble.ca_pem());
    let (status, directory) = web.get(&pebble.directory()).await.unwrap();
    assert!(status.is_success() && directory.contains("renewalInfo"), "{directory}");
    assert!(pebble.requests()["GET /dir"] >= 1, "{:?}", pebble.requests());
    assert_eq!((pebble.orders(), pebble.issued()), (0, 0));
    assert_eq!(pebble.status_of("0a").await.unwrap(), None);

    let proxy = Proxy::start(pebble.address()).unwrap();
    let through = pebble.directory_through(&proxy);
    let (_, directory) = web.get(&through).await.unwrap();
    assert!(
        directory.contains(&proxy.address().to_string()),
        "its URLs follow the proxy: {directory}"
    );

    // A certificate of another CA: the signature passes, the certificate is not found.
    let pair = Ca::new("stranger")
        .unwrap()
        .serving(test_cluster.folder(), "stranger")
        .unwrap();
    let [certificate, key] = [pair.certificate, pair.key].map(|file| std::fs::read_to_string(file).unwrap());
    let refused = revocation::revoke(&pebble, &certificate, &key).await.unwrap_err();
    assert!(
        refused.to_string().contains("Unable to find specified certificate"),
        "{refused}"
    );

    let root = pebble.root().await.unwrap();
    assert!(root.contains("BEGIN CERTIFICATE"));
    pebble.restart().await.unwrap();
    assert_ne!(pebble.root().await.unwrap(), root, "a new Pebble has a new root");
    pebble.stop();
    assert!(web.get(&pebble.directory()).await.is_err());
}

#[tokio::test]
async fn knot_takes_a_signed_update_and_refuses_a_wrong_signature() {
    let test_cluster = TestCluster::shared().await;
    let knot = test_cluster.knot();
    let before = knot.updates();
    let name = "_acme-challenge.knot.example.test";
    assert_eq!(knot.txt(name).await.unwrap(), Vec::<String>::new());
    let answer = knot.add_txt("example.test", name, "one").await.unwrap();
    assert_eq!(answer.to_str(), "No Error");
    assert_eq!(knot.txt(name).await.unwrap(), ["one"]);
    assert_eq!(knot.updates(), before + 1);

    let refused = knot.add_txt_with_wrong_key("example.test", name, "two").await.unwrap();
    assert_ne!(refused.to_str(), "No Error");
    assert_eq!(
        knot.txt(name).await.unwrap(),
        ["one"],
        "an update with a wrong signature changes nothing"
    );
}

#[tokio::test]
async fn the_challenge_server_answers_what_it_is_told() {
    let test_cluster = TestCluster::shared().await;
    let server = test_cluster.challenge_server();
    server.set_txt("_acme-challenge.reported.test", "value").await.unwrap();
    server.set_cname("alias.test", "reported.test").await.unwrap();
    server.set_servfail("broken.test").await.unwrap();
    let questions = server.questions("never-asked.test").await.unwrap();
    assert!(questions.is_empty(), "{questions:?}");
}
