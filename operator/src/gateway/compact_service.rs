//! Compact form of a Service: there are thousands, and each is read seldom.

use k8s_openapi::api::core::v1::Service;

use super::observed_service::ObservedService;
use crate::kubernetes::store::ObjectKey;

/// A [`ObservedService`] in few bytes: what is large of it is text.
#[derive(Debug)]
pub struct CompactService {
    pub namespace: Box<str>,
    /// Without its value and the fields that are ours.
    pub live: ObservedService,
    value: Box<[u8]>,
    /// A path on each line.
    owned: Box<str>,
}

impl CompactService {
    pub fn of(service: &Service) -> Self {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default().into();
        Self::compact(namespace, ObservedService::of(service))
    }

    fn compact(namespace: Box<str>, mut live: ObservedService) -> Self {
        let value = std::mem::take(&mut live.value);
        let owned: Vec<String> = std::mem::take(&mut live.owned).into_iter().collect();
        Self {
            namespace,
            live,
            value: serde_json::to_vec(&value).unwrap_or_default().into(),
            owned: owned.join("\n").into(),
        }
    }

    /// Returns the UID of the Gateway that owns it, with its namespace.
    pub fn owner(&self) -> Option<ObjectKey> {
        Some(ObjectKey::new(&self.namespace, self.live.owner.as_deref()?))
    }

    /// Returns the key of the Gateway that owns it.
    pub fn owner_key(&self) -> Option<ObjectKey> {
        Some(ObjectKey::new(&self.namespace, self.live.owner_name.as_deref()?))
    }

    /// Returns all of it.
    pub fn unpack(&self) -> ObservedService {
        ObservedService {
            // It was written by us. If it cannot be read, every field differs, and it is written again.
            value: serde_json::from_slice(&self.value).unwrap_or_default(),
            owned: self.owned.lines().map(str::to_owned).collect(),
            ..self.live.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_packed_comes_out_as_it_was() {
        let service = serde_json::from_value(json!({
            "metadata": {"name": "shop", "uid": "u", "resourceVersion": "7", "annotations": {"a.b/c": "two\nlines"},
                "managedFields": [{"manager": crate::kubernetes::names::FIELD_MANAGER, "operation": "Apply",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:type": {}, "f:selector": {}}}}]},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.1.2.3"}]}},
        }));
        let live = ObservedService::of(&service.unwrap());
        assert_eq!(live.owned.len(), 2);
        assert_eq!(CompactService::compact("app".into(), live.clone()).unpack(), live);
        let bare = ObservedService::default();
        assert_eq!(CompactService::compact("app".into(), bare.clone()).unpack(), bare);
    }
}
