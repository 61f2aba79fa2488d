use std::time::Instant;

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

/// Prints what one challenge costs: `cargo test --release … -- --ignored --nocapture speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_one_challenge_costs() {
    const COUNT: u32 = 500;
    let knot = Knot::start(&[("a.test", "")]).await;
    let solver = solver_from(None, rfc2136(knot.address)).await.unwrap();
    let (started, used) = (Instant::now(), cpu());
    for n in 0..COUNT {
        let one = challenge(&format!("n{n}.a.test"), "v");
        solver.present(&one).await.unwrap();
        let ready = solver.check(&one, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).await;
        assert_eq!(ready, Ok(Readiness::Ready));
        solver.clean_up(&one).await.unwrap();
    }
    println!("one after another: {:?} and {:?} CPU each", started.elapsed() / COUNT, (cpu() - used) / COUNT);
}
