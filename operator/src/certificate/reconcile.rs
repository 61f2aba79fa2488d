//! A Certificate at a moment, and what is known of its Secret.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_crds::certificate::{Certificate, CertificateStatus, IssuerRef, SigningIssuer};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::{ResourceExt, runtime::controller::Action};

use super::{
    context::{Context, until},
    controller::Scope,
    decide::{self, Decision, Observed},
    desired::{DesiredCertificate, SpecError},
    issue,
    observed_secret::{self, InvalidSecret, KeyPair, SecretMetadata},
    remarks::ReadyIssuer,
    status::{ISSUING, StatusBuilder},
};
use crate::{
    issuer::registry::{Key, Signer, Since, State},
    kubernetes::{apply::WriteError, conditions},
    pki::{self, PrivateKey},
};

/// Nothing is left alone for longer: a second chance should a watch have missed something.
const MAX_REQUEUE_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// A Certificate at a moment.
#[derive(Clone, Copy)]
pub struct Reconcile<'a> {
    pub scope: &'a Scope,
    pub certificate: &'a Certificate,
    pub now: Timestamp,
    /// Whether an object that the Certificate waits for has changed since the last look.
    pub changed: bool,
    /// Revision of the issuers' registry when the reconcile began.
    pub revision: u64,
}

/// The Secret as far as it is known.
pub struct ObservedSecret {
    pub metadata: Option<Arc<SecretMetadata>>,
    /// Whether it was read, and not only watched.
    pub is_read: bool,
    /// Contents, when they were read.
    pub contents: Option<Result<KeyPair, InvalidSecret>>,
    /// Fingerprint of the Secrets of the keystores' passwords, when they may have changed.
    pub passwords: Option<String>,
}

impl ObservedSecret {
    /// The pair, when it was read and is one.
    pub fn pair(&self) -> Option<&KeyPair> {
        self.contents.as_ref()?.as_ref().ok()
    }

    /// As the plan takes it.
    pub fn secret(&self) -> decide::Secret<'_> {
        match (&self.metadata, &self.contents) {
            (Some(metadata), Some(contents)) => decide::Secret::Read(metadata, contents),
            (Some(metadata), None) => decide::Secret::Seen(metadata),
            (None, _) if self.is_read => decide::Secret::Absent,
            (None, _) => decide::Secret::NotSeen,
        }
    }
}

