//! Keeps the tables of `docs/reference/` that follow from code in step with it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

/// Fails when the text between the markers of `part` in a page differs from `wanted`; with `UPDATE_DOCS=1` in the
/// environment it is written instead.
pub(crate) fn check(page: &str, part: &str, wanted: &str) {
    // Asked for at run time: a cache of builds outlives the checkout that filled it.
    let path = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../docs/reference")
        .join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- generated: {part} -->\n"),
        format!("<!-- end of {part} -->"),
    );
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
    let (found, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
    if found != wanted && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{begin}{wanted}{end}{tail}")).unwrap();
    } else {
        assert_eq!(
            found, wanted,
            "docs/reference/{page} is stale; run UPDATE_DOCS=1 cargo test -p gatehouse --lib reference"
        );
    }
}
