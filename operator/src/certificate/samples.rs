//! Certificates, pairs and Secrets for the tests of this room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use gatehouse_crds::certificate::{
    AuthorityType, Certificate, IssuerKind, LastFailure, SigningAuthority, SigningIssuer,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry},
};
use serde_json::{Map, Value, json};

use super::{
    decide::IssuanceReason,
    desired::DesiredCertificate,
    observed_secret::KeyPair,
    remarks::ReadyIssuer,
    secret::{self, Passwords, SecretAnnotations},
    signing,
    status::{Issued, StatusBuilder},
};
use crate::{
    kubernetes::{conditions, names},
    pki::PrivateKey,
};

/// When the samples are issued.
pub(super) fn issued_at() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// So long after the samples are issued.
pub(super) fn after(time: Duration) -> Timestamp {
    issued_at().checked_add(time).unwrap()
}

pub(super) const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

pub(super) const fn days(count: u64) -> Duration {
    hours(count * 24)
}

/// `app/web`, generation 1, whose spec has `more` lines of YAML.
pub(super) fn certificate(more: &str) -> Certificate {
    let mut certificate = Certificate::new(
        "web",
        serde_saphyr::from_str(&format!(
            "secretName: web-tls\nissuerRef: {{name: ca}}\ndnsNames: [www.example.com]\n{more}"
        ))
        .unwrap(),
    );
    certificate.metadata.namespace = Some("app".into());
    certificate.metadata.uid = Some("c0ffee".into());
    certificate.metadata.generation = Some(1);
    certificate
}

pub(super) fn desired(certificate: &Certificate) -> DesiredCertificate {
    DesiredCertificate::parse(&certificate.spec).unwrap()
}

/// The pair that `certificate` asks for, signed at `now` for 90 days unless its spec says otherwise.
pub(super) fn pair(certificate: &Certificate, now: Timestamp) -> KeyPair {
    let desired = desired(certificate);
    let key = PrivateKey::generate(desired.key).unwrap();
    signing::by_itself(&desired, key.into(), now).unwrap()
}

pub(super) fn ca() -> SigningIssuer {
    SigningIssuer {
        kind: IssuerKind::Issuer,
        name: "ca".into(),
    }
}

/// The issuer `ca` as it is: a CA.
pub(super) fn ready_issuer() -> ReadyIssuer {
    ReadyIssuer {
        authority: SigningAuthority {
            kind: AuthorityType::CA,
            server: None,
            key_id: Some("0c".into()),
        },
        takes_duration: true,
    }
}

/// `certificate` with the status of after `pair` came into its Secret.
pub(super) fn with_issued(mut certificate: Certificate, pair: &KeyPair, now: Timestamp) -> Certificate {
    let before = StatusBuilder {
        certificate: &certificate,
        now,
    };
    let status = before.issued(&Issued {
        pair,
        issuer: Some(ca()),
        is_new: true,
        answers_request: false,
        written: None,
        noted: None,
        first_advice: None,
        certificate_url: None,
        differences: Vec::new(),
        ready_issuer: None,
        authority: Some(ready_issuer().authority),
    });
    certificate.status = Some(status);
    certificate
}

/// The last attempt failed two days before `until`, when the next is due.
pub(super) fn fail(certificate: &mut Certificate, reason: &str, until: Timestamp) {
    let generation = certificate.metadata.generation;
    let status = certificate.status.get_or_insert_default();
    status.last_failure = Some(LastFailure {
        time: until.checked_sub(days(2)).unwrap(),
        reason: reason.into(),
        message: "no".into(),
    });
    status.failed_attempts = Some(1);
    status.next_attempt_time = Some(until);
    let verdict = conditions::ConditionUpdate {
        type_: super::status::ISSUING,
        status: conditions::Status::False,
        reason: "Rejected",
        message: "no".into(),
    };
    conditions::set(&mut status.conditions, &verdict, generation, until);
}

/// The Secret as the API server has it after our apply.
pub(super) fn written(certificate: &Certificate, pair: &KeyPair, cause: IssuanceReason) -> Secret {
    let desired = desired(certificate);
    let notes = SecretAnnotations {
        issuer: Some("Issuer/ca".into()),
        cause: Some(cause.as_str().into()),
        ari_identifier: Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into()),
        issued_at: None,
        desired: &desired,
    };
    let body = secret::body(certificate, pair, &Passwords::default(), &notes).unwrap();
    let mut secret: Secret = serde_json::from_value(body.clone()).unwrap();
    secret.metadata.namespace = Some("app".into());
    secret.metadata.name = Some("web-tls".into());
    secret.metadata.uid = Some("5ec4e7".into());
    secret.metadata.resource_version = Some("7".into());
    secret.metadata.managed_fields = Some(vec![entry(names::FIELD_MANAGER, "Apply", owned(&body))]);
    secret
}

/// Returns the fields of an applied body that its manager owns, as `fieldsV1`.
fn owned(body: &Value) -> Value {
    match body {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let inner = owned(value);
                (format!("f:{name}"), inner)
            })
            .collect::<Map<_, _>>()
            .into(),
        _ => json!({}),
    }
}

/// A line of `metadata.managedFields`.
pub(super) fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        api_version: Some("v1".into()),
        fields_type: Some("FieldsV1".into()),
        fields_v1: Some(FieldsV1(fields)),
        manager: Some(manager.into()),
        operation: Some(operation.into()),
        ..ManagedFieldsEntry::default()
    }
}

/// Changes the API server's record of our fields as `kubectl edit` does: another manager owns the one at `path` now.
pub(super) fn take(secret: &mut Secret, path: &[&str]) {
    let entries = secret.metadata.managed_fields.as_mut().unwrap();
    let (last, parents) = path.split_last().unwrap();
    let mut at = &mut entries[0].fields_v1.as_mut().unwrap().0;
    for step in parents {
        at = &mut at[*step];
    }
    at.as_object_mut().unwrap().remove(*last).expect("it was ours");
    let fields = path.iter().rev().fold(json!({}), |inner, step| json!({ *step: inner }));
    entries.push(entry("kubectl-edit", "Update", fields));
}

/// Another value under a key of `data`.
pub(super) fn edit(secret: &mut Secret, key: &str, value: &str) {
    take(secret, &["f:data", &format!("f:{key}")]);
    secret
        .data
        .as_mut()
        .unwrap()
        .insert(key.into(), k8s_openapi::ByteString(value.into()));
}
