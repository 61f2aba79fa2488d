//! The account at a CA (RFC 8555 §7.3).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{AcmeClient, Signed, Signer};
use super::error::AcmeError;
use super::http::{Answer, Endpoint};
use super::key::{AccountKey, Eab};

/// What to register.
#[derive(Debug, Default)]
pub struct AccountOptions {
    /// `ops@example.com`.
    pub email: Option<String>,
    /// The address that was registered last, as the caller remembers it: some CAs (Let's Encrypt since 2025) take an
    /// address and never show it again.
    pub last_registered_email: Option<String>,
    pub eab: Option<Eab>,
    /// Agreement to the CA's terms of service, which making an account needs.
    pub terms_agreed: bool,
}

/// An account that exists at the CA. A clone is the same account.
#[derive(Debug, Clone)]
pub struct Account {
    client: Arc<AcmeClient>,
    key: Arc<AccountKey>,
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<Value>,
}

#[derive(Deserialize)]
struct AccountObject {
    #[serde(default)]
    contact: Option<Vec<String>>,
}

impl Account {
    /// Finds the account of `key` or makes it, and brings its contact up to date. One request as a
    /// rule; two for the first time with a binding, and when the contact differs.
    ///
    /// It can be called again after any failure: the server knows the account by its key (§7.3.1).
    pub async fn establish(
        client: Arc<AcmeClient>,
        key: Arc<AccountKey>,
        options: &AccountOptions,
    ) -> Result<Self, AcmeError> {
        let directory = client.directory().await?;
        let bound = options.eab.is_some() || directory.meta.external_account_required;
        let url = &directory.new_account;
        let existing = if bound {
            // The binding's key may be good for one use (some CAs): show it only to make an account.
            match new_account(&client, &key, url, &json!({"onlyReturnExisting": true})).await {
                Ok(answer) => Some(answer),
                Err(AcmeError::AccountDoesNotExist { .. }) if options.eab.is_some() => None,
                Err(AcmeError::AccountDoesNotExist { .. }) => {
                    return Err(AcmeError::ExternalAccountRequired {
                        detail: "its directory says so".to_owned(),
                    });
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let answer = if let Some(answer) = existing {
            answer
        } else {
            let payload = NewAccount {
                contact: options.email.iter().map(|email| mailto(email)).collect(),
                terms_of_service_agreed: options.terms_agreed,
                external_account_binding: options.eab.as_ref().map(|eab| eab.bind(&key, url)),
            };
            new_account(&client, &key, url, &json!(payload)).await?
        };
        let uri = answer
            .location
            .clone()
            .ok_or_else(|| AcmeError::malformed(&answer, "newAccount gave no account URL"))?;
        let account = Self { client, key, uri };
        // 201 is an account made just now, with our contact.
        if answer.status != 201
            && let Some(contact) = contact_update(options, answer.json().ok())
        {
            account
                .post(Endpoint::Account, &account.uri, Some(&contact), None)
                .await?;
        }
        Ok(account)
    }

    /// The account of `key` that is known to have `uri`: no request. Should the CA have forgotten it, orders fail with
    /// [`AcmeError::AccountDoesNotExist`], and it is time to [`establish`](Self::establish) it.
    pub fn known(client: Arc<AcmeClient>, key: Arc<AccountKey>, uri: String) -> Self {
        Self { client, key, uri }
    }

    /// The account's URL, which signs requests as `kid`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The account's key.
    pub fn key(&self) -> &AccountKey {
        &self.key
    }

    /// The server that the account is at.
    pub fn client(&self) -> &AcmeClient {
        &self.client
    }

    pub(super) async fn post(
        &self,
        endpoint: Endpoint,
        url: &str,
        payload: Option<&Value>,
        accept: Option<&'static str>,
    ) -> Result<Answer, AcmeError> {
        self.client
            .post(Signed {
                signer: Signer::Account(&self.key, &self.uri),
                endpoint,
                url,
                payload,
                accept,
            })
            .await
    }
}

async fn new_account(client: &AcmeClient, key: &AccountKey, url: &str, payload: &Value) -> Result<Answer, AcmeError> {
    client
        .post(Signed {
            signer: Signer::Key(key),
            endpoint: Endpoint::NewAccount,
            url,
            payload: Some(payload),
            accept: None,
        })
        .await
}

/// The payload that makes the contact what it should be (§7.3.2), or `None` when it is, as far as the CA or the
/// caller's memory tell. A contact that somebody else registered is left alone where no email is wanted.
fn contact_update(options: &AccountOptions, registered: Option<AccountObject>) -> Option<Value> {
    let wanted: Vec<String> = options.email.iter().map(|email| mailto(email)).collect();
    let remembered: Vec<String> = options
        .last_registered_email
        .iter()
        .map(|email| mailto(email))
        .collect();
    let shown = registered
        .and_then(|account| account.contact)
        .filter(|contact| !contact.is_empty());
    let differs = match shown {
        Some(shown) if wanted.is_empty() => !remembered.is_empty() && shown == remembered,
        Some(shown) => shown != wanted,
        None => remembered != wanted,
    };
    differs.then(|| json!({"contact": wanted}))
}

fn mailto(email: &str) -> String {
    format!("mailto:{}", email.trim())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn the_contact_is_updated_only_when_it_differs() {
        let none: Option<&[&str]> = None;
        let (a, b, other) = (&["mailto:a@x"][..], &["mailto:b@x"][..], &["mailto:o@x"][..]);
        // (wanted, remembered, shown by the CA) → sent
        let table = [
            (Some("a@x"), None, Some(a), none),
            (Some("a@x"), Some("b@x"), Some(a), none),
            (Some("b@x"), Some("a@x"), Some(a), Some(b)),
            (Some("b@x"), Some("a@x"), None, Some(b)),
            (Some("a@x"), Some("a@x"), None, none),
            (Some("a@x"), Some("a@x"), Some(&[]), none),
            (None, Some("a@x"), Some(a), Some(&[])),
            (None, None, Some(other), none),
            (None, None, None, none),
        ];
        for (email, last, shown, sent) in table {
            let options = AccountOptions {
                email: email.map(str::to_owned),
                last_registered_email: last.map(str::to_owned),
                ..AccountOptions::default()
            };
            let shown = shown.map(|contact| AccountObject {
                contact: Some(contact.iter().map(|c| (*c).to_owned()).collect()),
            });
            let expected = sent.map(|contact| json!({"contact": contact}));
            assert_eq!(contact_update(&options, shown), expected, "{options:?}");
        }
    }
}
