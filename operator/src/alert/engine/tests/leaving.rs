//! Policies and receivers that are removed: the alerts that they received are resolved first.

use super::*;

async fn notifying(engine_under_test: &std::sync::Arc<TestEngine>) -> Running {
    let engine = Running::over(engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    assert_eq!(engine_under_test.sent(), ["0 ops firing renewalFailed web"]);
    engine
}

#[tokio::test(start_paused = true)]
async fn a_policy_deleted_while_no_operator_runs_is_ended_by_the_next() {
    let engine_under_test = TestEngine::new();
    notifying(&engine_under_test).await.ends().await;
    let engine = Running::over(&engine_under_test);
    engine.hears([Trigger::Policies(all(), Vec::new())]).await;
    assert_eq!(engine_under_test.sent()[1..], ["1 ops resolved renewalFailed web"]);
    assert!(engine_under_test.saved.lock().unwrap().is_empty());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_deleted_is_forgotten_after_an_hour_when_its_receiver_is_dead() {
    let engine_under_test = TestEngine::new();
    let engine = notifying(&engine_under_test).await;
    engine_under_test.answer(|_| down());
    engine.hears([Trigger::Policy(key("p"), None)]).await;
    seconds(600).await;
    // A crash in between does not begin the hour again.
    engine.task.abort();
    let engine = Running::over(&engine_under_test);
    engine.hears([Trigger::Policies(all(), Vec::new())]).await;
    seconds(2_900).await;
    assert!(!engine_under_test.saved.lock().unwrap().is_empty());
    seconds(120).await;
    assert!(engine_under_test.saved.lock().unwrap().is_empty());
    let tries = engine_under_test.sent().len();
    seconds(7_200).await;
    assert_eq!(engine_under_test.sent().len(), tries);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_deleted_and_made_again_ends_before_it_fires_again() {
    let engine_under_test = TestEngine::new();
    let engine = notifying(&engine_under_test).await;
    // In one moment, as `kubectl replace --force` does it: the alert continues.
    engine.hears_now(Trigger::Policy(key("p"), None));
    engine.hears([policy("p", "v", 1, &json!({}))]).await;
    assert_eq!(engine_under_test.sent().len(), 1);
    let uids = || {
        engine_under_test
            .saved
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    seconds(5).await;
    assert_eq!(uids(), ["v"]);
    // With time in between.
    engine_under_test.answer(|_| (Duration::from_secs(3), Outcome::Accepted));
    engine.hears([Trigger::Policy(key("p"), None)]).await;
    engine.hears([policy("p", "w", 1, &json!({}))]).await;
    seconds(10).await;
    let sent: Vec<String> = engine_under_test.sent()[1..]
        .iter()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    assert_eq!(sent, ["ops resolved renewalFailed web", "ops firing renewalFailed web"]);
    assert_eq!(uids(), ["w"]);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_becomes_invalid_resolves_its_alerts_until_it_is_valid() {
    let engine_under_test = TestEngine::new();
    let engine = notifying(&engine_under_test).await;
    let invalid = json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}});
    engine.hears([policy("p", "u", 2, &invalid)]).await;
    assert_eq!(
        engine_under_test.sent().last().unwrap(),
        "1 ops resolved renewalFailed web"
    );
    seconds(5).await;
    let status = engine_under_test.status("p");
    assert_eq!(
        (status.firing_count, status.conditions[0].reason.as_str()),
        (Some(0), "Invalid")
    );
    engine.hears([policy("p", "u", 3, &json!({}))]).await;
    assert!(
        engine_under_test
            .sent()
            .last()
            .unwrap()
            .ends_with("ops firing renewalFailed web")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_selected_any_more_ends() {
    let engine_under_test = TestEngine::new();
    let engine = notifying(&engine_under_test).await;
    let other = json!({"selector": {"matchLabels": {"team": "shop"}}});
    engine.hears([policy("p", "u", 2, &other)]).await;
    assert_eq!(
        engine_under_test.sent().last().unwrap(),
        "1 ops resolved renewalFailed web"
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_one_scope_ends_nothing_of_another() {
    let scope = |name: &str| Scope::Namespaced(Some(name.into()));
    let engine_under_test = TestEngine::new();
    notifying(&engine_under_test).await.ends().await;
    let engine = Running::over(&engine_under_test);
    // The watch of another namespace lists, is interrupted, and lists again, before ours has listed at all.
    for _ in 0..3 {
        engine.hears([Trigger::Policies(scope("shop"), Vec::new())]).await;
        engine.hears([Trigger::Policies(Scope::Cluster, Vec::new())]).await;
    }
    seconds(60).await;
    assert_eq!(
        (
            engine_under_test.sent().len(),
            engine_under_test.saved.lock().unwrap().len()
        ),
        (1, 1)
    );
    engine
        .hears([
            policy("p", "u", 1, &json!({})),
            Trigger::Policies(scope("app"), Vec::new()),
        ])
        .await;
    seconds(60).await;
    assert_eq!(engine_under_test.sent().len(), 1);
    engine.hears([engine_under_test.put("web", 0, 90)]).await;
    assert!(
        engine_under_test
            .sent()
            .last()
            .unwrap()
            .ends_with("ops resolved renewalFailed web")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_shed_is_counted_for_its_policy_and_receiver() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|_| down());
    let engine = Running::over(&engine_under_test);
    // Random names do not deflate.
    let news = (0..25_000).map(|_| engine_under_test.put(&format!("web-{:032x}", rand::random::<u128>()), 1, 50));
    engine.hears(news.collect::<Vec<_>>()).await;
    let receivers = json!([{"name": "am", "webhook": {"url": "https://am.example.com", "format": "Alertmanager"}}]);
    engine
        .hears([policy("p", "u", 1, &json!({"receivers": receivers}))])
        .await;
    seconds(60).await;
    let count = |policy: &str, result| engine_under_test.metrics.deliveries(key(policy).labels(), "am", result);
    assert!(count("p", "shed") > 10_000, "{}", count("p", "shed"));
    assert_eq!(count("other", "shed"), 0);
    engine.hears([Trigger::Policy(key("p"), None)]).await;
    seconds(10).await;
    assert_eq!(count("p", "shed"), 0, "the series goes with the policy");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_starts_again_when_its_secret_changes() {
    let engine_under_test = TestEngine::new();
    let by_secret = json!({"receivers": [
        {"name": "hook", "webhook": {"urlSecretRef": {"name": "hooks", "key": "url"}}},
        {"name": "late", "webhook": {"url": "https://a", "headersSecretRef": {"name": "headers"}}},
        {"name": "ops", "webhook": {"url": "https://b"}}
    ]});
    engine_under_test.answer(|receiver| match receiver {
        "late" => down(),
        _ => (
            Duration::ZERO,
            Outcome::Gone {
                message: "it answered 410 Gone".into(),
            },
        ),
    });
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &by_secret)])
        .await;
    seconds(20).await;
    let stopped = || -> Vec<bool> {
        engine_under_test
            .status("p")
            .receivers
            .iter()
            .map(|receiver| receiver.stopped)
            .collect()
    };
    assert_eq!(stopped(), [true, false, true]);
    let before = engine_under_test.sent().len();
    engine_under_test.answer(|_| (Duration::ZERO, Outcome::Accepted));
    engine.hears([Trigger::SecretChanged(key("p"))]).await;
    assert_eq!(engine_under_test.sent()[before..], ["21 late firing renewalFailed web"]);
    engine.hears([engine_under_test.put("api", 1, 50)]).await;
    seconds(5).await;
    let mut sent: Vec<String> = engine_under_test.sent()[before + 1..]
        .iter()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    sent.sort();
    assert_eq!(sent, ["hook firing renewalFailed api", "late firing renewalFailed api"]);
    assert_eq!(stopped(), [false, false, true]);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_tried_once_by_the_next_operator_when_it_has_secrets() {
    let engine_under_test = TestEngine::new();
    let receivers = json!({"receivers": [
        {"name": "hook", "webhook": {"urlSecretRef": {"name": "hooks", "key": "url"}}},
        {"name": "ops", "webhook": {"url": "https://b"}}
    ]});
    engine_under_test.answer(|_| {
        let message = "it answered 410 Gone".into();
        (Duration::ZERO, Outcome::Gone { message })
    });
    let engine = Running::over(&engine_under_test);
    engine
        .hears([engine_under_test.put("web", 1, 50), policy("p", "u", 1, &receivers)])
        .await;
    seconds(20).await;
    engine.ends().await;
    let before = engine_under_test.sent().len();
    // Its Secret was corrected while no operator ran.
    engine_under_test.answer(|_| (Duration::ZERO, Outcome::Accepted));
    let engine = Running::over(&engine_under_test);
    engine
        .hears([
            engine_under_test.put("web", 1, 50),
            engine_under_test.put("api", 1, 50),
            policy("p", "u", 1, &receivers),
        ])
        .await;
    seconds(5).await;
    let sent: Vec<String> = engine_under_test.sent()[before..]
        .iter()
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect();
    assert!(sent.contains(&"hook firing renewalFailed api".to_owned()), "{sent:?}");
    assert!(sent.iter().all(|line| line.starts_with("hook ")), "{sent:?}");
    let stopped = engine_under_test
        .status("p")
        .receivers
        .iter()
        .map(|it| it.stopped)
        .collect::<Vec<_>>();
    assert_eq!(stopped, [false, true]);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_a_year_ahead_delays_nothing() {
    let engine_under_test = TestEngine::new();
    engine_under_test.answer(|_| down());
    let engine = Running::over(&engine_under_test);
    *engine_under_test.skew.lock().unwrap() = jiff::SignedDuration::from_hours(24 * 365);
    engine
        .hears([
            engine_under_test.put("web", 1, 24 * 400),
            policy("p", "u", 1, &json!({})),
        ])
        .await;
    seconds(20).await;
    let before = engine_under_test.sent().len();
    *engine_under_test.skew.lock().unwrap() = jiff::SignedDuration::ZERO;
    engine_under_test.answer(|_| (Duration::ZERO, Outcome::Accepted));
    engine.hears([engine_under_test.put("api", 1, 50)]).await;
    seconds(5).await;
    let mut sent: Vec<String> = engine_under_test.sent()[before..]
        .iter()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    sent.sort();
    assert_eq!(sent, ["ops firing renewalFailed api", "ops firing renewalFailed web"]);
    engine.ends().await;
}
