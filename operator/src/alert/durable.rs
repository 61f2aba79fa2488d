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
/// Of what is written.
const VERSION: u32 = 1;

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

/// Packs `state`. Where that is too large, deliveries that wait are given up: those that are not critical first.
pub(super) fn pack(state: &mut State) -> Vec<u8> {
    for least in [Severity::Info, Severity::Warning, Severity::Critical] {
        let packed = bytes(state);
        if packed.len() <= LIMIT {
            return packed;
        }
        let dropped: usize = state.queues.values_mut().map(|queue| queue.shed(least)).sum();
        tracing::warn!(dropped, "so much fires that not all deliveries can be kept");
    }
    bytes(state)
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
            tracing::error!(%error, "a state could not be packed");
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
        Ok(state)
    } else {
        Err(format!(
            "it has version {}, which this Gatehouse does not know",
            reading.version
        ))
    }
}
