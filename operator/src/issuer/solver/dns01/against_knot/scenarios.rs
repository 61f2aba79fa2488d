use jiff::Timestamp;

use super::*;
use crate::issuer::solver::Readiness;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

async fn check(solver: &dyn Solver, challenge: &Challenge, second: i64) -> Result<Readiness, SolverError> {
    solver.check(challenge, at(0), at(second)).await
}

#[tokio::test]
async fn a_record_is_written_seen_and_taken_away() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    let one = challenge("www.a.test", "value-1");
    assert!(
        matches!(check(&*solver, &one, 1).await, Ok(Readiness::Wait { message, .. })
        if message == format!("waiting for TXT _acme-challenge.www.a.test: {} does not have it", knot.address))
    );
    for _ in 0..2 {
        solver.present(&one).await.unwrap();
        assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
        assert_eq!(knot.txt("_acme-challenge.www.a.test").await, ["value-1"]);
    }
    for _ in 0..2 {
        solver.clean_up(&one).await.unwrap();
        assert_eq!(knot.txt("_acme-challenge.www.a.test").await, [] as [&str; 0]);
    }
    assert_eq!(
        check(&*solver, &one, 120).await.unwrap_err().to_string(),
        format!(
            "TXT _acme-challenge.www.a.test was not seen within 2m: {} does not have it",
            knot.address
        )
    );
}

#[tokio::test]
async fn a_wildcard_and_its_apex_are_proved_at_the_same_name_at_once() {
    let knot = Knot::start(&[("a.test", "_acme-challenge TXT foreign")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    let (apex, wildcard) = (challenge("a.test", "value-1"), challenge("*.a.test", "value-2"));
    let (first, second) = tokio::join!(solver.present(&apex), solver.present(&wildcard));
    first.and(second).unwrap();
    assert_eq!(
        knot.txt("_acme-challenge.a.test").await,
        ["foreign", "value-1", "value-2"]
    );
    assert_eq!(check(&*solver, &apex, 0).await, Ok(Readiness::Ready));
    assert_eq!(check(&*solver, &wildcard, 0).await, Ok(Readiness::Ready));
    solver.clean_up(&apex).await.unwrap();
    assert_eq!(knot.txt("_acme-challenge.a.test").await, ["foreign", "value-2"]);
    assert_eq!(check(&*solver, &wildcard, 0).await, Ok(Readiness::Ready));
    solver.clean_up(&wildcard).await.unwrap();
    assert_eq!(knot.txt("_acme-challenge.a.test").await, ["foreign"]);
}

#[tokio::test]
async fn every_tsig_algorithm_of_the_api_works() {
    let knot = Knot::start(&[("a.test", "")]).await;
    for (key, algorithm) in [
        ("key", "HMACSHA256"),
        ("key384", "HMACSHA384"),
        ("key512", "HMACSHA512"),
    ] {
        let mut spec = rfc2136(knot.address);
        spec["dns01"]["rfc2136"]["tsigKeyName"] = json!(key);
        spec["dns01"]["rfc2136"]["tsigAlgorithm"] = json!(algorithm);
        let solver = solver_from(None, spec).await.unwrap();
        solver.present(&challenge("a.test", algorithm)).await.unwrap();
    }
    assert_eq!(
        knot.txt("_acme-challenge.a.test").await,
        ["HMACSHA256", "HMACSHA384", "HMACSHA512"]
    );
}

#[tokio::test]
async fn a_refusal_says_which_of_key_secret_and_right_is_wrong() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let address = knot.address;
    for (key, secret, expected) in [
        (
            "key",
            "wrong",
            "the TSIG signature is wrong (BADSIG): the Secret tsig, key wrong, does not hold the server's secret for the key key",
        ),
        (
            "other",
            "secret",
            "it does not take the TSIG key other with HMACSHA256 for the zone a.test (BADKEY): check tsigKeyName, tsigAlgorithm, and that the server lets the key update the zone",
        ),
        (
            "idle",
            "secret",
            "it does not take the TSIG key idle with HMACSHA256 for the zone a.test (BADKEY): check tsigKeyName, tsigAlgorithm, and that the server lets the key update the zone",
        ),
    ] {
        let mut spec = rfc2136(address);
        spec["dns01"]["rfc2136"]["tsigKeyName"] = json!(key);
        spec["dns01"]["rfc2136"]["tsigSecretSecretRef"]["key"] = json!(secret);
        let solver = solver_from(None, spec).await.unwrap();
        let error = solver.present(&challenge("a.test", "v")).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.to_string()),
            ("DnsRefused", format!("{address} refused: {expected}"))
        );
        assert!(
            ![SECRET, WRONG]
                .iter()
                .any(|secret| format!("{error:?}").contains(secret))
        );
    }
    assert_eq!(knot.txt("_acme-challenge.a.test").await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_secret_that_is_missing_or_malformed_is_named() {
    let address: SocketAddr = "127.0.0.1:53".parse().unwrap();
    for (name, key, expected) in [
        (
            "none",
            "secret",
            "the Secret none does not exist, or Gatehouse may not see it there",
        ),
        ("tsig", "none", "the Secret tsig has no key none"),
        (
            "tsig",
            "rubbish",
            "the Secret tsig, key rubbish: is not base64: put in the text that the DNS server's configuration shows as secret",
        ),
    ] {
        let mut spec = rfc2136(address);
        spec["dns01"]["rfc2136"]["tsigSecretSecretRef"] = json!({"name": name, "key": key});
        assert_eq!(solver_from(None, spec).await.err().unwrap().to_string(), expected);
    }
    let mut spec = rfc2136(address);
    spec["dns01"]["rfc2136"]["tsigSecretSecretRef"]["key"] = json!("newline");
    assert!(
        solver_from(None, spec).await.is_ok(),
        "white space around the text does no harm"
    );
}

#[tokio::test]
async fn a_name_in_no_zone_of_the_server_is_told() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    let error = solver.present(&challenge("www.b.test", "v")).await.unwrap_err();
    assert_eq!(error.reason(), "DnsZoneNotFound");
    assert_eq!(
        error.to_string(),
        format!(
            "no DNS zone found for _acme-challenge.www.b.test: neither {} nor the system's resolver knows one; check the \
             name, its delegation, and the solver's selector",
            knot.address
        )
    );
}

