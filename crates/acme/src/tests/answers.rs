//! Answers that CAs and their servers really give.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::fake_ca::{FakeCa, Fault, problem};
use super::orders::{drive, for_names, now, resume};
use crate::*;

async fn rewriting(rewrite: impl Fn(&str, &mut Value) + Send + 'static) -> FakeCa {
    let ca = FakeCa::start().await;
    ca.script().rewrite = Some(Box::new(rewrite));
    ca
}

fn relative(url: &mut Value) {
    let text = url.as_str().unwrap();
    let path = text.splitn(4, '/').nth(3).unwrap();
    *url = json!(format!("/{path}"));
}

fn absent(object: &mut Value, name: &str) {
    object.as_object_mut().unwrap().remove(name);
}

type Rewriting = fn(&str, &mut Value);

/// Each is something that a server may leave out, or write otherwise, without meaning anything else.
const HARMLESS: &[(&str, Rewriting)] = &[
    ("nulls in the directory", |endpoint, object| {
        if endpoint == "directory" {
            object["meta"] = Value::Null;
            object["renewalInfo"] = Value::Null;
            object["keyChange"] = Value::Null;
        }
    }),
    ("unused rubbish in the directory", |endpoint, object| {
        if endpoint == "directory" {
            object["meta"] = json!({"profiles": null, "externalAccountRequired": null, "termsOfService": 7});
            object["keyChange"] = json!(["no", "url"]);
            object["a-_new thing"] = json!({"x": [1, 2, 3]});
        }
    }),
    ("a relative directory", |endpoint, object| {
        if endpoint == "directory" {
            for name in ["newNonce", "newAccount", "newOrder", "renewalInfo"] {
                relative(&mut object[name]);
            }
        }
    }),
    ("nulls in the order", |endpoint, object| {
        if matches!(endpoint, "order" | "newOrder" | "finalize") {
            object["error"] = Value::Null;
            object["expires"] = Value::Null;
            object["replaces"] = Value::Null;
            if object["status"] != "valid" {
                object["certificate"] = Value::Null;
            }
        }
    }),
    ("relative URLs in the order", |endpoint, object| {
        if matches!(endpoint, "order" | "newOrder" | "finalize") {
            relative(&mut object["finalize"]);
            relative(&mut object["authorizations"][0]);
            if object["status"] == "valid" {
                relative(&mut object["certificate"]);
            }
        }
    }),
    ("other words in the order", |endpoint, object| {
        if matches!(endpoint, "order" | "newOrder" | "finalize") {
            object["expires"] = json!("next week");
            object["notAfter"] = json!(7);
            if object["status"] == "processing" {
                object["status"] = json!("awaiting-approval");
            }
            object["status"] = json!(object["status"].as_str().unwrap().to_uppercase());
        }
    }),
    (
        "an order that names its certificate and no status",
        |endpoint, object| {
            if endpoint == "order" && object["status"] == "valid" {
                absent(object, "status");
            }
        },
    ),
    ("nulls in the authorization", |endpoint, object| {
        if endpoint == "authz" {
            object["wildcard"] = Value::Null;
            object["expires"] = Value::Null;
            object["challenges"][0]["error"] = Value::Null;
            object["challenges"][0]["validated"] = Value::Null;
        }
    }),
    (
        "an authorization with nothing that can be left out",
        |endpoint, object| {
            if endpoint == "authz" {
                absent(object, "wildcard");
                absent(&mut object["identifier"], "type");
                for challenge in object["challenges"].as_array_mut().unwrap() {
                    absent(challenge, "status");
                }
                if object["status"] == "pending" {
                    absent(object, "status");
                }
            }
        },
    ),
    ("another spelling of the name", |endpoint, object| {
        if endpoint == "authz" {
            object["identifier"]["value"] = json!("A.Test.");
        }
    }),
    ("challenges of unknown types", |endpoint, object| {
        if endpoint == "authz" {
            let challenges = object["challenges"].as_array_mut().unwrap();
            challenges.push(json!({"type": "carrier-pigeon-01", "status": "en-route", "token": "not base64url!"}));
            challenges.push(json!({"type": 7}));
            challenges.push(json!("?"));
            challenges.push(Value::Null);
        }
    }),
    ("relative challenges", |endpoint, object| {
        if endpoint == "authz" {
            relative(&mut object["challenges"][0]["url"]);
        }
    }),
    ("a challenge that is answered with nothing", |endpoint, object| {
        if endpoint == "challenge" {
            *object = Value::Null;
        }
    }),
    ("an account without a status", |endpoint, object| {
        if matches!(endpoint, "newAccount" | "account") {
            absent(object, "status");
            object["contact"] = json!("ops@a.test");
        }
    }),
];

