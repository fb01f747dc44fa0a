//! Upstream's images, under upstream's names, from what is on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cluster::PAUSE;
use crate::go;
use crate::image::{self, Image, Known, Node, busybox, find, program};
use crate::packages::{self, Tool, tool};

/// Makes those of the images that can be made, and returns their archives. A spec that wants another says
/// so when it cannot be pulled.
pub(super) fn make(references: &[String], minor: &str) -> Result<Vec<PathBuf>> {
    let named = |name: &str| {
        let end = format!("/{name}:");
        let ours = |reference: &&String| {
            reference.contains(&end) && reference.starts_with("registry.k8s.io/")
        };
        references.iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    Ok(vec![
        agnhost(named("agnhost"), minor)?,
        with_shell("busybox", named("busybox"), "")?,
        with_shell("nonroot", named("nonroot"), "1234")?,
        // No web server is asked of it by these specs, only another image with a shell.
        with_shell("nginx", named("nginx"), "")?,
        pause(named("pause"))?,
    ])
}

/// agnhost: one program that plays many parts, with shells and curl beside it, which hooks run, and a
/// certificate of its own for the part of an https server.
fn agnhost(references: Vec<String>, minor: &str) -> Result<PathBuf> {
    let agnhost = go::agnhost(minor)?;
    // It is large, and its certificate differs each time: one archive for each program and recipe.
    let name = agnhost.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let path = image::dir().join(format!("{name}-{RECIPE}.tar"));
    if path.exists() {
        return Ok(path);
    }
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .context("a certificate for agnhost")?;
    packages::ensure(&[tool("curl", "curl"), BASH])?;
    let mut image = program(busybox(base(references))?, &find("curl")?)?
        .with("bin/bash", Node::File(find(BASH.program)?))
        .with("agnhost", Node::File(agnhost))
        .with("localhost.crt", Node::Data(cert.pem().into_bytes(), 0o644))
        .with("localhost.key", Node::Data(signing_key.serialize_pem().into_bytes(), 0o644));
    image.entrypoint = vec!["/agnhost".into()];
    image.cmd = vec!["pause".into()];
    write(&image, &path)
}

fn with_shell(name: &str, references: Vec<String>, user: &str) -> Result<PathBuf> {
    packages::ensure(&[BASH])?;
    let mut image = busybox(base(references))?;
    // Debian's busybox has a shell that hands on no variable such as `data-1`, which upstream's does.
    image = image.with("bin/sh", Node::File(find(BASH.program)?));
    image.cmd = vec!["sh".into()];
    image.user = user.to_owned();
    write(&image, &image::dir().join(format!("upstream-{name}.tar")))
}

fn pause(mut references: Vec<String>) -> Result<PathBuf> {
    let mut image = Known::Pause.image()?;
    references.retain(|reference| reference != PAUSE);
    image.names.extend(references);
    write(&image, &image::dir().join("upstream-pause.tar"))
}

fn base(references: Vec<String>) -> Image {
    let mut image = Image::new("");
    image.names = references;
    image
}

fn write(image: &Image, path: &Path) -> Result<PathBuf> {
    image.write(path)?;
    Ok(path.to_owned())
}

const BASH: Tool = tool("bash-static", "bash-static");
/// Counted up when agnhost's image is put together differently.
const RECIPE: u32 = 2;
