//! Colour where it is wanted, tables, and text that does not drive a terminal.

use std::io::IsTerminal;

/// What a piece of text is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ink {
    /// A heading.
    Title,
    /// A name that is looked for.
    Name,
    /// Something that went wrong.
    Bad,
    /// Something that is as it should be.
    Good,
    /// Something out of the ordinary.
    Notable,
    /// Of less interest than the rest.
    Faint,
}

/// Whether there is colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// In colour.
    #[cfg(test)]
    pub const COLOUR: Paint = Paint { colour: true };
    /// Plain text.
    pub const PLAIN: Paint = Paint { colour: false };

    /// For the standard output: in colour if it is a terminal that can, unless NO_COLOR is set (no-color.org).
    pub fn of_stdout() -> Paint {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Paint { colour: std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb }
    }

    /// A piece of text in its colour.
    pub fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Title => "1",
            Ink::Name => "36",
            Ink::Bad => "31",
            Ink::Good => "32",
            Ink::Notable => "33",
            Ink::Faint => "2",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text of somebody else's, with control characters escaped.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        // Beyond the control characters, those that change the direction of what follows.
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a title row.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<(String, Option<Ink>)>>,
}

impl Table {
    /// Titles that begin with `>` are of numbers.
    pub fn new(titles: &[&'static str]) -> Table {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => (title, Side::Right),
            None => (*title, Side::Left),
        };
        Table { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells are cleaned.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| (clean(&cell.into()), None)).collect());
    }

    /// Colours a cell of the last row.
    pub fn ink(&mut self, column: usize, ink: Ink) {
        if let Some(cell) = self.rows.last_mut().and_then(|row| row.get_mut(column)) {
            cell.1 = Some(ink);
        }
    }

    /// As lines. The last column is as wide as it likes.
    pub fn render(&self, paint: Paint) -> String {
        let width = |index: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0).max(title.len())
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(index, (title, _))| width(index, title)).collect();
        let line = |cells: Vec<(&str, Option<Ink>)>| {
            let last = cells.len().saturating_sub(1);
            let parts = cells.into_iter().enumerate().map(|(index, (text, ink))| {
                let blank = " ".repeat(widths.get(index).copied().unwrap_or(0).saturating_sub(text.chars().count()));
                let text = ink.map_or_else(|| text.to_owned(), |ink| paint.ink(ink, text));
                match self.columns.get(index).map(|(_, side)| *side) {
                    Some(Side::Right) => blank + &text,
                    _ if index == last => text,
                    _ => text + &blank,
                }
            });
            parts.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let titles = line(self.columns.iter().map(|(title, _)| (*title, Some(Ink::Title))).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(|(text, ink)| (text.as_str(), *ink)).collect()));
        std::iter::once(titles).chain(rows).collect()
    }
}

/// 12.3M, as ps(1) and top(1) round.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 1000.0 {
            return if unit.is_empty() || value >= 100.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.0}P")
}

/// A time in the unit that suits it: 1.2ms.
pub fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{:.1}µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", value / 1e6),
        _ => format!("{:.2}s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_say_drives_a_terminal() {
        assert_eq!(clean("a\x1b[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        let mut table = Table::new(&["WHAT", ">N"]);
        table.row(["x\x1b[31m", "1"]);
        assert!(!table.render(Paint::PLAIN).contains('\x1b'));
    }

    #[test]
    fn tables_keep_their_columns_with_and_without_colour() {
        let mut table = Table::new(&["NAME", ">COUNT", "REST"]);
        table.row(["a", "1", "x"]);
        table.row(["longer", "12345", ""]);
        table.ink(0, Ink::Bad);
        assert_eq!(table.render(Paint::PLAIN), "NAME    COUNT  REST\na           1  x\nlonger  12345\n");
        assert!(table.render(Paint::COLOUR).contains("\x1b[31mlonger\x1b[0m  12345"));
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!([bytes(0), bytes(999), bytes(1536), bytes(17 << 20)], ["0", "999", "1.5K", "17.0M"]);
        assert_eq!([duration(999), duration(1500), duration(2_000_000_000)], ["999ns", "1.5µs", "2.00s"]);
    }
}
