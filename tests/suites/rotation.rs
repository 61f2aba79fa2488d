//! A certificate is replaced when it should be, and only then.
//!
//! Tests that have to wait (lifetimes of half a minute, the CA's first advice) wait together, in one test.
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

use std::time::Duration;

use gatehouse_crds::certificate::{AriStatus, Certificate};
use gatehouse_tests::chain::verify;
use gatehouse_tests::cluster::{condition, condition_is};
use gatehouse_tests::shared_operator::{Outcome, SOON, http01, text};
use gatehouse_tests::{Pebble, Proxy, Record, SharedOperator, pebble, revocation};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

/// As long as a non-event is watched: many times what the operator needs for a renewal here.
const A_WHILE: Duration = Duration::from_secs(3);

fn ari(certificate: &Certificate) -> AriStatus {
    let acme = certificate.status.clone().and_then(|status| status.acme);
    acme.and_then(|acme| acme.ari).unwrap_or_default()
}

fn revision(certificate: &Certificate) -> i64 {
    let status = certificate.status.as_ref();
    status.and_then(|status| status.revision).unwrap_or_default()
}

fn cause(secret: &Secret) -> &str {
    &secret.metadata.annotations.as_ref().unwrap()["gatehouse.dev/cause"]
}

/// A Pebble that takes every challenge for answered, and an Issuer `acme` at it.
async fn easy_pebble(shared: &SharedOperator) -> Pebble {
    let options = pebble::Options {
        always_valid: true,
        ..pebble::Options::default()
    };
    let pebble = shared.test_cluster.another_pebble(options).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    pebble
}

async fn first_by_acme(shared: &SharedOperator, pebble: &Pebble, name: &str) -> Outcome {
    let host = format!("{name}.example.test");
    shared
        .certificate(name, json!({"issuerRef": {"name": "acme"}, "dnsNames": [host]}))
        .await;
    shared.outcome(name, 1, &pebble.root().await.unwrap(), &[&host]).await
}

/// Makes the operator ask the CA for its advice now instead of after half a minute.
async fn ask_now(shared: &SharedOperator, name: &str) {
    shared
        .cluster
        .wait(&shared.certificates(), name, "to be asked about", SOON, |certificate| {
            ari(certificate).next_check_time.is_some()
        })
        .await;
    let past = Timestamp::now() - Duration::from_mins(1);
    let patch = json!({"status": {"acme": {"ari": {"nextCheckTime": past.to_string()}}}});
    shared
        .certificates()
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
}

/// The window is over already: renew at once.
async fn advise_at_once(pebble: &Pebble, secret: &Secret) -> Timestamp {
    let end = Timestamp::from_second(Timestamp::now().as_second() - 3600).unwrap();
    let start = end - Duration::from_hours(1);
    pebble
        .set_renewal_window(&text(secret, "tls.crt"), start, end)
        .await
        .unwrap();
    start
}