impl<'a> Reconcile<'a> {
    pub fn ctx(&self) -> &'a Context {
        &self.scope.ctx
    }

    pub fn namespace(&self) -> String {
        self.certificate.namespace().unwrap_or_default()
    }

    pub fn uid(&self) -> &'a str {
        self.certificate.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn status_builder(&self) -> StatusBuilder<'a> {
        StatusBuilder {
            certificate: self.certificate,
            now: self.now,
        }
    }

    /// Returns the present status.
    pub fn status(&self) -> CertificateStatus {
        self.certificate.status.clone().unwrap_or_default()
    }

    /// Reads the target Secret, whatever its type.
    pub async fn read_secret(&self) -> Result<ObservedSecret, WriteError> {
        let name = &self.certificate.spec.secret_name;
        let secret = self
            .ctx()
            .secrets(&self.namespace())
            .get_opt(name)
            .await
            .map_err(|error| WriteError::reading("Secret", name, error))?;
        Ok(match secret {
            Some(mut secret) => {
                let metadata = SecretMetadata::of(&secret.metadata);
                let contents = if metadata.certificate == self.certificate.metadata.name {
                    observed_secret::read_own(&secret, &metadata, &self.issuer_path(&metadata))
                } else {
                    observed_secret::read(&secret)
                };
                let observed = ObservedSecret {
                    metadata: Some(Arc::new(metadata)),
                    is_read: true,
                    contents: Some(contents),
                    passwords: None,
                };
                observed_secret::wipe(&mut secret);
                observed
            }
            None => ObservedSecret {
                metadata: None,
                is_read: true,
                contents: None,
                passwords: None,
            },
        })
    }

    /// Works on what is in the target Secret; nothing when it is gone.
    pub async fn read_data<T>(&self, work: impl FnOnce(&BTreeMap<String, ByteString>) -> T) -> Result<T, WriteError> {
        let name = &self.certificate.spec.secret_name;
        let secret = self
            .ctx()
            .secrets(&self.namespace())
            .get_opt(name)
            .await
            .map_err(|error| WriteError::reading("Secret", name, error))?;
        let mut secret = secret.unwrap_or_default();
        let result = work(secret.data.get_or_insert_default());
        observed_secret::wipe(&mut secret);
        Ok(result)
    }

    /// The CA that signed what is in the Secret, with those above it, as the issuer has it now.
    fn issuer_path(&self, metadata: &SecretMetadata) -> Vec<pki::Certificate> {
        let issuer = metadata.signing_issuer().map(|issuer| IssuerRef {
            kind: Some(issuer.kind),
            name: issuer.name,
        });
        let reference = issuer.as_ref().unwrap_or(&self.certificate.spec.issuer_ref);
        match self.ctx().registry.get(&Key::of(reference, &self.namespace())) {
            Some(State::Ready(Signer::Ca(ca))) => ca.authority.path().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The key in the target Secret, whatever else is in there.
    pub async fn read_key(&self) -> Result<Option<Arc<PrivateKey>>, WriteError> {
        let name = &self.certificate.spec.secret_name;
        let secret = self
            .ctx()
            .secrets(&self.namespace())
            .get_opt(name)
            .await
            .map_err(|error| WriteError::reading("Secret", name, error))?;
        Ok(secret.and_then(|mut secret| {
            let key = observed_secret::key(&secret);
            observed_secret::wipe(&mut secret);
            key.ok().map(Arc::new)
        }))
    }

    /// Asks the plan.
    pub fn decide(&self, desired: &Result<DesiredCertificate, SpecError>, observed: &ObservedSecret) -> Decision {
        let own = self.certificate.name_any();
        let secret = &self.certificate.spec.secret_name;
        let rival = match &observed.metadata {
            Some(metadata) => metadata
                .certificate
                .clone()
                .filter(|other| *other != own && self.scope.cache.claims(&self.namespace(), other, secret)),
            None => self
                .scope
                .cache
                .first_claim(&self.namespace(), secret)
                .filter(|first| *first != own),
        };
        let issuing = self
            .certificate
            .status
            .as_ref()
            .is_some_and(|status| conditions::is_true(&status.conditions, ISSUING));
        let issuers = issue::issuers(self.certificate)
            .map(|reference| self.ctx().registry.since(&Key::of(reference, &self.namespace())))
            .fold(Since::default(), |all, one| Since {
                examined: all.examined.max(one.examined),
                ready: all.ready.max(one.ready),
                refreshed: all.refreshed.max(one.refreshed),
            });
        decide::decide(&Observed {
            certificate: self.certificate,
            desired,
            secret: observed.secret(),
            passwords: observed.passwords.as_deref(),
            rival: rival.as_deref(),
            in_flight: issuing,
            has_order: self.ctx().orders.has(self.uid()),
            spends_order: issue::spends_order(self),
            issuers,
            changed: self.changed,
            pause: self.ctx().pause(self.uid()),
            now: self.now,
        })
    }

    /// Returns the issuer that a certificate is from, when it is ready.
    pub fn ready_issuer(&self, issuer: &SigningIssuer) -> Option<ReadyIssuer> {
        match self.ctx().registry.get(&Key::of_signing(issuer, &self.namespace()))? {
            State::Ready(signer) => Some(ReadyIssuer {
                authority: signer.authority(),
                takes_duration: signer.takes_duration(),
            }),
            State::Examining | State::NotReady(_) | State::Refused(_) => None,
        }
    }

    /// To be looked at again at `time`.
    pub fn rest(&self, time: Timestamp) -> Action {
        // A moment past, so that the clock has certainly reached it.
        Action::requeue((until(time, self.now) + Duration::from_millis(50)).min(MAX_REQUEUE_AFTER))
    }
}
