//! Input of a Certificate's description: read from the cluster, as far as the user may.

use gatehouse_crds::{
    certificate::{Certificate, IssuerKind, IssuerRef},
    issuer::{ClusterIssuer, Issuer, IssuerStatus},
};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, Resource, ResourceExt,
    api::{DynamicObject, ListParams},
};

use super::exists::{self, Contents};
use crate::{
    certificate::observed_secret,
    cli::connection::{self, Connection, Trouble},
};

/// Something that may be there, as far as the user may see it.
#[derive(Clone, Debug)]
pub(super) enum Seen<T> {
    There(T),
    Missing,
    Forbidden,
    Failed(String),
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub certificate: Certificate,
    pub secret: Seen<Contents>,
    /// The issuer that is asked first, then the fallbacks.
    pub issuers: Vec<(IssuerRef, Seen<IssuerStatus>)>,
    /// Oldest first.
    pub events: Seen<Vec<Happening>>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happening {
    pub at: Timestamp,
    pub warning: bool,
    pub reason: String,
    pub note: String,
}

/// Reads it.
pub(super) async fn gather(connection: &Connection, object: DynamicObject) -> Result<Known, Trouble> {
    let name = object.name_any();
    let certificate: Certificate = object.try_parse().map_err(|error| {
        Trouble::Refused(format!(
            "Certificate {name} cannot be read: {error}. Correct its spec, or see it whole with -o yaml"
        ))
    })?;
    let spec = &certificate.spec;
    let wanted = std::iter::once(&spec.issuer_ref).chain(&spec.fallback_issuer_refs);
    let issuers = futures::future::join_all(wanted.map(|wanted| issuer(connection, wanted)));
    let (secret, issuers, events) = futures::join!(
        secret(connection, &certificate),
        issuers,
        events(connection, "Certificate", &certificate)
    );
    Ok(Known {
        certificate,
        secret,
        issuers,
        events,
    })
}

async fn secret(connection: &Connection, certificate: &Certificate) -> Seen<Contents> {
    let api: Api<Secret> = Api::namespaced(connection.client.clone(), &connection.namespace);
    match seen(connection::ask(api.get(&certificate.spec.secret_name)).await) {
        Seen::There(mut secret) => {
            let contents = exists::contents(&secret, certificate);
            observed_secret::wipe(&mut secret);
            Seen::There(contents)
        }
        Seen::Missing => Seen::Missing,
        Seen::Forbidden => Seen::Forbidden,
        Seen::Failed(why) => Seen::Failed(why),
    }
}

async fn issuer(connection: &Connection, wanted: &IssuerRef) -> (IssuerRef, Seen<IssuerStatus>) {
    let client = connection.client.clone();
    let status = match wanted.kind() {
        IssuerKind::Issuer => {
            let api: Api<Issuer> = Api::namespaced(client, &connection.namespace);
            connection::ask(api.get(&wanted.name)).await.map(|issuer| issuer.status)
        }
        IssuerKind::ClusterIssuer => {
            let api: Api<ClusterIssuer> = Api::all(client);
            connection::ask(api.get(&wanted.name)).await.map(|issuer| issuer.status)
        }
    };
    (wanted.clone(), seen(status.map(Option::unwrap_or_default)))
}

/// The events of an object, oldest first.
pub(super) async fn events<K: Resource>(connection: &Connection, kind: &str, object: &K) -> Seen<Vec<Happening>> {
    let api: Api<Event> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let metadata = object.meta();
    let name = metadata.name.as_deref().unwrap_or_default();
    let fields = format!("regarding.kind={kind},regarding.name={name}");
    let list = connection::list(&api, &ListParams::default().fields(&fields)).await;
    seen(list.map(|events| happenings(events, metadata.uid.as_deref())))
}

/// The events of this very object; one of the same name may have been there before.
fn happenings(events: Vec<Event>, uid: Option<&str>) -> Vec<Happening> {
    let mut happenings: Vec<_> = events
        .into_iter()
        .filter(|event| {
            let of = event.regarding.as_ref().and_then(|object| object.uid.as_deref());
            of.is_none() || of == uid
        })
        .filter_map(|event| {
            let written = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
            // Older recorders, those of many cloud controllers among them, count in place of writing another event.
            let last = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
            Some(Happening {
                at: event.event_time.as_ref().map(|time| time.0).or(last).or(written)?,
                warning: event.type_.as_deref() == Some("Warning"),
                reason: event.reason.unwrap_or_default(),
                note: event.note.unwrap_or_default(),
            })
        })
        .collect();
    happenings.sort_by_key(|happening| happening.at);
    happenings
}

pub(super) fn seen<T>(answer: Result<T, Trouble>) -> Seen<T> {
    match answer {
        Ok(value) => Seen::There(value),
        Err(Trouble::NotFound(_)) => Seen::Missing,
        Err(Trouble::Forbidden(_)) => Seen::Forbidden,
        Err(trouble) => Seen::Failed(trouble.to_string()),
    }
}
