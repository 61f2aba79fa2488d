#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::fake_ca::{FakeCa, Fault, problem, server_error};
use crate::*;

pub(super) fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

pub(super) fn for_names(names: &[&str]) -> NewOrder {
    NewOrder {
        identifiers: names.iter().map(|n| Identifier::Dns((*n).to_owned())).collect(),
        profile: None,
        replaces: None,
        not_after: None,
    }
}

/// Resumes an order as after a restart.
pub(super) async fn resume(account: &Account, url: &str, names: &[&str]) -> Result<OrderSession, AcmeError> {
    OrderSession::resume(account, url, &for_names(names).identifiers).await
}

/// Carries an order on as the controller does, until it ends; without the waits between the polls.
pub(super) async fn drive(order: &mut OrderSession) -> Result<Vec<String>, String> {
    for _ in 0..100 {
        let pending: Vec<String> = match next_step(order.view(), now()) {
            Step::Fetch | Step::Poll => {
                order.refresh().await.unwrap();
                continue;
            }
            Step::Finalize => {
                order.finalize(b"csr").await.unwrap();
                continue;
            }
            Step::Collect => return Ok(order.certificate(false).await.unwrap().all),
            Step::Failed(failure) => return Err(format!("{} {failure}", failure.reason())),
            Step::Present(all) => all.iter().map(|a| a.challenges[0].url.clone()).collect(),
        };
        for url in pending {
            order.challenge_ready(&url).await.unwrap();
        }
    }
    panic!("the order never ends: {:?}", order.view());
}

#[tokio::test]
async fn a_certificate_for_one_name_takes_seven_requests() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    for _ in 0..3 {
        let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
        let chains = drive(&mut order).await.unwrap();
        let expected = "-----BEGIN CERTIFICATE-----\nbGVhZg==\n-----END CERTIFICATE-----\n";
        assert_eq!(chains, [expected]);
        let expected = [
            "newOrder",
            "authz",
            "challenge",
            "authz",
            "finalize",
            "order",
            "certificate",
        ];
        assert_eq!(ca.asked(), expected);
    }
}

