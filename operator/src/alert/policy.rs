//! A policy, read once into something that cannot be wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use gatehouse_crds::alert::{
    AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy, Format, Receiver as ReceiverSpec, Rules, Severity, Webhook,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde::{Deserialize, Serialize};

use super::rules::RuleSet;
use crate::{
    kubernetes::{dependency::secret_names, names},
    telemetry::metrics::AlertPolicyLabels,
};

/// Default interval for repeating an alert that continues.
const REPEAT: Duration = Duration::from_secs(4 * 3600);

type Labels = BTreeMap<String, String>;

/// Names a policy: an AlertPolicy has a namespace, a ClusterAlertPolicy none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyKey {
    pub namespace: Option<String>,
    pub name: String,
}

impl PolicyKey {
    /// The kind of object that it names.
    pub fn kind(&self) -> &'static str {
        if self.namespace.is_some() {
            "AlertPolicy"
        } else {
            "ClusterAlertPolicy"
        }
    }

    /// Returns the labels of its metrics.
    pub fn labels(&self) -> AlertPolicyLabels<'_> {
        AlertPolicyLabels {
            kind: self.kind(),
            namespace: self.namespace.as_deref().unwrap_or_default(),
            name: &self.name,
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((namespace, name)) => Self {
                namespace: Some(namespace.to_owned()),
                name: name.to_owned(),
            },
            None => Self {
                namespace: None,
                name: text.to_owned(),
            },
        }
    }
}

/// A set of policies that one watch lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// AlertPolicies of one namespace, or of all.
    Namespaced(Option<String>),
    /// ClusterAlertPolicies.
    Cluster,
}

impl Scope {
    /// Returns whether a policy of that name is in it.
    pub fn has(&self, key: &PolicyKey) -> bool {
        match (self, &key.namespace) {
            (Self::Cluster, namespace) => namespace.is_none(),
            (Self::Namespaced(None), namespace) => namespace.is_some(),
            (Self::Namespaced(Some(own)), namespace) => namespace.as_ref() == Some(own),
        }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A valid policy.
#[derive(Clone, Debug)]
pub struct Policy {
    pub key: PolicyKey,
    pub generation: Option<i64>,
    selector: Selector,
    /// Namespaces of a ClusterAlertPolicy that selects some.
    namespaces: Option<Selector>,
    pub rules: RuleSet,
    pub receivers: Vec<Receiver>,
    pub repeat: Duration,
    pub heartbeat: Option<Duration>,
    /// Time of the last request for a test.
    pub test: Option<Timestamp>,
}

/// Receivers of its alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receiver {
    pub name: String,
    pub least: Severity,
    pub webhook: Webhook,
}

impl Receiver {
    /// Format of its messages.
    pub fn format(&self) -> Format {
        self.webhook.format.unwrap_or_default()
    }

    /// Returns whether both name the same service: what one was sent is known at the other.
    pub fn same_destination(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.webhook, &other.webhook);
        let headers_have_the_key = |webhook: &Webhook| {
            let pager_duty = webhook.format == Some(Format::PagerDuty);
            (pager_duty && webhook.routing_key_secret_ref.is_none()).then(|| webhook.headers_secret_ref.clone())
        };
        self.format() == other.format()
            && ours.url == theirs.url
            && ours.url_secret_ref == theirs.url_secret_ref
            && ours.routing_key_secret_ref == theirs.routing_key_secret_ref
            && headers_have_the_key(ours) == headers_have_the_key(theirs)
    }

    /// Returns whether its format has a message for a heartbeat.
    pub fn takes_heartbeats(&self) -> bool {
        self.format() != Format::PagerDuty
    }

    /// Returns whether it refers to a Secret.
    pub fn has_secrets(&self) -> bool {
        !secret_names(&self.webhook).is_empty()
    }
}

/// Kinds of policies.
pub trait AnyPolicy {
    fn selector(&self) -> Option<&LabelSelector>;
    fn namespace_selector(&self) -> Option<&LabelSelector>;
    fn rules(&self) -> Option<&Rules>;
    fn receivers(&self) -> &[ReceiverSpec];
    fn repeat_interval(&self) -> Option<Duration>;
    fn heartbeat_interval(&self) -> Option<Duration>;
    fn status(&self) -> Option<&AlertPolicyStatus>;
}

macro_rules! any_policy {
    ($kind:ty, $namespaces:expr) => {
        impl AnyPolicy for $kind {
            fn selector(&self) -> Option<&LabelSelector> {
                self.spec.selector.as_ref()
            }
            fn namespace_selector(&self) -> Option<&LabelSelector> {
                let namespaces: fn(&Self) -> Option<&LabelSelector> = $namespaces;
                namespaces(self)
            }
            fn rules(&self) -> Option<&Rules> {
                self.spec.rules.as_ref()
            }
            fn receivers(&self) -> &[ReceiverSpec] {
                &self.spec.receivers
            }
            fn repeat_interval(&self) -> Option<Duration> {
                self.spec
                    .repeat_interval
                    .as_ref()
                    .map(|interval| interval.value())
            }
            fn heartbeat_interval(&self) -> Option<Duration> {
                self.spec
                    .heartbeat_interval
                    .as_ref()
                    .map(|interval| interval.value())
            }
            fn status(&self) -> Option<&AlertPolicyStatus> {
                self.status.as_ref()
            }
        }
    };
}

