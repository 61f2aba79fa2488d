//! Looks at each Issuer and ClusterIssuer, and says whether it can sign.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_crds::{
    certificate::IssuerKind,
    issuer::{AcmeAccountStatus, AcmeIssuer, AcmeLimits, ClusterIssuer, Issuer, IssuerConfig, IssuerStatus},
};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ObjectReference, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::{ClusterResourceScope, DeserializeGuard, PartialObjectMeta},
    runtime::controller::Action,
};
use tokio_util::sync::CancellationToken;

use super::{
    NotReady, USER_ACTION_REQUIRED, account,
    acme::{DEFAULT_IN_FLIGHT, FairQueue, LimitState, RequestObserver},
    ca,
    dependencies::{self, Credentials, Difference},
    outage::Outages,
    registry::{Key, Registry, Signer, State},
    secrets::NamespaceSecrets,
    server::is_same_server,
    signer::AcmeSigner,
    solver::{Author, SolverFactory},
};
use crate::{
    kubernetes::{
        apply::{Target, Writer},
        conditions::{self, ConditionUpdate, Status},
        dependency::{Dependencies, Dependent},
        events::{EventType, Events},
        store::Whole,
        undecodable,
    },
    telemetry::metrics::Metrics,
};

/// Longest time until a CA's Secret is checked again, in case the watch missed a change.
const RESYNC_INTERVAL: Duration = Duration::from_secs(300);
/// The first pause after a failure; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// Kinds of issuers.
pub trait AnyIssuer: Whole {
    const ISSUER_KIND: IssuerKind;
    fn config(&self) -> Option<IssuerConfig<'_>>;
    fn status(&self) -> Option<&IssuerStatus>;
    /// The API through which its status is written.
    fn api(client: Client, namespace: &str) -> Api<Self>;
    /// The same for an object that cannot be read: as it is, and its metadata alone.
    fn raw_apis(client: Client, namespace: &str) -> (Api<DynamicObject>, Api<PartialObjectMeta<Self>>);
}

impl AnyIssuer for Issuer {
    const ISSUER_KIND: IssuerKind = IssuerKind::Issuer;
    fn config(&self) -> Option<IssuerConfig<'_>> {
        self.spec.config()
    }
    fn status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(client: Client, namespace: &str) -> Api<Self>
    where
        Self: Resource<Scope = NamespaceResourceScope>,
    {
        Api::namespaced(client, namespace)
    }
    fn raw_apis(client: Client, namespace: &str) -> (Api<DynamicObject>, Api<PartialObjectMeta<Self>>) {
        let kind = ApiResource::erase::<Self>(&());
        let raw = Api::namespaced_with(client.clone(), namespace, &kind);
        (raw, Api::namespaced(client, namespace))
    }
}

impl AnyIssuer for ClusterIssuer {
    const ISSUER_KIND: IssuerKind = IssuerKind::ClusterIssuer;
    fn config(&self) -> Option<IssuerConfig<'_>> {
        self.spec.config()
    }
    fn status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(client: Client, _: &str) -> Api<Self>
    where
        Self: Resource<Scope = ClusterResourceScope>,
    {
        Api::all(client)
    }
    fn raw_apis(client: Client, _: &str) -> (Api<DynamicObject>, Api<PartialObjectMeta<Self>>) {
        let kind = ApiResource::erase::<Self>(&());
        (Api::all_with(client.clone(), &kind), Api::all(client))
    }
}

impl Whole for Issuer {
    const KIND: &'static str = "Issuer";
}

impl Whole for ClusterIssuer {
    const KIND: &'static str = "ClusterIssuer";
}

/// Context of a reconcile.
pub struct Context {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub metrics: Metrics,
    pub registry: Arc<Registry>,
    pub outages: Arc<Outages>,
    pub solver_factory: Arc<SolverFactory>,
    pub observer: Arc<dyn RequestObserver>,
    /// Namespace of the Secrets of ClusterIssuers.
    pub cluster_namespace: String,
    pub allow_loopback: bool,
    /// Failures in a row.
    pub failures: Mutex<HashMap<Key, u32>>,
    pub dependencies: Arc<Dependencies>,
    /// Digests of the Secrets of the ACME issuers.
    pub credentials: Mutex<HashMap<Key, Credentials>>,
    /// Issuers that are enqueued when the API server answers again.
    pub waiting: Mutex<HashSet<Key>>,
    /// By UID, the generation that was reported as undecodable: the write of our own status causes another reconcile.
    pub unreadable: Mutex<HashMap<String, i64>>,
    /// Receives issuers that are to be reconciled out of turn.
    pub again: tokio::sync::mpsc::UnboundedSender<Key>,
    /// Cancelled when nothing may be written any more.
    pub ended: CancellationToken,
    pub now: fn() -> Timestamp,
}

