//! The yardstick: fork and exec of the same programs, and nothing else.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long `count` runs of a program take that are started one after the other and then awaited.
pub(crate) fn together(program: &[&str], count: usize) -> Result<Duration> {
    let start = Instant::now();
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        let child = Command::new(program[0])
            .args(&program[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program[0]))?;
        children.push(child);
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(start.elapsed())
}
