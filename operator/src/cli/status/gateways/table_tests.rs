#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::cli::samples::{NOW, gateway, gateway_status};

const PAPER: Screen = Screen {
    colour: false,
    width: None,
};

fn item(name: &str, gateway: Gateway) -> Item {
    Item {
        namespace: gateway.metadata.namespace.clone().unwrap(),
        name: name.to_owned(),
        gateway: Ok(Box::new(gateway)),
    }
}

fn items() -> Vec<Item> {
    let of = |name: &str, status: String| item(name, gateway(name, &status));
    let external = ("ExposureVerified", "True", "External", "");
    let mut open = gateway(
        "open",
        &gateway_status(3, &["203.0.113.7", "2001:db8::7", "203.0.113.8"], &[external]),
    );
    open.spec.service.as_mut().unwrap().scope = None;
    let mut nodes = gateway("nodes", &gateway_status(1, &["10.0.0.1"], &[]));
    nodes.spec.service.as_mut().unwrap().type_ = Some(ServiceType::NodePort);
    nodes.status.as_mut().unwrap().addresses[0].ports = vec![30080];
    vec![
        of("fine", gateway_status(2, &["10.0.0.7"], &[])),
        item("open", open),
        item("nodes", nodes),
        of(
            "idle",
            gateway_status(0, &["10.0.0.8"], &[("http/Programmed", "False", "NoMatchingPods", "m")]),
        ),
        of(
            "waits",
            gateway_status(
                2,
                &[],
                &[
                    ("Programmed", "False", "AddressPending", "m"),
                    ("ExposureVerified", "Unknown", "NotVerified", "m"),
                ],
            ),
        ),
        of(
            "public",
            gateway_status(
                2,
                &["203.0.113.9"],
                &[("ExposureVerified", "False", "ExposureMismatch", "m")],
            ),
        ),
        Item {
            namespace: "app".into(),
            name: "odd".into(),
            gateway: Err("missing field `target`".into()),
        },
    ]
}

fn drawn(columns: Columns) -> String {
    let items = items();
    let judged = judge(&items, NOW.parse().unwrap());
    format!("{}{}\n", table(&judged, columns, PAPER), summary(&judged))
}

#[test]
fn what_is_public_and_should_not_be_stands_first_and_the_fine_last() {
    insta::assert_snapshot!(drawn(Columns::default()));
}

#[test]
fn wide_and_of_all_namespaces() {
    insta::assert_snapshot!(drawn(Columns {
        namespace: true,
        wide: true,
    }));
}
