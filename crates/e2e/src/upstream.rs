//! Upstream's own node tests.

/// `cargo xtask upstream …`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs them.
///
/// # Errors
/// What went wrong, and where.
pub fn run(Args {}: Args) -> anyhow::Result<()> {
    Ok(())
}
