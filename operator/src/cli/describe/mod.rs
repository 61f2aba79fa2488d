//! `gatehouse status NAME`: what is wanted, what exists, who signed or takes the traffic, what happened, what is next, what to do.

pub(super) mod advice;
mod exists;
mod gateway;
mod gather;
mod page;
mod render;

pub(super) use exists::names;
pub(super) use page::Page;

use std::process::ExitCode;

use jiff::Timestamp;
use kube::{Api, api::DynamicObject};

use super::{
    FINE, UNHEALTHY,
    connection::{self, Connection, Trouble},
    manifest::{self, Format},
    status::{
        self,
        gateways::{self, health as gateway_health},
        health::{self, Health},
    },
    subject::{Kind, Subject},
    terminal::{self, Screen},
};

/// Describes one Certificate or Gateway, or prints its object.
pub(super) async fn run(
    connection: &Connection,
    subject: &Subject,
    format: Option<Format>,
    screen: Screen,
) -> Result<ExitCode, Trouble> {
    let (text, healthy) = match format {
        None => describe(connection, subject, screen).await?,
        Some(format) => {
            let (kind, object) = find(connection, subject).await?;
            let healthy = is_well(kind, &object, Timestamp::now());
            (manifest::text(&manifest::object(object), format)?, healthy)
        }
    };
    terminal::show(&text);
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

/// The story, and whether it ends well.
pub(super) async fn describe(
    connection: &Connection,
    subject: &Subject,
    screen: Screen,
) -> Result<(String, bool), Trouble> {
    let (kind, object) = find(connection, subject).await?;
    match kind {
        Kind::Certificate => {
            let known = Box::pin(gather::gather(connection, object)).await?;
            let now = Timestamp::now();
            let health = health::of(&known.certificate, now);
            Ok((
                render::render(&known, &health, now, screen),
                !health.state.is_unhealthy(),
            ))
        }
        Kind::Gateway => Box::pin(gateway::describe(connection, object, screen)).await,
    }
}

/// The one that is meant: of two of one name the Certificate, unless the kind was said.
pub(super) async fn find(connection: &Connection, subject: &Subject) -> Result<(Kind, DynamicObject), Trouble> {
    let namespace = Some(connection.namespace.as_str());
    let get = async |api: Api<DynamicObject>| connection::ask(api.get(&subject.name)).await;
    let certificate = async || get(status::certificates(connection, namespace)).await;
    let gateway = async || get(gateways::api(connection, namespace)).await;
    match subject.kind {
        Some(Kind::Certificate) => Ok((Kind::Certificate, certificate().await?)),
        Some(Kind::Gateway) => Ok((Kind::Gateway, gateway().await?)),
        None => match certificate().await {
            Ok(object) => Ok((Kind::Certificate, object)),
            Err(Trouble::NotFound(missing)) => match gateway().await {
                Ok(object) => Ok((Kind::Gateway, object)),
                Err(Trouble::NotFound(_)) => Err(Trouble::NotFound(format!("{missing}, and no Gateway is called so"))),
                // A user who may not read Gateways sees the Certificate alone.
                Err(_) => Err(Trouble::NotFound(missing)),
            },
            Err(trouble) => Err(trouble),
        },
    }
}

fn is_well(kind: Kind, object: &DynamicObject, now: Timestamp) -> bool {
    let object = object.clone();
    match kind {
        Kind::Certificate => {
            let health = object.try_parse().map_or_else(
                |error| Health::unreadable(&error.to_string()),
                |read| health::of(&read, now),
            );
            !health.state.is_unhealthy()
        }
        Kind::Gateway => object
            .try_parse()
            .is_ok_and(|read| !gateway_health::of(&read, now).state.is_unhealthy()),
    }
}
