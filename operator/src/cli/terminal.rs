//! Output, and its appearance on a terminal.

use std::io::{self, IsTerminal, Write};

/// Style of a word. On anything but a terminal it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
    Faint,
    Strong,
}

/// Destination of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    pub colour: bool,
    /// Columns. None when it is no terminal: then nothing is cut.
    pub width: Option<usize>,
}

impl Screen {
    /// The standard output: colours on a terminal only, and not where `NO_COLOR` is set (no-color.org).
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            colour: terminal && !dumb && !set("NO_COLOR"),
            width: terminal
                .then(terminal_size::terminal_size)
                .flatten()
                .map(|(width, _)| usize::from(width.0)),
        }
    }

    /// Text in its colour. What others wrote cannot move the cursor or paint for itself.
    pub fn paint(self, text: &str, paint: Paint) -> String {
        let text = plain(text);
        let code = match paint {
            _ if !self.colour || text.is_empty() => return text,
            Paint::Plain => return text,
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Text on one line without control characters: messages come from CAs, DNS providers and other users.
pub(super) fn plain(text: &str) -> String {
    let steers =
        |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|letter| if steers(letter) { ' ' } else { letter })
        .collect()
}

/// Writes to the standard output. Returns whether it is still read: a reader that went away (`| head`) has seen enough.
pub(super) fn show(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Writes a line to the standard error: what is not the result.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let screen = Screen {
            colour: true,
            width: None,
        };
        assert_eq!(
            screen.paint("a\x1b[2Jb\r\nc\u{202e}d", Paint::Bad),
            "\x1b[31ma [2Jb  c d\x1b[0m"
        );
        assert_eq!(screen.paint("", Paint::Bad), "");
        assert_eq!(plain("Bücher für 5 €"), "Bücher für 5 €");
    }

    #[test]
    fn without_colours_nothing_but_the_text_is_written() {
        let screen = Screen {
            colour: false,
            width: Some(80),
        };
        assert_eq!(screen.paint("True", Paint::Good), "True");
    }
}
