//! Behaviour over time, with the clock paused and a Lease store that fails on demand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod schedule;
mod test_lease;

use std::time::Duration;

use test_lease::{Fault, TestLease};
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_first_candidate_leads_at_once_and_goes_on_leading() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    timeout(SECOND, a.leadership.wait_until_leader())
        .await
        .expect("elected");
    for _ in 0..120 {
        sleep(SECOND).await;
        assert_eq!(a.leadership.check(), Ok(()));
    }
    // One look, one creation, one renewal each five seconds: nothing more.
    assert!(
        (25..=26).contains(&test_lease.requests()),
        "{} requests in 120 s",
        test_lease.requests()
    );
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_fifteen_to_sixteen_seconds_after_its_renewal() {
    for killed_after in [5_001, 5_999, 6_500, 7_300, 9_990] {
        let test_lease = TestLease::new();
        let a = test_lease.start("a");
        a.leadership.wait_until_leader().await;
        let b = test_lease.start("b");
        sleep(Duration::from_millis(killed_after)).await;
        assert!(!b.leadership.is_leader());
        a.kill();
        let (renewed, killed) = (test_lease.last_change(), Instant::now());
        timeout(60 * SECOND, b.leadership.wait_until_leader())
            .await
            .expect("elected");
        assert!(
            renewed.elapsed() >= LEASE_DURATION,
            "{:?} after the last renewal",
            renewed.elapsed()
        );
        assert!(
            killed.elapsed() <= LEASE_DURATION + SECOND,
            "{:?} after the kill",
            killed.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_tries_at_the_very_moment_at_which_the_lease_expires() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    a.kill();
    sleep(Duration::from_millis(300)).await;
    let b = test_lease.start("b");
    let seen = Instant::now();
    b.leadership.wait_until_leader().await;
    assert!(
        seen.elapsed() >= LEASE_DURATION && seen.elapsed() < LEASE_DURATION + Duration::from_millis(10),
        "{:?}",
        seen.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_api_fails_the_guard_by_its_deadline() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    for fault in [Fault::Refuses, Fault::Hangs] {
        let test_lease = TestLease::new();
        let a = test_lease.start("a");
        a.leadership.wait_until_leader().await;
        sleep(Duration::from_millis(5_500)).await;
        a.fault(fault);
        let renewed = test_lease.last_change();
        timeout(60 * SECOND, a.leadership.lost()).await.expect("lost");
        assert_eq!(renewed.elapsed().as_secs(), RENEW_DEADLINE.as_secs(), "{fault:?}");
        assert_eq!(a.leadership.check(), Err(NotLeader));
        a.fault(Fault::None);
        sleep(60 * SECOND).await;
        assert_eq!(a.leadership.check(), Err(NotLeader), "{fault:?}: lost stays lost");
        assert!(a.ended());
    }
    assert_eq!(a.leadership.check(), Ok(()), "another world is not concerned");
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_survived() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    sleep(Duration::from_millis(5_500)).await;
    a.fault(Fault::Refuses);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(a.leadership.check(), Ok(()));
    a.fault(Fault::None);
    sleep(30 * SECOND).await;
    assert_eq!(a.leadership.check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_guard_fails_in_time_although_the_renewing_task_hangs() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    sleep(Duration::from_secs(6)).await;
    let renewed = test_lease.last_change();
    a.freeze(60 * SECOND);
    timeout(60 * SECOND, a.leadership.lost())
        .await
        .expect("lost() needs no help of the task");
    assert_eq!(renewed.elapsed().as_secs(), RENEW_DEADLINE.as_secs());
    assert!(!a.leadership.is_leader());
    assert_eq!(a.leadership.time_left(), Some(Duration::ZERO));
    sleep(60 * SECOND).await;
    assert!(!a.leadership.is_leader(), "it woke up too late to lead again");
}

#[tokio::test(start_paused = true)]
async fn the_guard_passes_to_the_last_moment_and_not_a_moment_longer() {
    let leadership = Leadership::candidate();
    assert_eq!(leadership.check(), Err(NotLeader));
    assert!(leadership.extend(Instant::now() + RENEW_DEADLINE));
    assert_eq!(leadership.time_left(), Some(LEASE_DURATION));
    advance(RENEW_DEADLINE.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(leadership.check(), Ok(()));
    advance(Duration::from_millis(1)).await;
    assert_eq!(leadership.check(), Err(NotLeader));
    assert!(
        !leadership.extend(Instant::now() + RENEW_DEADLINE),
        "a late renewal does not count"
    );
    assert_eq!(leadership.check(), Err(NotLeader));
}

#[tokio::test(start_paused = true)]
async fn on_shutdown_the_lease_is_given_back_and_the_successor_takes_it_at_once() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    let b = test_lease.start("b");
    sleep(12 * SECOND).await;
    a.stop();
    timeout(Duration::from_millis(1_050), b.leadership.wait_until_leader())
        .await
        .expect("elected");
    assert_eq!(a.leadership.check(), Err(NotLeader));
    assert_eq!(test_lease.holder(), b.identity);
    assert_eq!(test_lease.lease().spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_is_stopped_leaves_the_lease_alone() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    let b = test_lease.start("b");
    sleep(3 * SECOND).await;
    b.stop();
    sleep(30 * SECOND).await;
    assert_eq!(a.leadership.check(), Ok(()));
    assert_eq!(test_lease.holder(), a.identity);
    assert!(b.ended());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_recognised_as_ours() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    sleep(4 * SECOND).await;
    a.fault(Fault::LosesAnswer);
    sleep(Duration::from_millis(3_500)).await;
    a.fault(Fault::None);
    sleep(30 * SECOND).await;
    assert_eq!(a.leadership.check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_take_over_whose_answer_was_lost_is_recognised_as_ours() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.fault(Fault::LosesAnswer);
    sleep(10 * SECOND).await;
    assert!(!a.leadership.is_leader(), "it cannot know");
    a.fault(Fault::None);
    timeout(5 * SECOND, a.leadership.wait_until_leader())
        .await
        .expect("elected");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_label_on_the_lease_is_kept_and_costs_nobody_the_leadership() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    sleep(SECOND).await;
    test_lease.label("team", "platform");
    sleep(60 * SECOND).await;
    assert_eq!(a.leadership.check(), Ok(()));
    assert_eq!(test_lease.lease().metadata.labels.unwrap()["team"], "platform");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_holder_is_lost_at_once() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    sleep(SECOND).await;
    test_lease.usurp("usurper");
    timeout(Duration::from_millis(4_100), a.leadership.lost())
        .await
        .expect("lost at the next renewal");
    assert_eq!(test_lease.holder(), "usurper");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again_by_the_leader_and_not_taken_by_a_standby() {
    let test_lease = TestLease::new();
    let a = test_lease.start("a");
    a.leadership.wait_until_leader().await;
    let b = test_lease.start("b");
    sleep(6 * SECOND).await;
    test_lease.delete();
    sleep(30 * SECOND).await;
    assert_eq!(a.leadership.check(), Ok(()));
    assert_eq!(b.leadership.check(), Err(NotLeader));
    assert_eq!(test_lease.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn of_candidates_that_start_together_exactly_one_leads() {
    let test_lease = TestLease::new();
    let all: Vec<_> = (0..8).map(|number| test_lease.start(&format!("c{number}"))).collect();
    sleep(5 * SECOND).await;
    assert_eq!(
        all.iter().filter(|candidate| candidate.leadership.is_leader()).count(),
        1
    );
    assert_eq!(test_lease.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn without_election_the_guard_always_passes_and_is_never_lost() {
    let leadership = Leadership::always();
    leadership.wait_until_leader().await;
    assert_eq!(leadership.check(), Ok(()));
    assert_eq!(leadership.time_left(), None);
    assert!(timeout(1_000 * SECOND, leadership.lost()).await.is_err());
}

#[test]
fn an_identity_is_new_for_each_process() {
    let (first, second) = (Identity::unique("pod-0"), Identity::unique("pod-0"));
    assert!(first.as_str().starts_with("pod-0_"));
    assert_ne!(first, second);
}
