//! Container images from local files, without a registry.

/// `cargo xtask image …`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Writes an image.
///
/// # Errors
/// What went wrong, and where.
pub fn run(Args {}: Args) -> anyhow::Result<()> {
    Ok(())
}
