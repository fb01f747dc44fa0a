//! From an address to a proxy that listens there.
//!
//! In a network namespace of this program's own: [`measure`] runs it again inside of one, where there is
//! nothing but an interface called `netmaker`.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Size;
use crate::run::Holdfast;
use crate::stats::Samples;

/// What was measured, in milliseconds.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) v4: Samples,
    pub(super) v6: Samples,
    pub(super) start: Samples,
}

/// The proxy's port when nobody says another one.
const PROXY: u16 = 8085;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is tried whether somebody listens: what is measured is so much too long at most.
const PAUSE: Duration = Duration::from_micros(100);

/// Measures it.
pub(super) fn measure(holdfast: &Holdfast, size: Size) -> Result<Times> {
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(["--holdfast".as_ref(), holdfast.binary().as_os_str()])
        .args(["manager-inside", &size.addresses.to_string(), &size.starts.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("there is no unshare (apt-get install util-linux)")?;
    ensure!(output.status.success(), "the trials in a network namespace failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |what: &str, count: usize| -> Result<Samples> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(what));
        let samples = lines.map(|line| line.trim().parse()).collect::<Result<Vec<f64>, _>>()?;
        ensure!(samples.len() == count, "{} of {count} trials of {what}", samples.len());
        Ok(Samples::new(samples))
    };
    Ok(Times {
        v4: of("v4 ", size.addresses)?,
        v6: of("v6 ", size.addresses)?,
        start: of("start ", size.starts)?,
    })
}

/// The copy inside of the namespace: prints a time in milliseconds for each trial.
///
/// # Errors
/// If an interface cannot be made, or the manager does not come to listen.
pub fn inside(holdfast: &Holdfast, addresses: usize, starts: usize) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("holdfast-manager-").tempdir()?;
    let kubeconfig = kubeconfig(dir.path())?;
    let mut ip = Ip::start()?;
    ip.tell("link set lo up")?;
    ip.tell("link add netmaker type veth peer name netmakerp")?;
    ip.tell("link set netmaker up")?;
    ip.tell("link set netmakerp up")?;
    let manager = Manager::start(holdfast, &kubeconfig, dir.path())?;
    until(|| Manager::log(dir.path()).contains("Waiting before retry"))?;
    for trial in 0..addresses {
        let n = u16::try_from(trial)? + 1;
        let [high, low] = n.to_be_bytes();
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 99, high, low));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, n));
        // A WireGuard interface has no neighbours: no detection of duplicates, and nobody to ask for the address
        // in the moment in which the kernel has a route to it, and does not yet know that it is its own.
        let v6 = ("v6", v6, "/128 nodad noprefixroute");
        for (name, address, words) in [("v4", v4, "/32"), v6] {
            // Not always in the same part of a turn, if there were one.
            std::thread::sleep(Duration::from_millis(trial as u64 * 37 % 100));
            let begin = Instant::now();
            let (length, flags) = words.split_once(' ').unwrap_or((words, ""));
            ip.tell(&format!("addr add {address}{length} dev netmaker {flags}"))?;
            let there = listens(address).with_context(|| Manager::log(dir.path()))?;
            println!("{name} {}", (there - begin).as_secs_f64() * 1e3);
            ip.tell(&format!("addr del {address}{length} dev netmaker"))?;
            until(|| !open(address))?;
        }
    }
    drop(manager);
    let address = IpAddr::V4(Ipv4Addr::new(10, 99, 99, 99));
    ip.tell(&format!("addr add {address}/32 dev netmaker"))?;
    // `ip` is another process.
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..starts {
        let begin = Instant::now();
        let manager = Manager::start(holdfast, &kubeconfig, dir.path())?;
        let there = listens(address).with_context(|| Manager::log(dir.path()))?;
        println!("start {}", (there - begin).as_secs_f64() * 1e3);
        drop(manager);
    }
    ip.end()
}

/// `ip`, to be told what to do.
struct Ip {
    child: Child,
    batch: ChildStdin,
}

impl Ip {
    fn start() -> Result<Self> {
        let mut child = Command::new("ip")
            .args(["-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("there is no ip (apt-get install iproute2)")?;
        let batch = child.stdin.take().context("no stdin")?;
        Ok(Self { child, batch })
    }

    fn tell(&mut self, words: &str) -> Result<()> {
        Ok(writeln!(self.batch, "{words}")?)
    }

    fn end(mut self) -> Result<()> {
        drop(self.batch);
        ensure!(self.child.wait()?.success(), "ip failed");
        Ok(())
    }
}

/// A manager without an election, whose API server is not there: it listens all the same.
struct Manager(Child);

impl Manager {
    fn start(holdfast: &Holdfast, kubeconfig: &Path, dir: &Path) -> Result<Self> {
        let child = Command::new(holdfast.binary())
            .args(["manager", "--health-probe-bind-address=0"])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("STATUS_FILE", dir.join("status.json"))
            .env("PROXY_MODE", "auth")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log"))?)
            .spawn()?;
        Ok(Self(child))
    }

    /// What it has said.
    fn log(dir: &Path) -> String {
        fs::read_to_string(dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of an API server that is not there.
fn kubeconfig(dir: &Path) -> Result<PathBuf> {
    let ca = rcgen::generate_simple_self_signed(["nobody".to_owned()])?;
    fs::write(dir.join("ca.crt"), ca.cert.pem())?;
    let server =
        json!({ "server": "https://127.0.0.1:1", "certificate-authority": dir.join("ca.crt") });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{ "name": "none", "cluster": server }],
        "users": [{ "name": "none", "user": { "token": "none" } }],
        "contexts": [{ "name": "none", "context": { "cluster": "none", "user": "none" } }],
    });
    let kubeconfig = dir.join("kubeconfig");
    fs::write(&kubeconfig, config.to_string())?;
    Ok(kubeconfig)
}

fn open(address: IpAddr) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, PROXY), PATIENCE).is_ok()
}

/// When somebody listens there.
fn listens(address: IpAddr) -> Result<Instant> {
    until(|| open(address))?;
    Ok(Instant::now())
}

fn until(is: impl Fn() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !is() {
        ensure!(begin.elapsed() < PATIENCE, "the manager does not follow the interface");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
