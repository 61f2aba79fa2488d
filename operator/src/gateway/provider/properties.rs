//! What holds for every Gateway that anybody can write.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{IpFamily, Provider, Scope, ServiceSpec};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{
    Exposure, Protocols,
    preset::{Internal, Reads, Served, Subnet},
    says,
    table::{ALL, preset},
    template,
};

/// Every key that any row of the table knows, and some that none does.
fn keys() -> Vec<&'static str> {
    let mut keys = vec!["example.com/team"];
    for provider in ALL {
        let row = preset(provider);
        keys.extend(row.voices.iter().map(|voice| voice.key));
        keys.extend(row.create_only.annotations);
        keys.extend(row.served.iter().filter_map(|by| match by {
            Served::Annotation(key, _) => Some(*key),
            Served::Class => None,
        }));
        if let Subnet::Annotation { key, .. } = row.subnet {
            keys.push(key);
        }
    }
    keys
}

/// Every value that any row knows, and near misses.
fn values() -> Vec<&'static str> {
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
    for provider in ALL {
        for voice in preset(provider).voices {
            if let Reads::Internal(words) | Reads::ExternalBut(words) | Reads::InternalBut(words) = &voice.reads {
                values.extend(*words);
            }
        }
    }
    values
}

fn classes() -> Vec<&'static str> {
    let known = ALL.into_iter().flat_map(|provider| preset(provider).recognised.classes);
    known.map(|class| class.name).chain(["example.com/mine"]).collect()
}

fn specs(scope: Scope) -> impl Strategy<Value = ServiceSpec> {
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
        btree_map(text(keys()), text(values()), 0..5),
        option::weighted(0.3, text(classes())),
        option::weighted(0.6, text(vec!["subnet-1", "pool=private", "=", "169341"])),
        vec(text(addresses), 0..3),
        any::<bool>(),
        vec(select(vec![IpFamily::V4, IpFamily::V6]), 0..2),
    )
        .prop_map(
            move |(annotations, class, subnet, addresses, global, families)| ServiceSpec {
                scope: Some(scope),
                labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
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

fn protocols() -> impl Strategy<Value = Protocols> {
    select(vec![(true, false), (false, true), (true, true)]).prop_map(|(tcp, udp)| Protocols { tcp, udp })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn an_internal_gateway_is_refused_or_says_internal(
        provider in select(ALL.to_vec()), spec in specs(Scope::Internal), protocols in protocols()
    ) {
        if let Ok(made) = template(provider, &spec, protocols) {
            let said = says(provider, &made.annotations, &made.labels, made.load_balancer_class.as_deref());
            match preset(provider).internal {
                // A pool's name says nothing of its addresses, and is not contradicted.
                Internal::Pool => prop_assert_ne!(said, Exposure::External),
                _ => prop_assert_eq!(said, Exposure::Internal),
            }
        }
    }

    #[test]
    fn without_a_switch_nothing_internal_is_made(
        provider in select(vec![Provider::Vultr, Provider::Exoscale, Provider::Other]),
        spec in specs(Scope::Internal),
        protocols in protocols(),
    ) {
        prop_assert!(template(provider, &spec, protocols).is_err());
    }

    #[test]
    fn what_the_user_writes_is_there_whatever_is_made(
        provider in select(ALL.to_vec()), internal in any::<bool>(), spec in specs(Scope::External), protocols in protocols()
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
