//! Tables in columns, as kubectl prints them.

use super::terminal::{Paint, Screen, plain};

/// Between two columns.
const GAP: usize = 3;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self::painted(text, Paint::Plain)
    }

    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            text: plain(&text.into()),
            paint,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows below a header, each column as wide as its widest cell. On a terminal a line that is too long loses the
/// end of its last cell.
pub(super) fn grid(header: &[&str], rows: &[Vec<Cell>], screen: Screen) -> String {
    let header: Vec<Cell> = header.iter().map(|name| Cell::painted(*name, Paint::Faint)).collect();
    let mut widths: Vec<usize> = header.iter().map(Cell::width).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    std::iter::once(&header)
        .chain(rows)
        .map(|row| line(row, &widths, screen))
        .collect()
}

fn line(row: &[Cell], widths: &[usize], screen: Screen) -> String {
    // What follows the last word is no column any more.
    let used = row
        .iter()
        .rposition(|cell| !cell.text.is_empty())
        .map_or(0, |last| last + 1);
    let mut line = String::new();
    let mut at = 0;
    for (position, (cell, width)) in row.iter().zip(widths).take(used).enumerate() {
        let last = position + 1 == used;
        let room = screen.width.filter(|_| last).map(|whole| whole.saturating_sub(at));
        let text = room.map_or_else(|| cell.text.clone(), |room| cut(&cell.text, room));
        line.push_str(&screen.paint(&text, cell.paint));
        if !last {
            let pad = width.saturating_sub(cell.width()) + GAP;
            line.extend(std::iter::repeat_n(' ', pad));
            at += width + GAP;
        }
    }
    line.push('\n');
    line
}

/// Minimal width of a cell: what is wider than the terminal then continues in its next line.
fn cut(text: &str, room: usize) -> String {
    if room < 12 || text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Screen = Screen {
        colour: false,
        width: None,
    };

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::new("a"),
                Cell::painted("False", Paint::Bad),
                Cell::new("a long reason for it"),
            ],
            vec![Cell::new("longer"), Cell::painted("True", Paint::Good), Cell::default()],
        ]
    }

    #[test]
    fn columns_stand_below_each_other_and_lines_end_with_their_last_word() {
        let text = grid(&["NAME", "READY", "REASON"], &rows(), PAPER);
        assert_eq!(
            text,
            "NAME     READY   REASON\na        False   a long reason for it\nlonger   True\n"
        );
    }

    #[test]
    fn a_terminal_gets_colours_that_take_no_room_and_lines_that_fit() {
        let screen = Screen {
            colour: true,
            width: Some(30),
        };
        let text = grid(&["NAME", "READY", "REASON"], &rows(), screen);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "\x1b[2mNAME\x1b[0m     \x1b[2mREADY\x1b[0m   \x1b[2mREASON\x1b[0m",
                "a        \x1b[31mFalse\x1b[0m   a long reaso…",
                "longer   \x1b[32mTrue\x1b[0m",
            ]
        );
    }
}
