//! Brings a pair into its Secret, and everybody up to date about it.

use std::time::Duration;

use gatehouse_crds::{
    certificate::{CertificateStatus, SigningAuthority, SigningIssuer},
    secret_ref::SecretKeySelector,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::controller::Action};
use zeroize::Zeroizing;

use super::{
    advice, dependencies, differences,
    failure::{Class, Failure},
    holding::{Facts, Held, TLS},
    look::{Known, Look},
    order_key,
    outcome::Issued,
    plan::{self, Cause, Plan},
    remarks, rollout,
    secret::{self, Notes, Passwords},
    wanted::Wanted,
};
use crate::kubernetes::{
    apply::{Conflicts, Target, WriteError},
    dependency::Dependency,
    events::EventType,
    names,
};

/// What is to be brought.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    pub wanted: &'a Wanted,
    pub held: &'a Held,
    /// The Secret that is there.
    pub facts: Option<&'a Facts>,
    /// Who signed; none when the pair was there already.
    pub issuer: Option<&'a Signed>,
    /// Why; none when the pair was there already.
    pub cause: Option<Cause>,
}

/// Who signed, and whether the CA gives advice on renewal.
#[derive(Clone, Debug)]
pub struct Signed {
    pub issuer: SigningIssuer,
    pub authority: SigningAuthority,
    /// By an order, whose key waits in a Secret of its own.
    pub ordered: bool,
    pub gives_advice: bool,
}

/// Writes the Secret, restarts what is to be restarted, deletes the order's key, and writes the
/// status: in this order, so that a crash in between is found out and made good by the next look. Once
/// the status has forgotten the order nobody would look for its key.
///
/// The outer error is the API server's, to be tried again; the inner one is to be told.
pub async fn deliver(look: &Look<'_>, delivery: &Delivery<'_>) -> Result<Result<Action, Failure>, WriteError> {
    let ctx = look.ctx();
    let passwords = match passwords(look).await? {
        Ok(passwords) => passwords,
        Err(failure) => return Ok(Err(failure)),
    };
    let body = match secret::body(look.certificate, delivery.held, &passwords, &notes(look, delivery)) {
        Ok(body) => body,
        Err(failure) => return Ok(Err(failure)),
    };
    let written = {
        let Ok(_permit) = ctx.writes.acquire().await else {
            return Ok(Ok(Action::await_change()));
        };
        match write(look, delivery, body).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(error) => return told(error).map(Err),
        }
    };
    look.scope.cache.await_secret(look.certificate, &written);
    let rollout = rollout::restart(look, delivery.held).await;

    let is_new = delivery.cause.is_some();
    // Of a pair that we wrote before and could not note in the status, the Secret tells all there is to know.
    let own = delivery
        .facts
        .filter(|facts| facts.certificate == look.certificate.metadata.name);
    let gives_advice = match delivery.issuer {
        Some(signed) => signed.gives_advice,
        None => own.is_some_and(|facts| facts.ari_identifier.is_some()),
    };
    let was_ordered = look.status().acme.is_some_and(|acme| acme.order_url.is_some());
    if was_ordered || delivery.issuer.is_some_and(|signed| signed.ordered) {
        order_key::delete(look).await;
    }
    let issuer = delivery
        .issuer
        .map(|signed| signed.issuer.clone())
        .or_else(|| own?.signing_issuer());
    let ready_issuer = issuer.as_ref().and_then(|issuer| look.ready_issuer(issuer));
    let mut status = look.before().issued(&Issued {
        held: delivery.held,
        issuer,
        is_new,
        answers_request: own.is_some_and(|facts| facts.cause.as_deref() == Some(Cause::Requested.as_str())),
        written: own.and_then(|facts| facts.written),
        first_advice: gives_advice.then(|| advice::first(look.before().certificate_seed(), look.now)),
        differences: differences(look, delivery),
        ready_issuer: ready_issuer.as_ref(),
        authority: delivery.issuer.map(|signed| signed.authority.clone()),
    });
    if let Some(rollout) = &rollout {
        rollout::note(&mut status, rollout, look.certificate.metadata.generation, look.now);
    }
    look.write_status(&status).await?;
    if let Some(cause) = delivery.cause {
        let first = status.revision == Some(1);
        let (reason, end) = (if first { "Issued" } else { "Renewed" }, delivery.held.leaf().not_after);
        let by = delivery
            .issuer
            .map(|signed| format!(" by {} {}", signed.issuer.kind, signed.issuer.name))
            .unwrap_or_default();
        ctx.tell(
            look.certificate,
            EventType::Normal,
            reason,
            &format!(
                "A certificate was issued{by} and is in Secret {}, since {}. It is good until {end}.",
                look.certificate.spec.secret_name,
                cause.because()
            ),
        );
        if let Some(note) = remarks::differing(&status.differences) {
            ctx.tell(look.certificate, EventType::Warning, "IssuedDifferently", &note);
        }
    }
    tracing::info!(
        namespace = look.namespace(),
        certificate = look.certificate.name_any(),
        secret = look.certificate.spec.secret_name,
        serial = status.serial_number,
        not_after = %delivery.held.leaf().not_after,
        cause = delivery.cause.map_or("Adopted", Cause::as_str),
        "the pair is in its Secret"
    );
    Ok(Ok(look.rest(status.renewal_time.unwrap_or(look.now))))
}

