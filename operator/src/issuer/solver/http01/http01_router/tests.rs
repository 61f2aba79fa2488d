#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::solver::Http01;
use jiff::Timestamp;
use serde_json::json;

use super::{
    super::{
        super::{ChallengeKind, Identifier, Reach, Solver, http::Http},
        Http01Solver,
    },
    *,
};

/// Writes down what it is asked, and fails or hangs where it is made to.
#[derive(Default)]
struct Written {
    log: Mutex<Vec<String>>,
    left_behind: Vec<String>,
    failing: Mutex<Option<String>>,
    /// Refused by an admission webhook, by host.
    refused: Mutex<BTreeSet<String>>,
    hanging: Mutex<BTreeSet<String>>,
    /// Types and paths that were written last, by host.
    paths: Mutex<BTreeMap<String, Vec<(String, String)>>>,
}

impl Written {
    fn note(&self, what: String) -> Result<(), String> {
        if let Some(error) = self.failing.lock().unwrap().clone() {
            return Err(error);
        }
        self.log.lock().unwrap().push(what);
        Ok(())
    }

    /// In an order that does not depend on names that are hashes.
    fn take(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut *self.log.lock().unwrap());
        log.sort();
        log
    }
}

#[async_trait]
impl RouteWriter for Written {
    async fn apply_service(&self, service: &Service) -> Result<(), String> {
        self.note(format!("service {}", service.metadata.name.as_deref().unwrap()))
    }
    async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<(), String> {
        self.note(format!("slice {}", slice.metadata.name.as_deref().unwrap()))
    }
    async fn apply_ingress(&self, ingress: &Ingress) -> Result<(), String> {
        let rules = ingress.spec.as_ref().unwrap().rules.as_ref().unwrap();
        let hosts: Vec<_> = rules.iter().map(|rule| rule.host.as_deref().unwrap_or("*")).collect();
        let host = hosts.join(",");
        if self.hanging.lock().unwrap().contains(&host) {
            std::future::pending::<()>().await;
        }
        if self.refused.lock().unwrap().contains(&host) {
            return Err(format!("admission webhook denied the request: {host} is taken"));
        }
        let paths = rules.iter().flat_map(|rule| &rule.http.as_ref().unwrap().paths);
        let paths = paths.map(|path| (path.path_type.clone(), path.path.clone().unwrap()));
        self.paths.lock().unwrap().insert(host.clone(), paths.collect());
        let annotations = ingress.metadata.annotations.clone().unwrap_or_default();
        let more: Vec<_> = annotations
            .keys()
            .filter(|key| key.starts_with("test/"))
            .cloned()
            .collect();
        self.note([vec![format!("ingress {host}")], more].concat().join(" "))
    }
    async fn delete_ingress(&self, name: &str) -> Result<(), String> {
        self.note(format!("delete {name}"))
    }
    async fn list_ingresses(&self) -> Result<Vec<String>, String> {
        Ok(self.left_behind.clone())
    }
}