#[tokio::test]
async fn a_zone_that_another_server_is_primary_for_is_told() {
    let (ours, public) = (
        Knot::start(&[("a.test", "")]).await,
        Knot::start(&[("b.test", "")]).await,
    );
    let solver = solver_from(Some(public.address), rfc2136(ours.address)).await.unwrap();
    let error = solver.present(&challenge("www.b.test", "v")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no DNS zone found for _acme-challenge.www.b.test: {} is not the primary server of the zone b.test",
            ours.address
        )
    );
}

#[tokio::test]
async fn the_deepest_zone_gets_the_record() {
    let knot = Knot::start(&[("a.test", "sub NS ns.a.test."), ("sub.a.test", "")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    let one = challenge("x.y.sub.a.test", "v");
    solver.present(&one).await.unwrap();
    assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
    assert_eq!(knot.txt("_acme-challenge.x.y.sub.a.test").await, ["v"]);
}

#[tokio::test]
async fn a_delegated_name_is_followed_when_the_issuer_says_so() {
    let public = Knot::start(&[("a.test", "_acme-challenge.www CNAME hop\nhop CNAME www.acme.b.test.")]).await;
    let ours = Knot::start(&[("b.test", "")]).await;
    let one = challenge("www.a.test", "v");

    let mut follow = rfc2136(ours.address);
    follow["dns01"]["cnameStrategy"] = json!("Follow");
    let solver = solver_from(Some(public.address), follow).await.unwrap();
    solver.present(&one).await.unwrap();
    assert_eq!(ours.txt("www.acme.b.test").await, ["v"]);
    assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
    solver.clean_up(&one).await.unwrap();
    assert_eq!(ours.txt("www.acme.b.test").await, [] as [&str; 0]);
}

/// With both kinds of record, as people have them: a wildcard for the applications, and explicit delegations.
const APPS: &str = "*.apps CNAME lb.b.test.\n_acme-challenge.explicit.apps CNAME explicit.acme.b.test.\n\
                    _acme-challenge.chain CNAME hop.many\n*.many CNAME x.b.test.\n\
                    _acme-challenge.same CNAME lb.b.test.";

#[tokio::test]
async fn without_follow_the_record_is_written_at_the_name_itself_whatever_it_points_to() {
    let knot = Knot::start(&[("b.test", ""), ("a.test", APPS)]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    for name in ["www.apps.a.test", "deep.er.apps.a.test"] {
        let one = challenge(name, "v");
        solver.present(&one).await.unwrap();
        assert_eq!(knot.txt(&format!("_acme-challenge.{name}")).await, ["v"]);
        assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
        solver.clean_up(&one).await.unwrap();
    }
    assert_eq!(knot.txt("lb.b.test").await, [] as [&str; 0]);

    // A CNAME for this very name wins over the record (RFC 2136, section 3.4.2.2): said when it stays.
    let one = challenge("explicit.apps.a.test", "v");
    solver.present(&one).await.unwrap();
    let waiting = check(&*solver, &one, 0).await;
    assert!(
        matches!(&waiting, Ok(Readiness::Wait { message, .. }) if message.contains("has a CNAME to explicit.acme.b.test")),
        "{waiting:?}"
    );
    let error = check(&*solver, &one, 120).await.unwrap_err();
    assert_eq!(error.reason(), "DnsDelegated");
    assert_eq!(
        error.to_string(),
        "_acme-challenge.explicit.apps.a.test is a CNAME to explicit.acme.b.test, so that a record at the name itself is \
         not seen: set cnameStrategy: Follow, or remove the CNAME"
    );
}

#[tokio::test]
async fn follow_goes_after_what_was_written_for_the_name_and_never_after_a_wildcard() {
    let knot = Knot::start(&[("b.test", ""), ("a.test", APPS)]).await;
    let mut follow = rfc2136(knot.address);
    follow["dns01"]["cnameStrategy"] = json!("Follow");
    for (name, written_at) in [
        // The wildcard's answer.
        ("www.apps.a.test", "_acme-challenge.www.apps.a.test"),
        ("deep.er.apps.a.test", "_acme-challenge.deep.er.apps.a.test"),
        // Explicit, below the same wildcard: RFC 4592, section 2.2.1.
        ("explicit.apps.a.test", "explicit.acme.b.test"),
        // Explicit, to where a wildcard answers: followed once.
        ("chain.a.test", "hop.many.a.test"),
        // Explicit, to the wildcard's target, but beside no wildcard.
        ("same.a.test", "lb.b.test"),
    ] {
        let solver = solver_from(None, follow.clone()).await.unwrap();
        let one = challenge(name, "v");
        solver.present(&one).await.unwrap();
        assert_eq!(knot.txt(written_at).await, ["v"], "{name}");
        assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready), "{name}");
        // Also by a solver that remembers nothing.
        let solver = solver_from(None, follow.clone()).await.unwrap();
        solver.clean_up(&one).await.unwrap();
        assert_eq!(knot.txt(written_at).await, [] as [&str; 0], "{name}");
    }
    assert_eq!(knot.txt("x.b.test").await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_name_below_a_dname_is_followed_to_where_it_can_be_written() {
    let knot = Knot::start(&[("b.test", ""), ("a.test", "old DNAME new.b.test.")]).await;
    let mut follow = rfc2136(knot.address);
    follow["dns01"]["cnameStrategy"] = json!("Follow");
    let solver = solver_from(None, follow).await.unwrap();
    let one = challenge("www.old.a.test", "v");
    solver.present(&one).await.unwrap();
    assert_eq!(knot.txt("_acme-challenge.www.new.b.test").await, ["v"]);
    assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
}

#[tokio::test]
async fn a_server_that_does_not_serve_the_zone_counts_like_a_silent_one_and_is_named() {
    let (ours, lame) = (
        Knot::start(&[("a.test", "")]).await,
        Knot::start(&[("other.test", "")]).await,
    );
    let mut spec = rfc2136(ours.address);
    spec["dns01"]["propagation"] =
        json!({"nameservers": [lame.address.to_string(), ours.address.to_string()], "timeout": "10s"});
    let solver = solver_from(None, spec.clone()).await.unwrap();
    let one = challenge("www.a.test", "v");
    let waiting = check(&*solver, &one, 0).await;
    let expected = format!(
        "waiting for TXT _acme-challenge.www.a.test: {} does not have it; {} does not serve the zone a.test (REFUSED)",
        ours.address, lame.address
    );
    assert!(
        matches!(&waiting, Ok(Readiness::Wait { message, .. }) if *message == expected),
        "{waiting:?}"
    );
    solver.present(&one).await.unwrap();
    assert_eq!(
        check(&*solver, &one, 0).await,
        Ok(Readiness::Ready),
        "one lame server of two"
    );

    // No server serves it: no proof that the record can be seen.
    let (zone, record) = (
        Name::from_ascii("a.test.").unwrap(),
        Name::from_ascii("_acme-challenge.a.test.").unwrap(),
    );
    let authorities = [super::super::zone::Authority {
        name: "lame".into(),
        addresses: vec![lame.address],
    }];
    let deadline = super::super::propagation::Deadline {
        presented_at: at(0),
        now: at(10),
        timeout: jiff::SignedDuration::from_secs(10),
    };
    let record = super::super::Record { name: record, zone };
    let error = super::super::propagation::check(&authorities, false, &record, "v", deadline)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "TXT _acme-challenge.a.test was not seen within 10s: lame does not serve the zone a.test (REFUSED)"
    );
}

#[tokio::test]
async fn a_cname_that_is_made_after_a_failure_is_followed_by_the_next_attempt() {
    let knot = Knot::start(&[("b.test", ""), ("a.test", "")]).await;
    let mut follow = rfc2136(knot.address);
    follow["dns01"]["cnameStrategy"] = json!("Follow");
    let solver = solver_from(None, follow).await.unwrap();
    let one = challenge("www.a.test", "v");
    solver.present(&one).await.unwrap();
    solver.clean_up(&one).await.unwrap();
    knot.set("a.test", "_acme-challenge.www CNAME www.acme.b.test.");
    // Where the record was written before, it is not any more, and cannot be.
    solver.present(&one).await.unwrap();
    let error = check(&*solver, &one, 3600).await.unwrap_err();
    assert_eq!(error.reason(), "DnsDelegated");
    solver.present(&one).await.unwrap();
    assert_eq!(knot.txt("www.acme.b.test").await, ["v"]);
    assert_eq!(check(&*solver, &one, 0).await, Ok(Readiness::Ready));
}

#[tokio::test]
async fn cnames_in_a_circle_end() {
    let knot = Knot::start(&[(
        "a.test",
        "_acme-challenge.www CNAME x\nx CNAME y\ny CNAME x\n_acme-challenge.self CNAME _acme-challenge.self",
    )])
    .await;
    let mut spec = rfc2136(knot.address);
    spec["dns01"]["cnameStrategy"] = json!("Follow");
    let solver = solver_from(None, spec).await.unwrap();
    for name in ["www.a.test", "self.a.test"] {
        let error = solver.present(&challenge(name, "v")).await.unwrap_err();
        assert_eq!(error.reason(), "CnameLoop", "{name}");
    }
}

#[tokio::test]
async fn given_name_servers_are_asked_for_the_zone_and_the_record() {
    let (ours, secondary) = (
        Knot::start(&[("a.test", "")]).await,
        Knot::start(&[("a.test", "")]).await,
    );
    let mut spec = rfc2136(ours.address);
    spec["dns01"]["propagation"] =
        json!({"nameservers": [ours.address.to_string(), secondary.address.to_string()], "timeout": "10s"});
    let solver = solver_from(None, spec).await.unwrap();
    let one = challenge("www.a.test", "v");
    solver.present(&one).await.unwrap();
    assert!(
        matches!(check(&*solver, &one, 9).await, Ok(Readiness::Wait { after, .. }) if after == Duration::from_millis(2250))
    );
    let error = check(&*solver, &one, 10).await.unwrap_err();
    assert_eq!(error.reason(), "PropagationTimeout");
    assert_eq!(
        error.to_string(),
        format!(
            "TXT _acme-challenge.www.a.test was not seen within 10s: {} does not have it",
            secondary.address
        )
    );
    drop(secondary);
    assert_eq!(
        check(&*solver, &one, 10).await,
        Ok(Readiness::Ready),
        "a server that is down does not count"
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_told_at_once_and_waited_for_until_the_timeout() {
    let knot = Knot::start(&[("a.test", "")]).await;
    let address = knot.address;
    let solver = solver_from(None, rfc2136(address)).await.unwrap();
    let one = challenge("a.test", "v");
    solver.present(&one).await.unwrap();
    drop(knot);
    let unreachable = |error: SolverError| (error.reason(), error.to_string());
    let started = std::time::Instant::now();
    assert_eq!(
        unreachable(solver.present(&one).await.unwrap_err()),
        (
            "DnsUnreachable",
            format!("{address} cannot be reached: connection refused (DNS update to {address})")
        )
    );
    assert_eq!(
        unreachable(solver.present(&challenge("b.a.test", "v")).await.unwrap_err()),
        (
            "DnsUnreachable",
            format!("{address} cannot be reached: connection refused (DNS query to {address})")
        )
    );
    assert!(started.elapsed() < Duration::from_secs(1));
    // A failure on the way is no reason to give up before the time is over.
    assert!(
        matches!(check(&*solver, &one, 119).await, Ok(Readiness::Wait { message, .. }) if message.contains("refused"))
    );
    assert_eq!(check(&*solver, &one, 120).await.unwrap_err().reason(), "DnsUnreachable");
}

#[tokio::test]
async fn loopback_needs_consent_and_names_outside_the_zones_are_refused() {
    let mut spec = rfc2136("127.0.0.1:53".parse().unwrap());
    let door = Http01Router::new(
        ResponderService {
            namespace: "n".into(),
            responder: "10.0.0.1:1".parse().unwrap(),
        },
        Arc::default(),
        IngressPolicy::default(),
        Duration::ZERO,
    );
    let strict = SolverFactory::new(Reach::default(), SystemServers::default(), Arc::new(door));
    let solver = strict
        .build(
            &Author::Administrator,
            &serde_json::from_value(spec.clone()).unwrap(),
            &secrets(),
        )
        .await
        .unwrap();
    assert_eq!(
        solver.present(&challenge("a.test", "v")).await.unwrap_err().reason(),
        "AddressRefused"
    );

    spec["selector"] = json!({"dnsZones": ["a.test"]});
    let solver = solver_from(None, spec).await.unwrap();
    let error = solver.present(&challenge("nota.test", "v")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "nota.test is outside the dnsZones of the solver (a.test)"
    );
    let address = Challenge {
        identifier: Identifier::Ip("192.0.2.1".parse().unwrap()),
        ..challenge("a.test", "v")
    };
    assert_eq!(solver.present(&address).await.unwrap_err().reason(), "InvalidSolver");
}
