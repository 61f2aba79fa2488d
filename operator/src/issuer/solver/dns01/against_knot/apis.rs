//! Providers with an HTTP API, played by a server of our own; the DNS is Knot's.

use std::sync::Mutex;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{any, post},
};
use jiff::Timestamp;

use super::*;
use crate::issuer::solver::Readiness;

type Calls = Arc<Mutex<Vec<Value>>>;

/// An acme-dns that knows one account.
async fn acme_dns(State(calls): State<Calls>, headers: HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    if (header("x-api-user"), header("x-api-key")) != ("user".into(), "pass".into()) {
        return StatusCode::UNAUTHORIZED;
    }
    calls.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    StatusCode::OK
}

async fn serve(router: Router<Calls>) -> (SocketAddr, Calls) {
    let calls = Calls::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router.with_state(calls.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, calls)
}

struct One(&'static str, String);

#[async_trait]
impl SecretReader for One {
    async fn read(&self, _: &str) -> Result<SecretData, SecretReadError> {
        Ok([(self.0.to_owned(), Zeroizing::new(self.1.clone().into_bytes()))].into())
    }
}

async fn acme_dns_solver(system: SocketAddr, api: SocketAddr, accounts: &str) -> Result<Arc<dyn Solver>, SolverError> {
    let spec = json!({"dns01": {"acmeDNS": {
        "host": format!("http://{api}/"), "accountSecretRef": {"name": "s", "key": "accounts"}
    }}});
    let secrets = One("accounts", accounts.to_owned());
    solver_factory(Some(system))
        .build(&Author::Administrator, &serde_json::from_value(spec).unwrap(), &secrets)
        .await
}

fn account(password: &str) -> String {
    json!({
        "test": {"username": "x", "password": "x", "fulldomain": "x.auth.test", "subdomain": "x"},
        "A.test": {"username": "user", "password": password, "fulldomain": "abc.auth.test", "subdomain": "abc", "allowfrom": []}
    })
    .to_string()
}

#[tokio::test]
async fn acme_dns_gets_the_value_of_the_account_that_the_cname_points_to() {
    let knot = Knot::start(&[
        ("a.test", "_acme-challenge CNAME abc.auth.test."),
        ("auth.test", "abc TXT v"),
    ])
    .await;
    // Its name server is found at port 53 of loopback, where nothing listens: Knot is asked by name.
    let (api, calls) = serve(Router::new().route("/update", post(acme_dns))).await;
    let solver = acme_dns_solver(knot.address, api, &account("pass")).await.unwrap();
    let one = challenge("a.test", "v");
    solver.present(&one).await.unwrap();
    assert_eq!(*calls.lock().unwrap(), [json!({"subdomain": "abc", "txt": "v"})]);
    solver.clean_up(&one).await.unwrap();
    let waiting = solver.check(&one, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).await;
    assert!(matches!(waiting, Ok(Readiness::Wait { message, .. }) if message.contains("ns.auth.test does not answer")));

    let error = solver.present(&challenge("www.a.test", "v")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no DNS zone found for _acme-challenge.www.a.test: it is not a CNAME to the acme-dns account's name: add \
         _acme-challenge.www.a.test. CNAME abc.auth.test."
    );
}

#[tokio::test]
async fn acme_dns_errors_name_the_account_and_hold_no_password() {
    let knot = Knot::start(&[("a.test", "_acme-challenge CNAME abc.auth.test."), ("auth.test", "")]).await;
    let (api, calls) = serve(Router::new().route("/update", post(acme_dns))).await;
    let solver = acme_dns_solver(knot.address, api, &account("wrong-pw")).await.unwrap();
    let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        (
            "DnsRefused",
            "127.0.0.1 refused: it does not take the account in the Secret s, key accounts (HTTP 401)".into()
        )
    );
    assert_eq!(calls.lock().unwrap().len(), 0);
    for (accounts, part) in [
        ("{\"a.test\": 7}", "is not a JSON object"),
        ("[]", "is not a JSON object"),
    ] {
        let error = acme_dns_solver(knot.address, api, accounts).await.err().unwrap();
        assert_eq!(error.reason(), "SecretMalformed");
        assert!(error.to_string().contains(part), "{error}");
    }
    let solver = acme_dns_solver(knot.address, api, "{}").await.unwrap();
    let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
    assert!(error.to_string().contains("has no account for a.test"), "{error}");
    let down = {
        tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let solver = acme_dns_solver(knot.address, down, &account("pass")).await.unwrap();
    assert_eq!(
        solver.present(&challenge("a.test", "v")).await.unwrap_err().reason(),
        "DnsUnreachable"
    );
}

/// A `PowerDNS` that holds one record set.
async fn power_dns(
    State(calls): State<Calls>,
    method: http::Method,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    if headers.get("x-api-key").unwrap() != "right-key" {
        return (StatusCode::UNAUTHORIZED, "right-key".into());
    }
    if method == http::Method::PATCH {
        calls.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        return (StatusCode::NO_CONTENT, String::new());
    }
    let there = json!({"rrsets": [{"name": "_acme-challenge.a.test.", "type": "TXT", "ttl": 60,
        "records": [{"content": "\"other\"", "disabled": false}]}]});
    (StatusCode::OK, there.to_string())
}

async fn power_dns_solver(knot: &Knot, api: SocketAddr, key: &str) -> Result<Arc<dyn Solver>, SolverError> {
    let spec = json!({"dns01": {
        "provider": {"type": "pdns", "config": {"endpoint": format!("http://{api}")}, "credentialsSecretRef": {"name": "s"}},
        "propagation": {"nameservers": [knot.address.to_string()]}
    }});
    let secrets = One("apiKey", key.to_owned());
    solver_factory(None)
        .build(&Author::Administrator, &serde_json::from_value(spec).unwrap(), &secrets)
        .await
}

#[tokio::test]
async fn a_provider_of_the_library_keeps_the_values_that_are_there() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let (api, calls) = serve(Router::new().fallback(any(power_dns))).await;
    let solver = power_dns_solver(&knot, api, "right-key").await.unwrap();
    solver.present(&challenge("a.test", "v")).await.unwrap();
    let call = calls.lock().unwrap()[0].clone();
    let contents: Vec<_> = call["rrsets"][0]["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["content"].clone())
        .collect();
    assert_eq!(
        (&call["rrsets"][0]["name"], contents),
        (
            &json!("_acme-challenge.a.test."),
            vec![json!("\"other\""), json!("\"v\"")]
        )
    );

    let solver = power_dns_solver(&knot, api, "wrong-key").await.unwrap();
    let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        ("DnsRefused", "pdns refused: it does not accept the credentials".into())
    );
}

