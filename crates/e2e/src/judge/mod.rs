//! Pods run on the kubelet and on Holdfast, and compared.

use clap::Subcommand;

/// `cargo xtask judge …`
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Carries out a command.
///
/// # Errors
/// What went wrong, and where.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {}
}
