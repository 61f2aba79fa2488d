//! Tells the engine which policies there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use futures::StreamExt;
use gatehouse_crds::alert::AlertPolicyStatus;
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Spec,
    engine::Trigger,
    policy::{AnyPolicy, Policy, PolicyKey, Scope, key},
    status::Inactive,
};
use crate::kubernetes::{client::Recovery, watch::watch};

/// Watches the policies of `scope` for ever.
pub async fn policies<P>(
    api: Api<DeserializeGuard<P>>,
    scope: Scope,
    news: UnboundedSender<Trigger>,
    recovery: Recovery,
) where
    P: AnyPolicy + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = watch(api, watcher::Config::default(), "AlertPolicy", &recovery).boxed();
    let mut known: BTreeSet<PolicyKey> = BTreeSet::new();
    // The list that is being read.
    let mut listed: BTreeMap<PolicyKey, Box<Spec>> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let told = match event {
            Event::Apply(object) => {
                known.insert(key(&object));
                vec![Trigger::Policy(key(&object), Some(Box::new(spec(&object))))]
            }
            Event::Delete(object) => {
                known.remove(&key(&object));
                vec![Trigger::Policy(key(&object), None)]
            }
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                listed.insert(key(&object), Box::new(spec(&object)));
                Vec::new()
            }
            // No event comes for what was deleted while the watch was interrupted.
            Event::InitDone => {
                let all = std::mem::take(&mut listed);
                let before = std::mem::replace(&mut known, all.keys().cloned().collect());
                let gone = before.difference(&known).map(|key| Trigger::Policy(key.clone(), None));
                gone.chain([Trigger::Policies(scope.clone(), all.into_iter().collect())])
                    .collect()
            }
        };
        for told in told {
            if news.send(told).is_err() {
                return;
            }
        }
    }
}

fn spec<P: AnyPolicy + Resource<DynamicType = ()>>(object: &DeserializeGuard<P>) -> Spec {
    let inactive = |message: String| Inactive {
        reason: "Invalid",
        message,
    };
    let (status, policy) = match &object.0 {
        Ok(policy) => (
            policy.status().cloned().unwrap_or_default(),
            Policy::parse(policy).map_err(|error| inactive(format!("{error}. Mend the spec."))),
        ),
        Err(error) => (
            AlertPolicyStatus::default(),
            Err(inactive(format!("This policy cannot be read: {error}. Mend its spec."))),
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
