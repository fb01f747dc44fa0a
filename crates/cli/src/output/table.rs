//! Rows as `kubectl get pods -w` prints them: a header, then a row for every visible change.

use std::collections::HashMap;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::columns::{Row, human_duration};

use super::status_style;

/// Widths of the columns NAME, READY, STATUS, RESTARTS (AGE is last and needs none).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths([usize; 4]);

impl Default for Widths {
    /// Wide enough for the longest common STATUS, so that later rows line up with earlier ones.
    fn default() -> Self {
        Self([4, 5, 17, 8])
    }
}

/// The cells of one row.
pub(crate) struct Cells([String; 5]);

impl Cells {
    pub(crate) fn header() -> Self {
        Self(["NAME", "READY", "STATUS", "RESTARTS", "AGE"].map(String::from))
    }

    pub(crate) fn of(name: &str, row: &Row, created: Time, now: Time) -> Self {
        Self([
            name.to_owned(),
            row.ready_text(),
            row.status.clone(),
            row.restarts_text(now),
            human_duration(now.since(created).as_secs()),
        ])
    }
}

impl Widths {
    /// Widens the columns so that the cells fit.
    pub(crate) fn fit(&mut self, cells: &Cells) {
        for (width, cell) in self.0.iter_mut().zip(&cells.0) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// The line of these cells, three blanks between columns; STATUS in colour if `row` is given.
    pub(crate) fn line(&self, cells: &Cells, row: Option<&Row>) -> String {
        let mut line = String::new();
        for (at, cell) in cells.0.iter().enumerate() {
            let style = match row {
                Some(row) if at == 2 => status_style(cell, row),
                _ => anstyle::Style::new(),
            };
            line.push_str(&format!("{style}{cell}{style:#}"));
            if let Some(width) = self.0.get(at) {
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count().min(*width) + 3));
            }
        }
        line
    }
}

/// Decides which changes are rows: those that show.
#[derive(Debug, Default)]
pub(crate) struct Visible(HashMap<String, (usize, usize, String, u64)>);

impl Visible {
    /// Whether the row of this pod differs from the last one, AGE aside.
    pub(crate) fn changed(&mut self, name: &str, row: &Row) -> bool {
        let seen = (row.ready, row.total, row.status.clone(), row.restarts);
        self.0.insert(name.to_owned(), seen.clone()) != Some(seen)
    }

    /// Forgets a pod whose object is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &str) -> Row {
        Row {
            ready: 1,
            total: 2,
            status: status.into(),
            restarts: 3,
            last_restart: Some(Time::ZERO),
        }
    }

    #[test]
    fn columns_line_up() {
        let mut widths = Widths::default();
        let cells = Cells::of("web-1", &row("Running"), Time::ZERO, Time::from_secs(65));
        widths.fit(&cells);
        let header = widths.line(&Cells::header(), None);
        let line = widths.line(&cells, None);
        assert_eq!(header, "NAME    READY   STATUS              RESTARTS      AGE");
        assert_eq!(line, "web-1   1/2     Running             3 (65s ago)   65s");
    }

    #[test]
    fn the_same_row_is_printed_once() {
        let mut visible = Visible::default();
        assert!(visible.changed("a", &row("Running")));
        assert!(!visible.changed("a", &row("Running")));
        assert!(visible.changed("b", &row("Running")));
        assert!(visible.changed("a", &row("Error")));
    }
}
