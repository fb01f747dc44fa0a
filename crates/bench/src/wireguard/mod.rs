//! Our WireGuard beside wireguard-go, and with many peers.

mod hosts;
mod inside;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_e2e::packages::{Tool, ensure as install, tool};
use holdfast_wireguard::{PrivateKey, PublicKey};
use serde_json::Value;

use crate::report::{Row, Section};
use crate::stats::Samples;
use hosts::{Host, Program};

pub use inside::{Role, run};

const TOOLS: &[Tool] = &[
    tool("iperf3", "iperf3"),
    tool("ip", "iproute2"),
    tool("ping", "iputils-ping"),
    tool("wg", "wireguard-tools"),
    tool("wireguard-go", "wireguard-go"),
];

/// How large the measurement is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How often each is measured, in turns.
    pub rounds: usize,
    /// For how many seconds at a time.
    pub seconds: u64,
    /// Among how many peers.
    pub peers: u8,
}

impl Size {
    /// About three minutes.
    pub const FULL: Self = Self { rounds: 3, seconds: 2, peers: 100 };
}

/// Throughput and round trips of both, and of ours with many peers.
///
/// # Errors
/// If a package is missing and cannot be installed, or either of them does not work.
pub fn report(size: Size) -> Result<Section> {
    install(TOOLS)?;
    let mut section = Section::new(
        "WireGuard",
        "Two network namespaces joined by a veth pair, MTU 1420 within, `iperf3` and `ping` on the same two \
         processors as both ends of the tunnel; ours and Debian's wireguard-go in turns, median of the rounds. \
         With many peers: one device on one side, as many devices in one process on the other.",
    );
    two(&mut section, size)?;
    many(&mut section, size)?;
    Ok(section)
}

/// What carries packets between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bare,
    Ours,
    WireguardGo,
}

/// Rates in Gbit/s, a round trip in ms.
#[derive(Clone, Debug, Default)]
struct Figures {
    tcp: Vec<f64>,
    tcp4: Vec<f64>,
    udp: Vec<f64>,
    lost: Vec<f64>,
    ping: Vec<f64>,
    retransmits: Vec<f64>,
    memory: f64,
}

fn median(samples: &[f64]) -> f64 {
    Samples::new(samples.to_vec()).median()
}

fn two(section: &mut Section, size: Size) -> Result<()> {
    let kinds = [Kind::Bare, Kind::Ours, Kind::WireguardGo];
    let mut all = [Figures::default(), Figures::default(), Figures::default()];
    for _ in 0..size.rounds {
        for (kind, figures) in kinds.iter().zip(&mut all) {
            measure(*kind, size, figures).with_context(|| format!("{kind:?}"))?;
        }
    }
    for (name, figures) in ["the veth pair itself", "holdfast", "wireguard-go"].iter().zip(&all) {
        section.push(Row::new(name).got(&format!(
            "TCP {:.2} Gbit/s, {:.0} retransmits; 4 streams {:.2}; UDP of 1300 bytes {:.2} received of 1.5 \
             ({:.0} % lost); ping {:.2} ms; {:.1} MiB at most",
            median(&figures.tcp),
            median(&figures.retransmits),
            median(&figures.tcp4),
            median(&figures.udp),
            median(&figures.lost),
            median(&figures.ping),
            figures.memory / 1024.0
        )));
    }
    let [_, ours, go] = &all;
    let ratio = |what: &str, ours: &[f64], go: &[f64]| {
        let ratio = median(ours) / median(go);
        Row::new(what).wanted("≥ 3").got(&format!("{ratio:.1}")).ok(ratio >= 3.0)
    };
    section.push(ratio("TCP, to wireguard-go", &ours.tcp, &go.tcp));
    section.push(ratio("4 streams, to wireguard-go", &ours.tcp4, &go.tcp4));
    let udp = median(&ours.udp) / median(&go.udp);
    section.push(Row::new("UDP, to wireguard-go").got(&format!("{udp:.1}")));
    Ok(())
}

