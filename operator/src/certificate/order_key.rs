//! The key of an order in flight: it waits in a Secret of its own, so that a crash after the order was finalized loses
//! nothing.

use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use zeroize::Zeroizing;

use super::{cache::Cache, context::Context, reconcile::Reconcile};
use crate::{
    kubernetes::{
        apply::{Conflicts, Target, WriteError},
        names,
    },
    pki::{KeyEncoding, PrivateKey},
};

const KEY: &str = "tls.key";
/// Prefix of the names of these Secrets; the UID of the Certificate follows.
const PREFIX: &str = "gatehouse-order-";
/// Label of these Secrets.
const ORDER: &str = "acme-order";

/// The Secret that holds the key of an order in flight.
fn secret_name(reconcile: &Reconcile<'_>) -> String {
    format!("{PREFIX}{}", reconcile.uid())
}

/// Returns the key, if it exists and can be read.
pub async fn read(reconcile: &Reconcile<'_>) -> Result<Option<Arc<PrivateKey>>, WriteError> {
    let name = secret_name(reconcile);
    let secret = reconcile
        .ctx()
        .secrets(&reconcile.namespace())
        .get_opt(&name)
        .await
        .map_err(|error| WriteError::reading("Secret", &name, error))?;
    let pem = secret.and_then(|secret| secret.data?.remove(KEY));
    Ok(pem.and_then(|ByteString(pem)| PrivateKey::from_pem(&Zeroizing::new(pem)).ok().map(Arc::new)))
}

/// Keeps `key`.
pub async fn write(reconcile: &Reconcile<'_>, key: &PrivateKey) -> Result<(), WriteError> {
    let name = secret_name(reconcile);
    let pem = key
        .to_pem(KeyEncoding::Pkcs8)
        .map(|pem| pem.as_bytes().to_vec())
        .unwrap_or_default();
    let labels = [
        (names::MANAGED, names::TRUE),
        (names::APP_MANAGED_BY, names::FIELD_MANAGER),
        (names::APP_COMPONENT, ORDER),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            annotations: Some([(names::CERTIFICATE.into(), reconcile.certificate.name_any())].into()),
            owner_references: reconcile.certificate.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.into(), ByteString(pem))].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let api = reconcile.ctx().secrets(&reconcile.namespace());
    match reconcile.ctx().writer.create(&api, &secret).await {
        Err(error) if error.is_already_exists() => {
            // Of an order that came to nothing.
            let body = serde_json::to_value(&secret).unwrap_or_default();
            reconcile
                .ctx()
                .writer
                .apply::<Secret>(&api, Target::named(&name), body, Conflicts::Take)
                .await
                .map(drop)
        }
        result => result.map(drop),
    }
}

/// Deletes the keys of orders that ended in a crash: one list at the start, and nothing ever after.
///
/// A key is still needed while its Certificate has an order in its status, or is being
/// worked on by now.
pub async fn sweep(ctx: &Context, cache: &Cache, namespace: Option<&str>) {
    let secrets: Api<Secret> = match namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    };
    let labels = format!("{}={},{}={ORDER}", names::MANAGED, names::TRUE, names::APP_COMPONENT);
    let found = match secrets.list_metadata(&ListParams::default().labels(&labels)).await {
        Ok(found) => found.items,
        Err(error) => {
            tracing::debug!(%error, "the keys of orders could not be listed");
            return;
        }
    };
    if !cache.synced().await {
        return;
    }
    for key in found {
        let (namespace, name) = (key.namespace().unwrap_or_default(), key.name_any());
        let Some(uid) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let owner = key
            .annotations()
            .get(names::CERTIFICATE)
            .map(String::as_str)
            .unwrap_or_default();
        if ctx.is_busy(uid) || cache.has_order(&namespace, owner, uid) {
            continue;
        }
        if let Err(error) = ctx
            .writer
            .delete::<Secret>(&ctx.secrets(&namespace), Target::unchanged(&key))
            .await
        {
            tracing::debug!(%error, secret = name, "the key of an order of before could not be deleted");
        }
    }
}

/// Best effort: it belongs to the Certificate and goes with it at the latest.
pub async fn delete(reconcile: &Reconcile<'_>) {
    let name = secret_name(reconcile);
    if let Err(error) = reconcile
        .ctx()
        .writer
        .delete::<Secret>(&reconcile.ctx().secrets(&reconcile.namespace()), Target::named(&name))
        .await
    {
        tracing::debug!(%error, secret = name, "the key of a finished order could not be deleted");
    }
}
