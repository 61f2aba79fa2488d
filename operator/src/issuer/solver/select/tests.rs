#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn solver(selector: Value, dns: bool) -> Solver {
    let mut solver = if dns {
        json!({"dns01": {"digitalocean": {"tokenSecretRef": {"name": "s", "key": "k"}}}})
    } else {
        json!({"http01": {"ingress": {"ingressClassName": "nginx"}}})
    };
    if !selector.is_null() {
        solver["selector"] = selector;
    }
    serde_json::from_value(solver).unwrap()
}

fn http(selector: Value) -> Solver {
    solver(selector, false)
}

fn dns(selector: Value) -> Solver {
    solver(selector, true)
}

fn chosen(solvers: &[Solver], name: &str, labels: &[(&str, &str)]) -> Result<usize, NoSolver> {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let (name, wildcard) = name.strip_prefix("*.").map_or((name, false), |name| (name, true));
    let identifier = name
        .parse()
        .map_or_else(|_| Identifier::Dns(name.into()), Identifier::Ip);
    select(
        solvers,
        Challenged {
            identifier: &identifier,
            wildcard,
            labels: &labels,
        },
    )
}

#[test]
fn the_most_specific_solver_answers() {
    let team = json!({"matchLabels": {"team": "a"}});
    let both = json!({"matchLabels": {"team": "a", "tier": "web"}});
    let zone = json!({"dnsZones": ["example.com"]});
    let longer = json!({"dnsZones": ["other.org", "sub.example.com"]});
    let name = json!({"dnsNames": ["a.sub.example.com"]});
    let a: &[(&str, &str)] = &[("team", "a")];
    let web: &[(&str, &str)] = &[("team", "a"), ("tier", "web")];
    let all = [
        http(Value::Null),
        http(team.clone()),
        http(both),
        http(zone.clone()),
        http(longer),
        http(name),
        http(zone),
    ];
    for (challenged, labels, expected) in [
        ("a.sub.example.com", web, 5),
        ("b.sub.example.com", web, 4),
        ("sub.example.com", web, 4),
        ("b.example.com", web, 3),
        ("example.com", &[][..], 3),
        ("notexample.com", &[][..], 0),
        ("x.test", a, 1),
        ("x.test", web, 2),
        ("x.test", &[("team", "b")], 0),
        ("192.0.2.1", &[][..], 0),
        ("192.0.2.1", a, 1),
    ] {
        assert_eq!(
            chosen(&all, challenged, labels),
            Ok(expected),
            "{challenged} {labels:?}"
        );
    }
}

#[test]
fn all_of_a_selector_must_fit_and_each_part_ranks_in_its_order() {
    let solvers = [
        http(json!({"dnsZones": ["a.test"], "matchLabels": {"team": "a"}})),
        http(json!({"dnsZones": ["b.a.test"]})),
        http(json!({"dnsZones": ["a.test"], "dnsNames": ["x.a.test"]})),
        http(json!({"dnsNames": ["x.a.test"], "matchLabels": {"team": "a"}})),
    ];
    for (challenged, labels, expected) in [
        ("y.a.test", &[("team", "a")][..], Some(0)),
        ("y.a.test", &[], None),
        ("y.b.a.test", &[("team", "a")], Some(1)),
        ("x.a.test", &[("team", "a")], Some(2)),
        ("x.a.test", &[], Some(2)),
    ] {
        assert_eq!(
            chosen(&solvers, challenged, labels).ok(),
            expected,
            "{challenged} {labels:?}"
        );
    }
}

#[test]
fn wildcards_go_to_dns01_and_addresses_to_http01() {
    let solvers = [http(json!({"dnsZones": ["a.test"]})), dns(Value::Null)];
    assert_eq!(chosen(&solvers, "a.test", &[]), Ok(0));
    assert_eq!(chosen(&solvers, "*.a.test", &[]), Ok(1));
    assert_eq!(
        chosen(&[dns(Value::Null), http(Value::Null)], "2001:db8::1", &[]),
        Ok(1)
    );
    let names = [
        dns(json!({"dnsNames": ["*.a.test"]})),
        dns(json!({"dnsZones": ["a.test"]})),
    ];
    assert_eq!(chosen(&names, "*.a.test", &[]), Ok(0));
    assert_eq!(
        chosen(&names, "a.test", &[]),
        Ok(1),
        "a wildcard is not the name below it"
    );
}

