//! `gatehouse operator`: flags, and what has to be right before anything starts.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{ArgAction, Args};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{
    issuer::solver::http01::{
        IngressPolicy,
        policy::{self, Permit},
    },
    manager::{self, Settings},
    telemetry::logs::{self, LogFormat},
};

/// Wrong usage, or no cluster.
const USAGE: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// File with the cluster's address and credentials. Default: in a Pod its service account, else KUBECONFIG or ~/.kube/config.
    #[arg(long, env = "GATEHOUSE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig. Default: its current one.
    #[arg(long, env = "GATEHOUSE_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// Elect a leader, so that of several replicas one works. Default: in a Pod yes, with a kubeconfig no.
    #[arg(long, env = "GATEHOUSE_LEADER_ELECT", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    leader_elect: Option<bool>,
    /// Watch these namespaces only, separated by commas or given repeatedly. ClusterIssuers are then not read. Default: all.
    #[arg(long, env = "GATEHOUSE_NAMESPACE", value_name = "NAME", value_delimiter = ',', action = ArgAction::Append)]
    namespace: Vec<String>,
    /// Namespace of the operator itself: of the Lease, of the HTTP-01 Ingress, and of the Secrets that ClusterIssuers name.
    #[arg(long, env = "GATEHOUSE_CLUSTER_RESOURCE_NAMESPACE", value_name = "NAME")]
    cluster_resource_namespace: Option<String>,
    /// Address of /metrics. Port 0 picks one and logs it.
    #[arg(
        long,
        env = "GATEHOUSE_METRICS_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    metrics_addr: SocketAddr,
    /// Address of /healthz and /readyz. Port 0 picks one and logs it.
    #[arg(
        long,
        env = "GATEHOUSE_HEALTH_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8081"
    )]
    health_addr: SocketAddr,
    /// Address for HTTP-01 challenges. Port 0 picks one and logs it.
    #[arg(
        long,
        env = "GATEHOUSE_HTTP01_ADDR",
        value_name = "ADDR:PORT",
        default_value = "[::]:8089"
    )]
    http01_addr: SocketAddr,
    /// Address under which the cluster reaches --http01-addr. Default: the Pod's address (POD_IP) with its port.
    #[arg(long, env = "GATEHOUSE_HTTP01_ADVERTISE", value_name = "ADDR:PORT")]
    http01_advertise: Option<SocketAddr>,
    /// Annotations that namespaced Issuers may put on the HTTP-01 Ingress, as KEY or KEY=VALUE, separated by commas or given repeatedly.
    #[arg(long, env = "GATEHOUSE_HTTP01_INGRESS_ANNOTATIONS", value_name = "KEY[=VALUE]", default_value = policy::DEFAULT_ANNOTATIONS, value_delimiter = ',', action = ArgAction::Append)]
    http01_ingress_annotations: Vec<String>,
    /// Labels that namespaced Issuers may put on the HTTP-01 Ingress, as KEY or KEY=VALUE. Default: none.
    #[arg(long, env = "GATEHOUSE_HTTP01_INGRESS_LABELS", value_name = "KEY[=VALUE]", value_delimiter = ',', action = ArgAction::Append)]
    http01_ingress_labels: Vec<String>,
    /// IngressClasses that namespaced Issuers may use for HTTP-01. Default: all.
    #[arg(long, env = "GATEHOUSE_HTTP01_INGRESS_CLASSES", value_name = "NAME", value_delimiter = ',', action = ArgAction::Append)]
    http01_ingress_classes: Vec<String>,
    /// Percentage of all Certificates that may be issued again at once for no reason of their own; the rest is let through slowly. At least 10 always may.
    #[arg(long, env = "GATEHOUSE_MAX_REISSUE_PERCENT", value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_reissue_percent: u8,
    /// Let issuers, name servers and receivers of alerts be on loopback, for development. Link-local and metadata addresses are refused always.
    #[arg(long, env = "GATEHOUSE_ALLOW_LOOPBACK")]
    allow_loopback: bool,
    /// Name of this cluster in alerts: their source is gatehouse.dev/NAME.
    #[arg(
        long,
        env = "GATEHOUSE_CLUSTER_NAME",
        value_name = "NAME",
        default_value = "kubernetes"
    )]
    cluster_name: String,
    /// Format of log lines. Default: pretty on a terminal, else json.
    #[arg(long, env = "GATEHOUSE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log level: error, warn, info, debug, or directives such as info,gatehouse::issuer=debug.
    #[arg(long, env = "GATEHOUSE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// Runs until a signal or the loss of leadership ends it.
pub(super) fn run(flags: &Flags) -> ExitCode {
    if let Err(error) = logs::init(flags.log_format.unwrap_or_else(LogFormat::fitting), &flags.log_level) {
        eprintln!("gatehouse operator: {error}");
        return ExitCode::from(USAGE);
    }
    // The one provider of the whole tree.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime could be started");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let config = match config(flags).await {
            Ok(config) => config,
            Err(message) => {
                tracing::error!(detail = message, "no cluster");
                return ExitCode::from(USAGE);
            }
        };
        match manager::run(config, settings(flags)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "operator stopped");
                ExitCode::FAILURE
            }
        }
    })
}

fn in_pod(flags: &Flags) -> bool {
    flags.kubeconfig.is_none() && flags.context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

async fn config(flags: &Flags) -> Result<kube::Config, String> {
    if in_pod(flags) {
        return kube::Config::incluster().map_err(|error| format!("the Pod's service account cannot be used: {error}"));
    }
    let kubeconfig = match &flags.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    }
    .map_err(|error| format!("no usable kubeconfig: {error}. Name one by --kubeconfig or KUBECONFIG"))?;
    let options = KubeConfigOptions {
        context: flags.context.clone(),
        ..KubeConfigOptions::default()
    };
    kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| format!("the kubeconfig cannot be used: {error}"))
}

fn permits(texts: &[String]) -> Vec<Permit> {
    texts
        .iter()
        .flat_map(|text| text.split(','))
        .filter(|text| !text.is_empty())
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn settings(flags: &Flags) -> Settings {
    let pod_namespace = std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty());
    let mut namespaces = flags.namespace.clone();
    namespaces.retain(|name| !name.is_empty());
    namespaces.sort();
    namespaces.dedup();
    Settings {
        leader_elect: flags.leader_elect.unwrap_or_else(|| in_pod(flags)),
        namespaces,
        own_namespace: flags
            .cluster_resource_namespace
            .clone()
            .or(pod_namespace)
            .unwrap_or_else(|| "gatehouse-system".into()),
        metrics_addr: flags.metrics_addr,
        health_addr: flags.health_addr,
        http01_addr: flags.http01_addr,
        http01_advertise: flags.http01_advertise,
        http01_ingress: IngressPolicy {
            annotations: permits(&flags.http01_ingress_annotations),
            labels: permits(&flags.http01_ingress_labels),
            classes: flags
                .http01_ingress_classes
                .iter()
                .filter(|class| !class.is_empty())
                .cloned()
                .collect(),
        },
        max_reissue_percent: flags.max_reissue_percent,
        allow_loopback: flags.allow_loopback,
        cluster_name: flags.cluster_name.clone(),
    }
}
