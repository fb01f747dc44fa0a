//! Container images from local files, without a registry.

mod archive;
mod known;
mod program;
mod registry;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

pub use archive::{Image, Node};
pub use known::{Known, busybox, holdfast_program};
pub use program::{find, program};
pub use registry::Registry;

/// `cargo xtask image …`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which of the images that tests use; none: all of them
    #[arg(value_enum)]
    known: Vec<Known>,
    /// Where to write them, as NAME.tar
    #[arg(long, value_name = "DIR", default_value_os_t = dir())]
    out: PathBuf,
    /// Instead of those, one of that name, from the following
    #[arg(long, value_name = "NAME", conflicts_with = "known")]
    reference: Option<String>,
    /// A local file, and where it is in the image
    #[arg(long, value_name = "SRC=DST", requires = "reference")]
    file: Vec<String>,
    /// A program for /bin, with its shared libraries
    #[arg(long, value_name = "PATH", requires = "reference")]
    program: Vec<PathBuf>,
    /// With busybox and its applets
    #[arg(long, requires = "reference")]
    busybox: bool,
    /// The entrypoint, as a JSON list
    #[arg(long, value_name = "JSON", requires = "reference", value_parser = words)]
    entrypoint: Option<Words>,
    /// The command, as a JSON list
    #[arg(long, value_name = "JSON", requires = "reference", value_parser = words)]
    cmd: Option<Words>,
}

/// Words of a command line. A type of its own, lest clap take it for a repeatable option.
#[derive(Debug, Clone)]
struct Words(Vec<String>);

/// Writes images, and prints for each its file, reference and digest.
///
/// # Errors
/// What went wrong, and where.
pub fn run(args: Args) -> Result<()> {
    if let Some(reference) = &args.reference {
        let image = custom(&args, reference)?;
        let name = reference.replace(['/', ':', '@'], "-");
        return write(&image, args.out.join(format!("{name}.tar")));
    }
    let all = <Known as clap::ValueEnum>::value_variants();
    for known in if args.known.is_empty() { all } else { &args.known } {
        let path = args.out.join(format!("{}.tar", known.name()));
        write(&known.image()?, path.clone())?;
        let bytes = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        known.weighed(bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Where images are kept.
#[must_use]
pub fn dir() -> PathBuf {
    crate::cache().join("images")
}

fn write(image: &Image, path: PathBuf) -> Result<()> {
    let digest = image.write(&path)?;
    println!("{} {} {digest}", path.display(), image.names.join(","));
    Ok(())
}

fn custom(args: &Args, reference: &str) -> Result<Image> {
    // What a runtime makes of a short name is its own affair; an archive says it in full.
    if !reference.split('/').next().is_some_and(|host| host.contains('.')) {
        bail!("{reference}: give it in full, with a registry and a tag: registry.test/name:1");
    }
    let mut image = Image::new(reference);
    if args.busybox {
        image = busybox(image)?;
    }
    for path in &args.program {
        image = program(image, path)?;
    }
    for pair in &args.file {
        let (source, target) =
            pair.split_once('=').with_context(|| format!("{pair}: it has no ="))?;
        image = image.with(target, Node::File(source.into()));
    }
    image.entrypoint = args.entrypoint.clone().map_or_else(Vec::new, |words| words.0);
    image.cmd = args.cmd.clone().map_or_else(Vec::new, |words| words.0);
    Ok(image)
}

fn words(text: &str) -> Result<Words, serde_json::Error> {
    serde_json::from_str(text).map(Words)
}
