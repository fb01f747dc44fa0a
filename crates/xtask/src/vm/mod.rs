//! The tests that need a kernel of their own: a plain cgroup v2 with every controller, on Debian's
//! kernel, in a virtual machine that is gone afterwards.
//!
//! ```text
//!   linux-image (.deb) ─┐
//!   busybox-static ─────┼─▶ initramfs ─▶ qemu ─▶ console on stdout
//!   holdfast, tests ────┘                  └───▶ exit code on a serial port of its own
//! ```
//! Nothing is installed but qemu: kernel and busybox are taken out of their packages, below `target/`.
//! The machine needs neither root nor KVM. Without KVM its clock counts instructions: a busy host makes
//! it slow but not late, so what tests measure in it is exact, and what sleeps takes no time.

mod archive;
mod console;
mod guest;
mod machine;
mod packages;

use anyhow::Result;

use crate::debian::{Tool, ensure};
use machine::{Machine, Outcome};

/// Options of `vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail rather than install Debian packages
    #[arg(long)]
    no_install: bool,
    /// Stay in the virtual machine with a shell after the command
    #[arg(long)]
    keep: bool,
    /// Give the machine up after this many seconds of real time
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    timeout: u64,
    /// `cgroup2`, `wireguard`, both (the default) or `all` of cgroup2: the suites to run; else a command for the machine's shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

const QEMU: Tool = Tool {
    program: machine::QEMU,
    package: "qemu-system-x86",
    suite: "a virtual machine with cgroup v2",
};

pub(crate) fn run(args: Args) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        anyhow::bail!("the virtual machine is x86_64; this is {}", std::env::consts::ARCH);
    }
    ensure(&[QEMU], args.no_install)?;
    let kernel = packages::kernel(args.no_install)?;
    let busybox = packages::busybox(args.no_install)?;
    let suites = guest::suites()?;
    let script = guest::command(&suites, &args.command);
    let machine = Machine::new(args.keep, args.timeout)?;
    guest::initramfs(&kernel, &busybox, &suites, &script, args.keep, machine.initramfs())?;
    match machine.run(&kernel.image)? {
        Outcome::Ended(0) => Ok(()),
        Outcome::Ended(code) => {
            anyhow::bail!("the command ended with {code} in the virtual machine")
        }
        Outcome::Lost(why) => anyhow::bail!("{why}"),
    }
}
