//! `podman kube play`, set up so that it also runs where there is no registry, no systemd, no
//! overlayfs and no cgroup v2.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// The image both sides run: nothing but a static busybox.
pub(crate) const IMAGE: &str = "localhost/holdfast-bench:1";

/// The programs of the image.
const APPLETS: [&str; 7] = ["sh", "true", "sleep", "echo", "test", "touch", "cat"];

/// A podman with a store of its own.
#[derive(Debug)]
pub(crate) struct Podman {
    dir: TempDir,
    /// What was found out about it, for the report.
    pub(crate) about: String,
}

impl Podman {
    /// Finds podman, makes the image, and finds an OCI runtime that works.
    pub(crate) fn find() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("holdfast-peer-").tempdir()?;
        let mut podman = Self { dir, about: String::new() };
        podman.configure("crun")?;
        let version =
            podman.text(&["--version"]).context("there is no podman (apt-get install podman)")?;
        podman
            .make_root()
            .context("cannot make a root directory (apt-get install busybox-static)")?;
        let mut refused = Vec::new();
        for runtime in ["crun", "runc"] {
            podman.configure(runtime)?;
            if podman.text(&["image", "exists", IMAGE]).is_err() {
                podman.import()?;
            }
            let run = ["run", "--rm", "--network", "host", IMAGE, "/bin/true"];
            match podman.text(&run) {
                Ok(_) => {
                    podman.about = format!("{}, {runtime}, vfs, cgroupfs", version.trim());
                    if !refused.is_empty() {
                        podman.about += &format!(" ({})", refused.join("; "));
                    }
                    return Ok(podman);
                }
                Err(e) => refused.push(format!("{runtime} does not run here: {e:#}")),
            }
        }
        bail!("{} runs no container: {}", version.trim(), refused.join("; "))
    }

    /// The directory that the image was made from.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn make_root(&self) -> Result<()> {
        let bin = self.root().join("bin");
        for dir in [&bin, &self.root().join("tmp"), &self.root().join("log")] {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::copy("/bin/busybox", bin.join("busybox"))?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(applet))?;
        }
        Ok(())
    }

    /// Limits are set low because podman asks for more than a user without CAP_SYS_RESOURCE may
    /// give; there is no journal to write events to.
    fn configure(&self, runtime: &str) -> Result<()> {
        let text = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"{runtime}\"\n"
        );
        Ok(std::fs::write(self.dir.path().join("containers.conf"), text)?)
    }

    fn import(&self) -> Result<()> {
        let archive = self.dir.path().join("root.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&archive)?);
        tar.follow_symlinks(false);
        tar.append_dir_all(".", self.root())?;
        tar.finish()?;
        self.text(&["import", &archive.to_string_lossy(), IMAGE])?;
        Ok(())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        let at = |name: &str| self.dir.path().join(name);
        command
            .env("CONTAINERS_CONF", at("containers.conf"))
            .arg("--root")
            .arg(at("store"))
            .arg("--runroot")
            .arg(at("run"))
            .args(["--storage-driver", "vfs"])
            .args(args)
            // A directory here that is called like the image would be taken for its sources.
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// What a command prints; an error if it fails.
    pub(crate) fn text(&self, args: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(args).output()?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "podman {}: {}", args[0], said.trim());
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// From the start of a pod to its end, and until it is taken down.
    pub(crate) fn run(&self, manifest: &Path, pod: &str, apps: usize) -> Result<[Duration; 2]> {
        let file = manifest.to_string_lossy();
        let start = Instant::now();
        self.text(&["kube", "play", &file])?;
        let names: Vec<String> = (0..apps).map(|at| format!("{pod}-app-{at}")).collect();
        let wait: Vec<&str> =
            std::iter::once("wait").chain(names.iter().map(String::as_str)).collect();
        let codes = self.text(&wait)?;
        let ended = start.elapsed();
        self.text(&["kube", "down", &file])?;
        ensure!(codes.lines().all(|code| code == "0"), "containers of {pod} ended with {codes}");
        Ok([ended, start.elapsed()])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What an interrupted case left; the directory goes with its owner.
        let _ = self.command(&["pod", "rm", "--all", "--force", "--time", "0"]).output();
    }
}
