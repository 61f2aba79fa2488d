//! The metrics of the reference (`api.md`, "Metrics"), named exactly as there.
//!
//! Counters and histograms are written where things happen, through [`Metrics`]. What can be read
//! from the state of the world is not kept here a second time: [`registry`] reads leadership and the
//! Certificates at each scrape, so that 50,000 Certificates cost no memory in label maps.

mod state;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_crds::alert::{Rule, Severity};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

pub use state::{CertificateSample, GatewaySample, Snapshot};

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// From a millisecond to some minutes: a reconcile, a request.
const FAST: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// From a CA's signature to an order that waits for DNS and for the CA's limits.
const SLOW: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0,
];

fn fast() -> Histogram {
    Histogram::new(FAST)
}

/// Result of one issuance.
#[derive(Debug, Clone, Copy)]
pub struct Issuance<'a> {
    /// `Issuer` or `ClusterIssuer`.
    pub issuer_kind: &'static str,
    pub issuer: &'a str,
    /// `Issued`, `Renewed`, or the reason of the failure.
    pub reason: &'static str,
    /// From the decision to issue to its end; `None` when it failed.
    pub took: Option<Duration>,
}

/// Results of deliveries of alerts.
const DELIVERY_RESULTS: [&str; 4] = ["success", "failure", "dropped", "shed"];

/// The policy that a delivery belongs to.
#[derive(Clone, Copy, Debug)]
pub struct AlertPolicyLabels<'a> {
    pub kind: &'static str,
    /// Empty for a ClusterAlertPolicy.
    pub namespace: &'a str,
    pub name: &'a str,
}

impl AlertPolicyLabels<'_> {
    fn of(&self, receiver: &str, result: &'static str) -> Labels<5> {
        [
            ("policy_kind", self.kind.into()),
            ("namespace", self.namespace.to_owned().into()),
            ("policy", self.name.to_owned().into()),
            ("receiver", receiver.to_owned().into()),
            ("result", result.into()),
        ]
    }
}

#[derive(Debug)]
struct Families {
    issuance: Family<Labels<4>, Counter>,
    issuance_duration: Histogram,
    acme_requests: Family<Labels<3>, Counter>,
    acme_request_duration: Histogram,
    reconcile_duration: Family<Labels<1>, Histogram, fn() -> Histogram>,
    reconcile_errors: Family<Labels<1>, Counter>,
    kubernetes_writes: Family<Labels<3>, Counter>,
    reissue_held: Gauge,
    alerts_firing: Family<Labels<2>, Gauge>,
    alert_deliveries: Family<Labels<5>, Counter>,
    events_dropped: Counter,
}

/// Counters and histograms. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            families: Arc::new(Families {
                issuance: Family::default(),
                issuance_duration: Histogram::new(SLOW),
                acme_requests: Family::default(),
                acme_request_duration: fast(),
                reconcile_duration: Family::new_with_constructor(fast as fn() -> Histogram),
                reconcile_errors: Family::default(),
                kubernetes_writes: Family::default(),
                reissue_held: Gauge::default(),
                alerts_firing: Family::default(),
                alert_deliveries: Family::default(),
                events_dropped: Counter::default(),
            }),
        }
    }
}

impl Metrics {
    /// An issuance ended.
    pub fn issuance(&self, issuance: Issuance<'_>) {
        let result = if issuance.took.is_some() { "success" } else { "failure" };
        let labels = [
            ("issuer_kind", issuance.issuer_kind.into()),
            ("issuer", issuance.issuer.to_owned().into()),
            ("result", result.into()),
            ("reason", issuance.reason.into()),
        ];
        self.families.issuance.get_or_create(&labels).inc();
        if let Some(took) = issuance.took {
            self.families.issuance_duration.observe(took.as_secs_f64());
        }
    }

    /// A request to an ACME server ended. `endpoint` is the directory's name of it (`newOrder`),
    /// `code` the HTTP status, or `None` when no answer came (label `error`).
    pub fn acme_request(&self, host: &str, endpoint: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or(Cow::Borrowed("error"), |code| code.to_string().into());
        let labels = [
            ("host", host.to_owned().into()),
            ("endpoint", endpoint.into()),
            ("code", code),
        ];
        self.families.acme_requests.get_or_create(&labels).inc();
        self.families.acme_request_duration.observe(took.as_secs_f64());
    }

    /// A reconcile of one object ended.
    pub fn reconciled(&self, kind: &'static str, took: Duration, failed: bool) {
        let labels = [("kind", kind.into())];
        self.families
            .reconcile_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        // Also without an error: an increase is seen only by who has seen the zero before it.
        let errors = self.families.reconcile_errors.get_or_create(&labels);
        if failed {
            errors.inc();
        }
    }

