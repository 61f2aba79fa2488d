//! All Certificates and Gateways at once: read, judged, written.

use std::process::ExitCode;

use gatehouse_crds::{
    alert::{AlertPolicy, ClusterAlertPolicy},
    certificate::Certificate,
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};

use super::{
    Flags,
    alarms::{self, Alarms, Policy},
    gateways,
    table::{self, Columns, Item},
};
use crate::cli::{
    FINE, UNHEALTHY,
    connection::{self, Connection, Trouble},
    manifest::{self, Format},
    terminal::{self, Paint, Screen},
};

/// Whose Certificates and Gateways are meant.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// None is all.
    pub namespace: Option<String>,
    pub selection: ListParams,
    pub columns: Columns,
}

impl Scope {
    pub fn of(flags: &Flags, connection: &Connection) -> Self {
        Self {
            namespace: (!flags.all_namespaces).then(|| connection.namespace.clone()),
            selection: selection(flags.selector.as_deref()),
            columns: Columns {
                namespace: flags.all_namespaces,
                wide: flags.output == Some(Format::Wide),
            },
        }
    }

    /// Certificates as they are in the cluster, also such that this version cannot read.
    pub fn api(&self, connection: &Connection) -> Api<DynamicObject> {
        certificates(connection, self.namespace.as_deref())
    }

    /// Gateways in the same manner.
    pub fn gateways(&self, connection: &Connection) -> Api<DynamicObject> {
        gateways::api(connection, self.namespace.as_deref())
    }
}

/// Certificates of a namespace, or of all.
pub(in crate::cli) fn certificates(connection: &Connection, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<Certificate>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(connection.client.clone(), namespace, &resource),
        None => Api::all_with(connection.client.clone(), &resource),
    }
}

/// Those with these labels.
pub(in crate::cli) fn selection(labels: Option<&str>) -> ListParams {
    ListParams {
        label_selector: labels.map(str::to_owned),
        ..ListParams::default()
    }
}

/// Objects to show.
pub(super) struct Picture<'a> {
    pub certificates: Vec<&'a Item>,
    pub gateways: Vec<&'a gateways::Item>,
    /// Why there are no Gateways to be seen.
    pub unseen: Option<&'a str>,
    pub policies: &'a [Policy],
}

