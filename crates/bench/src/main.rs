//! `holdfast-bench`: see the library's documentation.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use holdfast_bench::run::{Holdfast, Size};
use holdfast_bench::{
    apiproxy, engine, explain, helpers, kubelet, machine, manager, peer, run, wireguard,
};

/// Measures holdfast, and prints Markdown
#[derive(Debug, Parser)]
#[command(name = "holdfast-bench")]
struct Cli {
    /// The binary to measure [default: `holdfast` beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    holdfast: Option<PathBuf>,
    /// Wait at most this long for a quiet machine before real processes are timed
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    quiet: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// The engine in virtual time
    Engine,
    /// `holdfast run` on real processes
    Run,
    /// `holdfast explain` of a large pod
    Explain,
    /// `holdfast wait` and `render`, and what people use for it
    Helpers,
    /// The same pods under `podman kube play`
    Peer,
    /// A real kubelet and `holdfast run --runtime cri` on the same containerd; needs root, Go and
    /// holdfast-e2e beside this program, and brings up a cluster
    Kubelet,
    /// The API proxy beside kubectl proxy and nginx; needs wrk
    Apiproxy {
        /// Of a cluster with the image busybox: compares before its API server, too; needs kubectl
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
    },
    /// A process of `apiproxy`
    #[command(hide = true)]
    ApiproxyInside { role: apiproxy::Role, directory: PathBuf, upstream: Option<String> },
    /// How long nobody leads, and how long the interface is there before the proxy is; needs root, Go and
    /// holdfast-e2e beside this program, and brings up a control plane
    Manager,
    /// A copy of `manager` in a network namespace
    #[command(hide = true)]
    ManagerInside { addresses: usize, starts: usize },
    /// Our WireGuard beside wireguard-go, and with many peers; needs root, iperf3 and wireguard-go
    Wireguard,
    /// A process of `wireguard`
    #[command(hide = true)]
    WireguardInside {
        role: wireguard::Role,
        first: u8,
        #[arg(allow_negative_numbers = true)]
        count: i16,
    },
    /// The engine and `run` in small, to see that the bench works
    Smoke,
    /// Everything but the kubelet, the proxy and the manager
    All,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Command::ApiproxyInside { role, directory, upstream } = cli.command {
        return apiproxy::run(role, &directory, upstream.as_deref());
    }
    if let Command::ManagerInside { addresses, starts } = cli.command {
        return manager::inside(&Holdfast::find(cli.holdfast)?, addresses, starts);
    }
    if let Command::WireguardInside { role, first, count } = cli.command {
        return wireguard::run(role, first, count);
    }
    let is = |commands: &[Command]| commands.contains(&cli.command);
    if is(&[Command::Helpers]) && helpers::inside(&Holdfast::find(cli.holdfast.clone())?)? {
        return Ok(());
    }
    let smoke = is(&[Command::Smoke]);
    println!("Measured on {}; load before: {}\n", machine::describe(), machine::load());
    if is(&[Command::Engine, Command::All, Command::Smoke]) {
        let (rounds, round, largest) = if smoke { (1, 1, 100) } else { (7, 300, 1000) };
        print!("{}", engine::report(rounds, Duration::from_millis(round), largest));
    }
    if is(&[Command::Engine]) {
        return Ok(());
    }
    if let Command::Apiproxy { kubeconfig } = &cli.command {
        wait(cli.quiet);
        for section in apiproxy::report(apiproxy::Size::FULL, kubeconfig.as_deref())? {
            print!("{section}");
        }
        return Ok(());
    }
    if is(&[Command::Wireguard]) {
        wait(cli.quiet);
        print!("{}", wireguard::report(wireguard::Size::FULL)?);
        return Ok(());
    }
    let holdfast = Holdfast::find(cli.holdfast)?;
    if is(&[Command::Run, Command::All, Command::Smoke]) {
        wait(cli.quiet);
        let size = if smoke { Size::SMOKE } else { Size::FULL };
        print!("{}", run::report(&holdfast, size)?);
    }
    if is(&[Command::Explain, Command::All, Command::Smoke]) {
        wait(cli.quiet);
        print!("{}", explain::report(&holdfast, if smoke { 3 } else { 200 })?);
    }
    if is(&[Command::Helpers, Command::All]) {
        wait(cli.quiet);
        print!("{}", helpers::report(&holdfast, helpers::Size::FULL)?);
    }
    if is(&[Command::Peer, Command::All]) {
        wait(cli.quiet);
        print!("{}", peer::report(&holdfast, 10)?);
    }
    if is(&[Command::Kubelet]) {
        wait(cli.quiet);
        print!("{}", kubelet::report(&holdfast, kubelet::Size::FULL)?);
    }
    if is(&[Command::Manager]) {
        wait(cli.quiet);
        print!("{}", manager::report(&holdfast, manager::Size::FULL)?);
    }
    Ok(())
}

/// Says how busy others keep the machine, once it is quiet or the time is over.
fn wait(seconds: u64) {
    if seconds > 0 {
        let used = machine::wait_until_quiet(Duration::from_secs(seconds));
        println!("Before what follows, other programs used {used} % of the processors.\n");
    }
}
