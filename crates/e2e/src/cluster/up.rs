//! Brings a cluster up: units, network, keys, components, each when what it needs is ready.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::future::{try_join, try_join_all};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::api::Client;
use super::config::Config;
use super::down::{clear, end};
use super::layout::{CONTROL, Layout, node, tail};
use super::state::{self, Process, State};
use super::unit::{Component, Control, Keeper};
use super::{Options, cgroups, network, status};
use crate::image::{self, Known};
use crate::{go, packages};

/// Brings up the cluster that `options` describe in `layout`'s directory, unless it is there already.
/// Returns whether it had to be brought up.
///
/// # Errors
/// Which component failed, with the end of its log. Nothing is left then but the logs.
pub async fn up(layout: &Layout, options: &Options) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a cluster takes namespaces, mounts and cgroups: run this as root");
    }
    let version = go::version(&options.kubernetes)?;
    let _lock = state::lock(layout)?;
    if let Some(state) = State::read(layout)
        && state.up
        && (&state.kubernetes, state.nodes, &state.kubelet)
            == (&version, options.nodes, &options.kubelet)
        && status::problems(layout, &state).await.is_empty()
    {
        return Ok(false);
    }
    // Another one, or the rest of one.
    clear(layout)?;
    cgroups::sweep()?;
    let parts = Parts::make(options)?;
    let bench = Bench::new(layout);
    let (nodes, kubelet) = (options.nodes, options.kubelet.clone());
    let mut state = State {
        up: false,
        kubernetes: version,
        nodes,
        kubelet,
        block: None,
        units: BTreeMap::new(),
    };
    let keepers = match bench.bring_up(options, &parts, &mut state).await {
        Ok(keepers) => keepers,
        Err(why) => {
            // The keepers are let go of, so that the units are ending; the logs stay.
            return match end(layout) {
                Ok(()) => Err(why),
                Err(e) => Err(why.context(format!("{e:#}"))),
            };
        }
    };
    // From here on the units stay when they are let go of, or when this process is killed.
    state.up = true;
    state.write(layout)?;
    drop(keepers);
    Ok(true)
}

/// What is built or installed rather than made for one cluster.
struct Parts {
    program: PathBuf,
    kube: PathBuf,
    coredns: PathBuf,
    images: Vec<PathBuf>,
}

impl Parts {
    fn make(options: &Options) -> Result<Self> {
        packages::ensure(packages::NODE)?;
        let images = [Known::Pause, Known::Busybox].map(|known| {
            let path = image::dir().join(format!("{}.tar", known.name()));
            known.image()?.write(&path)?;
            Ok(path)
        });
        let images = images.into_iter().collect::<Result<_>>()?;
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        Ok(Self {
            program,
            kube: go::kubernetes(&options.kubernetes)?,
            coredns: go::coredns()?,
            images,
        })
    }
}

/// A cluster that is coming up.
struct Bench<'a> {
    layout: &'a Layout,
    end: Instant,
    /// Components that ended although they should not.
    failures: mpsc::UnboundedSender<(String, String, String)>,
    failed: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, String, String)>>,
}

impl<'a> Bench<'a> {
    fn new(layout: &'a Layout) -> Self {
        let (failures, failed) = mpsc::unbounded_channel();
        let failed = tokio::sync::Mutex::new(failed);
        Self { layout, end: Instant::now() + PATIENCE, failures, failed }
    }

    async fn bring_up(
        &self,
        options: &Options,
        parts: &Parts,
        state: &mut State,
    ) -> Result<Vec<Keeper>> {
        let layout = self.layout;
        let units: Vec<String> =
            std::iter::once(CONTROL.to_owned()).chain((1..=options.nodes).map(node)).collect();
        let mut keepers = Vec::new();
        for unit in &units {
            let keeper = Keeper::start(&parts.program, layout, unit)?;
            state.units.insert(unit.clone(), Process::of(keeper.init)?);
            state.write(layout)?;
            keepers.push(keeper);
        }
        let controls: Vec<Control> = units.iter().map(|u| Control::of(&layout.unit(u))).collect();
        let block = network::claim(layout, &controls[0], keepers[0].init).await?;
        state.block = Some(block);
        state.write(layout)?;
        let nodes: Vec<(Control, i32)> = controls[1..]
            .iter()
            .cloned()
            .zip(keepers[1..].iter().map(|keeper| keeper.init))
            .collect();
        network::join(block, (&controls[0], keepers[0].init), &nodes).await?;
        let config = Config {
            layout,
            block,
            nodes: options.nodes,
            kube: &parts.kube,
            coredns: &parts.coredns,
            kubelet: &options.kubelet,
        };
        config.write_pki()?;
        let client = Client::from_kubeconfig(&layout.kubeconfig())?;
        self.components(&config, &client, &parts.images).await?;
        Ok(keepers)
    }

