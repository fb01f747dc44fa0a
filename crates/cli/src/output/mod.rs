//! What people and programs see of a run.

pub(crate) mod live;
pub(crate) mod outlet;
pub(crate) mod prefix;
pub(crate) mod table;
pub(crate) mod timeline;

use std::fmt::Arguments;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use holdfast_lifecycle::columns::Row;

/// A line for people, on stderr: `say!("…", …)`. If stderr takes none (a full disk, a reader that went
/// away), there is nobody left to tell, and what runs goes on.
macro_rules! say {
    ($($arg:tt)*) => { $crate::output::to_stderr(format_args!($($arg)*)) };
}
pub(crate) use say;

/// What [`say!`] does.
pub(crate) fn to_stderr(line: Arguments<'_>) {
    // In one piece: others write there too.
    outlet::ERR.write(&format!("{line}\n"), Vec::new());
}

/// Waits until everything that was said has been written. To be called last before the end.
pub(crate) fn wait() {
    outlet::OUT.wait();
    outlet::ERR.wait();
}

/// What went wrong, on stderr.
pub(crate) fn error(what: Arguments<'_>) {
    let (red, reset) = (AnsiColor::Red.on_default().bold(), anstyle::Reset);
    say!("{red}error{reset}: {what}");
}

/// Writes the data of a command that has no event loop to stdout. A reader that wants no more is no error.
pub(crate) fn data(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Whether colours are wanted on stdout.
pub(crate) fn is_styled() -> bool {
    anstream::stdout().current_choice() != anstream::ColorChoice::Never
}

/// The columns of the terminal at stdout; where there is none, as many as people read.
pub(crate) fn columns() -> usize {
    terminal_size().map_or(120, |(columns, _)| columns)
}

/// Columns and rows of the terminal at stdout, if it is one.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// The colour of a STATUS.
pub(crate) fn status_style(status: &str, row: &Row) -> Style {
    let color = match status {
        "Running" if row.ready == row.total => AnsiColor::Green,
        "Running" | "NotReady" => AnsiColor::Yellow,
        "Completed" | "Succeeded" | "Complete" => AnsiColor::Cyan,
        "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" => AnsiColor::Yellow,
        s if s.starts_with("Init:") && s.contains('/') => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    color.on_default()
}

/// A stable colour for a name.
pub(crate) fn name_style(name: &str) -> Style {
    const COLORS: [AnsiColor; 10] = [
        AnsiColor::Cyan,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Yellow,
        AnsiColor::Blue,
        AnsiColor::BrightCyan,
        AnsiColor::BrightGreen,
        AnsiColor::BrightMagenta,
        AnsiColor::BrightYellow,
        AnsiColor::BrightBlue,
    ];
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    COLORS[(hash % COLORS.len() as u64) as usize].on_default()
}
