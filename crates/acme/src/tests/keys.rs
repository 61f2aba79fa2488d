#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};

use super::fake_ca::FakeCa;
use super::orders::{drive, for_names};
use crate::*;

fn agreed() -> AccountOptions {
    AccountOptions {
        terms_agreed: true,
        ..AccountOptions::default()
    }
}

fn key(algorithm: &'static SignatureAlgorithm) -> Arc<AccountKey> {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    Arc::new(AccountKey::from_pem(pair.serialize_pem().as_bytes()).unwrap())
}

async fn issues(account: &Account) {
    let mut order = OrderSession::begin(account, &for_names(&["a.test"])).await.unwrap();
    order.refresh().await.unwrap();
    let challenge = &order.view().authorizations[0].challenges[0];
    let expected = format!("{}.{}", challenge.token, account.key().thumbprint());
    assert_eq!(challenge.key_authorization, expected);
    drive(&mut order).await.unwrap();
}

/// The fake CA checks each signature against the account's key.
#[tokio::test]
async fn accounts_with_keys_of_other_tools_issue_as_they_are() {
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let ca = FakeCa::start().await;
        ca.script().bad_nonce_percent = 10;
        let account = Account::establish(ca.client(), key(algorithm), &agreed())
            .await
            .unwrap();
        issues(&account).await;
    }
}

#[tokio::test]
async fn an_rsa_account_key_is_rolled_over_to_p256() {
    let ca = FakeCa::start().await;
    let rsa = key(&PKCS_RSA_SHA256);
    let account = Account::establish(ca.client(), rsa.clone(), &agreed()).await.unwrap();
    let new = Arc::new(AccountKey::generate().unwrap().0);
    let rolled = account.roll_over(new.clone()).await.unwrap();
    assert_eq!(rolled.uri(), account.uri());
    assert_eq!(rolled.key().thumbprint(), new.thumbprint());
    issues(&rolled).await;
    // Found by the new key, and no longer by the old one.
    let found = Account::establish(ca.client(), new, &agreed()).await.unwrap();
    assert_eq!(found.uri(), account.uri());
    let other = Account::establish(ca.client(), rsa, &agreed()).await.unwrap();
    assert_ne!(other.uri(), account.uri());
}

#[tokio::test]
async fn a_ca_that_changes_no_keys_is_named_as_such() {
    let ca = FakeCa::start().await;
    ca.script().rewrite = Some(Box::new(|endpoint, object| {
        if endpoint == "directory" {
            object["keyChange"] = serde_json::Value::Null;
        }
    }));
    let account = ca.account().await;
    let new = Arc::new(AccountKey::generate().unwrap().0);
    let error = account.roll_over(new).await.unwrap_err();
    assert!(error.to_string().contains("no keyChange"), "{error}");
    assert_eq!(ca.asked(), Vec::<&str>::new());
}
