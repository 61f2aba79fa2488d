//! Writes a key pair to its Secret, and everything that follows from it.

use std::time::Duration;

use gatehouse_crds::{
    certificate::{Certificate, CertificateStatus, SigningAuthority, SigningIssuer},
    secret_ref::SecretKeySelector,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, runtime::controller::Action};
use zeroize::Zeroizing;

use super::{
    decide::{Decision, IssuanceReason},
    dependencies,
    desired::DesiredCertificate,
    differences,
    failure::{Class, Failure, Stopped},
    keystores,
    observed_secret::{KeyPair, SecretMetadata},
    order_key,
    reconcile::{ObservedSecret, Reconcile},
    remarks, renewal_info, rollout,
    secret::{self, Passwords, SecretAnnotations},
    status::Issued,
};
use crate::kubernetes::{
    apply::{Conflicts, Target, WriteError},
    dependency::Dependency,
    events::EventType,
};

/// When the API server is asked again whether it would take a Secret; quotas and policies are not watched.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// Content of the Secret to be written.
#[derive(Clone, Copy)]
pub struct SecretContent<'a> {
    pub desired: &'a DesiredCertificate,
    pub pair: &'a KeyPair,
    /// Metadata of the existing Secret.
    pub metadata: Option<&'a SecretMetadata>,
    /// Signing issuer; `None` when the pair existed already.
    pub issuer: Option<&'a SignedBy>,
    /// Reason; `None` when the pair existed already.
    pub cause: Option<IssuanceReason>,
}

/// The signing issuer, and whether its CA gives advice on renewal.
#[derive(Clone, Debug)]
pub struct SignedBy {
    pub issuer: SigningIssuer,
    pub authority: SigningAuthority,
    /// By an order, whose key waits in a Secret of its own.
    pub ordered: bool,
    pub gives_advice: bool,
    /// URL of the certificate at the CA, when it was ordered.
    pub certificate_url: Option<String>,
}

/// Writes the Secret, restarts what is to be restarted, deletes the order's key, and writes the
/// status: in this order, so that a crash in between is found out and made good by the next look. Once
/// the status has forgotten the order, nothing would look for its key.
pub async fn publish(reconcile: &Reconcile<'_>, delivery: &SecretContent<'_>) -> Result<Action, Stopped> {
    let ctx = reconcile.ctx();
    let passwords = passwords(reconcile).await?;
    let body = secret::body(
        reconcile.certificate,
        delivery.pair,
        &passwords,
        &notes(reconcile, delivery),
    )?;
    let written = {
        let Ok(_permit) = ctx.writes.acquire().await else {
            return Ok(Action::await_change());
        };
        write(reconcile, delivery, body).await?
    };
    reconcile.scope.cache.await_secret(reconcile.certificate, &written);
    let rollout = rollout::restart(reconcile, delivery.pair).await;

    let is_new = delivery.cause.is_some();
    // For a pair that we wrote before and could not record in the status, the Secret has all the facts.
    let own = delivery
        .metadata
        .filter(|metadata| metadata.certificate == reconcile.certificate.metadata.name);
    let gives_advice = match delivery.issuer {
        Some(signed) => signed.gives_advice,
        None => own.is_some_and(|metadata| metadata.ari_identifier.is_some()),
    };
    let was_ordered = reconcile.status().acme.is_some_and(|acme| acme.order_url.is_some());
    if was_ordered || delivery.issuer.is_some_and(|signed| signed.ordered) {
        order_key::delete(reconcile).await;
    }
    let issuer = delivery
        .issuer
        .map(|signed| signed.issuer.clone())
        .or_else(|| own?.signing_issuer());
    let ready_issuer = issuer.as_ref().and_then(|issuer| reconcile.ready_issuer(issuer));
    let mut status = reconcile.status_builder().issued(&Issued {
        pair: delivery.pair,
        issuer,
        is_new,
        answers_request: own
            .is_some_and(|metadata| metadata.cause.as_deref() == Some(IssuanceReason::Requested.as_str())),
        written: own.and_then(|metadata| metadata.written),
        noted: own.and_then(|metadata| metadata.issued_at),
        first_advice: gives_advice
            .then(|| renewal_info::first(reconcile.status_builder().certificate_seed(), reconcile.now)),
        differences: differences(reconcile, delivery),
        ready_issuer: ready_issuer.as_ref(),
        authority: delivery.issuer.map(|signed| signed.authority.clone()),
        certificate_url: delivery.issuer.and_then(|signed| signed.certificate_url.clone()),
    });
    if let Some(rollout) = &rollout {
        rollout::note(
            &mut status,
            rollout,
            reconcile.certificate.metadata.generation,
            reconcile.now,
        );
    }
    reconcile.write_status(&status).await?;
    if let Some(cause) = delivery.cause {
        let first = status.revision == Some(1);
        let (reason, end) = (if first { "Issued" } else { "Renewed" }, delivery.pair.leaf().not_after);
        let by = delivery
            .issuer
            .map(|signed| format!(" by {} {}", signed.issuer.kind, signed.issuer.name))
            .unwrap_or_default();
        ctx.publish_event(
            reconcile.certificate,
            EventType::Normal,
            reason,
            &format!(
                "A certificate was issued{by} and is in Secret {}, since {}. It is good until {end}.",
                reconcile.certificate.spec.secret_name,
                cause.because()
            ),
        );
        if let Some(note) = remarks::differing(&status.differences) {
            ctx.publish_event(reconcile.certificate, EventType::Warning, "IssuedDifferently", &note);
        }
    }
    tracing::info!(
        namespace = reconcile.namespace(),
        certificate = reconcile.certificate.name_any(),
        secret = reconcile.certificate.spec.secret_name,
        serial = status.serial_number,
        not_after = %delivery.pair.leaf().not_after,
        cause = delivery.cause.map_or("Adopted", IssuanceReason::as_str),
        "certificate written to Secret"
    );
    Ok(reconcile.rest(status.renewal_time.unwrap_or(reconcile.now)))
}

