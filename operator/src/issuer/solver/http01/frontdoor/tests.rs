#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::solver::Http01Ingress;
use jiff::Timestamp;

use super::{
    super::{
        super::{ChallengeKind, Solver},
        Http01Solver,
    },
    *,
};

/// Writes down what it is asked, and fails when told to.
#[derive(Default)]
struct Written {
    log: Mutex<Vec<String>>,
    left_behind: Vec<String>,
    failing: Mutex<Option<String>>,
}

impl Written {
    fn note(&self, what: String) -> Result<(), String> {
        if let Some(error) = self.failing.lock().unwrap().clone() {
            return Err(error);
        }
        self.log.lock().unwrap().push(what);
        Ok(())
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
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
        self.note(format!(
            "ingress {} {}",
            ingress.metadata.name.as_deref().unwrap(),
            hosts.join(",")
        ))
    }
    async fn delete_ingress(&self, name: &str) -> Result<(), String> {
        self.note(format!("delete {name}"))
    }
    async fn list_ingresses(&self) -> Result<Vec<String>, String> {
        Ok(self.left_behind.clone())
    }
}

struct Room {
    door: Arc<Frontdoor>,
    writer: Arc<Written>,
    solver: Http01Solver,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Room {
    fn new(writer: Written) -> Self {
        let site = Site {
            namespace: "gatehouse-system".into(),
            responder: "10.0.0.1:8089".parse().unwrap(),
        };
        let door = Arc::new(Frontdoor::new(site, Arc::default(), Duration::from_secs(2)));
        let writer = Arc::new(writer);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (door, writer, stop) = (door.clone(), writer.clone(), stop.clone());
            async move { door.run(writer.as_ref(), stop).await }
        });
        let spec = Http01Ingress {
            ingress_class_name: "nginx".into(),
            ingress_template: None,
        };
        Self {
            solver: Http01Solver::new(&spec, door.clone()),
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

/// Lets the task run without time passing for the test's purposes.
async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn many_hosts_make_one_write_and_the_ingress_goes_with_the_last() {
    let room = Room::new(Written::default());
    pass(200).await;
    let challenges: Vec<_> = (0..50)
        .map(|n| challenge(&format!("h{n:02}.test"), &format!("t{n}")))
        .collect();
    for challenge in &challenges {
        room.solver.present(challenge).await.unwrap();
    }
    pass(1).await;
    let all: Vec<_> = (0..50).map(|n| format!("h{n:02}.test")).collect();
    assert_eq!(
        room.writer.take(),
        [
            "service gatehouse-http01".to_owned(),
            "slice gatehouse-http01-ipv4".to_owned(),
            format!("ingress gatehouse-http01-nginx {}", all.join(","))
        ]
    );
    for challenge in &challenges[1..] {
        room.solver.clean_up(challenge).await.unwrap();
    }
    pass(200).await;
    assert_eq!(room.writer.take(), ["ingress gatehouse-http01-nginx h00.test"]);
    room.solver.clean_up(&challenges[0]).await.unwrap();
    room.solver.clean_up(&challenges[0]).await.unwrap();
    pass(200).await;
    assert_eq!(room.writer.take(), ["delete gatehouse-http01-nginx"]);
    pass(10_000).await;
    assert_eq!(room.writer.take(), [] as [String; 0]);
    assert!(room.door.routes().values().all(|route| route.wanted.is_empty()));
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_a_grace_after_the_write_was_acknowledged() {
    let room = Room::new(Written::default());
    pass(200).await;
    let one = challenge("a.test", "t1");
    room.solver.present(&one).await.unwrap();
    let writing = Readiness::Wait {
        after: Duration::from_millis(50),
        message: "the Ingress gatehouse-http01-nginx is being written".into(),
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
        "giving the ingress controller time to read the Ingress gatehouse-http01-nginx"
    );
    pass(2000).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    // Another host does not make the first wait again.
    room.solver.present(&challenge("b.test", "t2")).await.unwrap();
    pass(200).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_told_and_tried_again() {
    let forbidden = "ingresses is forbidden";
    let room = Room::new(Written {
        failing: Mutex::new(Some(forbidden.into())),
        ..Written::default()
    });
    pass(200).await;
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
async fn after_a_restart_leftovers_go_and_orders_in_flight_open_their_routes_again() {
    let left_behind = vec![
        "gatehouse-http01-nginx".to_owned(),
        "gatehouse-http01-traefik".to_owned(),
    ];
    let room = Room::new(Written {
        left_behind,
        ..Written::default()
    });
    let one = challenge("a.test", "t1");
    // The status says that it was presented already: only check is called.
    assert!(matches!(room.readiness(&one).await, Ok(Readiness::Wait { .. })));
    pass(3000).await;
    assert_eq!(room.readiness(&one).await, Ok(Readiness::Ready));
    assert_eq!(
        room.writer.take(),
        [
            "delete gatehouse-http01-traefik",
            "service gatehouse-http01",
            "slice gatehouse-http01-ipv4",
            "ingress gatehouse-http01-nginx a.test"
        ]
    );
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
    assert_eq!(room.writer.take(), [] as [String; 0]);
    room.solver.clean_up(&two).await.unwrap();
    pass(300).await;
    assert_eq!(room.writer.take(), ["delete gatehouse-http01-nginx"]);
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
