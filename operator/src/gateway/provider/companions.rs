//! Companions of a load balancer: subnet or pool, addresses, access from other regions, IPv6.

use std::net::IpAddr;

use gatehouse_crds::gateway::{IpFamily, Scope, ServiceSpec};

use super::{
    annotation_exposure::{Meaning, meaning},
    preset::{ExposureAnnotation, Internal, Place, Preset, Subnet, Takes, With, has},
    template::{CONFLICTING_ADDRESS, MISSING_COMPANION, Refusal, Template, UNSUPPORTED_FIELD, put as put_marks},
};
use crate::gateway::exposure::{self, Reach};

/// Writes what the user's fields ask for where the provider reads it.
pub fn put(template: &mut Template, preset: &Preset, spec: &ServiceSpec, scope: Scope) -> Result<(), Refusal> {
    if let Some(subnet) = &spec.subnet {
        put_subnet(template, preset, subnet, scope)?;
    }
    if spec.global_access == Some(true) {
        let Some(mark) = preset.global_access else {
            return Err(unsupported(preset, "globalAccess", "leave it out"));
        };
        put_marks(&mut template.annotations, &[mark]);
    }
    if spec.ip_families.contains(&IpFamily::V6)
        && let Some(mark) = preset.ipv6
    {
        put_marks(&mut template.annotations, &[mark]);
    }
    put_addresses(template, preset, spec, scope)
}

/// Returns whether the label that chooses the pool is present, with our value.
fn has_label(template: &Template, spec: &ServiceSpec) -> bool {
    let wanted = spec.subnet.as_deref().and_then(|subnet| subnet.split_once('='));
    wanted.is_some_and(|(key, value)| template.labels.get(key).is_some_and(|given| given == value))
}

