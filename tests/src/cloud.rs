//! A cloud's load balancer controller, played by the tests: it gives Services of type `LoadBalancer` addresses, as it was
//! the test sets, and records every version of every Service that it sees.
//!
//! It writes as the field manager [`MANAGER`], as the controllers of clouds do: status, an annotation of its own and a
//! finalizer, and takes them away again when the Service goes or is no load balancer any more.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use gatehouse::gateway::provider::{Exposure, annotation_exposure};
use gatehouse_crds::gateway::Provider;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, LoadBalancerIngress, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event as Seen, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Its field manager.
pub const MANAGER: &str = "cloud";
/// The annotation that it adds.
pub const ANNOTATION: &str = "cloud.test/load-balancer-id";
/// The finalizer that real clouds use.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Answer to a Service.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A private address of its own.
    Private,
    /// A public one.
    Public,
    /// A private address when the Service says Internal in this provider's words, else a public one.
    AsTold(Provider),
    /// This host name.
    Name(String),
    /// None; what it had is taken away.
    Nothing,
    /// None, and a Warning event that says why.
    Failure(String),
}

/// Behaviour of the cloud.
#[derive(Clone, Debug)]
pub struct Habits {
    pub answer: Answer,
    /// Before it does anything.
    pub delay: Duration,
    /// Between the deletion of a Service and the end of its finalizer.
    pub cleanup: Duration,
    /// It serves Services of this class only; without one those without a class, and all those of [`Self::any_class`].
    pub class: Option<String>,
    /// It serves every class.
    pub any_class: bool,
}

impl Habits {
    pub fn of(answer: Answer) -> Self {
        Self {
            answer,
            delay: Duration::ZERO,
            cleanup: Duration::ZERO,
            class: None,
            any_class: true,
        }
    }
}

/// One version of one Service, or its end.
#[derive(Clone, Debug)]
pub struct Version {
    pub service: Service,
    pub deleted: bool,
}

#[derive(Default)]
struct Shared {
    versions: Mutex<Vec<Version>>,
    /// As they are now, by name.
    there: Mutex<BTreeMap<String, Service>>,
    habits: Mutex<Option<Habits>>,
    /// By name, in place of the usual answer.
    exceptions: Mutex<BTreeMap<String, Answer>>,
}

/// See the module. Ends on drop.
pub struct Cloud {
    shared: Arc<Shared>,
    again: mpsc::UnboundedSender<String>,
    task: JoinHandle<()>,
}

impl Cloud {
    /// Serves one namespace; returns once it has seen the existing Services.
    pub async fn start(client: Client, namespace: &str, habits: Habits) -> Self {
        let shared = Arc::<Shared>::default();
        *locked(&shared.habits) = Some(habits);
        let (again, again_out) = mpsc::unbounded_channel();
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let worker = Worker {
            api: Api::namespaced(client.clone(), namespace),
            events: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            shared: Arc::clone(&shared),
        };
        let task = tokio::spawn(worker.run(again_out, begun));
        beginning.await.expect("the watch begins");
        Self { shared, again, task }
    }

