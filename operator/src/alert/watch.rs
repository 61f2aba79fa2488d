//! Reports AlertPolicies and the labels of namespaces to the engine.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use gatehouse_crds::alert::{AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Spec,
    engine::Trigger,
    policy::{AnyPolicy, Policy, Scope, key},
    status::Inactive,
};
use crate::kubernetes::store::{ObjectKey, Projection, Store, StoreEvent, Whole};

impl Whole for AlertPolicy {
    const KIND: &'static str = "AlertPolicy";
}

impl Whole for ClusterAlertPolicy {
    const KIND: &'static str = "ClusterAlertPolicy";
}

/// Labels of a namespace: all that is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceLabels {
    name: Box<str>,
    uid: Box<str>,
    pub labels: BTreeMap<String, String>,
}

impl Projection for NamespaceLabels {
    type Object = PartialObjectMeta<Namespace>;
    const KIND: &'static str = "Namespace";

    fn of(object: Self::Object) -> Self {
        Self {
            name: object.name_any().into(),
            uid: object.uid().unwrap_or_default().into(),
            labels: object.metadata.labels.unwrap_or_default(),
        }
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new("", &self.name)
    }

    fn object_uid(&self) -> &str {
        &self.uid
    }
}

/// Reports the policies of `store`, which are those of `scope`, to the engine.
pub fn follow_policies<P>(store: &Store<DeserializeGuard<P>>, scope: Scope, triggers: UnboundedSender<Trigger>)
where
    P: AnyPolicy + Whole,
{
    store.subscribe(move |store, event| {
        // After the engine has ended nothing receives them.
        for deleted in event.deleted() {
            let _ = triggers.send(Trigger::Policy(key(deleted.as_ref()), None));
        }
        let trigger = match event {
            StoreEvent::Applied { after, .. } => Trigger::Policy(key(after.as_ref()), Some(Box::new(spec(after)))),
            StoreEvent::Deleted(_) => return,
            // Together: of too many in a namespace only the oldest are active.
            StoreEvent::Listed { .. } => {
                let all = store.state();
                let all = all.iter().map(|policy| (key(policy.as_ref()), Box::new(spec(policy))));
                let mut all: Vec<_> = all.collect();
                all.sort_by(|(one, _), (other, _)| one.cmp(other));
                Trigger::Policies(scope.clone(), all)
            }
        };
        let _ = triggers.send(trigger);
    });
}

/// Reports changes of the labels of namespaces to the engine.
pub fn follow_namespaces(store: &Arc<Store<NamespaceLabels>>, triggers: UnboundedSender<Trigger>) {
    store.subscribe(move |_, event| {
        let trigger = match event {
            StoreEvent::Applied { before, after, .. } => {
                if before.as_ref().is_some_and(|before| before.labels == after.labels) {
                    return;
                }
                Trigger::Namespace(after.name.to_string())
            }
            StoreEvent::Listed { .. } => Trigger::AllChanged,
            StoreEvent::Deleted(_) => return,
        };
        let _ = triggers.send(trigger);
    });
}

fn spec<P: AnyPolicy + Resource<DynamicType = ()>>(object: &DeserializeGuard<P>) -> Spec {
    let inactive = |message: String| Inactive {
        reason: "Invalid",
        message,
    };
    let (status, policy) = match &object.0 {
        Ok(policy) => (
            policy.status().cloned().unwrap_or_default(),
            Policy::parse(policy).map_err(|error| inactive(format!("{error}. Fix the spec."))),
        ),
        Err(error) => (
            AlertPolicyStatus::default(),
            Err(inactive(format!("This policy cannot be read: {error}. Fix its spec."))),
        ),
    };
    Spec {
        uid: object.uid().unwrap_or_default(),
        generation: object.meta().generation,
        created: object.creation_timestamp().map(|time| time.0),
        status,
        policy,
    }
}
