//! Gateways in `gatehouse status`.

pub(in crate::cli) mod health;
pub(in crate::cli) mod table;

use gatehouse_crds::gateway::Gateway;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};

use crate::cli::connection::{self, Connection, Trouble};

/// One Gateway as the cluster has it, or why it cannot be read.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Item {
    pub namespace: String,
    pub name: String,
    pub gateway: Result<Box<Gateway>, String>,
}

/// One object, read or not.
pub(in crate::cli) fn item(object: DynamicObject) -> Item {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let gateway = object
        .try_parse::<Gateway>()
        .map(Box::new)
        .map_err(|error| error.to_string());
    Item {
        namespace,
        name,
        gateway,
    }
}

/// Gateways of a namespace, or of all, also such that this version cannot read.
pub(in crate::cli) fn api(connection: &Connection, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<Gateway>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(connection.client.clone(), namespace, &resource),
        None => Api::all_with(connection.client.clone(), &resource),
    }
}

/// All of them; or why they are not seen, which harms no Certificate: the kind is younger, and so are the rights for it.
pub(in crate::cli) async fn list(
    api: &Api<DynamicObject>,
    selection: &ListParams,
) -> Result<Result<Vec<DynamicObject>, String>, Trouble> {
    unseen(connection::list(api, selection).await)
}

/// Separates what the user sees beside the Certificates from what ends the command.
pub(in crate::cli) fn unseen<T>(answer: Result<T, Trouble>) -> Result<Result<T, String>, Trouble> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::NotInstalled) => Ok(Err(
            "Gateways are not shown: this cluster does not know the kind. To have it: gatehouse crds | kubectl apply --server-side -f -"
                .to_owned(),
        )),
        Err(Trouble::Forbidden(why)) => Ok(Err(format!("Gateways are not shown: {why}"))),
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cluster_without_the_kind_or_the_rights_still_shows_its_certificates() {
        let words = |trouble| unseen::<()>(Err(trouble)).unwrap().unwrap_err();
        assert!(words(Trouble::NotInstalled).contains("gatehouse crds | kubectl apply"));
        assert!(words(Trouble::Forbidden("you may not".into())).contains("you may not"));
        let lost = unseen::<()>(Err(Trouble::NoCluster("gone".into())));
        assert_eq!(lost, Err(Trouble::NoCluster("gone".into())));
        assert_eq!(unseen(Ok(1)), Ok(Ok(1)));
    }
}