#[tokio::test]
async fn what_a_server_leaves_out_or_spells_otherwise_is_no_obstacle() {
    for (what, rewrite) in HARMLESS {
        let ca = rewriting(*rewrite).await;
        let account = ca.account().await;
        let mut order = OrderSession::begin(&account, &for_names(&["a.test"]))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let chains = drive(&mut order)
            .await
            .unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_eq!(chains.len(), 1, "{what}");
        assert_eq!(ca.asked().len(), 7, "{what}");
    }
}

/// With what the error must name.
const WRONG: &[(&str, Rewriting, &str)] = &[
    (
        "the directory",
        |endpoint, object| {
            if endpoint == "directory" {
                object["newOrder"] = json!({});
            }
        },
        "/directory: newOrder is no URL: {}",
    ),
    (
        "no order",
        |endpoint, object| {
            if endpoint == "newOrder" {
                *object = json!({"note": "come back later"});
            }
        },
        "/new-order: status is missing",
    ),
    (
        "an authorization's URL",
        |endpoint, object| {
            if endpoint == "newOrder" {
                object["authorizations"] = json!([42]);
            }
        },
        "/new-order: authorizations names 42, which is no URL",
    ),
    (
        "a token",
        |endpoint, object| {
            if endpoint == "authz" {
                object["challenges"] = json!([{"type": "http-01", "url": "/c/1", "token": "../../etc"}]);
            }
        },
        "/authz/0: token is not base64url of at most 256 characters: \"../../etc\"",
    ),
    (
        "a long token",
        |endpoint, object| {
            if endpoint == "authz" {
                object["challenges"] = json!([{"type": "dns-01", "url": "/c/1", "token": "a".repeat(257)}]);
            }
        },
        "/authz/0: token is not base64url of at most 256 characters",
    ),
    (
        "an identifier",
        |endpoint, object| {
            if endpoint == "authz" {
                object["identifier"] = json!({"type": "dns", "value": []});
            }
        },
        "/authz/0: value is no name",
    ),
];

