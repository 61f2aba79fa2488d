//! `gatehouse crds`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints every CRD as one YAML stream.
pub(super) fn print() -> ExitCode {
    let mut text = String::new();
    for crd in gatehouse_crds::all() {
        match gatehouse_crds::yaml(&crd) {
            Ok(yaml) => text.extend(["---\n", &yaml]),
            Err(error) => {
                eprintln!("gatehouse crds: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    // A reader that went away (`| head`) has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
