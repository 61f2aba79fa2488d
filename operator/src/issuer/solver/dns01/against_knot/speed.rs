use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;

use super::*;
use crate::issuer::solver::Readiness;

/// CPU time of this process, in clock ticks of a hundredth of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The whole life of one challenge.
async fn solve(solver: Arc<dyn Solver>, name: String) {
    let one = challenge(&name, "v");
    solver.present(&one).await.unwrap();
    let ready = solver.check(&one, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).await;
    assert_eq!(ready, Ok(Readiness::Ready));
    solver.clean_up(&one).await.unwrap();
}

/// Prints what one challenge costs: run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_one_challenge_costs() {
    const COUNT: u32 = 320;
    let knot = Knot::start(&[("a.test", "")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    for parallel in [1, 8, 32] {
        let (started, used) = (Instant::now(), cpu());
        futures::stream::iter(0..COUNT)
            .for_each_concurrent(parallel, |n| solve(solver.clone(), format!("n{n}.p{parallel}.a.test")))
            .await;
        let (elapsed, used) = (started.elapsed(), cpu().saturating_sub(used));
        println!(
            "{parallel} at once: {:?} each, {:.0} a minute, {:?} CPU each",
            elapsed / COUNT,
            f64::from(COUNT) * 60.0 / elapsed.as_secs_f64(),
            used / COUNT
        );
    }
}
