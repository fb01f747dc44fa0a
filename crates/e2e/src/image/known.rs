//! The images that tests use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::archive::{Image, Node};
use super::program::{find, program};
use crate::packages::{self, Tool, tool};

/// An image that the bench knows how to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Known {
    /// A shell and the usual tools (Debian's static busybox)
    Busybox,
    /// Holdfast itself, as it is in the sources now
    Holdfast,
    /// iperf3, with a shell beside it
    Iperf3,
    /// What plays netclient: it joins a WireGuard network as it is told
    Netclient,
    /// The process that holds a pod's namespaces
    Pause,
    /// wireguard-go and wg, with a shell beside them
    Wireguard,
}

impl Known {
    /// What it is called, also its file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Holdfast => "holdfast",
            Self::Iperf3 => "iperf3",
            Self::Netclient => "netclient",
            Self::Pause => "pause",
            Self::Wireguard => "wireguard",
        }
    }

    /// The name that pods use. A tag other than `latest`, so that nobody pulls it by default; busybox has
    /// the name that everybody writes.
    #[must_use]
    pub fn reference(self) -> String {
        match self {
            Self::Busybox => "docker.io/library/busybox:latest".into(),
            Self::Pause => crate::cluster::PAUSE.into(),
            other => format!("bench.test/{}:1", other.name()),
        }
    }

    /// Puts it together from what is on this machine, after installing what is missing.
    ///
    /// # Errors
    /// When something cannot be installed or built.
    pub fn image(self) -> Result<Image> {
        packages::ensure(self.needs())?;
        let image = Image::new(&self.reference());
        let mut image = match self {
            Self::Busybox => busybox(image)?,
            // `/manager` is what the Netmaker operator's image has: changing the image is enough.
            Self::Holdfast => image
                .with("holdfast", Node::File(holdfast_program()?))
                .with("manager", Node::Link("holdfast".into())),
            Self::Iperf3 => program(busybox(image)?, &find("iperf3")?)?,
            Self::Pause => image.with("pause", Node::File(pause()?)),
            Self::Netclient => {
                let path = crate::workspace().join("e2e/cluster/images/netclient.sh");
                let script = fs::read(&path).with_context(|| path.display().to_string())?;
                wireguard(image)?.with("bin/netclient", Node::Data(script, 0o755))
            }
            Self::Wireguard => wireguard(image)?,
        };
        match self {
            Self::Busybox => image.cmd = vec!["sh".into()],
            Self::Holdfast | Self::Pause => image.entrypoint = vec![format!("/{}", self.name())],
            Self::Iperf3 | Self::Netclient => image.entrypoint = vec![self.name().into()],
            Self::Wireguard => image.cmd = vec!["sh".into()],
        }
        match self {
            // Not root, and known to be: `runAsNonRoot` takes a number.
            Self::Holdfast => image.user = "65532:65532".into(),
            Self::Pause => image.user = "65535:65535".into(),
            _ => {}
        }
        Ok(image)
    }

    /// Whether it may be as large as its archive, in which nothing is compressed: a node keeps it like that.
    ///
    /// # Errors
    /// When more was promised to those who pull it.
    pub(super) fn weighed(self, bytes: u64) -> Result<()> {
        const MB: f64 = 1e6;
        let most = match self {
            Self::Holdfast => 20_000_000,
            _ => return Ok(()),
        };
        if bytes > most {
            bail!(
                "{:.1} MB, and {:.1} were promised: what has come in? (Cargo.toml says which crates are made \
                 small instead of fast)",
                bytes as f64 / MB,
                most as f64 / MB
            );
        }
        Ok(())
    }

    /// The Debian packages it is made of.
    fn needs(self) -> &'static [Tool] {
        const IPERF3: &[Tool] = &[BUSYBOX, tool("iperf3", "iperf3")];
        const PAUSE: &[Tool] = &[tool("cc", "gcc"), tool("/usr/include/stdlib.h", "libc6-dev")];
        const WIREGUARD: &[Tool] =
            &[BUSYBOX, tool("wireguard-go", "wireguard-go"), tool("wg", "wireguard-tools")];
        match self {
            Self::Busybox => &[BUSYBOX],
            Self::Holdfast => &[],
            Self::Iperf3 => IPERF3,
            Self::Pause => PAUSE,
            Self::Netclient | Self::Wireguard => WIREGUARD,
        }
    }
}

/// wireguard-go and wg beside busybox.
fn wireguard(image: Image) -> Result<Image> {
    program(program(busybox(image)?, &find("wireguard-go")?)?, &find("wg")?)
}

/// Adds busybox, with a link for each of its applets.
///
/// # Errors
/// When busybox is not there.
pub fn busybox(mut image: Image) -> Result<Image> {
    let path = find("busybox")?;
    let output = Command::new(&path).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        if applet != "busybox" {
            image = image.with(&format!("bin/{applet}"), Node::Link("busybox".into()));
        }
    }
    program(image, &path)
}

/// The pause program, built if its source has changed.
///
/// # Errors
/// When the C compiler is missing or fails.
pub(super) fn pause() -> Result<PathBuf> {
    let source = crate::workspace().join("e2e/cluster/images/pause.c");
    let dir = crate::cache().join("bin");
    let program = dir.join("pause");
    let written = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    if written(&program).is_ok_and(|built| written(&source).is_ok_and(|at| built > at)) {
        return Ok(program);
    }
    fs::create_dir_all(&dir)?;
    // Two may build it at once: each its own, and whole before it has the name.
    let partial = tempfile::Builder::new().prefix("pause").tempfile_in(&dir)?.into_temp_path();
    let output = Command::new("cc")
        .args(["-static", "-Os", "-s", "-Wl,--build-id=none", "-o"])
        .args([&*partial, &source])
        .output()
        .context("cannot run cc: install gcc and libc6-dev")?;
    if !output.status.success() {
        bail!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    partial.persist(&program)?;
    Ok(program)
}

/// Holdfast's own program, built from the sources as they are.
///
/// # Errors
/// When it does not build.
pub fn holdfast_program() -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--package", "holdfast-cli"])
        .args(["--bin", "holdfast", "--message-format", "json-render-diagnostics"])
        .current_dir(crate::workspace())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo could not build holdfast");
    }
    // Cargo says where it has put it: that depends on the target and on settings.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .context("cargo does not say where it has put holdfast")
}

const BUSYBOX: Tool = tool("busybox", "busybox-static");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holdfasts_image_is_small_or_there_is_none() {
        Known::Holdfast.weighed(20_000_000).unwrap();
        let said = Known::Holdfast.weighed(20_100_000).unwrap_err().to_string();
        assert!(said.starts_with("20.1 MB, and 20.0 were promised"), "{said}");
        Known::Busybox.weighed(1 << 30).unwrap();
    }
}