fn measure(kind: Kind, size: Size, figures: &mut Figures) -> Result<()> {
    let (a, b) = (Host::new()?, Host::new()?);
    Host::wire(&a, &b)?;
    let mut ends = Vec::new();
    let to = if kind == Kind::Bare { "192.0.2.2" } else { "10.44.0.2" };
    if kind != Kind::Bare {
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        for (host, number) in [(&a, 1_usize), (&b, 2)] {
            ends.push(end(kind, host, number)?);
            let other = 3 - number;
            let peers = peer(keys[other - 1].public(), &format!("192.0.2.{other}"), other, 51820);
            configure(host, "wg0", &keys[number - 1], 51820, &peers)?;
        }
    }
    // The handshake is not measured.
    a.must(&format!("ping -c 2 -i 0.2 -W 5 {to}"), "")?;
    let ping = a.must(&format!("ping -c 100 -i 0.01 -q {to}"), "")?;
    figures.ping.push(ping_average(&ping).with_context(|| format!("ping says {ping}"))?);
    let seconds = size.seconds;
    let tcp = iperf(&a, &b, to, &format!("-t {seconds}"))?;
    figures.tcp.push(rate(&tcp, "sum_received")?);
    figures.retransmits.push(tcp["end"]["sum_sent"]["retransmits"].as_f64().unwrap_or(0.0));
    figures.tcp4.push(rate(&iperf(&a, &b, to, &format!("-t {seconds} -P 4"))?, "sum_received")?);
    let udp = iperf(&a, &b, to, &format!("-t {seconds} -u -b 1500M -l 1300"))?;
    let lost = udp["end"]["sum"]["lost_percent"]
        .as_f64()
        .with_context(|| format!("iperf3 counts no loss: {udp}"))?;
    figures.udp.push(rate(&udp, "sum")? * (100.0 - lost) / 100.0);
    figures.lost.push(lost);
    for end in &ends {
        figures.memory = figures.memory.max(highest_rss_kib(end.id())?);
    }
    Ok(())
}