/// In what the pair is not what the spec asks for, though it is taken.
fn differences(look: &Look<'_>, delivery: &Delivery<'_>) -> Vec<String> {
    let leaf = delivery.held.leaf();
    let before = look.status();
    let recorded = (before.serial_number == Some(leaf.serial_hex())).then_some(before.issued_at);
    let issued_at = match delivery.cause {
        Some(_) => look.now,
        None => recorded.flatten().unwrap_or(leaf.not_before),
    };
    differences::differences(leaf, delivery.wanted, &look.certificate.spec, issued_at)
}

fn notes<'a>(look: &Look<'_>, delivery: &Delivery<'a>) -> Notes<'a> {
    let advice = delivery.issuer.map(|signed| signed.gives_advice);
    let known = |of: fn(&Facts) -> Option<&String>| delivery.facts.and_then(|facts| of(facts).cloned());
    // The status is believed before notes that anybody may have changed, if it speaks of the same certificate.
    let leaf = delivery.held.leaf();
    let status = look.status();
    let status = (status.serial_number == Some(leaf.serial_hex())).then_some(status);
    let asks = |status: &CertificateStatus| status.acme.as_ref().is_some_and(|acme| acme.ari.is_some());
    let named = |issuer: &SigningIssuer| format!("{}/{}", issuer.kind, issuer.name);
    Notes {
        issuer: delivery
            .issuer
            .map(|signed| named(&signed.issuer))
            .or_else(|| Some(named(status.as_ref()?.issuer.as_ref()?)))
            .or_else(|| known(|facts| facts.issuer.as_ref())),
        cause: delivery
            .cause
            .map(|cause| cause.as_str().to_owned())
            .or_else(|| known(|facts| facts.cause.as_ref())),
        ari_identifier: advice
            .unwrap_or_else(|| {
                status.as_ref().is_some_and(asks) || known(|facts| facts.ari_identifier.as_ref()).is_some()
            })
            .then(|| leaf.ari_identifier())
            .flatten(),
        wanted: delivery.wanted,
    }
}

/// The write itself. What we do not own is not touched: the API server sees to that.
async fn write(
    look: &Look<'_>,
    delivery: &Delivery<'_>,
    body: serde_json::Value,
) -> Result<Result<Facts, Failure>, WriteError> {
    let api = look.ctx().secrets(&look.namespace());
    let name = &look.certificate.spec.secret_name;
    let (target, conflicts) = match delivery.facts {
        // Ours, or taken with its owner's consent, exactly as it was judged.
        Some(facts) => (
            Target {
                name,
                resource_version: Some(&facts.resource_version),
                uid: Some(&facts.uid),
            },
            Conflicts::Take,
        ),
        None => (Target::named(name), Conflicts::Refuse),
    };
    let result = look
        .ctx()
        .writer
        .apply::<Secret>(&api, target, body.clone(), conflicts)
        .await;
    match result {
        Ok(secret) => Ok(Ok(Facts::of(&secret.metadata))),
        Err(error) if error.is_conflict() || error.reason() == "Invalid" => judge(look, delivery, body, error).await,
        Err(error) => Err(error),
    }
}