/// In what the pair is not what the spec asks for, though it is taken.
fn differences(reconcile: &Reconcile<'_>, delivery: &SecretContent<'_>) -> Vec<String> {
    let leaf = delivery.pair.leaf();
    let before = reconcile.status();
    let recorded = (before.serial_number == Some(leaf.serial_hex())).then_some(before.issued_at);
    let issued_at = match delivery.cause {
        Some(_) => reconcile.now,
        None => recorded.flatten().unwrap_or(leaf.not_before),
    };
    differences::differences(leaf, delivery.desired, &reconcile.certificate.spec, issued_at)
}

fn notes<'a>(reconcile: &Reconcile<'_>, delivery: &SecretContent<'a>) -> SecretAnnotations<'a> {
    let advice = delivery.issuer.map(|signed| signed.gives_advice);
    let observed =
        |of: fn(&SecretMetadata) -> Option<&String>| delivery.metadata.and_then(|metadata| of(metadata).cloned());
    // The status takes precedence over annotations that any client may have changed, if it is about the same certificate.
    let leaf = delivery.pair.leaf();
    let status = reconcile.status();
    let status = (status.serial_number == Some(leaf.serial_hex())).then_some(status);
    let asks = |status: &CertificateStatus| status.acme.as_ref().is_some_and(|acme| acme.ari.is_some());
    let named = |issuer: &SigningIssuer| format!("{}/{}", issuer.kind, issuer.name);
    SecretAnnotations {
        issuer: delivery
            .issuer
            .map(|signed| named(&signed.issuer))
            .or_else(|| Some(named(status.as_ref()?.issuer.as_ref()?)))
            .or_else(|| observed(|metadata| metadata.issuer.as_ref())),
        cause: delivery
            .cause
            .map(|cause| cause.as_str().to_owned())
            .or_else(|| observed(|metadata| metadata.cause.as_ref())),
        ari_identifier: advice
            .unwrap_or_else(|| {
                status.as_ref().is_some_and(asks) || observed(|metadata| metadata.ari_identifier.as_ref()).is_some()
            })
            .then(|| leaf.ari_identifier())
            .flatten(),
        issued_at: match delivery.cause {
            Some(_) => Some(reconcile.status_builder().stamp()),
            None => status
                .as_ref()
                .and_then(|status| status.issued_at)
                .or_else(|| delivery.metadata?.issued_at),
        },
        desired: delivery.desired,
    }
}

