//! `gatehouse completions` and `gatehouse man`: made from the commands themselves.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{FINE, UNHEALTHY, terminal};

/// Prints a completion script (source <(gatehouse completions bash))
#[derive(Debug, Args)]
pub(super) struct CompletionFlags {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the manual page, or writes the pages of all commands into a folder.
#[derive(Debug, Args)]
pub(super) struct ManFlags {
    /// Folder for gatehouse.1, gatehouse-status.1 and so on; made when missing.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(flags: &CompletionFlags, command: &mut Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, command, "gatehouse", &mut script);
    terminal::show(&String::from_utf8_lossy(&script));
    ExitCode::from(FINE)
}

pub(super) fn man(flags: &ManFlags, command: Command) -> ExitCode {
    let written = if let Some(folder) = &flags.folder {
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder))
    } else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        terminal::show(&String::from_utf8_lossy(&page));
        rendered
    };
    match written {
        Ok(()) => ExitCode::from(FINE),
        Err(error) => {
            terminal::say(&format!("error: the manual pages cannot be written: {error}"));
            ExitCode::from(UNHEALTHY)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "gatehouse", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["renew", "test-alert", "selector"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        let flags = ManFlags {
            folder: Some(folder.path().join("man1")),
        };
        assert_eq!(man(&flags, Arguments::command()), ExitCode::from(FINE));
        for page in [
            "gatehouse",
            "gatehouse-status",
            "gatehouse-inspect-secret",
            "gatehouse-operator",
        ] {
            let text = std::fs::read_to_string(folder.path().join(format!("man1/{page}.1"))).unwrap();
            assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
        }
    }
}
