//! Every reader of what a server sends takes rubbish without harm, and gives something bounded that instant-acme takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, Uri};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, MAX_URL, absolute};
use crate::directory::Directory;
use crate::objects::{self, RawOrder};
use crate::{AccountKey, AcmeError, MAX_DETAIL, Problem, ari};

static KEY: LazyLock<AccountKey> = LazyLock::new(|| AccountKey::generate().unwrap().0);

fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z/:.?#%<>{}-]{0,40}".prop_map(Value::from),
        Just(json!("https://ca.test/x")),
        Just(json!("x".repeat(5_000))),
        Just(json!("2026-12-01T00:00:00Z")),
        Just(json!("9999-12-31T23:59:60Z")),
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,10}", inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

/// An object with some members gone, and some that are anything.
fn spoilt(value: Value) -> BoxedStrategy<Value> {
    let kept = match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                prop::option::weighted(0.9, spoilt(value)).prop_map(move |value| (name.clone(), value))
            })
            .collect::<Vec<_>>()
            .prop_map(|members| {
                let members = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
                Value::Object(members.collect::<Map<_, _>>())
            })
            .boxed(),
        Value::Array(entries) => entries
            .into_iter()
            .map(spoilt)
            .collect::<Vec<_>>()
            .prop_map(Value::from)
            .boxed(),
        other => Just(other).boxed(),
    };
    prop_oneof![8 => kept, 1 => anything()].boxed()
}

fn body(good: Value) -> impl Strategy<Value = Vec<u8>> {
    let cut = |text: String, at: prop::sample::Index| text.as_bytes()[..at.index(text.len() + 1)].to_vec();
    prop_oneof![
        6 => spoilt(good.clone()).prop_map(|value| value.to_string().into_bytes()),
        1 => any::<prop::sample::Index>().prop_map(move |at| cut(good.to_string(), at)),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0_usize..2_000).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ]
}

fn order() -> Value {
    json!({
        "status": "pending", "expires": "2026-12-01T00:00:00Z", "error": problem_document(), "replaces": "aki.serial",
        "identifiers": [{"type": "dns", "value": "a.test"}], "authorizations": ["https://ca.test/a/1", "/a/2"],
        "finalize": "https://ca.test/f/1", "certificate": "https://ca.test/c/1",
    })
}

fn authorization() -> Value {
    let challenge = |kind: &str| json!({"type": kind, "url": "https://ca.test/ch/1", "token": "t0ken", "status": "pending", "error": problem_document()});
    json!({
        "identifier": {"type": "dns", "value": "a.test"}, "status": "pending", "wildcard": false,
        "expires": "2026-12-01T00:00:00Z", "challenges": [challenge("http-01"), challenge("dns-01"), challenge("x-01")],
    })
}

fn problem_document() -> Value {
    json!({
        "type": "urn:ietf:params:acme:error:compound", "detail": "no", "status": 400,
        "subproblems": [{"type": "urn:ietf:params:acme:error:caa", "detail": "no", "identifier": {"type": "dns", "value": "a.test"}}],
    })
}

fn directory() -> Value {
    json!({
        "newNonce": "https://ca.test/n", "newAccount": "https://ca.test/a", "newOrder": "/o", "keyChange": "k",
        "renewalInfo": "https://ca.test/r/",
        "meta": {"termsOfService": "https://ca.test/t", "externalAccountRequired": false, "profiles": {"classic": "90 days"}},
    })
}

fn renewal_info() -> Value {
    json!({
        "suggestedWindow": {"start": "2026-01-02T04:00:00Z", "end": "2026-01-03T04:00:00Z"}, "explanationURL": "https://ca.test/why",
    })
}

fn bounded(problem: Option<&Problem>) {
    let Some(problem) = problem else { return };
    assert!(problem.kind.chars().count() <= 100 && problem.detail.chars().count() <= MAX_DETAIL);
    assert!(problem.subproblems.len() <= 100);
    for sub in &problem.subproblems {
        assert!(sub.identifier.chars().count() <= 255 && sub.detail.chars().count() <= MAX_DETAIL);
    }
}

fn named(error: &AcmeError) {
    let AcmeError::Malformed { host, detail, .. } = error else {
        panic!("an answer that cannot be read is malformed: {error:?}");
    };
    assert_eq!(host, "ca.test");
    assert!(detail.chars().count() <= MAX_DETAIL);
    assert!(detail.contains("https://ca.test/acme/thing/1"), "{detail}");
}