/// The write itself. What we do not own is not touched: the API server sees to that.
async fn write(
    reconcile: &Reconcile<'_>,
    delivery: &SecretContent<'_>,
    body: serde_json::Value,
) -> Result<SecretMetadata, Stopped> {
    let api = reconcile.ctx().secrets(&reconcile.namespace());
    let name = &reconcile.certificate.spec.secret_name;
    let (target, conflicts) = target(name, delivery.metadata);
    let result = reconcile
        .ctx()
        .writer
        .apply::<Secret>(&api, target, body.clone(), conflicts)
        .await;
    match result {
        Ok(secret) => Ok(SecretMetadata::of(&secret.metadata)),
        Err(error) if error.is_conflict() || error.reason() == "Invalid" => {
            resolve_conflict(reconcile, delivery, body, error).await
        }
        Err(error) => Err(classify_write_error(error)),
    }
}

/// Returns the target of the write, and whether fields of others may be taken.
fn target<'a>(name: &'a str, metadata: Option<&'a SecretMetadata>) -> (Target<'a>, Conflicts) {
    match metadata {
        // Ours, or taken with its owner's consent, exactly as it was judged.
        Some(metadata) => (
            Target {
                name,
                resource_version: Some(&metadata.resource_version),
                uid: Some(&metadata.uid),
            },
            Conflicts::Take,
        ),
        None => (Target::named(name), Conflicts::Refuse),
    }
}

/// The Secret is not what it was thought to be: look at it, and decide about it again.
async fn resolve_conflict(
    reconcile: &Reconcile<'_>,
    delivery: &SecretContent<'_>,
    body: serde_json::Value,
    error: WriteError,
) -> Result<SecretMetadata, Stopped> {
    let ctx = reconcile.ctx();
    let api = ctx.secrets(&reconcile.namespace());
    let observed = reconcile.read_secret().await.map_err(classify_write_error)?;
    let ObservedSecret {
        metadata: Some(metadata),
        contents: Some(_),
        ..
    } = &observed
    else {
        return Err(classify_write_error(error));
    };
    let name = &reconcile.certificate.spec.secret_name;
    let target = Target {
        name,
        resource_version: Some(&metadata.resource_version),
        uid: Some(&metadata.uid),
    };
    match reconcile.decide(&Ok(delivery.desired.clone()), &observed) {
        Decision::Refuse(failure) => Err(failure.into()),
        // A Secret's type cannot be changed: with its owner's consent it makes room.
        Decision::Issue(IssuanceReason::Consent)
            if matches!(
                &observed.contents,
                Some(Err(super::observed_secret::InvalidSecret::Type(_)))
            ) =>
        {
            ctx.writer.delete(&api, target).await.map_err(classify_write_error)?;
            let secret = ctx
                .writer
                .apply::<Secret>(&api, Target::named(name), body, Conflicts::Refuse)
                .await
                .map_err(classify_write_error)?;
            Ok(SecretMetadata::of(&secret.metadata))
        }
        Decision::Issue(_) | Decision::BackOff { .. } => {
            let secret = ctx
                .writer
                .apply::<Secret>(&api, target, body, Conflicts::Take)
                .await
                .map_err(classify_write_error)?;
            Ok(SecretMetadata::of(&secret.metadata))
        }
        // A valid pair exists: ours is not needed, and the next reconcile adopts that one.
        Decision::Write
        | Decision::UpToDate { .. }
        | Decision::AskAdvice { .. }
        | Decision::ReadSecret
        | Decision::CheckKeystores
        | Decision::Ignore => Err(classify_write_error(error)),
    }
}

/// Returns whether a user has to fix the cause of a failed write, or whether it is only repeated.
pub fn classify_write_error(error: WriteError) -> Stopped {
    permanent_write_failure(&error, Class::Transient).map_or(Stopped::Api(error), Stopped::Failed)
}

