//! `gatehouse renew`: asks the operator for new certificates now.

mod progress;
mod wait;

use std::{process::ExitCode, time::Duration};

use clap::{ArgGroup, Args};
use futures::{StreamExt, stream};
use gatehouse_crds::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;

use super::{
    FINE, UNHEALTHY,
    connection::{self, Connection, Reach, Trouble},
    moment, status, terminal,
};
use crate::kubernetes::names;
use progress::Asked;

/// Patches that are under way at once.
const MAX_CONCURRENT_PATCHES: usize = 16;
/// Field manager of the annotation: not the operator.
pub(super) const FIELD_MANAGER: &str = "gatehouse-cli";

/// Asks for new certificates now.
///
/// The old ones serve until the new ones are in their Secrets.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 asked for (with --wait: renewed), 1 something failed, 2 wrong usage or no cluster."
)]
#[command(group = ArgGroup::new("which").required(true).args(["names", "all", "selector"]))]
pub(super) struct Flags {
    /// The Certificates.
    #[arg(value_name = "NAME", conflicts_with = "all_namespaces")]
    names: Vec<String>,
    /// All Certificates of the namespace, or with -A of the cluster. Mind the CA's rate limits.
    #[arg(long)]
    all: bool,
    /// The Certificates with these labels, such as app=shop.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// With --all or --selector: of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Wait for the new certificates, and show how they come about.
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this.
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "wait")]
    timeout: gatehouse_crds::duration::Duration,
    #[command(flatten)]
    reach: Reach,
}

/// Result of a request.
enum Asking {
    Asked(Asked),
    Suspended,
    Failed,
}

/// Runs the command.
pub(super) fn run(flags: &Flags) -> ExitCode {
    connection::run(async {
        let connection = flags.reach.connect().await?;
        let namespace = (!flags.all_namespaces).then(|| connection.namespace.clone());
        let (objects, mut failed) = chosen(flags, &connection, namespace.as_deref()).await?;
        if objects.is_empty() && !failed {
            terminal::say("No such certificates.");
        }
        let askings: Vec<Asking> = stream::iter(objects)
            .map(|object| ask(&connection, object))
            .buffered(MAX_CONCURRENT_PATCHES)
            .collect()
            .await;
        let mut asked = Vec::new();
        for asking in askings {
            match asking {
                Asking::Asked(one) => asked.push(one),
                // It is asked for; but waiting for it would be in vain.
                Asking::Suspended => failed |= flags.wait,
                Asking::Failed => failed = true,
            }
        }
        if flags.wait && !asked.is_empty() {
            let patience: Duration = flags.timeout.value();
            failed |= !wait::wait(&connection, namespace.as_deref(), asked, patience).await?;
        }
        Ok(ExitCode::from(if failed { UNHEALTHY } else { FINE }))
    })
}

/// The Certificates that are meant, and whether one of them is missing.
async fn chosen(
    flags: &Flags,
    connection: &Connection,
    namespace: Option<&str>,
) -> Result<(Vec<DynamicObject>, bool), Trouble> {
    let api = status::certificates(connection, namespace);
    if flags.names.is_empty() {
        let selection = status::selection(flags.selector.as_deref());
        return Ok((connection::list(&api, &selection).await?, false));
    }
    let (mut found, mut missing) = (Vec::new(), false);
    for name in &flags.names {
        match connection::ask(api.get(name)).await {
            Ok(object) => found.push(object),
            Err(trouble @ (Trouble::NotFound(_) | Trouble::Refused(_))) => {
                terminal::say(&format!("error: {trouble} (namespace {})", connection.namespace));
                missing = true;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok((found, missing))
}

/// Asks for one, and says so.
async fn ask(connection: &Connection, object: DynamicObject) -> Asking {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let certificate: Option<Certificate> = object.try_parse().ok();
    let time = request_time(certificate.as_ref(), Timestamp::now());
    let patch = json!({"metadata": {"annotations": {names::RENEW_REQUESTED_AT: time.to_string()}}});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let api: Api<DynamicObject> = status::certificates(connection, Some(&namespace));
    if let Err(trouble) = connection::ask(api.patch_metadata(&name, &parameters, &Patch::Merge(&patch))).await {
        terminal::say(&format!("error: certificate {namespace}/{name}: {trouble}"));
        return Asking::Failed;
    }
    if certificate.as_ref().is_some_and(|it| it.spec.suspend == Some(true)) {
        terminal::show(&format!(
            "certificate {namespace}/{name}: renewal requested, but it is suspended: nothing happens while spec.suspend is true\n"
        ));
        return Asking::Suspended;
    }
    terminal::show(&format!(
        "certificate {namespace}/{name}: renewal requested at {}\n",
        moment::stamp(time)
    ));
    Asking::Asked(Asked::new(namespace, name, time, certificate.as_ref()))
}

/// Now, but later than what the request is to come after: statuses have whole seconds.
fn request_time(certificate: Option<&Certificate>, now: Timestamp) -> Timestamp {
    let status = certificate.and_then(|certificate| certificate.status.as_ref());
    let issued = status.and_then(|status| status.issued_at);
    let failed = status.and_then(|status| status.last_failure.as_ref().map(|last| last.time));
    let last = issued.max(failed).filter(|last| *last >= now);
    last.map_or(now, |last| {
        last.checked_add(SignedDuration::from_secs(1)).unwrap_or(now)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::samples::certificate;

    #[test]
    fn a_request_is_later_than_the_last_certificate_and_the_last_failure() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let at = |yaml: &str| request_time(Some(&certificate("web", yaml)), now).to_string();
        assert_eq!(at(""), "2026-11-21T12:00:00Z");
        assert_eq!(at("status: {issuedAt: 2026-11-21T11:59:59Z}"), "2026-11-21T12:00:00Z");
        assert_eq!(at("status: {issuedAt: 2026-11-21T12:00:00Z}"), "2026-11-21T12:00:01Z");
        assert_eq!(
            at(
                "status: {issuedAt: 2026-11-20T12:00:00Z, lastFailure: {time: 2026-11-21T12:00:01Z, reason: Network, message: m}}"
            ),
            "2026-11-21T12:00:02Z"
        );
    }
}
