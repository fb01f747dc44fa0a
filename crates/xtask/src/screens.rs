//! The screens of the documentation that come out the same each time: what `holdfast explain` prints.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::run::{cargo, root};

/// A page in which each block that begins with such a command shows what it prints.
const PAGE: &str = "docs/explain.md";
const FENCE: &str = "```console";
const COMMAND: &str = "$ holdfast explain ";

/// Runs the commands of the page again, and puts what they print below them.
pub(crate) fn run() -> Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| PAGE.to_owned())?;
    let mut new = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        new += &format!("{line}\n");
        if line != FENCE {
            continue;
        }
        let command = lines.next().unwrap_or_default();
        new += &format!("{command}\n");
        let Some(args) = command.strip_prefix(COMMAND) else { continue };
        new += &cargo(["run", "--quiet", "--package", "holdfast-cli", "--", "explain"])
            .args(args.split_whitespace())
            .text()?;
        let end = lines.by_ref().find(|line| *line == "```");
        ensure!(end.is_some(), "{PAGE}: the block of `{command}` has no end");
        new += "```\n";
    }
    fs::write(&path, new).with_context(|| PAGE.to_owned())?;
    eprintln!("xtask: the screens of {PAGE} are new");
    Ok(())
}
