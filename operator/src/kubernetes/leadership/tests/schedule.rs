//! Random schedules of failures: two candidates never both pass the guard.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::test_lease::{Candidate, Fault, TestLease};

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Wire(Fault),
    Freeze,
    Kill,
    Stop,
    Delete,
}

/// Trouble for one of three candidates, from a moment, for a while.
#[derive(Debug, Clone)]
struct Strike {
    at: Duration,
    target: usize,
    trouble: Trouble,
    lasts: Duration,
}

fn strikes() -> impl Strategy<Value = Vec<Strike>> {
    let trouble = prop_oneof![
        3 => Just(Trouble::Wire(Fault::Refuses)),
        3 => Just(Trouble::Wire(Fault::Hangs)),
        3 => Just(Trouble::Wire(Fault::LosesAnswer)),
        3 => (1_u64..12_000).prop_map(|ms| Trouble::Wire(Fault::Slow(Duration::from_millis(ms)))),
        3 => Just(Trouble::Freeze),
        1 => Just(Trouble::Kill),
        1 => Just(Trouble::Stop),
    ];
    let strike = (0_u64..90_000, 0_usize..3, trouble, 10_u64..25_000).prop_map(|(at, target, trouble, lasts)| Strike {
        at: Duration::from_millis(at),
        target,
        trouble,
        lasts: Duration::from_millis(lasts),
    });
    prop::collection::vec(strike, 0..14).prop_map(|mut strikes| {
        strikes.sort_by_key(|strike| strike.at);
        strikes
    })
}

/// Plays a schedule for two minutes, then leaves all candidates undisturbed for another.
async fn play(strikes: &[Strike]) -> Result<(), TestCaseError> {
    const STEP: Duration = Duration::from_millis(50);
    const NAMES: [&str; 3] = ["a", "bb", "ccc"];
    let test_lease = TestLease::new();
    let start = Instant::now();
    let mut candidates: Vec<Candidate> = NAMES.map(|name| test_lease.start(name)).into_iter().collect();
    let mut pending = strikes.iter().peekable();
    let mut heal: Vec<(Instant, usize)> = Vec::new();
    while start.elapsed() < Duration::from_mins(3) {
        while let Some(strike) = pending.next_if(|strike| strike.at <= start.elapsed()) {
            let target = &candidates[strike.target];
            match strike.trouble {
                Trouble::Wire(fault) => {
                    target.fault(fault);
                    heal.push((Instant::now() + strike.lasts, strike.target));
                }
                Trouble::Freeze => target.freeze(strike.lasts),
                Trouble::Kill => target.kill(),
                Trouble::Stop => target.stop(),
                Trouble::Delete => test_lease.delete(),
            }
        }
        heal.retain(|(when, target)| {
            let due = *when <= Instant::now();
            if due {
                candidates[*target].fault(Fault::None);
            }
            !due
        });
        sleep(STEP).await;
        test_lease.check_exclusion(&format!("{:?}", start.elapsed()));
        // A process that ended is started again, as a Deployment would.
        for (number, candidate) in candidates.iter_mut().enumerate() {
            if candidate.ended() {
                *candidate = test_lease.start(NAMES[number]);
            }
        }
    }
    prop_assert_eq!(test_lease.violations(), Vec::<String>::new());
    let leading = candidates
        .iter()
        .filter(|candidate| candidate.leadership.is_leader())
        .count();
    prop_assert_eq!(leading, 1, "left in peace, exactly one leads");
    Ok(())
}

fn run(strikes: &[Strike]) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(play(strikes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_candidates_never_both_pass_the_guard_and_one_leads_in_the_end(strikes in strikes()) {
        run(&strikes)?;
    }
}

#[test]
fn a_lease_deleted_under_a_leader_that_is_cut_off_is_not_taken_before_its_time() {
    let cut = |target| Strike {
        at: Duration::from_secs(7),
        target,
        trouble: Trouble::Wire(Fault::Hangs),
        lasts: Duration::from_secs(30),
    };
    let delete = Strike {
        at: Duration::from_secs(8),
        target: 0,
        trouble: Trouble::Delete,
        lasts: Duration::ZERO,
    };
    for leader in 0..3 {
        run(&[cut(leader), delete.clone()]).unwrap();
    }
}