impl Context {
    /// The issuer is gone: so is what is remembered of it.
    pub fn forget(&self, key: &Key, uid: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(key);
        self.dependencies.forget(&dependent(key));
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.remove(uid);
        self.outages.forget_issuer(key);
    }

    /// Notes whether an account could be established at its server; those who wait for that server are woken when it could.
    fn note_server<K: AnyIssuer>(&self, issuer: &K, key: &Key, verdict: &Result<(Signer, String), NotReady>) {
        let Some(IssuerConfig::Acme(spec)) = issuer.config() else {
            return;
        };
        let registered = match verdict {
            // It was checked without a request.
            Ok((signer, _)) if matches!(self.registry.get(key), Some(State::Ready(known)) if known.is_same(signer)) => {
                return;
            }
            Ok(_) => true,
            Err(trouble) if trouble.transient => false,
            Err(_) => return,
        };
        for other in self.outages.registered(key, &spec.server, registered).issuers {
            // Its controller is gone: the process is on its way out.
            let _ = self.again.send(other);
        }
    }

    /// Enqueues those that wait for the API server, which answers again.
    pub fn recovered(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for key in waiting {
            // Its controller is gone: the process is on its way out.
            let _ = self.again.send(key);
        }
    }

    fn wait_for_api(&self, key: &Key) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(key.clone());
    }

    fn namespace_of(&self, key: &Key) -> String {
        if key.kind == IssuerKind::Issuer {
            key.namespace.clone()
        } else {
            self.cluster_namespace.clone()
        }
    }
}

/// Names an issuer among those who wait for objects.
fn dependent(key: &Key) -> Dependent {
    Dependent::new(key.kind.as_str(), &key.namespace, &key.name)
}

