#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use super::*;

fn record(order: &str, value: &str) -> Record {
    Record {
        order: format!("https://ca.example/order/{order}"),
        issuer_kind: IssuerKind::Issuer,
        issuer_namespace: "shop".into(),
        issuer: "acme".into(),
        solver: 0,
        name: "www.example.com".into(),
        value: value.into(),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn due(records: &Records, orders: &[&str]) -> Vec<String> {
    let orders: HashSet<String> = orders
        .iter()
        .map(|order| format!("https://ca.example/order/{order}"))
        .collect();
    let mut values: Vec<String> = records.due(&orders).into_iter().map(|record| record.value).collect();
    values.sort();
    values
}

#[tokio::test]
async fn records_of_earlier_processes_are_removed_unless_an_order_needs_them() {
    let records = Records::default();
    records.inherit(vec![
        record("gone", "a"),
        record("resumed", "b"),
        record("gone", "shared"),
    ]);
    // Another order has the same authorization.
    records.remember(record("new", "shared")).await;
    assert_eq!(due(&records, &["resumed", "new"]), ["a"]);
    assert_eq!(due(&records, &[]), ["a", "b"]);
    // The resumed order writes its record again, and removes it itself.
    records.remember(record("resumed", "b")).await;
    assert_eq!(due(&records, &[]), ["a"]);
}

#[tokio::test]
async fn a_record_whose_removal_failed_is_removed_later_and_one_removed_is_forgotten() {
    let records = Records::default();
    for value in ["a", "b"] {
        records.remember(record("one", value)).await;
    }
    assert!(
        due(&records, &[]).is_empty(),
        "an order of this process removes its own"
    );
    let first = record("one", "a");
    records.forget(&first.order, &first.name, &first.value);
    records.leave(&first.order);
    assert_eq!(due(&records, &[]), ["b"]);
    assert_eq!(records.lock().all().len(), 1);
}

#[tokio::test]
async fn the_list_of_records_has_a_bound() {
    let of_cluster = |order: &str, value: usize| Record {
        issuer_kind: IssuerKind::ClusterIssuer,
        issuer_namespace: String::new(),
        ..record(order, &value.to_string())
    };
    let longest = |order: &str, value: usize| Record {
        issuer: "i".repeat(253),
        name: "n".repeat(253),
        value: format!("{value:043}"),
        order: format!("https://ca.example/order/{order}/{}", "o\"".repeat(900)),
        ..of_cluster(order, value)
    };
    let usual = Records::default();
    let long = Records::default();
    for number in 0..MAX_RECORDS + 10 {
        usual.remember(of_cluster("many", number)).await;
        long.remember(longest("many", number)).await;
    }
    assert_eq!(usual.lock().all().len(), MAX_RECORDS);
    for records in [usual, long] {
        let all = records.lock().all();
        assert!(serde_json::to_string(&all).unwrap().len() <= MAX_BYTES);
        assert!(all.len() > MAX_RECORDS / 2, "{}", all.len());
    }
}

#[tokio::test]
async fn one_namespace_leaves_room_in_the_list_for_the_records_of_others() {
    let records = Records::default();
    for number in 0..MAX_RECORDS {
        records.remember(record("many", &number.to_string())).await;
    }
    assert_eq!(records.lock().all().len(), MAX_RECORDS_PER_NAMESPACE);
    let other = Record {
        issuer_namespace: "blog".into(),
        ..record("one", "theirs")
    };
    records.remember(other.clone()).await;
    assert!(records.lock().all().contains(&other));
}

#[tokio::test]
async fn an_order_with_a_long_url_keeps_forgets_and_leaves_its_records() {
    let records = Records::default();
    let long = format!("one/{}", "o".repeat(1_500));
    for value in ["a", "b"] {
        records.remember(record(&long, value)).await;
    }
    let url = record(&long, "a").order;
    records.forget(&url, "www.example.com", "a");
    records.leave(&url);
    assert!(
        due(&records, &[&long]).is_empty(),
        "an order that is in flight needs it"
    );
    assert_eq!(due(&records, &[]), ["b"]);
    // As a later process reads it.
    let later = Records::default();
    later.inherit(records.lock().all());
    assert!(due(&later, &[&long]).is_empty());
    assert_eq!(due(&later, &[]), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_its_record_to_be_kept_and_not_for_ever() {
    let records = Records::default();
    records.kept.send_replace(Some(0));
    let began = tokio::time::Instant::now();
    records.remember(record("one", "a")).await;
    assert_eq!(began.elapsed(), WRITE_TIMEOUT);
    records.kept.send_replace(Some(2));
    records.remember(record("one", "b")).await;
    assert_eq!(began.elapsed(), WRITE_TIMEOUT);
}

#[test]
fn one_damaged_entry_does_not_hide_the_others() {
    let kept = record("one", "a");
    let text = format!("[{}, {{\"order\": 1}}, null]", serde_json::to_string(&kept).unwrap());
    assert_eq!(store::read(&text), [kept]);
    assert!(store::read("").is_empty());
}

#[test]
fn operators_for_other_namespaces_keep_lists_of_their_own() {
    let names = |watched: &[&str]| store::name(&watched.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(names(&[]), "gatehouse-challenge-records");
    assert_eq!(names(&["a", "b"]), names(&["b", "a", "a"]));
    assert_ne!(names(&["a", "b"]), names(&["a"]));
    assert!(names(&["a"]).len() <= 63);
}