fn is_usable(url: &str) -> bool {
    url.len() <= MAX_URL && url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders(body in body(order()), replaces in any::<bool>()) {
        match RawOrder::read(&Answer::for_test(200, &body)) {
            Ok(order) => {
                prop_assert!(order.authorizations.iter().all(|url| is_usable(url)));
                prop_assert!(order.finalize.iter().chain(&order.certificate).all(|url| is_usable(url)));
                bounded(order.error.as_ref());
                let normal = order.normal(replaces.then_some("aki.serial")).to_string();
                serde_json::from_str::<instant_acme::OrderState>(&normal).unwrap();
            }
            Err(error) => named(&error),
        }
    }

    #[test]
    fn authorizations(body in body(authorization())) {
        match objects::authorization(&Answer::for_test(200, &body), "https://ca.test/a/1", &KEY) {
            Ok(view) => {
                prop_assert!(view.challenges.len() <= 20 && view.name().len() <= 257);
                for challenge in &view.challenges {
                    prop_assert!(challenge.token.len() <= 256 && challenge.kind.as_str().len() <= 64);
                    prop_assert!(challenge.token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
                    bounded(challenge.error.as_ref());
                }
                let normal = objects::normal_authorization(&view).to_string();
                serde_json::from_str::<instant_acme::AuthorizationState>(&normal).unwrap();
            }
            Err(error) => named(&error),
        }
    }

    #[test]
    fn challenges_and_accounts(body in body(authorization()["challenges"][0].clone())) {
        let answer = Answer::for_test(200, &body);
        bounded(objects::submitted(&answer).1.as_ref());
        serde_json::from_value::<instant_acme::Challenge>(objects::normal_challenge(&answer)).unwrap();
        // Whatever it is, only its statement that it is no longer in use counts.
        if let Err(error) = objects::account(&answer) {
            let refused = matches!(error, AcmeError::Unauthorized { .. });
            prop_assert!(refused);
        }
    }

    #[test]
    fn directories(body in body(directory())) {
        match Directory::read(&Answer::for_test(200, &body)) {
            Ok(directory) => {
                let urls = [&directory.new_nonce, &directory.new_account, &directory.new_order];
                prop_assert!(urls.into_iter().chain(&directory.renewal_info).all(|url| is_usable(url)));
                prop_assert!(directory.meta.profiles.keys().all(|name| name.len() <= 100));
            }
            Err(error) => named(&error),
        }
    }

    #[test]
    fn problems(body in body(problem_document()), status in 300_u16..600) {
        bounded(Problem::parse(&body).as_ref());
        let error = AcmeError::from_answer(&Answer::for_test(status, &body), true);
        prop_assert!(error.to_string().chars().count() <= 4_000);
    }

    #[test]
    fn renewal_infos(body in body(renewal_info())) {
        match ari::normal(&Answer::for_test(200, &body)) {
            Ok(normal) => { serde_json::from_value::<instant_acme::RenewalInfo>(normal).unwrap(); }
            Err(error) => named(&error),
        }
    }

    #[test]
    fn chains(body in prop::collection::vec(prop_oneof![
        3 => Just(pem::encode(&pem::Pem::new("CERTIFICATE", b"leaf".to_vec()))),
        1 => Just("-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----".to_owned()),
        1 => Just(pem::encode(&pem::Pem::new("PRIVATE KEY", b"key".to_vec()))),
        1 => Just("-----BEGIN CERTIFICATE-----".to_owned()),
        1 => any::<String>(),
    ], 0..25)) {
        let text = body.concat();
        match objects::chain(&Answer::for_test(200, text.as_bytes())) {
            Ok(chain) => {
                let count = chain.matches("-----BEGIN CERTIFICATE-----").count();
                prop_assert_eq!(count, text.matches("-----BEGIN ").count(), "none is lost");
                prop_assert!(count <= 20 && !chain.contains("PRIVATE"));
            }
            Err(error) => named(&error),
        }
    }

    #[test]
    fn headers(
        values in prop::collection::vec((0_usize..4, prop::collection::vec(any::<u8>(), 0..80)), 0..20),
        link in "[<>;,=\"a-z/:. ]{0,200}",
    ) {
        let mut response = Response::builder().status(200);
        let names = ["retry-after", "link", "location", "replay-nonce"].map(HeaderName::from_static);
        for (name, value) in &values {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                response = response.header(&names[*name], value);
            }
        }
        let (parts, ()) = response.header("link", link).body(()).unwrap().into_parts();
        let uri: Uri = "https://ca.test/acme/thing/1".parse().unwrap();
        let answer = Answer::new(&uri, "ca.test", &parts, bytes::Bytes::new());
        prop_assert!(answer.retry_after.unwrap_or_default() <= Duration::from_hours(30 * 24));
        prop_assert!(answer.alternates.len() <= 10);
        prop_assert!(answer.alternates.iter().chain(&answer.location).all(|url| is_usable(url)));
        let is_nonce = |nonce: &String| nonce.len() <= 512 && !nonce.is_empty();
        prop_assert!(answer.nonce.as_ref().is_none_or(is_nonce));
    }

    #[test]
    fn references(reference in prop_oneof![any::<String>(), "[a-z/:.?#%<>{}@ -]{0,60}"]) {
        let whole = absolute("https://ca.test:8443/acme/thing/1", &reference);
        prop_assert!(whole.is_none_or(|url| is_usable(&url)));
    }
}