/// Names the issuer that `object` is.
pub fn key<K: AnyIssuer>(object: &impl ResourceExt) -> Key {
    Key {
        kind: K::ISSUER_KIND,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// One look. Failures of an issuer are its status, failures of ours are logged and tried again.
pub async fn reconcile<K: AnyIssuer>(
    object: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    let started = tokio::time::Instant::now();
    let key = key::<K>(object.as_ref());
    let (action, failed) = match &object.0 {
        Ok(issuer) => look(issuer, &key, &ctx).await,
        Err(error) => {
            let state = State::NotReady(format!("{key} cannot be read: {error}"));
            ctx.registry.set(&key, state);
            (unreadable(&object, &key, &error.to_string(), &ctx).await, true)
        }
    };
    // It went while we were at it.
    if ctx.registry.get(&key).is_none() {
        ctx.forget(&key, &object.uid().unwrap_or_default());
    }
    ctx.metrics
        .reconciled(K::ISSUER_KIND.as_str(), started.elapsed(), failed);
    Ok(action)
}

async fn look<K: AnyIssuer>(issuer: &K, key: &Key, ctx: &Context) -> (Action, bool) {
    let now = (ctx.now)();
    let dependent = dependent(key);
    let wanted = dependencies::of(issuer.config(), &ctx.namespace_of(key));
    ctx.dependencies.set(&dependent, wanted);
    let changed = ctx.dependencies.take_change(&dependent);
    let verdict = examine(issuer, key, ctx, changed, now).await;
    ctx.note_server(issuer, key, &verdict);
    let mut status = issuer.status().cloned().unwrap_or_default();
    let (mut pause, failed) = match &verdict {
        Ok((signer, message)) => {
            ctx.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            status.acme = acme_status(signer);
            match user_action(signer) {
                Some(required) => ready(issuer, &mut status, false, USER_ACTION_REQUIRED, required, now),
                None => ready(issuer, &mut status, true, "Ready", message.clone(), now),
            }
            // Also while a user has to act: the queue of the account holds the orders, and admits the one that finds out.
            ctx.registry.set(key, State::Ready(signer.clone()));
            let unread = ctx.dependencies.has_change(&dependent);
            (if unread { MIN_BACKOFF } else { RESYNC_INTERVAL }, false)
        }
        Err(trouble) => {
            let message = format!("{} ({})", trouble.message, trouble.reason);
            let known = ctx.registry.get(key);
            // An account that worked a moment ago continues to work as far as it can while the network is down.
            if !(trouble.transient && matches!(known, Some(State::Ready(Signer::Acme(_))))) {
                let state = if trouble.is_refusal() {
                    State::Refused(message)
                } else {
                    State::NotReady(message)
                };
                ctx.registry.set(key, state);
            }
            ready(issuer, &mut status, false, trouble.reason, trouble.message.clone(), now);
            if matches!(trouble.reason, "SecretUnreadable" | "SecretWriteFailed") {
                ctx.wait_for_api(key);
            }
            (pause(key, trouble, ctx), true)
        }
    };
    if issuer.status() != Some(&status) {
        let api = K::api(ctx.client.clone(), &key.namespace);
        let body = serde_json::to_value(&status).unwrap_or_default();
        if let Err(error) = ctx.writer.apply_status(&api, Target::same(issuer), body).await {
            if !error.is_not_found() {
                tracing::warn!(issuer = %key, %error, "issuer status not written");
                ctx.wait_for_api(key);
                pause = pause.min(MIN_BACKOFF);
            }
        } else if let Some((reason, message)) = warning(&verdict) {
            let reference = ObjectReference {
                namespace: issuer.meta().namespace.clone(),
                ..issuer.object_ref(&())
            };
            ctx.events
                .publish(&reference, EventType::Warning, reason, "Examine", &message);
        }
    }
    (Action::requeue(pause), failed)
}

/// Returns the CA's text while an ACME issuer needs a user to act there.
fn user_action(signer: &Signer) -> Option<String> {
    match signer {
        Signer::Acme(signer) => signer.user_action(),
        Signer::Ca(_) | Signer::SelfSigned => None,
    }
}

/// Returns the reason and message of the event about an issuer that is not ready.
fn warning(verdict: &Result<(Signer, String), NotReady>) -> Option<(&'static str, String)> {
    match verdict {
        Ok((signer, _)) => Some((USER_ACTION_REQUIRED, user_action(signer)?)),
        Err(trouble) => Some((trouble.reason, trouble.message.clone())),
    }
}

/// Reports an issuer that cannot be decoded (written past validation) once; it affects no other.
async fn unreadable<K: AnyIssuer>(object: &DeserializeGuard<K>, key: &Key, error: &str, ctx: &Context) -> Action {
    let (uid, generation) = (
        object.uid().unwrap_or_default(),
        object.meta().generation.unwrap_or_default(),
    );
    let reported = ctx.unreadable.lock().unwrap_or_else(PoisonError::into_inner).get(&uid) == Some(&generation);
    if reported {
        return Action::await_change();
    }
    tracing::warn!(issuer = %key, namespace = key.namespace, error, "issuer cannot be decoded");
    let message = format!(
        "This {} cannot be read: {error}. Fix its spec.",
        K::ISSUER_KIND.as_str()
    );
    let verdict = ConditionUpdate {
        type_: "Ready",
        status: Status::False,
        reason: "Invalid",
        message: message.clone(),
    };
    let (raw, bare) = K::raw_apis(ctx.client.clone(), &key.namespace);
    let now = (ctx.now)();
    match undecodable::set_condition(&ctx.writer, (&raw, &bare), &key.name, &verdict, Some(generation), now).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Action::await_change(),
        Err(error) => {
            tracing::warn!(issuer = %key, %error, "issuer status not written");
            return Action::requeue(MIN_BACKOFF);
        }
    }
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into()),
        kind: Some(K::kind(&()).into()),
        name: Some(key.name.clone()),
        namespace: object.namespace(),
        uid: Some(uid.clone()),
        ..ObjectReference::default()
    };
    ctx.events
        .publish(&reference, EventType::Warning, "Invalid", "Examine", &message);
    let mut unreadable = ctx.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
    unreadable.insert(uid, generation);
    Action::await_change()
}

