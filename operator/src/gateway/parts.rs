//! Objects beside the Service: the NetworkPolicy and the listeners' Certificates.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_crds::{certificate::Certificate, gateway::ListenerTls};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{
    listener_certificates, network_policy,
    reconcile::{Reconcile, is_refusal},
    service::DesiredService,
    status::Certificate as State,
};
use crate::{
    certificate::cache::Guarded,
    kubernetes::{
        apply::{Conflicts, Target, WriteError},
        store::ObjectKey,
    },
};

/// Why there is no NetworkPolicy as it should be.
pub(super) struct PolicyRefusal {
    /// As a sentence.
    pub(super) message: String,
    /// Whether the Gateway is woken when it may have ended.
    pub(super) is_watched: bool,
}

impl Reconcile<'_> {
    /// Makes the NetworkPolicy as it should be; gives why that could not be done.
    pub(super) async fn network_policy(&self, desired: &DesiredService) -> Result<Option<PolicyRefusal>, WriteError> {
        self.put_network_policy(network_policy::body(&self.gateway, desired))
            .await
    }

    /// Keeps the NetworkPolicy as it was when the spec was accepted last; gives why that could not be done.
    pub(super) async fn keep_network_policy(&self) -> Result<Option<PolicyRefusal>, WriteError> {
        let name = network_policy::name(&self.gateway.name_any());
        let live = self.scope.cache.policy(&self.namespace, &name);
        let ours = live.filter(|live| live.owner.as_deref() == Some(&*self.uid));
        let before = self.ctx().attempt(&self.uid, |attempt| {
            let policy = &mut attempt.applied.get_or_insert_default().policy;
            if policy.is_none() {
                *policy = ours.map(|live| network_policy::kept(&self.gateway, &live.spec));
            }
            policy.clone()
        });
        match before {
            Some(body) => self.put_network_policy(Some(body)).await,
            None => Ok(None),
        }
    }

    /// Makes the NetworkPolicy so, or takes ours away.
    async fn put_network_policy(&self, desired: Option<Value>) -> Result<Option<PolicyRefusal>, WriteError> {
        let ctx = self.ctx();
        let name = network_policy::name(&self.gateway.name_any());
        let api: Api<NetworkPolicy> = Api::namespaced(ctx.client.clone(), &self.namespace);
        let live = self.scope.cache.policy(&self.namespace, &name);
        let ours = live.as_ref().filter(|live| live.owner.as_deref() == Some(&*self.uid));
        match (desired, &live) {
            (None, _) => {
                if let Some(live) = ours {
                    let target = Target {
                        name: &name,
                        resource_version: None,
                        uid: Some(&live.uid),
                    };
                    ctx.writer.delete(&api, target).await?;
                }
                Ok(None)
            }
            (Some(_), Some(_)) if ours.is_none() => Ok(Some(self.policy_conflict(&name).await)),
            (Some(body), Some(live)) if network_policy::is_as_wanted(&body, &live.spec) => Ok(None),
            (Some(body), live) => {
                // Only ours are watched: creating one shows whether another has the name.
                let written = match live {
                    Some(live) => {
                        let target = Target {
                            name: &name,
                            resource_version: None,
                            uid: Some(&live.uid),
                        };
                        ctx.writer.apply(&api, target, body, Conflicts::Take).await
                    }
                    None => match network_policy::object(&name, body) {
                        Some(object) => ctx.writer.create(&api, &object).await,
                        None => return Ok(None),
                    },
                };
                match written {
                    Ok(policy) => {
                        self.scope.cache.wrote_policy(policy);
                        Ok(None)
                    }
                    Err(error) if error.is_already_exists() => Ok(Some(self.policy_conflict(&name).await)),
                    Err(error) if is_refusal(&error) && !error.is_conflict() => Ok(Some(PolicyRefusal {
                        message: format!("The API server refuses the NetworkPolicy {name}: {error}"),
                        is_watched: false,
                    })),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Another has the name; when it goes, the Gateway is woken.
    async fn policy_conflict(&self, name: &str) -> PolicyRefusal {
        let cluster_reader = &self.ctx().cluster_reader;
        PolicyRefusal {
            message: format!(
                "There is a NetworkPolicy {name} already that this Gateway did not make: rename or delete it"
            ),
            is_watched: cluster_reader.await_policy(&self.namespace, name, &self.reader()).await,
        }
    }

    /// Creates or updates the listeners' Certificates, deletes those of removed listeners, and returns their
    /// states by listener.
    pub(super) async fn certificates(&self) -> Result<BTreeMap<String, State>, WriteError> {
        let desired = listener_certificates::desired(&self.gateway);
        let reported = self.gateway.status.iter().flat_map(|status| &status.listeners);
        let concerned = !desired.is_empty()
            || reported.clone().any(|listener| listener.certificate.is_some())
            || self
                .gateway
                .spec
                .listeners
                .iter()
                .any(|listener| listener.tls.is_some());
        if !concerned || !self.scope.certificates.synced().await {
            return Ok(BTreeMap::new());
        }
        let gateway = self.gateway.name_any();
        for listener in reported {
            let name = listener_certificates::name(&gateway, &listener.name);
            if !desired.iter().any(|desired| desired.name == name) {
                self.take_away(&name).await?;
            }
        }
        let mut found = BTreeMap::new();
        for listener in &self.gateway.spec.listeners {
            let Some(tls) = &listener.tls else { continue };
            let name = listener_certificates::name(&gateway, &listener.name);
            let state = match desired.iter().find(|desired| desired.name == name) {
                Some(desired) => Some(self.certificate(desired).await?),
                None => self.secrets(tls).await,
            };
            if let Some(state) = state {
                found.insert(listener.name.clone(), state);
            }
        }
        Ok(found)
    }

    async fn certificate(&self, desired: &listener_certificates::DesiredCertificate) -> Result<State, WriteError> {
        let there = self.find(&desired.name);
        if there.as_ref().is_some_and(|there| !self.owns(there)) {
            let message = format!(
                "There is a Certificate {} already that this Gateway did not make: rename or delete it",
                desired.name
            );
            return Ok(State::Bad("CertificateConflict", message));
        }
        let readable = there.as_ref().and_then(|there| there.0.as_ref().ok());
        if !readable.is_some_and(|there| listener_certificates::is_as_wanted(there, &desired.body)) {
            let conflicts = if there.is_some() {
                Conflicts::Take
            } else {
                Conflicts::Refuse
            };
            let target = Target::named(&desired.name);
            let api = self.certificate_api();
            let written = self.ctx().writer.apply(&api, target, desired.body.clone(), conflicts);
            match written.await {
                Ok(_) => {}
                Err(error) if is_refusal(&error) => return Ok(State::Bad("CertificateRefused", error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(readable.map_or_else(
            || listener_certificates::pending(&desired.name),
            listener_certificates::state,
        ))
    }

    /// Deletes a Certificate that was made for a listener that is gone.
    async fn take_away(&self, name: &str) -> Result<(), WriteError> {
        let Some(there) = self.find(name).filter(|there| self.owns(there)) else {
            return Ok(());
        };
        let uid = there.uid().unwrap_or_default();
        let target = Target {
            name,
            resource_version: None,
            uid: Some(&uid),
        };
        self.ctx().writer.delete(&self.certificate_api(), target).await
    }

    fn find(&self, name: &str) -> Option<Arc<Guarded>> {
        self.scope
            .certificates
            .certificates
            .get(&ObjectKey::new(&self.namespace, name))
    }

    fn owns(&self, object: &Guarded) -> bool {
        object.owner_references().iter().any(|owner| owner.uid == self.uid)
    }

    fn certificate_api(&self) -> Api<Certificate> {
        Api::namespaced(self.ctx().client.clone(), &self.namespace)
    }

    /// The user's own Secrets of a listener: the one that ends first.
    async fn secrets(&self, tls: &ListenerTls) -> Option<State> {
        let mut worst: Option<State> = None;
        for reference in &tls.certificate_refs {
            let facts = self.scope.certificates.secret(&self.namespace, &reference.name);
            let state = match facts {
                None => State::Bad(
                    "InvalidCertificateRef",
                    format!(
                        "There is no Secret {} of type kubernetes.io/tls in this namespace",
                        reference.name
                    ),
                ),
                Some(facts) => {
                    self.ctx()
                        .cluster_reader
                        .secret(&self.namespace, &facts, self.now)
                        .await
                }
            };
            let rank = |state: &State| match state {
                State::Bad(..) | State::Unread(_) => (0, None),
                State::Good(end) => (1, *end),
            };
            if worst.as_ref().is_none_or(|worst| rank(&state) < rank(worst)) {
                worst = Some(state);
            }
        }
        worst
    }
}
