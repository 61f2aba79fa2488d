//! `gatehouse status NAME`: what is wanted, what exists, who signed, what happened, what is next, what to do.

pub(super) mod advice;
mod exists;
mod gather;
mod page;
mod tale;

pub(super) use exists::names;
pub(super) use page::Page;

use std::process::ExitCode;

use jiff::Timestamp;

use super::{
    FINE, UNHEALTHY,
    connection::{self, Connection, Trouble},
    manifest::{self, Format},
    status::{
        self,
        health::{self, Health},
    },
    terminal::{self, Screen},
};

/// Tells the story of one Certificate, or prints its object.
pub(super) async fn run(
    connection: &Connection,
    name: &str,
    format: Option<Format>,
    screen: Screen,
) -> Result<ExitCode, Trouble> {
    let (text, healthy) = match format {
        None => tell(connection, name, screen).await?,
        Some(format) => {
            let api = status::certificates(connection, Some(&connection.namespace));
            let object = connection::ask(api.get(name)).await?;
            let health = object.clone().try_parse().map_or_else(
                |error| Health::unreadable(&error.to_string()),
                |read| health::of(&read, Timestamp::now()),
            );
            let text = manifest::text(&manifest::object(object), format)?;
            (text, !health.state.is_unhealthy())
        }
    };
    terminal::show(&text);
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

/// The story, and whether it ends well.
pub(super) async fn tell(connection: &Connection, name: &str, screen: Screen) -> Result<(String, bool), Trouble> {
    let known = gather::gather(connection, name).await?;
    let now = Timestamp::now();
    let health = health::of(&known.certificate, now);
    Ok((tale::tale(&known, &health, now, screen), !health.state.is_unhealthy()))
}