/// Asserts that nothing is issued meanwhile.
async fn stays(shared: &SharedOperator, name: &str, expected: i64) {
    // A non-event: there is nothing to wait for.
    tokio::time::sleep(A_WHILE).await;
    let certificate = shared.certificates().get(name).await.unwrap();
    assert_eq!(revision(&certificate), expected, "{name} was issued again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_its_time() {
    tokio::join!(
        a_short_lived_certificate_is_renewed_in_time_and_the_old_pair_stays_until_then(),
        a_share_of_the_lifetime_decides(),
        an_expired_certificate_stays_and_is_retried(),
        the_ca_is_asked_within_a_minute_and_its_advice_is_taken_once(),
    );
}

async fn a_short_lived_certificate_is_renewed_in_time_and_the_old_pair_stays_until_then() {
    let shared = SharedOperator::set("by-time").await;
    let root = shared.internal_ca("ca").await;
    shared
        .certificate(
            "short",
            json!({"issuerRef": {"name": "ca"}, "dnsNames": ["short.test"], "duration": "40s"}),
        )
        .await;
    let first = shared.outcome("short", 1, &root, &["short.test"]).await;
    let (secrets, looks) = (
        Record::of(&shared.secrets(), "short-tls").await,
        Record::of(&shared.certificates(), "short").await,
    );
    let second = shared.outcome("short", 2, &root, &["short.test"]).await;

    let renewal = first.certificate.status.as_ref().unwrap().renewal_time.unwrap();
    let issued = second.certificate.status.as_ref().unwrap().issued_at.unwrap();
    assert!(
        renewal <= issued && issued < first.chain.not_after,
        "{renewal} {issued}"
    );
    // Half of 40 s, and up to a twentieth of that sooner.
    let before = first.chain.not_after.as_second() - renewal.as_second();
    assert!((20..=21).contains(&before), "{before} s before the end");
    assert_ne!(first.chain.serial, second.chain.serial);
    assert_ne!(first.chain.public_key, second.chain.public_key, "a new key each time");
    assert_eq!(cause(&second.secret), "Due");
    assert!(
        shared
            .event("short", "Renewed")
            .await
            .contains("it is time to renew it")
    );

    let mut serials: Vec<_> = secrets
        .versions()
        .iter()
        .map(|secret| verify(secret, &root, &["short.test"]).expect("it always serves").serial)
        .collect();
    serials.dedup();
    assert_eq!(
        serials,
        [first.chain.serial, second.chain.serial],
        "one, then the other"
    );
    for certificate in looks.versions() {
        assert!(condition_is(&certificate, "Ready", "True"), "{:?}", certificate.status);
    }
}

async fn a_share_of_the_lifetime_decides() {
    let shared = SharedOperator::set("by-share").await;
    let root = shared.internal_ca("ca").await;
    let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": ["share.test"], "duration": "60s", "renewBeforePercentage": 75});
    shared.certificate("share", spec).await;
    let first = shared.outcome("share", 1, &root, &["share.test"]).await;
    let renewal = first.certificate.status.as_ref().unwrap().renewal_time.unwrap();
    let before = first.chain.not_after.as_second() - renewal.as_second();
    assert!((45..=48).contains(&before), "{before} s before the end");
    let second = shared.outcome("share", 2, &root, &["share.test"]).await;
    let issued = second.certificate.status.as_ref().unwrap().issued_at.unwrap();
    assert!(issued >= renewal, "{issued} {renewal}");
}

async fn an_expired_certificate_stays_and_is_retried() {
    let shared = SharedOperator::set("expired").await;
    let root = shared.internal_ca("ca").await;
    let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": ["old.test"], "duration": "30s"});
    shared.certificate("old", spec).await;
    let first = shared.outcome("old", 1, &root, &["old.test"]).await;
    // The CA's key is nowhere to be found, and no other is made.
    let kept = shared.secret("ca-root").await;
    shared
        .patch(&shared.certificates(), "ca-root", &json!({"spec": {"suspend": true}}))
        .await;
    shared
        .secrets()
        .delete("ca-root", &DeleteParams::default())
        .await
        .unwrap();
    shared
        .cluster
        .wait_condition(&shared.issuers(), "ca", "Ready", "False", SOON)
        .await;

    let within = Duration::from_secs(75);
    let expired = shared
        .cluster
        .wait_condition(&shared.certificates(), "old", "Ready", "False", within)
        .await;
    let status = expired.status.clone().unwrap();
    assert!(status.not_after.unwrap() <= Timestamp::now(), "not before its end");
    assert_eq!(condition(&expired, "Ready").unwrap()["reason"], "IssuerNotReady");
    assert!(status.next_attempt_time.is_some(), "{status:?}");
    let served = shared.secret("old-tls").await;
    assert_eq!(text(&served, "tls.crt"), first.chain.pem, "it is served all the same");

    let data = [("tls.crt", text(&kept, "tls.crt")), ("tls.key", text(&kept, "tls.key"))];
    let data: Vec<_> = data.iter().map(|(key, value)| (*key, value.as_str())).collect();
    shared.make_secret("ca-root", "kubernetes.io/tls", &data).await;
    let second = shared.outcome("old", 2, &root, &["old.test"]).await;
    assert_ne!(first.chain.serial, second.chain.serial);
}

async fn the_ca_is_asked_within_a_minute_and_its_advice_is_taken_once() {
    let shared = SharedOperator::set("advice").await;
    let pebble = easy_pebble(&shared).await;
    let first = first_by_acme(&shared, &pebble, "advised").await;
    let asked = ari(&first.certificate).next_check_time.expect("a time to ask");
    let pause = asked.as_second()
        - first
            .certificate
            .status
            .as_ref()
            .unwrap()
            .issued_at
            .unwrap()
            .as_second();
    assert!((29..=61).contains(&pause), "asked after {pause} s");
    advise_at_once(&pebble, &first.secret).await;

    // Without a user's help.
    let within = Duration::from_secs(100);
    shared
        .cluster
        .wait(&shared.certificates(), "advised", "renewed", within, |it| {
            revision(it) == 2
        })
        .await;
    let root = pebble.root().await.unwrap();
    let second = shared.outcome("advised", 2, &root, &["advised.example.test"]).await;
    assert_ne!(first.chain.serial, second.chain.serial);
    assert_eq!(cause(&second.secret), "Advised");
    assert!(shared.event("advised", "Renewed").await.contains("the CA advises"));
    assert!(
        pebble.log().contains("is a replacement of"),
        "the order says `replaces`"
    );
    assert_eq!((pebble.orders(), pebble.issued()), (2, 2));

    // A CA that always says "now" does not make us renew without end.
    let start = advise_at_once(&pebble, &second.secret).await;
    ask_now(&shared, "advised").await;
    shared
        .cluster
        .wait(&shared.certificates(), "advised", "asked about", SOON, |it| {
            ari(it).window_start == Some(start)
        })
        .await;
    stays(&shared, "advised", 2).await;
    assert_eq!(pebble.orders(), 2);

    // One that takes back what it had said of this very certificate is believed.
    let pem = text(&second.secret, "tls.crt");
    let ahead = Timestamp::from_second(Timestamp::now().as_second() + 86_400 * 365 * 3).unwrap();
    let end = ahead + Duration::from_hours(1);
    pebble.set_renewal_window(&pem, ahead, end).await.unwrap();
    ask_now(&shared, "advised").await;
    shared
        .cluster
        .wait(&shared.certificates(), "advised", "reported of later", SOON, |it| {
            ari(it).window_end == Some(end)
        })
        .await;
    advise_at_once(&pebble, &second.secret).await;
    ask_now(&shared, "advised").await;
    let third = shared.outcome("advised", 3, &root, &["advised.example.test"]).await;
    assert_eq!(cause(&third.secret), "Advised");
}

#[tokio::test]
async fn a_revoked_certificate_is_replaced() {
    let shared = SharedOperator::set("revoked").await;
    let pebble = easy_pebble(&shared).await;
    let first = first_by_acme(&shared, &pebble, "stolen").await;
    revocation::revoke(&pebble, &first.chain.pem, &text(&first.secret, "tls.key"))
        .await
        .unwrap();
    ask_now(&shared, "stolen").await;
    let root = pebble.root().await.unwrap();
    let second = shared.outcome("stolen", 2, &root, &["stolen.example.test"]).await;
    assert_ne!(first.chain.public_key, second.chain.public_key);
    for (chain, status) in [(&first.chain, "Revoked"), (&second.chain, "Valid")] {
        let serial = chain.serial.strip_prefix("00").unwrap_or(&chain.serial);
        assert_eq!(pebble.status_of(serial).await.unwrap().unwrap().status, status);
    }
}

#[tokio::test]
async fn advice_for_later_moves_the_renewal_and_nonsense_moves_nothing() {
    let shared = SharedOperator::set("advice-later").await;
    let pebble = easy_pebble(&shared).await;
    let first = first_by_acme(&shared, &pebble, "later").await;
    let by_clock = first.certificate.status.as_ref().unwrap().renewal_time.unwrap();
    let start = Timestamp::from_second(Timestamp::now().as_second() + 86_400).unwrap();
    let end = start + Duration::from_hours(1);
    let pem = text(&first.secret, "tls.crt");
    pebble.set_renewal_window(&pem, start, end).await.unwrap();
    ask_now(&shared, "later").await;
    let advised = shared
        .cluster
        .wait(&shared.certificates(), "later", "advised", SOON, |it| {
            ari(it).window_end == Some(end)
        })
        .await;
    let renewal = advised.status.as_ref().unwrap().renewal_time.unwrap();
    assert!(start <= renewal && renewal < end && renewal < by_clock, "{renewal}");

    for nonsense in [
        "<html>we are sorry</html>",
        r#"{"suggestedWindow": {"start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}"#,
    ] {
        pebble.set_renewal_info(&pem, nonsense).await.unwrap();
        ask_now(&shared, "later").await;
        let after = shared
            .cluster
            .wait(&shared.certificates(), "later", "asked about again", SOON, |it| {
                ari(it).next_check_time.is_some_and(|time| time > Timestamp::now())
            })
            .await;
        assert!(condition_is(&after, "Ready", "True"));
        assert_eq!(after.status.unwrap().renewal_time, Some(renewal), "{nonsense}");
    }
    stays(&shared, "later", 1).await;
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_changed_spec_issues_at_once_and_a_changed_form_does_not() {
    let shared = SharedOperator::set("spec").await;
    let root = shared.internal_ca("ca").await;
    let spec = |more: Value| {
        let mut spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": ["a.test"]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    shared.certificate("web", spec(json!({}))).await;
    let first = shared.outcome("web", 1, &root, &["a.test"]).await;

    let form = json!({"secretTemplate": {"labels": {"team": "shop"}}, "additionalOutputFormats": [{"type": "DER"}]});
    shared.certificate("web", spec(form)).await;
    let labelled = shared
        .cluster
        .wait(&shared.secrets(), "web-tls", "of the new form", SOON, |secret| {
            let labels = secret.metadata.labels.clone().unwrap_or_default();
            labels.contains_key("team") && secret.data.as_ref().unwrap().contains_key("key.der")
        })
        .await;
    assert_eq!(text(&labelled, "tls.crt"), first.chain.pem);
    shared.outcome("web", 1, &root, &["a.test"]).await;

    let record = Record::of(&shared.secrets(), "web-tls").await;
    shared
        .certificate("web", spec(json!({"dnsNames": ["a.test", "b.test"]})))
        .await;
    let second = shared.outcome("web", 2, &root, &["a.test", "b.test"]).await;
    assert_eq!(cause(&second.secret), "SpecChanged");
    assert!(
        !second.secret.data.as_ref().unwrap().contains_key("key.der"),
        "the form of before is gone"
    );
    for secret in record.versions() {
        verify(&secret, &root, &["a.test"]).expect("the old pair stays until the new one is written");
    }
    let note = shared.event("web", "Renewed").await;
    assert!(note.contains("the spec asks for another one"), "{note}");
}

#[tokio::test]
async fn a_requested_renewal_is_made_at_once_also_within_the_pause_after_a_failure() {
    let shared = SharedOperator::set("requested").await;
    let options = pebble::Options {
        always_valid: true,
        ..pebble::Options::default()
    };
    let pebble = shared.test_cluster.another_pebble(options).await;
    let proxy = Proxy::start(pebble.address()).unwrap();
    let mut issuer = shared.acme(&pebble, "account", json!([http01()]));
    issuer["acme"]["server"] = pebble.directory_through(&proxy).into();
    shared.issuer("acme", issuer).await;
    let first = first_by_acme(&shared, &pebble, "wish").await;

    proxy.cut();
    shared.request_renewal("wish").await;
    let failed = shared
        .cluster
        .wait(&shared.certificates(), "wish", "failed", SOON, |it| {
            it.status
                .as_ref()
                .is_some_and(|status| status.failed_attempts >= Some(1))
        })
        .await;
    let status = failed.status.as_ref().unwrap();
    assert_eq!(status.last_failure.as_ref().unwrap().reason, "Network");
    let next = status.next_attempt_time.unwrap();
    assert!(
        next > Timestamp::now() + Duration::from_secs(40),
        "a minute's pause: {next}"
    );
    assert!(condition_is(&failed, "Ready", "True"), "what is there is good");

    proxy.heal();
    shared.request_renewal("wish").await;
    let second = shared
        .outcome("wish", 2, &pebble.root().await.unwrap(), &["wish.example.test"])
        .await;
    assert!(Timestamp::now() < next, "the pause was not waited for");
    assert_ne!(first.chain.serial, second.chain.serial);
    assert_eq!(cause(&second.secret), "Requested");
    stays(&shared, "wish", 2).await;
}

#[tokio::test]
async fn a_suspended_certificate_is_left_alone_until_it_goes_on() {
    let shared = SharedOperator::set("suspend").await;
    let root = shared.internal_ca("ca").await;
    shared
        .certificate("idle", json!({"issuerRef": {"name": "ca"}, "dnsNames": ["idle.test"]}))
        .await;
    shared.outcome("idle", 1, &root, &["idle.test"]).await;
    let suspend = |value: bool| json!({"spec": {"suspend": value}});
    shared.patch(&shared.certificates(), "idle", &suspend(true)).await;
    shared.request_renewal("idle").await;
    shared
        .secrets()
        .delete("idle-tls", &DeleteParams::default())
        .await
        .unwrap();
    stays(&shared, "idle", 1).await;
    assert!(shared.secrets().get_opt("idle-tls").await.unwrap().is_none());
    shared.patch(&shared.certificates(), "idle", &suspend(false)).await;
    shared.outcome("idle", 2, &root, &["idle.test"]).await;
}

#[tokio::test]
async fn a_fallback_signs_when_the_first_cannot_and_the_next_renewal_asks_the_first_again() {
    let shared = SharedOperator::set("fallback").await;
    let second_root = shared.internal_ca("second").await;
    shared
        .apply("Issuer", "first", &json!({"ca": {"secretName": "first-root"}}))
        .await;
    shared
        .cluster
        .wait_condition(&shared.issuers(), "first", "Ready", "False", SOON)
        .await;
    let spec =
        json!({"issuerRef": {"name": "first"}, "fallbackIssuerRefs": [{"name": "second"}], "dnsNames": ["both.test"]});
    shared.certificate("both", spec).await;
    let by = |outcome: &Outcome| outcome.certificate.status.clone().unwrap().issuer.unwrap().name;
    let one = shared.outcome("both", 1, &second_root, &["both.test"]).await;
    assert_eq!(by(&one), "second");
    let note = shared.event("both", "FallbackIssuer").await;
    assert!(
        note.contains("first") && note.contains("Issuer second is asked instead"),
        "{note}"
    );

    // That the first is back is no reason to issue again; the next renewal begins with it.
    let first_root = shared.internal_ca("first").await;
    stays(&shared, "both", 1).await;
    shared.request_renewal("both").await;
    let two = shared.outcome("both", 2, &first_root, &["both.test"]).await;
    assert_eq!(by(&two), "first");
}