    /// Counts a write to the Kubernetes API: verb, kind, and `Ok` or the reason of the error.
    pub fn kubernetes_write(&self, verb: &'static str, kind: &str, result: &'static str) {
        let labels = [
            ("verb", verb.into()),
            ("kind", kind.to_owned().into()),
            ("result", result.into()),
        ];
        self.families.kubernetes_writes.get_or_create(&labels).inc();
    }

    /// Sets the number of Certificates that the circuit breaker holds back.
    pub fn reissue_held(&self, certificates: usize) {
        self.families
            .reissue_held
            .set(i64::try_from(certificates).unwrap_or(i64::MAX));
    }

    /// Sets the number of firing alerts, by rule and severity.
    pub fn alerts_firing(&self, counts: &BTreeMap<(Rule, Severity), i64>) {
        let family = &self.families.alerts_firing;
        for rule in Rule::ALL {
            for severity in Severity::ALL {
                let count = counts.get(&(rule, severity)).copied().unwrap_or_default();
                let labels = [("rule", rule.as_str().into()), ("severity", severity.as_str().into())];
                family.get_or_create(&labels).set(count);
            }
        }
    }

    /// There is such a receiver: its counts begin at zero, so that the first of each is seen as an increase.
    pub fn alert_receiver(&self, policy: AlertPolicyLabels<'_>, receiver: &str) {
        for result in DELIVERY_RESULTS {
            self.alert_delivery(policy, receiver, result, 0);
        }
    }

    /// `count` deliveries to a receiver ended: `success`, `failure` (one try), `dropped` or `shed`.
    pub fn alert_delivery(&self, policy: AlertPolicyLabels<'_>, receiver: &str, result: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let labels = policy.of(receiver, result);
        self.families.alert_deliveries.get_or_create(&labels).inc_by(count);
    }

    /// The policy, or its receiver, is gone.
    pub fn alert_receiver_gone(&self, policy: AlertPolicyLabels<'_>, receiver: &str) {
        for result in DELIVERY_RESULTS {
            self.families.alert_deliveries.remove(&policy.of(receiver, result));
        }
    }

    /// An event was given up.
    pub fn event_dropped(&self) {
        self.families.events_dropped.inc();
    }
}

#[cfg(test)]
impl Metrics {
    pub(crate) fn deliveries(&self, policy: AlertPolicyLabels<'_>, receiver: &str, result: &'static str) -> u64 {
        let family = &self.families.alert_deliveries;
        family.get(&policy.of(receiver, result)).map_or(0, |count| count.get())
    }
}

/// Everything under its name, ready to be scraped.
pub fn registry(
    metrics: &Metrics,
    is_leader: impl Fn() -> bool + Send + Sync + 'static,
    snapshot: impl Snapshot,
) -> Registry {
    let mut registry = Registry::with_prefix("gatehouse");
    let all = &*metrics.families;
    // `Registry` appends `_total` to counters, `_info` to infos and a full stop to the help.
    registry.register(
        "issuance",
        "Issuances that ended, by issuer, result and reason",
        all.issuance.clone(),
    );
    registry.register(
        "issuance_duration_seconds",
        "Time from the decision to issue to the certificate",
        all.issuance_duration.clone(),
    );
    registry.register("acme_requests", "Requests to ACME servers", all.acme_requests.clone());
    registry.register(
        "acme_request_duration_seconds",
        "Time until an ACME server answered",
        all.acme_request_duration.clone(),
    );
    registry.register(
        "reconcile_duration_seconds",
        "Time that a reconcile took",
        all.reconcile_duration.clone(),
    );
    registry.register(
        "reconcile_errors",
        "Reconciles that failed",
        all.reconcile_errors.clone(),
    );
    registry.register(
        "kubernetes_writes",
        "Writes to the Kubernetes API",
        all.kubernetes_writes.clone(),
    );
    registry.register(
        "reissue_held",
        "Certificates whose re-issue the circuit breaker holds back",
        all.reissue_held.clone(),
    );
    registry.register("alerts_firing", "Alerts that fire", all.alerts_firing.clone());
    registry.register(
        "alert_deliveries",
        "Deliveries of alerts: tries that were taken or failed, and deliveries that were given up",
        all.alert_deliveries.clone(),
    );
    registry.register(
        "events_dropped",
        "Events that were not written",
        all.events_dropped.clone(),
    );
    registry.register(
        "build",
        "The running version",
        Info::new([
            ("version", env!("CARGO_PKG_VERSION")),
            ("architecture", std::env::consts::ARCH),
        ]),
    );
    registry.register_collector(Box::new(state::Leader(Box::new(is_leader))));
    registry.register_collector(Box::new(state::Objects(snapshot)));
    registry
}

#[cfg(test)]
mod tests;
