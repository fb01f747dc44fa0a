//! Upstream's images, under upstream's names, from what is on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

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
    let pause = pause(named("pause"))?;
    Ok(vec![
        agnhost(named("agnhost"), minor, &pause)?,
        with_shell("busybox", named("busybox"), "")?,
        with_shell("nonroot", named("nonroot"), "1234")?,
        // No web server is asked of it by these specs, only another image with a shell.
        with_shell("nginx", named("nginx"), "")?,
        pause,
    ])
}

/// agnhost: one program that plays many parts, with shells and curl beside it, which hooks run, a
/// certificate of its own for the part of an https server, and an image for that of a registry.
fn agnhost(references: Vec<String>, minor: &str, pause: &Path) -> Result<PathBuf> {
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
    image = with_registry(image, pause).with_context(|| pause.display().to_string())?;
    image.entrypoint = vec!["/agnhost".into()];
    image.cmd = vec!["pause".into()];
    write(&image, &path)
}

/// Adds the files from which agnhost's registry gives out `pause:testing`: the archive's.
fn with_registry(mut image: Image, archive: &Path) -> Result<Image> {
    let mut add = |name: String, data: Vec<u8>| {
        let node = Node::Data(data, 0o644);
        image.files.insert(format!("var/registry/pause/{name}"), node);
    };
    let mut index = Value::Null;
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data)?;
        if name == "index.json" {
            index = serde_json::from_slice(&data)?;
        } else if let Some(hash) = name.strip_prefix("blobs/sha256/") {
            blobs.insert(format!("sha256:{hash}"), data);
        }
    }
    let digest = index.pointer("/manifests/0/digest").and_then(Value::as_str);
    let digest = digest.context("no manifest in it")?;
    add("manifests/testing".into(), digest.into());
    for (name, data) in blobs {
        let kind = if name == digest { "manifests" } else { "blobs" };
        add(format!("{kind}/{name}"), data);
    }
    Ok(image)
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
const RECIPE: u32 = 3;