struct Room {
    door: Arc<Http01Router>,
    writer: Arc<Written>,
    solver: Http01Solver,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Room {
    fn new(writer: Written) -> Self {
        let responder_service = ResponderService {
            namespace: "gatehouse-system".into(),
            responder: "10.0.0.1:8089".parse().unwrap(),
        };
        let grace = Duration::from_secs(2);
        let door = Arc::new(Http01Router::new(
            responder_service,
            Arc::default(),
            IngressPolicy::default(),
            grace,
        ));
        let writer = Arc::new(writer);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (door, writer, stop) = (door.clone(), writer.clone(), stop.clone());
            async move { door.run(writer.as_ref(), stop).await }
        });
        Self {
            solver: solver(&door, &json!({})),
            door,
            writer,
            stop,
            task,
        }
    }

    async fn readiness(&self, challenge: &Challenge) -> Result<Readiness, SolverError> {
        self.solver
            .check(challenge, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH)
            .await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// With a self-check that is switched off: it has tests of its own.
fn solver(door: &Arc<Http01Router>, annotations: &serde_json::Value) -> Http01Solver {
    let spec: Http01 = serde_json::from_value(json!({
        "ingress": {"ingressClassName": "nginx", "ingressTemplate": {"metadata": {"annotations": annotations}}},
        "selfCheck": {"timeout": "0s"},
    }))
    .unwrap();
    Http01Solver::new(&spec, door.clone(), Http::new(Reach::default()).unwrap())
}

/// The name of the Ingress of a host.
fn of(host: &str) -> String {
    RouteKey::new("nginx", &Identifier::Dns(host.into())).name()
}

fn challenge(host: &str, token: &str) -> Challenge {
    Challenge {
        kind: ChallengeKind::Http01,
        identifier: Identifier::Dns(host.into()),
        wildcard: false,
        token: token.into(),
        key_authorization: format!("{token}.t"),
        dns_value: String::new(),
    }
}

fn exact(token: &str) -> (String, String) {
    ("Exact".into(), format!("/.well-known/acme-challenge/{token}"))
}

/// Lets the task run without time passing for the test's purposes.
async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn every_host_has_an_ingress_of_its_own_that_goes_with_its_challenge() {
    let room = Room::new(Written::default());
    let challenges: Vec<_> = (0..50)
        .map(|n| challenge(&format!("h{n:02}.test"), &format!("t{n}")))
        .collect();
    for challenge in &challenges {
        room.solver.present(challenge).await.unwrap();
    }
    pass(100).await;
    let hosts = (0..50).map(|n| format!("ingress h{n:02}.test"));
    let front = ["service gatehouse-http01", "slice gatehouse-http01-ipv4"].map(str::to_owned);
    assert_eq!(room.writer.take(), hosts.chain(front).collect::<Vec<_>>());
    for _ in 0..2 {
        for challenge in &challenges[1..] {
            room.solver.clean_up(challenge).await.unwrap();
        }
        pass(100).await;
    }
    assert_eq!(room.writer.take().len(), 49);
    room.solver.clean_up(&challenges[0]).await.unwrap();
    pass(100).await;
    assert_eq!(room.writer.take(), [format!("delete {}", of("h00.test"))]);
    pass(10_000).await;
    assert_eq!(room.writer.take(), [] as [String; 0]);
    assert!(room.door.routes().is_empty());
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_refused_or_slow_holds_up_no_other() {
    let room = Room::new(Written {
        refused: Mutex::new(["bad.test".to_owned()].into()),
        hanging: Mutex::new(["slow.test".to_owned()].into()),
        ..Written::default()
    });
    let [bad, slow, good] = ["bad.test", "slow.test", "good.test"].map(|host| challenge(host, &host.replace('.', "-")));
    for challenge in [&bad, &slow, &good] {
        room.solver.present(challenge).await.unwrap();
    }
    pass(2100).await;
    assert_eq!(room.readiness(&good).await, Ok(Readiness::Ready));
    let late = challenge("late.test", "t-late");
    room.solver.present(&late).await.unwrap();
    pass(2100).await;
    assert_eq!(room.readiness(&late).await, Ok(Readiness::Ready));
    let error = room.readiness(&bad).await.unwrap_err();
    assert_eq!(error.reason(), "IngressWriteFailed");
    assert_eq!(
        error.to_string(),
        format!(
            "the Ingress {} for the HTTP-01 challenge of bad.test could not be written: admission webhook denied the \
             request: bad.test is taken",
            of("bad.test")
        )
    );
    pass(15_000).await;
    let error = room.readiness(&slow).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer within 15 s"), "{error}");
    // Both come through as soon as they can.
    room.writer.refused.lock().unwrap().clear();
    room.writer.hanging.lock().unwrap().clear();
    pass(33_000).await;
    for challenge in [&bad, &slow] {
        assert_eq!(room.readiness(challenge).await, Ok(Readiness::Ready));
    }
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_ingress_whose_write_seemed_to_fail_is_deleted_with_its_challenge() {
    let room = Room::new(Written {
        refused: Mutex::new(["a.test".to_owned()].into()),
        ..Written::default()
    });
    let one = challenge("a.test", "t1");
    room.solver.present(&one).await.unwrap();
    pass(100).await;
    room.writer.take();
    room.solver.clean_up(&one).await.unwrap();
    pass(2000).await;
    assert_eq!(room.writer.take(), [format!("delete {}", of("a.test"))]);
    assert!(room.door.routes().is_empty());
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_a_grace_after_the_write_was_acknowledged() {
    let room = Room::new(Written::default());
    let one = challenge("a.test", "t1");
    room.solver.present(&one).await.unwrap();
    let name = of("a.test");
    let writing = Readiness::Wait {
        after: Duration::from_millis(50),
        message: format!("the Ingress {name} is being written"),
    };
    assert_eq!(room.readiness(&one).await, Ok(writing));
    pass(1).await;
    let Ok(Readiness::Wait { after, message }) = room.readiness(&one).await else {
        panic!("ready too early")
    };
    assert!(
        after > Duration::from_millis(1990) && after <= Duration::from_secs(2),
        "{after:?}"
    );
    assert_eq!(
        message,
        format!("giving the ingress controller time to read the Ingress {name}")
    );
    pass(2000).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    // A second order for the host, with a wish of its own, does not make the first wait again.
    let other = solver(&room.door, &json!({"test/b": "1"}));
    other.present(&challenge("a.test", "t2")).await.unwrap();
    pass(200).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn issuers_that_prove_one_host_at_once_share_its_ingress() {
    let room = Room::new(Written::default());
    let [a, b] = [json!({"test/a": "1"}), json!({"test/b": "1"})].map(|wish| solver(&room.door, &wish));
    let (one, two) = (challenge("a.test", "t1"), challenge("a.test", "t2"));
    a.present(&one).await.unwrap();
    pass(100).await;
    b.present(&two).await.unwrap();
    pass(100).await;
    a.clean_up(&one).await.unwrap();
    pass(100).await;
    b.clean_up(&two).await.unwrap();
    pass(100).await;
    assert_eq!(
        room.writer.take(),
        [
            format!("delete {}", of("a.test")),
            "ingress a.test test/a".to_owned(),
            "ingress a.test test/a test/b".to_owned(),
            "ingress a.test test/b".to_owned(),
            "service gatehouse-http01".to_owned(),
            "slice gatehouse-http01-ipv4".to_owned(),
        ]
    );
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_written_is_said_and_tried_again() {
    let forbidden = "services is forbidden";
    let room = Room::new(Written {
        failing: Mutex::new(Some(forbidden.into())),
        ..Written::default()
    });
    let one = challenge("a.test", "t1");
    room.solver.present(&one).await.unwrap();
    pass(1).await;
    let error = room.readiness(&one).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().ends_with(forbidden)),
        ("IngressWriteFailed", true)
    );
    *room.writer.failing.lock().unwrap() = None;
    pass(4000).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    assert_eq!(room.writer.take().len(), 3);
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_leftovers_go_and_orders_in_flight_keep_their_routes() {
    let left_behind = vec![of("a.test"), of("gone.test"), "gatehouse-http01-traefik".to_owned()];
    let room = Room::new(Written {
        left_behind,
        ..Written::default()
    });
    pass(1000).await;
    assert_eq!(
        room.writer.take(),
        ["delete gatehouse-http01-traefik"],
        "of an earlier version"
    );
    let one = challenge("a.test", "t1");
    // The status says that it was presented already: only check is called.
    assert!(matches!(room.readiness(&one).await, Ok(Readiness::Wait { .. })));
    pass(3000).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    room.writer.take();
    pass(30_000).await;
    assert_eq!(room.writer.take(), [format!("delete {}", of("gone.test"))]);
    room.solver.clean_up(&one).await.unwrap();
    pass(100).await;
    assert_eq!(room.writer.take(), [format!("delete {}", of("a.test"))]);
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leftover_that_cannot_be_deleted_is_tried_again() {
    let room = Room::new(Written {
        left_behind: vec!["gatehouse-http01-nginx".to_owned()],
        failing: Mutex::new(Some("away".into())),
        ..Written::default()
    });
    pass(3000).await;
    *room.writer.failing.lock().unwrap() = None;
    pass(3000).await;
    assert_eq!(room.writer.take(), ["delete gatehouse-http01-nginx"]);
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_with_two_tokens_stays_until_both_are_gone() {
    let room = Room::new(Written::default());
    let (one, two) = (challenge("a.test", "t1"), challenge("a.test", "t2"));
    room.solver.present(&one).await.unwrap();
    room.solver.present(&two).await.unwrap();
    pass(300).await;
    room.writer.take();
    room.solver.clean_up(&one).await.unwrap();
    pass(300).await;
    assert_eq!(room.writer.take(), ["ingress a.test"]);
    assert_eq!(room.writer.paths.lock().unwrap()["a.test"], [exact("t2")]);
    room.solver.clean_up(&two).await.unwrap();
    pass(300).await;
    assert_eq!(room.writer.take(), [format!("delete {}", of("a.test"))]);
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_repeats_anothers_token_does_not_close_its_route() {
    let room = Room::new(Written::default());
    let theirs = challenge("a.test", "t1");
    let evil = Challenge {
        key_authorization: "t1.evil".into(),
        ..theirs.clone()
    };
    room.solver.present(&theirs).await.unwrap();
    room.solver.present(&evil).await.unwrap();
    pass(300).await;
    room.writer.take();
    room.solver.clean_up(&evil).await.unwrap();
    pass(300).await;
    assert_eq!(room.writer.take(), [] as [String; 0]);
    room.end().await;
}

#[tokio::test]
async fn a_wildcard_is_refused() {
    let room = Room::new(Written::default());
    let wildcard = Challenge {
        wildcard: true,
        ..challenge("a.test", "t")
    };
    let error = room.solver.present(&wildcard).await.unwrap_err();
    assert_eq!(error.to_string(), "http01: *.a.test is a wildcard, which needs dns01");
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_anothers_ingress_serves_loses_no_path_but_the_tokens_of_challenges() {
    let room = Room::new(Written::default());
    let (first, second) = (challenge("shop.test", "t1"), challenge("shop.test", "t2"));
    room.solver.present(&first).await.unwrap();
    pass(100).await;
    assert_eq!(room.writer.paths.lock().unwrap()["shop.test"], [exact("t1")]);
    // Another's token has a grace of its own: the controller has not read its path yet.
    pass(3000).await;
    assert_eq!(room.readiness(&first).await, Ok(Readiness::Ready));
    room.solver.present(&second).await.unwrap();
    pass(100).await;
    assert_eq!(room.readiness(&first).await, Ok(Readiness::Ready));
    assert!(matches!(room.readiness(&second).await, Ok(Readiness::Wait { .. })));
    assert_eq!(
        room.writer.paths.lock().unwrap()["shop.test"],
        [exact("t1"), exact("t2")]
    );
    pass(2000).await;
    assert_eq!(room.readiness(&second).await, Ok(Readiness::Ready));
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_would_open_more_than_itself_is_refused_and_harms_no_other() {
    let room = Room::new(Written::default());
    let theirs = challenge("a.test", "t1");
    room.solver.present(&theirs).await.unwrap();
    for token in ["", "..", "a/b", ".*", "a//b"] {
        let error = room.solver.present(&challenge("a.test", token)).await.unwrap_err();
        assert!(error.to_string().contains("not base64url"), "{error}");
    }
    pass(100).await;
    assert_eq!(room.writer.paths.lock().unwrap()["a.test"], [exact("t1")]);
    room.end().await;
}
