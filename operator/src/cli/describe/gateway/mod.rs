//! The story of a Gateway.

mod gather;
mod render;
mod traffic;

use jiff::Timestamp;
use kube::api::DynamicObject;

use crate::cli::{
    connection::{Connection, Trouble},
    status::gateways::health,
    terminal::Screen,
};

/// The story, and whether it ends well.
pub(super) async fn describe(
    connection: &Connection,
    object: DynamicObject,
    screen: Screen,
) -> Result<(String, bool), Trouble> {
    let known = Box::pin(gather::gather(connection, object)).await?;
    let now = Timestamp::now();
    let health = health::of(&known.gateway, now);
    Ok((
        render::render(&known, &health, now, screen),
        !health.state.is_unhealthy(),
    ))
}
