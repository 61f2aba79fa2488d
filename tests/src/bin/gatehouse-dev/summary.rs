//! Reads what `cargo test` prints and keeps what a reader needs: totals, and what failed and why.

/// Lines of one failed test's output that are repeated; the rest is in the log.
const LINES_OF_A_FAILURE: usize = 60;

/// Sum of the lines so far.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// `binary: test`, in the order in which they failed.
    pub(crate) failures: Vec<String>,
    binary: String,
    section: Section,
}

#[derive(Debug, Default, Eq, PartialEq)]
enum Section {
    #[default]
    Elsewhere,
    /// In the output of failed tests; so many lines of this one were repeated.
    Output(usize),
}

impl Summary {
    /// Takes a line; the answer is what to show of it.
    pub(crate) fn line(&mut self, line: &str) -> Option<String> {
        let trimmed = line.trim_start();
        if let Some(running) = trimmed.strip_prefix("Running ").filter(|_| line.starts_with("     ")) {
            self.begin(binary_name(running));
            return None;
        }
        if let Some(package) = trimmed.strip_prefix("Doc-tests ").filter(|_| line.starts_with("   ")) {
            self.begin(format!("{package} (documentation)"));
            return None;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.section = Section::Elsewhere;
            return self.result(counts);
        }
        if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            let name = format!("{}: {test}", self.binary);
            self.failures.push(name.clone());
            return Some(format!("  FAILED {name}"));
        }
        // `---- name stdout ----` begins a failed test's output, `failures:` ends the last one.
        if line.starts_with("---- ") && line.ends_with(" ----") {
            self.section = Section::Output(0);
            return Some(line.to_owned());
        }
        if line == "failures:" {
            self.section = Section::Elsewhere;
            return None;
        }
        if let Section::Output(lines) = &mut self.section {
            *lines += 1;
            return (*lines <= LINES_OF_A_FAILURE).then(|| line.to_owned());
        }
        // A test binary that died, or does not compile.
        (line.starts_with("error") || trimmed.starts_with("process didn't exit successfully")).then(|| line.to_owned())
    }

    fn begin(&mut self, binary: String) {
        self.binary = binary;
        self.section = Section::Elsewhere;
    }

    fn result(&mut self, counts: &str) -> Option<String> {
        let count = |what: &str| {
            let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            words
                .windows(2)
                .find(|pair| pair.last() == Some(&what))
                .and_then(|pair| pair.first()?.parse().ok())
        };
        let (passed, failed) = (count("passed").unwrap_or(0), count("failed").unwrap_or(0));
        let skipped = count("ignored").unwrap_or(0);
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        let time = counts.rsplit_once("finished in ").map_or("?", |(_, time)| time);
        (passed + failed + skipped > 0).then(|| {
            let failed = if failed > 0 {
                format!(", {failed} FAILED")
            } else {
                String::new()
            };
            format!("  {}: {passed} passed{failed} in {time}", self.binary)
        })
    }

    /// The closing line.
    pub(crate) fn totals(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// `gatehouse (src/lib.rs)` from `unittests src/lib.rs (target/debug/deps/gatehouse-0123456789abcdef)`.
fn binary_name(running: &str) -> String {
    let (source, file) = running.split_once(" (").unwrap_or((running, ""));
    let file = file.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
    let package = file.rsplit_once('-').map_or(file, |(name, _)| name);
    format!("{package} ({})", source.trim_start_matches("unittests "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Summary, Vec<String>) {
        let mut summary = Summary::default();
        let shown = text.lines().filter_map(|line| summary.line(line)).collect();
        (summary, shown)
    }

    #[test]
    fn results_add_up_and_failures_are_told_with_their_output() {
        let (summary, shown) = read(
            "   Compiling gatehouse v0.1.0
     Running unittests src/lib.rs (target/debug/deps/gatehouse-0123456789abcdef)

running 3 tests
test a::b ... ok
test a::c ... FAILED
test a::d ... ignored

failures:

---- a::c stdout ----
left is not right

failures:
    a::c

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s

     Running suites/harness.rs (target/debug/deps/harness-0123456789abcdef)
test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 13.56s
   Doc-tests gatehouse
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
",
        );
        assert_eq!(summary.totals(), "8 passed, 1 failed, 1 skipped");
        assert_eq!(summary.failures, ["gatehouse (src/lib.rs): a::c"]);
        assert_eq!(
            shown,
            [
                "  FAILED gatehouse (src/lib.rs): a::c",
                "---- a::c stdout ----",
                "left is not right",
                "",
                "  gatehouse (src/lib.rs): 1 passed, 1 FAILED in 0.03s",
                "  harness (suites/harness.rs): 7 passed in 13.56s",
            ]
        );
    }

    #[test]
    fn a_long_output_is_cut_and_a_crash_is_shown() {
        let output = "line\n".repeat(LINES_OF_A_FAILURE + 5);
        let (_, shown) = read(&format!(
            "---- x stdout ----\n{output}failures:\n    x\nerror: test failed\n"
        ));
        assert_eq!(shown.len(), LINES_OF_A_FAILURE + 2);
        assert_eq!(shown.last().map(String::as_str), Some("error: test failed"));
    }
}