/// Whether an Internal Gateway has what it needs. Asked last: the user's own annotations count.
pub fn check(template: &Template, preset: &Preset, spec: &ServiceSpec) -> Result<(), Refusal> {
    needs(template, preset)?;
    let has = |key: &str| template.annotations.get(key).is_some_and(|value| !value.is_empty());
    match (&preset.subnet, &preset.internal) {
        (
            Subnet::Annotation {
                key,
                what,
                needed: true,
                ..
            },
            _,
        ) if !has(key) => Err(Refusal::new(
            MISSING_COMPANION,
            format!(
                "An internal load balancer of {} needs a subnet: write in spec.service.subnet {what}",
                preset.name
            ),
        )),
        (subnet, Internal::Pool) => {
            let chosen = match subnet {
                Subnet::Annotation { key, .. } => has(key),
                Subnet::Label => has_label(template, spec),
                Subnet::No(_) => false,
            };
            // Words that are no address choose nothing, and 0.0.0.0 asks for any.
            let meanings =
                |annotation: &ExposureAnnotation| Some(meaning(annotation, template.annotations.get(annotation.key)?));
            let addressed = preset
                .exposure_annotations
                .iter()
                .any(|annotation| meanings(annotation) == Some(Meaning::Internal));
            if chosen || addressed {
                return Ok(());
            }
            let pool = match subnet {
                Subnet::Annotation { what, .. } => format!("{what} with private addresses in spec.service.subnet, or "),
                Subnet::Label => "the label that a pool with private addresses selects Services by, as key=value, in spec.service.subnet, or ".to_owned(),
                Subnet::No(_) => String::new(),
            };
            Err(Refusal::new(
                MISSING_COMPANION,
                format!(
                    "With {} it is the pool that makes an address internal: write {pool}private addresses in spec.service.addresses",
                    preset.name
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Returns whether the annotations are present that others need beside them.
fn needs(template: &Template, preset: &Preset) -> Result<(), Refusal> {
    for need in preset
        .needs
        .iter()
        .filter(|need| has(&template.annotations, &need.when))
    {
        let given = template.annotations.get(need.key).map_or("", String::as_str);
        if given.is_empty() || (need.single && given.contains(',')) {
            let (key, value) = need.when;
            return Err(Refusal::new(
                MISSING_COMPANION,
                format!("With the annotation {key}: {value} {} needs {}", preset.name, need.what),
            ));
        }
    }
    Ok(())
}

fn put_subnet(template: &mut Template, preset: &Preset, subnet: &str, scope: Scope) -> Result<(), Refusal> {
    match &preset.subnet {
        Subnet::No(instead) => Err(unsupported(preset, "subnet", instead)),
        Subnet::Annotation {
            with: With::Internal, ..
        } if scope == Scope::External => Err(unsupported(
            preset,
            "subnet for a public load balancer",
            "leave it out, or write scope: Internal",
        )),
        Subnet::Annotation { key, .. } => {
            template.annotations.insert((*key).to_owned(), subnet.to_owned());
            Ok(())
        }
        Subnet::Label => {
            let Some((key, value)) = subnet.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Refusal::new(
                    UNSUPPORTED_FIELD,
                    format!(
                        "Pools of {} choose Services by their labels: write spec.service.subnet as key=value, a label that only the pool's serviceSelector asks for",
                        preset.name
                    ),
                ));
            };
            template.labels.insert(key.to_owned(), value.to_owned());
            Ok(())
        }
    }
}

fn put_addresses(template: &mut Template, preset: &Preset, spec: &ServiceSpec, scope: Scope) -> Result<(), Refusal> {
    if spec.addresses.is_empty() {
        return Ok(());
    }
    let takes = match scope {
        Scope::Internal => &preset.addresses.internal,
        Scope::External => &preset.addresses.external,
    };
    if let Some(mark) = takes.requires.filter(|mark| !has(&spec.annotations, mark)) {
        let annotation = match mark {
            (key, "") => key.to_owned(),
            (key, value) => format!("{key}: {value}"),
        };
        return Err(Refusal::new(
            UNSUPPORTED_FIELD,
            format!(
                "{} takes addresses only with the annotation {annotation}; add it, or leave addresses out",
                preset.name
            ),
        ));
    }
    let mut placed: Vec<(Place, &str)> = Vec::new();
    for address in &spec.addresses {
        let parsed = address.parse::<IpAddr>().ok();
        if let Some(ip) = parsed
            && scope == Scope::Internal
            && exposure::of(ip) == Reach::Public
        {
            return Err(Refusal::new(
                CONFLICTING_ADDRESS,
                format!(
                    "{address} in spec.service.addresses is a public address: write a private one, or scope: External"
                ),
            ));
        }
        let place = match parsed {
            Some(IpAddr::V4(_)) => takes.v4,
            Some(IpAddr::V6(_)) => takes.v6,
            None => takes.named.map(|(place, _)| place),
        };
        let place = place.ok_or_else(|| unplaced(preset, address, takes, scope))?;
        if !matches!(place, Place::Many(_)) && placed.iter().any(|(other, _)| *other == place) {
            return Err(Refusal::new(
                UNSUPPORTED_FIELD,
                format!(
                    "{} takes one address: write only one in spec.service.addresses",
                    preset.name
                ),
            ));
        }
        placed.push((place, address));
    }
    for (place, address) in placed {
        match place {
            Place::Field => template.load_balancer_ip = Some(address.to_owned()),
            Place::One(key) | Place::Many(key) => {
                let list = template.annotations.entry(key.to_owned()).or_default();
                if !list.is_empty() {
                    list.push(',');
                }
                list.push_str(address);
            }
        }
    }
    Ok(())
}

/// An address of a kind that the provider doesn't take.
fn unplaced(preset: &Preset, address: &str, takes: &Takes, scope: Scope) -> Refusal {
    let kinds = [
        takes.v4.map(|_| "an IPv4 address"),
        takes.v6.map(|_| "an IPv6 address"),
        takes.named.map(|(_, what)| what),
    ];
    let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
    let whose = match scope {
        Scope::Internal => "an internal",
        Scope::External => "a public",
    };
    let instead = if kinds.is_empty() {
        "leave addresses out".to_owned()
    } else {
        format!("write {}", kinds.join(" or "))
    };
    Refusal::new(
        UNSUPPORTED_FIELD,
        format!(
            "{} doesn't take {address} as the address of {whose} load balancer: {instead}",
            preset.name
        ),
    )
}

fn unsupported(preset: &Preset, what: &str, instead: &str) -> Refusal {
    Refusal::new(UNSUPPORTED_FIELD, format!("{} takes no {what}: {instead}", preset.name))
}