    async fn components(
        &self,
        config: &Config<'_>,
        client: &Client,
        images: &[PathBuf],
    ) -> Result<()> {
        let containerds = try_join_all((1..=config.nodes).map(|number| async move {
            self.start_and_wait(&node(number), config.containerd(number)?).await?;
            self.load(number, images).await
        }));
        let server = async {
            self.start_and_wait(CONTROL, config.etcd()).await?;
            self.start_and_wait(CONTROL, config.apiserver()).await?;
            // It has said that it serves; whether it is ready has no event.
            let ready = self.poll("the API server's /readyz", || async {
                client.ready().await.map_err(Into::into)
            });
            self.unless_failed("the API server", ready).await?;
            self.start(CONTROL, config.controller_manager()).await?;
            self.start(CONTROL, config.scheduler()).await?;
            self.start(CONTROL, config.coredns()?).await?;
            for object in config.dns() {
                client.apply(&object).await?;
            }
            anyhow::Ok(())
        };
        try_join(containerds, server).await?;
        for number in 1..=config.nodes {
            self.start(&node(number), config.kubelet(number)?).await?;
            self.start(&node(number), config.proxy(number)?).await?;
        }
        let nodes = try_join_all((1..=config.nodes).map(|number| async move {
            self.node_ready(client, number).await?;
            let proxy = (config.block.node(number), 10256);
            self.answers("kube-proxy", proxy, "/healthz").await
        }));
        // Without it no pod is let in.
        let account =
            self.seen(client, "/api/v1/namespaces/default/serviceaccounts/default", |_| true);
        let names = self.answers("CoreDNS", (config.block.control(), 8181), "/ready");
        try_join(try_join(nodes, account), names).await?;
        Ok(())
    }

    async fn node_ready(&self, client: &Client, number: usize) -> Result<()> {
        let path = format!("/api/v1/nodes/{}", node(number));
        self.seen(client, &path, is_ready).await
    }

    /// Waits until an object is as it should be.
    async fn seen(
        &self,
        client: &Client,
        path: &str,
        right: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let wait =
            client.wait(path, PATIENCE, |object| object.filter(|object| right(object)).map(|_| ()));
        self.unless_failed(path, async { wait.await.map_err(Into::into) }).await
    }

    /// Waits until a health address answers with success.
    async fn answers(
        &self,
        what: &str,
        address: (std::net::Ipv4Addr, u16),
        path: &str,
    ) -> Result<()> {
        let poll = self.poll(what, || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let line = answer.lines().next().unwrap_or_default();
            if line.contains(" 200 ") { Ok(()) } else { Err(anyhow!("{line}")) }
        });
        self.unless_failed(what, poll).await
    }

    /// Asks until the answer is yes: for what sends no events.
    async fn poll<F>(&self, what: &str, ask: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        loop {
            let Err(no) = ask().await else { return Ok(()) };
            if Instant::now() > self.end {
                return Err(no.context(format!("{what} is not ready")));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn load(&self, number: usize, images: &[PathBuf]) -> Result<()> {
        for image in images {
            super::load_into(self.layout, number, image)
                .await
                .with_context(|| format!("{} into {}", image.display(), node(number)))?;
        }
        Ok(())
    }

    async fn start_and_wait(&self, unit: &str, component: Component) -> Result<()> {
        let name = component.name.clone();
        self.start(unit, component).await?;
        let control = Control::of(&self.layout.unit(unit));
        let ready = async {
            // If it has ended instead, it is among the failures.
            while !control.ready(&name).await?.ready {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        self.unless_failed(&format!("{name} of {unit}"), ready).await
    }

    async fn start(&self, unit: &str, component: Component) -> Result<()> {
        let name = component.name.clone();
        let control = Control::of(&self.layout.unit(unit));
        control.start(component).await.with_context(|| format!("{name} of {unit}"))?;
        let (failures, unit) = (self.failures.clone(), unit.to_owned());
        tokio::spawn(async move {
            let how = match control.ended(&name).await {
                Ok(standing) => standing.ended.unwrap_or_default(),
                Err(e) => format!("{e:#}"),
            };
            // Nobody listens any more when the cluster is up.
            let _ = failures.send((unit, name, how));
        });
        Ok(())
    }

    /// Waits for something, but not when a component has ended, and not for ever.
    async fn unless_failed<T>(
        &self,
        what: &str,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let failure = async { self.failed.lock().await.recv().await };
        let left = self.end.saturating_duration_since(Instant::now());
        tokio::select! {
            result = wait => result.with_context(|| self.logs()),
            Some((unit, name, how)) = failure => {
                let log = self.layout.log(&unit, &name);
                bail!("{name} of {unit} ended: {how}; its log ({}) ends:\n{}", log.display(), tail(&log))
            }
            () = tokio::time::sleep(left) => {
                bail!("{what} is not ready after {} s; {}", PATIENCE.as_secs(), self.logs())
            }
        }
    }

    fn logs(&self) -> String {
        format!("logs are in {}", self.layout.dir().join("log").display())
    }
}

/// Whether a node's condition Ready is true.
pub(super) fn is_ready(node: &Value) -> bool {
    node.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|conditions| {
        conditions.iter().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some("Ready")
                && condition.get("status").and_then(Value::as_str) == Some("True")
        })
    })
}

/// How long all of it may take. On two cores under load a minute is not rare.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two questions to something that has no events.
const AGAIN: Duration = Duration::from_millis(25);
