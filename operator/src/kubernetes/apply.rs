//! The one door through which objects are written.
//!
//! Behind it every write has passed the leadership guard, has a deadline and is counted. A write
//! that is still on its way when the guard's time is over is not waited for: by then a successor may write.
//! Before leadership is given back, [`Writer::close`] ends all writing.

mod error;

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::{sync::Semaphore, time::timeout};

pub use error::WriteError;

use super::{
    leadership::{Leadership, NotLeader},
    names,
    observer::{SharedObserver, WriteOutcome},
};

/// Concurrent writes: practically unlimited. Taking all permits ends all writing.
const WRITES: u32 = 1 << 20;

/// Longest wait for the answer to one write.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which object is written, and what must still hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub name: &'a str,
    /// Refused with a conflict when the object was written since this version.
    pub resource_version: Option<&'a str>,
    /// Refused with a conflict when the object was deleted, or deleted and made again. Without it an
    /// apply makes an object that is missing.
    pub uid: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Whatever has this name, or nothing yet.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            resource_version: None,
            uid: None,
        }
    }

    /// Exactly the object that was read: this UID, in any version.
    pub fn same<K: Resource>(object: &'a K) -> Self {
        let meta = object.meta();
        Self {
            name: meta.name.as_deref().unwrap_or_default(),
            resource_version: None,
            uid: meta.uid.as_deref(),
        }
    }

    /// Exactly the object that was read, unchanged since.
    pub fn unchanged<K: Resource>(object: &'a K) -> Self {
        Self {
            resource_version: object.meta().resource_version.as_deref(),
            ..Self::same(object)
        }
    }

    /// `body` with the type and the metadata of this target on top of its own.
    fn address<K: Resource<DynamicType = ()>>(&self, body: Value) -> Value {
        let mut object = match body {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        object.insert("apiVersion".into(), K::api_version(&()).into());
        object.insert("kind".into(), K::kind(&()).into());
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if let Value::Object(metadata) = metadata {
            metadata.insert("name".into(), self.name.into());
            let preconditions = [("resourceVersion", self.resource_version), ("uid", self.uid)];
            for (field, value) in preconditions
                .into_iter()
                .filter_map(|(field, value)| Some((field, value?)))
            {
                metadata.insert(field.into(), value.into());
            }
        }
        Value::Object(object)
    }
}

/// Treatment of fields that another manager owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// They become ours.
    Take,
    /// The write is refused.
    Refuse,
}

/// The door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    leadership: Leadership,
    observer: SharedObserver,
    open: Arc<Semaphore>,
}

impl Writer {
    /// A door that `leadership` guards.
    pub fn new(leadership: Leadership, observer: SharedObserver) -> Self {
        Self {
            leadership,
            observer,
            open: Arc::new(Semaphore::new(WRITES as usize)),
        }
    }

    /// Lets no further write begin, and waits until those under way have ended, each by its own deadline at the latest.
    pub async fn close(&self) {
        if let Ok(all) = self.open.acquire_many(WRITES).await {
            all.forget();
        }
    }

    /// Passes the guard for a write that goes elsewhere than to the API server.
    pub fn check(&self) -> Result<(), WriteError> {
        self.leadership.check()?;
        if self.open.available_permits() == 0 {
            return Err(NotLeader.into());
        }
        Ok(())
    }

    /// Applies `body` server-side. Type, name and preconditions are filled in from `K` and `target`.
    pub async fn apply<K>(
        &self,
        api: &Api<K>,
        target: Target<'_>,
        body: Value,
        conflicts: Conflicts,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let object = Patch::Apply(target.address::<K>(body));
        let params = params(conflicts);
        self.write::<K, K>("apply", target.name, api.patch(target.name, &params, &object))
            .await
    }

    /// Asks what [`apply`](Self::apply) would answer, and writes nothing.
    pub async fn dry_run<K>(
        &self,
        api: &Api<K>,
        target: Target<'_>,
        body: Value,
        conflicts: Conflicts,
    ) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let object = Patch::Apply(target.address::<K>(body));
        let params = PatchParams {
            dry_run: true,
            ..params(conflicts)
        };
        self.write::<K, K>("dry_run", target.name, api.patch(target.name, &params, &object))
            .await
            .map(drop)
    }

    /// Applies the `status` subresource, ours whole: a field left out that we wrote before goes away.
    pub async fn apply_status<K>(&self, api: &Api<K>, target: Target<'_>, status: Value) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let object = Patch::Apply(target.address::<K>(json!({ "status": status })));
        let params = params(Conflicts::Take);
        self.write::<K, K>(
            "apply_status",
            target.name,
            api.patch_status(target.name, &params, &object),
        )
        .await
    }

    /// Merges `patch` into an object that must be there (RFC 7396).
    pub async fn merge<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        self.write::<K, _>("merge", name, api.patch(name, &params, &Patch::Merge(patch)))
            .await
            .map(drop)
    }

    /// Adds `body` to the built-in object of `target`, lists by their keys. Unlike an apply it gives up nothing that is ours
    /// and not in `body`.
    pub async fn add<K>(&self, api: &Api<K>, target: Target<'_>, body: Value) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(target.address::<K>(body));
        self.write::<K, K>("add", target.name, api.patch(target.name, &params, &patch))
            .await
    }

    /// Creates `object`; [`WriteError::is_already_exists`] if it exists.
    pub async fn create<K>(&self, api: &Api<K>, object: &K) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        self.write::<K, K>("create", &name, api.create(&params, object)).await
    }

    /// Deletes in the background. An object that is gone already is no error.
    pub async fn delete<K>(&self, api: &Api<K>, target: Target<'_>) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let preconditions = Preconditions {
            resource_version: target.resource_version.map(Into::into),
            uid: target.uid.map(Into::into),
        };
        let params = DeleteParams::background().preconditions(preconditions);
        match self
            .write::<K, _>("delete", target.name, api.delete(target.name, &params))
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Guard, deadline, count.
    async fn write<K, T>(
        &self,
        verb: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError>
    where
        K: Resource<DynamicType = ()>,
    {
        let kind = K::kind(&());
        let permit = self.open.try_acquire();
        let result = if let Err(error) = self.leadership.check() {
            Err(WriteError::NotLeader(error))
        } else if permit.is_err() {
            Err(WriteError::NotLeader(NotLeader))
        } else {
            let wait = self
                .leadership
                .time_left()
                .map_or(WRITE_TIMEOUT, |left| left.min(WRITE_TIMEOUT));
            match timeout(wait, request).await {
                Ok(answer) => answer.map_err(|error| WriteError::new(&kind, name, error)),
                Err(_) => Err(WriteError::Timeout {
                    object: error::object(&kind, name),
                    wait,
                }),
            }
        };
        let outcome = result.as_ref().err().map_or("Ok", WriteError::reason);
        self.observer.written(WriteOutcome {
            verb,
            kind: &kind,
            result: outcome,
        });
        result
    }
}

fn params(conflicts: Conflicts) -> PatchParams {
    PatchParams {
        force: conflicts == Conflicts::Take,
        ..PatchParams::apply(names::FIELD_MANAGER)
    }
}

#[cfg(test)]
mod tests;
