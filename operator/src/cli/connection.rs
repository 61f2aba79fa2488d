//! The way to the cluster, for the commands that people call.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::{Status, response::reason},
};
use serde::de::DeserializeOwned;

use super::terminal;
use crate::kubernetes::client;

/// Objects of one page of a list: the API server's advice, and kubectl's.
pub(super) const PAGE: u32 = 500;
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The flags of every command that talks to a cluster, as in kubectl.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// File with the cluster's address and credentials. Default: KUBECONFIG, else ~/.kube/config, else in a Pod its service account.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// Namespace. Default: the context's.
    #[arg(short, long, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(super) struct Connection {
    pub client: Client,
    /// The one that the user means.
    pub namespace: String,
}

/// Why a command has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The command is wrong, or there is no cluster that could be asked.
    #[error("{0}")]
    Usage(String),
    /// No answer, or none that can be used.
    #[error("{0}")]
    NoCluster(String),
    /// The user may not.
    #[error("{0}")]
    Forbidden(String),
    /// The CRDs are not there.
    #[error(
        "this cluster does not know the kinds of gatehouse.dev: install them (gatehouse crds | kubectl apply --server-side -f -), or name another --context"
    )]
    NotInstalled,
    /// No object of that name.
    #[error("{0}")]
    NotFound(String),
    /// The API server said no for another reason.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// 1 when the cluster was asked and something is wrong there, 2 when it could not be asked.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotFound(_) | Self::Refused(_) => ExitCode::from(super::UNHEALTHY),
            Self::Usage(_) | Self::NoCluster(_) | Self::Forbidden(_) | Self::NotInstalled => {
                ExitCode::from(super::USAGE)
            }
        }
    }
}

/// Runs a command, and reports its failure on the standard error.
pub(super) fn run(work: impl Future<Output = Result<ExitCode, Trouble>>) -> ExitCode {
    // The one provider of the whole tree; an error says that it was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::say(&format!("error: no runtime could be started: {error}"));
            return ExitCode::from(super::USAGE);
        }
    };
    let code = runtime.block_on(work).unwrap_or_else(|trouble| {
        terminal::say(&format!("error: {trouble}"));
        trouble.exit_code()
    });
    // A thread that looks a name up, or reads the standard input, is not waited for.
    runtime.shutdown_background();
    code
}

/// Asks a cluster where an answer is optional, and so is the reason of a failure.
pub(super) fn quietly<T>(patience: Duration, work: impl Future<Output = Result<T, Trouble>>) -> Option<T> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(patience, work).await });
    runtime.shutdown_background();
    answer.ok()?.ok()
}

impl Reach {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub async fn connect(&self) -> Result<Connection, Trouble> {
        let config = self.config().await?;
        let namespace = self
            .namespace
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| config.default_namespace.clone());
        // At a terminal the user sees the error, and repeats the command.
        let (client, _) = client::connect(config, 0)
            .map_err(|error| Trouble::NoCluster(format!("the kubeconfig cannot be used: {}", causes(&error))))?;
        Ok(Connection { client, namespace })
    }

    async fn config(&self) -> Result<kube::Config, Trouble> {
        let read = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let kubeconfig = match read {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => {
                let named = self.kubeconfig.is_some() || self.context.is_some();
                if !named && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
                    return kube::Config::incluster().map_err(|error| {
                        Trouble::NoCluster(format!("the Pod's service account cannot be used: {}", causes(&error)))
                    });
                }
                return Err(Trouble::NoCluster(format!(
                    "no usable kubeconfig: {}. Name one by --kubeconfig or KUBECONFIG",
                    causes(&error)
                )));
            }
        };
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| {
                Trouble::NoCluster(format!(
                    "the kubeconfig cannot be used: {}. See: kubectl config get-contexts",
                    causes(&error)
                ))
            })
    }
}

/// Waits for one answer of the API server, but not forever.
pub(super) async fn ask<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(|error| trouble(&error)),
        Err(_) => Err(Trouble::NoCluster(format!(
            "the API server gave no answer within {} s",
            ANSWER.as_secs()
        ))),
    }
}

/// Every object, a page at a time.
pub(super) async fn list<K>(api: &Api<K>, selection: &ListParams) -> Result<Vec<K>, Trouble>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut all = Vec::new();
    let mut page = selection.clone().limit(PAGE);
    loop {
        let list = ask(api.list(&page)).await?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Returns the meaning of an error of the client for the user.
pub(super) fn trouble(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) => refusal(status),
        kube::Error::SerdeError(error) => Trouble::NoCluster(format!(
            "the answer cannot be read ({error}): is this a Kubernetes API server, and does `gatehouse --version` fit its operator?"
        )),
        other => Trouble::NoCluster(format!(
            "the API server cannot be reached: {}. Is the cluster up, and is it the right --context?",
            causes(other)
        )),
    }
}

fn refusal(status: &Status) -> Trouble {
    let message = status.message.trim();
    match status.code {
        401 => Trouble::NoCluster(
            "the API server does not know these credentials: log in again, or name another --context".to_owned(),
        ),
        403 => Trouble::Forbidden(format!(
            "{message}. An administrator has to grant that, by a Role and a RoleBinding"
        )),
        // An object that is missing has details; a path that is not served has none.
        404 if status.reason == reason::NOT_FOUND && status.details.as_ref().is_some_and(|it| !it.name.is_empty()) => {
            Trouble::NotFound(message.to_owned())
        }
        404 => Trouble::NotInstalled,
        400 => Trouble::Usage(message.to_owned()),
        410 => Trouble::NoCluster("the list changed while it was read: try again".to_owned()),
        429 | 500..=599 => Trouble::NoCluster(format!("the API server answered {}: {message}", status.code)),
        code => Trouble::Refused(format!("the API server refuses ({code}): {message}")),
    }
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(json: serde_json::Value) -> Trouble {
        refusal(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_missing_object_is_told_from_missing_kinds() {
        let object = serde_json::json!({"code": 404, "reason": "NotFound", "message": "certificates.gatehouse.dev \"a\" not found",
            "details": {"name": "a", "group": "gatehouse.dev", "kind": "certificates"}});
        assert_eq!(
            said(object),
            Trouble::NotFound("certificates.gatehouse.dev \"a\" not found".into())
        );
        let path =
            serde_json::json!({"code": 404, "reason": "Failed to parse error data", "message": "404 page not found"});
        assert_eq!(said(path), Trouble::NotInstalled);
    }

    #[test]
    fn a_missing_right_is_named() {
        let message = "certificates.gatehouse.dev is forbidden: User \"dev\" cannot list resource \"certificates\" in API group \"gatehouse.dev\" in the namespace \"app\"";
        let trouble = said(serde_json::json!({"code": 403, "reason": "Forbidden", "message": message}));
        assert!(trouble.to_string().starts_with(message), "{trouble}");
        assert!(trouble.to_string().contains("RoleBinding"), "{trouble}");
    }

    #[test]
    fn every_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] Core);
        #[derive(Debug, thiserror::Error)]
        #[error("refused")]
        struct Core;
        assert_eq!(causes(&Outer(Inner(Core))), "outer: inner: refused");
    }
}
