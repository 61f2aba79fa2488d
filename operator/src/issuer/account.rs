//! The `acme` issuer on its way to being ready: trust, key, binding, account.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::{
    issuer::{AcmeAccountStatus, AcmeIssuer},
    secret_ref::SecretKeySelector,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Api;
use zeroize::Zeroizing;

use super::{
    NotReady, USER_ACTION_REQUIRED,
    acme::{Account, AccountKey, AccountOptions, AcmeClient, AcmeError, Eab, HttpClient, HttpOptions, RequestObserver},
    solver::{SecretReadError, SecretReader},
};
use crate::kubernetes::{apply::Writer, names};

/// Pause between two orders that find out whether a user has done what the CA asks for.
pub const USER_ACTION_RETRY_AFTER: Duration = Duration::from_mins(15);

/// Key of the account key in its Secret, as in cert-manager.
const KEY: &str = "tls.key";

/// Dependencies for establishing an account.
pub struct AccountContext<'a> {
    pub writer: &'a Writer,
    pub api: Api<Secret>,
    pub secrets: &'a dyn SecretReader,
    pub observer: Arc<dyn RequestObserver>,
    pub allow_loopback: bool,
    /// Owner reference to the Issuer, for a Secret that is created; none when they are in different namespaces.
    pub owner: Option<OwnerReference>,
}

/// Finds or registers the account. The key is in its Secret before the CA can know it, so that a crash
/// at any point finds the same account again.
pub async fn establish(
    spec: &AcmeIssuer,
    known: Option<&AcmeAccountStatus>,
    context: &AccountContext<'_>,
) -> Result<Account, NotReady> {
    let options = HttpOptions {
        ca_bundle: ca_bundle(spec, context.secrets).await?,
        allow_loopback: context.allow_loopback,
        ..HttpOptions::default()
    };
    let http = HttpClient::new(&options, context.observer.clone()).map_err(not_ready)?;
    let client = Arc::new(AcmeClient::new(http, &spec.server));
    let eab = match &spec.external_account_binding {
        Some(binding) => {
            let key = value(context.secrets, &binding.key_secret_ref, "the external account binding").await?;
            Some(Eab::new(&binding.key_id, &key).map_err(not_ready)?)
        }
        None => None,
    };
    let key = Arc::new(account_key(spec, context).await?);
    let options = AccountOptions {
        email: spec.email.clone(),
        last_registered_email: known.and_then(|acme| acme.last_registered_email.clone()),
        eab,
        terms_agreed: true,
        known_uri: known.and_then(|acme| acme.account_uri.clone()),
    };
    Account::establish(client, key, &options)
        .await
        .map_err(|error| advised(spec, error))
}

/// Asks the CA whether the account may be used.
pub async fn verify(spec: &AcmeIssuer, account: &Account) -> Result<(), NotReady> {
    account.verify().await.map_err(|error| advised(spec, error))
}

/// Returns the condition's message while the CA requires a user to act there.
pub fn user_action(error: &AcmeError) -> String {
    format!(
        "{error}; do what the CA asks for, for example agree to its new terms. Nothing is ordered meanwhile; one order every 15 minutes finds out whether it is done"
    )
}

/// [`not_ready`] with the field of the spec to check, where the error alone does not name it.
fn advised(spec: &AcmeIssuer, error: AcmeError) -> NotReady {
    let advice = match (&error, &spec.external_account_binding) {
        (AcmeError::Tls { .. }, _) => {
            Some("if a private CA signed the server's certificate, name it in spec.acme.caBundle".to_owned())
        }
        (AcmeError::Network { .. } | AcmeError::Timeout { .. }, _) => {
            Some("check spec.acme.server, and that the operator may connect to it".to_owned())
        }
        (AcmeError::Unauthorized { .. }, binding) => Some(format!(
            "nothing is ordered until it is accepted. If the account was deactivated, name another Secret in \
             spec.acme.privateKeySecretRef or delete Secret {}, and a new account is made; if it was revoked, ask the CA{}",
            spec.private_key_secret_ref.name,
            binding.as_ref().map_or_else(String::new, |binding| format!(
                "; if it is new, check keyID and the key in Secret {} of the external account binding",
                binding.key_secret_ref.name
            ))
        )),
        (AcmeError::Rejected(problem), _) if problem.requires_user_action() => {
            return NotReady {
                retry_after: Some(USER_ACTION_RETRY_AFTER),
                ..NotReady::new(USER_ACTION_REQUIRED, user_action(&error))
            };
        }
        (AcmeError::Rejected(_), Some(binding)) => Some(format!(
            "check the external account binding: keyID and the key in Secret {}",
            binding.key_secret_ref.name
        )),
        _ => None,
    };
    let mut reported = not_ready(error);
    if let Some(advice) = advice {
        reported.message = format!("{}; {advice}", reported.message);
    }
    reported
}

