#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use gatehouse_crds::gateway::{Gateway, Provider};
use kube::CustomResourceExt;
use serde_json::json;

use super::{
    annotation_exposure::{Whose, whose},
    create_only, health_check_ranges,
    preset::{Internal, Subnet},
    table::{ALL, SHARED_SCHEMES, preset},
};

/// Those of the API, as the CRD lists them.
fn of_the_api() -> BTreeSet<String> {
    let crd = json!(Gateway::crd());
    let list = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/service/properties/provider/enum")
        .unwrap();
    let names = list.as_array().unwrap().iter();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

#[test]
fn every_provider_of_the_api_has_a_row_under_its_own_name() {
    let rows: BTreeSet<String> = ALL
        .into_iter()
        .chain([Provider::Other])
        .map(|provider| {
            let key = preset(provider).key.to_owned();
            assert_eq!(json!(provider), json!(key));
            key
        })
        .collect();
    assert_eq!(rows, of_the_api());
    assert_eq!(rows.len(), ALL.len() + 1);
}

#[test]
fn what_the_table_writes_the_table_also_reads() {
    for provider in ALL {
        let row = preset(provider);
        let meanings = |key: &str| row.exposure_annotations.iter().any(|annotation| annotation.key == key);
        match &row.internal {
            Internal::Marks(marks) => {
                let decides = marks.annotations.iter().any(|(key, _)| meanings(key));
                assert!(decides, "{}: nothing that says Internal is read back", row.key);
            }
            Internal::Subnet => {
                let Subnet::Annotation { key, needed: true, .. } = row.subnet else {
                    panic!("{}: the subnet is the switch, and so is needed", row.key);
                };
                assert!(meanings(key), "{}", row.key);
            }
            Internal::Pool => assert!(!row.exposure_annotations.is_empty(), "{}", row.key),
            Internal::Never(instead) => assert!(!instead.is_empty(), "{}", row.key),
        }
    }
}

#[test]
fn no_class_and_no_prefix_of_a_node_is_of_two_providers() {
    let mut classes = BTreeSet::new();
    let mut prefixes = BTreeSet::new();
    for provider in ALL {
        for class in preset(provider).recognised.classes {
            assert!(classes.insert(class.name), "{}", class.name);
            assert!(matches!(whose(provider, class.name), Whose::Own(_)));
        }
        for prefix in preset(provider).recognised.provider_ids {
            assert!(prefixes.insert(*prefix), "{prefix}");
        }
    }
}

#[test]
fn only_a_provider_in_the_cluster_takes_a_class_that_nobody_knows() {
    for provider in ALL {
        let open = matches!(provider, Provider::MetalLb | Provider::KubeVip);
        let found = whose(provider, "example.com/mine");
        assert_eq!(found == Whose::Own(None), open, "{provider:?}");
    }
    assert_eq!(
        whose(Provider::MetalLb, "service.k8s.aws/nlb"),
        Whose::Anothers(Provider::AwsLoadBalancerController)
    );
}

#[test]
fn a_class_is_never_changed_in_place() {
    assert!(ALL.into_iter().all(|provider| create_only(provider).class));
    assert!(create_only(Provider::Other).class);
}

#[test]
fn where_the_scope_is_create_only_so_is_every_annotation_that_says_it() {
    for provider in ALL {
        let (row, only) = (preset(provider), create_only(provider));
        let marks = match &row.internal {
            Internal::Marks(marks) => marks.annotations,
            _ => &[],
        };
        let all = marks.iter().chain(row.external.annotations);
        for (key, _) in all.filter(|_| only.scope) {
            assert!(only.annotations.contains(key), "{}: {key}", row.key);
        }
    }
}

#[test]
fn the_ranges_of_health_checks_are_cidrs() {
    for provider in ALL {
        for range in health_check_ranges(provider) {
            range.parse::<ipnet::IpNet>().unwrap();
        }
    }
}

#[test]
fn a_shared_scheme_is_that_of_its_likely_provider_who_is_among_the_candidates() {
    for shared in SHARED_SCHEMES {
        let row = preset(shared.likely);
        assert!(row.recognised.provider_ids.contains(&shared.prefix), "{shared:?}");
        assert!(shared.candidates.contains(&shared.likely), "{shared:?}");
    }
}
