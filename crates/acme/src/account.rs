//! The account at a CA (RFC 8555 §7.3).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::AcmeClient;
use super::directory::Directory;
use super::error::AcmeError;
use super::http::{Answer, Endpoint};
use super::key::{AccountKey, Eab};
use super::objects;
use super::signed::{Signed, Signer, jws};
use super::transport::{Step, Transport, take};

/// The account to register.
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
    /// The account's URL, as the caller remembers it: it is read where the CA finds no account without a binding, so that the
    /// binding is shown once.
    pub known_uri: Option<String>,
}

/// An account that exists at the CA. A clone is the same account.
#[derive(Clone)]
pub struct Account {
    client: Arc<AcmeClient>,
    key: Arc<AccountKey>,
    uri: String,
    handle: Arc<Mutex<Option<Handle>>>,
}

/// The account in instant-acme, and the directory that it knows.
type Handle = (Arc<Directory>, instant_acme::Account);

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.uri).finish()
    }
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
        let url = &directory.new_account;
        let bound = options.eab.is_some() || directory.meta.external_account_required;
        // The binding's key may be good for one use (some CAs): show it only to make an account.
        let existing = if bound {
            find(&client, &key, url, options).await?
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
            new_account(&client, &key, url, &json!(payload))
                .await
                .map_err(|error| match error {
                    // It was shown, so it is the wrong one.
                    AcmeError::ExternalAccountRequired { detail } if options.eab.is_some() => AcmeError::Unauthorized {
                        detail: format!("it does not take the external account binding: {detail}"),
                    },
                    other => other,
                })?
        };
        objects::account(&answer)?;
        let uri = answer
            .location
            .clone()
            .ok_or_else(|| AcmeError::malformed(&answer, "newAccount gave no account URL"))?;
        let account = Self::known(client, key, uri);
        // 201 is an account made just now, with our contact.
        if answer.status != 201
            && let Some(contact) = contact_update(options, serde_json::from_slice(&answer.body).ok())
        {
            let handle = account.handle().await?;
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            take!(Step::new(Endpoint::Account), handle.update_contacts(&contact))?;
        }
        Ok(account)
    }

    /// The account of `key` that is known to have `uri`: no request. Should the CA have forgotten it, orders fail with
    /// [`AcmeError::AccountDoesNotExist`], and it is time to [`establish`](Self::establish) it.
    pub fn known(client: Arc<AcmeClient>, key: Arc<AccountKey>, uri: String) -> Self {
        Self {
            client,
            key,
            uri,
            handle: Arc::default(),
        }
    }

    /// Asks the CA whether the account may still be used: one request, two at servers that know no POST-as-GET here.
    ///
    /// CAs answer `unauthorized` both for an account that was deactivated and for a name that it may not order.
    pub async fn verify(&self) -> Result<(), AcmeError> {
        let answer = match self.post(Endpoint::Account, &self.uri, None).await {
            Err(AcmeError::Rejected(_) | AcmeError::Malformed { .. }) => {
                self.post(Endpoint::Account, &self.uri, Some(&json!({}))).await?
            }
            result => result?,
        };
        objects::account(&answer).map(drop)
    }

    /// Agrees to the CA's terms as they are now, for an account that exists (§7.3.3).
    pub async fn agree_to_terms(&self) -> Result<(), AcmeError> {
        let agreement = json!({"termsOfServiceAgreed": true});
        let answer = self.post(Endpoint::Account, &self.uri, Some(&agreement)).await?;
        objects::account(&answer).map(drop)
    }

    /// Reads a chain that the CA issued to the account (§7.4.2), in PEM.
    pub async fn chain(&self, url: &str) -> Result<String, AcmeError> {
        let answer = self.post(Endpoint::Certificate, url, None).await?;
        objects::chain(&answer)
    }

    /// Gives the account another key (§7.3.5), for example a P-256 one in place of the RSA one of another tool. Keep `new` before: should the answer
    /// be lost, [`establish`](Self::establish) with it shows whether it is the account's.
    pub async fn roll_over(&self, new: Arc<AccountKey>) -> Result<Self, AcmeError> {
        let directory = self.client.directory().await?;
        let url = directory.key_change.as_deref().ok_or_else(|| {
            AcmeError::Invalid("the CA has no keyChange: it cannot change an account's key".to_owned())
        })?;
        let change = json!({"account": self.uri, "oldKey": self.key.jwk()});
        let inner = jws(Signer::Key(&new), None, url, Some(&change))?;
        self.post(Endpoint::KeyChange, url, Some(&inner)).await?;
        Ok(Self::known(self.client.clone(), new, self.uri.clone()))
    }

    /// The account's URL, which signs requests as `kid`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The account's key.
    pub fn key(&self) -> &AccountKey {
        &self.key
    }

    pub(super) fn shared_key(&self) -> Arc<AccountKey> {
        self.key.clone()
    }

    /// The server that the account is at.
    pub fn client(&self) -> &AcmeClient {
        &self.client
    }

    /// The account in instant-acme. It is put together again when the directory was read again.
    pub(super) async fn handle(&self) -> Result<instant_acme::Account, AcmeError> {
        let directory = self.client.directory().await?;
        if let Some((known, handle)) = &*self.slot()
            && Arc::ptr_eq(known, &directory)
        {
            return Ok(handle.clone());
        }
        let (der, is_stand_in) = self.key.for_instant_acme()?;
        let transport = Transport {
            client: self.client.clone(),
            directory: directory.clone(),
            key: is_stand_in.then(|| self.key.clone()),
        };
        let handle = instant_acme::Account::builder_with_http(Box::new(transport))
            .from_parts(
                self.uri.clone(),
                PrivatePkcs8KeyDer::from(der.as_slice()),
                directory.new_account.clone(),
            )
            .await
            .map_err(|error| AcmeError::Invalid(format!("instant-acme: {error}")))?;
        *self.slot() = Some((directory, handle.clone()));
        Ok(handle)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Handle>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Our own signed request, for what instant-acme has not.
    pub(super) async fn post(
        &self,
        endpoint: Endpoint,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Answer, AcmeError> {
        self.client
            .post(Signed {
                signer: Signer::Account(&self.key, &self.uri),
                endpoint,
                url,
                payload,
            })
            .await
    }
}

/// Looks for an account of the key, without a binding. Some CAs demand one even for this, whether or not there is an account: then only the
/// remembered URL can say.
async fn find(
    client: &Arc<AcmeClient>,
    key: &Arc<AccountKey>,
    url: &str,
    options: &AccountOptions,
) -> Result<Option<Answer>, AcmeError> {
    let missing = match new_account(client, key, url, &json!({"onlyReturnExisting": true})).await {
        Ok(answer) => return Ok(Some(answer)),
        Err(error) => error,
    };
    match (&missing, &options.eab) {
        (AcmeError::AccountDoesNotExist { .. }, Some(_)) => Ok(None),
        (AcmeError::AccountDoesNotExist { .. }, None) => Err(AcmeError::ExternalAccountRequired {
            detail: "its directory says so".to_owned(),
        }),
        (error, Some(_)) if demands_binding(error) => remembered(client, key, url, options).await,
        _ => Err(missing),
    }
}

/// Whether a look-up was refused for want of a binding; some servers have no word for it.
fn demands_binding(error: &AcmeError) -> bool {
    match error {
        AcmeError::ExternalAccountRequired { .. } => true,
        AcmeError::Rejected(problem) => problem.kind == "malformed",
        _ => false,
    }
}

/// Reads the account at the remembered URL, if that is this server's and the account is this key's.
async fn remembered(
    client: &Arc<AcmeClient>,
    key: &Arc<AccountKey>,
    url: &str,
    options: &AccountOptions,
) -> Result<Option<Answer>, AcmeError> {
    let origin = |url: &str| url::Url::parse(url).map(|url| url.origin()).ok();
    let Some(uri) = options.known_uri.as_ref().filter(|uri| origin(uri) == origin(url)) else {
        return Ok(None);
    };
    let account = Account::known(client.clone(), key.clone(), uri.clone());
    match account.post(Endpoint::Account, uri, None).await {
        Ok(mut answer) => {
            answer.location = Some(uri.clone());
            Ok(Some(answer))
        }
        Err(
            AcmeError::AccountDoesNotExist { .. }
            | AcmeError::Unauthorized { .. }
            | AcmeError::Rejected(_)
            | AcmeError::Malformed { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn new_account(client: &AcmeClient, key: &AccountKey, url: &str, payload: &Value) -> Result<Answer, AcmeError> {
    client
        .post(Signed {
            signer: Signer::Key(key),
            endpoint: Endpoint::NewAccount,
            url,
            payload: Some(payload),
        })
        .await
}

/// The contact as it should be (§7.3.2), or `None` when it is, as far as the CA or the
/// caller's memory say. A contact that another client registered is left alone where no email is wanted.
fn contact_update(options: &AccountOptions, registered: Option<AccountObject>) -> Option<Vec<String>> {
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
    differs.then_some(wanted)
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
            let expected = sent.map(|contact| contact.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
            assert_eq!(contact_update(&options, shown), expected, "{options:?}");
        }
    }
}
