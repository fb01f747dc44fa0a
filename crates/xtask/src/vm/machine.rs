//! The virtual machine itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::console::{Console, Heard};
use crate::run::root;

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// A machine that has not been started; its files go with it.
pub(super) struct Machine {
    keep: bool,
    patience: Duration,
    /// A name for its files.
    base: PathBuf,
}

/// What became of the command in it.
pub(super) enum Outcome {
    /// It ended with this code.
    Ended(i32),
    /// The machine ended or was ended without a code; why, for the user.
    Lost(String),
}

/// How long a machine may take until its init has come to the command, in real time. It needs about 5 s
/// of one processor.
const BOOT: Duration = Duration::from_secs(240);
const MEMORY: &str = "2G";

impl Machine {
    pub(super) fn new(keep: bool, patience: u64) -> Result<Self> {
        let base = root().join("target/vm").join(format!("run-{}", std::process::id()));
        fs::create_dir_all(root().join("target/vm"))?;
        Ok(Self { keep, patience: Duration::from_secs(patience), base })
    }

    /// Where its initramfs is to be.
    pub(super) fn initramfs(&self) -> &Path {
        &self.base
    }

    /// Boots it and waits for its end; the console goes to stdout.
    pub(super) fn run(&self, kernel: &Path) -> Result<Outcome> {
        let accelerator = if kvm() { Accelerator::Kvm } else { Accelerator::Tcg };
        eprintln!(
            "xtask: booting {} ({})",
            kernel.file_name().unwrap_or_default().display(),
            match accelerator {
                Accelerator::Kvm => "KVM",
                Accelerator::Tcg => "emulated: no usable /dev/kvm",
            }
        );
        let mut command = self.command(kernel, accelerator);
        if self.keep {
            let status = command.status().with_context(|| format!("cannot run {QEMU}"))?;
            return Ok(self.outcome(&format!("the virtual machine ended: {status}")));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut qemu = command.spawn().with_context(|| format!("cannot run {QEMU}"))?;
        let console = Console::listen(qemu.stdout.take().context("qemu without a stdout")?);
        let why = self.watch(&console, start);
        if why.is_some() {
            let _ = qemu.kill();
        }
        let status = wait(&mut qemu)?;
        let told = match why {
            Some(why) => why,
            None => format!("the virtual machine ended by itself ({status}), without a result"),
        };
        let outcome = self.outcome(&format!("{told}; the end of its console:\n{}", console.tail()));
        eprintln!("xtask: the virtual machine ran for {:.1} s", start.elapsed().as_secs_f64());
        Ok(outcome)
    }

    /// Passes the console on until it ends; else the answer says what was waited for in vain.
    fn watch(&self, console: &Console, start: Instant) -> Option<String> {
        let end = start + self.patience;
        let mut up = false;
        loop {
            let deadline = if up { end } else { end.min(start + BOOT) };
            match console.next(deadline) {
                Heard::Up => up = true,
                Heard::Line => {}
                Heard::End => return None,
                Heard::Nothing if up => {
                    return Some(format!(
                        "the virtual machine hangs, or is slow: no end after {} s (--timeout)",
                        self.patience.as_secs()
                    ));
                }
                Heard::Nothing => {
                    let seconds = start.elapsed().as_secs();
                    return Some(format!("the virtual machine has not booted after {seconds} s"));
                }
            }
        }
    }

    /// What the machine wrote to its second serial port.
    fn outcome(&self, otherwise: &str) -> Outcome {
        let text = fs::read_to_string(self.result()).unwrap_or_default();
        let code = text.trim().strip_prefix("exit ").and_then(|code| code.parse().ok());
        code.map_or_else(|| Outcome::Lost(otherwise.to_owned()), Outcome::Ended)
    }

    fn result(&self) -> PathBuf {
        self.base.with_extension("result")
    }

    fn command(&self, kernel: &Path, accelerator: Accelerator) -> Command {
        // It ends with us, also when we are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        command.args(["-m", MEMORY]).args(accelerator.arguments(self.keep));
        command.args(["-serial", if self.keep { "mon:stdio" } else { "stdio" }]);
        command.arg("-serial").arg(prefixed("file:", &self.result()));
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(self.initramfs());
        command.args(["-append", KERNEL]);
        command
    }
}

/// A fault of the kernel ends the machine, what it kills for memory is not worth a line; nothing is tried
/// that only real hardware has.
const KERNEL: &str = "console=ttyS0 loglevel=3 panic=-1 oops=panic reboot=t nokaslr mitigations=off \
                      no_timer_check tsc=reliable random.trust_cpu=on";

#[derive(Clone, Copy)]
enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    fn arguments(self, keep: bool) -> Vec<String> {
        let words = match self {
            Self::Kvm => "-accel kvm -cpu host -smp 2 -machine pc".to_owned(),
            Self::Tcg => {
                // The clock counts instructions, 2 ns each, and jumps over what is slept; only someone
                // at a keyboard would find that strange.
                let sleep = if keep { "on" } else { "off" };
                format!(
                    "-accel tcg -cpu max -machine pc,hpet=off -rtc clock=vm -icount \
                     shift=1,sleep={sleep}"
                )
            }
        };
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// Whether KVM runs any kernel here. A `/dev/kvm` without the processor's own virtualization is one that
/// only runs kernels made for it.
fn kvm() -> bool {
    let open = fs::File::options().read(true).write(true).open("/dev/kvm");
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = processor
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|f| f == "vmx" || f == "svm"));
    open.is_ok() && hardware
}

fn prefixed(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(prefix);
    text.push(path);
    text
}

fn wait(qemu: &mut Child) -> Result<std::process::ExitStatus> {
    qemu.wait().with_context(|| format!("cannot wait for {QEMU}"))
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.initramfs());
        let _ = fs::remove_file(self.result());
    }
}
