//! Everything that can be seen of a cluster's pods from outside, as one list in the order of arrival:
//! what the API server publishes, the rows that `kubectl` prints, what containerd does, and what the
//! kubelet writes down.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::bench::{Bench, HOLDFASTS, KUBELETS};
use super::klog::Klog;
use super::pod::{Container, Kind, Pod, Policy};
use crate::cluster::api::{ApiError, Client, Event, EventKind};

/// The namespace of the pods of `holdfast run --runtime cri`: they are told from the kubelet's by it.
pub(super) const CRI_NAMESPACE: &str = "judge-cri";

/// Nanoseconds since the Unix epoch.
pub(super) type Nanos = i128;

/// Something that was seen, of one pod.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) at: Nanos,
    pub(super) pod: String,
    pub(super) what: Seen,
}

#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// A watch event.
    Object { deleted: bool, object: Arc<Value> },
    /// A row of `kubectl get pods -w`: READY, STATUS, RESTARTS.
    Row([String; 3]),
    /// A process of the runtime started. No container: the sandbox.
    Started { container: Option<String>, id: String },
    /// It ended.
    Exited { id: String, code: i32 },
    /// A line of the kubelet's log.
    Log(Klog),
}

/// Watches until it is dropped.
pub(super) struct Watch {
    children: Vec<Child>,
    seen: Arc<Seen_>,
}

#[derive(Default)]
struct Seen_ {
    list: Mutex<Vec<Sight>>,
    more: Condvar,
}

impl Watch {
    /// Begins to watch the pods of the namespace.
    pub(super) fn start(bench: &Bench) -> Result<Self> {
        let mut watch = Self { children: Vec::new(), seen: Arc::default() };
        let client = bench.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        watch.reader(move |seen| {
            if let Err(e) = runtime.block_on(objects(&client, &seen, ready)) {
                eprintln!("watching pods: {e}");
            }
        });
        is_ready.recv().context("pods cannot be watched")?;
        let out =
            watch.child(&mut bench.kubectl(&["get", "pods", "--watch", "--no-headers"])?)?;
        watch.reader(move |seen| rows(out, &seen));
        for node in [KUBELETS, HOLDFASTS] {
            let out = watch.child(&mut bench.ctr(node, &["events"])?)?;
            watch.reader(move |seen| tasks(out, &seen));
        }
        let out = watch.child(Command::new("tail").args(["-n0", "-F"]).arg(bench.kubelet_log()))?;
        watch.reader(move |seen| log_lines(out, &seen));
        watch.settle(bench)?;
        Ok(watch)
    }

    /// Waits until all that watch do see something: a pod that comes and goes.
    fn settle(&self, bench: &Bench) -> Result<()> {
        let name = "watched";
        let pod = Pod {
            name: name.to_owned(),
            policy: Policy::Never,
            grace: Some(1),
            deadline: None,
            containers: vec![Container::new(Kind::App, "app", "")],
            acts: Vec::new(),
        };
        let dir = bench.shared(name)?;
        bench.delete(name, Some(1))?;
        for _ in 0..10 {
            bench.create(&pod.manifest(&dir, super::pod::SLOTS - 1))?;
            let all = self.wait(name, Duration::from_secs(10), |sights| {
                let has = |f: fn(&Seen) -> bool| sights.iter().any(|s| f(&s.what));
                let all = has(|s| matches!(s, Seen::Object { .. }))
                    && has(|s| matches!(s, Seen::Row(_)))
                    && has(|s| matches!(s, Seen::Started { container: Some(_), .. }))
                    && has(|s| matches!(s, Seen::Log(_)));
                all.then_some(())
            });
            bench.delete(name, Some(1))?;
            let gone = |s: &&Sight| matches!(s.what, Seen::Object { deleted: true, .. });
            self.wait(name, Duration::from_secs(30), |s| {
                s.iter().copied().any(|s| gone(&s)).then_some(())
            });
            self.forget(name);
            if all.is_some() {
                return Ok(());
            }
        }
        anyhow::bail!(
            "a pod ran, and not all of API server, kubectl, containerd and kubelet told of it"
        )
    }

    /// What was seen of a pod so far.
    pub(super) fn of(&self, pod: &str) -> Vec<Sight> {
        lock(&self.seen.list).iter().filter(|s| s.pod == pod).cloned().collect()
    }

