#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::cli::samples::{NOW, certificate};

const PAPER: Screen = Screen {
    colour: false,
    width: None,
};

fn item(name: &str, yaml: &str) -> Item {
    let certificate = certificate(name, yaml);
    Item {
        namespace: certificate.metadata.namespace.clone().unwrap(),
        name: name.to_owned(),
        certificate: Ok(Box::new(certificate)),
    }
}

/// Both conditions, and what follows them in the status.
fn status(ready: (&str, &str), issuing: (&str, &str), more: &str) -> String {
    let condition = |kind: &str, (status, reason): (&str, &str)| {
        format!(
            "  - {{type: {kind}, status: \"{status}\", reason: {reason}, message: m, lastTransitionTime: 2026-10-21T12:00:00Z, observedGeneration: 1}}\n"
        )
    };
    format!(
        "status:\n  conditions:\n{}{}{more}",
        condition("Ready", ready),
        condition("Issuing", issuing)
    )
}

const VALID: &str = "  notAfter: 2027-01-22T12:00:00Z\n  renewalTime: 2026-12-20T12:00:00Z\n  serialNumber: 04c1\n  failedAttempts: 0\n  fingerprintSHA256: ab12\n";

fn items() -> Vec<Item> {
    let fine = status(("True", "Issued"), ("False", "Issued"), VALID);
    vec![
        item("fine", &fine),
        item("b-renewing", &status(("True", "Issued"), ("True", "Due"), VALID)),
        item(
            "failing",
            &status(
                ("False", "ChallengeFailed"),
                ("False", "ChallengeFailed"),
                "  failedAttempts: 3\n  nextAttemptTime: 2026-11-21T12:09:30Z\n",
            ),
        ),
        item(
            "expired",
            &format!(
                "metadata: {{namespace: zoo}}\nspec: {{issuerRef: {{name: letsencrypt, kind: ClusterIssuer}}}}\n{}",
                status(
                    ("True", "Issued"),
                    ("False", "RateLimited"),
                    "  notAfter: 2026-11-18T12:00:00Z\n  failedAttempts: 9\n  nextAttemptTime: 2026-11-21T14:00:00Z\n"
                )
            ),
        ),
        item(
            "held",
            &status(
                ("False", "ReissueHeld"),
                ("False", "ReissueHeld"),
                "  nextAttemptTime: 2026-11-21T12:05:00Z\n",
            ),
        ),
        item(
            "new",
            &status(
                ("False", "Issuing"),
                ("True", "First"),
                "  nextAttemptTime: 2026-11-21T12:00:05Z\n",
            ),
        ),
        item("asleep", &format!("spec: {{suspend: true}}\n{fine}")),
        Item {
            namespace: "app".into(),
            name: "odd".into(),
            certificate: Err("missing field `secretName`".into()),
        },
    ]
}

fn drawn(columns: Columns, screen: Screen) -> String {
    let (items, now) = (items(), NOW.parse().unwrap());
    let judged = judge(&items, now);
    format!("{}{}\n", table(&judged, columns, now, screen), summary(&judged))
}

#[test]
fn the_unhealthy_come_first_and_say_why() {
    insta::assert_snapshot!(drawn(Columns::default(), PAPER));
}

#[test]
fn wide_and_of_all_namespaces() {
    let columns = Columns {
        namespace: true,
        wide: true,
    };
    insta::assert_snapshot!(drawn(columns, PAPER));
}

#[test]
fn on_a_terminal_it_has_colours_and_fits() {
    let screen = Screen {
        colour: true,
        width: Some(90),
    };
    insta::assert_snapshot!(drawn(Columns::default(), screen).replace('\x1b', "ESC"));
}

#[test]
fn thousands_are_parted() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(thousands(number), text);
    }
    let items = items();
    let judged = judge(items.first(), NOW.parse().unwrap());
    assert_eq!(summary(&judged), "1 certificate: 1 fine");
}
