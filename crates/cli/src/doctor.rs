//! `holdfast doctor`.

use anstyle::{AnsiColor, Style};
use holdfast_agent::doctor::checks::{TCP, UDP};
use holdfast_agent::doctor::{Facts, Finding, Level, Places, Purpose, judge};

use crate::args::{self, DoctorArgs, StatusAs};
use crate::output;

/// Something that is needed is missing.
const EXIT_MISSING: u8 = 1;

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let purpose = match args.purpose {
        args::Purpose::Pods => Purpose::Pods,
        args::Purpose::Mesh => Purpose::Mesh,
        args::Purpose::Kubernetes => Purpose::Kubernetes,
    };
    let found = judge(&Facts::gather(&Places::here(), &TCP, &UDP), purpose);
    let text = match args.output {
        StatusAs::Json => serde_json::to_string_pretty(&found)? + "\n",
        StatusAs::Table => table(&found),
    };
    output::data(&if output::is_styled() {
        text
    } else {
        anstream::adapter::strip_str(&text).to_string()
    })?;
    let is_missing = found.iter().any(|finding| finding.level == Level::Missing);
    Ok(if is_missing { EXIT_MISSING } else { 0 })
}

/// A line a check, and below it what to do.
fn table(found: &[Finding]) -> String {
    let width = found.iter().map(|f| f.what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in found {
        let (mark, style) = match finding.level {
            Level::Good => ("ok     ", AnsiColor::Green.on_default()),
            Level::Worse => ("worse  ", AnsiColor::Yellow.on_default()),
            Level::Missing => ("missing", AnsiColor::Red.on_default().bold()),
        };
        text += &format!("{style}{mark}{style:#} {:width$}  {}\n", finding.what, finding.found);
        if let Some(advice) = &finding.advice {
            let dimmed = Style::new().dimmed();
            text += &format!("        {:width$}  {dimmed}{advice}{dimmed:#}\n", "");
        }
    }
    text
}
