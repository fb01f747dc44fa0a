//! Builds the Go programs of the bench (`e2e/cluster`), once for each content of their sources.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// Something that `go` makes.
#[derive(Debug, Clone)]
struct Recipe {
    /// What it is called, also the file.
    name: String,
    /// The module's directory.
    module: PathBuf,
    /// The module file, if it is not `go.mod`.
    modfile: Option<PathBuf>,
    /// `build`, or `test -c`.
    verb: &'static [&'static str],
    package: &'static str,
    ldflags: String,
}

/// Kubernetes, one file with every component. `minor` is `1.35` or `1.34`.
///
/// # Errors
/// When it is not known, or does not build.
pub fn kubernetes(minor: &str) -> Result<PathBuf> {
    of_kubernetes(minor, "kube", &["build"], ".")
}

/// Upstream's node tests.
///
/// # Errors
/// As [`kubernetes`].
pub fn node_tests(minor: &str) -> Result<PathBuf> {
    of_kubernetes(minor, "node-tests", &["test", "-c"], "./nodetests")
}

/// The program in the image that upstream's node tests use most.
///
/// # Errors
/// As [`kubernetes`].
pub fn agnhost(minor: &str) -> Result<PathBuf> {
    of_kubernetes(minor, "agnhost", &["build"], "k8s.io/kubernetes/test/images/agnhost")
}

/// The cluster's name server.
///
/// # Errors
/// When it does not build.
pub fn coredns() -> Result<PathBuf> {
    Recipe {
        name: "coredns".into(),
        module: sources().join("coredns"),
        modfile: None,
        verb: &["build"],
        package: ".",
        ldflags: STRIP.into(),
    }
    .build()
}

/// Helm.
///
/// # Errors
/// When it does not build.
pub fn helm() -> Result<PathBuf> {
    // What a chart is rendered for when no cluster is asked; else helm calls it 1.20.
    let capabilities = "helm.sh/helm/v3/pkg/chartutil.k8sVersion";
    Recipe {
        name: "helm".into(),
        module: sources().join("helm"),
        modfile: None,
        verb: &["build"],
        package: "helm.sh/helm/v3/cmd/helm",
        ldflags: format!("{STRIP} -X {capabilities}Major=1 -X {capabilities}Minor=35"),
    }
    .build()
}

/// `/healthz` and `/readyz` of a manager made with controller-runtime, to compare with (`e2e/cluster/health`).
///
/// # Errors
/// When it does not build.
pub fn health() -> Result<PathBuf> {
    Recipe {
        name: "health".into(),
        module: sources().join("health"),
        modfile: None,
        verb: &["build"],
        package: ".",
        ldflags: STRIP.into(),
    }
    .build()
}

/// A containerd later than Debian's, and its shim: it tells what happens (`GetContainerEvents`), which 1.6
/// does not.
///
/// # Errors
/// When it does not build.
pub fn containerd() -> Result<[PathBuf; 2]> {
    let recipe = |name: &str, package: &'static str| Recipe {
        name: name.into(),
        module: sources().join("containerd"),
        modfile: None,
        verb: &["build"],
        package,
        ldflags: STRIP.into(),
    };
    Ok([
        recipe("containerd", "github.com/containerd/containerd/v2/cmd/containerd").build()?,
        recipe("shim", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2")
            .build()?,
    ])
}

