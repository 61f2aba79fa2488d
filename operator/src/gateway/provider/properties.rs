//! Properties of every Gateway that a user can write.

use gatehouse_crds::gateway::{IpFamily, Provider, Scope, ServiceSpec};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{
    Exposure, Protocols, parse,
    preset::{Internal, Reads, Served, Subnet},
    table::{ALL, preset},
    template,
};

/// Every key that the row knows, one of another provider, and an unknown one.
fn keys(provider: Provider) -> Vec<&'static str> {
    let row = preset(provider);
    let mut keys = vec![
        "example.com/team",
        "service.beta.kubernetes.io/azure-load-balancer-internal",
    ];
    keys.extend(row.exposure_annotations.iter().map(|annotation| annotation.key));
    keys.extend(row.create_only.annotations);
    keys.extend(row.served.iter().filter_map(|by| match by {
        Served::Annotation(key, _) => Some(*key),
        Served::Class => None,
    }));
    if let Subnet::Annotation { key, .. } = row.subnet {
        keys.push(key);
    }
    keys
}

/// Every value that the row knows, and near misses.
fn values(provider: Provider) -> Vec<&'static str> {
    let mut values = vec![
        "",
        "true",
        "false",
        "True",
        "TRUE",
        "1",
        "0",
        "yes",
        "Internal",
        "internal",
        "External",
        "internet",
        "public",
        "lb",
        "nlb",
        "external",
        "octavia",
        "iolb",
        "10.0.0.7",
        "203.0.113.7",
        "10.0.0.7,203.0.113.7",
        "0.0.0.0",
        "subnet-1",
    ];
    for annotation in preset(provider).exposure_annotations {
        if let Reads::Internal(words) | Reads::ExternalBut(words) | Reads::InternalBut(words) = &annotation.reads {
            // Often, for one in a row of rivals would rarely be met.
            values.extend(words.iter().chain(*words).chain(*words));
        }
    }
    values
}

fn classes(provider: Provider) -> Vec<&'static str> {
    let known = preset(provider).recognised.classes.iter().map(|class| class.name);
    known.chain(["example.com/mine", "io.cilium/node"]).collect()
}

fn specs(provider: Provider, scope: Scope) -> impl Strategy<Value = ServiceSpec> {
    let text = |list: Vec<&'static str>| select(list).prop_map(str::to_owned);
    let addresses = vec![
        "10.0.0.7",
        "10.0.0.8",
        "fd00::7",
        "203.0.113.7",
        "2001:db8::7",
        "eipalloc-1",
        "reserved",
    ];
    (
        btree_map(text(keys(provider)), text(values(provider)), 0..4),
        option::weighted(0.3, text(classes(provider))),
        option::weighted(0.6, text(vec!["subnet-1", "pool=private", "=", "169341"])),
        vec(text(addresses), 0..3),
        any::<bool>(),
        vec(select(vec![IpFamily::V4, IpFamily::V6]), 0..3),
        btree_map(text(vec!["pool", "team"]), text(vec!["private", "public"]), 0..2),
    )
        .prop_map(
            move |(annotations, class, subnet, addresses, global, families, labels)| ServiceSpec {
                scope: Some(scope),
                labels,
                annotations,
                load_balancer_class: class,
                subnet,
                addresses,
                global_access: (scope == Scope::Internal && global).then_some(true),
                ip_families: families,
                ..ServiceSpec::default()
            },
        )
}

fn pairs(providers: Vec<Provider>, scope: Scope) -> impl Strategy<Value = (Provider, ServiceSpec)> {
    select(providers).prop_flat_map(move |provider| (Just(provider), specs(provider, scope)))
}

fn protocols() -> impl Strategy<Value = Protocols> {
    select(vec![(true, false), (false, true), (true, true)]).prop_map(|(tcp, udp)| Protocols { tcp, udp })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn an_internal_gateway_is_refused_or_says_internal(
        (provider, spec) in pairs(ALL.to_vec(), Scope::Internal), protocols in protocols()
    ) {
        if let Ok(made) = template(provider, &spec, protocols) {
            let said = parse(provider, &made.annotations, &made.labels, made.load_balancer_class.as_deref());
            // A pool's name says nothing of its addresses, and is not contradicted.
            let unsaid = matches!(preset(provider).internal, Internal::Pool) && provider != Provider::KubeVip;
            prop_assert!(said == Exposure::Internal || (unsaid && said == Exposure::Unsaid), "{said:?}: {made:?}");
        }
    }

    #[test]
    fn without_a_switch_nothing_internal_is_made(
        (provider, spec) in pairs(vec![Provider::Vultr, Provider::Exoscale, Provider::Other], Scope::Internal),
        protocols in protocols(),
    ) {
        prop_assert!(template(provider, &spec, protocols).is_err());
    }

    #[test]
    fn what_the_user_writes_is_there_whatever_is_made(
        (provider, spec) in pairs(ALL.to_vec(), Scope::External), internal in any::<bool>(), protocols in protocols()
    ) {
        let scope = if internal { Scope::Internal } else { Scope::External };
        let spec = ServiceSpec { scope: Some(scope), ..spec };
        if let Ok(made) = template(provider, &spec, protocols) {
            for (key, value) in &spec.annotations {
                prop_assert_eq!(made.annotations.get(key), Some(value));
            }
            for (key, value) in &spec.labels {
                prop_assert_eq!(made.labels.get(key), Some(value));
            }
            if spec.load_balancer_class.is_some() {
                prop_assert_eq!(made.load_balancer_class, spec.load_balancer_class);
            }
        }
    }
}