/// Returns the issuer's state after an error of the CA or the network.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn not_ready(error: AcmeError) -> NotReady {
    let reason = match &error {
        AcmeError::ExternalAccountRequired { .. } => "ExternalAccountRequired",
        AcmeError::Unauthorized { .. } => "AccountRefused",
        AcmeError::Tls { .. } => "UntrustedServer",
        other => other.reason(),
    };
    let transient = matches!(
        error,
        AcmeError::Network { .. }
            | AcmeError::Timeout { .. }
            | AcmeError::Unavailable { .. }
            | AcmeError::RateLimited { .. }
            | AcmeError::BadNonce { .. }
            | AcmeError::Malformed { .. }
            | AcmeError::InsecureAnswer { .. }
            | AcmeError::Tls { .. }
    );
    NotReady {
        reason,
        retry_after: error.retry_after(),
        transient,
        message: error.to_string(),
    }
}

async fn ca_bundle(spec: &AcmeIssuer, secrets: &dyn SecretReader) -> Result<Option<Vec<u8>>, NotReady> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if let Some(selector) = &spec.ca_bundle_secret_ref {
        return Ok(Some(value(secrets, selector, "the CA bundle").await?.to_vec()));
    }
    let Some(text) = &spec.ca_bundle else { return Ok(None) };
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).map(Some).map_err(|_| {
        NotReady::new(
            "Invalid",
            "spec.acme.caBundle is not base64; write the PEM file through: base64 -w0 ca.pem",
        )
    })
}

async fn value(
    secrets: &dyn SecretReader,
    selector: &SecretKeySelector,
    what: &str,
) -> Result<Zeroizing<Vec<u8>>, NotReady> {
    let SecretKeySelector { name, key } = selector;
    let mut data = secrets.read(name).await.map_err(|error| match error {
        SecretReadError::NotFound => NotReady::new(
            "SecretMissing",
            format!("{what} is to be in Secret {name}, which does not exist"),
        ),
        SecretReadError::Failed(detail) => {
            NotReady::transient("SecretUnreadable", format!("Secret {name} cannot be read: {detail}"))
        }
    })?;
    data.remove(key).filter(|value| !value.is_empty()).ok_or_else(|| {
        NotReady::new(
            "SecretMalformed",
            format!("{what} is to be under {key} in Secret {name}, which has no such key"),
        )
    })
}

/// The key in the Secret; made when the Secret is missing, never replaced.
async fn account_key(spec: &AcmeIssuer, context: &AccountContext<'_>) -> Result<AccountKey, NotReady> {
    let name = &spec.private_key_secret_ref.name;
    let selector = SecretKeySelector {
        name: name.clone(),
        key: KEY.into(),
    };
    match value(context.secrets, &selector, "the account's key").await {
        Ok(pem) => return read_key(name, &pem),
        Err(missing) if missing.reason == "SecretMissing" => {}
        Err(error) => return Err(error),
    }
    let (key, pem) = AccountKey::generate().map_err(not_ready)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(
                [
                    (names::MANAGED.into(), names::TRUE.into()),
                    (names::APP_MANAGED_BY.into(), names::FIELD_MANAGER.into()),
                ]
                .into(),
            ),
            owner_references: context.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.into(), ByteString(pem.as_bytes().to_vec()))].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    match context.writer.create(&context.api, &secret).await {
        Ok(_) => Ok(key),
        // Another process, or the user, was faster: theirs it is.
        Err(error) if error.is_already_exists() => {
            read_key(name, &value(context.secrets, &selector, "the account's key").await?)
        }
        Err(error) => Err(NotReady::transient(
            "SecretWriteFailed",
            format!("the account's key cannot be kept: {error}"),
        )),
    }
}

fn read_key(name: &str, pem: &[u8]) -> Result<AccountKey, NotReady> {
    AccountKey::from_pem(pem).map_err(|error| {
        NotReady::new(
            "SecretMalformed",
            format!("{KEY} in Secret {name} is no account key: {error}"),
        )
    })
}
