//! Text for people: tables that fit the terminal, pages to read, times as ages.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::output::printable;
use crate::config::Env;
use crate::time::Time;

/// What a terminal has that does not say how wide it is; `kubectl exec` does not pass it on.
const USUAL_WIDTH: usize = 100;

const GAP: usize = 3;

/// Narrower than this a column of text cannot be read.
const NARROWEST: usize = 16;

/// Rows under the names of their columns.
pub(super) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    /// Whether its cells may go over several lines.
    wraps: bool,
}

/// The width to wrap to; `None` where a program reads along, which wants a line a row.
pub(super) fn terminal_width(env: Env<'_>) -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let told = env("COLUMNS").and_then(|columns| columns.parse().ok());
    Some(
        told.filter(|width| (20..=1000).contains(width))
            .unwrap_or(USUAL_WIDTH),
    )
}

impl Column {
    /// A column whose cells stay in one piece.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, wraps: false }
    }

    /// A column of text.
    pub(super) const fn wrapped(name: &'static str) -> Self {
        Self { name, wraps: true }
    }
}

impl Table {
    pub(super) const fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row, a cell a column.
    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows
            .push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// The table as text, in lines of `width` at most where its columns allow it.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let names = self.columns.iter().map(|column| column.name.to_owned());
        let mut widths: Vec<usize> = self.columns.iter().map(|c| width_of(c.name)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = width_of(cell).max(*width);
            }
        }
        if let Some(width) = width {
            self.narrow(&mut widths, width);
        }
        let mut out = String::new();
        render_row(&names.collect::<Vec<_>>(), &widths, &mut out);
        for row in &self.rows {
            render_row(row, &widths, &mut out);
        }
        out
    }

    /// Takes from the widest column of text until all fit, or none can give more.
    fn narrow(&self, widths: &mut [usize], most: usize) {
        let gaps = GAP * widths.len().saturating_sub(1);
        loop {
            let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(most);
            let texts = widths.iter_mut().zip(self.columns);
            let widest = texts
                .filter(|(width, column)| column.wraps && **width > NARROWEST)
                .max_by_key(|(width, _)| **width);
            match widest {
                Some((width, _)) if excess > 0 => *width -= 1,
                _ => return,
            }
        }
    }
}

fn render_row(cells: &[String], widths: &[usize], out: &mut String) {
    let cells: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| wrap(cell, *width))
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for at in 0..height {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(at).map_or("", String::as_str);
            line += text;
            let rest = width.saturating_sub(width_of(text)) + GAP;
            line.extend(std::iter::repeat_n(' ', rest));
        }
        *out += line.trim_end();
        out.push('\n');
    }
}

/// Fields and texts under each other, as `kubectl describe` has them.
pub(super) struct Page {
    width: Option<usize>,
    text: String,
}

impl Page {
    pub(super) const fn new(width: Option<usize>) -> Self {
        Self {
            width,
            text: String::new(),
        }
    }

    /// A name and a short value.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.text += format!("{:<12} {}", format!("{name}:"), printable(value)).trim_end();
        self.text.push('\n');
    }

    /// A text of any length under its name. Its line breaks stay, indented: they can pass for
    /// nothing else.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.text += &format!("{name}:\n");
        let width = self.width.map_or(usize::MAX, |width| width - 2);
        for paragraph in text.trim().lines() {
            for line in wrap(&printable(&paragraph.replace('\t', " ")), width) {
                self.text += format!("  {line}").trim_end();
                self.text.push('\n');
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Breaks a text into lines, between words or the parts of a path where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_inclusive([' ', '/']) {
        // A blank at the end of a line takes no room.
        let visible = width_of(word.trim_end());
        if used > 0 && used + visible > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for character in word.chars() {
            let wide = width_of_char(character);
            if used > 0 && character != ' ' && used + wide > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += wide;
        }
    }
    lines.push(line);
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// How many columns of a terminal the text takes.
fn width_of(text: &str) -> usize {
    text.chars().map(width_of_char).sum()
}

/// Roughly Unicode TR 11, in the ranges that titles are written in.
const fn width_of_char(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// How long ago it was, in the largest unit that says something: `45s`, `5m`, `3h`, `2d`.
pub(super) fn age(at: Time, now: Time) -> String {
    duration(at.elapsed(now))
}

fn duration(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::new("SEVERITY"),
        Column::wrapped("TITLE"),
        Column::wrapped("AFFECTED"),
        Column::new("ID"),
    ];

    fn table() -> Table {
        let mut table = Table::new(COLUMNS);
        table.row(&[
            "critical",
            "The database has no memory limit and may take the node down",
            "production/statefulset/postgres",
            "ins_1",
        ]);
        table.row(&["low", "Fine\u{1b}[31m", "", "ins_2"]);
        table
    }

    #[test]
    fn a_program_gets_a_line_a_row() {
        assert_eq!(
            table().render(None),
            "\
SEVERITY   TITLE                                                         AFFECTED                          ID
critical   The database has no memory limit and may take the node down   production/statefulset/postgres   ins_1
low        Fine\\u{1b}[31m                                                                                  ins_2
"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        assert_eq!(
            table().render(Some(70)),
            "\
SEVERITY   TITLE                      AFFECTED                   ID
critical   The database has no        production/statefulset/    ins_1
           memory limit and may       postgres
           take the node down
low        Fine\\u{1b}[31m                                        ins_2
"
        );
        let narrow = table().render(Some(20));
        let widest = narrow.lines().map(width_of).max();
        assert_eq!(widest, Some(8 + 16 + 16 + 5 + 3 * GAP), "{narrow}");
        for width in 20..130 {
            let text = table().render(Some(width));
            assert!(
                text.lines().all(|line| width_of(line) <= width.max(54)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(
            Table::new(COLUMNS).render(Some(100)),
            "SEVERITY   TITLE   AFFECTED   ID\n"
        );
    }

    #[test]
    fn lines_break_between_words_and_in_words_that_are_too_long() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("one two", 7), ["one two"]);
        assert_eq!(wrap("one two", 6), ["one", "two"]);
        assert_eq!(wrap("a bcdefghij k", 4), ["a", "bcde", "fghi", "j k"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("日", 1), ["日"]);
    }

    #[test]
    fn a_page_keeps_paragraphs_and_shows_what_a_terminal_would_obey() {
        let mut page = Page::new(Some(20));
        page.field("ID", "ins_1\n");
        page.field("None", "");
        page.text(
            "Description",
            "one two three four five\n\nsix\r\u{202e}\tx\n",
        );
        assert_eq!(
            page.finish(),
            "\
ID:          ins_1\\u{a}
None:
Description:
  one two three four
  five

  six\\u{d}\\u{202e} x
"
        );
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400, "1d"),
            (400 * 86_400, "400d"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(age(Time::from_millis(5), Time::from_millis(0)), "0s");
    }
}
