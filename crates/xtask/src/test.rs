//! The whole test suite.

use anyhow::Result;

use crate::debian::{Tool, ensure};
use crate::run::{cargo, root};

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail rather than install Debian packages
    #[arg(long)]
    no_install: bool,
    /// Handed on to `cargo test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// What the suites need beside Rust and a C compiler. The test bench (crate e2e) is not in this list: it
/// takes root, and knows itself what its nodes are made of.
const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", suite: "pods with a network of their own" },
    Tool { program: "socat", package: "socat", suite: "ports that `doctor` finds taken" },
    Tool { program: "strace", package: "strace", suite: "what `render` writes: nothing" },
    Tool { program: "serf", package: "serf", suite: "clusters of its agents and our members" },
    Tool { program: "wg", package: "wireguard-tools", suite: "our WireGuard under `wg`" },
    Tool { program: "wireguard-go", package: "wireguard-go", suite: "our WireGuard and another" },
    Tool { program: "chromium", package: "chromium", suite: "pages of timelines" },
];

pub(crate) fn run(args: Args) -> Result<()> {
    ensure(TOOLS, args.no_install)?;
    // Suites share a cluster that is up, and leave it up for the next.
    let cluster = root().join("target/cluster/default");
    let was_up = cluster.exists();
    let mut tests = cargo(["test", "--workspace", "--locked"]).args(&args.rest);
    if args.no_install {
        tests = tests.env("BENCH_NO_INSTALL", "1");
    }
    let result = tests.go();
    if !was_up && cluster.exists() {
        cargo(["run", "--quiet", "--package", "holdfast-e2e", "--", "cluster", "down"]).go()?;
    }
    result
}
