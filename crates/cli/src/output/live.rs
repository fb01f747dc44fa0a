//! The live table of a terminal: lines scroll above, the table stays below and is drawn anew.

use holdfast_lifecycle::Time;
use holdfast_lifecycle::columns::Row;

use super::table::{Cells, Widths};

/// One pod of the table.
#[derive(Debug)]
struct Entry {
    name: String,
    row: Row,
    created: Time,
    ended: Option<Time>,
}

/// The table, and how much of the screen it takes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    entries: Vec<Entry>,
    drawn: usize,
    widths: Widths,
}

impl Live {
    /// Takes a changed row.
    pub(crate) fn update(&mut self, name: &str, row: &Row, created: Time, now: Time) {
        let over = matches!(row.status.as_str(), "Completed" | "Error" | "Succeeded" | "Failed");
        let entry =
            Entry { name: name.to_owned(), row: row.clone(), created, ended: over.then_some(now) };
        match self.entries.iter_mut().find(|e| e.name == name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Forgets a pod whose object is gone.
    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.retain(|e| e.name != name);
    }

    /// What to write so that lines come above the table and the table is drawn again.
    pub(crate) fn draw(&mut self, lines: &[String], now: Time, size: (usize, usize)) -> String {
        let (columns, rows) = size;
        let mut text = self.erase();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let shown = self.lines(now, rows.saturating_sub(2).max(3));
        for line in &shown {
            text.push_str(&clip(line, columns));
            text.push('\n');
        }
        self.drawn = shown.len();
        text
    }

    /// Takes the table off the screen.
    pub(crate) fn erase(&mut self) -> String {
        let up = std::mem::take(&mut self.drawn);
        if up == 0 { String::new() } else { format!("\x1b[{up}A\r\x1b[J") }
    }

    /// The lines of the table, at most `most`; pods that still move come first then.
    fn lines(&mut self, now: Time, most: usize) -> Vec<String> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        if order.len() + 1 > most {
            order.sort_by_key(|e| e.ended.is_some());
        }
        let hidden = (order.len() + 1).saturating_sub(most);
        if hidden > 0 {
            order.truncate(most.saturating_sub(2));
        }
        let cells: Vec<Cells> =
            order.iter().map(|e| Cells::of(&e.name, &e.row, e.created, now)).collect();
        cells.iter().for_each(|c| self.widths.fit(c));
        let bold = anstyle::Style::new().bold();
        let mut lines = vec![format!("{bold}{}{bold:#}", self.widths.line(&Cells::header(), None))];
        lines.extend(order.iter().zip(&cells).map(|(e, c)| self.widths.line(c, Some(&e.row))));
        if hidden > 0 {
            let left = self.entries.len() - (lines.len() - 1);
            lines.push(format!("… and {left} more"));
        }
        lines
    }
}

/// Cuts a line to the width of the terminal; escape sequences take no room.
fn clip(line: &str, columns: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut width, mut escape) = (0, false);
    for c in line.chars() {
        if escape {
            out.push(c);
            escape = c != 'm';
        } else if c == '\x1b' {
            out.push(c);
            escape = true;
        } else if width < columns {
            out.push(c);
            width += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &str) -> Row {
        Row { ready: 0, total: 1, status: status.into(), restarts: 0, last_restart: None }
    }

    #[test]
    fn the_table_is_redrawn_in_place_and_cut_to_the_screen() {
        let mut live = Live::default();
        for i in 0..30 {
            let status = if i < 20 { "Completed" } else { "Running" };
            live.update(&format!("pod-{i}"), &row(status), Time::ZERO, Time::ZERO);
        }
        let first = live.draw(&["a line".into()], Time::from_secs(3), (30, 12));
        let plain = anstream::adapter::strip_str(&first).to_string();
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines[0], "a line");
        assert!(lines[1].starts_with("NAME"));
        assert!(lines[2].starts_with("pod-20"), "what still runs is shown first: {plain}");
        assert!(plain.ends_with("… and 22 more\n"), "{plain}");
        assert!(lines.iter().all(|l| l.chars().count() <= 30), "{plain}");
        let again = live.draw(&[], Time::from_secs(4), (30, 12));
        assert!(again.starts_with("\x1b[10A\r\x1b[J"));
    }
}
