//! What is in the virtual machine: the suites, a userland, and the script that is its init.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::archive::Archive;
use super::console::UP;
use super::packages::Kernel;
use crate::run::{Run, cargo, root};

/// The programs under test.
pub(super) struct Suites {
    /// Every program that was built, where the tests look for it.
    programs: Vec<PathBuf>,
    /// `crates/cli/tests/it`.
    cli: PathBuf,
    /// `crates/runtime/tests/process`.
    process: PathBuf,
    /// `crates/wireguard/tests/tunnel`.
    tunnel: PathBuf,
}

/// Builds them.
pub(super) fn suites() -> Result<Suites> {
    // All of the workspace, so that it is built with the same features as by `cargo xtask test`.
    let tests = cargo(["test", "--workspace", "--no-run", "--locked", "--message-format", "json"])
        .args(["--test", "it", "--test", "process", "--test", "tunnel"])
        .text()
        .context("the tests for the virtual machine cannot be built")?;
    // `cargo test` would make tests of these, too.
    let examples = cargo(["build", "--workspace", "--locked", "--message-format", "json"])
        .args(["--examples"])
        .text()
        .context("the programs of the tests for the virtual machine cannot be built")?;
    let mut programs = Vec::new();
    let (mut cli, mut process, mut tunnel) = (None, None, None);
    for message in tests
        .lines()
        .chain(examples.lines())
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let of = |krate: &str| Path::new(manifest).parent() == Some(&root().join(krate));
        match (message["target"]["name"].as_str(), message["target"]["kind"][0].as_str()) {
            (Some("it"), Some("test")) if of("crates/cli") => cli = Some(program.clone()),
            (Some("process"), Some("test")) => process = Some(program.clone()),
            (Some("tunnel"), Some("test")) => tunnel = Some(program.clone()),
            // Suites that need nothing of a kernel.
            (_, Some("test")) => continue,
            _ => {}
        }
        programs.push(program);
    }
    let missing = "cargo built no such test: ";
    Ok(Suites {
        programs,
        cli: cli.with_context(|| format!("{missing}it"))?,
        process: process.with_context(|| format!("{missing}process"))?,
        tunnel: tunnel.with_context(|| format!("{missing}tunnel"))?,
    })
}

/// The command to run, for the shell.
pub(super) fn command(suites: &Suites, words: &[String]) -> String {
    let (cli, process) = (suites.cli.display(), suites.process.display());
    let cgroup2 = format!("'{cli}' cgroup2::");
    let wireguard = format!("'{}' kernel::", suites.tunnel.display());
    match words {
        [] => format!("{cgroup2} && {wireguard}"),
        [word] if word == "cgroup2" => cgroup2,
        [word] if word == "wireguard" => wireguard,
        [word] if word == "all" => {
            format!("'{process}'; process=$?; '{cli}' && [ $process = 0 ]")
        }
        [suite, rest @ ..] if suite == "cli" || suite == "process" => {
            let suite = if suite == "cli" { cli } else { process };
            format!("'{suite}' {}", rest.join(" "))
        }
        words => words.join(" "),
    }
}

/// Writes the initramfs.
pub(super) fn initramfs(
    kernel: &Kernel,
    busybox: &Path,
    suites: &Suites,
    script: &str,
    keep: bool,
    to: &Path,
) -> Result<()> {
    let file = File::create(to).with_context(|| to.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(file));
    let write = |archive: &mut Archive<_>| -> Result<()> {
        userland(archive, busybox)?;
        for module in &kernel.modules {
            archive.copy(module, &module_place(module))?;
        }
        for program in &suites.programs {
            archive.file(program, 0o755, &stripped(program)?)?;
        }
        tree(archive, &root().join("examples"))?;
        archive.copy(&root().join("README.md"), &root().join("README.md"))?;
        // Kept beside the repository, where there is one.
        let corpus = root().parent().map(|parent| parent.join("shared/corpus"));
        if let Some(corpus) = corpus.filter(|corpus| corpus.is_dir()) {
            tree(archive, &corpus)?;
        }
        archive.directory(root().join("crates/cli"))?;
        let modules: Vec<_> =
            kernel.modules.iter().map(|m| module_place(m).display().to_string()).collect();
        archive.file("/init", 0o755, FIRST.as_bytes())?;
        archive.file("/sbin/second", 0o755, second(&modules, script, keep).as_bytes())?;
        Ok(())
    };
    write(&mut archive)?;
    archive.finish().with_context(|| to.display().to_string())?;
    Ok(())
}

fn module_place(module: &Path) -> PathBuf {
    Path::new("/lib/modules").join(module.file_name().unwrap_or_default())
}

/// Programs of the host that tests run, because they are written for its options and its words. The
/// rest is busybox'.
const OF_THE_HOST: &str = "sh bash basename cat chmod chown cp cut date dd df dirname du echo env expr \
    false grep groups head hostname id ip kill ldd ln ls mkdir mkfifo mknod mount mv nproc printenv printf \
    ps pwd readlink realpath rm rmdir sed seq setpriv setsid sleep sort stat stty sync tail taskset tee \
    test timeout touch tr true truncate tty umount uname unshare wc whoami yes";

