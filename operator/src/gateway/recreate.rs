//! Changes that are impossible in place.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{Provider, Scope};
use serde_json::{Value, json};

use super::{
    created::{CREATED_WITH, Created},
    observed_service::ObservedService,
    provider::{ALL, Exposure, annotation_exposure, by_key, create_only, key},
    service::DesiredService,
};
use crate::kubernetes::names;

/// A difference between a Service and the desired one that only a new Service resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The Service's name.
    Name { from: String, to: String },
    /// `spec.loadBalancerClass`.
    Class { from: Option<String>, to: Option<String> },
    /// An annotation that is read at creation only; none in `to` when it is to go.
    Annotation {
        key: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// Exposure of the load balancer.
    Scope { to: Scope },
    /// Another provider's load balancer.
    Provider,
    /// `spec.ipFamilies[0]`.
    Family { from: String, to: String },
}

impl Difference {
    /// In words: `annotation a/b (now x, desired y)`.
    pub fn words(&self) -> String {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        match self {
            Self::Name { from, to } => format!("the Service's name (now {from}, wanted {to})"),
            Self::Class { from, to } => format!("loadBalancerClass (now {}, wanted {})", or_none(from), or_none(to)),
            Self::Annotation { key, from, to } => {
                format!("annotation {key} (now {}, wanted {})", or_none(from), or_none(to))
            }
            Self::Scope { to } => format!("the scope (wanted {to:?})"),
            Self::Provider => "the provider".to_owned(),
            Self::Family { from, to } => format!("the first IP family (now {from}, wanted {to})"),
        }
    }
}

/// All of them. None while the Service is no load balancer and keeps its name: then there is nothing that a provider has read.
pub fn differences(desired: &DesiredService, live: &ObservedService) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(name) = desired.fixed_name.as_ref().filter(|name| **name != live.name) {
        found.push(Difference::Name {
            from: live.name.clone(),
            to: name.clone(),
        });
    }
    if let (Some(desired), Some(there)) = (desired.first_family(), live.families().first())
        && desired != *there
    {
        found.push(Difference::Family {
            from: (*there).to_owned(),
            to: desired.to_owned(),
        });
    }
    let Some(provider) = desired.provider.filter(|_| live.is_load_balancer()) else {
        return found;
    };
    let class = desired.template.load_balancer_class.as_deref();
    // One that another has set, as clouds' webhooks do, is not ours to compare where none is wanted.
    if class.is_some() && class != live.class() || class.is_none() && our_class(live).is_some() {
        found.push(Difference::Class {
            from: live.class().map(Into::into),
            to: class.map(Into::into),
        });
    }
    let record = Created::on(live);
    let (other_provider, other_scope) = match &record {
        Some(record) => (record.provider != provider, record.scope != desired.scope),
        None => (is_anothers(desired, live), says_otherwise(provider, desired, live)),
    };
    if other_provider {
        found.push(Difference::Provider);
        return found;
    }
    let only = create_only(provider);
    if only.scope && other_scope {
        found.push(Difference::Scope { to: desired.scope });
    }
    for key in only.annotations {
        let to = desired.template.annotations.get(*key).map(String::as_str);
        let (from, ours) = match &record {
            Some(record) => (record.annotations.get(*key).map(String::as_str), true),
            // What we have not written is another's and stays: to want nothing is no difference.
            None => (
                live.annotation(key),
                live.owned.contains(&format!("metadata/annotations/{key}")),
            ),
        };
        if to != from && (to.is_some() || ours) {
            found.push(Difference::Annotation {
                key: (*key).to_owned(),
                from: from.map(Into::into),
                to: to.map(Into::into),
            });
        }
    }
    found
}

/// The class that we have written.
fn our_class(live: &ObservedService) -> Option<&str> {
    live.class().filter(|_| live.owned.contains("spec/loadBalancerClass"))
}

/// Whether a Service without a record was made for another provider: the last status says so, or what we have written on it is
/// not what would be written now, and does not make it internal.
fn is_anothers(desired: &DesiredService, live: &ObservedService) -> bool {
    let Some(provider) = desired.provider else { return false };
    // What one provider reads as internal is never taken away for another's sake, whatever else has been said meanwhile.
    if desired.scope == Scope::Internal {
        match made_for(live) {
            Some(made_for) if made_for != Provider::Other => return made_for != provider,
            None if is_unsaid_for_any(desired, live) => return true,
            _ => {}
        }
    }
    let template = &desired.template.annotations;
    let carries = template.iter().all(|(key, value)| live.annotation(key) == Some(value));
    let strange = || {
        let ours = live
            .owned
            .iter()
            .filter_map(|path| path.strip_prefix("metadata/annotations/"));
        ours.into_iter().any(|key| !template.contains_key(key))
    };
    match desired.known_provider {
        // Without a known provider, nothing was written for one.
        Some(known) => known != Provider::Other && known != provider && !carries,
        None => desired.scope == Scope::Internal && exposure_of(provider, live) != Exposure::Internal && strange(),
    }
}