fn ready<K: AnyIssuer>(
    issuer: &K,
    status: &mut IssuerStatus,
    value: bool,
    reason: &'static str,
    message: String,
    now: Timestamp,
) {
    let verdict = ConditionUpdate {
        type_: "Ready",
        status: Status::from(value),
        reason,
        message,
    };
    conditions::set(&mut status.conditions, &verdict, issuer.meta().generation, now);
}

fn pause(key: &Key, trouble: &NotReady, ctx: &Context) -> Duration {
    let mut failures = ctx.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let count = failures.entry(key.clone()).or_default();
    let grown = MIN_BACKOFF.saturating_mul(2u32.saturating_pow(*count)).min(MAX_BACKOFF);
    *count = count.saturating_add(1).min(16);
    trouble
        .retry_after
        .unwrap_or(grown)
        .clamp(MIN_BACKOFF, Duration::from_secs(86_400))
}

async fn examine<K: AnyIssuer>(
    issuer: &K,
    key: &Key,
    ctx: &Context,
    changed: bool,
    now: Timestamp,
) -> Result<(Signer, String), NotReady> {
    let namespace = ctx.namespace_of(key);
    let secrets = NamespaceSecrets::new(ctx.client.clone(), &namespace, ctx.dependencies.clone(), dependent(key));
    let secrets = Arc::new(secrets);
    match issuer.config() {
        None => Err(NotReady::new(
            "Invalid",
            "write exactly one of spec.acme, spec.ca and spec.selfSigned",
        )),
        Some(IssuerConfig::SelfSigned(_)) => Ok((
            Signer::SelfSigned,
            "Each certificate is signed with its own key.".into(),
        )),
        Some(IssuerConfig::Ca(spec)) => {
            let signer = ca::load(spec, secrets.as_ref(), now).await?;
            let message = ca::message(&spec.secret_name, &signer.authority);
            Ok((Signer::Ca(Arc::new(signer)), message))
        }
        Some(IssuerConfig::Acme(spec)) => {
            ctx.solver_factory
                .check(&Author::of(key), &spec.solvers)
                .map_err(|error| NotReady::new(error.reason(), error.to_string()))?;
            let known = match ctx.registry.get(key) {
                Some(State::Ready(Signer::Acme(known))) if known.spec == *spec => Some(known),
                _ => None,
            };
            if let Some(known) = &known
                && !known.is_forgotten()
                && !(changed && must_be_established(key, known, spec, secrets.as_ref(), ctx).await)
            {
                if known.take_terms_due()
                    && let Err(error) = known.account.agree_to_terms().await
                {
                    tracing::info!(issuer = %key, %error, "agreement to the CA's terms failed");
                }
                return Ok((Signer::Acme(known.clone()), account_message(known)));
            }
            let context = account::AccountContext {
                writer: &ctx.writer,
                api: Api::<Secret>::namespaced(ctx.client.clone(), &namespace),
                secrets: secrets.as_ref(),
                observer: ctx.observer.clone(),
                allow_loopback: ctx.allow_loopback,
                // An account's key outlives its Issuer: made again, it finds its account again.
                owner: None,
            };
            let before = known_of(issuer.status(), &spec.server);
            let account = account::establish(spec, before, &context).await?;
            // After the account, whose key may have been made now.
            if let Ok(credentials) = Credentials::read(spec, secrets.as_ref()).await {
                let mut known = ctx.credentials.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(key.clone(), credentials);
            }
            // An account that was refused once is asked about: to find it by its key is not to be allowed to use it.
            let forgotten =
                matches!(ctx.registry.get(key), Some(State::Ready(Signer::Acme(known))) if known.is_forgotten());
            if forgotten || was_refused(issuer.status()) {
                account::verify(spec, &account).await?;
            }
            let mut limits = limits_before(before);
            let waiting = waits_for_user(issuer);
            // A changed spec, or another account, may be what the CA waited for.
            let is_same = known.is_none_or(|known| known.is_forgotten());
            let waiting = waiting.filter(|_| is_same);
            if waiting.is_none() && is_user_action_required(issuer) {
                (limits.new_order_not_before, limits.holds_replacements) = (None, false);
            }
            let queue = FairQueue::new(DEFAULT_IN_FLIGHT, limits);
            let again = (ctx.again.clone(), key.clone());
            let signer = Arc::new(AcmeSigner::new(
                account,
                spec.clone(),
                queue,
                (ctx.solver_factory.clone(), ctx.registry.records().clone()),
                secrets,
                again,
                ctx.ended.clone(),
            ));
            if let Some(message) = waiting {
                signer.restore_user_action(message);
            }
            let message = account_message(&signer);
            Ok((Signer::Acme(signer), message))
        }
    }
}

