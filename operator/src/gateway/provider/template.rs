//! From what the user asks for to what the Service says.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{IpFamily, Provider, Scope, ServiceSpec, ServiceType};

use super::{
    companions, conflict,
    preset::{Internal, Lack, Marks, Preset, Unless, has},
    table::preset,
};

/// The transports that the listeners use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    pub tcp: bool,
    pub udp: bool,
}

/// Metadata and fields of a Service, beside its ports and its selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub load_balancer_class: Option<String>,
    pub load_balancer_ip: Option<String>,
}

/// Why it cannot be made, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of the condition.
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

/// Reasons.
pub const UNKNOWN_PROVIDER: &str = "UnknownProvider";
pub(super) const SCOPE_UNSUPPORTED: &str = "ScopeUnsupported";
pub(super) const CONFLICTING_ANNOTATION: &str = "ConflictingAnnotation";
pub(super) const CONFLICTING_ADDRESS: &str = "ConflictingAddress";
pub(super) const MISSING_COMPANION: &str = "MissingCompanion";
pub(super) const UNSUPPORTED_FIELD: &str = "UnsupportedField";
pub(super) const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";

/// Returns the Service's metadata: the provider's preset, its companions, and the user's additions, which win, but never turn
/// Internal into External. For type NodePort and ClusterIP, which no provider reads, only what the user adds.
///
/// # Errors
/// Fails when the provider cannot create it, or when it is unknown what it would create for an Internal Gateway.
pub fn template(provider: Provider, spec: &ServiceSpec, protocols: Protocols) -> Result<Template, Refusal> {
    if spec.type_.unwrap_or_default() != ServiceType::LoadBalancer {
        return Ok(Template {
            annotations: spec.annotations.clone(),
            labels: spec.labels.clone(),
            ..Template::default()
        });
    }
    let preset = preset(provider);
    let scope = spec.scope.unwrap_or_default();
    let marks = marks(provider, preset, scope)?;
    lacks(preset, spec, scope, protocols)?;
    let mut template = Template {
        load_balancer_class: spec.load_balancer_class.clone().or_else(|| marks.class.map(Into::into)),
        ..Template::default()
    };
    put(&mut template.annotations, marks.annotations);
    companions::put(&mut template, preset, spec, scope)?;
    template.annotations.extend(spec.annotations.clone());
    template.labels.extend(spec.labels.clone());
    conflict::by_foreign_class(provider, preset, spec)?;
    if scope == Scope::Internal {
        conflict::by_the_user(provider, preset, spec)?;
        companions::check(&template, preset, spec)?;
        conflict::check(provider, preset, spec, &template)?;
    }
    Ok(template)
}

/// Writes annotations of the table.
pub(super) fn put(annotations: &mut BTreeMap<String, String>, marks: &[(&str, &str)]) {
    for (key, value) in marks {
        annotations.insert((*key).to_owned(), (*value).to_owned());
    }
}

/// Annotations that set the scope.
fn marks(provider: Provider, preset: &Preset, scope: Scope) -> Result<Marks, Refusal> {
    if scope == Scope::External {
        return Ok(preset.external);
    }
    match &preset.internal {
        Internal::Marks(marks) => Ok(*marks),
        Internal::Subnet | Internal::Pool => Ok(Marks::NONE),
        Internal::Never(_) if provider == Provider::Other => Err(Refusal::new(
            UNKNOWN_PROVIDER,
            "It is unknown how other providers create internal load balancers, so nothing is created that might be public: name one of the known providers in spec.service.provider, or use type: ClusterIP".into(),
        )),
        Internal::Never(instead) => Err(Refusal::new(
            SCOPE_UNSUPPORTED,
            format!(
                "{} has no internal load balancers, so nothing is made that would be public: {instead}",
                preset.name
            ),
        )),
    }
}

/// Refuses what the provider cannot do, or would ignore.
fn lacks(preset: &'static Preset, spec: &ServiceSpec, scope: Scope, protocols: Protocols) -> Result<(), Refusal> {
    let lacks = &preset.lacks;
    let v6 = spec.ip_families.contains(&IpFamily::V6);
    let cases = [
        (&lacks.udp, protocols.udp, UNSUPPORTED_PROTOCOL, "has no UDP"),
        (
            &lacks.mixed,
            protocols.udp && protocols.tcp,
            UNSUPPORTED_PROTOCOL,
            "doesn't mix TCP and UDP in one load balancer",
        ),
        (
            &lacks.source_ranges,
            !spec.load_balancer_source_ranges.is_empty(),
            UNSUPPORTED_FIELD,
            "is not known to read loadBalancerSourceRanges, and would admit all clients",
        ),
        (
            &lacks.internal_ipv6,
            v6 && scope == Scope::Internal,
            UNSUPPORTED_FIELD,
            "ignores IPv6 in ipFamilies of internal load balancers",
        ),
        (&lacks.ipv6, v6, UNSUPPORTED_FIELD, "ignores IPv6 in ipFamilies"),
        (
            &lacks.dual_stack,
            spec.ip_families.len() > 1,
            UNSUPPORTED_FIELD,
            "serves the first of two ipFamilies only",
        ),
    ];
    for (lack, wanted, reason, what) in cases {
        if let Some(lack) = lack.as_ref().filter(|lack| wanted && is_missing(lack, spec)) {
            let message = format!("{} {what}: {}", preset.name, lack.instead);
            return Err(Refusal::new(reason, message));
        }
    }
    Ok(())
}

/// Whether it is missing with what the user has written.
fn is_missing(lack: &Lack, spec: &ServiceSpec) -> bool {
    let brought = lack.unless.iter().any(|unless| match unless {
        Unless::Annotation(mark) => has(&spec.annotations, mark),
        Unless::Class(class) => spec.load_balancer_class.as_deref() == Some(*class),
    });
    !brought && (lack.when.is_empty() || lack.when.iter().any(|mark| has(&spec.annotations, mark)))
}
