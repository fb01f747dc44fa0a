//! The API proxy beside `kubectl proxy` and nginx: before an API server that is faster than all of them, and before
//! a real one.

mod inside;
mod paced;
mod processes;
mod sessions;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::report::{Row, Section};
use paced::{Direct, Paced, paced};
use processes::{Load, Peer, Running, Setup};
use sessions::Sessions;

pub use inside::{Role, run};

/// How large the measurement is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How often each is measured, in turns.
    pub rounds: usize,
    /// For how many seconds at a time.
    pub seconds: u64,
    /// How many watches are held open.
    pub watches: usize,
    /// How many exec sessions besides.
    pub execs: usize,
}

impl Size {
    /// About two minutes for each API server.
    pub const FULL: Self = Self { rounds: 5, seconds: 3, watches: 1000, execs: 200 };
}

/// Requests a second, latency and memory of all that are on this machine, before a fast API server; with a
/// `kubeconfig` before that of its cluster, too.
///
/// # Errors
/// If holdfast's proxy, wrk or the API server do not run; peers that are not there are said to be missing.
pub fn report(size: Size, kubeconfig: Option<&Path>) -> Result<Vec<Section>> {
    let mut sections = vec![before_fast(size)?];
    if let Some(kubeconfig) = kubeconfig {
        sections.push(before_real(size, kubeconfig)?);
    }
    Ok(sections)
}

fn before_fast(size: Size) -> Result<Section> {
    let mut section = Section::new(
        "API proxy, before a fast API server",
        "`wrk -t2 -c32` in turns; behind each proxy the same API server: TLS, a fixed answer of 260 bytes, on the \
         same machine. The proxies listen without TLS, verify the API server, and set the proxy's token; \
         holdfast's and nginx' also set a user and a group. Median of the rounds, memory at its highest.",
    );
    let setup = Setup::new()?;
    let upstream = setup.start(Role::Upstream, None)?;
    let url = format!("https://{}", upstream.address);
    let contest = Contest::new(&setup, &url, upstream.address, &mut section)?;
    contest.compare(size, Some(&upstream), &mut section)?;
    let sessions = Sessions {
        watches: size.watches,
        watch: ("/api/v1/pods?watch=1", "{\"a\": 1}", "{\"a\": 1}"),
        execs: size.execs,
        exec: "/exec",
    };
    // Its watches have an event each second anyway.
    contest.hold(&sessions, || Ok(()), &mut section)?;
    Ok(section)
}

fn before_real(size: Size, kubeconfig: &Path) -> Result<Section> {
    let mut section = Section::new(
        "API proxy, before a real API server",
        "The same before the API server of a cluster, all of it on the same machine. Who asks is the cluster's \
         administrator by a client certificate, and asks as somebody of the group system:masters.",
    );
    let (setup, url) = Setup::of_cluster(kubeconfig)?;
    let address = url.trim_start_matches("https://").parse();
    let address = address.with_context(|| format!("{url} has no address"))?;
    let contest = Contest::new(&setup, &url, address, &mut section)?;
    contest.compare(Size { rounds: 3, seconds: 2, ..size }, None, &mut section)?;
    let pod = Pod::start(&setup)?;
    let sessions = Sessions {
        watches: size.watches,
        watch: ("/api/v1/namespaces?watch=1", "\"ADDED\"", "\"MODIFIED\""),
        execs: size.execs,
        exec: "/api/v1/namespaces/default/pods/holdfast-bench/exec?command=cat&stdin=true&stdout=true",
    };
    let cause = || {
        let label = format!("holdfast-bench=at-{:?}", std::time::UNIX_EPOCH.elapsed()?.as_nanos());
        setup.kubectl(&["label", "--overwrite", "namespace", "default", &label]).map(drop)
    };
    contest.hold(&sessions, cause, &mut section)?;
    drop(pod);
    Ok(section)
}

