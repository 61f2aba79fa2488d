//! Texts of others made fit to show.

/// `text` with runs of blanks and of what does not print made one space, at most `max` characters.
///
/// A server's text ends in a terminal, a status and a log: no escape sequences, no line breaks that
/// forge a log line, no marks that turn the direction of writing.
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let (mut count, mut blank) = (0, false);
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffd}');
        if hidden || c.is_whitespace() {
            blank = count > 0;
            continue;
        }
        for c in blank.then_some(' ').into_iter().chain([c]) {
            if count == max {
                return out;
            }
            out.push(c);
            count += 1;
        }
        blank = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_made_printable() {
        let table = [
            ("plain", "plain"),
            ("  two\r\n\tlines \u{1b}[1m", "two lines [1m"),
            ("right\u{202e}left", "right left"),
            ("zürich", "zürich"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(printable(text, 50), expected);
        }
        assert_eq!(printable(&"ü".repeat(600), 500).chars().count(), 500);
    }
}
