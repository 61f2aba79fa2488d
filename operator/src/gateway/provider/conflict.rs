//! Conflicts that would turn an Internal Gateway into a public one, or into one of unknown exposure.

use gatehouse_crds::gateway::{Provider, Scope, ServiceSpec};

use super::{
    annotation_exposure::{Exposure, Meaning, Whose, meaning, parse, whose},
    preset::{Internal, Preset, Served, Subnet},
    table::preset as row,
    template::{CONFLICTING_ANNOTATION, Refusal, Template},
};

/// Returns the user's settings of an Internal Gateway that are not Internal, each by its name.
pub fn by_the_user(provider: Provider, preset: &Preset, spec: &ServiceSpec) -> Result<(), Refusal> {
    let found = by_class(provider, preset, spec)
        .or_else(|| by_annotation(preset, spec))
        .or_else(|| by_label(preset, spec));
    found.map_or(Ok(()), |message| Err(Refusal::new(CONFLICTING_ANNOTATION, message)))
}

/// Refuses an External Gateway's class that the provider would ignore, or would make internal.
pub fn by_foreign_class(provider: Provider, preset: &Preset, spec: &ServiceSpec) -> Result<(), Refusal> {
    let Some(class) = spec.load_balancer_class.as_deref() else {
        return Ok(());
    };
    if spec.scope.unwrap_or_default() == Scope::Internal || provider == Provider::Other {
        return Ok(());
    }
    let message = match whose(provider, class) {
        Whose::Own(Some(true)) => {
            format!("loadBalancerClass {class} makes an internal load balancer: leave it out, or write scope: Internal")
        }
        Whose::Anothers(another) => format!(
            "{} ignores a Service with loadBalancerClass {class}: write provider: {}, or leave loadBalancerClass out",
            preset.name,
            row(another).key
        ),
        Whose::Own(_) | Whose::Nobodys => return Ok(()),
    };
    Err(Refusal::new(CONFLICTING_ANNOTATION, message))
}

/// Returns whether everything on the Service of an Internal Gateway means Internal.
pub fn check(provider: Provider, preset: &Preset, spec: &ServiceSpec, template: &Template) -> Result<(), Refusal> {
    let class = template.load_balancer_class.as_deref();
    match parse(provider, &template.annotations, &template.labels, class) {
        Exposure::Internal => Ok(()),
        Exposure::Unsaid if matches!(preset.internal, Internal::Pool) => Ok(()),
        Exposure::External | Exposure::Unsaid => Err(Refusal::new(CONFLICTING_ANNOTATION, by_override(preset, spec))),
    }
}

fn by_class(provider: Provider, preset: &Preset, spec: &ServiceSpec) -> Option<String> {
    let class = spec.load_balancer_class.as_deref()?;
    match whose(provider, class) {
        Whose::Own(Some(false)) => Some(format!(
            "loadBalancerClass {class} makes a public load balancer: {}leave it out, or write scope: External",
            own_classes(preset, true)
        )),
        Whose::Own(_) => None,
        Whose::Anothers(another) => Some(format!(
            "loadBalancerClass {class} is not of {}: write provider: {}, or leave loadBalancerClass out",
            preset.name,
            row(another).key
        )),
        Whose::Nobodys => Some(format!(
            "loadBalancerClass {class} does not belong to {}, and it is unknown whether its controller creates internal load balancers: {}leave it out, or write scope: External",
            preset.name,
            own_classes(preset, false)
        )),
    }
}

/// Returns the classes that could be written instead, followed by a separator.
fn own_classes(preset: &Preset, decided: bool) -> String {
    let fits = |internal: Option<bool>| internal == Some(true) || (!decided && internal.is_none());
    let own: Vec<&str> = preset
        .recognised
        .classes
        .iter()
        .filter(|class| fits(class.internal))
        .map(|class| class.name)
        .collect();
    match own.as_slice() {
        [] => String::new(),
        own => format!("write {}, ", own.join(" or ")),
    }
}

fn by_annotation(preset: &Preset, spec: &ServiceSpec) -> Option<String> {
    preset.exposure_annotations.iter().find_map(|annotation| {
        let key = annotation.key;
        match meaning(annotation, spec.annotations.get(key)?) {
            Meaning::External => Some(format!(
                "The annotation {key} as it is in spec.service.annotations would make this Internal Gateway public: remove it, or write scope: External"
            )),
            Meaning::Elsewhere | Meaning::Attached => Some(format!(
                "The annotation {key} in spec.service.annotations hands the Service to something created elsewhere, and it is unknown whether that is internal: remove it, or write scope: External"
            )),
            Meaning::Internal | Meaning::Nothing => None,
        }
    })
}

fn by_label(preset: &Preset, spec: &ServiceSpec) -> Option<String> {
    let (Subnet::Label, Some((key, value))) = (&preset.subnet, spec.subnet.as_deref()?.split_once('=')) else {
        return None;
    };
    let other = spec.labels.get(key).filter(|given| *given != value)?;
    Some(format!(
        "The label {key}: {other} in spec.service.labels chooses another pool than {key}={value} in spec.service.subnet: remove one of them"
    ))
}

/// The remaining case: the user has removed a setting without which the preset is not understood.
fn by_override(preset: &Preset, spec: &ServiceSpec) -> String {
    let marks = match &preset.internal {
        Internal::Marks(marks) => marks.annotations,
        _ => &[],
    };
    let served = preset.served.iter().filter_map(|by| match by {
        Served::Class => None,
        Served::Annotation(key, _) => Some(*key),
    });
    let keys: Vec<&str> = marks
        .iter()
        .map(|(key, _)| *key)
        .chain(served)
        .chain(preset.exposure_annotations.iter().map(|annotation| annotation.key))
        .filter(|key| spec.annotations.contains_key(*key))
        .collect();
    match keys.first() {
        Some(key) => format!(
            "With the annotation {key} as it is in spec.service.annotations {} doesn't make an internal load balancer: remove it, or write scope: External",
            preset.name
        ),
        None => format!(
            "Nothing in this Gateway requests an internal load balancer of {}: write scope: External, or report this as a bug",
            preset.name
        ),
    }
}