#[test]
fn names_are_compared_as_a_labels_in_lower_case() {
    let solvers = [
        http(json!({"dnsZones": ["Bücher.example."]})),
        http(json!({"dnsNames": ["WWW.Example.com."]})),
        dns(json!({"dnsNames": ["*.Bücher.test"]})),
    ];
    assert_eq!(chosen(&solvers, "shop.xn--bcher-kva.example", &[]), Ok(0));
    assert_eq!(chosen(&solvers, "www.example.com", &[]), Ok(1));
    assert_eq!(chosen(&solvers, "*.xn--bcher-kva.test", &[]), Ok(2));
}

#[test]
fn the_error_says_what_there_is_and_what_to_write() {
    let solvers = [
        http(json!({"dnsZones": ["a.test", "b.test"]})),
        dns(json!({"dnsNames": ["c.test"], "matchLabels": {"team": "a"}})),
    ];
    let error = chosen(&solvers, "*.a.test", &[]).unwrap_err();
    assert_eq!(error.reason(), "NoSolver");
    assert_eq!(
        error.to_string(),
        "no solver of the Issuer fits *.a.test, and a wildcard needs dns01. It has: http01 by class nginx for dnsZones \
         a.test, b.test; dns01 by digitalocean for dnsNames c.test and matchLabels team=a. Add an entry to \
         spec.acme.solvers: selector: {dnsZones: [a.test]} with dns01, or dns01 without a selector"
    );
    assert_eq!(
        chosen(&[dns(Value::Null)], "192.0.2.1", &[]).unwrap_err().to_string(),
        "no solver of the Issuer fits 192.0.2.1, and an IP address needs http01. It has: dns01 by digitalocean for every \
         name. Add an entry to spec.acme.solvers: http01: {ingress: {ingressClassName: <class>}} without a selector"
    );
    assert!(
        chosen(&[], "a.test", &[])
            .unwrap_err()
            .to_string()
            .contains("It has: no solver at all.")
    );
}

fn label() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "test"]).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

fn any_solver() -> impl Strategy<Value = Solver> {
    let names = proptest::collection::vec(name(), 0..2);
    let zones = proptest::collection::vec(name(), 0..3);
    let labels = proptest::collection::btree_map(label(), label(), 0..2);
    (names, zones, labels, any::<bool>()).prop_map(|(names, zones, labels, dns)| {
        solver(
            json!({"dnsNames": names, "dnsZones": zones, "matchLabels": labels}),
            dns,
        )
    })
}

proptest! {
    #[test]
    fn no_solver_that_fits_is_more_specific_than_the_chosen_and_none_before_it_is_equal(
        solvers in proptest::collection::vec(any_solver(), 0..6),
        name in name(),
        wildcard: bool,
        labels in proptest::collection::btree_map(label(), label(), 0..3),
    ) {
        let identifier = Identifier::Dns(name);
        let challenged = Challenged { identifier: &identifier, wildcard, labels: &labels };
        let fits: Vec<Option<Fit>> = solvers
            .iter()
            .map(|solver| can(solver, challenged).then(|| fit(solver.selector.as_ref(), &challenged.name(), challenged)).flatten())
            .collect();
        match select(&solvers, challenged) {
            Ok(index) => {
                let best = fits[index].expect("the chosen one fits");
                for (other, fit) in fits.iter().enumerate().filter_map(|(other, fit)| Some((other, (*fit)?))) {
                    prop_assert!(fit < best || (fit == best && other >= index));
                }
            }
            Err(_) => prop_assert!(fits.iter().all(Option::is_none)),
        }
    }

    #[test]
    fn a_zone_holds_itself_and_what_is_below_and_nothing_else(zone in name(), prefix in "[a-z0-9-]{1,8}") {
        let dotted = format!("{prefix}.{zone}");
        let glued = format!("{prefix}{zone}");
        prop_assert!(in_zone(&zone, &zone));
        prop_assert!(in_zone(&dotted, &zone));
        prop_assert!(!in_zone(&glued, &zone));
    }
}
