//! Restores the chain of an ACME certificate that was removed from its Secret, as the CA still has it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::controller::Action};
use zeroize::Zeroizing;

use super::{
    acme::Acme,
    decide::IssuanceReason,
    failure::Stopped,
    observed_secret::{KeyPair, SecretMetadata},
    secret_writer::{self, SecretContent},
};
use crate::{
    clock,
    pki::{Chain, PrivateKey},
};

/// Pause after our last write of the Secret: a client that damages it again and again causes few requests to the CA.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// Reads the chain from the CA and writes it to the Secret, if the key is in the Secret and the certificate is the one of the status.
/// None when an order is needed.
pub(super) async fn put_back(acme: &Acme<'_>) -> Result<Option<Action>, Stopped> {
    let reconcile = acme.reconcile;
    let status = reconcile.status();
    let Some(metadata) = acme
        .observed
        .metadata
        .as_deref()
        .filter(|_| acme.cause == IssuanceReason::SecretDamaged)
    else {
        return Ok(None);
    };
    let server = status
        .authority
        .as_ref()
        .and_then(|authority| authority.server.as_deref());
    let is_its = status.issuer == Some(acme.issuer.signing()) && acme.is_at(server);
    let url = status.acme.as_ref().and_then(|acme| acme.certificate_url.as_deref());
    let Some(url) = url.filter(|_| is_its) else {
        return Ok(None);
    };
    let Some(key) = reconcile
        .read_data(|data| data.get("tls.key").and_then(|pem| read_key(&pem.0)))
        .await?
    else {
        return Ok(None);
    };
    if let Some(left) = pause_left(metadata, reconcile.now) {
        return Ok(Some(Action::requeue(left)));
    }
    let chain = match acme.signer.account.chain(url).await {
        Ok(pem) => pem,
        Err(error) => {
            tracing::info!(%error, url, "chain not available at the CA");
            return Ok(None);
        }
    };
    let Some(pair) = restored(&chain, key, status.serial_number.as_deref(), reconcile.now) else {
        return Ok(None);
    };
    tracing::info!(
        namespace = reconcile.namespace(),
        certificate = reconcile.certificate.name_any(),
        url,
        "chain restored from the CA"
    );
    let delivery = SecretContent {
        desired: acme.desired,
        pair: &pair,
        metadata: Some(metadata),
        issuer: None,
        cause: None,
    };
    secret_writer::publish(reconcile, &delivery).await.map(Some)
}

fn read_key(pem: &[u8]) -> Option<Arc<PrivateKey>> {
    let pem = Zeroizing::new(pem.to_vec());
    PrivateKey::from_pem(&pem).ok().map(Arc::new)
}

fn pause_left(metadata: &SecretMetadata, now: Timestamp) -> Option<Duration> {
    let written = clock::past(metadata.written, now)?;
    let left = MIN_INTERVAL.checked_sub(now.duration_since(written))?;
    left.is_positive().then(|| left.unsigned_abs())
}

/// The pair with the CA's chain, when it is for the key, and the certificate that was issued.
fn restored(pem: &str, key: Arc<PrivateKey>, serial: Option<&str>, now: Timestamp) -> Option<KeyPair> {
    let chain = Chain::read(pem.as_bytes(), Some(&key)).ok()?;
    let is_same = serial == Some(chain.leaf.serial_hex().as_str()) && chain.leaf.not_after > now;
    is_same.then(|| KeyPair {
        is_restored: true,
        ..KeyPair::new(key, chain)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn whoever_goes_on_damaging_a_secret_makes_few_requests_to_the_ca() {
        let written = |seconds| SecretMetadata {
            written: Some(at(seconds)),
            ..SecretMetadata::default()
        };
        assert_eq!(pause_left(&written(0), at(4)), Some(Duration::from_secs(6)));
        assert_eq!(pause_left(&written(0), at(10)), None);
        assert_eq!(pause_left(&SecretMetadata::default(), at(0)), None);
        // A clock that was ahead.
        assert_eq!(pause_left(&written(3600), at(0)), None);
    }

    #[test]
    fn only_the_chain_of_the_certificate_that_was_issued_is_put_back() {
        let key = || Arc::new(PrivateKey::generate(crate::pki::KeyParameters::Ed25519).unwrap());
        let (own, other) = (key(), key());
        let spec = "secretName: a\nissuerRef: {name: ca}\ndnsNames: [a.test]\nduration: 1h";
        let desired = super::super::desired::DesiredCertificate::parse(&serde_saphyr::from_str(spec).unwrap()).unwrap();
        let issued = super::super::signing::by_itself(&desired, own.clone(), at(0)).unwrap();
        let (pem, serial) = (issued.chain.pem(), issued.leaf().serial_hex());
        let restored = |key: &Arc<PrivateKey>, serial: &str, now| restored(&pem, key.clone(), Some(serial), now);
        assert!(restored(&own, &serial, at(60)).unwrap().is_restored);
        assert!(restored(&other, &serial, at(60)).is_none(), "another key");
        assert!(restored(&own, "00", at(60)).is_none(), "another certificate");
        assert!(restored(&own, &serial, at(7200)).is_none(), "an expired one");
    }
}
