//! Reads from a Service's metadata who may reach it.

use std::{collections::BTreeMap, net::IpAddr};

use gatehouse_crds::gateway::Provider;

use super::{
    preset::{ExposureAnnotation, Preset, Reads, Served},
    table::{self, preset},
};
use crate::gateway::exposure::{self, Reach};

/// Exposure of a load balancer by its Service's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    Internal,
    External,
    /// Nothing is said, or what is said decides nothing: the provider's default, its pool, or a controller that we don't know does.
    Unsaid,
}

/// Returns the exposure that a Service's metadata request. A single request for External suffices, whatever else
/// is said: contradictions are not left to the provider's order of precedence. Labels have no say with any provider: those
/// that choose a pool say nothing of what is in it.
pub fn parse(
    provider: Provider,
    annotations: &BTreeMap<String, String>,
    _labels: &BTreeMap<String, String>,
    class: Option<&str>,
) -> Exposure {
    let preset = preset(provider);
    let by_class = match class.map(|class| whose(provider, class)) {
        Some(Whose::Own(internal)) => internal,
        Some(Whose::Anothers(_) | Whose::Nobodys) => return Exposure::Unsaid,
        None => None,
    };
    let meanings: Vec<Meaning> = preset
        .exposure_annotations
        .iter()
        .filter_map(|annotation| Some(meaning(annotation, annotations.get(annotation.key)?)))
        .collect();
    if by_class == Some(false) || meanings.contains(&Meaning::External) {
        return Exposure::External;
    }
    if meanings.contains(&Meaning::Elsewhere) || !is_served(preset, annotations, class.is_some()) {
        return Exposure::Unsaid;
    }
    if by_class == Some(true) || meanings.contains(&Meaning::Internal) {
        return Exposure::Internal;
    }
    Exposure::Unsaid
}

/// Meaning of one annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Internal,
    External,
    Nothing,
    /// That something else serves the Service.
    Elsewhere,
    /// The same, if it is the user's.
    Attached,
}

/// Reads one annotation as the provider does.
pub(super) fn meaning(annotation: &ExposureAnnotation, value: &str) -> Meaning {
    match &annotation.reads {
        Reads::Internal(words) if words.contains(&value) => Meaning::Internal,
        Reads::ExternalBut(words) if words.contains(&value) => Meaning::Nothing,
        Reads::InternalBut(words) if !words.contains(&value) => Meaning::Internal,
        Reads::Internal(_) | Reads::ExternalBut(_) | Reads::InternalBut(_) => Meaning::External,
        Reads::Elsewhere if !value.is_empty() => Meaning::Elsewhere,
        Reads::Attached if !value.is_empty() => Meaning::Attached,
        Reads::Named if !value.is_empty() => Meaning::Internal,
        Reads::ExternalWith(setting) if value.split(',').any(|one| one.trim() == *setting) => Meaning::External,
        Reads::Named | Reads::Elsewhere | Reads::Attached | Reads::ExternalWith(_) => Meaning::Nothing,
        Reads::Addresses => addresses(value),
    }
}

fn addresses(value: &str) -> Meaning {
    let parsed: Vec<Option<IpAddr>> = value.split(',').map(|one| one.trim().parse().ok()).collect();
    // 0.0.0.0 asks kube-vip for DHCP; what is no address is an error there, and says nothing.
    let known = |address: &&IpAddr| !address.is_unspecified();
    let known: Vec<&IpAddr> = parsed.iter().flatten().filter(known).collect();
    if known.iter().any(|address| exposure::of(**address) == Reach::Public) {
        Meaning::External
    } else if known.len() == parsed.len() {
        Meaning::Internal
    } else {
        Meaning::Nothing
    }
}

/// Whose a class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This provider's, and what it says by itself; true is Internal.
    Own(Option<bool>),
    Anothers(Provider),
    Nobodys,
}

/// Whose class it is, as seen from a provider.
pub(super) fn whose(provider: Provider, class: &str) -> Whose {
    let row = preset(provider);
    if let Some(own) = row.recognised.classes.iter().find(|own| own.name == class) {
        return Whose::Own(own.internal);
    }
    let another = table::ALL.into_iter().find(|other| {
        preset(*other)
            .recognised
            .classes
            .iter()
            .any(|known| known.name == class)
    });
    match another {
        Some(another) => Whose::Anothers(another),
        None if row.recognised.any_class => Whose::Own(None),
        None => Whose::Nobodys,
    }
}

/// Whether the provider, and the product of it that reads these annotations, serves the Service.
fn is_served(preset: &Preset, annotations: &BTreeMap<String, String>, classed: bool) -> bool {
    preset.served.is_empty()
        || preset.served.iter().any(|by| match by {
            Served::Class => classed,
            Served::Annotation(key, values) => annotations
                .get(*key)
                .is_some_and(|value| values.contains(&value.as_str())),
        })
}