/// Why the API server will not take the Secret until a user changes something; `None` for trouble that passes.
fn permanent_write_failure(error: &WriteError, class: Class) -> Option<Failure> {
    let WriteError::Refused { object, .. } = error else {
        return None;
    };
    let (reason, message) = match error.reason() {
        "Immutable" => (
            "SecretImmutable",
            format!("{object} is immutable; delete it so that it can be recreated."),
        ),
        "TooLarge" => (
            "SecretWriteFailed",
            format!(
                "{object} would be larger than a Secret can be (1 MiB); leave out keystores or additionalOutputFormats, or ask for fewer names."
            ),
        ),
        "QuotaExceeded" => (
            "SecretWriteFailed",
            format!("{error}. Raise the quota, or delete what is not needed."),
        ),
        "Forbidden" => (
            "SecretWriteFailed",
            format!(
                "{error}. Change the policy or the operator's rights, or spec.secretTemplate as the policy wants it."
            ),
        ),
        "Invalid" => ("SecretWriteFailed", error.to_string()),
        _ => return None,
    };
    Some(Failure::new(class, reason, message))
}

/// For how long one namespace's answer holds for other plain Secrets that do not exist yet: long enough for many Certificates
/// that are created together, and too short for a quota or policy to be changed unnoticed.
const DRY_RUN_VALIDITY: SignedDuration = SignedDuration::from_secs(1);

/// Decides whether to ask the API server before an order: always when the Secret exists (it may be immutable) or has more in
/// it than a pair, else once for a namespace in a while (quotas and policies), so that many new Certificates do not each cost a
/// request. `passed` is when the namespace last took one.
pub fn needs_dry_run(certificate: &Certificate, exists: bool, passed: Option<Timestamp>, now: Timestamp) -> bool {
    let spec = &certificate.spec;
    let is_plain =
        spec.keystores.is_none() && spec.additional_output_formats.is_empty() && spec.secret_template.is_none();
    let is_recent = passed.is_some_and(|passed| passed <= now && now.duration_since(passed) < DRY_RUN_VALIDITY);
    exists || !is_plain || !is_recent
}

/// Asks the API server, before anything is ordered, whether it would take the Secret: an immutable one, a quota, a policy
/// or keystores that are too large would be found only after the order is spent. A substitute signed by its own key is
/// sent, and nothing is written.
pub async fn dry_run(
    reconcile: &Reconcile<'_>,
    delivery: &SecretContent<'_>,
    passwords: &Passwords,
) -> Result<(), Stopped> {
    let name = &reconcile.certificate.spec.secret_name;
    let body = secret::body(
        reconcile.certificate,
        delivery.pair,
        passwords,
        &notes(reconcile, delivery),
    )?;
    let api = reconcile.ctx().secrets(&reconcile.namespace());
    let (target, conflicts) = target(name, delivery.metadata);
    match reconcile
        .ctx()
        .writer
        .dry_run::<Secret>(&api, target, body, conflicts)
        .await
    {
        // 400: an admission webhook that cannot take part in a dry run, whose verdict is not known.
        Ok(())
        | Err(WriteError::Refused {
            code: 400,
            reason: "Invalid",
            ..
        }) => Ok(()),
        Err(error) => {
            Err(permanent_write_failure(&error, Class::Waiting(RETRY_AFTER))
                .map_or(Stopped::Api(error), Stopped::Failed))
        }
    }
}

/// Passwords of the keystores that are asked for.
pub async fn passwords(reconcile: &Reconcile<'_>) -> Result<Passwords, Stopped> {
    let mut passwords = Passwords::default();
    let [pkcs12, jks] = keystores::password_refs(reconcile.certificate.spec.keystores.as_ref());
    let mut secrets = Vec::new();
    for (selector, password) in [(pkcs12, &mut passwords.pkcs12), (jks, &mut passwords.jks)] {
        let Some(selector) = selector else { continue };
        let (found, metadata) = read_password(reconcile, selector).await?;
        *password = Some(found);
        secrets.push(metadata);
    }
    passwords.mark = (!secrets.is_empty()).then(|| keystores::passwords_mark(secrets.iter()));
    Ok(passwords)
}