/// Whether the Secrets that have changed are those that an account was established with. Solvers are built again by themselves.
async fn must_be_established(
    key: &Key,
    signer: &AcmeSigner,
    spec: &AcmeIssuer,
    secrets: &NamespaceSecrets,
    ctx: &Context,
) -> bool {
    let Ok(now) = Credentials::read(spec, secrets).await else {
        // To be read again: the account continues meanwhile.
        ctx.dependencies.put_back_change(dependent(key));
        ctx.wait_for_api(key);
        return false;
    };
    let difference = {
        let mut all = ctx.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(key) {
            known.update(now)
        } else {
            all.insert(key.clone(), now);
            Difference::Nothing
        }
    };
    if difference == Difference::Solvers {
        tracing::info!(issuer = %key, "credentials of solvers changed");
        signer.forget_solvers().await;
        ctx.registry.refreshed(key);
    }
    difference == Difference::Account
}

fn account_message(signer: &AcmeSigner) -> String {
    format!("The account {} is ready.", signer.account.uri())
}

/// Returns the part of the status about the account: its URL, its contact, and the learned limits.
fn acme_status(signer: &Signer) -> Option<AcmeAccountStatus> {
    let Signer::Acme(signer) = signer else { return None };
    let limits = signer.queue(|queue| queue.state().clone());
    Some(AcmeAccountStatus {
        account_uri: Some(signer.account.uri().to_owned()),
        server: Some(signer.spec.server.clone()),
        last_registered_email: signer.spec.email.clone(),
        limits: (limits != LimitState::default()).then_some(AcmeLimits {
            account_not_before: limits.account_not_before,
            new_order_not_before: limits.new_order_not_before,
            holds_replacements: limits.holds_replacements,
            last_refusal: limits.last_refusal,
            last_refused: limits.last_refused,
        }),
    })
}

fn was_refused(status: Option<&IssuerStatus>) -> bool {
    status
        .and_then(|status| conditions::find(&status.conditions, "Ready"))
        .is_some_and(|ready| ready.status == "False" && NotReady::REFUSALS.contains(&ready.reason.as_str()))
}

/// Returns the message of an issuer whose CA requires a user to act, for the spec as it is. It is kept in the status, so that a
/// restart does not place an order any sooner.
fn waits_for_user<K: AnyIssuer>(issuer: &K) -> Option<String> {
    let ready = conditions::find(&issuer.status()?.conditions, "Ready")?;
    let is_current = is_user_action_required(issuer) && ready.observed_generation == issuer.meta().generation;
    is_current.then(|| ready.message.clone())
}

fn is_user_action_required<K: AnyIssuer>(issuer: &K) -> bool {
    issuer
        .status()
        .and_then(|status| conditions::find(&status.conditions, "Ready"))
        .is_some_and(|ready| ready.status == "False" && ready.reason == USER_ACTION_REQUIRED)
}

/// Returns what is known of the account at `server`: nothing, when the status is about another server.
fn known_of<'a>(status: Option<&'a IssuerStatus>, server: &str) -> Option<&'a AcmeAccountStatus> {
    let acme = status?.acme.as_ref()?;
    // Versions before recorded no server.
    let same = acme.server.is_none() || is_same_server(acme.server.as_deref(), Some(server));
    same.then_some(acme)
}

fn limits_before(known: Option<&AcmeAccountStatus>) -> LimitState {
    let limits = known.and_then(|acme| acme.limits.clone()).unwrap_or_default();
    LimitState {
        account_not_before: limits.account_not_before,
        new_order_not_before: limits.new_order_not_before,
        holds_replacements: limits.holds_replacements,
        last_refusal: limits.last_refusal,
        last_refused: limits.last_refused,
    }
}
