//! Facts about a provider: the columns of the table.

use std::collections::BTreeMap;

/// An annotation: key and value.
pub type Mark = (&'static str, &'static str);

/// Facts about a provider.
#[derive(Debug)]
pub struct Preset {
    /// As users write it in `spec.service.provider`.
    pub key: &'static str,
    /// As its makers write it.
    pub name: &'static str,
    pub recognised: Recognised,
    /// Settings that mean Internal.
    pub internal: Internal,
    /// Settings that mean External, where the default is not enough.
    pub external: Marks,
    /// Settings without which this provider, and this product of it, does not serve the Service: one of these; none means always.
    pub served: &'static [Served],
    /// All annotations that have a say in who may reach it, old names too.
    pub exposure_annotations: &'static [ExposureAnnotation],
    pub subnet: Subnet,
    /// Written when `globalAccess` is true.
    pub global_access: Option<Mark>,
    pub addresses: Addresses,
    /// Written when there is to be an IPv6 address.
    pub ipv6: Option<Mark>,
    pub create_only: CreateOnly,
    pub lacks: Lacks,
    /// Annotations that an Internal Gateway needs besides.
    pub needs: &'static [Need],
    pub node_ports: NodePorts,
    /// The reason of the event by which its controller says that this load balancer ignores source ranges.
    pub ranges_ignored: Option<&'static str>,
    pub clients: Clients,
    /// Source ranges of health checks, as CIDRs; only documented ones.
    pub health_checks: &'static [&'static str],
}

/// Evidence by which a provider, and what belongs to it, is recognised.
#[derive(Debug)]
pub struct Recognised {
    /// Prefix of a node's `spec.providerID`.
    pub provider_ids: &'static [&'static str],
    /// An API group that its controller brings.
    pub api_group: Option<&'static str>,
    /// A node's label, and the value that counts; any when empty.
    pub node_label: Option<Mark>,
    /// Its values of `spec.loadBalancerClass`.
    pub classes: &'static [Class],
    /// Whether who installs it chooses the class: then any is its own that is not another's.
    pub any_class: bool,
}

/// A value of `spec.loadBalancerClass`.
#[derive(Debug)]
pub struct Class {
    pub name: &'static str,
    /// Meaning of the class by itself; true is Internal.
    pub internal: Option<bool>,
}

impl Class {
    /// A class without a meaning by itself.
    pub const fn plain(name: &'static str) -> Self {
        Self { name, internal: None }
    }

    /// A class that decides.
    pub const fn decides(name: &'static str, internal: bool) -> Self {
        Self {
            name,
            internal: Some(internal),
        }
    }
}

/// Settings on the Service.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    pub annotations: &'static [Mark],
    pub class: Option<&'static str>,
}

impl Marks {
    pub const NONE: Self = Self::annotations(&[]);

    pub const fn annotations(annotations: &'static [Mark]) -> Self {
        Self {
            annotations,
            class: None,
        }
    }
}

/// Settings that mean Internal.
#[derive(Debug)]
pub enum Internal {
    /// By these annotations, and this class.
    Marks(Marks),
    /// By naming the subnet: the annotation of `subnet` is the switch.
    Subnet,
    /// By the pool that the address comes from: `subnet` or private `addresses` must say which.
    Pool,
    /// There is no way; what to do instead.
    Never(&'static str),
}

/// Setting for which a provider serves a Service.
#[derive(Debug)]
pub enum Served {
    /// One of its own classes.
    Class,
    /// An annotation with one of these values.
    Annotation(&'static str, &'static [&'static str]),
}

/// An annotation that has a say.
#[derive(Debug)]
pub struct ExposureAnnotation {
    pub key: &'static str,
    pub reads: Reads,
}

impl ExposureAnnotation {
    pub const fn new(key: &'static str, reads: Reads) -> Self {
        Self { key, reads }
    }
}

/// Interpretation of a value.
#[derive(Debug)]
pub enum Reads {
    /// These are Internal, all others External.
    Internal(&'static [&'static str]),
    /// These say nothing, all others are External.
    ExternalBut(&'static [&'static str]),
    /// All but these are Internal.
    InternalBut(&'static [&'static str]),
    /// Settings as `key=value`, with commas: this one makes it External, all others say nothing.
    ExternalWith(&'static str),
    /// Any is Internal, but an empty one, which says nothing.
    Named,
    /// Addresses: one that is public makes it External.
    Addresses,
    /// Hands the Service to a load balancer or a controller that was made elsewhere: the rest says nothing any more.
    Elsewhere,
    /// The same, but the controller writes it, too, for one that it made itself. Only a user's counts.
    Attached,
}

/// Which values Go's `strconv.ParseBool` takes for true.
pub const TRUE: Reads = Reads::Internal(&["true", "1", "t", "T", "TRUE", "True"]);

/// Destination of `spec.service.subnet`.
#[derive(Debug)]
pub enum Subnet {
    /// Nowhere; what to do instead.
    No(&'static str),
    /// Into an annotation; what its value is.
    Annotation {
        key: &'static str,
        what: &'static str,
        with: With,
        /// Whether Internal needs it.
        needed: bool,
    },
    /// Written `key=value`, it becomes a label, which pools choose Services by.
    Label,
}

/// The scopes that a setting goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Both,
    Internal,
}

/// Destinations of `spec.service.addresses`.
#[derive(Debug)]
pub struct Addresses {
    pub internal: Takes,
    pub external: Takes,
}

impl Addresses {
    pub const fn both(takes: Takes) -> Self {
        Self {
            internal: takes,
            external: takes,
        }
    }
}

/// Destinations of addresses, by their kind.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    pub v4: Option<Place>,
    pub v6: Option<Place>,
    /// A value that is the name of an address, and the kind of name.
    pub named: Option<(Place, &'static str)>,
    /// The annotation without which the provider doesn't read them; any value when it has none.
    pub requires: Option<Mark>,
}

impl Takes {
    pub const NONE: Self = Self {
        v4: None,
        v6: None,
        named: None,
        requires: None,
    };

