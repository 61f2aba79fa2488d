//! Free ports of 127.0.0.1.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below Linux's range for outgoing connections (32768 and up), so that no connection takes a port between our look and
/// the component's bind.
const RANGE: std::ops::Range<u16> = 18_000..32_000;

static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that is free for TCP and UDP now and is given only once by this process. Test binaries that run beside each
/// other start their search at different places.
pub fn free() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let width = u32::from(RANGE.end - RANGE.start);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.subsec_nanos());
    let start = nanos ^ std::process::id().wrapping_mul(2_654_435_761);
    (0..width)
        .map(|step| RANGE.start + u16::try_from((start.wrapping_add(step)) % width).expect("within the range"))
        .find(|port| {
            !taken.contains(port)
                && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        })
        .inspect(|port| {
            taken.insert(*port);
        })
        .expect("a free port of 127.0.0.1")
}