/// The version of Kubernetes that `minor` stands for, such as `1.35.4`.
///
/// # Errors
/// When there is none.
pub fn version(minor: &str) -> Result<String> {
    let file = modfile(minor)?.unwrap_or_else(|| sources().join("go.mod"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .map(str::to_owned)
        .with_context(|| format!("{}: k8s.io/kubernetes is not required", file.display()))
}

/// The minor versions that can be built.
pub const MINORS: &[&str] = &["1.35", "1.34"];

fn modfile(minor: &str) -> Result<Option<PathBuf>> {
    match minor {
        "1.35" => Ok(None),
        _ if MINORS.contains(&minor) => Ok(Some(sources().join(format!("kubernetes-{minor}.mod")))),
        _ => bail!("Kubernetes {minor} cannot be built here; there are {}", MINORS.join(", ")),
    }
}

fn of_kubernetes(
    minor: &str,
    name: &str,
    verb: &'static [&'static str],
    package: &'static str,
) -> Result<PathBuf> {
    let version = version(minor)?;
    let (major, lesser) = minor.split_once('.').context("a minor version has one dot")?;
    // Without these the components call themselves v0.0.0 and refuse each other.
    let package_version = "k8s.io/component-base/version";
    let ldflags = format!(
        "{STRIP} -X {package_version}.gitVersion=v{version} -X {package_version}.gitMajor={major} \
         -X {package_version}.gitMinor={lesser}"
    );
    let modfile = modfile(minor)?;
    Recipe { name: format!("{name}-{version}"), module: sources(), modfile, verb, package, ldflags }
        .build()
}

impl Recipe {
    /// The program's path, built if it is not there yet.
    fn build(&self) -> Result<PathBuf> {
        let go = Go::find(&self.name)?;
        let dir = crate::cache().join("bin");
        fs::create_dir_all(&dir)?;
        let out = dir.join(format!("{}-{}", self.name, self.hash(&go)?));
        if out.exists() {
            return Ok(out);
        }
        // Two that want the same program do not build it twice.
        let lock = File::create(dir.join(format!("{}.lock", self.name)))?;
        lock.lock()?;
        if out.exists() {
            return Ok(out);
        }
        eprintln!("building {} (minutes, if Go's build cache is empty) …", self.name);
        let partial = out.with_extension("partial");
        let mut command = crate::tied("go");
        command.args(self.verb);
        if let Some(modfile) = &self.modfile {
            command.arg(format!("-modfile={}", modfile.display()));
        }
        // No trimmed paths: the cache of a machine on which Kubernetes was built before stays of use.
        let status = command
            .args(["-mod=readonly", "-buildvcs=false", "-ldflags", &self.ldflags, "-o"])
            .arg(&partial)
            .arg(self.package)
            .current_dir(&self.module)
            .env("CGO_ENABLED", "0")
            .env_remove("GOFLAGS")
            .status()
            .context("cannot run go")?;
        if !status.success() {
            bail!("go could not build {} in {}", self.name, self.module.display());
        }
        fs::rename(&partial, &out)?;
        self.forget_older(&dir, &out);
        Ok(out)
    }

    /// What the program is made of: sources, versions with their checksums, flags and compiler.
    fn hash(&self, go: &Go) -> Result<String> {
        let mut hash = Sha256::new();
        // The other module files beside it are other versions.
        let modfile = self.modfile.clone().unwrap_or_else(|| self.module.join("go.mod"));
        let mut files = vec![modfile.with_extension("sum"), modfile];
        for dir in [self.module.clone(), self.module.join(self.package)] {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            files.extend(
                entries
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|ending| ending == "go")),
            );
        }
        files.sort();
        files.dedup();
        for file in files {
            hash.update(fs::read(&file).with_context(|| file.display().to_string())?);
            hash.update([0]);
        }
        hash.update(format!("{:?} {} {} {}", self.verb, self.package, self.ldflags, go.version));
        Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Removes programs of other contents that nobody has used for long: each is 150 MB.
    fn forget_older(&self, dir: &Path, out: &Path) {
        let prefix = format!("{}-", self.name);
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = entry.file_name().to_string_lossy().starts_with(&prefix) && path != out;
            let old = entry
                .metadata()
                .and_then(|meta| meta.accessed())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > FORGET_AFTER_SECONDS));
            if ours && old {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The Go toolchain.
struct Go {
    version: String,
}

impl Go {
    fn find(what: &str) -> Result<Self> {
        let output = Command::new("go").arg("version").output().with_context(|| {
            format!(
                "{what} is built from source, and there is no `go` in PATH: install Go {GO} or later \
                 (https://go.dev/dl)"
            )
        })?;
        Ok(Self { version: String::from_utf8_lossy(&output.stdout).trim().to_owned() })
    }
}

fn sources() -> PathBuf {
    crate::workspace().join("e2e/cluster")
}

/// No symbols and no debugging information: a third of the size.
const STRIP: &str = "-s -w";
/// What the module files ask for.
const GO: &str = "1.25";
const FORGET_AFTER_SECONDS: u64 = 14 * 24 * 3600;