pub(super) async fn run(connection: &Connection, flags: &Flags, screen: Screen) -> Result<ExitCode, Trouble> {
    let scope = Scope::of(flags, connection);
    let (certificates, gateways) = (scope.api(connection), scope.gateways(connection));
    let (certificates, gateways, policies) = futures::join!(
        connection::list(&certificates, &scope.selection),
        gateways::list(&gateways, &scope.selection),
        policies(connection, scope.namespace.as_deref())
    );
    let certificates = certificates?;
    let (gateways, unseen) = match gateways? {
        Ok(gateways) => (gateways, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let now = Timestamp::now();
    let objects = flags.objects().map(|format| {
        let all = certificates.iter().chain(&gateways).cloned().collect();
        manifest::text(&manifest::objects(all), format)
    });
    let certificates: Vec<Item> = certificates.into_iter().map(item).collect();
    let gateways: Vec<gateways::Item> = gateways.into_iter().map(gateways::item).collect();
    let picture = Picture {
        certificates: certificates.iter().collect(),
        gateways: gateways.iter().collect(),
        unseen: unseen.as_deref(),
        policies: &policies,
    };
    let healthy = if let Some(text) = objects {
        terminal::show(&text?);
        // Beside the objects, which a program reads.
        if let Some(why) = &unseen {
            terminal::say(why);
        }
        is_well(&judged(&picture, now))
    } else {
        let (text, healthy) = page(&picture, &scope, now, screen);
        terminal::show(&text);
        healthy
    };
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

type Judged<'a> = (Vec<table::Judged<'a>>, Vec<gateways::table::Judged<'a>>);

fn judged<'a>(picture: &Picture<'a>, now: Timestamp) -> Judged<'a> {
    (
        table::judge(picture.certificates.iter().copied(), now),
        gateways::table::judge(picture.gateways.iter().copied(), now),
    )
}

fn is_well((certificates, gateways): &Judged<'_>) -> bool {
    certificates.iter().all(|one| !one.health.state.is_unhealthy())
        && gateways.iter().all(|one| !one.health.state.is_unhealthy())
}

/// The whole of what is shown, and whether all is well.
pub(super) fn page(picture: &Picture<'_>, scope: &Scope, now: Timestamp, screen: Screen) -> (String, bool) {
    let both = judged(picture, now);
    let Alarms { text: alarms, serious } = alarms::alarms(picture.policies, scope.namespace.as_deref(), now, screen);
    let healthy = !serious && is_well(&both);
    let (certificates, gateways) = both;
    let unseen = picture.unseen.map_or_else(String::new, |why| format!("{why}\n"));
    if certificates.is_empty() && gateways.is_empty() {
        let place = match &scope.namespace {
            Some(namespace) => format!("No certificates in namespace {namespace}. Of all namespaces: -A"),
            None => "No certificates.".to_owned(),
        };
        return (format!("{place}\n{unseen}{alarms}"), healthy);
    }
    let mut text = String::new();
    let mut summaries = Vec::new();
    let mut hints = String::new();
    // A heading where there is something to distinguish.
    let heads = !certificates.is_empty() && !gateways.is_empty();
    let heading = |words: &str| heads.then(|| format!("{}\n", screen.paint(words, Paint::Strong)));
    if !certificates.is_empty() {
        text.extend(heading("Certificates"));
        text.push_str(&table::table(&certificates, scope.columns, now, screen));
        text.push('\n');
        summaries.push(table::summary(&certificates));
        let worst = certificates.iter().find(|one| one.health.state.is_unhealthy());
        hints.extend(worst.map(|one| hint(&one.item.namespace, &one.item.name)));
    }
    if !gateways.is_empty() {
        text.extend(heading("Gateways"));
        text.push_str(&gateways::table::table(&gateways, scope.columns, screen));
        text.push('\n');
        summaries.push(gateways::table::summary(&gateways));
        let worst = gateways.iter().find(|one| one.health.state.is_unhealthy());
        hints.extend(worst.map(|one| hint(&one.item.namespace, &format!("gateway/{}", one.item.name))));
    }
    (
        format!("{text}{}\n{hints}{unseen}{alarms}", summaries.join("; ")),
        healthy,
    )
}

/// The next command, as it can be copied, wherever the next shell's context points to.
fn hint(namespace: &str, name: &str) -> String {
    format!(
        "Why, and what to do: {} status -n {namespace} {name}\n",
        crate::cli::called()
    )
}

/// One object, read or not.
pub(super) fn item(object: DynamicObject) -> Item {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let certificate = object
        .try_parse::<Certificate>()
        .map(Box::new)
        .map_err(|error| error.to_string());
    Item {
        namespace,
        name,
        certificate,
    }
}

/// Every AlertPolicy that concerns the namespace. Who may not list them sees none.
pub(super) async fn policies(connection: &Connection, namespace: Option<&str>) -> Vec<Policy> {
    let own: Api<AlertPolicy> = match namespace {
        Some(namespace) => Api::namespaced(connection.client.clone(), namespace),
        None => Api::all(connection.client.clone()),
    };
    let cluster: Api<ClusterAlertPolicy> = Api::all(connection.client.clone());
    let everything = ListParams::default();
    let (own, cluster) = futures::join!(
        connection::list(&own, &everything),
        connection::list(&cluster, &everything)
    );
    let own = own.unwrap_or_default().into_iter().filter_map(|policy| {
        let title = format!(
            "AlertPolicy {}/{}",
            policy.namespace().unwrap_or_default(),
            policy.name_any()
        );
        policy.status.map(|status| Policy { title, status })
    });
    let cluster = cluster.unwrap_or_default().into_iter().filter_map(|policy| {
        let title = format!("ClusterAlertPolicy {}", policy.name_any());
        policy.status.map(|status| Policy { title, status })
    });
    own.chain(cluster).collect()
}