/// A tunnel's end, as wg0 with 10.44.0.N, without peers.
fn end(kind: Kind, host: &Host, number: usize) -> Result<Program> {
    if kind == Kind::Ours {
        return devices(host, number, 1);
    }
    let end = host.start(&["env", "LOG_LEVEL=silent", "wireguard-go", "-f", "wg0"])?;
    let begin = Instant::now();
    while host.must("wg show wg0", "").is_err() {
        ensure!(begin.elapsed() < Duration::from_secs(10), "wireguard-go does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    host.must(&format!("ip addr add 10.44.0.{number}/24 dev wg0"), "")?;
    host.must("ip link set wg0 mtu 1420 up", "")?;
    Ok(end)
}

fn devices(host: &Host, first: usize, count: u8) -> Result<Program> {
    let words = [first.to_string(), count.to_string()];
    let mut devices = ourselves(host, &["devices", &words[0], &words[1]])?;
    ensure!(devices.line()? == "ready", "a device does not start");
    Ok(devices)
}

fn ourselves(host: &Host, words: &[&str]) -> Result<Program> {
    let program = std::env::current_exe()?;
    let program = program.to_str().context("a path that is no text")?;
    host.start(&[&[program, "wireguard-inside", "--"], words].concat())
}

fn peer(key: PublicKey, host: &str, number: usize, port: usize) -> String {
    format!(
        "[Peer]\nPublicKey = {key}\nAllowedIPs = 10.44.0.{number}/32\nEndpoint = {host}:{port}\n"
    )
}

fn configure(host: &Host, name: &str, key: &PrivateKey, port: usize, peers: &str) -> Result<()> {
    let private = key.expose_base64();
    let text = format!("[Interface]\nPrivateKey = {private}\nListenPort = {port}\n{peers}");
    host.must(&format!("wg setconf {name} /dev/stdin"), &text).map(drop)
}

fn iperf(a: &Host, b: &Host, to: &str, options: &str) -> Result<Value> {
    let server = b.start(&["iperf3", "-s", "-1"])?;
    let begin = Instant::now();
    loop {
        // It reports what is wrong and ends with 0 or 1, as it likes.
        let text = a.must(&format!("iperf3 -J -c {to} {options}"), "").unwrap_or_default();
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        if !report["end"].is_null() && report["error"].is_null() {
            drop(server);
            return Ok(report);
        }
        // It may not listen yet.
        ensure!(begin.elapsed() < Duration::from_secs(5), "iperf3: {}", report["error"]);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rate(report: &Value, sum: &str) -> Result<f64> {
    let bits = report["end"][sum]["bits_per_second"].as_f64();
    Ok(bits.context("iperf3 reports no rate")? / 1e9)
}

/// From the line `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn ping_average(text: &str) -> Option<f64> {
    let (_, numbers) = text.split_once("mdev = ")?;
    numbers.split('/').nth(1)?.parse().ok()
}

fn highest_rss_kib(id: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.context("no VmHWM")
}

/// One device with many peers: what that costs one stream, and as many streams as there are peers.
fn many(section: &mut Section, size: Size) -> Result<()> {
    let count = i16::from(size.peers);
    // Peers, and streams; a negative number of streams goes to the first peer.
    let cases = [(1, -1), (size.peers, -1), (1, -count), (size.peers, count)];
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..size.rounds {
        for ((peers, streams), rates) in cases.iter().zip(&mut rates) {
            rates.push(carry(*peers, *streams, size.seconds)?);
        }
    }
    let [alone, among, together, each] = rates.map(|rates| median(&rates));
    let peers = size.peers;
    for (what, rate) in [
        ("one stream, one peer".to_owned(), alone),
        (format!("one stream, {peers} peers with sessions"), among),
        (format!("{peers} streams to one peer"), together),
        (format!("{peers} streams, one to each of {peers} peers"), each),
    ] {
        section.push(Row::new(&what).got(&format!("{rate:.2} Gbit/s")));
    }
    let lost = |what: &str, before: f64, after: f64| {
        let lost = (1.0 - after / before) * 100.0;
        Row::new(what).wanted("≤ 10 %").got(&format!("{lost:.1} %")).ok(lost <= 10.0)
    };
    section.push(lost(&format!("lost by {peers} peers, one stream"), alone, among));
    section.push(lost(&format!("lost by {peers} peers, {peers} streams"), together, each));
    Ok(())
}

/// Gbit/s from one device to so many, once all of them have sessions.
fn carry(peers: u8, streams: i16, seconds: u64) -> Result<f64> {
    let (a, b) = (Host::new()?, Host::new()?);
    Host::wire(&a, &b)?;
    let _hub = devices(&a, 200, 1)?;
    let _spokes = devices(&b, 1, peers)?;
    let own = PrivateKey::generate();
    let mut all = String::new();
    for number in 1..=usize::from(peers) {
        let key = PrivateKey::generate();
        // None that the kernel chooses for another device.
        let port = 20_000 + number;
        all += &peer(key.public(), "192.0.2.2", number, port);
        let hub = peer(own.public(), "192.0.2.1", 200, 51820);
        configure(&b, &format!("wg{}", number - 1), &key, port, &hub)?;
    }
    configure(&a, "wg0", &own, 51820, &all)?;
    if peers > 1 {
        // What answers goes by the device that is asked, whose address it has.
        for number in 1..=usize::from(peers) {
            let device = number - 1;
            b.must(
                &format!("ip route add 10.44.0.200/32 dev wg{device} table {}", 1000 + number),
                "",
            )?;
            b.must(&format!("ip rule add from 10.44.0.{number} table {}", 1000 + number), "")?;
        }
    }
    for number in 1..=usize::from(peers) {
        a.must(&format!("ping -c 1 -W 5 10.44.0.{number}"), "")?;
    }
    let mut sink = ourselves(&b, &["sink", "1", "1"])?;
    ensure!(sink.line()? == "ready", "the sink does not start");
    let mut source = ourselves(&a, &["source", "1", &streams.to_string()])?;
    ensure!(source.line()? == "ready", "the streams do not begin");
    std::thread::sleep(Duration::from_millis(700));
    let (before, begin) = (sink.ask()?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (after, took) = (sink.ask()?, begin.elapsed());
    Ok((after - before) * 8.0 / took.as_secs_f64() / 1e9)
}