/// An API with an excessively large answer.
async fn flood() -> axum::body::Body {
    let part = bytes::Bytes::from(vec![b' '; 64 * 1024]);
    axum::body::Body::from_stream(futures::stream::repeat_with(move || {
        Ok::<_, std::io::Error>(part.clone())
    }))
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let (api, _) = serve(Router::new().fallback(any(flood))).await;
    let solver = power_dns_solver(&knot, api, "right-key").await.unwrap();
    let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        (
            "DnsFailed",
            "127.0.0.1 failed: its answer is larger than 2048 KiB".to_owned()
        )
    );
}

/// An API that leads elsewhere.
async fn redirect() -> impl axum::response::IntoResponse {
    (
        StatusCode::TEMPORARY_REDIRECT,
        [("location", "http://169.254.169.254/latest/meta-data/")],
    )
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_nothing_of_where_it_leads() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let (api, _) = serve(Router::new().fallback(any(redirect))).await;
    let solver = power_dns_solver(&knot, api, "right-key").await.unwrap();
    let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        ("DnsFailed", "pdns failed: HTTP 307".into())
    );
}

#[tokio::test]
async fn the_library_connects_nowhere_that_is_refused_whatever_the_name_was_at_first() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let strict = |endpoint: &str| {
        let spec = json!({"dns01": {
            "provider": {"type": "pdns", "config": {"endpoint": endpoint}, "credentialsSecretRef": {"name": "s"}},
        }});
        (
            serde_json::from_value(spec).unwrap(),
            One("apiKey", "right-key".to_owned()),
        )
    };
    let responder_service = ResponderService {
        namespace: "n".into(),
        responder: "10.0.0.1:1".parse().unwrap(),
    };
    let door = Http01Router::new(
        responder_service,
        Arc::default(),
        IngressPolicy::default(),
        Duration::ZERO,
    );
    let shop = SolverFactory::new(Reach::default(), SystemServers::new([knot.address]), Arc::new(door));
    // By address, and by a name that the resolver gives the address of at the moment of connecting.
    for endpoint in [
        "http://127.0.0.1:1",
        "http://169.254.169.254",
        "http://localhost:1",
        "http://[::ffff:7f00:1]:1",
    ] {
        let (spec, secrets) = strict(endpoint);
        let solver = shop.build(&Author::Tenant("t".into()), &spec, &secrets).await.unwrap();
        let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
        assert_eq!(error.reason(), "AddressRefused", "{endpoint}: {error}");
    }
    for endpoint in [
        "http://user:pw@a.test",
        "http://a.test/?x=",
        "http://a.test/#",
        "http://a.test/../x",
        "gopher://a.test",
    ] {
        let (spec, secrets) = strict(endpoint);
        let error = shop
            .build(&Author::Tenant("t".into()), &spec, &secrets)
            .await
            .err()
            .unwrap();
        assert_eq!(error.reason(), "InvalidSolver", "{endpoint}: {error}");
    }
}

/// An API that takes its time for one account.
async fn slow_for_one(headers: HeaderMap) -> (StatusCode, String) {
    if headers.get("x-api-key").unwrap() == "slow-key" {
        std::future::pending::<()>().await;
    }
    (StatusCode::OK, json!({"rrsets": []}).to_string())
}

#[tokio::test]
async fn a_slow_account_holds_up_no_other_at_the_same_name() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let (api, _) = serve(Router::new().fallback(any(slow_for_one))).await;
    let shop = solver_factory(None);
    let one = challenge("a.test", "v");
    let solver = async |key: &str| {
        let spec = json!({"dns01": {
            "provider": {"type": "pdns", "config": {"endpoint": format!("http://{api}")}, "credentialsSecretRef": {"name": "s"}},
            "propagation": {"nameservers": [knot.address.to_string()]}
        }});
        let secrets = One("apiKey", key.to_owned());
        let spec = serde_json::from_value(spec).unwrap();
        shop.build(&Author::Tenant(key.to_owned()), &spec, &secrets)
            .await
            .unwrap()
    };
    let (slow, quick) = (solver("slow-key").await, solver("quick-key").await);
    let hanging = tokio::spawn({
        let one = one.clone();
        async move { slow.present(&one).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let presented = tokio::time::timeout(Duration::from_secs(5), quick.present(&one)).await;
    assert_eq!(presented, Ok(Ok(())));
    hanging.abort();
}
