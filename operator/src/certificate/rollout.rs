//! Restarts what uses a Secret after it changed (`lessons.md` 16).

use gatehouse_crds::certificate::RolloutKind;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{holding::Held, look::Look};
use crate::kubernetes::{apply::WriteError, events::EventType};

/// Notes the serial number on the Pod template of each workload, which rolls it where the number is new.
///
/// The same number twice changes nothing, so it is safe to repeat. A first certificate restarts
/// nothing: Pods that mount the Secret were waiting for it.
pub async fn restart(look: &Look<'_>, held: &Held) {
    let status = look.status();
    let serial = held.leaf().serial_hex();
    if look.certificate.spec.rollout.is_empty()
        || status.serial_number.is_none()
        || status.serial_number.as_deref() == Some(&serial)
    {
        return;
    }
    for target in &look.certificate.spec.rollout {
        let result = match target.kind {
            RolloutKind::Deployment => roll::<Deployment>(look, &target.name, &serial).await,
            RolloutKind::StatefulSet => roll::<StatefulSet>(look, &target.name, &serial).await,
            RolloutKind::DaemonSet => roll::<DaemonSet>(look, &target.name, &serial).await,
        };
        if let Err(error) = result {
            look.ctx().tell(
                look.certificate,
                EventType::Warning,
                "RolloutFailed",
                &format!(
                    "The Secret changed, but {:?} {} could not be restarted: {error}.",
                    target.kind, target.name
                ),
            );
        }
    }
}

async fn roll<K>(look: &Look<'_>, name: &str, serial: &str) -> Result<(), WriteError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(look.ctx().client.clone(), &look.namespace());
    let annotation = format!(
        "gatehouse.dev/serial-number.{}",
        shortened(&look.certificate.name_any())
    );
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": { annotation: serial } } } } });
    look.ctx().writer.merge::<K>(&api, name, &patch).await
}

/// The name part of an annotation has 63 characters at most.
fn shortened(name: &str) -> String {
    const LEFT: usize = 63 - "serial-number.".len();
    if name.len() <= LEFT {
        return name.to_owned();
    }
    let hash = super::renewal::seed(&[name]);
    format!("{}-{hash:016x}", name.chars().take(LEFT - 17).collect::<String>())
}
