//! The state of a policy as bytes: JSON, deflated, since the names in it resemble each other.

use std::io::{Read, Write};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use gatehouse_crds::alert::Severity;
use serde::{Deserialize, Serialize};

use super::state::State;

/// A ConfigMap takes 1 MiB in all.
const LIMIT: usize = 1_000_000;
/// The most that is read back: a state that was packed is far smaller.
const UNPACKED: u64 = 256 * 1024 * 1024;
/// Version of the format.
const VERSION: u32 = 2;

#[derive(Serialize)]
struct Writing<'a> {
    version: u32,
    state: &'a State,
}

#[derive(Deserialize)]
struct Reading {
    version: u32,
    state: State,
}

/// Packs `state`. Where that is too large, deliveries that wait are given up: those that are not critical first. Gives how
/// many, by receiver.
pub(super) fn pack(state: &mut State) -> (Vec<u8>, Vec<(String, usize)>) {
    let mut shed = Vec::new();
    for least in [Severity::Info, Severity::Warning, Severity::Critical] {
        let packed = bytes(state);
        if packed.len() <= LIMIT {
            return (packed, shed);
        }
        for destination in &mut state.destinations {
            let count = destination.queue.shed(least);
            if count > 0 {
                let receiver = destination.receiver.name.clone();
                tracing::warn!(
                    receiver,
                    count,
                    "deliveries given up: the state of the policy is too large"
                );
                shed.push((receiver, count));
            }
        }
    }
    (bytes(state), shed)
}

fn bytes(state: &State) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let writing = Writing {
        version: VERSION,
        state,
    };
    let written = serde_json::to_writer(&mut encoder, &writing).map_err(std::io::Error::other);
    // Neither can fail: there is memory, and the keys of all maps are strings.
    match written.and_then(|()| encoder.flush()).and_then(|()| encoder.finish()) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "state of an alert policy cannot be encoded");
            Vec::new()
        }
    }
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8]) -> Result<State, String> {
    let mut text = Vec::new();
    let mut decoder = DeflateDecoder::new(bytes).take(UNPACKED);
    decoder.read_to_end(&mut text).map_err(|error| error.to_string())?;
    let reading: Reading = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if reading.version == VERSION {
        let mut state = reading.state;
        // When it is to repeat was not written: look at once.
        state.repeat_at = Some(jiff::Timestamp::UNIX_EPOCH);
        // It waited for others of its outage.
        let untold = state.firing.iter().filter(|(_, firing)| firing.last_sent.is_none());
        state.news.begun = untold.map(|(key, _)| key.clone()).collect();
        Ok(state)
    } else {
        Err(format!(
            "it has version {}, which this Gatehouse does not know",
            reading.version
        ))
    }
}
