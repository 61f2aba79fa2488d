//! A page of headings and lines, wrapped where a terminal ends.

use crate::cli::terminal::{Paint, Screen, plain};

/// Column at which the text of a line begins.
const INDENT: usize = 18;
/// Narrower than this nothing is wrapped.
const NARROWEST: usize = 48;

/// The text so far.
pub(in crate::cli) struct Page {
    text: String,
    screen: Screen,
}

impl Page {
    pub fn new(screen: Screen) -> Self {
        Self {
            text: String::new(),
            screen,
        }
    }

    pub fn title(&mut self, words: &str, paint: Paint) {
        self.text.push_str(&self.screen.paint(words, paint));
        self.text.push('\n');
    }

    pub fn heading(&mut self, words: &str) {
        self.text.push('\n');
        self.title(words, Paint::Strong);
    }

    /// `  Label       words`
    pub fn line(&mut self, label: &str, words: &str) {
        self.painted(label, words, Paint::Plain);
    }

    pub fn painted(&mut self, label: &str, words: &str, paint: Paint) {
        let label = plain(label);
        let room = self
            .screen
            .width
            .filter(|width| *width >= NARROWEST)
            .map(|width| width - INDENT);
        // A label that is too long has a line of its own.
        let mut first = if label.chars().count() + 3 > INDENT && !words.is_empty() {
            let alone = self.screen.paint(&label, Paint::Faint);
            self.text.extend([
                "  ", &alone, "
",
            ]);
            String::new()
        } else {
            label
        };
        for line in wrapped(&plain(words), room) {
            let pad = INDENT - 2 - first.chars().count().min(INDENT - 2);
            let label = self.screen.paint(&first, Paint::Faint);
            let line = format!("  {label}{}{}", " ".repeat(pad), self.screen.paint(&line, paint));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
            first.clear();
        }
    }

    pub fn end(self) -> String {
        self.text
    }
}

/// Lines of at most `room` characters, broken between words.
fn wrapped(words: &str, room: Option<usize>) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let long = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && room.is_some_and(|room| long > room) {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_below_each_other_on_a_terminal_only() {
        let drawn = |width| {
            let mut page = Page::new(Screen { colour: false, width });
            page.heading("Wanted");
            page.line("Names", "www.example.com, shop.example.com, other.example.com");
            page.line("A very long label", "words");
            page.end()
        };
        assert_eq!(
            drawn(None),
            "\nWanted\n  Names           www.example.com, shop.example.com, other.example.com\n  A very long label\n                  words\n"
        );
        assert_eq!(
            drawn(Some(54)),
            "\nWanted\n  Names           www.example.com, shop.example.com,\n                  other.example.com\n  A very long label\n                  words\n"
        );
    }
}
