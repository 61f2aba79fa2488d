//! The Certificates of listeners.

use gatehouse_crds::{
    certificate::Certificate,
    gateway::{Gateway, Listener, ListenerTls},
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    service::{labels, owner},
    status::Certificate as State,
};
use crate::{certificate::status::READY, kubernetes::conditions};

/// A Certificate that a listener asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredCertificate {
    pub name: String,
    pub body: Value,
}

/// The name of a listener's Certificate.
pub fn name(gateway: &str, listener: &str) -> String {
    format!("{gateway}-{listener}")
}

/// The Secret that it is written to.
pub fn secret_name(gateway: &str, listener: &str) -> String {
    format!("{}-tls", name(gateway, listener))
}

/// All that the listeners ask for.
pub fn desired(gateway: &Gateway) -> Vec<DesiredCertificate> {
    let made_here = |listener: &&Listener| {
        matches!(
            &listener.tls,
            Some(ListenerTls {
                certificate: Some(_),
                ..
            })
        )
    };
    gateway
        .spec
        .listeners
        .iter()
        .filter(made_here)
        .filter_map(|listener| one(gateway, listener))
        .collect()
}

fn one(gateway: &Gateway, listener: &Listener) -> Option<DesiredCertificate> {
    let template = listener.tls.as_ref()?.certificate.as_ref()?;
    let host = listener.hostname.as_ref()?;
    let (gateway_name, listener) = (gateway.name_any(), &listener.name);
    let mut spec = json!({
        "secretName": secret_name(&gateway_name, listener),
        "issuerRef": template.issuer_ref,
        "dnsNames": [host],
    });
    if let (Some(spec), Some(duration)) = (spec.as_object_mut(), &template.duration) {
        spec.insert("duration".into(), json!(duration));
    }
    Some(DesiredCertificate {
        name: name(&gateway_name, listener),
        body: json!({
            "metadata": {"labels": labels(&gateway_name), "ownerReferences": [owner(gateway)]},
            "spec": spec,
        }),
    })
}

/// Whether a Certificate says what is wanted of it, whatever else it says.
pub fn is_as_wanted(there: &Certificate, body: &Value) -> bool {
    let said = serde_json::to_value(&there.spec).unwrap_or_default();
    let desired = body.get("spec").and_then(Value::as_object);
    let labels = body.pointer("/metadata/labels").and_then(Value::as_object);
    let has = |key: &String, value: &Value| there.labels().get(key).map(String::as_str) == value.as_str();
    desired
        .into_iter()
        .flatten()
        .all(|(field, value)| said.get(field) == Some(value))
        && labels.into_iter().flatten().all(|(key, value)| has(key, value))
}

/// Returns the state of a Certificate.
pub fn state(there: &Certificate) -> State {
    let status = there.status.as_ref();
    let ready = status.and_then(|status| conditions::find(&status.conditions, READY));
    let not_after = status.and_then(|status| status.not_after);
    match ready {
        Some(ready) if ready.status == "True" => State::Good(not_after),
        Some(ready) => State::Bad(
            "CertificateNotReady",
            format!(
                "The Certificate {} is not ready: {} ({})",
                there.name_any(),
                ready.message,
                ready.reason
            ),
        ),
        None => pending(&there.name_any()),
    }
}

/// State of a new Certificate.
pub fn pending(name: &str) -> State {
    State::Bad(
        "CertificatePending",
        format!("The Certificate {name} was just asked for"),
    )
}