    pub const fn v4(place: Place) -> Self {
        Self {
            v4: Some(place),
            ..Self::NONE
        }
    }

    pub const fn any(place: Place) -> Self {
        Self {
            v4: Some(place),
            v6: Some(place),
            ..Self::NONE
        }
    }
}

/// A place for addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `spec.loadBalancerIP`, which holds one.
    Field,
    /// An annotation that holds one.
    One(&'static str),
    /// An annotation that holds several, with commas.
    Many(&'static str),
}

/// Settings that a provider reads only when the load balancer is created.
#[derive(Debug, PartialEq, Eq)]
pub struct CreateOnly {
    /// Keys of annotations.
    pub annotations: &'static [&'static str],
    /// Whether Internal and External can be changed only by a new load balancer. Where nothing is documented, yes.
    pub scope: bool,
    /// `spec.loadBalancerClass`: the API server rejects changes.
    pub class: bool,
}

impl CreateOnly {
    pub const fn new(annotations: &'static [&'static str], scope: bool) -> Self {
        Self {
            annotations,
            scope,
            class: true,
        }
    }
}

/// Missing features of a provider, each with an alternative. A feature that is not known to be missing is present, with one
/// exception: source ranges that no document of the provider mentions count as ignored.
#[derive(Debug)]
pub struct Lacks {
    pub udp: Option<Lack>,
    /// TCP and UDP in one Service.
    pub mixed: Option<Lack>,
    /// `spec.loadBalancerSourceRanges`: not read, and so not kept.
    pub source_ranges: Option<Lack>,
    /// An IPv6 address.
    pub ipv6: Option<Lack>,
    /// An IPv6 address on an Internal Gateway.
    pub internal_ipv6: Option<Lack>,
    /// An address of each family.
    pub dual_stack: Option<Lack>,
}

impl Lacks {
    pub const NOTHING: Self = Self {
        udp: None,
        mixed: None,
        source_ranges: None,
        ipv6: None,
        internal_ipv6: None,
        dual_stack: None,
    };
}

/// Something missing.
#[derive(Debug)]
pub struct Lack {
    pub instead: &'static str,
    /// The user's annotations and classes, one of which brings it all the same.
    pub unless: &'static [Unless],
    /// Missing with one of these annotations only; always when empty.
    pub when: &'static [Mark],
}

impl Lack {
    pub const fn always(instead: &'static str) -> Self {
        Self::unless(instead, &[])
    }

    /// Missing without one of these.
    pub const fn unless(instead: &'static str, unless: &'static [Unless]) -> Self {
        Self {
            instead,
            unless,
            when: &[],
        }
    }

    /// Missing with one of these annotations.
    pub const fn when(instead: &'static str, when: &'static [Mark]) -> Self {
        Self {
            instead,
            unless: &[],
            when,
        }
    }
}

/// Alternative for the user.
#[derive(Debug)]
pub enum Unless {
    /// This annotation; any value when empty.
    Annotation(Mark),
    Class(&'static str),
}

/// An annotation that an Internal Gateway needs.
#[derive(Debug)]
pub struct Need {
    /// Only beside this annotation.
    pub when: Mark,
    pub key: &'static str,
    /// Whether its value names one thing: a comma makes it two.
    pub single: bool,
    /// Its value, and how it is written in the Gateway.
    pub what: &'static str,
}

/// Whether the load balancer sends traffic to the Service's node ports.
#[derive(Debug)]
pub enum NodePorts {
    /// It does, or no document says otherwise.
    Needed,
    /// It sends to the Service's own address and port, or to the Pods.
    Unneeded,
    /// It does not with one of these annotations of the user's.
    UnneededWith(&'static [Mark]),
}

impl NodePorts {
    /// Whether they are unneeded with these annotations.
    pub fn are_unneeded(&self, annotations: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Needed => false,
            Self::Unneeded => true,
            Self::UnneededWith(marks) => marks.iter().any(|mark| has(annotations, mark)),
        }
    }
}

/// Whether an annotation is among those; any value but an empty one when the mark has none.
pub fn has(annotations: &BTreeMap<String, String>, (key, value): &Mark) -> bool {
    annotations.get(*key).is_some_and(|given| {
        if value.is_empty() {
            !given.is_empty()
        } else {
            given == value
        }
    })
}

/// Client addresses that the Pods see with `externalTrafficPolicy: Local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// The client's own.
    Seen,
    /// The load balancer's: it is a proxy.
    Proxied,
    /// Not documented, or it depends on more than we know.
    Unknown,
}

/// Common facts of most providers; each row names the differences.
pub const PLAIN: Preset = Preset {
    key: "",
    name: "",
    recognised: NOWHERE,
    internal: Internal::Never(""),
    external: Marks::NONE,
    served: &[],
    exposure_annotations: &[],
    subnet: Subnet::No("leave it out"),
    global_access: None,
    addresses: Addresses::both(Takes::NONE),
    ipv6: None,
    create_only: CreateOnly::new(&[], true),
    lacks: Lacks::NOTHING,
    needs: &[],
    node_ports: NodePorts::Needed,
    ranges_ignored: None,
    clients: Clients::Unknown,
    health_checks: &[],
};

/// Recognised by nothing.
pub const NOWHERE: Recognised = Recognised {
    provider_ids: &[],
    api_group: None,
    node_label: None,
    classes: &[],
    any_class: false,
};