any_policy!(AlertPolicy, |_| None);
any_policy!(ClusterAlertPolicy, |policy| policy.spec.namespace_selector.as_ref());

impl Policy {
    /// Parses an object. The error says what to write instead.
    pub fn parse<P: AnyPolicy + kube::ResourceExt>(object: &P) -> Result<Self, String> {
        let selector = |selector: Option<&LabelSelector>, field: &str| {
            Selector::try_from(selector.cloned().unwrap_or_default())
                .map_err(|error| format!("spec.{field} is no label selector: {error}"))
        };
        let namespaces = match object.namespace_selector() {
            Some(given) => Some(selector(Some(given), "namespaceSelector")?),
            None => None,
        };
        let receivers = object.receivers().iter().map(|receiver| Receiver {
            name: receiver.name.clone(),
            least: receiver.min_severity.unwrap_or(Severity::Warning),
            webhook: receiver.webhook.clone(),
        });
        let test = object.annotations().get(names::TEST_REQUESTED_AT);
        Ok(Self {
            key: key(object),
            generation: object.meta().generation,
            selector: selector(object.selector(), "selector")?,
            namespaces,
            rules: RuleSet::parse(object.rules())?,
            receivers: receivers.collect(),
            repeat: object.repeat_interval().unwrap_or(REPEAT).max(Duration::from_secs(1)),
            heartbeat: object
                .heartbeat_interval()
                .map(|interval| interval.max(Duration::from_secs(1))),
            test: test.and_then(|text| text.parse().ok()),
        })
    }

    /// Returns whether it covers a Certificate with `labels` in `namespace`; `of` returns the labels of a namespace.
    pub fn covers(&self, namespace: &str, labels: &Labels, of: impl FnOnce(&str) -> Option<Labels>) -> bool {
        let here = match (&self.key.namespace, &self.namespaces) {
            (Some(own), _) => own == namespace,
            (None, None) => true,
            (None, Some(selector)) => of(namespace).is_some_and(|labels| selector.matches(&labels)),
        };
        here && self.selector.matches(labels)
    }

    /// Whether the labels of namespaces matter to it.
    pub fn reads_namespaces(&self) -> bool {
        self.namespaces.is_some()
    }
}

/// The name of a policy object.
pub fn key(object: &impl kube::ResourceExt) -> PolicyKey {
    PolicyKey {
        namespace: object.namespace(),
        name: object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    fn cluster_policy(spec: &serde_json::Value) -> Policy {
        let mut spec = spec.clone();
        spec["receivers"] = json!([{"name": "ops", "webhook": {"url": "https://hooks.example.com"}}]);
        let policy: ClusterAlertPolicy = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "ClusterAlertPolicy", "metadata": {"name": "all"}, "spec": spec
        }))
        .unwrap();
        Policy::parse(&policy).unwrap()
    }

    #[test]
    fn a_namespaced_policy_covers_its_namespace_only() {
        let policy: AlertPolicy = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy", "metadata": {"name": "ops", "namespace": "app"},
            "spec": {"selector": {"matchLabels": {"tier": "front"}}, "receivers": []}
        }))
        .unwrap();
        let policy = Policy::parse(&policy).unwrap();
        let front = labels(&[("tier", "front")]);
        assert!(policy.covers("app", &front, |_| None));
        assert!(!policy.covers("app", &labels(&[]), |_| None));
        assert!(!policy.covers("shop", &front, |_| None));
        assert_eq!(policy.key.to_string(), "app/ops");
    }

    #[test]
    fn a_cluster_policy_covers_all_namespaces_or_those_with_the_labels() {
        let all = cluster_policy(&json!({}));
        assert!(all.covers("app", &labels(&[]), |_| None));
        let some = cluster_policy(&json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}));
        assert!(some.covers("app", &labels(&[]), |_| Some(labels(&[("env", "prod")]))));
        assert!(!some.covers("app", &labels(&[]), |_| Some(labels(&[]))));
        // Of an unknown namespace nothing can be said.
        assert!(!some.covers("app", &labels(&[]), |_| None));
    }

    #[test]
    fn a_selector_that_is_none_is_told() {
        let policy: AlertPolicy = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy", "metadata": {"name": "ops", "namespace": "app"},
            "spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}, "receivers": []}
        }))
        .unwrap();
        let error = Policy::parse(&policy).unwrap_err();
        assert!(error.starts_with("spec.selector is no label selector"), "{error}");
    }
}
