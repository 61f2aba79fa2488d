//! All Certificates at once: read, judged, written.

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
    table::{self, Columns, Item},
};
use crate::cli::{
    FINE, UNHEALTHY,
    connection::{self, Connection, Trouble},
    manifest::{self, Format},
    terminal::{self, Screen},
};

/// Whose Certificates are meant.
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

pub(super) async fn run(connection: &Connection, flags: &Flags, screen: Screen) -> Result<ExitCode, Trouble> {
    let scope = Scope::of(flags, connection);
    let api = scope.api(connection);
    let certificates = connection::list(&api, &scope.selection);
    let (objects, policies) = futures::join!(certificates, policies(connection, scope.namespace.as_deref()));
    let objects = objects?;
    let now = Timestamp::now();
    let (text, healthy) = if let Some(format) = flags.objects() {
        let items: Vec<Item> = objects.iter().cloned().map(item).collect();
        let judged = table::judge(&items, now);
        let healthy = judged.iter().all(|one| !one.health.state.is_unhealthy());
        (manifest::text(&manifest::objects(objects), format)?, healthy)
    } else {
        let items: Vec<Item> = objects.into_iter().map(item).collect();
        page(&items, &policies, &scope, now, screen)
    };
    terminal::show(&text);
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

/// The whole of what is shown, and whether all is well.
pub(super) fn page<'a>(
    items: impl IntoIterator<Item = &'a Item>,
    policies: &[Policy],
    scope: &Scope,
    now: Timestamp,
    screen: Screen,
) -> (String, bool) {
    let judged = table::judge(items, now);
    let Alarms { text: alarms, serious } = alarms::alarms(policies, scope.namespace.as_deref(), now, screen);
    let healthy = !serious && judged.iter().all(|one| !one.health.state.is_unhealthy());
    if judged.is_empty() {
        let place = match &scope.namespace {
            Some(namespace) => format!("No certificates in namespace {namespace}. Of all namespaces: -A"),
            None => "No certificates.".to_owned(),
        };
        return (format!("{place}\n{alarms}"), healthy);
    }
    let table = table::table(&judged, scope.columns, now, screen);
    let summary = table::summary(&judged);
    let hint = judged
        .iter()
        .find(|one| one.health.state.is_unhealthy())
        .map(|one| format!("\nWhy, and what to do: {}", story_command(one.item)))
        .unwrap_or_default();
    (format!("{table}\n{summary}{hint}\n{alarms}"), healthy)
}

/// As it can be copied, wherever the next shell's context points to.
fn story_command(item: &Item) -> String {
    format!("{} status -n {} {}", crate::cli::called(), item.namespace, item.name)
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
