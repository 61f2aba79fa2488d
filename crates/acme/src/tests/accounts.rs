#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use serde_json::json;

use super::fake_ca::{FakeCa, problem};
use super::orders::for_names;
use crate::*;

fn key() -> Arc<AccountKey> {
    Arc::new(AccountKey::generate().unwrap().0)
}

fn with_email(email: Option<&str>, last: Option<&str>) -> AccountOptions {
    AccountOptions {
        email: email.map(str::to_owned),
        last_registered_email: last.map(str::to_owned),
        terms_agreed: true,
        ..AccountOptions::default()
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_account() {
    let ca = FakeCa::start().await;
    let key = key();
    let options = with_email(Some("ops@a.test"), None);
    let made = Account::establish(ca.client(), key.clone(), &options).await.unwrap();
    assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount"]);
    assert_eq!(
        ca.payload(Endpoint::NewAccount),
        json!({"contact": ["mailto:ops@a.test"], "termsOfServiceAgreed": true})
    );
    let found = Account::establish(ca.client(), key, &options).await.unwrap();
    assert_eq!(found.uri(), made.uri());
    assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount"]);
    let other = Account::establish(ca.client(), self::key(), &options).await.unwrap();
    assert_ne!(other.uri(), made.uri());
}

#[tokio::test]
async fn a_changed_address_is_registered() {
    for hide in [false, true] {
        let ca = FakeCa::start().await;
        ca.script().hide_contacts = hide;
        let key = key();
        let old = with_email(Some("old@a.test"), None);
        Account::establish(ca.client(), key.clone(), &old).await.unwrap();
        ca.asked();
        let new = with_email(Some("new@a.test"), Some("old@a.test"));
        Account::establish(ca.client(), key.clone(), &new).await.unwrap();
        assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount", "account"]);
        assert_eq!(ca.payload(Endpoint::Account), json!({"contact": ["mailto:new@a.test"]}));
        let same = with_email(Some("new@a.test"), Some("new@a.test"));
        Account::establish(ca.client(), key, &same).await.unwrap();
        assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount"]);
    }
}

#[tokio::test]
async fn a_binding_is_shown_only_to_make_the_account() {
    let ca = FakeCa::start().await;
    ca.script().meta = json!({"externalAccountRequired": true});
    let key = key();
    let bound = || AccountOptions {
        eab: Some(Eab::new("kid-1", b"c2VjcmV0").unwrap()),
        ..with_email(None, None)
    };
    let error = Account::establish(ca.client(), key.clone(), &with_email(None, None))
        .await
        .unwrap_err();
    assert!(matches!(error, AcmeError::ExternalAccountRequired { .. }), "{error}");
    Account::establish(ca.client(), key.clone(), &bound()).await.unwrap();
    let binding = ca.payload(Endpoint::NewAccount)["externalAccountBinding"].clone();
    assert!(binding["signature"].is_string(), "{binding}");
    ca.asked();
    Account::establish(ca.client(), key, &bound()).await.unwrap();
    assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount"]);
    assert_eq!(ca.payload(Endpoint::NewAccount), json!({"onlyReturnExisting": true}));
}

#[tokio::test]
async fn a_wrong_binding_is_told_as_the_account_being_refused() {
    let ca = FakeCa::start().await;
    let options = AccountOptions {
        eab: Some(Eab::new("kid-1", b"c2VjcmV0").unwrap()),
        ..with_email(None, None)
    };
    for (kind, expected) in [
        ("unauthorized", "the ACME server refuses the account: scripted"),
        (
            "externalAccountRequired",
            "the ACME server refuses the account: it does not take the external account binding: scripted",
        ),
    ] {
        ca.fail(Endpoint::NewAccount, problem(400, "accountDoesNotExist"));
        ca.fail(Endpoint::NewAccount, problem(401, kind));
        let error = Account::establish(ca.client(), key(), &options).await.unwrap_err();
        assert_eq!(error.reason(), "IssuerNotReady");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn terms_that_are_not_agreed_to_make_no_account() {
    let ca = FakeCa::start().await;
    let error = Account::establish(ca.client(), key(), &AccountOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "IssuerNotReady");
}

#[tokio::test]
async fn the_directory_is_read_once_and_again_after_a_404() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let order = for_names(&["a.test"]);
    OrderSession::begin(&account, &order).await.unwrap();
    ca.fail(Endpoint::NewOrder, problem(404, "malformed"));
    OrderSession::begin(&account, &order).await.unwrap_err();
    OrderSession::begin(&account, &order).await.unwrap();
    assert_eq!(ca.asked(), ["newOrder", "newOrder", "directory", "newOrder"]);
}

#[tokio::test]
async fn who_waits_for_the_directory_shares_its_failure() {
    let ca = FakeCa::start().await;
    ca.fail(Endpoint::Directory, problem(503, "serverInternal"));
    let client = ca.client();
    let asking = (0..20).map(|_| client.directory());
    let results = futures::future::join_all(asking).await;
    assert!(results.iter().all(Result::is_err));
    assert_eq!(ca.asked(), ["directory"]);
    client.directory().await.unwrap();
}

/// As HARICA and ZeroSSL answer.
#[tokio::test]
async fn a_ca_that_demands_a_binding_for_a_look_up_sees_it_once() {
    for demands in [true, false] {
        let ca = FakeCa::start().await;
        ca.script().meta = json!({"externalAccountRequired": true});
        ca.script().demands_binding = demands;
        let key = key();
        let bound = |known_uri| AccountOptions {
            eab: Some(Eab::new("kid-1", b"c2VjcmV0").unwrap()),
            known_uri,
            ..with_email(Some("ops@a.test"), Some("ops@a.test"))
        };
        // A URL of another server's is never sent.
        let elsewhere = Some("https://other.test/account/0".to_owned());
        let made = Account::establish(ca.client(), key.clone(), &bound(elsewhere))
            .await
            .unwrap();
        assert_eq!(ca.asked(), ["directory", "newNonce", "newAccount", "newAccount"]);
        let found = Account::establish(ca.client(), key, &bound(Some(made.uri().to_owned())))
            .await
            .unwrap();
        assert_eq!(found.uri(), made.uri());
        let expected = if demands {
            &["newAccount", "account"][..]
        } else {
            &["newAccount"]
        };
        assert_eq!(ca.asked()[2..], *expected);
        let shown = ca
            .script()
            .payloads
            .iter()
            .filter(|(_, payload)| payload["externalAccountBinding"].is_object())
            .count();
        assert_eq!(shown, 1);
    }
}

#[tokio::test]
async fn another_key_than_the_remembered_accounts_makes_its_own() {
    let ca = FakeCa::start().await;
    ca.script().demands_binding = true;
    let bound = |known_uri| AccountOptions {
        eab: Some(Eab::new("kid-1", b"c2VjcmV0").unwrap()),
        known_uri,
        ..with_email(None, None)
    };
    let made = Account::establish(ca.client(), key(), &bound(None)).await.unwrap();
    ca.fail(Endpoint::Account, problem(400, "accountDoesNotExist"));
    let other = Account::establish(ca.client(), key(), &bound(Some(made.uri().to_owned())))
        .await
        .unwrap();
    assert_ne!(other.uri(), made.uri());
}

#[tokio::test]
async fn a_deactivated_account_is_refused() {
    let ca = FakeCa::start().await;
    ca.script().rewrite = Some(Box::new(|endpoint, object| {
        if endpoint == "newAccount" {
            object["status"] = json!("deactivated");
        }
    }));
    let error = Account::establish(ca.client(), key(), &with_email(None, None))
        .await
        .unwrap_err();
    assert!(matches!(error, AcmeError::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("deactivated"), "{error}");
}

#[tokio::test]
async fn an_account_is_verified_by_reading_it() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    ca.asked();
    account.verify().await.unwrap();
    assert_eq!(ca.asked(), ["account"]);
    ca.fail(Endpoint::Account, problem(400, "malformed"));
    account.verify().await.unwrap();
    assert_eq!(ca.payload(Endpoint::Account), json!({}));
    for (fault, reason) in [
        (problem(401, "unauthorized"), "IssuerNotReady"),
        (problem(400, "accountDoesNotExist"), "IssuerNotReady"),
        (problem(500, "serverInternal"), "Network"),
    ] {
        ca.fail(Endpoint::Account, fault);
        assert_eq!(account.verify().await.unwrap_err().reason(), reason);
    }
    for status in ["deactivated", "revoked"] {
        ca.script().accounts[0]["status"] = json!(status);
        let error = account.verify().await.unwrap_err();
        assert!(
            matches!(&error, AcmeError::Unauthorized { detail } if detail.contains(status)),
            "{error}"
        );
    }
}
