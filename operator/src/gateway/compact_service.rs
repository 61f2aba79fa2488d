//! A Service as it is kept: there are thousands, and each is looked at seldom.

use super::observed_service::ObservedService;

/// A [`ObservedService`] in few bytes: what is large of it is text.
#[derive(Debug)]
pub struct CompactService {
    /// Without its value and the fields that are ours.
    pub live: ObservedService,
    value: Box<[u8]>,
    /// A path on each line.
    owned: Box<str>,
}

impl CompactService {
    pub fn of(mut live: ObservedService) -> Self {
        let value = std::mem::take(&mut live.value);
        let owned: Vec<String> = std::mem::take(&mut live.owned).into_iter().collect();
        Self {
            live,
            value: serde_json::to_vec(&value).unwrap_or_default().into(),
            owned: owned.join("\n").into(),
        }
    }

    /// All of it.
    pub fn unpack(&self) -> ObservedService {
        ObservedService {
            // It was written by us. Of one that could not be read nothing would be as it should, and it would be written anew.
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
        assert_eq!(CompactService::of(live.clone()).unpack(), live);
        let bare = ObservedService::default();
        assert_eq!(CompactService::of(bare.clone()).unpack(), bare);
    }
}