#[tokio::test]
async fn an_account_that_is_known_costs_nothing_until_it_orders() {
    let ca = FakeCa::start().await;
    let key = Arc::new(AccountKey::generate().unwrap().0);
    let stranger = Account::known(ca.client(), key, ca.url("/account/77"));
    assert_eq!(ca.asked(), Vec::<&str>::new());
    let error = OrderSession::begin(&stranger, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    assert!(matches!(error, AcmeError::AccountDoesNotExist { .. }), "{error}");
    assert_eq!(ca.asked(), ["directory", "newNonce", "newOrder"]);
}

#[tokio::test]
async fn thirty_names_are_read_in_two_steps_and_polled_with_one_request() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let names: Vec<String> = (0..30).map(|i| format!("n{i}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut order = OrderSession::begin(&account, &for_names(&names)).await.unwrap();
    order.refresh().await.unwrap();
    assert_eq!((order.view().authorizations.len(), order.view().unread.len()), (20, 10));
    assert_eq!(next_step(order.view(), now()), Step::Fetch);
    drive(&mut order).await.unwrap();
    let asked = ca.asked();
    let count = |endpoint: &str| asked.iter().filter(|asked| **asked == endpoint).count();
    assert_eq!(count("authz"), 30);
    assert_eq!(count("challenge"), 30);
    assert_eq!(count("order"), 2);
}

#[tokio::test]
async fn the_view_has_what_a_solver_needs() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut wanted = for_names(&["*.a.test"]);
    wanted.identifiers.push(Identifier::Ip("2001:db8::1".parse().unwrap()));
    let mut order = OrderSession::begin(&account, &wanted).await.unwrap();
    let identifiers = json!([{"type": "dns", "value": "*.a.test"}, {"type": "ip", "value": "2001:db8::1"}]);
    assert_eq!(ca.payload(Endpoint::NewOrder), json!({"identifiers": identifiers}));
    order.refresh().await.unwrap();
    let view = order.view();
    assert_eq!(view.expires.unwrap().to_string(), "2999-01-01T00:00:00Z");
    let [name, address] = view.authorizations.as_slice() else {
        panic!("two authorizations: {view:?}");
    };
    assert_eq!(
        (name.name(), name.identifier.to_string()),
        ("*.a.test".to_owned(), "a.test".to_owned())
    );
    assert_eq!(address.identifier, wanted.identifiers[1]);
    let kinds: Vec<_> = name.challenges.iter().map(|c| c.kind.clone()).collect();
    let other = ChallengeKind::Other("dns-persist-01".to_owned());
    assert_eq!(kinds, [ChallengeKind::Http01, ChallengeKind::Dns01, other]);
    let challenge = &name.challenges[0];
    assert_eq!(
        challenge.key_authorization,
        format!("{}.{}", challenge.token, account.key().thumbprint())
    );
    assert_eq!(challenge.dns_txt_value.len(), 43);
}

#[tokio::test]
async fn an_order_that_turns_invalid_tells_which_name_failed_and_why() {
    for names in [&["a.test"][..], &["a.test", "b.test"]] {
        let ca = FakeCa::start().await;
        ca.script().fail_validation = true;
        let account = ca.account().await;
        let mut order = OrderSession::begin(&account, &for_names(names)).await.unwrap();
        let failure = drive(&mut order).await.unwrap_err();
        let expected: Vec<_> = names.iter().map(|n| format!("{n}: connection: refused")).collect();
        assert_eq!(failure, format!("ChallengeFailed {}", expected.join("; ")));
        assert!(!ca.asked().contains(&"finalize"));
        let resumed = resume(&account, &order.view().url, names).await.unwrap();
        let Step::Failed(again) = next_step(resumed.view(), now()) else {
            panic!("a restart sees the same: {:?}", resumed.view());
        };
        assert_eq!(format!("ChallengeFailed {again}"), failure);
    }
}

#[tokio::test]
async fn an_authorization_that_lapsed_ends_the_order() {
    for status in ["expired", "deactivated", "revoked"] {
        let ca = FakeCa::start().await;
        let account = ca.account().await;
        let mut order = OrderSession::begin(&account, &for_names(&["a.test", "b.test"]))
            .await
            .unwrap();
        ca.script().authorizations[1]["status"] = json!(status);
        order.refresh().await.unwrap();
        let Step::Failed(failure) = next_step(order.view(), now()) else {
            panic!("{status}: {:?}", order.view());
        };
        assert_eq!(failure.reason(), "OrderGone");
        let was = if status == "expired" { "" } else { "was " };
        assert_eq!(failure.to_string(), format!("b.test: the authorization {was}{status}"));
    }
}

#[tokio::test]
async fn slow_validation_is_polled_and_the_polls_are_counted() {
    let ca = FakeCa::start().await;
    ca.script().slow_validation = 4;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    let url = order.view().authorizations[0].challenges[0].url.clone();
    order.challenge_ready(&url).await.unwrap();
    for polls in 1..=4 {
        order.refresh().await.unwrap();
        assert_eq!(next_step(order.view(), now()), Step::Poll);
        assert_eq!(order.view().polls, polls);
        assert_eq!(order.view().retry_after, Some(Duration::from_secs(3)));
    }
    order.refresh().await.unwrap();
    assert_eq!(next_step(order.view(), now()), Step::Finalize);
}

#[tokio::test]
async fn an_order_is_resumed_at_every_step_and_none_is_placed_anew() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let url = {
        let order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
        order.view().url.clone()
    };
    let mut session = resume(&account, &url, &["a.test"]).await.unwrap();
    session.refresh().await.unwrap();
    let challenge = session.view().authorizations[0].challenges[0].url.clone();
    session.challenge_ready(&challenge).await.unwrap();
    // The CA validated while we were away, and refuses a second submission.
    let mut late = resume(&account, &url, &["a.test"]).await.unwrap();
    assert_eq!(late.view().status, OrderStatus::Ready);
    session.refresh().await.unwrap();
    session.challenge_ready(&challenge).await.unwrap();
    assert_eq!(next_step(session.view(), now()), Step::Finalize);
    late.finalize(b"csr").await.unwrap();
    // The other one does not know that the order was finalized, as after a crash.
    session.finalize(b"csr").await.unwrap();
    assert_eq!(next_step(session.view(), now()), Step::Collect);
    let mut session = resume(&account, &url, &["a.test"]).await.unwrap();
    assert_eq!(next_step(session.view(), now()), Step::Collect);
    assert_eq!(session.certificate(false).await.unwrap().all.len(), 1);
    assert_eq!(ca.asked().iter().filter(|asked| **asked == "newOrder").count(), 1);
}