    /// Sets the answer for all Services, but for those with an answer of their own.
    pub fn answers(&self, answer: Answer) {
        if let Some(habits) = locked(&self.shared.habits).as_mut() {
            habits.answer = answer;
        }
        self.look_again();
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Habits)) {
        if let Some(habits) = locked(&self.shared.habits).as_mut() {
            change(habits);
        }
        self.look_again();
    }

    /// For the Service of this name.
    pub fn answers_for(&self, name: &str, answer: Answer) {
        locked(&self.shared.exceptions).insert(name.to_owned(), answer);
        self.look_again();
    }

    fn look_again(&self) {
        let names: Vec<String> = locked(&self.shared.there).keys().cloned().collect();
        for name in names {
            let _ = self.again.send(name);
        }
    }

    /// Every version of every Service so far, in order.
    pub fn versions(&self) -> Vec<Version> {
        locked(&self.shared.versions).clone()
    }

    /// Those of one Service.
    pub fn versions_of(&self, name: &str) -> Vec<Version> {
        let mut versions = self.versions();
        versions.retain(|version| version.service.name_any() == name);
        versions
    }

    /// As the watch last showed them.
    pub fn there(&self) -> Vec<Service> {
        locked(&self.shared.there).values().cloned().collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Worker {
    api: Api<Service>,
    events: Api<Event>,
    namespace: String,
    shared: Arc<Shared>,
}

impl Worker {
    async fn run(self, mut again: mpsc::UnboundedReceiver<String>, begun: tokio::sync::oneshot::Sender<()>) {
        let mut states = watcher(self.api.clone(), watcher::Config::default()).boxed();
        let mut begun = Some(begun);
        // What is done for a Service goes with this task.
        let mut work = JoinSet::new();
        let mut queues: BTreeMap<String, mpsc::UnboundedSender<()>> = BTreeMap::new();
        loop {
            let name = tokio::select! {
                state = states.next() => match state {
                    Some(Ok(Seen::Apply(service) | Seen::InitApply(service))) => self.note(service, false),
                    Some(Ok(Seen::Delete(service))) => {
                        self.note(service, true);
                        continue;
                    }
                    Some(Ok(Seen::InitDone)) => {
                        let _ = begun.take().map(|begun| begun.send(()));
                        continue;
                    }
                    Some(_) => continue,
                    None => return,
                },
                name = again.recv() => match name {
                    Some(name) => name,
                    None => return,
                },
            };
            // One after the other for each, all beside each other.
            let queue = queues.entry(name.clone()).or_insert_with(|| {
                let (queue, mut reported) = mpsc::unbounded_channel::<()>();
                let worker = self.clone();
                work.spawn(async move {
                    while reported.recv().await.is_some() {
                        while reported.try_recv().is_ok() {}
                        worker.look(&name).await;
                    }
                });
                queue
            });
            let _ = queue.send(());
        }
    }

    fn note(&self, service: Service, deleted: bool) -> String {
        let name = service.name_any();
        let mut there = locked(&self.shared.there);
        if deleted {
            there.remove(&name);
        } else {
            there.insert(name.clone(), service.clone());
        }
        drop(there);
        locked(&self.shared.versions).push(Version { service, deleted });
        name
    }

    fn now(&self, name: &str) -> Option<(Service, Habits)> {
        let service = locked(&self.shared.there).get(name).cloned()?;
        let mut habits = locked(&self.shared.habits).clone()?;
        if let Some(answer) = locked(&self.shared.exceptions).get(name) {
            habits.answer = answer.clone();
        }
        Some((service, habits))
    }

    async fn look(&self, name: &str) {
        let Some((before, habits)) = self.now(name) else { return };
        tokio::time::sleep(habits.delay).await;
        let Some((service, habits)) = self.now(name) else {
            return;
        };
        if service.uid() != before.uid() {
            return;
        }
        let spec = service.spec.clone().unwrap_or_default();
        let ours = spec.type_.as_deref() == Some("LoadBalancer")
            && (habits.any_class || spec.load_balancer_class == habits.class);
        let finalized = service.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        if service.metadata.deletion_timestamp.is_some() {
            if finalized {
                tokio::time::sleep(habits.cleanup).await;
                self.release(&service).await;
            }
            return;
        }
        if !ours {
            if finalized {
                self.give(&service, &[]).await;
                self.release(&service).await;
            }
            return;
        }
        if !finalized || service.annotations().get(ANNOTATION).is_none() {
            let mut finalizers = service.finalizers().to_vec();
            if !finalized {
                finalizers.push(FINALIZER.to_owned());
            }
            let patch = json!({"metadata": {
                "annotations": {ANNOTATION: format!("lb-{}", service.uid().unwrap_or_default())},
                "finalizers": finalizers,
            }});
            self.patch(&service, &patch).await;
        }
        match addresses(&service, &habits.answer) {
            Ok(addresses) => self.give(&service, &addresses).await,
            Err(words) => {
                self.give(&service, &[]).await;
                self.warn(&service, &words).await;
            }
        }
    }

    async fn give(&self, service: &Service, addresses: &[LoadBalancerIngress]) {
        let has = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref()?.ingress.clone())
            .unwrap_or_default();
        let same = |(has, gives): (&LoadBalancerIngress, &LoadBalancerIngress)| {
            (&has.ip, &has.hostname) == (&gives.ip, &gives.hostname)
        };
        if has.len() == addresses.len() && has.iter().zip(addresses).all(same) {
            return;
        }
        let addresses: Value = if addresses.is_empty() {
            Value::Null
        } else {
            json!(addresses)
        };
        let patch = json!({
            "metadata": {"uid": service.uid()},
            "status": {"loadBalancer": {"ingress": addresses}},
        });
        let patched = self
            .api
            .patch_status(&service.name_any(), &manager(), &Patch::Merge(&patch))
            .await;
        reported(patched.map(drop));
    }

    async fn release(&self, service: &Service) {
        let mut finalizers = service.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let patch = json!({"metadata": {"finalizers": finalizers, "annotations": {ANNOTATION: null}}});
        self.patch(service, &patch).await;
    }

    async fn patch(&self, service: &Service, patch: &Value) {
        let mut patch = patch.clone();
        patch["metadata"]["uid"] = json!(service.uid());
        let patched = self
            .api
            .patch(&service.name_any(), &manager(), &Patch::Merge(&patch))
            .await;
        reported(patched.map(drop));
    }

    async fn warn(&self, service: &Service, words: &str) {
        let event = Event {
            metadata: kube::core::ObjectMeta {
                generate_name: Some(format!("{}-", service.name_any())),
                namespace: Some(self.namespace.clone()),
                ..kube::core::ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Service".to_owned()),
                name: Some(service.name_any()),
                namespace: Some(self.namespace.clone()),
                uid: service.uid(),
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some("SyncLoadBalancerFailed".to_owned()),
            message: Some(words.to_owned()),
            last_timestamp: Some(Time(Timestamp::now())),
            ..Event::default()
        };
        reported(self.events.create(&PostParams::default(), &event).await.map(drop));
    }
}

/// Returns the exposure of a load balancer by its Service.
pub fn exposure(provider: Provider, service: &Service) -> Exposure {
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref());
    annotation_exposure::parse(provider, service.annotations(), service.labels(), class)
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A Service that was deleted or recreated meanwhile is handled when the watch shows it.
fn reported(outcome: Result<(), kube::Error>) {
    match outcome {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
        Err(kube::Error::Api(status)) if status.reason == "Forbidden" => {}
        Err(error) => eprintln!("the cloud could not write: {error}"),
    }
}

fn addresses(service: &Service, answer: &Answer) -> Result<Vec<LoadBalancerIngress>, String> {
    let number = service
        .uid()
        .unwrap_or_default()
        .bytes()
        .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let [_, b, c, d] = number.to_be_bytes();
    let private = Ipv4Addr::new(10, b, c, d);
    let public = Ipv4Addr::new(203, 0, 113, d);
    let ip = |ip: Ipv4Addr| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ..LoadBalancerIngress::default()
    };
    Ok(vec![match answer {
        Answer::Private => ip(private),
        Answer::Public => ip(public),
        Answer::AsTold(provider) => {
            if exposure(*provider, service) == Exposure::Internal {
                ip(private)
            } else {
                ip(public)
            }
        }
        Answer::Name(name) => LoadBalancerIngress {
            hostname: Some(name.clone()),
            ..LoadBalancerIngress::default()
        },
        Answer::Nothing => return Ok(Vec::new()),
        Answer::Failure(words) => return Err(words.clone()),
    }])
}
