//! A real Kubernetes on this machine.

use clap::Subcommand;

/// `cargo xtask cluster …`
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Carries out a command.
///
/// # Errors
/// What went wrong, and where.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {}
}