#[tokio::test]
async fn an_order_that_is_gone_or_somebody_elses_is_gone() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    for fault in [
        problem(404, "malformed"),
        problem(410, "malformed"),
        problem(403, "unauthorized"),
    ] {
        ca.fail(Endpoint::Order, fault);
        let error = resume(&account, &order.view().url, &["a.test"]).await.unwrap_err();
        assert_eq!(error.reason(), "OrderGone", "{error}");
    }
}

#[tokio::test]
async fn a_refused_replacement_is_ordered_without_it() {
    for fault in [
        problem(409, "alreadyReplaced"),
        problem(404, "malformed"),
        problem(403, "unauthorized"),
        server_error("could not find an order for the given certificate"),
        server_error("at least one identifier in the new order and existing order must match"),
    ] {
        let ca = FakeCa::start().await;
        let account = ca.account().await;
        ca.fail(Endpoint::NewOrder, fault);
        let mut wanted = for_names(&["a.test"]);
        wanted.replaces = Some("aki.serial".to_owned());
        let order = OrderSession::begin(&account, &wanted).await.unwrap();
        assert_eq!(order.view().replaces, None);
        assert_eq!(ca.asked(), ["newOrder", "newOrder"]);
        assert!(ca.payload(Endpoint::NewOrder).get("replaces").is_none());
        let order = OrderSession::begin(&account, &wanted).await.unwrap();
        assert_eq!(order.view().replaces.as_deref(), Some("aki.serial"));
    }
}

/// The payloads of the orders that are placed when the CA gives these refusals, in short: `n` for notAfter, `r` for replaces.
async fn placed(faults: Vec<Fault>) -> (String, OrderView) {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut wanted = for_names(&["a.test"]);
    wanted.not_after = Some("2027-11-21T10:00:00Z".parse().unwrap());
    wanted.replaces = Some("aki.serial".to_owned());
    let count = faults.len();
    for fault in faults {
        ca.fail(Endpoint::NewOrder, fault);
    }
    let order = OrderSession::begin(&account, &wanted).await.unwrap();
    assert_eq!(ca.asked().len(), count + 1);
    let payload = ca.payload(Endpoint::NewOrder);
    let not_after = payload.get("notAfter").map(|end| {
        assert_eq!(end, "2027-11-21T10:00:00Z");
        "n"
    });
    let replaces = payload.get("replaces").map(|_| "r");
    (
        format!("{}{}", not_after.unwrap_or_default(), replaces.unwrap_or_default()),
        order.view().clone(),
    )
}

#[tokio::test]
async fn a_refused_not_after_is_ordered_without_it_and_the_refusal_is_kept() {
    let malformed = || problem(400, "malformed");
    for (faults, sent, refused) in [
        (vec![], "nr", false),
        (vec![malformed()], "r", true),
        (vec![problem(409, "alreadyReplaced")], "n", false),
        (vec![malformed(), problem(409, "alreadyReplaced")], "n", false),
        (
            vec![malformed(), problem(409, "alreadyReplaced"), malformed()],
            "",
            true,
        ),
    ] {
        let (placed, view) = placed(faults).await;
        assert_eq!((placed.as_str(), view.not_after_refused.is_some()), (sent, refused));
    }
    // A refusal that is about something else is reported at once.
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut wanted = for_names(&["a.test"]);
    wanted.not_after = Some("2027-11-21T10:00:00Z".parse().unwrap());
    ca.fail(Endpoint::NewOrder, problem(400, "rejectedIdentifier"));
    assert_eq!(
        OrderSession::begin(&account, &wanted).await.unwrap_err().reason(),
        "Rejected"
    );
    assert_eq!(ca.asked(), ["newOrder"]);
}

#[tokio::test]
async fn other_refusals_of_a_replacement_are_told_at_once() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut wanted = for_names(&["a.test"]);
    wanted.replaces = Some("aki.serial".to_owned());
    for (fault, reason) in [
        (problem(400, "rejectedIdentifier"), "Rejected"),
        (problem(429, "rateLimited"), "RateLimited"),
        (problem(500, "serverInternal"), "Network"),
    ] {
        ca.fail(Endpoint::NewOrder, fault);
        let error = OrderSession::begin(&account, &wanted).await.unwrap_err();
        assert_eq!(error.reason(), reason);
        assert_eq!(ca.asked(), ["newOrder"]);
    }
}