/// The Secret is not what it was thought to be: look at it, and decide about it again.
async fn judge(
    look: &Look<'_>,
    delivery: &Delivery<'_>,
    body: serde_json::Value,
    error: WriteError,
) -> Result<Result<Facts, Failure>, WriteError> {
    let ctx = look.ctx();
    let api = ctx.secrets(&look.namespace());
    let known = look.read_secret().await?;
    let Known {
        facts: Some(facts),
        contents: Some(_),
    } = &known
    else {
        return Err(error);
    };
    let name = &look.certificate.spec.secret_name;
    let target = Target {
        name,
        resource_version: Some(&facts.resource_version),
        uid: Some(&facts.uid),
    };
    match look.decide(&Ok(delivery.wanted.clone()), &known) {
        Plan::Refuse(failure) => Ok(Err(failure)),
        // A Secret's type cannot be changed: with its owner's consent it makes room.
        Plan::Issue(Cause::Consent) if matches!(&known.contents, Some(Err(super::holding::Damage::Type(_)))) => {
            ctx.writer.delete(&api, target).await?;
            let secret = ctx
                .writer
                .apply::<Secret>(&api, Target::named(name), body, Conflicts::Refuse)
                .await?;
            Ok(Ok(Facts::of(&secret.metadata)))
        }
        Plan::Issue(_) | Plan::Hold { .. } => {
            let secret = ctx.writer.apply::<Secret>(&api, target, body, Conflicts::Take).await?;
            Ok(Ok(Facts::of(&secret.metadata)))
        }
        // A good pair is there: ours is not needed, the next look takes that one over.
        Plan::Write | Plan::Serve { .. } | Plan::AskAdvice { .. } | Plan::ReadSecret | Plan::Leave => Err(error),
    }
}

/// What of a failed write is the user's to mend, and what is to be tried again without a word.
pub fn told(error: WriteError) -> Result<Failure, WriteError> {
    match error.reason() {
        "QuotaExceeded" | "Forbidden" | "Invalid" => {
            Ok(Failure::new(Class::Transient, "SecretWriteFailed", error.to_string()))
        }
        _ => Err(error),
    }
}

/// Passwords of the keystores that are asked for.
pub async fn passwords(look: &Look<'_>) -> Result<Result<Passwords, Failure>, WriteError> {
    let mut passwords = Passwords::default();
    let Some(keystores) = &look.certificate.spec.keystores else {
        return Ok(Ok(passwords));
    };
    let wanted = [
        (
            keystores
                .pkcs12
                .as_ref()
                .filter(|pkcs12| pkcs12.create)
                .map(|pkcs12| &pkcs12.password_secret_ref),
            &mut passwords.pkcs12,
        ),
        (
            keystores
                .jks
                .as_ref()
                .filter(|jks| jks.create)
                .map(|jks| &jks.password_secret_ref),
            &mut passwords.jks,
        ),
    ];
    for (selector, password) in wanted {
        let Some(selector) = selector else { continue };
        match read_password(look, selector).await? {
            Ok(found) => *password = Some(found),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok(passwords))
}

async fn read_password(
    look: &Look<'_>,
    selector: &SecretKeySelector,
) -> Result<Result<Zeroizing<String>, Failure>, WriteError> {
    let SecretKeySelector { name, key } = selector;
    let secret = look
        .ctx()
        .secrets(&look.namespace())
        .get_opt(name)
        .await
        .map_err(|error| WriteError::reading("Secret", name, error))?;
    let namespace = look.namespace();
    look.ctx().dependencies.note_read(
        &dependencies::dependent(&namespace, &look.certificate.name_any()),
        &Dependency::secret(&namespace, name),
        secret.as_ref().and_then(ResourceExt::resource_version),
    );
    let value = secret.and_then(|secret| secret.data?.remove(key)).map(|value| value.0);
    let text = value
        .and_then(|value| String::from_utf8(value).ok())
        .filter(|text| !text.is_empty());
    Ok(text.map(Zeroizing::new).ok_or_else(|| {
        Failure::new(
            Class::Waiting(Duration::from_secs(60)),
            "KeystoreFailed",
            format!("the keystore's password is to be under {key} in Secret {name}, and is not there: kubectl create secret generic {name} --from-literal={key}=…"),
        )
    }))
}

/// Whether a Secret that the metadata watch does not show is in the way of a new pair: asked
/// before anything is ordered for it.
pub async fn obstacle(look: &Look<'_>) -> Result<Option<Failure>, WriteError> {
    let name = &look.certificate.spec.secret_name;
    let found = look
        .ctx()
        .secrets(&look.namespace())
        .get_opt(name)
        .await
        .map_err(|error| WriteError::reading("Secret", name, error))?;
    Ok(found
        .filter(|secret| {
            secret.type_.as_deref() != Some(TLS)
                && secret.annotations().get(names::ADOPT).map(String::as_str) != Some(names::TRUE)
        })
        .map(|secret| {
            plan::secret_conflict(
                name,
                &super::holding::Damage::Type(secret.type_.unwrap_or_default()).to_string(),
            )
        }))
}