/// Fingerprint of the Secrets that hold the passwords now, by their metadata alone; `None` without keystores, and while
/// one of the Secrets is missing: the existing keystores continue to be served.
pub async fn passwords_mark(reconcile: &Reconcile<'_>) -> Result<Option<String>, WriteError> {
    let mut secrets = Vec::new();
    for selector in keystores::password_refs(reconcile.certificate.spec.keystores.as_ref()) {
        let Some(SecretKeySelector { name, .. }) = selector else {
            continue;
        };
        let found = reconcile
            .ctx()
            .secrets(&reconcile.namespace())
            .get_metadata_opt(name)
            .await
            .map_err(|error| WriteError::reading("Secret", name, error))?;
        let Some(found) = found else { return Ok(None) };
        secrets.push(found.metadata);
    }
    Ok((!secrets.is_empty()).then(|| keystores::passwords_mark(secrets.iter())))
}

async fn read_password(
    reconcile: &Reconcile<'_>,
    selector: &SecretKeySelector,
) -> Result<(Zeroizing<String>, ObjectMeta), Stopped> {
    let SecretKeySelector { name, key } = selector;
    let secret = reconcile
        .ctx()
        .secrets(&reconcile.namespace())
        .get_opt(name)
        .await
        .map_err(|error| WriteError::reading("Secret", name, error))?;
    let namespace = reconcile.namespace();
    reconcile.ctx().dependencies.note_read(
        &dependencies::dependent(&namespace, &reconcile.certificate.name_any()),
        &Dependency::secret(&namespace, name),
        secret.as_ref().and_then(ResourceExt::resource_version),
    );
    let mut secret = secret.unwrap_or_default();
    let value = secret.data.as_mut().and_then(|data| data.remove(key));
    let text = value
        .and_then(|value| String::from_utf8(value.0).ok())
        .filter(|text| !text.is_empty());
    super::observed_secret::wipe(&mut secret);
    let found = text.map(|text| (Zeroizing::new(text), secret.metadata));
    found.ok_or_else(|| {
        Failure::new(
            Class::Waiting(Duration::from_secs(60)),
            "KeystoreFailed",
            format!("the keystore's password is to be under {key} in Secret {name}, and is not there: kubectl create secret generic {name} --from-literal={key}=…"),
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::samples;
    use super::*;

    #[test]
    fn what_the_api_server_refuses_for_good_says_what_to_do() {
        let refused = |code, reason| WriteError::Refused {
            object: "Secret web-tls".into(),
            code,
            reason,
            message: "no".into(),
        };
        for (error, reason, says) in [
            (
                refused(422, "Immutable"),
                "SecretImmutable",
                "Secret web-tls is immutable; delete it so that it can be recreated.",
            ),
            (
                refused(422, "TooLarge"),
                "SecretWriteFailed",
                "larger than a Secret can be",
            ),
            (refused(403, "QuotaExceeded"), "SecretWriteFailed", "Raise the quota"),
            (refused(403, "Forbidden"), "SecretWriteFailed", "Change the policy"),
            (refused(422, "Invalid"), "SecretWriteFailed", "Secret web-tls: no"),
        ] {
            let failure = permanent_write_failure(&error, Class::Waiting(RETRY_AFTER)).unwrap();
            assert_eq!(failure.reason, reason);
            assert!(failure.message.contains(says), "{failure}");
            assert!(!failure.may_fall_back(), "another issuer would fare no better");
        }
        for error in [
            refused(500, "ServerError"),
            refused(409, "Conflict"),
            refused(403, "NamespaceTerminating"),
            WriteError::Unreachable {
                object: "Secret web-tls".into(),
                message: "no".into(),
            },
        ] {
            assert_eq!(permanent_write_failure(&error, Class::Transient), None, "{error}");
        }
    }

    #[test]
    fn many_new_plain_secrets_of_a_namespace_are_rehearsed_once_in_a_while() {
        let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let ago = |millis| now.checked_sub(SignedDuration::from_millis(millis)).ok();
        let plain = samples::certificate("");
        let labelled = samples::certificate("secretTemplate: {labels: {team: shop}}");
        for (certificate, exists, passed, expected) in [
            (&plain, false, None, true),
            (&plain, false, ago(1), false),
            (&plain, false, ago(1000), true),
            // A clock that was ahead.
            (&plain, false, ago(-1), true),
            (&plain, true, ago(1), true),
            (&labelled, false, ago(1), true),
        ] {
            let needs = needs_dry_run(certificate, exists, passed, now);
            assert_eq!(needs, expected, "exists: {exists}, passed: {passed:?}");
        }
    }
}
