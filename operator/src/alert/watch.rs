//! Tells the engine which policies there are.

use std::{collections::BTreeMap, fmt::Debug};

use futures::StreamExt;
use gatehouse_crds::alert::AlertPolicyStatus;
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Spec,
    engine::News,
    policy::{AnyPolicy, Policy, PolicyKey, key},
    status::Unfit,
};

/// Watches for ever.
pub async fn policies<P>(api: Api<DeserializeGuard<P>>, news: UnboundedSender<News>)
where
    P: AnyPolicy + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    // What is there, and whether the list that is being read has it, too.
    let mut known: BTreeMap<PolicyKey, bool> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                known.insert(key(&object), true);
                vec![News::Policy(key(&object), Some(Box::new(spec(&object))))]
            }
            Ok(Event::Delete(object)) => {
                known.remove(&key(&object));
                vec![News::Policy(key(&object), None)]
            }
            Ok(Event::Init) => {
                for listed in known.values_mut() {
                    *listed = false;
                }
                Vec::new()
            }
            // What went while the watch was interrupted is told by nobody.
            Ok(Event::InitDone) => {
                let gone: Vec<PolicyKey> = known
                    .iter()
                    .filter(|(_, listed)| !**listed)
                    .map(|(key, _)| key.clone())
                    .collect();
                known.retain(|_, listed| *listed);
                let gone = gone.into_iter().map(|key| News::Policy(key, None));
                gone.chain([News::PoliciesListed]).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "the watch of policies was interrupted");
                Vec::new()
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
    let unfit = |message: String| Unfit {
        reason: "Invalid",
        message,
    };
    let (status, policy) = match &object.0 {
        Ok(policy) => (
            policy.status().cloned().unwrap_or_default(),
            Policy::parse(policy).map_err(|error| unfit(format!("{error}. Mend the spec."))),
        ),
        Err(error) => (
            AlertPolicyStatus::default(),
            Err(unfit(format!("This policy cannot be read: {error}. Mend its spec."))),
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
