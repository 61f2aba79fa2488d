//! Operations of a test on a cluster: apply, wait by watch, read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, Resource};
use kube::discovery::{self, Scope};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Doing as _, Error};
use crate::workspace;

/// The field manager of manifests that a test applies.
const MANAGER: &str = "gatehouse-tests";

/// Typed helpers over a client of the test's own runtime.
pub struct Cluster {
    client: Client,
    kinds: Mutex<BTreeMap<(String, String), (ApiResource, Scope)>>,
}

impl Cluster {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kinds: Mutex::default(),
        }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// An API of a known kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client(), namespace)
    }

    /// An API of any kind, found by discovery: `("gatehouse.dev/v1alpha1", "Certificate")`. Cluster-scoped kinds ignore
    /// the namespace.
    pub async fn dynamic(&self, version: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>, Error> {
        let (resource, scope) = self.kind(version, kind).await?;
        Ok(match scope {
            Scope::Cluster => Api::all_with(self.client(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client(), namespace, &resource),
        })
    }

    async fn kind(&self, version: &str, kind: &str) -> Result<(ApiResource, Scope), Error> {
        let key = (version.to_owned(), kind.to_owned());
        if let Some(known) = self.kinds.lock().expect("no panic holds it").get(&key) {
            return Ok(known.clone());
        }
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &gvk).await?;
        let known = (resource, capabilities.scope);
        self.kinds.lock().expect("no panic holds it").insert(key, known.clone());
        Ok(known)
    }

    /// Makes a namespace with a name of its own.
    pub async fn namespace(&self, prefix: &str) -> String {
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let made = Api::<Namespace>::all(self.client())
            .create(&PostParams::default(), &namespace)
            .await;
        made.expect("a namespace").name_any()
    }

    /// Applies manifests (YAML, any number of documents) by server-side apply; those without a namespace go to
    /// `namespace`. The answer is the objects as the API server has them, or its refusal.
    pub async fn try_apply(&self, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).map_err(|error| Error::Manifest(error.to_string()))?;
        let mut applied = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let object: DynamicObject =
                serde_json::from_value(document).map_err(|error| Error::Manifest(error.to_string()))?;
            let types = object
                .types
                .clone()
                .ok_or_else(|| Error::Manifest("no apiVersion or kind".to_owned()))?;
            let own = object.namespace().unwrap_or_else(|| namespace.to_owned());
            let api = self.dynamic(&types.api_version, &types.kind, &own).await?;
            let parameters = PatchParams::apply(MANAGER).force();
            applied.push(
                api.patch(&object.name_any(), &parameters, &Patch::Apply(&object))
                    .await?,
            );
        }
        Ok(applied)
    }

    /// [`Self::try_apply`] of what must be accepted.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Vec<DynamicObject> {
        match self.try_apply(namespace, yaml).await {
            Ok(applied) => applied,
            Err(error) => panic!("{error}\nin the manifest:\n{yaml}"),
        }
    }

    /// Returns the API server's errors for a manifest.
    pub async fn refusal(&self, namespace: &str, yaml: &str) -> String {
        match self.try_apply(namespace, yaml).await {
            Err(Error::Kube(kube::Error::Api(status))) => status.message.clone(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("was accepted:\n{yaml}"),
        }
    }

    /// Applies the CRDs that are committed under `crds/` and waits until they are served.
    pub async fn install_crds(&self) -> Result<(), Error> {
        let folder = workspace::root().join("crds");
        let entries = std::fs::read_dir(&folder).doing(format!("reading {}", folder.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if file.extension().is_none_or(|extension| extension != "yaml")
                || !text.contains("CustomResourceDefinition")
            {
                continue;
            }
            for crd in self.try_apply("", &text).await? {
                let api: Api<CustomResourceDefinition> = Api::all(self.client());
                self.wait(&api, &crd.name_any(), "established", Duration::from_secs(30), |crd| {
                    condition_is(crd, "Established", "True")
                })
                .await;
            }
        }
        Ok(())
    }

    /// Waits by watch until an object exists and fulfils `wanted`; panics with the object's last state at the deadline.
    /// Survives restarts of the API server.
    pub async fn wait<K>(
        &self,
        api: &Api<K>,
        name: &str,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&K) -> bool,
    ) -> K
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let mut last = None;
        let found = tokio::time::timeout(within, async {
            let mut states = std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
            while let Some(state) = states.next().await {
                if let Ok(Some(object)) = state {
                    if wanted(&object) {
                        return Some(object);
                    }
                    last = Some(object);
                }
            }
            None
        })
        .await;
        if let Ok(Some(object)) = found {
            return object;
        }
        let state = last.map_or_else(|| "it does not exist".to_owned(), |object| pretty(&object));
        panic!("{name} is not {what} within {within:?}; last seen:\n{state}");
    }

    /// Waits until a condition has that status.
    pub async fn wait_condition<K>(&self, api: &Api<K>, name: &str, kind: &str, status: &str, within: Duration) -> K
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let what = format!("{kind}={status}");
        self.wait(api, name, &what, within, |object| condition_is(object, kind, status))
            .await
    }

    /// Waits until an object is gone.
    pub async fn wait_gone<K>(&self, api: &Api<K>, name: &str, within: Duration)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let gone = tokio::time::timeout(within, async {
            let mut states = std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
            while let Some(state) = states.next().await {
                if matches!(state, Ok(None)) {
                    return;
                }
            }
        });
        assert!(gone.await.is_ok(), "{name} is still there after {within:?}");
    }

    /// A Secret, or `None`.
    pub async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.api::<Secret>(namespace)
            .get_opt(name)
            .await
            .expect("the API server answers")
    }

    /// Events about an object, oldest first.
    pub async fn events(&self, kind: &str, namespace: &str, name: &str) -> Vec<Event> {
        let fields = format!("regarding.kind={kind},regarding.name={name}");
        let list = self
            .api::<Event>(namespace)
            .list(&ListParams::default().fields(&fields))
            .await;
        let mut events = list.expect("the API server answers").items;
        events.sort_by_key(|event| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
        events
    }
}

/// Whether `status.conditions` says so of an object of any kind.
pub fn condition_is<K: Serialize>(object: &K, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == status)
}

/// A condition of an object of any kind: `type`, `status`, `reason`, `message`.
pub fn condition<K: Serialize>(object: &K, kind: &str) -> Option<Value> {
    let object = serde_json::to_value(object).ok()?;
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

fn pretty<K: Serialize>(object: &K) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    serde_json::to_string_pretty(&value).unwrap_or_default()
}