    /// Waits until `find` finds something in what was seen of the pod; `None` when the time is over.
    pub(super) fn wait<T>(
        &self,
        pod: &str,
        time: Duration,
        find: impl Fn(&[&Sight]) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + time;
        let mut list = lock(&self.seen.list);
        loop {
            let mine: Vec<&Sight> = list.iter().filter(|s| s.pod == pod).collect();
            if let Some(found) = find(&mine) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            list =
                self.seen.more.wait_timeout(list, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets what was seen of a pod.
    pub(super) fn forget(&self, pod: &str) {
        lock(&self.seen.list).retain(|s| s.pod != pod);
    }

    fn child(&mut self, command: &mut Command) -> Result<ChildStdout> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let out = child.stdout.take().context("a child without its stdout")?;
        self.children.push(child);
        Ok(out)
    }

    fn reader(&self, read: impl FnOnce(Arc<Seen_>) + Send + 'static) {
        let seen = Arc::clone(&self.seen);
        thread::spawn(move || read(seen));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Seen_ {
    fn push(&self, at: Nanos, pod: &str, what: Seen) {
        lock(&self.list).push(Sight { at, pod: pod.to_owned(), what });
        self.more.notify_all();
    }
}

/// Now, by the clock that everything here is dated with.
pub(super) fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as Nanos
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn objects(client: &Client, seen: &Seen_, ready: Sender<()>) -> Result<(), ApiError> {
    let list = client.get(&Bench::pods()).await?;
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let mut last = version(&list).unwrap_or_default();
    let mut ready = Some(ready);
    loop {
        let mut watch = client.watch(&Bench::pods(), &last).await?;
        if let Some(ready) = ready.take() {
            // Nobody waits any more only if this program ends.
            let _ = ready.send(());
        }
        // The server ends a watch now and then.
        while let Some(Event { kind, object }) = watch.next().await? {
            last = version(&object).unwrap_or(last);
            let deleted = kind == EventKind::Deleted;
            let Some(pod) = object["metadata"]["name"].as_str().map(str::to_owned) else {
                continue;
            };
            seen.push(now(), &pod, Seen::Object { deleted, object: Arc::new(object) });
        }
    }
}

fn rows(out: ChildStdout, seen: &Seen_) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        let mut next = || words.next().map(str::to_owned);
        if let (Some(pod), Some(ready), Some(status), Some(restarts)) =
            (next(), next(), next(), next())
        {
            seen.push(now(), &pod, Seen::Row([ready, status, restarts]));
        }
    }
}

/// `ctr events`: `2026-11-21 16:17:33.444805718 +0000 UTC k8s.io /tasks/start {…}`.
fn tasks(out: ChildStdout, seen: &Seen_) {
    let mut pods: HashMap<String, (String, Option<String>)> = HashMap::new();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let mut parts = line.splitn(7, ' ');
        let (Some(date), Some(time), Some(topic), Some(json)) =
            (parts.next(), parts.next(), parts.nth(3), parts.next())
        else {
            continue;
        };
        if !topic.starts_with("/tasks/") {
            continue;
        }
        let Ok(event) = serde_json::from_str::<Value>(json) else { continue };
        let Some(id) = event["container_id"].as_str() else { continue };
        let at = utc(&format!("{date}T{time}Z")).unwrap_or_else(now);
        match topic {
            "/tasks/create" => {
                if let Some(owner) = owner(&event) {
                    pods.insert(id.to_owned(), owner);
                }
            }
            "/tasks/start" => {
                if let Some((pod, container)) = pods.get(id) {
                    let (container, id) = (container.clone(), id.to_owned());
                    seen.push(at, pod, Seen::Started { container, id });
                }
            }
            // Not that of a command in the container.
            "/tasks/exit" if event["id"] == id => {
                let at = event["exited_at"].as_str().and_then(utc).unwrap_or(at);
                let code = event["exit_status"].as_i64().unwrap_or(0) as i32;
                if let Some((pod, _)) = pods.get(id) {
                    seen.push(at, pod, Seen::Exited { id: id.to_owned(), code });
                }
            }
            _ => {}
        }
    }
}

/// How a pod of `holdfast run --runtime cri` is called here: the kubelet runs one of the same name.
pub(super) fn cri(pod: &str) -> String {
    format!("{pod}.cri")
}

/// Pod and container that a task is of, from the annotations that containerd gives it.
fn owner(event: &Value) -> Option<(String, Option<String>)> {
    let path = std::path::Path::new(event["bundle"].as_str()?).join("config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let annotation = |name: &str| {
        config["annotations"][format!("io.kubernetes.cri.{name}")].as_str().map(str::to_owned)
    };
    let container = annotation("container-name")
        .filter(|_| annotation("container-type").is_some_and(|kind| kind == "container"));
    let pod = annotation("sandbox-name")?;
    let is_cri = annotation("sandbox-namespace")? == CRI_NAMESPACE;
    Some((if is_cri { cri(&pod) } else { pod }, container))
}

fn log_lines(out: ChildStdout, seen: &Seen_) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        if let Some(log) = Klog::parse(&line, now())
            && let Some(pod) = log.pod()
        {
            seen.push(log.at, &pod, Seen::Log(log));
        }
    }
}

/// An RFC 3339 time.
fn utc(text: &str) -> Option<Nanos> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
}