/// Those that are compared, before one API server.
struct Contest<'a> {
    setup: &'a Setup,
    url: &'a str,
    upstream: SocketAddr,
    ours: Running,
    audited: Running,
    kubectl: Option<Running>,
    nginx: Option<Running>,
}

impl<'a> Contest<'a> {
    fn new(
        setup: &'a Setup,
        url: &'a str,
        upstream: SocketAddr,
        section: &mut Section,
    ) -> Result<Self> {
        let mut there = |name: &str, running: Result<Running>| match running {
            Ok(running) => Some(running),
            Err(error) => {
                section.note(format!("No comparison with {name}: {error:#}."));
                None
            }
        };
        Ok(Self {
            kubectl: there("kubectl proxy", setup.kubectl_proxy(url)),
            nginx: there("nginx", setup.nginx(url)),
            ours: setup.start(Role::Proxy, Some(url))?,
            audited: setup.start(Role::Audited, Some(url))?,
            setup,
            url,
            upstream,
        })
    }

    /// All at their limit, then at half of ours.
    fn compare(&self, size: Size, upstream: Option<&Running>, section: &mut Section) -> Result<()> {
        let mut peers = vec![self.setup.direct(self.url, upstream)?];
        peers.push(self.setup.peer("holdfast", &self.ours));
        peers.push(self.setup.peer("holdfast, with audit lines", &self.audited));
        for (name, running) in [("kubectl proxy", &self.kubectl), ("nginx", &self.nginx)] {
            peers.extend(running.iter().map(|running| self.setup.peer(name, running)));
        }
        let mut loads: Vec<Vec<Load>> = vec![Vec::new(); peers.len()];
        for _ in 0..size.rounds {
            for (peer, loads) in peers.iter().zip(&mut loads) {
                loads.push(peer.load(size.seconds)?);
            }
        }
        let medians: Option<Vec<Load>> =
            loads.iter_mut().map(|loads| Load::median(loads)).collect();
        let medians = medians.context("nothing was measured")?;
        for (peer, load) in peers.iter().zip(&medians) {
            let rss = peer.highest_rss_kib().map_or(String::new(), |rss| format!(", {}", mib(rss)));
            section.push(Row::new(peer.name).got(&format!(
                "{:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms{rss}",
                load.rate, load.p50, load.p99
            )));
        }
        let of = |name: &str| -> Option<(&Peer<'_>, Load)> {
            let at = peers.iter().position(|peer| peer.name == name)?;
            Some((&peers[at], medians[at]))
        };
        let (own, load) = of("holdfast").context("holdfast was not measured")?;
        if let Some((kubectl, other)) = of("kubectl proxy") {
            section.push(at_least("requests/s, to kubectl proxy", load.rate / other.rate, 2.0));
            let rss = own.highest_rss_kib().zip(kubectl.highest_rss_kib());
            section
                .push(third("memory under that load, to kubectl proxy", rss.context("no memory")?));
        }
        if let Some((_, other)) = of("nginx") {
            section.push(at_least("requests/s, to nginx", load.rate / other.rate, 0.9));
            section.push(Row::new("p99, to nginx").got(&format!("{:.2}", load.p99 / other.p99)));
        }
        self.at_half(load.rate / 2.0, section)
    }