#[tokio::test]
async fn a_profile_is_sent_when_offered_and_refused_when_not() {
    let ca = FakeCa::start().await;
    ca.script().meta = json!({"profiles": {"classic": "90 days", "shortlived": "6 days"}});
    let account = ca.account().await;
    let mut wanted = for_names(&["a.test"]);
    wanted.profile = Some("shortlived".to_owned());
    OrderSession::begin(&account, &wanted).await.unwrap();
    assert_eq!(ca.payload(Endpoint::NewOrder)["profile"], "shortlived");
    ca.asked();
    wanted.profile = Some("eternal".to_owned());
    let error = OrderSession::begin(&account, &wanted).await.unwrap_err();
    assert!(error.is_permanent_for_spec());
    assert_eq!(
        error.to_string(),
        "the CA refuses: invalidProfile: the CA does not offer profile eternal: it has classic, shortlived"
    );
    assert_eq!(ca.asked(), Vec::<&str>::new());
}

#[tokio::test]
async fn alternate_chains_are_fetched_only_when_asked_for() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    drive(&mut order).await.unwrap();
    assert_eq!(ca.asked().iter().filter(|asked| **asked == "certificate").count(), 1);
    assert_eq!(order.certificate(true).await.unwrap().all.len(), 2);
    assert_eq!(ca.asked(), ["certificate", "certificate"]);
}

#[tokio::test]
async fn a_chain_with_anything_but_certificates_is_refused() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    drive(&mut order).await.unwrap();
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", b"injected".to_vec()));
    let good = ca.script().chain.clone();
    for bad in [String::new(), "<html>".to_owned(), format!("{good}{key}")] {
        ca.script().chain = bad;
        let error = order.certificate(false).await.unwrap_err();
        assert!(matches!(error, AcmeError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn renewal_information_is_read_with_and_without_retry_after() {
    let ca = FakeCa::start().await;
    let client = ca.account().await;
    let info = client.renewal_info("aki.serial").await.unwrap().unwrap();
    assert_eq!(info.check_after, Duration::from_hours(6));
    assert_eq!(info.window.start.to_string(), "2026-01-01T00:00:00Z");
    let window =
        json!({"suggestedWindow": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}}).to_string();
    for (header, seconds) in [("5", 60), ("7200", 7200), ("9999999", 86_400)] {
        let fault = Fault::Answer(200, vec![("retry-after", header)], window.clone());
        ca.fail(Endpoint::RenewalInfo, fault);
        let info = client.renewal_info("aki.serial").await.unwrap().unwrap();
        assert_eq!(info.check_after, Duration::from_secs(seconds));
    }
    ca.fail(Endpoint::RenewalInfo, Fault::Answer(200, vec![], "junk".to_owned()));
    let error = client.renewal_info("aki.serial").await.unwrap_err();
    assert!(matches!(error, AcmeError::Malformed { .. }), "{error}");
    let without = FakeCa::start().await;
    without.script().no_ari = true;
    assert_eq!(without.account().await.renewal_info("aki.serial").await.unwrap(), None);
}

#[tokio::test]
async fn a_ca_whose_order_lags_behind_its_authorizations_is_waited_for() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    let pending =
        json!({"status": "pending", "finalize": ca.url("/finalize/0"), "authorizations": [ca.url("/authz/0")]});
    ca.fail(Endpoint::Finalize, problem(403, "orderNotReady"));
    for _ in 0..3 {
        ca.fail(Endpoint::Order, Fault::Answer(200, vec![], pending.to_string()));
    }
    drive(&mut order).await.unwrap();
    let asked = ca.asked();
    let (_, after) = asked.split_at(asked.iter().position(|a| *a == "finalize").unwrap());
    assert_eq!(
        after,
        [
            "finalize",
            "order",
            "authz",
            "order",
            "order",
            "order",
            "finalize",
            "order",
            "certificate"
        ]
    );
}

#[tokio::test]
async fn a_ca_that_calls_a_ready_order_not_ready_is_left_alone_for_a_while() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    let url = order.view().authorizations[0].challenges[0].url.clone();
    order.challenge_ready(&url).await.unwrap();
    order.refresh().await.unwrap();
    ca.fail(Endpoint::Finalize, problem(403, "orderNotReady"));
    let error = order.finalize(b"csr").await.unwrap_err();
    assert!(matches!(error, AcmeError::OrderNotReady { .. }), "{error}");
    drive(&mut order).await.unwrap();
}
