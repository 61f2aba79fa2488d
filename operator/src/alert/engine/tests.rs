#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod leaving;
mod test_engine;

use serde_json::json;
use tokio::time::Duration;

use self::test_engine::{Running, TestEngine, down, policy, seconds};
use super::*;
use crate::alert::{durable, message::Content, queue::Outcome};

fn key(name: &str) -> PolicyKey {
    PolicyKey::parse(&format!("app/{name}"))
}

/// All AlertPolicies.
fn all() -> Scope {
    Scope::Namespaced(None)
}

#[tokio::test(start_paused = true)]
async fn an_alert_leaves_within_a_second_and_what_fires_is_in_the_status() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 0, 1), policy("p", "u", 1, &json!({}))])
        .await;
    assert_eq!(
        (engine_under_test.sent(), engine_under_test.status("p").firing_count),
        (vec![], Some(0))
    );
    // It runs out in an hour: the engine has slept until then.
    seconds(3_597).await;
    assert_eq!(engine_under_test.sent(), Vec::<String>::new());
    seconds(3).await;
    assert_eq!(engine_under_test.sent(), ["3600 ops firing expired web"]);
    let status = engine_under_test.status("p");
    assert_eq!(
        (status.firing_count, status.firing[0].certificate.as_deref().unwrap()),
        (Some(1), "app/web")
    );
    seconds(2).await;
    assert!(engine_under_test.status("p").receivers[0].last_success.is_some());
    engine.hears([engine_under_test.put("web", 0, 90)]).await;
    assert_eq!(
        engine_under_test.sent().last().unwrap(),
        "3603 ops resolved expired web"
    );
    seconds(5).await;
    assert_eq!(engine_under_test.status("p").firing, []);
    // Nothing is left to remember.
    assert!(engine_under_test.saved.lock().unwrap().is_empty());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_public_internal_gateway_fires_until_it_is_fixed_or_deleted() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    let news = [
        engine_under_test.put("web", 0, 90),
        engine_under_test.put_gateway("web", "False", "ExposureMismatch"),
        policy("p", "u", 1, &json!({"rules": {"exposureMismatch": {}, "expired": {}}})),
    ];
    engine.hears(news).await;
    assert_eq!(engine_under_test.sent(), ["0 ops firing exposureMismatch web"]);
    let firing = engine_under_test.status("p").firing;
    assert_eq!(
        (firing[0].certificate.as_deref(), firing[0].gateway.as_deref()),
        (None, Some("app/web"))
    );
    engine.hears([engine_under_test.delete("web")]).await;
    assert_eq!(engine_under_test.sent().len(), 1, "nothing about the Certificate");
    engine
        .hears([engine_under_test.put_gateway("web", "True", "Internal")])
        .await;
    assert_eq!(
        engine_under_test.sent().last().unwrap(),
        "2 ops resolved exposureMismatch web"
    );
    engine
        .hears([engine_under_test.put_gateway("web", "False", "ExposureMismatch")])
        .await;
    engine_under_test.gateways.lock().unwrap().clear();
    engine
        .hears([Trigger::Changed((AlertKind::Gateway, "app".into(), "web".into()))])
        .await;
    assert_eq!(engine_under_test.sent().len(), 4);
    assert!(
        engine_under_test
            .sent()
            .last()
            .unwrap()
            .ends_with("ops resolved exposureMismatch web")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_tells_nothing_twice_and_ends_what_went_meanwhile() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    engine
        .hears([
            engine_under_test.put("web", 1, 50),
            engine_under_test.put("api", 1, 50),
            policy("p", "u", 1, &json!({})),
        ])
        .await;
    assert_eq!(engine_under_test.sent().len(), 2);
    engine.ends().await;
    let _ = engine_under_test.delete("web");
    let engine = Running::over(&engine_under_test);
    engine
        .hears([policy("p", "u", 1, &json!({})), Trigger::Policies(all(), Vec::new())])
        .await;
    seconds(5).await;
    assert_eq!(engine_under_test.sent()[2..], ["1 ops resolved renewalFailed web"]);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reported_about_certificates_that_were_not_listed_yet() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    engine.ends().await;
    let news = engine_under_test.delete("web");
    *engine_under_test.unlisted.lock().unwrap() = true;
    let engine = Running::over(&engine_under_test);
    engine.hears([policy("p", "u", 1, &json!({})), news]).await;
    seconds(5).await;
    assert_eq!(engine_under_test.sent().len(), 1);
    *engine_under_test.unlisted.lock().unwrap() = false;
    let _ = engine_under_test.put("api", 1, 50);
    engine.hears([Trigger::AllChanged]).await;
    seconds(5).await;
    let mut sent = engine_under_test.sent()[1..].to_vec();
    sent.sort();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[0].ends_with("firing renewalFailed api"), "{sent:?}");
    assert!(sent[1].ends_with("resolved renewalFailed web"), "{sent:?}");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_is_sent_by_the_next_leader_under_the_same_id() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|_| down());
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    seconds(2).await;
    engine.task.abort();
    engine_under_test.answer(|_| (Duration::ZERO, Outcome::Accepted));
    let engine = Running::over(&engine_under_test);
    engine.hears([policy("p", "u", 1, &json!({}))]).await;
    seconds(10).await;
    let tries = engine_under_test.tries.lock().unwrap().clone();
    assert_eq!((tries.len(), &tries[0].2), (2, &tries[1].2));
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_delays_no_other_and_is_told_of() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|receiver| {
        if receiver == "dead" {
            down()
        } else {
            (Duration::ZERO, Outcome::Accepted)
        }
    });
    let both = json!({"receivers": [{"name": "dead", "webhook": {"url": "https://a"}}, {"name": "ops", "webhook": {"url": "https://b"}}]});
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &both)])
        .await;
    engine.hears([engine_under_test.put("api", 1, 50)]).await;
    let sent = engine_under_test.sent();
    assert_eq!(sent.iter().filter(|line| line.contains(" ops ")).count(), 2, "{sent:?}");
    seconds(20).await;
    let status = engine_under_test.status("p");
    let delivering = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Delivering")
        .unwrap();
    assert_eq!(
        (delivering.status.as_str(), delivering.reason.as_str()),
        ("False", "DeliveryFailed")
    );
    assert_eq!((status.receivers[0].pending, status.receivers[1].pending), (2, 0));
    assert!(status.receivers[0].consecutive_failures >= 3);
    // Once for each delivery that failed, not for each try.
    assert_eq!(engine_under_test.undelivered.lock().unwrap().len(), 2);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_deleted_leaves_nothing_behind() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    assert_eq!(engine_under_test.saved.lock().unwrap().len(), 1);
    engine.hears([Trigger::Policy(key("p"), None)]).await;
    assert_eq!(
        engine_under_test.sent().last().unwrap(),
        "1 ops resolved renewalFailed web"
    );
    assert!(engine_under_test.saved.lock().unwrap().is_empty());
    engine.ends().await;
    // What belongs to a policy that was deleted unseen is removed, too.
    engine_under_test
        .saved
        .lock()
        .unwrap()
        .insert("old".into(), (key("old"), durable::pack(&mut State::default()).0));
    let engine = Running::over(&engine_under_test);
    engine.hears([Trigger::Policies(all(), Vec::new())]).await;
    assert!(engine_under_test.saved.lock().unwrap().is_empty());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_ten_thousand_ends_without_losing_one() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|_| (Duration::from_millis(100), Outcome::Accepted));
    let engine = Running::over(&engine_under_test);
    engine.hears([policy("p", "u", 1, &json!({}))]).await;
    for number in 0..10_000 {
        let news = engine_under_test.put(&format!("web-{number}"), 1, 50);
        engine.hears_now(news);
    }
    seconds(130).await;
    let tries = engine_under_test.tries.lock().unwrap().clone();
    let groups = tries.iter().filter_map(|(_, _, _, content)| match content {
        Content::Group(group) => Some(group.count),
        _ => None,
    });
    assert_eq!(groups.max(), Some(10_000));
    assert!(tries.len() < 10, "{}", tries.len());
    assert_eq!(engine_under_test.status("p").firing_count, Some(10_000));
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn an_alertmanager_gets_ten_thousand_alerts_and_the_state_is_saved_seldom() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|_| (Duration::from_millis(400), Outcome::Accepted));
    let engine = Running::over(&engine_under_test);
    let receivers = json!([{"name": "am", "webhook": {"url": "https://am.example.com", "format": "Alertmanager"}}]);
    let all: Vec<Trigger> = (0..10_000)
        .map(|number| engine_under_test.put(&format!("web-{number}"), 1, 50))
        .collect();
    engine.hears(all).await;
    engine
        .hears([policy("p", "u", 1, &json!({"receivers": receivers}))])
        .await;
    seconds(60).await;
    assert_eq!(engine_under_test.sent().len(), 50);
    let sent: usize = engine_under_test
        .tries
        .lock()
        .unwrap()
        .iter()
        .map(|(_, _, _, content)| match content {
            Content::Batch { alerts, .. } => alerts.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(sent, 10_000);
    // Fifty deliveries in twenty seconds. A small state would be saved every second.
    let saves = *engine_under_test.saves.lock().unwrap();
    assert!(saves <= 12, "{saves}");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_state_cannot_be_made_durable_alerts_leave_all_the_same() {
    let engine_under_test = TestEngine::new();
    *engine_under_test.broken.lock().unwrap() = true;
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    seconds(10).await;
    assert_eq!(engine_under_test.sent().len(), 1);
    *engine_under_test.broken.lock().unwrap() = false;
    seconds(60).await;
    assert_eq!(engine_under_test.saved.lock().unwrap().len(), 1);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_test_is_sent_once_through_every_receiver_and_reported() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    let asked = json!({"test": "2026-06-01T11:59:00Z"});
    engine.hears([policy("p", "u", 1, &asked)]).await;
    engine.hears([policy("p", "u", 1, &asked)]).await;
    seconds(5).await;
    assert_eq!(engine_under_test.sent(), ["0 ops test"]);
    let test = engine_under_test.status("p").test.unwrap();
    assert!(test.receivers[0].delivered, "{test:?}");
    assert_eq!(test.requested_at, "2026-06-01T11:59:00Z".parse().unwrap());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn of_too_many_policies_the_youngest_are_told_and_not_carried_out() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    let all = (0..=MAX_POLICIES_PER_NAMESPACE)
        .map(|number| policy(&format!("p-{number:03}"), &format!("u-{number}"), 1, &json!({})));
    engine.hears(all.chain([engine_under_test.put("web", 1, 50)])).await;
    seconds(5).await;
    assert_eq!(engine_under_test.sent().len(), MAX_POLICIES_PER_NAMESPACE);
    let ready = engine_under_test.status("p-100").conditions[0].clone();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "TooManyPolicies")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_displaced_or_moves_up_again_says_so() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    let all = (0..MAX_POLICIES_PER_NAMESPACE)
        .map(|number| policy(&format!("p-{number:03}"), &format!("u-{number}"), 1, &json!({})));
    engine.hears(all).await;
    seconds(5).await;
    let reason = |name: &str| engine_under_test.status(name).conditions[0].reason.clone();
    assert_eq!(reason("p-099"), "Accepted");
    // Made in the same second, as the clock of the API server has no smaller ones; then the name decides.
    engine.hears([policy("a", "u-a", 1, &json!({}))]).await;
    seconds(5).await;
    assert_eq!(
        (reason("a").as_str(), reason("p-099").as_str()),
        ("Accepted", "TooManyPolicies")
    );
    engine.hears([Trigger::Policy(key("p-007"), None)]).await;
    seconds(5).await;
    assert_eq!(reason("p-099"), "Accepted");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn with_nothing_due_nothing_runs() {
    let engine_under_test = TestEngine::new();
    let engine = Running::over(&engine_under_test);
    let news: Vec<Trigger> = (0..100)
        .map(|number| engine_under_test.put(&format!("web-{number}"), 0, 90))
        .collect();
    engine
        .hears(news.into_iter().chain([policy("p", "u", 1, &json!({}))]))
        .await;
    seconds(5).await;
    // With paused time every timer shows as a jump of the clock: the next one is the first expiry.
    let before = engine_under_test.began.elapsed();
    tokio::time::timeout(Duration::from_secs(80 * 3600), std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(
        (
            engine_under_test.sent(),
            engine_under_test.began.elapsed().checked_sub(before).unwrap()
        ),
        (vec![], Duration::from_secs(80 * 3600))
    );
    engine.ends().await;
}