    /// What the proxies add to an answer, when there is half as much to do as ours could.
    fn at_half(&self, rate: f64, section: &mut Section) -> Result<()> {
        let direct = Direct::new(self.setup.directory())?;
        let mut targets = vec![
            ("the API server itself", self.upstream, Some(&direct)),
            ("holdfast", self.ours.address, None),
        ];
        targets.extend(self.nginx.iter().map(|nginx| ("nginx", nginx.address, None)));
        let mut all: Vec<Vec<Paced>> = vec![Vec::new(); targets.len()];
        for _ in 0..5 {
            for ((_, address, direct), all) in targets.iter().zip(&mut all) {
                all.push(paced(*address, *direct, rate, Duration::from_secs(2))?);
            }
        }
        let (mut medians, mut quietest) = (Vec::new(), Vec::new());
        for ((name, ..), all) in targets.iter().zip(&mut all) {
            all.sort_by(|one, two| one.p99.total_cmp(&two.p99));
            let (least, median) = (all[0], all[all.len() / 2]);
            section.push(Row::new(&format!("{name}, at half of holdfast's limit")).got(&format!(
                "{:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms; in the quietest of 5 rounds {:.2} and {:.2} ms",
                median.rate, median.p50, median.p99, least.p50, least.p99
            )));
            medians.push(median.p99);
            quietest.push(least.p99);
        }
        let added = |of: &[f64], which: usize| of.get(which).map(|p99| p99 - of[0]);
        for (name, which) in [("nginx", 2), ("holdfast", 1)] {
            let Some((median, least)) = added(&medians, which).zip(added(&quietest, which)) else {
                continue;
            };
            let row = Row::new(&format!("p99 that {name} adds at half load"))
                .got(&format!("{median:.2} ms, in the quietest rounds {least:.2} ms"));
            section.push(match which {
                1 => row.wanted("≤ 1 ms").ok(median <= 1.0),
                _ => row,
            });
        }
        Ok(())
    }

    /// Memory of ours and of kubectl proxy while they carry these sessions, and without any.
    fn hold(
        &self,
        sessions: &Sessions,
        cause: impl Fn() -> Result<()>,
        section: &mut Section,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let what = format!("{} watches and {} exec sessions", sessions.watches, sessions.execs);
        let measure = |running: &Running| -> Result<(u64, Duration)> {
            runtime.block_on(async {
                let mut held = sessions.open(running.address).await?;
                let event = held.all_work(&cause).await?;
                Ok((running.highest_rss_kib()?, event))
            })
        };
        let ours = self.setup.start(Role::Proxy, Some(self.url))?;
        let idle = ours.rss_kib()?;
        section.push(
            Row::new("memory while idle").wanted("≤ 15 MiB").got(&mib(idle)).ok(idle <= 15 << 10),
        );
        let (rss, event) = measure(&ours)?;
        let later = format!("all work; {}, an event at the last watch after {event:.1?}", mib(rss));
        section.push(Row::new(&format!("{what} held")).wanted("held").got(&later).ok(true));
        if self.kubectl.is_none() {
            return Ok(());
        }
        let kubectl = self.setup.kubectl_proxy(self.url)?;
        match measure(&kubectl) {
            Ok((other, event)) => {
                let got = format!("{}, an event at the last watch after {event:.1?}", mib(other));
                section.push(Row::new("… by kubectl proxy").got(&got));
                section.push(third("memory with them, to kubectl proxy", (rss, other)));
            }
            Err(error) => section.note(format!("kubectl proxy did not hold {what}: {error:#}.")),
        }
        Ok(())
    }
}

/// A pod for exec sessions; gone with this value.
struct Pod<'a>(&'a Setup);

impl<'a> Pod<'a> {
    fn start(setup: &'a Setup) -> Result<Self> {
        let this = Self(setup);
        setup.kubectl(&[
            "run",
            "holdfast-bench",
            "--image=busybox",
            "--image-pull-policy=IfNotPresent",
            "--restart=Never",
            "--command",
            "--",
            "sleep",
            "3600",
        ])?;
        setup.kubectl(&["wait", "--for=condition=Ready", "pod/holdfast-bench", "--timeout=60s"])?;
        Ok(this)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(&["delete", "pod", "holdfast-bench", "--now"]) {
            eprintln!("the pod holdfast-bench stays: {error:#}");
        }
    }
}

fn at_least(what: &str, is: f64, wanted: f64) -> Row {
    Row::new(what).wanted(&format!("≥ {wanted}")).got(&format!("{is:.2}")).ok(is >= wanted)
}

/// At most a third of the other's.
fn third(what: &str, (own, other): (u64, u64)) -> Row {
    let part = own as f64 / other as f64;
    Row::new(what).wanted("≤ 0.33").got(&format!("{part:.2}")).ok(3 * own <= other)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