#[tokio::test]
async fn what_cannot_be_taken_is_named_with_where_it_came_from() {
    for (what, rewrite, expected) in WRONG {
        let ca = rewriting(*rewrite).await;
        let attempt = async {
            let client = ca.client();
            client.directory().await?;
            let account = ca.account().await;
            let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await?;
            order.refresh().await
        };
        let error = attempt.await.unwrap_err();
        assert!(matches!(error, AcmeError::Malformed { .. }), "{what}: {error}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_server_has_no_challenge_answered_for_what_was_not_ordered() {
    for (name, wildcard) in [("victim.test", false), ("a.test", true), ("b.a.test", false)] {
        let ca = rewriting(move |endpoint, object| {
            if endpoint == "authz" {
                object["identifier"]["value"] = json!(name);
                object["wildcard"] = json!(wildcard);
            }
        })
        .await;
        let account = ca.account().await;
        let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
        let mut resumed = resume(&account, &order.view().url, &["a.test"]).await.unwrap();
        for order in [&mut order, &mut resumed] {
            let error = order.refresh().await.unwrap_err();
            let star = if wildcard { "*." } else { "" };
            let expected = format!("is for {star}{name}, which was not ordered");
            assert!(error.to_string().contains(&expected), "{error}");
            assert_eq!(next_step(order.view(), now()), Step::Fetch);
        }
    }
}

#[tokio::test]
async fn what_is_proven_already_may_be_for_a_parent() {
    let ca = rewriting(|endpoint, object| {
        if endpoint == "authz" {
            object["identifier"]["value"] = json!("test");
            object["status"] = json!("valid");
        }
    })
    .await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    assert_eq!(next_step(order.view(), now()), Step::Finalize);
}

#[tokio::test]
async fn a_wildcards_authorization_without_the_flag_is_for_the_wildcard() {
    let ca = rewriting(|endpoint, object| {
        if endpoint == "authz" {
            absent(object, "wildcard");
        }
    })
    .await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["*.a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    assert_eq!(order.view().authorizations[0].name(), "*.a.test");
}

#[tokio::test]
async fn an_order_lists_no_more_authorizations_than_names() {
    for count in [2, 900, 1_001] {
        let ca = rewriting(move |endpoint, object| {
            if matches!(endpoint, "newOrder" | "order") {
                object["authorizations"] = (0..count).map(|i| json!(format!("/authz/{i}"))).collect();
            }
        })
        .await;
        let account = ca.account().await;
        let error = OrderSession::begin(&account, &for_names(&["a.test"]))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&format!("lists {count}")), "{error}");
        let error = resume(&account, &ca.url("/order/0"), &["a.test"]).await.unwrap_err();
        assert!(error.to_string().contains(&format!("lists {count}")), "{error}");
        assert_eq!(ca.asked(), ["newOrder", "order"], "no authorization is read");
    }
}

#[tokio::test]
async fn an_authorization_of_half_a_megabyte_is_not_read() {
    let ca = rewriting(|endpoint, object| {
        if endpoint == "authz" {
            object["challenges"][0]["token"] = json!("t".repeat(500_000));
        }
    })
    .await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    let error = order.refresh().await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("authz with a body of more than 65536 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_long_page_of_an_error_is_still_that_error() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    ca.fail(Endpoint::NewOrder, Fault::Answer(502, vec![], "x".repeat(1_000_000)));
    let error = OrderSession::begin(&account, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    assert!(matches!(error, AcmeError::Unavailable { status: 502, .. }), "{error}");
}

#[tokio::test]
async fn unsigned_requests_follow_redirects_to_allowed_places() {
    let ca = FakeCa::start().await;
    for status in [301, 302, 303, 307, 308] {
        ca.fail(
            Endpoint::Directory,
            Fault::Answer(status, vec![("location", "directory")], String::new()),
        );
    }
    let client = ca.client();
    client.directory().await.unwrap();
    assert_eq!(ca.asked().len(), 6);

    for _ in 0..6 {
        ca.fail(
            Endpoint::Directory,
            Fault::Answer(302, vec![("location", "/directory")], String::new()),
        );
    }
    let error = ca.client().directory().await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");

    let metadata = Fault::Answer(302, vec![("location", "https://169.254.169.254/")], String::new());
    ca.fail(Endpoint::Directory, metadata);
    let error = ca.client().directory().await.unwrap_err();
    assert!(matches!(error, AcmeError::AddressRefused { .. }), "{error}");
}

#[tokio::test]
async fn an_alternate_chain_that_is_gone_costs_nothing_but_the_choice() {
    for fault in [
        problem(404, "malformed"),
        problem(500, "serverInternal"),
        Fault::Answer(200, vec![], "<html>".to_owned()),
        Fault::Cut,
    ] {
        let ca = FakeCa::start().await;
        let account = ca.account().await;
        let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
        drive(&mut order).await.unwrap();
        ca.asked();
        ca.fail(Endpoint::Certificate, Fault::Right);
        ca.fail(Endpoint::Certificate, fault);
        let chains = order.certificate(true).await.unwrap();
        assert_eq!(chains.all.len(), 1);
        let unread = chains.unread.unwrap();
        assert!(unread.contains("/certificate/0/1: "), "{unread}");
        assert!(!unread.contains("order no longer exists"), "{unread}");
        assert_eq!(ca.asked(), ["certificate", "certificate"]);
    }
}

async fn ready(ca: &FakeCa) -> (Account, OrderSession) {
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    let url = order.view().authorizations[0].challenges[0].url.clone();
    order.challenge_ready(&url).await.unwrap();
    order.refresh().await.unwrap();
    assert_eq!(next_step(order.view(), now()), Step::Finalize);
    ca.asked();
    (account, order)
}

#[tokio::test]
async fn a_finalize_that_a_gateway_gave_up_is_not_sent_again() {
    for status in [504, 502, 500, 403] {
        let ca = FakeCa::start().await;
        let (_, mut order) = ready(&ca).await;
        ca.fail(Endpoint::Finalize, Fault::After(status));
        order.finalize(b"csr").await.unwrap_err();
        assert_eq!(next_step(order.view(), now()), Step::Finalize);
        ca.fail(Endpoint::Order, problem(503, "serverInternal"));
        order.finalize(b"csr").await.unwrap_err();
        drive(&mut order).await.unwrap();
        assert_eq!(ca.asked(), ["finalize", "order", "order", "certificate"]);
    }
}

#[tokio::test]
async fn a_finalize_that_the_ca_never_saw_is_sent_once_more() {
    let ca = FakeCa::start().await;
    let (_, mut order) = ready(&ca).await;
    for fault in [Fault::Cut, problem(503, "serverInternal")] {
        ca.fail(Endpoint::Finalize, fault);
        order.finalize(b"csr").await.unwrap_err();
    }
    drive(&mut order).await.unwrap();
    let expected = [
        "finalize",
        "order",
        "finalize",
        "order",
        "finalize",
        "order",
        "certificate",
    ];
    // The broken answer took its nonce with it.
    let asked = ca.asked().into_iter().filter(|endpoint| *endpoint != "newNonce");
    assert_eq!(asked.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_second_finalize_that_is_malformed_is_explained_by_the_order() {
    let ca = FakeCa::start().await;
    let (account, mut order) = ready(&ca).await;
    let mut other = resume(&account, &order.view().url, &["a.test"]).await.unwrap();
    other.finalize(b"csr").await.unwrap();
    ca.fail(Endpoint::Finalize, problem(400, "malformed"));
    drive(&mut order).await.unwrap();
    // A CSR that the CA cannot read is reported as such.
    let ca = FakeCa::start().await;
    let (_, mut order) = ready(&ca).await;
    ca.fail(Endpoint::Finalize, problem(400, "malformed"));
    let error = order.finalize(b"csr").await.unwrap_err();
    assert!(matches!(error, AcmeError::Rejected(_)), "{error}");
}

/// The CA is still busy with the first, behind a gateway that gave up, and shows the order as ready.
#[tokio::test]
async fn a_ca_that_is_slow_to_show_a_finalize_keeps_its_order() {
    let ca = FakeCa::start().await;
    let (_, mut order) = ready(&ca).await;
    ca.fail(Endpoint::Finalize, Fault::Answer(504, vec![], String::new()));
    order.finalize(b"csr").await.unwrap_err();
    ca.fail(Endpoint::Finalize, problem(400, "malformed"));
    let error = order.finalize(b"csr").await.unwrap_err();
    assert!(matches!(error, AcmeError::OrderNotReady { .. }), "{error}");
    drive(&mut order).await.unwrap();
}

#[tokio::test]
async fn a_lifetime_is_asked_for_with_the_order() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let wanted = NewOrder {
        not_after: Some("2026-12-24T00:00:00Z".parse().unwrap()),
        ..for_names(&["a.test"])
    };
    let mut order = OrderSession::begin(&account, &wanted).await.unwrap();
    assert_eq!(ca.payload(Endpoint::NewOrder)["notAfter"], "2026-12-24T00:00:00Z");
    drive(&mut order).await.unwrap();
    assert_eq!(ca.asked().len(), 7);
}

#[tokio::test]
async fn a_ca_that_does_not_repeat_what_is_replaced_keeps_its_order() {
    let ca = rewriting(|endpoint, object| {
        if endpoint == "newOrder" {
            absent(object, "replaces");
        }
    })
    .await;
    let account = ca.account().await;
    let mut wanted = for_names(&["a.test"]);
    wanted.replaces = Some("aki.serial".to_owned());
    let mut order = OrderSession::begin(&account, &wanted).await.unwrap();
    assert_eq!(order.view().replaces, None);
    drive(&mut order).await.unwrap();
    assert_eq!(ca.asked().len(), 7);
}