/// Returns whether any provider that reads the Service as internal now would not any more: another client removed our setting that names the provider.
fn is_unsaid_for_any(desired: &DesiredService, live: &ObservedService) -> bool {
    let mut annotations = live.annotations();
    annotations.retain(|key, _| !live.owned.contains(&format!("metadata/annotations/{key}")));
    annotations.extend(desired.template.annotations.clone());
    ALL.into_iter().any(|provider| {
        exposure_of(provider, live) == Exposure::Internal
            && annotation_exposure::parse(provider, &annotations, &live.labels(), our_class(live)) != Exposure::Internal
    })
}

/// The provider that we have last written for, as far as it is our word.
pub fn made_for(live: &ObservedService) -> Option<Provider> {
    let ours = live.owned.contains(&format!("metadata/labels/{}", names::PROVIDER));
    by_key(live.labels().get(names::PROVIDER).filter(|_| ours)?)
}

fn says_otherwise(provider: Provider, desired: &DesiredService, live: &ObservedService) -> bool {
    let template = &desired.template;
    let class = template.load_balancer_class.as_deref();
    let asked = annotation_exposure::parse(provider, &template.annotations, &template.labels, class);
    // To say nothing about the exposure is to be External, where there is a word for Internal.
    (asked == Exposure::Internal) != (exposure_of(provider, live) == Exposure::Internal)
}

/// Returns the exposure in the Service's metadata, without a class that another client has set: its controller reads other settings.
fn exposure_of(provider: Provider, live: &ObservedService) -> Exposure {
    annotation_exposure::parse(provider, &live.annotations(), &live.labels(), our_class(live))
}

/// `body` with what cannot be changed in place left as it is in `live`.
pub fn retain_immutable(
    mut body: Value,
    desired: &DesiredService,
    live: &ObservedService,
    differences: &[Difference],
) -> Value {
    let keep = |body: &mut Value, section: &str, field: &str, value: Option<Value>| {
        let Some(section) = body.get_mut(section).and_then(Value::as_object_mut) else {
            return;
        };
        match value {
            Some(value) => drop(section.insert(field.to_owned(), value)),
            None => drop(section.remove(field)),
        }
    };
    for difference in differences {
        match difference {
            Difference::Name { .. } => {}
            Difference::Class { from, .. } => keep(
                &mut body,
                "spec",
                "loadBalancerClass",
                from.as_ref().map(|class| json!(class)),
            ),
            Difference::Family { .. } => {
                for field in ["ipFamilies", "ipFamilyPolicy"] {
                    keep(
                        &mut body,
                        "spec",
                        field,
                        live.value.get("spec").and_then(|spec| spec.get(field)).cloned(),
                    );
                }
            }
            Difference::Annotation { key, from, .. } => keep_annotation(&mut body, key, from.as_deref()),
            // All that we have written there stays.
            Difference::Scope { .. } | Difference::Provider => {
                let record = Created::on(live).map(|record| record.annotations);
                let ours = live
                    .owned
                    .iter()
                    .filter_map(|path| path.strip_prefix("metadata/annotations/"));
                let there = || {
                    let there = ours.filter(|key| !key.starts_with("gatehouse.dev/"));
                    there
                        .filter_map(|key| Some((key.to_owned(), live.annotation(key)?.to_owned())))
                        .collect()
                };
                let keep: BTreeMap<String, String> = record.unwrap_or_else(there);
                for key in desired.template.annotations.keys() {
                    keep_annotation(&mut body, key, None);
                }
                for (key, value) in &keep {
                    keep_annotation(&mut body, key, Some(value));
                }
            }
        }
    }
    // One that becomes a load balancer now is made with what is wanted now, whatever else has to wait.
    if !differences.is_empty() && live.is_load_balancer() {
        keep_annotation(&mut body, CREATED_WITH, live.annotation(CREATED_WITH));
    }
    if differences.contains(&Difference::Provider) {
        keep_provider(&mut body, made_for(live));
    }
    let node_ports = "allocateLoadBalancerNodePorts";
    if !differences.is_empty() && live.owned.contains(&format!("spec/{node_ports}")) {
        keep(
            &mut body,
            "spec",
            node_ports,
            live.value.pointer(&format!("/spec/{node_ports}")).cloned(),
        );
    }
    body
}

fn keep_provider(body: &mut Value, made_for: Option<Provider>) {
    let Some(labels) = body.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else {
        return;
    };
    match made_for {
        Some(made_for) => drop(labels.insert(names::PROVIDER.into(), key(made_for).into())),
        None => drop(labels.remove(names::PROVIDER)),
    }
}

fn keep_annotation(body: &mut Value, key: &str, value: Option<&str>) {
    let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    let Some(annotations) = annotations.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => drop(annotations.insert(key.to_owned(), value.into())),
        None => drop(annotations.remove(key)),
    }
}