/// Directories that are links where `/usr` is merged.
const MERGED: [&str; 4] = ["/bin", "/sbin", "/lib", "/lib64"];

fn userland(archive: &mut Archive<BufWriter<File>>, busybox: &Path) -> Result<()> {
    for link in MERGED {
        if let Ok(target) = fs::read_link(link) {
            archive.symlink(link, &target.to_string_lossy())?;
            archive.directory(Path::new("/").join(target))?;
        }
    }
    for program in OF_THE_HOST.split_whitespace() {
        let program = find(program)
            .with_context(|| format!("tests run `{program}`, which is not installed"))?;
        for library in libraries(&program)? {
            archive.copy(&library, &place(&library))?;
        }
        archive.copy(&program, &place(&program))?;
        // Under every path that it has, so that busybox' own is not found first.
        for other in places(program.file_name().unwrap_or_default()) {
            if other.is_file() && !archive.has(&place(&other)) {
                archive.symlink(place(&other), &place(&program).to_string_lossy())?;
            }
        }
    }
    archive.copy(busybox, &place(Path::new("/bin/busybox")))?;
    for applet in Run::new(busybox).args(["--list-full"]).text()?.lines() {
        let path = place(&Path::new("/").join(applet));
        if !archive.has(&path) {
            archive.symlink(path, "/bin/busybox")?;
        }
    }
    archive.device("/dev/console", 0o600, [5, 1])?;
    for directory in ["/proc", "/sys", "/tmp", "/run", "/var/lib", "/root", "/home", "/mnt", "/new"]
    {
        archive.directory(directory)?;
    }
    for file in ["/etc/passwd", "/etc/group"] {
        archive.copy(Path::new(file), Path::new(file))?;
    }
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
    archive.file("/etc/resolv.conf", 0o644, b"nameserver 127.0.0.1\n")?;
    archive.file("/etc/hostname", 0o644, b"vm\n")?;
    Ok(())
}

/// Where the shell would find a program.
fn find(program: &str) -> Option<PathBuf> {
    places(program.as_ref()).into_iter().find(|path| path.is_file())
}

fn places(program: &OsStr) -> [PathBuf; 4] {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(program))
}

/// Where something goes, links to directories followed as they are on the host.
fn place(path: &Path) -> PathBuf {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// The libraries of a program, and its loader; a script has none.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    if fs::read(program)?.starts_with(b"#!") {
        return Ok(Vec::new());
    }
    let text = Run::new("ldd").args([program]).text()?;
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}

/// A program without its debug information, which is most of it.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let to = root().join("target/vm").join(format!("{}.stripped", std::process::id()));
    let words = ["-o".as_ref(), to.as_os_str(), program.as_os_str()];
    let result = Run::new("strip").args(words).quietly();
    let content = result.and_then(|()| Ok(fs::read(&to)?));
    let _ = fs::remove_file(&to);
    content
}

/// A directory with all that is in it.
fn tree(archive: &mut Archive<BufWriter<File>>, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            tree(archive, &path)?;
        } else if path.is_file() {
            archive.copy(&path, &path)?;
        } else {
            bail!("{} is neither a file nor a directory", path.display());
        }
    }
    Ok(())
}

/// The init of the initramfs. Its root cannot be left by `pivot_root`, so all of it moves to another.
const FIRST: &str = r#"#!/bin/busybox sh
set -e
mount -t tmpfs -o mode=755,size=90% root /new
for entry in /*; do
    case $entry in /new|/init) ;; *) cp -a "$entry" /new/ ;; esac
done
exec switch_root -c /dev/console /new /sbin/second
"#;

/// The init of the machine: mounts, modules, the command, its exit code, the end.
fn second(modules: &[String], script: &str, keep: bool) -> String {
    let modules: String = modules.iter().map(|module| format!("insmod {module}\n")).collect();
    let keep = if keep {
        "echo 'holdfast-vm: ended with '$code'; exit ends the machine'; setsid cttyhack sh -l"
    } else {
        ""
    };
    // Who fails rather than skips does so in there, too.
    let ci = if std::env::var_os("CI").is_some() { "CI=1" } else { "" };
    format!(
        r#"#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=linux HOLDFAST_VM=1 RUST_BACKTRACE=1 {ci}
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o mode=755 dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
# The repository may be there.
[ -n "$(ls -A /tmp)" ] && chmod 1777 /tmp || mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 -o nosuid,nodev,noexec cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
{modules}ip link set lo up
hostname vm
cd /tmp
echo "{UP} $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers), $(cut -d' ' -f1 /proc/uptime) s"
( {script} )
code=$?
echo "holdfast-vm: $(cut -d' ' -f1 /proc/uptime) s of the machine's own time"
{keep}
echo "exit $code" > /dev/ttyS1
reboot -f
"#
    )
}
